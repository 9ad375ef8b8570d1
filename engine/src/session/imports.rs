//! Requests of `export` and `import`: a digest of the state, and entries of another cluster's log.

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::limits::ERROR_TEXT_BYTES_MAX;
use walengine_net::message::{ArchivedImportLog, ImportLogReply, StateDigestReply, bounded};

use super::replies::Replies;
use crate::limits::READS_INFLIGHT_MAX;
use crate::partition::commit::Commit;
use crate::partition::digest::{Digested, digest};
use crate::refused::Refused;

/// Answers [`Kind::StateDigest`] when the state has been gone through.
pub fn state_digest<C: Commit>(replies: &Replies<C>, head: FrameHead) {
    if replies.outbox.reads() >= READS_INFLIGHT_MAX {
        return replies.outbox.put_busy(head);
    }
    let answering = replies.clone();
    let outbox = replies.outbox.clone();
    outbox.begin_read();
    replies.partition.spawn(|_| async move {
        answer_digest(&answering, head).await;
        outbox.finish_read();
    });
}

async fn answer_digest<C: Commit>(answering: &Replies<C>, head: FrameHead) {
    let digested = match digest(&answering.partition).await {
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

/// Answers [`Kind::ImportLog`] when what was taken is visible.
///
/// # Errors
/// Why nothing was taken.
pub fn import_log<C: Commit>(
    replies: &Replies<C>,
    head: FrameHead,
    request: &ArchivedImportLog<'_>,
) -> Result<(), Refused> {
    let report = replies.partition.import_log(request)?;
    let reply = ImportLogReply {
        next_offset: report.next_offset.0,
        now: report.now.0,
        state: report.state as u8,
        message: bounded(&report.message, ERROR_TEXT_BYTES_MAX),
    };
    replies.put_when_visible(Kind::ImportLogReply, head, &reply);
    Ok(())
}
