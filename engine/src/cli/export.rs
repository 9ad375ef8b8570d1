//! `export` and `digest`: the whole log as a file that another cluster can take over, and what its
//! state comes to.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use walengine_net::client::StateSummary;
use walengine_net::client::blocking::Client;
use walengine_net::limits::{BODY_BYTES_MAX, DEADLINE_MILLIS_MAX};
use walengine_net::model::{Offset, PartitionId, Timestamp, Token};
use walengine_net::say_aside;

use super::asking::Asking;
use super::interrupt::{Stop, interruptible};
use super::output::Output;
use super::progress::progress_bar;
use crate::across::ties::{Ties, fit};
use crate::export::{Header, PartitionEnd, Writer};
use crate::fatal::{Fatal, Reason};
use crate::limits::EXPORT_HOLD;
use crate::private_files::sync_parent;

const COLUMNS: &[(&str, usize)] = &[
    ("partition", 9),
    ("next_offset", 12),
    ("accounts", 10),
    ("reservations", 12),
    ("ids", 12),
    ("state", 9),
    ("digest", 0),
];
/// Stands for standard output.
const STDOUT: &str = "-";

/// Write the whole log to a file, for `import` into another cluster
///
/// The whole log of a cluster, for `walengine import` into another one: every record with its log time
/// and its verdict, so that accounts, balances, reservations and the answers to repeats are the same
/// there. Includes everything that was acknowledged before. The cluster goes on meanwhile; what comes
/// in is left out.
///
/// The file is text, a line for each record; EXPORT.md describes it. It is never written over.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine export bank.walexport\n  \
    walengine export - | zstd > bank.walexport.zst\n  \
    walengine import bank.walexport --server other-cluster:7450")]
pub struct Arguments {
    /// File to write, which must not exist yet; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    asking: Asking,
}

/// Print a digest of each partition's state, to compare nodes or clusters
///
/// The state of each partition at the end of its log, with a digest: equal states have equal digests,
/// on every node and in every cluster. `walengine verify` prints that of a data directory.
#[derive(Debug, clap::Args)]
pub struct DigestArguments {
    #[command(flatten)]
    asking: Asking,
}

/// Prints digests.
pub fn run_digest(arguments: &DigestArguments) -> Result<(), Fatal> {
    let states = states(&arguments.asking)?;
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    for (state, partition) in states.iter().zip(0u16..) {
        output.row(&[
            partition.to_string(),
            state.next_offset.to_string(),
            state.accounts.to_string(),
            state.pendings.to_string(),
            state.ids.to_string(),
            if state.is_importing { "importing" } else { "whole" }.to_owned(),
            digest_text(&state.digest),
        ])?;
    }
    output.flush()
}

/// A digest as it is printed everywhere.
pub(super) fn digest_text(digest: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

/// The state of every partition. Going through a large one takes longer than other requests may.
pub(super) fn states(asking: &Asking) -> Result<Vec<StateSummary>, Fatal> {
    states_holding(asking, Duration::ZERO)
}

/// As [`states`], all asked for at once; for so long after that the partitions exchange nothing, so that the
/// states fit each other.
fn states_holding(asking: &Asking, hold: Duration) -> Result<Vec<StateSummary>, Fatal> {
    let client = asking.connect_within(Duration::from_millis(DEADLINE_MILLIS_MAX.into()))?;
    let (client, partitions) = (&client, client.info().partitions());
    thread::scope(|scope| {
        let ask = |partition| scope.spawn(move || client.state_digest_holding(partition, hold));
        let asked: Vec<_> = partitions.map(ask).collect();
        let answers = asked.into_iter().map(|asked| match asked.join() {
            Ok(answer) => Ok(answer?),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        answers.collect()
    })
}

/// Exports the log.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let (work, file) = (arguments.clone(), arguments.file.clone());
    let is_begun = Arc::new(AtomicBool::new(false));
    let begun = is_begun.clone();
    let result = interruptible(move |stop| export(&work, &begun, stop));
    // It may still wait for a server, and so not have removed what is not whole.
    if result.as_ref().is_err_and(|fatal| fatal.reason == Reason::Interrupted)
        && is_begun.load(Ordering::Relaxed)
    {
        let _ = std::fs::remove_file(&file); // fails if it has
    }
    result
}

fn export(arguments: &Arguments, is_begun: &AtomicBool, stop: Stop) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let mut target = Target::create(&arguments.file)?;
    is_begun.store(target.file.is_some(), Ordering::Relaxed);
    let exported = (|| {
        let hold = if client.info().partitions > 1 { EXPORT_HOLD } else { Duration::ZERO };
        let states = states_holding(&arguments.asking, hold)?;
        if let Some(partition) = states.iter().position(|state| state.is_importing) {
            let message = format!(
                "partition {partition} takes an import that is not finished, so its log is a part of \
                 one: finish the import, and export then"
            );
            return Err(Fatal::new(Reason::Findings, message));
        }
        write(&client, &states, &mut target, stop)?;
        Ok(states)
    })();
    let states = match exported {
        Ok(states) => states,
        Err(fatal) => return Err(target.give_up(fatal)),
    };
    target.keep()?;
    let records: u64 = states.iter().map(|state| state.next_offset.0).sum();
    let (partitions, file) = (states.len(), arguments.file.display());
    say_aside!("exported {records} records of {partitions} partitions to {file}");
    Ok(())
}

/// Where an export goes.
struct Target {
    path: PathBuf,
    /// `None` for standard output.
    file: Option<File>,
    out: BufWriter<Box<dyn Write>>,
}

impl Target {
    fn create(path: &Path) -> Result<Self, Fatal> {
        let shown = path.display();
        if path == Path::new(STDOUT) {
            let out: Box<dyn Write> = Box::new(io::stdout());
            return Ok(Self { path: path.to_owned(), file: None, out: BufWriter::new(out) });
        }
        let mut options = OpenOptions::new();
        // A whole ledger is nobody else's business.
        let opened = options.write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            let what = if error.kind() == io::ErrorKind::AlreadyExists {
                "it exists, and an export never writes over a file: name another".to_owned()
            } else {
                error.to_string()
            };
            Fatal::new(Reason::File, format!("cannot write {shown}: {what}"))
        })?;
        let out = file.try_clone().map_err(|error| failed(path, &error))?;
        let out: Box<dyn Write> = Box::new(out);
        let out = BufWriter::with_capacity(BODY_BYTES_MAX, out);
        Ok(Self { path: path.to_owned(), file: Some(file), out })
    }

    /// Makes it durable under its name.
    fn keep(mut self) -> Result<(), Fatal> {
        let kept = self.out.flush().and_then(|()| {
            let Some(file) = &self.file else { return Ok(()) };
            file.sync_all()?;
            sync_parent(&self.path)
        });
        kept.map_err(|error| {
            let fatal = failed(&self.path, &error);
            self.give_up(fatal)
        })
    }

    /// Removes what is not whole; it was made by this program.
    fn give_up(self, fatal: Fatal) -> Fatal {
        let Self { path, file, out } = self;
        drop(out.into_parts()); // without a last attempt to write
        if file.is_some() && std::fs::remove_file(&path).is_err() {
            let message = format!("{}; what is in {} is not whole", fatal.message, path.display());
            return Fatal::new(fatal.reason, message);
        }
        fatal
    }
}

fn failed(path: &Path, error: &io::Error) -> Fatal {
    let shown = path.display();
    let to =
        if path == Path::new(STDOUT) { "standard output".to_owned() } else { shown.to_string() };
    Fatal::new(Reason::File, format!("cannot write to {to}: {error}"))
}

/// A bar with what is being done before it.
pub(super) fn bar_of(total: u64, what: &str) -> ProgressBar {
    progress_bar(total, &format!("{what} {{bar:40}} {{percent}}%, {{eta}} left"))
}

/// Writes the partitions' logs in turn, a page of each at a time, so that whoever takes them over can
/// begin with all of them.
fn write(
    client: &Client,
    states: &[StateSummary],
    target: &mut Target,
    stop: Stop,
) -> Result<(), Fatal> {
    let path = target.path.clone();
    let failed = |error: io::Error| failed(&path, &error);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        cluster: client.info().cluster,
        created: Timestamp(now.as_nanos() as u64),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ends: states.iter().map(|state| state.next_offset).collect(),
    };
    let mut writer = Writer::new(&mut target.out, &header).map_err(failed)?;
    let bar = bar_of(header.ends.iter().map(|end| end.0).sum(), "exporting");
    let mut reached = vec![Offset(0); states.len()];
    let count = states.len() as u16;
    let mut ties: Vec<_> = (0..count).map(|id| Ties::new(PartitionId(id), count)).collect();
    while reached != header.ends {
        for ((next, &end), partition) in reached.iter_mut().zip(&header.ends).zip(0u16..) {
            if *next < end {
                let ties = &mut ties[usize::from(partition)];
                *next = page(client, PartitionId(partition), *next, end, &mut writer, ties)
                    .map_err(|error| error.into_fatal(failed))?;
            }
            if stop.is_told() {
                bar.finish_and_clear();
                return Err(Fatal::new(Reason::Interrupted, "interrupted; nothing was kept"));
            }
        }
        bar.set_position(writer.records());
    }
    bar.finish_and_clear();
    fit(&ties).map_err(|misfit| Fatal::new(Reason::Findings, format!("{misfit}: export again")))?;
    let ends: Vec<_> = states
        .iter()
        .map(|state| PartitionEnd {
            next_offset: state.next_offset,
            last_timestamp: state.last_timestamp,
            accounts: state.accounts,
            pendings: state.pendings,
            ids: state.ids,
            digest: state.digest,
        })
        .collect();
    writer.finish(&ends).map(|_| ()).map_err(failed)
}

enum PageError {
    Write(io::Error),
    Other(Fatal),
}

impl PageError {
    fn into_fatal(self, of_file: impl FnOnce(io::Error) -> Fatal) -> Fatal {
        match self {
            Self::Write(error) => of_file(error),
            Self::Other(fatal) => fatal,
        }
    }
}

/// Writes a page of a partition's log up to `end`. Where the next one begins.
fn page<W: Write>(
    client: &Client,
    partition: PartitionId,
    from: Offset,
    end: Offset,
    writer: &mut Writer<W>,
    ties: &mut Ties,
) -> Result<Offset, PageError> {
    let cluster = client.info().cluster;
    // Any node that has what is wanted: the leader has other things to do.
    let token = Token { cluster, partition, offset: Offset(end.0 - 1) };
    let page = client.read_log(partition, from, BODY_BYTES_MAX, &[token]);
    let page = page.map_err(|error| PageError::Other(error.into()))?;
    let bad = |why: String| {
        let message = format!("partition {partition}: the server sent a log that {why}");
        PageError::Other(Fatal::new(Reason::DamagedFeed, message))
    };
    let mut next = from;
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| bad(format!("can't be read: {error}")))?;
        if header.meta.records == 0 {
            continue;
        }
        if header.meta.base_offset >= end {
            break;
        }
        if header.meta.base_offset != next || header.next_offset() > end {
            return Err(bad(format!(
                "has an entry from offset {} to {}, where {next} to {end} was wanted",
                header.meta.base_offset,
                header.next_offset()
            )));
        }
        ties.take_entry(&header, body, header.meta.records)
            .map_err(|error| bad(format!("can't be read: {error}")))?;
        writer.entry(&header, body).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => bad(format!("can't be read: {error}")),
            _ => PageError::Write(error),
        })?;
        next = header.next_offset();
    }
    if next == from {
        return Err(bad(format!("ends at offset {from}, though it had reached {end}")));
    }
    Ok(next)
}
