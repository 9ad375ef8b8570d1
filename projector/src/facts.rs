//! What happened, record by record of an entry. Pure. Needs no state, because verdicts and
//! effective amounts are in the log.

use walengine_net::entry::{EntryError, EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{
    Account, Amount, Close, Code, Event, EventKind, Guard, LedgerId, Offset, PartitionId, Resolved,
    Timestamp, Transfer, TransferFlags, Verdict, event_id, event_kind,
};

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
    /// Its log time.
    pub time: Timestamp,
    /// What happened.
    pub fact: Fact<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// An account was created.
    Created(Account),
    /// Money was moved, reserved or released.
    Moved(Movement),
    /// A guard held.
    Guarded(Guard),
    /// An account was closed or reopened.
    Closed(Close),
    /// An opaque record was accepted.
    Opaque {
        /// Its id.
        id: u128,
        /// Its bytes.
        data: &'a [u8],
    },
    /// An event was refused, and changed nothing.
    Refused(Refusal<'a>),
}

/// A refused event.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Its id; 0 if it has none.
    pub id: u128,
    /// Its kind in one word.
    pub kind: &'static str,
    /// Why.
    pub verdict: Verdict,
    /// Its bytes as they were sent.
    pub body: &'a [u8],
    /// Decoded, if it is a transfer.
    pub transfer: Option<Transfer>,
}

/// Kind of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovementKind {
    /// Money moved.
    Transfer,
    /// Money was reserved.
    Pending,
    /// A reservation was posted: money moved.
    Post,
    /// A reservation was voided.
    Void,
    /// A reservation expired.
    Expire,
}

impl MovementKind {
    /// Its name in the SQL type `transfer_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Pending => "pending",
            Self::Post => "post",
            Self::Void => "void",
            Self::Expire => "expire",
        }
    }
}

/// Money that was moved, reserved or released.
#[derive(Clone, Copy, Debug)]
pub struct Movement {
    /// Its kind.
    pub kind: MovementKind,
    /// The event; an expiry has only the `pending_id`.
    pub transfer: Transfer,
    /// Account whose debits changed.
    pub debit: u128,
    /// Account whose credits changed.
    pub credit: u128,
    /// The amount.
    pub amount: Amount,
    /// Ledger of both accounts.
    pub ledger: LedgerId,
    /// The user's code.
    pub code: Code,
}

/// Calls `each` for every record of an entry, in order of offset. The caller has checked the body
/// against the header.
pub fn for_each<'a, E: From<EntryError>>(
    header: &EntryHeader,
    body: &'a [u8],
    mut each: impl FnMut(Record<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let record = |index: u32, fact| Record {
        partition: header.meta.partition,
        offset: header.meta.base_offset.plus(u64::from(index)),
        time: Timestamp(header.meta.timestamp.0.saturating_add(u64::from(index))),
        fact,
    };
    match header.meta.kind {
        EntryKind::Events => {
            let body = access_events(body)?;
            if body.events.len() != header.meta.records as usize {
                return Err(EntryError::Body.into());
            }
            let mut resolved = body.resolved.iter().map(Resolved::from_bytes).peekable();
            for ((event, &number), index) in
                body.events.iter().zip(body.verdicts.iter()).zip(0u32..)
            {
                let effective = resolved.next_if(|resolved| resolved.index == index);
                let verdict = Verdict::from_number(number).ok_or(EntryError::Body)?;
                each(record(index, fact_of(event, verdict, effective)?))?;
            }
            // A resolution out of order, or past the last event.
            if resolved.next().is_some() {
                return Err(EntryError::Body.into());
            }
        }
        EntryKind::Records => {
            let body = access_records(body)?;
            if body.heads.len() != header.meta.records as usize {
                return Err(EntryError::Body.into());
            }
            let mut rest = body.blob.as_slice();
            for ((head, &number), index) in body.heads.iter().zip(body.verdicts.iter()).zip(0u32..)
            {
                let bytes = head.bytes.to_native() as usize;
                let (data, behind) = rest.split_at_checked(bytes).ok_or(EntryError::Body)?;
                rest = behind;
                let id = head.id.to_native();
                let verdict = Verdict::from_number(number).ok_or(EntryError::Body)?;
                let fact = if verdict.is_ok() {
                    Fact::Opaque { id, data }
                } else {
                    let (kind, transfer) = ("record", None);
                    Fact::Refused(Refusal { id, kind, verdict, body: data, transfer })
                };
                each(record(index, fact))?;
            }
        }
        EntryKind::Blank | EntryKind::Membership if header.meta.records == 0 => {}
        EntryKind::Blank | EntryKind::Membership => return Err(EntryError::Body.into()),
    }
    Ok(())
}

fn fact_of(
    bytes: &[u8; 128],
    verdict: Verdict,
    effective: Option<Resolved>,
) -> Result<Fact<'_>, EntryError> {
    if !verdict.is_ok() {
        let kind = event_kind(bytes);
        let transfer = (kind == Ok(EventKind::Transfer)).then(|| Transfer::from_bytes(bytes));
        return Ok(Fact::Refused(Refusal {
            id: event_id(bytes),
            kind: kind.map_or("unknown", kind_name),
            verdict,
            body: bytes,
            transfer,
        }));
    }
    let event = Event::from_bytes(bytes).map_err(|_| EntryError::Body)?;
    Ok(match event {
        Event::Account(account) => Fact::Created(account),
        Event::Guard(guard) => Fact::Guarded(guard),
        Event::Close(close) => Fact::Closed(close),
        Event::Transfer(transfer) => Fact::Moved(movement(transfer, effective)?),
        Event::Expire(expire) => {
            let transfer = Transfer { pending_id: expire.pending_id, ..Transfer::default() };
            let effective = effective.ok_or(EntryError::Body)?;
            Fact::Moved(resolved(MovementKind::Expire, transfer, effective))
        }
    })
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Transfer => "transfer",
        EventKind::Account => "account",
        EventKind::Guard => "guard",
        EventKind::Expire => "expire",
        EventKind::Close => "close",
    }
}

fn movement(transfer: Transfer, effective: Option<Resolved>) -> Result<Movement, EntryError> {
    let has = |flag| transfer.flags.contains(flag);
    let kind = if has(TransferFlags::POST_PENDING) {
        MovementKind::Post
    } else if has(TransferFlags::VOID_PENDING) {
        MovementKind::Void
    } else if has(TransferFlags::PENDING) {
        MovementKind::Pending
    } else {
        MovementKind::Transfer
    };
    match effective {
        Some(effective) => Ok(resolved(kind, transfer, effective)),
        // Only a transfer whose own fields say everything has no resolution.
        None if matches!(kind, MovementKind::Post | MovementKind::Void) => Err(EntryError::Body),
        None => {
            let Transfer { debit_account_id, credit_account_id, amount, ledger, code, .. } =
                transfer;
            let (debit, credit) = (debit_account_id.0, credit_account_id.0);
            Ok(Movement { kind, transfer, debit, credit, amount, ledger, code })
        }
    }
}

fn resolved(kind: MovementKind, transfer: Transfer, effective: Resolved) -> Movement {
    let Resolved { debit_account_id, credit_account_id, amount, ledger, code, .. } = effective;
    let (debit, credit) = (debit_account_id.0, credit_account_id.0);
    Movement { kind, transfer, debit, credit, amount, ledger, code }
}
