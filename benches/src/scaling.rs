//! What a second core gains.

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

/// The gain from a second core, beside the gain from a second raw writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScalingReport {
    /// Events/s on two cores over those on one.
    pub engine_gain: Spread,
    /// Raw commits/s of two writers over those of one.
    pub raw_gain: Spread,
    /// The engine's gain over that of raw writers.
    pub part_of_raw_gain: Spread,
    /// The load that it was measured with.
    pub from: String,
    /// Rounds that were thrown away.
    pub thrown_away: usize,
}
