//! The filter over a partition's runs in a file, so that a start reads neither the runs nor the log for it.
//!
//! ```text
//!  save   filter as of a run's end, part by part ─ file, durable          now and then, in the background
//!  load   newest that ends before the restored state does ─ filter ─ the runs since are read
//! ```
//! What is saved is not needed: without it, and for the runs that came after it, the runs themselves are
//! read. Layout: FORMAT.md, section 10.

use std::io;
use std::path::Path;
use std::rc::Rc;

use walengine_net::model::Offset;

use super::chunks::{Chunks, write_chunk};
use super::ledger_access::LedgerAccess;
use super::replica_id::ReplicaId;
use crate::ids::filter::{Filter, FilterPart};
use crate::ids::run::{Run, RunMeta};
use crate::ids::runs::Runs;
use crate::limits::FILTER_CHUNK_BYTES_MAX;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::ids::Ids;
use crate::storage::layout::{SnapshotMeta, Tail};
use crate::storage::snapshot::{SnapshotStore, SnapshotWriter};

/// Directory of the files in that of a partition.
const DIR: &str = "filters";
const MAGIC: u32 = u32::from_le_bytes(*b"WALF");
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 24;
/// Of what a run is.
const META_BYTES: usize = 56;

/// What was saved.
pub struct SavedFilter {
    /// All keys of the runs up to some offset.
    pub filter: Filter,
    /// What those runs were.
    pub known: Vec<RunMeta>,
}

/// The first chunk.
struct Head {
    /// The keys of all records below are in the filter.
    end: u64,
    hashes: u64,
}

impl Head {
    fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        for (word, place) in [self.end, self.hashes].into_iter().zip(bytes[8..].chunks_exact_mut(8))
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [first, end, hashes] = bytes.as_chunks().0 else { return None };
        let [first, end, hashes] = [first, end, hashes].map(|word| u64::from_le_bytes(*word));
        let known = u64::from(VERSION) << 32 | u64::from(MAGIC);
        (first == known && bytes.len() == HEAD_BYTES).then_some(Self { end, hashes })
    }
}

fn encode_meta(meta: &RunMeta) -> [u8; META_BYTES] {
    let mut bytes = [0; META_BYTES];
    let words = [meta.first, meta.end, meta.entries];
    for (word, place) in words.into_iter().zip(bytes.chunks_exact_mut(8)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes[24..40].copy_from_slice(&meta.id_low.to_le_bytes());
    bytes[40..].copy_from_slice(&meta.id_high.to_le_bytes());
    bytes
}

fn decode_meta(bytes: &[u8; META_BYTES]) -> RunMeta {
    let word = |at: usize| {
        bytes[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
    };
    let wide = |at: usize| u128::from(word(at)) | u128::from(word(at + 8)) << 64;
    let (first, end, entries) = (word(0), word(8), word(16));
    RunMeta { first, end, entries, id_low: wide(24), id_high: wide(40) }
}

/// Writes the filter of all runs, part by part, and what they are. The ledger's filter must stay as it is meanwhile
/// ([`LedgerAccess`]: `begin_saving`), and hold the keys of exactly these runs.
///
/// # Errors
/// The disk's. Nothing was saved then.
pub async fn save<D: Disk, R: Runtime>(
    id: ReplicaId,
    saved: &Runs<D>,
    runs: &[Rc<Run<D>>],
    ledger: &impl LedgerAccess,
    runtime: &R,
) -> io::Result<()> {
    let Some(last) = runs.last() else { return Ok(()) };
    let store = SnapshotStore::open_in(saved.disk().clone(), saved.partition_dir(), DIR).await;
    let store = store.map_err(io::Error::other)?;
    let end = last.meta().end;
    let meta = SnapshotMeta {
        cluster: id.cluster,
        partition: id.partition,
        created: runtime.now(),
        applied: Tail { index: end, next_offset: Offset(end), ..Tail::default() },
    };
    let filter = ledger.with(|ledger| ledger.ids_memory().1);
    // What stands before each chunk is little, and the table of parts in memory is more.
    let bytes = filter + (runs.len() * META_BYTES) as u64 + (1 << 20);
    if saved.free_bytes().await? < bytes.saturating_mul(3) {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "there is little room, and the log has it first",
        ));
    }
    let mut writer = store.create(&meta, bytes).await?;
    match write(end, runs, ledger, runtime, &mut writer).await {
        Ok(()) => writer.finish().await,
        Err(error) => {
            let _ = writer.abort().await; // the first error is the one to tell
            Err(error)
        }
    }
}

async fn write<D: Disk, R: Runtime>(
    end: u64,
    runs: &[Rc<Run<D>>],
    ledger: &impl LedgerAccess,
    runtime: &R,
    writer: &mut SnapshotWriter<D>,
) -> io::Result<()> {
    let head = Head { end, hashes: ledger.with(|ledger| ledger.filter_len()) };
    write_chunk(&head.to_bytes(), writer).await?;
    let metas: Vec<u8> = runs.iter().flat_map(|run| encode_meta(&run.meta())).collect();
    write_chunk(&metas, writer).await?;
    let (mut bytes, mut number) = (Vec::new(), 0);
    while ledger.with(|ledger| ledger.filter_part(number, &mut bytes)) {
        write_chunk(&bytes, writer).await?;
        runtime.yield_now().await;
        bytes.clear();
        number += 1;
    }
    Ok(())
}

/// The newest filter that was saved and is not ahead of runs that end at `end`; nothing if there is none that
/// is whole. What is damaged is told.
pub async fn load<D: Disk>(
    disk: &D,
    partition_dir: &Path,
    ids: Ids,
    end: u64,
) -> Option<SavedFilter> {
    let store = SnapshotStore::read_only_in(disk.clone(), partition_dir, DIR);
    let indexes = store.indexes().await.unwrap_or_default();
    for index in indexes.into_iter().rev().filter(|index| *index <= end) {
        match load_one(&store, index, ids).await {
            Ok(saved) => return Some(saved),
            Err(error) => tracing::warn!(
                "{} can't be used, and the runs of ids are read instead: {error}",
                store.path(index).display()
            ),
        }
    }
    None
}

async fn load_one<D: Disk>(
    store: &SnapshotStore<D>,
    index: u64,
    ids: Ids,
) -> io::Result<SavedFilter> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let reader = store.read(index).await?;
    if (reader.meta().cluster, reader.meta().partition) != (ids.cluster, ids.partition) {
        return Err(wrong("it is of another cluster or partition"));
    }
    let mut chunks = Chunks::new(reader, FILTER_CHUNK_BYTES_MAX);
    let head = chunks.next().await?.and_then(Head::from_bytes);
    let head = head.filter(|head| head.end == index).ok_or_else(|| wrong("it has no head"))?;
    let metas = chunks.next().await?.unwrap_or_default();
    let known: Vec<RunMeta> = metas.as_chunks().0.iter().map(decode_meta).collect();
    let is_adjacent = known.windows(2).all(|pair| pair[0].end == pair[1].first);
    if !is_adjacent || known.last().is_none_or(|last| last.end != index) {
        return Err(wrong("its runs do not end where it does"));
    }
    let mut parts = Vec::new();
    while let Some(bytes) = chunks.next().await? {
        parts.push(FilterPart::decode(bytes).ok_or_else(|| wrong("a part is malformed"))?);
    }
    let filter = Filter::of_parts(parts, head.hashes).ok_or_else(|| wrong("parts are missing"))?;
    Ok(SavedFilter { filter, known })
}

/// Removes what no start will use: all but the newest, and the newest that is not ahead of each of the states that
/// a start may begin with, whose runs end there.
///
/// # Errors
/// The disk's.
pub async fn prune<D: Disk>(disk: &D, partition_dir: &Path, ends: &[u64]) -> io::Result<()> {
    let store = SnapshotStore::read_only_in(disk.clone(), partition_dir, DIR);
    let mut indexes = store.indexes().await?;
    let used = |ends: &[u64]| -> Vec<Option<u64>> {
        let newest = |end: &u64| indexes.iter().copied().rfind(|index| index <= end);
        ends.iter().map(newest).collect()
    };
    let kept = [used(ends), used(&[u64::MAX])].concat();
    indexes.retain(|index| !kept.contains(&Some(*index)));
    store.remove(&indexes).await
}

/// Before a partition serves: removes what is ahead of a state whose runs end at `end`, which the log may not come to in
/// the same way again, and what was not finished.
///
/// # Errors
/// The disk's.
pub async fn remove_ahead<D: Disk>(disk: &D, partition_dir: &Path, end: u64) -> io::Result<()> {
    let store = SnapshotStore::read_only_in(disk.clone(), partition_dir, DIR);
    store.remove_unfinished().await?;
    let mut indexes = store.indexes().await?;
    indexes.retain(|index| *index > end);
    store.remove(&indexes).await
}

/// Removes all, so that the next start reads all runs.
///
/// # Errors
/// The disk's.
pub async fn remove_all<D: Disk>(disk: &D, partition_dir: &Path) -> io::Result<()> {
    let store = SnapshotStore::read_only_in(disk.clone(), partition_dir, DIR);
    let indexes = store.indexes().await?;
    store.remove(&indexes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was_and_others_are_refused() {
        let head = Head { end: 1 << 40, hashes: 3 };
        let bytes = head.to_bytes();
        let again = Head::from_bytes(&bytes).unwrap();
        assert_eq!((again.end, again.hashes), (1 << 40, 3));
        assert!(Head::from_bytes(&bytes[..16]).is_none());
        assert!(Head::from_bytes(&[&bytes[..], &[0; 8]].concat()).is_none());
        for bit in 0..64 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::from_bytes(&flipped).is_none(), "bit {bit}");
        }
    }
}
