//! Snapshots of a partition's state: what a restart begins with instead of the whole log.
//!
//! A snapshot has its name only when it is whole and durable. A damaged one is skipped for the one
//! before it, never half believed. Contents are opaque here. Layout: FORMAT.md, section 6.
//!
//! ```text
//! the entries that it stands for are durable
//!   -> INDEX.new: header, chunks, trailer -> sync -> rename to INDEX.snap -> sync the directory
//!   -> older snapshots are removed
//! ```
//! A snapshot is a witness: a log that ends before it is damaged. So the log comes first.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::files::remove_if_there;
use super::layout::{
    self, BLOCK, BlockError, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_DATA_BYTES, SNAPSHOT_FRAME_BYTES,
    SnapshotFrame, SnapshotMeta,
};
use super::limits::SNAPSHOT_READ_BYTES;
use super::read_ahead::ReadAhead;
use super::write_behind::WriteBehind;

const DIR: &str = "snapshots";
const EXTENSION: &str = "snap";
const EXTENSION_NEW: &str = "new";
const NAME_DIGITS: usize = 20;
const TRAILER_DATA_BYTES: usize = 16;

/// The snapshots of one partition.
#[derive(Clone)]
pub struct SnapshotStore<D: Disk> {
    disk: D,
    partition: PathBuf,
    dir: PathBuf,
}

/// The newest whole snapshot, and those that had to be skipped.
pub struct Newest<D: Disk> {
    /// `None` if there is none that is whole.
    pub snapshot: Option<SnapshotReader<D>>,
    /// File and reason of each newer one that is damaged. A person should hear of it.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Writes one snapshot. Without [`SnapshotWriter::finish`] it does not count.
pub struct SnapshotWriter<D: Disk> {
    disk: D,
    dir: PathBuf,
    index: u64,
    file: WriteBehind<D>,
    chunk: D::Buffer,
    used: usize,
    chunks: u32,
    chunks_max: u64,
    bytes: u64,
    crc: u32,
}

/// Reads one snapshot, chunk by chunk, each checked. Only its end tells that it is whole.
pub struct SnapshotReader<D: Disk> {
    path: PathBuf,
    file: ReadAhead<D>,
    file_bytes: u64,
    meta: SnapshotMeta,
    /// What was read so far.
    found: Trailer,
    whole: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trailer {
    chunks: u32,
    bytes: u64,
    crc: u32,
}

impl<D: Disk> SnapshotStore<D> {
    /// The snapshots in the partition directory `partition`; removes what a crash left half written.
    pub async fn open(disk: D, partition: &Path) -> Result<Self, OpenError> {
        Self::open_in(disk, partition, DIR).await
    }

    /// As [`Self::open`], but of something else that is kept in the same manner, in the directory `name`.
    pub async fn open_in(disk: D, partition: &Path, name: &str) -> Result<Self, OpenError> {
        let failed = || OpenError::io("opening the snapshots");
        let dir = partition.join(name);
        disk.create_dir(&dir).await.map_err(failed())?;
        disk.sync_dir(partition).await.map_err(failed())?;
        let store = Self { disk, partition: partition.to_owned(), dir };
        store.remove_unfinished().await.map_err(failed())?;
        Ok(store)
    }

    /// Removes what a crash left half written. Nothing may be being written.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove_unfinished(&self) -> io::Result<()> {
        let names = match self.disk.list(&self.dir).await {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for name in names {
            if name.extension().is_some_and(|extension| extension == EXTENSION_NEW) {
                remove_if_there(&self.disk, &self.dir.join(name)).await?;
            }
        }
        Ok(())
    }

    /// The snapshots in the partition directory `partition`, to be read only. Changes nothing, and the
    /// directory of the snapshots may be absent.
    pub fn read_only(disk: D, partition: &Path) -> Self {
        Self::read_only_in(disk, partition, DIR)
    }

    /// As [`Self::read_only`], of what [`Self::open_in`] opens.
    pub fn read_only_in(disk: D, partition: &Path, name: &str) -> Self {
        Self { disk, partition: partition.to_owned(), dir: partition.join(name) }
    }

    /// Its disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Directory of its partition.
    pub fn partition_dir(&self) -> &Path {
        &self.partition
    }

    /// Begins a snapshot of at most `bytes_max` bytes; their space is allocated at once.
    ///
    /// # Errors
    /// The disk's: nothing but a file without a name of its own may be left.
    pub async fn create(
        &self,
        meta: &SnapshotMeta,
        bytes_max: u64,
    ) -> io::Result<SnapshotWriter<D>> {
        let index = meta.applied.index;
        let new = path(&self.dir, index).with_extension(EXTENSION_NEW);
        remove_if_there(&self.disk, &new).await?;
        let chunks_max = bytes_max.div_ceil(SNAPSHOT_DATA_BYTES as u64);
        let file_bytes = 2 * BLOCK + chunks_max * SNAPSHOT_CHUNK_BYTES as u64;
        let file = match self.disk.create(&new, file_bytes).await {
            Ok(file) => file,
            Err(error) => {
                // Its space is free again; the first error is the one to tell.
                let _ = remove_if_there(&self.disk, &new).await;
                return Err(error);
            }
        };
        let mut block = self.disk.buffer(BLOCK_BYTES);
        block.as_mut().copy_from_slice(&meta.to_block());
        file.write(Rc::new(block), 0).await?;
        Ok(SnapshotWriter {
            chunk: self.disk.buffer(SNAPSHOT_CHUNK_BYTES),
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            index,
            file: WriteBehind::new(file),
            used: SNAPSHOT_FRAME_BYTES,
            chunks: 0,
            chunks_max,
            bytes: 0,
            crc: 0,
        })
    }

    /// Finds the newest snapshot that is whole: all of it is read and checked.
    pub async fn newest(&self) -> io::Result<Newest<D>> {
        let mut skipped = Vec::new();
        for index in self.indexes().await?.into_iter().rev() {
            let checked = async {
                let mut reader = self.read(index).await?;
                while reader.next_chunk().await?.is_some() {}
                self.read(index).await
            };
            match checked.await {
                Ok(reader) => return Ok(Newest { snapshot: Some(reader), skipped }),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    skipped.push((self.path(index), error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Newest { snapshot: None, skipped })
    }

    /// Begins to read the snapshot at an index from [`Self::indexes`].
    ///
    /// # Errors
    /// The disk's; `InvalidData` if the file is no snapshot.
    pub async fn read(&self, index: u64) -> io::Result<SnapshotReader<D>> {
        SnapshotReader::open(&self.disk, self.path(index), index).await
    }

    /// Its file.
    pub fn path(&self, index: u64) -> PathBuf {
        path(&self.dir, index)
    }

    /// Removes all but the newest `keep`.
    pub async fn prune(&self, keep: usize) -> io::Result<()> {
        let mut indexes = self.indexes().await?;
        indexes.truncate(indexes.len().saturating_sub(keep));
        self.remove(&indexes).await
    }

    /// Removes those at these indexes.
    pub async fn remove(&self, indexes: &[u64]) -> io::Result<()> {
        for &index in indexes {
            self.disk.remove(&path(&self.dir, index)).await?;
        }
        if indexes.is_empty() { Ok(()) } else { self.disk.sync_dir(&self.dir).await }
    }

    /// Applied indexes of the snapshots there, oldest first.
    pub async fn indexes(&self) -> io::Result<Vec<u64>> {
        let names = match self.disk.list(&self.dir).await {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut indexes: Vec<u64> =
            names.iter().filter_map(|name| parse(name.file_name()?.to_str()?)).collect();
        indexes.sort_unstable();
        Ok(indexes)
    }
}

impl<D: Disk> SnapshotWriter<D> {
    /// Adds bytes.
    ///
    /// # Errors
    /// The disk's; `FileTooLarge` past the size that was asked for. Then [`SnapshotWriter::abort`].
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = SNAPSHOT_CHUNK_BYTES - self.used;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.as_mut()[self.used..self.used + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
            if self.used == SNAPSHOT_CHUNK_BYTES {
                self.write_chunk().await?;
            }
        }
        Ok(())
    }

    async fn write_chunk(&mut self) -> io::Result<()> {
        if u64::from(self.chunks) >= self.chunks_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let fresh = self.disk.buffer(SNAPSHOT_CHUNK_BYTES);
        let mut chunk = std::mem::replace(&mut self.chunk, fresh);
        let bytes = (self.used - SNAPSHOT_FRAME_BYTES) as u32;
        let frame = SnapshotFrame { trailer: false, bytes, number: self.chunks };
        let (head, data) = chunk.as_mut().split_at_mut(SNAPSHOT_FRAME_BYTES);
        data[bytes as usize..].fill(0);
        head.copy_from_slice(&frame.to_bytes(&data[..bytes as usize]));
        self.file.write(chunk, position(self.chunks)).await?;
        self.chunks += 1;
        self.used = SNAPSHOT_FRAME_BYTES;
        Ok(())
    }

    /// Makes the snapshot durable and gives it its name.
    ///
    /// # Errors
    /// The disk's; nothing but a file without a name of its own may be left.
    pub async fn finish(mut self) -> io::Result<()> {
        let ended = self.end().await;
        if ended.is_err() {
            let _ = self.abort().await; // the first error is the one to tell
        }
        ended
    }

    async fn end(&mut self) -> io::Result<()> {
        if self.used > SNAPSHOT_FRAME_BYTES {
            self.write_chunk().await?;
        }
        let mut data = [0; TRAILER_DATA_BYTES];
        data[..8].copy_from_slice(&self.bytes.to_le_bytes());
        data[8..12].copy_from_slice(&self.crc.to_le_bytes());
        let bytes = TRAILER_DATA_BYTES as u32;
        let frame = SnapshotFrame { trailer: true, bytes, number: self.chunks };
        let mut block = self.disk.buffer(BLOCK_BYTES);
        block.as_mut().fill(0);
        block.as_mut()[..SNAPSHOT_FRAME_BYTES].copy_from_slice(&frame.to_bytes(&data));
        block.as_mut()[SNAPSHOT_FRAME_BYTES..][..TRAILER_DATA_BYTES].copy_from_slice(&data);
        self.file.write(block, position(self.chunks)).await?;
        self.file.sync().await?;
        let path = path(&self.dir, self.index);
        self.disk.rename(&path.with_extension(EXTENSION_NEW), &path).await?;
        self.disk.sync_dir(&self.dir).await
    }

    /// Gives up; the space is free again.
    pub async fn abort(mut self) -> io::Result<()> {
        let _ = self.file.end().await; // what was written does not matter any more
        let new = path(&self.dir, self.index).with_extension(EXTENSION_NEW);
        drop(self.file);
        self.disk.remove(&new).await
    }
}

impl<D: Disk> SnapshotReader<D> {
    async fn open(disk: &D, path: PathBuf, index: u64) -> io::Result<Self> {
        let file = disk.open(&path).await?;
        let file_bytes = layout::block_down(file.len().await?);
        if file_bytes < 2 * BLOCK {
            return Err(invalid("it is too short"));
        }
        let block = file.read(disk.buffer(BLOCK_BYTES), 0).await?;
        let block = block.as_ref().first_chunk::<BLOCK_BYTES>().ok_or(BlockError::Blank);
        let meta = block.and_then(SnapshotMeta::from_block);
        let meta = meta.map_err(|error| invalid(&error.to_string()))?;
        if meta.applied.index != index {
            return Err(invalid("its name is that of another snapshot"));
        }
        let file = ReadAhead::new(disk.clone(), Rc::new(file), file_bytes, SNAPSHOT_READ_BYTES);
        Ok(Self { path, file, file_bytes, meta, found: Trailer::default(), whole: false })
    }

    /// What it is a snapshot of.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Length in bytes of the data that was read so far.
    pub fn data_bytes(&self) -> u64 {
        self.found.bytes
    }

    /// File that it is read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next piece of its data; `None` behind the last, and only if the snapshot is whole.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if the bytes are not those that were written. The caller then
    /// discards what it has.
    pub async fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        if self.whole {
            return Ok(None);
        }
        let at = position(self.found.chunks);
        let bytes = self.file_bytes.saturating_sub(at).min(SNAPSHOT_CHUNK_BYTES as u64) as usize;
        if bytes == 0 {
            return Err(invalid("its end is missing"));
        }
        let piece = self.file.at(at).await?;
        let Some((frame, data)) = piece.get(..bytes).and_then(SnapshotFrame::open) else {
            return Err(invalid(&format!("the bytes at {at} are not what was written")));
        };
        if frame.number != self.found.chunks {
            return Err(invalid(&format!("another chunk stands at {at}")));
        }
        if frame.trailer {
            self.whole = Trailer::decode(frame.number, data) == Some(self.found);
            return if self.whole { Ok(None) } else { Err(invalid("its sum is wrong")) };
        }
        self.found.chunks += 1;
        self.found.bytes += data.len() as u64;
        self.found.crc = crc32c::crc32c_append(self.found.crc, data);
        Ok(Some(data))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Trailer {
    fn decode(chunks: u32, data: &[u8]) -> Option<Self> {
        let (bytes, rest) = data.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (bytes, crc) = (u64::from_le_bytes(*bytes), u32::from_le_bytes(*crc));
        (rest == [0; 4]).then_some(Self { chunks, bytes, crc })
    }
}

fn position(chunk: u32) -> u64 {
    BLOCK + u64::from(chunk) * SNAPSHOT_CHUNK_BYTES as u64
}

fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:0NAME_DIGITS$}.{EXTENSION}"))
}

/// The snapshots in the directory of a partition, oldest first.
pub(super) async fn paths<D: Disk>(disk: &D, partition: &Path) -> io::Result<Vec<PathBuf>> {
    let store = SnapshotStore::read_only(disk.clone(), partition);
    Ok(store.indexes().await?.into_iter().map(|index| store.path(index)).collect())
}

/// Files with the extension of a snapshot that have no snapshot's name.
pub(super) async fn foreign<D: Disk>(disk: &D, partition: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = partition.join(DIR);
    let names = disk.list(&dir).await?;
    let has_extension = |name: &PathBuf| name.extension().is_some_and(|found| found == EXTENSION);
    let foreign = names
        .into_iter()
        .filter(|name| has_extension(name) && name.to_str().and_then(parse).is_none());
    Ok(foreign.map(|name| dir.join(name)).collect())
}

fn parse(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    (digits.len() == NAME_DIGITS).then(|| digits.parse().ok()).flatten()
}
