//! Several objectives: who is dominated by whom, and how crowded the front is.

use crate::designers::Ask;
use crate::{Objective, Study};

/// The losses (small is good) of completed, usable trials in every objective, with each trial's place; trials that lack
/// one of the metrics are left out.
pub(crate) fn losses(ask: &Ask<'_>) -> Vec<(usize, Vec<f64>)> {
    let objectives: Vec<&Objective> = std::iter::once(ask.objective).chain(ask.also).collect();
    ask.safe_losses()
        .into_iter()
        .filter_map(|(i, _)| {
            let m = ask.trials[i].usable()?;
            let values = objectives
                .iter()
                .map(|o| Some(o.goal.sign() * m.metric(&o.metric, &ask.objective.metric)?.value))
                .collect::<Option<Vec<f64>>>()?;
            Some((i, values))
        })
        .collect()
}

/// Whether `a` is nowhere worse and somewhere better.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// The front of each point, 0 for those that nobody dominates (Deb et al. 2002, doi:10.1109/4235.996017, section III).
/// O(n^2 m).
pub(crate) fn fronts(points: &[Vec<f64>]) -> Vec<usize> {
    let n = points.len();
    let mut above: Vec<usize> = (0..n).map(|i| points.iter().filter(|p| dominates(p, &points[i])).count()).collect();
    let mut front = vec![usize::MAX; n];
    let mut rank = 0;
    let mut left = n;
    while left > 0 {
        let here: Vec<usize> = (0..n).filter(|i| front[*i] == usize::MAX && above[*i] == 0).collect();
        for &i in &here {
            front[i] = rank;
        }
        for &i in &here {
            for j in 0..n {
                if front[j] == usize::MAX && dominates(&points[i], &points[j]) {
                    above[j] -= 1;
                }
            }
        }
        left -= here.len();
        rank += 1;
    }
    front
}

/// Crowding distance within each front: the sum over objectives of the gap between a point's neighbours, in units of the
/// front's extent; infinite at the ends.
pub(crate) fn crowding(points: &[Vec<f64>], front: &[usize]) -> Vec<f64> {
    let mut out = vec![0.0; points.len()];
    let last = front.iter().max().copied().unwrap_or(0);
    for rank in 0..=last {
        let members: Vec<usize> = (0..points.len()).filter(|i| front[*i] == rank).collect();
        let objectives = points.first().map_or(0, Vec::len);
        for k in 0..objectives {
            let mut order = members.clone();
            order.sort_by(|a, b| points[*a][k].total_cmp(&points[*b][k]).then(a.cmp(b)));
            let (Some(&first), Some(&end)) = (order.first(), order.last()) else { continue };
            let extent = points[end][k] - points[first][k];
            out[first] = f64::INFINITY;
            out[end] = f64::INFINITY;
            if extent > 0.0 {
                for w in order.windows(3) {
                    out[w[1]] += (points[w[2]][k] - points[w[0]][k]) / extent;
                }
            }
        }
    }
    out
}

impl Study {
    /// The completed trials that no other beats in all objectives, best in the first objective first. With one objective
    /// this is the best measured trial and its equals.
    pub fn pareto(&self) -> Vec<u64> {
        let ask = self.view();
        let all = losses(&ask);
        let points: Vec<Vec<f64>> = all.iter().map(|l| l.1.clone()).collect();
        let front = fronts(&points);
        let mut best: Vec<usize> = (0..all.len()).filter(|k| front[*k] == 0).collect();
        best.sort_by(|a, b| points[*a][0].total_cmp(&points[*b][0]).then(a.cmp(b)));
        best.into_iter().map(|k| self.trials()[all[k].0].id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_and_crowding() {
        let p: Vec<Vec<f64>> =
            [[1.0, 5.0], [2.0, 3.0], [4.0, 1.0], [3.0, 4.0], [5.0, 5.0]].iter().map(|v| v.to_vec()).collect();
        let f = fronts(&p);
        assert_eq!(f, vec![0, 0, 0, 1, 2]);
        let c = crowding(&p, &f);
        assert!(c[0].is_infinite() && c[2].is_infinite());
        assert!((c[1] - 2.0).abs() < 1e-12, "the whole extent of both objectives: {}", c[1]);
        assert_eq!(fronts(&[vec![1.0], vec![1.0]]), vec![0, 0], "equals do not dominate");
    }
}
