use super::TensorMap;
use super::manifest::{FileInfo, Manifest};
use crate::ModelError;
use crate::monitor::{Monitor, MonitorOptions};
use crate::pipeline::Pipeline;
use foreglow_core::Labels;
use std::sync::Arc;

/// Names and contents of an artifact's files.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// One fit: a pipeline, the state after its last train row, what a warm start needs, and the manifest that describes them.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it is.
    pub manifest: Manifest,
    /// What judges.
    pub pipeline: Arc<Pipeline>,
    /// The state of every group after the last train row, from which backtest and server start.
    pub start: TensorMap,
    /// The optimisers of its nets.
    pub optimizer: TensorMap,
}

impl Artifact {
    pub(super) const WEIGHTS: &'static str = "weights.safetensors";
    pub(super) const CALIBRATION: &'static str = "calibration.safetensors";
    pub(super) const OPTIMIZER: &'static str = "optimizer.safetensors";
    pub(super) const START: &'static str = "start.safetensors";

    /// A monitor at its start state.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when the start state is not the pipeline's.
    pub fn monitor(&self, options: MonitorOptions) -> Result<Monitor, ModelError> {
        let mut monitor = Monitor::new(self.pipeline.clone(), options);
        monitor.import(&self.start)?;
        Ok(monitor)
    }

    /// A monitor at the start state of some groups: what a replay of these alone needs.
    ///
    /// # Errors
    /// As [`Artifact::monitor`].
    pub fn monitor_of(&self, groups: &[Labels], options: MonitorOptions) -> Result<Monitor, ModelError> {
        let mut monitor = Monitor::new(self.pipeline.clone(), options);
        monitor.import_some(&self.start, groups)?;
        Ok(monitor)
    }

    /// The artifact with the figures of its backtest. Its id changes, as the id is the hash of all that is in it.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a part cannot be written.
    pub fn with_backtest(mut self, figures: serde_json::Value) -> Result<Self, ModelError> {
        self.manifest.backtest = Some(figures);
        self.sealed()
    }

    /// The artifact with checksums and id of what is in it.
    pub(super) fn sealed(mut self) -> Result<Self, ModelError> {
        let (mut manifest, _) = self.files()?;
        manifest.seal()?;
        self.manifest = manifest;
        Ok(self)
    }

    /// Its files, and the manifest that lists them.
    pub(super) fn files(&self) -> Result<(Manifest, Files), ModelError> {
        let (mut weights, mut calibration) = (TensorMap::default(), TensorMap::default());
        self.pipeline.save(&mut weights, &mut calibration)?;
        let files = vec![
            (Self::WEIGHTS, weights.encode()?),
            (Self::CALIBRATION, calibration.encode()?),
            (Self::OPTIMIZER, self.optimizer.encode()?),
            (Self::START, self.start.encode()?),
        ];
        let mut manifest = self.manifest.clone();
        manifest.files = files.iter().map(|(name, content)| ((*name).to_owned(), FileInfo::of(content))).collect();
        Ok((manifest, files))
    }
}
