//! What was prepared for other partitions, in the order in which it is sent, until the words on it can't be taken
//! back any more.

use std::collections::{BTreeMap, VecDeque};

use walengine_net::model::PartitionId;

/// See the module.
#[derive(Default)]
pub(super) struct Doubts {
    queues: BTreeMap<PartitionId, Queue>,
}

#[derive(Default)]
struct Queue {
    /// By place.
    sent: VecDeque<Sent>,
    /// Where the next word probably belongs: words mostly come in this order, too.
    next: usize,
}

#[derive(Clone, Copy)]
struct Sent {
    place: u64,
    /// Slot of the reservation while it is in doubt.
    slot: u32,
    /// Offset of the word; 0 while there is none.
    settled_at: u64,
}

impl Queue {
    fn find(&mut self, place: u64) -> Option<&mut Sent> {
        if self.sent.get(self.next).is_none_or(|sent| sent.place != place) {
            self.next = self.sent.partition_point(|sent| sent.place < place);
        }
        self.sent.get_mut(self.next).filter(|sent| sent.place == place)
    }
}

impl Doubts {
    /// What stands at `place` is in doubt: from now on, or again.
    pub(super) fn open(&mut self, other: PartitionId, place: u64, slot: u32) {
        let queue = self.queues.entry(other).or_default();
        match queue.find(place) {
            Some(sent) => *sent = Sent { place, slot, settled_at: 0 },
            None => queue.sent.push_back(Sent { place, slot, settled_at: 0 }),
        }
    }

    /// The word on it is at an offset.
    pub(super) fn settle(&mut self, other: PartitionId, place: u64, offset: u64) {
        let queue = self.queues.entry(other).or_default();
        let Some(sent) = queue.find(place) else { return };
        sent.settled_at = offset;
        queue.next += 1;
    }

    /// It was never prepared.
    pub(super) fn forget(&mut self, other: PartitionId, place: u64) {
        let queue = self.queues.entry(other).or_default();
        if queue.find(place).is_some() {
            queue.sent.remove(queue.next);
        }
    }

    /// Records below `offset` will not be undone.
    pub(super) fn release(&mut self, offset: u64) {
        for queue in self.queues.values_mut() {
            let is_over = |sent: &mut Sent| sent.settled_at != 0 && sent.settled_at < offset;
            while queue.sent.pop_front_if(is_over).is_some() {
                queue.next = queue.next.saturating_sub(1);
            }
        }
    }

    /// Puts in order what was opened in any.
    pub(super) fn sort(&mut self) {
        for queue in self.queues.values_mut() {
            queue.sent.make_contiguous().sort_unstable_by_key(|sent| sent.place);
        }
    }

    /// Place of the oldest that is in doubt, or may be again.
    pub(super) fn oldest(&self, other: PartitionId) -> Option<u64> {
        self.queues.get(&other)?.sent.front().map(|sent| sent.place)
    }

    /// The least of all [`Self::oldest`].
    pub(super) fn oldest_of_all(&self) -> Option<u64> {
        let fronts = self.queues.values().filter_map(|queue| queue.sent.front());
        fronts.map(|sent| sent.place).min()
    }

    /// Slots of those that are in doubt, below a place, oldest first.
    pub(super) fn slots(&self, other: PartitionId, below: u64) -> impl Iterator<Item = u32> {
        let sent = self.queues.get(&other).into_iter().flat_map(|queue| &queue.sent);
        let sent = sent.take_while(move |sent| sent.place < below);
        sent.filter(|sent| sent.settled_at == 0).map(|sent| sent.slot)
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let sent: usize = self.queues.values().map(|queue| queue.sent.capacity()).sum();
        (sent * size_of::<Sent>()) as u64
    }
}
