//! How much memory the process may take, and what it takes: ground for all parts of the engine.
//!
//! The kernel kills a process that passes its control group's limit, without a word, and again at every
//! start. So writes are refused before that, and what does not fit is told at the start. The limit is
//! the lowest of `--memory-mib`, those of the process's control groups (version 1 or 2, and all above),
//! and the machine's memory.
//!
//! ```text
//! 0 ........ used ........ | the reserve ........ | limit
//!                          writes are refused       the kernel kills
//!            loading ends here with an error: at half of the reserve
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::fatal::{Fatal, Reason};
use crate::limits::{MEMORY_RESERVE_BYTES_MAX, MEMORY_RESERVE_BYTES_MIN, MEMORY_RESERVE_SHARE};

/// The limit of this process; unset in simulations, which have none.
static LIMIT: OnceLock<MemoryLimit> = OnceLock::new();

/// The most memory that this process may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// Who says so.
    pub source: LimitSource,
}

/// Who limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The flag.
    Flag,
    /// The control group in this directory. What others in it take counts, too.
    Group(PathBuf),
    /// There is no more in the machine.
    Machine,
}

/// What is used of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Used by this process, or by its control group if that has the limit; without what the kernel can
    /// take back at any time.
    pub used_bytes: u64,
    /// See [`MemoryLimit`].
    pub limit_bytes: u64,
}

impl MemoryUse {
    /// Left until the limit.
    pub fn left_bytes(self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }

    /// Writes are refused while less than this is left.
    pub fn reserve_bytes(self) -> u64 {
        let share = self.limit_bytes / MEMORY_RESERVE_SHARE;
        share.clamp(MEMORY_RESERVE_BYTES_MIN, MEMORY_RESERVE_BYTES_MAX)
    }

    /// Writes are to be refused, or go on being so: they are taken again once there is an eighth more
    /// than the reserve.
    pub fn is_short(self, was_short: bool) -> bool {
        let reserve = self.reserve_bytes();
        self.left_bytes() < reserve + if was_short { reserve / 8 } else { 0 }
    }
}

/// Finds the limit, for [`look`] and [`require_room`]. The first call counts.
pub fn set_limit(flag_bytes: Option<u64>) -> &'static MemoryLimit {
    LIMIT.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        find_limit(Path::new("/sys/fs/cgroup"), &groups, &machine, flag_bytes)
    })
}

/// What is used now; `None` without a limit, or if the system does not say.
pub fn look() -> Option<MemoryUse> {
    let limit = LIMIT.get()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let own = kib_of(&status, "RssAnon:")? + kib_of(&status, "RssShmem:").unwrap_or(0);
    let used_bytes = match &limit.source {
        LimitSource::Group(dir) => own.max(used_in_group(dir).unwrap_or(0)),
        LimitSource::Flag | LimitSource::Machine => own,
    };
    Some(MemoryUse { used_bytes, limit_bytes: limit.bytes })
}

/// Makes sure, while something is loaded, that it does not end in the kernel's hands.
///
/// # Errors
/// `Memory`, with what to do.
pub fn require_room() -> Result<(), Fatal> {
    match look() {
        Some(used) if used.left_bytes() < used.reserve_bytes() / 2 => Err(too_little(None)),
        _ => Ok(()),
    }
}

/// Makes sure that what will take at least `bytes` fits.
///
/// # Errors
/// `Memory`, with what to do.
pub fn require_room_for(bytes: u64) -> Result<(), Fatal> {
    match look() {
        Some(used) if used.left_bytes() < bytes => Err(too_little(Some(bytes))),
        _ => Ok(()),
    }
}

fn too_little(wanted_bytes: Option<u64>) -> Fatal {
    let Some(limit) = LIMIT.get() else { unreachable!("only a limit makes memory too little") };
    let mib = limit.bytes >> 20;
    let (from, raise) = match &limit.source {
        LimitSource::Flag => ("--memory-mib".to_owned(), "raise it"),
        LimitSource::Group(dir) => {
            (dir.display().to_string(), "raise the limit of the container or unit")
        }
        LimitSource::Machine => ("the machine".to_owned(), "take a larger one"),
    };
    let wanted = match wanted_bytes {
        Some(bytes) => format!("it takes {} MiB at least", bytes >> 20),
        None => "it is not loaded yet, and nearly all is used".to_owned(),
    };
    let message = format!(
        "the accounts and ids in the data directory do not fit in memory: {mib} MiB are allowed by \
         {from}, and {wanted}; {raise} (about 40 bytes for each id and 160 for each account), or stop \
         other programs in it; nothing was changed"
    );
    Fatal::new(Reason::Memory, message)
}

fn find_limit(root: &Path, groups: &str, machine: &str, flag_bytes: Option<u64>) -> MemoryLimit {
    let total = kib_of(machine, "MemTotal:").unwrap_or(u64::MAX);
    let mut limits = vec![MemoryLimit { bytes: total, source: LimitSource::Machine }];
    limits.extend(group_limits(root, groups));
    limits.extend(flag_bytes.map(|bytes| MemoryLimit { bytes, source: LimitSource::Flag }));
    let Some(lowest) = limits.into_iter().min_by_key(|limit| limit.bytes) else {
        unreachable!("the machine's is among them")
    };
    lowest
}

/// The limits of the control groups that `/proc/self/cgroup` names, and of those above them.
fn group_limits(root: &Path, groups: &str) -> Vec<MemoryLimit> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // A container may see its own group at the root, whatever the path says.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            let dir = root.join(above);
            let Ok(text) = fs::read_to_string(dir.join(file)) else { continue };
            // "max" is no number, and no limit.
            if let Ok(bytes) = text.trim().parse() {
                limits.push(MemoryLimit { bytes, source: LimitSource::Group(dir) });
            }
        }
    }
    limits
}

/// What a control group uses, without the cache of files and what else the kernel takes back.
fn used_in_group(dir: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    let stat = fs::read_to_string(dir.join("memory.stat")).ok()?;
    let of = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let (used, cached) = if let Some(used) = number("memory.current") {
        let names = ["inactive_file", "active_file", "slab_reclaimable"];
        (used, names.iter().filter_map(|name| of(name)).sum())
    } else {
        let names = ["total_inactive_file", "total_active_file"];
        (number("memory.usage_in_bytes")?, names.iter().filter_map(|name| of(name)).sum::<u64>())
    };
    Some(used.saturating_sub(cached))
}

/// A line such as `RssAnon:  1234 kB`, in bytes.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "MemTotal:       1048576 kB\nMemFree:  1 kB\n";

    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("walengine-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_lowest_limit_counts_whoever_sets_it() {
        let root = tree(
            "limits",
            &[
                ("memory.max", "max\n"),
                ("box/memory.max", "209715200\n"),
                ("box/inner/memory.max", "max\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/one/memory.limit_in_bytes", "104857600\n"),
            ],
        );
        let found = |groups: &str, flag| find_limit(&root, groups, MACHINE, flag);
        let group =
            |bytes, dir: &str| MemoryLimit { bytes, source: LimitSource::Group(root.join(dir)) };
        assert_eq!(found("0::/box/inner\n", None), group(200 << 20, "box"));
        assert_eq!(found("3:cpu:/x\n9:memory:/one\n0::/\n", None), group(100 << 20, "memory/one"));
        // The group is not where the path says: it is seen at the root.
        let whole = MemoryLimit { bytes: 1 << 30, source: LimitSource::Machine };
        assert_eq!(found("0::/not/seen\n", None), whole);
        let flag = found("0::/box\n", Some(64 << 20));
        assert_eq!(flag, MemoryLimit { bytes: 64 << 20, source: LimitSource::Flag });
        assert_eq!(found("0::/box\n", Some(1 << 30)).bytes, 200 << 20, "a flag lifts no limit");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_a_group_uses_is_without_the_cache_of_files() {
        let stat = "anon 70\nfile 30\ninactive_file 20\nactive_file 5\nslab_reclaimable 3\n";
        let old = "cache 30\ntotal_inactive_file 20\ntotal_active_file 10\n";
        let root = tree(
            "use",
            &[
                ("new/memory.current", "100\n"),
                ("new/memory.stat", stat),
                ("old/memory.usage_in_bytes", "100\n"),
                ("old/memory.stat", old),
            ],
        );
        assert_eq!(used_in_group(&root.join("new")), Some(72));
        assert_eq!(used_in_group(&root.join("old")), Some(70));
        assert_eq!(used_in_group(&root), None);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn writes_are_refused_before_the_end_and_do_not_flutter() {
        const MIB: u64 = 1 << 20;
        let used = |used, limit| MemoryUse { used_bytes: used * MIB, limit_bytes: limit * MIB };
        assert!(!used(100, 200).is_short(false));
        assert!(used(169, 200).is_short(false));
        assert!(used(167, 200).is_short(true) && !used(167, 200).is_short(false));
        assert!(!used(160, 200).is_short(true));
        assert!(used(300, 200).is_short(false), "past the limit already");
        assert_eq!(used(0, 1 << 20).reserve_bytes(), MEMORY_RESERVE_BYTES_MAX);
    }
}
