//! Reads of what accounts and ledgers are called. Lives on the connection's shard core; not `Send`.

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::limits::LEDGERS_MAX;
use walengine_net::message::{
    FindNames, FindNamesReply, Freshness, LedgerRow, ListLedgers, ListLedgersReply, LookupNames,
    LookupNamesReply, MessageError, open_frame,
};
use walengine_net::model::{AccountId, LedgerId, NAME_BYTES_MAX};
use walengine_replication::budget::Held;

use super::bounded::{lacks_to_read, may_see};
use super::replies::Replies;
use crate::connection::errors::put_forbidden;
use crate::ledger::{Described, Ledger};
use crate::limits::LIST_LOOK_MAX;
use crate::partition::commit::Commit;
use crate::policy::{Permit, Rights};

/// What one name takes in an answer: the name, and an id or a place.
const NAMED_BYTES: usize = NAME_BYTES_MAX + size_of::<u128>();

/// How fresh the state must be for such a request, and the most that its answer takes.
pub fn asked(frame: &Frame<'_>) -> Result<(Freshness, usize), MessageError> {
    Ok(match frame.kind {
        Kind::LookupNames => {
            let request = open_frame::<LookupNames<'_>>(frame)?;
            (request.freshness(), request.ids.len() * NAMED_BYTES)
        }
        Kind::FindNames => {
            let request = open_frame::<FindNames<'_>>(frame)?;
            (request.freshness(), request.limit.to_native() as usize * NAMED_BYTES)
        }
        _ => {
            let request = open_frame::<ListLedgers>(frame)?;
            (request.freshness(), LEDGERS_MAX * size_of::<LedgerRow>())
        }
    })
}

/// Answers such a request.
pub fn answer<C: Commit>(
    replies: &Replies<C>,
    permit: &Permit,
    frame: &Frame<'_>,
    head: FrameHead,
    held: Held,
    bounded: Option<&Rights>,
) -> Result<(), MessageError> {
    match frame.kind {
        Kind::LookupNames => {
            let request = open_frame::<LookupNames<'_>>(frame)?;
            let ids = request.ids.iter().map(|id| AccountId(id.to_native()));
            lookup_names(replies, permit, head, held, ids, bounded);
        }
        Kind::FindNames => {
            let request = open_frame::<FindNames<'_>>(frame)?;
            // The request was checked.
            let prefix = std::str::from_utf8(&request.prefix).unwrap_or_default();
            let (after, limit) = (request.after.to_native(), request.limit.to_native());
            find_names(replies, head, held, prefix, after, limit as usize, bounded);
        }
        _ => {
            let (next_offset, ledgers) = replies.partition.with_ledger(|ledger| {
                let row = |(LedgerId(ledger), described): (_, Described)| LedgerRow {
                    ledger,
                    scale: described.scale,
                    name: described.text.to_bytes(),
                };
                (ledger.next_offset().0, ledger.described().map(row).collect::<Vec<_>>())
            });
            let reply = ListLedgersReply { next_offset, ledgers: &ledgers };
            replies.put_read_when_visible(Kind::ListLedgersReply, head, &reply, held);
        }
    }
    Ok(())
}

fn lookup_names<C: Commit>(
    replies: &Replies<C>,
    permit: &Permit,
    head: FrameHead,
    held: Held,
    ids: impl Iterator<Item = AccountId> + Clone,
    bounded: Option<&Rights>,
) {
    if let Some(lacks) = lacks_to_read(bounded, ids.clone()) {
        if let Some(forbidden) = permit.forbidden(lacks) {
            put_forbidden(&replies.outbox, head, &forbidden);
        }
        return;
    }
    let (mut found, mut names) = (Vec::new(), Vec::new());
    let next_offset = replies.partition.with_ledger(|ledger| {
        for (id, place) in ids.zip(0..) {
            if let Some(name) = ledger.name(id).filter(|_| is_seen(bounded, ledger, id)) {
                found.push(place);
                names.push(name.to_bytes());
            }
        }
        ledger.next_offset().0
    });
    let reply = LookupNamesReply { next_offset, found: &found, names: &names };
    replies.put_read_when_visible(Kind::LookupNamesReply, head, &reply, held);
}

fn find_names<C: Commit>(
    replies: &Replies<C>,
    head: FrameHead,
    held: Held,
    prefix: &str,
    after: u128,
    limit: usize,
    bounded: Option<&Rights>,
) {
    let (mut ids, mut names, mut next_cursor) = (Vec::new(), Vec::new(), 0);
    let next_offset = replies.partition.with_ledger(|ledger| {
        let mut looked = 0;
        let mut behind = after;
        for (place, named) in ledger.names_from(prefix, after) {
            // Those that are left out make a page shorter, or none of it in the end.
            if names.len() == limit || looked == LIST_LOOK_MAX {
                next_cursor = behind;
                break;
            }
            (behind, looked) = (place, looked + 1);
            if let Some(named) = named.filter(|it| is_seen(bounded, ledger, it.account)) {
                ids.push(named.account.0);
                names.push(named.text.to_bytes());
            }
        }
        ledger.next_offset().0
    });
    let reply = FindNamesReply { next_offset, next_cursor, ids: &ids, names: &names };
    replies.put_read_when_visible(Kind::FindNamesReply, head, &reply, held);
}

/// The caller may see this account.
fn is_seen(bounded: Option<&Rights>, ledger: &Ledger, id: AccountId) -> bool {
    bounded.is_none() || ledger.account(id).is_some_and(|account| may_see(bounded, &account))
}
