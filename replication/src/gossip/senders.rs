//! Which datagrams of each sender were taken, so that none is taken twice.
//!
//! A datagram counts only if it names this node's current boot, so datagrams that were recorded
//! before this node restarted are never taken. Only the newest boot of a sender counts, and each of
//! its datagrams counts once: a window of 128 sequence numbers moves with the highest one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::envelope::DatagramHead;
use super::limits::{ID_SILENCE, SENDERS_MAX, WINDOW};
use crate::types::NodeId;

#[derive(Debug)]
pub(super) struct KnownSender {
    pub address: SocketAddr,
    pub boot: u64,
    highest: u64,
    /// Bit k is set if `highest` - k was taken. Invariant: bit 0 is set.
    taken: u128,
    heard: Duration,
}

impl KnownSender {
    /// How long ago it was heard.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard)
    }
}

/// Why a datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    Replayed,
    OldBoot,
    IdInUse,
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Senders(BTreeMap<NodeId, KnownSender>);

impl Senders {
    pub(super) fn get(&self, node: NodeId) -> Option<&KnownSender> {
        self.0.get(&node)
    }

    /// Another address holds the node id. `active`: the node is alive or suspect.
    pub(super) fn id_in_use(&self, head: &DatagramHead, active: bool, now: Duration) -> bool {
        self.0.get(&head.node).is_some_and(|sender| {
            sender.address != head.peer_address
                && (active || now.saturating_sub(sender.heard) < ID_SILENCE)
        })
    }

    /// Takes an authentic datagram that names this node's boot, or says why not.
    pub(super) fn take(
        &mut self,
        head: &DatagramHead,
        active: bool,
        now: Duration,
    ) -> Result<(), Stale> {
        if self.id_in_use(head, active, now) {
            return Err(Stale::IdInUse);
        }
        let fresh = KnownSender {
            address: head.peer_address,
            boot: head.boot,
            highest: head.sequence,
            taken: 1,
            heard: now,
        };
        let full = self.0.len() >= SENDERS_MAX;
        let Some(sender) = self.0.get_mut(&head.node) else {
            if full {
                return Err(Stale::Full);
            }
            self.0.insert(head.node, fresh);
            return Ok(());
        };
        if head.boot < sender.boot {
            return Err(Stale::OldBoot);
        }
        if head.boot > sender.boot {
            *sender = fresh;
            return Ok(());
        }
        if head.sequence > sender.highest {
            let forward = head.sequence - sender.highest;
            sender.taken = if forward < WINDOW { sender.taken << forward | 1 } else { 1 };
            sender.highest = head.sequence;
        } else {
            let back = sender.highest - head.sequence;
            if back >= WINDOW || sender.taken >> back & 1 == 1 {
                return Err(Stale::Replayed);
            }
            sender.taken |= 1 << back;
        }
        assert!(sender.taken & 1 == 1, "the highest sequence number was not taken");
        (sender.heard, sender.address) = (now, head.peer_address);
        Ok(())
    }
}

/// Which datagrams were answered that are not believed, as a greeting or what names another life of this
/// node: each is answered once, however often it is sent again by whoever recorded it.
#[derive(Debug, Default)]
pub(super) struct AnsweredOnce(BTreeMap<(NodeId, u64, SocketAddr), u64>);

impl AnsweredOnce {
    /// True if no datagram was answered that this life of the sender sent with this one or later.
    pub(super) fn is_new(&mut self, head: &DatagramHead) -> bool {
        if self.0.len() >= SENDERS_MAX {
            self.0.clear(); // so many lives are known only to who has the key
        }
        let answered = self.0.entry((head.node, head.boot, head.peer_address)).or_default();
        let is_new = head.sequence > *answered;
        *answered = (*answered).max(head.sequence);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::ClusterId;

    use super::super::envelope::DatagramKind;
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn head(boot: u64, sequence: u64) -> DatagramHead {
        DatagramHead {
            kind: DatagramKind::Swim,
            cluster: ClusterId(7),
            node: 3,
            boot,
            sequence,
            to_boot: 1,
            peer_address: "10.0.0.3:7451".parse().unwrap(),
            partitions: 8,
        }
    }

    #[test]
    fn each_sequence_number_is_taken_once_in_any_order() {
        let mut senders = Senders::default();
        for sequence in [5, 3, 200, 199, 73, 4_000] {
            assert_eq!(senders.take(&head(9, sequence), true, NOW), Ok(()), "{sequence}");
            let again = senders.take(&head(9, sequence), true, NOW);
            assert_eq!(again, Err(Stale::Replayed), "{sequence}");
        }
        // Too old to tell.
        assert_eq!(senders.take(&head(9, 4_000 - 128), true, NOW), Err(Stale::Replayed));
        assert_eq!(senders.take(&head(9, 4_000 - 127), true, NOW), Ok(()));
    }

    #[test]
    fn each_greeting_is_answered_once_and_few_lives_are_remembered() {
        let mut answered = AnsweredOnce::default();
        for (boot, sequence, is_new) in [(9, 1, true), (9, 1, false), (9, 5, true), (9, 4, false)] {
            assert_eq!(answered.is_new(&head(boot, sequence)), is_new, "{boot} {sequence}");
        }
        assert!(answered.is_new(&head(10, 1)), "another life");
        for boot in 0..10_000 {
            answered.is_new(&head(boot, 1));
        }
        assert!(answered.0.len() <= SENDERS_MAX);
    }

    #[test]
    fn an_earlier_boot_is_not_taken() {
        let mut senders = Senders::default();
        assert_eq!(senders.take(&head(9, 500), true, NOW), Ok(()));
        assert_eq!(senders.take(&head(10, 1), true, NOW), Ok(()));
        assert_eq!(senders.take(&head(9, 501), true, NOW), Err(Stale::OldBoot));
    }

    #[test]
    fn a_node_id_moves_to_another_address_only_when_it_is_silent_and_dead() {
        let mut senders = Senders::default();
        assert_eq!(senders.take(&head(9, 1), false, NOW), Ok(()));
        let moved = DatagramHead { peer_address: "10.0.0.4:7451".parse().unwrap(), ..head(10, 1) };
        assert_eq!(senders.take(&moved, false, NOW), Err(Stale::IdInUse));
        assert_eq!(senders.take(&moved, true, NOW + ID_SILENCE), Err(Stale::IdInUse));
        assert_eq!(senders.take(&moved, false, NOW + ID_SILENCE), Ok(()));
    }
}
