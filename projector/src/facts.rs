//! What happened, record by record of an entry. Pure. Needs no state, because verdicts and
//! effective amounts are in the log. Only the word on a transfer to another partition does not repeat
//! what it ends: see [`crate::across::UnderWay`].

use walengine_net::entry::{EntryError, EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{
    Account, AccountId, Amount, Arrival, Close, Code, Describe, Event, EventBytes, EventKind,
    Guard, LedgerId, Mail, Name, Offset, PartitionId, Resolved, Sent, Timestamp, Transfer, Verdict,
    Word, event_id, event_kind,
};
use walengine_net::partition::of_sides;
use walengine_net::unit::{self, Path};

use crate::across::{Across, Arrived, Prepared, Sides, Source, is_gathering};
use crate::movement::MovementKind;

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
    /// An account was created; or the stripe of one here, as another partition has told.
    Created {
        /// The account.
        account: Account,
        /// The partition that has created it, if that is another one.
        home: Option<PartitionId>,
    },
    /// Money was moved, reserved or released.
    Moved(Movement),
    /// A transfer was prepared for another partition, at its home or in the midst of its chain: it is reserved.
    Prepared(Prepared),
    /// A transfer from another partition has arrived: it was moved or refused.
    Arrived(Arrived),
    /// What was prepared has ended, as the other partition has said.
    Ended {
        /// The word.
        word: Word,
        /// It changes nothing here. So it may be on a guard, which is nowhere under way, or say that the other partition
        /// knows of an outcome, or has its stripe of an account.
        may_be_known: bool,
    },
    /// What follows has arrived from another partition. Changes nothing.
    Mail,
    /// The other partition knows of the end of a reservation, or has handed a chain on; or a guard that the last one of
    /// its chain checks. Changes nothing.
    Known,
    /// A guard held.
    Guarded(Guard),
    /// An account was closed or reopened, or the stripe of one here.
    Closed(Close),
    /// An account was named.
    Named(Name),
    /// A ledger was described.
    Described(Describe),
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
    /// The partition that gave the word, if another one did.
    pub across: Option<Across>,
}

impl<'a> Refusal<'a> {
    /// What a word has refused.
    pub fn of_prepared(prepared: &'a Prepared, verdict: Verdict) -> Self {
        let kind = Some(EventKind::Transfer);
        Self { across: Some(prepared.across), ..refusal(&prepared.body, kind, verdict) }
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
    /// The partition that gave the word, if another one did.
    pub across: Option<Across>,
}

impl Movement {
    /// What a word has moved.
    pub fn settled(prepared: &Prepared, amount: Amount) -> Self {
        let Prepared { debit, credit, ledger, code, .. } = *prepared;
        let transfer = prepared.transfer();
        Self {
            kind: prepared.kind(),
            debit: debit.0,
            credit: credit.0,
            amount: prepared.settled(amount),
            ledger,
            code,
            across: Some(prepared.across),
            transfer,
        }
    }

    /// The accounts of this partition that it changed: instead of one that lives elsewhere, that of what is under way
    /// there. `None` if both do.
    pub fn parties(&self) -> Option<(u128, u128)> {
        let (debit, credit) = (self.debit, self.credit);
        match self.across {
            Some(across) => across.parties(debit, credit, self.ledger),
            None => Some((debit, credit)),
        }
    }
}

/// Calls `each` for every record of an entry, in order of offset. The caller has checked the body
/// against the header. The log has so many `partitions`.
pub fn for_each<'a, E: From<EntryError>>(
    header: &EntryHeader,
    body: &'a [u8],
    partitions: u16,
    mut each: impl FnMut(Record<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let at = |index: u32| {
        let time = Timestamp(header.meta.timestamp.0.saturating_add(u64::from(index)));
        (header.meta.base_offset.plus(u64::from(index)), time)
    };
    let record = |index: u32, fact| {
        let (offset, time) = at(index);
        Record { partition: header.meta.partition, offset, time, fact }
    };
    match header.meta.kind {
        EntryKind::Events => {
            let body = access_events(body)?;
            if body.events.len() != header.meta.records as usize {
                return Err(EntryError::Body.into());
            }
            let here = (header.meta.partition, partitions);
            let mut chains = Chains { here, ..Chains::default() };
            let mut resolved = body.resolved.iter().map(Resolved::from_bytes).peekable();
            for ((event, &number), index) in
                body.events.iter().zip(body.verdicts.iter()).zip(0u32..)
            {
                let effective = resolved.next_if(|resolved| resolved.index == index);
                let verdict = Verdict::from_number(number).ok_or(EntryError::Body)?;
                chains.enter(&body.events, index as usize, verdict);
                let fact = match (event_kind(event), verdict) {
                    (Ok(EventKind::Arrival), Verdict::InDoubt) => {
                        Fact::Prepared(passed_on(event, at(index), effective, &chains)?)
                    }
                    (Ok(EventKind::Arrival), _) => {
                        Fact::Arrived(arrived(event, verdict, effective, &chains)?)
                    }
                    (Ok(EventKind::GuardArrival), Verdict::Ok) => {
                        Fact::Guarded(Guard::from_bytes(event))
                    }
                    (Ok(EventKind::AccountArrival | EventKind::CloseArrival), Verdict::Ok) => {
                        announced(event, chains.mail)?
                    }
                    (Ok(EventKind::Transfer), Verdict::InDoubt) => {
                        Fact::Prepared(prepared(event, at(index), effective, &chains)?)
                    }
                    (Ok(EventKind::Guard | EventKind::GuardArrival), Verdict::InDoubt) => {
                        Fact::Known
                    }
                    (_, Verdict::InDoubt) => return Err(EntryError::Body.into()),
                    (_, Verdict::Ok) => accepted(event, effective, at(index).0, here)?,
                    (kind, _) => Fact::Refused(refusal(event, kind.ok(), verdict)),
                };
                each(record(index, fact))?;
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
                    let (kind, transfer, across) = ("record", None, None);
                    Fact::Refused(Refusal { id, kind, verdict, body: data, transfer, across })
                };
                each(record(index, fact))?;
            }
        }
        EntryKind::Blank | EntryKind::Membership if header.meta.records == 0 => {}
        EntryKind::Blank | EntryKind::Membership => return Err(EntryError::Body.into()),
    }
    Ok(())
}

/// The chain over several partitions that the records at hand are of.
#[derive(Default)]
struct Chains {
    /// The partition of the log, one of so many.
    here: (PartitionId, u16),
    /// Place behind its last record; 0 outside of a chain.
    end: usize,
    /// The way of that chain.
    path: Option<Path>,
    /// Whose mail was opened.
    mail: PartitionId,
}

impl Chains {
    /// The record at `place` is next.
    fn enter(&mut self, events: &[EventBytes], place: usize, verdict: Verdict) {
        if place >= self.end {
            (self.end, self.path) = (0, None);
            let kind = event_kind(&events[place]);
            let arrives = matches!(kind, Ok(EventKind::Arrival | EventKind::GuardArrival));
            if unit::is_linked(&events[place])
                && (arrives || verdict == Verdict::InDoubt)
                && let Some((length, path)) = unit::spanning_chain(&events[place..], self.here.1)
            {
                (self.end, self.path) = (place + length, Some(path));
            }
        }
        if event_kind(&events[place]) == Ok(EventKind::Mail) {
            self.mail = Mail::from_bytes(&events[place]).home;
        }
    }

    /// The partition that the chain is handed on to from here; `None` at the last one, and outside of a chain.
    fn next(&self) -> Option<PartitionId> {
        self.path.as_ref()?.after(self.here.0)
    }

    /// Where an arrival has come from.
    fn source(&self, place: u64) -> Source {
        let (home, place) = (self.mail, Offset(place));
        let origin = self.path.as_ref().map(|path| path.home).filter(|origin| *origin != home);
        Source { home, place, origin }
    }

    /// Which accounts live here, if the record is of a chain. The end of a reservation is at home with both.
    fn sides(&self, transfer: &Transfer) -> Option<Sides> {
        if self.end == 0 {
            return None;
        }
        let (here, partitions) = self.here;
        if unit::resolves(transfer) {
            let is_home = self.path.as_ref().is_some_and(|path| path.home == here);
            return Some(if is_home { Sides::Both } else { Sides::Neither });
        }
        Some(Sides::of(transfer, here, partitions))
    }
}

fn refusal(bytes: &EventBytes, kind: Option<EventKind>, verdict: Verdict) -> Refusal<'_> {
    let is_transfer = kind == Some(EventKind::Transfer);
    Refusal {
        id: event_id(bytes),
        kind: kind.map_or("unknown", kind_name),
        verdict,
        body: bytes,
        transfer: is_transfer.then(|| Transfer::from_bytes(bytes)),
        across: None,
    }
}

/// An accepted event of one of so many partitions.
fn accepted(
    bytes: &EventBytes,
    effective: Option<Resolved>,
    offset: Offset,
    (partition, partitions): (PartitionId, u16),
) -> Result<Fact<'_>, EntryError> {
    let sent = |movement: Movement| {
        // The other side of a reservation hears that it has ended.
        let (debit, credit) = (AccountId(movement.debit), AccountId(movement.credit));
        let [_, other] = partitions_of(&movement.transfer, debit, credit, partitions);
        let across =
            (other != partition).then_some(Across { other, prepared: offset, sides: None });
        Fact::Moved(Movement { across, ..movement })
    };
    let event = Event::from_bytes(bytes).map_err(|_| EntryError::Body)?;
    Ok(match event {
        Event::Account(account) => Fact::Created { account, home: None },
        Event::Guard(guard) => Fact::Guarded(guard),
        Event::Close(close) => Fact::Closed(close),
        Event::Name(name) => Fact::Named(name),
        Event::Describe(describe) => Fact::Described(describe),
        Event::Transfer(transfer) => sent(movement(transfer, effective)?),
        Event::Expire(expire) => {
            let transfer = Transfer { pending_id: expire.pending_id, ..Transfer::default() };
            let effective = effective.ok_or(EntryError::Body)?;
            sent(resolved(MovementKind::Expire, transfer, effective))
        }
        Event::Mail(_) => Fact::Mail,
        Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. }) => {
            let effective = effective.ok_or(EntryError::Body)?;
            // Only the end of a reservation that asked nobody has no id of its own.
            let is_told = word.id.0 == 0;
            let is_handed_on = word.verdict == Verdict::InDoubt;
            let nothing = (AccountId(0), Amount(0));
            let may_be_known = (effective.debit_account_id, effective.amount) == nothing;
            let changes_nothing = is_told || is_handed_on;
            if changes_nothing { Fact::Known } else { Fact::Ended { word, may_be_known } }
        }
        Event::Arrival(_) => return Err(EntryError::Body), // see `arrived` and `announced`
    })
}

/// What the home of a striped account has told all other partitions.
fn announced(bytes: &EventBytes, home: PartitionId) -> Result<Fact<'_>, EntryError> {
    match Arrival::from_bytes(bytes) {
        Some(Arrival { sent: Sent::Account(account), .. }) if account.id.is_striped() => {
            Ok(Fact::Created { account, home: Some(home) })
        }
        Some(Arrival { sent: Sent::Close(close), .. }) => Ok(Fact::Closed(close)),
        _ => Err(EntryError::Body),
    }
}

/// Partitions of the two accounts of a transfer. These may not stand in it, if it is the end of a reservation.
fn partitions_of(
    transfer: &Transfer,
    debit: AccountId,
    credit: AccountId,
    partitions: u16,
) -> [PartitionId; 2] {
    let named = Transfer { debit_account_id: debit, credit_account_id: credit, ..*transfer };
    of_sides(&named, partitions)
}

fn prepared(
    bytes: &EventBytes,
    (offset, time): (Offset, Timestamp),
    effective: Option<Resolved>,
    chains: &Chains,
) -> Result<Prepared, EntryError> {
    let transfer = Transfer::from_bytes(bytes);
    let effective = match (MovementKind::of(&transfer), effective) {
        (MovementKind::Transfer | MovementKind::Pending, None) => Resolved {
            debit_account_id: transfer.debit_account_id,
            credit_account_id: transfer.credit_account_id,
            amount: transfer.amount,
            index: 0,
            ledger: transfer.ledger,
            code: transfer.code,
        },
        (MovementKind::Expire, _) | (_, None) => return Err(EntryError::Body),
        (MovementKind::Void, _) if chains.path.is_none() => return Err(EntryError::Body),
        (_, Some(effective)) => effective,
    };
    let Resolved { debit_account_id: debit, credit_account_id: credit, .. } = effective;
    let Resolved { amount, ledger, code, .. } = effective;
    let (here, partitions) = chains.here;
    let [from, to] = partitions_of(&transfer, debit, credit, partitions);
    if is_gathering(&transfer) && (from != here || to == here) {
        return Err(EntryError::Body);
    }
    let other = chains.next().unwrap_or(to);
    let across = Across { other, prepared: offset, sides: chains.sides(&transfer) };
    let source = None;
    Ok(Prepared { across, source, time, amount, debit, credit, ledger, code, body: *bytes })
}

/// An arrival that the next partition of its chain was asked about.
fn passed_on(
    bytes: &EventBytes,
    (offset, time): (Offset, Timestamp),
    effective: Option<Resolved>,
    chains: &Chains,
) -> Result<Prepared, EntryError> {
    let Some(Arrival { sent: Sent::Transfer(transfer), place }) = Arrival::from_bytes(bytes) else {
        return Err(EntryError::Body);
    };
    let other = chains.next().ok_or(EntryError::Body)?;
    let across = Across { other, prepared: offset, sides: chains.sides(&transfer) };
    let Transfer { debit_account_id: debit, credit_account_id: credit, .. } = transfer;
    let Transfer { ledger, code, .. } = transfer;
    let amount = effective.map_or(transfer.amount, |effective| effective.amount);
    let source = Some(chains.source(place));
    Ok(Prepared { across, source, time, amount, debit, credit, ledger, code, body: *bytes })
}

fn arrived(
    bytes: &EventBytes,
    verdict: Verdict,
    effective: Option<Resolved>,
    chains: &Chains,
) -> Result<Arrived, EntryError> {
    let Some(Arrival { sent: Sent::Transfer(transfer), place }) = Arrival::from_bytes(bytes) else {
        return Err(EntryError::Body);
    };
    let (source, sides) = (chains.source(place), chains.sides(&transfer));
    let kind = MovementKind::of(&transfer);
    let ends = sides.is_none() && matches!(kind, MovementKind::Post | MovementKind::Void);
    let (amount, released) = match (verdict, effective) {
        (Verdict::Ok, Some(effective)) if ends => (transfer.amount, effective.amount),
        (Verdict::Ok, None) if ends => return Err(EntryError::Body),
        (Verdict::Ok, Some(effective)) => (effective.amount, Amount(0)),
        (Verdict::Ok, None) => (transfer.amount, Amount(0)),
        _ => (Amount(0), Amount(0)),
    };
    Ok(Arrived { source, kind, transfer, verdict, amount, released, sides, next: None })
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Transfer => "transfer",
        EventKind::Account | EventKind::AccountArrival => "account",
        EventKind::Guard | EventKind::GuardArrival => "guard",
        EventKind::Expire => "expire",
        EventKind::Close | EventKind::CloseArrival => "close",
        EventKind::Name => "name",
        EventKind::Describe => "describe",
        EventKind::Mail => "mail",
        EventKind::Arrival => "arrival",
        EventKind::Word | EventKind::WordArrival => "word",
    }
}

fn movement(transfer: Transfer, effective: Option<Resolved>) -> Result<Movement, EntryError> {
    let kind = MovementKind::of(&transfer);
    match effective {
        Some(effective) => Ok(resolved(kind, transfer, effective)),
        // Only a transfer whose own fields say everything has no resolution.
        None if matches!(kind, MovementKind::Post | MovementKind::Void) => Err(EntryError::Body),
        None => {
            let Transfer { debit_account_id, credit_account_id, amount, ledger, code, .. } =
                transfer;
            let (debit, credit) = (debit_account_id.0, credit_account_id.0);
            Ok(Movement { kind, transfer, debit, credit, amount, ledger, code, across: None })
        }
    }
}

fn resolved(kind: MovementKind, transfer: Transfer, effective: Resolved) -> Movement {
    let Resolved { debit_account_id, credit_account_id, amount, ledger, code, .. } = effective;
    let (debit, credit) = (debit_account_id.0, credit_account_id.0);
    Movement { kind, transfer, debit, credit, amount, ledger, code, across: None }
}

#[cfg(test)]
mod tests;
