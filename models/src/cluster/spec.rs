use crate::ModelError;
use crate::nn::dense::within;
use serde::{Deserialize, Serialize};

/// Which clusterer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterKind {
    /// k-means: round states, cheapest (k-means++ start, Arthur and Vassilvitskii 2007).
    #[default]
    Kmeans,
    /// A mixture of Gaussians with full covariances (expectation maximisation, Dempster et al. 1977): states that lie
    /// along correlated signals.
    Gmm,
}

/// Unchecked parameters of [`OperatingStates`](super::OperatingStates).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSpec {
    /// Which clusterer, default k-means.
    pub kind: ClusterKind,
    /// How many states, 0 (default: chosen by silhouette for k-means, by BIC for the mixture) to 64.
    pub states: usize,
    /// The most states that the choice tries, 1 to 64, default 8.
    pub max_states: usize,
    /// No more rows are fitted on than this, spread evenly, 50 to 1,000,000, default 4000.
    pub max_rows: usize,
    /// Added to the variances of the mixture in scaled units, 1e-9 to 1, default 0.001.
    pub regularization: f64,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self { kind: ClusterKind::Kmeans, states: 0, max_states: 8, max_rows: 4000, regularization: 1e-3 }
    }
}

impl ClusterSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        within("cluster.states", self.states as f64, 0.0, 64.0)?;
        within("cluster.max_states", self.max_states as f64, 1.0, 64.0)?;
        within("cluster.max_rows", self.max_rows as f64, 50.0, 1e6)?;
        within("cluster.regularization", self.regularization, 1e-9, 1.0)
    }
}
