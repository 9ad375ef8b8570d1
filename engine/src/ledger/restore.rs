//! Restores a ledger from the chunks of a snapshot. Nothing in them is trusted: a contradiction is
//! an error, and memory grows only with what was read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use walengine_net::model::{
    Account, AccountFlags, Book, EVENT_BYTES, EventBytes, EventKind, PartitionId, Timestamp,
    event_kind,
};
use walengine_net::partition;

use super::ids::Ids;
use super::inbound::ACROSS_ITEM_BYTES;
use super::limits::{OFFSET_MAX, TIMESTAMP_MAX};
use super::names::{Described, LEDGER_ITEM_BYTES, NAME_ITEM_BYTES, Named};
use super::pendings::{
    FINGERPRINT_AT, Link, Origin, PENDING_BYTES, PENDING_ITEM_BYTES, Pending, Standing,
};
use super::set::Set;
use super::slot::{SLOT_BYTES, Slot};
use super::snapshot::{
    CHUNK_HEADER_BYTES, HEAD_BYTES, MAGIC, NAMELESS_HEAD_BYTES, RUN_ITEM_BYTES, Section,
    SnapshotHead, VERSION, VERSION_ALONE, VERSION_NAMELESS, VERSION_UNNAMED,
};
use super::{Ledger, LedgerTotals, TIMESTAMP_SLACK};
use crate::ids::RunRange;
use crate::ids::key::{Key, Space};
use crate::planted::{self, Planted};

/// Size of a reservation before anything was named in it, in bytes.
const UNNAMED_ITEM_BYTES: usize = PENDING_BYTES + 8;

/// Why chunks are not a snapshot. No ledger is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Not the first bytes of a chunk, or not as long as it says.
    #[error("chunk {chunk} is not one of a snapshot")]
    Chunk {
        /// Which one, counted from 0.
        chunk: usize,
    },
    /// Written by a version that this one does not know.
    #[error("snapshot version {0} is not known to this program")]
    Version(u16),
    /// A section out of order, missing or twice.
    #[error("chunk {chunk} does not belong there")]
    Order {
        /// Which one, counted from 0.
        chunk: usize,
    },
    /// Of another partition, or of another number of partitions.
    #[error("snapshot of partition {partition} of {partitions}")]
    OtherPartition {
        /// The snapshot's partition.
        partition: PartitionId,
        /// The snapshot's number of partitions.
        partitions: u16,
    },
    /// An item that no ledger has, or a duplicate.
    #[error("item {item} of chunk {chunk} is impossible")]
    Item {
        /// Which chunk, counted from 0.
        chunk: usize,
        /// Which item of it, counted from 0.
        item: usize,
    },
    /// The chunks end before the snapshot does, or hold more or less than its head says.
    #[error("the snapshot is not complete")]
    Incomplete,
    /// What is reserved on the accounts is not the sum of the open reservations.
    #[error("the snapshot's reservations do not add up")]
    Reservations,
    /// Debits are not credits.
    #[error("the snapshot's debits and credits do not balance")]
    Unbalanced,
}

/// Restores the ledger of a partition from the chunks of a snapshot, one by one.
pub struct Restorer {
    partition: PartitionId,
    partitions: u16,
    chunks: usize,
    partial: Option<Partial>,
}

/// The ledger so far.
struct Partial {
    ledger: Ledger,
    head: SnapshotHead,
    section: Section,
    /// Items of that section so far.
    across: u32,
}

impl Ledger {
    /// Restores the ledger of a partition from all chunks of a snapshot, in order.
    pub fn restore<C: AsRef<[u8]>>(
        partition: PartitionId,
        partitions: u16,
        chunks: impl IntoIterator<Item = C>,
    ) -> Result<Self, RestoreError> {
        let mut restorer = Restorer::new(partition, partitions);
        for chunk in chunks {
            restorer.push(chunk.as_ref())?;
        }
        restorer.finish()
    }
}

impl Restorer {
    /// For the snapshot of a partition, one of `partitions`.
    pub fn new(partition: PartitionId, partitions: u16) -> Self {
        Self { partition, partitions, chunks: 0, partial: None }
    }

    /// Takes the next chunk. After an error the restorer is useless.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        let number = self.chunks;
        self.chunks += 1;
        let (section, items) = open_chunk(number, chunk)?;
        match &mut self.partial {
            None if section == Section::Head => {
                let head = one_head(number, &items)?;
                if head.partition != self.partition.0 || head.partitions != self.partitions {
                    return Err(RestoreError::OtherPartition {
                        partition: PartitionId(head.partition),
                        partitions: head.partitions,
                    });
                }
                self.partial = Some(Partial::new(head));
                Ok(())
            }
            Some(partial) => partial.chunk(number, section, &items),
            None => Err(RestoreError::Order { chunk: number }),
        }
    }

    /// Bytes that the state takes in memory at least, as the head of the snapshot counts it; 0 before the
    /// first chunk.
    pub fn bytes_least(&self) -> u64 {
        let Some(Partial { head, .. }) = &self.partial else { return 0 };
        let of = |items: u64, bytes: usize| items.saturating_mul(bytes as u64);
        of(head.recent, SLOT_BYTES).saturating_add(of(head.accounts, EVENT_BYTES))
    }

    /// The runs that the snapshot names; `None` until all were read.
    pub fn runs(&self) -> Option<&[RunRange]> {
        let partial = self.partial.as_ref().filter(|partial| partial.section > Section::Runs);
        let runs = partial.map(|partial| &*partial.ledger.runs);
        runs.filter(|runs| {
            self.partial.as_ref().is_some_and(|it| it.head.runs == runs.len() as u64)
        })
    }

    /// The ledger, if the snapshot is complete.
    pub fn finish(self) -> Result<Ledger, RestoreError> {
        self.partial.ok_or(RestoreError::Incomplete)?.finish()
    }
}

impl Partial {
    fn new(head: SnapshotHead) -> Self {
        let mut ledger = Ledger::new(PartitionId(head.partition), head.partitions);
        ledger.ids.restore_counts(head.ids);
        ledger.ids.note_older_id_max(head.older_id_max);
        ledger.next_offset = head.next_offset;
        ledger.last_timestamp = head.last_timestamp;
        Self { ledger, head, section: Section::Head, across: 0 }
    }

    fn chunk(&mut self, chunk: usize, section: Section, items: &[u8]) -> Result<(), RestoreError> {
        let in_order = section > self.section
            || section == self.section && !matches!(section, Section::Head | Section::End);
        if !in_order {
            return Err(RestoreError::Order { chunk });
        }
        self.section = section;
        match section {
            Section::Head => return Err(RestoreError::Order { chunk }),
            Section::Runs => each::<RUN_ITEM_BYTES>(chunk, items, |item| self.run(item))?,
            Section::Accounts => each::<EVENT_BYTES>(chunk, items, |item| self.account(item))?,
            Section::Pendings => {
                each::<PENDING_ITEM_BYTES>(chunk, items, |item| self.pending(item))?;
            }
            Section::Across => {
                each::<ACROSS_ITEM_BYTES>(chunk, items, |item| self.across(item))?;
            }
            Section::Names => each::<NAME_ITEM_BYTES>(chunk, items, |item| self.name(item))?,
            Section::Ledgers => {
                each::<LEDGER_ITEM_BYTES>(chunk, items, |item| self.described(item))?;
            }
            Section::Ids => each::<SLOT_BYTES>(chunk, items, |item| self.id(item))?,
            Section::End => {
                if one_head(chunk, items)? != self.head {
                    return Err(RestoreError::Incomplete);
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, bytes: &[u8; RUN_ITEM_BYTES]) -> Option<()> {
        let run = RunRange { first: word(bytes, 0), end: word(bytes, 8) };
        let follows = self.ledger.runs.last().map_or(0, |last| last.end);
        let possible = run.first == follows
            && run.end > run.first
            && run.end <= self.head.next_offset
            && (self.ledger.runs.len() as u64) < self.head.runs;
        possible.then(|| self.ledger.runs.push(run))
    }

    fn account(&mut self, bytes: &EventBytes) -> Option<()> {
        let account = Account::from_bytes(bytes);
        let limits = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
            .with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
        let known = AccountFlags::ALL.without(AccountFlags::LINKED);
        let id = account.id;
        account.debits_pending.0.checked_add(account.debits_posted.0)?;
        account.credits_pending.0.checked_add(account.credits_posted.0)?;
        let possible = event_kind(bytes) == Ok(EventKind::Account)
            && known.contains(account.flags)
            && !account.flags.contains(limits)
            && id.0 != 0
            && id.0 != u128::MAX
            && account.ledger.0 != 0
            && account.code.0 != 0
            && account.timestamp <= Timestamp(self.head.last_timestamp)
            && account.version <= self.head.next_offset
            && u64::from(self.ledger.accounts.slab.len()) < self.head.accounts
            && (id.book() == Book::IN_TRANSIT
                || id.is_striped()
                || partition::of_account(id, self.head.partitions).0 == self.head.partition)
            && self.ledger.accounts.slot(id).is_none();
        possible.then(|| self.ledger.accounts.push(account))
    }

    fn pending(&mut self, bytes: &[u8; PENDING_ITEM_BYTES]) -> Option<()> {
        let pending = Pending::from_item(bytes)?;
        let accounts = self.ledger.accounts.slab.len();
        let is_named = pending.named != 0;
        let is_chained = pending.link.is_chained();
        let names = match pending.standing {
            Standing::Open | Standing::Ending => is_named == (pending.other != 0),
            Standing::Reserving => is_named || is_chained,
            Standing::Posting | Standing::Voiding | Standing::Ended => is_named,
            Standing::InDoubt
            | Standing::Held
            | Standing::Carried
            | Standing::Announcing
            | Standing::Giving => !is_named,
            Standing::Passed
            | Standing::PassedHolding
            | Standing::PassedCarried
            | Standing::Telling => self.is_origin(&pending),
        };
        let was_in_doubt = pending.link.has(Link::WAS);
        let is_linked = match pending.standing {
            Standing::Open | Standing::Ending => !was_in_doubt || pending.other == 0,
            Standing::Voiding | Standing::Carried | Standing::Telling => {
                is_chained && !was_in_doubt
            }
            standing if standing.is_passed() => is_chained && !was_in_doubt,
            _ => !was_in_doubt,
        };
        let is_in_doubt = pending.standing.is_in_doubt() && pending.standing != Standing::Giving;
        let may_be_chained = is_in_doubt || pending.standing == Standing::Telling;
        let may_be_handed_on = is_in_doubt && is_chained;
        let (debit, credit) = (pending.debit, pending.credit);
        let has_accounts = debit < accounts && credit < accounts && debit != credit;
        let moves_nothing = !pending.standing.has_accounts();
        let is_elsewhere = moves_nothing && (debit, credit) == (0, 0);
        let (place, own) = (|slot| self.ledger.accounts.get(slot).id, self.head.partition);
        let of_all = partition::of_book(Book::STRIPED, self.head.partitions).0;
        let is_of_stripes = match pending.standing {
            Standing::Giving => {
                has_accounts
                    && place(debit).is_striped()
                    && place(credit).in_transit_to() == pending.other()
            }
            Standing::Announcing => own == of_all,
            _ => true,
        };
        let needs_no_other = matches!(pending.standing, Standing::Open | Standing::Ending);
        let possible = pending.to_item() == *bytes
            && pending.id != 0
            && (pending.amount != 0 || is_elsewhere)
            && (has_accounts || is_elsewhere)
            && is_linked
            && is_of_stripes
            && (may_be_chained || !is_chained)
            && (may_be_handed_on || !pending.link.has(Link::HANDED_ON))
            && (pending.standing == Standing::PassedCarried || !pending.link.is_of_carried())
            && pending.other <= self.head.partitions
            && pending.other != self.head.partition + 1
            && (pending.other != 0 || needs_no_other)
            && names
            && pending.offset < self.head.next_offset
            && (self.ledger.pendings.len() as u64) < self.head.pendings
            && self.ledger.pendings.find(pending.key()).is_none();
        let ledger_of = |slot| self.ledger.accounts.get(slot).ledger;
        if !possible || !is_elsewhere && ledger_of(debit) != ledger_of(credit) {
            return None;
        }
        self.ledger.pendings.insert(pending);
        Some(())
    }

    /// What was handed on has come from where something can have come from.
    fn is_origin(&self, pending: &Pending) -> bool {
        let SnapshotHead { partition, partitions, .. } = self.head;
        pending.origin().is_some_and(|origin| {
            let Origin { home, before, place } = origin;
            let are_others = [home, before].iter().all(|it| it.0 < partitions && it.0 != partition);
            let goes_back = pending.other() == Some(before);
            let are_others = are_others && goes_back == (pending.standing == Standing::Telling);
            are_others && place > 0 && origin.to_named() == pending.named
        })
    }

    fn across(&mut self, item: &[u8; ACROSS_ITEM_BYTES]) -> Option<()> {
        let SnapshotHead { partition, partitions, across, .. } = self.head;
        self.across += 1;
        let is_right = self.across <= across
            && self.ledger.across.restore(item)?.0 < partitions
            && self.ledger.last_place(PartitionId(partition)) == 0;
        is_right.then_some(())
    }

    fn name(&mut self, item: &[u8; NAME_ITEM_BYTES]) -> Option<()> {
        let named = Named::from_item(item);
        let is_there = self.ledger.accounts.slot(named.account).is_some();
        let is_right = is_there && self.ledger.names.slab.len() < self.head.names;
        is_right.then(|| self.ledger.names.restore(named))?
    }

    fn described(&mut self, item: &[u8; LEDGER_ITEM_BYTES]) -> Option<()> {
        let (ledger, described) = Described::from_item(item)?;
        let is_right = PartitionId(self.head.partition) == partition::OF_LEDGERS
            && self.ledger.names.ledgers.len() < self.head.ledgers as usize;
        is_right.then(|| self.ledger.names.restore_ledger(ledger, described))?
    }

    fn id(&mut self, bytes: &[u8; SLOT_BYTES]) -> Option<()> {
        let slot = Slot::from_bytes(bytes)?;
        let key = slot.key();
        let possible = key.id != u128::MAX
            && slot.offset() < self.head.next_offset
            && slot.offset() >= self.ledger.runs_end()
            && (self.ledger.ids.recent_len() as u64) < self.head.recent
            && self.ledger.ids.restore(slot);
        possible.then_some(())
    }

    fn finish(mut self) -> Result<Ledger, RestoreError> {
        let ledger = &mut self.ledger;
        let complete = self.section == Section::End
            && u64::from(ledger.accounts.slab.len()) == self.head.accounts
            && ledger.pendings.len() as u64 == self.head.pendings
            && ledger.ids.recent_len() as u64 == self.head.recent
            && self.across == self.head.across
            && ledger.names.slab.len() == self.head.names
            && ledger.names.ledgers.len() == self.head.ledgers as usize
            && ledger.runs.len() as u64 == self.head.runs;
        if !complete {
            return Err(RestoreError::Incomplete);
        }
        check_reservations(ledger)?;
        if !ledger.totals().values().all(LedgerTotals::balanced) {
            return Err(RestoreError::Unbalanced);
        }
        let ending = ledger.pendings.iter().filter(|it| it.standing.ends());
        let ending: HashSet<u128> = ending.map(|end| end.named).collect();
        let counted = |standing| ledger.pendings.counted(standing);
        let ends = counted(Standing::Posting) + counted(Standing::Voiding);
        let is_right = ends == ending.len()
            && counted(Standing::Ending) == ends
            && ledger.pendings.iter().all(|pending| is_its_record(ledger, pending));
        let is_right = is_right
            && ledger.pendings.iter().filter_map(Pending::origin).all(|origin| {
                origin.place <= ledger.last_place(origin.before) // it has arrived
            });
        if !is_right {
            return Err(RestoreError::Reservations);
        }
        ledger.pendings.restored();
        if planted::has(Planted::DoubtForgotten) {
            ledger.forget_doubts();
        }
        if planted::has(Planted::IdsForgotten) {
            ledger.ids = Ids::new();
            ledger.ids.restore_counts(self.head.ids);
        }
        Ok(self.ledger)
    }
}

/// What is open is an accepted event, or in doubt, and nothing has ended it; what has ended was ended there; what is
/// posted waits for that.
fn is_its_record(ledger: &Ledger, pending: &Pending) -> bool {
    let is_older = pending.offset < ledger.runs_end();
    let end = ledger.ids.slot(&Key::new(pending.id, Space::Resolution));
    match pending.standing {
        // Its id is another partition's.
        Standing::Held
        | Standing::Passed
        | Standing::PassedHolding
        | Standing::PassedCarried
        | Standing::Telling
        | Standing::Announcing
        | Standing::Giving => return true,
        Standing::Ended => return end.map_or(is_older, |end| end.offset() == pending.offset),
        Standing::Posting | Standing::Voiding => {
            let of = |it: &Pending| (it.debit, it.credit);
            let other = if pending.link.is_chained() { 0 } else { pending.other };
            let is_ended = |it: &Pending| {
                it.standing == Standing::Ending
                    && it.other == other
                    && of(it) == of(pending)
                    && pending.amount <= it.amount
            };
            if !ledger.pendings.get(pending.named).is_some_and(is_ended) {
                return false;
            }
        }
        _ => {}
    }
    let slot = ledger.ids.slot(&Key::new(pending.id, Space::Event));
    let is_right = |slot: &Slot| {
        slot.offset() == pending.offset && slot.verdict() == pending.reserved().verdict
    };
    end.is_none() && slot.map_or(is_older, is_right)
}

/// Every account's pending balances are the sums of its open reservations.
fn check_reservations(ledger: &Ledger) -> Result<(), RestoreError> {
    let mut sums: HashMap<u32, (u128, u128)> = HashMap::new();
    let add = |to: &mut u128, amount: u128| {
        *to = to.checked_add(amount).ok_or(RestoreError::Reservations)?;
        Ok(())
    };
    for pending in ledger.pendings.iter().filter(|pending| pending.standing.reserves()) {
        add(&mut sums.entry(pending.debit).or_default().0, pending.amount)?;
        add(&mut sums.entry(pending.credit).or_default().1, pending.amount)?;
    }
    let agree = ledger.accounts.slab.iter_from(0).zip(0u32..).all(|(account, slot)| {
        let (debits, credits) = sums.get(&slot).copied().unwrap_or_default();
        account.debits_pending.0 == debits && account.credits_pending.0 == credits
    });
    if agree { Ok(()) } else { Err(RestoreError::Reservations) }
}

/// The section of a chunk, and its items as this version writes them.
pub(super) fn open_chunk(
    number: usize,
    bytes: &[u8],
) -> Result<(Section, Cow<'_, [u8]>), RestoreError> {
    let bad = RestoreError::Chunk { chunk: number };
    let (header, items) = bytes.split_first_chunk::<CHUNK_HEADER_BYTES>().ok_or(bad)?;
    if word(header, 0) as u32 != MAGIC {
        return Err(bad);
    }
    let version = (word(header, 0) >> 32) as u16;
    let is_alone = version == VERSION_ALONE;
    let has_names = version == VERSION;
    if ![VERSION, VERSION_NAMELESS, VERSION_UNNAMED, VERSION_ALONE].contains(&version) {
        return Err(RestoreError::Version(version));
    }
    let head_bytes = if has_names { HEAD_BYTES } else { NAMELESS_HEAD_BYTES };
    let (section, item_bytes) = match (word(header, 0) >> 48) as u16 {
        1 => (Section::Head, head_bytes),
        2 => (Section::Runs, RUN_ITEM_BYTES),
        3 => (Section::Ids, SLOT_BYTES),
        4 => (Section::Accounts, EVENT_BYTES),
        5 if version < VERSION_NAMELESS => (Section::Pendings, UNNAMED_ITEM_BYTES),
        5 => (Section::Pendings, PENDING_ITEM_BYTES),
        6 if is_alone => (Section::End, head_bytes),
        6 => (Section::Across, ACROSS_ITEM_BYTES),
        7 if has_names => (Section::Names, NAME_ITEM_BYTES),
        7 if !is_alone => (Section::End, head_bytes),
        8 if has_names => (Section::Ledgers, LEDGER_ITEM_BYTES),
        9 if has_names => (Section::End, head_bytes),
        _ => return Err(bad),
    };
    // The upper half of the second word is reserved: any bit there makes the count too large.
    let bytes_told = word(header, 8).checked_mul(item_bytes as u64);
    if bytes_told != Some(items.len() as u64) {
        return Err(bad);
    }
    if matches!(section, Section::Head | Section::End) && !has_names {
        let none = [0; HEAD_BYTES - NAMELESS_HEAD_BYTES];
        let heads = items.chunks_exact(NAMELESS_HEAD_BYTES);
        return Ok((section, heads.flat_map(|head| [head, &none].concat()).collect()));
    }
    if item_bytes != UNNAMED_ITEM_BYTES {
        return Ok((section, items.into()));
    }
    let (items, _) = items.as_chunks::<UNNAMED_ITEM_BYTES>();
    let with_none_named = |item: &[u8; UNNAMED_ITEM_BYTES]| {
        let mut named = [0; PENDING_ITEM_BYTES];
        named[..PENDING_BYTES].copy_from_slice(&item[..PENDING_BYTES]);
        named[FINGERPRINT_AT..].copy_from_slice(&item[PENDING_BYTES..]);
        named
    };
    Ok((section, items.iter().flat_map(with_none_named).collect()))
}

fn each<const N: usize>(
    chunk: usize,
    items: &[u8],
    mut take: impl FnMut(&[u8; N]) -> Option<()>,
) -> Result<(), RestoreError> {
    let (items, _) = items.as_chunks::<N>(); // lengths were checked
    for (item, bytes) in items.iter().enumerate() {
        take(bytes).ok_or(RestoreError::Item { chunk, item })?;
    }
    Ok(())
}

pub(super) fn one_head(chunk: usize, items: &[u8]) -> Result<SnapshotHead, RestoreError> {
    let bad = RestoreError::Item { chunk, item: 0 };
    let bytes: &[u8; HEAD_BYTES] = items.try_into().map_err(|_| bad)?;
    let head = SnapshotHead {
        partition: word(bytes, 0) as u16,
        partitions: (word(bytes, 0) >> 16) as u16,
        across: (word(bytes, 0) >> 32) as u32,
        next_offset: word(bytes, 8),
        last_timestamp: word(bytes, 16),
        accounts: word(bytes, 24),
        pendings: word(bytes, 32),
        ids: Set { sum: wide(bytes, 64), count: word(bytes, 40) },
        recent: word(bytes, 48),
        runs: word(bytes, 56),
        older_id_max: wide(bytes, 80),
        names: word(bytes, 96) as u32,
        ledgers: (word(bytes, 96) >> 32) as u32,
    };
    let possible = head.partition < head.partitions
        && head.next_offset <= OFFSET_MAX
        && head.last_timestamp <= TIMESTAMP_MAX.0 + TIMESTAMP_SLACK
        && u32::try_from(head.accounts).is_ok()
        && head.ids.count <= head.next_offset
        && head.recent <= head.next_offset.saturating_mul(2)
        && head.runs <= head.next_offset;
    if possible { Ok(head) } else { Err(bad) }
}

/// Little-endian number at a place inside the array.
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn wide<const N: usize>(bytes: &[u8; N], at: usize) -> u128 {
    u128::from(word(bytes, at)) | u128::from(word(bytes, at + 8)) << 64
}

impl Pending {
    fn from_item(bytes: &[u8; PENDING_ITEM_BYTES]) -> Option<Self> {
        Some(Self {
            id: wide(bytes, 0),
            fingerprint: word(bytes, FINGERPRINT_AT),
            amount: wide(bytes, 16),
            expires_at: word(bytes, 32),
            offset: word(bytes, 40),
            debit: word(bytes, 48) as u32,
            credit: (word(bytes, 48) >> 32) as u32,
            code: word(bytes, 56) as u16,
            other: (word(bytes, 56) >> 16) as u16,
            standing: Standing::from_number((word(bytes, 56) >> 32) as u8)?,
            link: Link::from_number((word(bytes, 56) >> 40) as u8)?,
            named: wide(bytes, PENDING_BYTES),
        })
    }
}
