//! What was decided and is not yet an entry.

use std::ops::Deref;

use walengine_net::entry::{EventsBody, RecordsBody};
use walengine_net::model::{Offset, Timestamp};

use super::limits::TIMESTAMP_MAX;
use super::{At, Ledger};

macro_rules! draft {
    ($(#[$doc:meta])* $name:ident($body:ident, $items:ident)) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            /// The body of the future entry; also reachable through `Deref`.
            pub body: $body,
            /// Offset of its first record.
            pub base_offset: Offset,
            /// Log time of its first record; record `i` has this plus `i`.
            pub timestamp: Timestamp,
            /// Log time of the record before the first, for undoing this draft.
            pub previous_timestamp: Timestamp,
        }

        impl Deref for $name {
            type Target = $body;
            fn deref(&self) -> &$body {
                &self.body
            }
        }

        impl $name {
            /// An empty draft.
            pub fn new() -> Self {
                Self::default()
            }

            /// Number of records.
            pub fn len(&self) -> usize {
                self.body.$items.len()
            }

            /// Nothing has been logged into it.
            pub fn is_empty(&self) -> bool {
                self.body.$items.is_empty()
            }

            /// Log time of its next record.
            pub(super) fn next_time(&self, ledger: &Ledger, now: Timestamp) -> Timestamp {
                let earliest = Timestamp(ledger.last_timestamp + 1);
                if self.is_empty() { earliest.max(now.min(TIMESTAMP_MAX)) } else { earliest }
            }

            /// Opens an empty draft at the ledger's tail. A filled draft must end there.
            pub(super) fn open(&mut self, ledger: &Ledger, now: Timestamp) -> At {
                if self.is_empty() {
                    self.base_offset = ledger.next_offset();
                    self.previous_timestamp = ledger.last_timestamp();
                    self.timestamp = self.next_time(ledger, now);
                }
                let at = self.at();
                assert!(
                    at.offset == ledger.next_offset
                        && (self.is_empty() || at.timestamp == ledger.last_timestamp + 1),
                    "the draft ends at {}, the ledger at {}",
                    at.offset,
                    ledger.next_offset,
                );
                at
            }

            pub(super) fn at(&self) -> At {
                let first = At {
                    offset: self.base_offset.0,
                    timestamp: self.timestamp.0,
                    index: 0,
                };
                first.plus(self.len())
            }
        }
    };
}

draft! {
    /// Decided events on their way into one entry. Reuse it: [`Draft::clear`] keeps its memory.
    Draft(EventsBody, events)
}
draft! {
    /// Decided opaque records on their way into one entry. Reuse it: [`RecordsDraft::clear`] keeps
    /// its memory.
    RecordsDraft(RecordsBody, heads)
}

impl Draft {
    /// Empties it; the memory stays.
    pub fn clear(&mut self) {
        self.body.events.clear();
        self.body.verdicts.clear();
        self.body.resolved.clear();
    }

    /// Takes the body out and leaves an empty draft of the same capacity.
    pub fn take(&mut self) -> EventsBody {
        let empty = EventsBody {
            events: Vec::with_capacity(self.body.events.capacity()),
            verdicts: Vec::with_capacity(self.body.verdicts.capacity()),
            resolved: Vec::with_capacity(self.body.resolved.capacity()),
        };
        std::mem::replace(&mut self.body, empty)
    }

    /// Bytes of events, verdicts and resolutions; the encoded body has a few dozen more.
    pub fn body_bytes(&self) -> usize {
        size_of_val(self.body.events.as_slice())
            + self.body.verdicts.len()
            + size_of_val(self.body.resolved.as_slice())
    }
}

impl RecordsDraft {
    /// Empties it; the memory stays.
    pub fn clear(&mut self) {
        self.body.heads.clear();
        self.body.verdicts.clear();
        self.body.blob.clear();
    }

    /// Takes the body out and leaves an empty draft of the same capacity.
    pub fn take(&mut self) -> RecordsBody {
        let empty = RecordsBody {
            heads: Vec::with_capacity(self.body.heads.capacity()),
            verdicts: Vec::with_capacity(self.body.verdicts.capacity()),
            blob: Vec::with_capacity(self.body.blob.capacity()),
        };
        std::mem::replace(&mut self.body, empty)
    }

    /// Bytes of heads, verdicts and blob; the encoded body has a few dozen more.
    pub fn body_bytes(&self) -> usize {
        /// Encoded size: id, expected offset, length; no padding.
        const HEAD_BYTES: usize = 28;
        self.body.heads.len() * HEAD_BYTES + self.body.verdicts.len() + self.body.blob.len()
    }
}
