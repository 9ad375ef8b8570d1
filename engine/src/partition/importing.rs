//! Taking over another cluster's log: its entries keep their log times, verdicts and resolutions, and
//! each is decided again before it is logged.
//!
//! The mode is in the log itself: every imported entry but the last says in its body that more is to
//! come (FORMAT.md, section 3). While the newest entry at the tail says so, the partition takes no
//! other writes and ends no reservation by the clock, after a restart and under another leader too.
//!
//! ```text
//!  log        e1 ───── e2 ───── crash, or another leader ───── e3 ───── last ──── ordinary entries
//!  its body   more     more                                    more     end
//!  the mode       │◀────── imports only, nothing expires by the clock ──────▶│
//! ```
//!
//! Without the mode, what is due by the clock would be written between e2 and e3, at a log time past
//! that of e3, and the rest could not be taken any more. And half a ledger would decide on balances
//! that it does not have yet.

use walengine_net::entry::is_amid_import;
use walengine_net::message::{ArchivedImportLog, ContentToImport, EntryToImport, ImportState};
use walengine_net::model::{Offset, Timestamp};

use super::Partition;
use super::commit::Commit;
use super::older_ids::Wanted;
use crate::ledger::Ledger;
use crate::refused::{BUSY_READING, Refused};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::ReadError;
use crate::storage::log::Log;

/// What became of a request to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportReport {
    /// Whether its entries were taken.
    pub state: ImportState,
    /// Where the log goes on. It may be told when the tail is visible.
    pub next_offset: Offset,
    /// This node's clock.
    pub now: Timestamp,
    /// Details for people.
    pub message: String,
}

impl<C: Commit> Partition<C> {
    /// An import is under way: nothing else is taken.
    pub fn is_importing(&self) -> bool {
        self.with_replica(super::replica::Replica::is_importing)
    }

    /// Whether entries of another cluster's log could be taken now.
    ///
    /// # Errors
    /// As of [`Self::import_log`].
    pub fn may_import(&self) -> Result<(), Refused> {
        self.require_memory()?;
        self.admit_any()
    }

    /// Takes entries of another cluster's log, in order, as far as there is room.
    ///
    /// # Errors
    /// See [`Refused`]; nothing was taken.
    pub fn import_log(&self, request: &ArchivedImportLog<'_>) -> Result<ImportReport, Refused> {
        self.may_import()?;
        if !self.with_replica(|replica| replica.open().is_empty()) {
            self.seal()?;
        }
        let wall = self.runtime().now();
        let now = self.agreement().put_right(wall).unwrap_or(wall);
        let next_offset = self.with_ledger(crate::ledger::Ledger::next_offset);
        let mut report =
            ImportReport { state: ImportState::Taken, next_offset, now, message: String::new() };
        if request.base_offset.to_native() != next_offset.0 {
            report.state = ImportState::OtherOffset;
            return Ok(report);
        }
        let mut left = request.entries.len();
        for entry in request.each() {
            left -= 1;
            let is_last = left == 0 && request.is_last != 0;
            let (timestamp, previous) = (Timestamp(entry.timestamp), self.last_timestamp());
            if timestamp <= previous || timestamp > now {
                report.state = ImportState::OtherTime;
                report.message = format!(
                    "log time {timestamp} lies not between the log's newest, {previous}, and this \
                     node's clock, {now}"
                );
                break;
            }
            let unknown = self.with_ledger(|ledger| unknown_in_import(ledger, &entry));
            if !unknown.is_empty() {
                self.look_up(unknown);
                if report.next_offset == next_offset {
                    return Err(BUSY_READING);
                }
                break; // the rest is sent again
            }
            let decided = self.inner.replica.borrow_mut().decide_import(&entry, is_last);
            match decided {
                None => return Err(self.not_leader()),
                Some(Err(why)) => {
                    report.state = ImportState::Differs;
                    report.message = why.to_string();
                    break;
                }
                Some(Ok(())) => {}
            }
            report.next_offset = self.with_ledger(crate::ledger::Ledger::next_offset);
            if self.seal().is_err() {
                break; // it stays in the draft until there is room, and nothing goes behind it
            }
        }
        self.inner.commit.flush();
        self.inner.work.notify_all();
        Ok(report)
    }

    fn last_timestamp(&self) -> Timestamp {
        self.with_ledger(crate::ledger::Ledger::last_timestamp)
    }
}

fn unknown_in_import(ledger: &Ledger, entry: &EntryToImport<'_>) -> Vec<Wanted> {
    match entry.content {
        ContentToImport::Events(events, _) => Wanted::of_events(ledger.unknown(events), events),
        ContentToImport::Records(heads, _) => {
            let ids = heads.iter().map(|head| head.id.to_native());
            Wanted::of_records(ledger.unknown_records(ids))
        }
    }
}

/// Whether the entry in front of `next_offset`, the newest that was applied, says that an import is
/// under way.
///
/// # Errors
/// The log can't be read there.
pub async fn was_importing<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    next_offset: Offset,
) -> Result<bool, ReadError> {
    let Some(newest) = next_offset.0.checked_sub(1).map(Offset) else { return Ok(false) };
    let index = log.find_offset(newest).await?;
    let bytes = log.read(index, 1).await?;
    let body = bytes.get(walengine_net::entry::HEADER_BYTES..).unwrap_or_default();
    Ok(is_amid_import(body))
}
