//! Helpers of the journeys in `it/`: the architecture rules, and a testkit that starts servers and makes data.

pub mod architecture;
pub mod testkit;
