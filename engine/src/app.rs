//! The server from its parts: [`run`] serves until it is told to stop.

use crate::EngineError;
use crate::autopilot;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::config::Config;
use crate::events::Events;
use crate::forecasts::Forecasts;
use crate::http::{self, Gate, Quota};
use crate::live::{Live, MOST_SUPPRESSIONS, Suppression};
use crate::registry::Registry;
use crate::store::{NewChange, Store, ask};
use crate::telemetry::Telemetry;
use crate::tuner::Tuner;
use crate::view::FOREVER;
use axum::serve::ListenerExt;
use foreglow_core::TimeRange;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often state is saved and silence is noticed.
const TICK: Duration = Duration::from_secs(1);
/// How often the registry folder is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the triggers and promises of studies are looked at; asking a study looks at once.
const TRIGGERS: Duration = Duration::from_secs(30);
/// How often old rows are dropped.
const PRUNE: Duration = Duration::from_mins(5);
/// How long requests that are running may take after the server was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Changes of these kinds raise nothing while they last.
pub(crate) const QUIET_KINDS: [&str; 3] = ["maintenance", "freeze", "expected_load"];

/// Everything a request needs.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) compute: Compute,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tuner: Arc<Tuner>,
    pub(crate) events: Arc<Events>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) live: Arc<Live>,
    /// Plans of forecasts from the server's state.
    pub(crate) forecasts: Forecasts,
    pub(crate) gate: Gate,
    pub(crate) quota: Quota,
    /// Turns true when the server stops; streams end by it.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl App {
    async fn open(config: Config, clock: Clock, stopping: watch::Receiver<bool>) -> Result<Arc<Self>, EngineError> {
        config.check()?;
        let folder = config.state.clone();
        let store = blocking(move || Store::open(&folder)).await?;
        let telemetry = Arc::new(Telemetry::default());
        let events = Arc::new(Events::new(clock.now()));
        let (s, e, c, signals) = (store.clone(), events.clone(), clock.clone(), config.rules()?);
        let tuner = Arc::new(blocking(move || Tuner::open(s, e, c, signals)).await?);
        let (folder, rules, t) = (config.registry.clone(), config.rules()?, telemetry.clone());
        let registry = Arc::new(blocking(move || Registry::open(folder, rules, t)).await?);
        let compute = Compute::new(config.pool_threads())?;
        let live = Arc::new(Live::new(
            compute.clone(),
            registry.clone(),
            tuner.clone(),
            store.clone(),
            events.clone(),
            telemetry.clone(),
            config.limits.clone(),
        ));
        let now = clock.now();
        // Those that are over as well: what comes late, or is a replay, may lie in them.
        for (tenant, change) in store.call(|c| ask::last_changes(c, &QUIET_KINDS, MOST_SUPPRESSIONS)).await? {
            if let Some(s) = suppression(&change) {
                live.suppress(&tenant.into(), &s);
            }
        }
        live.restore(now).await?;
        live.settle_incidents().await?;
        let (gate, quota) = (Gate::new(&config), Quota::new(config.limits.samples_per_second));
        Ok(Arc::new(Self {
            config,
            clock,
            compute,
            store,
            registry,
            tuner,
            events,
            telemetry,
            live,
            forecasts: Forecasts::default(),
            gate,
            quota,
            stopping,
        }))
    }

    /// Work that waits for the store or searches for long: on a thread of its own.
    pub(crate) async fn slow<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<R, http::Problem> + Send + 'static,
    ) -> Result<R, http::Problem> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || work(&app)).await.map_err(|_| EngineError::Stopped("a request"))?
    }

    async fn prune(&self) -> Result<(), EngineError> {
        let (now, keep) = (self.clock.now(), self.config.retain.clone());
        let gone = self.store.call(move |c| {
            ask::forget_old_results(c, now.plus(-keep.results.ms()))?;
            ask::forget_old_history(c, keep.history)?;
            ask::forget_old_groups(c, now.plus(-keep.groups.ms()))
        });
        self.live.let_go(&gone.await?);
        self.live.settle_incidents().await
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, EngineError> + Send + 'static,
) -> Result<R, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Stopped("the start"))?
}

/// The range in which a change keeps things quiet.
pub(crate) fn suppression(c: &NewChange) -> Option<Suppression> {
    if !QUIET_KINDS.contains(&c.kind.as_str()) {
        return None;
    }
    let selector = c.selector.as_ref()?.parse().ok()?;
    let range = TimeRange { start: c.start, end: c.end.unwrap_or(FOREVER) };
    Some(Suppression { selector, range, reason: c.kind.clone() })
}

/// Serves on `listener` until `shutdown` is done, then finishes the requests that are running, saves all state and
/// returns. The listener decides the address; `config.listen` only serves the check of who can reach it.
///
/// # Errors
/// A configuration that does not hold, a state folder in use, a registry that cannot be read.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), EngineError> {
    run_with_clock(listener, config, Clock::System, shutdown).await
}

/// [`run`] by another clock.
///
/// # Errors
/// As [`run`].
pub async fn run_with_clock(
    listener: TcpListener,
    config: Config,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), EngineError> {
    let (stop, stopping) = watch::channel(false);
    let app = App::open(config, clock, stopping.clone()).await?;
    let address = listener.local_addr().map_err(|e| EngineError::io("listener", e))?;
    tracing::info!(%address, state = %app.config.state.display(), "ready");
    let background = [
        tokio::spawn(tick(app.clone())),
        tokio::spawn(look(app.clone())),
        tokio::spawn(prune(app.clone())),
        tokio::spawn(watch_studies(app.clone())),
        tokio::spawn(autopilot::fly(app.clone(), app.config.auto.clone())),
    ];
    let signal = async move {
        shutdown.await;
        tracing::info!("stopping: running requests are finished first");
        let _ = stop.send(true);
    };
    // Answers go out at once instead of waiting to be joined with the next one.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, http::router(app.clone())).with_graceful_shutdown(signal);
    let mut told = stopping;
    let served = tokio::select! {
        r = async { server.await } => r.map_err(|e| EngineError::io(address.to_string(), e)),
        // A client that does not take its answer must not keep the state from being saved.
        () = async {
            let _ = told.wait_for(|s| *s).await;
            tokio::time::sleep(GRACE).await;
        } => {
            tracing::warn!("some requests did not finish in time");
            Ok(())
        }
    };
    for task in &background {
        task.abort();
    }
    let saved = app.live.finish(app.clock.now()).await;
    let store = app.store.clone();
    blocking(move || {
        store.close();
        Ok(())
    })
    .await?;
    tracing::info!("stopped; all state is saved");
    served.and(saved)
}

async fn tick(app: Arc<App>) {
    let mut timer = tokio::time::interval(TICK);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        if let Err(e) = app.live.tick(app.clock.now()).await {
            tracing::error!(error = %e, "state was not saved");
        }
    }
}

async fn look(app: Arc<App>) {
    let mut timer = tokio::time::interval(LOOK);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        if let Err(e) = app.live.reload(false, app.clock.now()).await {
            tracing::error!(error = %e, "the registry cannot be read; what was served goes on being served");
        }
    }
}

async fn watch_studies(app: Arc<App>) {
    let mut timer = tokio::time::interval(TRIGGERS);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let looked = app.slow(|app| {
            app.tuner.watch_studies();
            Ok(())
        });
        if let Err(p) = looked.await {
            tracing::error!(code = p.code(), "studies were not looked at");
        }
    }
}

async fn prune(app: Arc<App>) {
    let mut timer = tokio::time::interval(PRUNE);
    loop {
        timer.tick().await;
        if let Err(e) = app.prune().await {
            tracing::error!(error = %e, "old rows were not dropped");
        }
    }
}
