//! From raw scores to tail probabilities, and from residuals to bands.
//!
//! [`TailMap`] is learnt once on a held-out slice, [`RunningTail`] online where there is none; [`conformal_factor`] makes
//! 98 % bands.

mod conformal;
mod pareto;
mod running;
mod tail;

pub use conformal::{BAND_COVERAGE, conformal_factor};
pub use running::RunningTail;
pub use tail::TailMap;
