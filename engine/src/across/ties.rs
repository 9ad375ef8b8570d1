//! Whether the logs of several partitions fit each other: what one has from another one, that one has sent, and
//! what one has finished, the other one has decided. Logs that were read one after the other, while money moved
//! between them, may not. Pure.
//!
//! What follows from something else has a later log time, in whatever partition. So logs fit up to any time before
//! the first record whose cause is not there.

use std::collections::{BTreeMap, BTreeSet};

use walengine_net::entry::{EntryError, EntryHeader, EntryKind, access_events};
use walengine_net::model::{
    Arrival, Event, EventBytes, EventKind, Mail, Offset, PartitionId, Resolved, ResolvedBytes,
    Sent, Timestamp, Transfer, Verdict, Word, event_kind,
};
use walengine_net::{partition, unit};

use crate::ledger::is_for_all;

/// How a partition's log is tied to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    partition: PartitionId,
    partitions: u16,
    /// What was prepared, and ends of reservations, by the other partition.
    prepared: BTreeMap<PartitionId, u64>,
    /// Places of those that have no word.
    in_doubt: BTreeMap<PartitionId, BTreeSet<u64>>,
    /// Places of what others have handed on, and have not told the outcome of.
    handed_on: BTreeSet<u64>,
    /// Offsets of what was handed on here and has no outcome, and where that goes.
    passed: BTreeMap<u64, PartitionId>,
    received: BTreeMap<PartitionId, Received>,
    /// Whose mail was opened last: what arrives is from there.
    open: PartitionId,
}

/// What has come from another partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Received {
    arrivals: u64,
    /// Place of the last one.
    last: u64,
    /// Words below this were forgotten.
    settled_below: u64,
}

/// Two partitions whose logs do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {home} and partition {other} do not fit: they were not read at one moment while money moved \
     between them"
)]
pub struct Misfit {
    /// Where the transfers come from.
    pub home: PartitionId,
    /// Where they go.
    pub other: PartitionId,
}

impl Ties {
    /// Of the empty log of one of so many partitions.
    pub fn new(partition: PartitionId, partitions: u16) -> Self {
        Self { partition, partitions, ..Self::default() }
    }

    /// Takes the first `records` records of the next entry.
    ///
    /// # Errors
    /// Its body can't be read.
    pub fn take_entry(
        &mut self,
        header: &EntryHeader,
        body: &[u8],
        records: u32,
    ) -> Result<(), EntryError> {
        if self.partitions == 1 || header.meta.kind != EntryKind::Events {
            return Ok(());
        }
        let body = access_events(body)?;
        let events = body.events.get(..records as usize).unwrap_or(&body.events);
        self.take_events(header.meta.base_offset, events, &body.verdicts, &body.resolved);
        Ok(())
    }

    /// Takes the next events, from this offset on.
    pub fn take_events(
        &mut self,
        first: Offset,
        events: &[EventBytes],
        verdicts: &[u8],
        resolved: &[ResolvedBytes],
    ) {
        let mut resolved = resolved.iter().map(Resolved::from_bytes).peekable();
        // Of the chain that is in doubt: where it goes next, and where it ends.
        let mut chain: Option<(PartitionId, usize)> = None;
        for ((event, verdict), index) in events.iter().zip(verdicts).zip(0u32..) {
            let (place, offset) = (index as usize, first.0 + u64::from(index));
            let effective = resolved.next_if(|resolved| resolved.index == index);
            let is_prepared = *verdict == Verdict::InDoubt.number();
            chain = chain.filter(|(_, end)| place < *end);
            if is_prepared && chain.is_none() && unit::is_linked(event) {
                let begun = unit::spanning_chain(&events[place..], self.partitions);
                chain = begun.and_then(|(length, path)| {
                    path.after(self.partition).map(|next| (next, place + length))
                });
            }
            if let Some((next, _)) = chain {
                self.send_to(offset, next);
                if is_leaders_own(event) {
                    self.passed.insert(offset, self.open);
                }
            }
            if chain.is_none() || is_leaders_own(event) {
                self.take(offset, event, *verdict, effective.as_ref());
            }
        }
    }

    #[inline]
    fn take(&mut self, offset: u64, event: &EventBytes, verdict: u8, effective: Option<&Resolved>) {
        let is_prepared = verdict == Verdict::InDoubt.number();
        let is_ok = verdict == Verdict::Ok.number();
        if is_ok && is_for_all(event) {
            for other in (0..self.partitions).map(PartitionId) {
                self.send_to(offset, other);
            }
        } else if is_prepared || is_ok && effective.is_some() || is_leaders_own(event) {
            self.take_tied(offset, event, effective);
        }
    }

    fn take_tied(&mut self, offset: u64, event: &EventBytes, effective: Option<&Resolved>) {
        match Event::from_bytes(event) {
            Ok(Event::Transfer(transfer)) => {
                self.send(offset, &transfer, effective);
            }
            Ok(Event::Expire(_)) => {
                if let Some(effective) = effective {
                    self.send(offset, &Transfer::default(), Some(effective));
                }
            }
            Ok(Event::Mail(mail)) => {
                self.open = mail.home;
                let received = self.received.entry(mail.home).or_default();
                received.settled_below = received.settled_below.max(mail.settled_below);
            }
            Ok(Event::Arrival(arrival)) => {
                let received = self.received.entry(self.open).or_default();
                received.arrivals += 1;
                received.last = arrival.place;
                if let Sent::Word(word) = arrival.sent {
                    // It may be here before the word that it was handed on.
                    self.settle(word.place, self.open);
                    self.handed_on.remove(&word.place);
                    self.tell_outcome(&word, offset);
                }
            }
            Ok(Event::Word(word)) => {
                let from = effective.and_then(|it| it.credit_account_id.in_transit_to());
                self.settle(word.place, from.unwrap_or_default());
                if word.verdict == Verdict::InDoubt {
                    self.handed_on.insert(word.place);
                } else {
                    self.tell_outcome(&word, offset);
                }
            }
            _ => {}
        }
    }

    /// Another partition has said something of what stands at a place and was sent there.
    fn settle(&mut self, place: u64, by: PartitionId) {
        if let Some(places) = self.in_doubt.get_mut(&by) {
            places.remove(&place);
        }
    }

    /// The outcome of what was handed on here is sent to where it has come from.
    fn tell_outcome(&mut self, word: &Word, offset: u64) {
        if let Some(before) = self.passed.remove(&word.place) {
            self.send_to(offset, before);
        }
    }

    /// Something is to go to the partition of the credit account of a transfer, if that is another one.
    fn send(&mut self, offset: u64, transfer: &Transfer, effective: Option<&Resolved>) {
        let named = effective.map_or(*transfer, |it| Transfer {
            debit_account_id: it.debit_account_id,
            credit_account_id: it.credit_account_id,
            ..*transfer
        });
        let [_, other] = partition::of_sides(&named, self.partitions);
        self.send_to(offset, other);
    }

    /// As [`Self::send`], to a partition.
    fn send_to(&mut self, offset: u64, other: PartitionId) {
        if other != self.partition {
            *self.prepared.entry(other).or_default() += 1;
            self.in_doubt.entry(other).or_default().insert(offset);
        }
    }

    /// What has no word yet.
    pub fn under_way(&self) -> usize {
        self.in_doubt.values().map(BTreeSet::len).sum::<usize>() + self.handed_on.len()
    }

    fn received(&self, home: PartitionId) -> Received {
        self.received.get(&home).copied().unwrap_or_default()
    }

    /// This log, as the home of transfers, fits what the other one has of them.
    fn fits(&self, other: &Self) -> bool {
        let Received { arrivals, last, settled_below } = other.received(self.partition);
        let prepared = self.prepared.get(&other.partition).copied().unwrap_or_default();
        let none = BTreeSet::new();
        let in_doubt = self.in_doubt.get(&other.partition).unwrap_or(&none);
        let behind = in_doubt.range(last + 1..).count() as u64;
        let is_kept = in_doubt.range(..=last).next().is_none_or(|first| *first >= settled_below);
        arrivals + behind == prepared && is_kept
    }
}

fn is_leaders_own(event: &EventBytes) -> bool {
    event_kind(event)
        .is_ok_and(|kind| kind.arrives() || matches!(kind, EventKind::Mail | EventKind::Word))
}

/// Whether logs fit, given the ties of all partitions.
///
/// # Errors
/// Two that do not.
pub fn fit(all: &[Ties]) -> Result<(), Misfit> {
    for home in all {
        for other in all {
            if home.partition != other.partition && !home.fits(other) {
                return Err(Misfit { home: home.partition, other: other.partition });
            }
        }
    }
    Ok(())
}

/// Finds up to which log time logs fit that do not fit to their ends.
pub struct Fitting<'a> {
    all: &'a [Ties],
    /// The offset behind each log's last record.
    ends: &'a [u64],
    /// Log time of the first record whose cause is not there.
    first: Option<Timestamp>,
}

impl<'a> Fitting<'a> {
    /// For the ties of all partitions, and the offsets behind their last records.
    pub fn new(all: &'a [Ties], ends: &'a [u64]) -> Self {
        Self { all, ends, first: None }
    }

    /// Takes an entry of a partition, again: any of them, in any order.
    ///
    /// # Errors
    /// Its body can't be read.
    pub fn take_entry(
        &mut self,
        partition: PartitionId,
        header: &EntryHeader,
        body: &[u8],
    ) -> Result<(), EntryError> {
        if header.meta.kind != EntryKind::Events {
            return Ok(());
        }
        let body = access_events(body)?;
        let mut resolved = body.resolved.iter().map(Resolved::from_bytes).peekable();
        let mut open = PartitionId(0);
        for ((event, time), index) in body.events.iter().zip(header.meta.timestamp.0..).zip(0u32..)
        {
            let effective = resolved.next_if(|resolved| resolved.index == index);
            if event_kind(event) == Ok(EventKind::Mail) {
                open = Mail::from_bytes(event).home;
            }
            if self.lacks_cause(partition, event, effective.as_ref(), open) {
                let time = Timestamp(time);
                self.first = Some(self.first.map_or(time, |first| first.min(time)));
            }
        }
        Ok(())
    }

    fn lacks_cause(
        &self,
        partition: PartitionId,
        event: &EventBytes,
        effective: Option<&Resolved>,
        open: PartitionId,
    ) -> bool {
        let of = |id: PartitionId| self.all.get(usize::from(id.0));
        match event_kind(event) {
            Ok(EventKind::Word) => {
                let other = effective.and_then(|it| it.credit_account_id.in_transit_to());
                let word = Event::from_bytes(event);
                let (Some(other), Ok(Event::Word(word))) = (other.and_then(of), word) else {
                    return false;
                };
                other.received(partition).last < word.place
            }
            Ok(EventKind::Mail) => {
                let mail = Mail::from_bytes(event);
                let in_doubt = of(mail.home).and_then(|home| home.in_doubt.get(&partition));
                let first = in_doubt.and_then(BTreeSet::first);
                first.is_some_and(|first| *first < mail.settled_below)
            }
            Ok(kind) if kind.arrives() => {
                let end = self.ends.get(usize::from(open.0));
                let is_there = |arrival: Arrival| end.is_some_and(|end| arrival.place < *end);
                !Arrival::from_bytes(event).is_some_and(is_there)
            }
            _ => false,
        }
    }

    /// The latest log time up to which they fit.
    pub fn time(&self) -> Option<Timestamp> {
        self.first.map(|first| Timestamp(first.0.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Amount, EventId, LedgerId, TransferFlags};

    use super::*;

    /// Transfers from partition 0 to partition 1 of two, with one offset for each record.
    struct Logs {
        home: Ties,
        other: Ties,
        home_end: u64,
        other_end: u64,
        last: u64,
    }

    fn account_of(partition: PartitionId) -> AccountId {
        let lives_there = |id: &AccountId| partition::of_account(*id, 2) == partition;
        (1u128..100).map(|book| AccountId(book << 96 | 7)).find(lives_there).unwrap()
    }

    fn transfer() -> Transfer {
        Transfer {
            id: EventId(5),
            debit_account_id: account_of(PartitionId(0)),
            credit_account_id: account_of(PartitionId(1)),
            amount: Amount(9),
            ..Transfer::default()
        }
    }

    impl Logs {
        fn new() -> Self {
            let of = |partition| Ties::new(PartitionId(partition), 2);
            Self { home: of(0), other: of(1), home_end: 0, other_end: 0, last: 0 }
        }

        fn prepare(&mut self) -> u64 {
            self.home_end += 1;
            self.home.take(self.home_end, &transfer().to_bytes(), Verdict::InDoubt.number(), None);
            self.home_end
        }

        /// Voids a reservation, whose accounts the event does not name.
        fn void(&mut self) -> u64 {
            self.home_end += 1;
            let Transfer { debit_account_id, credit_account_id, amount, .. } = transfer();
            let zero = Resolved::default();
            let ended = Resolved { debit_account_id, credit_account_id, amount, ..zero };
            let (id, flags) = (EventId(6), TransferFlags::VOID_PENDING);
            let void = Transfer { id, pending_id: EventId(5), flags, ..Transfer::default() };
            self.home.take(self.home_end, &void.to_bytes(), Verdict::Ok.number(), Some(&ended));
            self.home_end
        }

        fn arrive(&mut self, place: u64, settled_below: u64) {
            let mail = Mail { home: PartitionId(0), previous: self.last, settled_below };
            let arrival = Arrival { sent: Sent::Transfer(transfer()), place };
            for event in [mail.to_bytes(), arrival.to_bytes()] {
                self.other_end += 1;
                self.other.take(self.other_end, &event, Verdict::Ok.number(), None);
            }
            self.last = place;
        }

        fn settle(&mut self, place: u64) {
            self.home_end += 1;
            let (id, amount, pending_id) = (EventId(5), Amount(9), EventId(0));
            let (verdict, is_linked) = (Verdict::Ok, false);
            let word = Word { id, place, verdict, amount, pending_id, is_linked };
            let credit_account_id = AccountId::in_transit(PartitionId(1), LedgerId(1));
            let ended = Resolved { credit_account_id, ..Resolved::default() };
            self.home.take(self.home_end, &word.to_bytes(), Verdict::Ok.number(), Some(&ended));
        }

        fn fit(&self) -> bool {
            fit(&[self.home.clone(), self.other.clone()]).is_ok()
        }
    }

    #[test]
    fn logs_fit_at_each_step_of_what_happens() {
        let mut logs = Logs::new();
        assert!(logs.fit());
        let (first, second) = (logs.prepare(), logs.prepare());
        assert!(logs.fit());
        logs.arrive(first, 0);
        assert!(logs.fit());
        logs.settle(first);
        assert!(logs.fit());
        logs.arrive(second, second);
        logs.settle(second);
        assert!(logs.fit());
        assert_eq!(logs.home.under_way(), 0);
        let void = logs.void();
        assert!(logs.fit());
        assert_eq!(logs.home.under_way(), 1);
        logs.arrive(void, void);
        logs.settle(void);
        assert!(logs.fit());
        assert_eq!(logs.home.under_way(), 0);
    }

    #[test]
    fn what_one_has_and_the_other_has_not_is_seen() {
        // Finished at home, and not there.
        let mut logs = Logs::new();
        let place = logs.prepare();
        logs.settle(place);
        assert!(!logs.fit());
        // There, and not sent from home.
        let mut logs = Logs::new();
        logs.arrive(1, 0);
        assert!(!logs.fit());
        // Forgotten there, and in doubt at home.
        let mut logs = Logs::new();
        let (first, second) = (logs.prepare(), logs.prepare());
        logs.arrive(first, 0);
        logs.arrive(second, second);
        assert!(!logs.fit());
        logs.settle(first);
        assert!(logs.fit());
    }
}
