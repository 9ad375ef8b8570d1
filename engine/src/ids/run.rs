//! One run: a file of keys sorted by their hashes, for a range of the log's offsets. Written once.
//!
//! ```text
//! FIRST-END.new: header, entries, fences -> sync -> rename to FIRST-END.run -> sync the directory
//! ```
//! A block is believed only after its checksum, its number, its count, its order and its offsets
//! were checked, at every read. Layout: FORMAT.md, section 10.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine_net::model::{ClusterId, PartitionId};

use super::claims::Claim;
use super::names::{new_path, path};
use crate::planted::{self, Planted};
use crate::storage::disk::{BLOCK_BYTES, Disk, DiskFile};
use crate::storage::files::remove_if_there;
use crate::storage::ids::Ids;
use crate::storage::layout::{
    BLOCK, Block, BlockError, FenceBlock, RUN_BLOCK_ENTRIES, RUN_BLOCK_FENCES, RunBlock, RunHeader,
};
use crate::storage::read_ahead::ReadAhead;
use crate::storage::write_behind::WriteBehind;

pub use super::names::RunRange;
pub use crate::storage::layout::RunEntry;

/// Bytes that are written or read at once.
const PIECE_BYTES: usize = 256 << 10;
const PIECE_BLOCKS: u64 = PIECE_BYTES as u64 / BLOCK;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMeta {
    /// First offset that it covers.
    pub first: u64,
    /// Offset behind the last one.
    pub end: u64,
    /// Number of entries.
    pub entries: u64,
    /// Lowest id of an event in it; the greatest there is if there is none.
    pub id_low: u128,
    /// Highest id of an event in it; 0 if there is none.
    pub id_high: u128,
}

/// Writes one run. Without [`RunWriter::finish`] it does not count.
pub struct RunWriter<D: Disk> {
    disk: D,
    dir: PathBuf,
    header: RunHeader,
    file: WriteBehind<D>,
    /// Entries of the block that is being filled.
    block: Vec<RunEntry>,
    /// Blocks that wait to be written.
    piece: D::Buffer,
    used: usize,
    written_bytes: u64,
    pushed: u64,
    last: (u64, u64),
    fences: Vec<u64>,
    /// Keeps others from removing its file.
    pub(super) claim: Option<Claim>,
    /// Counts what is written to all runs of a partition.
    pub(super) written_of_all: Rc<Cell<u64>>,
}

/// An open run.
pub struct Run<D: Disk> {
    disk: D,
    path: PathBuf,
    file: Rc<D::File>,
    header: RunHeader,
    /// Hash of the first entry of each block.
    fences: Vec<u64>,
}

/// Reads a run's blocks in order.
pub(super) struct RunReader<D: Disk> {
    file: ReadAhead<D>,
    /// Number of the block that comes next.
    block: u64,
    last: (u64, u64),
}

impl RunMeta {
    /// The offsets that it covers.
    pub fn range(&self) -> RunRange {
        RunRange { first: self.first, end: self.end }
    }

    /// Of both, one behind the other.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            first: self.first,
            end: next.end,
            entries: self.entries + next.entries,
            id_low: self.id_low.min(next.id_low),
            id_high: self.id_high.max(next.id_high),
        }
    }

    fn header(&self, ids: Ids) -> RunHeader {
        RunHeader {
            cluster: ids.cluster,
            partition: ids.partition,
            first: self.first,
            end: self.end,
            entries: self.entries,
            id_low: self.id_low,
            id_high: self.id_high,
        }
    }
}

impl<D: Disk> RunWriter<D> {
    /// Begins a run in the directory `dir`; the space of exactly `meta.entries` entries is allocated at
    /// once.
    ///
    /// # Errors
    /// The disk's: nothing but a file without a name of its own may be left. `InvalidInput` if the
    /// offsets are none, or more than a run can cover.
    pub async fn create(
        disk: &D,
        dir: &Path,
        cluster: ClusterId,
        partition: PartitionId,
        meta: RunMeta,
    ) -> io::Result<Self> {
        let header = meta.header(Ids { cluster, partition });
        if !header.covers_offsets() {
            return Err(wrong("a run covers from 1 to 2^40 offsets"));
        }
        let new = new_path(dir, meta.range());
        remove_if_there(disk, &new).await?;
        let file = match disk.create(&new, file_bytes(&header)).await {
            Ok(file) => file,
            Err(error) => {
                // Its space is free again; the first error is the one to tell.
                let _ = remove_if_there(disk, &new).await;
                return Err(error);
            }
        };
        let mut piece = disk.buffer(PIECE_BYTES);
        piece.as_mut()[..BLOCK_BYTES].copy_from_slice(&header.to_block());
        Ok(Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            header,
            file: WriteBehind::new(file),
            block: Vec::with_capacity(RUN_BLOCK_ENTRIES),
            piece,
            used: BLOCK_BYTES,
            written_bytes: 0,
            pushed: 0,
            last: (0, 0),
            fences: Vec::with_capacity(header.blocks() as usize),
            claim: None,
            written_of_all: Rc::default(),
        })
    }

    /// Offsets that it will cover.
    pub fn range(&self) -> RunRange {
        RunRange { first: self.header.first, end: self.header.end }
    }

    /// Adds an entry, of whose hash the lower 16 bits do not count. Entries come sorted by what is left
    /// of the hash, then by offset.
    ///
    /// # Errors
    /// The disk's; `InvalidInput` for an entry that comes too early or too late in the order, has no
    /// offset of the run's, or is more than was announced. Then [`RunWriter::abort`].
    pub async fn push(&mut self, entry: RunEntry) -> io::Result<()> {
        let entry = RunEntry { hash: RunEntry::cut(entry.hash), ..entry };
        if self.pushed == self.header.entries {
            return Err(wrong("a run gets no more entries than were announced"));
        }
        if !(self.header.first..self.header.end).contains(&entry.offset) {
            return Err(wrong("an entry's offset is one that its run covers"));
        }
        if entry.order() < self.last {
            return Err(wrong("entries come in order of hash and offset"));
        }
        self.last = entry.order();
        self.pushed += 1;
        self.block.push(entry);
        if self.block.len() == RUN_BLOCK_ENTRIES { self.end_block().await } else { Ok(()) }
    }

    async fn end_block(&mut self) -> io::Result<()> {
        let block = RunBlock::encode(&self.header, self.fences.len() as u64, &self.block);
        self.fences.push(self.block[0].hash);
        self.block.clear();
        self.put_block(&block).await
    }

    async fn put_block(&mut self, block: &Block) -> io::Result<()> {
        self.piece.as_mut()[self.used..self.used + BLOCK_BYTES].copy_from_slice(block);
        self.used += BLOCK_BYTES;
        if self.used == PIECE_BYTES { self.write_piece().await } else { Ok(()) }
    }

    async fn write_piece(&mut self) -> io::Result<()> {
        let fresh = self.disk.buffer(PIECE_BYTES);
        let piece = std::mem::replace(&mut self.piece, fresh);
        let piece = self.disk.trim(piece, self.used);
        self.file.write(piece, self.written_bytes).await?;
        self.written_bytes += self.used as u64;
        self.written_of_all.update(|bytes| bytes + self.used as u64);
        self.used = 0;
        Ok(())
    }

    /// Makes the run durable, gives it its name, and leaves it open.
    ///
    /// # Errors
    /// The disk's; `InvalidInput` if entries are missing.
    pub async fn finish(mut self) -> io::Result<Run<D>> {
        if let Err(error) = self.end().await {
            let _ = self.abort().await; // the first error is the one to tell
            return Err(error);
        }
        let path = path(&self.dir, self.range());
        self.disk.rename(&new_path(&self.dir, self.range()), &path).await?;
        self.disk.sync_dir(&self.dir).await?;
        let Self { disk, header, file, fences, .. } = self;
        Ok(Run { disk, path, file: file.into_file(), header, fences })
    }

    async fn end(&mut self) -> io::Result<()> {
        if self.pushed != self.header.entries {
            return Err(wrong("a run gets as many entries as were announced"));
        }
        if !self.block.is_empty() {
            self.end_block().await?;
        }
        let fences = std::mem::take(&mut self.fences);
        for (fences, number) in fences.chunks(RUN_BLOCK_FENCES).zip(0..) {
            self.put_block(&FenceBlock::encode(&self.header, number, fences)).await?;
        }
        self.fences = fences;
        if self.used > 0 {
            self.write_piece().await?;
        }
        if planted::has(Planted::RunNotSynced) {
            return self.file.end().await;
        }
        self.file.sync().await
    }

    /// Gives up; the space is free again.
    pub async fn abort(mut self) -> io::Result<()> {
        let _ = self.file.end().await; // what was written does not matter any more
        let new = new_path(&self.dir, self.range());
        drop(self.file);
        self.disk.remove(&new).await
    }
}

impl<D: Disk> Run<D> {
    /// Opens the run of these offsets in the directory `dir`; reads and checks all of it, and gives each
    /// entry to `on_entry`. `pause` is called between two pieces with the number of entries so far.
    ///
    /// # Errors
    /// The disk's; `InvalidData`, with path and block, if the file is not what was written.
    pub async fn open(
        disk: &D,
        dir: &Path,
        ids: Ids,
        range: RunRange,
        on_entry: impl FnMut(RunEntry),
        pause: impl AsyncFnMut(u64),
    ) -> io::Result<Self> {
        let run = Self::open_known(disk, dir, ids, range).await?;
        run.scan_entries(on_entry, pause).await?;
        Ok(run)
    }

    /// As [`Self::open`], of a run whose entries are known: only its header and its fences are read now. Each of
    /// its other blocks is checked whenever it is read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_known(disk: &D, dir: &Path, ids: Ids, range: RunRange) -> io::Result<Self> {
        let run = Self::open_header(disk, dir, ids, range).await?;
        let fences = run.read_fences().await?;
        Ok(Self { fences, ..run })
    }

    async fn read_fences(&self) -> io::Result<Vec<u64>> {
        let blocks = self.header.blocks();
        let mut fences = Vec::with_capacity(blocks as usize);
        let fence_blocks = self.header.fence_blocks();
        let mut file = self.reads_ahead(blocks + fence_blocks);
        for number in 0..fence_blocks {
            let block = file.at((1 + blocks + number) * BLOCK).await?;
            let block = block.first_chunk().ok_or(BlockError::Blank);
            let block = block.and_then(|block| FenceBlock::open(&self.header, number, block));
            let block = block.map_err(|error| {
                damaged(&self.path, &format!("block {}: {error}", blocks + number))
            })?;
            fences.extend(block);
        }
        if !fences.is_sorted() {
            return Err(damaged(&self.path, "its fences are not in order"));
        }
        Ok(fences)
    }

    /// Reads up to the block with this number.
    fn reads_ahead(&self, end: u64) -> ReadAhead<D> {
        let (disk, file) = (self.disk.clone(), self.file.clone());
        ReadAhead::new(disk, file, (1 + end) * BLOCK, PIECE_BYTES as u64)
    }

    async fn open_header(disk: &D, dir: &Path, ids: Ids, range: RunRange) -> io::Result<Self> {
        let path = path(dir, range);
        let file = disk.open(&path).await?;
        let bytes = file.len().await?;
        if bytes < BLOCK {
            return Err(damaged(&path, "it is too short"));
        }
        let buffer = file.read(disk.buffer(BLOCK_BYTES), 0).await?;
        let header = buffer.as_ref().first_chunk().ok_or(BlockError::Blank);
        let header = header.and_then(RunHeader::from_block);
        let header = header.map_err(|error| damaged(&path, &format!("header: {error}")))?;
        if (header.cluster, header.partition) != (ids.cluster, ids.partition) {
            return Err(damaged(&path, "it is of another cluster or partition"));
        }
        if (header.first, header.end) != (range.first, range.end) {
            return Err(damaged(&path, "its name is that of another run"));
        }
        if header.entries > u64::MAX / BLOCK || bytes != file_bytes(&header) {
            return Err(damaged(&path, "its length is not that of its entries"));
        }
        Ok(Self { disk: disk.clone(), path, file: Rc::new(file), header, fences: Vec::new() })
    }

    /// What it is.
    pub fn meta(&self) -> RunMeta {
        let RunHeader { first, end, entries, id_low, id_high, .. } = self.header;
        RunMeta { first, end, entries, id_low, id_high }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of its file in bytes.
    pub fn disk_bytes(&self) -> u64 {
        file_bytes(&self.header)
    }

    /// Memory that it takes to find the block of a hash, in bytes.
    pub fn fence_bytes(&self) -> u64 {
        size_of_val(&*self.fences) as u64
    }

    /// Gives each entry, in order, to `on_entry`. `pause` is called between two pieces with the number
    /// of entries so far.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if the file is not what was written.
    pub async fn scan(
        &self,
        on_entry: impl FnMut(RunEntry),
        pause: impl AsyncFnMut(u64),
    ) -> io::Result<()> {
        if self.read_fences().await? != self.fences {
            return Err(damaged(&self.path, "its fences were others when it was opened"));
        }
        self.scan_entries(on_entry, pause).await
    }

    async fn scan_entries(
        &self,
        mut on_entry: impl FnMut(RunEntry),
        mut pause: impl AsyncFnMut(u64),
    ) -> io::Result<()> {
        let (mut reader, mut entries) = (RunReader::new(self), 0);
        while let Some(block) = reader.next(self).await? {
            entries += block.entries().len() as u64;
            block.entries().for_each(&mut on_entry);
            if reader.block.is_multiple_of(PIECE_BLOCKS) {
                pause(entries).await;
            }
        }
        pause(entries).await;
        Ok(())
    }

    /// The entries with this hash, of which the lower 16 bits do not count. Reads one block; more only
    /// where entries with equal hashes are in several.
    pub async fn find(&self, hash: u64) -> io::Result<Vec<RunEntry>> {
        let hash = RunEntry::cut(hash);
        let mut found = Vec::new();
        for number in self.blocks_of(hash) {
            let entries = self.read_block(number).await?;
            found.extend(entries.into_iter().filter(|entry| entry.hash == hash));
        }
        Ok(found)
    }

    /// The blocks that can have entries with this hash.
    pub(super) fn blocks_of(&self, hash: u64) -> std::ops::Range<u64> {
        let hash = RunEntry::cut(hash);
        let end = self.fences.partition_point(|fence| *fence <= hash);
        let first = self.fences.partition_point(|fence| *fence < hash).saturating_sub(1);
        first as u64..end as u64
    }

    /// The entries of one block.
    pub(super) async fn read_block(&self, number: u64) -> io::Result<Vec<RunEntry>> {
        let buffer = self.disk.buffer(BLOCK_BYTES);
        let buffer = self.file.read(buffer, (number + 1) * BLOCK).await?;
        let block = self.checked(number, buffer.as_ref())?;
        let entries: Vec<RunEntry> = block.entries().collect();
        if entries.first().map(|entry| &entry.hash) != self.fences.get(number as usize) {
            return Err(other_fence(&self.path, number));
        }
        Ok(entries)
    }

    fn checked<'a>(&self, number: u64, bytes: &'a [u8]) -> io::Result<RunBlock<'a>> {
        let block = bytes.first_chunk().ok_or(BlockError::Blank);
        block
            .and_then(|block| RunBlock::open(&self.header, number, block))
            .map_err(|error| damaged(&self.path, &format!("block {number}: {error}")))
    }
}

impl<D: Disk> RunReader<D> {
    pub(super) fn new(run: &Run<D>) -> Self {
        Self { file: run.reads_ahead(run.header.blocks()), block: 0, last: (0, 0) }
    }

    /// The next block of the run; `None` behind the last.
    pub(super) async fn next(&mut self, run: &Run<D>) -> io::Result<Option<RunBlock<'_>>> {
        let number = self.block;
        if number == run.header.blocks() {
            return Ok(None);
        }
        self.block += 1;
        let bytes = self.file.at((number + 1) * BLOCK).await?;
        let block = run.checked(number, bytes)?;
        let first = block.entries().next().map_or((0, 0), |entry| entry.order());
        if run.fences.get(number as usize) != Some(&first.0) {
            return Err(other_fence(&run.path, number));
        }
        if first < self.last {
            let why = format!("block {number}: its entries are not in order with those before");
            return Err(damaged(&run.path, &why));
        }
        self.last = block.entries().last().map_or(self.last, |entry| entry.order());
        Ok(Some(block))
    }
}

fn file_bytes(header: &RunHeader) -> u64 {
    (1 + header.blocks() + header.fence_blocks()) * BLOCK
}

fn other_fence(path: &Path, block: u64) -> io::Error {
    damaged(path, &format!("block {block} begins with another hash than its fence"))
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn damaged(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}
