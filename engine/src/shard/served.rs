//! A partition as its connections see it: served by this node alone, or kept by a Raft group.
//!
//! "Told" means durable here for the one, and committed by the group for the other.

use std::rc::Rc;

use walengine_net::entry::RecordHead;
use walengine_net::model::{EventBytes, Offset};

use super::partition::Partition;
use super::replicated::Replicated;
use super::request::{Counters, Identity, Refused, Taken};
use super::waiters::Answer;
use crate::feed::published::Told;
use crate::ledger::{Ledger, Outcomes};
use crate::local::Notify;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::log::Log;

/// See the module. Clones are handles to the same partition.
pub enum Served<D: Disk, R: Runtime> {
    /// By this node alone.
    Alone(Partition<D, R>),
    /// By a group that this node is in.
    Group(Replicated<D, R>),
}

impl<D: Disk, R: Runtime> Clone for Served<D, R> {
    fn clone(&self) -> Self {
        match self {
            Self::Alone(partition) => Self::Alone(partition.clone()),
            Self::Group(group) => Self::Group(group.clone()),
        }
    }
}

macro_rules! either {
    ($self:ident, $served:ident => $what:expr) => {
        match $self {
            Self::Alone($served) => $what,
            Self::Group($served) => $what,
        }
    };
}

impl<D: Disk, R: Runtime> Served<D, R> {
    /// Whose replica it is.
    pub fn identity(&self) -> Identity {
        either!(self, served => served.identity())
    }

    /// Its executor.
    pub fn runtime(&self) -> &R {
        either!(self, served => served.runtime())
    }

    /// Runs a task of one of its connections in the background.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        match self {
            Self::Alone(partition) => partition.runtime().spawn(task),
            Self::Group(group) => group.spawn(|_| task),
        }
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        either!(self, served => served.counters())
    }

    /// Writes are refused for want of room, or taken again.
    pub fn set_full(&self, full: bool) {
        either!(self, served => served.set_full(full));
    }

    /// Writes are refused for want of room.
    pub fn is_full(&self) -> bool {
        either!(self, served => served.is_full())
    }

    /// Why it takes nothing any more.
    pub fn stopped(&self) -> Option<Refused> {
        either!(self, served => served.stopped())
    }

    /// Ends reservations whose time is over, if this node decides.
    pub fn expire(&self) {
        either!(self, served => served.expire());
    }

    /// Takes nothing more, finishes what is in flight and closes the log.
    pub async fn close(&self) -> Result<(), Refused> {
        either!(self, served => served.close().await)
    }

    /// Looks at the state at the tail. What it shows may be told to anyone only by
    /// [`Self::when_told`] of the tail.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        either!(self, served => served.with_ledger(look))
    }

    /// A write would be told to come back.
    pub fn is_busy(&self) -> bool {
        either!(self, served => served.is_busy())
    }

    /// Counts a write that was told to.
    pub fn count_busy(&self) {
        either!(self, served => served.count(|counters| counters.refused_busy += 1));
    }

    /// Decides events in order; one outcome each is appended to `outcomes`.
    pub fn submit(&self, events: &[EventBytes], outcomes: &mut Outcomes) -> Result<Taken, Refused> {
        either!(self, served => served.submit(events, outcomes))
    }

    /// Decides opaque records in order; one outcome each is appended to `outcomes`.
    pub fn append_records(
        &self,
        heads: &[RecordHead],
        blob: &[u8],
        outcomes: &mut Outcomes,
    ) -> Result<Taken, Refused> {
        either!(self, served => served.append_records(heads, blob, outcomes))
    }

    /// Its log, for readers.
    pub fn log(&self) -> &Log<D, R> {
        match self {
            Self::Alone(partition) => partition.log(),
            Self::Group(group) => group.log().log(),
        }
    }

    /// Everything below this offset may be told.
    pub fn told_offset(&self) -> Offset {
        match self {
            Self::Alone(partition) => partition.durable_offset(),
            Self::Group(group) => group.committed_offset(),
        }
    }

    /// The newest entry that may be told.
    pub fn told_entry(&self) -> Told {
        match self {
            Self::Alone(partition) => partition.told_entry(),
            Self::Group(group) => Told {
                // openraft counts from 0, the log from 1.
                index: group.applied().map_or(0, |entry| entry.index + 1),
                next_offset: group.committed_offset(),
            },
        }
    }

    /// Wakes whenever [`Self::told_offset`] may have moved.
    pub fn changed(&self) -> Notify {
        match self {
            Self::Alone(partition) => partition.changed(),
            Self::Group(group) => group.changed(),
        }
    }

    /// Calls `answer` when everything decided so far may be told; at once if it may already.
    /// `bytes` is what the answer holds in memory.
    pub fn when_told(&self, bytes: usize, answer: Answer) {
        match self {
            Self::Alone(partition) => partition.when_durable(bytes, answer),
            Self::Group(group) => group.when_committed(bytes, answer),
        }
    }

    /// Completes when everything decided so far may be told, or never will be.
    pub async fn told(&self) -> Result<(), Refused> {
        let result: Rc<std::cell::RefCell<Option<Result<(), Refused>>>> = Rc::default();
        let woken = Notify::new();
        let (put, wake) = (result.clone(), woken.clone());
        let answer = move |told: Result<(), &Refused>| {
            put.replace(Some(told.map_err(Clone::clone)));
            wake.notify_all();
        };
        self.when_told(std::mem::size_of_val(&answer), Box::new(answer));
        loop {
            let changed = woken.changed();
            if let Some(told) = result.take() {
                return told;
            }
            changed.await;
        }
    }

    /// This node decides.
    pub fn leads(&self) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Group(group) => group.leads(),
        }
    }

    /// The state may be shown, whatever it reflects.
    pub fn is_readable(&self) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Group(group) => group.is_readable(),
        }
    }

    /// The node that decides, as far as is known here.
    pub fn leader(&self) -> Option<u64> {
        match self {
            Self::Alone(partition) => Some(partition.identity().node),
            Self::Group(group) => group.leader(),
        }
    }

    /// Newest term that this node knows of.
    pub fn term(&self) -> u64 {
        match self {
            Self::Alone(partition) => partition.term(),
            Self::Group(group) => group.term(),
        }
    }

    /// Completes when what this node shows then includes everything that was told by anyone before.
    pub async fn read_barrier(&self) -> Result<(), Refused> {
        match self {
            Self::Alone(_) => Ok(()),
            Self::Group(group) => group.read_barrier().await,
        }
    }
}
