use foreglow_core::stats::mean;
use serde::{Deserialize, Serialize};

/// One labelled event: what the model blamed, and what the operators did.
#[derive(Debug, Clone, PartialEq)]
pub struct Blamed {
    /// Share of each metric in the event, any scale; missing counts as lowest.
    pub shares: Vec<f64>,
    /// Indices of the metrics that truth names.
    pub truth: Vec<usize>,
}

/// How well an explanation ranks the metrics that truth names; means over events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlameMeasures {
    /// HitRate@100 %.
    pub hit_100: f64,
    /// HitRate@150 %.
    pub hit_150: f64,
    /// NDCG of the whole ranking.
    pub ndcg: f64,
    /// Events behind the means (those where truth names a metric that exists).
    pub events: usize,
}

/// Indices by share, largest first, equal shares by index; and the named metrics that exist, each once.
fn ranking(shares: &[f64], truth: &[usize]) -> (Vec<usize>, Vec<bool>, usize) {
    let key = |i: usize| if shares[i].is_nan() { f64::NEG_INFINITY } else { shares[i] + 0.0 };
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    let mut named = vec![false; shares.len()];
    for &t in truth {
        if let Some(flag) = named.get_mut(t) {
            *flag = true;
        }
    }
    let count = named.iter().filter(|f| **f).count();
    (order, named, count)
}

/// HitRate@P %: the share of the `g` named metrics that stand among the first `floor(P g / 100)` of the ranking (Su et
/// al. 2019, OmniAnomaly, doi:10.1145/3292500.3330672). `None` when truth names no existing metric.
pub fn hit_rate(shares: &[f64], truth: &[usize], percent: usize) -> Option<f64> {
    let (order, named, count) = ranking(shares, truth);
    if count == 0 {
        return None;
    }
    let depth = (percent * count / 100).min(order.len());
    Some(order[..depth].iter().filter(|&&i| named[i]).count() as f64 / count as f64)
}

/// Normalised discounted cumulative gain of the whole ranking with gain 1 for a named metric: `Σ 1/log2(rank + 1)` over
/// the named, divided by its value in the best order (Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418). `None`
/// when truth names no existing metric.
pub fn ndcg(shares: &[f64], truth: &[usize]) -> Option<f64> {
    let (order, named, count) = ranking(shares, truth);
    if count == 0 {
        return None;
    }
    let gain = |position: usize| 1.0 / (position as f64 + 2.0).log2();
    let got: f64 = order.iter().enumerate().filter(|&(_, &i)| named[i]).map(|(p, _)| gain(p)).sum();
    let best: f64 = (0..count).map(gain).sum();
    Some(got / best)
}

/// The three measures averaged over events; `None` when no event names an existing metric.
pub fn blame_measures(events: &[Blamed]) -> Option<BlameMeasures> {
    let judged: Vec<[f64; 3]> = events
        .iter()
        .filter_map(|e| {
            Some([hit_rate(&e.shares, &e.truth, 100)?, hit_rate(&e.shares, &e.truth, 150)?, ndcg(&e.shares, &e.truth)?])
        })
        .collect();
    if judged.is_empty() {
        return None;
    }
    let column = |k: usize| mean(&judged.iter().map(|j| j[k]).collect::<Vec<_>>());
    Some(BlameMeasures { hit_100: column(0), hit_150: column(1), ndcg: column(2), events: judged.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let shares = [0.1, 0.5, 0.2, 0.2, f64::NAN];
        // Order 1, 2, 3, 0, 4; truth 1 and 3: one of the first two, both of the first three.
        assert_eq!(hit_rate(&shares, &[1, 3], 100), Some(0.5));
        assert_eq!(hit_rate(&shares, &[1, 3], 150), Some(1.0));
        let want = (1.0 + 0.5) / (1.0 + 1.0 / 3f64.log2());
        assert!((ndcg(&shares, &[3, 1, 1]).expect("named") - want).abs() < 1e-12);
        assert_eq!(hit_rate(&shares, &[9], 100), None);
        let m = blame_measures(&[
            Blamed { shares: shares.to_vec(), truth: vec![1, 3] },
            Blamed { shares: shares.to_vec(), truth: vec![] },
            Blamed { shares: shares.to_vec(), truth: vec![1] },
        ])
        .expect("two events");
        assert_eq!((m.events, m.hit_100), (2, 0.75));
        assert!(blame_measures(&[]).is_none());
    }

    proptest! {
        #[test]
        fn naming_the_top_is_perfect(shares in prop::collection::vec(0.0f64..1.0, 1..20), k in 1usize..5) {
            let mut order: Vec<usize> = (0..shares.len()).collect();
            order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]).then(a.cmp(&b)));
            let truth = &order[..k.min(order.len())];
            prop_assert_eq!(hit_rate(&shares, truth, 100), Some(1.0));
            prop_assert!((ndcg(&shares, truth).expect("named") - 1.0).abs() < 1e-12);
            let all: Vec<usize> = (0..shares.len()).collect();
            prop_assert_eq!(hit_rate(&shares, &all, 150), Some(1.0));
        }
    }
}
