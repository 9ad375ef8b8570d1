//! A digest of a partition's state, made piece by piece while the partition goes on.

use std::time::Duration;

use walengine_net::model::{Offset, Timestamp};

use super::Partition;
use super::commit::Commit;
use crate::ledger::{Ledger, StateDigester};
use crate::limits::{DIGEST_PIECE_BYTES, SNAPSHOT_PIECE_PAUSE};
use crate::refused::{BUSY, Refused};
use crate::runtime::Runtime;

/// A state, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// It holds all records below this.
    pub next_offset: Offset,
    /// Log time of the newest.
    pub last_timestamp: Timestamp,
    /// Accounts.
    pub accounts: u64,
    /// Open reservations.
    pub pendings: u64,
    /// Ids.
    pub ids: u64,
    /// Its newest entry says that an import is under way.
    pub is_importing: bool,
    /// Equal for equal states.
    pub digest: [u8; 32],
}

/// The digest of the state at the tail, once that is visible. A leader's state includes everything
/// that was visible anywhere before the call. Waits for a snapshot that is being written. For
/// `hold` from that state on, nothing is exchanged with other partitions.
///
/// # Errors
/// See [`Refused`]; what was digested was taken back, or there is no room to seal it.
pub async fn digest<C: Commit>(
    partition: &Partition<C>,
    hold: Duration,
) -> Result<Digested, Refused> {
    if partition.leads() {
        partition.read_barrier().await?;
    }
    let progress = partition.snapshot_progress();
    while progress.is_under_way.replace(true) {
        go_on(partition)?;
        partition.runtime().sleep(SNAPSHOT_PIECE_PAUSE).await;
    }
    let digested = at_tail(partition, hold).await;
    progress.is_under_way.set(false);
    digested
}

/// # Errors
/// The partition ends, and nobody wants to wait for this.
fn go_on<C: Commit>(partition: &Partition<C>) -> Result<(), Refused> {
    if partition.is_ending() {
        return Err(partition.stopped().unwrap_or(Refused::ShuttingDown));
    }
    Ok(())
}

async fn at_tail<C: Commit>(partition: &Partition<C>, hold: Duration) -> Result<Digested, Refused> {
    let mut cut = partition.cut_at_tail().ok_or(BUSY)?.without_ids();
    partition.hold_exchange(hold);
    let mut digested = partition.with_ledger(|ledger| Digested {
        next_offset: cut.next_offset(),
        last_timestamp: cut.last_timestamp(),
        accounts: u64::from(ledger.accounts_len()),
        pendings: ledger.pendings_len() as u64,
        ids: ledger.ids_len(),
        is_importing: false,
        digest: [0; 32],
    });
    digested.is_importing = partition.is_importing();
    partition.until_visible().await?;
    let mut digester = StateDigester::default();
    let next = |cut: &mut crate::ledger::SnapshotCut, ledger: &Ledger| {
        cut.next_chunk(ledger, DIGEST_PIECE_BYTES)
    };
    while let Some(chunk) = partition.with_ledger(|ledger| next(&mut cut, ledger)) {
        go_on(partition)?;
        digester.push(&chunk);
        partition.runtime().sleep(SNAPSHOT_PIECE_PAUSE).await;
    }
    // Incomplete if what the cut holds was taken back meanwhile.
    digested.digest = digester.finish().ok_or(Refused::LeadershipLost)?;
    Ok(digested)
}
