use crate::context::ContextScale;
use crate::designers::Ask;
use crate::gp::{Data, Gp, Hyper, Mixture, fit_hyper};
use crate::noise::NoiseSplit;
use crate::trial::Prediction;
use crate::{Assignment, SearchError, SearchSpace, Trial, stats};

/// The most trials that condition a surrogate; longer histories are thinned, so that time stays bounded.
pub const MOST_POINTS: usize = 200;
/// The most trials that the marginal likelihood sees.
const MOST_FITTED: usize = 80;

/// A Gaussian process of one metric over a search space, in the metric's own unit.
///
/// Values that are all positive and spread over more than a factor 2 are modelled in logarithms: effects on such metrics
/// are ratios. The noise of a measurement is its own standard error plus a learned part. Numbers of the context (the
/// load) are inputs; answers are about the context of the [`Ask`], and only trials of its environment count.
#[derive(Debug, Clone)]
pub struct Surrogate {
    space: SearchSpace,
    /// The process of the most likely hyper-parameters, for what is climbed and ranked.
    gp: Gp,
    /// What is said of a configuration.
    mixture: Mixture,
    hyper: Hyper,
    /// The context that is asked about, as features.
    at: Vec<f64>,
    log: bool,
    centre: f64,
    scale: f64,
    points: usize,
}

/// One measurement of a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) value: f64,
    pub(crate) se: f64,
}

/// A relative change between two configurations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Expected relative change: 0.1 is 10 % more.
    pub mean: f64,
    /// 80 % interval.
    pub i80: (f64, f64),
    /// 95 % interval.
    pub i95: (f64, f64),
}

impl Surrogate {
    /// A model of `metric` from the usable trials of `ask`.
    ///
    /// # Errors
    /// [`SearchError::Surrogate`] when fewer than 3 trials have the metric, or the covariance cannot be factored.
    pub fn fit(ask: &Ask<'_>, metric: &str) -> Result<Self, SearchError> {
        Self::build(ask, metric, false)
    }

    /// The same over draws of the hyper-parameters instead of the most likely ones, for what is promised to people: its
    /// intervals hold what they say, at some 20 times the cost.
    pub(crate) fn marginal(ask: &Ask<'_>, metric: &str) -> Result<Self, SearchError> {
        Self::build(ask, metric, true)
    }

    fn build(ask: &Ask<'_>, metric: &str, marginal: bool) -> Result<Self, SearchError> {
        let bad = |problem: String| SearchError::Surrogate { metric: metric.to_owned(), problem };
        let measured: Vec<(usize, f64, f64)> = ask
            .trials
            .iter()
            .enumerate()
            .filter(|(_, t)| ask.is_here(t))
            .filter_map(|(i, t)| {
                let m = t.usable()?.metric(metric, &ask.objective.metric)?;
                Some((i, m.value, m.se.unwrap_or(0.0)))
            })
            .collect();
        if measured.len() < 3 {
            return Err(bad(format!("{} measured trials: at least 3 are needed", measured.len())));
        }
        let values: Vec<f64> = measured.iter().map(|m| m.1).collect();
        let (low, high) = (stats::quantile(&values, 0.0), stats::quantile(&values, 1.0));
        let log = low > 0.0 && high / low > 2.0;
        let t: Vec<f64> = values.iter().map(|v| if log { v.ln() } else { *v }).collect();
        let (centre, scale) = (stats::mean(&t), positive(stats::sd(&t)));
        let sign = ask.objective.goal.sign();
        let losses: Vec<f64> = t.iter().map(|v| sign * v).collect();
        let kept = thin(&losses, MOST_POINTS);
        let context = ContextScale::of(ask.trials);
        let features = |t: &Trial| {
            let mut x = ask.space.features(&t.parameters);
            x.extend(context.features(&t.context));
            x
        };
        let data = Data {
            x: kept.iter().map(|&k| features(&ask.trials[measured[k].0])).collect(),
            y: kept.iter().map(|&k| (t[k] - centre) / scale).collect(),
            known: kept
                .iter()
                .map(|&k| {
                    let se = if log { measured[k].2 / measured[k].1 } else { measured[k].2 } / scale;
                    se * se
                })
                .collect(),
        };
        let d = ask.space.len();
        let groups: Vec<usize> = ask.space.feature_groups().into_iter().chain(d..d + context.len()).collect();
        let parameters = d + context.len();
        let hyper = fit_thinned(&data, sign, &groups, parameters);
        let gp = Gp::new(&hyper, &groups, &data).ok_or_else(|| bad("its covariance is singular".to_owned()))?;
        let several = || {
            let few = fitted(&data, sign);
            Mixture::marginal(
                &data,
                few.as_ref().unwrap_or(&data),
                &groups,
                parameters,
                &hyper,
                ask.seed.child("hyper"),
            )
        };
        let mixture = marginal.then(several).flatten().unwrap_or_else(|| Mixture::one(gp.clone()));
        let at = context.features(ask.context);
        Ok(Self { space: ask.space.clone(), gp, mixture, hyper, at, log, centre, scale, points: kept.len() })
    }

    /// How many trials condition the model.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Length of each parameter in unit ranges: short ones matter.
    pub fn lengths(&self) -> &[f64] {
        &self.hyper.lengths[..self.space.len()]
    }

    /// Features of a configuration with those of the context behind them.
    fn input(&self, assignment: &Assignment) -> Vec<f64> {
        self.extended(&self.space.features(assignment))
    }

    fn extended(&self, features: &[f64]) -> Vec<f64> {
        features.iter().chain(&self.at).copied().collect()
    }

    /// Learned standard deviation of a single measurement relative to the spread of the values.
    pub fn noise(&self) -> f64 {
        self.hyper.noise.sqrt()
    }

    /// What the metric would be under `assignment`: posterior mean and standard deviation, without measurement noise.
    pub fn predict(&self, assignment: &Assignment) -> Prediction {
        let (m, s) = self.mixture.posterior(&self.input(assignment));
        let (m, s) = (self.centre + self.scale * m, self.scale * s);
        if self.log {
            let mean = (m + s * s / 2.0).exp();
            Prediction { mean, sd: mean * (s * s).exp_m1().sqrt() }
        } else {
            Prediction { mean: m, sd: s }
        }
    }

    /// What every configuration measured gives, on the process's own scale: between the posterior mean and the mean of its
    /// measurements, which repeats bring closer to the latter.
    pub(crate) fn levels_of_measured(&self, configurations: &[(&Assignment, Vec<Measured>)]) -> Vec<f64> {
        let on_scale = |m: &Measured| (if self.log { m.value.ln() } else { m.value } - self.centre) / self.scale;
        let error = |m: &Measured| (if self.log { m.se / m.value } else { m.se } / self.scale).powi(2);
        let values: Vec<Vec<f64>> = configurations.iter().map(|(_, r)| r.iter().map(on_scale).collect()).collect();
        let split = NoiseSplit::of(self.hyper.noise, values.iter().map(Vec::as_slice));
        let level = |((a, repeats), values): (&(&Assignment, Vec<Measured>), &Vec<f64>)| {
            let (smooth, sd) = self.mixture.posterior(&self.input(a));
            let n = repeats.len() as f64;
            let known = repeats.iter().map(error).sum::<f64>() / n;
            split.level((smooth, sd * sd), values.iter().sum::<f64>() / n, n, known).0
        };
        configurations.iter().zip(&values).map(level).collect()
    }

    /// Posterior mean on the modelled scale (logarithm or not): cheap, for importances.
    pub(crate) fn level(&self, features: &[f64]) -> f64 {
        self.gp.mean(&self.extended(features))
    }

    /// Loss to be made small, made large with its gradient: minus posterior mean minus `doubt` standard deviations, in the
    /// process's own scale.
    pub(crate) fn careful(&self, features: &[f64], sign: f64, doubt: f64) -> (f64, Vec<f64>) {
        let (m, s, dm, ds) = self.gp.posterior_gradient(&self.extended(features));
        (-sign * m - doubt * s, dm.iter().zip(&ds).take(features.len()).map(|(a, b)| -sign * a - doubt * b).collect())
    }

    /// Standard deviation of one measurement at a value of `level`, in the metric's unit.
    pub(crate) fn noise_in_unit(&self, level: f64) -> f64 {
        self.noise() * self.scale * if self.log { level } else { 1.0 }
    }

    /// Difference `to - from` on the modelled scale: mean and standard deviation, correlated.
    pub(crate) fn difference(&self, from: &[f64], to: &[f64]) -> (f64, f64) {
        self.apart(self.mixture.joint(&self.extended(from), &self.extended(to)))
    }

    /// The same by the most likely process alone: what parameters do, without the doubt whether an unmeasured
    /// configuration keeps to it.
    pub(crate) fn likely_difference(&self, from: &[f64], to: &[f64]) -> (f64, f64) {
        self.apart(self.gp.joint(&self.extended(from), &self.extended(to)))
    }

    fn apart(&self, ([a, b], [va, vb, cab]): ([f64; 2], [f64; 3])) -> (f64, f64) {
        (self.scale * (b - a), self.scale * (va + vb - 2.0 * cab).max(0.0).sqrt())
    }

    /// The relative change of the metric when `from` is replaced by `to`.
    ///
    /// In logarithms `exp(d) - 1`; otherwise `d / |from|` with the delta method for the uncertain denominator. The two
    /// posteriors are correlated, so that what is unknown about both cancels. `None` when the metric is so near 0 under
    /// `from` that a ratio means nothing.
    pub fn effect(&self, from: &Assignment, to: &Assignment) -> Option<Effect> {
        let (from, to) = (self.input(from), self.input(to));
        let ([a, b], [va, vb, cab]) = self.mixture.joint(&from, &to);
        let w = self.scale * self.scale;
        let (va, vb, cab) = (va * w, vb * w, cab * w);
        let (a, b) = (self.centre + self.scale * a, self.centre + self.scale * b);
        let z = |level: f64| stats::normal_quantile(0.5 + level / 2.0);
        if self.log {
            let (m, s) = (b - a, (va + vb - 2.0 * cab).max(0.0).sqrt());
            let at = |level: f64| ((m - z(level) * s).exp_m1(), (m + z(level) * s).exp_m1());
            return Some(Effect { mean: (m + s * s / 2.0).exp_m1(), i80: at(0.8), i95: at(0.95) });
        }
        if a.abs() < 3.0 * va.sqrt() || a == 0.0 {
            return None;
        }
        let (m, base) = ((b - a) / a.abs(), a.abs());
        // First order: the change is (db - r da) / |a| with r = b / a.
        let r = b / a;
        let s = (vb - 2.0 * r * cab + r * r * va).max(0.0).sqrt() / base;
        let at = |level: f64| (m - z(level) * s, m + z(level) * s);
        Some(Effect { mean: m, i80: at(0.8), i95: at(0.95) })
    }

    /// The probability that the metric under `assignment` is on the wrong side of a limit: `sign * value > sign * limit`.
    pub fn p_beyond(&self, assignment: &Assignment, limit: f64, sign: f64) -> f64 {
        let (m, s) = self.mixture.posterior(&self.input(assignment));
        let (m, s) = (self.centre + self.scale * m, self.scale * s);
        let limit = match (self.log, limit > 0.0) {
            (false, _) => limit,
            (true, true) => limit.ln(),
            // A positive metric is above every limit of 0 or below.
            (true, false) => return if sign > 0.0 { 1.0 } else { 0.0 },
        };
        stats::normal_cdf(sign * (m - limit) / s.max(1e-300))
    }
}

pub(crate) fn positive(v: f64) -> f64 {
    if v > 1e-300 && v.is_finite() { v } else { 1.0 }
}

/// Hyper-parameters from at most [`MOST_FITTED`] of the points; `sign` is 1 where small values are good, else -1.
pub(crate) fn fit_thinned(data: &Data, sign: f64, groups: &[usize], parameters: usize) -> Hyper {
    fit_hyper(fitted(data, sign).as_ref().unwrap_or(data), groups, parameters)
}

/// The [`MOST_FITTED`] points that the marginal likelihood sees, where there are more.
fn fitted(data: &Data, sign: f64) -> Option<Data> {
    if data.y.len() <= MOST_FITTED {
        return None;
    }
    let losses: Vec<f64> = data.y.iter().map(|y| sign * y).collect();
    let kept = thin(&losses, MOST_FITTED);
    Some(Data {
        x: kept.iter().map(|&k| data.x[k].clone()).collect(),
        y: kept.iter().map(|&k| data.y[k]).collect(),
        known: kept.iter().map(|&k| data.known[k]).collect(),
    })
}

/// At most `most` places of `losses`, in order: the best half, the newest quarter, and the rest evenly over time.
pub(crate) fn thin(losses: &[f64], most: usize) -> Vec<usize> {
    let n = losses.len();
    if n <= most {
        return (0..n).collect();
    }
    let mut ranked: Vec<usize> = (0..n).collect();
    ranked.sort_by(|a, b| losses[*a].total_cmp(&losses[*b]).then(a.cmp(b)));
    let mut keep = vec![false; n];
    ranked[..most / 2].iter().for_each(|i| keep[*i] = true);
    (n - most / 4..n).for_each(|i| keep[i] = true);
    let others: Vec<usize> = (0..n).filter(|i| !keep[*i]).collect();
    let room = most - keep.iter().filter(|k| **k).count();
    for k in 0..room.min(others.len()) {
        keep[others[k * others.len() / room.min(others.len())]] = true;
    }
    (0..n).filter(|i| keep[*i]).collect()
}
