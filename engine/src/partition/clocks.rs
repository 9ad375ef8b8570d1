//! What time it is for a partition: the machine's clock, held against a steady one ([`LogClock`]) and, in a
//! group, against what the other nodes' clocks say ([`ClockAgreement`]).

use std::time::Duration;

use walengine_net::model::Timestamp;

use super::Partition;
use super::commit::Commit;
use super::log_clock::{ClockStanding, LogClock};
use crate::agreed_clock::{ClockAgreement, agreed, log_ahead};
use crate::ledger::Ledger;
use crate::limits::{CLOCKS_WITHIN, LOG_AHEAD_FAR};
use crate::runtime::Runtime;

impl<C: Commit> Partition<C> {
    /// The time of the next record. While the clocks of the others are awaited it stands still, and
    /// nothing is decided.
    pub(super) fn log_time(&self) -> Timestamp {
        let inner = &*self.inner;
        let (wall, steady) = (self.runtime().now(), self.runtime().elapsed());
        let last = self.with_ledger(Ledger::last_timestamp);
        let Some(wall) = inner.agreement.get().put_right(wall) else { return last };
        let mut clock = inner.clock.get();
        let before = clock.standing();
        let now = clock.read(wall, steady, last);
        inner.clock.set(clock);
        if before != clock.standing() {
            self.tell_clock(before, clock.standing());
        }
        now
    }

    /// Says when the wall clock is no longer followed, and when it is again.
    fn tell_clock(&self, before: ClockStanding, now: ClockStanding) {
        let partition = self.id().partition;
        match (before, now) {
            (ClockStanding::Agrees, ClockStanding::Ahead(by)) => tracing::error!(
                "partition {partition}: this machine's clock is {by:.0?} ahead of the log's: it is not \
                 followed, so that no reservation ends too early; set it right, for example with \
                 chrony; if it is right, start with --trust-clock"
            ),
            (ClockStanding::Agrees, ClockStanding::Behind(by)) => tracing::error!(
                "partition {partition}: this machine's clock is {by:.0?} behind the log's: it is not \
                 followed, and log time goes on by itself; set it right, for example with chrony"
            ),
            (ClockStanding::Ahead(_) | ClockStanding::Behind(_), ClockStanding::Agrees) => {
                tracing::info!("partition {partition}: this machine's clock is followed again");
            }
            _ => {}
        }
    }

    /// How the machine's clock stands to the log's, or to what the other nodes agree on.
    pub fn clock(&self) -> ClockStanding {
        match self.agreement() {
            ClockAgreement::Without(ahead) => {
                let by = Duration::from_nanos(ahead.unsigned_abs());
                if ahead < 0 { ClockStanding::Ahead(by) } else { ClockStanding::Behind(by) }
            }
            _ => self.inner.clock.get().standing(),
        }
    }

    /// Begins anew to compare the machine's clock with the log's. `trusted`: the machine's is right.
    pub fn set_clock(&self, trusted: bool) {
        self.inner.clock.set(LogClock::new(trusted));
    }

    /// How the machine's clock stands to what the other nodes agree on.
    pub fn agreement(&self) -> ClockAgreement {
        self.inner.agreement.get()
    }

    /// Decides nothing from now on until the clocks of a majority are known, or a leader has waited long
    /// enough for them.
    pub fn await_clocks(&self) {
        self.set_agreement(ClockAgreement::Awaited);
    }

    /// The clocks of the voters, as far as they are known: see [`agreed`]. To be called regularly.
    pub fn hear_clocks(&self, voters: usize, clocks: &[i64]) {
        let agreement = match agreed(voters, clocks) {
            Some(agreement) => agreement,
            None if self.has_waited_for_clocks() => ClockAgreement::Unknown,
            // Others that have fallen silent have not mended this node's clock.
            None => return,
        };
        self.set_agreement(agreement);
    }

    /// Only a leader needs to know: while there is none, the others may only be starting.
    fn has_waited_for_clocks(&self) -> bool {
        if !self.awaits_clocks() || !self.leads() {
            self.inner.awaits_since.set(None);
            return false;
        }
        let now = self.runtime().elapsed();
        let since = self.inner.awaits_since.get().unwrap_or(now);
        self.inner.awaits_since.set(Some(since));
        now.saturating_sub(since) >= CLOCKS_WITHIN
    }

    fn set_agreement(&self, agreement: ClockAgreement) {
        let before = self.inner.agreement.replace(agreement);
        if before == agreement {
            return;
        }
        let partition = self.id().partition;
        match (before, agreement) {
            (ClockAgreement::Without(_), ClockAgreement::Without(_)) => {}
            (_, ClockAgreement::Without(_)) => tracing::error!(
                "partition {partition}: this machine's clock is {} what a majority of the nodes' clocks \
                 say: theirs is followed; set it right, for example with chrony",
                in_words(agreement)
            ),
            (ClockAgreement::Without(_), _) => tracing::info!(
                "partition {partition}: this machine's clock agrees with the other nodes' again"
            ),
            (ClockAgreement::Awaited, ClockAgreement::Unknown) => tracing::warn!(
                "partition {partition}: the clocks of a majority of the nodes are not known, or differ: \
                 this machine's is taken as it is; open UDP between the peer ports, and set clocks by NTP"
            ),
            _ => {}
        }
        self.inner.work.notify_all(); // who waited for it
    }

    /// The clocks of the others are to be heard before anything is decided.
    pub fn awaits_clocks(&self) -> bool {
        self.agreement() == ClockAgreement::Awaited
    }

    /// How far the log's time is ahead of what a majority of the nodes' clocks says, if it is far.
    pub fn log_ahead(&self) -> Option<Duration> {
        let last = self.with_ledger(Ledger::last_timestamp);
        log_ahead(self.agreement(), self.runtime().now(), last, LOG_AHEAD_FAR)
    }
}

/// How this node's clock is, for "is ... the others'".
fn in_words(agreement: ClockAgreement) -> String {
    let ClockAgreement::Without(ahead) = agreement else { return "at".to_owned() };
    let way = if ahead < 0 { "ahead of" } else { "behind" };
    format!("{:.0?} {way}", Duration::from_nanos(ahead.unsigned_abs()))
}
