//! Benches of the hot paths; each asserts its answer.
