//! Asks the operator's hook for the changes that studies in mode `auto` want to make, one POST each.

use crate::app::App;
use crate::config::Auto;
use crate::tuner::Step;
use std::sync::Arc;
use std::time::Duration;

/// How long a hook may take to make a change.
const PATIENCE: Duration = Duration::from_mins(1);

/// Goes on for as long as the server runs. A change counts as made once the hook has answered with a success; after
/// anything else the same one is asked for again next time.
pub(crate) async fn fly(app: Arc<App>, auto: Auto) {
    let Some(url) = auto.webhook else { return };
    let client = reqwest::Client::new();
    let mut timer = tokio::time::interval(Duration::from_millis(auto.every.ms().unsigned_abs()));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let steps = match app.slow(|app| Ok(app.tuner.next_steps())).await {
            Ok(steps) => steps,
            Err(p) => {
                tracing::error!(code = p.code(), "studies were not asked for their next change");
                continue;
            }
        };
        for step in steps {
            let mut request = client.post(&url).timeout(PATIENCE).json(&step);
            if let Some(token) = &auto.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.and_then(reqwest::Response::error_for_status);
            if let Err(e) = answer {
                tracing::warn!(study = step.study, error = %e.without_url(), "the hook did not make a change; asked again later");
                continue;
            }
            note(&app, step).await;
        }
    }
}

async fn note(app: &Arc<App>, step: Step) {
    tracing::info!(study = step.study, purpose = ?step.purpose, id = step.id, "changed by the hook");
    let name = step.study.clone();
    if let Err(p) = app.slow(move |app| app.tuner.made(&step)).await {
        tracing::error!(study = name, code = p.code(), "a change that was made could not be written down");
    }
}
