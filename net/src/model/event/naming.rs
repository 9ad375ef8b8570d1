//! Names of accounts and descriptions of ledgers to bytes and back.

use super::bytes::{array_at, put, put_tail, u32_at, u128_at};
use super::{
    Describe, DescribeFlags, EVENT_BYTES, EventBytes, EventKind, Name, NameFlags, NameText,
    event_flags,
};
use crate::model::{AccountId, Code, EventId, LedgerId};

const TEXT_AT: usize = 32;
const SCALE_AT: usize = 16;

impl Name {
    /// Encodes. Bytes that a name does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put(&mut bytes, TEXT_AT, &self.name.to_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Name, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a name does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            name: NameText::from_bytes(array_at(bytes, TEXT_AT)),
            flags: NameFlags(event_flags(bytes)),
        }
    }
}

impl Describe {
    /// Encodes. Bytes that a description does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        bytes[SCALE_AT] = self.scale;
        put(&mut bytes, TEXT_AT, &self.name.to_bytes());
        put_tail(&mut bytes, self.ledger, Code(0), EventKind::Describe, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a description does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            ledger: LedgerId(u32_at(bytes, 112)),
            name: NameText::from_bytes(array_at(bytes, TEXT_AT)),
            scale: bytes[SCALE_AT],
            flags: DescribeFlags(event_flags(bytes)),
        }
    }
}
