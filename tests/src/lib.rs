//! Shared helpers of the journeys.
