//! An entry's body into a ledger: the one place, for replicas that follow and for restarts.

use walengine_net::entry::{EntryKind, access_events, access_records};
use walengine_net::model::{Offset, Timestamp};

use super::older_ids::Wanted;
use crate::ledger::{Disagreement, Ledger};

/// Why an entry can't be applied. This replica must stop serving: it knows no state any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The body is not one of a batch.
    #[error("the body of the batch at offset {0} can't be read")]
    Malformed(Offset),
    /// This replica comes to other verdicts than the leader did.
    #[error("this replica and the log disagree: {0}")]
    Disagreement(#[from] Disagreement),
}

/// Applies the body of one entry, deriving its verdicts again. Blank entries and memberships say nothing
/// to a ledger.
///
/// # Errors
/// The body is malformed, or this program derives another verdict. The ledger must not be used then.
pub fn apply_body(
    ledger: &mut Ledger,
    kind: EntryKind,
    base_offset: Offset,
    timestamp: Timestamp,
    body: &[u8],
) -> Result<(), ApplyError> {
    let malformed = |_| ApplyError::Malformed(base_offset);
    match kind {
        EntryKind::Events => {
            let body = access_events(body).map_err(malformed)?;
            Ok(ledger.apply_events(base_offset, timestamp, body)?)
        }
        EntryKind::Records => {
            let body = access_records(body).map_err(malformed)?;
            Ok(ledger.apply_records(base_offset, timestamp, body)?)
        }
        EntryKind::Blank | EntryKind::Membership => Ok(()),
    }
}

/// What must be looked up before an entry's body can be applied; nothing if it can't be read, which applying
/// it says.
pub fn unknown_in(ledger: &Ledger, kind: EntryKind, body: &[u8]) -> Vec<Wanted> {
    match kind {
        EntryKind::Events => access_events(body).map_or_else(
            |_| Vec::new(),
            |body| {
                let events = body.events.as_slice();
                Wanted::of_events(ledger.unknown(events), events)
            },
        ),
        EntryKind::Records => access_records(body).map_or_else(
            |_| Vec::new(),
            |body| {
                let ids = body.heads.iter().map(|head| head.id.to_native());
                Wanted::of_records(ledger.unknown_records(ids))
            },
        ),
        EntryKind::Blank | EntryKind::Membership => Vec::new(),
    }
}
