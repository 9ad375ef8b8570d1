//! Open reservations, when they expire, what is in doubt, and what was so recently, which undoing may bring back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use walengine_net::model::{EventId, PartitionId, Verdict, Word};

use super::doubts::Doubts;
use super::ids::{Reserved, hash_of_event_id};
use super::slab::Slab;
use super::table::Table;

/// Expiry of a reservation without a timeout.
pub(super) const NEVER: u64 = u64::MAX;

/// About what the set of expiries takes for each: its nodes are about two thirds full.
const DUE_BYTES: usize = 36;

/// How a reservation, or what is in doubt, stands. Its number is in snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// Reserves until it is posted, voided or expired.
    #[default]
    Open = 0,
    /// A transfer: reserves until another partition's word.
    InDoubt = 1,
    /// A reservation that spans partitions: with the other one's word it is open.
    Reserving = 2,
    /// Reserves; another partition has the last word on a posting of it.
    Ending = 3,
    /// Reserves nothing: the posting itself, which is in doubt.
    Posting = 4,
    /// Reserves nothing any more; the other partition may not know that it was voided or has expired.
    Ended = 5,
    /// Reserves on the side of another partition's reservation that is here.
    Held = 6,
    /// Reserves nothing: an event of a chain in doubt that changes nothing here.
    Carried = 7,
    /// Reserves nothing: the voiding of a reservation, in a chain in doubt.
    Voiding = 8,
    /// Of a chain that another partition has prepared and that was handed on: reserves until the next one's word.
    Passed = 9,
    /// The same, and with the word it reserves on the side of the other partition's reservation.
    PassedHolding = 10,
    /// The same as [`Self::Passed`], but it changes nothing here, and reserves nothing.
    PassedCarried = 11,
    /// Reserves nothing: the outcome of what was handed on, of which the partition that it came from may not know.
    Telling = 12,
    /// Reserves nothing: a striped account, or its closing, of which another partition may not know.
    Announcing = 13,
    /// Reserves what this stripe of an account gives to another one.
    Giving = 14,
}

impl Standing {
    const ALL: [Self; 15] = [
        Self::Open,
        Self::InDoubt,
        Self::Reserving,
        Self::Ending,
        Self::Posting,
        Self::Ended,
        Self::Held,
        Self::Carried,
        Self::Voiding,
        Self::Passed,
        Self::PassedHolding,
        Self::PassedCarried,
        Self::Telling,
        Self::Announcing,
        Self::Giving,
    ];

    /// `None` if there is none of this number.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// A reservation that can be seen as one.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Ending)
    }

    /// A reservation whose home this is: open, or not known to hold yet.
    pub(super) fn is_reservation(self) -> bool {
        self.is_open() || self == Self::Reserving
    }

    /// Another partition has the last word on it.
    pub(super) fn is_in_doubt(self) -> bool {
        matches!(self, Self::InDoubt | Self::Reserving | Self::Carried | Self::Giving)
            || self.ends()
            || self.is_passed()
    }

    /// Of another partition's chain, which was handed on.
    pub(super) fn is_passed(self) -> bool {
        matches!(self, Self::Passed | Self::PassedHolding | Self::PassedCarried)
    }

    /// It has ended here, and another partition may not know.
    pub(super) fn is_told(self) -> bool {
        matches!(self, Self::Ended | Self::Telling | Self::Announcing)
    }

    /// It speaks of accounts that it has a part in here.
    pub(super) fn has_accounts(self) -> bool {
        !self.is_carried() && !matches!(self, Self::Telling | Self::Announcing)
    }

    /// An event of a chain in doubt that changes nothing here.
    pub(super) fn is_carried(self) -> bool {
        matches!(self, Self::Carried | Self::PassedCarried)
    }

    /// The end of a reservation, which is in doubt.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Posting | Self::Voiding)
    }

    /// Its amount counts as pending in its accounts.
    pub(super) fn reserves(self) -> bool {
        !self.is_told() && !self.is_carried() && !self.ends()
    }
}

/// Place in a chain that spans partitions: of what is in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link(pub u8);

impl Link {
    /// The next record is of the same chain.
    pub(super) const NEXT: Self = Self(1);
    /// The record before is.
    pub(super) const PREVIOUS: Self = Self(2);
    /// A reservation that does not span: it was in doubt with its chain.
    pub(super) const WAS: Self = Self(4);
    /// The next partition has prepared it, too, and handed it on: the outcome comes from there.
    pub(super) const HANDED_ON: Self = Self(8);
    /// Of what was handed on and changes nothing here: it may come to less than was sent.
    pub(super) const MAY_BE_LESS: Self = Self(16);
    /// The same: it ends a reservation.
    pub(super) const ENDS: Self = Self(32);
    const OF_CARRIED: Self = Self(Self::MAY_BE_LESS.0 | Self::ENDS.0);
    const OF_CHAIN: Self = Self(Self::NEXT.0 | Self::PREVIOUS.0);
    const ALL: u8 = Self::OF_CHAIN.0 | Self::WAS.0 | Self::HANDED_ON.0 | Self::OF_CARRIED.0;

    /// Of the event at a place in a chain of this length.
    pub(super) fn at(place: usize, length: usize) -> Self {
        let next = if place + 1 < length { Self::NEXT.0 } else { 0 };
        let previous = if place > 0 { Self::PREVIOUS.0 } else { 0 };
        Self(next | previous)
    }

    /// `None` if there is none of this number.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        (number & !Self::ALL == 0).then_some(Self(number))
    }

    pub(super) fn with(self, link: Self) -> Self {
        Self(self.0 | link.0)
    }

    /// Its place in the chain alone.
    pub(super) fn place(self) -> Self {
        Self(self.0 & Self::OF_CHAIN.0)
    }

    /// Has what only what was handed on may have, and changes nothing here.
    pub(super) fn is_of_carried(self) -> bool {
        self.0 & Self::OF_CARRIED.0 != 0
    }

    pub(super) fn has(self, link: Self) -> bool {
        self.0 & link.0 != 0
    }

    /// In a chain that is in doubt.
    pub(super) fn is_chained(self) -> bool {
        self.has(Self::NEXT) || self.has(Self::PREVIOUS)
    }
}

/// Where an event of a chain that was handed on has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The home of the chain, where its id is known.
    pub home: PartitionId,
    /// The partition that has handed it on to this one, which waits for the word.
    pub before: PartitionId,
    /// Its place in the stream from there.
    pub place: u64,
}

impl Origin {
    /// As it stands in [`Pending::named`].
    pub(super) fn to_named(self) -> u128 {
        u128::from(self.place) | u128::from(self.home.0) << 64 | u128::from(self.before.0) << 80
    }

    fn from_named(named: u128) -> Self {
        let partition = |bits: u32| PartitionId((named >> bits) as u16);
        Self { home: partition(64), before: partition(80), place: named as u64 }
    }
}

/// A reservation. The ledger is that of its accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub id: u128,
    /// Of its transfer.
    pub fingerprint: u64,
    pub amount: u128,
    /// Log time at which it becomes due, or [`NEVER`].
    pub expires_at: u64,
    /// Its record. Of what has ended, the one that ended it.
    pub offset: u64,
    /// Slot of the debit account.
    pub debit: u32,
    /// Slot of the credit account.
    pub credit: u32,
    pub code: u16,
    /// One more than the other partition that it spans; 0 if it spans none.
    pub other: u16,
    pub standing: Standing,
    /// Of what is in doubt with a chain, or was.
    pub link: Link,
    /// Of a reservation at home that spans partitions, its account elsewhere; of an end in doubt, its reservation; of
    /// what was handed on, or has its outcome, its [`Origin`]; 0 of any other.
    pub named: u128,
}

impl Pending {
    /// What ending it needs to know of its id.
    pub(super) fn reserved(&self) -> Reserved {
        let was_in_doubt = self.other != 0 || self.link.has(Link::WAS);
        let verdict = if was_in_doubt { Verdict::InDoubt } else { Verdict::Ok };
        Reserved { id: self.id, fingerprint: self.fingerprint, offset: self.offset, verdict }
    }

    pub(super) fn other(&self) -> Option<PartitionId> {
        self.other.checked_sub(1).map(PartitionId)
    }

    /// The partition that has not said yet, as far as is known here, that it knows of it.
    pub(super) fn sent_to(&self) -> Option<PartitionId> {
        let is_sent = self.standing.is_told()
            || self.standing.is_in_doubt() && !self.link.has(Link::HANDED_ON);
        self.other().filter(|_| is_sent)
    }

    pub(super) fn key(&self) -> PendingKey {
        let (space, home) = match self.standing {
            Standing::Announcing => (KeySpace::Striped(self.offset), self.other()),
            Standing::Giving => (KeySpace::Striped(self.offset), None),
            Standing::Telling => (KeySpace::Outcome, self.origin().map(|origin| origin.home)),
            Standing::Held => (KeySpace::Event, self.other()),
            _ => (KeySpace::Event, self.origin().map(|origin| origin.home)),
        };
        PendingKey { id: self.id, home, space }
    }

    /// Where it has come from, if it was handed on.
    pub(super) fn origin(&self) -> Option<Origin> {
        let has_one = self.standing.is_passed() || self.standing == Standing::Telling;
        has_one.then(|| Origin::from_named(self.named))
    }

    #[inline]
    fn is(&self, key: PendingKey) -> bool {
        self.id == key.id && self.key() == key
    }

    /// Log time at which it ends by itself: never while something is in doubt.
    fn due_at(&self) -> Option<u64> {
        let may_end = self.expires_at != NEVER && self.standing == Standing::Open;
        may_end.then_some(self.expires_at)
    }
}

/// What names a reservation: its id and, if that is an id of another partition, which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingKey {
    id: u128,
    home: Option<PartitionId>,
    space: KeySpace,
}

/// What shares ids with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeySpace {
    Event,
    /// The outcome of what was handed on.
    Outcome,
    /// What stripes of accounts do, at an offset.
    Striped(u64),
}

impl PendingKey {
    /// A reservation whose home this is.
    pub(super) fn own(id: EventId) -> Self {
        Self { id: id.0, home: None, space: KeySpace::Event }
    }

    /// One of another partition.
    pub(super) fn of(home: PartitionId, id: EventId) -> Self {
        Self { id: id.0, home: Some(home), space: KeySpace::Event }
    }
}

/// See the module.
pub(super) struct Pendings {
    /// Invariant: a free slot has the id 0, and no other has.
    pub slab: Slab<Pending>,
    free: Vec<u32>,
    /// Slots by id.
    index: Table<u32>,
    /// Expiry, offset and slot, in the order in which expiries are logged. Invariant: the open
    /// reservations with a timeout.
    due: BTreeSet<(u64, u64, u32)>,
    /// How many stand in each way, by number.
    counts: [usize; Standing::ALL.len()],
    /// How much is given by stripes, by slot.
    giving: BTreeMap<u32, usize>,
    /// Those on which other partitions have the last word.
    doubts: Doubts,
    /// What was before a record ended or changed it, and that record's offset: taking back a post needs it, and the
    /// record of the post does not hold it. Emptied by [`Self::release`]. Invariant: offsets do not descend.
    replaced: VecDeque<(u64, Pending)>,
}

impl Pendings {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            free: Vec::new(),
            index: Table::new(),
            due: BTreeSet::new(),
            counts: Default::default(),
            giving: BTreeMap::new(),
            doubts: Doubts::default(),
            replaced: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many stand in this way.
    pub(super) fn counted(&self, standing: Standing) -> usize {
        self.counts[standing as usize]
    }

    /// How many stand in one of these ways.
    pub(super) fn counted_if(&self, is_one: impl Fn(Standing) -> bool) -> usize {
        let ways = Standing::ALL.into_iter().filter(|standing| is_one(*standing));
        ways.map(|standing| self.counted(standing)).sum()
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let free = self.free.capacity() * size_of::<u32>();
        let due = self.due.len() * DUE_BYTES;
        let replaced = self.replaced.capacity() * size_of::<(u64, Pending)>();
        self.slab.bytes()
            + self.index.bytes()
            + self.doubts.bytes()
            + (free + due + replaced) as u64
    }

    /// What has an id of this partition.
    pub(super) fn get(&self, id: u128) -> Option<&Pending> {
        self.find(PendingKey::own(EventId(id)))
    }

    /// The same, unless it has ended and only another partition may not know.
    pub(super) fn unended(&self, id: u128) -> Option<&Pending> {
        self.get(id).filter(|pending| pending.standing != Standing::Ended)
    }

    /// The side here of another partition's reservation.
    pub(super) fn held(&self, home: PartitionId, id: EventId) -> Option<&Pending> {
        self.find(PendingKey::of(home, id)).filter(|pending| pending.standing == Standing::Held)
    }

    /// Something of another partition's event is here.
    pub(super) fn has_of(&self, home: PartitionId, id: EventId) -> bool {
        let key = PendingKey::of(home, id);
        let spaces = [KeySpace::Event, KeySpace::Outcome];
        spaces.into_iter().any(|space| self.find(PendingKey { space, ..key }).is_some())
    }

    pub(super) fn find(&self, key: PendingKey) -> Option<&Pending> {
        let is_it = |slot: &u32| self.slab.get(*slot).is(key);
        let slot = self.index.get(hash_of_event_id(key.id), is_it)?;
        Some(self.slab.get(*slot))
    }

    /// What the record at `offset` has left in doubt, or has ended, so that another partition is to be told.
    pub(super) fn unsettled(&self, id: u128, offset: u64) -> Option<&Pending> {
        let is_it = |pending: &Pending| {
            let standing = pending.standing;
            let is_unsettled = standing.is_in_doubt() || standing.is_told();
            let is_announced = standing == Standing::Announcing; // to several
            pending.id == id && pending.offset == offset && is_unsettled && !is_announced
        };
        let slot = self.index.get(hash_of_event_id(id), |&slot| is_it(self.slab.get(slot)))?;
        Some(self.slab.get(*slot))
    }

    /// Something is under way from the stripe in a slot to another one.
    pub(super) fn gives(&self, stripe: u32) -> bool {
        self.giving.contains_key(&stripe)
    }

    /// What a word speaks of, if that was told to all other partitions.
    pub(super) fn announced(&self, word: &Word) -> Option<&Pending> {
        let other = u16::try_from(word.pending_id.0).ok()?.checked_sub(1).map(PartitionId);
        let space = KeySpace::Striped(word.place);
        self.find(PendingKey { id: word.id.0, home: other, space }).filter(|it| it.other() == other)
    }

    /// Something under an id was not taken by all other partitions yet, as far as is known here.
    pub(super) fn is_announced(&self, id: u128) -> bool {
        let is_it = |slot: &u32| {
            let pending = self.slab.get(*slot);
            pending.id == id && pending.standing == Standing::Announcing
        };
        self.counted(Standing::Announcing) > 0
            && self.index.get(hash_of_event_id(id), is_it).is_some()
    }

    /// Adds one whose key is not there yet.
    pub(super) fn insert(&mut self, pending: Pending) {
        let slot = if let Some(slot) = self.free.pop() {
            *self.slab.get_mut(slot) = pending;
            slot
        } else {
            self.slab.push(pending)
        };
        let slab = &self.slab;
        self.index.insert(hash_of_event_id(pending.id), slot, |&slot| {
            hash_of_event_id(slab.get(slot).id)
        });
        self.counts[pending.standing as usize] += 1;
        if pending.standing == Standing::Giving {
            *self.giving.entry(pending.debit).or_default() += 1;
        }
        if let Some(at) = pending.due_at() {
            self.due.insert((at, pending.offset, slot));
        }
        if let Some(other) = pending.sent_to() {
            self.doubts.open(other, pending.offset, slot);
        }
    }

    /// Removes one, as if it had never existed.
    pub(super) fn remove(&mut self, key: PendingKey) -> Pending {
        let pending = self.take(key);
        if let Some(other) = pending.sent_to() {
            self.doubts.forget(other, pending.offset);
        }
        pending
    }

    fn take(&mut self, key: PendingKey) -> Pending {
        let hash = hash_of_event_id(key.id);
        let slot = self.index.remove(hash, |&slot| self.slab.get(slot).is(key));
        let slot = slot.expect("the reservation is there");
        let pending = std::mem::take(self.slab.get_mut(slot));
        self.free.push(slot);
        self.counts[pending.standing as usize] -= 1;
        if pending.standing == Standing::Giving
            && let Entry::Occupied(mut given) = self.giving.entry(pending.debit)
        {
            *given.get_mut() -= 1;
            if *given.get() == 0 {
                given.remove();
            }
        }
        debug_assert!(self.free.len() + self.index.len() == self.slab.len() as usize);
        if let Some(at) = pending.due_at() {
            self.due.remove(&(at, pending.offset, slot));
        }
        pending
    }

    /// The record at `offset` has made `new` of one, which has the same key, or nothing. That can be taken back until
    /// released.
    pub(super) fn replace(&mut self, key: PendingKey, offset: u64, new: Option<Pending>) {
        let newest = self.replaced.back().map(|(newest, _)| *newest);
        debug_assert!(newest.is_none_or(|newest| newest <= offset), "{offset} after {newest:?}");
        let old = self.take(key);
        if let Some(other) = old.sent_to() {
            self.doubts.settle(other, old.offset, offset);
        }
        if let Some(new) = new {
            debug_assert_eq!(new.key(), key);
            self.insert(new);
        }
        self.replaced.push_back((offset, old));
    }

    /// Takes back the newest thing that the record at `offset` has made of another; what is there again. `None` if there
    /// is no more.
    pub(super) fn restore_replaced(&mut self, offset: u64) -> Option<Pending> {
        let (_, old) = self.replaced.pop_back_if(|(at, _)| *at == offset)?;
        if self.find(old.key()).is_some() {
            self.remove(old.key());
        }
        self.insert(old);
        Some(old)
    }

    /// Records below `offset` will not be undone.
    pub(super) fn release(&mut self, offset: u64) {
        while self.replaced.front().is_some_and(|(replaced_at, _)| *replaced_at < offset) {
            self.replaced.pop_front();
        }
        self.doubts.release(offset);
    }

    /// Id of the reservation that is due first, if it is due at `timestamp`.
    pub(super) fn due(&self, timestamp: u64) -> Option<u128> {
        let (expires_at, _, slot) = self.due.first()?;
        (*expires_at <= timestamp).then(|| self.slab.get(*slot).id)
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.due.first().map(|(expires_at, ..)| *expires_at)
    }

    /// Those on which other partitions have the last word.
    pub(super) fn in_doubt(&self) -> &Doubts {
        &self.doubts
    }

    /// All of a snapshot's are there.
    pub(super) fn restored(&mut self) {
        self.doubts.sort();
    }

    /// Those on which another partition has the last word, below an offset, oldest first.
    pub(super) fn doubts(&self, other: PartitionId, below: u64) -> impl Iterator<Item = &Pending> {
        self.doubts.slots(other, below).map(|slot| self.slab.get(slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.slab.iter_from(0).filter(|pending| pending.id != 0)
    }
}

/// What the digest takes of a reservation, in bytes, if nothing is named in it.
pub(super) const PENDING_BYTES: usize = 64;
/// Where what is named stands behind that.
const NAMED_BYTES: usize = 16;
/// Size of a reservation in a snapshot in bytes: the same, and the fingerprint.
pub(super) const PENDING_ITEM_BYTES: usize = PENDING_BYTES + NAMED_BYTES + 8;
/// Where the fingerprint stands in it.
pub(super) const FINGERPRINT_AT: usize = PENDING_BYTES + NAMED_BYTES;

/// What the digest takes of a reservation in a snapshot: a state where nothing spans partitions has the digest that it
/// always had.
pub(super) fn digested(item: &[u8]) -> &[u8] {
    let (plain, named) = item.split_at(PENDING_BYTES);
    let is_named = named[..NAMED_BYTES].iter().any(|byte| *byte != 0);
    if is_named { &item[..PENDING_BYTES + NAMED_BYTES] } else { plain }
}

impl Pending {
    /// As in a snapshot.
    pub(super) fn to_item(self) -> [u8; PENDING_ITEM_BYTES] {
        let mut item = [0; PENDING_ITEM_BYTES];
        item[..16].copy_from_slice(&self.id.to_le_bytes());
        item[16..32].copy_from_slice(&self.amount.to_le_bytes());
        item[32..40].copy_from_slice(&self.expires_at.to_le_bytes());
        item[40..48].copy_from_slice(&self.offset.to_le_bytes());
        item[48..52].copy_from_slice(&self.debit.to_le_bytes());
        item[52..56].copy_from_slice(&self.credit.to_le_bytes());
        item[56..58].copy_from_slice(&self.code.to_le_bytes());
        item[58..60].copy_from_slice(&self.other.to_le_bytes());
        item[60] = self.standing as u8;
        item[61] = self.link.0;
        item[PENDING_BYTES..FINGERPRINT_AT].copy_from_slice(&self.named.to_le_bytes());
        item[FINGERPRINT_AT..].copy_from_slice(&self.fingerprint.to_le_bytes());
        item
    }
}
