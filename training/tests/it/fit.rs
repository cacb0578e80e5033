use crate::kit::{small, train};
use serde_json::Value;
use std::path::{Path, PathBuf};

const RECIPE: &str =
    "[[detectors]]\nkind = \"baseline\"\n[[detectors]]\nkind = \"pca\"\n[forecaster]\nkind = \"seasonal_naive\"\n";

/// A data set, a recipe and a registry with one artifact of it.
struct House {
    dir: tempfile::TempDir,
    data: PathBuf,
    recipe: PathBuf,
    registry: PathBuf,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (data, recipe) = (small(dir.path()), dir.path().join("recipe.toml"));
        std::fs::write(&recipe, RECIPE).expect("written");
        let registry = dir.path().join("registry");
        Self { dir, data, recipe, registry }
    }

    fn fit(&self, registry: &Path, more: &str) -> Value {
        let args = format!("--format json fit --data {{}} --recipe {{}} --registry {{}} {more}");
        train(&args, &[&self.data, &self.recipe, registry]).json()
    }

    fn id(answer: &Value) -> String {
        answer["artifacts"][0]["id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn same_seed_same_artifact_on_any_number_of_threads() {
    let house = House::new();
    let (a, b) = (house.dir.path().join("a"), house.dir.path().join("b"));
    let one = house.fit(&a, "--threads 1");
    let two = house.fit(&b, "--threads 2");
    let id = House::id(&one);
    assert_eq!(id, House::id(&two));
    let groups = one["artifacts"][0]["groups"].as_array().expect("groups");
    assert_eq!((groups.len(), &groups[0]["signals"], &groups[0]["fit_rows"]), (3, &4.into(), &240.into()));
    for file in ["manifest.json", "weights.safetensors", "calibration.safetensors"] {
        let read = |root: &Path| std::fs::read(root.join("small").join(&id).join(file)).expect(file);
        assert!(read(&a) == read(&b), "{file}");
    }
}

#[test]
fn registry_is_inspected_promoted_and_rolled_back() {
    let house = House::new();
    let first = House::id(&house.fit(&house.registry, ""));
    let second = House::id(&house.fit(&house.registry, "--metrics g1_metric_01,g2_metric_02"));
    let list = train("--format json inspect --registry {}", &[&house.registry]).json();
    let current = |list: &Value| {
        let all = list.as_array().expect("a list");
        all.iter().find(|l| l["current"] == true).expect("a current one")["id"].as_str().expect("an id").to_owned()
    };
    assert_eq!((list.as_array().map(Vec::len), current(&list)), (Some(2), first.clone()));
    assert_eq!(train(&format!("promote small {} --registry {{}}", &second[..8]), &[&house.registry]).code, 0);
    assert_eq!(current(&train("--format json inspect --registry {}", &[&house.registry]).json()), second);
    let manifest = train("--format json inspect small --registry {}", &[&house.registry]).json();
    assert_eq!((&manifest["id"], manifest["signals"].as_array().map(Vec::len)), (&second.as_str().into(), Some(2)));
    assert!(train("inspect small --registry {}", &[&house.registry]).out.contains("p_alert"));
    assert_eq!(train("rollback small --registry {}", &[&house.registry]).code, 0);
    assert_eq!(current(&train("--format json inspect --registry {}", &[&house.registry]).json()), first);
    let out = house.dir.path().join("out");
    let args = "--format json backtest --task forecast --data {} --artifact small --registry {} --horizon 6 --windows 2 \
                --models seasonal_naive,naive --out {}";
    let report = train(args, &[&house.data, &house.registry, &out]).json();
    assert!(report["provenance"]["settings"].to_string().contains("0 windows begin before"), "{report}");
    train("promote small 0123 --registry {}", &[&house.registry]).error(1);
    train("inspect nobody --registry {}", &[&house.registry]).error(1);
    train("inspect --registry {}", &[&house.dir.path().join("nowhere")]).error(2);
}

#[test]
fn what_does_worse_on_labelled_rows_is_not_promoted() {
    let house = House::new();
    let good = House::id(&house.fit(&house.registry, "--backtest"));
    let shift = house.dir.path().join("shift.toml");
    let recipe = "[[detectors]]\nkind = \"shift\"\nshort = 200\n[forecaster]\nkind = \"seasonal_naive\"\n";
    std::fs::write(&shift, recipe).expect("written");
    let fit = "--format json fit --data {} --recipe {} --registry {} --name small";
    let poor = House::id(&train(fit, &[&house.data, &shift, &house.registry]).json());
    let figures = |id: &str| {
        train(&format!("--format json inspect small/{id} --registry {{}}"), &[&house.registry]).json()["backtest"]
            .clone()
    };
    assert!(figures(&good)["means"]["vus_pr"].as_f64().is_some_and(|v| v > 0.3), "{}", figures(&good));
    assert!(figures(&poor).is_null(), "none was run");
    let promote = |id: &str, more: &str| {
        train(&format!("--format json promote small {id} --registry {{}} {more}"), &[&house.registry, &house.data])
    };
    let refused = promote(&poor, "--data {}");
    let error = refused.error(1);
    assert!(error.contains(&poor) && error.contains("VUS-PR") && error.contains("--force"), "{error}");
    let forced = promote(&poor, "--data {} --force").json();
    assert_eq!(forced["current"], poor.as_str());
    assert!(forced["refusal"].is_string() && forced["current_figures"]["means"]["vus_pr"].is_f64(), "{forced}");
    let back = promote(&good, "--data {}").json();
    assert_eq!((&back["current"], back["refusal"].is_null()), (&good.as_str().into(), true));
    train(&format!("promote small {good} --registry {{}} --force"), &[&house.registry]).error(2);
    train(&format!("promote small {good} --registry {{}} --metrics a"), &[&house.registry]).error(2);
}

#[test]
fn a_fit_is_kept_where_there_is_nothing_to_judge_it_by() {
    let house = House::new();
    let bare = house.dir.path().join("bare.csv");
    let rows = [0, 3, 1, 4, 2].repeat(80);
    let lines: Vec<String> =
        rows.iter().enumerate().map(|(i, v)| format!("{},{v}", 1_767_225_600_000 + 60_000 * i)).collect();
    std::fs::write(&bare, format!("timestamp,cpu\n{}\n", lines.join("\n"))).expect("written");
    let args = "--format json fit --data {} --recipe {} --registry {} --backtest";
    let answer = train(args, &[&bare, &house.recipe, &house.registry]).json();
    assert!(answer["notes"].to_string().contains("kept without backtest figures"), "{answer}");
    let id = House::id(&answer);
    assert_eq!(train(&format!("inspect bare/{id} --registry {{}}"), &[&house.registry]).code, 0);
}

#[test]
fn a_damaged_artifact_is_named_and_the_others_live() {
    let house = House::new();
    let good = House::id(&house.fit(&house.registry, ""));
    let bad = House::id(&house.fit(&house.registry, "--metrics g1_metric_01"));
    let folder = house.registry.join("small").join(&bad);
    let weights = folder.join("weights.safetensors");
    let whole = std::fs::read(&weights).expect("read");
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    let inspect = |id: &str| train(&format!("inspect small/{id} --registry {{}}"), &[&house.registry]);
    assert!(inspect(&bad).error(1).contains("weights.safetensors"));
    assert!(train(&format!("promote small {bad} --registry {{}}"), &[&house.registry]).error(1).contains("weights"));
    std::fs::write(&weights, whole).expect("written");
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("read");
    let newer = manifest.replacen("\"schema_version\": \"1.0\"", "\"schema_version\": \"7.0\"", 1);
    assert_ne!(newer, manifest);
    std::fs::write(folder.join("manifest.json"), newer).expect("written");
    assert!(inspect(&bad).error(1).contains("7.0"));
    assert_eq!(inspect(&good).code, 0);
    let list = train("--format json inspect --registry {}", &[&house.registry]).json();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
}

#[test]
fn recipes_are_checked_and_explained() {
    let house = House::new();
    let explained = train("--format json recipe explain {}", &[&house.recipe]).json();
    let from = |field: &str| {
        let rows = explained.as_array().expect("rows");
        rows.iter().find(|r| r["field"] == field).unwrap_or_else(|| panic!("{field}"))["from"].clone()
    };
    assert_eq!(
        (from("detectors[1].kind"), from("incidents.open"), from("forecaster.kind")),
        ("file".into(), "default".into(), "file".into())
    );
    std::fs::write(&house.recipe, "[forecaster]\nkind = \"wizard\"\n").expect("written");
    assert!(train("recipe explain {}", &[&house.recipe]).error(2).contains("wizard"));
    let args = "fit --data {} --recipe {} --registry {}";
    assert!(train(args, &[&house.data, &house.recipe, &house.registry]).error(2).contains("recipe.toml"));
    assert!(train("recipe explain {}", &[&house.dir.path().join("none.toml")]).error(2).contains("none.toml"));
}

#[test]
fn shipped_recipes_load() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(configs).expect("there") {
        let path = entry.expect("an entry").path();
        // Folders hold what is no recipe: spaces and studies of `tune`, which test themselves.
        if path.is_dir() {
            continue;
        }
        let ran = train("recipe explain {}", &[&path]);
        assert_eq!(ran.code, 0, "{}: {}", path.display(), ran.err);
        assert!(
            std::fs::read_to_string(&path).expect("read").starts_with('#'),
            "{} says what it is for",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 4);
}

#[test]
fn nothing_to_fit_on_is_said() {
    let house = House::new();
    let fails = |text: &str, code: i32, part: &str| {
        let path = house.dir.path().join("odd.csv");
        std::fs::write(&path, text).expect("written");
        let ran = train("fit --data {} --recipe {} --registry {}", &[&path, &house.recipe, &house.registry]);
        assert!(ran.error(code).contains(part), "{text}: {}", ran.err);
    };
    fails("time,v\n1767225600000,1\n", 1, "no step");
    let rows = |head: &str, cells: &str| {
        let times = (0..300).map(|i| 1_767_225_600_000i64 + i * 60_000);
        times.fold(head.to_owned(), |text, t| text + &format!("\n{t},{cells}"))
    };
    fails(&rows("time,v", ""), 1, "no metric has a value");
    fails(&rows("time,v,split", "1,test"), 1, "no train rows");
}
