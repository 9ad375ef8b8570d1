//! foca with its timers: what is due, what has to be sent, which nodes came up.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    Codec as _, Config, Foca, Header, Member, Message, Notification, PeriodicParams, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::identity::{Codec, SwimIdentity};
use super::limits::{
    ANNOUNCE_PERIOD, BODY_BYTES_MAX, DEAD_PERIOD, FANOUT, GOSSIP_PERIOD, PROBE_ANSWER,
    PROBE_PERIOD, SLEEP_MIN, SUSPECT_TO_DEAD, TRANSMISSIONS,
};
use super::spread::Relay;
use crate::types::NodeId;

/// SWIM of one node. foca's errors are ignored: messages were checked before, so only timers that
/// became pointless are left.
pub(super) struct Swim {
    foca: Foca<SwimIdentity, Codec, SmallRng, Relay>,
    sink: Sink,
    last_tick: Duration,
    next_told: Duration,
}

/// Collects what foca wants done.
struct Sink {
    /// How long this process has been awake. foca's timers run on this time.
    now: Duration,
    /// How long it was stopped.
    slept: Duration,
    timers: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    sends: Vec<(SwimIdentity, Vec<u8>)>,
    ups: Vec<SwimIdentity>,
}

struct Due {
    at: Duration,
    timer: Timer<SwimIdentity>,
    order: u64,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .cmp(&other.at)
            .then_with(|| self.timer.cmp(&other.timer))
            .then_with(|| self.order.cmp(&other.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl foca::Runtime<SwimIdentity> for &mut Sink {
    fn notify(&mut self, notification: Notification<'_, SwimIdentity>) {
        if let Notification::MemberUp(identity) = notification {
            self.ups.push(*identity);
        }
    }

    fn send_to(&mut self, to: SwimIdentity, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<SwimIdentity>, after: Duration) {
        self.scheduled += 1;
        let due = Due { at: self.now + after, timer, order: self.scheduled };
        self.timers.push(Reverse(due));
    }
}

fn config() -> Config {
    let every = |frequency, nodes| {
        let num_members = NonZeroUsize::new(nodes).expect("a constant");
        Some(PeriodicParams { frequency, num_members })
    };
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_ANSWER,
        num_indirect_probes: NonZeroUsize::new(FANOUT).expect("a constant"),
        max_transmissions: NonZeroU8::new(TRANSMISSIONS).expect("a constant"),
        suspect_to_down_after: SUSPECT_TO_DEAD,
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(BODY_BYTES_MAX).expect("a constant"),
        notify_down_members: true,
        periodic_announce: every(ANNOUNCE_PERIOD, 1),
        periodic_announce_to_down_members: every(DEAD_PERIOD, 2),
        periodic_gossip: every(GOSSIP_PERIOD, FANOUT),
    }
}

/// A message of gossip with one update. An incarnation of 0 claims nothing about the source.
fn suspicion(own: SwimIdentity, suspect: &Member<SwimIdentity>) -> Vec<u8> {
    let message = Message::Gossip;
    let header = Header { src: own, src_incarnation: 0, dst: *suspect.id(), message };
    let mut body = Vec::new();
    Codec.encode_header(&header, &mut body).expect("a vector has room");
    body.extend_from_slice(&1_u16.to_be_bytes());
    Codec.encode_member(suspect, &mut body).expect("a vector has room");
    body
}

impl Swim {
    pub(super) fn new(identity: SwimIdentity, seed: u64, now: Duration) -> Self {
        let relay = Relay::new(identity.node);
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::with_custom_broadcast(identity, config(), rng, Codec, relay),
            sink: Sink {
                now,
                slept: Duration::ZERO,
                timers: BinaryHeap::new(),
                scheduled: 0,
                sends: Vec::new(),
                ups: Vec::new(),
            },
            last_tick: now,
            next_told: now,
        }
    }

    pub(super) fn identity(&self) -> SwimIdentity {
        *self.foca.identity()
    }

    /// Every other member, dead ones included.
    pub(super) fn members(&self) -> impl Iterator<Item = (SwimIdentity, State)> {
        let own = self.foca.identity().node;
        let members = self.foca.iter_membership_state();
        members.map(|member| (*member.id(), member.state())).filter(move |(id, _)| id.node != own)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.foca.num_members() == 0
    }

    /// A whole, well-formed message.
    pub(super) fn handle(&mut self, body: &[u8], now: Duration) {
        self.advance(now);
        let _ = self.foca.handle_data(body, &mut self.sink);
    }

    pub(super) fn tick(&mut self, now: Duration) {
        // A process that was stopped heard nothing. That says nothing about the other nodes.
        let gap = now.saturating_sub(self.last_tick);
        if gap > SLEEP_MIN {
            self.sink.slept += gap;
        }
        self.last_tick = self.last_tick.max(now);
        self.advance(now);
        // A timer schedules new ones later than now, so this loop ends.
        while let Some(Reverse(due)) = self.sink.timers.peek()
            && due.at <= self.sink.now
        {
            if let Some(Reverse(due)) = self.sink.timers.pop() {
                let _ = self.foca.handle_timer(due.timer, &mut self.sink);
            }
        }
        if now >= self.next_told {
            self.next_told = now + PROBE_PERIOD;
            self.tell_suspects();
        }
    }

    /// Tells every suspect that it is suspected, so that it can refute. foca tells a suspicion only
    /// a few times; a suspect that missed all of them would stay suspect although it answers.
    fn tell_suspects(&mut self) {
        let own = self.identity();
        for member in self.foca.iter_members() {
            if member.state() == State::Suspect {
                self.sink.sends.push((*member.id(), suspicion(own, member)));
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.sink.timers.peek().map(|Reverse(due)| due.at + self.sink.slept)
    }

    pub(super) fn announce(&mut self, to: SwimIdentity, now: Duration) {
        self.advance(now);
        let _ = self.foca.announce(to, &mut self.sink);
    }

    /// Spreads a page, this node's own or another's.
    pub(super) fn spread(&mut self, page: &[u8]) {
        let _ = self.foca.add_broadcast(page);
    }

    /// A member has left.
    pub(super) fn down(&mut self, identity: SwimIdentity, now: Duration) {
        self.advance(now);
        let _ = self.foca.apply_many([Member::down(identity)].into_iter(), true, &mut self.sink);
    }

    pub(super) fn forget(&mut self, identity: SwimIdentity) {
        let _ = self.foca.handle_timer(Timer::RemoveDown(identity), &mut self.sink);
    }

    /// Another life of this node begins.
    pub(super) fn rename(&mut self, bump: u64, now: Duration) {
        self.advance(now);
        let identity = SwimIdentity { bump, ..*self.foca.identity() };
        let _ = self.foca.change_identity(identity, &mut self.sink);
    }

    /// Messages to send, without those to this node's own earlier lives.
    pub(super) fn take_sends(&mut self) -> Vec<(SwimIdentity, Vec<u8>)> {
        let own: NodeId = self.foca.identity().node;
        let mut sends = std::mem::take(&mut self.sink.sends);
        sends.retain(|(to, _)| to.node != own);
        sends
    }

    /// Members that came up since the last call.
    pub(super) fn take_ups(&mut self) -> Vec<SwimIdentity> {
        std::mem::take(&mut self.sink.ups)
    }

    fn advance(&mut self, now: Duration) {
        self.sink.now = self.sink.now.max(now.saturating_sub(self.sink.slept));
    }
}
