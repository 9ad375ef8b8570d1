//! `import`: transfers from a CSV file. Each is decided once, however often the file is imported.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};
use walengine_net::client::blocking::Client;
use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{
    Account, AccountId, Amount, Book, Code, EventBytes, EventId, LedgerId, Transfer, TransferFlags,
    Verdict,
};
use walengine_net::names;
use walengine_net::{say, say_aside};

use super::{Asking, take_over};
use crate::fatal::{Fatal, Reason};
use crate::limits::IMPORT_CREATED_MAX;

/// Rows that are sent at a time: one batch for a partition, with room for the end of a chain. The
/// next rows are sent when these are answered. Otherwise, after a lost connection, a batch could be
/// decided before an earlier one that it depends on, and a refusal is for ever.
const CHUNK_ROWS: usize = EVENTS_MAX - 1024;

const REQUIRED: [&str; 6] = ["id", "debit_account", "credit_account", "amount", "ledger", "code"];
const OPTIONAL: [&str; 6] =
    ["pending_id", "user_data_128", "user_data_64", "user_data_32", "timeout_seconds", "flags"];

/// Columns: id, `debit_account`, `credit_account`, amount (minor units), ledger, code. Optional
/// columns: `pending_id`, `user_data_128`, `user_data_64`, `user_data_32`, `timeout_seconds`, flags
/// (names joined by |). Other columns are ignored.
///
/// Ids and accounts are UUIDs, numbers or any text. The same text always becomes the same id. A row
/// that was imported before is a repeat and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine import transfers.csv.gz --create-accounts\n  \
    walengine import june.csv --book 7 --refused june.refused.csv\n\n\
    Exit code: 0 if every row was accepted, now or before; 1 if some were refused.")]
pub struct Arguments {
    /// CSV file with a header; a .gz file is unpacked
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Create missing accounts, on the ledger of the first row that names them
    #[arg(long)]
    create_accounts: bool,

    /// Code of created accounts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    account_code: u16,

    /// Book of names and small numbers; accounts of one book share a partition
    #[arg(long, value_name = "N", default_value_t = 0)]
    book: u32,

    /// File for refused rows with their reasons [default: FILE's name with .refused.csv, in this
    /// directory]
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,

    /// Stop at the first row that can't be read
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Place of each column.
struct Columns {
    required: [usize; REQUIRED.len()],
    optional: [Option<usize>; OPTIONAL.len()],
}

struct Row {
    line: u64,
    record: StringRecord,
    transfer: Transfer,
}

/// Results of the rows so far.
#[derive(Default)]
struct Summary {
    rows: u64,
    accepted: u64,
    repeats: u64,
    refused: BTreeMap<&'static str, u64>,
    unreadable: u64,
    accounts: u64,
}

/// Rows that were not accepted, for a file that is created only if there are any.
struct RefusedFile {
    path: PathBuf,
    header: StringRecord,
    writer: Option<csv::Writer<File>>,
}

/// Opens a CSV file with a header, unpacking `.gz`.
pub fn open_csv(path: &PathBuf) -> Result<csv::Reader<Box<dyn Read>>, Fatal> {
    Ok(open_counted(path)?.0)
}

/// The error of a malformed CSV file.
pub fn csv_failed(error: &csv::Error) -> Fatal {
    Fatal::new(Reason::File, format!("the file can't be read as CSV: {error}"))
}

/// Imports a file.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    if take_over::is_export(&arguments.file) {
        return take_over::run(&arguments.file, &arguments.asking, false);
    }
    let started = Instant::now();
    let (mut reader, read, total) = open_counted(&arguments.file)?;
    let header = reader.headers().map_err(|error| csv_failed(&error))?.clone();
    let columns = Columns::find(&header)?;
    let client = arguments.asking.connect()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone()).map_err(|error| {
            Fatal::new(Reason::File, format!("cannot watch for signals: {error}"))
        })?;
    }
    let bar = progress_bar(total);
    let mut refused = RefusedFile::new(arguments, header);
    let mut summary = Summary::default();
    let mut created = HashSet::new();
    let mut rows = Vec::with_capacity(CHUNK_ROWS);
    let mut records = reader.records();
    loop {
        read_rows(arguments, &columns, &mut records, &mut rows, &mut refused, &mut summary)?;
        if rows.is_empty() {
            break;
        }
        if arguments.create_accounts {
            create_accounts(arguments, &client, &rows, &mut created, &mut summary)?;
        }
        submit(&client, &rows, &mut refused, &mut summary)?;
        rows.clear();
        bar.set_position(read.load(Ordering::Relaxed).min(total));
        bar.set_message(rate(summary.rows, started.elapsed()));
        if interrupted.load(Ordering::Relaxed) {
            bar.finish_and_clear();
            let message = format!(
                "interrupted after {} rows, which are imported; run it again to go on: they will \
                 be repeats",
                summary.rows
            );
            return Err(Fatal::new(Reason::Interrupted, message));
        }
    }
    bar.finish_and_clear();
    refused.finish()?;
    summary.print(started.elapsed());
    summary.result(&refused)
}

type Counted = (csv::Reader<Box<dyn Read>>, Arc<AtomicU64>, u64);

fn open_counted(path: &PathBuf) -> Result<Counted, Fatal> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        Fatal::new(Reason::File, format!("cannot open {shown}: {error}; is the path right?"))
    })?;
    let total = file.metadata().map_or(0, |metadata| metadata.len());
    let read = Arc::new(AtomicU64::new(0));
    let counting = BufReader::new(Counting { file, read: read.clone() });
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let source: Box<dyn Read> = if packed {
        Box::new(flate2::read::MultiGzDecoder::new(counting))
    } else {
        Box::new(counting)
    };
    let reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(source);
    Ok((reader, read, total))
}

/// Counts the bytes read from a file, for the progress bar.
struct Counting {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, Fatal> {
        let place = |name: &str| header.iter().position(|column| column == name);
        let mut required = [0; REQUIRED.len()];
        for (at, name) in required.iter_mut().zip(REQUIRED) {
            *at = place(name).ok_or_else(|| {
                let has = header.iter().collect::<Vec<_>>().join(",");
                let message = format!("the header has no column {name}; it is: {has}");
                Fatal::new(Reason::File, message)
            })?;
        }
        let known = |name: &&str| !REQUIRED.contains(name) && !OPTIONAL.contains(name);
        let ignored: Vec<_> = header.iter().filter(known).collect();
        if !ignored.is_empty() {
            say_aside!("ignoring columns: {}", ignored.join(", "));
        }
        Ok(Self { required, optional: OPTIONAL.map(place) })
    }

    /// The transfer of a row, or what is wrong with it.
    fn transfer(&self, record: &StringRecord, book: Book) -> Result<Transfer, String> {
        let required = |which: usize| match record.get(self.required[which]) {
            None | Some("") => Err(format!("{} is empty", REQUIRED[which])),
            Some(text) => Ok(text),
        };
        let optional = |which: usize| {
            self.optional[which].and_then(|at| record.get(at)).filter(|text| !text.is_empty())
        };
        let number = |which: usize| -> Result<u128, String> {
            optional(which).map_or(Ok(0), |text| parse(OPTIONAL[which], text))
        };
        Ok(Transfer {
            id: names::event_id(required(0)?),
            debit_account_id: names::account_id(book, required(1)?),
            credit_account_id: names::account_id(book, required(2)?),
            amount: Amount(parse(REQUIRED[3], required(3)?)?),
            ledger: LedgerId(parse(REQUIRED[4], required(4)?)?),
            code: Code(parse(REQUIRED[5], required(5)?)?),
            pending_id: optional(0).map_or(EventId(0), names::event_id),
            user_data_128: number(1)?,
            user_data_64: narrow(OPTIONAL[2], number(2)?)?,
            user_data_32: narrow(OPTIONAL[3], number(3)?)?,
            timeout_seconds: narrow(OPTIONAL[4], number(4)?)?,
            flags: optional(5).map_or(Ok(TransferFlags::default()), flags)?,
            ..Transfer::default()
        })
    }
}

fn parse<T: std::str::FromStr>(column: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{column} is {text:?}, not a whole number in range"))
}

fn narrow<T: TryFrom<u128>>(column: &str, number: u128) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{column} is {number}, out of range"))
}

fn flags(text: &str) -> Result<TransferFlags, String> {
    const NAMES: [(&str, TransferFlags); 6] = [
        ("linked", TransferFlags::LINKED),
        ("pending", TransferFlags::PENDING),
        ("post_pending", TransferFlags::POST_PENDING),
        ("void_pending", TransferFlags::VOID_PENDING),
        ("balancing_debit", TransferFlags::BALANCING_DEBIT),
        ("balancing_credit", TransferFlags::BALANCING_CREDIT),
    ];
    text.split('|').try_fold(TransferFlags::default(), |flags, name| {
        let found = NAMES.iter().find(|(known, _)| *known == name.trim());
        let all = NAMES.map(|(known, _)| known).join(", ");
        found
            .map(|(_, flag)| flags.with(*flag))
            .ok_or_else(|| format!("flag {name:?} is not one of {all}"))
    })
}

/// Reads the next rows. A row that can't be read counts as refused. A chain is not cut.
fn read_rows(
    arguments: &Arguments,
    columns: &Columns,
    records: &mut csv::StringRecordsIter<'_, Box<dyn Read>>,
    rows: &mut Vec<Row>,
    refused: &mut RefusedFile,
    summary: &mut Summary,
) -> Result<(), Fatal> {
    let linked = |rows: &Vec<Row>| {
        rows.last().is_some_and(|row| row.transfer.flags.contains(TransferFlags::LINKED))
    };
    while rows.len() < CHUNK_ROWS || (linked(rows) && rows.len() < EVENTS_MAX) {
        let Some(record) = records.next() else { break };
        summary.rows += 1;
        let record = match record {
            Ok(record) => record,
            // The bytes after it may not be rows.
            Err(error) if error.is_io_error() => return Err(csv_failed(&error)),
            Err(error) => {
                unreadable(arguments, &StringRecord::new(), 0, &error.to_string(), refused)?;
                summary.unreadable += 1;
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        match columns.transfer(&record, Book(arguments.book)) {
            Ok(transfer) => rows.push(Row { line, record, transfer }),
            Err(why) => {
                unreadable(arguments, &record, line, &why, refused)?;
                summary.unreadable += 1;
            }
        }
    }
    Ok(())
}

fn unreadable(
    arguments: &Arguments,
    record: &StringRecord,
    line: u64,
    why: &str,
    refused: &mut RefusedFile,
) -> Result<(), Fatal> {
    if arguments.strict {
        return Err(Fatal::new(Reason::File, format!("line {line}: {why}")));
    }
    refused.write(record, line, "unreadable", why)
}

fn create_accounts(
    arguments: &Arguments,
    client: &Client,
    rows: &[Row],
    created: &mut HashSet<AccountId>,
    summary: &mut Summary,
) -> Result<(), Fatal> {
    if created.len() > IMPORT_CREATED_MAX {
        created.clear();
    }
    let mut wanted = Vec::new();
    for Row { transfer, .. } in rows {
        for id in [transfer.debit_account_id, transfer.credit_account_id] {
            if created.insert(id) {
                wanted.push(Account {
                    id,
                    ledger: transfer.ledger,
                    code: Code(arguments.account_code),
                    ..Account::default()
                });
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    // A refusal shows in the transfers that need the account.
    let submitted = client.create_accounts(&wanted)?;
    let fresh = submitted.outcomes().filter(|one| one.fresh && one.verdict.is_ok()).count();
    summary.accounts += fresh as u64;
    Ok(())
}

fn submit(
    client: &Client,
    rows: &[Row],
    refused: &mut RefusedFile,
    summary: &mut Summary,
) -> Result<(), Fatal> {
    let events: Vec<EventBytes> = rows.iter().map(|row| row.transfer.to_bytes()).collect();
    let submitted = client.submit_all(&events)?;
    for (row, outcome) in rows.iter().zip(submitted.outcomes()) {
        let verdict = outcome.verdict;
        if !outcome.fresh && verdict != Verdict::IdReused {
            summary.repeats += 1;
        }
        if verdict.is_ok() {
            summary.accepted += u64::from(outcome.fresh);
        } else {
            *summary.refused.entry(verdict.name()).or_default() += 1;
            refused.write(&row.record, row.line, verdict.name(), verdict.meaning())?;
        }
    }
    Ok(())
}

impl RefusedFile {
    fn new(arguments: &Arguments, header: StringRecord) -> Self {
        let path = arguments.refused.clone().unwrap_or_else(|| {
            let name = arguments.file.file_name().map_or(Path::new("import"), Path::new);
            let name = name.to_string_lossy();
            let stem = name.strip_suffix(".gz").unwrap_or(&name);
            let stem = stem.strip_suffix(".csv").unwrap_or(stem);
            PathBuf::from(format!("{stem}.refused.csv"))
        });
        Self { path, header, writer: None }
    }

    fn write(
        &mut self,
        record: &StringRecord,
        line: u64,
        verdict: &str,
        why: &str,
    ) -> Result<(), Fatal> {
        let path = &self.path;
        let failed = |error: csv::Error| {
            let message = format!("cannot write refused rows to {}: {error}", path.display());
            Fatal::new(Reason::File, message)
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                // A row may be short or long. It is copied as it is.
                let mut builder = csv::WriterBuilder::new();
                let mut writer = builder.flexible(true).from_path(path).map_err(failed)?;
                let head = ["line", "verdict", "reason"].into_iter().chain(&self.header);
                writer.write_record(head).map_err(failed)?;
                none.insert(writer)
            }
        };
        let line = line.to_string();
        writer.write_record([line.as_str(), verdict, why].into_iter().chain(record)).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        let flushed = self.writer.as_mut().map_or(Ok(()), csv::Writer::flush);
        flushed.map_err(|error| {
            let message = format!("cannot write refused rows to {}: {error}", self.path.display());
            Fatal::new(Reason::File, message)
        })
    }
}

impl Summary {
    fn refused_total(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.unreadable
    }

    fn print(&self, took: Duration) {
        say!("rows              {:>12}", self.rows);
        say!("accepted          {:>12}", self.accepted);
        say!("repeats           {:>12}", self.repeats);
        say!("refused           {:>12}", self.refused_total());
        for (reason, count) in &self.refused {
            say!("  {reason:<28} {count}");
        }
        if self.unreadable > 0 {
            say!("  {:<28} {}", "unreadable", self.unreadable);
        }
        say!("accounts created  {:>12}", self.accounts);
        say!("time              {:>12}", format!("{:.2} s", took.as_secs_f64()));
        say!("rate              {:>12}", rate(self.rows, took));
    }

    fn result(&self, refused: &RefusedFile) -> Result<(), Fatal> {
        match self.refused_total() {
            0 => Ok(()),
            count => {
                let path = refused.path.display();
                let message = format!("{count} rows were refused; they are in {path}");
                Err(Fatal::new(Reason::Findings, message))
            }
        }
    }
}

fn progress_bar(total: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {percent}% {msg}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

fn rate(rows: u64, took: Duration) -> String {
    // Whole rows per second.
    let millis = took.as_millis().max(1);
    format!("{} rows/s", u128::from(rows) * 1000 / millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &str) -> Result<Columns, Fatal> {
        Columns::find(&header.split(',').collect())
    }

    #[test]
    fn columns_stand_in_any_order_and_a_missing_one_is_named() {
        let columns = columns("code,ledger,amount,credit_account,debit_account,id,flags").unwrap();
        let record = ["3", "203", "70000", "account:1", "bank:cash", "9", "pending|linked"];
        let transfer = columns.transfer(&record.iter().collect(), Book(0)).unwrap();
        assert_eq!(transfer.id, EventId(9));
        assert_eq!((transfer.amount, transfer.ledger), (Amount(70_000), LedgerId(203)));
        assert_eq!(transfer.flags, TransferFlags::PENDING.with(TransferFlags::LINKED));
        let error = self::columns("id,debit_account,credit_account,amount,code").err().unwrap();
        assert!(error.message.contains("no column ledger"), "{error}");
    }

    #[test]
    fn amounts_are_whole_numbers_without_sign_or_point() {
        let columns = columns("id,debit_account,credit_account,amount,ledger,code").unwrap();
        for amount in ["1.5", "-1", "", "1e3", "340282366920938463463374607431768211456"] {
            let record = ["1", "a", "b", amount, "1", "1"];
            let why = columns.transfer(&record.iter().collect(), Book(0)).unwrap_err();
            assert!(why.contains("amount"), "{why}");
        }
    }
}
