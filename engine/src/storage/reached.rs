//! The file that remembers how far other members of the group had the log on their disks. It is only a
//! memory: without it nothing is lost, and an older copy of a member is not recognised. So it is written
//! now and then, and one that can't be read counts as none.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::files;
use super::ids::Ids;
use super::layout::ReachedBlock;
use super::log::Log;
use crate::runtime::Runtime;

const NAME: &str = "reached";
const NAME_NEW: &str = "reached.new";

impl<D: Disk, R: Runtime> Log<D, R> {
    /// What was saved last; nothing, if there is no file, or it is of another group.
    ///
    /// # Errors
    /// The disk's.
    pub async fn read_reached(&self) -> io::Result<BTreeMap<u64, u64>> {
        let inner = &*self.inner;
        read(&inner.disk, &inner.dir, inner.config.ids).await
    }

    /// Saves, whole or not at all.
    ///
    /// # Errors
    /// The disk's. What was saved before is still there.
    pub async fn save_reached(&self, entries: BTreeMap<u64, u64>) -> io::Result<()> {
        let inner = &*self.inner;
        let Ids { cluster, partition } = inner.config.ids;
        let mut buffer = inner.disk.buffer(BLOCK_BYTES);
        let block = ReachedBlock { cluster, partition, entries }.to_block();
        buffer.as_mut().copy_from_slice(&block);
        files::replace(&inner.disk, &inner.dir, NAME_NEW, NAME, buffer).await
    }
}

/// What was saved last in the partition directory `dir`.
///
/// # Errors
/// The disk's.
pub(super) async fn read<D: Disk>(
    disk: &D,
    dir: &Path,
    ids: Ids,
) -> io::Result<BTreeMap<u64, u64>> {
    let names = disk.list(dir).await?;
    if !names.iter().any(|name| name.as_os_str() == NAME) {
        return Ok(BTreeMap::new());
    }
    let file = disk.open(&dir.join(NAME)).await?;
    if file.len().await? != BLOCK_BYTES as u64 {
        return Ok(BTreeMap::new());
    }
    let buffer = file.read(disk.buffer(BLOCK_BYTES), 0).await?;
    let block = buffer.as_ref().first_chunk().map(ReachedBlock::from_block);
    Ok(match block {
        Some(Ok(found)) if (found.cluster, found.partition) == (ids.cluster, ids.partition) => {
            found.entries
        }
        _ => BTreeMap::new(),
    })
}
