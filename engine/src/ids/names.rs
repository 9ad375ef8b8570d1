//! The names of runs' files: the offsets that a run covers.

use std::path::{Path, PathBuf};

/// Directory of the runs in that of a partition.
pub(super) const DIR: &str = "ids";
const EXTENSION: &str = "run";
const EXTENSION_NEW: &str = "new";
const NAME_DIGITS: usize = 16;

/// Offsets that a run covers: from `first` on, up to `end`, which is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRange {
    /// The first.
    pub first: u64,
    /// Behind the last.
    pub end: u64,
}

/// Where the run of these offsets is.
pub(super) fn path(dir: &Path, range: RunRange) -> PathBuf {
    let RunRange { first, end } = range;
    dir.join(format!("{first:0NAME_DIGITS$x}-{end:0NAME_DIGITS$x}.{EXTENSION}"))
}

/// Where it is until it is finished.
pub(super) fn new_path(dir: &Path, range: RunRange) -> PathBuf {
    path(dir, range).with_extension(EXTENSION_NEW)
}

/// The offsets that a name of a run stands for, finished or not.
pub(super) fn range_of(name: &Path) -> Option<RunRange> {
    if name.extension()? != EXTENSION && name.extension()? != EXTENSION_NEW {
        return None;
    }
    let (first, end) = name.file_stem()?.to_str()?.split_once('-')?;
    let number = |digits: &str| {
        let is_plain = digits.len() == NAME_DIGITS && !digits.starts_with('+');
        is_plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    Some(RunRange { first: number(first)?, end: number(end)? })
}

/// Whether a name is that of a run that was not finished.
pub(super) fn is_new(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == EXTENSION_NEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_range_and_nothing_else_is_one() {
        let range = RunRange { first: 0xab, end: u64::MAX };
        let dir = Path::new("ids");
        assert_eq!(path(dir, range), Path::new("ids/00000000000000ab-ffffffffffffffff.run"));
        for path in [path(dir, range), new_path(dir, range)] {
            let name = Path::new(path.file_name().unwrap());
            assert_eq!(range_of(name), Some(range));
            assert_eq!(is_new(name), path == new_path(dir, range));
        }
        for name in ["", "a.run", "00000000000000ab-ffffffffffffffff", "ab-ff.run", "ab-ff.new"] {
            assert_eq!(range_of(Path::new(name)), None, "{name}");
        }
        assert_eq!(range_of(Path::new("+0000000000000ab-ffffffffffffffff.run")), None);
    }
}
