//! `log` and `transfer`: records of the log.

use std::time::Duration;

use walengine_net::client::Page;
use walengine_net::client::blocking::Client;
use walengine_net::entry::{EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{Event, Offset, PartitionId, Resolved, Timestamp, Verdict};
use walengine_net::names;

use super::output::Output;
use super::{Asking, Freshly, seen};
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
];
const PAGE_BYTES: usize = 256 << 10;
/// Longest wait for the log to grow, so that output is flushed and a closed pipe is noticed.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// Records of a partition's log, one per line, refusals included. Timestamps are nanoseconds since
/// 1970, amounts are in minor units. For a post, void, expiry or balancing transfer the effective
/// accounts and amount are printed.
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
        output: Output::new(arguments.asking.format, COLUMNS)?,
        partition,
        from: Offset(arguments.from),
        left: arguments.limit.unwrap_or(u64::MAX),
    };
    if arguments.follow {
        return follow(&client, &mut printer);
    }
    let mut tokens = arguments.freshly.at.clone();
    while printer.left > 0 {
        let page = client.read_log(partition, printer.from, PAGE_BYTES, &tokens)?;
        // Another node may answer next. Its state must include what this one has shown.
        seen(&mut tokens, &client, partition, page.durable_offset);
        if page.next_offset <= printer.from {
            break;
        }
        printer.page(&page)?;
    }
    printer.output.flush()
}

fn follow(client: &Client, printer: &mut Printer) -> Result<(), Fatal> {
    let mut subscription = client.subscribe(printer.partition, printer.from);
    while printer.left > 0 {
        if let Some(page) = subscription.next_within(FOLLOW_WAIT)? {
            printer.page(&page)?;
        }
        printer.output.flush()?;
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
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    let record = Record {
        partition: found.partition,
        offset: found.offset,
        timestamp: found.timestamp,
        verdict: found.verdict,
    };
    output.row(&event_row(&record, Ok(found.event), found.resolved.as_ref()))?;
    output.flush()
}

struct Printer {
    output: Output,
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
                for ((head, verdict), index) in
                    body.heads.iter().zip(body.verdicts.iter()).zip(0u32..)
                {
                    let record = self.record(header, index, *verdict);
                    self.row(&record, || {
                        let mut values = record.row("record", head.id.to_native());
                        values[11] = format!("{} bytes", head.bytes);
                        values
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
        self.output.row(&values())
    }
}

type Row = [String; 12];

impl Record {
    fn row(&self, kind: &str, id: u128) -> Row {
        let mut values = Row::default();
        values[0] = self.partition.to_string();
        values[1] = self.offset.to_string();
        values[2] = self.timestamp.to_string();
        kind.clone_into(&mut values[3]);
        self.verdict.name().clone_into(&mut values[4]);
        values[5] = id.to_string();
        values
    }
}

fn event_row(record: &Record, event: Result<Event, u8>, effective: Option<&Resolved>) -> Row {
    let mut values = match event {
        Ok(Event::Transfer(transfer)) => {
            let mut values = record.row("transfer", transfer.id.0);
            values[6] = transfer.debit_account_id.to_string();
            values[7] = transfer.credit_account_id.to_string();
            values[8] = transfer.amount.to_string();
            values[9] = transfer.ledger.to_string();
            values[10] = transfer.code.to_string();
            values[11] = transfer.flags.names().join("|").to_lowercase();
            values
        }
        Ok(Event::Account(account)) => {
            let mut values = record.row("account", account.id.0);
            values[9] = account.ledger.to_string();
            values[10] = account.code.to_string();
            values[11] = account.flags.names().join("|").to_lowercase();
            values
        }
        Ok(Event::Guard(guard)) => {
            let mut values = record.row("guard", guard.id.0);
            values[6] = guard.account_id.to_string();
            values[8] = guard.available.to_string();
            values[11] = guard.flags.names().join("|").to_lowercase();
            values
        }
        Ok(Event::Close(close)) => {
            let mut values = record.row("close", close.id.0);
            values[6] = close.account_id.to_string();
            values[11] = close.flags.names().join("|").to_lowercase();
            values
        }
        Ok(Event::Expire(expire)) => record.row("expire", expire.pending_id.0),
        Err(number) => record.row(&format!("kind {number}"), 0),
    };
    if let Some(effective) = effective {
        values[6] = effective.debit_account_id.to_string();
        values[7] = effective.credit_account_id.to_string();
        values[8] = effective.amount.to_string();
        values[9] = effective.ledger.to_string();
        values[10] = effective.code.to_string();
    }
    values
}
