//! The columns of the tables, and the rows that records become. The SQL in `schema/` has the same
//! names and types, which is checked at every start.

use walengine_net::model::{
    Account, AccountFlags, Amount, Close, CloseFlags, Code, Describe, Guard, GuardFlags, LedgerId,
    Name, Offset, PartitionId, Timestamp, Transfer, TransferFlags,
};

use crate::across::{Across, Arrived, Prepared, Sides, Source, is_gathering};
use crate::copy::Rows;
use crate::facts::{Movement, Record, Refusal};
use crate::fold::{Change, Overflow};
use crate::movement::MovementKind;

/// Constraint of a rebuild's tables: proves to PostgreSQL, without reading them, that all rows are of
/// their partition.
pub const PART: &str = "walengine_part";

/// A table that the projector writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name; that of a partition's table has a suffix.
    pub name: &'static str,
    /// Columns with their types as `format_type` names them, in the order of a row's fields.
    pub columns: &'static [(&'static str, &'static str)],
}

const UUID: &str = "uuid";
const BIGINT: &str = "bigint";
const INTEGER: &str = "integer";
const SMALLINT: &str = "smallint";
const TIME: &str = "timestamp with time zone";
const AMOUNT: &str = "numeric(39,0)";
const U64: &str = "numeric(20,0)";
const BOOLEAN: &str = "boolean";
const TEXT: &str = "text";
const BYTES: &str = "bytea";

/// Accounts with their balances; a striped one has a row of each partition.
pub const ACCOUNTS: Table = Table {
    name: "accounts",
    columns: &[
        ("id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("version", BIGINT),
        ("ledger", BIGINT),
        ("partition", INTEGER),
        ("code", INTEGER),
        ("debits_must_not_exceed_credits", BOOLEAN),
        ("credits_must_not_exceed_debits", BOOLEAN),
        ("closed", BOOLEAN),
        ("debits_pending", AMOUNT),
        ("debits_posted", AMOUNT),
        ("credits_pending", AMOUNT),
        ("credits_posted", AMOUNT),
        ("user_data_128", UUID),
        ("user_data_64", U64),
        ("home", INTEGER),
    ],
};

/// Accepted transfers of all kinds; one between partitions stands where its debit account lives.
pub const TRANSFERS: Table = Table {
    name: "transfers",
    columns: &[
        ("id", UUID),
        ("debit_account_id", UUID),
        ("credit_account_id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("ledger", BIGINT),
        ("partition", INTEGER),
        ("code", INTEGER),
        ("kind", "transfer_kind"),
        ("flags", INTEGER),
        ("amount", AMOUNT),
        ("amount_asked", AMOUNT),
        ("pending_id", UUID),
        ("timeout_seconds", BIGINT),
        ("user_data_128", UUID),
        ("user_data_64", U64),
        ("user_data_32", BIGINT),
        ("other_partition", INTEGER),
        ("prepared_offset", BIGINT),
        ("sides", SMALLINT),
        ("transit_partition", INTEGER),
        ("booked_at", TIME),
    ],
};

/// Pending transfers and their states.
pub const RESERVATIONS: Table = Table {
    name: "reservations",
    columns: &[
        ("id", UUID),
        ("debit_account_id", UUID),
        ("credit_account_id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("expires_at", TIME),
        ("ledger", BIGINT),
        ("resolved_offset", BIGINT),
        ("resolved_at", TIME),
        ("partition", INTEGER),
        ("code", INTEGER),
        ("state", "reservation_state"),
        ("amount", AMOUNT),
        ("amount_posted", AMOUNT),
    ],
};

/// Guards that held, closings, reopenings and namings of accounts, descriptions of ledgers.
pub const ACCOUNT_EVENTS: Table = Table {
    name: "account_events",
    columns: &[
        ("id", UUID),
        ("account_id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("partition", INTEGER),
        ("flags", INTEGER),
        ("kind", TEXT),
        ("version", U64),
        ("available", AMOUNT),
        ("ledger", BIGINT),
        ("name", TEXT),
        ("scale", SMALLINT),
    ],
};

/// Refused events with their verdicts.
pub const REFUSED_EVENTS: Table = Table {
    name: "refused_events",
    columns: &[
        ("id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("partition", INTEGER),
        ("verdict", SMALLINT),
        ("kind", TEXT),
        ("name", TEXT),
        ("reason", TEXT),
        ("debit_account_id", UUID),
        ("credit_account_id", UUID),
        ("amount", AMOUNT),
        ("body", BYTES),
        ("other_partition", INTEGER),
        ("prepared_offset", BIGINT),
        ("sides", SMALLINT),
        ("transit_partition", INTEGER),
    ],
};

/// Opaque records.
pub const OPAQUE_RECORDS: Table = Table {
    name: "opaque_records",
    columns: &[
        ("id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("partition", INTEGER),
        ("data", BYTES),
    ],
};

/// Transfers that were handed on to other partitions, and that have no word yet.
pub const UNDER_WAY: Table = Table {
    name: "under_way",
    columns: &[
        ("id", UUID),
        ("debit_account_id", UUID),
        ("credit_account_id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("ledger", BIGINT),
        ("partition", INTEGER),
        ("other_partition", INTEGER),
        ("code", INTEGER),
        ("amount", AMOUNT),
        ("body", BYTES),
        ("sides", SMALLINT),
        ("transit_partition", INTEGER),
        ("home", INTEGER),
        ("home_place", BIGINT),
        ("origin", INTEGER),
    ],
};

/// What other partitions have prepared, accepted or refused. One that was handed on stands where its word does.
pub const ARRIVALS: Table = Table {
    name: "arrivals",
    columns: &[
        ("id", UUID),
        ("debit_account_id", UUID),
        ("credit_account_id", UUID),
        ("log_offset", BIGINT),
        ("time", TIME),
        ("place", BIGINT),
        ("ledger", BIGINT),
        ("partition", INTEGER),
        ("home", INTEGER),
        ("code", INTEGER),
        ("verdict", SMALLINT),
        ("amount", AMOUNT),
        ("kind", TEXT),
        ("pending_id", UUID),
        ("sides", SMALLINT),
        ("transit_partition", INTEGER),
        ("origin", INTEGER),
        ("other_partition", INTEGER),
        ("prepared_offset", BIGINT),
        ("booked_at", TIME),
    ],
};

/// What was moved, by ledger and day. Derived from [`TRANSFERS`], row by row of that.
pub const DAILY_VOLUMES: Table = Table {
    name: "daily_volumes",
    columns: &[
        ("partition", INTEGER),
        ("ledger", BIGINT),
        ("day", "date"),
        ("booked_day", "date"),
        ("movements", BIGINT),
        ("amount", "numeric"),
    ],
};

/// What accounts had moved before some offsets.
pub const ACCOUNT_MARKS: Table = Table {
    name: "account_marks",
    columns: &[
        ("partition", INTEGER),
        ("account_id", UUID),
        ("log_offset", BIGINT),
        ("debits_posted", "numeric"),
        ("credits_posted", "numeric"),
        ("debits_booked", "numeric"),
        ("credits_booked", "numeric"),
    ],
};

/// The offsets at which all accounts have a row of [`ACCOUNT_MARKS`].
pub const BALANCE_MARKS: Table = Table {
    name: "balance_marks",
    columns: &[("partition", INTEGER), ("log_offset", BIGINT), ("accounts", BIGINT)],
};

/// What accounts have moved by time of business, in spans of days.
pub const BOOKED_SUMS: Table = Table {
    name: "booked_sums",
    columns: &[
        ("partition", INTEGER),
        ("account_id", UUID),
        ("first_day", "date"),
        ("debits", "numeric"),
        ("credits", "numeric"),
    ],
};

/// All tables.
pub const TABLES: [Table; 12] = [
    ACCOUNTS,
    TRANSFERS,
    RESERVATIONS,
    ACCOUNT_EVENTS,
    REFUSED_EVENTS,
    OPAQUE_RECORDS,
    UNDER_WAY,
    ARRIVALS,
    DAILY_VOLUMES,
    ACCOUNT_MARKS,
    BALANCE_MARKS,
    BOOKED_SUMS,
];

/// Balances and state of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Reserved by pending transfers from it.
    pub debits_pending: u128,
    /// Moved out of it.
    pub debits_posted: u128,
    /// Reserved by pending transfers to it.
    pub credits_pending: u128,
    /// Moved into it.
    pub credits_posted: u128,
    /// Changes since its creation.
    pub version: u64,
    /// Accepts no new transfers.
    pub closed: bool,
}

impl AccountState {
    /// Applies a change.
    pub fn apply(&mut self, change: &Change) -> Result<(), Overflow> {
        let balances = [
            (&mut self.debits_pending, change.debits_pending),
            (&mut self.debits_posted, change.debits_posted),
            (&mut self.credits_pending, change.credits_pending),
            (&mut self.credits_posted, change.credits_posted),
        ];
        for (balance, difference) in balances {
            *balance = difference.applied_to(*balance).ok_or(Overflow)?;
        }
        self.version += change.versions;
        self.closed = change.closed.unwrap_or(self.closed);
        Ok(())
    }
}

/// A pending transfer and its resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Id of the pending transfer.
    pub id: u128,
    /// Account whose debits are reserved.
    pub debit: u128,
    /// Account whose credits are reserved.
    pub credit: u128,
    /// Offset of its record.
    pub offset: Offset,
    /// Log time of that record.
    pub time: Timestamp,
    /// Until when it reserves; `None` for ever.
    pub expires_at: Option<Timestamp>,
    /// Ledger of both accounts.
    pub ledger: LedgerId,
    /// The user's code.
    pub code: Code,
    /// The reserved amount.
    pub amount: Amount,
    /// How it ended; `None` while it is pending.
    pub resolution: Option<Resolution>,
}

/// The end of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Posted, voided or expired.
    pub kind: MovementKind,
    /// Offset of the record that ended it.
    pub offset: Offset,
    /// Log time of that record.
    pub time: Timestamp,
    /// The amount that moved.
    pub posted: u128,
}

impl Resolution {
    /// Its name in the SQL type `reservation_state`.
    pub fn state(&self) -> &'static str {
        match self.kind {
            MovementKind::Post => "posted",
            MovementKind::Void => "voided",
            MovementKind::Expire => "expired",
            MovementKind::Transfer | MovementKind::Pending => {
                unreachable!("these do not end a reservation")
            }
        }
    }
}

impl Reservation {
    /// The reservation that a movement makes.
    pub fn of(record: &Record<'_>, movement: &Movement) -> Self {
        Self::since(record.time, record, movement)
    }

    /// The same; it reserves since a time.
    pub fn since(time: Timestamp, record: &Record<'_>, movement: &Movement) -> Self {
        let nanos = u64::from(movement.transfer.timeout_seconds) * 1_000_000_000;
        let expires_at = (nanos != 0).then_some(Timestamp(time.0.saturating_add(nanos)));
        Self {
            id: movement.transfer.id.0,
            debit: movement.debit,
            credit: movement.credit,
            offset: record.offset,
            time: record.time,
            expires_at,
            ledger: movement.ledger,
            code: movement.code,
            amount: movement.amount,
            resolution: None,
        }
    }

    /// Appends its row.
    pub fn put(&self, rows: &mut Rows, partition: PartitionId) {
        let row = rows.begin(RESERVATIONS.columns.len());
        row.uuid(self.id).uuid(self.debit).uuid(self.credit);
        row.int8(self.offset.0 as i64).time(self.time);
        match self.expires_at {
            None => row.null(),
            Some(at) => row.time(at),
        };
        row.int8(self.ledger.0.into());
        match &self.resolution {
            None => row.null().null(),
            Some(end) => row.int8(end.offset.0 as i64).time(end.time),
        };
        row.int4(partition.0.into()).int4(self.code.0.into());
        row.text(self.resolution.as_ref().map_or("pending", Resolution::state));
        row.numeric(self.amount.0).numeric(self.resolution.map_or(0, |end| end.posted));
    }
}

/// Appends the row of an account.
pub fn put_account(
    rows: &mut Rows,
    partition: PartitionId,
    offset: Offset,
    time: Timestamp,
    created: &Account,
    home: Option<PartitionId>,
    state: &AccountState,
) {
    let row = rows.begin(ACCOUNTS.columns.len());
    row.uuid(created.id.0).int8(offset.0 as i64).time(time).int8(state.version as i64);
    row.int8(created.ledger.0.into()).int4(partition.0.into()).int4(created.code.0.into());
    row.boolean(created.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS));
    row.boolean(created.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS));
    row.boolean(state.closed);
    row.numeric(state.debits_pending).numeric(state.debits_posted);
    row.numeric(state.credits_pending).numeric(state.credits_posted);
    row.uuid_or_null(created.user_data_128).numeric_or_null(created.user_data_64.into());
    put_partition(row, home);
}

/// The id that a row has. A gathering has none: its own is made of its place, and a client may use the same for
/// something else.
fn row_id(transfer: &Transfer) -> u128 {
    if is_gathering(transfer) { 0 } else { transfer.id.0 }
}

/// Appends the row of a movement.
pub fn put_transfer(rows: &mut Rows, record: &Record<'_>, movement: &Movement) {
    let balancing = TransferFlags::BALANCING_DEBIT.with(TransferFlags::BALANCING_CREDIT);
    let transfer = &movement.transfer;
    let row = rows.begin(TRANSFERS.columns.len());
    row.uuid_or_null(row_id(transfer)).uuid(movement.debit).uuid(movement.credit);
    row.int8(record.offset.0 as i64).time(record.time).int8(movement.ledger.0.into());
    row.int4(record.partition.0.into()).int4(movement.code.0.into());
    row.text(movement.kind.name()).int4(transfer.flags.0.into()).numeric(movement.amount.0);
    if transfer.flags.intersects(balancing) {
        row.numeric(transfer.amount.0);
    } else {
        row.null();
    }
    row.uuid_or_null(transfer.pending_id.0).int8_or_null(transfer.timeout_seconds);
    row.uuid_or_null(transfer.user_data_128).numeric_or_null(transfer.user_data_64.into());
    row.int8_or_null(transfer.user_data_32);
    put_across(row, movement.across).booked_at(transfer);
}

fn put_across(row: &mut Rows, across: Option<Across>) -> &mut Rows {
    match across {
        None => row.null().null().null().null(),
        Some(Across { other, prepared, sides }) => {
            put_sides(row.int4(other.0.into()).int8(prepared.0 as i64), sides, other)
        }
    }
}

/// Columns `sides` and `transit_partition`, which is null if it is the partition that the row names anyway.
fn put_sides(row: &mut Rows, sides: Option<Sides>, named: PartitionId) -> &mut Rows {
    match sides {
        None => row.null(),
        Some(sides) => row.int2(sides.number()),
    };
    let elsewhere = sides.and_then(Sides::elsewhere);
    put_partition(row, elsewhere.filter(|elsewhere| *elsewhere != named))
}

fn put_partition(row: &mut Rows, partition: Option<PartitionId>) -> &mut Rows {
    match partition {
        None => row.null(),
        Some(partition) => row.int4(partition.0.into()),
    }
}

/// Appends the row of a guard that held.
pub fn put_guard(rows: &mut Rows, record: &Record<'_>, guard: &Guard) {
    let row = rows.begin(ACCOUNT_EVENTS.columns.len());
    row.uuid(guard.id.0).uuid(guard.account_id.0);
    row.int8(record.offset.0 as i64).time(record.time).int4(record.partition.0.into());
    row.int4(guard.flags.0.into()).text("guard");
    if guard.flags.contains(GuardFlags::VERSION) {
        row.numeric(guard.version.into());
    } else {
        row.null();
    }
    let available = GuardFlags::AVAILABLE_TO_DEBIT.with(GuardFlags::AVAILABLE_TO_CREDIT);
    if guard.flags.intersects(available) {
        row.numeric(guard.available.0);
    } else {
        row.null();
    }
    row.null().null().null();
}

/// Appends the row of a closing or reopening.
pub fn put_close(rows: &mut Rows, record: &Record<'_>, close: &Close) {
    let reopens = close.flags.contains(CloseFlags::REOPEN);
    let row = rows.begin(ACCOUNT_EVENTS.columns.len());
    row.uuid(close.id.0).uuid(close.account_id.0);
    row.int8(record.offset.0 as i64).time(record.time).int4(record.partition.0.into());
    row.int4(close.flags.0.into()).text(if reopens { "reopen" } else { "close" });
    row.null().null().null().null().null();
}

/// Appends the row of a naming.
pub fn put_name(rows: &mut Rows, record: &Record<'_>, name: &Name) {
    let row = rows.begin(ACCOUNT_EVENTS.columns.len());
    row.uuid(name.id.0).uuid(name.account_id.0);
    row.int8(record.offset.0 as i64).time(record.time).int4(record.partition.0.into());
    row.int4(name.flags.0.into()).text("name").null().null().null();
    row.text(name.name.text().unwrap_or_default()).null();
}

/// Appends the row of a ledger's description.
pub fn put_described(rows: &mut Rows, record: &Record<'_>, describe: &Describe) {
    let row = rows.begin(ACCOUNT_EVENTS.columns.len());
    row.uuid(describe.id.0).null();
    row.int8(record.offset.0 as i64).time(record.time).int4(record.partition.0.into());
    row.int4(describe.flags.0.into()).text("describe").null().null();
    row.int8(describe.ledger.0.into()).text(describe.name.text().unwrap_or_default());
    row.int2(describe.scale.into());
}

/// Appends the row of a refusal.
pub fn put_refused(rows: &mut Rows, record: &Record<'_>, refusal: &Refusal<'_>) {
    let row = rows.begin(REFUSED_EVENTS.columns.len());
    let id = refusal.transfer.as_ref().map_or(refusal.id, row_id);
    row.uuid_or_null(id).int8(record.offset.0 as i64).time(record.time);
    row.int4(record.partition.0.into()).int2(refusal.verdict.number().into()).text(refusal.kind);
    row.text(refusal.verdict.name()).text(refusal.verdict.meaning());
    match &refusal.transfer {
        None => row.null().null().null(),
        Some(transfer) => row
            .uuid_or_null(transfer.debit_account_id.0)
            .uuid_or_null(transfer.credit_account_id.0)
            .numeric(transfer.amount.0),
    };
    row.bytea(refusal.body);
    put_across(row, refusal.across);
}

/// Appends the row of a transfer that is prepared.
pub fn put_under_way(rows: &mut Rows, partition: PartitionId, prepared: &Prepared) {
    let Prepared { across, source, time, amount, debit, credit, ledger, code, ref body } =
        *prepared;
    let row = rows.begin(UNDER_WAY.columns.len());
    row.uuid_or_null(row_id(&prepared.transfer())).uuid(debit.0).uuid(credit.0);
    row.int8(across.prepared.0 as i64).time(time).int8(ledger.0.into());
    row.int4(partition.0.into()).int4(across.other.0.into()).int4(code.0.into());
    put_sides(row.numeric(amount.0).bytea(body), across.sides, across.other);
    match source {
        None => row.null().null().null(),
        Some(Source { home, place, origin }) => {
            put_partition(row.int4(home.0.into()).int8(place.0 as i64), origin)
        }
    };
}

/// Appends the row of an arrival.
pub fn put_arrival(rows: &mut Rows, record: &Record<'_>, arrived: &Arrived) {
    let Arrived { source, kind, ref transfer, verdict, amount, sides, next, .. } = *arrived;
    let Source { home, place, origin } = source;
    let row = rows.begin(ARRIVALS.columns.len());
    row.uuid_or_null(row_id(transfer))
        .uuid(transfer.debit_account_id.0)
        .uuid(transfer.credit_account_id.0);
    row.int8(record.offset.0 as i64).time(record.time).int8(place.0 as i64);
    row.int8(transfer.ledger.0.into()).int4(record.partition.0.into()).int4(home.0.into());
    row.int4(transfer.code.0.into()).int2(verdict.number().into()).numeric(amount.0);
    put_sides(row.text(kind.name()).uuid_or_null(transfer.pending_id.0), sides, home);
    put_partition(row, origin);
    match next {
        None => row.null().null(),
        Some((other, prepared)) => row.int4(other.0.into()).int8(prepared.0 as i64),
    };
    row.booked_at(transfer);
}

/// Appends the row of an opaque record.
pub fn put_opaque(rows: &mut Rows, record: &Record<'_>, id: u128, data: &[u8]) {
    let row = rows.begin(OPAQUE_RECORDS.columns.len());
    row.uuid(id).int8(record.offset.0 as i64).time(record.time);
    row.int4(record.partition.0.into()).bytea(data);
}
