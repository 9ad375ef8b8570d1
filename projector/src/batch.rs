//! The content of one transaction: rows, changes of accounts, ends of reservations, and the
//! position before and after. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use walengine_net::entry::EntryHeader;
use walengine_net::model::{Account, AccountFlags, Offset, PartitionId, Timestamp};

use crate::copy::Rows;
use crate::facts::{self, Fact, Movement, MovementKind, Record};
use crate::fold::Fold;
use crate::history::{HistoryError, Position};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::tables::{
    self, ACCOUNT_EVENTS, ACCOUNTS, AccountState, OPAQUE_RECORDS, REFUSED_EVENTS, RESERVATIONS,
    Reservation, Resolution, TRANSFERS, Table,
};

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
}

/// A batch that is being filled.
#[derive(Debug)]
pub struct Builder {
    partition: PartitionId,
    from: Position,
    to: Position,
    transfers: Rows,
    account_events: Rows,
    refused_events: Rows,
    opaque_records: Rows,
    created: Vec<Created>,
    created_places: HashMap<u128, usize>,
    reservations: Vec<Reservation>,
    reservation_places: HashMap<u128, usize>,
    changes: Fold,
    ends: Vec<ReservationEnd>,
}

impl Builder {
    /// Starts at a position.
    pub fn new(partition: PartitionId, from: Position) -> Self {
        Self {
            partition,
            from,
            to: from,
            transfers: Rows::default(),
            account_events: Rows::default(),
            refused_events: Rows::default(),
            opaque_records: Rows::default(),
            created: Vec::new(),
            created_places: HashMap::new(),
            reservations: Vec::new(),
            reservation_places: HashMap::new(),
            changes: Fold::default(),
            ends: Vec::new(),
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.to.next_offset == self.from.next_offset
    }

    /// Whether the next entry belongs to the next batch.
    pub fn is_full(&self) -> bool {
        let rows =
            [&self.transfers, &self.account_events, &self.refused_events, &self.opaque_records];
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
        facts::for_each(header, body, |record| self.add_record(&record))?;
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
            Fact::Created(account) => {
                let Record { offset, time, .. } = *record;
                self.created_places.insert(account.id.0, self.created.len());
                self.created.push(Created { offset, time, account: *account });
            }
            Fact::Moved(movement) => {
                tables::put_transfer(&mut self.transfers, record, movement);
                self.fold(record, movement)?;
            }
            Fact::Guarded(guard) => tables::put_guard(&mut self.account_events, record, guard),
            Fact::Closed(close) => {
                tables::put_close(&mut self.account_events, record, close);
                let reopens = close.flags.contains(walengine_net::model::CloseFlags::REOPEN);
                self.changes.close(close.account_id.0, !reopens);
            }
            Fact::Opaque { id, data } => {
                tables::put_opaque(&mut self.opaque_records, record, *id, data);
            }
            Fact::Refused(refusal) => {
                tables::put_refused(&mut self.refused_events, record, refusal);
            }
        }
        Ok(())
    }

    fn fold(&mut self, record: &Record<'_>, movement: &Movement) -> Result<(), HistoryError> {
        let Movement { kind, debit, credit, amount, .. } = *movement;
        match kind {
            MovementKind::Transfer => self.changes.transfer(debit, credit, amount.0)?,
            MovementKind::Pending => {
                self.changes.reserve(debit, credit, amount.0)?;
                self.reservation_places.insert(movement.transfer.id.0, self.reservations.len());
                self.reservations.push(Reservation::of(record, movement));
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
        let full = std::mem::replace(self, Self::new(self.partition, self.to));
        let partition = full.partition;
        let (mut accounts, mut reservations) = (Rows::default(), Rows::default());
        for created in &full.created {
            let state = full.state_of(created)?;
            let Created { offset, time, account } = created;
            tables::put_account(&mut accounts, partition, *offset, *time, account, &state);
        }
        for reservation in &full.reservations {
            reservation.put(&mut reservations, partition);
        }
        let tables = [
            (ACCOUNTS, accounts),
            (TRANSFERS, full.transfers),
            (RESERVATIONS, reservations),
            (ACCOUNT_EVENTS, full.account_events),
            (REFUSED_EVENTS, full.refused_events),
            (OPAQUE_RECORDS, full.opaque_records),
        ];
        let rows = tables.iter().map(|(_, rows)| rows.count()).sum();
        let filled = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
        let copies = filled.map(|(table, rows)| (table, Bytes::from(rows.into_bytes()))).collect();
        let mut changes = full.changes;
        changes.retain(|account| !full.created_places.contains_key(&account));
        Ok(Batch { from: full.from, to: full.to, copies, rows, changes, ends: full.ends })
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
