//! The log of a process, in a file that those before it have written to as well.

use std::fs::File;
use std::path::{Path, PathBuf};

/// What one process has said.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    start: usize,
}

impl LogFile {
    /// From here on, and the file for the process to append to.
    ///
    /// # Panics
    /// If it can't be opened.
    pub fn begin(path: &Path) -> (Self, File) {
        let file = File::options().create(true).append(true).open(path).unwrap();
        let start = file.metadata().unwrap().len() as usize;
        (Self { path: path.to_owned(), start }, file)
    }

    /// All of it.
    ///
    /// # Panics
    /// If it can't be read.
    pub fn text(&self) -> String {
        let all = std::fs::read(&self.path).unwrap();
        let new = all.get(self.start..).unwrap_or_default();
        String::from_utf8_lossy(new).into_owned()
    }
}
