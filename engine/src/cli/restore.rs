//! `restore`: a new data directory from a backup.

use std::collections::BTreeMap;
use std::path::PathBuf;

use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::say;

use super::log_time::{shown, time};
use super::new_directory::{amid_imports, how_to_start, peer_address, rewritten};
use super::progress::{RECORDS_BAR, progress_bar};
use super::verify;
use crate::backup::inspect::Backup;
use crate::backup::restore::{Wanted, restore};
use crate::fatal::{Fatal, Reason};
use crate::memory;

/// Make a new data directory of a backup, for a new cluster
///
/// Makes the data directory `NEW_DIR` of a backup, whole or up to a point, and verifies it.
///
/// The directory is of a new cluster, with a new id: tokens, nodes and projectors of the old one don't
/// take it for theirs. Records keep their offsets, times and verdicts. A projector goes on from it
/// after `walengine-projector rebuild --other-cluster`.
///
/// Without --peer-address it is a node that serves alone. With it, it is the first node of a new cluster:
/// start it with --peer-listen, and others with --join and that address.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine restore /backups/ledger new-data\n  \
    walengine restore /backups/ledger new-data --to-time 2026-11-26T07:30:00Z\n  \
    walengine restore /backups/ledger new-data --to-offset 0:1200 --to-offset 1:800\n  \
    walengine restore /backups/ledger new-data --peer-address 10.0.0.1:7550")]
pub struct Arguments {
    /// Directory of the backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    /// Directory to make; it must be empty or absent
    #[arg(value_name = "NEW_DIR")]
    dir: PathBuf,

    /// Restore the records below this offset only; PARTITION:OFFSET if there are several partitions.
    /// May be given once for each; the others are restored whole
    #[arg(long, value_name = "[PARTITION:]OFFSET", value_delimiter = ',')]
    to_offset: Vec<String>,

    /// Restore the records up to this log time only, of all partitions: 2026-11-26T07:30:00Z, or
    /// nanoseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_time: Option<Timestamp>,

    /// Make it the first node of a new cluster, which other nodes reach at this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = peer_address)]
    peer_address: Option<String>,

    /// Segment size of the new directory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=4096))]
    segment_mib: u64,
}

/// Restores a backup.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let source = Backup::open(&arguments.backup)?;
    let wanted = Wanted {
        to_offset: offsets(&arguments.to_offset, source.manifest.partitions())?,
        to_time: arguments.to_time,
        peer_address: arguments.peer_address.clone(),
        segment_bytes: arguments.segment_mib << 20,
    };
    memory::set_limit(None);
    let bar = progress_bar(0, RECORDS_BAR);
    let made = restore(&source, &arguments.dir, &wanted, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let made = made?;
    for one in &made.partitions {
        rewritten(&one.log);
        if let Some(offset) = one.cut_before_chain {
            say!(
                "  offset {offset} is inside a chain, which takes effect whole or not at all: it is left \
                 out from its beginning"
            );
        }
    }
    if let Some(time) = made.fitted_to {
        say!(
            "the backup's partitions end at slightly different moments, between which money moved from one to \
             another: they fit each other up to log time {}, and end there",
            shown(time)
        );
    }
    amid_imports(made.partitions.iter().map(|one| &one.log));
    if source.is_unfinished() {
        say!("what stands in the backup behind its last finished run was left out");
    }
    verify::verify(&arguments.dir)?;
    let (dir, cluster) = (arguments.dir.display(), made.superblock.cluster.0);
    say!("restored into {dir}, the new cluster {cluster:032x}");
    how_to_start(&arguments.dir, arguments.peer_address.as_deref());
    Ok(())
}

fn offsets(given: &[String], partitions: u16) -> Result<BTreeMap<PartitionId, u64>, Fatal> {
    let mut offsets = BTreeMap::new();
    for text in given {
        let wrong = |why: &str| Fatal::new(Reason::Usage, format!("--to-offset {text}: {why}"));
        let (partition, offset) = match text.split_once(':') {
            Some((partition, offset)) => (partition.parse().ok(), offset),
            None if partitions == 1 => (Some(0), text.as_str()),
            None => {
                let why = format!("the backup has {partitions} partitions: say PARTITION:OFFSET");
                return Err(wrong(&why));
            }
        };
        let (Some(partition), Ok(offset)) = (partition, offset.parse()) else {
            return Err(wrong("it must be OFFSET or PARTITION:OFFSET, in numbers"));
        };
        if offsets.insert(PartitionId(partition), offset).is_some() {
            return Err(wrong("the partition was named before"));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_strictly() {
        let read = |given: &[&str], partitions| {
            let given: Vec<_> = given.iter().map(ToString::to_string).collect();
            offsets(&given, partitions)
        };
        assert_eq!(read(&["7"], 1).unwrap(), BTreeMap::from([(PartitionId(0), 7)]));
        let two = BTreeMap::from([(PartitionId(0), 7), (PartitionId(1), 9)]);
        assert_eq!(read(&["0:7", "1:9"], 2).unwrap(), two);
        for wrong in [&["7"][..], &["a:7"], &["0:x"], &["0:1", "0:2"], &["1:-1"]] {
            assert!(read(wrong, 2).is_err(), "{wrong:?}");
        }
    }
}
