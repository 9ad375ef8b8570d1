//! What the supervisor that has started the program is told, as `sd_notify(3)` has it: that it serves, that it
//! stops, and what it does meanwhile. Where there is none, nothing is said, and one that takes nothing is no trouble
//! of the program: its log lines say the same.
//!
//! There is no watchdog. A thread that answers for the process would say nothing of what a shard waits for, and what
//! that may be, a disk that hangs, is not mended by a start: `walengine health` and the metrics tell of it.

use sd_notify::NotifyState;

use crate::text::printable;

/// What the program does, in a few words; it is not ready by that.
pub fn does(what: &str) {
    tell(&[NotifyState::Status(&printable(what))]);
}

/// The program does its work from now on: what waits for it may begin. For a server, once it answers everybody.
pub fn serves(what: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&printable(what))]);
}

/// The program has begun to stop.
pub fn stops() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Finishing what is in flight")]);
}

fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states); // see the module
}
