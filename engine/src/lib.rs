//! The serving binary: scores live metric batches, forecasts, alerts, recommends.
