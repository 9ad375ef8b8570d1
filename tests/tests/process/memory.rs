//! The process knows how much memory it may take. The fault: the kernel killed it at its limit, again at
//! every start, and `verify` too.

use std::fs;

use walengine_net::frame::Kind;
use walengine_net::message::{ErrorCode, LookupAccounts, NO_OFFSET, Submit};
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::accounts_of;
use walengine_tests::server::{Launch, Server, TestDir, run_command};
use walengine_tests::trio::wait_for;

const BATCH: usize = 8190;
/// Of accounts, which stay in memory; more than twice what fits.
const BATCHES_MAX: usize = 150;
const BUDGET_MIB: u64 = 128;
/// By so much the whole process may be larger than its budget: the pages of its program, which are the
/// file's.
const ALLOWANCE_MIB: u64 = 64;

const PARTS: [&str; 10] = [
    "memory_accounts_bytes",
    "memory_reservations_bytes",
    "memory_ids_newest_bytes",
    "memory_ids_filter_bytes",
    "memory_ids_fences_bytes",
    "memory_connections_bytes",
    "memory_peers_bytes",
    "memory_entries_bytes",
    "memory_log_writes_bytes",
    "memory_names_bytes",
];

/// The most memory that a process had at any time.
fn most_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn a_budget_that_is_too_small_for_the_cores_and_partitions_is_told_at_the_start() {
    let dir = TestDir::new("memory-least");
    let launch = Launch::new(dir.path()).set("--memory-mib", "64").set("--partitions", "16");
    let output = launch.fails();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("1 cores and 16 partitions takes"), "{said}");
    assert!(said.contains("set --memory-mib to") && said.trim().lines().count() == 1, "{said}");
    assert!(!dir.path().join("data/superblock").exists(), "nothing was made");
}

fn number(server: &Server, name: &str) -> u64 {
    let report = server.client().server_status(PartitionId(0)).unwrap();
    let found = report.numbers.into_iter().find(|(_, found, _)| found == name);
    found.unwrap_or_else(|| panic!("no {name}")).2
}

#[test]
fn writes_are_refused_before_memory_ends_and_what_does_not_fit_is_told() {
    let dir = TestDir::new("memory");
    let launch = Launch::new(dir.path()).set("--memory-mib", &BUDGET_MIB.to_string());
    let mut server = launch.serve();
    let mut account = accounts_of(PartitionId(0), 1)[0];
    let ids = [account.id.0];
    let mut wire = server.wire(0);
    let mut refused = None;
    for _ in 0..BATCHES_MAX {
        let mut next = || {
            let bytes = account.to_bytes();
            account.id.0 += 1;
            bytes
        };
        let events: Vec<_> = (0..BATCH).map(|_| next()).collect();
        refused = wire.call(&Submit { events: &events }).unwrap().error();
        if refused.is_some() && refused != Some(ErrorCode::Busy) {
            break;
        }
    }
    assert_eq!(refused, Some(ErrorCode::StorageFull), "{}", server.log());
    assert!(server.log().contains("of memory are left: writes are refused"), "{}", server.log());
    for words in ["--memory-mib", "Used by accounts", "the rest of the process"] {
        assert!(server.log().contains(words), "{words}: {}", server.log());
    }
    let budget = BUDGET_MIB << 20;
    assert_eq!(number(&server, "memory_budget_bytes"), budget);
    assert_eq!(number(&server, "memory_limit_bytes"), budget);
    // Each shard says now and then what it has.
    let agree = || number(&server, "accounts_bytes") == number(&server, "memory_accounts_bytes");
    wait_for("the shard's part is not the node's", agree, || server.log());
    let accounts = number(&server, "accounts");
    // 128, and 13 in the index, which is between four fifths and nearly full.
    let per_account = number(&server, "accounts_bytes") / accounts;
    assert!((141..180).contains(&per_account), "{per_account} bytes for each of {accounts}");
    let own = number(&server, "memory_of_process_bytes");
    let parts: u64 = PARTS.iter().map(|name| number(&server, name)).sum();
    assert!(parts <= own, "{parts} of {own}: something is counted twice");
    assert!(own < budget, "{own}");
    let most = most_mib(server.process_id());
    assert!(most < BUDGET_MIB + ALLOWANCE_MIB, "the process was as large as {most} MiB");
    let left = number(&server, "memory_left_bytes");
    assert!(left < 40 << 20, "{left}");
    assert!(left > 8 << 20, "it was refused before the end: {left}");
    assert!(number(&server, "refused_memory_since_start") >= 1);
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
