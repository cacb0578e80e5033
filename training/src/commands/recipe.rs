use crate::answer::table;
use crate::{Answer, TrainError};
use foreglow_models::spec::Recipe;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The commands about recipes.
#[derive(Debug, clap::Subcommand)]
pub enum RecipeCommand {
    /// Each value of a recipe as a fit takes it, and where it came from.
    Explain(ExplainArgs),
}

/// Options of `recipe explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  foreglow-train recipe explain training/configs/default.toml")]
pub struct ExplainArgs {
    /// The recipe, a TOML file.
    file: PathBuf,
}

/// Reads and checks a recipe file; no file is the default recipe.
///
/// # Errors
/// [`TrainError::Io`] and [`TrainError::Config`] with the file's name.
pub(crate) fn read_recipe(path: Option<&Path>) -> Result<Recipe, TrainError> {
    let Some(path) = path else { return Ok(Recipe::default()) };
    let text = std::fs::read_to_string(path).map_err(|e| TrainError::io(path, "read", e))?;
    Recipe::parse(&text).map_err(|e| TrainError::Config { path: path.to_owned(), problem: e.to_string() })
}

/// The name of a recipe for reports: that of its file.
pub(crate) fn recipe_name(path: Option<&Path>) -> String {
    path.and_then(Path::file_stem).map_or_else(|| "default".to_owned(), |s| s.to_string_lossy().into_owned())
}

#[derive(Serialize)]
struct Resolved {
    field: String,
    value: Value,
    from: &'static str,
}

/// Runs `recipe`.
///
/// # Errors
/// As [`read_recipe`].
pub fn recipe(command: &RecipeCommand) -> Result<Answer, TrainError> {
    let RecipeCommand::Explain(args) = command;
    let recipe = read_recipe(Some(&args.file))?;
    let text = std::fs::read_to_string(&args.file).map_err(|e| TrainError::io(&args.file, "read", e))?;
    let written: toml::Value = toml::from_str(&text)
        .map_err(|e| TrainError::Config { path: args.file.clone(), problem: e.message().to_owned() })?;
    let mut given = BTreeSet::new();
    flatten("", &serde_json::to_value(&written)?, &mut |path, _| {
        given.insert(path);
    });
    let mut rows = Vec::new();
    flatten("", &serde_json::to_value(&recipe)?, &mut |field, value| {
        let from = if given.contains(&field) { "file" } else { "default" };
        rows.push(Resolved { field, value: value.clone(), from });
    });
    let lines = rows.iter().map(|r| {
        let value = match &r.value {
            Value::Null => "chosen from the data".to_owned(),
            v => v.to_string(),
        };
        vec![r.field.clone(), value, r.from.to_owned()]
    });
    let text = table(&["field", "value", "from"], 3, lines);
    Ok(Answer::new(&rows, text)?)
}

/// Every leaf with its path, such as `detectors[0].kind`.
fn flatten(path: &str, value: &Value, each: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, v) in map {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&inner, v, each);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (i, v) in list.iter().enumerate() {
                flatten(&format!("{path}[{i}]"), v, each);
            }
        }
        leaf => each(path.to_owned(), leaf),
    }
}
