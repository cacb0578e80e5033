//! Helpers of the journeys in `it/`: the architecture rules.

pub mod architecture;
