//! What the records of an entry say happened. Pure; needs no state, because verdicts and effective
//! amounts stand in the log.

use walengine_net::entry::{EntryError, EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{
    Account, Amount, Close, Code, Event, EventKind, Guard, LedgerId, Offset, PartitionId, Resolved,
    Timestamp, Transfer, TransferFlags, Verdict, event_id, event_kind,
};

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its partition.
    pub partition: PartitionId,
    /// Its place there.
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
    /// An opaque record was taken.
    Opaque {
        /// Its name.
        id: u128,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Nothing: it was refused.
    Refused(Refusal<'a>),
}

/// An event that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Its name; 0 without.
    pub id: u128,
    /// Its kind in one word.
    pub kind: &'static str,
    /// Why.
    pub verdict: Verdict,
    /// As it was sent.
    pub body: &'a [u8],
    /// Decoded, if it is a transfer.
    pub transfer: Option<Transfer>,
}

/// What a movement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovementKind {
    /// Money moved.
    Transfer,
    /// Money was reserved.
    Pending,
    /// A reservation ended, and money moved.
    Post,
    /// A reservation was taken back.
    Void,
    /// A reservation's time was over.
    Expire,
}

impl MovementKind {
    /// As the type `transfer_kind` has it.
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
    /// What happened to it.
    pub kind: MovementKind,
    /// The event; of an expiry only `pending_id` counts.
    pub transfer: Transfer,
    /// Account whose debits changed.
    pub debit: u128,
    /// Account whose credits changed.
    pub credit: u128,
    /// How much.
    pub amount: Amount,
    /// Ledger of both accounts.
    pub ledger: LedgerId,
    /// Reason.
    pub code: Code,
}

/// Calls `each` for every record of an entry, in order of offset. The body was checked against its
/// header before.
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
            // Out of order, or beyond the events.
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
        // Only what says it all itself has no resolution.
        None if matches!(kind, MovementKind::Post | MovementKind::Void) => Err(EntryError::Body),
        None => Ok(Movement {
            kind,
            transfer,
            debit: transfer.debit_account_id.0,
            credit: transfer.credit_account_id.0,
            amount: transfer.amount,
            ledger: transfer.ledger,
            code: transfer.code,
        }),
    }
}

fn resolved(kind: MovementKind, transfer: Transfer, effective: Resolved) -> Movement {
    Movement {
        kind,
        transfer,
        debit: effective.debit_account_id.0,
        credit: effective.credit_account_id.0,
        amount: effective.amount,
        ledger: effective.ledger,
        code: effective.code,
    }
}
