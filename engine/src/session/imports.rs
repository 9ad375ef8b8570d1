//! Requests of `export` and `import`: a digest of the state, and entries of another cluster's log.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::limits::ERROR_TEXT_BYTES_MAX;
use walengine_net::message::{
    ArchivedImportLog, ErrorCode, ImportLogReply, ImportState, StateDigestReply, bounded,
};

use super::replies::Replies;
use crate::audit::{Begun, Order, Outcome};
use crate::caller::Caller;
use crate::limits::READS_INFLIGHT_MAX;
use crate::partition::commit::Commit;
use crate::partition::digest::{Digested, digest};
use crate::partition::importing::ImportReport;
use crate::refused::{BUSY, Refused};

/// Answers [`Kind::StateDigest`] when the state has been gone through.
pub fn state_digest<C: Commit>(replies: &Replies<C>, head: FrameHead, hold: Duration) {
    if replies.outbox.reads() >= READS_INFLIGHT_MAX {
        return replies.outbox.put_busy(head);
    }
    let answering = replies.clone();
    let outbox = replies.outbox.clone();
    outbox.begin_read();
    replies.partition.spawn(|_| async move {
        answer_digest(&answering, head, hold).await;
        outbox.finish_read();
    });
}

async fn answer_digest<C: Commit>(answering: &Replies<C>, head: FrameHead, hold: Duration) {
    let digested = match digest(&answering.partition, hold).await {
        Ok(digested) => digested,
        Err(refused) => return answering.put_refused(head, &refused),
    };
    let Digested { next_offset, last_timestamp, accounts, pendings, ids, .. } = digested;
    let reply = StateDigestReply {
        next_offset: next_offset.0,
        last_timestamp: last_timestamp.0,
        accounts,
        pendings,
        ids,
        is_importing: u8::from(digested.is_importing),
        digest: digested.digest,
    };
    answering.outbox.put(Kind::StateDigestReply, head, &reply);
}

/// The import of another cluster's log that comes by one connection, and its place in the trail of orders: a
/// line before its first entry is taken, and one when its last is, or when the connection ends amid it.
#[derive(Default)]
pub struct TracedImport(Rc<RefCell<Traced>>);

#[derive(Default)]
enum Traced {
    /// None has begun.
    #[default]
    No,
    /// Its first line is being written.
    Telling,
    /// It is written.
    Yes(Begun),
    /// It could not be written.
    Failed(String),
}

impl TracedImport {
    /// Answers [`Kind::ImportLog`] when what was taken is visible.
    ///
    /// # Errors
    /// Why nothing was taken: `Busy` while the line is being written.
    pub fn take<C: Commit>(
        &self,
        replies: &Replies<C>,
        caller: &Caller,
        head: FrameHead,
        request: &ArchivedImportLog<'_>,
    ) -> Result<(), Refused> {
        let traced = &mut *self.0.borrow_mut();
        match traced {
            Traced::Yes(_) => {}
            Traced::Telling => return Err(BUSY),
            Traced::No => {
                // Another node leads, or there is no room: nothing would be taken.
                replies.partition.may_import()?;
                *traced = Traced::Telling;
                let order = Order::new("import_log")
                    .with("partition", replies.partition.id().partition.0)
                    .with("from_offset", request.base_offset.to_native());
                self.tell(replies, caller.clone(), order);
                return Err(BUSY);
            }
            Traced::Failed(why) => {
                let message = format!("{why}; nothing was taken");
                replies.outbox.put_error(head, ErrorCode::StorageFull, &message);
                *traced = Traced::No;
                return Ok(());
            }
        }
        let report = import_log(replies, head, request)?;
        let is_over = match report.state {
            ImportState::Taken => {
                let events = request.verdicts.len() as u64;
                let end = request.base_offset.to_native().saturating_add(events);
                (report.next_offset.0 == end && request.is_last != 0).then_some(Outcome::Done)
            }
            ImportState::Differs => Some(Outcome::Refused),
            ImportState::OtherOffset | ImportState::OtherTime => None, // it is sent again
        };
        if let Some(outcome) = is_over
            && let Traced::Yes(begun) = std::mem::take(traced)
        {
            let next = report.next_offset;
            let message = match outcome {
                Outcome::Done => format!("up to offset {next}"),
                _ => format!("at offset {next}: {}", report.message),
            };
            begun.end(outcome, &message);
        }
        Ok(())
    }

    fn tell<C: Commit>(&self, replies: &Replies<C>, caller: Caller, order: Order) {
        let (traced, state) = (self.0.clone(), replies.node.state.clone());
        replies.partition.spawn(|partition| async move {
            let begun = state.audit.begin(partition.runtime(), &caller, order).await;
            *traced.borrow_mut() = match begun {
                Ok(begun) => Traced::Yes(begun),
                Err(why) => {
                    tracing::error!("an import was refused: {why}");
                    Traced::Failed(why.to_string())
                }
            };
            partition.changed().notify_all(); // the request waits for room in its connection
        });
    }
}

fn import_log<C: Commit>(
    replies: &Replies<C>,
    head: FrameHead,
    request: &ArchivedImportLog<'_>,
) -> Result<ImportReport, Refused> {
    let report = replies.partition.import_log(request)?;
    let reply = ImportLogReply {
        next_offset: report.next_offset.0,
        now: report.now.0,
        state: report.state as u8,
        message: bounded(&report.message, ERROR_TEXT_BYTES_MAX),
    };
    replies.put_when_visible(Kind::ImportLogReply, head, &reply);
    Ok(report)
}
