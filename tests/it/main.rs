//! One module a user journey, in one binary.

mod architecture;
mod bad_input;
mod bad_requests;
mod journey;
mod live_is_backtest;
mod reload;
mod tuning;
