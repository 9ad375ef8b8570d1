//! `backup`: the log of a running node or cluster into a directory, and `verify` of one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::say;

use super::asking::Asking;
use super::interrupt::{Stop, explained, interruptible};
use super::log_time::shown;
use super::output::NAME;
use super::output::Output;
use super::progress::{RECORDS_BAR, progress_bar};
use crate::backup::inspect::Backup;
use crate::backup::take::{Taken, Taking};
use crate::fatal::Fatal;
use crate::runtime::Runtime as _;
use crate::runtime_glommio::GlommioRuntime;

const COLUMNS: &[(&str, usize)] = &[
    ("partition", 9),
    ("new_records", 11),
    ("new_bytes", 12),
    ("next_offset", 11),
    ("log_time", 30),
    ("chain", 0),
];

/// Back up a running node or cluster; run again, it adds what has come since
///
/// Copies the log of every partition into DIR, as a subscriber gets it: the server goes on meanwhile, and
/// this may be another machine. All that was acknowledged before it began is in it.
///
/// Run again into the same DIR, it fetches only what has come since; what was there is never changed, so
/// that a run which fails or is killed harms nothing, and the next one goes on where it ended. It ends by
/// reading back what it has written. `walengine verify DIR` checks all of a backup, and `walengine restore`
/// makes a data directory of it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine backup /backups/ledger\n  \
    walengine backup /backups/ledger --server 10.0.0.1:7450,10.0.0.2:7450\n\n\
    Exit code: 0 if the backup is whole; 9 if no server answers; 11 if DIR can't be written; 14 if DIR \
    holds a backup of another log; 130 if it was interrupted.")]
pub struct Arguments {
    /// Directory of the backup; created if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Take what the node that answers has, also without a leader. The newest acknowledged writes may be
    /// missing
    #[arg(long)]
    any_node: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Takes a backup.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let arguments = arguments.clone();
    let message = "interrupted: run it again to go on; what was taken stays";
    interruptible(move |stop| back_up(&arguments, stop)).map_err(|error| explained(error, message))
}

fn back_up(arguments: &Arguments, stop: Stop) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let bar = progress_bar(0, RECORDS_BAR);
    let mut taking = Taking {
        backup: &arguments.dir,
        client: &client,
        any_node: arguments.any_node,
        patience: Duration::from_secs(arguments.asking.timeout),
        interrupted: stop.flag(),
        tell: &mut |progress| {
            bar.set_length(progress.wanted);
            bar.set_position(progress.records);
        },
    };
    let taken = taking.run(GlommioRuntime::new().now());
    bar.finish_and_clear();
    let taken = taken?;
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    for Taken { partition, before, end, bytes } in taken {
        output.row(&[
            partition.to_string(),
            (end.next_offset.0 - before.next_offset.0).to_string(),
            bytes.to_string(),
            end.next_offset.to_string(),
            shown(end.timestamp),
            end.chain.to_string(),
        ])?;
    }
    output.flush()
}

/// Checks all of a backup.
pub fn verify(dir: &Path) -> Result<(), Fatal> {
    let backup = Backup::open(dir)?;
    let mut worst = None;
    for partition in (0..backup.manifest.partitions()).map(PartitionId) {
        let checked = match backup.check(partition) {
            Ok(checked) => checked,
            Err(fatal) => {
                walengine_net::cli::print(NAME, &fatal);
                worst = worst.or(Some(fatal));
                continue;
            }
        };
        say!(
            "partition {partition}: {} entries, {} bytes, next offset {}, log time {}, chain {}, {} \
             accounts, {} ids",
            checked.entries,
            checked.bytes,
            checked.end.next_offset,
            shown(checked.end.timestamp),
            checked.end.chain,
            checked.ledger.accounts_len(),
            checked.ledger.ids_len()
        );
    }
    if backup.is_unfinished() {
        say!("a run was cut short or is under way; the next one goes on where it ended");
    }
    let Some(Fatal { reason, .. }) = worst else {
        let taken = backup.manifest.points.last().map_or(0, |point| point.taken);
        say!(
            "whole: a backup of cluster {:032x}, {} partitions, taken {} times, last at {}",
            backup.manifest.cluster().0,
            backup.manifest.partitions(),
            backup.manifest.points.len(),
            shown(Timestamp(taken))
        );
        return Ok(());
    };
    let message = format!("the backup in {} is not whole; nothing was changed", dir.display());
    Err(Fatal::new(reason, message))
}
