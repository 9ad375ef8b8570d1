//! Events to bytes and back.

use super::{
    Account, AccountFlags, Arrival, Close, CloseFlags, Describe, EVENT_BYTES, Event, EventBytes,
    EventKind, Expire, FLAG_LINKED, Guard, GuardFlags, Mail, Name, RESOLVED_BYTES, Resolved,
    ResolvedBytes, Sent, Transfer, TransferFlags, Word,
};
use crate::model::{AccountId, Amount, Code, EventId, LedgerId, PartitionId, Timestamp, Verdict};

const KIND_SHIFT: u32 = 12;
const FLAGS_MASK: u16 = (1 << KIND_SHIFT) - 1;

/// Id of an event, without decoding the rest.
pub fn event_id(bytes: &EventBytes) -> u128 {
    u128_at(bytes, 0)
}

/// Kind of an event. `Err` holds an unknown number.
pub fn event_kind(bytes: &EventBytes) -> Result<EventKind, u8> {
    let number = (u16_at(bytes, 118) >> KIND_SHIFT) as u8;
    EventKind::try_from(number).map_err(|unknown| unknown.number)
}

/// Flags of an event without its kind.
pub fn event_flags(bytes: &EventBytes) -> u16 {
    u16_at(bytes, 118) & FLAGS_MASK
}

fn flags_of(kind: EventKind, flags: u16) -> u16 {
    (flags & FLAGS_MASK) | (u16::from(kind as u8) << KIND_SHIFT)
}

impl Account {
    /// The account of what is under way between a partition and this other one, as it is created.
    pub fn in_transit(other: PartitionId, ledger: LedgerId) -> Self {
        let id = AccountId::in_transit(other, ledger);
        Self { id, ledger, code: Code::IN_TRANSIT, ..Self::default() }
    }

    /// Encodes as a creation request or as a state. Bytes 0–127 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.debits_pending.0.to_le_bytes());
        put(&mut bytes, 32, &self.debits_posted.0.to_le_bytes());
        put(&mut bytes, 48, &self.credits_pending.0.to_le_bytes());
        put(&mut bytes, 64, &self.credits_posted.0.to_le_bytes());
        put(&mut bytes, 80, &self.user_data_128.to_le_bytes());
        put(&mut bytes, 96, &self.user_data_64.to_le_bytes());
        put(&mut bytes, 104, &self.version.to_le_bytes());
        put_tail(&mut bytes, self.ledger, self.code, EventKind::Account, self.flags.0);
        put(&mut bytes, 120, &self.timestamp.0.to_le_bytes());
        bytes
    }

    /// Decodes. The kind in the flags is ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: AccountId(u128_at(bytes, 0)),
            debits_pending: Amount(u128_at(bytes, 16)),
            debits_posted: Amount(u128_at(bytes, 32)),
            credits_pending: Amount(u128_at(bytes, 48)),
            credits_posted: Amount(u128_at(bytes, 64)),
            user_data_128: u128_at(bytes, 80),
            user_data_64: u64_at(bytes, 96),
            version: u64_at(bytes, 104),
            ledger: LedgerId(u32_at(bytes, 112)),
            code: Code(u16_at(bytes, 116)),
            flags: AccountFlags(event_flags(bytes)),
            timestamp: Timestamp(u64_at(bytes, 120)),
        }
    }
}

impl Transfer {
    /// The time of business, in microseconds since 1970 (UTC), below 0 before that; `None` without
    /// [`TransferFlags::BOOKED`]. The user's own: the ledger has no rule about it.
    pub fn booked_micros(&self) -> Option<i64> {
        self.flags.contains(TransferFlags::BOOKED).then_some(self.user_data_64.cast_signed())
    }

    /// Its amount is an upper limit.
    pub fn is_balancing(&self) -> bool {
        let balancing = TransferFlags::BALANCING_DEBIT.with(TransferFlags::BALANCING_CREDIT);
        self.flags.intersects(balancing)
    }

    /// Encodes. Bytes 0–127 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.debit_account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.credit_account_id.0.to_le_bytes());
        put(&mut bytes, 48, &self.amount.0.to_le_bytes());
        put(&mut bytes, 64, &self.pending_id.0.to_le_bytes());
        put(&mut bytes, 80, &self.user_data_128.to_le_bytes());
        put(&mut bytes, 96, &self.user_data_64.to_le_bytes());
        put(&mut bytes, 104, &self.user_data_32.to_le_bytes());
        put(&mut bytes, 108, &self.timeout_seconds.to_le_bytes());
        put_tail(&mut bytes, self.ledger, self.code, EventKind::Transfer, self.flags.0);
        put(&mut bytes, 120, &self.timestamp.0.to_le_bytes());
        bytes
    }

    /// Decodes. The kind in the flags is ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            debit_account_id: AccountId(u128_at(bytes, 16)),
            credit_account_id: AccountId(u128_at(bytes, 32)),
            amount: Amount(u128_at(bytes, 48)),
            pending_id: EventId(u128_at(bytes, 64)),
            user_data_128: u128_at(bytes, 80),
            user_data_64: u64_at(bytes, 96),
            user_data_32: u32_at(bytes, 104),
            timeout_seconds: u32_at(bytes, 108),
            ledger: LedgerId(u32_at(bytes, 112)),
            code: Code(u16_at(bytes, 116)),
            flags: TransferFlags(event_flags(bytes)),
            timestamp: Timestamp(u64_at(bytes, 120)),
        }
    }
}

impl Guard {
    /// Encodes. Bytes that a guard does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.available.0.to_le_bytes());
        put(&mut bytes, 48, &self.version.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Guard, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a guard does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            available: Amount(u128_at(bytes, 32)),
            version: u64_at(bytes, 48),
            flags: GuardFlags(event_flags(bytes)),
        }
    }
}

impl Expire {
    /// Encodes. The id and the bytes that an expiry does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 64, &self.pending_id.0.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Expire, 0);
        bytes
    }

    /// Decodes. Bytes that an expiry does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self { pending_id: EventId(u128_at(bytes, 64)) }
    }
}

impl Close {
    /// Encodes. Bytes that a close does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Close, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a close does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            flags: CloseFlags(event_flags(bytes)),
        }
    }
}

impl Mail {
    /// Encodes. Bytes that mail does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 96, &self.previous.to_le_bytes());
        put(&mut bytes, 104, &self.settled_below.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(self.home.0), EventKind::Mail, 0);
        bytes
    }

    /// Decodes. Bytes that mail does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            home: PartitionId(u16_at(bytes, 116)),
            previous: u64_at(bytes, 96),
            settled_below: u64_at(bytes, 104),
        }
    }
}

impl Sent {
    /// As it was sent to its home, but for what home has put in.
    pub fn to_bytes(&self) -> EventBytes {
        match self {
            Self::Transfer(transfer) => transfer.to_bytes(),
            Self::Guard(guard) => guard.to_bytes(),
            Self::Word(word) => word.to_bytes(),
            Self::Account(account) => account.to_bytes(),
            Self::Close(close) => close.to_bytes(),
        }
    }

    /// Its id; 0 of the end of a reservation that has none.
    pub fn id(&self) -> EventId {
        match self {
            Self::Transfer(transfer) => transfer.id,
            Self::Guard(guard) => guard.id,
            Self::Word(word) => word.id,
            Self::Account(account) => EventId(account.id.0),
            Self::Close(close) => close.id,
        }
    }

    /// The transfer; `None` if it is anything else.
    pub fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::Transfer(transfer) => Some(transfer),
            Self::Guard(_) | Self::Word(_) | Self::Account(_) | Self::Close(_) => None,
        }
    }

    /// A striped account, or its closing: what its home has decided, and every other partition does, too.
    pub fn is_for_all(&self) -> bool {
        matches!(self, Self::Account(_) | Self::Close(_))
    }
}

impl Arrival {
    /// This and the next one are of the same chain.
    pub fn is_linked(&self) -> bool {
        match &self.sent {
            Sent::Transfer(transfer) => transfer.flags.contains(TransferFlags::LINKED),
            Sent::Guard(guard) => guard.flags.contains(GuardFlags::LINKED),
            Sent::Word(word) => word.is_linked,
            Sent::Account(_) | Sent::Close(_) => false,
        }
    }

    /// Encodes: what was sent, with the place where a timestamp would be.
    pub fn to_bytes(&self) -> EventBytes {
        let (mut bytes, kind) = match &self.sent {
            Sent::Transfer(transfer) => (transfer.to_bytes(), EventKind::Arrival),
            Sent::Guard(guard) => (guard.to_bytes(), EventKind::GuardArrival),
            Sent::Word(word) => (word.to_bytes(), EventKind::WordArrival),
            Sent::Account(account) => (account.to_bytes(), EventKind::AccountArrival),
            Sent::Close(close) => (close.to_bytes(), EventKind::CloseArrival),
        };
        let flags = event_flags(&bytes);
        put(&mut bytes, 118, &flags_of(kind, flags).to_le_bytes());
        put(&mut bytes, 120, &self.place.to_le_bytes());
        bytes
    }

    /// Decodes; `None` if it is of no kind that arrives, or a word that says nothing that is known. Bytes that its kind does
    /// not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Option<Self> {
        let sent = match event_kind(bytes) {
            Ok(EventKind::Arrival) => {
                Sent::Transfer(Transfer { timestamp: Timestamp(0), ..Transfer::from_bytes(bytes) })
            }
            Ok(EventKind::GuardArrival) => Sent::Guard(Guard::from_bytes(bytes)),
            Ok(EventKind::WordArrival) => Sent::Word(Word::from_bytes(bytes)?),
            Ok(EventKind::AccountArrival) => {
                Sent::Account(Account { timestamp: Timestamp(0), ..Account::from_bytes(bytes) })
            }
            Ok(EventKind::CloseArrival) => Sent::Close(Close::from_bytes(bytes)),
            _ => return None,
        };
        Some(Self { sent, place: u64_at(bytes, 120) })
    }
}

impl Word {
    /// Encodes. Bytes that a word does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 48, &self.amount.0.to_le_bytes());
        put(&mut bytes, 64, &self.id.0.to_le_bytes());
        put(&mut bytes, 80, &self.pending_id.0.to_le_bytes());
        put(&mut bytes, 96, &self.place.to_le_bytes());
        let verdict = Code(self.verdict.number().into());
        let flags = if self.is_linked { FLAG_LINKED } else { 0 };
        put_tail(&mut bytes, LedgerId(0), verdict, EventKind::Word, flags);
        bytes
    }

    /// Decodes, also from one that has arrived; `None` if no verdict has its number. Bytes that a word does not use are
    /// ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Option<Self> {
        let verdict = u8::try_from(u16_at(bytes, 116)).ok().and_then(Verdict::from_number)?;
        Some(Self {
            id: EventId(u128_at(bytes, 64)),
            place: u64_at(bytes, 96),
            verdict,
            amount: Amount(u128_at(bytes, 48)),
            pending_id: EventId(u128_at(bytes, 80)),
            is_linked: event_flags(bytes) & FLAG_LINKED != 0,
        })
    }
}

impl Resolved {
    /// Encodes. Bytes 0–63 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> ResolvedBytes {
        let mut bytes = [0; RESOLVED_BYTES];
        put(&mut bytes, 0, &self.debit_account_id.0.to_le_bytes());
        put(&mut bytes, 16, &self.credit_account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.amount.0.to_le_bytes());
        put(&mut bytes, 48, &self.index.to_le_bytes());
        put(&mut bytes, 52, &self.ledger.0.to_le_bytes());
        put(&mut bytes, 56, &self.code.0.to_le_bytes());
        bytes
    }

    /// Decodes. The last six bytes are ignored.
    pub fn from_bytes(bytes: &ResolvedBytes) -> Self {
        Self {
            debit_account_id: AccountId(u128_at(bytes, 0)),
            credit_account_id: AccountId(u128_at(bytes, 16)),
            amount: Amount(u128_at(bytes, 32)),
            index: u32_at(bytes, 48),
            ledger: LedgerId(u32_at(bytes, 52)),
            code: Code(u16_at(bytes, 56)),
        }
    }
}

impl Event {
    /// Encodes any kind of event.
    pub fn to_bytes(&self) -> EventBytes {
        match self {
            Self::Account(event) => event.to_bytes(),
            Self::Transfer(event) => event.to_bytes(),
            Self::Guard(event) => event.to_bytes(),
            Self::Expire(event) => event.to_bytes(),
            Self::Close(event) => event.to_bytes(),
            Self::Mail(event) => event.to_bytes(),
            Self::Arrival(event) => event.to_bytes(),
            Self::Word(event) => event.to_bytes(),
            Self::Name(event) => event.to_bytes(),
            Self::Describe(event) => event.to_bytes(),
        }
    }

    /// Decodes. `Err` holds the number of an unknown kind, or of a word's kind if it says nothing that is known.
    pub fn from_bytes(bytes: &EventBytes) -> Result<Self, u8> {
        let kind = event_kind(bytes)?;
        Ok(match kind {
            EventKind::Account => Self::Account(Account::from_bytes(bytes)),
            EventKind::Transfer => Self::Transfer(Transfer::from_bytes(bytes)),
            EventKind::Guard => Self::Guard(Guard::from_bytes(bytes)),
            EventKind::Expire => Self::Expire(Expire::from_bytes(bytes)),
            EventKind::Close => Self::Close(Close::from_bytes(bytes)),
            EventKind::Mail => Self::Mail(Mail::from_bytes(bytes)),
            EventKind::Name => Self::Name(Name::from_bytes(bytes)),
            EventKind::Describe => Self::Describe(Describe::from_bytes(bytes)),
            EventKind::Word => Self::Word(Word::from_bytes(bytes).ok_or(kind as u8)?),
            EventKind::Arrival
            | EventKind::GuardArrival
            | EventKind::WordArrival
            | EventKind::AccountArrival
            | EventKind::CloseArrival => {
                Self::Arrival(Arrival::from_bytes(bytes).ok_or(kind as u8)?)
            }
        })
    }
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(super) fn put_tail(
    bytes: &mut EventBytes,
    ledger: LedgerId,
    code: Code,
    kind: EventKind,
    flags: u16,
) {
    put(bytes, 112, &ledger.0.to_le_bytes());
    put(bytes, 116, &code.0.to_le_bytes());
    put(bytes, 118, &flags_of(kind, flags).to_le_bytes());
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(super) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::super::{DescribeFlags, NameFlags, NameText};
    use super::*;

    #[test]
    fn every_kind_survives_its_bytes() {
        let account = Account {
            id: AccountId(1),
            debits_pending: Amount(2),
            debits_posted: Amount(3),
            credits_pending: Amount(4),
            credits_posted: Amount(5),
            user_data_128: 6,
            user_data_64: 7,
            version: 8,
            ledger: LedgerId(9),
            code: Code(10),
            flags: AccountFlags::CLOSED,
            timestamp: Timestamp(11),
        };
        let transfer = Transfer {
            id: EventId(u128::MAX),
            debit_account_id: AccountId(2),
            credit_account_id: AccountId(3),
            amount: Amount(4),
            pending_id: EventId(5),
            user_data_128: 6,
            user_data_64: 7,
            user_data_32: 8,
            timeout_seconds: 9,
            ledger: LedgerId(10),
            code: Code(11),
            flags: TransferFlags::ALL,
            timestamp: Timestamp(12),
        };
        let guard = Guard {
            id: EventId(1),
            account_id: AccountId(2),
            available: Amount(3),
            version: 4,
            flags: GuardFlags::ALL,
        };
        let close = Close { id: EventId(1), account_id: AccountId(2), flags: CloseFlags::REOPEN };
        let word = Word {
            id: EventId(7),
            place: 8,
            verdict: Verdict::ExceedsDebits,
            amount: Amount(9),
            pending_id: EventId(10),
            is_linked: true,
        };
        for event in [
            Event::Account(account),
            Event::Transfer(transfer),
            Event::Guard(guard),
            Event::Expire(Expire { pending_id: EventId(7) }),
            Event::Close(close),
            Event::Mail(Mail { home: PartitionId(3), previous: 4, settled_below: 5 }),
            Event::Arrival(Arrival {
                sent: Sent::Transfer(Transfer { timestamp: Timestamp(0), ..transfer }),
                place: 6,
            }),
            Event::Arrival(Arrival { sent: Sent::Guard(guard), place: 7 }),
            Event::Word(word),
            Event::Arrival(Arrival { sent: Sent::Word(word), place: 11 }),
            Event::Arrival(Arrival {
                sent: Sent::Account(Account { timestamp: Timestamp(0), ..account }),
                place: 12,
            }),
            Event::Arrival(Arrival { sent: Sent::Close(close), place: 13 }),
            Event::Name(Name {
                id: EventId(1),
                account_id: AccountId(2),
                name: NameText::new("Anna").unwrap(),
                flags: NameFlags::LINKED,
            }),
            Event::Describe(Describe {
                id: EventId(1),
                ledger: LedgerId(840),
                name: NameText::new("USD").unwrap(),
                scale: 2,
                flags: DescribeFlags::RESCALE,
            }),
        ] {
            assert_eq!(Event::from_bytes(&event.to_bytes()), Ok(event));
        }
        let resolved = Resolved {
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(3),
            index: 4,
            ledger: LedgerId(5),
            code: Code(6),
        };
        assert_eq!(Resolved::from_bytes(&resolved.to_bytes()), resolved);
    }

    #[test]
    fn unknown_kind_is_told() {
        let mut bytes = Transfer::default().to_bytes();
        bytes[119] = 0xf0;
        assert_eq!(Event::from_bytes(&bytes), Err(15));
    }
}
