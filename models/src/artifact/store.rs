use super::manifest::{FileInfo, Manifest};
use super::{Artifact, TensorMap};
use crate::ModelError;
use crate::pipeline::Pipeline;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MANIFEST: &str = "manifest.json";
const ALIASES: &str = "aliases.json";
/// Former `current` artifacts that are remembered for rollback.
const HISTORY: usize = 50;

/// A folder of artifacts, `<name>/<id>/`, with the alias `current` of each name. The only place of this crate that
/// touches the file system.
///
/// Artifacts and aliases are written to a temporary name, synced and renamed: a reader sees all of one or nothing.
/// Checksums are verified on every load.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One artifact in a listing.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether it is its name's `current`.
    pub current: bool,
    /// Its manifest, or why it cannot be loaded.
    pub manifest: Result<Manifest, ModelError>,
}

/// What `current` is and was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Aliases {
    version: u32,
    current: Option<String>,
    /// Former ones, newest last.
    previous: Vec<String>,
}

impl Store {
    /// An existing store.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder is not there.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        fs::read_dir(dir).map_err(|e| io(dir, e))?;
        Ok(Self { root: dir.to_owned() })
    }

    /// A store, made where there is none.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder cannot be made.
    pub fn create(dir: &Path) -> Result<Self, ModelError> {
        fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
        Self::open(dir)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes an artifact and gives its id; it becomes `current` only where its name has none. One that is there already
    /// is left as it is, unless it is damaged.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::Parameter`] for a name that is no file name.
    pub fn put(&self, artifact: &Artifact) -> Result<String, ModelError> {
        let name = &artifact.manifest.name;
        check_name(name)?;
        let (mut manifest, files) = artifact.files()?;
        let text = manifest.seal()?;
        let id = manifest.id.clone();
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
        let target = folder.join(&id);
        if !target.exists() || self.load(name, Some(&id)).is_err() {
            let draft = folder.join(format!(".{id}-{}", std::process::id()));
            remove(&draft)?;
            fs::create_dir(&draft).map_err(|e| io(&draft, e))?;
            for (file, content) in &files {
                write_synced(&draft.join(file), content)?;
            }
            write_synced(&draft.join(MANIFEST), &text)?;
            sync_folder(&draft)?;
            remove(&target)?;
            fs::rename(&draft, &target).map_err(|e| io(&target, e))?;
            sync_folder(&folder)?;
        }
        let mut aliases = self.aliases(name)?;
        if aliases.current.is_none() {
            aliases.current = Some(id.clone());
            self.write_aliases(name, &aliases)?;
        }
        Ok(id)
    }

    /// Reads an artifact, `None` = the `current` one.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] naming file and remedy for anything that is missing, damaged or of an unknown version.
    pub fn load(&self, name: &str, id: Option<&str>) -> Result<Artifact, ModelError> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => self.current(name)?.ok_or_else(|| {
                ModelError::artifact(name, "no artifact of this name is current: fit one, or promote one by its id")
            })?,
        };
        let manifest = self.manifest(name, &id)?;
        let map = |file: &str| -> Result<TensorMap, ModelError> {
            let info = manifest.files.get(file).ok_or_else(|| {
                ModelError::artifact(
                    format!("{name}/{id}/{MANIFEST}"),
                    format!("it does not list {file}; fit it again"),
                )
            })?;
            let path = self.root.join(name).join(&id).join(file);
            let place = format!("{name}/{id}/{file}");
            let content = fs::read(&path).map_err(|e| io(&path, e))?;
            let found = FileInfo::of(&content);
            if found != *info {
                return Err(ModelError::artifact(
                    place,
                    format!(
                        "{} bytes with checksum {:.12} where {} with {:.12} were written; the file is damaged: roll \
                         back, or fit the artifact again",
                        found.bytes, found.sha256, info.bytes, info.sha256
                    ),
                ));
            }
            TensorMap::decode(&place, &content)
        };
        let pipeline = Pipeline::load(&map(Artifact::WEIGHTS)?, &map(Artifact::CALIBRATION)?)?;
        let (start, optimizer) = (map(Artifact::START)?, map(Artifact::OPTIMIZER)?);
        Ok(Artifact { manifest, pipeline: Arc::new(pipeline), start, optimizer })
    }

    /// What a text means: `name` or `name/current`, `name/id`, `id`; ids may be cut where they stay unique. Gives name and
    /// id.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] naming what there is when the text means none or several.
    pub fn resolve(&self, text: &str) -> Result<(String, String), ModelError> {
        let all = self.ids()?;
        let (name, id) = match text.split_once('/') {
            Some((name, id)) => (Some(name), id),
            None if all.iter().any(|(n, _)| n == text) => (Some(text), "current"),
            None => (None, text),
        };
        if let (Some(name), "current") = (name, id) {
            return match self.current(name)? {
                Some(id) => Ok((name.to_owned(), id)),
                None => Err(ModelError::artifact(name, "no artifact of this name is current: promote one by its id")),
            };
        }
        let mut hits: Vec<(String, String)> = all
            .iter()
            .filter(|(n, i)| name.is_none_or(|name| name == n) && !id.is_empty() && i.starts_with(id))
            .cloned()
            .collect();
        match (hits.len(), hits.pop()) {
            (1, Some(hit)) => Ok(hit),
            (0, _) => {
                let mut there: Vec<String> = all.iter().take(10).map(|(n, i)| format!("{n}/{i}")).collect();
                if there.is_empty() {
                    there.push("nothing".into());
                }
                let problem = format!("there is none of that name or id; there is {}", there.join(", "));
                Err(ModelError::artifact(text, problem))
            }
            (n, _) => Err(ModelError::artifact(text, format!("{n} artifacts begin so: give more digits, or name/id"))),
        }
    }

    /// All artifacts, by name and id. One that is damaged is listed with its error; it does not fail the listing.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the store's own folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, ModelError> {
        Ok(self
            .ids()?
            .into_iter()
            .map(|(name, id)| {
                let current = self.current(&name).ok().flatten().is_some_and(|c| c == id);
                Listed { manifest: self.manifest(&name, &id), name, id, current }
            })
            .collect())
    }

    /// The id of a name's `current` artifact.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when the alias file is damaged.
    pub fn current(&self, name: &str) -> Result<Option<String>, ModelError> {
        Ok(self.aliases(name)?.current)
    }

    /// Makes an artifact `current` once it has proven that it loads.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn promote(&self, name: &str, id: &str) -> Result<(), ModelError> {
        self.load(name, Some(id))?;
        let mut aliases = self.aliases(name)?;
        if aliases.current.as_deref() == Some(id) {
            return Ok(());
        }
        aliases.previous.extend(aliases.current.replace(id.to_owned()));
        let surplus = aliases.previous.len().saturating_sub(HISTORY);
        aliases.previous.drain(..surplus);
        self.write_aliases(name, &aliases)
    }

    /// Makes the artifact `current` that was so before, and gives its id. Former ones that no longer load are passed over.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] when there is none to go back to.
    pub fn rollback(&self, name: &str) -> Result<String, ModelError> {
        let mut aliases = self.aliases(name)?;
        while let Some(id) = aliases.previous.pop() {
            if self.load(name, Some(&id)).is_ok() {
                aliases.current = Some(id.clone());
                self.write_aliases(name, &aliases)?;
                return Ok(id);
            }
        }
        Err(ModelError::artifact(name, "there is no former artifact that loads: promote one by its id"))
    }

    /// A number that changes when anything changed that a running engine would take up: names, ids, aliases.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the store's own folder cannot be read.
    pub fn fingerprint(&self) -> Result<u64, ModelError> {
        let mut h = Sha256::new();
        let mut names: Vec<String> = Vec::new();
        for (name, id) in self.ids()? {
            h.update(format!("{name}/{id}\n"));
            if names.last() != Some(&name) {
                h.update(fs::read(self.root.join(&name).join(ALIASES)).unwrap_or_default());
                names.push(name);
            }
        }
        let d = h.finalize();
        Ok(u64::from_le_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]))
    }

    fn manifest(&self, name: &str, id: &str) -> Result<Manifest, ModelError> {
        check_name(name)?;
        check_name(id)?;
        let path = self.root.join(name).join(id).join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ModelError::artifact(
                    format!("{name}/{id}"),
                    "it is not in the registry: list what there is",
                ));
            }
            Err(e) => return Err(io(&path, e)),
        };
        let manifest = Manifest::parse(&format!("{name}/{id}/{MANIFEST}"), id, &text)?;
        if manifest.name == name {
            Ok(manifest)
        } else {
            let problem = format!("it belongs to {}: it was moved, put it back", manifest.name);
            Err(ModelError::artifact(format!("{name}/{id}"), problem))
        }
    }

    /// All names and ids, sorted.
    fn ids(&self) -> Result<Vec<(String, String)>, ModelError> {
        let mut all = Vec::new();
        for name in folders(&self.root)? {
            for id in folders(&self.root.join(&name)).unwrap_or_default() {
                all.push((name.clone(), id));
            }
        }
        all.sort();
        Ok(all)
    }

    fn aliases(&self, name: &str) -> Result<Aliases, ModelError> {
        check_name(name)?;
        let path = self.root.join(name).join(ALIASES);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Aliases { version: 1, ..Aliases::default() });
            }
            Err(e) => return Err(io(&path, e)),
        };
        let place = format!("{name}/{ALIASES}");
        let aliases: Aliases = serde_json::from_slice(&text).map_err(|e| {
            ModelError::artifact(
                &place,
                format!("{e}; the file is damaged: remove it and promote an artifact by its id"),
            )
        })?;
        if aliases.version == 1 {
            Ok(aliases)
        } else {
            Err(ModelError::artifact(place, format!("version {} is not known: use a newer program", aliases.version)))
        }
    }

    fn write_aliases(&self, name: &str, aliases: &Aliases) -> Result<(), ModelError> {
        let folder = self.root.join(name);
        let path = folder.join(ALIASES);
        let text = serde_json::to_vec_pretty(aliases).map_err(|e| ModelError::artifact(ALIASES, e.to_string()))?;
        let draft = folder.join(format!(".{ALIASES}-{}", std::process::id()));
        write_synced(&draft, &text)?;
        fs::rename(&draft, &path).map_err(|e| io(&path, e))?;
        sync_folder(&folder)
    }
}

/// Names become folders: letters, digits, dot, dash and underscore, not in hiding.
fn check_name(name: &str) -> Result<(), ModelError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(fine) {
        Ok(())
    } else {
        Err(ModelError::parameter("name", format!("{name:?}"), "1 to 64 of a-z, A-Z, 0-9, '.', '-', '_', no dot first"))
    }
}

/// Sub-folders that are not hidden.
fn folders(dir: &Path) -> Result<Vec<String>, ModelError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| io(dir, e))? {
        let entry = entry.map_err(|e| io(dir, e))?;
        if let Ok(name) = entry.file_name().into_string()
            && check_name(&name).is_ok()
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn write_synced(path: &Path, content: &[u8]) -> Result<(), ModelError> {
    let mut f = File::create(path).map_err(|e| io(path, e))?;
    f.write_all(content).and_then(|()| f.sync_all()).map_err(|e| io(path, e))
}

/// A rename is durable once its folder is synced; systems that cannot open folders do so by themselves.
fn sync_folder(path: &Path) -> Result<(), ModelError> {
    match File::open(path) {
        Ok(f) => f.sync_all().map_err(|e| io(path, e)),
        Err(_) if cfg!(windows) => Ok(()),
        Err(e) => Err(io(path, e)),
    }
}

fn remove(dir: &Path) -> Result<(), ModelError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(dir, e)),
        _ => Ok(()),
    }
}

fn io(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), source }
}
