use crate::{Relative, stats};
use foreglow_core::stats::Boundary;

/// Length of a block in autocorrelation times: blocks that long are nearly independent, single samples are not.
pub const BLOCK_TIMES: f64 = 5.0;
/// The fewest blocks an arm from which anything is said.
pub const FEWEST_BLOCKS: usize = 8;

/// The samples of one arm in the order they were measured; `NaN` is missing.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// The metric.
    pub values: &'a [f64],
    /// What was measured at the same time and cannot depend on the change (the load): it takes out common movement
    /// (CUPED, Deng et al. 2013, doi:10.1145/2433396.2433413).
    pub covariate: Option<&'a [f64]>,
}

impl<'a> Samples<'a> {
    /// Samples without a covariate.
    pub fn of(values: &'a [f64]) -> Self {
        Self { values, covariate: None }
    }
}

/// Block means of the arms, adjusted for the covariate where that helps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blocks {
    /// One list an arm.
    pub(crate) arms: Vec<Vec<f64>>,
    /// Samples a block.
    pub(crate) length: usize,
    /// Integrated autocorrelation time, in samples: the arms' mean, weighted by their length.
    pub(crate) time: f64,
    /// The share of variance that the covariate took out.
    pub(crate) explained: f64,
    /// What taking it out may be wrong by, between the first two arms: the standard error of its slope times how far its
    /// mean is from one arm to the other.
    pub(crate) doubt: f64,
}

/// Cuts the arms into blocks of [`BLOCK_TIMES`] autocorrelation times.
pub(crate) fn blocks(arms: &[Samples<'_>]) -> Blocks {
    let (mut sum, mut weight) = (0.0, 0.0);
    for a in arms {
        let n = a.values.iter().filter(|v| v.is_finite()).count() as f64;
        let t = stats::integrated_autocorrelation_time(&finite(a.values));
        if t.is_finite() {
            sum += n * t;
            weight += n;
        }
    }
    let time = if weight > 0.0 { (sum / weight).max(1.0) } else { 1.0 };
    let length = (BLOCK_TIMES * time).ceil() as usize;
    let mut out = Vec::with_capacity(arms.len());
    let mut covariates = Vec::with_capacity(arms.len());
    for a in arms {
        let (mut y, mut x) = (Vec::new(), Vec::new());
        for k in 0..a.values.len() / length {
            let here = k * length..(k + 1) * length;
            let m = stats::mean(&finite(&a.values[here.clone()]));
            if m.is_finite() {
                y.push(m);
                let c = a.covariate.and_then(|c| c.get(here)).map_or(f64::NAN, |c| stats::mean(&finite(c)));
                x.push(c);
            }
        }
        out.push(y);
        covariates.push(x);
    }
    let (explained, doubt) = adjust(&mut out, &covariates);
    Blocks { arms: out, length, time, explained, doubt }
}

/// Finite values; others are missing.
fn finite(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| if v.is_finite() { *v } else { f64::NAN }).collect()
}

/// Means of a covariate that lie further apart than so many of its deviations within arms are no accident.
const MOVED: f64 = 1.0;

/// Takes `theta (x - mean of all x)` out of every block, with `theta` from the variation within arms; answers the share
/// of variance that went with it, and the error that the first two arms' difference has by that of `theta`. Nothing
/// happens when a covariate is missing, or explains less than a tenth and is alike in all arms: where it moved from one to
/// the other, what it did is not the change's, however little is known of it.
fn adjust(arms: &mut [Vec<f64>], covariates: &[Vec<f64>]) -> (f64, f64) {
    let all: Vec<f64> = covariates.iter().flatten().copied().collect();
    if all.len() < 2 * FEWEST_BLOCKS || all.iter().any(|x| !x.is_finite()) {
        return (0.0, 0.0);
    }
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (y, x) in arms.iter().zip(covariates) {
        let (my, mx) = (stats::mean(y), stats::mean(x));
        for (b, a) in y.iter().zip(x) {
            xy += (a - mx) * (b - my);
            xx += (a - mx) * (a - mx);
            yy += (b - my) * (b - my);
        }
    }
    if xx <= 0.0 || yy <= 0.0 {
        return (0.0, 0.0);
    }
    let explained = xy * xy / (xx * yy);
    let freedom = (all.len() - arms.len() - 1) as f64;
    let means: Vec<f64> = covariates.iter().map(|x| stats::mean(x)).collect();
    let shift = if let [a, b, ..] = means[..] { (b - a).abs() } else { 0.0 };
    if explained < 0.1 && shift < MOVED * (xx / freedom).sqrt() {
        return (0.0, 0.0);
    }
    let (theta, centre) = (xy / xx, stats::mean(&all));
    let theta_error = ((yy - theta * xy).max(0.0) / freedom / xx).sqrt();
    for (y, x) in arms.iter_mut().zip(covariates) {
        for (b, a) in y.iter_mut().zip(x) {
            *b -= theta * (a - centre);
        }
    }
    (explained, theta_error * shift)
}

/// A difference of two means, with what judging it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    /// Mean of the second arm minus mean of the first.
    pub(crate) value: f64,
    /// Its standard error.
    pub(crate) se: f64,
    /// Independent observations behind it: the harmonic mean of the arms' blocks.
    pub(crate) n: f64,
    /// Mean of the first arm.
    pub(crate) base: f64,
}

/// A difference relative to its base, with 80 and 95 % intervals of one look: `t` over `n` observations. `None` when the
/// base is 0.
pub(crate) fn relative(value: f64, se: f64, n: f64, base: f64) -> Option<Relative> {
    let at = |level: f64| {
        let w = se * Boundary::Fixed.critical(n, 1.0 - level);
        [(value - w) / base.abs(), (value + w) / base.abs()]
    };
    (base != 0.0).then(|| Relative { mean: value / base.abs(), i80: at(0.8), i95: at(0.95) })
}

/// The second arm against the first; `None` with fewer than 2 blocks in either.
pub(crate) fn difference(control: &[f64], treatment: &[f64]) -> Option<Difference> {
    if control.len() < 2 || treatment.len() < 2 {
        return None;
    }
    let (a, b) = (control.len() as f64, treatment.len() as f64);
    let se = (stats::sd(control).powi(2) / a + stats::sd(treatment).powi(2) / b).sqrt();
    let base = stats::mean(control);
    Some(Difference { value: stats::mean(treatment) - base, se, n: 2.0 * a * b / (a + b), base })
}
