//! The file that says what a data directory is. It is written last, so a directory with a superblock is
//! whole:
//!
//! ```text
//! each partition: segment, then hard state (create.rs) -> superblock.new -> sync -> rename -> sync
//! ```
//! Earlier programs wrote it first on a node that serves alone. Its flags tell: [`super::contents`].

use std::path::Path;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::files;
use super::layout::{BLOCK, Block, BlockError, SUPERBLOCK_COPIES, Superblock};

/// Name of the file in the data directory.
pub const NAME: &str = "superblock";
/// Name while it is being written.
pub const NAME_NEW: &str = "superblock.new";

/// The last step of formatting a data directory.
///
/// # Errors
/// `File` if there is one already.
pub async fn write<D: Disk>(
    disk: &D,
    dir: &Path,
    superblock: &Superblock,
) -> Result<(), OpenError> {
    let path = dir.join(NAME);
    disk.create_dir(dir).await.map_err(OpenError::io("creating the data directory"))?;
    let names = disk.list(dir).await.map_err(OpenError::io("listing the data directory"))?;
    if names.iter().any(|name| name.as_os_str() == NAME) {
        return Err(OpenError::File { path, why: "the directory is formatted already".to_owned() });
    }
    let mut buffer = disk.buffer(SUPERBLOCK_COPIES * BLOCK_BYTES);
    for copy in buffer.as_mut().chunks_exact_mut(BLOCK_BYTES) {
        copy.copy_from_slice(&superblock.to_block());
    }
    let written = files::replace(disk, dir, NAME_NEW, NAME, buffer).await;
    written.map_err(OpenError::io("writing the superblock"))
}

/// Reads and checks the superblock of a data directory.
pub async fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Superblock, OpenError> {
    let path = dir.join(NAME);
    let file = match disk.open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        Err(error) => return Err(OpenError::io("opening the superblock")(error)),
    };
    let bytes = file.len().await.map_err(OpenError::io("reading the superblock"))?;
    if bytes != SUPERBLOCK_COPIES as u64 * BLOCK {
        return Err(OpenError::File { path, why: format!("it has {bytes} bytes") });
    }
    let buffer = disk.buffer(SUPERBLOCK_COPIES * BLOCK_BYTES);
    let buffer = file.read(buffer, 0).await.map_err(OpenError::io("reading the superblock"))?;
    let (copies, _) = buffer.as_ref().as_chunks::<BLOCK_BYTES>();
    choose(copies).map_err(|error| OpenError::block(path, error))
}

/// One good copy is enough; two that differ are none.
fn choose(copies: &[Block]) -> Result<Superblock, BlockError> {
    let mut copies = copies.iter().map(Superblock::from_block);
    match (copies.next(), copies.next()) {
        (Some(Ok(one)), Some(Ok(other))) if one != other => {
            Err(BlockError::Content("its two copies differ"))
        }
        (Some(Ok(good)), _) | (_, Some(Ok(good))) => Ok(good),
        (Some(Err(error)), _) => Err(error),
        _ => Err(BlockError::Blank),
    }
}
