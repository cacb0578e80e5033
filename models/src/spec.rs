//! Recipes: the closed list of what a fit makes, and the file that says so.

use crate::ModelError;
use crate::detect::DetectorSpec;
use crate::forecast::ForecasterSpec;
use foreglow_core::signals::Budget;
use foreglow_core::{AlertLine, Step};
use serde::{Deserialize, Serialize};

/// Who shares the weights of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightSharing {
    /// One set of weights a group up to [`WeightSharing::MOST_OWN`] groups, else one set for all.
    #[default]
    Auto,
    /// One set of weights a group, and one more for groups that were not there.
    Group,
    /// One set of weights for all groups; scaling, statistics and calibration stay each group's own.
    Shared,
}

impl WeightSharing {
    /// Up to so many groups `auto` gives each its own weights.
    pub const MOST_OWN: usize = 64;

    /// Whether each of `groups` groups gets weights of its own.
    pub fn own(self, groups: usize) -> bool {
        match self {
            Self::Auto => groups <= Self::MOST_OWN,
            Self::Group => true,
            Self::Shared => false,
        }
    }
}

/// When an incident opens and when it resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentRule {
    /// Steps at or above the line that open it, 1 to `of`, default 2.
    pub open: usize,
    /// Among so many steps, 1 to 60, default 3.
    pub of: usize,
    /// Steps below the line in a row that resolve it, 1 to 10,000, default 3.
    pub quiet: usize,
}

impl Default for IncidentRule {
    fn default() -> Self {
        Self { open: 2, of: 3, quiet: 3 }
    }
}

/// What a fit makes: the closed list of models of one artifact. A recipe file is this in TOML; what it leaves out is as
/// in the default, which is the recommended recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The members of the detector ensemble, `[[detectors]]` tables with a `kind`.
    pub detectors: Vec<DetectorSpec>,
    /// The forecaster, a `[forecaster]` table with a `kind`.
    pub forecaster: Option<ForecasterSpec>,
    /// Steps of a season; left out: found in the data.
    pub season: Option<usize>,
    /// Who shares weights, default auto.
    pub weights: WeightSharing,
    /// False alerts a day of a group, default 1; a group rule of `signals.toml` wins.
    pub budget: Budget,
    /// When incidents open and resolve.
    pub incidents: IncidentRule,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            detectors: DetectorSpec::recommended(),
            forecaster: Some(ForecasterSpec::default()),
            season: None,
            weights: WeightSharing::default(),
            budget: Budget::default(),
            incidents: IncidentRule::default(),
        }
    }
}

impl Recipe {
    /// Parses and checks a recipe file.
    ///
    /// # Errors
    /// [`ModelError::Recipe`] naming the line, [`ModelError::Parameter`] naming the field.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let recipe: Self = toml::from_str(text).map_err(|e| ModelError::Recipe {
            place: e.span().map_or("file".into(), |r| format!("line {}", text[..r.start].matches('\n').count() + 1)),
            problem: e.message().to_owned(),
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Parameter`] naming the field, the value and the allowed range.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.detectors.is_empty() || self.detectors.len() > 32 {
            return Err(ModelError::parameter("detectors", self.detectors.len(), "1 to 32 tables [[detectors]]"));
        }
        for (i, d) in self.detectors.iter().enumerate() {
            d.check()?;
            if self.detectors[..i].contains(d) {
                return Err(ModelError::parameter(
                    &format!("detectors[{i}]"),
                    d.kind(),
                    "each detector once; a second of the same kind needs other parameters",
                ));
            }
        }
        if let Some(f) = &self.forecaster {
            f.check()?;
        }
        if let Some(m) = self.season
            && !(2..=100_000).contains(&m)
        {
            return Err(ModelError::parameter("season", m, "2 to 100000 steps; leave it out to have it found"));
        }
        if AlertLine::new(self.budget.per_day, Step::from_ms(1000)?).is_err() {
            return Err(ModelError::parameter(
                "budget.per_day",
                self.budget.per_day,
                "a number above 0 and at most 86400",
            ));
        }
        let r = self.incidents;
        if !(1..=60).contains(&r.of) {
            return Err(ModelError::parameter("incidents.of", r.of, "1 to 60"));
        }
        if !(1..=r.of).contains(&r.open) {
            return Err(ModelError::parameter("incidents.open", r.open, &format!("1 to incidents.of ({})", r.of)));
        }
        if !(1..=10_000).contains(&r.quiet) {
            return Err(ModelError::parameter("incidents.quiet", r.quiet, "1 to 10000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_sound_and_round_trips() {
        let r = Recipe::default();
        r.check().unwrap();
        let text = toml::to_string(&r).unwrap();
        assert_eq!(Recipe::parse(&text).unwrap(), r, "{text}");
        assert_eq!(Recipe::parse("").unwrap(), r);
    }

    #[test]
    fn errors_name_the_place() {
        let e = |t: &str| Recipe::parse(t).unwrap_err().to_string();
        assert!(e("\nwhat = 1\n").contains("line 2"), "{}", e("\nwhat = 1\n"));
        assert!(e("[budget]\nper_day = 0.0").contains("budget.per_day = 0"));
        assert!(e("[incidents]\nopen = 4\nof = 3").contains("incidents.open = 4"));
        assert!(e("detectors = []").contains("detectors = 0"));
        assert!(e("[[detectors]]\nkind = \"wizard\"").contains("wizard"));
    }
}
