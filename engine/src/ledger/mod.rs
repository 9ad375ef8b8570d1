//! The ledger of one partition: decides each event once, against the state at the tail of the log.
//!
//! Lives on the partition's shard core; not `Send`. Pure: no I/O, no clock, no randomness, no
//! async. The same entries give the same state everywhere. RULES.md beside this file says what each
//! verdict means and when it is given.
//!
//! - [`Ledger::submit`] and [`Ledger::append_records`] decide and fill a draft, which becomes an
//!   entry. [`Ledger::undo_events`] takes the entry back if it was never committed.
//! - [`Ledger::submit_but`] does the same where the sender may not have everything decided.
//! - [`Ledger::import_events`] fills a draft with what another ledger has decided, if this one decides
//!   the same.
//! - [`Ledger::apply_events`] replays an entry and compares each verdict with the logged one.
//! - [`Ledger::unknown`] says which ids must be looked up on disk before events are decided, and
//!   [`Ledger::learn`] takes what was found: only the newest ids are in memory.
//! - [`Ledger::snapshot`] makes a cut that is written out piece by piece while the ledger goes on.
//!
//! To ensure correctness, a caller
//! - makes one entry of each draft, appends entries in the order in which their drafts were opened,
//!   and finishes a draft before it opens the next one;
//! - decides nothing whose ids are unknown;
//! - calls [`Ledger::release`] as entries commit; otherwise the memory for undoing grows;
//! - stops serving after a [`Disagreement`]: the entry was then applied in part.

mod accounts;
mod across;
mod ahead;
mod apply;
mod balances;
mod chains;
mod checks;
mod decide;
mod digest;
mod doubts;
mod draft;
mod effects;
mod forbidden;
mod ids;
mod import;
mod inbound;
mod joint_index;
mod limits;
mod names;
mod older;
mod passing;
mod pendings;
mod recent;
mod records;
mod restore;
mod set;
mod slab;
mod slot;
mod snapshot;
mod state_digest;
mod stripes;
mod table;
mod undo;
mod words;

use std::collections::BTreeMap;

use walengine_net::model::{
    Account, AccountId, Amount, Code, Decided, EventId, LedgerId, Offset, PartitionId, Timestamp,
    Verdict,
};

pub use across::{Doubt, Frame, MailError};
pub use apply::Disagreement;
pub use decide::{fingerprint_of_event, key_of};
pub use digest::{LedgerTotals, WideSum};
pub use draft::{Draft, RecordsDraft};
pub use ids::{Ended, Fact};
pub use limits::{RECORD_BYTES_MAX, TIMESTAMP_MAX};
pub use names::{Described, Named};
pub use older::LeavingKey;
pub use records::fingerprint as fingerprint_of_record;
pub use restore::{RestoreError, Restorer};
pub use slot::PendingState;
pub use snapshot::SnapshotCut;
pub use state_digest::StateDigester;
pub use stripes::{Lack, is_for_all};

use crate::ids::RunRange;
use crate::ids::key::{Key, Space};
use accounts::Accounts;
use ids::Ids;
use inbound::Across;
use pendings::{NEVER, Pending, Pendings, Standing};

/// Outcome of one event: for a repeat the first verdict and its offset; for
/// [`IdReused`](walengine_net::model::Verdict::IdReused) the original's offset; for a malformed
/// event no offset.
pub type Outcome = Decided;
/// One for each event of a request, in its order.
pub type Outcomes = Vec<Outcome>;

/// How far records may run past it, a nanosecond each.
const TIMESTAMP_SLACK: u64 = 1 << 60;

/// State of one partition at the tail of its log.
pub struct Ledger {
    partition: PartitionId,
    partitions: u16,
    /// Invariant: at most [`limits::OFFSET_MAX`].
    next_offset: u64,
    /// Invariant: every record has a higher timestamp than the record before it.
    last_timestamp: u64,
    ids: Ids,
    /// The runs that hold the older ids, adjacent from offset 0.
    runs: Vec<RunRange>,
    accounts: Accounts,
    pendings: Pendings,
    across: Across,
    /// Boxed: a ledger is moved about while it is opened.
    names: Box<names::Names>,
    scratch: decide::DecideScratch,
    ahead: ahead::Ahead,
    undo: undo::UndoMarks,
    /// See [`Self::gifts`]. In no snapshot.
    gifts: BTreeMap<PartitionId, stripes::Gifts>,
}

/// An open reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPending {
    /// The pending transfer.
    pub id: EventId,
    /// Account whose debits are reserved.
    pub debit_account_id: AccountId,
    /// Account whose credits are reserved.
    pub credit_account_id: AccountId,
    /// What is reserved.
    pub amount: Amount,
    /// Ledger of the accounts.
    pub ledger: LedgerId,
    /// Code of the pending transfer.
    pub code: Code,
    /// Log time at which it becomes due; `None` without a timeout.
    pub expires_at: Option<Timestamp>,
    /// Its record.
    pub offset: Offset,
}

/// Position of the next record.
#[derive(Clone, Copy)]
struct At {
    offset: u64,
    timestamp: u64,
    /// Its index in its entry.
    index: u32,
}

impl At {
    fn plus(self, records: usize) -> Self {
        Self {
            offset: self.offset + records as u64,
            timestamp: self.timestamp + records as u64,
            index: self.index + records as u32,
        }
    }
}

impl Ledger {
    /// The empty ledger of a partition, one of `partitions`.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn new(partition: PartitionId, partitions: u16) -> Self {
        assert!(partition.0 < partitions, "partition {partition} of {partitions}");
        Self {
            partition,
            partitions,
            next_offset: 0,
            last_timestamp: 0,
            ids: Ids::new(),
            runs: Vec::new(),
            accounts: Accounts::new(),
            pendings: Pendings::new(),
            across: Across::default(),
            names: Box::new(names::Names::new()),
            scratch: decide::DecideScratch::default(),
            ahead: ahead::Ahead::default(),
            undo: undo::UndoMarks::default(),
            gifts: BTreeMap::new(),
        }
    }

    /// The partition of this ledger.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The other partitions of the cluster.
    pub fn others(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let here = self.partition;
        (0..self.partitions).map(PartitionId).filter(move |other| *other != here)
    }

    /// Number of partitions of the cluster.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Offset that the next logged record will get.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next_offset)
    }

    /// Log time of the newest record; zero before the first.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.last_timestamp)
    }

    /// An account at the tail.
    pub fn account(&self, id: AccountId) -> Option<Account> {
        self.accounts.by_id(id).copied()
    }

    /// The account belongs to this partition, or has a stripe here, whether it exists or not.
    pub fn lives_here(&self, id: AccountId) -> bool {
        self.routing().has(id)
    }

    /// Number of accounts.
    pub fn accounts_len(&self) -> u32 {
        self.accounts.slab.len()
    }

    /// Memory of the accounts in bytes.
    pub fn accounts_bytes(&self) -> u64 {
        self.accounts.bytes()
    }

    /// Accounts in order of creation, from the `first`-th (counted from 0), at most `limit`. The
    /// next page starts at `first` plus the number of accounts returned.
    pub fn accounts_from(&self, first: u32, limit: usize) -> impl Iterator<Item = Account> {
        self.accounts.slab.iter_from(first).take(limit).copied()
    }

    /// First verdict of a transfer, guard, close or opaque record; `None` if its id is unknown. An id that
    /// [`Self::must_look_up`] is to be looked up before.
    pub fn decided(&self, id: EventId) -> Option<Decided> {
        let decided = self.ids.decided(&Key::new(id.0, Space::Event))?;
        Some(self.settled(id.0, decided))
    }

    /// What was in doubt has the verdict that it got since, if it got one.
    #[inline]
    fn settled(&self, id: u128, decided: Decided) -> Decided {
        if decided.verdict != Verdict::InDoubt {
            return decided;
        }
        let verdict = match self.pendings.get(id).map(|pending| pending.standing) {
            Some(standing) if standing.is_in_doubt() => Verdict::InDoubt,
            Some(standing) if standing.is_open() => Verdict::Ok,
            _ => self.ids.resolution(id).map_or(Verdict::InDoubt, |ended| ended.state.verdict()),
        };
        Decided { verdict, ..decided }
    }

    /// First verdict of an account's creation; as [`Self::decided`].
    pub fn decided_account(&self, id: AccountId) -> Option<Decided> {
        self.ids.decided(&Key::new(id.0, Space::Account))
    }

    /// State of a transfer as a reservation; `None` if its id is unknown. As [`Self::decided`].
    pub fn pending_state(&self, id: EventId) -> Option<PendingState> {
        match self.pendings.get(id.0).map(|pending| pending.standing) {
            Some(standing) if standing.is_in_doubt() => return Some(PendingState::None),
            Some(standing) if standing.is_open() => return Some(PendingState::Open),
            _ => {}
        }
        let ended = self.ids.resolution(id.0).map(|ended| ended.state);
        ended.or_else(|| self.decided(id).map(|_| PendingState::None))
    }

    /// An open reservation.
    pub fn pending(&self, id: EventId) -> Option<OpenPending> {
        let pending = self.pendings.get(id.0).filter(|pending| pending.standing.is_open())?;
        Some(self.shown(pending))
    }

    /// The reservations whose home this is, by slot from the `first`, with whether another partition has not said yet
    /// that it holds; `None` for slots with something else or nothing.
    pub fn reservations_from(
        &self,
        first: u32,
    ) -> impl Iterator<Item = Option<(OpenPending, bool)>> {
        self.pendings.slab.iter_from(first).map(|pending| {
            let is_one = pending.id != 0 && pending.standing.is_reservation();
            is_one.then(|| (self.shown(pending), pending.standing.is_in_doubt()))
        })
    }

    /// Behind the last slot that [`Self::reservations_from`] can have something in; 0 if none has.
    pub fn reservation_slots(&self) -> u32 {
        let count = self.pendings.counted_if(Standing::is_reservation);
        if count == 0 { 0 } else { self.pendings.slab.len() }
    }

    fn shown(&self, pending: &Pending) -> OpenPending {
        let debit = self.accounts.get(pending.debit);
        OpenPending {
            id: EventId(pending.id),
            debit_account_id: debit.id,
            credit_account_id: self.credit_account_of(pending),
            amount: Amount(pending.amount),
            ledger: debit.ledger,
            code: Code(pending.code),
            expires_at: (pending.expires_at != NEVER).then_some(Timestamp(pending.expires_at)),
            offset: Offset(pending.offset),
        }
    }

    /// Number of open reservations, of what is in doubt, of sides of other partitions' reservations, and of ended ones of
    /// which another partition may not know.
    pub fn pendings_len(&self) -> usize {
        self.pendings.len()
    }

    /// Memory of the open reservations, and of those that can be opened again, in bytes.
    pub fn reservations_bytes(&self) -> u64 {
        self.pendings.bytes()
    }

    /// Number of remembered ids, of accounts and events together.
    pub fn ids_len(&self) -> u64 {
        self.ids.len()
    }

    /// Log time at which the next reservation becomes due.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.pendings.next_expiry().map(Timestamp)
    }

    /// Records below `offset` are committed and will not be undone. Frees the memory for undoing
    /// them.
    pub fn release(&mut self, offset: Offset) {
        self.pendings.release(offset.0);
        self.across.release(offset.0);
        self.names.release(offset.0);
    }

    /// All records before `at` are logged.
    fn advance_to(&mut self, at: At) {
        debug_assert!(at.offset > self.next_offset, "the log did not grow");
        debug_assert!(at.timestamp > self.last_timestamp + 1, "log time did not increase");
        self.next_offset = at.offset;
        self.last_timestamp = at.timestamp - 1;
    }
}
