//! Is everything missed that a data directory promises and does not hold? A lone node once opened a
//! lost partition as a new, empty one, and forgot all its records and ids.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use walengine_net::message::Submit;
use walengine_net::model::PartitionId;
use walengine_tests::crash_witness::Witness;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir, binary};

use crate::kill::create_accounts;
use crate::upgrade::unpack;

const DATA_DIRECTORY: i32 = 5;
const DAMAGED: i32 = 6;

fn verify(data: &Path) -> Output {
    Command::new(binary()).arg("verify").arg(data).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a few records to each of two partitions.
fn write(server: &Server) {
    for partition in 0..2 {
        let accounts = accounts_of(PartitionId(partition), 2);
        let mut writer = Writer::new(7 + u64::from(partition), &accounts);
        let mut wire = server.wire(partition);
        let events: Vec<_> = (0..100).map(|_| writer.transfer().to_bytes()).collect();
        assert_eq!(wire.call(&Submit { events: &events }).unwrap().error(), None);
    }
}

/// Takes `lost` away, sees that start and `verify` name it and change nothing, and puts it back.
fn is_missed(launch: &Launch, data: &Path, lost: &str) {
    let (path, aside) = (data.join(lost), data.with_extension("aside"));
    fs::rename(&path, &aside).unwrap();
    for (what, output) in [("start", launch.fails()), ("verify", verify(data))] {
        let said = said(&output);
        assert_eq!(output.status.code(), Some(DAMAGED), "{what} without {lost}: {said}");
        assert!(said.contains(&path.display().to_string()), "{what} names {lost}: {said}");
        assert!(!path.exists(), "{what} made {lost} anew");
    }
    fs::rename(&aside, &path).unwrap();
}

#[test]
fn a_lone_node_misses_every_part_of_its_directory() {
    let dir = TestDir::new("missing");
    let launch = Launch::new(dir.path()).set("--partitions", "2");
    let data = dir.path().join("data");
    let mut server = launch.serve();
    let told = create_accounts(&server, 2);
    write(&server);
    server.stop();
    for partition in ["p0000", "p0001"] {
        is_missed(&launch, &data, partition);
        for lost in ["hard-state", "segments", "segments/00000001.seg"] {
            is_missed(&launch, &data, &format!("{partition}/{lost}"));
        }
    }
    let mut server = launch.serve();
    let mut witness = Witness::new(2);
    witness.check(&server, &told);
    witness.check_all(&server);
    server.stop();
}

/// Snapshots only save time: without them the log is replayed.
#[test]
fn lost_snapshots_lose_nothing() {
    let dir = TestDir::new("missing-snapshots");
    let launch = Launch::new(dir.path()).set("--partitions", "2");
    let mut server = launch.serve();
    let told = create_accounts(&server, 2);
    write(&server);
    server.stop();
    for partition in ["p0000", "p0001"] {
        fs::remove_dir_all(dir.path().join("data").join(partition).join("snapshots")).unwrap();
    }
    assert_eq!(verify(&dir.path().join("data")).status.code(), Some(0));
    let mut server = launch.serve();
    Witness::new(2).check(&server, &told);
    server.stop();
}

/// An earlier release created a lone node's partitions at its first start. Such a directory looks
/// like one that has lost all of them, so that a start leaves it alone.
#[test]
fn a_directory_that_was_formatted_and_never_served_is_finished_by_format_alone() {
    let dir = TestDir::new("never-served");
    let data = unpack("alone-0.1.tar.gz", dir.path());
    let launch = Launch::new(dir.path());
    for partition in ["p0000", "p0001", "p0002"] {
        fs::remove_dir_all(data.join(partition)).unwrap();
    }
    for output in [launch.fails(), verify(&data)] {
        assert_eq!(output.status.code(), Some(DATA_DIRECTORY), "{}", said(&output));
        assert!(said(&output).contains("walengine format"), "{}", said(&output));
    }
    assert!(!data.join("p0000").exists(), "a start makes nothing anew");
    let format = || Command::new(binary()).arg("format").arg("--data").arg(&data).output().unwrap();
    assert_eq!(format().status.code(), Some(0));
    assert_eq!(format().status.code(), Some(DATA_DIRECTORY), "it is formatted now");
    launch.serve().stop();
}
