//! Requests of which the sender may not have everything decided.

use walengine_net::model::{EventBytes, Timestamp, Verdict};
use walengine_net::unit;

use super::checks::{self, SINGLE};
use super::decide::refuse_whole;
use super::{Draft, Ledger, Outcomes};

impl Ledger {
    /// As [`Self::submit`], but of the events with `true` in `forbidden`, which is as long as `events`,
    /// nothing is decided, and neither is of the chains that they are in. They are answered as malformed
    /// ones are: nothing of them is logged or remembered.
    ///
    /// # Panics
    /// As [`Self::submit`].
    pub fn submit_but(
        &mut self,
        events: &[EventBytes],
        forbidden: &[bool],
        draft: &mut Draft,
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) {
        assert!(events.len() == forbidden.len(), "one mark for each event");
        let (mut next, mut decided) = (0, 0);
        while next < events.len() {
            let (length, closed) = unit::length(&events[next..]);
            let end = next + length;
            if forbidden[next..end].contains(&true) {
                if decided < next {
                    self.submit(&events[decided..next], draft, now, outcomes);
                }
                self.refuse_forbidden(&events[next..end], closed, &forbidden[next..end], outcomes);
                decided = end;
            }
            next = end;
        }
        if decided < events.len() {
            self.submit(&events[decided..], draft, now, outcomes);
        }
    }

    /// The verdicts on an event, or a chain, that holds a forbidden one. The lowest verdict counts here,
    /// too: what is malformed is malformed, whoever sends it.
    fn refuse_forbidden(
        &mut self,
        group: &[EventBytes],
        closed: bool,
        forbidden: &[bool],
        outcomes: &mut Outcomes,
    ) {
        let wrong = match group {
            [single] if closed => {
                checks::check(single, self.routing(), SINGLE).err().map(|verdict| (0, verdict))
            }
            _ => self.path_of_chain(group, closed).err(),
        };
        let first = forbidden.iter().position(|forbidden| *forbidden).unwrap_or_default();
        let (culprit, verdict) = wrong.unwrap_or((first, Verdict::Forbidden));
        refuse_whole(group.len(), culprit, verdict, outcomes);
    }
}
