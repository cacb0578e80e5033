use super::source::{code_of, imports_of, roots_of, test_modules_of};
use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What one manifest of the workspace says.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Folder, relative to the root; empty for the root itself.
    pub folder: String,
    /// Names of the packages it depends on, dev and build dependencies included.
    pub uses: BTreeSet<String>,
    /// The same without dev dependencies.
    pub links: BTreeSet<String>,
    /// The parsed file.
    pub table: toml::Table,
}

/// What one source file uses, comments, literals and test-only items left out.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path relative to the root.
    pub path: String,
    /// Package that it belongs to.
    pub package: String,
    /// Whether it is compiled for tests, benches or examples only.
    pub for_tests: bool,
    /// First segments of all paths.
    pub roots: BTreeSet<String>,
    /// Full paths of `use` declarations.
    pub imports: BTreeSet<String>,
    /// What is left of the text.
    pub code: String,
}

impl Source {
    /// Takes the facts of one file from its text.
    pub fn new(path: &str, package: &str, for_tests: bool, text: &str) -> Self {
        let code = code_of(text);
        Self {
            path: path.to_owned(),
            package: package.to_owned(),
            for_tests,
            roots: roots_of(&code),
            imports: imports_of(&code),
            code,
        }
    }
}

/// All that the rules look at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The root manifest.
    pub root: toml::Table,
    /// The members' manifests by package name.
    pub members: BTreeMap<String, Manifest>,
    /// Every source file of the members.
    pub sources: Vec<Source>,
    /// Every package that is linked into each member (normal dependencies, all the way down), by member.
    pub closure: BTreeMap<String, BTreeSet<String>>,
    /// Versions of every package that the members build with on this platform.
    pub versions: BTreeMap<String, BTreeSet<String>>,
}

impl Facts {
    /// Reads the repository at `root`; needs no network.
    ///
    /// # Errors
    /// A `cargo metadata` that fails, or a file that cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Self> {
        // Only this platform's packages are certain to lie on this machine.
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(["--offline", "--filter-platform", "host-tuple"].map(str::to_owned))
            .exec()
            .context("cargo metadata")?;
        let mut facts = Self { root: manifest(&root.join("Cargo.toml"))?, ..Self::default() };
        for package in metadata.workspace_packages() {
            let file = package.manifest_path.as_std_path();
            let folder = file.parent().unwrap_or(root);
            let names = |keep: fn(DependencyKind) -> bool| {
                package.dependencies.iter().filter(|d| keep(d.kind)).map(|d| d.name.clone()).collect::<BTreeSet<_>>()
            };
            let name = package.name.to_string();
            facts.members.insert(
                name.clone(),
                Manifest {
                    folder: relative(root, folder),
                    uses: names(|_| true),
                    links: names(|k| k == DependencyKind::Normal),
                    table: manifest(file)?,
                },
            );
            facts.closure.insert(name.clone(), closure(&metadata, &package.id));
            let members: Vec<PathBuf> =
                metadata.workspace_packages().iter().filter_map(|p| Some(p.manifest_path.parent()?.into())).collect();
            facts.sources.extend(sources(root, folder, &name, &members)?);
        }
        facts.versions = versions(&metadata);
        Ok(facts)
    }
}

fn manifest(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn closure(metadata: &Metadata, of: &PackageId) -> BTreeSet<String> {
    let Some(resolve) = &metadata.resolve else { return BTreeSet::new() };
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![of];
    while let Some(id) = open.pop() {
        let deps = nodes.get(id).into_iter().flat_map(|n| &n.deps);
        for dep in deps.filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal)) {
            if seen.insert(&dep.pkg) {
                open.push(&dep.pkg);
            }
        }
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

/// What the resolver chose for this platform; packages that other platforms need are left out.
fn versions(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata.resolve.iter().flat_map(|r| &r.nodes) {
        let package = &metadata[&node.id];
        out.entry(package.name.to_string()).or_default().insert(package.version.to_string());
    }
    out
}

/// The `.rs` files of a member, other members' folders left out.
fn sources(root: &Path, folder: &Path, package: &str, members: &[PathBuf]) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let is_other = path != folder && members.contains(&path);
            if path.is_dir() && !is_other && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let texts = files
        .iter()
        .map(|f| fs::read_to_string(f).with_context(|| f.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    // `#[cfg(test)] mod suite;` in x/mod.rs makes x/suite.rs and x/suite/ test code; in x.rs, x/suite.rs.
    let mut test_paths = Vec::new();
    for (file, text) in files.iter().zip(&texts) {
        let dir = file.parent().unwrap_or(folder);
        let is_root = file.file_stem().is_some_and(|s| s == "mod" || s == "lib" || s == "main");
        let home = if is_root { dir.to_path_buf() } else { dir.join(file.file_stem().unwrap_or_default()) };
        for module in test_modules_of(text) {
            test_paths.push(home.join(format!("{module}.rs")));
            test_paths.push(home.join(module));
        }
    }
    let in_src = folder.join("src");
    Ok(files
        .iter()
        .zip(&texts)
        .map(|(file, text)| {
            // `#[cfg(test)] #[path = "x_tests.rs"] mod tests;` is told by the file's name.
            let is_named =
                file.file_stem().and_then(|s| s.to_str()).is_some_and(|s| s == "tests" || s.ends_with("_tests"));
            let for_tests = is_named || !file.starts_with(&in_src) || test_paths.iter().any(|t| file.starts_with(t));
            Source::new(&relative(root, file), package, for_tests, text)
        })
        .collect())
}
