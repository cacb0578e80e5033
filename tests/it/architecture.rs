//! The code is as the plan draws it; and the test that says so notices when it is not.

use foreglow_tests::architecture::{Facts, Manifest, Source, folders_of_readme, violations};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_path_buf()
}

/// The problems of `facts`, one a line.
fn problems(facts: &Facts) -> String {
    violations(facts).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_code_keeps_to_the_plan() {
    let facts = Facts::read(&root()).unwrap();
    assert!(facts.members.len() >= 10 && facts.sources.len() > 100, "the facts are incomplete");
    assert!(facts.closure["foreglow-datasets"].contains("polars"), "closures are read");
    assert!(facts.closure["foreglow-engine"].contains("foreglow-core"), "closures are read");
    let found = violations(&facts);
    assert!(found.is_empty(), "the plan does not allow:\n{}", problems(&facts));
}

#[test]
fn the_readme_maps_what_there_is() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let folders = folders_of_readme(&readme);
    assert!(folders.len() > 10, "the README has a folder map: {folders:?}");
    let missing: Vec<_> = folders.iter().filter(|f| !root().join(f).exists()).collect();
    assert!(missing.is_empty(), "the README names what is not there: {missing:?}");
    let unnamed: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().unwrap().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|n| !n.starts_with('.') && !["target", "foreglow-state", "registry"].contains(&n.as_str()))
        .filter(|n| !folders.contains(n))
        .collect();
    assert!(unnamed.is_empty(), "the README's folder map leaves out {unnamed:?}");
}

/// Each planted violation is found, at its place, alone.
#[test]
fn planted_violations_are_found() {
    let clean = Facts::read(&root()).unwrap();
    let plant = |what: &str, part: &str, change: &dyn Fn(&mut Facts)| {
        let mut facts = clean.clone();
        change(&mut facts);
        let found = problems(&facts);
        assert_eq!(found.lines().count(), 1, "{what}: {found}");
        assert!(found.contains(part), "{what}: {found}");
    };
    let member = |facts: &mut Facts, name: &str, uses: &str| {
        let m = facts.members.get_mut(name).unwrap();
        m.uses.insert(uses.to_owned());
        m.links.insert(uses.to_owned());
    };
    let source = |facts: &mut Facts, path: &str, package: &str, text: &str| {
        facts.sources.push(Source::new(path, package, false, text));
    };

    plant("an edge between crates", "foreglow-engine: imports foreglow-datasets", &|f| {
        member(f, "foreglow-engine", "foreglow-datasets");
    });
    plant("a dev edge between crates", "foreglow-search: imports foreglow-models", &|f| {
        f.members.get_mut("foreglow-search").unwrap().uses.insert("foreglow-models".to_owned());
    });
    plant("an import of a binary", "which nothing may import", &|f| member(f, "foreglow-training", "foreglow-demo"));
    plant("a crate nobody planned", "does not know this crate", &|f| {
        let table = f.members["foreglow-core"].table.clone();
        let stranger = Manifest { folder: "common".to_owned(), table, ..Manifest::default() };
        f.members.insert("foreglow-common".to_owned(), stranger);
    });
    plant("polars in training", "which is for foreglow-datasets only", &|f| member(f, "foreglow-training", "polars"));
    plant("tokio in the models", "depends on tokio", &|f| member(f, "foreglow-models", "tokio"));
    plant("linfa in search", "depends on linfa-trees", &|f| member(f, "foreglow-search", "linfa-trees"));
    plant("polars behind the engine", "links polars-core", &|f| {
        f.closure.get_mut("foreglow-engine").unwrap().insert("polars-core".to_owned());
    });
    plant("two ndarrays", "ndarray in versions", &|f| {
        f.versions.get_mut("ndarray").unwrap().insert("0.17.2".to_owned());
    });
    plant("a lint switched off", "workspace.lints.rust.missing_docs", &|f| {
        let lints = f.root["workspace"]["lints"]["rust"].as_table_mut().unwrap();
        lints.insert("missing_docs".to_owned(), "allow".into());
    });
    plant("a member without the lints", "does not take the workspace's lints", &|f| {
        f.members.get_mut("foreglow-lab").unwrap().table.remove("lints");
    });
    plant("a version of its own", "dependencies.serde", &|f| {
        let deps = f.members.get_mut("foreglow-lab").unwrap().table["dependencies"].as_table_mut().unwrap();
        deps.insert("serde".to_owned(), "1".into());
    });
    plant("candle outside the nets", "uses candle_core", &|f| {
        source(f, "models/src/detect/x.rs", "foreglow-models", "fn f() { candle_core::Device::Cpu; }");
    });
    plant("linfa inside the nets", "uses linfa_clustering", &|f| {
        source(f, "models/src/nn/x.rs", "foreglow-models", "use linfa_clustering::KMeans;");
    });
    plant("unsafe outside the kernels", "unsafe code", &|f| {
        source(f, "models/src/nn/x.rs", "foreglow-models", "fn f() { unsafe { g() } }");
    });
    plant("leave for unsafe", "leave for it", &|f| {
        source(f, "engine/src/x.rs", "foreglow-engine", "#![allow(unsafe_code)]");
    });
    plant("a clock in a model", "uses SystemTime::now", &|f| {
        source(
            f,
            "models/src/monitor/x.rs",
            "foreglow-models",
            "use std::time::SystemTime; fn f() { SystemTime::now(); }",
        );
    });
    plant("files in a model", "uses std::fs", &|f| {
        source(f, "models/src/detect/x.rs", "foreglow-models", "use std::{fmt, fs};");
    });
    plant("an import through a path", "does not name", &|f| {
        source(f, "engine/src/x.rs", "foreglow-engine", "fn f() { foreglow_lab::record(); }");
    });
}
