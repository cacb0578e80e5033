use super::pareto::Pareto;
use crate::ModelError;
use foreglow_core::P_FLOOR;

/// Most knots of the empirical part.
const KNOTS: usize = 160;
/// Share of the slice whose largest scores the extreme-value tail is fitted on.
const TAIL_SHARE: f64 = 0.02;
/// But no fewer than so many, where the slice has four times as many.
const TAIL_LEAST: usize = 30;
/// Lightest shape of the tail of a detector's raw scores. A few dozen excesses of one calm stretch cannot vouch for an
/// exponential tail, and a system that changes its regime leaves it by thousands of scales: an exponential then runs into
/// the smallest p that is told apart, and rows a hundred times apart look alike. With this shape `-ln p` is nearly linear
/// for ten scales and grows like the logarithm of the score from there.
const LIGHTEST: f64 = 0.1;

/// A fixed map from a raw score to `-ln p`, learnt on a slice that fitting did not see.
///
/// Up to a threshold (the 98 % quantile of the slice, or its 30 largest) empirical: `-ln` of the mid-rank tail share
/// `(above + ties/2 + 1/2) / (n + 1)` at up to 160 scores, linear between them; below the smallest it falls off
/// exponentially towards 0. Past the threshold a generalised Pareto tail (Pickands 1975, doi:10.1214/aos/1176343003),
/// exponential or heavier. Continuous and strictly increasing until p = 1e-300.
/// O(log knots), no allocation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TailMap {
    /// Ascending scores; none: the map has no opinion.
    scores: Vec<f64>,
    /// `-ln p` at each, strictly ascending; the last one is the threshold's.
    heights: Vec<f64>,
    /// How fast `-ln p` falls off below the first score.
    fall: f64,
    scale: f64,
    shape: f64,
}

impl TailMap {
    /// Learns from the slice's raw scores of one detector; those that are not finite are passed over. Without any the map
    /// answers NaN.
    pub fn fit(raw: &[f64]) -> Self {
        Self::with_lightest(raw, LIGHTEST)
    }

    /// Learns from means of `-ln p` over detectors. These are logarithms already: their tail may be exponential.
    pub fn fit_combined(combined: &[f64]) -> Self {
        Self::with_lightest(combined, 0.0)
    }

    fn with_lightest(raw: &[f64], lightest: f64) -> Self {
        let mut sorted: Vec<f64> = raw.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        if n == 0 {
            return Self::default();
        }
        // Distances below this are rounding, or a constant score.
        let size = sorted[0].abs().max(sorted[n - 1].abs()).clamp(1e-12, 1e300);
        let middle = (sorted[n * 9 / 10] - sorted[n / 10]).min(1e300);
        let least = (1e-3 * middle).max(1e-6 * size);
        let past = (TAIL_SHARE * n as f64).ceil() as usize;
        let past = past.max(TAIL_LEAST.min(n / 4)).min(n - 1);
        let threshold = sorted[n - 1 - past];
        let excesses: Vec<f64> =
            sorted[n - past..].iter().map(|v| (v - threshold).min(f64::MAX)).filter(|e| *e > 0.0).collect();
        let tail = Pareto::fit(&excesses, least, lightest);

        let below = n - excesses.len();
        let (mut scores, mut heights) = (Vec::new(), Vec::new());
        let mut start = 0;
        let mut due = 0;
        while start < below {
            let mut end = start + 1;
            while end < below && sorted[end] - sorted[start] <= 1e-9 * least {
                end += 1;
            }
            // Knots are spread evenly over the ranks; the first and the threshold are always among them.
            if start >= due || end == below {
                let ties = (end - start) as f64;
                let above = (n - end) as f64;
                scores.push(sorted[start]);
                heights.push(-libm::log((above + 0.5 * ties + 0.5) / (n as f64 + 1.0)));
                due = start + below.div_ceil(KNOTS);
            }
            start = end;
        }
        Self { scores, heights, fall: 1.0 / middle.max(least), scale: tail.scale, shape: tail.shape }
    }

    /// `-ln p` of a raw score; NaN for NaN, or where nothing was learnt.
    pub fn neg_ln_p(&self, raw: f64) -> f64 {
        let Some((first, last)) = self.scores.first().zip(self.scores.last()) else {
            return f64::NAN;
        };
        if raw.is_nan() {
            return f64::NAN;
        }
        let y = if raw < *first {
            self.heights[0] * libm::exp((raw - first) * self.fall)
        } else if raw >= *last {
            let tail = Pareto { scale: self.scale, shape: self.shape };
            self.heights[self.heights.len() - 1] + tail.neg_ln_survival((raw - last).min(f64::MAX))
        } else {
            let i = self.scores.partition_point(|s| *s <= raw);
            let (x0, x1) = (self.scores[i - 1], self.scores[i]);
            let (y0, y1) = (self.heights[i - 1], self.heights[i]);
            y0 + (y1 - y0) * ((raw - x0) / (x1 - x0))
        };
        y.clamp(0.0, -libm::log(P_FLOOR))
    }

    /// Whether it learnt nothing.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Appends the map to a flat vector: length, falls and tail, then the knots.
    pub(crate) fn write(&self, out: &mut Vec<f64>) {
        out.extend([self.scores.len() as f64, self.fall, self.scale, self.shape]);
        out.extend(&self.scores);
        out.extend(&self.heights);
    }

    /// Reads what [`TailMap::write`] wrote from the front of `flat`.
    pub(crate) fn read(flat: &mut &[f64]) -> Result<Self, ModelError> {
        let damaged = || ModelError::artifact("calibration", "a tail map is damaged; fit or fetch the artifact again");
        let (head, rest) = flat.split_at_checked(4).ok_or_else(damaged)?;
        if !(0.0..=1e6).contains(&head[0]) || head.iter().any(|v| !v.is_finite()) {
            return Err(damaged());
        }
        let n = head[0] as usize;
        let (scores, rest) = rest.split_at_checked(n).ok_or_else(damaged)?;
        let (heights, rest) = rest.split_at_checked(n).ok_or_else(damaged)?;
        let rising = |v: &[f64]| v.iter().all(|x| x.is_finite()) && v.windows(2).all(|w| w[0] < w[1]);
        let sound = n == 0 || (head[1] > 0.0 && head[2] > 0.0 && (0.0..=1.0).contains(&head[3]));
        if !(sound && rising(scores) && rising(heights)) {
            return Err(damaged());
        }
        *flat = rest;
        let (scores, heights) = (scores.to_vec(), heights.to_vec());
        Ok(Self { scores, heights, fall: head[1], scale: head[2], shape: head[3] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    #[test]
    fn p_is_uniform_on_exchangeable_data() {
        let mut rng = Seed(4).rng();
        let mut draw = |n: usize| -> Vec<f64> {
            (0..n).map(|_| (0..3).map(|_| -(rng.r#gen::<f64>().max(1e-12)).ln()).sum()).collect()
        };
        let map = TailMap::fit(&draw(4000));
        let fresh = draw(40_000);
        for p in [0.5, 0.2, 0.05, 0.01, 0.001] {
            let share = fresh.iter().filter(|x| map.neg_ln_p(**x) >= -f64::ln(p)).count() as f64 / fresh.len() as f64;
            assert!((share / p - 1.0).abs() < if p < 0.01 { 0.6 } else { 0.2 }, "p {p}: {share}");
        }
    }

    #[test]
    fn constant_and_empty_slices() {
        let m = TailMap::fit(&[2.0; 300]);
        assert!((m.neg_ln_p(2.0) - 2f64.ln()).abs() < 0.01);
        assert!(m.neg_ln_p(2.1) > 50.0 && m.neg_ln_p(1.9) < m.neg_ln_p(2.0));
        assert!(TailMap::fit(&[f64::NAN]).neg_ln_p(1.0).is_nan());
        assert!(TailMap::fit(&[1.0]).neg_ln_p(5.0).is_finite());
        let wild = TailMap::fit(&[-f64::MAX, 0.0, f64::MAX, 1.0, 2.0]);
        assert!(wild.neg_ln_p(f64::INFINITY).is_finite() && wild.neg_ln_p(f64::NEG_INFINITY).is_finite());
    }

    proptest! {
        #[test]
        fn rises_without_jumps_and_survives_saving(
            x in prop::collection::vec(prop_oneof![-5.0f64..50.0, Just(1.0), -1e9f64..1e9], 1..400),
            a in -10.0f64..1e3, b in -10.0f64..1e3,
        ) {
            let map = TailMap::fit(&x);
            let (low, high) = (a.min(b), a.max(b));
            let (y0, y1) = (map.neg_ln_p(low), map.neg_ln_p(high));
            prop_assert!(y0 <= y1 && y0 >= 0.0);
            for s in map.scores.clone() {
                let eps = s.abs().max(1e-6) * 1e-13;
                prop_assert!(map.neg_ln_p(s + eps) - map.neg_ln_p(s - eps) < 1e-3);
            }
            let mut flat = Vec::new();
            map.write(&mut flat);
            flat.push(7.0);
            let mut rest = &flat[..];
            prop_assert_eq!(TailMap::read(&mut rest).unwrap(), map);
            prop_assert_eq!(rest, &[7.0][..]);
        }
    }
}
