use foreglow_core::RawScore;

/// What a pipeline says of one row. Reused from row to row: after the first one nothing is allocated.
#[derive(Default, Clone, Debug)]
pub struct RowScore {
    /// Of the group, combined and calibrated, as `-ln p`; NaN = no opinion (warming up, all missing).
    pub neg_ln_p: f64,
    /// `-ln p` of each member, NaN = no opinion.
    pub members: Vec<f64>,
    /// One a signal.
    pub signals: Vec<SignalRow>,
    /// Above 0: still warming up, for about so many more rows.
    pub ready_in: usize,
    pub(super) work: Work,
}

/// What a pipeline says of one signal of a row.
#[derive(Default, Clone, Copy, Debug, PartialEq)]
pub struct SignalRow {
    /// Expected value, NaN = not known yet.
    pub expected: f64,
    /// Lower end of the 98 % band.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// The signal's own calibrated tail probability as `-ln p`, NaN = no opinion.
    pub neg_ln_p: f64,
    /// Its share in the group's score; shares sum to 1 where anything is present.
    pub share: f64,
}

impl SignalRow {
    pub(super) const SILENT: Self =
        Self { expected: f64::NAN, lower: f64::NAN, upper: f64::NAN, neg_ln_p: f64::NAN, share: 0.0 };
}

/// Buffers between rows.
#[derive(Default, Clone, Debug)]
pub(super) struct Work {
    /// The row as detectors see it.
    pub(super) values: Vec<f64>,
    /// The row in units of train.
    pub(super) scaled: Vec<f64>,
    /// Whether each signal's deviation matters.
    pub(super) counts: Vec<bool>,
    /// Whether each signal reached its limit.
    pub(super) limits: Vec<bool>,
    /// Sum and number of the members' `-ln p` of each signal.
    pub(super) signal_p: Vec<f64>,
    pub(super) signal_n: Vec<f64>,
    /// Values to pick the three largest from.
    pub(super) top: Vec<f64>,
    /// Evidence against each signal.
    pub(super) evidence: Vec<f64>,
    /// What the detector at hand says.
    pub(super) raw: RawScore,
}

impl RowScore {
    /// Clears the row and brings its buffers to size.
    pub(super) fn prepare(&mut self, members: usize, signals: usize) {
        self.neg_ln_p = f64::NAN;
        self.ready_in = 0;
        self.members.clear();
        self.members.resize(members, f64::NAN);
        self.signals.clear();
        self.signals.resize(signals, SignalRow::SILENT);
        let w = &mut self.work;
        for buffer in [&mut w.values, &mut w.scaled, &mut w.signal_p, &mut w.signal_n, &mut w.evidence] {
            buffer.clear();
            buffer.resize(signals, 0.0);
        }
        for buffer in [&mut w.counts, &mut w.limits] {
            buffer.clear();
            buffer.resize(signals, false);
        }
        self.work.raw.signals.resize(signals, f64::NAN);
        self.work.raw.expected.resize(signals, f64::NAN);
    }
}
