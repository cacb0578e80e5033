//! What is done to values before a model sees them: scaling a window, looking back whole seasons, time as phases.

mod calendar;
mod lag;
mod scale;

pub use calendar::{PHASES, calendar_phases, has_calendar};
pub use lag::{last_observed, seasonal_mean_change, value_seasons_back};
pub use scale::WindowScale;
