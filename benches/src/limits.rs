//! Waits that several parts of the benchmark have in common.

use std::time::Duration;

/// Pause between two looks at a process that starts or ends, or at a position that moves.
pub const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Pause between two looks at what a measurement watches while it runs, such as memory: the looks
/// must not cost the machine anything that shows.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// How long a server may take to start and to end, recovery included.
pub const SERVER_PATIENCE: Duration = Duration::from_mins(2);
/// How long the engine may settle before its memory is read.
pub const SETTLE: Duration = Duration::from_millis(1500);
/// Transfers in a batch that fills a log: the most that a request holds.
pub const FILL_BATCH: usize = walengine_net::limits::EVENTS_MAX;
