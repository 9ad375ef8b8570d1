//! The simulated disk as a node sees it through code that may have a bug. Without one, it is the
//! simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine::runtime::Runtime;
use walengine::storage::disk::{BLOCK_BYTES, Disk, DiskFile};
use walengine::storage::layout::{HardState, HardStateSlot};
use walengine_net::entry::{EntryError, EntryHeader, HEADER_BYTES};

use super::bugs::Bug;
use crate::sim::{SimBuffer, SimDisk, SimFile, SimRuntime};

/// See the module.
#[derive(Clone)]
pub struct BuggyDisk {
    disk: SimDisk,
    bug: Option<Bug>,
}

/// Open file.
pub struct BuggyFile {
    file: Rc<SimFile>,
    runtime: SimRuntime,
    bug: Option<Bug>,
}

impl BuggyDisk {
    /// `disk`, seen through a bug. Bugs that are not the disk's do nothing here.
    pub fn new(disk: SimDisk, bug: Option<Bug>) -> Self {
        Self { disk, bug }
    }

    /// The runtime that it takes its time from.
    pub fn runtime(&self) -> &SimRuntime {
        self.disk.runtime()
    }

    fn file(&self, path: &Path, file: SimFile) -> BuggyFile {
        let is_segment = path.parent().is_some_and(|parent| parent.ends_with("segments"));
        let bug = self.bug.filter(|bug| match bug {
            Bug::AcknowledgeBeforeFlush | Bug::FlushRetried | Bug::ChecksumSkipped => is_segment,
            Bug::VoteNotFlushed => path.ends_with("hard-state"),
            _ => false,
        });
        BuggyFile { file: Rc::new(file), runtime: self.runtime().clone(), bug }
    }
}

impl Disk for BuggyDisk {
    type File = BuggyFile;
    type Buffer = SimBuffer;

    fn buffer(&self, bytes: usize) -> SimBuffer {
        self.disk.buffer(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<BuggyFile> {
        Ok(self.file(path, self.disk.open(path).await?))
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<BuggyFile> {
        Ok(self.file(path, self.disk.create(path, bytes).await?))
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes().await
    }
}

impl DiskFile for BuggyFile {
    type Buffer = SimBuffer;

    async fn write(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        self.file.write(buffer, offset).await
    }

    async fn write_durable(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        match self.bug {
            Some(Bug::AcknowledgeBeforeFlush) => {
                self.file.write(buffer, offset).await?;
                let file = self.file.clone();
                self.runtime.spawn(async move {
                    let _ = file.sync().await; // nobody waits for it: that is the bug
                });
                Ok(())
            }
            Some(Bug::FlushRetried) => match self.file.write_durable(buffer, offset).await {
                Ok(()) => Ok(()),
                Err(_) => self.file.sync().await,
            },
            Some(Bug::VoteNotFlushed) => {
                self.file.write_durable(Rc::new(without_vote(&buffer)), offset).await
            }
            _ => self.file.write_durable(buffer, offset).await,
        }
    }

    async fn read(&self, buffer: SimBuffer, offset: u64) -> io::Result<SimBuffer> {
        let mut buffer = self.file.read(buffer, offset).await?;
        if self.bug == Some(Bug::ChecksumSkipped) {
            make_checksums_right(buffer.as_mut());
        }
        Ok(buffer)
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.sync().await
    }

    async fn len(&self) -> io::Result<u64> {
        self.file.len().await
    }
}

/// One slot of the hard state, as if nobody had ever voted.
fn without_vote(buffer: &SimBuffer) -> SimBuffer {
    let block = buffer.as_ref().first_chunk().expect("a slot is a block");
    let mut slot = HardStateSlot::from_block(block).expect("the engine writes good slots");
    slot.state = HardState { term: 0, voted_for: None, vote_committed: false, ..slot.state };
    let mut buffer = SimBuffer::new(BLOCK_BYTES);
    buffer.as_mut().copy_from_slice(&slot.to_block());
    buffer
}

/// Gives every whole entry the checksum of its bytes. Entries stand on blocks here.
fn make_checksums_right(bytes: &mut [u8]) {
    for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
        let entry = &mut bytes[at..];
        let Ok(header) = EntryHeader::decode(entry) else { continue };
        let Some(body) = entry.get(HEADER_BYTES..header.entry_bytes()) else { continue };
        if let Err(EntryError::Crc { found, .. }) = header.check(body) {
            let header = EntryHeader { crc: found, ..header };
            entry[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        }
    }
}
