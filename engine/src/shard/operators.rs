//! Places for connections on a shard. Beyond the limit a few are kept for operators, who need them most
//! then: such a connection is answered what an operator asks, and one that is silent makes room for the
//! next. Lives on the shard's core; not `Send`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use walengine_net::frame::Kind;

use crate::admission::Admitted;
use crate::limits::{OPERATOR_CONNECTIONS_MAX, OPERATOR_HELLO_WITHIN, OPERATOR_IDLE_AFTER};
use crate::local::Notify;

/// The places beyond the limit.
#[derive(Default)]
pub(super) struct Operators(RefCell<Vec<Weak<Extra>>>);

/// What is known of a connection beyond the limit.
pub(super) struct Extra {
    /// When it was accepted, or said something last.
    heard: Cell<Duration>,
    greeted: Cell<bool>,
    must_go: Cell<bool>,
    changed: Notify,
}

/// A connection's place, given back when this is dropped.
pub(super) struct Place {
    /// None of a peer.
    admitted: Option<Admitted>,
    /// It is beyond the limit.
    extra: Option<Rc<Extra>>,
    peers: Option<Rc<Cell<usize>>>,
}

impl Operators {
    /// A place for a client that was accepted at `now`; `None` if there is none.
    pub fn place(&self, admitted: Admitted, now: Duration) -> Option<Place> {
        let mut extra = None;
        if admitted.is_beyond() {
            extra = Some(self.extra(now)?);
        }
        Some(Place { admitted: Some(admitted), extra, peers: None })
    }

    fn extra(&self, now: Duration) -> Option<Rc<Extra>> {
        let mut places = self.0.borrow_mut();
        places.retain(|place| place.strong_count() > 0);
        if places.len() >= OPERATOR_CONNECTIONS_MAX {
            let silent = |place: &Extra| now.saturating_sub(place.heard.get());
            let may_go = |place: &Rc<Extra>| {
                let within =
                    if place.greeted.get() { OPERATOR_IDLE_AFTER } else { OPERATOR_HELLO_WITHIN };
                silent(place) > within
            };
            let open = places.iter().filter_map(Weak::upgrade).filter(may_go);
            let oldest = open.max_by_key(|place| silent(place))?;
            oldest.must_go.set(true);
            oldest.changed.notify_all();
            places.retain(|place| !std::ptr::eq(place.as_ptr(), Rc::as_ptr(&oldest)));
        }
        let (greeted, must_go) = (Cell::new(false), Cell::new(false));
        let extra = Extra { heard: Cell::new(now), greeted, must_go, changed: Notify::new() };
        let extra = Rc::new(extra);
        places.push(Rc::downgrade(&extra));
        Some(extra)
    }
}

impl Place {
    /// For a peer, one of `peers`.
    pub fn of_peer(peers: &Rc<Cell<usize>>) -> Self {
        peers.set(peers.get() + 1);
        Self { admitted: None, extra: None, peers: Some(peers.clone()) }
    }

    /// What counts the connection on all shards; `None` of a peer.
    pub fn into_admitted(mut self) -> Option<Admitted> {
        self.admitted.take()
    }

    /// Completes when another connection needs the place more.
    pub async fn given_up(&self) {
        let Some(extra) = &self.extra else { return std::future::pending().await };
        while !extra.must_go.get() {
            extra.changed.changed().await;
        }
    }

    /// A request of this kind has come at `now`; true if it must come back later, because the
    /// connection is beyond the limit and this is not what operators ask.
    pub fn refuses(&self, kind: Kind, now: impl FnOnce() -> Duration) -> bool {
        let Some(extra) = &self.extra else { return false };
        extra.heard.set(now());
        extra.greeted.set(true);
        let is_operators = matches!(
            kind,
            Kind::Hello
                | Kind::ActFor
                | Kind::ServerStatus
                | Kind::ClusterStatus
                | Kind::TransferLeadership
                | Kind::RemoveNode
                | Kind::Leave
                | Kind::LeaveAnyway
                | Kind::AdmitNode
        );
        !is_operators && self.admitted.as_ref().is_some_and(Admitted::is_beyond)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(peers) = &self.peers {
            peers.set(peers.get() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::admission::Admission;

    const NOW: Duration = Duration::from_secs(100);

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn beyond_the_limit_operators_are_served_and_others_told_to_come_back() {
        let (admission, operators) = (Admission::new(1), Operators::default());
        let first = operators.place(admission.admit(address(1)), NOW).unwrap();
        let second = operators.place(admission.admit(address(2)), NOW).unwrap();
        assert!(!first.refuses(Kind::Submit, || NOW));
        assert!(
            second.refuses(Kind::Submit, || NOW) && !second.refuses(Kind::ServerStatus, || NOW)
        );
        drop(first);
        assert!(!second.refuses(Kind::Submit, || NOW), "there is room now");
    }

    #[test]
    fn who_is_silent_in_a_kept_place_makes_room_and_who_speaks_stays() {
        let (admission, operators) = (Admission::new(1), Operators::default());
        let place = |last, now| operators.place(admission.admit(address(last)), now);
        let _first = place(1, NOW).unwrap();
        let kept: Vec<_> = (0..OPERATOR_CONNECTIONS_MAX).map(|_| place(2, NOW).unwrap()).collect();
        assert!(place(3, NOW).is_none(), "all of them are new");
        let later = NOW + OPERATOR_HELLO_WITHIN * 2;
        for one in &kept[1..] {
            one.refuses(Kind::ServerStatus, || later);
        }
        let next = place(3, later).expect("one has said nothing yet");
        assert!(kept[0].extra.as_ref().unwrap().must_go.get());
        next.refuses(Kind::Hello, || later);
        assert!(place(3, later).is_none(), "the others have spoken");
        assert!(place(3, later + OPERATOR_IDLE_AFTER).is_none(), "and have their time");
        assert!(place(3, later + OPERATOR_IDLE_AFTER * 2).is_some());
        drop(next);
    }

    #[test]
    fn peers_are_counted() {
        let peers = Rc::default();
        let (first, second) = (Place::of_peer(&peers), Place::of_peer(&peers));
        assert_eq!(peers.get(), 2);
        drop(first);
        assert!(second.into_admitted().is_none());
        assert_eq!(peers.get(), 0);
    }
}
