use super::summary::mean;
use realfft::RealFftPlanner;

/// Direct products are cheaper than three transforms below this many of them.
const DIRECT_PRODUCTS: usize = 60_000;

/// Autocorrelation at lags `0..=max_lag` (lags past `n - 1` are left out): `r_k = c_k / c_0` with
/// `c_k = 1/n Σ (x_t - m)(x_{t+k} - m)`, the usual biased estimator, which is positive semi-definite.
///
/// With missing points `c_k` is the mean over the pairs present, times `(n - k)/n`, over the mean square of the points
/// present; without gaps that is the same number. A constant series has no autocorrelation: all `NaN`, and so has an
/// empty one (an empty vector). O(n max_lag) for short input, O(n log n) through a Fourier transform otherwise.
pub fn autocorrelation(values: &[f64], max_lag: usize) -> Vec<f64> {
    let n = values.len();
    if n == 0 {
        return Vec::new();
    }
    let lags = max_lag.min(n - 1) + 1;
    let centre = mean(values);
    let top = values.iter().filter(|v| !v.is_nan()).fold(0.0f64, |m, v| m.max((v - centre).abs()));
    let gaps = values.iter().any(|v| v.is_nan());
    // Rounding alone makes a constant series look like noise of 1e-16: that is no signal.
    if !(top.is_finite() && top > 1e-14 * centre.abs() && top > 0.0) {
        return vec![f64::NAN; lags];
    }
    let x: Vec<f64> = values.iter().map(|&v| if v.is_nan() { 0.0 } else { (v - centre) / top }).collect();
    let sums = lagged_products(&x, lags);
    if !gaps {
        return sums.iter().map(|s| s / sums[0]).collect();
    }
    let mask: Vec<f64> = values.iter().map(|v| f64::from(u8::from(!v.is_nan()))).collect();
    let pairs: Vec<f64> = lagged_products(&mask, lags).iter().map(|p| p.round()).collect();
    let square = sums[0] / pairs[0];
    (0..lags)
        .map(|k| if pairs[k] == 0.0 { f64::NAN } else { sums[k] / pairs[k] / square * ((n - k) as f64 / n as f64) })
        .collect()
}

/// `Σ_t x_t x_{t+k}` for `k` in `0..lags`.
fn lagged_products(x: &[f64], lags: usize) -> Vec<f64> {
    let n = x.len();
    if n * lags <= DIRECT_PRODUCTS {
        return (0..lags).map(|k| x.iter().zip(&x[k..]).map(|(a, b)| a * b).sum()).collect();
    }
    let size = (n + lags).next_power_of_two();
    let mut planner = RealFftPlanner::<f64>::new();
    let forward = planner.plan_fft_forward(size);
    let inverse = planner.plan_fft_inverse(size);
    let mut padded = x.to_vec();
    padded.resize(size, 0.0);
    let mut spectrum = forward.make_output_vec();
    forward.process(&mut padded, &mut spectrum).expect("buffers come from the plan");
    for c in &mut spectrum {
        *c = realfft::num_complex::Complex::new(c.norm_sqr(), 0.0);
    }
    inverse.process(&mut spectrum, &mut padded).expect("a power spectrum is real at both ends");
    padded.truncate(lags);
    padded.iter().map(|v| v / size as f64).collect()
}

/// Pearson's correlation of the pairs where both halves are present; `NaN` below two pairs or when a side is constant.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let pairs: Vec<(f64, f64)> =
        a.iter().copied().zip(b.iter().copied()).filter(|(x, y)| !x.is_nan() && !y.is_nan()).collect();
    let n = pairs.len() as f64;
    if pairs.len() < 2 {
        return f64::NAN;
    }
    let ma = pairs.iter().map(|p| p.0).sum::<f64>() / n;
    let mb = pairs.iter().map(|p| p.1).sum::<f64>() / n;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    if aa <= 0.0 || bb <= 0.0 { f64::NAN } else { (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0) }
}

/// Integrated autocorrelation time `τ = 1 + 2 Σ r_k` in steps: `n` dependent values carry about `n / τ` independent ones.
///
/// The sum runs over pairs `Γ_j = r_{2j} + r_{2j+1}`, made non-increasing, and stops at the first that is not positive
/// (Geyer's initial monotone sequence, 1992, doi:10.1214/ss/1177011137) or at a lag past `6 τ` (Sokal's automatic
/// window, 1997, doi:10.1007/978-1-4899-0319-8_6), whichever comes first. Never below 1: negative correlation is not
/// credited. A constant series answers 1, an empty one `NaN`.
pub fn integrated_autocorrelation_time(values: &[f64]) -> f64 {
    if values.iter().all(|v| v.is_nan()) {
        return f64::NAN;
    }
    let r = autocorrelation(values, values.len() / 2);
    let mut tau = -1.0;
    let mut last = f64::INFINITY;
    for (j, pair) in r.chunks_exact(2).enumerate() {
        let both = pair[0] + pair[1];
        if both.is_nan() || both <= 0.0 {
            break;
        }
        let gamma = both.min(last);
        last = gamma;
        tau += 2.0 * gamma;
        if 2.0 * j as f64 > 6.0 * tau.max(1.0) {
            break;
        }
    }
    tau.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    fn ar1(phi: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        let mut x = 0.0;
        (0..n)
            .map(|_| {
                // Sum of uniforms: near enough to normal noise.
                let e: f64 = (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0;
                x = phi * x + e;
                x
            })
            .collect()
    }

    #[test]
    fn known_values() {
        // By hand: deviations -2..2, products 10, 4, -1.
        let r = autocorrelation(&[1.0, 2.0, 3.0, 4.0, 5.0], 2);
        for (got, want) in r.iter().zip([1.0, 0.4, -0.1]) {
            assert!((got - want).abs() < 1e-12);
        }
        assert!(
            (correlation(&[1.0, 2.0, 3.0, f64::NAN], &[2.0, 4.0, 6.5, 0.0]) - 0.997_948_715_788_673_3).abs() < 1e-9
        );
    }

    #[test]
    fn both_ways_agree() {
        let x = ar1(0.8, 5000, 3);
        let long = autocorrelation(&x, 400);
        let direct: Vec<f64> = {
            let m = mean(&x);
            let c: Vec<f64> = x.iter().map(|v| v - m).collect();
            let s = |k: usize| c.iter().zip(&c[k..]).map(|(a, b)| a * b).sum::<f64>();
            (0..=400).map(|k| s(k) / s(0)).collect()
        };
        for (a, b) in long.iter().zip(&direct) {
            assert!((a - b).abs() < 1e-10);
        }
    }

    #[test]
    fn time_of_ar1() {
        // Theory: (1 + phi) / (1 - phi).
        for (phi, want) in [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)] {
            let got = integrated_autocorrelation_time(&ar1(phi, 60_000, 11));
            assert!((got / want - 1.0).abs() < 0.15, "phi {phi}: {got}");
        }
        assert_eq!(integrated_autocorrelation_time(&[3.0; 50]), 1.0);
        assert_eq!(integrated_autocorrelation_time(&ar1(-0.9, 5000, 1)), 1.0);
    }

    #[test]
    fn gaps_and_constants() {
        let mut x = ar1(0.9, 4000, 5);
        let full = autocorrelation(&x, 20);
        for v in x.iter_mut().skip(7).step_by(5) {
            *v = f64::NAN;
        }
        let gappy = autocorrelation(&x, 20);
        for (a, b) in full.iter().zip(&gappy) {
            assert!((a - b).abs() < 0.05, "{a} {b}");
        }
        assert!(autocorrelation(&[0.1; 30], 3).iter().all(|v| v.is_nan()));
        assert!(autocorrelation(&[], 3).is_empty());
        assert_eq!(autocorrelation(&[1.0, 2.0], 9).len(), 2);
    }

    proptest! {
        #[test]
        fn bounded_and_scale_free(x in prop::collection::vec(-1e3f64..1e3, 3..80), scale in 0.1f64..10.0) {
            let r = autocorrelation(&x, 30);
            let scaled: Vec<f64> = x.iter().map(|v| v * scale + 5.0).collect();
            let s = autocorrelation(&scaled, 30);
            for (a, b) in r.iter().zip(&s) {
                prop_assert!(a.is_nan() || a.abs() <= 1.0 + 1e-9);
                prop_assert!(a.is_nan() || b.is_nan() || (a - b).abs() < 1e-6);
            }
        }
    }
}
