use super::MatchSpec;
use crate::ModelError;
use crate::pipeline::PipelineSignal;
use crate::spec::Recipe;
use foreglow_core::{Seed, Step, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The layout that is written. A reader takes every minor version of its majors; fields are only ever added.
pub const SCHEMA: &str = "1.0";
/// Hexadecimal digits of an id: 64 bits of SHA-256.
const ID_DIGITS: usize = 16;

/// What stands in an artifact's `manifest.json`: what it is, what it serves, where it comes from. No wall-clock time, so
/// that the same inputs give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout, `major.minor`.
    pub schema_version: String,
    /// Hash of everything else, files included.
    pub id: String,
    /// The name it is kept under.
    pub name: String,
    /// What it holds; `pipeline`.
    pub kind: String,
    /// What was asked for.
    pub recipe: Recipe,
    /// Which groups it serves.
    #[serde(rename = "match")]
    pub matches: MatchSpec,
    /// The columns of a row, in order.
    pub signals: Vec<PipelineSignal>,
    /// The distance of rows.
    pub step: Step,
    /// The seed of the fit.
    pub seed: Seed,
    /// What it was fitted on.
    pub training: TrainingInfo,
    /// 1 for a fit, one more for each calibration of the same weights.
    pub calibration_epoch: u32,
    /// Tail probability at the alert line of each fitted group, by group id.
    pub p_alert: BTreeMap<String, f64>,
    /// Figures of the backtest, where one was run.
    #[serde(default)]
    pub backtest: Option<serde_json::Value>,
    /// The kernel path that made the calibration.
    pub kernel: String,
    /// The files beside the manifest.
    pub files: BTreeMap<String, FileInfo>,
    /// Version of the program.
    pub created_by: String,
}

/// What an artifact was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingInfo {
    /// The first instant.
    pub start: Timestamp,
    /// The last instant.
    pub end: Timestamp,
    /// Rows over all groups, after gridding.
    pub rows: usize,
    /// Groups.
    pub groups: usize,
    /// Name of the data.
    pub data: String,
    /// SHA-256 of the data, hexadecimal.
    pub data_sha256: String,
}

/// Length and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Bytes.
    pub bytes: usize,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl FileInfo {
    /// Of a file's content.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len(), sha256: format!("{:x}", Sha256::digest(content)) }
    }
}

/// What can be read of any version.
#[derive(Deserialize)]
struct Probe {
    schema_version: String,
}

impl Manifest {
    /// As the bytes of `manifest.json`, with its id set to their hash (taken with an empty id).
    pub(super) fn seal(&mut self) -> Result<Vec<u8>, ModelError> {
        self.id.clear();
        self.id = id_of(&self.encode()?);
        self.encode()
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|e| ModelError::artifact("manifest.json", e.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads `manifest.json` of artifact `id`; `place` names the file in errors.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] for an unknown major version, a damaged byte, or a file that was moved.
    pub fn parse(place: &str, id: &str, text: &[u8]) -> Result<Self, ModelError> {
        let damaged = |what: String| {
            ModelError::artifact(place, format!("{what}; the file is damaged, fit the artifact again or roll back"))
        };
        let probe: Probe = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
        let major = probe.schema_version.split('.').next().unwrap_or_default();
        if major != SCHEMA.split('.').next().unwrap_or_default() {
            return Err(ModelError::artifact(
                place,
                format!(
                    "schema version {} is not known, this program reads {SCHEMA} and its minor versions: use a newer \
                     program, or fit the artifact again with this one",
                    probe.schema_version
                ),
            ));
        }
        if id_of(&without_id(text, id)) != id {
            return Err(damaged(format!("its content does not hash to id {id}")));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
        if manifest.id == id { Ok(manifest) } else { Err(damaged(format!("it names itself {}", manifest.id))) }
    }
}

fn id_of(text: &[u8]) -> String {
    let mut id = format!("{:x}", Sha256::digest(text));
    id.truncate(ID_DIGITS);
    id
}

/// The text with the first field value equal to `id` emptied: what the id is the hash of.
fn without_id(text: &[u8], id: &str) -> Vec<u8> {
    let needle = format!("\"{id}\"");
    let at = text.windows(needle.len()).position(|w| w == needle.as_bytes());
    match at {
        Some(at) => [&text[..at], b"\"\"", &text[at + needle.len()..]].concat(),
        None => text.to_vec(),
    }
}
