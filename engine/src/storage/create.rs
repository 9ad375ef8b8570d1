//! Creates the empty log of a partition.
//!
//! ```text
//! segments/ -> 00000001.seg (as .new: zeros, sync, rename, sync segments/)
//!           -> sync the partition's directory -> sync the data directory
//!           -> hard-state (as .new: write, sync, rename, sync the partition's directory)
//!              ^ from here on the partition is there
//! ```
//! A crash before that leaves a partition without hard state whose segment is zero: the next attempt
//! begins again. Segments that hold anything without a hard state beside them are damage.

use std::path::Path;
use std::rc::Rc;

use super::config::LogConfig;
use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::segment::{self, Zeroing};
use super::window::{WINDOW_BYTES, Window};
use super::{hard_state, layout};

/// Creates a partition. The hard state comes last: without it the partition is not there yet.
pub(super) async fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    zeros: &Rc<D::Buffer>,
) -> Result<(), OpenError> {
    let failed = || OpenError::io("creating the partition");
    disk.create_dir(&segment::dir(dir)).await.map_err(failed())?;
    for sequence in segment::list(disk, dir).await.map_err(failed())? {
        // The first segment of an attempt that a crash ended. Anything else was a partition once.
        let path = segment::path(dir, sequence);
        if sequence != segment::SEQUENCE_MIN || !is_unused(disk, &path).await.map_err(failed())? {
            let why = "the partition has segments and no hard state".to_owned();
            return Err(OpenError::File { path, why });
        }
        disk.remove(&path).await.map_err(failed())?;
    }
    let go_on = async || true;
    let zeroing = Zeroing { zeros, bytes: config.segment_bytes, go_on };
    let created = segment::create(disk, dir, segment::SEQUENCE_MIN, config.segment_bytes, zeroing);
    created.await.map_err(|error| failed()(error.into()))?;
    disk.sync_dir(dir).await.map_err(failed())?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).await.map_err(failed())?;
    }
    hard_state::create(disk, dir, config.ids).await.map_err(failed())
}

/// Nothing was ever written to this file.
async fn is_unused<D: Disk>(disk: &D, path: &Path) -> std::io::Result<bool> {
    let file = disk.open(path).await?;
    let bytes = layout::block_down(file.len().await?);
    let mut window = Window::new(disk.clone(), Rc::new(file), bytes, WINDOW_BYTES);
    window.is_zero(0, bytes).await
}
