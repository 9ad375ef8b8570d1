//! The file of a bundle: a packed archive that only its owner can read, and that replaces nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An archive that is being written.
pub struct Archive {
    files: tar::Builder<GzEncoder<File>>,
    seconds: u64,
}

impl Archive {
    /// Begins a new one, of files that were made `seconds` after 1970.
    ///
    /// # Errors
    /// The file system's; also if there is such a file.
    pub fn create(path: &Path, seconds: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let files = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { files, seconds })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn add(&mut self, name: &str, content: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let path = Path::new("walengine-support").join(name);
        self.files.append_data(&mut header, path, content.as_bytes())
    }

    /// Ends it, durably.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(self) -> io::Result<()> {
        self.files.into_inner()?.finish()?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_archive_is_its_owners_and_replaces_nothing() {
        let path =
            std::env::temp_dir().join(format!("walengine-bundle-{}.tar.gz", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut archive = Archive::create(&path, 7).unwrap();
        archive.add("version.txt", "one\n").unwrap();
        archive.finish().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Archive::create(&path, 7).is_err(), "it is there");
        let unpacked = flate2::read::GzDecoder::new(File::open(&path).unwrap());
        let mut all = tar::Archive::new(unpacked);
        let mut files = all.entries().unwrap();
        let mut file = files.next().unwrap().unwrap();
        assert_eq!(file.path().unwrap(), Path::new("walengine-support/version.txt"));
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        std::fs::remove_file(&path).unwrap();
    }
}
