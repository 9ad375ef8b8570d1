//! `import`: transfers from a CSV file. Each is decided once, however often the file is imported.
//!
//! A file is checked whole before anything is sent ([`send::check`]), and so are its accounts
//! ([`accounts`]); then it is read again, and its rows are sent in order ([`send::send`]). What a
//! file says is decided without any I/O, in [`reading`].

mod accounts;
pub(super) mod cells;
mod chains;
mod columns;
mod names;
mod naming;
pub mod near;
mod plan;
mod reading;
mod refused;
mod send;
mod summary;
#[cfg(test)]
mod tests;
mod twice;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use walengine_net::cli::ask;
use walengine_net::client::ReadFrom;
use walengine_net::model::{Book, Code};
use walengine_net::say_aside;

use super::asking::Asking;
use super::csv_file::source::{Input, Source};
use super::interrupt::{Stop, explained, interruptible};
use super::progress::progress_bar;
use super::take_over;
use crate::fatal::{Fatal, Reason};
use accounts::Agreeing;
use cells::Scale;
use columns::{COLUMNS, Wanted};
use names::Names;
use plan::Plan;
use refused::Refused;
use send::Held;
use summary::Summary;

/// Transfers from a CSV file with a header.
///
/// The file is checked whole before anything is sent: its rows, and then its accounts. Ids and
/// accounts are UUIDs, numbers or any text; the same text always becomes the same id. A row that was
/// imported before is a repeat and changes nothing, so it is always safe to run an import again.
///
/// Fields are separated by a comma, a semicolon or a tab, and the text is UTF-8. A file that is packed
/// by gzip is unpacked.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Arguments {
    /// CSV file with a header; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Create missing accounts, on the ledger that their rows use
    #[arg(long)]
    create_accounts: bool,

    /// Code of created accounts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    account_code: u16,

    /// Book of names and small numbers; accounts of one book share a partition
    #[arg(long, value_name = "N", default_value_t = 0)]
    book: u32,

    /// Amounts have up to N decimals, and the ledger counts in the smallest: with 2, 12.34 is 1234 and
    /// 12 is 1200. Without, amounts are whole minor units
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=38))]
    scale: Option<u8>,

    /// With --scale: a comma stands before decimals, not a point
    #[arg(long, requires = "scale")]
    decimal_comma: bool,

    /// The file's column with the time of business of each row, as 2026-11-01, "2026-11-01 14:00" (UTC) or
    /// 2026-11-01T14:00:00+01:00: kept in `user_data_64` with the flag booked. An empty one is the log's
    /// time. A row that was imported without its time is another transfer, whose id is used
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,

    /// The file's name for a column, as in --column amount=Betrag; may be given several times
    #[arg(long, value_name = "COLUMN=NAME", value_parser = column)]
    column: Vec<(usize, String)>,

    /// Pass over columns that import does not know; without, they are an error
    #[arg(long)]
    ignore_columns: bool,

    /// File for refused rows with their reasons; if there is one, the next number is put into its
    /// name [default: FILE's name with .refused.csv, in this directory]
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,

    /// Send nothing if any row can't be read; without, such rows are refused and the others sent
    #[arg(long)]
    strict: bool,

    /// Say what would happen, and send nothing
    #[arg(long)]
    dry_run: bool,

    /// Create accounts without asking, even if their ledger is in doubt
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Progress in bytes that were read.
const BAR: &str = "{bar:40} {percent}% {msg}, {eta} left";
const AFTER_HELP: &str = "\
Columns, in any order:
  id               of the transfer; it has one verdict for ever
  debit_account    where the money comes from
  credit_account   where it goes
  amount           whole minor units, such as cents; see --scale
  ledger           number of the asset, the same as that of both accounts
  code             number of the reason, of your choice
and those that may be left out or empty:
  pending_id       the reservation that this row posts or voids
  timeout_seconds  how long a reservation lasts
  user_data_128, user_data_64, user_data_32   numbers of your choice
  flags            names joined by |

Flags:
  linked           together with the next row: both are accepted, or none. A chain ends with the
                   first row without it
  pending          reserves the amount
  post_pending     posts the reservation pending_id
  void_pending     releases the reservation pending_id
  balancing_debit  the amount or less, as the debit account's limit allows
  balancing_credit the same of the credit account
  booked           user_data_64 is the time of business, in microseconds since 1970; see --time

An example:
  id,debit_account,credit_account,amount,ledger,code,flags
  inv-1,alice,shop,1250,978,1,
  inv-2,alice,shop,300,978,1,linked
  inv-3,shop,fees,30,978,2,

  walengine import transfers.csv.gz --create-accounts
  walengine import june.csv --dry-run
  walengine import history.csv --time booking_date
  walengine import juni.csv --column amount=Betrag --scale 2 --decimal-comma

Exit code: 0 if every row was accepted, now or before; 1 if some were refused, and the others are in;
11 if nothing was sent because of the file or its accounts; 130 if it was interrupted.";

fn column(text: &str) -> Result<(usize, String), String> {
    let Some((column, name)) = text.split_once('=') else {
        return Err("it is COLUMN=NAME, as in amount=Betrag".into());
    };
    let known = COLUMNS.iter().position(|known| *known == column);
    let known = known.ok_or_else(|| {
        format!("import knows no column {column}; it knows {}", COLUMNS.join(", "))
    })?;
    Ok((known, name.trim().to_owned()))
}

/// What the import has come to, for the thread that waits for it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Summary>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Summary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Imports a file.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let started = Instant::now();
    arguments.check()?;
    let shared = Shared::default();
    let is_export = Arc::new(AtomicBool::new(false));
    let work = Work { arguments: arguments.clone(), shared: shared.clone() };
    let found = is_export.clone();
    let result = interruptible(move |stop| {
        let input = Input::open(&work.arguments.file)?;
        if take_over::is_export(&input) {
            found.store(true, Ordering::Relaxed);
            let Arguments { asking, dry_run, .. } = &work.arguments;
            return take_over::run(&input, asking, *dry_run, stop);
        }
        work.run(input, stop, started)
    });
    if is_export.load(Ordering::Relaxed) {
        let message =
            "interrupted; what was imported stays, and running it again goes on behind it";
        return result.map_err(|error| explained(error, message));
    }
    let summary = shared.lock().clone();
    if arguments.dry_run {
        return result.map_err(|error| nothing_sent(&error));
    }
    match result {
        Ok(()) => {
            let printed = summary.print(arguments.asking.format, started.elapsed());
            printed.map_err(|error| so_far(&error, &summary))?;
            summary.result()
        }
        Err(error) if !summary.has_sent => Err(nothing_sent(&error)),
        Err(error) => {
            // The error is told in any case.
            let _ = summary.print(arguments.asking.format, started.elapsed());
            Err(so_far(&error, &summary))
        }
    }
}

/// An error after rows were sent.
fn so_far(error: &Fatal, summary: &Summary) -> Fatal {
    let message = format!(
        "{}; {} rows are imported, and those on their way may be. Running it again is safe: they will \
         be repeats",
        error.message, summary.rows
    );
    Fatal::new(error.reason, message)
}

fn nothing_sent(error: &Fatal) -> Fatal {
    Fatal::new(error.reason, format!("{}; nothing was sent", error.message))
}

impl Arguments {
    fn check(&self) -> Result<(), Fatal> {
        for (at, (column, name)) in self.column.iter().enumerate() {
            let earlier = &self.column[..at];
            if earlier.iter().any(|(one, other)| one == column || other == name) {
                let message =
                    format!("--column {}={name}: one of both is given twice", COLUMNS[*column]);
                return Err(Fatal::new(Reason::Usage, message));
            }
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            given: self.column.clone(),
            ignores: self.ignore_columns,
            time: self.time.clone(),
            scale: Scale { places: self.scale, has_comma: self.decimal_comma },
        }
    }
}

/// The import itself, on a thread of its own.
struct Work {
    arguments: Arguments,
    shared: Shared,
}

impl Work {
    fn run(&self, input: Input, stop: Stop, started: Instant) -> Result<(), Fatal> {
        let arguments = &self.arguments;
        let source = Source::of(input)?;
        let mut refused = Refused::new(&source, &arguments.file, arguments.refused.as_deref())?;
        let wanted = arguments.wanted();
        let bar = progress_bar(source.bytes() * 2, BAR);
        let mut checked = send::check(&source, &wanted, Book(arguments.book), stop)?;
        self.strictly(&checked.held)?;
        refused.like(&checked.header, checked.delimiter);
        let client = arguments.asking.connect()?;
        let names = &mut checked.names;
        let missing = accounts::look_up(&client, names)?;
        let creates = arguments.create_accounts;
        if creates {
            self.settle_ledgers(&source, &wanted, names, &missing, stop)?;
        }
        if arguments.dry_run {
            let client = client.reading(ReadFrom::Linearizable);
            let found = send::rehearse(&source, &wanted, names, Some(&client), stop)?;
            let plan = Plan::new(checked.rows, found, names, &missing, creates);
            plan.print(arguments.asking.format)?;
            plan.result()?;
        }
        if !missing.is_empty() && !creates {
            return Err(accounts::missing(names, &missing, arguments.book));
        }
        if arguments.dry_run {
            return Ok(());
        }
        if arguments.strict && accounts::has_mixed(names) {
            let found = send::rehearse(&source, &wanted, names, None, stop)?;
            self.strictly(&found.held)?;
        }
        stop.look()?;
        let progress = |change: &dyn Fn(&mut Summary)| {
            let mut summary = self.shared.lock();
            change(&mut summary);
            let read = source.progress().load(Ordering::Relaxed);
            bar.set_position(read.min(source.bytes() * 2));
            bar.set_message(summary::rate(summary.rows, started.elapsed()));
        };
        let code = Code(arguments.account_code);
        accounts::create(&client, &mut checked.names, &missing, code, progress)?;
        if creates {
            naming::name(&client, &checked.names, progress)?;
        }
        send::send(&source, &wanted, checked, &client, &mut refused, stop, progress)?;
        bar.finish_and_clear();
        if let Some(path) = refused.stale() {
            say_aside!(
                "walengine: {} is of an earlier import; nothing was refused now",
                path.display()
            );
        }
        Ok(())
    }

    /// Fails if rows can't be sent and none may be left out.
    fn strictly(&self, held: &Held) -> Result<(), Fatal> {
        match held.told() {
            Some(message) if self.arguments.strict => Err(Fatal::new(Reason::File, message)),
            _ => Ok(()),
        }
    }

    /// Makes sure that no account is created on a ledger that is in doubt.
    fn settle_ledgers(
        &self,
        source: &Source,
        wanted: &Wanted,
        names: &mut Names,
        missing: &[u32],
        stop: Stop,
    ) -> Result<(), Fatal> {
        if missing.is_empty() || self.arguments.yes || !accounts::has_mixed(names) {
            accounts::settle(names, missing);
            return Ok(());
        }
        let mut agreeing = Agreeing::new(names);
        send::each_row(source, wanted, names, stop, |names, accounts, ledger| {
            agreeing.note(names, accounts, ledger);
        })?;
        let in_doubt = agreeing.in_doubt(names, missing);
        if in_doubt.is_empty() {
            accounts::settle(names, missing);
            return Ok(());
        }
        let doubt = accounts::doubt(names, &in_doubt);
        let count = in_doubt.len();
        let has_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        if has_terminal && self.arguments.file != Path::new("-") && !self.arguments.dry_run {
            say_aside!("{count} accounts would be created on a ledger that is in doubt: {doubt}");
            if confirmed("Create them there? [y/N] ")? {
                accounts::settle(names, missing);
                return Ok(());
            }
        }
        let message = format!(
            "the ledger of {count} accounts that would be created is in doubt: {doubt}. Mend the rows, \
             or create them there with --yes"
        );
        Err(Fatal::new(Reason::File, message))
    }
}

fn confirmed(question: &str) -> Result<bool, Fatal> {
    ask(question);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| {
        Fatal::new(Reason::File, format!("cannot read an answer from the terminal: {error}"))
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
