//! A [`Disk`] that only reads, by plain files: for copies on media that can't be written, on file
//! systems without direct I/O, and on machines without `io_uring`. It opens nothing for writing, so
//! whoever has only this changes not one byte. Its futures never wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{Disk, DiskFile};
use crate::os;

/// The file system under one directory, to be read.
#[derive(Clone, Debug)]
pub struct ReadOnlyDisk {
    root: Rc<Path>,
}

impl ReadOnlyDisk {
    /// The file system that holds `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }
}

/// A file that is open for reading.
#[derive(Debug)]
pub struct ReadOnlyFile(File);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    type File = ReadOnlyFile;
    type Buffer = Vec<u8>;

    fn buffer(&self, bytes: usize) -> Vec<u8> {
        vec![0; bytes]
    }

    async fn open(&self, path: &Path) -> io::Result<ReadOnlyFile> {
        Ok(ReadOnlyFile(File::open(path)?))
    }

    async fn create(&self, _: &Path, _: u64) -> io::Result<ReadOnlyFile> {
        refused()
    }

    async fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            names.push(PathBuf::from(entry?.file_name()));
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        os::free_bytes(&self.root)
    }
}

impl DiskFile for ReadOnlyFile {
    type Buffer = Vec<u8>;

    async fn write(&self, _: Rc<Vec<u8>>, _: u64) -> io::Result<()> {
        refused()
    }

    async fn write_durable(&self, _: Rc<Vec<u8>>, _: u64) -> io::Result<()> {
        refused()
    }

    async fn read(&self, mut buffer: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
        self.0.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    async fn sync(&self) -> io::Result<()> {
        refused()
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn it_reads_and_writes_nothing() {
        let dir = std::env::temp_dir().join(format!("walengine-read-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a"), b"0123456789").unwrap();
        let disk = ReadOnlyDisk::new(&dir);
        block_on(async {
            let file = disk.open(&dir.join("a")).await.unwrap();
            assert_eq!(file.len().await.unwrap(), 10);
            assert_eq!(file.read(disk.buffer(4), 3).await.unwrap(), b"3456");
            let end = file.read(disk.buffer(4), 8).await.unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
            assert!(file.write(Rc::new(vec![1]), 0).await.is_err());
            assert!(file.write_durable(Rc::new(vec![1]), 0).await.is_err());
            assert!(file.sync().await.is_err());
            assert!(disk.create(&dir.join("b"), 0).await.is_err());
            assert!(disk.create_dir(&dir.join("b")).await.is_err());
            assert!(disk.rename(&dir.join("a"), &dir.join("b")).await.is_err());
            assert!(disk.remove(&dir.join("a")).await.is_err());
            assert!(disk.sync_dir(&dir).await.is_err());
            assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"0123456789");
            assert_eq!(disk.list(&dir).await.unwrap(), [PathBuf::from("a")]);
        });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
