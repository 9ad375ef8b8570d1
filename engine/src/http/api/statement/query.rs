//! What a request for a statement asks.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::limits::HTTP_SCAN_ROWS_MAX;

/// Which part of the statement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Rows {
    /// At most so many rows.
    #[serde(default = "page_of")]
    #[param(minimum = 1, maximum = 500)]
    pub limit: usize,
    /// `next` of the page before.
    #[param(pattern = r"^[0-9]{1,20}-[0-9]{1,39}-[0-9]{1,39}(\.-?[0-9]{1,19}\.[0-9]{1,20})?$")]
    pub before: Option<String>,
    /// Which time orders the rows.
    #[serde(default)]
    #[param(inline, required = false)]
    pub by: By,
    /// With `by=booked`: only what has this time or a later one, such as `2026-11-01` (UTC) or
    /// `2026-11-01T14:00:00+01:00`.
    pub from: Option<String>,
    /// With `by=booked`: only what is before this time.
    pub to: Option<String>,
    /// Of a striped account: whose stripe; without it, that of partition 0.
    #[param(minimum = 0, maximum = 65_535)]
    pub partition: Option<u16>,
}
const _: () = assert!(HTTP_SCAN_ROWS_MAX == 500);

/// Which time orders the rows of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The log time.
    #[default]
    Log,
    /// The time of business that a transfer came with; the log time where there is none.
    Booked,
}

fn page_of() -> usize {
    50
}
