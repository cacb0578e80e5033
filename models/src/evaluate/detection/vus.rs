use super::events::segments;
use foreglow_core::stats::autocorrelation;

/// The window of [`vus_window`] where the series shows no usable period.
pub const DEFAULT_VUS_WINDOW: usize = 125;

/// Thresholds a window, evenly spaced in the ranking of scores.
const THRESHOLDS: usize = 250;

/// Volume under the precision-recall and the ROC surface: `(VUS-PR, VUS-ROC)`, as the TSB-AD 1.5 package computes them.
///
/// For every window `w` in `0..=window`: each labelled segment is extended by `w/2` (integer) rows on both sides with
/// weight `sqrt(1 - d/w)` at distance `d`; weights add up, at most 1; segments whose buffers touch merge. Thresholds are
/// the descending scores at ranks `trunc(linspace(0, n - 1, 250))`, predicted means `score >= threshold`. With `P`
/// labelled rows, `h` of them predicted, `s` the sum of weights of predicted buffer rows, `e` the share of merged segments with a
/// prediction: `TP = h + s`, `P' = P + s/2`, recall = `min(TP/P', 1) e`, precision = `TP / predicted`, false-positive
/// rate = `(predicted - TP) / (n - P')`. The average precision and the area (trapezoids, closed at (1, 1)) are averaged
/// over the windows.
///
/// `scores` must hold no `NaN` (see [`super::rank_measures`], which ranks missing scores lowest). `None` when there is no labelled
/// or no unlabelled row, or the slices differ in length. O(n log n + window (soft rows + thresholds)).
///
/// Source: Paparrizos et al. (2022), doi:10.14778/3551793.3551830; Liu and Paparrizos (2024), TSB-AD, NeurIPS.
pub fn vus(scores: &[f64], labels: &[bool], window: usize) -> Option<(f64, f64)> {
    let n = scores.len();
    let positives = labels.iter().filter(|l| **l).count();
    if n != labels.len() || positives == 0 || positives == n {
        return None;
    }
    let cuts = Cuts::of(scores, labels);
    let events = segments(labels);
    let mut surface = Surface { soft: vec![0.0; n], weights: vec![0.0; THRESHOLDS], found: vec![0; THRESHOLDS] };
    let (mut precision, mut area) = (0.0, 0.0);
    for w in 0..=window {
        let merged = surface.fill(&events, labels, &cuts, w);
        let (ap, auc) = curve(&surface, &cuts, merged, positives, n);
        precision += ap;
        area += auc;
    }
    let windows = (window + 1) as f64;
    Some((precision / windows, area / windows))
}

/// The thresholds, and for each row the first (highest) one at which it is predicted.
struct Cuts {
    first: Vec<usize>,
    predicted: Vec<usize>,
    hits: Vec<usize>,
}

impl Cuts {
    fn of(scores: &[f64], labels: &[bool]) -> Self {
        let n = scores.len();
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let last = (n - 1) as f64;
        // NumPy's linspace: step first, then multiplied; the last point is set exactly.
        let step = last / (THRESHOLDS - 1) as f64;
        let rank = |k: usize| if k == THRESHOLDS - 1 { n - 1 } else { (k as f64 * step) as usize };
        let levels: Vec<f64> = (0..THRESHOLDS).map(|k| sorted[rank(k)]).collect();
        let first: Vec<usize> = scores.iter().map(|s| levels.partition_point(|level| level > s)).collect();
        let mut predicted = vec![0; THRESHOLDS];
        let mut hits = vec![0; THRESHOLDS];
        for (&k, &label) in first.iter().zip(labels) {
            predicted[k] += 1;
            hits[k] += usize::from(label);
        }
        for k in 1..THRESHOLDS {
            predicted[k] += predicted[k - 1];
            hits[k] += hits[k - 1];
        }
        Self { first, predicted, hits }
    }
}

/// Weights and first hits of one window, binned by threshold.
struct Surface {
    soft: Vec<f64>,
    weights: Vec<f64>,
    found: Vec<usize>,
}

impl Surface {
    /// Bins the buffer rows of window `w`; returns the number of merged segments.
    fn fill(&mut self, events: &[(usize, usize)], labels: &[bool], cuts: &Cuts, w: usize) -> usize {
        let n = labels.len();
        let half = w / 2;
        self.weights.fill(0.0);
        self.found.fill(0);
        let fade: Vec<f64> =
            (0..=half).map(|d| if w == 0 { 0.0 } else { (1.0 - d as f64 / w as f64).sqrt() }).collect();
        for &(start, end) in events {
            for row in end + 1..(end + half + 1).min(n) {
                self.soft[row] += fade[row - end];
            }
            for row in start.saturating_sub(half)..start {
                self.soft[row] += fade[start - row];
            }
        }
        let mut merged = 0;
        let mut from = 0;
        while from < events.len() {
            let mut to = from;
            while to + 1 < events.len() && events[to].1 + half >= events[to + 1].0.saturating_sub(half) {
                to += 1;
            }
            let begin = events[from].0.saturating_sub(half);
            let finish = (events[to].1 + half).min(n - 1);
            let mut earliest = THRESHOLDS;
            for row in begin..=finish {
                let k = cuts.first[row];
                earliest = earliest.min(k);
                if !labels[row] {
                    self.weights[k] += self.soft[row].min(1.0);
                }
                self.soft[row] = 0.0;
            }
            if earliest < THRESHOLDS {
                self.found[earliest] += 1;
            }
            merged += 1;
            from = to + 1;
        }
        merged
    }
}

/// Average precision and area under the curve of one window.
fn curve(surface: &Surface, cuts: &Cuts, merged: usize, positives: usize, n: usize) -> (f64, f64) {
    let (mut soft, mut found) = (0.0, 0);
    let (mut last_recall, mut last_alarm) = (0.0, 0.0);
    let (mut ap, mut auc) = (0.0, 0.0);
    for k in 0..THRESHOLDS {
        soft += surface.weights[k];
        found += surface.found[k];
        let hit = cuts.hits[k] as f64 + soft;
        let wanted = positives as f64 + soft / 2.0;
        let predicted = cuts.predicted[k] as f64;
        let recall = (hit / wanted).min(1.0) * (found as f64 / merged as f64);
        let alarm = (predicted - hit) / (n as f64 - wanted);
        ap += (recall - last_recall) * (hit / predicted);
        auc += (alarm - last_alarm) * f64::midpoint(recall, last_recall);
        (last_recall, last_alarm) = (recall, alarm);
    }
    auc += (1.0 - last_alarm) * f64::midpoint(1.0, last_recall);
    (ap, auc)
}

/// The largest window for [`vus`] by TSB-AD's rule, from the first metric of the evaluated range: over at most 20,000
/// points, lags up to 400, the first 3 dropped, the highest local maximum of the autocorrelation, if its index after
/// dropping is 3..=300, plus 3; else 125.
pub fn vus_window(values: &[f64]) -> usize {
    const DROPPED: usize = 3;
    let r = autocorrelation(&values[..values.len().min(20_000)], 400);
    let Some(r) = r.get(DROPPED..) else { return DEFAULT_VUS_WINDOW };
    let mut best: Option<usize> = None;
    for i in 1..r.len().saturating_sub(1) {
        if r[i] > r[i - 1] && r[i] > r[i + 1] && best.is_none_or(|b| r[i] > r[b]) {
            best = Some(i);
        }
    }
    match best {
        Some(i) if (3..=300).contains(&i) => i + DROPPED,
        _ => DEFAULT_VUS_WINDOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::rank_measures;
    use foreglow_core::Seed;
    use proptest::prelude::*;
    use rand::Rng;

    const GOLDEN: &str = include_str!("../../../tests/golden/vus/vus_synthetic.txt");

    #[test]
    fn equals_tsb_ad_on_the_golden_cases() {
        let mut lines = GOLDEN.lines();
        let mut cases = 0;
        while let Some(head) = lines.next() {
            let head: Vec<&str> = head.split(' ').collect();
            let labels: Vec<bool> = lines.next().expect("labels").bytes().map(|b| b == b'1').collect();
            let scores: Vec<f64> =
                lines.next().expect("scores").split(' ').map(|v| v.parse().expect("a number")).collect();
            let got = rank_measures(&scores, &labels, head[2].parse().expect("a window")).expect("both classes");
            for (value, want) in [got.vus_pr, got.vus_roc, got.auc_pr, got.auc_roc].iter().zip(&head[3..]) {
                let want: f64 = want.parse().expect("a number");
                assert!((value - want).abs() < 1e-6, "{}: {value} for {want} in {got:?}", head[1]);
            }
            cases += 1;
        }
        assert_eq!(cases, 15);
    }

    /// The definition again, row by row and threshold by threshold, as slow as it reads.
    fn plain(scores: &[f64], labels: &[bool], window: usize) -> f64 {
        let n = scores.len();
        let events = segments(labels);
        let mut sorted = scores.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let hard = labels.iter().filter(|l| **l).count() as f64;
        let mut total = 0.0;
        for w in 0..=window {
            let h = w / 2;
            let mut soft = vec![0.0; n];
            for i in 0..n {
                let sum: f64 = events
                    .iter()
                    .filter(|(s, e)| (i < *s && s - i <= h) || (i > *e && i - e <= h))
                    .map(|(s, e)| (1.0 - (if i < *s { s - i } else { i - e }) as f64 / w as f64).sqrt())
                    .sum();
                soft[i] = if labels[i] { 1.0 } else { sum.min(1.0) };
            }
            let mut merged: Vec<(usize, usize)> = Vec::new();
            for (s, e) in &events {
                let (s, e) = (s.saturating_sub(h), (e + h).min(n - 1));
                match merged.last_mut() {
                    Some(m) if m.1 >= s => m.1 = e,
                    _ => merged.push((s, e)),
                }
            }
            let mut last = 0.0;
            for k in 0..250 {
                let cut = sorted[((n - 1) as f64 * k as f64 / 249.0) as usize];
                let on: Vec<bool> = scores.iter().map(|s| *s >= cut).collect();
                let tp: f64 = (0..n).filter(|&i| on[i]).map(|i| soft[i]).sum();
                let all: f64 = (0..n).filter(|&i| on[i] || labels[i]).map(|i| soft[i]).sum();
                let hit = merged.iter().filter(|(s, e)| on[*s..=*e].iter().any(|o| *o)).count() as f64;
                let recall = (tp / f64::midpoint(hard, all)).min(1.0) * hit / merged.len() as f64;
                total += (recall - last) * tp / on.iter().filter(|o| **o).count() as f64;
                last = recall;
            }
        }
        total / (window + 1) as f64
    }

    #[test]
    fn large_input_is_quick() {
        let mut rng = Seed(3).rng();
        let scores: Vec<f64> = (0..23_000).map(|_| rng.r#gen()).collect();
        let labels: Vec<bool> = (0..23_000).map(|i| i % 400 < 20).collect();
        let clock = std::time::Instant::now();
        let (pr, roc) = vus(&scores, &labels, 300).expect("both classes");
        assert!(clock.elapsed().as_secs_f64() < 2.0, "{:?}", clock.elapsed());
        assert!(pr > 0.05 && pr < 0.5 && roc > 0.4);
    }

    #[test]
    fn undefined_without_two_classes() {
        assert!(vus(&[1.0, 2.0], &[true, true], 3).is_none());
        assert!(vus(&[1.0, 2.0], &[false, false], 3).is_none());
        assert!(vus(&[], &[], 3).is_none());
        assert!(vus(&[1.0], &[true, false], 3).is_none());
    }

    #[test]
    fn window_rule() {
        let day: Vec<f64> = (0..2000).map(|i| (i as f64 * std::f64::consts::TAU / 50.0).sin()).collect();
        assert_eq!(vus_window(&day), 50);
        assert_eq!(vus_window(&[1.0; 100]), DEFAULT_VUS_WINDOW);
        assert_eq!(vus_window(&[]), DEFAULT_VUS_WINDOW);
        let line: Vec<f64> = (0..500).map(f64::from).collect();
        assert_eq!(vus_window(&line), DEFAULT_VUS_WINDOW);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn quick_equals_plain(
            rows in prop::collection::vec((0u8..12, prop::bool::weighted(0.15)), 5..70),
            window in 0usize..25,
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            if let Some((pr, roc)) = vus(&scores, &labels, window) {
                prop_assert!((pr - plain(&scores, &labels, window)).abs() < 1e-9);
                prop_assert!((0.0..=1.0 + 1e-9).contains(&pr) && (-1e-9..=1.0 + 1e-9).contains(&roc));
            }
        }

        #[test]
        fn only_the_order_counts(rows in prop::collection::vec((-5.0f64..5.0, prop::bool::weighted(0.2)), 5..60)) {
            let scores: Vec<f64> = rows.iter().map(|r| r.0).collect();
            let bent: Vec<f64> = scores.iter().map(|s| s.exp() + 3.0).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            prop_assert_eq!(vus(&scores, &labels, 8), vus(&bent, &labels, 8));
        }
    }
}
