//! What a data directory must hold: the one place that decides it, for the start and for `verify`,
//! for a lone node and for one of a cluster. Looks at names and votes; what is in the files is
//! recovery's to judge ([`super::cases`]). FORMAT.md, section 5, has the table.

use std::io;
use std::path::{Path, PathBuf};

use walengine_net::model::PartitionId;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
pub use super::error::Fault;
use super::error::OpenError;
use super::files::remove_if_there;
use super::hard_state::{self, HardStateFile};
use super::ids::Ids;
use super::layout::{HardState, Superblock, is_zero};
use super::{partition_dir, segment, snapshot};

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// It was formatted by a program that left its partitions to the first start, and no partition that
    /// is there has begun a term: what is absent may never have been there. A person decides that, since
    /// a directory that has lost all partitions looks the same.
    pub is_never_started: bool,
    /// What is not as it should be, in the order of the partitions.
    pub faults: Vec<Fault>,
}

impl Contents {
    /// Nothing is missing. Gives [`Contents::is_never_started`].
    ///
    /// # Errors
    /// `Incomplete` with every fault.
    pub fn require_whole(self) -> Result<bool, OpenError> {
        if self.faults.is_empty() {
            return Ok(self.is_never_started);
        }
        Err(OpenError::Incomplete(self.faults))
    }
}

/// Compares what the data directory `data` holds with what its superblock promises.
///
/// # Errors
/// When the disk fails. What is missing is no error here: see [`Contents::require_whole`].
pub async fn look<D: Disk>(
    disk: &D,
    data: &Path,
    superblock: &Superblock,
) -> Result<Contents, OpenError> {
    let failed = || OpenError::io(format!("listing {}", data.display()));
    let names = disk.list(data).await.map_err(failed())?;
    let mut faults = Vec::new();
    for name in names.iter().filter(|name| is_partition_name(name)) {
        let is_own = |number| partition_dir(Path::new(""), PartitionId(number)) == *name;
        if !(0..superblock.partitions).any(is_own) {
            faults.push(Fault::Unexpected(data.join(name)));
        }
    }
    let mut is_never_started = !superblock.promises_logs();
    let mut missing = Vec::new();
    for number in 0..superblock.partitions {
        let partition = PartitionId(number);
        let dir = partition_dir(data, partition);
        let ids = Ids { cluster: superblock.cluster, partition };
        let found = missing_in(disk, &dir).await.map_err(failed())?;
        if is_never_started && !found.contains(&dir) {
            is_never_started = has_never_begun(disk, &dir, ids).await?;
        }
        missing.extend(found);
        faults.extend(doubles_in(disk, &dir).await.map_err(failed())?);
    }
    if !is_never_started {
        faults.extend(missing.into_iter().map(Fault::Missing));
    }
    Ok(Contents { is_never_started, faults })
}

/// What the directory of a partition lacks; of its segments the first that is missing.
async fn missing_in<D: Disk>(disk: &D, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = match disk.list(dir).await {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![dir.to_owned()]),
        Err(error) => return Err(error),
    };
    let has = |wanted: &Path| names.iter().any(|name| dir.join(name) == wanted);
    let mut missing = Vec::new();
    if !has(&hard_state::path(dir)) {
        missing.push(hard_state::path(dir));
    }
    if !has(&segment::dir(dir)) {
        missing.push(segment::dir(dir));
        return Ok(missing);
    }
    let sequences = segment::list(disk, dir).await?;
    let numbered = (segment::SEQUENCE_MIN..).zip(&sequences);
    let gap = numbered.into_iter().find(|&(wanted, &found)| wanted != found);
    match gap {
        Some((wanted, _)) => missing.push(segment::path(dir, wanted)),
        None if sequences.is_empty() => missing.push(segment::path(dir, segment::SEQUENCE_MIN)),
        None => {}
    }
    Ok(missing)
}

/// Files that have the extension of segments or snapshots and another name: most likely a second copy.
async fn doubles_in<D: Disk>(disk: &D, dir: &Path) -> io::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    let segments = segment::foreign(disk, dir).await;
    let snapshots = snapshot::foreign(disk, dir).await;
    for listed in [segments, snapshots] {
        match listed {
            Ok(paths) => faults.extend(paths.into_iter().map(Fault::Unexpected)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(faults)
}

/// No term was begun in the partition: nobody was served by it.
async fn has_never_begun<D: Disk>(disk: &D, dir: &Path, ids: Ids) -> Result<bool, OpenError> {
    let there = hard_state::exists(disk, dir).await;
    if !there.map_err(OpenError::io("looking for the partition"))? {
        return is_unused(disk, dir).await.map_err(OpenError::io("looking into the partition"));
    }
    match HardStateFile::open(disk.clone(), dir, ids).await {
        Ok(opened) => Ok(opened.slot.state == HardState::default()),
        Err(error @ OpenError::Io { .. }) => Err(error),
        Err(_) => Ok(false), // opening the partition tells it
    }
}

/// Whether the partition's directory holds nothing that anybody was promised: no vote, no entry, no
/// snapshot.
async fn is_unused<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    for listed in [segment::paths(disk, dir).await, snapshot::paths(disk, dir).await] {
        let paths = match listed {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for path in paths {
            let file = disk.open(&path).await?;
            if file.len().await? < BLOCK_BYTES as u64 {
                return Ok(false);
            }
            // The header of a segment goes to disk with its first entries.
            let block = file.read(disk.buffer(BLOCK_BYTES), 0).await?;
            if !is_zero(block.as_ref()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The partitions in a directory without a superblock: what a crash left while it was formatted.
/// `None` if there is none.
///
/// # Errors
/// `Incomplete` if one of them was in use: then the superblock is lost, and to format the directory
/// again would forget what they hold.
pub async fn unfinished<D: Disk>(disk: &D, data: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let failed = || OpenError::io(format!("looking into {}", data.display()));
    let names = disk.list(data).await.map_err(failed())?;
    let mut dirs = Vec::new();
    for name in names.iter().filter(|name| is_partition_name(name)) {
        let dir = data.join(name);
        let unsaved = hard_state::is_unsaved(disk, &dir).await.map_err(failed())?;
        if !unsaved || !is_unused(disk, &dir).await.map_err(failed())? {
            return Err(OpenError::Incomplete(vec![Fault::Missing(
                data.join(super::superblock::NAME),
            )]));
        }
        dirs.push(dir);
    }
    Ok(dirs)
}

/// Empties what [`unfinished`] has found, so that the partitions can be created again. The hard state
/// goes first: without it a partition is not there.
///
/// # Errors
/// As [`unfinished`].
pub async fn clear_unfinished<D: Disk>(disk: &D, data: &Path) -> Result<(), OpenError> {
    for dir in unfinished(disk, data).await? {
        let failed = || OpenError::io(format!("clearing {}", dir.display()));
        remove_if_there(disk, &hard_state::path(&dir)).await.map_err(failed())?;
        disk.sync_dir(&dir).await.map_err(failed())?;
        match segment::paths(disk, &dir).await {
            Ok(paths) => {
                for path in paths {
                    remove_if_there(disk, &path).await.map_err(failed())?;
                }
                disk.sync_dir(&segment::dir(&dir)).await.map_err(failed())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}

/// The name is one of a partition's directory.
pub fn is_partition_name(name: &Path) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix('p'));
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}
