use super::vus::vus;
use serde::{Deserialize, Serialize};

/// Measures of a ranking of rows against labels; 1 is best, a random score reaches the label rate in the precision
/// measures and 0.5 in the ROC measures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankMeasures {
    /// Volume under the precision-recall surface.
    pub vus_pr: f64,
    /// Volume under the ROC surface.
    pub vus_roc: f64,
    /// Average precision.
    pub auc_pr: f64,
    /// Area under the ROC curve.
    pub auc_roc: f64,
    /// The largest window of the two volumes, rows.
    pub window: usize,
    /// Rows that were judged.
    pub rows: usize,
    /// Rows with a missing score; they rank below all others.
    pub missing: usize,
}

/// All four ranking measures of `scores` (higher = more anomalous) against `labels`, with windows up to `window` rows
/// ([`super::vus_window`] gives TSB-AD's).
///
/// A `NaN` score ranks lowest and is counted. `None` when no row or every row is labelled (nothing to rank) or the
/// slices differ in length.
pub fn rank_measures(scores: &[f64], labels: &[bool], window: usize) -> Option<RankMeasures> {
    let missing = scores.iter().filter(|s| s.is_nan()).count();
    let ranked: Vec<f64> = scores.iter().map(|&s| lowest_if_missing(s)).collect();
    let (vus_pr, vus_roc) = vus(&ranked, labels, window)?;
    Some(RankMeasures {
        vus_pr,
        vus_roc,
        auc_pr: auc_pr(&ranked, labels)?,
        auc_roc: auc_roc(&ranked, labels)?,
        window,
        rows: scores.len(),
        missing,
    })
}

fn lowest_if_missing(score: f64) -> f64 {
    // `+ 0.0` makes one zero of the two, which `total_cmp` would tell apart.
    if score.is_nan() { f64::NEG_INFINITY } else { score + 0.0 }
}

/// `(labelled, all)` rows at or above each distinct score, descending.
fn steps(scores: &[f64], labels: &[bool]) -> Option<Vec<(f64, f64)>> {
    let positives = labels.iter().filter(|l| **l).count();
    if scores.len() != labels.len() || positives == 0 || positives == labels.len() {
        return None;
    }
    let mut rows: Vec<(f64, bool)> = scores.iter().map(|&s| lowest_if_missing(s)).zip(labels.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut out = Vec::new();
    let (mut hits, mut all) = (0usize, 0usize);
    for (i, row) in rows.iter().enumerate() {
        hits += usize::from(row.1);
        all += 1;
        if rows.get(i + 1).is_none_or(|next| next.0 != row.0) {
            out.push((hits as f64, all as f64));
        }
    }
    Some(out)
}

/// Average precision `Σ (R_k - R_{k-1}) P_k` over distinct scores, descending, as scikit-learn defines it. `NaN` scores
/// rank lowest; `None` without both classes. O(n log n).
pub fn auc_pr(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let steps = steps(scores, labels)?;
    let positives = steps.last()?.0;
    let mut last = 0.0;
    let mut sum = 0.0;
    for (hits, all) in steps {
        sum += (hits - last) / positives * (hits / all);
        last = hits;
    }
    Some(sum)
}

/// Area under the ROC curve: the chance that a labelled row outranks an unlabelled one, ties half. `NaN` scores rank
/// lowest; `None` without both classes. O(n log n).
pub fn auc_roc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let steps = steps(scores, labels)?;
    let &(positives, all) = steps.last()?;
    let negatives = all - positives;
    let (mut x, mut y) = (0.0, 0.0);
    let mut sum = 0.0;
    for (hits, all) in steps {
        sum += ((all - hits) - x) * f64::midpoint(hits, y);
        (x, y) = (all - hits, hits);
    }
    Some(sum / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        // scikit-learn's own example: y = [0,0,1,1], s = [.1,.4,.35,.8]: AP 0.8333, ROC 0.75.
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        assert!((auc_pr(&scores, &labels).expect("both") - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(auc_roc(&scores, &labels), Some(0.75));
        assert_eq!(auc_roc(&[0.0, -0.0], &[true, false]), Some(0.5));
    }

    #[test]
    fn missing_ranks_lowest_and_is_counted() {
        let m = rank_measures(&[f64::NAN, 1.0, 2.0, f64::NAN], &[true, false, true, false], 2).expect("both");
        assert_eq!(m.missing, 2);
        let low = rank_measures(&[-9.0, 1.0, 2.0, -9.0], &[true, false, true, false], 2).expect("both");
        assert_eq!((m.vus_pr, m.auc_roc), (low.vus_pr, low.auc_roc));
        assert!(rank_measures(&[1.0], &[true], 2).is_none());
    }

    proptest! {
        #[test]
        fn roc_is_the_chance_to_outrank(rows in prop::collection::vec((0u8..9, any::<bool>()), 2..50)) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            if let Some(area) = auc_roc(&scores, &labels) {
                let (mut wins, mut pairs) = (0.0, 0.0);
                for i in 0..rows.len() {
                    for j in 0..rows.len() {
                        if labels[i] && !labels[j] {
                            pairs += 1.0;
                            wins += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                        }
                    }
                }
                prop_assert!((area - wins / pairs).abs() < 1e-12);
            }
        }
    }
}
