//! `log` and `transfer`: records of the log.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use walengine_net::client::blocking::Client;
use walengine_net::client::{Page, ReadFrom};
use walengine_net::entry::{ANY_OFFSET, EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{
    Arrival, Event, GuardFlags, Offset, PartitionId, Resolved, Sent, Timestamp, Verdict,
};
use walengine_net::{names, say_aside};

use super::asking::{Asking, Freshly, seen, unconfirmed};
use super::output::{Format, Output};
use crate::fatal::{Fatal, Reason};

const COLUMNS: &[(&str, usize)] = &[
    ("partition", 9),
    ("offset", 10),
    ("timestamp", 19),
    ("kind", 8),
    ("verdict", 18),
    ("id", 39),
    ("debit_account", 39),
    ("credit_account", 39),
    ("amount", 14),
    ("ledger", 6),
    ("code", 5),
    ("flags", 0),
    ("pending_id", 0),
    ("user_data_128", 0),
    ("user_data_64", 0),
    ("user_data_32", 0),
    ("timeout_seconds", 0),
    ("version", 0),
    ("sent_debit_account", 0),
    ("sent_credit_account", 0),
    ("sent_amount", 0),
    ("sent_ledger", 0),
    ("sent_code", 0),
    ("bytes", 0),
    ("expected_offset", 0),
    ("data", 0),
];
/// Columns of text: a line that a person can read. CSV and JSON have all.
const TEXT_COLUMNS: &[(&str, usize)] = COLUMNS.split_at(12).0;
const PAGE_BYTES: usize = 256 << 10;
/// Longest wait for the log to grow, so that output is flushed and a closed pipe is noticed.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// Print the log, or follow it
///
/// Records of a partition's log, one per line, refusals included. Timestamps are nanoseconds since
/// 1970, amounts are in minor units. For a post, void, expiry or balancing transfer the effective
/// accounts and amount are printed.
///
/// CSV and JSON have every field of an event. What a transfer named itself is in the columns that
/// begin with `sent_`; the bytes of an opaque record are in `data`, as base64. This is a report:
/// what another cluster is to take over is written by `walengine export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine log --limit 10\n  \
    walengine log --from 1000 --format json\n  walengine log --follow")]
pub struct Arguments {
    /// Partition to read
    #[arg(long, value_name = "N", default_value_t = 0)]
    partition: u16,

    /// First offset to print
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,

    /// Stop after this many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Wait for more records until interrupted
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Print one transfer with its verdict and its place in the log
///
/// One transfer, guard or close. Asks every partition.
#[derive(Debug, clap::Args)]
pub struct TransferArguments {
    /// Name, number or UUID of the transfer
    #[arg(value_name = "ID|NAME")]
    transfer: String,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Prints the log.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect_to_read(&arguments.freshly)?;
    let partition = PartitionId(arguments.partition);
    let partitions = client.info().partitions;
    if partition.0 >= partitions {
        let message = format!("there is no partition {partition}: the cluster has {partitions}");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let mut printer = Printer {
        rows: Rows::new(arguments.asking.format)?,
        partition,
        from: Offset(arguments.from),
        left: arguments.limit.unwrap_or(u64::MAX),
    };
    if arguments.follow {
        return follow(&client, &mut printer);
    }
    let mut tokens = arguments.freshly.at.clone();
    let (mut client, mut is_sure) = (client, arguments.freshly.linearizable);
    while printer.left > 0 {
        let page = client.read_log(partition, printer.from, PAGE_BYTES, &tokens);
        let page = match page {
            Err(error) if is_sure && !arguments.freshly.linearizable => {
                printer.rows.output.flush()?;
                return Err(unconfirmed("records", partition, error));
            }
            page => page?,
        };
        // Another node may answer next. Its state must include what this one has shown.
        seen(&mut tokens, &client, partition, page.durable_offset);
        if page.next_offset > printer.from {
            printer.page(&page)?;
        } else if is_sure {
            break;
        } else {
            // A node that lags is at its end sooner. Only the leader knows where the log ends.
            printer.rows.output.flush()?;
            (client, is_sure) = (client.reading(ReadFrom::Linearizable), true);
        }
    }
    printer.rows.output.flush()
}

fn follow(client: &Client, printer: &mut Printer) -> Result<(), Fatal> {
    let mut subscription = client.subscribe(printer.partition, printer.from);
    let mut was_lost = false;
    while printer.left > 0 {
        let page = subscription.next_within(FOLLOW_WAIT)?;
        let trouble = subscription.trouble();
        if trouble.is_some() != was_lost {
            was_lost = trouble.is_some();
            match trouble {
                Some(trouble) => say_aside!("connection lost: {trouble}; trying again"),
                None => say_aside!("connected again; nothing was left out"),
            }
        }
        if let Some(page) = page {
            printer.page(&page)?;
        }
        printer.rows.output.flush()?;
    }
    Ok(())
}

/// Prints one event, or fails if there is none.
pub fn run_transfer(arguments: &TransferArguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect_to_read(&arguments.freshly)?;
    let id = names::event_id(&arguments.transfer);
    let found = client.lookup_transfers(&[id], &arguments.freshly.at)?;
    let Some(found) = found.into_iter().flatten().next() else {
        let message = format!("no transfer {} (id {id}) was ever decided", arguments.transfer);
        return Err(Fatal::new(Reason::Findings, message));
    };
    let mut rows = Rows::new(arguments.asking.format)?;
    let record = Record {
        partition: found.partition,
        offset: found.offset,
        timestamp: found.timestamp,
        verdict: found.verdict,
    };
    rows.put(&event_row(&record, Ok(found.event), found.resolved.as_ref()))?;
    rows.output.flush()
}

/// Prints rows with the columns of their format.
struct Rows {
    output: Output,
    columns: usize,
}

impl Rows {
    fn new(format: Format) -> Result<Self, Fatal> {
        let columns = if format == Format::Text { TEXT_COLUMNS } else { COLUMNS };
        Ok(Self { output: Output::new(format, columns)?, columns: columns.len() })
    }

    fn put(&mut self, row: &Row) -> Result<(), Fatal> {
        self.output.row(&row.0[..self.columns])
    }
}

struct Printer {
    rows: Rows,
    partition: PartitionId,
    /// Next offset to print.
    from: Offset,
    left: u64,
}

/// Fields that every record has.
struct Record {
    partition: PartitionId,
    offset: Offset,
    timestamp: Timestamp,
    verdict: Verdict,
}

impl Printer {
    fn page(&mut self, page: &Page) -> Result<(), Fatal> {
        for entry in page.entries() {
            let (header, body) = entry.map_err(|error| {
                Fatal::new(Reason::Server, format!("the server sent a bad entry: {error}"))
            })?;
            self.entry(&header, body)?;
        }
        self.from = self.from.max(page.next_offset);
        Ok(())
    }

    fn entry(&mut self, header: &EntryHeader, body: &[u8]) -> Result<(), Fatal> {
        let bad =
            |error| Fatal::new(Reason::Server, format!("the server sent a bad entry: {error}"));
        match header.meta.kind {
            EntryKind::Events => {
                let body = access_events(body).map_err(bad)?;
                let mut resolved = body.resolved.iter().map(Resolved::from_bytes).peekable();
                for ((event, verdict), index) in
                    body.events.iter().zip(body.verdicts.iter()).zip(0u32..)
                {
                    let effective = resolved.next_if(|resolved| resolved.index == index);
                    let record = self.record(header, index, *verdict);
                    self.row(&record, || {
                        event_row(&record, Event::from_bytes(event), effective.as_ref())
                    })?;
                }
            }
            EntryKind::Records => {
                let body = access_records(body).map_err(bad)?;
                let mut blob = body.blob.as_slice();
                for ((head, verdict), index) in
                    body.heads.iter().zip(body.verdicts.iter()).zip(0u32..)
                {
                    let record = self.record(header, index, *verdict);
                    // The lengths add up to the blob's: the body was opened.
                    let (data, behind) = blob.split_at(head.bytes.to_native() as usize);
                    blob = behind;
                    self.row(&record, || {
                        let mut row = record.row("record", head.id.to_native());
                        row.set("flags", &format!("{} bytes", head.bytes));
                        row.set("bytes", &head.bytes);
                        row.set("data", &BASE64.encode(data));
                        if head.expected_offset != ANY_OFFSET {
                            row.set("expected_offset", &head.expected_offset);
                        }
                        row
                    })?;
                }
            }
            EntryKind::Blank | EntryKind::Membership => {}
        }
        Ok(())
    }

    fn record(&self, header: &EntryHeader, index: u32, verdict: u8) -> Record {
        Record {
            partition: self.partition,
            offset: header.meta.base_offset.plus(u64::from(index)),
            timestamp: Timestamp(header.meta.timestamp.0.saturating_add(u64::from(index))),
            // Unknown numbers were refused when the body was opened.
            verdict: Verdict::from_number(verdict).unwrap_or(Verdict::Ok),
        }
    }

    fn row(&mut self, record: &Record, values: impl FnOnce() -> Row) -> Result<(), Fatal> {
        if record.offset < self.from || self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        self.rows.put(&values())
    }
}

/// One value for each of [`COLUMNS`].
#[derive(Debug, Default)]
struct Row([String; COLUMNS.len()]);

impl Row {
    /// Fills a column.
    ///
    /// # Panics
    /// If there is no such column.
    fn set(&mut self, column: &str, value: &impl ToString) {
        let place = COLUMNS.iter().position(|(name, _)| *name == column);
        self.0[place.expect("a column of the list")] = value.to_string();
    }

    /// As [`Self::set`], if the value is not zero: not every event has such a field.
    fn set_if_any<T: Default + PartialEq + ToString>(&mut self, column: &str, value: &T) {
        if *value != T::default() {
            self.set(column, value);
        }
    }

    fn flags(&mut self, names: &[&str]) {
        self.set("flags", &names.join("|").to_lowercase());
    }
}

impl Record {
    fn row(&self, kind: &str, id: u128) -> Row {
        let mut row = Row::default();
        row.set("partition", &self.partition);
        row.set("offset", &self.offset);
        row.set("timestamp", &self.timestamp);
        row.set("kind", &kind);
        row.set("verdict", &self.verdict.name());
        row.set("id", &id);
        row
    }
}

fn event_row(record: &Record, event: Result<Event, u8>, effective: Option<&Resolved>) -> Row {
    let mut row = match event {
        Ok(
            Event::Transfer(transfer)
            | Event::Arrival(Arrival { sent: Sent::Transfer(transfer), .. }),
        ) => {
            let kind = if matches!(event, Ok(Event::Arrival(_))) { "arrival" } else { "transfer" };
            let mut row = record.row(kind, transfer.id.0);
            let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
            for prefix in ["", "sent_"] {
                row.set(&format!("{prefix}debit_account"), &debit);
                row.set(&format!("{prefix}credit_account"), &credit);
                row.set(&format!("{prefix}amount"), &transfer.amount);
                row.set(&format!("{prefix}ledger"), &transfer.ledger);
                row.set(&format!("{prefix}code"), &transfer.code);
            }
            row.flags(&transfer.flags.names());
            row.set_if_any("pending_id", &transfer.pending_id);
            row.set_if_any("user_data_128", &transfer.user_data_128);
            row.set_if_any("user_data_64", &transfer.user_data_64);
            row.set_if_any("user_data_32", &transfer.user_data_32);
            row.set_if_any("timeout_seconds", &transfer.timeout_seconds);
            row
        }
        Ok(
            Event::Account(account) | Event::Arrival(Arrival { sent: Sent::Account(account), .. }),
        ) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let kind = if is_arrival { "account_arrival" } else { "account" };
            let mut row = record.row(kind, account.id.0);
            row.set("ledger", &account.ledger);
            row.set("code", &account.code);
            row.flags(&account.flags.names());
            row.set_if_any("user_data_128", &account.user_data_128);
            row.set_if_any("user_data_64", &account.user_data_64);
            row
        }
        Ok(Event::Guard(guard) | Event::Arrival(Arrival { sent: Sent::Guard(guard), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let kind = if is_arrival { "guard_arrival" } else { "guard" };
            let mut row = record.row(kind, guard.id.0);
            row.set("debit_account", &guard.account_id);
            row.set("amount", &guard.available);
            row.flags(&guard.flags.names());
            if guard.flags.contains(GuardFlags::VERSION) {
                row.set("version", &guard.version);
            }
            row
        }
        Ok(Event::Close(close) | Event::Arrival(Arrival { sent: Sent::Close(close), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let mut row =
                record.row(if is_arrival { "close_arrival" } else { "close" }, close.id.0);
            row.set("debit_account", &close.account_id);
            row.flags(&close.flags.names());
            row
        }
        Ok(Event::Expire(expire)) => {
            let mut row = record.row("expire", expire.pending_id.0);
            row.set("pending_id", &expire.pending_id);
            row
        }
        Ok(Event::Mail(mail)) => record.row("mail", mail.home.0.into()),
        Ok(Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let mut row = record.row(if is_arrival { "word_arrival" } else { "word" }, word.id.0);
            row.set("verdict", &word.verdict);
            row
        }
        Err(number) => record.row(&format!("kind {number}"), 0),
    };
    if let Some(effective) = effective {
        row.set("debit_account", &effective.debit_account_id);
        row.set("credit_account", &effective.credit_account_id);
        row.set("amount", &effective.amount);
        row.set("ledger", &effective.ledger);
        row.set("code", &effective.code);
    }
    row
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{Account, AccountFlags, Guard, TransferFlags};
    use walengine_net::model::{AccountId, Amount, Code, EventId, LedgerId, Transfer};

    use super::*;

    const RECORD: Record = Record {
        partition: PartitionId(1),
        offset: Offset(2),
        timestamp: Timestamp(3),
        verdict: Verdict::Ok,
    };

    fn value(row: &Row, column: &str) -> String {
        row.0[COLUMNS.iter().position(|(name, _)| *name == column).unwrap()].clone()
    }

    /// A column for each field was missing once, and what was made of such rows lost reservations,
    /// time limits and limits of accounts.
    #[test]
    fn a_row_has_every_field_of_its_event() {
        let transfer = Transfer {
            id: EventId(11),
            debit_account_id: AccountId(12),
            credit_account_id: AccountId(13),
            amount: Amount(14),
            pending_id: EventId(15),
            user_data_128: 16,
            user_data_64: 17,
            user_data_32: 18,
            timeout_seconds: 19,
            ledger: LedgerId(20),
            code: Code(21),
            flags: TransferFlags::PENDING.with(TransferFlags::LINKED),
            timestamp: Timestamp(0),
        };
        let effective = Resolved {
            debit_account_id: AccountId(112),
            credit_account_id: AccountId(113),
            amount: Amount(114),
            index: 0,
            ledger: LedgerId(120),
            code: Code(121),
        };
        let row = event_row(&RECORD, Ok(Event::Transfer(transfer)), Some(&effective));
        let all: Vec<_> = row.0.iter().map(String::as_str).collect();
        let expected = [
            "1",
            "2",
            "3",
            "transfer",
            "ok",
            "11",
            "112",
            "113",
            "114",
            "120",
            "121",
            "linked|pending",
            "15",
            "16",
            "17",
            "18",
            "19",
            "",
            "12",
            "13",
            "14",
            "20",
            "21",
            "",
            "",
            "",
        ];
        assert_eq!(all, expected);

        let account = Account {
            id: AccountId(1),
            user_data_128: 2,
            user_data_64: 3,
            ledger: LedgerId(4),
            code: Code(5),
            flags: AccountFlags::CLOSED,
            ..Account::default()
        };
        let row = event_row(&RECORD, Ok(Event::Account(account)), None);
        let columns = ["id", "user_data_128", "user_data_64", "ledger", "code", "flags"];
        let found = columns.map(|column| value(&row, column));
        assert_eq!(found, ["1", "2", "3", "4", "5", "closed"]);

        let guard = Guard {
            id: EventId(1),
            account_id: AccountId(2),
            available: Amount(3),
            version: 0,
            flags: GuardFlags::VERSION.with(GuardFlags::AVAILABLE_TO_DEBIT),
        };
        let row = event_row(&RECORD, Ok(Event::Guard(guard)), None);
        let columns = ["debit_account", "amount", "version", "flags"];
        let found = columns.map(|column| value(&row, column));
        assert_eq!(found, ["2", "3", "0", "version|available_to_debit"]);
    }
}
