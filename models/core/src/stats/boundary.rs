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
    /// As many looks as one likes for ever: Robbins' mixture boundary, the asymptotic confidence sequence of
    /// Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, arXiv 2103.06476, theorem 2.2), tightest at `best`.
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
    /// infinite past the total. `Always`: `sqrt(2 (n r + 1)/(n r) ln(sqrt(n r + 1)/alpha))` with
    /// `r = (-2 ln alpha + ln(-2 ln alpha) + 1)/best`. The last two are asymptotic; both are widened by the ratio of the
    /// `t` and normal quantiles that makes up for an estimated standard error.
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
            Self::Always { best } => {
                let l = -2.0 * alpha.ln();
                let nr = n * (l + l.ln() + 1.0) / best.max(1.0);
                widen((2.0 * (nr + 1.0) / nr * ((nr + 1.0).sqrt() / alpha).ln()).sqrt(), 1.0 - alpha / 2.0)
            }
        }
    }
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
        // n r = 8.781, so sqrt(2 * 9.781/8.781 * ln(3.1275/0.05)).
        assert!((Boundary::Always { best: 1e9 }.critical(1e9, 0.05) - 3.035).abs() < 2e-3);
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
