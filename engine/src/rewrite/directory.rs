//! The new directory: taken, marked until it is whole, and given its superblock last.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use walengine_net::model::ClusterId;

use super::Rewritten;
use crate::audit::{self, Begun, Order, Outcome};
use crate::data_dir::lock::{self, DirectoryLock};
use crate::data_dir::{RESTORING, open_failed, ordered};
use crate::executor::on_executor;
use crate::fatal::{Fatal, Reason};
use crate::private_files::{create_dir, create_file, file_failed, hex, sync_dir};
use crate::runtime::Runtime as _;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::contents::is_partition_name;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::Superblock;
use crate::storage::superblock;

/// Says in the new directory where it comes from, for people.
const RESTORED_FROM: &str = "restored-from";

/// A directory that is being made.
pub struct NewDirectory {
    data: PathBuf,
    superblock: Superblock,
    ordered: Begun,
    _lock: DirectoryLock,
}

impl NewDirectory {
    /// Takes the directory, which is created if need be, for a new cluster: for a node that serves alone,
    /// or for the first node of a group. What an interrupted try has left is removed. `order` says in its
    /// trail who has it made of what.
    ///
    /// # Errors
    /// It is not empty: nothing was changed. Or the disk's.
    pub fn begin(
        data: &Path,
        partitions: u16,
        segment_bytes: u64,
        is_group: bool,
        order: Order,
    ) -> Result<Self, Fatal> {
        create_dir(data)?;
        let lock = DirectoryLock::take(data)?;
        require_free(data)?;
        clear(data)?;
        let ordered = ordered(data, order)?;
        let random = || uuid::Uuid::new_v4().as_u128();
        let superblock = Superblock {
            cluster: ClusterId(random()),
            node: (random() as u64).max(1),
            partitions,
            segment_bytes,
            created: GlommioRuntime::new().now(),
            replicated: is_group,
            logs_created: !is_group,
        };
        Ok(Self { data: data.to_owned(), superblock, ordered, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// What it will say of itself.
    pub fn superblock(&self) -> Superblock {
        self.superblock
    }

    /// Makes it a data directory.
    ///
    /// # Errors
    /// The disk's: it can be made again.
    pub fn finish(self, source: ClusterId, partitions: &[Rewritten]) -> Result<(), Fatal> {
        let Self { data, superblock, .. } = &self;
        note_source(data, source, superblock, partitions)?;
        let write = async { superblock::write(&GlommioDisk::new(data), data, superblock).await };
        on_executor(write)?.map_err(|error| open_failed(&error))?;
        let removed = std::fs::remove_file(data.join(RESTORING)).and_then(|()| sync_dir(data));
        removed.map_err(|error| file_failed("remove", &data.join(RESTORING), &error))?;
        self.ordered.end(Outcome::Done, "");
        Ok(())
    }
}

/// Makes sure that nothing of anybody's is in the directory, but perhaps what an interrupted try has
/// left.
///
/// # Errors
/// `DataDirectory` with what is there.
pub fn require_free(data: &Path) -> Result<(), Fatal> {
    let failed = |error: io::Error| file_failed("read", data, &error);
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let is_interrupted = data.join(RESTORING).exists() && !data.join(superblock::NAME).exists();
    for entry in entries {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        let own = [lock::NAME, "lost+found"].iter().any(|own| name.as_os_str() == *own);
        if !own && !is_interrupted && !audit::is_name(name.as_os_str()) {
            let message = format!(
                "{} is not empty, it holds {}: name a new directory. Nothing was changed",
                data.display(),
                name.display()
            );
            return Err(Fatal::new(Reason::DataDirectory, message));
        }
    }
    Ok(())
}

/// Marks the directory as one that is being made, and removes what an earlier try has left.
fn clear(data: &Path) -> Result<(), Fatal> {
    let clear = || {
        let mut mark = create_file(&data.join(RESTORING))?;
        mark.write_all(b"a restore into this directory has not ended\n")?;
        mark.sync_all()?;
        sync_dir(data)?;
        for entry in std::fs::read_dir(data)? {
            let path = entry?.path();
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            if is_partition_name(&name) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        sync_dir(data)
    };
    clear().map_err(|error: io::Error| file_failed("write into", data, &error))
}

/// Leaves a note in the directory. No program reads it.
fn note_source(
    data: &Path,
    ClusterId(source): ClusterId,
    superblock: &Superblock,
    partitions: &[Rewritten],
) -> Result<(), Fatal> {
    let partitions = partitions.iter().map(|one| {
        serde_json::json!({
            "partition": one.partition.0,
            "next_offset": one.end.next_offset.0,
            "log_time": one.end.timestamp.0,
            "source_chain": hex(&one.source.chain.0),
            "chain": hex(&one.end.chain.0),
        })
    });
    let note = serde_json::json!({
        "source_cluster": format!("{source:032x}"),
        "cluster": format!("{:032x}", superblock.cluster.0),
        "restored": superblock.created.0,
        "partitions": partitions.collect::<Vec<_>>(),
    });
    let path = data.join(RESTORED_FROM);
    let write = || {
        let mut file = create_file(&path)?;
        writeln!(file, "{note:#}")?;
        file.sync_all()?;
        sync_dir(data)
    };
    write().map_err(|error: io::Error| file_failed("write", &path, &error))
}
