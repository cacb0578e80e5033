use super::calibration::Calibration;
use super::fitted::{Fitted, GroupParts};
use super::members::Member;
use super::rules::SignalRule;
use super::scaling::Scaling;
use super::{Pipeline, PipelineSignal};
use crate::ModelError;
use crate::artifact::TensorMap;
use crate::detect::FittedDetector;
use crate::forecast::FittedForecaster;
use crate::spec::Recipe;
use foreglow_core::signals::Signals;
use foreglow_core::{AlertLine, Labels, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of the tensor that says what the others are.
const HEAD: &str = "pipeline";

/// What the tensors of a saved pipeline are. Versions are told apart by the tag; every one can be read for ever.
#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Head {
    #[serde(rename = "1")]
    V1 { name: String, recipe: Recipe, rules: Signals, fitted: Option<FittedHead> },
}

#[derive(Serialize, Deserialize)]
struct FittedHead {
    step: Step,
    signals: Vec<PipelineSignal>,
    groups: Vec<Labels>,
    forecaster: bool,
}

fn detector_prefix(owner: &str, i: usize) -> String {
    format!("{owner}detector.{i}/")
}

/// Saves a group's detectors; those it shares (the same object) are not written again.
fn save_detectors(
    parts: &GroupParts,
    shared: Option<&GroupParts>,
    owner: &str,
    weights: &mut TensorMap,
) -> Result<(), ModelError> {
    for (i, d) in parts.detectors.iter().enumerate() {
        let Some(d) = d else { continue };
        let same = shared.and_then(|s| s.detectors.get(i)?.as_ref()).is_some_and(|s| Arc::ptr_eq(s, d));
        if same {
            weights.put_u8(format!("{}shared", detector_prefix(owner, i)), Vec::new());
        } else {
            d.save(weights, &detector_prefix(owner, i))?;
        }
    }
    Ok(())
}

fn load_detectors(
    weights: &TensorMap,
    shared: Option<&GroupParts>,
    owner: &str,
    count: usize,
) -> Result<Vec<Option<Arc<FittedDetector>>>, ModelError> {
    (0..count)
        .map(|i| {
            let prefix = detector_prefix(owner, i);
            if weights.contains(&format!("{prefix}shared")) {
                let theirs = shared.and_then(|s| s.detectors.get(i)?.clone());
                return theirs.map(Some).ok_or_else(|| {
                    ModelError::artifact(&prefix, "a shared detector is missing; fit the artifact again")
                });
            }
            if !weights.contains(&format!("{prefix}detector")) {
                return Ok(None);
            }
            FittedDetector::load(weights, &prefix).map(|d| Some(Arc::new(d)))
        })
        .collect()
}

fn save_calibration(parts: &GroupParts, shared: Option<&GroupParts>, owner: &str, calibration: &mut TensorMap) {
    let mut flat = vec![parts.line.p_alert()];
    parts.scaling.write(&mut flat);
    calibration.put_f64(format!("{owner}scaling"), &[flat.len()], flat);
    if shared.is_some_and(|s| Arc::ptr_eq(&s.calibration, &parts.calibration)) {
        return;
    }
    let mut flat = Vec::new();
    parts.calibration.write(&mut flat);
    calibration.put_f64(format!("{owner}maps"), &[flat.len()], flat);
}

fn load_parts(
    (weights, calibration): (&TensorMap, &TensorMap),
    (members, signals, detectors): (&[Member], usize, usize),
    shared: Option<&GroupParts>,
    owner: &str,
) -> Result<GroupParts, ModelError> {
    let name = format!("{owner}scaling");
    let mut flat = calibration.f64s(&name)?.1;
    let Some((p_alert, rest)) = flat.split_first().filter(|(p, _)| **p > 0.0 && **p < 1.0) else {
        return Err(ModelError::artifact(name, "no alert line; fit the artifact again"));
    };
    flat = rest;
    let scaling = Scaling::read(&mut flat, signals)?;
    let maps = format!("{owner}maps");
    let own = match shared {
        Some(s) if !calibration.contains(&maps) => Arc::clone(&s.calibration),
        _ => {
            let mut flat = calibration.f64s(&maps)?.1;
            let read = Calibration::read(&mut flat, members, signals)?;
            if !flat.is_empty() {
                return Err(ModelError::artifact(maps, format!("{} numbers too many", flat.len())));
            }
            Arc::new(read)
        }
    };
    Ok(GroupParts {
        scaling,
        detectors: load_detectors(weights, shared, owner, detectors)?,
        calibration: own,
        line: AlertLine::from_p(*p_alert),
    })
}

impl Pipeline {
    /// Saves what [`Pipeline::load`] reads: models into `weights`, scalings, maps and alert lines into `calibration`.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when a part cannot be written.
    pub fn save(&self, weights: &mut TensorMap, calibration: &mut TensorMap) -> Result<(), ModelError> {
        let head = Head::V1 {
            name: self.name.clone(),
            recipe: self.recipe.clone(),
            rules: self.rules.clone(),
            fitted: self.fitted.as_ref().map(|f| FittedHead {
                step: f.step,
                signals: f.signals.clone(),
                groups: f.groups.keys().cloned().collect(),
                forecaster: f.forecaster.is_some(),
            }),
        };
        let head = serde_json::to_vec(&head).map_err(|e| ModelError::artifact(HEAD, e.to_string()))?;
        weights.put_u8(HEAD, head);
        let Some(f) = &self.fitted else { return Ok(()) };
        save_detectors(&f.shared, None, "shared/", weights)?;
        save_calibration(&f.shared, None, "shared/", calibration);
        for (at, parts) in f.groups.values().enumerate() {
            let owner = format!("group.{at}/");
            save_detectors(parts, Some(&f.shared), &owner, weights)?;
            save_calibration(parts, Some(&f.shared), &owner, calibration);
        }
        f.forecaster.as_ref().map_or(Ok(()), |c| c.save(weights, "forecaster/"))
    }

    /// Loads a saved pipeline.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] naming the tensor that is missing or damaged.
    pub fn load(weights: &TensorMap, calibration: &TensorMap) -> Result<Self, ModelError> {
        let head: Head =
            serde_json::from_slice(weights.u8s(HEAD)?).map_err(|e| ModelError::artifact(HEAD, e.to_string()))?;
        let Head::V1 { name, recipe, rules, fitted } = head;
        recipe.check()?;
        let mut pipeline = Self { name, ..Self::online(rules, &recipe) };
        let Some(head) = fitted else { return Ok(pipeline) };
        let members = Member::of(&recipe, head.signals.len());
        let shape = (&members[..], head.signals.len(), recipe.detectors.len());
        let shared = load_parts((weights, calibration), shape, None, "shared/")?;
        let groups = head
            .groups
            .into_iter()
            .enumerate()
            .map(|(at, g)| {
                let owner = format!("group.{at}/");
                load_parts((weights, calibration), shape, Some(&shared), &owner).map(|p| (g, p))
            })
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        let forecaster = if head.forecaster { Some(FittedForecaster::load(weights, "forecaster/")?) } else { None };
        pipeline.fitted = Some(Fitted {
            step: head.step,
            rules: head.signals.iter().map(|p| SignalRule::of(&pipeline.rules, &p.key.name)).collect(),
            signals: head.signals,
            members,
            groups,
            shared,
            forecaster,
        });
        Ok(pipeline)
    }
}
