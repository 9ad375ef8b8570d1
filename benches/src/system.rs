//! Counters of the kernel: CPU time and memory of processes, writes and flushes of block devices.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{During, Result, failed};

/// Unit of sectors in the kernel's counters, for every device.
const SECTOR_BYTES: u64 = 512;
/// Places in `/sys/block/DEV/stat`, counted from 0: `Documentation/block/stat.rst`.
const WRITES_AT: usize = 4;
const WRITE_SECTORS_AT: usize = 6;
const FLUSHES_AT: usize = 15;

/// Counts of a block device since it appeared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Bytes written.
    pub write_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Flushes completed.
    pub flushes: u64,
}

impl DeviceCounters {
    /// Counts since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            write_bytes: self.write_bytes.saturating_sub(earlier.write_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// The block device under a directory.
#[derive(Clone, Debug)]
pub struct Device {
    stat: PathBuf,
}

impl Device {
    /// The device that holds `path`.
    pub fn of(path: &Path) -> Result<Self> {
        let at = format!("looking for the device under {}", path.display());
        let device = fs::metadata(path).during(&at)?.dev();
        let stat = PathBuf::from(format!("/sys/dev/block/{}/stat", device_number(device)));
        let device = Self { stat };
        device.counters().during(&at)?;
        Ok(device)
    }

    /// Reads the counters.
    pub fn counters(&self) -> Result<DeviceCounters> {
        let at = self.stat.display().to_string();
        parse_device(&fs::read_to_string(&self.stat).during(&at)?).during(&at)
    }
}

/// `major:minor`, as the kernel names devices.
pub fn device_number(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

fn parse_device(text: &str) -> Result<DeviceCounters> {
    let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
    let (Some(&writes), Some(&sectors), Some(&flushes)) =
        (numbers.get(WRITES_AT), numbers.get(WRITE_SECTORS_AT), numbers.get(FLUSHES_AT))
    else {
        return failed("no flush counter; Linux 5.5 or newer is needed");
    };
    Ok(DeviceCounters { write_bytes: sectors * SECTOR_BYTES, writes, flushes })
}

/// CPU time of a process so far, user and system, over all threads, in microseconds. The kernel
/// counts in ticks of 10 ms.
pub fn cpu_micros_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).during(&path)?;
    // Only the name, which stands in parentheses, may hold spaces.
    let Some((_, fields)) = text.rsplit_once(") ") else {
        return failed(format!("{path} is not as expected"));
    };
    // Fields 14 and 15 of proc_pid_stat(5); the first one here is field 3.
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Ok(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// CPU time of this process so far, user and system, in microseconds.
pub fn own_cpu_micros() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec.cast_unsigned() * 1_000_000 + used.tv_nsec.cast_unsigned() / 1_000
}

/// Resident memory of a process in bytes.
pub fn resident_bytes_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).during(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    match kib {
        Some(kib) => Ok(kib * 1024),
        None => failed(format!("{path} has no VmRSS")),
    }
}

/// Bytes that a process has caused to be written to devices so far, proc_pid_io(5).
pub fn written_bytes_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).during(&path)?;
    let found = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    match found.and_then(|bytes| bytes.trim().parse().ok()) {
        Some(bytes) => Ok(bytes),
        None => failed(format!("{path} has no write_bytes")),
    }
}

/// Bytes that an unprivileged process can still write to the file system of a directory.
pub fn free_bytes_of(dir: &Path) -> Result<u64> {
    let what = format!("looking for room in {}", dir.display());
    let stat = rustix::fs::statvfs(dir).during(&what)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Sends a signal to a child of this process that has not been waited for.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let what = format!("signalling process {pid}");
    let pid = i32::try_from(pid).during(&what)?;
    let Some(pid) = Pid::from_raw(pid) else { return failed(format!("{what}: no such process")) };
    kill_process(pid, signal).during(&what)
}

/// An unused address on loopback.
pub fn free_address() -> Result<SocketAddr> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    free.during("looking for a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_counters_are_read_from_their_places() {
        let text = "1 2 3 4 500 6 70 8 9 10 11 12 13 14 15 160 17\n";
        let counters = parse_device(text).unwrap();
        let expected = DeviceCounters { write_bytes: 70 * 512, writes: 500, flushes: 160 };
        assert_eq!(counters, expected);
        assert!(parse_device("1 2 3").is_err());
    }

    #[test]
    fn own_cpu_time_is_that_of_the_process() {
        let own = own_cpu_micros();
        let of = cpu_micros_of(std::process::id()).unwrap();
        assert!(own.abs_diff(of) < 1_000_000, "{own} {of}");
        assert!(resident_bytes_of(std::process::id()).unwrap() > 100_000);
    }
}
