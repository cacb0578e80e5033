use super::{normal_quantile, student_t_quantile};

/// How many standard errors a difference must be away from 0 at a look, so that over all looks together a false alarm
/// has at most probability `alpha`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Boundary {
    /// One look, at the end.
    Fixed,
    /// As many looks as one likes until a planned number of independent observations, after which nothing is looked at
    /// any more: the constant boundary on the sum of a Brownian motion (O'Brien and Fleming 1979, doi:10.2307/2530245,
    /// by the reflection principle). The dearest looks are the early ones.
    Planned {
        /// Observations at the end.
        total: f64,
    },
    /// As many looks as one likes for ever: an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and
    /// Ramdas 2021, arXiv 2103.06476) by a mixture that is tightest at `best`. Four fifths of it are two lines (Robbins
    /// 1970, doi:10.1214/aoms/1177696786), which make it 4 to 9 % tighter than a normal mixture from half of `best` to its
    /// double; one fifth is the normal mixture, which keeps it narrowing for ever, 14 % wider at ten times `best` than
    /// alone.
    Always {
        /// Observations at which it is tightest.
        best: f64,
    },
}

impl Boundary {
    /// The critical number of standard errors, two-sided, after `n` independent observations from which the standard error
    /// was estimated. Infinite below 2 observations.
    ///
    /// `Fixed`: `t(1 - alpha/2)` with `n - 1` degrees of freedom. `Planned`: `z(1 - alpha/4) sqrt(total / n)`, and
    /// infinite past the total. `Always`: the `z` at which
    /// `0.8 cosh(z d) exp(-d^2/2) + 0.2 exp(z^2 m / (2 m + 2)) / sqrt(m + 1) = 1/alpha` (Ville's inequality) with
    /// `d = sqrt(2 ln(2.5/alpha) n / best)` and `m = (-2 ln alpha + ln(-2 ln alpha) + 1) n / best`. The last two are
    /// asymptotic; both are widened by the ratio of the `t` and normal quantiles that makes up for an estimated standard
    /// error.
    pub fn critical(self, n: f64, alpha: f64) -> f64 {
        if n.is_nan() || n < 2.0 {
            return f64::INFINITY;
        }
        let student = |p: f64| student_t_quantile(p, n - 1.0);
        let widen = |z: f64, p: f64| z * student(p) / normal_quantile(p);
        match self {
            Self::Fixed => student(1.0 - alpha / 2.0),
            Self::Planned { total } => {
                if n > total * (1.0 + 1e-9) {
                    return f64::INFINITY;
                }
                widen(normal_quantile(1.0 - alpha / 4.0) * (total / n).sqrt(), 1.0 - alpha / 4.0)
            }
            Self::Always { best } => widen(always(n / best.max(1.0), alpha), 1.0 - alpha / 2.0),
        }
    }
}

/// The share of the two lines in the mixture of [`Boundary::Always`].
const LINES: f64 = 0.8;

/// The critical value after the share `s` of the observations at which it is tightest; by bisection, as the mixture grows
/// with it.
fn always(s: f64, alpha: f64) -> f64 {
    let drift = (2.0 * (2.0 / (alpha * LINES)).ln() * s).sqrt();
    let l = -2.0 * alpha.ln();
    let m = s * (l + l.ln() + 1.0);
    // In logarithms, and the larger part first: both overflow early.
    let log_mixture = |z: f64| {
        let lines = LINES.ln() + z * drift + (0.5 + 0.5 * (-2.0 * z * drift).exp()).ln() - drift * drift / 2.0;
        let normal = (1.0 - LINES).ln() + z * z * m / (2.0 * (m + 1.0)) - 0.5 * (m + 1.0).ln();
        lines.max(normal) + (-(lines - normal).abs()).exp().ln_1p()
    };
    let (mut low, mut high) = (0.0, 1.0);
    while log_mixture(high) < -alpha.ln() && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let z = f64::midpoint(low, high);
        if log_mixture(z) < -alpha.ln() {
            low = z;
        } else {
            high = z;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use rand::Rng;

    #[test]
    fn known_values() {
        assert!((Boundary::Fixed.critical(1e9, 0.05) - 1.959_964).abs() < 1e-4);
        assert!((Boundary::Planned { total: 1e9 }.critical(1e9, 0.05) - 2.241_403).abs() < 1e-4);
        // The lines alone give sqrt(2 ln 40) = 2.716, the normal mixture alone 3.035, and for ever that alone narrows.
        let always = Boundary::Always { best: 1e9 };
        for (n, z) in [(1e8, 4.195), (5e8, 2.896), (1e9, 2.760), (2e9, 2.930), (1e10, 3.722), (1e11, 4.001)] {
            assert!((always.critical(n, 0.05) - z).abs() < 1e-3, "{n}: {}", always.critical(n, 0.05));
        }
        assert!(Boundary::Planned { total: 30.0 }.critical(31.0, 0.05).is_infinite());
        assert!(Boundary::Fixed.critical(1.0, 0.05).is_infinite());
    }

    #[test]
    fn looking_at_every_observation_raises_few_alarms() {
        for boundary in [Boundary::Planned { total: 200.0 }, Boundary::Always { best: 100.0 }] {
            let mut alarms = 0;
            for run in 0..400 {
                let mut rng = Seed(3).nth(run).rng();
                let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
                let alarm = (0..200).any(|_| {
                    let x = normal_quantile(rng.gen_range(1e-12..1.0));
                    n += 1.0;
                    sum += x;
                    squares += x * x;
                    let mean = sum / n;
                    let se = ((squares - n * mean * mean) / (n - 1.0) / n).sqrt();
                    n >= 8.0 && mean.abs() > se * boundary.critical(n, 0.05)
                });
                alarms += usize::from(alarm);
            }
            assert!(alarms <= 24, "{boundary:?}: {alarms} of 400");
        }
    }
}
