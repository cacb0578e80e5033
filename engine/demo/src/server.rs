//! The server, as a child task on a free port, with state and registry in a temporary folder.

use crate::client::Client;
use anyhow::{Context, Result};
use foreglow_engine::{Config, EngineError, run};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) url: String,
    /// The folder of its artifacts.
    pub(crate) registry: PathBuf,
    /// From the start to the first answer of `/readyz`.
    pub(crate) ready_after: Duration,
    task: JoinHandle<Result<(), EngineError>>,
    shutdown: oneshot::Sender<()>,
    // Dropped last: the server's files live here.
    _folder: TempDir,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start() -> Result<Self> {
        let begin = Instant::now();
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let registry = folder.path().join("registry");
        std::fs::create_dir_all(&registry).context("no registry folder")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port on loopback")?;
        let address = listener.local_addr()?;
        let config = Config {
            listen: address,
            state: folder.path().join("state"),
            registry: Some(registry.clone()),
            ..Config::default()
        };
        let (shutdown, told) = oneshot::channel::<()>();
        let task = tokio::spawn(run(listener, config, async {
            // A dropped sender is a wish to stop too.
            let _ = told.await;
        }));
        let url = format!("http://{address}");
        let client = Client::new(&url)?;
        while client.get::<serde_json::Value>("/readyz", &[]).await.is_err() {
            if task.is_finished() || begin.elapsed() > PATIENCE {
                anyhow::bail!("the server did not become ready within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { url, registry, ready_after: begin.elapsed(), task, shutdown, _folder: folder })
    }

    /// Ends it and waits until its state is saved.
    pub(crate) async fn stop(self) -> Result<()> {
        // It may have ended by itself, with an error that the task gives.
        let _ = self.shutdown.send(());
        self.task.await.context("the server task")??;
        Ok(())
    }
}
