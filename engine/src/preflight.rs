//! What must be true of this machine before a shard starts; each failure names its fix.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fatal::{Fatal, Reason};
use crate::os;
pub use crate::os::free_bytes;
use crate::storage::disk::BLOCK_BYTES;

/// Oldest kernel on which all operations that the executor submits exist.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Locked memory that the rings of one executor take, in bytes. There is one for each shard, and the
/// feed's.
const MEMLOCK_BYTES_PER_EXECUTOR: u64 = 512 << 10;
/// What the names of files begin with that are written to try direct I/O.
const PROBE: &str = ".preflight-";
/// 2026-01-01, in seconds: a clock before it was never set.
const CLOCK_SECONDS_MIN: u64 = 1_767_225_600;

/// Checks kernel, `io_uring`, memlock and clock.
pub fn check_machine(cores: usize) -> Result<(), Fatal> {
    check_kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())?;
    check_io_uring()?;
    check_memlock(cores)?;
    check_clock(SystemTime::now())
}

/// Checks that direct I/O works in `dir`, which exists, and that there is room to start. What was
/// formatted before needs none: a full disk is no reason not to show what it holds.
pub fn check_directory(dir: &Path, room_bytes: u64, is_new: bool) -> Result<(), Fatal> {
    remove_probes(dir);
    let checked = match check_direct_io(dir) {
        Err(error) if !is_new && is_full(&error) => Ok(()),
        checked => checked,
    };
    checked.map_err(|error| {
        let at = dir.display();
        Fatal::new(
            Reason::Preflight,
            match error.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP) => format!(
                    "direct I/O does not work in {at} ({error}); put --data on ext4 or XFS, not \
                     on tmpfs, overlayfs or a network file system"
                ),
                Some(libc::EACCES | libc::EROFS | libc::EPERM) => {
                    format!("cannot write in {at} ({error}); give this user write access to it")
                }
                _ => format!("direct I/O failed in {at}: {error}"),
            },
        )
    })?;
    let free = free_bytes(dir).map_err(|error| {
        Fatal::new(Reason::Preflight, format!("cannot ask for free space: {error}"))
    })?;
    if free < room_bytes {
        let (free, room, at) = (free >> 20, room_bytes >> 20, dir.display());
        let message = format!(
            "{free} MiB are free at {at}, {room} MiB are needed to start; make room, or lower \
             --reserve-mib or (before format) --segment-mib"
        );
        return Err(Fatal::new(Reason::Preflight, message));
    }
    Ok(())
}

/// Says what is wrong with the file system of `dir` for a log, if it is known to be.
pub fn warn_of_file_system(dir: &Path) {
    let why = os::file_system_magic(dir).ok().and_then(unfit_file_system);
    if let Some((name, why)) = why {
        let at = dir.display();
        tracing::warn!(
            "{at} is on {name}: {why}; put --data on ext4 or XFS on a disk of this machine"
        );
    }
}

/// Kinds of file systems on which the promises of a log do not hold, or hold at a price, and why.
fn unfit_file_system(magic: i64) -> Option<(&'static str, &'static str)> {
    const MEMORY: &str = "what it holds is memory, and is gone after a reboot or a power cut";
    const NETWORK: &str = "what a flush promises there depends on a server and its settings, and another \
                           machine may open the same directory";
    const LAYERED: &str = "it is the layer of a container that is thrown away with it, and files are \
                           copied up when they are written; mount a volume";
    const PROGRAM: &str = "what a flush promises there is up to the program behind it";
    match magic {
        0x0102_1994 => Some(("tmpfs", MEMORY)),
        0x8584_58f6 => Some(("ramfs", MEMORY)),
        0x794c_7630 => Some(("overlayfs", LAYERED)),
        0x6969 => Some(("NFS", NETWORK)),
        0xff53_4d42 | 0xfe53_4d42 => Some(("SMB", NETWORK)),
        0x00c3_6400 => Some(("CephFS", NETWORK)),
        0x0102_1997 => Some(("9p", NETWORK)),
        0x6573_5546 => Some(("FUSE", PROGRAM)),
        _ => None,
    }
}

fn check_kernel(release: &str) -> Result<(), Fatal> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Ok(()); // an odd name; io_uring itself is tried next
    };
    if (major, minor) >= KERNEL_MIN {
        return Ok(());
    }
    let (need_major, need_minor) = KERNEL_MIN;
    let message = format!(
        "Linux {} is too old: walengine needs {need_major}.{need_minor} or newer; upgrade the \
         kernel",
        release.trim()
    );
    Err(Fatal::new(Reason::Preflight, message))
}

fn check_io_uring() -> Result<(), Fatal> {
    let Err(error) = os::try_io_uring() else { return Ok(()) };
    let fix = match error.raw_os_error() {
        // What Podman's profiles answer with; Docker's say EPERM.
        Some(libc::ENOSYS) => {
            "use a kernel with CONFIG_IO_URING; in a container, a seccomp profile that allows it \
             (packaging/CONTAINER.md)"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "set `sysctl kernel.io_uring_disabled=0`; in a container, allow io_uring in the \
             seccomp profile (packaging/CONTAINER.md; for Docker and Podman: --security-opt \
             seccomp=packaging/seccomp.json)"
        }
        Some(libc::ENOMEM) => "raise the memlock limit (`ulimit -l`)",
        _ => "see the kernel log",
    };
    Err(Fatal::new(Reason::Preflight, format!("io_uring is not usable ({error}): {fix}")))
}

fn check_memlock(cores: usize) -> Result<(), Fatal> {
    let needed = MEMLOCK_BYTES_PER_EXECUTOR * (cores as u64 + 1);
    let allowed = os::memlock_bytes_max().unwrap_or(u64::MAX);
    if allowed >= needed {
        return Ok(());
    }
    let (have, need) = (allowed >> 10, needed >> 10);
    let message = format!(
        "only {have} KiB may be locked in memory, {cores} cores need {need} KiB; raise it with \
         `ulimit -l {need}`, LimitMEMLOCK= in the systemd unit, or --ulimit memlock= for Docker"
    );
    Err(Fatal::new(Reason::Preflight, message))
}

fn check_clock(now: SystemTime) -> Result<(), Fatal> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds >= CLOCK_SECONDS_MIN {
        return Ok(());
    }
    let message = "the clock says it is before 2026; set it, for example with chrony or `date -s`";
    Err(Fatal::new(Reason::Preflight, message))
}

/// The name of a file that this check writes, and that a kill may leave behind.
pub fn is_probe(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PROBE))
}

/// The caller has the directory to itself, so they are of processes that are gone.
fn remove_probes(dir: &Path) {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| is_probe(name)) {
        let _ = fs::remove_file(dir.join(name)); // it is harmless
    }
}

/// There is no room on the disk, or not for this user.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn check_direct_io(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("{PROBE}{}", std::process::id()));
    let result = try_direct_io(&path);
    let _ = fs::remove_file(&path); // absent if it could not even be created
    result
}

fn try_direct_io(path: &Path) -> io::Result<()> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let mut memory = vec![0u8; 2 * BLOCK_BYTES];
    let aligned = memory.as_ptr().align_offset(BLOCK_BYTES);
    let block = &mut memory[aligned..aligned + BLOCK_BYTES];
    block.fill(0x5a);
    file.write_all_at(block, 0)?;
    file.sync_data()?;
    block.fill(0);
    file.read_exact_at(block, 0)?;
    if block.iter().all(|&byte| byte == 0x5a) {
        Ok(())
    } else {
        Err(io::Error::other("read back other bytes than were written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_and_odd_names_are_not() {
        assert!(check_kernel("4.19.0-21-amd64\n").is_err());
        assert!(check_kernel("5.4.0").is_err());
        for good in ["5.15.0-1", "6.1.0-18-amd64", "7.0", "odd"] {
            assert!(check_kernel(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn file_systems_that_keep_no_promise_are_known() {
        for (magic, name) in [
            (0x0102_1994, "tmpfs"),
            (0x794c_7630, "overlayfs"),
            (0x6969, "NFS"),
            (0x6573_5546, "FUSE"),
        ] {
            assert_eq!(unfit_file_system(magic).map(|(name, _)| name), Some(name));
        }
        for magic in [0xef53, 0x5846_5342, 0x9123_683e] {
            assert_eq!(unfit_file_system(magic), None, "ext4, XFS and Btrfs");
        }
        assert_eq!(os::file_system_magic(Path::new("/dev/shm")).unwrap(), 0x0102_1994);
    }

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        assert!(check_clock(UNIX_EPOCH).is_err());
        assert!(check_clock(SystemTime::now()).is_ok());
    }

    #[test]
    fn memory_file_systems_and_full_disks_are_refused_with_a_fix() {
        let here = std::env::current_dir().unwrap();
        check_directory(&here, 0, true).unwrap();
        let error = check_directory(&here, u64::MAX, true).unwrap_err();
        assert!(error.message.contains("make room"), "{error}");
        let error = check_directory(Path::new("/proc"), 0, true).unwrap_err();
        assert_eq!(error.reason, Reason::Preflight);
    }
}
