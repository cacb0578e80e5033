//! One trial: change what runs, run the command, read the metrics.

use super::command::{Template, variable};
use super::emit::{configuration, plain};
use super::file::{RunSpec, StudyFile};
use super::metrics::Readers;
use super::noise::Noise;
use super::process::{End, Job, run};
use crate::{Context, TrainError};
use foreglow_core::Step;
use foreglow_search::{Assignment, ChangeCost, Measurement, MetricValue, SearchSpace, Study};
use std::collections::BTreeMap;
use std::time::Duration;

/// What runs trials: checked commands and readers, and what is known to run now.
#[derive(Debug)]
pub(crate) struct Bench {
    command: Template,
    apply: Option<Template>,
    reload: Option<Template>,
    restart: Option<Template>,
    readers: Readers,
    run: RunSpec,
    space: SearchSpace,
    /// The configuration that runs; `None` when nobody knows.
    running: Option<Assignment>,
    /// Whether anything was changed.
    touched: bool,
}

/// What became of a trial.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Measured {
    /// It was measured: the counted runs of each metric, and a note for the reader.
    Done { runs: BTreeMap<String, Vec<f64>>, note: String },
    /// It could not be measured.
    Failed { reason: String },
    /// The user asked to stop; it does not count.
    Stopped,
}

/// A trial about to be measured, and what it is compared with.
pub(crate) struct Candidate<'a> {
    pub(crate) id: u64,
    pub(crate) parameters: &'a Assignment,
    pub(crate) study: &'a Study,
    pub(crate) noise: &'a Noise,
    /// Runs of the best trial so far.
    pub(crate) best: &'a [f64],
    pub(crate) purpose: Purpose,
}

/// What a measurement is for; rounds count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A trial of the study.
    Trial,
    /// The current configuration in a round of the confirmation.
    Current(usize),
    /// The recommended configuration in a round of the confirmation.
    Recommended(usize),
}

/// Why a change or a run came to nothing.
enum Halt {
    Failed(String),
    Stopped,
}

impl Bench {
    /// Checks the commands of a study against its space.
    ///
    /// # Errors
    /// [`TrainError::Usage`]: a placeholder that names no parameter, or a metric that cannot be read.
    pub(crate) fn new(file: &StudyFile, command: &[String], space: &SearchSpace) -> Result<Self, TrainError> {
        let shell = |what: &str, shell: &Option<super::Shell>| {
            let made = shell.as_ref().map(|s| Template::of(s, space)).transpose();
            made.map_err(|e| TrainError::Usage(format!("study field `run.{what}`: {e}")))
        };
        Ok(Self {
            command: Template::new(command, space).map_err(|e| TrainError::Usage(format!("the command: {e}")))?,
            apply: shell("apply", &file.run.apply)?,
            reload: shell("reload", &file.run.reload)?,
            restart: shell("restart", &file.run.restart)?,
            readers: file.readers().map_err(TrainError::Usage)?,
            run: file.run.clone(),
            space: space.clone(),
            running: None,
            touched: false,
        })
    }

    /// Counted runs of a measurement.
    pub(crate) fn repeats(&self) -> usize {
        self.run.repeats
    }

    /// Changes to the candidate's configuration and measures it; `show` is told which run begins.
    pub(crate) fn measure(&mut self, candidate: &Candidate<'_>, context: &Context, show: &dyn Fn(&str)) -> Measured {
        match self.try_measure(candidate, context, show) {
            Ok(done) => done,
            Err(halt) => {
                // What a run that was cut short left behind is unknown: the next trial starts from a fresh process.
                self.running = None;
                match halt {
                    Halt::Failed(reason) => Measured::Failed { reason },
                    Halt::Stopped => Measured::Stopped,
                }
            }
        }
    }

    fn try_measure(
        &mut self,
        candidate: &Candidate<'_>,
        context: &Context,
        show: &dyn Fn(&str),
    ) -> Result<Measured, Halt> {
        let stop = || context.stopped();
        self.change(candidate.parameters, Some(candidate.id), &stop)?;
        let RunSpec { warmup, repeats, .. } = self.run;
        for n in 1..=warmup {
            show(&format!("warm {n}/{warmup}"));
            self.once(candidate, 0, &stop).map_err(|h| h.at(&format!("warm-up run {n} of {warmup}")))?;
        }
        let mut runs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for n in 1..=repeats {
            show(&format!("run {n}/{repeats}"));
            let values = self.once(candidate, n, &stop).map_err(|h| h.at(&format!("run {n} of {repeats}")))?;
            for (name, v) in values {
                runs.entry(name).or_default().push(v);
            }
            if n < repeats
                && let Some(why) = self.enough(candidate, &runs)
            {
                return Ok(Measured::Done { runs, note: format!("{n} of {repeats} runs: {why}") });
            }
        }
        Ok(Measured::Done { runs, note: String::new() })
    }

    /// Why further runs are not worth it, if so.
    fn enough(&self, candidate: &Candidate<'_>, runs: &BTreeMap<String, Vec<f64>>) -> Option<String> {
        let spec = candidate.study.spec();
        // Both sides of a comparison are measured alike; the other side answers for guard-rails.
        if matches!(candidate.purpose, Purpose::Current(_)) {
            return None;
        }
        // What breaks something is not run again, whatever else is to be learned from it.
        for g in &spec.guard_rails {
            let (bound, sign) = g.limit();
            let limit = bound.resolve(candidate.study.baseline(&g.metric));
            let value = runs.get(&g.metric).map(|v| foreglow_core::stats::mean(v));
            if let (Some(limit), Some(value)) = (limit, value)
                && sign * value > sign * limit
            {
                return Some(format!("{} is beyond {limit}", g.metric));
            }
        }
        let is_current = candidate.study.space().current().as_ref() == Some(candidate.parameters);
        // Everything is told relative to the current configuration: it is always measured in full. So are compromises
        // between several objectives, of which none is the best.
        if !self.run.prune || candidate.purpose != Purpose::Trial || is_current || !spec.also.is_empty() {
            return None;
        }
        let here = runs.get(&spec.objective.metric)?;
        let hopeless = candidate.noise.clearly_worse(here, candidate.best, spec.objective.goal.sign());
        hopeless.then(|| "clearly worse than the best".to_owned())
    }

    /// One run of the command; `n` is 0 for a warm-up.
    fn once(
        &self,
        candidate: &Candidate<'_>,
        n: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<BTreeMap<String, f64>, Halt> {
        let mut job = Self::job(&self.command, candidate.parameters);
        job.variables.push(("FOREGLOW_TUNE_TRIAL".to_owned(), candidate.id.to_string()));
        job.variables.push(("FOREGLOW_TUNE_RUN".to_owned(), n.to_string()));
        if let Purpose::Current(round) | Purpose::Recommended(round) = candidate.purpose {
            job.variables.push(("FOREGLOW_TUNE_ROUND".to_owned(), round.to_string()));
        }
        let ran = run(&job, duration(self.run.timeout), stop).map_err(Halt::Failed)?;
        if ran.end == End::Stopped {
            return Err(Halt::Stopped);
        }
        self.readers.read(&ran).map_err(Halt::Failed)
    }

    fn job(template: &Template, parameters: &Assignment) -> Job {
        let mut variables: Vec<(String, String)> =
            parameters.iter().map(|(k, v)| (format!("FOREGLOW_{}", variable(k)), plain(v))).collect();
        // A configuration of finite numbers and text is always JSON.
        variables.push(("FOREGLOW_TUNE_PARAMETERS".to_owned(), serde_json::to_string(parameters).unwrap_or_default()));
        Job { words: template.fill(parameters), variables, input: String::new() }
    }

    /// Brings the system to a configuration: `apply`, and then what the dearest of the changes costs. When nobody knows
    /// what runs, everything is done.
    fn change(&mut self, to: &Assignment, trial: Option<u64>, stop: &dyn Fn() -> bool) -> Result<(), Halt> {
        let cost = match &self.running {
            None => Some(ChangeCost::Restart),
            Some(from) => {
                let changed = self.space.changed(from, to);
                changed.into_iter().map(|i| self.space.parameters()[i].spec().cost).max()
            }
        };
        let Some(cost) = cost else { return Ok(()) };
        self.running = None;
        let switch = match cost {
            ChangeCost::None => None,
            ChangeCost::Reload => self.reload.as_ref().map(|t| ("reload", t)),
            ChangeCost::Restart => {
                self.restart.as_ref().map(|t| ("restart", t)).or(self.reload.as_ref().map(|t| ("reload", t)))
            }
        };
        let input = configuration(self.run.apply_as, &self.space, to).map_err(Halt::Failed)?;
        let apply = self.apply.as_ref().map(|t| ("apply", t));
        for (what, template) in apply.into_iter().chain(switch) {
            self.touched = true;
            let mut job = Self::job(template, to);
            job.variables.extend(trial.map(|id| ("FOREGLOW_TUNE_TRIAL".to_owned(), id.to_string())));
            if what == "apply" {
                job.input.clone_from(&input);
            }
            let ran =
                run(&job, duration(self.run.change_timeout), stop).map_err(|e| Halt::Failed(format!("{what}: {e}")))?;
            let problem = match ran.end {
                End::Code(0) => continue,
                End::Stopped => return Err(Halt::Stopped),
                End::Code(code) => format!("it ended with code {code}"),
                End::Signal(n) => format!("it was ended by signal {n}"),
                End::TimedOut(limit) => format!("it took longer than {} s and was ended", limit.as_secs_f64()),
            };
            return Err(Halt::Failed(format!("{what}: {problem}{}", ran.last_words())));
        }
        self.running = Some(to.clone());
        Ok(())
    }

    /// Puts the current configuration back, when something was changed; not to be stopped.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(crate) fn restore(&mut self, current: &Assignment) -> Result<(), String> {
        if !self.touched || !self.run.restore {
            return Ok(());
        }
        match self.change(current, None, &|| false) {
            Ok(()) => Ok(()),
            Err(Halt::Failed(reason)) => Err(reason),
            Err(Halt::Stopped) => Err("it was stopped".to_owned()),
        }
    }
}

impl Halt {
    fn at(self, what: &str) -> Self {
        match self {
            Self::Failed(reason) => Self::Failed(format!("{what}: {reason}")),
            Self::Stopped => Self::Stopped,
        }
    }
}

fn duration(step: Step) -> Duration {
    Duration::from_millis(step.ms() as u64)
}

/// The measurement of a trial out of its runs.
pub(crate) fn measurement(objective: &str, runs: &BTreeMap<String, Vec<f64>>, noise: &Noise) -> Option<Measurement> {
    let values = runs.get(objective)?;
    let (value, se) = noise.mean_error(values);
    let metrics = runs.iter().filter(|(name, _)| *name != objective).map(|(name, v)| {
        // Of other metrics only this trial's own spread is known.
        let m = foreglow_core::stats::mean(v);
        let own = v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
        let n = v.len() as f64;
        let se = (n > 1.0).then(|| (own / (n - 1.0) / n).sqrt());
        (name.clone(), MetricValue { value: m, se })
    });
    Some(Measurement { value, se, replicates: values.len() as u32, metrics: metrics.collect() })
}
