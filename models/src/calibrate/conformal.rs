/// Coverage of the bands that stand beside every signal.
pub const BAND_COVERAGE: f64 = 0.98;

/// How many of its own spreads a band must reach to either side, so that it holds [`BAND_COVERAGE`] of values that are
/// exchangeable with the slice (split conformal prediction: Papadopoulos et al. 2002, doi:10.1007/3-540-36755-1_29).
///
/// `ratios` are `|actual - expected| / spread` on the held-out slice; the answer is the `ceil((n + 1) 0.98)`-th smallest.
/// `None` where fewer than 49 are finite: no finite answer holds the coverage.
pub fn conformal_factor(ratios: &[f64]) -> Option<f64> {
    let mut kept: Vec<f64> = ratios.iter().copied().filter(|v| v.is_finite()).collect();
    let rank = ((kept.len() + 1) as f64 * BAND_COVERAGE).ceil() as usize;
    if rank == 0 || rank > kept.len() {
        return None;
    }
    let (_, v, _) = kept.select_nth_unstable_by(rank - 1, f64::total_cmp);
    Some(*v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreglow_core::Seed;
    use rand::Rng;

    #[test]
    fn covers_what_comes_after() {
        let mut rng = Seed(2).rng();
        let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.r#gen::<f64>().powi(3)).collect() };
        let factor = conformal_factor(&draw(500)).unwrap();
        let inside = draw(20_000).iter().filter(|v| **v <= factor).count() as f64 / 20_000.0;
        assert!((inside - BAND_COVERAGE).abs() < 0.012, "{inside}");
        assert_eq!(conformal_factor(&[1.0; 48]), None);
        assert_eq!(conformal_factor(&[1.0; 49]), Some(1.0));
        assert_eq!(conformal_factor(&[]), None);
    }
}
