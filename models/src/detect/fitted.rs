use super::amplitude::{AmplitudeDetector, ShiftDetector};
use super::autoencoder::AutoencoderDetector;
use super::cluster::ClusterDetector;
use super::neighbours::NeighboursDetector;
use super::pca::PcaDetector;
use super::residual::ResidualDetector;
use super::spec::DetectorSpec;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::cluster::OperatingStates;
use crate::forecast;
use crate::forecast::TrainSeries;
use crate::nn::{Autoencoder, OptimizerState, quiet};
use foreglow_core::{Detector, RawScore, Row, Scope, Seed, Step, Timestamp};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

/// A detector of scaled rows that is ready: the one closed list of kinds and its dispatch. The baseline and persistence
/// have no weights and no place here: the pipeline runs them itself.
#[derive(Debug, Clone, PartialEq)]
pub enum FittedDetector {
    /// Principal components.
    Pca(PcaDetector),
    /// Autoencoder.
    Autoencoder(Box<AutoencoderDetector>),
    /// Operating states.
    Cluster(Box<ClusterDetector>),
    /// Distance from the nearest remembered row.
    Neighbours(Box<NeighboursDetector>),
    /// Error of a forecaster.
    Residual(Box<ResidualDetector>),
    /// Distance from the train median.
    Amplitude(AmplitudeDetector),
    /// Recent against longer mean.
    Shift(ShiftDetector),
}

/// Scaled train rows of one group.
#[derive(Debug, Clone, Copy)]
pub struct ScaledRows<'a> {
    /// (time, signal), NaN = missing.
    pub values: ArrayView2<'a, f64>,
    /// The instant of the first row.
    pub start: Timestamp,
    /// The distance of rows.
    pub step: Step,
}

/// A fit of one detector and, for a net, what a warm start needs.
#[derive(Debug, Clone)]
pub struct DetectorFit {
    /// The detector.
    pub detector: FittedDetector,
    /// The optimiser's memory.
    pub optimizer: Option<OptimizerState>,
}

/// Fits `spec` on the scaled rows of one group or of several that share it. `None` for kinds that the pipeline runs
/// itself, and for those that need several signals where there is one.
///
/// # Errors
/// [`ModelError::Parameter`] for a field out of range, [`ModelError::Data`] for too few rows.
pub fn fit_detector(
    spec: &DetectorSpec,
    groups: &[ScaledRows<'_>],
    before: Option<(&FittedDetector, Option<&OptimizerState>)>,
    season: Option<usize>,
    seed: Seed,
) -> Result<Option<DetectorFit>, ModelError> {
    spec.check()?;
    let Some(first) = groups.first() else {
        return Err(ModelError::data(spec.kind(), "there is no group to fit on"));
    };
    let width = first.values.ncols();
    let plain = |detector| Ok(Some(DetectorFit { detector, optimizer: None }));
    let seed = seed.child(spec.kind());
    if width < 2 && spec.compares_signals() {
        return Ok(None);
    }
    match spec {
        DetectorSpec::Pca(p) => plain(FittedDetector::Pca(PcaDetector::fit(stacked(groups)?.view(), p)?)),
        DetectorSpec::Autoencoder(p) => {
            let rows: Vec<f32> = stacked(groups)?.iter().map(|v| *v as f32).collect();
            let fit = match before {
                Some((FittedDetector::Autoencoder(old), optimizer)) => {
                    old.net.continue_training(optimizer, &rows, &p.net, seed, &quiet)?
                }
                _ => Autoencoder::train(&rows, width, &p.net, seed, &quiet)?,
            };
            Ok(Some(DetectorFit {
                detector: FittedDetector::Autoencoder(Box::new(AutoencoderDetector::new(fit.model, p.judge, p.adapt))),
                optimizer: Some(fit.optimizer),
            }))
        }
        DetectorSpec::Baseline(_) | DetectorSpec::Persistence(_) => Ok(None),
        DetectorSpec::Neighbours(p) => {
            let rows: Vec<ArrayView2<'_, f64>> = groups.iter().map(|g| g.values).collect();
            plain(FittedDetector::Neighbours(Box::new(NeighboursDetector::fit(&rows, p)?)))
        }
        DetectorSpec::Cluster(p) => {
            let rows: Vec<f64> = stacked(groups)?.iter().copied().collect();
            let states = OperatingStates::fit(&rows, width, &p.spec(), seed)?;
            plain(FittedDetector::Cluster(Box::new(ClusterDetector { states })))
        }
        DetectorSpec::Residual(p) => {
            let columns: Vec<(Vec<f64>, Timestamp)> = groups
                .iter()
                .flat_map(|g| g.values.columns().into_iter().map(|c| (c.to_vec(), g.start)))
                .filter(|(c, _)| c.iter().any(|v| v.is_finite()))
                .collect();
            let step = first.step;
            let series: Vec<TrainSeries<'_>> =
                columns.iter().map(|(values, start)| TrainSeries { values, start: *start, step }).collect();
            let fit = match before {
                Some((FittedDetector::Residual(old), optimizer)) if old.forecaster.kind() == p.forecaster.kind() => {
                    forecast::fit_from(&old.forecaster, optimizer, &p.forecaster, &series, season, seed, &quiet)?
                }
                _ => forecast::fit(&p.forecaster, &series, season, seed, &quiet)?,
            };
            Ok(Some(DetectorFit {
                detector: FittedDetector::Residual(Box::new(ResidualDetector::new(fit.forecaster, width, step, p))),
                optimizer: fit.training.map(|t| t.1),
            }))
        }
        DetectorSpec::Amplitude(p) => {
            plain(FittedDetector::Amplitude(AmplitudeDetector::fit(stacked(groups)?.view(), p)))
        }

        DetectorSpec::Shift(p) => plain(FittedDetector::Shift(ShiftDetector::fit(stacked(groups)?.view(), p))),
    }
}

/// The rows of all groups below one another.
fn stacked(groups: &[ScaledRows<'_>]) -> Result<Array2<f64>, ModelError> {
    let views: Vec<ArrayView2<'_, f64>> = groups.iter().map(|g| g.values).collect();
    concatenate(Axis(0), &views)
        .map_err(|e| ModelError::data("the rows of several groups", format!("{e}: all groups need the same signals")))
}

impl FittedDetector {
    fn inner(&self) -> &dyn Detector {
        match self {
            Self::Pca(d) => d,
            Self::Autoencoder(d) => d.as_ref(),
            Self::Cluster(d) => d.as_ref(),
            Self::Neighbours(d) => d.as_ref(),
            Self::Residual(d) => d.as_ref(),
            Self::Amplitude(d) => d,
            Self::Shift(d) => d,
        }
    }

    /// Factors that make squared raw scores of signals their parts in the row, where a detector knows better than their
    /// tail probabilities.
    pub fn blame(&self) -> Option<&[f64]> {
        match self {
            Self::Pca(d) => Some(d.blame()),
            _ => None,
        }
    }

    /// Mean loss on scaled rows, for nets that a warm start may spoil; `None` for the others.
    pub fn loss(&self, rows: ArrayView2<'_, f64>) -> Option<f64> {
        match self {
            Self::Autoencoder(d) => Some(d.loss(rows)).filter(|l| l.is_finite()),
            _ => None,
        }
    }

    /// Saves kind and parts under `prefix`.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a part cannot be written.
    pub fn save(&self, map: &mut TensorMap, prefix: &str) -> Result<(), ModelError> {
        map.put_u8(format!("{prefix}detector"), self.name().as_bytes().to_vec());
        match self {
            Self::Pca(d) => d.save(map, prefix),
            Self::Autoencoder(d) => d.save(map, prefix),
            Self::Cluster(d) => d.states.save(map, prefix),
            Self::Neighbours(d) => d.save(map, prefix),
            Self::Residual(d) => d.save(map, prefix)?,
            Self::Amplitude(d) => d.save(map, prefix),
            Self::Shift(d) => d.save(map, prefix),
        }
        Ok(())
    }

    /// Loads what [`FittedDetector::save`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a tensor is missing or damaged.
    pub fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}detector");
        Ok(match map.u8s(&name)? {
            b"pca" => Self::Pca(PcaDetector::load(map, prefix)?),
            b"autoencoder" => Self::Autoencoder(Box::new(AutoencoderDetector::load(map, prefix)?)),
            b"cluster" => Self::Cluster(Box::new(ClusterDetector { states: OperatingStates::load(map, prefix)? })),
            b"neighbours" => Self::Neighbours(Box::new(NeighboursDetector::load(map, prefix)?)),
            b"residual" => Self::Residual(Box::new(ResidualDetector::load(map, prefix)?)),
            b"amplitude" => Self::Amplitude(AmplitudeDetector::load(map, prefix)?),
            b"shift" => Self::Shift(ShiftDetector::load(map, prefix)?),
            other => {
                let kind = String::from_utf8_lossy(other);
                return Err(ModelError::artifact(name, format!("unknown detector {kind:?}; a newer version made it")));
            }
        })
    }
}

impl Detector for FittedDetector {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn scope(&self) -> Scope {
        self.inner().scope()
    }

    fn state_len(&self) -> usize {
        self.inner().state_len()
    }

    fn reset(&self, state: &mut [f64]) {
        self.inner().reset(state);
    }

    fn step(&self, state: &mut [f64], row: &Row<'_>, out: &mut RawScore) {
        self.inner().step(state, row, out);
    }
}
