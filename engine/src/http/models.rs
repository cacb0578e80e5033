use super::extract::{Params, ok};
use super::problem::{Problem, ProblemBody};
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use foreglow_models::artifact::Manifest;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// An artifact in the registry, or the online baseline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    /// `name/id`, or `online`.
    #[serde(rename = "model")]
    id: String,
    /// Whether it is its name's `current`.
    current: bool,
    /// Whether it serves.
    served: bool,
    /// Why it cannot be loaded.
    error: Option<String>,
    /// What stands in its manifest.
    #[schema(value_type = Option<Object>)]
    manifest: Option<Manifest>,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    /// By name and id; the online baseline last.
    items: Vec<Model>,
    /// Ascends with every reload of this server.
    version: u64,
}

/// Whether a reload changed anything.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// Whether the registry had changed.
    changed: bool,
    /// The version served now.
    version: u64,
}

/// What is in the registry and what serves.
#[utoipa::path(get, path = "/v1/models", tag = "reads",
    responses((status = 200, body = Models), (status = 500, body = ProblemBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Response, Problem> {
    params.only(&[])?;
    let reply = app.slow(|app| {
        let catalogue = app.registry.catalogue();
        let broken: HashMap<&String, &String> = catalogue.broken.iter().map(|(m, e)| (m, e)).collect();
        let mut items = Vec::new();
        for l in
            app.registry.store()?.map(|s| s.list()).transpose().map_err(crate::EngineError::from)?.unwrap_or_default()
        {
            let model = format!("{}/{}", l.name, l.id);
            let (manifest, error) = match l.manifest {
                Ok(m) => (Some(m), broken.get(&model).map(|e| (*e).clone())),
                Err(e) => (None, Some(e.to_string())),
            };
            let served = catalogue.artifacts.iter().any(|a| *a.model == *model);
            items.push(Model { id: model, current: l.current, served, error, manifest });
        }
        items.push(Model { id: "online".into(), current: true, served: true, error: None, manifest: None });
        Ok(Models { items, version: catalogue.version })
    });
    Ok(ok(&reply.await?))
}

/// Looks at the registry now instead of within two seconds.
#[utoipa::path(post, path = "/v1/models/reload", tag = "operation",
    responses((status = 200, body = Reloaded), (status = 500, body = ProblemBody)))]
pub(crate) async fn reload(State(app): State<Arc<App>>, params: Params) -> Result<Response, Problem> {
    params.only(&[])?;
    let changed = app.live.reload(false, app.clock.now()).await?;
    Ok(ok(&Reloaded { changed, version: app.registry.catalogue().version }))
}
