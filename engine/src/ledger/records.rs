//! Opaque records: bytes for other uses of the log, under the same rules for ids.

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::model::{Offset, Timestamp, Verdict};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::limits::RECORD_BYTES_MAX;
use super::slot::{PendingState, Slot};
use super::{Ledger, Outcome, Outcomes, RecordsDraft};
use crate::ids::key::{Key, Space};

/// Hash of the head's fields in the order of their declaration, little-endian, then of the bytes.
pub fn fingerprint(head: &RecordHead, bytes: &[u8]) -> u64 {
    let mut fixed = [0; 28];
    fixed[..16].copy_from_slice(&head.id.to_le_bytes());
    fixed[16..24].copy_from_slice(&head.expected_offset.to_le_bytes());
    fixed[24..].copy_from_slice(&head.bytes.to_le_bytes());
    xxh3_64_with_seed(bytes, xxh3_64(&fixed))
}

fn check(head: &RecordHead) -> Result<(), Verdict> {
    match head {
        RecordHead { id: 0, .. } => Err(Verdict::IdZero),
        RecordHead { id: u128::MAX, .. } => Err(Verdict::IdMax),
        RecordHead { bytes, .. } if *bytes > RECORD_BYTES_MAX => Err(Verdict::RecordTooLarge),
        RecordHead { .. } => Ok(()),
    }
}

impl Ledger {
    /// Decides opaque records in order; `blob` holds their bytes, one after the other. Appends
    /// fresh records to `draft`, and one outcome for each record to `outcomes`.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail, or if the lengths do not add
    /// up to the blob, which the codec has checked.
    pub fn append_records(
        &mut self,
        heads: &[RecordHead],
        blob: &[u8],
        draft: &mut RecordsDraft,
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) {
        let bytes: u64 = heads.iter().map(|head| u64::from(head.bytes)).sum();
        assert!(bytes == blob.len() as u64, "heads of {bytes} bytes, blob of {}", blob.len());
        let mut at = draft.open(self, now);
        let mut rest = blob;
        for head in heads {
            let (bytes, behind) = rest.split_at(head.bytes as usize);
            rest = behind;
            let (outcome, logged) = self.decide_record(head, bytes, at.offset);
            outcomes.push(outcome);
            if logged {
                draft.body.heads.push(*head);
                draft.body.verdicts.push(outcome.verdict.number());
                draft.body.blob.extend_from_slice(bytes);
                at = at.plus(1);
                self.advance_to(at);
            }
        }
    }

    /// Returns the outcome, and whether the record is to be logged at `offset`.
    pub(super) fn decide_record(
        &mut self,
        head: &RecordHead,
        bytes: &[u8],
        offset: u64,
    ) -> (Outcome, bool) {
        if let Err(verdict) = check(head) {
            return (Outcome { verdict, offset: None }, false);
        }
        let key = Key::new(head.id, Space::Event);
        let fingerprint = fingerprint(head, bytes);
        if let Some(known) = self.ids.known(&key, fingerprint) {
            return (known.repeat(), false);
        }
        let expected = head.expected_offset == ANY_OFFSET || head.expected_offset == offset;
        let verdict = if expected { Verdict::Ok } else { Verdict::OffsetDiffers };
        let slot = Slot::new(&key, fingerprint, offset, verdict);
        self.ids.insert(&key, slot, PendingState::None);
        (Outcome { verdict, offset: Some(Offset(offset)) }, true)
    }
}
