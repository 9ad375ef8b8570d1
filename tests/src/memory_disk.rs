//! A disk in memory that takes no time: for checks that open the same bytes many times.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine::storage::disk::{Disk, DiskFile};

use crate::sim::SimBuffer;

type Bytes = Rc<RefCell<Vec<u8>>>;

/// Handle to the disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, Bytes>>>,
    changes: Rc<Cell<u64>>,
}

/// Open file.
pub struct MemoryFile {
    bytes: Bytes,
    changes: Rc<Cell<u64>>,
}

impl MemoryDisk {
    /// A disk with these files and the directories above them.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path, Rc::new(RefCell::new(bytes))));
        Self { files: Rc::new(RefCell::new(files.collect())), changes: Rc::default() }
    }

    /// Changes a file.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.files.borrow()[path].borrow_mut());
    }

    /// Every file.
    pub fn image(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.files.borrow();
        files.iter().map(|(path, bytes)| (path.clone(), bytes.borrow().clone())).collect()
    }

    /// Operations so far that may have changed something.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Buffer = SimBuffer;

    fn buffer(&self, bytes: usize) -> SimBuffer {
        SimBuffer::new(bytes)
    }

    async fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let bytes = self.files.borrow().get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { bytes, changes: self.changes.clone() })
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<MemoryFile> {
        self.changed();
        let bytes = Rc::new(RefCell::new(vec![0; bytes as usize]));
        let replaced = self.files.borrow_mut().insert(path.into(), bytes.clone());
        assert!(replaced.is_none(), "{} is there already", path.display());
        Ok(MemoryFile { bytes, changes: self.changes.clone() })
    }

    async fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.changed();
        let file = self.files.borrow_mut().remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.borrow_mut().insert(to.into(), file);
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.borrow_mut().remove(path).ok_or(io::ErrorKind::NotFound)?;
        self.changed();
        drop(removed);
        Ok(())
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let files = self.files.borrow();
        let inside = files.keys().filter_map(|file| file.strip_prefix(path).ok()?.iter().next());
        let mut names: Vec<PathBuf> = inside.map(PathBuf::from).collect();
        names.dedup();
        Ok(names)
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for MemoryFile {
    type Buffer = SimBuffer;

    async fn write(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        self.changes.set(self.changes.get() + 1);
        let (from, bytes) = (offset as usize, (*buffer).as_ref());
        self.bytes.borrow_mut()[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    async fn write_durable(&self, buffer: Rc<SimBuffer>, offset: u64) -> io::Result<()> {
        self.write(buffer, offset).await
    }

    async fn read(&self, mut buffer: SimBuffer, offset: u64) -> io::Result<SimBuffer> {
        let length = buffer.as_ref().len();
        let bytes = self.bytes.borrow();
        let Some(found) = bytes.get(offset as usize..offset as usize + length) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        buffer.as_mut().copy_from_slice(found);
        drop(bytes);
        Ok(buffer)
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }
}
