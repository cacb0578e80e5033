use super::correlation::autocorrelation;

/// Fewest whole cycles that a season is looked for in; of one that is asked for, two must be there.
const CYCLES: usize = 3;
/// A season must explain at least this share of the variance of cycles that its profile has not seen.
const SKILL: f64 = 0.15;
/// Autocorrelation peaks that are tried.
const PEAKS: usize = 12;
/// A shorter season wins when its skill is at least this share of the best.
const SHORTER: f64 = 0.9;

/// Length of the dominant season in steps, between 2 and `max_lag`, or `None` when nothing repeats.
///
/// Candidates are the highest local maxima of the autocorrelation after a centred moving average of `max_lag` is taken
/// off (that removes trend and drift). Each is judged by [`season_skill`]; the shortest whose skill is at least 0.9 of
/// the best and 0.15 in itself wins, so that multiples of a season lose to it. At least three cycles must be there:
/// `max_lag` is capped at a third of the length. Missing values are interpolated. O(n log n).
pub fn detect_season(values: &[f64], max_lag: usize) -> Option<usize> {
    let top = max_lag.min(values.len() / CYCLES);
    if top < 2 {
        return None;
    }
    let filled = interpolate(values)?;
    let smooth = moving_average(&filled, top);
    let flat: Vec<f64> = filled.iter().zip(&smooth).map(|(v, m)| v - m).collect();
    let r = autocorrelation(&flat, top + 1);
    let mut peaks: Vec<usize> =
        (2..=top).filter(|&k| k + 1 < r.len() && r[k] > 0.05 && r[k] > r[k - 1] && r[k] >= r[k + 1]).collect();
    peaks.sort_by(|&a, &b| r[b].total_cmp(&r[a]).then(a.cmp(&b)));
    peaks.truncate(PEAKS);
    detect_season_among(&filled, &peaks)
}

/// The best of given season lengths by the rule of [`detect_season`]; lengths below 2 or above half of the series are
/// passed over. For data whose step suggests a day or a week.
pub fn detect_season_among(values: &[f64], candidates: &[usize]) -> Option<usize> {
    let filled = interpolate(values)?;
    let mut tried: Vec<usize> = candidates.to_vec();
    tried.sort_unstable();
    tried.dedup();
    let judged: Vec<(usize, f64)> =
        tried.into_iter().filter_map(|p| season_skill(&filled, p).filter(|s| *s >= SKILL).map(|s| (p, s))).collect();
    let best = judged.iter().map(|j| j.1).fold(f64::NEG_INFINITY, f64::max);
    judged.into_iter().find(|j| j.1 >= SHORTER * best).map(|j| j.0)
}

/// Share of variance that the mean profile of all other cycles explains of each cycle (leave one cycle out), after a
/// centred moving average of one period is taken off: 1 for a perfect repetition, about 0 or below for noise.
///
/// `None` for a period below 2, fewer than two whole cycles, or a series without variance. Whole cycles are counted
/// back from the end. Missing values are interpolated. O(n).
pub fn season_skill(values: &[f64], period: usize) -> Option<f64> {
    let cycles = values.len().checked_div(period)?;
    if period < 2 || cycles < 2 {
        return None;
    }
    let filled = interpolate(values)?;
    let smooth = moving_average(&filled, period);
    let flat: Vec<f64> = filled.iter().zip(&smooth).map(|(v, m)| v - m).collect();
    let rows = &flat[flat.len() - cycles * period..];
    let mut profile = vec![0.0; period];
    for row in rows.chunks_exact(period) {
        for (p, v) in profile.iter_mut().zip(row) {
            *p += v;
        }
    }
    let (mut left, mut all) = (0.0, 0.0);
    for row in rows.chunks_exact(period) {
        for (p, v) in profile.iter().zip(row) {
            let others = (p - v) / (cycles - 1) as f64;
            left += (v - others) * (v - others);
            all += v * v;
        }
    }
    let scale = filled.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if !(all.is_finite() && all > rows.len() as f64 * (1e-12 * scale).powi(2)) {
        return None;
    }
    Some(1.0 - left / all)
}

/// Linear interpolation of missing values, the ends held; `None` when fewer than half are present.
fn interpolate(values: &[f64]) -> Option<Vec<f64>> {
    let there = values.iter().filter(|v| v.is_finite()).count();
    if there == 0 || there * 2 < values.len() {
        return None;
    }
    let mut out = values.to_vec();
    let mut last: Option<usize> = None;
    for i in 0..out.len() {
        if !values[i].is_finite() {
            continue;
        }
        let from = last.map_or(0, |l| l + 1);
        for j in from..i {
            out[j] = match last {
                Some(l) => values[l] + (values[i] - values[l]) * ((j - l) as f64 / (i - l) as f64),
                None => values[i],
            };
        }
        last = Some(i);
    }
    let l = last?;
    for v in &mut out[l + 1..] {
        *v = values[l];
    }
    Some(out)
}

/// Centred moving average of `width` points (an even width weights its two ends by half), cut off at the ends of the
/// series symmetrically, so that a linear trend is followed to the last point.
pub fn moving_average(x: &[f64], width: usize) -> Vec<f64> {
    let n = x.len();
    let half = width / 2;
    let mut sums = Vec::with_capacity(n + 1);
    let mut run = 0.0;
    sums.push(0.0);
    for v in x {
        run += v;
        sums.push(run);
    }
    (0..n)
        .map(|i| {
            let h = half.min(i).min(n - 1 - i);
            let inner = sums[i + h + 1] - sums[i - h];
            if width.is_multiple_of(2) && h == half && h > 0 {
                (inner - 0.5 * (x[i - h] + x[i + h])) / (2 * h) as f64
            } else {
                inner / (2 * h + 1) as f64
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use proptest::prelude::*;
    use rand::Rng;
    use std::f64::consts::TAU;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Seed(seed).rng();
        (0..n).map(|_| (0..12).map(|_| rng.r#gen::<f64>()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn finds_a_noisy_day_under_a_trend() {
        let e = noise(288 * 7, 1);
        let x: Vec<f64> = (0..e.len()).map(|i| 0.01 * i as f64 + (TAU * i as f64 / 288.0).sin() + 0.8 * e[i]).collect();
        let got = detect_season(&x, 600).expect("a season");
        assert!((280..=296).contains(&got), "{got}");
        assert_eq!(detect_season_among(&x, &[288, 24, 96]), Some(288));
    }

    #[test]
    fn prefers_the_fundamental_and_ignores_gaps() {
        let mut x: Vec<f64> = (0..1000).map(|i| if i % 24 < 3 { 10.0 } else { 0.0 }).collect();
        assert_eq!(detect_season(&x, 200), Some(24));
        for v in x.iter_mut().skip(5).step_by(11) {
            *v = f64::NAN;
        }
        assert_eq!(detect_season(&x, 200), Some(24));
    }

    #[test]
    fn nothing_repeats_in_noise_walks_and_constants() {
        let mut found = 0;
        for seed in 0..40 {
            let e = noise(1500, 100 + seed);
            let walk: Vec<f64> = e
                .iter()
                .scan(0.0, |s, v| {
                    *s += v;
                    Some(*s)
                })
                .collect();
            found += usize::from(detect_season(&walk, 400).is_some());
            assert_eq!(detect_season(&e, 400), None, "white noise, seed {seed}");
        }
        assert!(found <= 2, "{found} of 40 random walks have a season");
        assert_eq!(detect_season(&[0.3; 500], 100), None);
        assert_eq!(detect_season(&[], 100), None);
        assert_eq!(detect_season(&[f64::NAN; 500], 100), None);
        assert_eq!(season_skill(&[1.0, 2.0, 1.0], 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn exact_repetition_is_found(shape in prop::collection::vec(-5.0f64..5.0, 4..40), slope in -0.1f64..0.1) {
            let p = shape.len();
            let x: Vec<f64> = (0..p * 8).map(|i| shape[i % p] + slope * i as f64).collect();
            let skill = season_skill(&x, p).expect("eight cycles");
            prop_assert!(skill > 0.7, "{}", skill);
        }
    }
}
