//! The gate before an artifact serves: it is replayed over labelled test rows, beside the one that serves now.

use crate::backtest::anomaly;
use crate::{Context, TrainError};
use foreglow_core::Seed;
use foreglow_datasets::Dataset;
use foreglow_models::artifact::Artifact;
use foreglow_models::evaluate::report::{AnomalyReport, DetectorReport, Protocol, Role};
use foreglow_models::evaluate::{Difference, paired_difference};
use serde_json::{Value, json};

/// False alerts a day may exceed the budget that many times over before they count against an artifact.
const PATIENCE: f64 = 2.0;

/// What test rows say of an artifact.
#[derive(Debug)]
pub struct Figures {
    report: AnomalyReport,
    sha256: String,
}

/// A candidate beside the artifact that serves.
#[derive(Debug)]
pub struct Verdict {
    /// The candidate.
    pub candidate: Figures,
    /// The artifact that serves now, where there is another.
    pub current: Option<Figures>,
    /// The candidate's VUS-PR less that of the current one, over the series that both were judged on.
    pub difference: Option<Difference>,
    /// Why the candidate had better not serve.
    pub refused: Option<String>,
}

impl Figures {
    /// Replays an artifact over the test rows of `data`, causally, by the code of the backtest.
    ///
    /// # Errors
    /// [`TrainError::Data`] when no series has labelled test rows, and as [`anomaly::run`].
    pub fn of(artifact: &Artifact, data: &Dataset, context: &Context) -> Result<Self, TrainError> {
        let name = format!("{}/{}", artifact.manifest.name, artifact.manifest.id);
        let options = anomaly::AnomalyOptions {
            model: anomaly::Model::Replay(vec![artifact.clone()]),
            name: name.clone(),
            protocol: Protocol::Causal,
            expected_all: false,
            seed: Seed::default(),
        };
        let outcome = anomaly::run(data, options, context)?;
        if !outcome.complete {
            return Err(TrainError::Interrupted(format!("{name} was not replayed to its end; nothing has changed")));
        }
        let it = Self { report: outcome.report, sha256: data.sha256()? };
        if it.subject().and_then(|s| s.means.vus_pr).is_none() {
            return Err(TrainError::Data(format!(
                "{}: no test row that {name} serves is labelled with both 0 and 1, so there is nothing to judge it by: \
                 give data with a truth column, or leave --data out",
                data.name
            )));
        }
        Ok(it)
    }

    fn subject(&self) -> Option<&DetectorReport> {
        self.report.detectors.first()
    }

    fn baseline(&self, name: &str) -> Option<f64> {
        self.report.detectors.iter().find(|d| d.name == name).and_then(|d| d.means.vus_pr)
    }

    /// As a manifest keeps them: no time and no machine, so that the same fit has the same id.
    pub fn value(&self) -> Value {
        let baselines: serde_json::Map<String, Value> = self
            .report
            .detectors
            .iter()
            .filter(|d| d.role == Role::Baseline)
            .map(|d| (d.name.clone(), json!(d.means.vus_pr)))
            .collect();
        json!({"task": "anomaly", "protocol": self.report.provenance.protocol, "data": self.report.provenance.data,
            "data_sha256": self.sha256, "budget_per_day": self.report.budget_per_day,
            "means": self.subject().map(|s| &s.means), "baselines_vus_pr": baselines})
    }
}

/// Judges a candidate by labelled test rows. It is refused when it ranks no better than chance, when its VUS-PR is below
/// that of the current artifact and the paired 95 % interval over series leaves no doubt, or when it alerts falsely more
/// than twice as often as its budget and more often than the current one.
///
/// # Errors
/// As [`Figures::of`].
pub fn judge(
    candidate: &Artifact,
    current: Option<&Artifact>,
    data: &Dataset,
    context: &Context,
) -> Result<Verdict, TrainError> {
    let ours = Figures::of(candidate, data, context)?;
    let theirs = current.map(|a| Figures::of(a, data, context)).transpose()?;
    let difference = theirs.as_ref().and_then(|t| difference(&ours, t));
    let refused = refusal(&ours, theirs.as_ref(), difference.as_ref());
    Ok(Verdict { candidate: ours, current: theirs, difference, refused })
}

fn difference(ours: &Figures, theirs: &Figures) -> Option<Difference> {
    let (a, b) = (ours.subject()?, theirs.subject()?);
    let of = |d: &DetectorReport, name: &str| {
        let found = d.series.iter().find(|s| s.series == name).and_then(|s| s.rank.as_ref());
        found.map_or(f64::NAN, |r| r.vus_pr)
    };
    let (ours, theirs): (Vec<f64>, Vec<f64>) = a.series.iter().map(|s| (of(a, &s.series), of(b, &s.series))).unzip();
    paired_difference(&ours, &theirs, true, Seed::default().child("gate"))
}

fn refusal(ours: &Figures, theirs: Option<&Figures>, difference: Option<&Difference>) -> Option<String> {
    let means = ours.subject()?.means;
    let (vus, alerts) = (means.vus_pr?, means.false_alerts_per_day);
    if let Some(chance) = ours.baseline("random").filter(|r| vus <= *r) {
        return Some(format!("its VUS-PR is {vus:.3}, that of random scores {chance:.3}"));
    }
    if let Some(d) = difference.filter(|d| d.upper < 0.0) {
        return Some(format!(
            "its VUS-PR is {:.3} below that of the current artifact (95 %: {:.3} to {:.3}, {} of {} series worse)",
            -d.mean, d.lower, d.upper, d.losses, d.n
        ));
    }
    let most = PATIENCE * ours.report.budget_per_day;
    let before = theirs.and_then(Figures::subject).and_then(|s| s.means.false_alerts_per_day);
    alerts.filter(|a| *a > most && before.is_none_or(|b| *a > b)).map(|a| {
        let before = before.map_or_else(String::new, |b| format!(", the current one {b:.2}"));
        format!(
            "it alerts falsely {a:.2} times a day and group where the budget is {}{before}",
            ours.report.budget_per_day
        )
    })
}

/// A line of the table that `promote` prints.
pub(crate) fn row(name: &str, figures: &Figures) -> Vec<String> {
    let m = figures.subject().map(|s| s.means).unwrap_or_default();
    let f = crate::answer::figure;
    vec![name.to_owned(), f(m.vus_pr, 3), f(m.precision, 2), f(m.recall, 2), f(m.false_alerts_per_day, 2)]
}
