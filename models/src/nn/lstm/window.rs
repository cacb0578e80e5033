use super::shape::{LstmShape, SKIPS};
use crate::transform::{WindowScale, calendar_phases, last_observed, seasonal_mean_change, value_seasons_back};
use foreglow_core::{Step, Timestamp};

/// The unit of deviations is at least this share of the window's spread.
const UNIT_FLOOR: f64 = 0.01;
/// Deviations are held inside ± this after the inverse hyperbolic sine: sinh 12 = 81,377 units.
pub(super) const FAR: f64 = 12.0;

/// What can be said of a window before any net.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// The net can read it.
    Usable,
    /// Every value in reach is this one.
    Constant(f64),
    /// No value in reach.
    Empty,
}

/// One window as the net reads it. The buffers are reused.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Shape (patches, channels).
    pub(super) inputs: Vec<f32>,
    /// Shape (block, features).
    pub(super) features: Vec<f32>,
    /// Shape (block, [`SKIPS`]).
    pub(super) skips: Vec<f32>,
    /// The seasonal naive value of each step ahead.
    pub(super) anchors: Vec<f64>,
    /// The unit of deviations from the anchors.
    pub(super) unit: f64,
}

/// `asinh`, held inside ± [`FAR`]; 0 for what is missing.
fn squash(x: f64) -> f32 {
    if x.is_nan() { 0.0 } else { libm::asinh(x).clamp(-FAR, FAR) as f32 }
}

impl Window {
    pub(super) fn new(shape: &LstmShape) -> Self {
        Self {
            inputs: vec![0.0; shape.patches * shape.channels()],
            features: vec![0.0; shape.block * shape.features()],
            skips: vec![0.0; shape.block * SKIPS],
            anchors: vec![0.0; shape.block],
            unit: 1.0,
        }
    }

    /// Reads the end of `history` (the last value at `last`). Nothing but the last [`LstmShape::reach`] values counts.
    pub(super) fn fill(&mut self, shape: &LstmShape, history: &[f64], last: Timestamp, step: Step) -> Verdict {
        let values = &history[history.len().saturating_sub(shape.reach())..];
        let (m, context, n) = (shape.season, shape.context(), values.len());
        let Some((_, newest)) = last_observed(values) else { return Verdict::Empty };
        let recent = &values[n.saturating_sub(context)..];
        let scale = WindowScale::fit(recent);
        if scale.observed == 0 || scale.constant {
            return Verdict::Constant(newest);
        }
        let change = seasonal_mean_change(values, m, context).filter(|c| c.is_finite());
        self.unit = change.unwrap_or(scale.spread).clamp(UNIT_FLOOR * scale.spread, 1e3 * scale.spread);
        let unit = self.unit;
        let over = |a: f64, b: f64| squash(a / unit - b / unit);
        // Inputs, oldest patch first; what lies before the history is missing.
        let channels = shape.channels();
        let ratio = libm::log(unit / scale.spread) as f32;
        for p in 0..shape.patches {
            let row = &mut self.inputs[p * channels..(p + 1) * channels];
            for j in 0..shape.patch {
                let back = context - (p * shape.patch + j);
                let x = if back <= n { values[n - back] } else { f64::NAN };
                let before = if back + m <= n { values[n - back - m] } else { f64::NAN };
                let there = x.is_finite();
                row[j] = if there { squash(scale.apply(x)) } else { 0.0 };
                row[shape.patch + j] = if there && before.is_finite() { over(x, before) } else { 0.0 };
                row[2 * shape.patch + j] = f32::from(u8::from(there));
            }
            row[3 * shape.patch] = ratio;
            if shape.calendar {
                let back = (context - p * shape.patch) as i64 - 1;
                let at = channels - 1 - crate::transform::PHASES;
                row[at..channels - 1].copy_from_slice(&calendar_phases(last.plus(-back * step.ms())));
            }
            row[channels - 1] = 1.0;
        }
        // Steps ahead.
        for (k, a) in self.anchors.iter_mut().enumerate() {
            *a = value_seasons_back(values, m, k + 1, 0).unwrap_or(newest);
        }
        let changes = |width: usize| -> f32 {
            let (mut sum, mut count) = (0.0, 0usize);
            for t in n.saturating_sub(width).max(m)..n {
                let d = values[t] / unit - values[t - m] / unit;
                if d.is_finite() {
                    sum += d;
                    count += 1;
                }
            }
            if count == 0 { 0.0 } else { squash(sum / count as f64) }
        };
        let (now, some) = (changes(1), changes(m.min(shape.patch).max(2)));
        let season = changes(m.max(4));
        let features = shape.features();
        for k in 0..shape.block {
            let anchor = self.anchors[k];
            let other = |v: Option<f64>| v.map_or((0.0, 0.0), |v| (over(v, anchor), 1.0));
            let (second, has_second) = other(value_seasons_back(values, m, k + 1, 1));
            let (week, has_week) =
                if shape.week > 0 { other(value_seasons_back(values, shape.week, k + 1, 0)) } else { (0.0, 0.0) };
            let row = &mut self.features[k * features..(k + 1) * features];
            let before = if k > 0 { self.anchors[k - 1] } else { newest };
            let after = self.anchors[(k + 1).min(shape.block - 1)];
            let known = [
                squash(scale.apply(anchor)),
                second,
                has_second,
                week,
                has_week,
                over(anchor, before),
                over(after, anchor),
                (k + 1) as f32 / shape.block as f32,
                now,
                season,
            ];
            row[..known.len()].copy_from_slice(&known);
            if shape.calendar {
                let t = last.plus((k as i64 + 1).saturating_mul(step.ms()));
                row[known.len()..].copy_from_slice(&calendar_phases(t));
            }
            self.skips[k * SKIPS..(k + 1) * SKIPS].copy_from_slice(&[second, week, now, some]);
        }
        Verdict::Usable
    }

    /// A value of step `k` as the net gives it.
    pub(super) fn encode(&self, k: usize, value: f64) -> f32 {
        squash(value / self.unit - self.anchors[k] / self.unit)
    }

    /// The inverse of [`Window::encode`].
    pub(super) fn decode(&self, k: usize, u: f32) -> f64 {
        let u = f64::from(u).clamp(-FAR, FAR);
        (self.anchors[k] + self.unit * libm::sinh(u)).clamp(f64::MIN, f64::MAX)
    }
}
