use super::calibration::names;
use crate::detect::{BaselineParams, DetectorSpec, Judge, PersistenceWeight};
use crate::spec::Recipe;
use foreglow_core::Scope;

/// What judges when nothing else of a recipe can.
const ALONE: DetectorSpec = DetectorSpec::Baseline(BaselineParams { up_to: usize::MAX });

/// What runs a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A fitted detector, by its place in the recipe.
    Detector(usize),
    /// The online baselines that give the expected values.
    Baseline,
    /// The running mean of the others.
    Persistence { steps: usize, weight: PersistenceWeight },
}

/// One member of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) scope: Scope,
}

impl Member {
    pub(super) fn is_persistence(&self) -> bool {
        matches!(self.role, Role::Persistence { .. })
    }

    /// What it counts for when `others` members that are none of persistence have an opinion.
    pub(super) fn weight(&self, others: usize) -> f64 {
        match self.role {
            Role::Persistence { weight: PersistenceWeight::Rest, .. } => others as f64,
            _ => 1.0,
        }
    }

    /// The members that a recipe has for rows of `signals`: what compares signals with one another needs two.
    pub(super) fn of(recipe: &Recipe, signals: usize) -> Vec<Self> {
        let mut chosen: Vec<(usize, &DetectorSpec)> = recipe
            .detectors
            .iter()
            .enumerate()
            .filter(|(_, d)| match d {
                DetectorSpec::Baseline(p) => signals <= p.up_to,
                other => signals > 1 || !other.compares_signals(),
            })
            .collect();
        if chosen.iter().all(|(_, d)| matches!(d, DetectorSpec::Persistence(_))) {
            // A single signal and only members that compare signals, say: the baseline judges it.
            chosen.insert(0, (recipe.detectors.len(), &ALONE));
        }
        let kinds: Vec<&str> = chosen.iter().map(|(_, d)| d.kind()).collect();
        chosen
            .iter()
            .zip(names(&kinds))
            .map(|((at, d), name)| {
                let by_row = |j: &Judge| if *j == Judge::Row { Scope::Group } else { Scope::Signal };
                let (role, scope) = match d {
                    DetectorSpec::Baseline(_) => (Role::Baseline, Scope::Signal),
                    DetectorSpec::Persistence(p) => {
                        (Role::Persistence { steps: p.steps, weight: p.weight }, Scope::Group)
                    }
                    DetectorSpec::Pca(p) => (Role::Detector(*at), by_row(&p.judge)),
                    DetectorSpec::Autoencoder(p) => (Role::Detector(*at), by_row(&p.judge)),
                    DetectorSpec::Cluster(_) | DetectorSpec::Neighbours(_) => (Role::Detector(*at), Scope::Group),
                    DetectorSpec::Amplitude(p) => (Role::Detector(*at), by_row(&p.judge)),
                    DetectorSpec::Residual(_) | DetectorSpec::Shift(_) => (Role::Detector(*at), Scope::Signal),
                };
                Self { name, role, scope }
            })
            .collect()
    }
}
