//! Which artifacts are served: loaded from the registry folder, swapped while requests go on.

use crate::EngineError;
use crate::hash::sha256_hex;
use crate::telemetry::{Telemetry, add};
use arc_swap::ArcSwap;
use foreglow_core::signals::Signals;
use foreglow_core::{Labels, MetricKey};
use foreglow_models::artifact::{Artifact, Candidate, Manifest, Ranked, Store as ArtifactStore, choose};
use foreglow_models::monitor::{Monitor, MonitorOptions};
use foreglow_models::pipeline::Pipeline;
use foreglow_models::spec::Recipe;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// One pipeline that is served.
pub(crate) struct Loaded {
    /// `name/id`, or `online` for what no artifact serves.
    pub(crate) model: Arc<str>,
    /// Under which saved state is kept: the model, for the online baseline with a hash of its rules.
    pub(crate) state_key: Arc<str>,
    pub(crate) pipeline: Arc<Pipeline>,
    /// `None` for the online baseline.
    pub(crate) artifact: Option<Artifact>,
    /// Which of [`Catalogue::rules`] places its series.
    pub(crate) ruleset: usize,
}

impl Loaded {
    fn online(rules: Signals) -> Result<Self, EngineError> {
        let hash = sha256_hex(&[&serde_json::to_vec(&rules)?]);
        Ok(Self {
            model: "online".into(),
            state_key: format!("online-{hash:.8}").into(),
            pipeline: Arc::new(Pipeline::online(rules, &Recipe::default())),
            artifact: None,
            ruleset: 0,
        })
    }

    /// A monitor at the start state: what the groups of the fit knew after its last row.
    pub(crate) fn monitor(&self, options: MonitorOptions) -> Result<Monitor, EngineError> {
        match &self.artifact {
            None => Ok(Monitor::new(self.pipeline.clone(), options)),
            Some(a) => Ok(a.monitor(options)?),
        }
    }

    /// The manifest of an artifact.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.artifact.as_ref().map(|a| &a.manifest)
    }
}

/// Everything that is served at one time.
pub(crate) struct Catalogue {
    /// Ascends with every change.
    pub(crate) version: u64,
    pub(crate) online: Arc<Loaded>,
    /// The `current` artifact of each name.
    pub(crate) artifacts: Vec<Arc<Loaded>>,
    /// The distinct rules of all pipelines; those of the online baseline first.
    pub(crate) rules: Vec<Signals>,
    /// What is in the folder and cannot be served: model and why.
    pub(crate) broken: Vec<(String, String)>,
}

/// Which pipeline serves a group, and why.
pub(crate) struct Choice {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) reason: String,
    /// Model and reason of the others, best first.
    pub(crate) runners_up: Vec<(Arc<str>, String)>,
}

impl Catalogue {
    fn serve(&mut self, model: Arc<str>, artifact: Option<Artifact>, pipeline: Arc<Pipeline>) {
        let same = self.rules.iter().position(|r| r == pipeline.rules());
        let ruleset = same.unwrap_or_else(|| {
            self.rules.push(pipeline.rules().clone());
            self.rules.len() - 1
        });
        self.artifacts.push(Arc::new(Loaded { state_key: model.clone(), model, pipeline, artifact, ruleset }));
    }

    /// The pipeline of state key `key`.
    pub(crate) fn by_key(&self, key: &str) -> Option<&Arc<Loaded>> {
        std::iter::once(&self.online).chain(&self.artifacts).find(|l| *l.state_key == *key)
    }

    /// Ranks the artifacts of one set of rules for a group that these rules form. Signals that an artifact was fitted on
    /// for this very group count as there: they may come in any order of batches.
    pub(crate) fn rank(&self, ruleset: usize, group: &Labels, signals: &[MetricKey]) -> Vec<(Arc<Loaded>, Ranked)> {
        let of_rules: Vec<&Arc<Loaded>> = self.artifacts.iter().filter(|l| l.ruleset == ruleset).collect();
        let candidates: Vec<Candidate<'_>> = of_rules
            .iter()
            .filter_map(|l| l.manifest())
            .map(|manifest| Candidate { manifest, current: true })
            .collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        let mut known = signals.to_vec();
        for l in &of_rules {
            if let Some(m) = l.manifest()
                && l.pipeline.knows(group)
                && signals.iter().any(|s| m.signals.iter().any(|p| p.key == *s))
            {
                known.extend(m.matches.required.iter().filter(|k| !signals.contains(k)).cloned());
            }
        }
        choose(&candidates, group, &known).into_iter().map(|r| (of_rules[r.index].clone(), r)).collect()
    }
}

/// The registry folder and what is served of it.
pub(crate) struct Registry {
    folder: Option<PathBuf>,
    rules: Signals,
    current: ArcSwap<Catalogue>,
    /// What the folder looked like when it was last read; one reload at a time.
    seen: Mutex<Option<u64>>,
    telemetry: Arc<Telemetry>,
}

impl Registry {
    /// Loads what is there.
    ///
    /// # Errors
    /// [`EngineError::Model`] when the folder is not there. An artifact that does not load is left out and logged.
    pub(crate) fn open(
        folder: Option<PathBuf>,
        rules: Signals,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, EngineError> {
        let online = Arc::new(Loaded::online(rules.clone())?);
        let empty =
            Catalogue { version: 0, rules: vec![rules.clone()], online, artifacts: Vec::new(), broken: Vec::new() };
        let registry = Self { folder, rules, current: ArcSwap::from_pointee(empty), seen: Mutex::new(None), telemetry };
        registry.reload(false)?;
        Ok(registry)
    }

    /// What is served now.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.current.load_full()
    }

    /// The folder as it is, for listings.
    pub(crate) fn store(&self) -> Result<Option<ArtifactStore>, EngineError> {
        Ok(self.folder.as_deref().map(ArtifactStore::open).transpose()?)
    }

    /// Looks at the folder and swaps the catalogue if it changed (or `force`); says whether it did. What is loaded
    /// already is kept as it is, so unchanged artifacts go on undisturbed; where a `current` artifact does not load, the one
    /// that served under its name goes on.
    ///
    /// # Errors
    /// When the folder cannot be read; what was served goes on being served.
    pub(crate) fn reload(&self, force: bool) -> Result<bool, EngineError> {
        let Some(store) = self.store()? else { return Ok(false) };
        let mut seen = crate::compute::lock(&self.seen);
        let now = store.fingerprint()?;
        if *seen == Some(now) && !force {
            return Ok(false);
        }
        let old = self.catalogue();
        let mut next = Catalogue {
            version: old.version + 1,
            online: old.online.clone(),
            artifacts: Vec::new(),
            rules: vec![self.rules.clone()],
            broken: Vec::new(),
        };
        let known: HashMap<&str, &Arc<Loaded>> = old.artifacts.iter().map(|l| (&*l.model, l)).collect();
        for listed in store.list()?.into_iter().filter(|l| l.current) {
            let model = format!("{}/{}", listed.name, listed.id);
            let loaded = match known.get(model.as_str()) {
                Some(l) => Ok((l.artifact.clone(), l.pipeline.clone())),
                None => store.load(&listed.name, Some(&listed.id)).map(|a| (Some(a.clone()), a.pipeline)),
            };
            match loaded {
                Ok((artifact, pipeline)) => next.serve(model.into(), artifact, pipeline),
                Err(e) => {
                    tracing::error!(model, error = %e, "an artifact does not load and is not served");
                    add(&self.telemetry.reload_errors, 1);
                    let mut why = e.to_string();
                    // What served under its name goes on: better an older model than none.
                    let of_name = |l: &&Arc<Loaded>| l.manifest().is_some_and(|m| m.name == listed.name);
                    if let Some(before) = old.artifacts.iter().find(of_name) {
                        why = format!("{why}; {} goes on being served", before.model);
                        next.serve(before.model.clone(), before.artifact.clone(), before.pipeline.clone());
                    }
                    next.broken.push((model, why));
                }
            }
        }
        tracing::info!(artifacts = next.artifacts.len(), version = next.version, "registry loaded");
        add(&self.telemetry.reloads, 1);
        self.current.store(Arc::new(next));
        *seen = Some(now);
        Ok(true)
    }
}
