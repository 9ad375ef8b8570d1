//! Every bound of the module.

use std::time::Duration;

/// How often a wait looks whether Python has a signal to handle, such as Ctrl-C.
pub const SIGNALS_EVERY: Duration = Duration::from_millis(50);
/// How long the end of the interpreter waits for threads that tell loops of answers.
pub const ENDING_WITHIN: Duration = Duration::from_secs(1);
/// Longest deadline of a call in seconds: that of the protocol.
pub const DEADLINE_SECONDS_MAX: f64 = walengine_net::limits::DEADLINE_MILLIS_MAX as f64 / 1000.0;
/// Most events in one submission; more would only take memory while they wait for their turn.
pub const SUBMISSION_EVENTS_MAX: usize = 4 << 20;
/// Most ids that are made at once.
pub const NEW_IDS_MAX: usize = SUBMISSION_EVENTS_MAX;
