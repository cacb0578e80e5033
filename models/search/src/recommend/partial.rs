//! What one parameter does while all others stay as they are, as far as the trials can tell.

use super::importance::importances;
use crate::{Assignment, SearchError, Study, Surrogate, Value, stats};
use serde::{Deserialize, Serialize};

/// Points of a curve over a parameter with many values.
const POINTS: usize = 21;
/// A curve whose 80 % band is on average wider than this share of the metric's spread says nothing yet.
const WIDEST: f64 = 1.5;

/// The effect of one parameter on one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartialEffect {
    /// The parameter.
    pub parameter: String,
    /// The metric.
    pub metric: String,
    /// Total-effect Sobol index over the space: the share of the metric's modelled variance that goes with it.
    pub importance: f64,
    /// The curve, or why there is none.
    pub curve: Curve,
}

/// A curve with its band, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Curve {
    /// Points in the order of the parameter's values.
    Known {
        /// The points.
        points: Vec<CurvePoint>,
    },
    /// Not enough data.
    Unknown {
        /// Why.
        unknown_because: String,
    },
}

/// The metric under one value of the parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The parameter's value.
    pub value: Value,
    /// Posterior mean, in the metric's unit.
    pub mean: f64,
    /// 80 % band of the mean.
    pub band: [f64; 2],
    /// How many usable trials had this value, or one nearer to it than to the next point.
    pub trials: usize,
}

impl Study {
    /// The effect of every parameter on `metric` around the current configuration (the best one when none is current),
    /// most important first. Inactive parameters are left out.
    ///
    /// # Errors
    /// [`SearchError::Surrogate`]: fewer than 3 trials have the metric.
    pub fn partial_effects(&self, metric: &str) -> Result<Vec<PartialEffect>, SearchError> {
        let ask = self.view();
        let space = self.space();
        let model = Surrogate::fit(&ask, metric)?;
        let centre = space.current().or_else(|| self.best_measured().map(|t| t.parameters.clone()));
        let Some(centre) = centre else {
            let problem = "no configuration is current and none was measured".to_owned();
            return Err(SearchError::Surrogate { metric: metric.to_owned(), problem });
        };
        let usable: Vec<&Assignment> =
            self.trials().iter().filter(|t| t.usable().is_some() && ask.is_here(t)).map(|t| &t.parameters).collect();
        let values: Vec<f64> = self
            .trials()
            .iter()
            .filter_map(|t| Some(t.usable()?.metric(metric, &self.spec().objective.metric)?.value))
            .collect();
        let spread = stats::sd(&values);
        let needed = (space.len() + 4).max(8);
        let shares = importances(&model, space, self.spec().seed);
        let mut out = Vec::new();
        for (i, p) in space.parameters().iter().enumerate() {
            if !centre.contains_key(p.name()) {
                continue;
            }
            let curve = if values.len() < needed {
                Curve::Unknown {
                    unknown_because: format!("not enough data: {} usable trials, {needed} needed", values.len()),
                }
            } else {
                self.curve(&model, &centre, i, &usable, spread)
            };
            let (parameter, metric) = (p.name().to_owned(), metric.to_owned());
            out.push(PartialEffect { parameter, metric, importance: shares[i], curve });
        }
        out.sort_by(|a, b| b.importance.total_cmp(&a.importance));
        Ok(out)
    }

    fn curve(&self, model: &Surrogate, centre: &Assignment, i: usize, usable: &[&Assignment], spread: f64) -> Curve {
        let space = self.space();
        let p = &space.parameters()[i];
        let varied: std::collections::BTreeSet<String> =
            usable.iter().filter_map(|a| a.get(p.name())).map(ToString::to_string).collect();
        if varied.len() < 2 {
            return Curve::Unknown {
                unknown_because: format!("not enough data: `{}` never had another value", p.name()),
            };
        }
        let positions: Vec<f64> = match p.count() {
            Some(n) if n <= POINTS as u64 => (0..n).map(|k| p.position(&p.reachable(k))).collect(),
            _ => {
                let (a, b) = p.grid_range();
                let ordinary = (0..POINTS).map(|k| a + (b - a) * k as f64 / (POINTS - 1) as f64);
                ordinary.chain((0..p.specials().len()).map(|k| p.position(&p.special(k)))).collect()
            }
        };
        let z = stats::normal_quantile(0.9);
        let mut points: Vec<CurvePoint> = positions
            .iter()
            .map(|u| {
                let value = p.at(*u);
                let mut a = centre.clone();
                a.insert(p.name().to_owned(), value.clone());
                let q = model.predict(&a);
                CurvePoint { value, mean: q.mean, band: [q.mean - z * q.sd, q.mean + z * q.sd], trials: 0 }
            })
            .collect();
        for a in usable {
            let Some(v) = a.get(p.name()) else { continue };
            let u = p.position(v);
            let near = (0..positions.len())
                .min_by(|x, y| (positions[*x] - u).abs().total_cmp(&(positions[*y] - u).abs()))
                .unwrap_or(0);
            points[near].trials += 1;
        }
        let width = points.iter().map(|c| c.band[1] - c.band[0]).sum::<f64>() / points.len() as f64;
        if width > WIDEST * spread {
            return Curve::Unknown {
                unknown_because: format!(
                    "not enough data: the band is {:.1} times as wide as the metric's spread",
                    width / spread.max(1e-300)
                ),
            };
        }
        Curve::Known { points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Goal, Measurement, Objective, ParameterSpec, SpaceSpec, StudySpec};

    fn study(n: usize) -> Study {
        let space = SpaceSpec(vec![
            ParameterSpec::float("x", 0.0, 1.0).current(0.5),
            ParameterSpec::int("idle", 1, 4).current(2),
            ParameterSpec::boolean("on").current(false),
        ]);
        let objective = Objective { metric: "y".into(), aggregate: crate::Aggregate::Mean, goal: Goal::Min };
        let mut s = StudySpec::new("s", space, objective).check().unwrap();
        for _ in 0..n {
            let t = s.ask().unwrap();
            let id = t.id;
            let x = t.parameters["x"].as_number().unwrap();
            let on = f64::from(u8::from(t.parameters["on"] == Value::Bool(true)));
            s.tell(id, Measurement::of(10.0 + 4.0 * (x - 0.3).powi(2) + 0.5 * on)).unwrap();
        }
        s
    }

    #[test]
    fn curves_follow_the_truth_and_say_when_they_cannot() {
        let s = study(30);
        let effects = s.partial_effects("y").unwrap();
        assert_eq!(effects[2].parameter, "idle", "least important last: {effects:?}");
        let x = effects.iter().find(|e| e.parameter == "x").unwrap();
        let Curve::Known { points } = &x.curve else { panic!("{:?}", x.curve) };
        assert_eq!(points.len(), 21);
        let near = |v: f64| &points[(v * 20.0) as usize];
        assert!((near(0.3).mean - 10.0).abs() < 0.1 && (near(0.9).mean - 11.44).abs() < 0.3, "{points:?}");
        assert!(near(0.3).band[0] <= 10.05 && near(0.3).band[1] >= 9.95);
        assert_eq!(points.iter().map(|p| p.trials).sum::<usize>(), 30);
        let few = study(5).partial_effects("y").unwrap();
        assert!(
            matches!(&few[0].curve, Curve::Unknown { unknown_because } if unknown_because.contains("not enough data"))
        );
        assert!(s.partial_effects("heat").is_err());
    }
}
