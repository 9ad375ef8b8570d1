//! `verify` and `dump`: the contents of files, without a server.

use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use walengine_net::cli;
use walengine_net::entry::decode_entry;
use walengine_net::model::PartitionId;
use walengine_net::say;

use crate::data_dir::lock::DirectoryLock;
use crate::data_dir::{self, open_failed};
use crate::fatal::{Fatal, Reason};
use crate::ledger::Ledger;
use crate::limits::REPLAY_BYTES;
use crate::memory;
use crate::partition::restore;
use crate::storage::ids::Ids;
use crate::storage::layout::{
    BLOCK, Block, HardStateSlot, SegmentHeader, SnapshotMeta, Superblock, Tail,
};
use crate::storage::read_only_disk::ReadOnlyDisk;
use crate::storage::snapshot::{Newest, SnapshotStore};
use crate::storage::{partition_dir, superblock, verify};

/// Changes nothing. Exit code: 0 if all is well, 6 if something is damaged, 10 if the ledger
/// derives other verdicts than the log holds, 5 if it is not a data directory.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Data directory; no server may be using it
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Most memory to take, in MiB [default: what the control group or the machine has]
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,
}

/// One line for each structure in the file, with its position in bytes.
#[derive(Debug, clap::Args)]
pub struct DumpArguments {
    /// A superblock, hard-state, segment (.seg) or snapshot (.snap) file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Verifies a data directory.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let dir = &arguments.dir;
    if !dir.join(superblock::NAME).exists() {
        let message = format!("{} is not a walengine data directory", dir.display());
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let _lock = DirectoryLock::share(dir)?;
    memory::set_limit(arguments.memory_mib.map(|mib| mib << 20));
    let superblock = data_dir::read_superblock(dir)?;
    let mut worst: Option<Fatal> = None;
    for fatal in data_dir::complaints(dir, &superblock)? {
        cli::print(super::NAME, &fatal);
        worst = worst.or(Some(fatal));
    }
    for number in 0..superblock.partitions {
        let id = PartitionId(number);
        if !partition_dir(dir, id).exists() {
            continue; // said already
        }
        let task = partition(dir.clone(), superblock, id);
        if let Err(fatal) = block_on(task) {
            cli::print(super::NAME, &fatal);
            worst = worst.or(Some(fatal));
        }
    }
    match worst {
        None => {
            say!("whole: {} partitions", superblock.partitions);
            Ok(())
        }
        Some(Fatal { reason, .. }) => {
            let message = format!("{} is not whole; nothing was changed", dir.display());
            Err(Fatal::new(reason, message))
        }
    }
}

async fn partition(dir: PathBuf, superblock: Superblock, id: PartitionId) -> Result<(), Fatal> {
    let disk = ReadOnlyDisk::new(&dir);
    let path = partition_dir(&dir, id);
    let ids = Ids { cluster: superblock.cluster, partition: id };
    let newest = snapshots(disk.clone(), &path, ids).await?;
    let snapshot = newest.snapshot.as_ref().map_or(Tail::default(), |found| found.meta().applied);
    let mut ledger = Ledger::new(id, superblock.partitions);
    let mut disagreement = None;
    let mut unweighed_bytes = 0;
    let bytes = superblock.segment_bytes;
    let visit = |checked: verify::Checked<'_>| {
        unweighed_bytes += checked.bytes.len();
        if unweighed_bytes >= REPLAY_BYTES && disagreement.is_none() {
            unweighed_bytes = 0;
            if let Err(fatal) = memory::require_room() {
                // Checksums and chain are checked to the end all the same.
                ledger = Ledger::new(id, superblock.partitions);
                disagreement = Some(fatal);
            }
        }
        if disagreement.is_none()
            && let Ok((header, body)) = decode_entry(checked.bytes)
            && let Err(fatal) = restore::apply(&mut ledger, &header, body)
        {
            disagreement = Some(fatal);
        }
        ledger.release(ledger.next_offset());
    };
    let report = verify::scan(disk, &path, ids, bytes, snapshot, visit)
        .await
        .map_err(|error| open_failed(&error))?;
    say!(
        "partition {id}: {} entries in {} segments, {} bytes, next offset {}, chain {}, {} accounts, \
         {} ids{}",
        report.entries,
        report.segments,
        report.entry_bytes,
        report.tail.next_offset,
        report.tail.chain,
        ledger.accounts_len(),
        ledger.ids_len(),
        if report.torn_bytes > 0 {
            format!(", {} bytes of torn tail that the next start cuts", report.torn_bytes)
        } else {
            String::new()
        }
    );
    if disagreement.is_none() {
        say!("  digest of the state: {}", super::export::digest_text(&ledger.digest()));
    }
    if newest.snapshot.is_some() {
        let Tail { index, next_offset, .. } = snapshot;
        say!("  snapshot at entry {index}, offset {next_offset}: whole");
    }
    for (path, why) in &newest.skipped {
        // The log has everything, so this costs time at the next start and nothing else.
        say!("  snapshot {} can't be used: {why}", path.display());
    }
    for (place, why) in &report.damage {
        say!("  damage in {place}: {why}");
    }
    if !report.damage.is_empty() {
        let message = format!("partition {id}: {} places are damaged", report.damage.len());
        return Err(Fatal::new(Reason::Damaged, message));
    }
    if report.hard_state_slot_lost {
        let message = format!(
            "partition {id}: one of the two slots of {} can't be read: the newest vote may be lost",
            path.join("hard-state").display()
        );
        return Err(Fatal::new(Reason::Damaged, message));
    }
    if let Some(fatal) = disagreement {
        return Err(Fatal::new(fatal.reason, format!("partition {id}: {}", fatal.message)));
    }
    if !ledger.totals().values().all(crate::ledger::LedgerTotals::balanced) {
        let message = format!("partition {id}: debits and credits differ");
        return Err(Fatal::new(Reason::Disagreement, message));
    }
    Ok(())
}

/// The newest whole snapshot, and those that can't be used.
async fn snapshots(
    disk: ReadOnlyDisk,
    path: &Path,
    ids: Ids,
) -> Result<Newest<ReadOnlyDisk>, Fatal> {
    let id = ids.partition;
    let newest = SnapshotStore::read_only(disk, path).newest().await.map_err(|error| {
        Fatal::new(Reason::Disk, format!("partition {id}: reading snapshots: {error}"))
    })?;
    if let Some(found) = &newest.snapshot
        && (found.meta().cluster, found.meta().partition) != (ids.cluster, id)
    {
        let message = format!("{} is of another cluster or partition", found.path().display());
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    Ok(newest)
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
        (_, Some("snap")) => {
            blocks(&bytes[..bytes.len().min(BLOCK as usize)], |block| {
                SnapshotMeta::from_block(block)
            });
        }
        _ => {
            let message = format!("{name} is not a superblock, hard-state, .seg or .snap file");
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
