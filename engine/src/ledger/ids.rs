//! Every id that was ever decided, with its first verdict: 32 bytes each in a [`Table`].

use walengine_net::model::{Decided, Offset, Verdict};

use super::limits::OFFSET_MAX;
use super::table::Table;

/// State of a transfer as a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PendingState {
    /// Not an accepted pending transfer.
    #[default]
    None = 0,
    /// Reserves its amount.
    Open = 1,
    /// Was posted.
    Posted = 2,
    /// Was voided.
    Voided = 3,
    /// Has expired.
    Expired = 4,
}

impl PendingState {
    fn from_number(number: u64) -> Option<Self> {
        [Self::None, Self::Open, Self::Posted, Self::Voided, Self::Expired]
            .into_iter()
            .find(|state| *state as u64 == number)
    }
}

/// An id with its namespace and hash. Accounts and events are two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub id: u128,
    pub account: bool,
    pub hash: u64,
}

impl Key {
    pub(super) fn new(id: u128, account: bool) -> Self {
        Self { id, account, hash: hash_of_id(id, account) }
    }
}

/// Two folded multiplications. Sequential, random and `UUIDv7` ids all spread over all 64 bits.
#[inline]
pub(super) fn hash_of_id(id: u128, account: bool) -> u64 {
    let space = if account { 0xa076_1d64_78bd_642f } else { 0xe703_7ed1_a0b4_28db };
    let low = fold(id as u64 ^ 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3);
    fold((id >> 64) as u64 ^ low ^ space, 0x1d8e_4e27_c47d_124f)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Size of a slot in bytes, in memory and in a snapshot.
pub(super) const SLOT_BYTES: usize = 32;
const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);
const VERDICT_AT: u32 = 48;
const ACCOUNT_BIT: u64 = 1 << 56;
const STATE_AT: u32 = 57;
const STATE_MASK: u64 = 7 << STATE_AT;

/// One remembered id. `packed`: bits 0–47 offset, 48–55 verdict, 56 account, 57–59 pending state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    id: u128,
    fingerprint: u64,
    packed: u64,
}

impl Slot {
    pub(super) fn new(
        key: &Key,
        fingerprint: u64,
        offset: u64,
        verdict: Verdict,
        state: PendingState,
    ) -> Self {
        assert!(offset <= OFFSET_MAX, "offset {offset} past 2^48");
        let account = if key.account { ACCOUNT_BIT } else { 0 };
        let packed = offset
            | u64::from(verdict.number()) << VERDICT_AT
            | account
            | (state as u64) << STATE_AT;
        Self { id: key.id, fingerprint, packed }
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.id, self.packed & ACCOUNT_BIT != 0)
    }

    fn is(&self, key: &Key) -> bool {
        self.id == key.id && (self.packed & ACCOUNT_BIT != 0) == key.account
    }

    fn hash(&self) -> u64 {
        hash_of_id(self.id, self.packed & ACCOUNT_BIT != 0)
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(super) fn offset(&self) -> u64 {
        self.packed & OFFSET_MAX
    }

    pub(super) fn verdict(&self) -> Verdict {
        let number = (self.packed >> VERDICT_AT) as u8;
        Verdict::from_number(number).expect("a slot is checked before it is stored")
    }

    pub(super) fn state(&self) -> PendingState {
        PendingState::from_number((self.packed & STATE_MASK) >> STATE_AT)
            .expect("a slot is checked before it is stored")
    }

    fn set_state(&mut self, state: PendingState) {
        self.packed = self.packed & !STATE_MASK | (state as u64) << STATE_AT;
    }

    /// As it was when the reservations in `open`, in order of id, were the open ones: a reservation may
    /// have been ended since, and one that was ended is not opened again.
    pub(super) fn as_at_cut(mut self, open: &[u128]) -> Self {
        if self.state() != PendingState::None && open.binary_search(&self.id).is_ok() {
            self.set_state(PendingState::Open);
        }
        self
    }

    /// The answer to a sender that repeats this id with the same body.
    pub(super) fn decided(&self) -> Decided {
        Decided { verdict: self.verdict(), offset: Some(Offset(self.offset())) }
    }

    pub(super) fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[24..].copy_from_slice(&self.packed.to_le_bytes());
        bytes
    }

    /// `None` unless verdict, state and unused bits are those of a slot.
    pub(super) fn from_bytes(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let id = u128::from(word(0)?) | u128::from(word(8)?) << 64;
        let slot = Self { id, fingerprint: word(16)?, packed: word(24)? };
        let verdict = Verdict::from_number((slot.packed >> VERDICT_AT) as u8)?;
        let state = PendingState::from_number((slot.packed & STATE_MASK) >> STATE_AT)?;
        let unused = slot.packed >> (STATE_AT + 3) != 0;
        let pending = state != PendingState::None;
        let impossible = pending && (!verdict.is_ok() || slot.packed & ACCOUNT_BIT != 0);
        (!unused && !impossible && !verdict.is_malformed() && id != 0).then_some(slot)
    }
}

/// All remembered ids.
pub(super) struct Ids {
    table: Table<Slot>,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { table: Table::new() }
    }

    pub(super) fn with_room_for(ids: u64) -> Self {
        Self { table: Table::with_parts_for(ids) }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(super) fn prefetch_block(&self, hash: u64) {
        self.table.prefetch_block(hash);
    }

    #[inline]
    pub(super) fn prefetch_tags(&self, hash: u64) {
        self.table.prefetch_tags(hash);
    }

    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u64) {
        self.table.prefetch_slot(hash);
    }

    #[inline]
    pub(super) fn get(&self, key: &Key) -> Option<&Slot> {
        self.table.get(key.hash, |slot| slot.is(key))
    }

    /// Remembers an id that is not known yet.
    #[inline]
    pub(super) fn insert(&mut self, key: &Key, slot: Slot) {
        self.table.insert(key.hash, slot, Slot::hash);
    }

    /// Remembers an id unless it is known; false if it is. Only for ids of which none was ever
    /// forgotten.
    #[inline]
    pub(super) fn insert_if_new(&mut self, key: &Key, slot: Slot) -> bool {
        self.table.insert_if_new(key.hash, slot, |known| known.is(key), Slot::hash)
    }

    /// Replaces what is remembered of a known id.
    pub(super) fn replace(&mut self, key: &Key, slot: Slot) {
        *self.table.get_mut(key.hash, |slot| slot.is(key)).expect("the id is known") = slot;
    }

    pub(super) fn set_state(&mut self, event_id: u128, state: PendingState) {
        let key = Key::new(event_id, false);
        let slot = self.table.get_mut(key.hash, |slot| slot.is(&key));
        slot.expect("a pending transfer's id is known").set_state(state);
    }

    /// Forgets an id if its record is the one at `offset`.
    pub(super) fn forget(&mut self, key: &Key, offset: u64) {
        self.table.remove(key.hash, |slot| slot.is(key) && slot.offset() == offset);
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.table.values()
    }

    /// First hash after the part of the table that `hash` falls in.
    pub(super) fn part_end(&self, hash: u64) -> u128 {
        self.table.part_end(hash)
    }

    /// Ids whose hash is at least `from` and below `to`, which must be in the same part.
    pub(super) fn range(&self, from: u64, to: u128) -> impl Iterator<Item = &Slot> {
        self.table.part_values(from).filter(move |slot| {
            let hash = slot.hash();
            hash >= from && u128::from(hash) < to
        })
    }
}
