//! A disk that counts what is read.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::DmaBuffer;

use crate::storage::disk::{Disk, DiskFile};
use crate::storage::glommio_disk::{GlommioDisk, GlommioFile};

/// Name of the file, and how many bytes.
type Reads = Rc<RefCell<Vec<(String, usize)>>>;

/// Handle to the disk.
#[derive(Clone)]
pub struct CountingDisk {
    disk: GlommioDisk,
    reads: Reads,
}

/// Open file.
pub struct CountingFile {
    file: GlommioFile,
    name: String,
    reads: Reads,
}

impl CountingDisk {
    pub fn new(disk: GlommioDisk) -> Self {
        Self { disk, reads: Reads::default() }
    }

    /// Reads since this was asked last.
    pub fn take_reads(&self) -> Vec<(String, usize)> {
        self.reads.take()
    }

    fn file(&self, path: &Path, file: GlommioFile) -> CountingFile {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        CountingFile { file, name, reads: self.reads.clone() }
    }
}

impl Disk for CountingDisk {
    type File = CountingFile;
    type Buffer = DmaBuffer;

    fn buffer(&self, bytes: usize) -> DmaBuffer {
        self.disk.buffer(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<CountingFile> {
        Ok(self.file(path, self.disk.open(path).await?))
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<CountingFile> {
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

impl DiskFile for CountingFile {
    type Buffer = DmaBuffer;

    async fn write(&self, buffer: Rc<DmaBuffer>, offset: u64) -> io::Result<()> {
        self.file.write(buffer, offset).await
    }

    async fn write_durable(&self, buffer: Rc<DmaBuffer>, offset: u64) -> io::Result<()> {
        self.file.write_durable(buffer, offset).await
    }

    async fn read(&self, buffer: DmaBuffer, offset: u64) -> io::Result<DmaBuffer> {
        self.reads.borrow_mut().push((self.name.clone(), buffer.len()));
        self.file.read(buffer, offset).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.sync().await
    }

    async fn len(&self) -> io::Result<u64> {
        self.file.len().await
    }
}
