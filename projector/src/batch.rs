//! The content of one transaction: rows, changes of accounts, ends of reservations, and the
//! position before and after. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use walengine_net::entry::EntryHeader;
use walengine_net::model::{Account, AccountFlags, Offset, PartitionId, Timestamp, Word};

use crate::across::{Arrived, UnderWay};
use crate::booked::BookedSums;
use crate::copy::Rows;
use crate::facts::{self, Fact, Movement, Record, Refusal};
use crate::fold::Fold;
use crate::history::{HistoryError, Position};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::movement::MovementKind;
use crate::tables::{
    self, ACCOUNT_EVENTS, ACCOUNTS, ARRIVALS, AccountState, OPAQUE_RECORDS, REFUSED_EVENTS,
    RESERVATIONS, Reservation, Resolution, TRANSFERS, Table, UNDER_WAY,
};
use crate::volumes::Volumes;

/// A complete batch. Writing it twice is harmless, because the position is compared.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The position before it.
    pub from: Position,
    /// The position after it.
    pub to: Position,
    /// New rows of each table that has any, in COPY format without header and trailer.
    pub copies: Vec<(Table, Bytes)>,
    /// Number of rows in all tables.
    pub rows: u64,
    /// Changes of accounts that earlier batches created.
    pub changes: Fold,
    /// Ends of reservations that earlier batches created.
    pub ends: Vec<ReservationEnd>,
    /// Offsets of transfers that earlier batches have under way, and that have their word here.
    pub words: Vec<Offset>,
    /// What it adds to the volumes of days.
    pub volumes: Volumes,
    /// What it adds to the sums by time of business.
    pub booked: BookedSums,
}

/// The end of a reservation that an earlier batch created.
#[derive(Clone, Copy, Debug)]
pub struct ReservationEnd {
    /// Id of the reservation.
    pub id: u128,
    /// Account whose debits it reserved.
    pub debit: u128,
    /// Account whose credits it reserved.
    pub credit: u128,
    /// How it ended.
    pub resolution: Resolution,
}

/// An account that this batch creates.
#[derive(Clone, Copy, Debug)]
struct Created {
    offset: Offset,
    time: Timestamp,
    account: Account,
    home: Option<PartitionId>,
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct Builder {
    partition: PartitionId,
    partitions: u16,
    from: Position,
    to: Position,
    transfers: Rows,
    account_events: Rows,
    refused_events: Rows,
    opaque_records: Rows,
    arrivals: Rows,
    created: Vec<Created>,
    created_places: HashMap<u128, usize>,
    reservations: Vec<Reservation>,
    reservation_places: HashMap<u128, usize>,
    changes: Fold,
    ends: Vec<ReservationEnd>,
    words: Vec<Offset>,
    volumes: Volumes,
    booked: BookedSums,
    under_way: UnderWay,
}

impl Builder {
    /// Starts at a position of one of so many `partitions`, with what is under way there.
    pub fn new(
        partition: PartitionId,
        partitions: u16,
        from: Position,
        under_way: UnderWay,
    ) -> Self {
        Self {
            partition,
            partitions,
            from,
            to: from,
            transfers: Rows::default(),
            account_events: Rows::default(),
            refused_events: Rows::default(),
            opaque_records: Rows::default(),
            arrivals: Rows::default(),
            created: Vec::new(),
            created_places: HashMap::new(),
            reservations: Vec::new(),
            reservation_places: HashMap::new(),
            changes: Fold::default(),
            ends: Vec::new(),
            words: Vec::new(),
            volumes: Volumes::default(),
            booked: BookedSums::default(),
            under_way,
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.to.next_offset == self.from.next_offset
    }

    /// Whether the next entry belongs to the next batch.
    pub fn is_full(&self) -> bool {
        let rows = [
            &self.transfers,
            &self.account_events,
            &self.refused_events,
            &self.opaque_records,
            &self.arrivals,
        ];
        let bytes: usize = rows.iter().map(|rows| rows.bytes().len()).sum();
        bytes >= BATCH_BYTES_MAX
            || self.to.next_offset.0 - self.from.next_offset.0 >= BATCH_RECORDS_MAX
    }

    /// Adds the entry that follows; see [`crate::history::History`]. After an error the batch must
    /// not be used.
    pub fn add(&mut self, header: &EntryHeader, body: &[u8]) -> Result<(), HistoryError> {
        if header.meta.records == 0 {
            return Ok(());
        }
        assert_eq!(header.meta.base_offset, self.to.next_offset, "an entry was left out");
        facts::for_each(header, body, self.partitions, |record| self.add_record(&record))?;
        let last = u64::from(header.meta.records) - 1;
        self.to = Position {
            next_offset: header.next_offset(),
            index: header.meta.index,
            chain: header.chain,
            time: Some(Timestamp(header.meta.timestamp.0.saturating_add(last))),
        };
        Ok(())
    }

    fn add_record(&mut self, record: &Record<'_>) -> Result<(), HistoryError> {
        match &record.fact {
            Fact::Created { account, home } => self.create(record, *account, *home),
            Fact::Moved(movement) => {
                self.transfer(record, movement);
                self.fold(record, movement)?;
            }
            Fact::Prepared(prepared) => {
                self.create_in_transit(record, prepared.in_transit());
                // What is posted is reserved already.
                if let Some((debit, credit)) = prepared.parties().filter(|_| !prepared.ends()) {
                    self.changes.reserve(debit, credit, prepared.amount.0)?;
                }
                self.under_way.prepared.insert(record.offset, *prepared);
            }
            Fact::Arrived(arrived) => {
                self.put_arrival(record, arrived);
                if arrived.verdict.is_ok() {
                    self.create_in_transit(record, arrived.in_transit());
                    self.arrive(arrived)?;
                }
            }
            Fact::Ended { word, may_be_known } => self.end(record, word, *may_be_known)?,
            Fact::Mail | Fact::Known => {}
            Fact::Guarded(guard) => tables::put_guard(&mut self.account_events, record, guard),
            Fact::Closed(close) => {
                tables::put_close(&mut self.account_events, record, close);
                let reopens = close.flags.contains(walengine_net::model::CloseFlags::REOPEN);
                self.changes.close(close.account_id.0, !reopens);
            }
            Fact::Named(name) => tables::put_name(&mut self.account_events, record, name),
            Fact::Described(it) => tables::put_described(&mut self.account_events, record, it),
            Fact::Opaque { id, data } => {
                tables::put_opaque(&mut self.opaque_records, record, *id, data);
            }
            Fact::Refused(refusal) => {
                tables::put_refused(&mut self.refused_events, record, refusal);
            }
        }
        Ok(())
    }

    fn transfer(&mut self, record: &Record<'_>, movement: &Movement) {
        tables::put_transfer(&mut self.transfers, record, movement);
        self.volumes.add(record, movement);
        self.booked.add(movement);
    }

    fn put_arrival(&mut self, record: &Record<'_>, arrived: &Arrived) {
        tables::put_arrival(&mut self.arrivals, record, arrived);
        self.booked.add_arrival(arrived);
    }

    fn create(&mut self, record: &Record<'_>, account: Account, home: Option<PartitionId>) {
        let Record { offset, time, .. } = *record;
        self.created_places.insert(account.id.0, self.created.len());
        self.created.push(Created { offset, time, account, home });
    }

    /// An in-transit account is created by the first record that needs it.
    fn create_in_transit(&mut self, record: &Record<'_>, account: Option<Account>) {
        if let Some(account) = account
            && self.under_way.accounts.insert(account.id.0)
        {
            self.create(record, account, None);
        }
    }

    /// Ends what was prepared.
    fn end(
        &mut self,
        record: &Record<'_>,
        word: &Word,
        may_be_known: bool,
    ) -> Result<(), HistoryError> {
        let place = Offset(word.place);
        let prepared = self.under_way.prepared.remove(&place);
        if prepared.is_none() && may_be_known {
            return Ok(());
        }
        let prepared = prepared.filter(|prepared| prepared.id() == word.id);
        let prepared = prepared.ok_or(HistoryError::NotUnderWay(place))?;
        if place < self.from.next_offset {
            self.words.push(place);
        }
        let (kind, is_ok) = (prepared.kind(), word.verdict.is_ok());
        // A refusal has an amount of 0.
        let rest = prepared.amount.0.checked_sub(word.amount.0);
        let rest = rest.ok_or(HistoryError::NotUnderWay(place))?;
        let moved = Movement::settled(&prepared, word.amount);
        match (kind, prepared.parties()) {
            _ if prepared.ends() && is_ok => self.fold(record, &moved)?,
            _ if prepared.ends() => {}
            (_, None) => {}
            (MovementKind::Pending, Some((debit, credit))) => {
                self.changes.resolve(debit, credit, 0)?;
                self.changes.release(debit, credit, rest)?;
                if is_ok && prepared.source.is_none() {
                    self.reserve(Reservation::since(prepared.time, record, &moved));
                }
            }
            (_, Some((debit, credit))) => {
                if prepared.is_gathering() {
                    self.changes.give(debit, credit, word.amount.0)?;
                } else {
                    self.changes.resolve(debit, credit, word.amount.0)?;
                }
                self.changes.release(debit, credit, prepared.amount.0)?;
            }
        }
        if let Some(arrived) = prepared.decided(word) {
            self.put_arrival(record, &arrived);
        } else if is_ok {
            self.transfer(record, &moved);
        } else {
            let refusal = Refusal::of_prepared(&prepared, word.verdict);
            tables::put_refused(&mut self.refused_events, record, &refusal);
        }
        Ok(())
    }

    /// Adds what has arrived and was accepted.
    fn arrive(&mut self, arrived: &Arrived) -> Result<(), HistoryError> {
        let Arrived { kind, amount, released, .. } = *arrived;
        let Some((debit, credit)) = arrived.parties() else { return Ok(()) };
        match kind {
            MovementKind::Transfer => self.changes.transfer(debit, credit, amount.0)?,
            MovementKind::Pending => self.changes.reserve(debit, credit, amount.0)?,
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                let posted = if kind == MovementKind::Post { amount.0 } else { 0 };
                self.changes.resolve(debit, credit, posted)?;
                self.changes.release(debit, credit, released.0)?;
            }
        }
        Ok(())
    }

    fn reserve(&mut self, reservation: Reservation) {
        self.reservation_places.insert(reservation.id, self.reservations.len());
        self.reservations.push(reservation);
    }

    fn fold(&mut self, record: &Record<'_>, movement: &Movement) -> Result<(), HistoryError> {
        let Movement { kind, amount, .. } = *movement;
        let Some((debit, credit)) = movement.parties() else { return Ok(()) };
        match kind {
            MovementKind::Transfer => self.changes.transfer(debit, credit, amount.0)?,
            MovementKind::Pending => {
                self.changes.reserve(debit, credit, amount.0)?;
                self.reserve(Reservation::of(record, movement));
            }
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                let posted = if kind == MovementKind::Post { amount.0 } else { 0 };
                let Record { offset, time, .. } = *record;
                let resolution = Resolution { kind, offset, time, posted };
                self.changes.resolve(debit, credit, posted)?;
                let id = movement.transfer.pending_id.0;
                if let Some(&place) = self.reservation_places.get(&id) {
                    let reservation = &mut self.reservations[place];
                    reservation.resolution = Some(resolution);
                    self.changes.release(debit, credit, reservation.amount.0)?;
                } else {
                    // The reserved amount is in the database.
                    self.ends.push(ReservationEnd { id, debit, credit, resolution });
                }
            }
        }
        Ok(())
    }

    /// Completes the batch. The builder continues after it.
    pub fn seal(&mut self) -> Result<Batch, HistoryError> {
        let under_way = std::mem::take(&mut self.under_way);
        let next = Self::new(self.partition, self.partitions, self.to, under_way);
        let full = std::mem::replace(self, next);
        let partition = full.partition;
        let (mut accounts, mut reservations) = (Rows::default(), Rows::default());
        let mut under_way = Rows::default();
        for created in &full.created {
            let state = full.state_of(created)?;
            let Created { offset, time, account, home } = created;
            tables::put_account(&mut accounts, partition, *offset, *time, account, *home, &state);
        }
        for reservation in &full.reservations {
            reservation.put(&mut reservations, partition);
        }
        for (_, prepared) in self.under_way.prepared.range(full.from.next_offset..) {
            tables::put_under_way(&mut under_way, partition, prepared);
        }
        let tables = [
            (ACCOUNTS, accounts),
            (TRANSFERS, full.transfers),
            (RESERVATIONS, reservations),
            (ACCOUNT_EVENTS, full.account_events),
            (REFUSED_EVENTS, full.refused_events),
            (OPAQUE_RECORDS, full.opaque_records),
            (UNDER_WAY, under_way),
            (ARRIVALS, full.arrivals),
        ];
        let rows = tables.iter().map(|(_, rows)| rows.count()).sum();
        let filled = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
        let copies = filled.map(|(table, rows)| (table, Bytes::from(rows.into_bytes()))).collect();
        let mut changes = full.changes;
        changes.retain(|account| !full.created_places.contains_key(&account));
        let Self { from, to, ends, words, volumes, booked, .. } = full;
        Ok(Batch { from, to, copies, rows, changes, ends, words, volumes, booked })
    }

    /// State of an account that this batch created, at its end.
    fn state_of(&self, created: &Created) -> Result<AccountState, HistoryError> {
        let mut state = AccountState {
            closed: created.account.flags.contains(AccountFlags::CLOSED),
            ..AccountState::default()
        };
        if let Some(change) = self.changes.get(created.account.id.0) {
            state.apply(change)?;
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Amount, Code, EventId, LedgerId, Transfer, Verdict};

    use super::*;
    use crate::across::{Across, Prepared, Sides, Source};

    const PARTITION: PartitionId = PartitionId(0);
    const DEBIT: u128 = 7;

    /// A builder at an offset.
    fn builder(offset: u64, under_way: UnderWay) -> Builder {
        let from = Position { next_offset: Offset(offset), ..Position::START };
        Builder::new(PARTITION, 2, from, under_way)
    }

    fn add(builder: &mut Builder, fact: Fact<'_>) {
        let Position { next_offset: offset, .. } = builder.to;
        let record = Record { partition: PARTITION, offset, time: Timestamp(offset.0), fact };
        builder.add_record(&record).unwrap();
        builder.to.next_offset = offset.plus(1);
    }

    fn prepared(offset: u64) -> Fact<'static> {
        let (debit, credit, ledger, code) = (AccountId(DEBIT), AccountId(8), LedgerId(1), Code(1));
        let transfer = Transfer {
            id: EventId(u128::from(offset) + 100),
            debit_account_id: debit,
            credit_account_id: credit,
            amount: Amount(50),
            ledger,
            code,
            ..Transfer::default()
        };
        Fact::Prepared(Prepared {
            across: Across { other: PartitionId(1), prepared: Offset(offset), sides: None },
            source: None,
            time: Timestamp(offset),
            amount: transfer.amount,
            debit,
            credit,
            ledger,
            code,
            body: transfer.to_bytes(),
        })
    }

    fn word(place: u64, verdict: Verdict, amount: u128) -> Fact<'static> {
        let id = EventId(u128::from(place) + 100);
        let (amount, pending_id) = (Amount(amount), EventId(0));
        let word = Word { id, place, verdict, amount, pending_id, is_linked: false };
        Fact::Ended { word, may_be_known: false }
    }

    fn tables(batch: &Batch) -> Vec<&'static str> {
        batch.copies.iter().map(|(table, _)| table.name).collect()
    }

    #[test]
    fn what_is_under_way_is_a_row_until_a_later_batch_has_its_word() {
        let mut builder = builder(3, UnderWay::default());
        (3..6).for_each(|offset| add(&mut builder, prepared(offset)));
        add(&mut builder, word(4, Verdict::Ok, 20));
        let first = builder.seal().unwrap();
        assert_eq!(tables(&first), ["accounts", "transfers", "under_way"]);
        assert_eq!(first.rows, 4, "one in-transit account, one that has moved, two under way");
        assert!(first.words.is_empty(), "it was no row");
        add(&mut builder, word(5, Verdict::CreditAccountClosed, 0));
        add(&mut builder, word(3, Verdict::Ok, 50));
        let second = builder.seal().unwrap();
        assert_eq!(tables(&second), ["transfers", "refused_events"]);
        assert_eq!(second.words, [Offset(5), Offset(3)]);
        let change = |batch: &Batch, id| *batch.changes.get(id).unwrap();
        let (before, after) = (change(&first, DEBIT), change(&second, DEBIT));
        assert_eq!(before.debits_pending.applied_to(0), Some(100));
        assert_eq!(after.debits_pending.applied_to(100), Some(0));
        assert_eq!(before.debits_posted.applied_to(0), Some(20));
        assert_eq!(after.debits_posted.applied_to(20), Some(70));
        assert_eq!((before.versions, after.versions), (4, 2));
        let transit = change(&second, AccountId::in_transit(PartitionId(1), LedgerId(1)).0);
        assert_eq!(transit.credits_pending.applied_to(100), Some(0));
        assert_eq!(transit.credits_posted.applied_to(20), Some(70));
    }

    #[test]
    fn a_word_ends_what_was_loaded_and_nothing_else() {
        let Fact::Prepared(loaded) = prepared(3) else { unreachable!() };
        let transit = loaded.in_transit().unwrap().id.0;
        let under_way =
            UnderWay { prepared: [(Offset(3), loaded)].into(), accounts: [transit].into() };
        let mut builder = builder(9, under_way);
        add(&mut builder, word(3, Verdict::Ok, 50));
        let batch = builder.seal().unwrap();
        assert_eq!((tables(&batch), batch.words), (vec!["transfers"], vec![Offset(3)]));
        let fact = word(3, Verdict::Ok, 50);
        let record = Record { partition: PARTITION, offset: Offset(10), time: Timestamp(10), fact };
        assert_eq!(builder.add_record(&record), Err(HistoryError::NotUnderWay(Offset(3))));
    }

    /// What has come from another partition, is handed on, and was loaded again.
    #[test]
    fn the_word_on_what_was_handed_on_makes_an_arrival_of_it() {
        let (home, next, place) = (PartitionId(2), PartitionId(1), Offset(40));
        let Fact::Prepared(loaded) = prepared(3) else { unreachable!() };
        let source = Some(Source { home, place, origin: Some(next) });
        let across = Across { sides: Some(Sides::Debit(home)), ..loaded.across };
        let loaded = Prepared { across, source, ..loaded };
        for (verdict, amount) in [(Verdict::Ok, 50), (Verdict::CreditAccountClosed, 0)] {
            let under_way = UnderWay {
                prepared: [(Offset(3), loaded)].into(),
                accounts: [loaded.in_transit().unwrap().id.0].into(),
            };
            let mut builder = builder(9, under_way);
            add(&mut builder, word(3, verdict, amount));
            let batch = builder.seal().unwrap();
            assert_eq!(batch.words, [Offset(3)]);
            let mut expected = Rows::default();
            let row = expected.begin(ARRIVALS.columns.len());
            row.uuid(103).uuid(DEBIT).uuid(8).int8(9).time(Timestamp(9)).int8(40).int8(1);
            row.int4(0).int4(2).int4(1).int2(verdict.number().into()).numeric(amount);
            row.text("transfer").null().int2(1).null().int4(1).int4(1).int8(3).null();
            assert_eq!(batch.copies, [(ARRIVALS, Bytes::from(expected.into_bytes()))]);
            let change = *batch.changes.get(DEBIT).unwrap();
            assert_eq!(change.debits_pending.applied_to(50), Some(0));
            assert_eq!((change.debits_posted.applied_to(0), change.versions), (Some(amount), 1));
            assert_eq!(batch.changes.get(loaded.in_transit().unwrap().id.0).unwrap().versions, 1);
        }
    }

    #[test]
    fn a_row_names_the_partition_of_an_account_that_its_neighbours_do_not_have() {
        let Fact::Prepared(one) = prepared(3) else { unreachable!() };
        for elsewhere in [1, 2] {
            let sides = Some(Sides::Credit(PartitionId(elsewhere)));
            let prepared = Prepared { across: Across { sides, ..one.across }, ..one };
            let (mut rows, mut expected) = (Rows::default(), Rows::default());
            tables::put_under_way(&mut rows, PARTITION, &prepared);
            expected.int2(2);
            if elsewhere == 1 {
                expected.null()
            } else {
                expected.int4(2)
            };
            expected.null().null().null();
            assert!(rows.bytes().ends_with(expected.bytes()), "{elsewhere}");
        }
        for sides in
            [Sides::Neither, Sides::Debit(PARTITION), Sides::Credit(PARTITION), Sides::Both]
        {
            assert_eq!(Sides::from_number(sides.number(), PARTITION), Some(sides));
        }
        assert_eq!(Sides::from_number(4, PARTITION), None);
    }
}
