//! What the server writes is its own user's alone, and its memory never gets into a core dump.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use walengine_tests::server::{Launch, TestDir};

use crate::kill::create_accounts;

#[test]
fn files_and_directories_are_private_whatever_the_umask() {
    for umask in ["000", "277"] {
        let dir = TestDir::new(&format!("private-{umask}"));
        let shell = format!("umask {umask}; exec \"$@\"");
        let launch = Launch::new(dir.path()).through(&["sh", "-c", &shell, "sh"]);
        let mut server = launch.serve();
        create_accounts(&server, 1);
        let limits = fs::read_to_string(format!("/proc/{}/limits", server.process_id())).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let numbers: Vec<_> = cores.split_whitespace().filter(|word| *word == "0").collect();
        assert_eq!(numbers.len(), 2, "{cores}");
        server.stop(); // takes a snapshot
        let mut files = 0;
        check(&dir.path().join("data"), &mut files);
        assert!(files >= 4, "superblock, lock, hard state, segments: {files}");
    }
}

fn check(path: &Path, files: &mut usize) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_dir() {
        assert_eq!(mode, 0o700, "{}", path.display());
        for entry in fs::read_dir(path).unwrap() {
            check(&entry.unwrap().path(), files);
        }
    } else {
        *files += 1;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn a_directory_that_does_not_survive_a_reboot_is_told_with_the_reason() {
    let dir = TestDir::new("tmpfs-warned");
    let data = Path::new("/dev/shm").join(format!("walengine-warned-{}", std::process::id()));
    let launch = Launch::new(dir.path()).data(&data);
    let mut server = launch.spawn();
    // An old kernel refuses direct I/O there, which says the same.
    let by = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !server.log().contains("tmpfs") {
        assert!(std::time::Instant::now() < by, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.kill();
    fs::remove_dir_all(&data).unwrap();
}
