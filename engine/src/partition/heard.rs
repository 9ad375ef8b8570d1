//! What other partitions have said to a leader of this one. Lives on the partition's shard; not `Send`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use walengine_net::model::{Offset, PartitionId};

/// See the module.
#[derive(Default)]
pub struct Heard {
    /// Next offsets of others: what words were given on here was logged below them, there.
    reached: RefCell<BTreeMap<PartitionId, Offset>>,
    /// Term and offset of the newest word that was decided here.
    word: Cell<Option<(u64, Offset)>>,
    /// The newest outcome of what was handed on that was decided here.
    outcome: Cell<Option<Offset>>,
    /// Others that may have given words before the start of this node, which may have answered then, and lost them.
    unasked: RefCell<BTreeSet<PartitionId>>,
}

impl Heard {
    /// Before anything is shown, these must be asked.
    pub fn must_ask(&self, others: impl IntoIterator<Item = PartitionId>) {
        self.unasked.borrow_mut().extend(others);
    }

    /// One must be asked still.
    pub fn must_ask_any(&self) -> bool {
        !self.unasked.borrow().is_empty()
    }

    /// Whether this one must be.
    pub fn must_ask_of(&self, other: PartitionId) -> bool {
        self.unasked.borrow().contains(&other)
    }

    /// It has said all that it had to say.
    pub fn was_asked(&self, other: PartitionId) {
        self.unasked.borrow_mut().remove(&other);
    }

    /// What it has said was logged there below this offset.
    pub fn note_reached(&self, other: PartitionId, next_offset: Offset) {
        let mut reached = self.reached.borrow_mut();
        let known = reached.entry(other).or_default();
        *known = next_offset.max(*known);
    }

    /// A word was decided here, in a term.
    pub fn note_word(&self, term: u64, offset: Offset) {
        self.word.set(Some((term, offset)));
    }

    /// The outcome of what another partition has handed on was decided here.
    pub fn note_outcome(&self, offset: Offset) {
        self.outcome.set(Some(offset));
    }

    /// The newest of them; `None` if there is none.
    pub fn newest_outcome(&self) -> Option<Offset> {
        self.outcome.get()
    }

    /// The newest word of a term; `None` if there is none.
    pub fn newest_word(&self, term: u64) -> Option<Offset> {
        self.word.get().filter(|(of, _)| *of == term).map(|(_, offset)| offset)
    }

    /// The newest record of another partition that says anything of what it has given words on; `None` if it has given
    /// none.
    pub fn newest_of(&self, other: PartitionId) -> Option<Offset> {
        let next = self.reached.borrow().get(&other).copied()?;
        next.0.checked_sub(1).map(Offset)
    }
}
