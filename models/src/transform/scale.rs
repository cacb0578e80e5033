/// Centre and spread of one window, so that a net sees series of any unit alike.
///
/// `z = (x - centre) / spread` with the mean and the standard deviation of the finite values. The spread is held above
/// 1e-9 of the largest magnitude, below which a 64-bit difference is rounding; a window without spread is `constant`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowScale {
    /// Mean of the finite values; 0 when there is none.
    pub centre: f64,
    /// Standard deviation with its floor, above 0.
    pub spread: f64,
    /// Whether the values do not differ, or differ by rounding only.
    pub constant: bool,
    /// How many values were finite.
    pub observed: usize,
}

impl WindowScale {
    /// Centre and spread of `values`; those that are not finite are passed over.
    pub fn fit(values: &[f64]) -> Self {
        let top = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
        let observed = values.iter().filter(|v| v.is_finite()).count();
        // Scaled by the largest, so that sums and squares neither overflow nor vanish.
        let unit = if top > 0.0 { top } else { 1.0 };
        let (mut sum, mut squares) = (0.0, 0.0);
        for v in values.iter().filter(|v| v.is_finite()) {
            sum += v / unit;
        }
        let mean = if observed > 0 { sum / observed as f64 } else { 0.0 };
        for v in values.iter().filter(|v| v.is_finite()) {
            squares += (v / unit - mean) * (v / unit - mean);
        }
        let sd = if observed > 0 { (squares / observed as f64).sqrt() } else { 0.0 };
        let constant = sd <= 1e-9;
        let spread = (sd.max(1e-9) * unit).max(f64::MIN_POSITIVE);
        Self { centre: mean * unit, spread, constant, observed }
    }

    /// `(x - centre) / spread`, without overflow.
    pub fn apply(&self, x: f64) -> f64 {
        x / self.spread - self.centre / self.spread
    }

    /// The inverse of [`WindowScale::apply`], held inside the finite range.
    pub fn invert(&self, z: f64) -> f64 {
        (self.centre + z * self.spread).clamp(f64::MIN, f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hard_windows() {
        assert!(WindowScale::fit(&[]).constant && WindowScale::fit(&[f64::NAN]).observed == 0);
        assert!(WindowScale::fit(&[0.1 + 0.2, 0.3, 0.3]).constant);
        let s = WindowScale::fit(&[1e308, -1e308, f64::NAN, 1e308]);
        assert!(s.spread.is_finite() && s.apply(1e308).abs() < 2.0, "{s:?}");
    }

    proptest! {
        #[test]
        fn invert_after_apply_is_identity(x in prop::collection::vec(-1e6f64..1e6, 2..40), v in -1e6f64..1e6) {
            let s = WindowScale::fit(&x);
            prop_assume!(!s.constant);
            let back = s.invert(s.apply(v));
            prop_assert!((back - v).abs() <= 1e-7 * (1.0 + v.abs() + s.centre.abs()), "{back} {v}");
        }
    }
}
