use crate::ModelError;
use crate::nn::LstmParams;
use serde::{Deserialize, Serialize};

/// Which forecaster, with its parameters: in recipes a table with `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ForecasterSpec {
    /// The last value.
    Naive,
    /// The value one season before.
    SeasonalNaive {
        /// Steps of a season; left out: the data's season.
        #[serde(default)]
        season: Option<usize>,
    },
    /// Ridge regression on lags, fitted on each history.
    RidgeLags(RidgeLagsParams),
    /// The median of the same phase in the last seasons.
    SeasonalMedian {
        /// Steps of a season; left out: the data's season.
        #[serde(default)]
        season: Option<usize>,
    },
    /// The dynamic optimised theta model.
    Theta {
        /// Steps of a season; left out: the data's season.
        #[serde(default)]
        season: Option<usize>,
    },
    /// Damped Holt, with a season damped Holt-Winters.
    Holt {
        /// Steps of a season; left out: the data's season.
        #[serde(default)]
        season: Option<usize>,
    },
    /// Ridge regression made for each distance ahead, on what the present differs in from past seasons; with less than four
    /// of them seasonal naive, without a season the last value.
    RidgeDirect {
        /// Steps of a season; left out: the data's season.
        #[serde(default)]
        season: Option<usize>,
    },
    /// The best of naive, seasonal naive, ridge on lags and ridge by distance ahead, series by series.
    AutoLocal(AutoLocalParams),
    /// The global probabilistic LSTM.
    Lstm(LstmParams),
    /// Local members and the LSTM together, weighted series by series.
    Ensemble(EnsembleParams),
    /// A random past value.
    Random,
}

impl Default for ForecasterSpec {
    fn default() -> Self {
        Self::AutoLocal(AutoLocalParams::default())
    }
}

/// Unchecked parameters of ridge regression on lags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RidgeLagsParams {
    /// Recent lags, 1 to 256, default 6; seasonal ones come on top.
    pub lags: usize,
    /// Ridge penalty a row over standardised inputs, 0 to 1e6, default 0.01.
    pub penalty: f64,
    /// Steps of a season; left out: the data's season.
    pub season: Option<usize>,
}

impl Default for RidgeLagsParams {
    fn default() -> Self {
        Self { lags: 6, penalty: 0.01, season: None }
    }
}

/// Unchecked parameters of the automatic local choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoLocalParams {
    /// Rolling origins tried, 1 to 100, default 8.
    pub origins: usize,
    /// Recent lags of the ridge member, 1 to 256, default 6.
    pub lags: usize,
    /// Steps of a season; left out: the data's season, else found in each history.
    pub season: Option<usize>,
    /// Whether ridge by distance ahead is a member, default true. Without it members are estimated anew at each origin, as
    /// in artifacts from before it.
    pub direct: bool,
}

impl Default for AutoLocalParams {
    fn default() -> Self {
        Self { origins: 8, lags: 6, season: None, direct: true }
    }
}

/// Unchecked parameters of the ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnsembleParams {
    /// Rolling origins tried, 1 to 100, default 8.
    pub origins: usize,
    /// Recent lags of the ridge member, 1 to 256, default 6.
    pub lags: usize,
    /// Steps of a season; left out: the data's season, else found in each history.
    pub season: Option<usize>,
    /// Whether the LSTM is a member, default true.
    pub network: bool,
    /// The LSTM's parameters.
    pub lstm: LstmParams,
}

impl Default for EnsembleParams {
    fn default() -> Self {
        Self { origins: 8, lags: 6, season: None, network: true, lstm: LstmParams::default() }
    }
}

impl EnsembleParams {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        whole("ensemble.origins", self.origins, 1, 100)?;
        whole("ensemble.lags", self.lags, 1, 256)?;
        steps("ensemble.season", self.season)?;
        self.lstm.check()
    }
}

fn whole(field: &str, value: usize, low: usize, high: usize) -> Result<(), ModelError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(ModelError::parameter(field, value, &format!("a whole number from {low} to {high}")))
    }
}

fn steps(field: &str, value: Option<usize>) -> Result<(), ModelError> {
    value.map_or(Ok(()), |v| whole(field, v, 1, 1_000_000))
}

impl ForecasterSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::Naive | Self::Random => Ok(()),
            Self::SeasonalNaive { season } => steps("seasonal_naive.season", *season),
            Self::SeasonalMedian { season } => steps("seasonal_median.season", *season),
            Self::Theta { season } => steps("theta.season", *season),
            Self::Holt { season } => steps("holt.season", *season),
            Self::RidgeDirect { season } => steps("ridge_direct.season", *season),
            Self::RidgeLags(p) => {
                whole("ridge_lags.lags", p.lags, 1, 256)?;
                if !(0.0..=1e6).contains(&p.penalty) {
                    return Err(ModelError::parameter("ridge_lags.penalty", p.penalty, "a number from 0 to 1e6"));
                }
                steps("ridge_lags.season", p.season)
            }
            Self::AutoLocal(p) => {
                whole("auto_local.origins", p.origins, 1, 100)?;
                whole("auto_local.lags", p.lags, 1, 256)?;
                steps("auto_local.season", p.season)
            }
            Self::Lstm(p) => p.check(),
            Self::Ensemble(p) => p.check(),
        }
    }

    /// The name of the kind, as recipes write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive { .. } => "seasonal_naive",
            Self::SeasonalMedian { .. } => "seasonal_median",
            Self::Theta { .. } => "theta",
            Self::Holt { .. } => "holt",
            Self::RidgeLags(_) => "ridge_lags",
            Self::RidgeDirect { .. } => "ridge_direct",
            Self::AutoLocal(_) => "auto_local",
            Self::Lstm(_) => "lstm",
            Self::Ensemble(_) => "ensemble",
            Self::Random => "random",
        }
    }

    /// The season to fit it with beside figures that are scaled by one: the `given` one; else none for those that find one
    /// themselves, as they do where they serve, and that of the scale for the others. A scale without a season is no
    /// reason to have none, but for the seasonal naive row, which is what the scale is made of.
    pub fn season_beside(&self, given: Option<usize>, scale: usize) -> Option<usize> {
        let finds = matches!(self, Self::AutoLocal(_) | Self::Ensemble(_) | Self::Lstm(_));
        let told = !finds && (scale > 1 || matches!(self, Self::SeasonalNaive { .. }));
        given.or(told.then_some(scale))
    }

    /// Whether it is fitted once over many series; the others estimate from each history they are given.
    pub fn is_global(&self) -> bool {
        matches!(self, Self::Lstm(_) | Self::Ensemble(_))
    }
}
