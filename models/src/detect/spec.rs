use crate::ModelError;
use crate::cluster::{ClusterKind, ClusterSpec};
use crate::forecast::ForecasterSpec;
use crate::nn::AutoencoderParams;
use crate::nn::dense::within;
use serde::{Deserialize, Serialize};

/// Which detector, with its parameters: in recipes a table `[[detectors]]` with `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DetectorSpec {
    /// The online seasonal robust baseline of each signal.
    Baseline(BaselineParams),
    /// What the main directions of train leave over.
    Pca(PcaParams),
    /// What an autoencoder does not restore.
    Autoencoder(AutoencoderMember),
    /// Distance from the operating states of train.
    Cluster(ClusterParams),
    /// Error of a forecaster.
    Residual(ResidualParams),
    /// Distance from the nearest remembered row of train.
    Neighbours(NeighboursParams),
    /// Distance from the centre of train.
    Amplitude(AmplitudeParams),
    /// Recent mean against the longer past.
    Shift(ShiftParams),
    /// The other members' mean, smoothed.
    Persistence(PersistenceParams),
}

/// How the residuals of a row become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// Each signal's residual is calibrated for itself; the group is the mean of the three largest `-ln p`. Finds small
    /// deviations of quiet signals, and alarms on their slow drift.
    Signals,
    /// The squared residuals of a row are added: what counts is how far a row is off in train deviations.
    #[default]
    Row,
}

/// Unchecked parameters of the online baseline as a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineParams {
    /// It takes part in groups of up to so many signals, 1 to 1,000,000, default 3; members that compare signals judge
    /// larger ones better. The expected values of signals come from it in any case.
    pub up_to: usize,
}

impl Default for BaselineParams {
    fn default() -> Self {
        Self { up_to: 3 }
    }
}

/// Steps of the slow centre that residuals are taken from.
const ADAPT: usize = 1440;

/// Unchecked parameters of the amplitude member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmplitudeParams {
    /// Default row: deviations from the train mean in train deviations, squared and added; signals: distance from the
    /// train median in median absolute deviations.
    pub judge: Judge,
    /// Steps in which a lasting change becomes normal, default 1440; 0 = never.
    pub adapt: usize,
}

impl Default for AmplitudeParams {
    fn default() -> Self {
        Self { judge: Judge::default(), adapt: ADAPT }
    }
}

/// Unchecked parameters of the PCA member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PcaParams {
    /// Share of the variance that the kept directions explain at least, 0.1 to 0.9999, default 0.95.
    pub variance: f64,
    /// Scaled values are held inside ± this, 1 to 1e6, default 50.
    pub clip: f64,
    /// Default row.
    pub judge: Judge,
    /// Steps in which a lasting change becomes normal, default 1440; 0 = never.
    pub adapt: usize,
}

impl Default for PcaParams {
    fn default() -> Self {
        Self { variance: 0.95, clip: 50.0, judge: Judge::default(), adapt: ADAPT }
    }
}

/// Unchecked parameters of the autoencoder member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderMember {
    /// The net and its training.
    pub net: AutoencoderParams,
    /// Default row.
    pub judge: Judge,
    /// Steps in which a lasting change becomes normal, default 1440; 0 = never.
    pub adapt: usize,
}

impl Default for AutoencoderMember {
    fn default() -> Self {
        Self { net: AutoencoderParams::default(), judge: Judge::default(), adapt: ADAPT }
    }
}

/// Unchecked parameters of the operating-state member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterParams {
    /// `kmeans` (default) or `gmm`.
    pub method: ClusterKind,
    /// How many states, 0 (default: chosen) to 64.
    pub states: usize,
    /// The most states that the choice tries, 1 to 64, default 8.
    pub max_states: usize,
    /// No more rows are fitted on than this, 50 to 1,000,000, default 4000.
    pub max_rows: usize,
    /// Added to the variances of a mixture in scaled units, 1e-9 to 1, default 0.001.
    pub regularization: f64,
}

impl Default for ClusterParams {
    fn default() -> Self {
        let s = ClusterSpec::default();
        Self {
            method: s.kind,
            states: s.states,
            max_states: s.max_states,
            max_rows: s.max_rows,
            regularization: s.regularization,
        }
    }
}

impl ClusterParams {
    pub(super) fn spec(&self) -> ClusterSpec {
        ClusterSpec {
            kind: self.method,
            states: self.states,
            max_states: self.max_states,
            max_rows: self.max_rows,
            regularization: self.regularization,
        }
    }
}

/// Unchecked parameters of the nearest-neighbour member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighboursParams {
    /// Rows of train that are remembered, evenly spaced, 16 to 20,000, default 1000.
    pub bank: usize,
    /// Steps of the running mean that rows are smoothed by, 1 (not at all) to 1000, default 5. Shared weights are fitted on
    /// rows that lie further apart: there 1 is the better choice.
    pub steps: usize,
    /// Scaled values are held inside ± this, 0.1 to 1e6, default 3.
    pub clip: f64,
    /// Steps in which a lasting distance becomes normal, default 1440; 0 = never.
    pub adapt: usize,
}

impl Default for NeighboursParams {
    fn default() -> Self {
        Self { bank: 1000, steps: 5, clip: 3.0, adapt: ADAPT }
    }
}

/// Unchecked parameters of the residual member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualParams {
    /// The forecaster whose error it is; default the automatic local choice.
    pub forecaster: ForecasterSpec,
    /// A forecast is made anew every so many steps, 1 to 256, default 8.
    pub every: usize,
    /// Past values that it reads, 16 to 8192, default 512; never more than the forecaster can use.
    pub context: usize,
}

impl Default for ResidualParams {
    fn default() -> Self {
        Self { forecaster: ForecasterSpec::default(), every: 8, context: 512 }
    }
}

/// Unchecked parameters of the mean-shift member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShiftParams {
    /// Steps of the recent mean, 1 to 10,000, default 10.
    pub short: usize,
    /// Steps of the longer past, above `short`, at most 1,000,000, default 1440.
    pub long: usize,
}

impl Default for ShiftParams {
    fn default() -> Self {
        Self { short: 10, long: 1440 }
    }
}

/// Unchecked parameters of the persistence member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersistenceParams {
    /// Steps of the running mean, 2 to 10,000, default 5.
    pub steps: usize,
    /// What it counts for beside those that it averages.
    pub weight: PersistenceWeight,
}

/// What a persistence member counts for when members are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersistenceWeight {
    /// As much as one of the others.
    #[default]
    One,
    /// As much as all the others together: how long it lasts counts for as much as how far it goes.
    Rest,
}

impl Default for PersistenceParams {
    fn default() -> Self {
        Self { steps: 5, weight: PersistenceWeight::One }
    }
}

impl DetectorSpec {
    /// The members of the recommended recipe: what two linear models and a net leave over, amplitude as it is, how long it
    /// lasts, and for small groups what is new to the online baseline.
    ///
    /// Chosen without labels, on faults injected into later train rows of server data and on false alarms there: members
    /// that judge signals one by one raised ten times the false alarms of those that judge rows, a slow centre and the
    /// running means ranked whole incidents higher, and brought false alarms into the budget once each counted as much as all
    /// the others together.
    pub fn recommended() -> Vec<Self> {
        vec![
            Self::Pca(PcaParams::default()),
            Self::Pca(PcaParams { variance: 0.99, ..PcaParams::default() }),
            Self::Autoencoder(AutoencoderMember::default()),
            Self::Amplitude(AmplitudeParams::default()),
            Self::Baseline(BaselineParams::default()),
            Self::Persistence(PersistenceParams { steps: 5, weight: PersistenceWeight::Rest }),
            Self::Persistence(PersistenceParams { steps: 15, weight: PersistenceWeight::Rest }),
        ]
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::Baseline(p) => within("baseline.up_to", p.up_to as f64, 1.0, 1e6),
            Self::Amplitude(p) => within("amplitude.adapt", p.adapt as f64, 0.0, 1e7),
            Self::Pca(p) => {
                within("pca.adapt", p.adapt as f64, 0.0, 1e7)?;
                within("pca.variance", p.variance, 0.1, 0.9999)?;
                within("pca.clip", p.clip, 1.0, 1e6)
            }
            Self::Autoencoder(p) => {
                within("autoencoder.adapt", p.adapt as f64, 0.0, 1e7)?;
                p.net.check()
            }
            Self::Cluster(p) => p.spec().check(),
            Self::Neighbours(p) => {
                within("neighbours.bank", p.bank as f64, 16.0, 20_000.0)?;
                within("neighbours.steps", p.steps as f64, 1.0, 1000.0)?;
                within("neighbours.clip", p.clip, 0.1, 1e6)?;
                within("neighbours.adapt", p.adapt as f64, 0.0, 1e7)
            }
            Self::Residual(p) => {
                p.forecaster.check()?;
                within("residual.every", p.every as f64, 1.0, 256.0)?;
                within("residual.context", p.context as f64, 16.0, 8192.0)
            }
            Self::Shift(p) => {
                within("shift.short", p.short as f64, 1.0, 10_000.0)?;
                within("shift.long", p.long as f64, p.short as f64 + 1.0, 1e6)
            }
            Self::Persistence(p) => within("persistence.steps", p.steps as f64, 2.0, 10_000.0),
        }
    }

    /// The name of the kind, as recipes write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Baseline(_) => "baseline",
            Self::Pca(_) => "pca",
            Self::Autoencoder(_) => "autoencoder",
            Self::Cluster(_) => "cluster",
            Self::Neighbours(_) => "neighbours",
            Self::Residual(_) => "residual",
            Self::Amplitude(_) => "amplitude",
            Self::Shift(_) => "shift",
            Self::Persistence(_) => "persistence",
        }
    }

    /// Whether it holds weights that groups may share; the others are statistics of a group or learn online.
    pub fn has_weights(&self) -> bool {
        matches!(self, Self::Pca(_) | Self::Autoencoder(_) | Self::Cluster(_) | Self::Neighbours(_) | Self::Residual(_))
    }

    /// Whether it compares signals with one another: where there is one it has nothing to say.
    pub fn compares_signals(&self) -> bool {
        matches!(self, Self::Pca(_) | Self::Autoencoder(_) | Self::Neighbours(_))
    }
}
