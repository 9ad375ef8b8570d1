//! Files of a person's that are short, such as certificates, keys and policies.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// All of a file; `None` if it is larger than `bytes_max`. No more than that and a byte is read of it, whatever
/// it is.
///
/// # Errors
/// The file system's.
pub fn read_short(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("walengine-short-{}", std::process::id()));
        assert_eq!(read_short(&path, 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        for (bytes, found) in [(&b""[..], true), (b"abc", true), (b"abcd", false)] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_short(&path, 3).unwrap(), found.then(|| bytes.to_vec()));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_short(Path::new("/dev/zero"), 3).unwrap(), None);
    }
}
