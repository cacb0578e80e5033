use super::blocks::{BLOCK_TIMES, FEWEST_BLOCKS, Samples, blocks, difference, relative};
use super::switchback::{Period, compare_periods};
use crate::{Goal, Relative, SearchError, stats};
use foreglow_core::Seed;
use foreglow_core::stats::Boundary;
use serde::{Deserialize, Serialize};

/// When looking is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    /// Once, when the planned samples are there.
    FixedHorizon,
    /// At any time until the planned samples are there; as good as the fixed horizon but for a few per cent of power.
    #[default]
    Planned,
    /// At any time, without an end.
    AlwaysValid,
}

/// A metric that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentMetric {
    /// Its name.
    pub metric: String,
    /// Whether small or large values are good.
    pub goal: Goal,
}

/// An experiment as users write it; unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSpec {
    /// Its name.
    pub name: String,
    /// Two variants or more; the first is the control.
    pub variants: Vec<String>,
    /// The metrics that decide.
    pub metrics: Vec<ExperimentMetric>,
    /// When looking is allowed. Default planned.
    #[serde(default)]
    pub analysis: Analysis,
    /// The probability of any false alarm, over all looks, variants and metrics together. Default 0.05.
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Samples an arm at the end.
    pub samples: usize,
    /// A metric that every arm measures too and that cannot depend on the variant (the load): its movement is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covariate: Option<String>,
    /// The seed of assignments.
    #[serde(default)]
    pub seed: Seed,
}

fn five_percent() -> f64 {
    0.05
}

/// A checked experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    spec: ExperimentSpec,
}

/// What one arm measured of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Arm<'a> {
    /// The variant.
    pub variant: &'a str,
    /// The metric.
    pub metric: &'a str,
    /// Its samples in the order of time, with a covariate where there is one (CUPED).
    pub samples: Samples<'a>,
}

/// What is known of one variant in one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Better than the control.
    Better,
    /// Worse than the control.
    Worse,
    /// Not told apart yet.
    Undecided,
    /// The planned end is reached without a difference.
    NoDifference,
    /// Too few independent blocks for any statement.
    NotEnoughData,
}

/// One variant against the control in one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The variant.
    pub variant: String,
    /// The metric.
    pub metric: String,
    /// What is known.
    pub decision: Decision,
    /// Relative change against the control, with 80 and 95 % intervals of this one look.
    pub effect: Option<Relative>,
    /// The interval that holds under this analysis at the corrected level; absolute difference.
    pub interval: Option<[f64; 2]>,
    /// Blocks of control and variant.
    pub blocks: [usize; 2],
    /// Samples a block.
    pub block_length: usize,
    /// The share of variance that the covariate took out.
    pub covariate_explained: f64,
    /// In words.
    pub why: String,
}

/// A look at an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentReport {
    /// Every variant but the control, in every metric.
    pub comparisons: Vec<Comparison>,
    /// The variant to take, when one is better in a metric and worse in none.
    pub winner: Option<String>,
    /// Whether it can end.
    pub finished: bool,
}

/// What an experiment will take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Autocorrelation time in the history, in samples.
    pub autocorrelation_time: f64,
    /// Independent blocks an arm that the spec's samples give.
    pub blocks: usize,
    /// The power to find the effect with the spec's samples.
    pub power: f64,
    /// Samples an arm for a power of 80 %.
    pub samples_for_80: usize,
    /// The smallest absolute effect found with a power of 80 %.
    pub smallest_effect: f64,
}

impl ExperimentSpec {
    /// Checks all fields.
    ///
    /// # Errors
    /// [`SearchError::Study`] naming the field: fewer than two variants, a name twice, no metric, an alpha outside
    /// (0, 0.5), a covariate that decides, no samples.
    pub fn check(self) -> Result<Experiment, SearchError> {
        let bad = |field, problem: String| Err(SearchError::Study { field, problem });
        if self.variants.len() < 2 {
            return bad(
                "variants",
                format!("has {} entries: give a control and at least one variant", self.variants.len()),
            );
        }
        for (i, v) in self.variants.iter().enumerate() {
            if v.trim().is_empty() || self.variants[..i].contains(v) {
                return bad("variants", format!("entry {i} (`{v}`) is empty or there twice"));
            }
        }
        if self.metrics.is_empty() {
            return bad("metrics", "is empty: name at least one metric with its goal".to_owned());
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return bad("alpha", format!("is {}: give a probability between 0 and 0.5, such as 0.05", self.alpha));
        }
        if let Some(c) = self.covariate.as_ref().filter(|c| self.metrics.iter().any(|m| m.metric == **c)) {
            return bad("covariate", format!("`{c}` is a metric that decides: name one that no variant can change"));
        }
        if self.samples == 0 {
            return bad("samples", "is 0: say how many samples an arm are planned".to_owned());
        }
        Ok(Experiment { spec: self })
    }
}

impl Experiment {
    /// The specification.
    pub fn spec(&self) -> &ExperimentSpec {
        &self.spec
    }

    /// The variant of unit or period `k`: a seeded draw in blocks of all variants, so that arms stay balanced.
    pub fn assign(&self, k: u64) -> &str {
        let n = self.spec.variants.len();
        let seed = self.spec.seed.child("experiment").nth(k / n as u64);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|i| seed.nth(*i as u64).0);
        &self.spec.variants[order[(k % n as u64) as usize]]
    }

    /// The level of one comparison: alpha shared among variants and metrics (Bonferroni).
    fn level(&self) -> f64 {
        self.spec.alpha / ((self.spec.variants.len() - 1) * self.spec.metrics.len()) as f64
    }

    fn boundary(&self, blocks: f64) -> Boundary {
        match self.spec.analysis {
            Analysis::FixedHorizon => Boundary::Fixed,
            Analysis::Planned => Boundary::Planned { total: blocks },
            Analysis::AlwaysValid => Boundary::Always { best: blocks },
        }
    }

    /// Power and duration from a stretch of the metric's history (a pre-period), for an absolute `effect`.
    ///
    /// # Errors
    /// [`SearchError::Study`] when the planned samples hold fewer than [`FEWEST_BLOCKS`] independent blocks an arm: the
    /// data are too dependent, and no analysis of them would be right.
    pub fn plan(&self, history: &[f64], effect: f64) -> Result<Plan, SearchError> {
        let finite: Vec<f64> = history.iter().copied().filter(|v| v.is_finite()).collect();
        let bad = |problem: String| Err(SearchError::Study { field: "samples", problem });
        if finite.len() < 50 {
            return bad(format!("{} samples of history: at least 50 are needed to plan", finite.len()));
        }
        if !(effect.is_finite() && effect != 0.0) {
            return Err(SearchError::Study {
                field: "effect",
                problem: format!("is {effect}: give the difference to find"),
            });
        }
        let time = stats::integrated_autocorrelation_time(history).max(1.0);
        let length = (BLOCK_TIMES * time).ceil();
        let blocks = (self.spec.samples as f64 / length).floor();
        if blocks < FEWEST_BLOCKS as f64 {
            return bad(format!(
                "{} samples an arm hold {blocks} independent blocks of {length} (autocorrelation time {time:.0}): at \
                 least {FEWEST_BLOCKS} are needed, which are {} samples",
                self.spec.samples,
                FEWEST_BLOCKS as f64 * length
            ));
        }
        let sd = stats::sd(&finite);
        let se = |blocks: f64| sd * (2.0 * time / (blocks * length)).sqrt();
        let critical = |blocks: f64| self.boundary(blocks).critical(blocks, self.level());
        let power = |blocks: f64| stats::normal_cdf(effect.abs() / se(blocks) - critical(blocks));
        let mut needed = FEWEST_BLOCKS as f64;
        while power(needed) < 0.8 && needed < 1e7 {
            needed = (needed * 1.02).ceil();
        }
        Ok(Plan {
            autocorrelation_time: time,
            blocks: blocks as usize,
            power: power(blocks),
            samples_for_80: (needed * length) as usize,
            smallest_effect: se(blocks) * (critical(blocks) + stats::normal_quantile(0.8)),
        })
    }

    /// A look at the data so far.
    ///
    /// # Errors
    /// [`SearchError::Study`]: an arm is named that the experiment does not have, or one is missing.
    pub fn analyse(&self, arms: &[Arm<'_>]) -> Result<ExperimentReport, SearchError> {
        let spec = &self.spec;
        for a in arms {
            if !spec.variants.iter().any(|v| v == a.variant) || !spec.metrics.iter().any(|m| m.metric == a.metric) {
                let problem = format!("`{}` of variant `{}` does not belong to this experiment", a.metric, a.variant);
                return Err(SearchError::Study { field: "arms", problem });
            }
        }
        let find = |variant: &str, metric: &str| {
            arms.iter().find(|a| a.variant == variant && a.metric == metric).map(|a| a.samples).ok_or_else(|| {
                SearchError::Study { field: "arms", problem: format!("`{metric}` of variant `{variant}` is missing") }
            })
        };
        let mut comparisons = Vec::new();
        for m in &spec.metrics {
            let control = find(&spec.variants[0], &m.metric)?;
            for v in &spec.variants[1..] {
                comparisons.push(self.compare(v, m, control, find(v, &m.metric)?));
            }
        }
        Ok(self.report(comparisons))
    }

    /// A look at an experiment that switched one system between control and one variant; see
    /// [`super::SwitchbackPlan`]. Each list belongs to a metric, in the order of the spec.
    ///
    /// # Errors
    /// [`SearchError::Study`] when there is more than one variant beside the control, or a metric is missing.
    pub fn analyse_switchback(
        &self,
        metrics: &[Vec<Period<'_>>],
        washout: usize,
    ) -> Result<ExperimentReport, SearchError> {
        let spec = &self.spec;
        let bad = |problem: &str| Err(SearchError::Study { field: "arms", problem: problem.to_owned() });
        if spec.variants.len() != 2 {
            return bad("a switchback compares one variant with the control");
        }
        if metrics.len() != spec.metrics.len() {
            return bad("give the periods of every metric, in the order of the specification");
        }
        let mut comparisons = Vec::new();
        for (m, periods) in spec.metrics.iter().zip(metrics) {
            let length = periods.first().map_or(0, |p| p.values.len());
            let total = spec.samples.checked_div(length).unwrap_or(0) as f64;
            let d = compare_periods(periods, washout);
            let pairs = d.map_or(0, |d| d.pairs);
            let found = d.map(|d| (d.value, d.se, d.pairs as f64, d.base));
            comparisons.push(self.judge(&spec.variants[1], m, found, [pairs, pairs], length, 0.0, total));
        }
        Ok(self.report(comparisons))
    }

    fn compare(&self, variant: &str, m: &ExperimentMetric, control: Samples<'_>, treated: Samples<'_>) -> Comparison {
        let b = blocks(&[control, treated]);
        let d = difference(&b.arms[0], &b.arms[1]).map(|d| (d.value, d.se.hypot(b.doubt), d.n, d.base));
        let total = (self.spec.samples as f64 / b.length as f64).floor();
        self.judge(variant, m, d, [b.arms[0].len(), b.arms[1].len()], b.length, b.explained, total)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one comparison, called twice")]
    fn judge(
        &self,
        variant: &str,
        m: &ExperimentMetric,
        found: Option<(f64, f64, f64, f64)>,
        counts: [usize; 2],
        length: usize,
        explained: f64,
        total: f64,
    ) -> Comparison {
        let mut c = Comparison {
            variant: variant.to_owned(),
            metric: m.metric.clone(),
            decision: Decision::NotEnoughData,
            effect: None,
            interval: None,
            blocks: counts,
            block_length: length,
            covariate_explained: explained,
            why: String::new(),
        };
        let fewest = counts[0].min(counts[1]);
        let Some((value, se, n, base)) = found.filter(|_| fewest >= FEWEST_BLOCKS) else {
            c.why = if total < FEWEST_BLOCKS as f64 {
                format!(
                    "not enough independent data: the metric is so dependent that even all planned samples make only {total} \
                     blocks of {length}; {FEWEST_BLOCKS} are needed"
                )
            } else {
                format!(
                    "not enough independent data yet: {fewest} independent blocks of {length} samples; {FEWEST_BLOCKS} an arm \
                     are needed"
                )
            };
            return c;
        };
        c.effect = relative(value, se, n, base);
        let ended = n >= total;
        // The horizon counts blocks, and blocks of a re-estimated length may be one or two more than planned.
        let horizon = if self.spec.analysis == Analysis::Planned { total.max(n) } else { total };
        let critical = match self.spec.analysis {
            Analysis::FixedHorizon if !ended => f64::INFINITY,
            _ => self.boundary(horizon).critical(n, self.level()),
        };
        if critical.is_finite() {
            c.interval = Some([value - critical * se, value + critical * se]);
        }
        let gain = -m.goal.sign() * value;
        c.decision = if gain > critical * se {
            Decision::Better
        } else if -gain > critical * se {
            Decision::Worse
        } else if ended && self.spec.analysis != Analysis::AlwaysValid {
            Decision::NoDifference
        } else {
            Decision::Undecided
        };
        c.why = format!(
            "a difference of {value:.4} with a standard error of {se:.4} over {fewest} blocks; {critical:.2} standard errors are needed"
        );
        c
    }

    fn report(&self, comparisons: Vec<Comparison>) -> ExperimentReport {
        let of = |v: &str, d: Decision| comparisons.iter().filter(|c| c.variant == v && c.decision == d).count();
        let winner = self.spec.variants[1..]
            .iter()
            .filter(|v| of(v, Decision::Better) > 0 && of(v, Decision::Worse) == 0)
            .max_by_key(|v| of(v, Decision::Better))
            .cloned();
        let open = |c: &Comparison| matches!(c.decision, Decision::Undecided | Decision::NotEnoughData);
        let finished = !comparisons.iter().any(open);
        ExperimentReport { comparisons, winner, finished }
    }
}
