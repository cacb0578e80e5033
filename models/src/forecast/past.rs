use crate::transform::last_observed;

/// A history as the local members read it: in units in which no square overflows, gaps kept and filled.
///
/// The unit is the power of two at or under the largest magnitude, so that scaling is exact. A gap is filled by the value
/// one season before (the last value where there is none), which looks back only: the fill of a shorter history is the
/// start of the fill of a longer one, and an origin inside the history sees what it would have seen then.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// Scaled values, NaN = missing.
    raw: Vec<f64>,
    /// Scaled values without gaps.
    filled: Vec<f64>,
    /// What one unit is.
    unit: f64,
}

/// A stretch of a [`Past`] from its first value on.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// NaN = missing.
    pub(super) raw: &'a [f64],
    /// Gaps filled.
    pub(super) filled: &'a [f64],
}

impl Past {
    /// Reads `values`; what is not finite is missing. `None` when nothing is there.
    pub(super) fn read(values: &[f64], season: usize) -> Option<Self> {
        let first = values.iter().position(|v| v.is_finite())?;
        let values = &values[first..];
        let top = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
        let unit = if top > 0.0 { libm::exp2(libm::floor(libm::log2(top)).clamp(-1020.0, 1020.0)) } else { 1.0 };
        let raw: Vec<f64> = values.iter().map(|v| if v.is_finite() { v / unit } else { f64::NAN }).collect();
        let mut filled: Vec<f64> = Vec::with_capacity(raw.len());
        for v in &raw {
            let t = filled.len();
            let before = if t >= season { filled[t - season] } else { filled.last().copied().unwrap_or(0.0) };
            filled.push(if v.is_nan() { before } else { *v });
        }
        Some(Self { raw, filled, unit })
    }

    /// How many values, from the first that is there.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// What one scaled unit is in the series' own.
    pub(super) fn unit(&self) -> f64 {
        self.unit
    }

    /// The first `n` values.
    pub(super) fn until(&self, n: usize) -> View<'_> {
        View { raw: &self.raw[..n], filled: &self.filled[..n] }
    }

    /// The scaled values, NaN = missing.
    pub(super) fn raw(&self) -> &[f64] {
        &self.raw
    }
}

impl<'a> View<'a> {
    /// The last `n` values.
    pub(super) fn last(self, n: usize) -> View<'a> {
        let from = self.raw.len().saturating_sub(n);
        View { raw: &self.raw[from..], filled: &self.filled[from..] }
    }

    /// Number of values.
    pub(super) fn len(self) -> usize {
        self.raw.len()
    }

    /// The newest value that is there.
    pub(super) fn newest(self) -> f64 {
        last_observed(self.raw).map_or(0.0, |l| l.1)
    }

    /// Least and largest value.
    pub(super) fn range(self) -> (f64, f64) {
        (self.raw.iter().filter(|v| v.is_finite()))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)))
    }
}
