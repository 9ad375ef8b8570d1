//! The file beside a full segment that says where its entries stand, so that a read of one does not begin
//! with reading all of them. It is only a memory: it may be absent, is not synced, and one that can't be
//! read counts as none. FORMAT.md, section 2.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::files::remove_if_there;
use super::ids::Ids;
use super::index::{MARK_EVERY_BYTES, Marks};
use super::layout::{MarksFile, Tail};
use super::segment;

const EXTENSION: &str = "marks";
const EXTENSION_NEW: &str = "marks.new";

/// A full segment.
#[derive(Clone, Copy)]
pub(super) struct Sealed {
    pub sequence: u64,
    /// What its first entry follows.
    pub before: Tail,
    /// Its last entry.
    pub last: Tail,
}

/// Why a file of marks is of no use.
#[derive(Debug)]
pub(super) enum Useless {
    /// There is none.
    Absent,
    /// It is of another moment: the segment was cut and filled again.
    Stale,
    /// It can't be read, or is of another segment.
    Damaged(String),
}

/// Path of the file.
pub(super) fn path(partition: &Path, sequence: u64) -> PathBuf {
    segment::path(partition, sequence).with_extension(EXTENSION)
}

/// What the file says of a segment. Its entries may say otherwise.
pub(super) async fn read<D: Disk>(
    disk: &D,
    partition: &Path,
    ids: Ids,
    segment: Sealed,
    segment_bytes: u64,
) -> Result<Marks, Useless> {
    let damaged = |error: io::Error| Useless::Damaged(error.to_string());
    let file = match disk.open(&path(partition, segment.sequence)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Useless::Absent),
        Err(error) => return Err(damaged(error)),
    };
    let bytes = file.len().await.map_err(damaged)?;
    let bytes_max = MarksFile::bytes((segment_bytes / MARK_EVERY_BYTES) as usize + 1) as u64;
    if bytes > bytes_max || !bytes.is_multiple_of(BLOCK_BYTES as u64) {
        return Err(Useless::Damaged(format!("it has {bytes} bytes")));
    }
    let buffer = file.read(disk.buffer(bytes as usize), 0).await.map_err(damaged)?;
    let found = MarksFile::get(buffer.as_ref(), segment_bytes)
        .map_err(|error| Useless::Damaged(error.to_string()))?;
    let is_own = (found.cluster, found.partition, found.sequence)
        == (ids.cluster, ids.partition, segment.sequence);
    if !is_own {
        return Err(Useless::Damaged("it is that of another segment".to_owned()));
    }
    if found.last != segment.last {
        return Err(Useless::Stale);
    }
    if found.marks.first().is_some_and(|first| first.index <= segment.before.index) {
        return Err(Useless::Damaged("it names entries of the segment before".to_owned()));
    }
    Ok(Marks::from_file(found.marks))
}

/// Replaces the file. Whole, unless the power fails: then its checksum tells.
pub(super) async fn write<D: Disk>(
    disk: &D,
    partition: &Path,
    ids: Ids,
    segment: Sealed,
    marks: &Marks,
) -> io::Result<()> {
    let file = MarksFile {
        cluster: ids.cluster,
        partition: ids.partition,
        sequence: segment.sequence,
        last: segment.last,
        marks: marks.list().to_vec(),
    };
    let bytes = MarksFile::bytes(file.marks.len());
    let mut buffer = disk.buffer(bytes);
    file.put(buffer.as_mut());
    let name = path(partition, segment.sequence);
    let new = name.with_extension(EXTENSION_NEW);
    remove_if_there(disk, &new).await?;
    let created = disk.create(&new, bytes as u64).await?;
    let written = created.write(Rc::new(buffer), 0).await;
    let named = match written {
        Ok(()) => disk.rename(&new, &name).await,
        Err(error) => Err(error),
    };
    if named.is_err() {
        let _ = disk.remove(&new).await; // it only takes room
    }
    named
}
