use super::calibrate::{Correction, Moves};
use super::combine::{Combined, combine};
use super::judge::{Company, NetMember};
use super::local::{Estimate, Local};
use super::naive::Naive;
use super::past::Past;
use super::quantiles::{LEVELS, Room, at_levels, finite};
use super::season;
use super::weights::{Prior, Weights};
use crate::nn::LstmNet;
use foreglow_core::{Forecaster, History};
use ndarray::Array2;

/// Under this many values there is nothing to judge members by.
const FEWEST: usize = 12;

/// How a forecast by a company of members is set up.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    /// Steps, 1 = none, absent = found in the history.
    pub(super) season: Option<usize>,
    /// Rolling origins.
    pub(super) origins: usize,
    /// Recent lags of the ridge.
    pub(super) lags: usize,
    /// The net and the index from which on it had not seen the history.
    pub(super) net: Option<(&'a LstmNet, usize)>,
    pub(super) prior: &'a Prior,
    pub(super) correction: &'a Correction,
}

/// What the rolling origins of a series say: who serves with which weight, with which parameters, and how the bands are
/// moved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weighed {
    season: usize,
    locals: Vec<Local>,
    /// Seasons and whether they are there: the test costs more than the forecast.
    tested: Vec<(usize, bool)>,
    weights: Weights,
    estimates: Vec<Option<Estimate>>,
    moves: Moves,
    floor: f64,
    unit: f64,
}

/// A history with the members that may speak on it.
pub(super) struct Case<'a> {
    pub(super) season: usize,
    pub(super) past: Past,
    pub(super) company: Company<'a>,
}

impl Setup<'_> {
    /// Runs `work` with the members for this history; `None` when it is too short or without any change.
    pub(super) fn with<T>(&self, history: &History<'_>, work: impl FnOnce(Case<'_>) -> T) -> Option<T> {
        let m = self.season.unwrap_or_else(|| season::of_history(history));
        let past = Past::read(history.values, m).filter(|p| p.len() >= FEWEST)?;
        let (low, high) = past.until(past.len()).range();
        if low >= high {
            return None;
        }
        let skipped = history.values.len() - past.len();
        let unit = past.unit();
        let forecast = |net: &LstmNet, cut: usize, horizon: usize| {
            let values = &history.values[..skipped + cut];
            let cut = History { values, last: history.time(values.len() - 1), step: history.step };
            net.quantiles(&cut, horizon).into_iter().map(|row| row.map(|v| v / unit)).collect::<Vec<_>>()
        };
        let asked = self.net.map(|(net, _)| move |cut: usize, horizon: usize| forecast(net, cut, horizon));
        let net = self
            .net
            .zip(asked.as_ref())
            .map(|((_, honest), asked)| NetMember { forecast: asked, honest_from: honest.saturating_sub(skipped) });
        let locals = Local::company(m, season::week(m, history.step), past.len(), self.lags);
        let case = Case {
            season: m,
            company: Company { locals, net, origins: self.origins, anew: false, tested: Vec::new() },
            past,
        };
        Some(work(case))
    }

    /// What the rolling origins of `history` say; `None` when it is too short or without any change.
    pub(super) fn plan(&self, history: &History<'_>, horizon: usize) -> Option<Weighed> {
        let history = self.newest(history);
        self.with(&history, |case| {
            let judged = case.company.judge(&case.past, horizon)?;
            let weights = judged.weights(self.prior);
            let n = case.past.len();
            let tested = case.company.test(case.past.until(n));
            let company = Company { tested, ..case.company };
            let estimates = company.estimate(case.past.until(n), horizon, |i| weights.serves(i));
            let moves = judged.scores(self.prior).moves(self.correction);
            Some(Weighed {
                season: case.season,
                locals: company.locals,
                tested: company.tested,
                weights,
                estimates,
                moves,
                floor: judged.floor(),
                unit: case.past.unit(),
            })
        })
        .flatten()
    }

    /// Quantiles at `levels` of the next `horizon` values of a series that `plan` was made for, with its weights,
    /// estimates and corrections: only the members that serve are computed, once.
    pub(super) fn follow(
        &self,
        plan: &Weighed,
        history: &History<'_>,
        horizon: usize,
        levels: &[f64],
    ) -> Option<Array2<f64>> {
        let history = self.newest(history);
        let setup = Setup { season: Some(plan.season), ..*self };
        setup
            .with(&history, |case| {
                let (locals, tested) = (plan.locals.clone(), plan.tested.clone());
                let case = Case { company: Company { locals, tested, ..case.company }, ..case };
                let n = case.past.len();
                // Estimates are in scaled units: in others they mean nothing.
                let renewed = (case.past.unit() != plan.unit)
                    .then(|| case.company.estimate(case.past.until(n), horizon, |i| plan.weights.serves(i)));
                let estimates = renewed.as_ref().unwrap_or(&plan.estimates);
                let floor = plan.floor * plan.unit / case.past.unit();
                let with_net = case.company.net.is_some() && plan.weights.serves(plan.locals.len());
                let attempt = case.company.attempt(&case.past, n, horizon, estimates, with_net);
                let mut combined = combine(&attempt, &plan.weights, horizon)?;
                plan.moves.apply(&mut combined, floor);
                Some((combined, case.past.unit()))
            })
            .flatten()
            .map(|(combined, unit)| table(&combined, unit, Room::around(history.values), levels))
    }

    /// Quantiles at `levels` of the next `horizon` values.
    pub(super) fn forecast(&self, history: &History<'_>, horizon: usize, levels: &[f64]) -> Array2<f64> {
        let made = self.plan(history, horizon).and_then(|p| self.follow(&p, history, horizon, levels));
        made.unwrap_or_else(|| Naive.forecast(history, horizon, levels))
    }

    /// The values that count, of a history that may be longer.
    fn newest<'h>(&self, history: &History<'h>) -> History<'h> {
        let values = &history.values[history.values.len().saturating_sub(season::context(self.season))..];
        History { values, ..*history }
    }

    /// The name of the member with the largest weight, for reports.
    pub(super) fn leader(&self, history: &History<'_>, horizon: usize) -> &'static str {
        self.plan(history, horizon).map_or("naive", |p| p.leader())
    }
}

impl Weighed {
    /// Steps of the season it was made with, 1 = none.
    pub(super) fn season(&self) -> usize {
        self.season
    }

    /// The name of the member with the largest weight.
    pub(super) fn leader(&self) -> &'static str {
        self.locals.get(self.weights.leader()).map_or("lstm", |l| l.kind.name())
    }
}

/// Quantiles in the series' own units at `levels`.
fn table(combined: &Combined, unit: f64, room: Room, levels: &[f64]) -> Array2<f64> {
    let mut out = Array2::zeros((combined.median.len(), levels.len()));
    for (k, (median, offsets)) in combined.median.iter().zip(&combined.offsets).enumerate() {
        let row: [f64; LEVELS] = std::array::from_fn(|l| room.hold(finite((median + offsets[l]) * unit)));
        at_levels(&row, levels, |l, v| out[[k, l]] = v);
    }
    out
}
