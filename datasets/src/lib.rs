//! Datasets: catalogue, readers, generator, splits; the only user of polars.
