//! The process knows how much memory it may take. The fault: the kernel killed it at its limit, again at
//! every start, and `verify` too.

use std::fs;

use walengine_net::frame::Kind;
use walengine_net::message::{ErrorCode, LookupAccounts, NO_OFFSET, Submit};
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir, run_command};

use crate::kill::create_accounts;

const BATCH: usize = 8190;
/// Four times what fits.
const BATCHES_MAX: usize = 1000;

fn number(server: &Server, name: &str) -> u64 {
    let report = server.client().server_status(PartitionId(0)).unwrap();
    let found = report.numbers.into_iter().find(|(_, found, _)| found == name);
    found.unwrap_or_else(|| panic!("no {name}")).2
}

#[test]
fn writes_are_refused_before_memory_ends_and_what_does_not_fit_is_told() {
    let dir = TestDir::new("memory");
    let launch = Launch::new(dir.path()).set("--memory-mib", "128");
    let mut server = launch.serve();
    create_accounts(&server, 1);
    let accounts = accounts_of(PartitionId(0), 1);
    let mut writer = Writer::new(0x5eed_0013, &accounts);
    let mut wire = server.wire(0);
    let mut refused = None;
    for _ in 0..BATCHES_MAX {
        let events: Vec<_> = (0..BATCH).map(|_| writer.transfer().to_bytes()).collect();
        refused = wire.call(&Submit { events: &events }).unwrap().error();
        if refused.is_some() && refused != Some(ErrorCode::Busy) {
            break;
        }
    }
    assert_eq!(refused, Some(ErrorCode::StorageFull), "{}", server.log());
    assert!(server.log().contains("of memory are left: writes are refused"), "{}", server.log());
    assert_eq!(number(&server, "memory_limit_bytes"), 128 << 20);
    let left = number(&server, "memory_left_bytes");
    assert!(left < 40 << 20, "{left}");
    assert!(left > 8 << 20, "it was refused before the end: {left}");
    assert!(number(&server, "refused_memory_since_start") >= 1);
    let ids = [accounts[0].id.0];
    let reply = wire.call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
    assert_eq!(reply.kind, Kind::LookupAccountsReply, "reads go on");
    server.stop();

    let mut server = launch.serve();
    let reply = server.wire(0).call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
    assert_eq!(reply.kind, Kind::LookupAccountsReply, "a restart serves reads");
    server.stop();

    let output = Launch::new(dir.path()).set("--memory-mib", "64").fails();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{said}");
    assert!(said.contains("do not fit in memory") && said.contains("--memory-mib"), "{said}");
    assert!(said.contains("MiB at least"), "the snapshot says it before it is loaded: {said}");
    let verify = |mib| run_command(None, dir.path(), &["verify", "data", "--memory-mib", mib]);
    let output = verify("64");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{said}");
    assert_eq!(verify("1024").status.code(), Some(0), "{said}");

    // Nothing says beforehand how much a log without a snapshot comes to.
    for snapshot in fs::read_dir(dir.path().join("data/p0000/snapshots")).unwrap() {
        fs::remove_file(snapshot.unwrap().path()).unwrap();
    }
    let output = Launch::new(dir.path()).set("--memory-mib", "64").fails();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{said}");
}
