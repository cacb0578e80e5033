use super::params::LstmParams;
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::nn::layout::{Init, Layout};
use crate::transform::{PHASES, has_calendar};
use foreglow_core::{DAY_MS, QUANTILE_LEVELS, Step};

/// How many quantiles the net gives.
pub(super) const LEVELS: usize = QUANTILE_LEVELS.len();
/// Place of the median among them.
pub(super) const MEDIAN: usize = 6;
/// Numbers of the LSTM state's view of one step ahead.
pub(super) const VIEW: usize = 16;
/// Width of the layer that makes the quantiles of one step.
pub(super) const DECODER: usize = 32;
/// Known numbers of a step ahead beside the calendar.
pub(super) const KNOWN: usize = 13;
/// Known numbers that also enter the median linearly, with weights of their own for each step.
pub(super) const SKIPS: usize = 6;
/// Numbers of a patch beside its values, changes and mask: unit over spread, and 1 for the bias.
const PATCH_EXTRA: usize = 2;
/// A patch is read as at most this many means: more would be weights without use.
const BINS: usize = 16;
/// The widest spacing of the steps of a block.
const WIDEST: usize = 64;

/// The sizes of an LSTM forecaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LstmShape {
    /// Steps of the season, 1 = none.
    pub season: usize,
    /// Steps of a week where a day is the season and the data are long enough, else 0.
    pub week: usize,
    /// Steps that are averaged into one number of a patch.
    pub bin: usize,
    /// Numbers of a patch.
    pub bins: usize,
    /// Patches of a window.
    pub patches: usize,
    /// Steps forecast at once.
    pub block: usize,
    /// The widest spacing of the steps of a block, a power of two: at spacing `d` a block holds the steps `d`, `2d`, ... ahead.
    pub spacing: usize,
    /// Width of the LSTM state.
    pub hidden: usize,
    /// Whether time of day and week enter.
    pub calendar: bool,
}

impl LstmShape {
    /// Sizes for series of a median `length`.
    pub(super) fn choose(params: &LstmParams, length: usize, season: Option<usize>, step: Step) -> Self {
        let season = season.filter(|m| *m >= 1 && m * 2 <= length).unwrap_or(1);
        let daily = season > 1 && season as i64 * step.ms() == DAY_MS;
        let week = if daily && season * 7 * 3 <= length { season * 7 } else { 0 };
        let block = match params.horizon_block {
            0 => (2 * season).clamp(24, 96),
            b => b,
        };
        let context = match params.context {
            0 if week > 0 => 2 * week,
            0 if season > 1 => (4 * season).max(48),
            0 => 96,
            c => c,
        };
        let context = context.min(8192).min(length / 2).max(4);
        let block = block.min(length / 4).max(1);
        let patch = context.div_ceil(params.patches);
        let bin = patch.div_ceil(BINS);
        let bins = patch.div_ceil(bin);
        let patches = context.div_ceil(bin * bins);
        // As far ahead as eight seasons or four blocks, where a quarter of a series is that long.
        let far = (8 * season).max(4 * block).min(length / 4);
        let mut spacing = 1;
        while spacing < WIDEST && spacing * block < far && 2 * spacing * block <= length / 4 {
            spacing *= 2;
        }
        let calendar = has_calendar(step);
        Self { season, week, bin, bins, patches, block, spacing, hidden: params.hidden, calendar }
    }

    /// Steps of a patch.
    pub fn patch(&self) -> usize {
        self.bin * self.bins
    }

    /// Past steps that the net reads as patches.
    pub fn context(&self) -> usize {
        self.patch() * self.patches
    }

    /// Past steps that have any influence on a forecast.
    pub fn reach(&self) -> usize {
        self.context() + self.week.max(4 * self.season) + self.block
    }

    /// Numbers of a patch.
    pub(super) fn channels(&self) -> usize {
        3 * self.bins + PATCH_EXTRA + if self.calendar { PHASES } else { 0 }
    }

    /// Known numbers of a step ahead.
    pub(super) fn features(&self) -> usize {
        KNOWN + if self.calendar { PHASES } else { 0 }
    }

    /// Names and shapes of the weights, in the order of [`Slot`].
    pub(super) fn layout(&self) -> Layout {
        let (h, i, k) = (self.hidden, self.channels(), self.block);
        let mut layout = Layout::default();
        let bound = |n: usize| Init::Uniform(1.0 / (n as f32).sqrt());
        layout.add("lstm.input", 0, &[i, 4 * h], bound(i));
        layout.add("lstm.recurrent", 0, &[h, 4 * h], bound(h));
        layout.add("view.weight", 0, &[h, k * VIEW], bound(h));
        layout.add("view.bias", 0, &[k * VIEW], Init::Constant(0.0));
        layout.add("decoder.view", 0, &[VIEW, DECODER], bound(VIEW + self.features()));
        layout.add("decoder.known", 0, &[self.features(), DECODER], bound(VIEW + self.features()));
        layout.add("decoder.bias", 0, &[DECODER], Init::Constant(0.0));
        layout.add("quantiles.weight", 0, &[DECODER, LEVELS], Init::Uniform(0.05));
        layout.add("quantiles.bias", 0, &[LEVELS], Init::Constant(-1.5));
        layout.add("skip", 0, &[k, SKIPS], Init::Constant(0.0));
        layout
    }

    /// What is not drawn: a forget gate that starts open (Gers et al. 2000, doi:10.1162/089976600300015015), a median
    /// that starts at seasonal naive.
    pub(super) fn prepare(&self, layout: &Layout, weights: &mut [f32]) {
        let h = self.hidden;
        let bias = layout.slots[Slot::INPUT].offset + (self.channels() - 1) * 4 * h;
        weights[bias..bias + 4 * h].fill(0.0);
        weights[bias + h..bias + 2 * h].fill(1.0);
        weights[layout.slots[Slot::OUT_BIAS].offset] = 0.0;
    }

    /// Saves the sizes under `prefix`.
    pub(super) fn save(&self, map: &mut TensorMap, prefix: &str) {
        let numbers = [
            self.season,
            self.week,
            self.bin,
            self.bins,
            self.patches,
            self.block,
            self.spacing,
            self.hidden,
            usize::from(self.calendar),
        ];
        map.put_f64(format!("{prefix}shape"), &[numbers.len()], numbers.iter().map(|v| *v as f64).collect());
    }

    /// Loads what [`LstmShape::save`] wrote.
    pub(super) fn load(map: &TensorMap, prefix: &str) -> Result<Self, ModelError> {
        let name = format!("{prefix}shape");
        let v = map.f64s_of(&name, 9)?;
        let whole = v.iter().all(|x| (0.0..=1e7).contains(x) && x.fract() == 0.0);
        if !whole || v[0] < 1.0 || v[2..8].iter().any(|x| *x < 1.0 || *x > 8192.0) || v[6] > WIDEST as f64 {
            return Err(ModelError::artifact(name, format!("{v:?} are no sizes of an LSTM forecaster")));
        }
        let u: Vec<usize> = v.iter().map(|x| *x as usize).collect();
        let [season, week, bin, bins, patches, block, spacing, hidden] =
            [u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7]];
        Ok(Self { season, week, bin, bins, patches, block, spacing, hidden, calendar: u[8] == 1 })
    }
}

/// Places in the layout.
pub(super) struct Slot;

impl Slot {
    pub(super) const INPUT: usize = 0;
    pub(super) const RECURRENT: usize = 1;
    pub(super) const VIEW: usize = 2;
    pub(super) const VIEW_BIAS: usize = 3;
    pub(super) const DECODER_VIEW: usize = 4;
    pub(super) const DECODER_KNOWN: usize = 5;
    pub(super) const DECODER_BIAS: usize = 6;
    pub(super) const OUT: usize = 7;
    pub(super) const OUT_BIAS: usize = 8;
    pub(super) const SKIP: usize = 9;
}
