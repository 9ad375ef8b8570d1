//! The log has its descriptors, whoever connects. The faults: 1,024 silent connections took them all,
//! "preparing the next segment" failed, and the partition was stopped for good.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use walengine_net::message::Submit;
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, TestDir};

use crate::kill::create_accounts;

const PATIENCE: Duration = Duration::from_mins(1);
const BATCH: usize = 8190;
/// A batch has more than a megabyte: four segments of 8 MiB.
const BATCHES: usize = 32;

#[test]
fn silent_connections_leave_the_log_what_it_needs() {
    let dir = TestDir::new("descriptors");
    let launch = Launch::new(dir.path()).through(&["prlimit", "--nofile=256:256"]);
    let mut server = launch.serve();
    assert!(server.log().contains("only 256 files may be open"), "{}", server.log());
    create_accounts(&server, 1);
    let mut wire = server.wire(0);
    // The test's own limit is larger than the server's.
    let silent: Vec<_> =
        (0..1024).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
    assert!(silent.len() >= 512, "{} connected", silent.len());
    let mut writer = Writer::new(0x5eed_0012, &accounts_of(PartitionId(0), 1));
    let by = Instant::now() + PATIENCE;
    let mut written = 0;
    while written < BATCHES {
        let events: Vec<_> = (0..BATCH).map(|_| writer.transfer().to_bytes()).collect();
        let reply = wire.call(&Submit { events: &events }).unwrap();
        written += usize::from(reply.error().is_none());
        assert!(Instant::now() < by, "{written} batches written: {:?}", reply.error());
    }
    let log = server.log();
    let told = log.lines().filter(|line| line.contains("cannot accept")).count();
    assert!(told <= 3, "it does not say so for each attempt: {told}");
    assert!(!log.contains("can't be prepared"), "descriptors were left for segments: {log}");
    drop(silent);
    server.stop();
}
