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

    /// Reads the end of `history` (the last value at `last`) and what is known of the steps `spacing`, `2 spacing`, ...
    /// ahead. Nothing but the last [`LstmShape::reach`] values counts.
    pub(super) fn fill(
        &mut self,
        shape: &LstmShape,
        history: &[f64],
        last: Timestamp,
        step: Step,
        spacing: usize,
    ) -> Verdict {
        let values = &history[history.len().saturating_sub(shape.reach())..];
        let Some((_, newest)) = last_observed(values) else { return Verdict::Empty };
        let recent = &values[values.len().saturating_sub(shape.context())..];
        let scale = WindowScale::fit(recent);
        if scale.observed == 0 || scale.constant {
            return Verdict::Constant(newest);
        }
        let change = seasonal_mean_change(values, shape.season, shape.context()).filter(|c| c.is_finite());
        self.unit = change.unwrap_or(scale.spread).clamp(UNIT_FLOOR * scale.spread, 1e3 * scale.spread);
        self.read_past(shape, values, &scale, last, step);
        self.look_ahead(shape, values, &scale, last, step, spacing);
        Verdict::Usable
    }

    /// The past as patches, oldest first: means of bins of values and of seasonal changes, and the share that is there.
    /// What lies before the history is missing.
    fn read_past(&mut self, shape: &LstmShape, values: &[f64], scale: &WindowScale, last: Timestamp, step: Step) {
        let (m, n, unit, bins) = (shape.season, values.len(), self.unit, shape.bins);
        let channels = shape.channels();
        let ratio = libm::log(unit / scale.spread) as f32;
        for p in 0..shape.patches {
            let row = &mut self.inputs[p * channels..(p + 1) * channels];
            let oldest = shape.context() - p * shape.patch();
            for j in 0..bins {
                let (mut value, mut change, mut there, mut pairs) = (0.0, 0.0, 0usize, 0usize);
                for i in 0..shape.bin {
                    let back = oldest - j * shape.bin - i;
                    let x = if back <= n { values[n - back] } else { f64::NAN };
                    let d = if back + m <= n { x / unit - values[n - back - m] / unit } else { f64::NAN };
                    if x.is_finite() {
                        value += scale.apply(x);
                        there += 1;
                    }
                    if d.is_finite() {
                        change += d;
                        pairs += 1;
                    }
                }
                row[j] = if there > 0 { squash(value / there as f64) } else { 0.0 };
                row[bins + j] = if pairs > 0 { squash(change / pairs as f64) } else { 0.0 };
                row[2 * bins + j] = there as f32 / shape.bin as f32;
            }
            row[3 * bins] = ratio;
            if shape.calendar {
                let at = channels - 1 - crate::transform::PHASES;
                row[at..channels - 1].copy_from_slice(&calendar_phases(last.plus((1 - oldest as i64) * step.ms())));
            }
            row[channels - 1] = 1.0;
        }
    }

    /// What is known of each step of the block.
    fn look_ahead(
        &mut self,
        shape: &LstmShape,
        values: &[f64],
        scale: &WindowScale,
        last: Timestamp,
        step: Step,
        spacing: usize,
    ) {
        let (m, n, unit) = (shape.season, values.len(), self.unit);
        let newest = last_observed(values).map_or(0.0, |l| l.1);
        let over = |a: f64, b: f64| squash(a / unit - b / unit);
        for (k, a) in self.anchors.iter_mut().enumerate() {
            *a = anchor(values, m, spacing * (k + 1), newest);
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
        let newest_changes = [changes(1), changes((m / 24).max(2)), changes((m / 6).max(6)), changes(m.max(16))];
        let features = shape.features();
        for k in 0..shape.block {
            let ahead = spacing * (k + 1);
            let anchor = self.anchors[k];
            let other = |v: Option<f64>| v.map_or((0.0, 0.0), |v| (over(v, anchor), 1.0));
            let (second, has_second) = other(value_seasons_back(values, m, ahead, 1));
            let (week, has_week) =
                if shape.week > 0 { other(value_seasons_back(values, shape.week, ahead, 0)) } else { (0.0, 0.0) };
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
                (libm::log2(ahead as f64) / 8.0) as f32,
                (libm::log2(spacing as f64) / 4.0) as f32,
                newest_changes[0],
                newest_changes[1],
                newest_changes[2],
                newest_changes[3],
            ];
            row[..known.len()].copy_from_slice(&known);
            if shape.calendar {
                let t = last.plus((ahead as i64).saturating_mul(step.ms()));
                row[known.len()..].copy_from_slice(&calendar_phases(t));
            }
            let [a, b, c, d] = newest_changes;
            self.skips[k * SKIPS..(k + 1) * SKIPS].copy_from_slice(&[second, week, a, b, c, d]);
        }
    }

    /// A value whose anchor is `anchor` as the net gives it.
    pub(super) fn encode(&self, anchor: f64, value: f64) -> f32 {
        squash(value / self.unit - anchor / self.unit)
    }

    /// The inverse of [`Window::encode`].
    pub(super) fn decode(&self, anchor: f64, u: f32) -> f64 {
        let u = f64::from(u).clamp(-FAR, FAR);
        (anchor + self.unit * libm::sinh(u)).clamp(f64::MIN, f64::MAX)
    }

    /// The window upside down: what it would be if every value had the other sign.
    pub(super) fn negate(&mut self, shape: &LstmShape) {
        let (channels, features) = (shape.channels(), shape.features());
        for row in self.inputs.chunks_exact_mut(channels) {
            row[..2 * shape.bins].iter_mut().for_each(|v| *v = -*v);
        }
        for row in self.features.chunks_exact_mut(features) {
            for i in [0, 1, 3, 5, 6, 9, 10, 11, 12] {
                row[i] = -row[i];
            }
        }
        self.skips.iter_mut().for_each(|v| *v = -*v);
    }
}

/// The seasonal naive value `ahead` steps behind `values`.
pub(super) fn anchor(values: &[f64], season: usize, ahead: usize, newest: f64) -> f64 {
    value_seasons_back(values, season, ahead, 0).unwrap_or(newest)
}
