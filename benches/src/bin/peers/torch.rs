use super::clock::Spent;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// PyTorch in a process of its own, which works on command and waits in between.
pub(crate) struct Torch {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    about: String,
}

#[derive(Deserialize)]
struct Hello {
    version: String,
    capability: String,
}

#[derive(Deserialize)]
struct Run {
    cpu: f64,
    wall: f64,
    answer: Vec<f64>,
}

#[derive(Deserialize)]
struct Nothing {}

impl Torch {
    pub(crate) fn start(python: &Path, script: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {} {}", python.display(), script.display()))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else { bail!("the Python process has no pipes") };
        let mut torch = Self { child, to, from: BufReader::new(from), about: String::new() };
        let hello: Hello = torch.ask("hello")?;
        torch.about = format!("torch {} ({})", hello.version, hello.capability);
        Ok(torch)
    }

    /// Version and instruction set.
    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    pub(crate) fn threads(&mut self, threads: usize) -> Result<()> {
        self.ask::<Nothing>(&format!("threads {threads}")).map(|_| ())
    }

    /// Sets up work.
    pub(crate) fn prepare(&mut self, work: &str) -> Result<()> {
        self.ask::<Nothing>(work).map(|_| ())
    }

    /// Runs the work that was set up: time of all repeats, and the answer after the last.
    pub(crate) fn run(&mut self, repeats: usize) -> Result<(Spent, Vec<f64>)> {
        let run: Run = self.ask(&format!("run {repeats}"))?;
        Ok((Spent { cpu: run.cpu, wall: run.wall }, run.answer))
    }

    fn ask<T: DeserializeOwned>(&mut self, command: &str) -> Result<T> {
        writeln!(self.to, "{command}").with_context(|| format!("sending {command:?} to Python"))?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("Python answered {line:?} to {command:?}"))
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
