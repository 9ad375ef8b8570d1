//! `log`: records of the log. [`show`] prints one of them, for `transfer`.

mod row;
pub mod seek;
mod words;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use walengine_net::client::blocking::Client;
use walengine_net::client::{Page, ReadFrom};
use walengine_net::model::{AccountId, Event, Offset, PartitionId, Resolved, Verdict};
use walengine_net::records::{Content, LogRecord, records};
use walengine_net::{names, say_aside};

use super::amounts::Decimals;
use super::asking::{Asking, Freshly, seen, unconfirmed};
use super::called::Called;
use super::ids::{self, ShownIds};
use super::money_rows::MoneyRows;
use super::output::Format;
use crate::fatal::{Fatal, Reason};
use row::{AMOUNTS, COLUMNS, Record, Row, event_row};
use seek::{Place, place};

const PAGE_BYTES: usize = 256 << 10;
/// Longest wait for the log to grow, so that output is flushed and a closed pipe is noticed.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// Print the log, or follow it
///
/// Records of a partition's log, one per line, refusals included. For a
/// post, void, expiry or balancing transfer the effective accounts and amount are printed.
///
/// --from and --to take an offset or a time: 2026-11-01, "2026-11-01 14:00", 2026-11-01T14:00:00+01:00,
/// or -2h for two hours ago (s, m, h, d, w). A time without a zone is UTC, as all that are printed.
///
/// Text has kinds in words, names of accounts and decimals of described ledgers, times to the microsecond, and long ids short, where they are unique, or
/// whole with --full. CSV and JSON have every field of an event, exactly: times are nanoseconds since
/// 1970, amounts are minor units (and of described ledgers decimals beside them, in `amount_decimal`), and ids are numbers. What a transfer named itself is in the columns that begin with `sent_`; the bytes of an opaque record are in `data`, as base64. This is a report:
/// what another cluster is to take over is written by `walengine export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine log --limit 10\n  \
    walengine log --from 1000 --format json\n  walengine log --from -2h --to -1h\n  \
    walengine log --follow")]
pub struct Arguments {
    /// Partition to read
    #[arg(long, value_name = "N", default_value_t = 0)]
    partition: u16,

    /// First offset to print, or log time of the first record
    #[arg(long, value_name = "OFFSET|TIME", default_value = "0", allow_hyphen_values = true, value_parser = place)]
    from: Place,

    /// Print only what is before this offset or log time
    #[arg(long, value_name = "OFFSET|TIME", allow_hyphen_values = true, value_parser = place)]
    to: Option<Place>,

    /// Stop after this many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Wait for more records until interrupted
    #[arg(long)]
    follow: bool,

    /// Print ids whole
    #[arg(long)]
    full: bool,

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
    let from = match arguments.from {
        Place::Offset(offset) => offset,
        Place::Time(time) => seek::first_at(&client, partition, time, &arguments.freshly.at)?,
    };
    let mut printer = Printer {
        rows: Rows::new(&client, arguments.asking.format, arguments.full)?,
        partition,
        from,
        to: arguments.to,
        left: arguments.limit.unwrap_or(u64::MAX),
        found: Vec::new(),
    };
    if arguments.follow {
        let tokens = &arguments.freshly.at;
        let mut end = client.read_log(partition, Offset(u64::MAX), 1, tokens)?.durable_offset;
        if printer.from > end {
            end = seek::end(&client, partition)?; // a node that lags ends sooner
        }
        if printer.from > end {
            let message =
                format!("{}; --follow would leave out what comes below it", past(&printer, end));
            return Err(Fatal::new(Reason::Findings, message));
        }
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
            if printer.from > page.durable_offset {
                say_aside!("{}: there is nothing", past(&printer, page.durable_offset));
            }
            break;
        } else {
            // A node that lags is at its end sooner. Only the leader knows where the log ends.
            printer.rows.output.flush()?;
            (client, is_sure) = (client.reading(ReadFrom::Linearizable), true);
        }
    }
    printer.rows.output.flush()
}

/// What was asked for is behind the end of the log. Offsets are small numbers, and easily taken for times.
fn past(Printer { partition, from, .. }: &Printer, end: Offset) -> String {
    format!("offset {from} is past the end of partition {partition}, whose next record is {end}")
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

/// Prints the transfer, guard or close of an id, or fails if there is none.
pub fn show(name: &str, freshly: &Freshly, asking: &Asking, is_whole: bool) -> Result<(), Fatal> {
    let client = asking.connect_to_read(freshly)?;
    let id = names::event_id(name);
    let found = client.lookup_transfers(&[id], &freshly.at)?;
    let Some(found) = found.into_iter().flatten().next() else {
        let message = format!("no transfer {name} (id {}) was ever decided", ids::whole(id.0));
        return Err(Fatal::new(Reason::Findings, message));
    };
    let mut rows = Rows::new(&client, asking.format, is_whole)?;
    let record = Record {
        partition: found.partition,
        offset: found.offset,
        timestamp: found.timestamp,
        verdict: found.verdict,
    };
    let row = event_row(&record, Ok(found.event), found.resolved.as_ref());
    rows.look_up([&row].into_iter())?;
    rows.put(&row)?;
    rows.output.flush()
}

/// Prints rows with the columns of their format.
struct Rows {
    output: MoneyRows,
    called: Called,
    /// Of text only.
    shown: Option<ShownIds>,
}

impl Rows {
    fn new(client: &Client, format: Format, is_whole: bool) -> Result<Self, Fatal> {
        let called = Called::new(client, Decimals::default())?;
        if format != Format::Text {
            return Ok(Self {
                output: MoneyRows::new(format, COLUMNS, AMOUNTS)?,
                called,
                shown: None,
            });
        }
        let columns = ids::widened(words::COLUMNS, words::OF_IDS, is_whole);
        let shown = Some(ShownIds::new(is_whole));
        Ok(Self { output: MoneyRows::new(format, &columns, AMOUNTS)?, called, shown })
    }

    /// Asks for the names in these rows, if they will be shown.
    fn look_up<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) -> Result<(), Fatal> {
        if self.shown.is_none() {
            return Ok(());
        }
        let ids = rows.flat_map(|row| ["debit_account", "credit_account"].map(|it| row.value(it)));
        self.called.look_up(ids.filter_map(|id| id.parse().ok()).map(AccountId))
    }

    fn put(&mut self, row: &Row) -> Result<(), Fatal> {
        if row.value("kind") == "describe"
            && row.value("verdict") == Verdict::Ok.name()
            && let Ok(scale) = row.value("scale").parse()
            && let Some(record) = row.place()
        {
            self.called.described(row.ledger(), scale, record)?;
        }
        let decimals = self.called.decimals(row.ledger());
        match &mut self.shown {
            Some(shown) => {
                self.output.row(&words::in_words(row, shown, Some(&self.called)), decimals)
            }
            None => self.output.row(&row.0, decimals),
        }
    }
}

struct Printer {
    rows: Rows,
    partition: PartitionId,
    /// Next offset to print.
    from: Offset,
    /// What is to be printed ends before it.
    to: Option<Place>,
    left: u64,
    /// Rows of a page, until the names in them are known.
    found: Vec<Row>,
}

impl Printer {
    fn page(&mut self, page: &Page) -> Result<(), Fatal> {
        let bad =
            |error| Fatal::new(Reason::Server, format!("the server sent a bad entry: {error}"));
        for entry in page.entries() {
            let (header, body) = entry.map_err(bad)?;
            for record in records(&header, body).map_err(bad)? {
                self.record(&record);
            }
        }
        self.rows.look_up(self.found.iter())?;
        for row in std::mem::take(&mut self.found) {
            self.rows.put(&row)?;
        }
        self.from = self.from.max(page.next_offset);
        Ok(())
    }

    fn record(&mut self, LogRecord { offset, timestamp, verdict, content }: &LogRecord<'_>) {
        let record = Record {
            partition: self.partition,
            offset: *offset,
            timestamp: *timestamp,
            verdict: *verdict,
        };
        self.row(&record, || match content {
            Content::Event { event, resolved } => {
                let effective = resolved.map(Resolved::from_bytes);
                event_row(&record, Event::from_bytes(event), effective.as_ref())
            }
            Content::Opaque { id, expected_offset, data } => {
                let mut row = record.row("record", *id);
                row.set("flags", &format!("{} bytes", data.len()));
                row.set("bytes", &data.len());
                row.set("data", &BASE64.encode(data));
                if let Some(expected) = expected_offset {
                    row.set("expected_offset", expected);
                }
                row
            }
        });
    }

    fn row(&mut self, record: &Record, values: impl FnOnce() -> Row) {
        if record.offset < self.from || self.left == 0 {
            return;
        }
        let is_past = match self.to {
            None => false,
            Some(Place::Offset(to)) => record.offset >= to,
            Some(Place::Time(to)) => record.timestamp >= to,
        };
        if is_past {
            self.left = 0;
            return;
        }
        self.left -= 1;
        self.found.push(values());
    }
}
