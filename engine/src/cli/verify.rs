//! `verify` and `dump`: the contents of files, without a server.

use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use walengine_net::cli;
use walengine_net::entry::decode_entry;
use walengine_net::model::PartitionId;
use walengine_net::say;

use super::backup;
use super::log_time::shown;
use super::output::NAME;
use crate::across::ties::{Ties, fit};
use crate::backup::inspect;
use crate::data_dir;
use crate::data_dir::lock::DirectoryLock;
use crate::fatal::{Fatal, Reason};
use crate::memory;
use crate::partition::check::{Checked, check};
use crate::storage::layout::{
    BLOCK, BLOCK_BYTES, Block, BlockError, FenceBlock, HardState, HardStateSlot, RunBlock,
    RunHeader, SegmentHeader, SnapshotMeta, Superblock, Tail, marks_in,
};
use crate::storage::read_only_disk::ReadOnlyDisk;
use crate::storage::{partition_dir, superblock};

/// Check a data directory or a backup offline: every checksum, the hash chain, the ledger
///
/// Changes nothing. What it passes (exit code 0) starts. Exit code 18: it starts all the same, a cluster's
/// node with the help of the others, but something is damaged: in front of the snapshot that the start
/// begins with, or a run of ids, which is made again from the log. Any other: it does not start. 6 if something is damaged, 10 if the ledger derives other
/// verdicts than the log holds, 17 if it does not fit in memory, 5 if it is not a data directory.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Data directory, which no server may be using, or backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Most memory to take, in MiB [default: what the control group or the machine has]
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,
}

/// Describe one file of a data directory
///
/// One line for each structure in the file, with its position in bytes.
#[derive(Debug, clap::Args)]
pub struct DumpArguments {
    /// A superblock, hard-state, segment (.seg), marks (.marks), snapshot (.snap) or run of ids (.run) file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Verifies a data directory or a backup.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    memory::set_limit(arguments.memory_mib.map(|mib| mib << 20));
    if inspect::is_backup(&arguments.dir) {
        return backup::verify(&arguments.dir);
    }
    verify(&arguments.dir)
}

/// Verifies the data directory `dir`.
pub fn verify(dir: &Path) -> Result<(), Fatal> {
    if !dir.join(superblock::NAME).exists() {
        let why = if dir.join(data_dir::RESTORING).exists() {
            "is not a data directory yet: a restore or recovery into it was cut short, run the same \
             command again"
        } else {
            "is not a walengine data directory"
        };
        let message = format!("{} {why}", dir.display());
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let _lock = DirectoryLock::share(dir)?;
    let superblock = data_dir::read_superblock(dir)?;
    let mut worst: Option<Fatal> = None;
    let (mut starts, mut ties) = (true, Vec::new());
    for fatal in data_dir::complaints(dir, &superblock)? {
        cli::print(NAME, &fatal);
        (worst, starts) = (worst.or(Some(fatal)), false);
    }
    for number in 0..superblock.partitions {
        let id = PartitionId(number);
        if !partition_dir(dir, id).exists() {
            continue; // said already
        }
        match block_on(partition(dir.to_owned(), superblock, id)) {
            Ok(tied) => ties.push(tied),
            Err(NotWhole { fatal, starts: all_the_same }) => {
                cli::print(NAME, &fatal);
                if starts && !all_the_same {
                    worst = None; // what stops the start is worse
                }
                (worst, starts) = (worst.or(Some(fatal)), starts && all_the_same);
            }
        }
    }
    if worst.is_none() {
        worst = how_they_fit(&ties, &superblock);
    }
    match worst {
        None => {
            say!("whole: {} partitions", superblock.partitions);
            Ok(())
        }
        Some(_) if starts => {
            let message = format!(
                "{} starts, but is damaged: see above. A start makes ids again from the log. Entries in \
                 front of the snapshot that it begins with a cluster's node takes from the others, at the \
                 start or while it serves; on a node alone, who reads them gets an error: restore a \
                 backup. Nothing was changed",
                dir.display()
            );
            Err(Fatal::new(Reason::DamagedInFront, message))
        }
        Some(Fatal { reason, .. }) => {
            let message = format!("{} is not whole; nothing was changed", dir.display());
            Err(Fatal::new(reason, message))
        }
    }
}

/// Says what is under way between partitions that are whole; what is wrong if they do not fit each other.
fn how_they_fit(ties: &[Ties], superblock: &Superblock) -> Option<Fatal> {
    let misfit = fit(ties).err();
    let under_way: usize = ties.iter().map(Ties::under_way).sum();
    if under_way > 0 {
        say!("under way between partitions: {under_way} transfers");
    }
    let misfit = misfit?;
    if superblock.replicated {
        say!(
            "{misfit}: this node's replicas are not equally far, and take the rest from the other nodes"
        );
        return None;
    }
    let fatal = Fatal::new(Reason::Disagreement, misfit.to_string());
    cli::print(NAME, &fatal);
    Some(fatal)
}

/// A partition that is not as it should be.
struct NotWhole {
    fatal: Fatal,
    /// A start goes on all the same.
    starts: bool,
}

/// Prints what a partition's files say. Gives the first complaint; the others are printed.
async fn partition(
    dir: PathBuf,
    superblock: Superblock,
    id: PartitionId,
) -> Result<Ties, NotWhole> {
    let checked = check(ReadOnlyDisk::new(&dir), &dir, &superblock, id).await;
    let checked = checked.map_err(|fatal| NotWhole { fatal, starts: false })?;
    let Checked { log, snapshot, accounts, ids, .. } = &checked;
    say!(
        "partition {id}: {} entries in {} segments, {} bytes, next offset {}, log time {}, chain {}, \
         {accounts} accounts, {ids} ids{}",
        log.entries,
        log.segments,
        log.entry_bytes,
        log.tail.next_offset,
        shown(log.tail.timestamp),
        log.tail.chain,
        if log.torn_bytes > 0 {
            format!(", {} bytes of torn tail that the next start cuts", log.torn_bytes)
        } else {
            String::new()
        }
    );
    if let Some(digest) = &checked.digest {
        say!("  digest of the state: {}", super::export::digest_text(digest));
    }
    let is_well = checked.complaints.is_empty();
    let agrees = if is_well { ": agrees with the log" } else { "" };
    let HardState { term, durable_index, .. } = log.hard_state;
    say!("  hard state of term {term}, entries up to {durable_index} durable{agrees}");
    if log.hard_state_slot_lost && is_well {
        say!("  one of its two copies can't be read; the start goes on with the other one");
    }
    if snapshot.index > 0 {
        let Tail { index, next_offset, .. } = snapshot;
        say!("  snapshot at entry {index}, offset {next_offset}{agrees}");
    }
    for (path, why) in &checked.skipped {
        // The log has everything, so this costs time at the next start and nothing else.
        say!("  snapshot {} can't be used: {why}", path.display());
    }
    let starts = checked.starts;
    let mut complaints = checked.complaints.into_iter();
    let Some(fatal) = complaints.next() else { return Ok(checked.ties) };
    for complaint in complaints {
        say!("  {complaint}");
    }
    Err(NotWhole { fatal, starts })
}

/// Describes one file.
pub fn run_dump(arguments: &DumpArguments) -> Result<(), Fatal> {
    let path = &arguments.file;
    let bytes = std::fs::read(path).map_err(|error| {
        Fatal::new(Reason::File, format!("cannot read {}: {error}", path.display()))
    })?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str());
    match (name.as_str(), extension) {
        (superblock::NAME, _) => blocks(&bytes, Superblock::from_block),
        ("hard-state", _) => blocks(&bytes, HardStateSlot::from_block),
        (_, Some("seg")) => dump_segment(&bytes),
        (_, Some("marks")) => dump_marks(&bytes),
        (_, Some("run")) => dump_run(&bytes),
        (_, Some("snap")) => {
            blocks(&bytes[..bytes.len().min(BLOCK as usize)], |block| {
                SnapshotMeta::from_block(block)
            });
        }
        _ => {
            let message =
                format!("{name} is not a superblock, hard-state, .seg, .marks, .snap or .run file");
            return Err(Fatal::new(Reason::Usage, message));
        }
    }
    Ok(())
}

fn blocks<T: std::fmt::Debug, E: std::fmt::Display>(
    bytes: &[u8],
    decode: impl Fn(&Block) -> Result<T, E>,
) {
    for (block, number) in bytes.chunks_exact(BLOCK as usize).zip(0u64..) {
        let Ok(block) = Block::try_from(block) else { continue };
        match decode(&block) {
            Ok(decoded) => say!("{:>10}  {decoded:?}", number * BLOCK),
            Err(error) => say!("{:>10}  bad: {error}", number * BLOCK),
        }
    }
}

/// Where entries stand in a segment: each file is one structure, and good as a whole.
fn dump_marks(bytes: &[u8]) {
    match marks_in(bytes) {
        Ok((header, marks)) => {
            say!("{:>10}  {header}", 0);
            for (at, mark) in marks {
                say!("{at:>10}  {mark}");
            }
        }
        Err(error) => say!("{:>10}  bad: {error}", 0),
    }
}

fn dump_run(bytes: &[u8]) {
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    let header = blocks.first().ok_or(BlockError::Blank).and_then(RunHeader::from_block);
    let header = match header {
        Ok(header) => header,
        Err(error) => return say!("{:>10}  bad: {error}", 0),
    };
    say!("{:>10}  {header:?}", 0);
    let mut last = None;
    let wanted = (header.blocks() + header.fence_blocks()) as usize;
    for (number, block) in (0..).zip(&blocks[1..]).take(wanted) {
        let at = (number + 1) * BLOCK;
        if let Some(place) = number.checked_sub(header.blocks()) {
            match FenceBlock::open(&header, place, block) {
                Ok(fences) => say!("{at:>10}  block {number}: {} fences", fences.count()),
                Err(error) => say!("{at:>10}  bad: block {number}: {error}"),
            }
            continue;
        }
        let entries: Vec<_> = match RunBlock::open(&header, number, block) {
            Ok(block) => block.entries().collect(),
            Err(error) => {
                say!("{at:>10}  bad: block {number}: {error}");
                continue;
            }
        };
        let (Some(first), Some(end)) = (entries.first(), entries.last()) else { continue };
        let order =
            if last > Some(first.order()) { ", not in order with those before" } else { "" };
        last = Some(end.order());
        let offsets = entries.iter().map(|entry| entry.offset);
        say!(
            "{at:>10}  block {number}: {} entries, hashes {:012x} to {:012x}, offsets {} to {}{order}",
            entries.len(),
            first.hash >> 16,
            end.hash >> 16,
            offsets.clone().min().unwrap_or_default(),
            offsets.max().unwrap_or_default()
        );
    }
    if blocks.len() - 1 != wanted || !bytes.len().is_multiple_of(BLOCK_BYTES) {
        say!("{:>10}  bad: it should end after {wanted} blocks of entries and fences", bytes.len());
    }
}

fn dump_segment(bytes: &[u8]) {
    blocks(&bytes[..bytes.len().min(BLOCK as usize)], SegmentHeader::from_block);
    let mut at = BLOCK as usize;
    while at < bytes.len() {
        if let Ok((header, body)) = decode_entry(&bytes[at..]) {
            let meta = &header.meta;
            say!(
                "{at:>10}  entry {} term {} {:?}: offsets {}+{}, time {}, body {} bytes, durable {}, \
                 chain {}",
                meta.index,
                meta.term,
                meta.kind,
                meta.base_offset,
                meta.records,
                meta.timestamp,
                body.len(),
                header.durable_index,
                header.chain
            );
            at = (at + header.entry_bytes()).next_multiple_of(8);
            continue;
        }
        // Padding up to the next block, or bytes that are no entry.
        let end = (at + 1).next_multiple_of(BLOCK as usize).min(bytes.len());
        if bytes[at..end].iter().any(|&byte| byte != 0) {
            say!("{at:>10}  bytes that are no entry");
        }
        at = end;
    }
}
