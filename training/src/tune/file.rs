use super::command::Shell;
use super::emit::Emit;
use super::metrics::{MetricSpec, Readers};
use super::space::{Narrow, SpaceChoice};
use crate::TrainError;
use foreglow_core::{Seed, Step};
use foreglow_search::{
    DesignerKind, GuardRail, Kind, Mode, Objective, SafetySpec, SearchError, SpaceSpec, StudySpec, TrialBudget,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A study as its TOML file writes it: the fields of `POST /v1/studies`, and how to run and read the command.
///
/// Defaults: the name is that of the file; designer `auto`; 10 trials a parameter, at least 20 and at most 100; seed 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What is tuned; a kubectl patch wants `namespace`, one of `deployment`, `statefulset`, `daemonset` or `configmap`, and
    /// `container`.
    #[serde(default)]
    pub entity: BTreeMap<String, String>,
    /// `configuration` (default), or `allocation`: load weights of agents, numbers of instances.
    #[serde(default)]
    pub kind: Kind,
    /// A ready-made space by name.
    #[serde(default)]
    pub space: Option<String>,
    /// The parameters to keep of the ready-made space. Default all.
    #[serde(default)]
    pub only: Vec<String>,
    /// Tighter fields for parameters of the ready-made space.
    #[serde(default)]
    pub narrow: BTreeMap<String, Narrow>,
    /// Facts of the machine that the ready-made space's rules ask for, such as `memory_mb`.
    #[serde(default)]
    pub given: BTreeMap<String, f64>,
    /// Parameters; one with the name of a ready-made one replaces it.
    #[serde(default)]
    pub parameters: SpaceSpec,
    /// Rules between parameters.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What to make small or large.
    pub objective: Objective,
    /// Further objectives.
    #[serde(default)]
    pub also: Vec<Objective>,
    /// What must not break.
    #[serde(default)]
    pub guard_rails: Vec<GuardRail>,
    /// The metric that is the load.
    #[serde(default)]
    pub workload: Option<String>,
    /// Who proposes.
    #[serde(default)]
    pub designer: DesignerKind,
    /// How many trials.
    #[serde(default)]
    pub budget: Option<TrialBudget>,
    /// `recommend`, or `canary`: only what keeps every guard-rail is tried.
    #[serde(default)]
    pub mode: Mode,
    /// For `canary`: `confidence` and `stop_after`.
    #[serde(default)]
    pub safety: SafetySpec,
    /// Trials after which the current configuration is measured again.
    #[serde(default)]
    pub remeasure_every: Option<usize>,
    /// The seed of every draw.
    #[serde(default)]
    pub seed: Seed,
    /// How to run the command.
    #[serde(default)]
    pub run: RunSpec,
    /// Where to find metrics. One without an entry is a key of the JSON object that the command prints.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
}

/// How a trial is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSpec {
    /// Runs of each trial that are made first and not counted. Default 1.
    pub warmup: usize,
    /// Runs of each trial that are counted; the value is their mean. Default 3.
    pub repeats: usize,
    /// The longest a run may take; after it the whole process group is ended and the trial fails. Default 10 minutes.
    pub timeout: Step,
    /// Receives the configuration on its standard input before each trial that changes it. Default none.
    pub apply: Option<Shell>,
    /// What `apply` receives. Default `json`.
    pub apply_as: Emit,
    /// Run before a trial whose changes cost a reload. Default none.
    pub reload: Option<Shell>,
    /// Run before a trial whose changes cost a restart, and at the start, when nobody knows what runs. Default none.
    pub restart: Option<Shell>,
    /// The longest that `apply`, `reload` and `restart` may take. Default 2 minutes.
    pub change_timeout: Step,
    /// Whether a trial whose first repeats are clearly worse than the best is not repeated further. Default true.
    pub prune: bool,
    /// Rounds in which what is to be recommended (or the best guess, where the trials are not sure) and the current
    /// configuration are measured in turn before anything is promised: 0, and the promise is unverified, or 2 to 100; what
    /// looks like an improvement and is still open goes on to 12. Default 4 to 12, by the promised effect and the noise of
    /// the trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<usize>,
    /// Failed trials in a row after which the study ends. Default 5.
    pub stop_after_failures: usize,
    /// Whether the current configuration is applied again when the study ends. Default true.
    pub restore: bool,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self {
            warmup: 1,
            repeats: 3,
            timeout: minutes(10),
            apply: None,
            apply_as: Emit::Json,
            reload: None,
            restart: None,
            change_timeout: minutes(2),
            prune: true,
            confirm: None,
            stop_after_failures: 5,
            restore: true,
        }
    }
}

fn minutes(n: i64) -> Step {
    Step::from_ms(60_000 * n).expect("minutes are positive")
}

/// What to write where the parser only says that something is missing.
const REMEDIES: [(&str, &str); 5] = [
    ("missing field `objective`", "add [objective] with metric = \"NAME\" and goal = \"min\" or \"max\""),
    ("missing field `goal`", "say goal = \"min\" or goal = \"max\": there is no default"),
    ("missing field `metric`", "say metric = \"NAME\""),
    ("missing field `type`", "say type = \"float\", \"int\", \"discrete\", \"cat\" or \"bool\""),
    ("missing field `name`", "say name = \"NAME\""),
];

impl StudyFile {
    /// Reads a study file.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Config`] with line, field and remedy.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|e| TrainError::io(path, "read", e))?;
        let mut file = Self::parse(&text).map_err(|problem| TrainError::Config { path: path.to_owned(), problem })?;
        if file.name.is_empty() {
            file.name = path.file_stem().map_or_else(|| "study".to_owned(), |s| s.to_string_lossy().into_owned());
        }
        Ok(file)
    }

    /// Reads the text of a study file.
    ///
    /// # Errors
    /// One paragraph with line, field and remedy.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|e| {
            let problem = e.to_string().trim_end().to_owned();
            match REMEDIES.iter().find(|(part, _)| problem.contains(part)) {
                Some((_, remedy)) => format!("{problem}: {remedy}"),
                None => problem,
            }
        })?;
        file.check_run()?;
        Ok(file)
    }

    fn check_run(&self) -> Result<(), String> {
        let run = &self.run;
        if run.repeats == 0 || run.repeats > 1000 || run.warmup > 1000 {
            return Err(format!(
                "run: `repeats` is {} and `warmup` {}: give 1 to 1000 repeats and 0 to 1000 warm-up runs",
                run.repeats, run.warmup
            ));
        }
        if let Some(rounds) = run.confirm
            && (rounds == 1 || rounds > 100)
        {
            return Err(format!(
                "run.confirm is {rounds}: give 2 to 100 rounds, or 0 to promise without measuring in turn (one round has \
                 no interval)"
            ));
        }
        if run.stop_after_failures == 0 {
            return Err("run.stop_after_failures is 0: give 1 or more".to_owned());
        }
        if run.apply.is_some() && run.apply_as == Emit::Kubectl {
            return Err(
                "run.apply_as = \"kubectl\": a patch goes to the cluster, not to standard input: take \"json\", \
                 \"env\", \"sql\" or \"text\""
                    .to_owned(),
            );
        }
        match self.mode {
            Mode::Observe => {
                return Err("mode = \"observe\" tries nothing: take \"recommend\" or \"canary\"".to_owned());
            }
            Mode::Auto => {
                return Err("mode = \"auto\" applies by itself and belongs to a served study: take \"recommend\" or \
                     \"canary\""
                    .to_owned());
            }
            Mode::Recommend | Mode::Canary => {}
        }
        let served = SafetySpec::default();
        if self.safety.cooldown_ms != served.cooldown_ms || self.safety.restarts_per_day != served.restarts_per_day {
            return Err(
                "safety: `cooldown_ms` and `restarts_per_day` belong to a served study: the command is run as \
                 often as the budget says; leave them out"
                    .to_owned(),
            );
        }
        self.check_metrics()?;
        self.readers().map(|_| ())
    }

    /// A declared metric that nothing asks for is mostly a typing mistake.
    fn check_metrics(&self) -> Result<(), String> {
        let needed: Vec<String> = self.needed().into_iter().map(|n| n.0).collect();
        match self.metrics.iter().find(|m| !needed.contains(&m.name)) {
            None => Ok(()),
            Some(m) => Err(format!(
                "metrics: `{}` is neither objective, guard-rail nor workload: the study needs {}",
                m.name,
                needed.join(", ")
            )),
        }
    }

    /// The metrics that a run must give, each with how its samples become one number.
    pub(crate) fn needed(&self) -> Vec<(String, foreglow_search::Aggregate)> {
        let mut out: Vec<(String, foreglow_search::Aggregate)> = Vec::new();
        let objectives = std::iter::once(&self.objective).chain(&self.also).map(|o| (&o.metric, o.aggregate));
        let guards = self.guard_rails.iter().map(|g| (&g.metric, g.aggregate));
        let load = self.workload.iter().map(|w| (w, foreglow_search::Aggregate::Mean));
        for (metric, aggregate) in objectives.chain(guards).chain(load) {
            if !out.iter().any(|o| o.0 == *metric) {
                out.push((metric.clone(), aggregate));
            }
        }
        out
    }

    /// What reads the metrics out of a run.
    pub(crate) fn readers(&self) -> Result<Readers, String> {
        Readers::new(&self.needed(), &self.metrics)
    }

    /// The study, unchecked: the ready-made space included and narrowed.
    ///
    /// # Errors
    /// [`SearchError`] naming the field.
    pub fn spec(&self) -> Result<StudySpec, SearchError> {
        let choice = SpaceChoice {
            name: self.space.as_deref(),
            only: &self.only,
            narrow: &self.narrow,
            given: &self.given,
            own: &self.parameters,
            rules: &self.rules,
        };
        let (parameters, rules) = choice.resolve()?;
        let trials = (10 * parameters.0.len()).clamp(20, 100);
        Ok(StudySpec {
            entity: self.entity.clone(),
            kind: self.kind,
            rules,
            also: self.also.clone(),
            guard_rails: self.guard_rails.clone(),
            workload: self.workload.clone(),
            designer: self.designer,
            budget: Some(self.budget.unwrap_or(TrialBudget { trials })),
            mode: self.mode,
            safety: self.safety,
            remeasure_every: self.remeasure_every,
            seed: self.seed,
            ..StudySpec::new(&self.name, parameters, self.objective.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[objective]\nmetric = \"tps\"\ngoal = \"max\"\n\
        [[parameters]]\nname = \"workers\"\ntype = \"int\"\nlow = 1\nhigh = 64\n";

    #[test]
    fn defaults_are_sensible() {
        let spec = StudyFile { name: "s".into(), ..StudyFile::parse(GOOD).unwrap() }.spec().unwrap();
        assert_eq!(spec.budget.unwrap().trials, 20);
        assert!(spec.check().is_ok());
        let run = RunSpec::default();
        assert_eq!((run.warmup, run.repeats, run.timeout.to_string().as_str()), (1, 3, "10m"));
    }

    #[test]
    fn mistakes_name_field_and_remedy() {
        let bad = |text: &str| StudyFile::parse(text).unwrap_err();
        assert!(bad("[objective]\nmetric = \"tps\"\n").contains("goal = \"min\""));
        assert!(bad("name = \"x\"\n").contains("add [objective]"));
        assert!(bad(&format!("colour = 1\n{GOOD}")).contains("colour"));
        assert!(bad(&format!("{GOOD}[run]\nrepeats = 0\n")).contains("`repeats` is 0"));
        assert!(bad(&format!("{GOOD}[run]\nconfirm = 1\n")).contains("2 to 100"));
        assert!(bad(&format!("{GOOD}[run]\ntimeout = \"soon\"\n")).contains("10s"));
        assert!(bad(&format!("mode = \"auto\"\n{GOOD}")).contains("canary"));
        assert!(bad(&format!("{GOOD}[safety]\ncooldown_ms = 5\n")).contains("served study"));
        assert!(bad(&format!("{GOOD}[[metrics]]\nname = \"tsp\"\npattern = \"(.)\"\n")).contains("needs tps"));
        assert!(bad(&format!("{GOOD}[[metrics]]\nname = \"tps\"\npattern = \"tps\"\n")).contains("group"));
    }
}
