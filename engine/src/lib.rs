//! The serving side of foreglow: scores live metric batches, forecasts, watches incidents, searches parameters.
//!
//! [`run`] serves until it is told to stop. `ARCHITECTURE.md` beside this crate says what is where and what is
//! deliberately absent.

mod app;
mod autopilot;
mod clock;
mod compute;
mod config;
mod error;
mod events;
mod forecasts;
mod hash;
mod http;
mod live;
mod registry;
mod store;
mod telemetry;
mod tuner;
mod view;

pub use app::{run, run_with_clock};
pub use clock::Clock;
pub use config::{Auto, Config, Horizon, Limits, LogFormat, Retain, Role, Token};
pub use error::EngineError;
pub use http::{decode_batch, openapi_json};
pub use telemetry::init_log;
