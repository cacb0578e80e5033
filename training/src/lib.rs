//! The training binary: fit, backtest, search, inspect.
