//! Incoming datagrams: whether they are believed, and what follows.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::bytes::Reader;
use super::super::condition::OwnCondition;
use super::super::envelope::{DatagramHead, DatagramKind};
use super::super::forming::Candidate;
use super::super::forming_message::FormingMessage;
use super::super::identity::SwimIdentity;
use super::super::limits::{
    HOLDER_HEARD, OUTBID_PERIOD, REFUSED_MAX, SENDERS_MAX, STRANGER_PERIOD, STRANGERS_MAX,
    TWIN_MARGIN, TWIN_PERIOD,
};
use super::super::meta::{MetaPage, PageBody};
use super::super::output::{Output, Warning};
use super::super::promise::FoundingMember;
use super::super::scan::Scan;
use super::super::senders::Stale;
use super::super::view::NodeStanding;
use super::Gossip;
use crate::types::NodeId;

impl Gossip {
    /// Whether to believe an authentic datagram: it must be from this cluster, for this life of
    /// this node, from the newest life of its sender, and new.
    pub(super) fn admit(&mut self, from: SocketAddr, head: &DatagramHead) -> bool {
        if head.node == self.node {
            self.hear_namesake(from, head);
            return false;
        }
        if self.cluster.0 != 0 && head.cluster.0 != 0 && head.cluster != self.cluster {
            self.counters.other_cluster += 1;
            return false;
        }
        let active = self.table.is_active(head.node);
        if head.kind == DatagramKind::Hello || head.to_boot != self.boot {
            if !self.answered.is_new(head) {
                self.counters.replayed += 1;
                return false;
            }
            let counter = match head.kind {
                DatagramKind::Hello => &mut self.counters.accepted,
                _ => &mut self.counters.not_for_this_boot,
            };
            *counter += 1;
            if self.senders.id_in_use(head, active, self.now) {
                self.counters.node_id_in_use += 1;
                self.note_twin(head);
                self.answer(from, head, DatagramKind::Refused);
            } else if !matches!(head.kind, DatagramKind::Welcome | DatagramKind::Refused) {
                self.answer(from, head, DatagramKind::Welcome);
            }
            return false;
        }
        match self.senders.take(head, active, self.now) {
            Ok(()) => {
                self.counters.accepted += 1;
                self.claims.remove(&(head.node, head.peer_address)); // it has moved
                true
            }
            Err(stale) => {
                match stale {
                    Stale::Replayed => self.counters.replayed += 1,
                    Stale::OldBoot | Stale::IdInUse if !self.answered.is_new(head) => {
                        self.counters.replayed += 1;
                    }
                    Stale::OldBoot => {
                        self.counters.old_boot += 1;
                        self.answer(from, head, DatagramKind::Welcome);
                    }
                    Stale::IdInUse => {
                        self.counters.node_id_in_use += 1;
                        self.note_twin(head);
                        self.answer(from, head, DatagramKind::Refused);
                    }
                    Stale::Full => self.counters.nodes_full += 1,
                }
                false
            }
        }
    }

    /// A datagram with this node's id. If it is not this node's own, two nodes run from copies of
    /// one data directory. The one that sees other live nodes stays and refuses the newcomer; a
    /// mere claim ends no node.
    fn hear_namesake(&mut self, from: SocketAddr, head: &DatagramHead) {
        if head.peer_address == self.address {
            self.counters.own += 1;
            return;
        }
        if !self.answered.is_new(head) {
            self.counters.replayed += 1;
            return;
        }
        self.counters.node_id_in_use += 1;
        let is_among_others =
            self.table.iter().any(|known| self.table.is_active(known.identity.node));
        if is_among_others {
            self.note_twin(head);
            self.answer(from, head, DatagramKind::Refused);
        } else if head.kind == DatagramKind::Refused && head.to_boot == self.boot {
            self.warn(Warning::NodeIdInUse { address: head.peer_address });
        }
    }

    /// A node's id is claimed by another address. If the node is heard where it was while that goes on,
    /// two run from copies of one data directory. If it is silent there, it has moved.
    fn note_twin(&mut self, head: &DatagramHead) {
        let (node, claimed_by) = (head.node, head.peer_address);
        let (known, silence) = if node == self.node {
            (self.address, Duration::ZERO)
        } else {
            let Some(holder) = self.senders.get(node) else { return };
            (holder.address, holder.silence(self.now))
        };
        if known == claimed_by {
            return;
        }
        if self.claims.len() >= SENDERS_MAX {
            self.claims.clear();
        }
        let (first, last) = self.claims.entry((node, claimed_by)).or_insert((self.now, self.now));
        // A claim after a long time is of another story.
        if self.now.saturating_sub(*last) > REFUSED_MAX {
            *first = self.now;
        }
        *last = self.now;
        let runs_beside = self.now.saturating_sub(silence) >= *first + TWIN_MARGIN;
        let told = self.twins_told.get(&node).copied();
        let is_news = told.is_none_or(|told| self.now.saturating_sub(told) >= TWIN_PERIOD);
        if runs_beside && is_news {
            self.twins_told.insert(node, self.now);
            self.push(Output::Warning(Warning::NodeIdUsedTwice { node, known, claimed_by }));
        }
    }

    fn heard_condition(&mut self, node: NodeId, body: &[u8]) -> Option<()> {
        let told = OwnCondition::decode(body)?;
        if let Some((own, own_at)) = &self.condition {
            let seen = told.seen(own.clock, *own_at, self.now);
            if self.table.set_condition(node, seen) {
                self.changed();
            }
        }
        Some(())
    }

    pub(super) fn believe(&mut self, from: SocketAddr, head: &DatagramHead, body: &[u8]) {
        if head.cluster.0 != 0 && self.cluster.0 == 0 {
            self.heard_formed(from, head);
        }
        let same = head.cluster == self.cluster;
        let taken = match head.kind {
            DatagramKind::Hello => Some(()),
            DatagramKind::Welcome => self.welcomed(head, body, same),
            DatagramKind::Refused => {
                self.refused(head, body);
                Some(())
            }
            DatagramKind::Forming => self.form(head, body),
            DatagramKind::Swim if same => self.gossip(head, body),
            DatagramKind::Leave if same => self.left(head, body),
            DatagramKind::Condition if same => self.heard_condition(head.node, body),
            DatagramKind::Swim | DatagramKind::Leave | DatagramKind::Condition => {
                self.counters.unformed += 1;
                if self.cluster.0 != 0 {
                    self.answer(from, head, DatagramKind::Welcome);
                }
                Some(())
            }
        };
        if taken.is_none() {
            self.counters.malformed += 1;
        }
    }

    /// A member of a cluster speaks to this node, which has no cluster.
    pub(super) fn heard_formed(&mut self, from: SocketAddr, head: &DatagramHead) {
        self.forming.heard_formed(head.cluster);
        let seed = [head.peer_address, from].into_iter().find(|at| self.seeds.contains(at));
        if head.kind != DatagramKind::Welcome || head.partitions == 0 {
            return;
        }
        let Some(seed) = seed else { return };
        if self.forming.is_free() && self.expect.is_some() {
            // What was meant is not what is there: nothing is written.
            self.warn(Warning::FormsBesideCluster { seed, cluster: head.cluster });
        } else if self.forming.is_free() {
            self.forming.joined(head.cluster);
            (self.cluster, self.partitions) = (head.cluster, head.partitions);
            let (cluster, partitions) = (self.cluster, self.partitions);
            self.push(Output::Joined { cluster, partitions });
            self.publish();
        } else if !self.forming.is_about(head.cluster) {
            self.warn(Warning::SeedOfOtherCluster { seed, cluster: head.cluster });
        }
    }

    /// The others hold this node's id for another address: it has moved there just now, or two nodes run
    /// from copies of one data directory. The holder's silence tells which.
    fn refused(&mut self, head: &DatagramHead, body: &[u8]) {
        let address = head.peer_address;
        let silence = Reader(body).u64().map_or(Duration::ZERO, Duration::from_millis);
        let (first, last) = self.refused.unwrap_or((self.now, self.now));
        // A refusal after a long time is of another story.
        let first = if self.now.saturating_sub(last) > REFUSED_MAX { self.now } else { first };
        self.refused = Some((first, self.now));
        let since = self.now.saturating_sub(first);
        if since >= REFUSED_MAX || since >= HOLDER_HEARD && silence < HOLDER_HEARD {
            self.warn(Warning::NodeIdInUse { address });
        } else if silence >= HOLDER_HEARD {
            self.warn(Warning::AddressHeld { address });
        }
    }

    /// A datagram that no key of this node opens: both nodes are told. Nothing in it is believed
    /// but where it came from.
    pub(super) fn hear_stranger(&mut self, from: SocketAddr) {
        let is_well_known = self.table.iter().any(|known| {
            known.identity.address == from && self.table.is_active(known.identity.node)
        });
        let heard = self.strangers.get(&from);
        if is_well_known || heard.is_some_and(|&at| self.now < at + STRANGER_PERIOD) {
            return; // a damaged datagram of a node that has the key, or it was told
        }
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.retain(|_, &mut at| self.now < at + STRANGER_PERIOD);
        }
        if self.strangers.len() >= STRANGERS_MAX {
            return; // a flood from addresses that are made up
        }
        self.strangers.insert(from, self.now);
        self.warn(Warning::OtherKey { address: from });
        // The other node sees by it that the keys differ; it is no longer than what it answers.
        if self.may_answer() {
            self.send(from, DatagramKind::Hello, 0, &[]);
        }
    }

    pub(super) fn welcomed(&mut self, head: &DatagramHead, body: &[u8], same: bool) -> Option<()> {
        let mut reader = Reader(body);
        let (bump, known) = (reader.life()?, reader.life()?);
        reader.end()?;
        if known > self.boot.max(self.swim.identity().bump) {
            self.outbid(known);
        }
        let identity = SwimIdentity { node: head.node, bump, address: head.peer_address };
        let table = self.table.get(head.node);
        let is_known = table.is_some_and(|it| it.identity == identity);
        if same && !(is_known && self.table.is_active(head.node)) && self.make_room(&[head.node]) {
            self.swim.announce(identity, self.now);
        }
        Some(())
    }

    pub(super) fn gossip(&mut self, head: &DatagramHead, body: &[u8]) -> Option<()> {
        let scan = Scan::of(body)?;
        if scan.source.node != head.node || scan.source.address != head.peer_address {
            return None;
        }
        if !self.make_room(&scan.named(self.node)) {
            self.counters.nodes_full += 1;
            return Some(());
        }
        self.swim.handle(body, self.now);
        for member in &scan.members {
            if member.node == self.node && member.bump > self.swim.identity().bump {
                self.outbid(member.bump);
            }
        }
        for page in scan.pages {
            self.take_page(page);
        }
        Some(())
    }

    pub(super) fn left(&mut self, head: &DatagramHead, body: &[u8]) -> Option<()> {
        let page = MetaPage::decode(body)?;
        if page.head.node != head.node || !matches!(&page.body, PageBody::Base(it) if it.left) {
            return None;
        }
        if let Some(identity) = self.table.get(head.node).map(|known| known.identity) {
            self.take_page(page);
            self.swim.spread(body);
            self.swim.down(identity, self.now);
        }
        Some(())
    }

    pub(super) fn form(&mut self, head: &DatagramHead, body: &[u8]) -> Option<()> {
        let message = FormingMessage::decode(body)?;
        let candidates = self.candidates();
        self.forming.handle(head.node, head.peer_address, message, &candidates, self.now);
        Some(())
    }

    pub(super) fn take_page(&mut self, page: MetaPage) {
        if page.head.node == self.node {
            if page.head.age() > self.pages.age() {
                self.outbid(page.head.sequence);
            }
        } else if self.table.set_page(page, self.now) {
            self.changed();
        }
    }

    /// Another node remembers a newer life of this node: the clock went back. This life takes a
    /// newer name.
    pub(super) fn outbid(&mut self, known: u64) {
        // One after the other they must not go on for ever, either.
        if self.now < self.next_outbid || known >= self.boot_max {
            return;
        }
        self.next_outbid = self.now + OUTBID_PERIOD;
        let before = self.boot;
        self.boot = known.max(self.boot).max(self.swim.identity().bump) + 1;
        assert!(self.boot > before, "boot {before} became {}", self.boot);
        self.sequence = 0;
        self.swim.rename(self.boot, self.now);
        self.pages.restart(self.boot);
        self.publish();
        self.tell_all();
    }

    /// Makes room for these nodes by forgetting those that have been dead for longest. False if
    /// there is none.
    pub(super) fn make_room(&mut self, named: &[NodeId]) -> bool {
        let Some(forgotten) = self.table.admit(named) else { return false };
        for identity in forgotten {
            self.swim.forget(identity);
            self.changed();
        }
        true
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        if self.cluster.0 != 0 || self.expect.is_none() {
            return Vec::new();
        }
        let own = self.expect.map(|expect| Candidate {
            member: FoundingMember {
                node: self.node,
                peer_address: self.address,
                client_address: self.meta.client_address.clone(),
            },
            expect,
            partitions: self.partitions,
        });
        let others = self.table.iter().filter_map(|known| {
            let base = self.table.base(known.identity.node)?;
            let is_candidate = known.standing == NodeStanding::Alive
                && base.cluster.0 == 0
                && base.expect != 0
                && !base.left;
            is_candidate.then(|| Candidate {
                member: FoundingMember {
                    node: known.identity.node,
                    peer_address: known.identity.address,
                    client_address: base.client_address.clone(),
                },
                expect: usize::from(base.expect),
                partitions: base.partitions,
            })
        });
        own.into_iter().chain(others).collect()
    }
}
