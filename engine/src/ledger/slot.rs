//! What is remembered of one of the newest ids: in memory, and in a snapshot.

use walengine_net::model::{Decided, Offset, Verdict};

use super::limits::OFFSET_MAX;
use crate::ids::key::{Key, Space};

/// State of a transfer as a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PendingState {
    /// Not an accepted pending transfer.
    #[default]
    None,
    /// Reserves its amount.
    Open,
    /// Was posted.
    Posted,
    /// Was voided.
    Voided,
    /// Has expired.
    Expired,
    /// Was in doubt until another partition accepted it. It is no reservation.
    Settled,
    /// Was in doubt until another partition refused it.
    Refused(Verdict),
}

impl PendingState {
    const ENDED: [Self; 4] = [Self::Posted, Self::Voided, Self::Expired, Self::Settled];

    /// `None` if no state of a reservation that has ended has this number: that of a refusal is its verdict's.
    pub fn ended_from_number(number: u8) -> Option<Self> {
        if number >= Verdict::REFUSAL_MIN {
            return Verdict::from_number(number).map(Self::Refused);
        }
        Self::ENDED.into_iter().find(|state| state.number() == number)
    }

    /// Its number; not that of `None` or `Open` stands with an end.
    pub fn number(self) -> u8 {
        match self {
            Self::Refused(verdict) => verdict.number(),
            state => state.class(),
        }
    }

    /// The verdict on the transfer, once it has ended.
    pub fn verdict(self) -> Verdict {
        if let Self::Refused(verdict) = self { verdict } else { Verdict::Ok }
    }

    /// What the digest takes of it.
    fn class(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Open => 1,
            Self::Posted => 2,
            Self::Voided => 3,
            Self::Expired => 4,
            Self::Settled => 5,
            Self::Refused(_) => 6,
        }
    }
}

/// Size of a slot in bytes, in memory and in a snapshot.
pub(super) const SLOT_BYTES: usize = 32;
const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);
const CODE_AT: u32 = 48;
const SPACE_AT: u32 = 56;
const UNUSED_AT: u32 = 58;

/// One of the newest ids. `packed`: bits 0–47 offset, 48–55 code, 56–57 space. The code is the first verdict; of a
/// resolution the state of the reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    id: u128,
    pub fingerprint: u64,
    packed: u64,
}

impl Slot {
    pub(super) fn new(key: &Key, fingerprint: u64, offset: u64, verdict: Verdict) -> Self {
        Self::with_code(key, fingerprint, offset, verdict.number())
    }

    pub(super) fn with_code(key: &Key, fingerprint: u64, offset: u64, code: u8) -> Self {
        assert!(offset <= OFFSET_MAX, "offset {offset} past 2^48");
        let packed = offset | u64::from(code) << CODE_AT | (key.space as u64) << SPACE_AT;
        Self { id: key.id, fingerprint, packed }
    }

    fn space_number(&self) -> u8 {
        (self.packed >> SPACE_AT) as u8
    }

    pub(super) fn key(&self) -> Key {
        let space = Space::from_number(self.space_number());
        Key::new(self.id, space.expect("a slot is checked before it is stored"))
    }

    #[inline]
    pub(super) fn is(&self, key: &Key) -> bool {
        self.id == key.id && self.space_number() == key.space as u8
    }

    pub(super) fn hash(&self) -> u64 {
        self.key().hash
    }

    /// Forgets its id: no key has it any more.
    pub(super) fn clear(&mut self) {
        self.id = 0;
    }

    pub(super) fn is_removed(&self) -> bool {
        self.id == 0
    }

    pub(super) fn offset(&self) -> u64 {
        self.packed & OFFSET_MAX
    }

    pub(super) fn code(&self) -> u8 {
        (self.packed >> CODE_AT) as u8
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict::from_number(self.code()).expect("a slot is checked before it is stored")
    }

    /// The answer to a sender that repeats this id with the same body.
    pub(super) fn decided(&self) -> Decided {
        Decided { verdict: self.verdict(), offset: Some(Offset(self.offset())) }
    }

    /// What the digest takes of an id: the slot, and in bits 57–59 of its last word the state of a reservation.
    pub(super) fn remembered(&self, state: PendingState) -> [u8; SLOT_BYTES] {
        const STATE_AT: u32 = 57;
        Self { packed: self.packed | u64::from(state.class()) << STATE_AT, ..*self }.to_bytes()
    }

    pub(super) fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[24..].copy_from_slice(&self.packed.to_le_bytes());
        bytes
    }

    /// `None` unless code, space and unused bits are those of a slot.
    pub(super) fn from_bytes(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let id = u128::from(word(0)?) | u128::from(word(8)?) << 64;
        let slot = Self { id, fingerprint: word(16)?, packed: word(24)? };
        let possible = match Space::from_number(slot.space_number() & 3)? {
            Space::Resolution => {
                PendingState::ended_from_number(slot.code()).is_some() && slot.fingerprint == 0
            }
            Space::Event | Space::Account => !Verdict::from_number(slot.code())?.is_malformed(),
        };
        (possible && slot.packed >> UNUSED_AT == 0 && id != 0).then_some(slot)
    }
}
