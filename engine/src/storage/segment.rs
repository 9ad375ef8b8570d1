//! Names and files of segments.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::files::remove_if_there;
use super::index::Marks;
use super::layout::{BlockError, SegmentHeader, Tail};

const DIR: &str = "segments";
const EXTENSION: &str = "seg";
const EXTENSION_NEW: &str = "new";
const NAME_DIGITS: usize = 8;
/// Number of the first segment of a log.
pub(super) const SEQUENCE_MIN: u64 = 1;

/// A segment that holds entries.
pub(super) struct Segment<D: Disk> {
    pub sequence: u64,
    /// What its first entry follows.
    pub before: Tail,
    /// Open while it is written and while it was read lately.
    pub file: Option<Rc<D::File>>,
    /// Where its entries stand; `None` until a read needs it.
    pub marks: Option<Marks>,
    /// The file of its marks was contradicted by what stands in it, and is not read again.
    pub distrusts_file: bool,
}

/// A segment that holds nothing yet: every byte is zero, its name is durable.
pub(super) struct Prepared<D: Disk> {
    pub sequence: u64,
    pub file: Rc<D::File>,
    /// Zeros are written, not only allocated, up to here.
    pub zeroed: u64,
}

/// Directory of a partition's segments.
pub(super) fn dir(partition: &Path) -> PathBuf {
    partition.join(DIR)
}

/// File name of a segment.
pub(super) fn name(sequence: u64) -> String {
    format!("{sequence:0NAME_DIGITS$}.{EXTENSION}")
}

/// Path of a segment.
pub(super) fn path(partition: &Path, sequence: u64) -> PathBuf {
    dir(partition).join(name(sequence))
}

/// Reads the header of an open segment.
pub(super) async fn read_header<D: Disk>(
    disk: &D,
    file: &D::File,
) -> io::Result<Result<SegmentHeader, BlockError>> {
    let buffer = file.read(disk.buffer(BLOCK_BYTES), 0).await?;
    let block = buffer.as_ref().first_chunk::<BLOCK_BYTES>();
    Ok(SegmentHeader::from_block(block.ok_or(io::ErrorKind::UnexpectedEof)?))
}

/// Sequence numbers of the segments there, in order. Other files are left alone.
pub(super) async fn list<D: Disk>(disk: &D, partition: &Path) -> io::Result<Vec<u64>> {
    let mut sequences: Vec<u64> = disk
        .list(&dir(partition))
        .await?
        .iter()
        .filter_map(|path| parse(path.file_name()?.to_str()?))
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// The segments there, in order.
pub(super) async fn paths<D: Disk>(disk: &D, partition: &Path) -> io::Result<Vec<PathBuf>> {
    let sequences = list(disk, partition).await?;
    Ok(sequences.into_iter().map(|sequence| path(partition, sequence)).collect())
}

/// Files with the extension of a segment that have no segment's name.
pub(super) async fn foreign<D: Disk>(disk: &D, partition: &Path) -> io::Result<Vec<PathBuf>> {
    let names = disk.list(&dir(partition)).await?;
    let has_extension = |name: &PathBuf| name.extension().is_some_and(|found| found == EXTENSION);
    let foreign = names
        .into_iter()
        .filter(|name| has_extension(name) && name.to_str().and_then(parse).is_none());
    Ok(foreign.map(|name| dir(partition).join(name)).collect())
}

fn parse(file_name: &str) -> Option<u64> {
    let sequence = file_name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()?;
    (name(sequence) == file_name).then_some(sequence)
}

/// How much of a new segment is zeroed, and in what pieces. `go_on` is asked before each piece.
pub(super) struct Zeroing<'a, B, G: AsyncFn() -> bool> {
    pub zeros: &'a Rc<B>,
    pub bytes: u64,
    pub go_on: G,
}

/// Why a segment was not created. Nothing was written to one that is in use.
#[derive(Debug)]
pub(super) enum CreateError {
    /// For want of something that passes, before anything was promised: it may be tried again, from the
    /// beginning.
    Wanting(io::Error),
    /// The device failed. What it has of the file is unknown; nothing is tried again.
    Failed(io::Error),
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Wanting(error) | CreateError::Failed(error) => error,
        }
    }
}

impl CreateError {
    /// Of a step that only takes: room, descriptors, memory.
    fn of_taking(error: io::Error) -> Self {
        let passes = matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN)
        );
        if passes { Self::Wanting(error) } else { Self::of_promising(error) }
    }

    /// Of making names durable, for which the directory is opened. If that is not possible nothing was
    /// flushed: the next attempt replaces the segment, which nobody uses, by another empty one.
    fn of_naming(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::Wanting(error),
            _ => Self::of_promising(error),
        }
    }

    /// Of a step that makes durable. A full disk is told here, too, where space is given late; any other
    /// failure must not be tried again.
    fn of_promising(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Wanting(error),
            _ => Self::Failed(error),
        }
    }
}

/// Creates an empty segment. It has its name only when it is whole, so that a segment of the wrong
/// length is damage and never the trace of a crash.
pub(super) async fn create<D: Disk, G: AsyncFn() -> bool>(
    disk: &D,
    partition: &Path,
    sequence: u64,
    segment_bytes: u64,
    zeroing: Zeroing<'_, D::Buffer, G>,
) -> Result<Prepared<D>, CreateError> {
    let new = path(partition, sequence).with_extension(EXTENSION_NEW);
    remove_if_there(disk, &new).await.map_err(CreateError::of_taking)?;
    let result = create_as(disk, partition, &new, sequence, segment_bytes, zeroing).await;
    if result.is_err() {
        // Frees the space. If that fails, too, the file is harmless: its name says that it is unfinished.
        let _ = disk.remove(&new).await;
    }
    result
}

async fn create_as<D: Disk, G: AsyncFn() -> bool>(
    disk: &D,
    partition: &Path,
    new: &Path,
    sequence: u64,
    segment_bytes: u64,
    zeroing: Zeroing<'_, D::Buffer, G>,
) -> Result<Prepared<D>, CreateError> {
    let file = disk.create(new, segment_bytes).await.map_err(CreateError::of_taking)?;
    let chunk = (*zeroing.zeros).as_ref().as_ref().len() as u64;
    let mut zeroed = 0;
    while zeroed < zeroing.bytes && zeroed + chunk <= segment_bytes && (zeroing.go_on)().await {
        let written = file.write(zeroing.zeros.clone(), zeroed).await;
        written.map_err(CreateError::of_taking)?;
        zeroed += chunk;
    }
    file.sync().await.map_err(CreateError::of_promising)?;
    let renamed = disk.rename(new, &path(partition, sequence)).await;
    renamed.map_err(CreateError::of_promising)?;
    disk.sync_dir(&dir(partition)).await.map_err(CreateError::of_naming)?;
    Ok(Prepared { sequence, file: Rc::new(file), zeroed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse(&name(7)), Some(7));
        assert_eq!(parse("123456789.seg"), Some(123_456_789));
        for other in ["7.seg", "00000007.new", "00000007.seg.old", "0000000x.seg", "+0000007.seg"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    /// The fault: want of a descriptor stopped a partition for good. A failed flush must stop it.
    #[test]
    fn what_passes_is_tried_again_and_a_device_that_failed_never() {
        let wants = |of: fn(io::Error) -> CreateError, code| {
            matches!(of(io::Error::from_raw_os_error(code)), CreateError::Wanting(_))
        };
        for (code, taking, naming, promising) in [
            (libc::EMFILE, true, true, false),
            (libc::ENFILE, true, true, false),
            (libc::ENOMEM, true, false, false),
            (libc::EAGAIN, true, false, false),
            (libc::ENOSPC, true, true, true),
            (libc::EDQUOT, true, true, true),
            (libc::EIO, false, false, false),
            (libc::EROFS, false, false, false),
        ] {
            assert_eq!(wants(CreateError::of_taking, code), taking, "{code} of taking");
            assert_eq!(wants(CreateError::of_naming, code), naming, "{code} of naming");
            assert_eq!(wants(CreateError::of_promising, code), promising, "{code} of promising");
        }
    }
}
