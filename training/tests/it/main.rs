//! The program as its users run it: small generated data, every command, good and bad input.

mod anomaly;
mod bad_input;
mod cli;
mod datasets;
mod fit;
mod forecast;
mod kit;
mod published;
mod search;
mod tune;
mod tune_resume;
mod tuning;
