//! One module a user journey, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where by panicking, in its helpers too")]

mod architecture;
mod bad_input;
mod bad_requests;
mod compat;
mod fixtures;
mod journey;
mod live_is_backtest;
mod reload;
mod tuning;
