//! What a connection must not take for ever. Lives on the connection's core; not `Send`.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use walengine_net::tls::Proven;
use walengine_replication::turned_away::{Reason, Side, TurnedAway};

use super::outbox::Outbox;
use crate::limits::{FRAME_WITHIN, PRESSED_WITHIN, WRITE_WITHIN};
use crate::policy::Permit;
use crate::runtime::Runtime;

/// Since when a connection owes something.
#[derive(Default)]
pub struct Timing {
    /// Since when a frame has been incomplete.
    pub frame_since: Cell<Option<Duration>>,
    /// Since when answers have been unread.
    pub write_since: Cell<Option<Duration>>,
    /// That frame holds memory which others may wait for.
    frame_is_large: Cell<bool>,
    address: Option<SocketAddr>,
    turned_away: Arc<TurnedAway>,
}

impl Timing {
    /// Of a connection from `address`. If it must be closed, that is counted and told there.
    pub fn new(address: Option<SocketAddr>, turned_away: &Arc<TurnedAway>) -> Self {
        Self { address, turned_away: turned_away.clone(), ..Self::default() }
    }

    /// The connection is closed for something that the client did.
    pub fn turned_away(&self, reason: Reason, why: &dyn fmt::Display) {
        self.turned_away.count(Side::Client, reason, self.address, why);
    }

    /// Whether a part of a frame is there, and nothing else; and whether it holds much memory.
    pub fn frame<R: Runtime>(&self, is_partial: bool, is_large: bool, runtime: &R) {
        self.frame_is_large.set(is_large);
        if !is_partial {
            self.frame_since.set(None);
        } else if self.frame_since.get().is_none() {
            self.frame_since.set(Some(runtime.elapsed()));
        }
    }

    /// Waits for something of this server's, which does not count against the client.
    pub async fn waits<R: Runtime>(&self, waiting: impl Future<Output = ()>, runtime: &R) {
        let (since, began) = (self.frame_since.take(), runtime.elapsed());
        waiting.await;
        let waited = runtime.elapsed().saturating_sub(began);
        self.frame_since.set(since.map(|since| since + waited));
    }

    /// What has taken too long, if anything. `is_pressed`: others wait for the memory that is held.
    pub fn overdue(&self, now: Duration, is_pressed: bool) -> Option<&'static str> {
        let passed = |since: &Cell<Option<Duration>>, limit: Duration| {
            let limit = if is_pressed { limit.min(PRESSED_WITHIN) } else { limit };
            since.get().is_some_and(|since| now.saturating_sub(since) > limit)
        };
        if passed(&self.frame_since, FRAME_WITHIN) {
            Some("a frame did not arrive whole in time")
        } else if passed(&self.write_since, WRITE_WITHIN) {
            Some("answers were left unread")
        } else {
            None
        }
    }
}

/// Closes a connection, and tells why unless it has ended already.
fn cut(outbox: &Outbox, timing: &Timing, reason: Reason, why: &dyn std::fmt::Display) {
    if !outbox.has_ended() {
        timing.turned_away(reason, why);
    }
    outbox.cut();
}

/// The connections of an executor.
#[derive(Default)]
pub struct LiveConnections(Vec<Live>);

struct Live {
    outbox: Weak<Outbox>,
    timing: Weak<Timing>,
    /// What the client's certificate proves.
    proven: Option<Proven>,
    /// What its caller may do, where that can be lost.
    permit: Option<Weak<Permit>>,
}

impl LiveConnections {
    /// One more.
    pub fn add(
        &mut self,
        outbox: &Rc<Outbox>,
        timing: &Rc<Timing>,
        proven: Option<Proven>,
        permit: Option<&Rc<Permit>>,
    ) {
        let (outbox, timing) = (Rc::downgrade(outbox), Rc::downgrade(timing));
        let permit = permit.map(Rc::downgrade);
        self.0.push(Live { outbox, timing, proven, permit });
    }

    /// Closes at once those whose caller has lost the right to be there by another policy; how many.
    pub fn end_lost(&self) -> usize {
        let mut ended = 0;
        for live in &self.0 {
            let permit = live.permit.as_ref().and_then(Weak::upgrade);
            let (Some(permit), Some(outbox)) = (permit, live.outbox.upgrade()) else { continue };
            let Some(timing) = live.timing.upgrade() else { continue };
            if !outbox.has_ended() && permit.is_lost() {
                let who = permit.caller();
                let why = format!("{who}: the policy has changed and gives it no right to go on");
                cut(&outbox, &timing, Reason::RightEnded, &why);
                ended += 1;
            }
        }
        ended
    }

    /// Closes those that take too long and those whose certificate is good no more, and forgets those that
    /// are gone. Where memory is short, those that hold much of it have little time.
    pub fn end_overdue(&mut self, now: Duration, is_short: bool) {
        self.0.retain(|Live { outbox, timing, proven, .. }| {
            let (Some(outbox), Some(timing)) = (outbox.upgrade(), timing.upgrade()) else {
                return false;
            };
            let is_pressed = is_short && (timing.frame_is_large.get() || outbox.holds_much());
            if let Some(why) = timing.overdue(now, is_pressed) {
                cut(&outbox, &timing, Reason::Slow, &why);
            } else if let Some(proven) = proven
                && let Err(why) = proven.check()
            {
                let why = format!("{}: {why}", proven.identity);
                cut(&outbox, &timing, Reason::RightEnded, &why);
            }
            true
        });
    }

    /// One of them has something to send still, or an answer to come.
    pub fn is_busy(&self) -> bool {
        self.0.iter().any(|Live { outbox, timing, .. }| {
            let (Some(outbox), Some(timing)) = (outbox.upgrade(), timing.upgrade()) else {
                return false;
            };
            let sends = timing.write_since.get().is_some() || !outbox.is_empty();
            !outbox.has_ended() && (outbox.unanswered() > 0 || sends)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use walengine_net::identity::{Identity, Role};

    use super::*;
    use crate::caller::Caller;
    use crate::policy::{Policies, Policy};

    #[test]
    fn connections_that_lost_every_right_are_ended_and_no_others() {
        let policies = Arc::new(Policies::default());
        let permit = |role, name| {
            let identity = Identity::new("bank", role, name).unwrap();
            let caller = Caller { identity: Some(Arc::new(identity)), ..Caller::default() };
            Rc::new(Permit::new(&policies, caller))
        };
        let plain = Rc::new(Permit::new(&policies, Caller::default()));
        let permits = [
            permit(Role::Admin, "gone"),
            permit(Role::Admin, "stays"),
            permit(Role::Projector, "follows"),
            permit(Role::Node, "1"),
            plain,
        ];
        permits[2].note_follows_log();
        let mut live = LiveConnections::default();
        let opened: Vec<_> =
            permits.iter().map(|_| <(Rc<Outbox>, Rc<Timing>)>::default()).collect();
        for ((outbox, timing), permit) in opened.iter().zip(&permits) {
            live.add(outbox, timing, None, Some(permit));
        }
        assert_eq!(live.end_lost(), 0);
        let rule = |who: &str| {
            format!("[[allow]]\nwho = \"{who}\"\nmay = \"read\"\nbooks = [7]\nledgers = \"all\"\n")
        };
        let policy = rule("admin/stays") + &rule("projector/follows");
        policies.set(Policy::parse(&policy).unwrap());
        assert_eq!(live.end_lost(), 2, "one follows the log, and may only read");
        let ended: Vec<_> = opened.iter().map(|(outbox, _)| outbox.is_cut()).collect();
        assert_eq!(ended, [true, false, true, false, false]);
        assert_eq!(live.end_lost(), 0, "they have ended");
    }

    #[test]
    fn a_frame_and_a_write_have_their_time_and_idling_has_no_end() {
        let timing = Timing::default();
        assert_eq!(timing.overdue(FRAME_WITHIN * 100, true), None, "nothing has begun");
        let begun = Duration::from_secs(7);
        timing.frame_since.set(Some(begun));
        assert_eq!(timing.overdue(begun + FRAME_WITHIN, false), None);
        assert!(timing.overdue(begun + PRESSED_WITHIN * 2, true).is_some());
        assert!(timing.overdue(begun + FRAME_WITHIN + Duration::from_millis(1), false).is_some());
        timing.frame_since.set(None);
        timing.write_since.set(Some(begun));
        assert_eq!(timing.overdue(begun + WRITE_WITHIN, false), None);
        assert_eq!(timing.overdue(begun + PRESSED_WITHIN, true), None);
        assert!(timing.overdue(begun + PRESSED_WITHIN * 2, true).is_some());
        assert!(timing.overdue(begun + WRITE_WITHIN + Duration::from_millis(1), false).is_some());
    }
}
