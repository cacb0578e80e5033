//! The server as its clients see it: over HTTP, on an ephemeral port of the loopback, by a clock that stands still.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod auto;
mod careful;
mod errors;
mod experiments;
mod forecast;
mod overload;
mod reload;
mod restart;
mod scoring;
mod server;
mod stream;
mod triggers;
mod tuning;
