//! What a session found out, for people and for programs.

use super::confirm::{Verdict, level};
use super::emit::plain;
use super::session::Outcome;
use crate::answer::table;
use crate::{Answer, TrainError};
use foreglow_core::stats::{normal_quantile, student_t_quantile};
use foreglow_search::recommend::{Change, ConfirmVerdict, Confirmation, Round};
use foreglow_search::{Advice, Assignment, Recommendation, SearchSpace, Study, Trial, TrialState};
use serde::Serialize;
use std::fmt::Write;

/// The best configuration so far, as sure as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Incumbent {
    pub(crate) trial: u64,
    pub(crate) parameters: Assignment,
    /// The objective's expected value: of the posterior once there is one, else as measured.
    pub(crate) value: f64,
    pub(crate) i80: Option<[f64; 2]>,
    pub(crate) i95: Option<[f64; 2]>,
    /// `posterior`, or `measured` while too few trials are known for a model.
    pub(crate) by: &'static str,
}

/// The best configuration of a study: by posterior, since the best of many measured values is the luckiest.
pub(crate) fn incumbent(study: &Study) -> Option<Incumbent> {
    let (id, predicted) = study.best_by_posterior()?;
    let trial = study.trial(id).ok()?;
    let measured = trial.usable()?;
    let parameters = trial.parameters.clone();
    let around = |value: f64, sd: f64, quantile: &dyn Fn(f64) -> f64| {
        let at = |level: f64| {
            let z = quantile(0.5 + level / 2.0);
            [value - z * sd, value + z * sd]
        };
        (Some(at(0.8)), Some(at(0.95)))
    };
    if let Some(p) = predicted {
        let (i80, i95) = around(p.mean, p.sd, &normal_quantile);
        return Some(Incumbent { trial: id, parameters, value: p.mean, i80, i95, by: "posterior" });
    }
    let freedom = f64::from(measured.replicates) - 1.0;
    let (i80, i95) = match measured.se {
        Some(se) if freedom >= 1.0 => around(measured.value, se, &|q| student_t_quantile(q, freedom)),
        _ => (None, None),
    };
    Some(Incumbent { trial: id, parameters, value: measured.value, i80, i95, by: "measured" })
}

/// The incumbent in a few words, for a line that is redrawn.
pub(crate) fn incumbent_words(study: &Study) -> Option<String> {
    let best = study.best_measured()?;
    let value = best.usable().map(|m| short(m.value))?;
    Some(format!(", best {value}"))
}

impl Incumbent {
    /// One line: where, what, and how sure.
    pub(crate) fn describe(&self, study: &Study) -> String {
        let of = |i: [f64; 2]| format!("{} to {}", short(i[0]), short(i[1]));
        let sure = match (self.i80, self.i95) {
            (Some(a), Some(b)) => format!("80 %: {}; 95 %: {}", of(a), of(b)),
            _ => "measured once: no interval".to_owned(),
        };
        format!(
            "trial {}, {}: {} {} ({sure})",
            self.trial,
            words(study.space(), &self.parameters),
            study.spec().objective.metric,
            short(self.value)
        )
    }
}

/// A configuration as `name=value` words.
fn words(space: &SearchSpace, a: &Assignment) -> String {
    let names = space.parameters().iter().map(foreglow_search::space::Parameter::name);
    names.filter_map(|n| Some(format!("{n}={}", value(a.get(n)?)))).collect::<Vec<_>>().join(" ")
}

fn value(v: &foreglow_search::Value) -> String {
    match v {
        foreglow_search::Value::Float(f) => short(*f),
        other => plain(other),
    }
}

/// A number with 4 digits that count.
pub(crate) fn short(v: f64) -> String {
    let size = v.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{v:.3e}");
    }
    let before = if size >= 1.0 { size.log10().floor() as usize + 1 } else { 0 };
    let text = format!("{v:.*}", 4usize.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Rows of trials that are printed one at a time: the widths stay as they began.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    metric: String,
    names: Vec<String>,
}

impl Columns {
    pub(crate) fn new(space: &SearchSpace, metric: &str) -> Self {
        let names = space.parameters().iter().map(|p| p.name().to_owned()).collect();
        Self { metric: metric.to_owned(), names }
    }

    fn cell(name: &str, text: &str) -> String {
        format!("{text:>w$}", w = name.chars().count().max(8))
    }

    fn line(&self, id: &str, values: &[String], y: &str, se: &str, state: &str) -> String {
        let values = self.names.iter().zip(values).map(|(n, v)| Self::cell(n, v));
        let mut cells = vec![format!("{id:>5}")];
        cells.extend(values);
        cells.extend([Self::cell(&self.metric, y), Self::cell("", se), state.to_owned()]);
        cells.join("  ").trim_end().to_owned()
    }

    pub(crate) fn head(&self) -> String {
        self.line("trial", &self.names, &self.metric, "+-", "")
    }

    pub(crate) fn row(&self, t: &Trial, note: &str) -> String {
        let values: Vec<String> =
            self.names.iter().map(|n| t.parameters.get(n).map_or("-".to_owned(), value)).collect();
        let [y, se, state] = outcome(t, note);
        self.line(&t.id.to_string(), &values, &y, &se, &state)
    }
}

/// Value, standard error and what else is to be said about a trial.
fn outcome(t: &Trial, note: &str) -> [String; 3] {
    let measured = t.measurement.as_ref();
    let y = measured.map_or("-".to_owned(), |m| short(m.value));
    let se = measured.and_then(|m| m.se).map_or("-".to_owned(), short);
    let state = match &t.state {
        TrialState::Failed { reason } => format!("failed: {reason}"),
        TrialState::Unsafe { reason } => format!("unsafe: {reason}"),
        TrialState::Pending => "pending".to_owned(),
        TrialState::Completed if !note.is_empty() => note.to_owned(),
        TrialState::Completed if t.id == 0 && t.predicted.is_none() => String::new(),
        TrialState::Completed => t.replicate_of.map_or(String::new(), |n| format!("repeats {n}")),
    };
    [y, se, state]
}

#[derive(Serialize)]
struct Json<'a> {
    study: &'a str,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_because: Option<&'a str>,
    trials: &'a [Trial],
    notes: &'a [String],
    incumbent: Option<Incumbent>,
    recommendation: &'a Advice,
    /// How the recommendation was confirmed or refused.
    confirmation: Option<&'a Confirmation>,
    /// The rounds behind it.
    rounds: &'a [Round],
    journal: String,
}

/// The answer of a finished session.
///
/// # Errors
/// [`TrainError::Json`]
pub(crate) fn answer(outcome: &Outcome, verdict: &Verdict) -> Result<Answer, TrainError> {
    let study = &outcome.study;
    let best = incumbent(study);
    let text = text(outcome, best.as_ref(), verdict);
    let json = Json {
        study: &study.spec().name,
        complete: outcome.ended_because.is_none(),
        ended_because: outcome.ended_because.as_deref(),
        trials: study.trials(),
        notes: &outcome.notes,
        incumbent: best,
        recommendation: &verdict.advice,
        confirmation: verdict.confirmation.as_ref(),
        rounds: &verdict.rounds,
        journal: outcome.journal.display().to_string(),
    };
    Ok(Answer::new(&json, text)?)
}

fn text(outcome: &Outcome, best: Option<&Incumbent>, verdict: &Verdict) -> String {
    let study = &outcome.study;
    let mut out = trials(outcome);
    out.push_str("\n\n");
    let goal = match study.spec().objective.goal {
        foreglow_search::Goal::Min => "small",
        foreglow_search::Goal::Max => "large",
    };
    let count = |f: &dyn Fn(&TrialState) -> bool| study.trials().iter().filter(|t| f(&t.state)).count();
    let failed = count(&|s| matches!(s, TrialState::Failed { .. }));
    let broke = count(&|s| matches!(s, TrialState::Unsafe { .. }));
    let mut item = |name: &str, text: &str| {
        // Writing into text cannot fail.
        let _ = writeln!(out, "{name:<15} {text}");
    };
    item(
        "study",
        &format!(
            "{}: make {} {goal}; {} trials, {failed} failed, {broke} unsafe",
            study.spec().name,
            study.spec().objective.metric,
            study.trials().len()
        ),
    );
    if let Some(because) = &outcome.ended_because {
        item("ended early", because);
    }
    if let Some(best) = best {
        item("best so far", &best.describe(study));
    }
    match &verdict.advice {
        Advice::None { none_because } => {
            item("recommendation", &format!("none: {none_because}"));
            confirmation(study, verdict, &mut item);
        }
        Advice::Change(r) => {
            recommendation(study, r, &mut item);
            confirmation(study, verdict, &mut item);
            standing(study, r, &mut item);
        }
    }
    item("journal", &outcome.journal.display().to_string());
    out
}

fn changes(study: &Study, changes: &[Change]) -> String {
    let side = |v: &Option<foreglow_search::Value>| v.as_ref().map_or("-".to_owned(), value);
    let unit = |name: &str| study.space().get(name).and_then(|p| p.spec().unit.clone());
    let words = changes.iter().map(|c| {
        let unit = unit(&c.name).map(|u| format!(" {u}")).unwrap_or_default();
        format!("{} {} -> {}{unit}", c.name, side(&c.from), side(&c.to))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn percent(v: f64) -> String {
    format!("{:+.1} %", 100.0 * v)
}

/// What measuring in turn gave, round by round.
fn confirmation(study: &Study, verdict: &Verdict, item: &mut dyn FnMut(&str, &str)) {
    let Some(c) = &verdict.confirmation else { return };
    let metric = &study.spec().objective.metric;
    let promised = format!("the model of the trials had promised {metric} {}", percent(c.promised.mean));
    match c.verdict {
        ConfirmVerdict::Confirmed => item("confirmation", &format!("confirmed over {} rounds; {promised}", c.rounds)),
        ConfirmVerdict::Refused => item("confirmation", &format!("refused over {} rounds", c.rounds)),
        ConfirmVerdict::Open => item("confirmation", &c.why),
        ConfirmVerdict::Unverified => item("confirmation", &format!("unverified: {}", c.why)),
    }
    let rows = verdict.rounds.iter().enumerate().map(|(n, r)| {
        let [a, b] = [&r.current, &r.recommended].map(|runs| level(runs, metric));
        let difference = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| percent((b - a) / a.abs()));
        let cell = |v: Option<f64>| v.map_or("-".to_owned(), short);
        let first = if r.recommended_first { "recommended" } else { "current" };
        vec![(n + 1).to_string(), first.to_owned(), cell(a), cell(b), difference.unwrap_or_else(|| "-".to_owned())]
    });
    if rows.len() > 0 {
        for line in table(&["round", "first", "current", "recommended", "difference"], 2, rows).lines() {
            item("", line);
        }
    }
}

fn recommendation(study: &Study, r: &Recommendation, item: &mut dyn FnMut(&str, &str)) {
    item("recommendation", &changes(study, &r.change));
    let of = |i: [f64; 2]| format!("{} to {}", percent(i[0]), percent(i[1]));
    let rows = r
        .effect
        .iter()
        .map(|e| vec![e.metric.clone(), percent(e.relative.mean), of(e.relative.i80), of(e.relative.i95)]);
    let confirmed = r.confirmation.as_ref().is_some_and(|c| c.verdict == ConfirmVerdict::Confirmed);
    let head = if confirmed { "measured on" } else { "expected on" };
    for line in table(&[head, "mean", "80 % interval", "95 % interval"], 1, rows).lines() {
        item("", line);
    }
}

/// What stands beside the change and its effect.
fn standing(study: &Study, r: &Recommendation, item: &mut dyn FnMut(&str, &str)) {
    for b in &r.p_break {
        item("guard-rail", &format!("{} breaks {} with probability {:.3}", b.metric, short(b.limit), b.probability));
    }
    let nearest = &r.evidence.nearest;
    item(
        "evidence",
        &format!(
            "{} trials, {} runs; the nearest measured is trial {}{}",
            r.evidence.trials,
            r.evidence.replicates,
            nearest.trial,
            if nearest.distance < 1e-9 {
                ", this very one".to_owned()
            } else {
                format!(", {:.2} away", nearest.distance)
            }
        ),
    );
    let drivers = r.drivers.iter().filter(|d| d.importance >= 0.005);
    let drivers: Vec<String> = drivers.map(|d| format!("{} {:.2}", d.name, d.importance)).collect();
    item("drivers", &if drivers.is_empty() { "none".to_owned() } else { drivers.join(", ") });
    let reasons =
        if r.risk.reasons.is_empty() { "nothing speaks against it".to_owned() } else { r.risk.reasons.join("; ") };
    item("risk", &format!("{}: {reasons}", format!("{:?}", r.risk.level).to_lowercase()));
    item("cost", &r.cost.to_string());
    item("rollback", &changes(study, &r.rollback));
}

fn trials(outcome: &Outcome) -> String {
    let study = &outcome.study;
    let names: Vec<&str> = study.space().parameters().iter().map(foreglow_search::space::Parameter::name).collect();
    let mut head = vec!["trial"];
    head.extend(&names);
    head.extend([study.spec().objective.metric.as_str(), "+-"]);
    let columns = head.len();
    let mut notes = Vec::new();
    let rows: Vec<Vec<String>> = study
        .trials()
        .iter()
        .zip(&outcome.notes)
        .map(|(t, note)| {
            let cells = names.iter().map(|n| t.parameters.get(*n).map_or("-".to_owned(), value));
            let [y, se, state] = self::outcome(t, note);
            notes.push(state);
            std::iter::once(t.id.to_string()).chain(cells).chain([y, se]).collect()
        })
        .collect();
    debug_assert!(rows.iter().all(|r| r.len() == columns));
    let plain = table(&head, 0, rows);
    // What is said about a trial stands behind its row, flush left and as long as it is.
    let lines = plain.lines().enumerate().map(|(i, l)| match i.checked_sub(1).and_then(|i| notes.get(i)) {
        Some(n) if !n.is_empty() => format!("{l}  {n}"),
        _ => l.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn four_digits_count() {
        let cases =
            [(1234.56, "1235"), (12.3456, "12.35"), (0.012345, "0.0123"), (8.0, "8"), (0.0, "0"), (-0.5, "-0.5")];
        for (v, text) in cases {
            assert_eq!(short(v), text);
        }
        assert_eq!(short(1.5e-7), "1.500e-7");
        assert_eq!(short(123_456.7), "123457");
    }
}
