use super::table::escape;
use foreglow_core::Timestamp;
use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
/// Points drawn a curve: one a pixel column is all that can be seen.
const COLUMNS: usize = 900;

/// The scores of one series against time.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorePlot {
    /// Heading: series, detector.
    pub title: String,
    /// One a row, ascending.
    pub times: Vec<Timestamp>,
    /// One a row; `NaN` leaves a gap. The alert line is at 1.
    pub scores: Vec<f64>,
    /// One a row: labelled anomalous.
    pub labels: Vec<bool>,
    /// One a row: alert raised; drawn as marks below the curve.
    pub alerts: Vec<bool>,
    /// One metric to draw above the scores, with its name; one value a row.
    pub metric: Option<(String, Vec<f64>)>,
}

/// One forecast window as a fan.
#[derive(Debug, Clone, PartialEq)]
pub struct FanPlot {
    /// Heading: series, metric, model.
    pub title: String,
    /// Times of `past` and then of the steps ahead.
    pub times: Vec<Timestamp>,
    /// The last known values.
    pub past: Vec<f64>,
    /// What happened, one a step ahead.
    pub actual: Vec<f64>,
    /// Ascending levels; 0.5 is drawn as the line, symmetric pairs as bands.
    pub levels: Vec<f64>,
    /// One row a step ahead, one value a level.
    pub quantiles: Vec<Vec<f64>>,
}

/// A vertical axis: values to pixels.
struct Axis {
    low: f64,
    high: f64,
    top: f64,
    bottom: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, top: f64, bottom: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let pad = if high > low { (high - low) * 0.06 } else { 0.5 * high.abs().max(1.0) };
        // Halves, so that ends near the largest float do not overflow.
        Self { low: (low - pad).max(f64::MIN / 4.0), high: (high + pad).min(f64::MAX / 4.0), top, bottom }
    }

    fn y(&self, v: f64) -> f64 {
        let share = ((v - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.bottom - share * (self.bottom - self.top)
    }

    /// About four round values inside the axis.
    fn ticks(&self) -> Vec<f64> {
        let raw = (self.high - self.low) / 4.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
        let first = (self.low / step).ceil();
        (0..8).map(|i| (first + f64::from(i)) * step).take_while(|v| *v <= self.high).map(|v| v + 0.0).collect()
    }
}

fn x_at(i: usize, n: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * i as f64 / (n.max(2) - 1) as f64
}

pub(super) fn number(v: f64) -> String {
    let size = v.abs();
    let text = match size {
        _ if size == 0.0 => return "0".into(),
        _ if !(1e-3..1e6).contains(&size) => return format!("{v:.1e}"),
        _ if size >= 100.0 => format!("{v:.0}"),
        _ if size >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `2026-01-31 12:05` of a time that prints as RFC 3339.
pub(super) fn clock(t: Timestamp) -> String {
    t.to_string().replace('T', " ").chars().take(16).collect()
}

fn open(out: &mut String, height: f64, title: &str) {
    let _ = write!(
        out,
        "<figure><figcaption>{0}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">",
        escape(title)
    );
}

fn time_axis(out: &mut String, times: &[Timestamp], y: f64) {
    for k in 0..=4usize {
        let Some(last) = times.len().checked_sub(1) else { return };
        let i = last * k / 4;
        let anchor = ["start", "middle", "middle", "middle", "end"][k];
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x_at(i, times.len()),
            clock(times[i])
        );
    }
}

fn value_axis(out: &mut String, axis: &Axis, ticks: &[(f64, String)]) {
    for (at, text) in ticks {
        let y = axis.y(*at);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.5
        );
    }
}

/// A curve of `values` at columns `offset..` of `n`; long ones keep each column's lowest and highest value.
fn curve(out: &mut String, class: &str, values: &[f64], offset: usize, n: usize, axis: &Axis) {
    let mut path = String::new();
    let mut pen_down = false;
    let bucket = values.len().div_ceil(COLUMNS).max(1);
    for (k, chunk) in values.chunks(bucket).enumerate() {
        let mut ends: Vec<usize> = Vec::new();
        for pick in [f64::lt as fn(&f64, &f64) -> bool, f64::gt] {
            let mut best: Option<usize> = None;
            for (i, v) in chunk.iter().enumerate() {
                if v.is_finite() && best.is_none_or(|b| pick(v, &chunk[b])) {
                    best = Some(i);
                }
            }
            ends.extend(best);
        }
        ends.sort_unstable();
        ends.dedup();
        if ends.is_empty() {
            pen_down = false;
        }
        for i in ends {
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", x_at(offset + k * bucket + i, n), axis.y(chunk[i]));
            pen_down = true;
        }
    }
    let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
}

/// Runs of `true` as upright bars, at least one and a half pixels wide.
fn bars(out: &mut String, class: &str, flags: &[bool], top: f64, bottom: f64, what: &str, times: &[Timestamp]) {
    let n = flags.len();
    for (s, e) in crate::evaluate::segments(flags) {
        let (a, b) = (x_at(s, n), x_at(e, n));
        let width = (b - a).max(1.5);
        let when = match (times.get(s), times.get(e)) {
            (Some(s), Some(e)) => format!("{what}: {} to {}", clock(*s), clock(*e)),
            _ => what.to_owned(),
        };
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{a:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{when}</title></rect>",
            bottom - top
        );
    }
}

impl ScorePlot {
    /// Scores on a logarithmic scale, `ln(1 + s)`, with labels shaded and the alert line at 1.
    pub(super) fn svg(&self) -> String {
        let n = self.scores.len();
        let metric_height = if self.metric.is_some() { 110.0 } else { 0.0 };
        let (top, bottom) = (8.0 + metric_height, 8.0 + metric_height + 150.0);
        let mut out = String::new();
        open(&mut out, bottom + 36.0, &self.title);
        bars(&mut out, "label", &self.labels, 4.0, bottom, "labelled", &self.times);
        if let Some((name, values)) = &self.metric {
            let axis = Axis::of(values.iter().copied(), 8.0, metric_height - 10.0);
            let ticks: Vec<(f64, String)> = axis.ticks().into_iter().map(|v| (v, number(v))).collect();
            value_axis(&mut out, &axis, &ticks);
            curve(&mut out, "metric", values, 0, n, &axis);
            let _ = write!(out, "<text class=\"tick\" x=\"{}\" y=\"18\">{}</text>", LEFT + 6.0, escape(name));
        }
        let scaled: Vec<f64> = self.scores.iter().map(|s| s.max(0.0).ln_1p()).collect();
        // f64::max ignores NaN, so a missing score would draw as 0: restore the gap.
        let scaled: Vec<f64> =
            scaled.iter().zip(&self.scores).map(|(v, s)| if s.is_nan() { f64::NAN } else { *v }).collect();
        let high = scaled.iter().copied().filter(|v| v.is_finite()).fold(3f64.ln(), f64::max) * 1.05;
        let axis = Axis { low: 0.0, high, top, bottom };
        let ticks: Vec<(f64, String)> = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0]
            .iter()
            .filter(|v| f64::ln_1p(**v) <= high)
            .map(|v| (f64::ln_1p(*v), number(*v)))
            .collect();
        value_axis(&mut out, &axis, &ticks);
        curve(&mut out, "score", &scaled, 0, n, &axis);
        let line = axis.y(1f64.ln_1p());
        let _ = write!(
            out,
            "<line class=\"alert\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\"><title>alert line</title></line>",
            WIDTH - RIGHT
        );
        bars(&mut out, "raised", &self.alerts, bottom + 3.0, bottom + 9.0, "alert", &self.times);
        time_axis(&mut out, &self.times, bottom + 25.0);
        out.push_str("</svg></figure>\n");
        out
    }
}

impl FanPlot {
    /// Past and actual as lines, symmetric quantile pairs as nested bands, the median dashed.
    pub(super) fn svg(&self) -> String {
        let ahead = self.quantiles.len();
        let from = self.past.len();
        let n = from + ahead.max(self.actual.len());
        let (top, bottom) = (8.0, 208.0);
        let mut out = String::new();
        open(&mut out, bottom + 26.0, &self.title);
        let known = self.past.iter().chain(&self.actual).copied();
        let axis = Axis::of(known.chain(self.quantiles.iter().flatten().copied()), top, bottom);
        let ticks: Vec<(f64, String)> = axis.ticks().into_iter().map(|v| (v, number(v))).collect();
        value_axis(&mut out, &axis, &ticks);
        for (low, level) in self.levels.iter().enumerate().filter(|(_, l)| **l < 0.5) {
            let Some(high) = self.levels.iter().position(|u| (u + level - 1.0).abs() < 1e-9) else { continue };
            let edge = |k: usize, (i, row): (usize, &Vec<f64>)| {
                format!("{:.1},{:.1} ", x_at(from + i, n), axis.y(row.get(k).copied().unwrap_or(f64::NAN)))
            };
            let rows = || self.quantiles.iter().enumerate().filter(|(_, row)| row.iter().all(|q| q.is_finite()));
            let upper: String = rows().map(|r| edge(high, r)).collect();
            let lower: String = rows().rev().map(|r| edge(low, r)).collect();
            let _ = write!(
                out,
                "<polygon class=\"band\" points=\"{upper}{lower}\"><title>{:.0} % band</title></polygon>",
                (1.0 - 2.0 * level) * 100.0
            );
        }
        if let Some(middle) = self.levels.iter().position(|l| (l - 0.5).abs() < 1e-9) {
            let median: Vec<f64> = self.quantiles.iter().map(|r| r.get(middle).copied().unwrap_or(f64::NAN)).collect();
            curve(&mut out, "median", &median, from, n, &axis);
        }
        let known: Vec<f64> = self.past.iter().chain(&self.actual).copied().collect();
        curve(&mut out, "metric", &known, 0, n, &axis);
        let cut = x_at(from.saturating_sub(1), n);
        let _ = write!(out, "<line class=\"cut\" x1=\"{cut:.1}\" x2=\"{cut:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
        time_axis(&mut out, &self.times, bottom + 17.0);
        out.push_str("</svg></figure>\n");
        out
    }
}
