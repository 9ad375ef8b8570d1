//! Small steps with whole files.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::disk::{Disk, DiskFile};

/// Creates a file whole or not at all: durable under its name when this returns. One of that name is
/// replaced.
///
/// ```text
/// NAME.new written -> synced -> renamed to NAME -> directory synced
///                               |
///                               before: a crash leaves the old file, and perhaps NAME.new
///                               behind: the new one
/// ```
pub(super) async fn replace<D: Disk>(
    disk: &D,
    dir: &Path,
    name_new: &str,
    name: &str,
    content: D::Buffer,
) -> io::Result<()> {
    let new = dir.join(name_new);
    remove_if_there(disk, &new).await?;
    let file = disk.create(&new, content.as_ref().len() as u64).await?;
    file.write_durable(Rc::new(content), 0).await?;
    file.sync().await?;
    disk.rename(&new, &dir.join(name)).await?;
    disk.sync_dir(dir).await
}

/// Removes a file that a crash may have left.
pub async fn remove_if_there<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
