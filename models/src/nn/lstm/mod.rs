//! A global probabilistic LSTM: one net for the next values of any series, read from the series' own past.
//!
//! **Idea.** A window is brought to common units, cut into patches and read by one LSTM layer; its last state and what is
//! known of each step ahead (the value one season before, one more before, a week before, the time of day) give all
//! quantiles of a whole block of steps at once. The net predicts the *deviation from seasonal naive* in units of the
//! series' own seasonal error, so that untrained it is seasonal naive and a loss of 1 means the same for every series.
//!
//! **Formulas.** With `s_k` the value one season before step `k`, `r` the mean seasonal change in the window:
//! inputs `asinh((x - mean)/sd)`, `asinh((x_t - x_{t-m})/r)`, observed mask; output `u_k(τ)`; forecast `s_k + r sinh u_k(τ)`.
//! Quantiles rise by construction: median plus and minus sums of softplus. Loss: pinball at
//! [`QUANTILE_LEVELS`](foreglow_core::QUANTILE_LEVELS) (Koenker and Bassett 1978, doi:10.2307/1913643) over the values
//! that are there. Parts after Salinas et al. 2020 (doi:10.1016/j.ijforecast.2019.07.001), Kim et al. 2022 (reversible
//! instance normalisation) and Nie et al. 2023 (patches, arXiv 2211.14730).

mod net;
mod objective;
mod params;
mod sample;
mod shape;
mod unroll;
mod window;

pub use net::{LstmFit, LstmNet};
pub use params::LstmParams;
pub use shape::LstmShape;
