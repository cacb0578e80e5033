//! Benches of the hot paths; each asserts its answer.

pub mod data;
