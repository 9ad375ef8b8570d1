//! The data directory: what it must hold, for both kinds of node, and how it is made.
//!
//! ```text
//!  format    lock ─ each partition's empty log ─ superblock
//!  start     lock ─ superblock ─ everything that it promises ─ logs
//! ```
//!
//! The superblock is written last. Whatever it promises and is not there is lost: the start ends and
//! `verify` fails, and nothing is made anew in its place.

pub mod forming;
pub mod lock;

use std::ffi::OsStr;
use std::path::Path;

use futures_lite::future::block_on;
use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::types::NodeId;

use crate::audit::{self, Audit, Begun, Order, Outcome};
use crate::caller::Caller;
use crate::config::Config;
use crate::executor::on_executor;
use crate::fatal::{Fatal, Reason};
use crate::preflight;
use crate::runtime::Runtime;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::config::Votes;
use crate::storage::contents::{self, Contents, Fault};
use crate::storage::disk::Disk;
use crate::storage::error::OpenError;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::read_only_disk::ReadOnlyDisk;
use crate::storage::{partition_dir, superblock};
use lock::DirectoryLock;

/// Name of a file that says that the directory is still being made of something else.
pub const RESTORING: &str = "restoring";

/// Whose directory is formatted.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The cluster; a node that serves alone has one of its own.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Partitions, for ever.
    pub partitions: u16,
    /// Raft groups keep the partitions.
    pub replicated: bool,
}

impl Owner {
    /// A new node that serves alone.
    pub fn alone(config: &Config) -> Self {
        let random = || uuid::Uuid::new_v4().as_u128();
        Self {
            cluster: ClusterId(random()),
            node: config.node.unwrap_or_else(|| (random() as u64).max(1)),
            partitions: config.partitions.unwrap_or(config.cores as u16),
            replicated: false,
        }
    }
}

/// Creates the directory if need be. True if it is to be formatted.
///
/// # Errors
/// `DataDirectory` if it is something else's, or can't be used.
fn prepare(config: &Config) -> Result<bool, Fatal> {
    let dir = &config.data;
    let failed = |what: &str, error: std::io::Error| {
        let at = dir.display();
        let message = format!("cannot {what} the data directory {at}: {error}; see --data");
        Fatal::new(Reason::DataDirectory, message)
    };
    std::fs::create_dir_all(dir).map_err(|error| failed("create", error))?;
    if dir.join(superblock::NAME).exists() {
        return Ok(false);
    }
    if dir.join(RESTORING).exists() {
        let message = format!(
            "a restore or recovery into {} was cut short, so that it is no data directory yet: run the \
             same command again",
            dir.display()
        );
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let entries = std::fs::read_dir(dir).map_err(|error| failed("read", error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed("read", error))?.file_name();
        if !is_own(&name) && !contents::is_partition_name(Path::new(&name)) {
            let message = format!(
                "{} has no superblock but holds {}: it is not a walengine data directory, or its \
                 format was cut short; name another --data, or empty it",
                dir.display(),
                Path::new(&name).display()
            );
            return Err(Fatal::new(Reason::DataDirectory, message));
        }
    }
    Ok(true)
}

/// What may stand in a directory that is to be formatted: what the engine itself has left there, and
/// what `mkfs` puts into every file system. The trail of orders is kept when a directory is emptied.
fn is_own(name: &OsStr) -> bool {
    let names = [lock::NAME, forming::NAME, forming::NAME_NEW, superblock::NAME_NEW, "lost+found"];
    names.iter().any(|own| name == *own) || preflight::is_probe(name) || audit::is_name(name)
}

/// Locks the data directory, which is created if need be, and reads its superblock; `None` if it is to be
/// formatted.
///
/// # Errors
/// `Locked`; `DataDirectory` if it is something else's, or can't be used; `Damaged` if its superblock is
/// lost or can't be read.
pub fn enter(config: &Config) -> Result<(DirectoryLock, Option<Superblock>), Fatal> {
    let is_new = prepare(config)?;
    let dir = &config.data;
    let lock = DirectoryLock::take(dir)?;
    if !is_new {
        return Ok((lock, Some(read_superblock(dir)?)));
    }
    // A crash between the first partition and the superblock leaves partitions that nobody used. Others
    // belong to a superblock that is lost.
    let unfinished = async { contents::unfinished(&GlommioDisk::new(dir), dir).await };
    on_executor(unfinished)?.map_err(|error| open_failed(&error))?;
    Ok((lock, None))
}

/// Formats a directory for a node that will serve alone, without serving it.
///
/// # Errors
/// `DataDirectory` if it is formatted already; the disk's.
pub fn format_alone(config: &Config) -> Result<Superblock, Fatal> {
    if config.cluster.is_some() {
        let message = "a node of a cluster formats its data directory itself when it forms or joins \
                       one: start it without `format`";
        return Err(Fatal::new(Reason::Usage, message));
    }
    preflight::check_machine(1)?;
    let (_lock, found) = enter(config)?;
    preflight::check_directory(&config.data, 0, found.is_none())?;
    let Some(found) = found else {
        let ordered = ordered(&config.data, Order::new("format"))?;
        let made = format(config, Owner::alone(config))?;
        ordered.end(Outcome::Done, "");
        return Ok(made);
    };
    let absent = absent_partitions(&config.data, &found);
    if absent.is_empty() || !look(&config.data, &found)?.is_never_started {
        let message = format!(
            "{} is formatted already; name another --data, or remove it if its log is not needed",
            config.data.display()
        );
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    // Earlier releases left the partitions to the first start.
    create_partitions(&config.data, &found, &absent)?;
    Ok(found)
}

/// Writes down what a command is about to do to a directory, in its trail of orders.
///
/// # Errors
/// It can't be written down, so that it must not be done.
pub fn ordered(data: &Path, order: Order) -> Result<Begun, Fatal> {
    let order = order.with("user_id", rustix::process::getuid().as_raw());
    let begun = Audit::open(data)?.begin_waiting(&Caller::default(), order);
    begun.map_err(|untraced| Fatal::new(Reason::Disk, format!("{untraced}; nothing was done")))
}

/// Creates what a new data directory holds: the empty log of each partition, then the superblock.
/// After a crash it can be done again.
///
/// # Errors
/// The disk's.
pub fn format(config: &Config, owner: Owner) -> Result<Superblock, Fatal> {
    let superblock = Superblock {
        cluster: owner.cluster,
        node: owner.node,
        partitions: owner.partitions,
        segment_bytes: config.segment_bytes,
        created: GlommioRuntime::new().now(),
        replicated: owner.replicated,
        logs_created: !owner.replicated, // what a group keeps was always created before
    };
    let all: Vec<_> = (0..owner.partitions).map(PartitionId).collect();
    create_partitions(&config.data, &superblock, &all)?;
    let dir = config.data.clone();
    on_executor(
        async move { superblock::write(&GlommioDisk::new(&dir), &dir, &superblock).await },
    )?
    .map_err(|error| open_failed(&error))?;
    Ok(superblock)
}

fn create_partitions(
    data: &Path,
    superblock: &Superblock,
    partitions: &[PartitionId],
) -> Result<(), Fatal> {
    let create = async {
        let disk = GlommioDisk::new(data);
        if !data.join(superblock::NAME).exists() {
            contents::clear_unfinished(&disk, data).await?;
        }
        for &partition in partitions {
            create_partition(&disk, GlommioRuntime::new(), data, superblock, partition).await?;
        }
        Ok(())
    };
    on_executor(create)?.map_err(|error: OpenError| open_failed(&error))
}

/// Creates the empty log of a partition; again, if a crash came before it was whole.
///
/// # Errors
/// The disk's, or there is something that is not an empty log.
pub async fn create_partition<D: Disk, R: Runtime>(
    disk: &D,
    runtime: R,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
) -> Result<(), OpenError> {
    let dir = partition_dir(data, partition);
    disk.create_dir(&dir).await.map_err(OpenError::io("creating the partition"))?;
    let config = LogConfig { create: true, ..log_config(superblock, partition) };
    let opened = Log::open(disk.clone(), runtime, dir, config, Tail::default()).await?;
    let closed = opened.log.close().await;
    closed.map_err(|error| {
        OpenError::io("creating the log")(std::io::Error::other(error.to_string()))
    })
}

/// How the log of a partition is written.
pub fn log_config(superblock: &Superblock, partition: PartitionId) -> LogConfig {
    LogConfig {
        segment_bytes: superblock.segment_bytes,
        entries_on_blocks: superblock.replicated,
        votes: if superblock.replicated { Votes::Promised } else { Votes::Saved },
        ..LogConfig::new(superblock.cluster, partition)
    }
}

/// Reads what a data directory says about itself.
///
/// # Errors
/// `DataDirectory` if it is not formatted; `Damaged`, or the disk's.
pub fn read_superblock(data: &Path) -> Result<Superblock, Fatal> {
    let disk = ReadOnlyDisk::new(data);
    block_on(superblock::read(&disk, data)).map_err(|error| open_failed(&error))
}

/// Compares what a data directory holds with what its superblock promises.
///
/// # Errors
/// The disk's.
fn look(data: &Path, superblock: &Superblock) -> Result<Contents, Fatal> {
    let disk = ReadOnlyDisk::new(data);
    block_on(contents::look(&disk, data, superblock)).map_err(|error| open_failed(&error))
}

/// What a data directory lacks of what its superblock promises, or has too much: each with its path and
/// what to do. `Damaged`, or `DataDirectory` if an earlier release formatted it and it may never have
/// served. What is in the parts is another question.
///
/// # Errors
/// The disk's.
pub fn complaints(data: &Path, superblock: &Superblock) -> Result<Vec<Fatal>, Fatal> {
    let found = look(data, superblock)?;
    let mut complaints: Vec<_> =
        found.faults.iter().map(|fault| incomplete(fault, superblock)).collect();
    if superblock.replicated {
        complaints.extend(forming::FormingFile::check(data, superblock.node).err());
    }
    if !complaints.is_empty() {
        return Ok(complaints);
    }
    let Some(&absent) = absent_partitions(data, superblock).first() else { return Ok(Vec::new()) };
    // Such a directory looks like one that has lost all its partitions, so that nothing is made here.
    let message = format!(
        "{} is missing: if an earlier release formatted this directory and it never served, run \
         `walengine format --data {}` once; otherwise its log is lost: restore it from a copy",
        partition_dir(data, absent).display(),
        data.display()
    );
    Ok(vec![Fatal::new(Reason::DataDirectory, message)])
}

fn absent_partitions(data: &Path, superblock: &Superblock) -> Vec<PartitionId> {
    let all = (0..superblock.partitions).map(PartitionId);
    all.filter(|&partition| !partition_dir(data, partition).exists()).collect()
}

/// What a part of a data directory that is missing or too many means for the process.
fn incomplete(fault: &Fault, superblock: &Superblock) -> Fatal {
    let advice = match fault {
        Fault::Missing(_) if superblock.replicated => {
            "this node is a known member, and starting without it could undo what it has promised; \
             restore it, or empty the whole data directory, so that it comes back as a new node"
        }
        Fault::Missing(_) => {
            "starting without it would forget records and ids that this node has acknowledged; \
             restore it from a copy"
        }
        Fault::Unexpected(_) => "it may be a copy of another part",
    };
    Fatal::new(Reason::Damaged, format!("{fault}: {advice}; nothing was changed"))
}

/// What a failure to open a partition of this directory means for the process. A replica's is not
/// restored from a copy, which would have forgotten what the node has promised since.
pub fn partition_failed(error: &OpenError, superblock: &Superblock) -> Fatal {
    let fatal = open_failed(error);
    if fatal.reason != Reason::Damaged || !superblock.replicated {
        return fatal;
    }
    let message = format!(
        "{error}; nothing was cut: `walengine verify` lists all damage. Start this node while the others \
         run, and it takes what is lost from them; or, if a majority of them is well, empty this data \
         directory and start it again without --expect: it copies itself from the others. Do not restore \
         it from a copy"
    );
    Fatal::new(Reason::Damaged, message)
}

/// What a failure to open storage means for the process.
pub fn open_failed(error: &OpenError) -> Fatal {
    let reason = match error {
        OpenError::Missing(_) | OpenError::Version { .. } => Reason::DataDirectory,
        OpenError::File { .. } | OpenError::Damaged { .. } | OpenError::Incomplete(_) => {
            Reason::Damaged
        }
        _ => Reason::Disk,
    };
    let is_full = matches!(error, OpenError::Io { error, .. } if preflight::is_full(error));
    let advice = match reason {
        Reason::Damaged => {
            "; nothing was changed: `walengine verify` lists all damage. A node that serves alone is \
             restored from a backup; a node of a cluster is emptied, and copies itself from the others. \
             `walengine recover` says what is left where neither is there"
        }
        Reason::Disk if is_full => "; make room there, and start again",
        Reason::Disk => "; see the kernel log, and start again when the disk is well",
        _ => "",
    };
    Fatal::new(reason, format!("{error}{advice}"))
}

/// Names the partition that an error is of.
pub fn of_partition(partition: PartitionId, fatal: &Fatal) -> Fatal {
    Fatal::new(fatal.reason, format!("partition {partition}: {}", fatal.message))
}
