//! Reads a file from front to back, the next piece while the one before it is being taken.

use std::io;
use std::rc::Rc;

use super::disk::{Disk, DiskFile};
use super::under_way::UnderWay;

/// See the module. Nothing is checked here.
pub struct ReadAhead<D: Disk> {
    disk: D,
    file: Rc<D::File>,
    /// Where the file ends: whole blocks.
    end: u64,
    /// Bytes that are read at once: whole blocks.
    piece_bytes: u64,
    /// What was read, and where it stands.
    piece: Option<(u64, D::Buffer)>,
    /// What stands behind that is being read.
    reading: Option<UnderWay<io::Result<D::Buffer>>>,
}

impl<D: Disk> ReadAhead<D> {
    /// Reads the first `end` bytes of a file, so many at once. Both are whole blocks.
    pub fn new(disk: D, file: Rc<D::File>, end: u64, piece_bytes: u64) -> Self {
        Self { disk, file, end, piece_bytes, piece: None, reading: None }
    }

    /// What was read from `position` on, up to the end of its piece. The first piece begins at the first position
    /// that is asked for; positions never decrease, and none is left out by more than a piece.
    ///
    /// # Errors
    /// The disk's; `UnexpectedEof` behind the end.
    pub async fn at(&mut self, position: u64) -> io::Result<&[u8]> {
        let bytes_of = |piece: &(u64, D::Buffer)| piece.1.as_ref().len() as u64;
        let end = self.piece.as_ref().map_or(position, |piece| piece.0 + bytes_of(piece));
        if position >= end {
            let taken = self.piece.take();
            let reading = match self.reading.take() {
                Some(reading) => reading,
                None => self.begin(end, None).await?,
            };
            let piece = (end, reading.end().await?);
            let next = end + bytes_of(&piece);
            self.piece = Some(piece);
            if next < self.end {
                self.reading = Some(self.begin(next, taken).await?);
            }
        }
        let (start, piece) = self.piece.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        let from =
            position.checked_sub(*start).and_then(|from| piece.as_ref().get(from as usize..));
        from.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Begins to read a piece, into the memory of this one if it fits.
    async fn begin(
        &self,
        start: u64,
        taken: Option<(u64, D::Buffer)>,
    ) -> io::Result<UnderWay<io::Result<D::Buffer>>> {
        let bytes = self.end.saturating_sub(start).min(self.piece_bytes) as usize;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = taken.map(|taken| taken.1).filter(|buffer| buffer.as_ref().len() == bytes);
        let buffer = taken.unwrap_or_else(|| self.disk.buffer(bytes));
        let file = self.file.clone();
        Ok(UnderWay::begin(async move { file.read(buffer, start).await }).await)
    }
}
