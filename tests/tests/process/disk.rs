//! A full disk, a disk that can't be written, and what may lie in a data directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use walengine_net::frame::Kind;
use walengine_net::message::{ErrorCode, LookupAccounts, LookupAccountsReply, NO_OFFSET, Submit};
use walengine_net::model::PartitionId;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, TestDir, run_command};

use crate::kill::create_accounts;

const PATIENCE: Duration = Duration::from_mins(1);

/// The fault: the check of direct I/O at the start needs a block, and so did the first entry of a term
/// when the last segment was full.
#[test]
fn a_full_disk_restart_serves_reads_and_writes_again_when_there_is_room() {
    let dir = TestDir::new("full-restart");
    let disk = LoopDisk::new(dir.path(), 128);
    let launch = Launch::new(dir.path()).data(&disk.path().join("data")).set("--reserve-mib", "0");
    let accounts = accounts_of(PartitionId(0), 1);
    let mut writer = Writer::new(0x5eed_0014, &accounts);
    let mut server = launch.serve();
    create_accounts(&server, 1);
    // To the end of every segment that is prepared.
    let mut wire = server.wire(0);
    disk.fill(0);
    loop {
        let events: Vec<_> = (0..1000).map(|_| writer.transfer().to_bytes()).collect();
        match wire.call(&Submit { events: &events }).unwrap().error() {
            Some(ErrorCode::StorageFull) => break,
            None | Some(ErrorCode::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    for round in 0..3 {
        server.kill();
        server = launch.serve();
        let ids = [accounts[0].id.0];
        let mut wire = server.wire(0);
        let reply = wire.call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
        assert_eq!(reply.kind, Kind::LookupAccountsReply, "round {round}");
    }
    disk.make_room();
    let mut wire = server.wire(0);
    let by = Instant::now() + PATIENCE;
    loop {
        let events = [writer.transfer().to_bytes()];
        match wire.call(&Submit { events: &events }).unwrap().error() {
            None => break,
            error => assert!(Instant::now() < by, "{error:?}"),
        }
    }
    server.stop();
    let output = run_command(None, dir.path(), &["verify", launch_data(&disk).to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn launch_data(disk: &LoopDisk) -> PathBuf {
    disk.path().join("data")
}

#[test]
fn what_mkfs_and_a_killed_format_leave_is_nobody_elses() {
    let dir = TestDir::new("left-over");
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    for name in ["superblock.new", ".preflight-4711", "forming.new", "lock"] {
        fs::write(data.join(name), b"cut short").unwrap();
    }
    let mut server = Launch::new(dir.path()).serve();
    server.stop();
    assert!(!data.join(".preflight-4711").exists());
    fs::write(data.join(".preflight-4712"), b"").unwrap();
    Launch::new(dir.path()).serve().stop();
}

/// The fault: with a disk that hung, an orderly stop waited for ever and said nothing.
#[test]
fn a_stop_is_given_up_when_the_disk_does_not_answer() {
    let dir = TestDir::new("stuck-stop");
    let disk = LoopDisk::new(dir.path(), 96);
    let mut server = Launch::new(dir.path()).data(&disk.path().join("data")).serve();
    create_accounts(&server, 1);
    disk.hang();
    server.signal_term();
    let by = Instant::now() + PATIENCE;
    let given_up = "the stop is given up: the shards wait for the disk of";
    while !server.log().contains(given_up) && Instant::now() < by {
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = server.log();
    // The kernel lets no process go whose write hangs in it.
    disk.move_again();
    assert!(said.contains(given_up), "{said}");
    assert!(said.contains("its disk has not answered for"), "{said}");
    assert_eq!(server.wait().code(), Some(20), "{}", server.log());
    // Nothing was lost by it.
    let mut server = Launch::new(dir.path()).data(&disk.path().join("data")).serve();
    let ids = [accounts_of(PartitionId(0), 1)[0].id.0];
    let reply = server.wire(0).call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
    assert_eq!(reply.open::<LookupAccountsReply<'_>>().accounts.len(), 1);
    server.stop();
}

/// Every file and directory: its bytes, its size, its times but that of the last reading.
type Contents = BTreeMap<PathBuf, (Vec<u8>, u32, [i64; 4])>;

fn contents(path: &Path) -> Contents {
    let metadata = fs::symlink_metadata(path).unwrap();
    let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(path).unwrap() };
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let facts = (bytes, metadata.mode(), times);
    let mut found = BTreeMap::from([(path.to_owned(), facts)]);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(contents(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn verify_and_dump_change_not_one_byte() {
    let dir = TestDir::new("unchanged");
    let mut server = Launch::new(dir.path()).serve();
    create_accounts(&server, 1);
    server.kill(); // a tail that a start would mend
    let data = dir.path().join("data");
    fs::remove_file(data.join("lock")).unwrap();
    let before = contents(&data);
    let output = run_command(None, dir.path(), &["verify", "data"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["superblock", "p0000/hard-state", "p0000/segments/00000001.seg"] {
        let output = run_command(None, &data, &["dump", file]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(contents(&data), before);
}

/// The fault: `verify` wrote its number into the lock file, and opened every file for writing.
#[test]
fn verify_reads_a_copy_that_cant_be_written() {
    let dir = TestDir::new("read-only");
    let mut disk = LoopDisk::new(dir.path(), 96);
    let data = disk.path().join("data");
    let mut server = Launch::new(dir.path()).data(&data).serve();
    create_accounts(&server, 1);
    server.stop();
    let remount = |how: &str| {
        let path = disk.path().to_str().unwrap();
        let status = Command::new("mount").args(["-o", &format!("remount,{how}"), path]).status();
        assert!(status.unwrap().success());
    };
    remount("ro");
    let output = run_command(None, dir.path(), &["verify", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let output = run_command(None, &data, &["dump", "p0000/hard-state"]);
    assert_eq!(output.status.code(), Some(0));
    disk.unmount();
}
