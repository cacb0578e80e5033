//! The rows of a forecast backtest: which models, from where, and when they are fitted.

use foreglow_core::Timestamp;
use foreglow_models::evaluate::report::Role;
use foreglow_models::forecast::{AutoLocalParams, EnsembleParams, FittedForecaster, ForecasterSpec, RidgeLagsParams};
use foreglow_models::nn::LstmParams;
use std::fmt;
use std::str::FromStr;

/// When a global model is fitted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refit {
    /// Once, before the first cutoff.
    #[default]
    Never,
    /// Before every n-th cutoff; 1 = each.
    Every(usize),
}

impl fmt::Display for Refit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Every(1) => f.write_str("each"),
            Self::Every(n) => write!(f, "{n}"),
        }
    }
}

impl FromStr for Refit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "each" => Ok(Self::Every(1)),
            _ => match text.parse() {
                Ok(n) if n > 0 => Ok(Self::Every(n)),
                _ => Err(format!("{text:?}: expected never, each, or a number of windows of 1 or more")),
            },
        }
    }
}

/// A row of the report before it is judged.
#[derive(Debug, Clone)]
pub enum Contender {
    /// Fitted here, on what lies before the first cutoff.
    Fit(ForecasterSpec),
    /// Taken as it is from an artifact that was trained up to an instant: windows before that are no proof of anything.
    Ready(FittedForecaster, Timestamp),
}

impl Contender {
    /// The name of the kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fit(spec) => spec.kind(),
            Self::Ready(f, _) => f.kind(),
        }
    }

    /// How it stands in the report at that place.
    pub(super) fn role(&self, place: usize) -> Role {
        match self.kind() {
            _ if place == 0 => Role::Subject,
            "naive" | "seasonal_naive" | "random" => Role::Baseline,
            _ => Role::Member,
        }
    }

    /// When it is fitted, for the table.
    pub(super) fn refit(&self, refit: Refit) -> String {
        match self {
            Self::Fit(spec) if spec.is_global() => refit.to_string(),
            Self::Fit(_) => "each".into(),
            Self::Ready(..) => "never".into(),
        }
    }
}

/// The rows beside a subject: the other kinds with their defaults, in a fixed order. Which of them run is the caller's choice.
pub fn all_models() -> Vec<ForecasterSpec> {
    vec![
        ForecasterSpec::Ensemble(EnsembleParams::default()),
        ForecasterSpec::AutoLocal(AutoLocalParams::default()),
        ForecasterSpec::Lstm(LstmParams::default()),
        ForecasterSpec::RidgeDirect { season: None },
        ForecasterSpec::RidgeLags(RidgeLagsParams::default()),
        ForecasterSpec::Theta { season: None },
        ForecasterSpec::Holt { season: None },
        ForecasterSpec::SeasonalMedian { season: None },
        ForecasterSpec::SeasonalNaive { season: None },
        ForecasterSpec::Naive,
        ForecasterSpec::Random,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refit_text() {
        for (text, want) in [("never", Refit::Never), ("each", Refit::Every(1)), ("4", Refit::Every(4))] {
            let refit: Refit = text.parse().unwrap();
            assert_eq!((refit, refit.to_string().as_str()), (want, text));
        }
        assert!("0".parse::<Refit>().is_err() && "often".parse::<Refit>().is_err());
    }
}
