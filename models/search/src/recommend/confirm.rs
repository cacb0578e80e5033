//! Measuring a recommended configuration and the current one in turn, before anything is promised of it.
//!
//! Trials run one after another, so whatever else changed meanwhile (another load on the machine, a warming cache) looks
//! like an effect, and no model of the trials can tell. In a round both configurations are measured one right after the
//! other; a coin decides which comes first, and the next round has the other order (ABBA), so that drift cancels.

use super::{Advice, MetricEffect, Recommendation, Relative, SMALLEST_EFFECT, judge};
use crate::experiment::{Boundary, Period, SwitchbackDifference, SwitchbackPlan, compare_periods};
use crate::{Study, stats};
use foreglow_core::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fewest rounds that are planned without being asked for.
pub const FEWEST_ROUNDS: usize = 4;
/// The most rounds that are planned without being asked for, and those after which what fewer left open is settled.
pub const MOST_ROUNDS: usize = 12;
/// The probability of a wrong confirmation, two-sided.
const ALPHA: f64 = 0.05;
/// The share of it that the look after the planned rounds spends where there may be a second one, which has the rest: in
/// four rounds one hiccup of the machine hides everything.
const FIRST_LOOK: f64 = 0.8;
/// From so many rounds on the outermost differences are left out,
const TRIMMED_FROM: usize = 10;
/// this share of them on each side.
const TRIMMED: f64 = 0.2;

/// What the runs of one configuration gave, by metric.
pub type Runs = BTreeMap<String, Vec<f64>>;

/// Both configurations measured, one right after the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Round {
    /// Whether the recommended configuration came first.
    pub recommended_first: bool,
    /// Runs of the current configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub current: Runs,
    /// Runs of the recommended configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recommended: Runs,
    /// Why the round counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<RoundFailure>,
}

/// Why a round counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundFailure {
    /// Whether it was the recommended configuration that could not be measured: then it is not recommended.
    pub recommended: bool,
    /// What happened.
    pub reason: String,
}

/// What measuring in turn says about a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmVerdict {
    /// The measured effect is an improvement at 95 %, and no guard-rail broke.
    Confirmed,
    /// It is not: nothing is recommended.
    Refused,
    /// Rounds are missing.
    Open,
    /// Nothing was measured in turn, on request: the promise is the model's alone.
    Unverified,
}

/// A recommendation after measuring it in turn with the current configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// What follows.
    pub verdict: ConfirmVerdict,
    /// Rounds in which both configurations were measured.
    pub rounds: usize,
    /// Rounds that were planned, or that it goes on to because those left it open.
    pub planned: usize,
    /// The effect on the objective that the model of the trials had promised.
    pub promised: Relative,
    /// The measured effects, the objective first; empty below 2 rounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<MetricEffect>,
    /// In words.
    pub why: String,
}

/// Whether the recommended configuration comes first in round `round`, counted from 0: a coin for every two rounds, which
/// have opposite orders.
pub fn recommended_first(seed: Seed, round: usize) -> bool {
    SwitchbackPlan { period: 1, washout: 0, seed: seed.child("confirm") }.treated(round as u64)
}

/// Rounds that tell a relative `effect` from none (5 % two-sided, 80 % power) when one round's difference has the relative
/// standard deviation `sd`: from [`FEWEST_ROUNDS`] to [`MOST_ROUNDS`], the former when `sd` is not known.
pub fn rounds_needed(effect: f64, sd: Option<f64>) -> usize {
    let Some(sd) = sd else { return FEWEST_ROUNDS };
    let enough = |n: &usize| {
        let n = *n as f64;
        let needed = Boundary::Fixed.critical(n, ALPHA) + Boundary::Fixed.critical(n, 0.4);
        effect.abs() * n.sqrt() >= needed * sd
    };
    (FEWEST_ROUNDS..MOST_ROUNDS).find(enough).unwrap_or(MOST_ROUNDS)
}

/// How many rounds there may be where `planned` are: what they leave open, and looks like an improvement, goes on.
pub fn rounds_at_most(planned: usize) -> usize {
    if planned == 0 { 0 } else { planned.max(MOST_ROUNDS) }
}

impl Round {
    /// The runs of one configuration.
    pub fn side_mut(&mut self, recommended: bool) -> &mut Runs {
        if recommended { &mut self.recommended } else { &mut self.current }
    }
}

impl Confirmation {
    /// That nothing was measured in turn, because nobody wanted it.
    pub fn skipped(r: &Recommendation) -> Option<Self> {
        let why = "the effect is what a model of the trials expects; it was not measured in turn with the current \
                   configuration"
            .to_owned();
        let promised = r.effect.first()?.relative;
        Some(Self { verdict: ConfirmVerdict::Unverified, rounds: 0, planned: 0, promised, measured: Vec::new(), why })
    }

    /// What `rounds` of `planned` ones say about `r`, which `study` recommended; `None` for a recommendation without an
    /// effect, which [`Study::recommend`] never makes.
    pub fn of(study: &Study, r: &Recommendation, rounds: &[Round], planned: usize) -> Option<Self> {
        // What the planned rounds settled stays so, whatever else was measured.
        if rounds.len() > planned
            && let Some(first) = Self::of(study, r, &rounds[..planned], planned).filter(Self::is_over)
        {
            return Some(first);
        }
        let promised = r.effect.first()?;
        let mut metrics = vec![promised.metric.clone()];
        let more = study.spec().guard_rails.iter().map(|g| &g.metric).chain(r.effect.iter().map(|e| &e.metric));
        for m in more {
            if !metrics.contains(m) {
                metrics.push(m.clone());
            }
        }
        let effect = |metric: &String| {
            Some(MetricEffect { metric: metric.clone(), relative: difference(rounds, metric)?.relative()? })
        };
        let measured: Vec<MetricEffect> = metrics.iter().filter_map(effect).collect();
        let whole = rounds.iter().filter(|r| r.failed.is_none()).count();
        let mut out = Self {
            verdict: ConfirmVerdict::Refused,
            rounds: whole,
            planned,
            promised: promised.relative,
            why: String::new(),
            measured,
        };
        let figure = out.measured.first().filter(|e| e.metric == promised.metric).map(|e| e.relative);
        let (verdict, because) = out.judge(study, rounds, figure);
        out.verdict = verdict;
        if rounds.len() > planned || (rounds.len() == planned && verdict == ConfirmVerdict::Open) {
            out.planned = rounds_at_most(planned);
        }
        let mut seen = format!(
            "measured in turn with the current configuration over {whole} round{} it was ",
            if whole == 1 { "" } else { "s" }
        );
        seen += &figure.map_or("nothing that an interval can be put around".to_owned(), |m| {
            format!("{} (95 %: {} to {})", percent(m.mean), percent(m.i95[0]), percent(m.i95[1]))
        });
        out.why = if promised.relative.may_be_none() {
            format!(
                "the model of the trials expected of {} {}, which may be none; {seen}",
                promised.metric, promised.relative
            )
        } else {
            format!("the model of the trials promised {} {}; {seen}", promised.metric, percent(promised.relative.mean))
        };
        if !because.is_empty() {
            out.why = format!("{}: {because}", out.why);
        }
        Some(out)
    }

    fn judge(&self, study: &Study, rounds: &[Round], figure: Option<Relative>) -> (ConfirmVerdict, String) {
        use ConfirmVerdict::{Confirmed, Open, Refused};
        let unable =
            rounds.iter().enumerate().find_map(|(i, r)| Some((i, r.failed.as_ref().filter(|f| f.recommended)?)));
        if let Some((i, f)) = unable {
            let problem =
                format!("in round {} the recommended configuration could not be measured: {}", i + 1, f.reason);
            return (Refused, problem);
        }
        if let Some(broken) = broken(study, rounds) {
            return (Refused, broken);
        }
        let (done, last) = (rounds.len(), rounds_at_most(self.planned));
        if done < self.planned {
            return (Open, format!("{done} of {} rounds are done", self.planned));
        }
        if done > self.planned && done < last {
            return (Open, format!("{} rounds left it open, {done} of {last} are done", self.planned));
        }
        let Some(m) = figure else {
            let last = rounds.iter().rev().find_map(|r| r.failed.as_ref());
            let reason = last.map_or_else(|| "the metric is 0".to_owned(), |f| f.reason.clone());
            return (Refused, format!("too few rounds could be compared: {reason}"));
        };
        let gain = |v: f64| -study.spec().objective.goal.sign() * v;
        let alpha = match (self.planned < last, done < last) {
            (false, _) => ALPHA,
            (true, true) => FIRST_LOOK * ALPHA,
            (true, false) => (1.0 - FIRST_LOOK) * ALPHA,
        };
        let n = difference(rounds, &self.measured[0].metric).map_or(2.0, |d| d.pairs as f64);
        let wider = Boundary::Fixed.critical(n, alpha) / Boundary::Fixed.critical(n, ALPHA);
        let ends = m.i95.map(|end| gain(m.mean + wider * (end - m.mean)));
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        if low > 0.0 && gain(m.mean) >= SMALLEST_EFFECT {
            (Confirmed, String::new())
        } else if low > 0.0 {
            (Refused, "that is too small to matter".to_owned())
        } else if high < 0.0 {
            (Refused, "that is worse".to_owned())
        } else if done < last && gain(m.mean) >= SMALLEST_EFFECT {
            (Open, format!("that may be none, and it goes on to {last} rounds"))
        } else {
            (Refused, "that may be none".to_owned())
        }
    }

    /// Whether further rounds are worth nothing: all are done, or it is refused already.
    pub fn is_over(&self) -> bool {
        self.verdict != ConfirmVerdict::Open
    }
}

/// The paired difference in a metric over whole rounds.
fn difference(rounds: &[Round], metric: &str) -> Option<SwitchbackDifference> {
    let whole = rounds.iter().filter(|r| r.failed.is_none());
    let pairs: Vec<_> = whole.filter_map(|r| Some((r.current.get(metric)?, r.recommended.get(metric)?))).collect();
    if pairs.len() >= TRIMMED_FROM {
        let means: Vec<_> = pairs.iter().map(|(now, then)| (stats::mean(now), stats::mean(then))).collect();
        return Some(trimmed(&means));
    }
    let periods: Vec<Period<'_>> = pairs
        .iter()
        .flat_map(|(now, then)| [Period { treated: false, values: now }, Period { treated: true, values: then }])
        .collect();
    compare_periods(&periods, 0)
}

/// The difference over all rounds but the fifth with the largest and the fifth with the smallest differences, with the
/// standard error of a trimmed mean (Tukey and McLaughlin 1963), which has as many degrees of freedom less.
fn trimmed(pairs: &[(f64, f64)]) -> SwitchbackDifference {
    let off = (TRIMMED * pairs.len() as f64) as usize;
    let middle = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        let kept = &v[off..v.len() - off];
        let held: Vec<f64> = v.iter().map(|x| x.clamp(kept[0], kept[kept.len() - 1])).collect();
        (stats::mean(kept), stats::sd(&held))
    };
    let (value, sd) = middle(pairs.iter().map(|(now, then)| then - now).collect());
    let (n, left) = (pairs.len() as f64, pairs.len() - 2 * off);
    let se = sd * n.sqrt() / left as f64;
    SwitchbackDifference { value, se, pairs: left, base: middle(pairs.iter().map(|p| p.0).collect()).0 }
}

/// The guard-rail that broke, in words. As in a trial, the mean counts; what the limit is relative to was measured in the
/// same rounds.
fn broken(study: &Study, rounds: &[Round]) -> Option<String> {
    study.spec().guard_rails.iter().find_map(|g| {
        let level = |side: fn(&Round) -> &Runs| {
            let means = rounds.iter().filter(|r| r.failed.is_none()).filter_map(|r| side(r).get(&g.metric));
            let means: Vec<f64> = means.map(|v| stats::mean(v)).collect();
            (!means.is_empty()).then(|| stats::mean(&means))
        };
        let (now, then) = (level(|r| &r.current)?, level(|r| &r.recommended)?);
        let (bound, sign) = g.limit();
        let limit = bound.resolve(Some(now))?;
        (sign * then > sign * limit).then(|| {
            format!(
                "guard-rail broken: `{}` was {then:.4} with the recommended configuration and {now:.4} with the current \
                 one; the rule is {}",
                g.metric,
                g.describe()
            )
        })
    })
}

fn percent(v: f64) -> String {
    format!("{:+.1} %", 100.0 * v)
}

impl Recommendation {
    /// The advice after measuring in turn: the promise is what was measured, or there is no recommendation; where rounds
    /// are missing it stays as it is and says so, unless only the rounds could tell. The id stays that of the change.
    pub fn confirmed_by(mut self, c: Confirmation) -> Advice {
        match c.verdict {
            ConfirmVerdict::Refused => return Advice::None { none_because: c.why },
            ConfirmVerdict::Open | ConfirmVerdict::Unverified if c.promised.may_be_none() => {
                return Advice::None { none_because: c.why };
            }
            ConfirmVerdict::Open | ConfirmVerdict::Unverified => {
                self.evidence.unverified = true;
            }
            ConfirmVerdict::Confirmed => {
                for m in &c.measured {
                    match self.effect.iter_mut().find(|e| e.metric == m.metric) {
                        Some(e) => e.relative = m.relative,
                        None => self.effect.push(m.clone()),
                    }
                }
                judge::settle(&mut self.risk);
                if let Some(m) = c.measured.first().map(|e| e.relative) {
                    self.verify.expect = m.i80;
                    // Blocks go with the square of what is to be seen.
                    let blocks = self.verify.blocks as f64 * (c.promised.mean / m.mean).powi(2);
                    self.verify.blocks = (blocks.ceil() as usize).clamp(4, 200);
                }
            }
        }
        self.confirmation = Some(c);
        Advice::Change(Box::new(self))
    }
}
