//! The server program as a child process on a free port.

use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) base: String,
    /// From the start of the process to the first 200 of `/readyz`.
    pub(crate) ready_after: Duration,
    _state: TempDir,
}

impl Server {
    /// Starts `program` and waits until it is ready.
    pub(crate) async fn start(program: &Path, registry: Option<&Path>) -> Result<Self> {
        let state = tempfile::tempdir()?;
        // The port is free a moment later too, unless somebody is very unlucky; then the start fails and says so.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(program);
        command.args(["--listen", &address, "--max-future", "off"]).arg("--state").arg(state.path());
        if let Some(registry) = registry {
            command.arg("--registry").arg(registry);
        }
        let begin = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let base = format!("http://{address}");
        let mut server = Self { child, base, ready_after: Duration::ZERO, _state: state };
        let client = client()?;
        let url = format!("{}/readyz", server.base);
        while !client.get(&url).send().await.is_ok_and(|r| r.status().is_success()) {
            if begin.elapsed() > Duration::from_secs(30) || server.child.try_wait()?.is_some() {
                bail!("{} did not become ready", program.display());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.ready_after = begin.elapsed();
        Ok(server)
    }

    /// Bytes of memory that are resident now.
    pub(crate) fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("{path}: resident memory needs Linux"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that goes straight to loopback.
pub(crate) fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
