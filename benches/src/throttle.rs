//! A slow disk for one process: a control group with a limit of writes a second on the device under
//! the data directory. Needs root and the blkio controller of cgroup v1 or the io controller of v2.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{During, Failed, Result, failed};
use crate::system::device_number;

/// Mount points of the controllers.
const V1: &str = "/sys/fs/cgroup/blkio";
const V2: &str = "/sys/fs/cgroup";

/// A control group. When it is dropped, its members leave it and it is removed.
pub struct SlowDisk {
    dir: PathBuf,
    /// `major:minor`.
    device: String,
    is_v1: bool,
}

impl SlowDisk {
    /// Creates a group without a limit, for the device under `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let device = fs::metadata(path).during("looking for the device")?.dev();
        let device = device_number(device);
        let is_v1 = Path::new(V1).join("blkio.throttle.write_iops_device").exists();
        let root = Path::new(if is_v1 { V1 } else { V2 });
        if !is_v1 {
            let controllers = fs::read_to_string(root.join("cgroup.controllers"));
            if !controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == "io")) {
                return failed("there is no io controller for control groups");
            }
            let on = fs::write(root.join("cgroup.subtree_control"), "+io");
            on.during("turning the io controller on")?;
        }
        let dir = root.join(format!("walengine-bench-{}", std::process::id()));
        fs::create_dir(&dir).during("creating a control group")?;
        Ok(Self { dir, device, is_v1 })
    }

    /// Sets the limit; 0 removes it.
    pub fn limit(&self, writes_per_second: u64) -> Result<()> {
        let (file, line) = if self.is_v1 {
            let line = format!("{} {writes_per_second}", self.device);
            ("blkio.throttle.write_iops_device", line)
        } else if writes_per_second == 0 {
            ("io.max", format!("{} wiops=max", self.device))
        } else {
            ("io.max", format!("{} wiops={writes_per_second}", self.device))
        };
        fs::write(self.dir.join(file), line).during("limiting writes")
    }

    /// Adds a process with all its threads.
    pub fn add(&self, pid: u32) -> Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).during("limiting a process")
    }

    /// Runs `what` on a thread inside the group. Only cgroup v1 can move a single thread.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if !self.is_v1 {
            return failed("a single thread can't be moved");
        }
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let thread = rustix::thread::gettid().as_raw_nonzero();
                let moved = fs::write(self.dir.join("tasks"), thread.to_string());
                moved.during("limiting a thread")?;
                what()
            });
            inside.join().map_err(|_| Failed("a thread has panicked".into()))?
        })
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // The limit goes first: a thread in a slow write would keep the group busy.
        let _ = self.limit(0);
        let root = if self.is_v1 { V1 } else { V2 };
        let members = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(Path::new(root).join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
