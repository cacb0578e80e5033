//! What trials of other environments say about this one, and whether they say anything.

use super::model::{Inputs, half_rank};
use super::{Ask, Proposal};
use crate::context::{ContextScale, environment};
use crate::gp::{Data, Gp, Hyper, Sources};
use crate::surrogate::{fit_thinned, positive, thin};
use crate::{Assignment, Trial, assignment_key, stats};
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The fewest usable trials from which another environment is learned.
const FEWEST: usize = 8;
/// The most environments and trials of each: those with the most trials count.
const MOST_SOURCES: usize = 6;
const MOST_TRIALS: usize = 100;

/// One process for every other environment, on losses of mean 0 and variance 1.
fn learned(ask: &Ask<'_>, inputs: &Inputs<'_>, groups: &[usize]) -> Vec<(String, Gp)> {
    let here = environment(ask.context);
    let sign = ask.objective.goal.sign();
    let mut elsewhere: BTreeMap<String, Vec<(&Trial, f64)>> = BTreeMap::new();
    for t in ask.trials {
        let Some(m) = t.usable() else { continue };
        let e = environment(&t.context);
        if e != here {
            elsewhere.entry(e).or_default().push((t, sign * m.value));
        }
    }
    let mut order: Vec<(String, Vec<(&Trial, f64)>)> =
        elsewhere.into_iter().filter(|(_, t)| t.len() >= FEWEST).collect();
    order.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(&b.0)));
    order.truncate(MOST_SOURCES);
    order
        .into_iter()
        .filter_map(|(name, trials)| {
            let losses: Vec<f64> = trials.iter().map(|t| t.1).collect();
            let kept = thin(&losses, MOST_TRIALS);
            let warped = half_rank(&kept.iter().map(|k| losses[*k]).collect::<Vec<_>>());
            let (centre, scale) = (stats::mean(&warped), positive(stats::sd(&warped)));
            let data = Data {
                x: kept.iter().map(|k| inputs.of(trials[*k].0)).collect(),
                y: warped.iter().map(|w| (w - centre) / scale).collect(),
                known: vec![0.0; kept.len()],
            };
            let hyper = fit_thinned(&data, 1.0, groups, inputs.len());
            Some((name, Gp::new(&hyper, groups, &data)?))
        })
        .collect()
}

/// Hyper-parameters for `data`, the sources that help to predict them, and what to say about it.
///
/// With other environments there are two candidates: the process alone, and one with a linear part over what the other
/// environments' processes say. The one that predicts each trial better when it is left out is taken, so that an
/// unrelated environment costs nothing but time.
pub(super) fn learn(
    ask: &Ask<'_>,
    inputs: &Inputs<'_>,
    groups: &[usize],
    data: &Data,
) -> Option<(Hyper, Option<Arc<Sources>>, String)> {
    let alone = fit_thinned(data, 1.0, groups, inputs.len());
    let sources = learned(ask, inputs, groups);
    if sources.is_empty() {
        return Some((alone, None, String::new()));
    }
    let (names, processes): (Vec<String>, Vec<Gp>) = sources.into_iter().unzip();
    let weight = (1.0 / names.len() as f64, 0.25);
    let sources = Arc::new(Sources { processes, weight });
    // What is left after a first guess of the weights decides the lengths of the process's own part.
    let first = Gp::with_sources(&alone, groups, data, Some(sources.clone()))?;
    let weights = first.source_weights();
    let left: Vec<f64> = data
        .x
        .iter()
        .zip(&data.y)
        .map(|(q, y)| y - sources.processes.iter().zip(&weights).map(|(p, w)| w * p.mean(q)).sum::<f64>())
        .collect();
    let rest = Data { x: data.x.clone(), y: left, known: data.known.clone() };
    let with = fit_thinned(&rest, 1.0, groups, inputs.len());
    let gp = Gp::with_sources(&with, groups, data, Some(sources.clone()))?;
    let plain = Gp::new(&alone, groups, data)?;
    let total = names.len();
    if gp.leave_one_out_density() > plain.leave_one_out_density() {
        let parts: Vec<String> =
            names.iter().zip(gp.source_weights()).map(|(n, w)| format!("{n} with weight {w:.2}")).collect();
        return Some((with, Some(sources), format!("other environments help: {}", parts.join(", "))));
    }
    Some((alone, None, format!("{total} other environments are unrelated and left out")))
}

/// The `k`-th first trial out of what was best elsewhere: the environments take turns.
pub(super) fn from_elsewhere(ask: &Ask<'_>, k: usize) -> Option<Proposal> {
    let scale = ContextScale::of(ask.trials);
    let inputs = Inputs { space: ask.space, context: &scale };
    let groups = inputs.groups();
    let sources = learned(ask, &inputs, &groups);
    let (name, gp) = sources.get(k % sources.len().max(1))?;
    let at = scale.features(ask.context);
    let seen = ask.seen();
    let mut rng = ask.rng("elsewhere");
    let mut pool: Vec<Assignment> = ask.trials.iter().map(|t| t.parameters.clone()).collect();
    pool.drain(..pool.len().saturating_sub(600));
    pool.extend((0..200).map(|_| {
        let unit: Vec<f64> = (0..ask.space.len()).map(|_| rng.r#gen()).collect();
        ask.space.from_unit(&ask.space.spread(&unit))
    }));
    let value = |a: &Assignment| {
        let mut q = ask.space.features(a);
        q.extend(&at);
        gp.mean(&q)
    };
    let within = |a: &Assignment| {
        ask.space.keeps_rules(a)
            && ask.space.parameters().iter().all(|p| a.get(p.name()).is_none_or(|v| p.within_reach(v)))
    };
    let best = pool
        .into_iter()
        .filter(|a| within(a) && !seen.contains(&assignment_key(a)))
        .map(|a| (value(&a), a))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Proposal::plain(best.1, format!("one of the first trials: the best by what was learned in {name}")))
}
