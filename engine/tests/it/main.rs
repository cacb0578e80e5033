//! The server as its clients see it: over HTTP, on an ephemeral port of the loopback, by a clock that stands still.

mod errors;
mod forecast;
mod overload;
mod reload;
mod restart;
mod scoring;
mod server;
mod stream;
mod tuning;
