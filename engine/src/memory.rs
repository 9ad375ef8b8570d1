//! How much memory the process may take, and what it takes: ground for all parts of the engine.
//!
//! The kernel kills a process that passes its control group's limit, without a word, and again at every
//! start. So writes are refused before that, and what does not fit is told at the start. Two limits
//! count, each with its own reserve:
//!
//! - the *budget*, which only this process uses up: `--memory-mib`, and for a server without it half of
//!   what the system allows;
//! - what the *system* allows: the lowest limit of the process's control groups (version 1 or 2, and all
//!   above), and the machine's memory. Others in such a group use it up, too. No budget is above it.
//!
//! ```text
//! 0 ........ used ........ | the reserve ........ | limit
//!                          writes are refused       the kernel kills, if it is the system's
//!            loading ends here with an error: at half of the reserve
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::fatal::{Fatal, Reason};
use crate::limits::{
    MEMORY_LEAST_BYTES, MEMORY_LEAST_BYTES_OF_PARTITION, MEMORY_LEAST_BYTES_OF_SHARD,
    MEMORY_PLENTY_BYTES, MEMORY_RESERVE_BYTES_MAX, MEMORY_RESERVE_BYTES_MIN, MEMORY_RESERVE_SHARE,
};

/// The limits of this process; unset in simulations, which have none.
static LIMITS: OnceLock<Limits> = OnceLock::new();

/// What bounds the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For this process.
    pub budget: MemoryLimit,
    /// What the system allows.
    pub system: MemoryLimit,
}

/// The most memory that may be taken.
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
    /// Nobody: it is half of what the system allows.
    Half,
    /// The control group in this directory. What others in it take counts, too.
    Group(PathBuf),
    /// There is no more in the machine.
    Machine,
}

impl MemoryLimit {
    /// Who says so, for people.
    pub fn from(&self) -> String {
        match &self.source {
            LimitSource::Flag => "--memory-mib".to_owned(),
            LimitSource::Half => {
                "the default of --memory-mib, half of what this process may use".to_owned()
            }
            LimitSource::Group(dir) => dir.display().to_string(),
            LimitSource::Machine => "the machine".to_owned(),
        }
    }

    /// How there is more.
    pub fn raise(&self) -> &'static str {
        match &self.source {
            LimitSource::Flag => "raise --memory-mib",
            LimitSource::Half => "set --memory-mib",
            LimitSource::Group(_) => "raise the limit of the container or unit, and --memory-mib",
            LimitSource::Machine => "take a machine with more, and raise --memory-mib",
        }
    }
}

/// What is used of a limit.
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

    /// Left until writes are refused; negative once they are.
    fn until_short(self) -> i128 {
        i128::from(self.limit_bytes)
            - i128::from(self.used_bytes)
            - i128::from(self.reserve_bytes())
    }
}

/// What is used now.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Memory of this process alone.
    pub own_bytes: u64,
    /// Of the limit that is nearer.
    pub used: MemoryUse,
    /// That limit.
    pub limit: &'static MemoryLimit,
}

/// Finds the limits of a command, for [`look`] and [`require_room`]: without a flag it may take what the
/// system allows. The first call counts.
pub fn set_limit(flag_bytes: Option<u64>) {
    LIMITS.get_or_init(|| Limits::of(find_system(), flag_bytes, false));
}

/// As [`set_limit`], for a server, which is not alone on its machine: without a flag it may take half.
pub fn set_budget(flag_bytes: Option<u64>) -> &'static Limits {
    LIMITS.get_or_init(|| Limits::of(find_system(), flag_bytes, true))
}

/// This process's part of what `bytes_max` is where memory is plenty: less under a budget below
/// [`MEMORY_PLENTY_BYTES`], in proportion. For what is shared by all shards.
pub fn in_proportion(bytes_max: usize) -> usize {
    match LIMITS.get() {
        Some(limits) => share(limits.budget.bytes, bytes_max),
        None => bytes_max,
    }
}

/// See [`Limits::budget`]; 0 if there is none.
pub fn budget_bytes() -> u64 {
    LIMITS.get().map_or(0, |limits| limits.budget.bytes)
}

fn share(budget_bytes: u64, bytes_max: usize) -> usize {
    let part = bytes_max as u128 * u128::from(budget_bytes) / u128::from(MEMORY_PLENTY_BYTES);
    (part as usize).min(bytes_max)
}

/// Makes sure that a server with so many shards and partitions can do something with its budget.
///
/// # Errors
/// `Usage` if the flag is too low, `Memory` if the system allows too little; with the least.
pub fn require_least(limits: &Limits, shards: usize, partitions: u16) -> Result<(), Fatal> {
    let least = MEMORY_LEAST_BYTES
        + shards as u64 * MEMORY_LEAST_BYTES_OF_SHARD
        + u64::from(partitions) * MEMORY_LEAST_BYTES_OF_PARTITION;
    let Limits { budget, system } = limits;
    if budget.bytes >= least {
        return Ok(());
    }
    let reason = match budget.source {
        LimitSource::Flag => Reason::Usage,
        LimitSource::Half | LimitSource::Group(_) | LimitSource::Machine => Reason::Memory,
    };
    let (mib, from) = (budget.bytes >> 20, budget.from());
    let least = least.div_ceil(1 << 20);
    let advice = if system.bytes >> 20 >= least {
        format!("set --memory-mib to {least} or more")
    } else {
        format!("{} allows {} MiB only: {}", system.from(), system.bytes >> 20, system.raise())
    };
    let message = format!(
        "{mib} MiB of memory ({from}) are too little: a server of {shards} cores and {partitions} \
         partitions takes {least} MiB at least; {advice}"
    );
    Err(Fatal::new(reason, message))
}

/// What is used now; `None` without a limit, or if the system does not say.
pub fn look() -> Option<Looked> {
    let Limits { budget, system } = LIMITS.get()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let own_bytes = kib_of(&status, "RssAnon:")? + kib_of(&status, "RssShmem:").unwrap_or(0);
    let of_budget = MemoryUse { used_bytes: own_bytes, limit_bytes: budget.bytes };
    let of_budget = Looked { own_bytes, used: of_budget, limit: budget };
    let LimitSource::Group(dir) = &system.source else { return Some(of_budget) };
    let used_bytes = own_bytes.max(used_in_group(dir).unwrap_or(0));
    let of_group = MemoryUse { used_bytes, limit_bytes: system.bytes };
    Some(if of_group.until_short() < of_budget.used.until_short() {
        Looked { own_bytes, used: of_group, limit: system }
    } else {
        of_budget
    })
}

/// Makes sure, while something is loaded, that it does not end in the kernel's hands.
///
/// # Errors
/// `Memory`, with what to do.
pub fn require_room() -> Result<(), Fatal> {
    match look() {
        Some(Looked { used, limit, .. }) if used.left_bytes() < used.reserve_bytes() / 2 => {
            Err(too_little(limit, None))
        }
        _ => Ok(()),
    }
}

/// Makes sure that what will take at least `bytes` fits.
///
/// # Errors
/// `Memory`, with what to do.
pub fn require_room_for(bytes: u64) -> Result<(), Fatal> {
    match look() {
        Some(Looked { used, limit, .. }) if used.left_bytes() < bytes => {
            Err(too_little(limit, Some(bytes)))
        }
        _ => Ok(()),
    }
}

fn too_little(limit: &MemoryLimit, wanted_bytes: Option<u64>) -> Fatal {
    let (mib, from, raise) = (limit.bytes >> 20, limit.from(), limit.raise());
    let wanted = match wanted_bytes {
        Some(bytes) => format!("it takes {} MiB at least", bytes >> 20),
        None => "it is not loaded yet, and nearly all is used".to_owned(),
    };
    let message = format!(
        "the accounts and ids in the data directory do not fit in memory: {mib} MiB are allowed by \
         {from}, and {wanted}; {raise} (about 3 bytes for each id, 160 for each account, and some 100 MiB), or stop \
         other programs in it; nothing was changed"
    );
    Fatal::new(Reason::Memory, message)
}

impl Limits {
    fn of(system: MemoryLimit, flag_bytes: Option<u64>, is_server: bool) -> Self {
        let budget = match flag_bytes {
            Some(bytes) => MemoryLimit { bytes, source: LimitSource::Flag },
            None if is_server => MemoryLimit { bytes: system.bytes / 2, source: LimitSource::Half },
            None => system.clone(),
        };
        let is_lower = budget.bytes <= system.bytes;
        Self { budget: if is_lower { budget } else { system.clone() }, system }
    }
}

fn find_system() -> MemoryLimit {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    system_limit(Path::new("/sys/fs/cgroup"), &groups, &machine)
}

fn system_limit(root: &Path, groups: &str, machine: &str) -> MemoryLimit {
    let total = kib_of(machine, "MemTotal:").unwrap_or(u64::MAX);
    let mut limits = vec![MemoryLimit { bytes: total, source: LimitSource::Machine }];
    limits.extend(group_limits(root, groups));
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
        let found = |groups: &str, flag| {
            Limits::of(system_limit(&root, groups, MACHINE), flag, false).budget
        };
        let group =
            |bytes, dir: &str| MemoryLimit { bytes, source: LimitSource::Group(root.join(dir)) };
        assert_eq!(found("0::/box/inner\n", None), group(200 << 20, "box"));
        assert_eq!(found("3:cpu:/x\n9:memory:/one\n0::/\n", None), group(100 << 20, "memory/one"));
        // The group is not where the path says: it is seen at the root.
        let whole = MemoryLimit { bytes: 1 << 30, source: LimitSource::Machine };
        assert_eq!(found("0::/not/seen\n", None), whole);
        let flag = found("0::/box\n", Some(64 << 20));
        assert_eq!(flag, MemoryLimit { bytes: 64 << 20, source: LimitSource::Flag });
        assert_eq!(
            found("0::/box\n", Some(1 << 30)),
            group(200 << 20, "box"),
            "a flag lifts no limit"
        );
        // A server leaves half to others unless it is told.
        let server =
            |flag| Limits::of(system_limit(&root, "0::/box\n", MACHINE), flag, true).budget;
        assert_eq!(server(None), MemoryLimit { bytes: 100 << 20, source: LimitSource::Half });
        assert_eq!(server(Some(150 << 20)).bytes, 150 << 20);
        assert_eq!(server(Some(1 << 30)), group(200 << 20, "box"));
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
    fn a_budget_that_is_too_small_is_told_with_the_least() {
        let machine = |mib| MemoryLimit { bytes: mib << 20, source: LimitSource::Machine };
        let asked = |system, flag: Option<u64>, shards, partitions| {
            let limits = Limits::of(machine(system), flag.map(|mib| mib << 20), true);
            require_least(&limits, shards, partitions)
                .map_err(|fatal| (fatal.reason, fatal.message))
        };
        assert_eq!(asked(1024, Some(64), 1, 1), Ok(()));
        let (reason, said) = asked(4096, Some(64), 16, 64).unwrap_err();
        assert_eq!(reason, Reason::Usage);
        let least = said.split("takes ").nth(1).and_then(|it| it.split(' ').next()).unwrap();
        assert!(said.contains(&format!("set --memory-mib to {least} or more")), "{said}");
        assert!(said.contains("64 MiB of memory (--memory-mib)") && !said.contains('\n'), "{said}");
        let least: u64 = least.parse().unwrap();
        assert_eq!(asked(4096, Some(least), 16, 64), Ok(()));
        assert!(asked(4096, Some(least - 1), 16, 64).is_err());
        // The default is told as such; where the system has too little, no flag helps.
        let (reason, said) = asked(2 * least - 2, None, 16, 64).unwrap_err();
        assert_eq!(reason, Reason::Memory);
        assert!(
            said.contains("the default of --memory-mib") && said.contains("set --mem"),
            "{said}"
        );
        let (_, said) = asked(least - 1, Some(2 * least), 16, 64).unwrap_err();
        assert!(said.contains("the machine allows") && !said.contains("or more"), "{said}");
    }

    #[test]
    fn what_connections_may_hold_shrinks_with_a_small_budget() {
        let full = 72 << 20;
        assert_eq!(share(MEMORY_PLENTY_BYTES, full), full);
        assert_eq!(share(u64::MAX, full), full);
        assert_eq!(share(MEMORY_PLENTY_BYTES / 4, full), full / 4);
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
