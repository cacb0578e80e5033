//! What other libraries give for synthetic series: see `tests/golden/forecast/make_golden.py`.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) season: usize,
    pub(super) values: Vec<f64>,
    pub(super) theta: ThetaCase,
    pub(super) holt: HoltCase,
}

#[derive(Deserialize)]
pub(super) struct ThetaCase {
    pub(super) alpha: f64,
    pub(super) theta: f64,
    pub(super) level: f64,
    pub(super) seasonal: bool,
    pub(super) forecast: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct HoltCase {
    pub(super) alpha: f64,
    pub(super) beta: f64,
    pub(super) gamma: f64,
    pub(super) phi: f64,
    pub(super) level: f64,
    pub(super) trend: f64,
    pub(super) season: Vec<f64>,
    pub(super) forecast: Vec<f64>,
    pub(super) squares: f64,
}

pub(super) fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/golden/forecast/members.json")).unwrap()
}

/// Standard deviation of a series.
pub(super) fn scale(values: &[f64]) -> f64 {
    foreglow_core::stats::std_dev(values)
}
