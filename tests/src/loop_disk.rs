//! A file system for one test: ext4 in an image file, mounted through a loop device. Its power can
//! be cut, and it can be filled. Needs root; unmounted when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Finding a free loop device and taking it are two steps.
static MOUNTING: Mutex<()> = Mutex::new(());

/// A mounted ext4.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    /// A mount of its own around the file system's, which tells other mount namespaces when that is
    /// unmounted. Without it, nodes that another test runs in a network namespace would keep the file
    /// system mounted that was there when they started: after a power cut it could not be mounted afresh.
    shared: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

impl LoopDisk {
    /// Makes the image in `dir` and mounts it there.
    ///
    /// # Panics
    /// Without root or one of the tools; the message says what to do.
    pub fn new(dir: &Path, mib: u64) -> Self {
        for (tool, package) in
            [("mkfs.ext4", "e2fsprogs"), ("mount", "mount"), ("xfs_io", "xfsprogs")]
        {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
            assert!(
                found.is_ok_and(|found| found.status.success()),
                "{tool} is missing: apt-get install {package}"
            );
        }
        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        assert_eq!(user, b"0\n", "mounting needs root: run the tests as root, or --skip them");
        let (image, shared) = (dir.join("disk.img"), dir.join("disk"));
        let mount = shared.join("ext4");
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", path(&image)]);
        run("mount", &["--bind", path(&shared), path(&shared)]);
        let mut disk = Self { image, shared, mount, is_mounted: false };
        run("mount", &["--make-shared", path(&disk.shared)]);
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it, again.
    ///
    /// # Panics
    /// If it can't be mounted.
    pub fn mount(&mut self) {
        let _one_at_a_time = MOUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        run("mount", &["-o", "loop", path(&self.image), path(&self.mount)]);
        self.is_mounted = true;
    }

    /// From now on nothing reaches the disk, not even what the file system holds in memory.
    ///
    /// # Panics
    /// If `xfs_io` can't do it.
    pub fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", path(&self.mount)]);
    }

    /// Unmounts it; nobody may use it any more.
    ///
    /// # Panics
    /// If somebody does.
    pub fn unmount(&mut self) {
        run("umount", &[path(&self.mount)]);
        self.is_mounted = false;
    }

    /// From now on writes do not come back, as from a disk whose controller hangs, until
    /// [`LoopDisk::move_again`].
    ///
    /// # Panics
    /// If `fsfreeze` can't do it.
    pub fn hang(&self) {
        run("fsfreeze", &["-f", path(&self.mount)]);
    }

    /// What hung goes on.
    ///
    /// # Panics
    /// If `fsfreeze` can't do it.
    pub fn move_again(&self) {
        run("fsfreeze", &["-u", path(&self.mount)]);
    }

    /// The same, if it hangs.
    pub fn try_to_move_again(&self) -> bool {
        let output = Command::new("fsfreeze").args(["-u", path(&self.mount)]).output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Takes all room but `left_bytes`, until [`LoopDisk::make_room`].
    ///
    /// # Panics
    /// If the file can't be made for another reason than lack of room.
    pub fn fill(&self, left_bytes: u64) {
        let free = walengine::os::free_bytes(&self.mount).unwrap();
        let take = free.saturating_sub(left_bytes).to_string();
        let filler = self.mount.join("filler");
        if left_bytes > 0 {
            run("fallocate", &["-l", &take, path(&filler)]);
        } else {
            // To the last block, however much others take meanwhile.
            let filler = format!("of={}", path(&filler));
            let _ = Command::new("dd").args(["if=/dev/zero", &filler, "bs=1M"]).output();
            // The file system keeps a few blocks from what is written by way of the cache.
            let last = ["if=/dev/zero", &filler, "bs=4k", "oflag=append,direct", "conv=notrunc"];
            let _ = Command::new("dd").args(last).output();
        }
    }

    /// Gives back what [`LoopDisk::fill`] took.
    ///
    /// # Panics
    /// If the file can't be removed.
    pub fn make_room(&self) {
        std::fs::remove_file(self.mount.join("filler")).unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = self.try_to_move_again();
        if self.is_mounted {
            // After a failed test something may still use it: detach it then.
            let _ = Command::new("umount").args(["-l", path(&self.mount)]).status();
        }
        let _ = Command::new("umount").args(["-l", path(&self.shared)]).status();
        let _ = std::fs::remove_file(&self.image);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}
