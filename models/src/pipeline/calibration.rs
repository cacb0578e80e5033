use super::members::{Member, Role};
use super::rules::top_three;
use crate::ModelError;
use crate::calibrate::{TailMap, conformal_factor};
use foreglow_core::Scope;
use std::collections::BTreeMap;

/// Fewer held-out rows than this are pooled over groups.
pub(super) const LEAST_ROWS: usize = 200;
/// Rows that one group gives to what is pooled.
const POOLED_ROWS: usize = 2000;

/// How one member's raw scores become `-ln p`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct MemberMaps {
    /// One a signal, for members that judge signals.
    pub(super) signals: Vec<TailMap>,
    /// Of the group's raw score.
    pub(super) group: TailMap,
}

/// All maps of one group.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Calibration {
    pub(super) members: Vec<MemberMaps>,
    /// Of the weighted mean of the members' `-ln p`.
    pub(super) combined: TailMap,
    /// How many half-widths of the baseline's own band make the conformal one, a signal.
    pub(super) bands: Vec<f64>,
}

/// What members said on one group's held-out rows.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldOut {
    pub(super) rows: usize,
    pub(super) signals: usize,
    /// For each member that judges signals: (row, signal); for one that judges the group: a score a row; for persistence
    /// nothing.
    pub(super) raw: Vec<Vec<f64>>,
    /// `|actual - expected|` over the half-width of the baseline's band, (row, signal).
    pub(super) ratios: Vec<f64>,
}

impl HeldOut {
    /// Its rows thinned evenly to what a group gives to a pool.
    pub(super) fn thinned(&self) -> Self {
        if self.rows <= POOLED_ROWS {
            return self.clone();
        }
        let keep: Vec<usize> = (0..POOLED_ROWS).map(|i| i * self.rows / POOLED_ROWS).collect();
        let pick = |v: &[f64]| {
            let width = v.len() / self.rows;
            keep.iter().flat_map(|r| v[r * width..(r + 1) * width].iter().copied()).collect()
        };
        Self {
            rows: keep.len(),
            signals: self.signals,
            raw: self.raw.iter().map(|v| pick(v)).collect(),
            ratios: pick(&self.ratios),
        }
    }
}

/// `-ln p` of a member that judges signals, from its signals' `-ln p`: raw score of the group.
pub(super) fn signals_to_group(maps: &[TailMap], raw: &[f64], buffer: &mut Vec<f64>) -> f64 {
    buffer.clear();
    for (m, r) in maps.iter().zip(raw) {
        let p = m.neg_ln_p(*r);
        if !p.is_nan() {
            buffer.push(p);
        }
    }
    top_three(buffer)
}

/// Mean of what is present; NaN for nothing.
pub(super) fn mean_present(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0usize);
    for v in values {
        if !v.is_nan() {
            sum += v;
            n += 1;
        }
    }
    if n == 0 { f64::NAN } else { sum / n as f64 }
}

/// What all members say, by `-ln p` of each (NaN = no opinion) in their order: the weighted mean of those present.
pub(super) fn combined(members: &[Member], told: impl Fn(usize) -> f64) -> f64 {
    let others = (0..members.len()).filter(|m| !members[*m].is_persistence() && !told(*m).is_nan()).count();
    let (mut sum, mut weights) = (0.0, 0.0);
    for (m, member) in members.iter().enumerate() {
        let (v, weight) = (told(m), member.weight(others));
        if !v.is_nan() {
            sum += weight * v;
            weights += weight;
        }
    }
    if weights > 0.0 { sum / weights } else { f64::NAN }
}

/// The running mean of a persistence member that has seen nothing; `-ln p` is never below 0.
pub(super) const NO_MEAN: f64 = -1.0;

/// One step of a persistence member's running mean over `steps`.
pub(super) fn running_mean(state: f64, value: f64, steps: usize) -> f64 {
    if value.is_nan() {
        state
    } else if state < 0.0 {
        value
    } else {
        state + (value - state) * 2.0 / (steps as f64 + 1.0)
    }
}

impl Calibration {
    /// Learns all maps from the held-out rows of one group, or of several that are pooled.
    pub(super) fn fit(members: &[Member], groups: &[&HeldOut]) -> Self {
        let signals = groups.first().map_or(0, |g| g.signals);
        let column = |v: &[f64], i: usize| -> Vec<f64> { v.iter().skip(i).step_by(signals).copied().collect() };
        let mut maps: Vec<MemberMaps> = Vec::with_capacity(members.len());
        // Each member's -ln p, row after row, group after group.
        let mut told: Vec<Vec<f64>> = Vec::with_capacity(members.len());
        for (m, member) in members.iter().enumerate() {
            let mut own = MemberMaps::default();
            let raw: Vec<f64> = match member.scope {
                Scope::Group => groups.iter().flat_map(|g| g.raw[m].iter().copied()).collect(),
                Scope::Signal => {
                    own.signals = (0..signals)
                        .map(|i| {
                            let all: Vec<f64> = groups.iter().flat_map(|g| column(&g.raw[m], i)).collect();
                            TailMap::fit(&all)
                        })
                        .collect();
                    let mut buffer = Vec::with_capacity(signals);
                    groups
                        .iter()
                        .flat_map(|g| g.raw[m].chunks_exact(signals))
                        .map(|row| signals_to_group(&own.signals, row, &mut buffer))
                        .collect()
                }
            };
            own.group = match member.scope {
                Scope::Group => TailMap::fit(&raw),
                Scope::Signal => TailMap::fit_combined(&raw),
            };
            told.push(raw.iter().map(|r| own.group.neg_ln_p(*r)).collect());
            maps.push(own);
        }
        let rows: usize = groups.iter().map(|g| g.rows).sum();
        let plain: Vec<usize> = (0..members.len()).filter(|m| !members[*m].is_persistence()).collect();
        let means: Vec<f64> = (0..rows).map(|r| mean_present(plain.iter().map(|m| told[*m][r]))).collect();
        for (m, member) in members.iter().enumerate() {
            let Role::Persistence { steps, .. } = member.role else { continue };
            let mut raw = Vec::with_capacity(rows);
            let mut start = 0;
            for g in groups {
                let mut state = NO_MEAN;
                for v in &means[start..start + g.rows] {
                    state = running_mean(state, *v, steps);
                    raw.push(if v.is_nan() { f64::NAN } else { state });
                }
                start += g.rows;
            }
            maps[m].group = TailMap::fit_combined(&raw);
            told[m] = raw.iter().map(|r| maps[m].group.neg_ln_p(*r)).collect();
        }
        let combined: Vec<f64> = (0..rows).map(|r| combined(members, |m| told[m][r])).collect();
        let bands = (0..signals)
            .map(|i| {
                let all: Vec<f64> = groups.iter().flat_map(|g| column(&g.ratios, i)).collect();
                conformal_factor(&all).unwrap_or(1.0).clamp(1e-3, 1e6)
            })
            .collect();
        Self { members: maps, combined: TailMap::fit_combined(&combined), bands }
    }

    pub(super) fn write(&self, out: &mut Vec<f64>) {
        for m in &self.members {
            for s in &m.signals {
                s.write(out);
            }
            m.group.write(out);
        }
        self.combined.write(out);
        out.extend(&self.bands);
    }

    pub(super) fn read(flat: &mut &[f64], members: &[Member], signals: usize) -> Result<Self, ModelError> {
        let mut out = Self::default();
        for m in members {
            let n = if m.scope == Scope::Signal { signals } else { 0 };
            let maps = (0..n).map(|_| TailMap::read(flat)).collect::<Result<_, _>>()?;
            out.members.push(MemberMaps { signals: maps, group: TailMap::read(flat)? });
        }
        out.combined = TailMap::read(flat)?;
        let (bands, rest) = flat
            .split_at_checked(signals)
            .filter(|(b, _)| b.iter().all(|v| v.is_finite() && *v > 0.0))
            .ok_or_else(|| ModelError::artifact("calibration", "the bands are damaged; fit the artifact again"))?;
        out.bands = bands.to_vec();
        *flat = rest;
        Ok(out)
    }
}

/// Names of members: the kind, numbered from the second of a kind on.
pub(super) fn names(kinds: &[&str]) -> Vec<String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    kinds
        .iter()
        .map(|k| {
            let n = seen.entry(k).or_default();
            *n += 1;
            if *n == 1 { (*k).to_owned() } else { format!("{k}_{n}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::detect::{AmplitudeParams, DetectorSpec, PcaParams, PersistenceParams, PersistenceWeight};

    #[test]
    fn persistence_counts_as_one_or_as_all_the_others() {
        use PersistenceWeight::{One, Rest};
        let said = |weight, told: [f64; 3]| {
            let persistence = PersistenceParams { weight, ..PersistenceParams::default() };
            let detectors = vec![
                DetectorSpec::Pca(PcaParams::default()),
                DetectorSpec::Amplitude(AmplitudeParams::default()),
                DetectorSpec::Persistence(persistence),
            ];
            let members = Member::of(&Recipe { detectors, ..Recipe::default() }, 5);
            combined(&members, |m| told[m])
        };
        assert_eq!((said(One, [1.0, 3.0, 8.0]), said(Rest, [1.0, 3.0, 8.0])), (4.0, 5.0));
        assert_eq!(said(Rest, [1.0, f64::NAN, 8.0]), 4.5, "only those present count");
        assert_eq!(said(Rest, [1.0, 3.0, f64::NAN]), 2.0);
        assert!(said(Rest, [f64::NAN; 3]).is_nan());
    }
}
