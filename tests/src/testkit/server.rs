use super::Client;
use foreglow_engine::{Clock, Config, run_with_clock};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a loopback port of the system's choice, with state and registry in a temporary folder that outlives a
/// restart.
pub struct Server {
    folder: TempDir,
    config: Config,
    clock: Clock,
    running: Option<Running>,
}

struct Running {
    base: String,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), foreglow_engine::EngineError>>,
}

impl Server {
    /// Starts one with an empty registry.
    ///
    /// # Panics
    /// When it cannot start.
    pub async fn start() -> Self {
        Self::start_with(|_| {}, Clock::System).await
    }

    /// Starts one with a changed configuration (state and registry are set already) and a clock.
    ///
    /// # Panics
    /// When it cannot start.
    pub async fn start_with(change: impl FnOnce(&mut Config), clock: Clock) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let registry = folder.path().join("registry");
        std::fs::create_dir_all(&registry).expect("a registry folder");
        let mut config = Config { state: folder.path().join("state"), registry: Some(registry), ..Config::default() };
        change(&mut config);
        let mut server = Self { folder, config, clock, running: None };
        server.resume().await;
        server
    }

    /// The registry's folder.
    pub fn registry(&self) -> PathBuf {
        self.folder.path().join("registry")
    }

    /// The folder that holds state and registry.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of it.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn client(&self) -> Client {
        Client::new(&self.running.as_ref().expect("a running server").base)
    }

    /// Where it listens, `host:port`.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn address(&self) -> &str {
        self.running.as_ref().expect("a running server").base.trim_start_matches("http://")
    }

    /// Starts it again on what it left behind; on another port.
    ///
    /// # Panics
    /// When it runs already or cannot start.
    pub async fn resume(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (shutdown, told) = oneshot::channel::<()>();
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let task = tokio::spawn(async move {
            run_with_clock(listener, config, clock, async {
                // A dropped sender is a wish to stop too.
                let _ = told.await;
            })
            .await
        });
        self.running = Some(Running { base, shutdown, task });
        // The port is open before the server serves: the first request waits until it does.
        self.client().get("/readyz").await.ok();
    }

    /// Stops it as SIGTERM does: requests are finished, state is saved.
    ///
    /// # Panics
    /// When it does not run, or did not end well.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("a running server");
        let _ = running.shutdown.send(());
        running.task.await.expect("no panic in the server").expect("a server that ends well");
    }

    /// Stops it and starts it again.
    ///
    /// # Panics
    /// As [`Server::stop`] and [`Server::resume`].
    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }
}
