//! The server says what will come; then it comes.

use crate::draw::{Pen, number, sparkline};
use crate::plan;
use crate::player::Player;
use crate::summary::ForecastOutcome;
use anyhow::{Context, Result};
use foreglow_core::Timestamp;
use foreglow_core::stats::mean;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is forecast: the load of the next day.
const METRIC: &str = "arrival_per_s";

#[derive(Deserialize)]
struct Reply {
    forecasts: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    labels: BTreeMap<String, String>,
    model: String,
    levels: Vec<f64>,
    timestamps: Vec<Timestamp>,
    /// One row a step, one value a level.
    quantiles: Vec<Vec<Option<f64>>>,
}

impl Series {
    fn quantile(&self, level: f64) -> Result<Vec<f64>> {
        let at = self.levels.iter().position(|l| (l - level).abs() < 1e-9);
        let at = at.with_context(|| format!("the forecast has no quantile {level}"))?;
        Ok(self.quantiles.iter().map(|row| row.get(at).copied().flatten().unwrap_or(f64::NAN)).collect())
    }
}

/// Asks for a day, plays that day, and compares.
pub(crate) async fn forecast(player: &mut Player, pen: Pen) -> Result<ForecastOutcome> {
    let steps = plan::ticks(plan::HORIZON);
    let day = plan::ticks(plan::DAY);
    let horizon = steps.to_string();
    let selector = format!("{METRIC}{{service=\"swarm\"}}");
    let query = [("match[]", selector.as_str()), ("horizon", horizon.as_str()), ("quantiles", "0.1,0.5,0.9")];
    let reply: Reply = player.client.get("/v1/forecast", &query).await?;
    let said = reply
        .forecasts
        .into_iter()
        .find(|s| !s.labels.contains_key("agent"))
        .context("the server has no forecast of the load")?;
    let (low, middle, high) = (said.quantile(0.1)?, said.quantile(0.5)?, said.quantile(0.9)?);
    let past = player.last(METRIC, 2 * day);

    player.play(plan::HORIZON + 2 * std::time::Duration::from_millis(plan::STEP_MS as u64), |_, _| {}).await?;
    let came: BTreeMap<Timestamp, f64> = player.ticks.iter().map(|t| (t.timestamp, t.swarm.arrival_per_s)).collect();
    let at = |t: &Timestamp| came.get(t).copied().unwrap_or(f64::NAN);
    let actual: Vec<f64> = said.timestamps.iter().map(at).collect();
    let a_day_ago: Vec<f64> = said.timestamps.iter().map(|t| at(&t.plus(-(plan::DAY.as_millis() as i64)))).collect();
    let error = |guess: &[f64]| mean(&actual.iter().zip(guess).map(|(a, g)| (a - g).abs()).collect::<Vec<_>>());
    let outcome = ForecastOutcome {
        metric: METRIC.to_owned(),
        horizon: steps,
        inside_80: actual.iter().zip(low.iter().zip(&high)).filter(|(a, (l, h))| *l <= *a && *a <= *h).count(),
        mean_error: error(&middle),
        seasonal_naive_error: error(&a_day_ago),
    };

    let all = past.iter().chain(&actual).chain(&low).chain(&high).copied().filter(|v| v.is_finite());
    let (bottom, top) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let gap = " ".repeat(past.len());
    pen.item("model", &said.model);
    pen.item(
        "past | came",
        &format!("{}|{}", sparkline(&past, bottom, top, past.len()), sparkline(&actual, bottom, top, steps)),
    );
    for (name, values) in [("90 %", &high), ("median", &middle), ("10 %", &low)] {
        pen.item(name, &pen.dim(&format!("{gap}|{}", sparkline(values, bottom, top, steps))));
    }
    pen.item(
        "came true",
        &format!(
            "{} of {steps} steps inside the 80 % band; median off by {} tasks/s, a repeat of the last day by {}",
            outcome.inside_80,
            number(outcome.mean_error),
            number(outcome.seasonal_naive_error)
        ),
    );
    Ok(outcome)
}
