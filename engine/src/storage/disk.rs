//! The seam to the disk. Production: glommio and direct I/O; tests: a simulated disk.
//!
//! Lives on one shard's core; nothing here is `Send`. Offsets and lengths of reads and writes are
//! multiples of [`BLOCK_BYTES`]. No implementation retries: an error is returned once, as it came.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Direct-I/O unit in bytes; every file offset and length is a multiple of it.
pub const BLOCK_BYTES: usize = 4096;

/// One directory tree that a shard owns.
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile<Buffer = Self::Buffer>;
    /// Memory that the device can read and write: aligned to [`BLOCK_BYTES`].
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;

    /// A buffer of `bytes` bytes, a multiple of [`BLOCK_BYTES`]; its content is unspecified.
    fn buffer(&self, bytes: usize) -> Self::Buffer;

    /// The first `bytes` bytes of a buffer, a multiple of [`BLOCK_BYTES`]. Copies unless the
    /// implementation can give back the rest of the memory in place.
    fn trim(&self, buffer: Self::Buffer, bytes: usize) -> Self::Buffer {
        if buffer.as_ref().len() == bytes {
            return buffer;
        }
        let mut trimmed = self.buffer(bytes);
        trimmed.as_mut().copy_from_slice(&buffer.as_ref()[..bytes]);
        trimmed
    }

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Creates a file of `bytes` bytes that read as zero, with its space allocated. Fails if it
    /// exists. The name survives power loss only after [`Disk::sync_dir`].
    fn create(&self, path: &Path, bytes: u64) -> impl Future<Output = io::Result<Self::File>>;

    /// Creates a directory and its parents; no error if it exists.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Renames, replacing `to`. Survives power loss only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes the names in a directory survive power loss.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Names in a directory, sorted; an absent directory is an error of kind `NotFound`.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<PathBuf>>>;

    /// Bytes that can still be allocated.
    fn free_bytes(&self) -> impl Future<Output = io::Result<u64>>;
}

/// An open file. Dropping it closes it; nothing is flushed by that.
///
/// To ensure correctness, `write_durable` and `sync` return `Ok` only once the bytes would survive
/// power loss; after any error, which bytes of that operation are on disk is unknown.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: 'static {
    /// Memory that the device can read and write.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;

    /// Writes the whole buffer at `offset`. Durable after the next [`DiskFile::sync`].
    fn write(&self, buffer: Rc<Self::Buffer>, offset: u64) -> impl Future<Output = io::Result<()>>;

    /// Writes the whole buffer at `offset`; durable when it returns. Several may be in flight.
    fn write_durable(
        &self,
        buffer: Rc<Self::Buffer>,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>>;

    /// Fills the buffer from `offset`; an error of kind `UnexpectedEof` if the file ends before.
    fn read(
        &self,
        buffer: Self::Buffer,
        offset: u64,
    ) -> impl Future<Output = io::Result<Self::Buffer>>;

    /// Makes all completed writes durable (fdatasync).
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;
}
