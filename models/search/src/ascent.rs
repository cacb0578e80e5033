//! Climbing over a mixed space: gradient steps over smooth parameters, moves to neighbours over all others.

use crate::minimise::minimise;
use crate::space::Domain;
use crate::{Assignment, SearchSpace};
use std::f64::consts::FRAC_PI_2;

/// Places of the features that a gradient may move under `assignment`: (feature, parameter).
fn smooth(space: &SearchSpace, assignment: &Assignment) -> Vec<(usize, usize)> {
    let groups = space.feature_groups();
    (0..groups.len())
        .filter(|&k| {
            let p = &space.parameters()[groups[k]];
            p.is_smooth() && assignment.contains_key(p.name())
        })
        .map(|k| (k, groups[k]))
        .collect()
}

/// The best point near `start` by L-BFGS over the smooth features, in `evaluations`; `f` gives value and gradient over
/// all features and is made large. The box is kept by `x = a + (b - a) sin^2 t`, which reaches its faces.
pub(crate) fn climb_smooth<F: Fn(&[f64]) -> (f64, Vec<f64>)>(
    space: &SearchSpace,
    start: &Assignment,
    f: &F,
    evaluations: usize,
) -> Assignment {
    let moved = smooth(space, start);
    if moved.is_empty() {
        return start.clone();
    }
    let base = space.features(start);
    let ranges: Vec<(f64, f64)> = moved.iter().map(|(_, p)| space.unit_range(*p)).collect();
    let angles: Vec<f64> = moved
        .iter()
        .zip(&ranges)
        .map(|((k, _), (a, b))| {
            // Off the very ends, where the transformed gradient vanishes.
            let u = if b > a { ((base[*k] - a) / (b - a)).clamp(1e-3, 1.0 - 1e-3) } else { 0.5 };
            u.sqrt().asin()
        })
        .collect();
    let features = |t: &[f64]| {
        let mut q = base.clone();
        for (((k, _), (a, b)), t) in moved.iter().zip(&ranges).zip(t) {
            q[*k] = a + (b - a) * t.sin().powi(2);
        }
        q
    };
    let cost = |t: &[f64]| {
        let (v, g) = f(&features(t));
        let g = moved.iter().zip(&ranges).zip(t).map(|(((k, _), (a, b)), t)| -g[*k] * (b - a) * (2.0 * t).sin());
        (-v, g.collect())
    };
    let (t, value) = minimise(&cost, angles, evaluations);
    if !value.is_finite() || t.iter().any(|v| v.abs() > 1e6 * FRAC_PI_2) {
        return start.clone();
    }
    let q = features(&t);
    let mut unit = space.to_unit(start);
    for (k, p) in &moved {
        unit[*p] = q[*k];
    }
    space.from_unit(&unit)
}

/// The configurations one move away from `a`: every other choice, the next level up and down, and for coarse lists every
/// level; none for real parameters.
pub(crate) fn neighbours(space: &SearchSpace, a: &Assignment) -> Vec<Assignment> {
    let unit = space.to_unit(a);
    let mut out = Vec::new();
    for (i, p) in space.parameters().iter().enumerate() {
        let Some(value) = a.get(p.name()) else { continue };
        let mut push = |u: f64| {
            let mut moved = unit.clone();
            moved[i] = u;
            let b = space.from_unit(&moved);
            if b.get(p.name()).is_some_and(|v| !v.same(value)) {
                out.push(b);
            }
        };
        for v in (0..p.specials().len()).map(|k| p.special(k)).filter(|v| p.within_reach(v)) {
            push(p.position(&v));
        }
        match (p.domain(), p.count()) {
            (Domain::Real { .. }, _) | (_, None) if p.specials().is_empty() => {}
            (Domain::Real { .. }, _) | (_, None) => {
                // No gradient moves it: small steps, and back from a special value into the range.
                let (low, high) = p.grid_range();
                let here = unit[i].clamp(low, high);
                for step in [-0.1, -0.02, 0.0, 0.02, 0.1] {
                    push((here + step * (high - low)).clamp(low, high));
                }
            }
            (Domain::Choice { .. }, Some(n)) => (0..n).for_each(|k| push((k as f64 + 0.5) / n as f64)),
            (_, Some(n)) if n <= 8 => (0..n).for_each(|k| push(p.position(&p.reachable(k)))),
            (_, Some(_)) => {
                let (first, last) = p.level_range();
                let here = p.level_index(value);
                for step in [1, 3] {
                    push(p.position(&p.level(here.saturating_sub(step).max(first))));
                    push(p.position(&p.level((here + step).min(last))));
                }
            }
        }
    }
    out
}

/// Steepest ascent over [`neighbours`] for at most `rounds`; `value` is made large, `allowed` filters where to end. The
/// result is the best allowed configuration met, `None` when none was allowed.
pub(crate) fn climb_moves(
    space: &SearchSpace,
    start: Assignment,
    value: &impl Fn(&Assignment) -> f64,
    allowed: &impl Fn(&Assignment) -> bool,
    rounds: usize,
) -> Option<(Assignment, f64)> {
    let mut best: Option<(Assignment, f64)> = None;
    let mut here = (value(&start), start);
    let keep = |a: &Assignment, v: f64, best: &mut Option<(Assignment, f64)>| {
        if best.as_ref().is_none_or(|b| v > b.1) && allowed(a) {
            *best = Some((a.clone(), v));
        }
    };
    keep(&here.1, here.0, &mut best);
    for _ in 0..rounds {
        let mut next: Option<(f64, Assignment)> = None;
        for b in neighbours(space, &here.1) {
            let v = value(&b);
            keep(&b, v, &mut best);
            if v > here.0 && next.as_ref().is_none_or(|n| v > n.0) {
                next = Some((v, b));
            }
        }
        match next {
            Some(n) => here = n,
            None => break,
        }
    }
    best
}
