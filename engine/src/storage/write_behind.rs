//! Writes a file piece by piece, each while its owner makes the next one.

use std::io;
use std::rc::Rc;

use super::disk::{Disk, DiskFile};
use super::under_way::UnderWay;

/// See the module. An error of a write comes out of the next call.
pub struct WriteBehind<D: Disk> {
    file: Rc<D::File>,
    /// At most one.
    writing: Option<UnderWay<io::Result<()>>>,
}

impl<D: Disk> WriteBehind<D> {
    /// Writes this file.
    pub fn new(file: D::File) -> Self {
        Self { file: Rc::new(file), writing: None }
    }

    /// Begins to write a piece, once the one before it is written.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write(&mut self, piece: D::Buffer, at: u64) -> io::Result<()> {
        self.end().await?;
        let file = self.file.clone();
        let write = async move { file.write(Rc::new(piece), at).await };
        self.writing = Some(UnderWay::begin(write).await);
        Ok(())
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The disk's.
    pub async fn end(&mut self) -> io::Result<()> {
        match self.writing.take() {
            Some(writing) => writing.end().await,
            None => Ok(()),
        }
    }

    /// As [`Self::end`], and makes it durable.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sync(&mut self) -> io::Result<()> {
        self.end().await?;
        self.file.sync().await
    }

    /// The file.
    pub fn into_file(self) -> Rc<D::File> {
        self.file
    }
}
