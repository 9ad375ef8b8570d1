//! Memory in huge pages. What a ledger reads is scattered over all of its memory, and with pages of 4 KiB the
//! processor waits for their addresses as long as for what is there: a quarter of the time of a transfer (measured
//! with a million accounts and 32 million ids).

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::os;

const VARIABLE: &str = "GLIBC_TUNABLES";
const TUNABLE: &str = "glibc.malloc.hugetlb";
/// Says that the program has begun again: glibc takes its variable away from a program with file capabilities.
const BEGAN_AGAIN: &str = "WALENGINE_BEGAN_AGAIN";

/// Begins this program again, in the same process, with an allocator that asks for huge pages. glibc's reads this
/// setting only as a program begins. To be called before anything else is done. Comes back when the program has begun
/// so, when whoever has started it has set it otherwise, or if it can't be done: then it runs with small ones.
pub fn begin_again_with_them() {
    if cfg!(not(target_env = "gnu")) || std::env::var_os(BEGAN_AGAIN).is_some() {
        return;
    }
    let set = std::env::var_os(VARIABLE);
    let (Some(tunables), Ok(program)) = (with_huge_pages(set.as_deref()), std::env::current_exe())
    else {
        return;
    };
    // A loader that was given the program is another one.
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains("walengine") {
        return;
    }
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let mut again = Command::new(&program);
    again.arg0(called).args(arguments).env(VARIABLE, tunables).env(BEGAN_AGAIN, "1");
    let error = again.exec();
    os::ignore_broken_pipes();
    tracing::debug!("no huge pages: {error}");
}

/// What the variable is to be; `None` if it says already which pages are wanted.
fn with_huge_pages(set: Option<&OsStr>) -> Option<OsString> {
    let set = set.unwrap_or_default();
    if set.to_string_lossy().split(':').any(|one| one.starts_with(TUNABLE)) {
        return None;
    }
    let mut tunables = set.to_owned();
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(format!("{TUNABLE}=1"));
    Some(tunables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_stays() {
        let with = |set: Option<&str>| {
            with_huge_pages(set.map(OsStr::new)).map(|set| set.into_string().unwrap())
        };
        assert_eq!(with(None).unwrap(), "glibc.malloc.hugetlb=1");
        assert_eq!(with(Some("a.b=c")).unwrap(), "a.b=c:glibc.malloc.hugetlb=1");
        assert_eq!(with(Some("glibc.malloc.hugetlb=0")), None);
        assert_eq!(with(with(Some("a.b=c")).as_deref()), None, "it begins again once");
    }
}
