use std::f64::consts::{LN_2, LN_10};

/// `-ln` of the smallest tail probability that is told apart (`foreglow_core::P_FLOOR`).
const MOST: f64 = 690.775_527_898_213_7;

/// Upper tail probabilities of the three tracked quantiles.
const TAILS: [f64; 3] = [0.5, 0.1, 0.02];
/// Minus their logarithms.
const NEG_LN_TAILS: [f64; 3] = [LN_2, LN_10, 3.912_023_005_428_146];
/// The observations that the prior is worth.
const PRIOR: f64 = 40.0;
/// The tail forgets what lies further back than about so many observations.
const MEMORY: f64 = 4000.0;
/// An excess counts for no more than this many mean excesses, so that one wild value does not own the tail.
const LARGEST_EXCESS: f64 = 4.0;
/// The excesses that the prior is worth.
const PRIOR_EXCESSES: f64 = 10.0;
/// A value rarer than this (`-ln p`, one in a hundred) is learnt from with little weight: it is more likely what is looked
/// for than what is usual, and a second one like it should not pass for normal (SPOT learns nothing from alarms).
///
/// This, the weight and the patience below were chosen on surges, shifts, spikes, drops and ramps put into train rows of
/// four sets of server metrics, and on the labels of the train rows of two more; `detection.md` under `benches/results` says
/// what was seen on the way.
const RARE: f64 = 4.6;
/// Weight of a rare value.
const RARE_WEIGHT: f64 = 0.01;
/// So many rare values in a row (fewer where usual ones lie between count back) are the new normal: the map begins again
/// from them. A day of minutes, as the slow centres of detectors have: incidents of hours stay strange.
const ACCEPTED: f64 = 1440.0;
/// The map then learns from so many values whatever they are.
const BEGIN_AGAIN: f64 = 100.0;
/// How much longer steps of the scale are when learning warily.
const OVER: f64 = 2.0;
/// Scores closer than this are not told apart.
const FINEST: f64 = 0.01;
/// An online map from a raw score (>= 0, in units of about 1, larger is stranger) to `-ln p`, seven numbers of state.
///
/// Three quantiles follow by stochastic approximation (Robbins and Monro 1951, doi:10.1214/aoms/1177729586) with the gain
/// `1 / (n f(q))`; between them `-ln p` is linear in the score, past the 98 % quantile it follows a generalised Pareto
/// tail whose mean is the running one of the excesses (peaks over a threshold, as SPOT: Siffer et al. 2017,
/// doi:10.1145/3097983.3098144) and whose shape (>= 0: exponential or heavier) stays that of the beginning. At any instant
/// the map is continuous and strictly increasing. O(1).
///
/// What is rarer than one in a hundred is learnt from with a hundredth of the weight, and what that takes from the
/// expectation of each update under the map itself is given back: where nothing but the tail is rare the map is true, where
/// incidents lie among the values it knows less of them.
#[derive(Debug)]
pub struct RunningTail<'a>(&'a mut [f64]);

impl<'a> RunningTail<'a> {
    /// Numbers of state: observations, three quantiles, mean and shape of the excess, rare values in a row
    /// (below 0: values still to learn from whatever they are).
    pub const LEN: usize = 7;

    /// A view of its state.
    ///
    /// # Panics
    /// When `state` is shorter than [`RunningTail::LEN`].
    pub fn new(state: &'a mut [f64]) -> Self {
        Self(&mut state[..Self::LEN])
    }

    /// Writes the state before the first observation: the absolute value of a normal variable, with a heavier tail.
    pub fn reset_half_normal(state: &mut [f64]) {
        state[..Self::LEN].copy_from_slice(&[0.0, 0.674, 1.645, 2.326, 0.5, 1.0 / 7.0, 0.0]);
    }

    /// Writes the state before the first observation: exponential with mean 1, as `-ln p` is when p is uniform.
    pub fn reset_exponential(state: &mut [f64]) {
        state[..Self::LEN].copy_from_slice(&[0.0, NEG_LN_TAILS[0], NEG_LN_TAILS[1], NEG_LN_TAILS[2], 1.0, 0.0, 0.0]);
    }

    /// Writes the state before the first observation: the mean of three `-ln p` that are independent and true.
    pub fn reset_mean_of_three(state: &mut [f64]) {
        state[..Self::LEN].copy_from_slice(&[0.0, 0.891, 1.774, 2.506, 0.42, 0.02, 0.0]);
    }

    /// `-ln p` of a raw score; NaN for NaN.
    pub fn neg_ln_p(&self, raw: f64) -> f64 {
        if raw.is_nan() {
            return f64::NAN;
        }
        let s = &*self.0;
        let at = |i: usize| NEG_LN_TAILS[i];
        let line = |x0: f64, y0: f64, x1: f64, y1: f64| y0 + (y1 - y0) * ((raw - x0) / (x1 - x0)).clamp(0.0, 1.0);
        let y = if raw <= s[1] {
            line(0.0, 0.0, s[1], at(0))
        } else if raw <= s[2] {
            line(s[1], at(0), s[2], at(1))
        } else if raw <= s[3] {
            line(s[2], at(1), s[3], at(2))
        } else {
            let shape = s[5];
            let e = (raw - s[3]) / (s[4] * (1.0 - shape));
            at(2) + if shape > 1e-6 { libm::log1p(shape * e) / shape } else { e }
        };
        y.clamp(0.0, MOST)
    }

    /// The 98 % quantile.
    pub fn high(&self) -> f64 {
        self.0[3]
    }

    /// Keeps what it knows as a guess that new observations soon outweigh.
    pub fn doubt(&mut self) {
        self.0[0] = 0.0;
    }

    /// Learns from a raw score; NaN is passed over.
    pub fn learn(&mut self, raw: f64) {
        if raw.is_nan() {
            return;
        }
        let is_rare = self.neg_ln_p(raw) > RARE;
        let s = &mut *self.0;
        s[6] = if s[6] < 0.0 || is_rare { s[6] + 1.0 } else { (s[6] - 1.0).max(0.0) };
        if s[6] >= ACCEPTED {
            (s[0], s[6]) = (0.0, -BEGIN_AGAIN);
        }
        let weight = if is_rare && s[6] >= 0.0 { RARE_WEIGHT } else { 1.0 };
        s[0] = (s[0] + 1.0).min(MEMORY);
        let n = s[0] + PRIOR;
        // Slopes of -ln p right of each quantile give the density there: f = tail x slope.
        let slopes = [
            (NEG_LN_TAILS[1] - NEG_LN_TAILS[0]) / (s[2] - s[1]),
            (NEG_LN_TAILS[2] - NEG_LN_TAILS[1]) / (s[3] - s[2]),
            1.0 / s[4],
        ];
        if raw > s[3] {
            let e = (raw - s[3]).min(LARGEST_EXCESS * s[4]);
            // The mean sees only exceedances: one observation in fifty. Where what is past the rare one weighs nothing, it
            // moves only an eighth of the way that it is off by: longer steps make up for it.
            let gain = OVER * weight / (s[0] * TAILS[2] + PRIOR_EXCESSES);
            s[4] += gain.min(0.3) * (e / weighed_mean(s[5]) - s[4]);
        }
        for i in 0..3 {
            let up = if raw > s[i + 1] { weight * (1.0 - TAILS[i]) } else { 0.0 };
            let down = if raw > s[i + 1] { 0.0 } else { TAILS[i] - (1.0 - RARE_WEIGHT) * libm::exp(-RARE) };
            s[i + 1] += (up - down) / (n * TAILS[i] * slopes[i]);
        }
        // Strictly ascending, whatever the data; a hundredth of the unit is never unusual.
        s[1] = s[1].max(FINEST);
        s[2] = s[2].max(s[1] * 1.001);
        s[3] = s[3].max(s[2] * 1.001);
        s[4] = s[4].max(FINEST);
    }
}

/// The mean of an excess of mean 1 and this shape (generalised Pareto) when its part past the rare one is weighed.
fn weighed_mean(shape: f64) -> f64 {
    let log_share = RARE - NEG_LN_TAILS[2];
    let scale = 1.0 - shape;
    let rare = if shape > 1e-6 { scale * libm::expm1(shape * log_share) / shape } else { log_share };
    let share = libm::exp(-log_share);
    let first = share * (rare + (scale + shape * rare) / (1.0 - shape));
    (1.0 - (1.0 - RARE_WEIGHT) * first) / (1.0 - (1.0 - RARE_WEIGHT) * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    #[test]
    fn is_true_where_nothing_is_wrong() {
        let mut rng = Seed(5).rng();
        let mut s = [0.0; RunningTail::LEN];
        for normal in [false, true] {
            RunningTail::reset_exponential(&mut s);
            let mut t = RunningTail::new(&mut s);
            let mut hits = [0.0; 3];
            let n = 200_000;
            for i in 0..n + 5000 {
                let mut draw = || -libm::log(rng.r#gen::<f64>().max(1e-12));
                // A mean of four detectors' -ln p, or of one.
                let x = if normal { (0..4).map(|_| draw()).sum::<f64>() / 4.0 } else { draw() };
                let y = t.neg_ln_p(x);
                for (h, p) in hits.iter_mut().zip([0.1, 0.01, 0.001]) {
                    *h += f64::from(u8::from(i >= 5000 && y >= -f64::ln(p))) / (p * f64::from(n));
                }
                t.learn(x);
            }
            assert!(
                hits.iter().all(|h| (0.4..2.0).contains(h)),
                "share found over share promised at .1, .01, .001: {hits:?}"
            );
        }
    }

    #[test]
    fn learns_the_tail_of_what_it_sees() {
        let mut s = [0.0; RunningTail::LEN];
        for (heavy, low, high) in [(false, 0.0003, 0.003), (true, 0.0002, 0.004)] {
            RunningTail::reset_half_normal(&mut s);
            let mut t = RunningTail::new(&mut s);
            let mut rng = Seed(3).rng();
            let mut hits = 0;
            for i in 0..60_000 {
                let u: f64 = rng.r#gen::<f64>().max(1e-12);
                // Pareto with shape 1/3, or exponential of mean 7: far from the prior either way.
                let x = if heavy { 3.0 * (u.powf(-1.0 / 3.0) - 1.0) } else { -7.0 * u.ln() };
                if i >= 5000 && t.neg_ln_p(x) >= 1000f64.ln() {
                    hits += 1;
                }
                t.learn(x);
            }
            let rate = f64::from(hits) / 55_000.0;
            assert!((low..high).contains(&rate), "one in a thousand comes {rate} of the time, heavy: {heavy}");
        }
    }

    proptest! {
        #[test]
        fn rises_without_jumps(x in prop::collection::vec(0.0f64..50.0, 0..300), a in 0.0f64..200.0, b in 0.0f64..200.0) {
            let mut s = [0.0; RunningTail::LEN];
            RunningTail::reset_exponential(&mut s);
            let mut t = RunningTail::new(&mut s);
            for v in x {
                t.learn(v);
            }
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(t.neg_ln_p(low) <= t.neg_ln_p(high));
            for i in 1..4 {
                let q = t.0[i];
                prop_assert!((t.neg_ln_p(q * (1.0 + 1e-12)) - t.neg_ln_p(q)).abs() < 1e-6);
            }
            prop_assert!(t.neg_ln_p(f64::MAX).is_finite() && t.neg_ln_p(f64::NAN).is_nan());
        }
    }
}
