//! Does a replica whose history differs from the others' stop serving, and only that one?

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::entry::{EntryHeader, EntryKind, HEADER_BYTES, decode_entry};
use walengine_net::message::{ErrorCode, Freshness, LookupAccounts};
use walengine_net::model::{EVENT_BYTES, Offset, PartitionId, Transfer, event_id};
use walengine_tests::nodes::Nodes;
use walengine_tests::noted_writes::{Writer, accounts_of};

const PATIENCE: Duration = Duration::from_mins(1);
/// Entries of a cluster's node begin on these.
const BLOCK_BYTES: usize = 4096;

/// An entry on disk.
struct Found {
    file: PathBuf,
    at: usize,
    header: EntryHeader,
    body: Vec<u8>,
}

/// Every entry in the files below `dir`, in order of index.
fn entries_below(dir: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for file in fs::read_dir(dir).unwrap() {
            let file = file.unwrap().path();
            if file.is_dir() {
                dirs.push(file);
                continue;
            }
            let bytes = fs::read(&file).unwrap();
            for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
                if let Ok((header, body)) = decode_entry(&bytes[at..]) {
                    found.push(Found { file: file.clone(), at, header, body: body.to_vec() });
                }
            }
        }
    }
    found.sort_by_key(|entry| entry.header.meta.index);
    found
}

/// Changes something in the newest entry that no replay can derive, and recomputes checksum and
/// chain hash: only comparing with the others finds it.
fn forge(dir: &Path, id: u128) {
    let mut entries = entries_below(dir);
    let mut last = entries.pop().unwrap();
    let before = entries.pop().unwrap();
    assert_eq!(last.header.meta.kind, EntryKind::Events, "{:?}", last.header);
    assert_eq!(before.header.meta.index + 1, last.header.meta.index);
    let at = last.body.windows(16).position(|bytes| bytes == id.to_le_bytes()).unwrap();
    let cell = &mut last.body[at..at + EVENT_BYTES];
    let mut transfer = Transfer::from_bytes((&*cell).try_into().unwrap());
    transfer.user_data_64 ^= 1;
    cell.copy_from_slice(&transfer.to_bytes());
    let durable_index = last.header.durable_index;
    let same = last.header.meta.encode(&last.body, durable_index, before.header.chain);
    assert_ne!(same.chain, last.header.chain, "it is another entry now");
    let file = OpenOptions::new().write(true).open(&last.file).unwrap();
    let bytes = [&same.to_bytes()[..], &last.body].concat();
    assert_eq!(bytes.len(), HEADER_BYTES + last.body.len());
    file.write_all_at(&bytes, last.at as u64).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_replica_with_another_history_stops_and_leaves_the_others_unharmed() {
    let mut nodes = Nodes::start("divergence", 3, |launch| launch);
    let config = Config { deadline: PATIENCE, ..Config::new(nodes.addresses()) };
    let client = Client::connect(config).unwrap();
    let accounts = accounts_of(PartitionId(0), 1);
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let mut writer = Writer::new(11, &accounts);
    let mut write = |count: usize| {
        let mut last = (0, Offset(0));
        for _ in 0..count {
            let transfer = writer.transfer().to_bytes();
            let submitted = client.submit(PartitionId(0), &[transfer]).unwrap();
            let offset = submitted.outcomes().find_map(|outcome| outcome.offset);
            last = (event_id(&transfer), offset.expect("it is well-formed"));
        }
        last
    };
    let (last, offset) = write(50);
    let other = (nodes.leader() + 1) % 3;
    let ids = [accounts[0].id.0];
    let look = |freshness: Freshness| LookupAccounts { at_least: freshness.number(), ids: &ids };
    let reply = nodes.wire(other).call(&look(Freshness::AtLeast(offset))).unwrap();
    assert_eq!(reply.error(), None, "it has everything before it goes");
    nodes.server(other).stop();
    forge(&nodes.dir().join(format!("node{other}/data")), last);
    nodes.spawn(other);
    nodes.server(other).wait_until_serving();
    write(50);
    let by = Instant::now() + PATIENCE;
    while !nodes.log(other).contains("has another chain hash here than on 2 of 3 voters") {
        assert!(Instant::now() < by, "nobody noticed:\n{}", nodes.logs());
        write(1);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(nodes.log(other).contains("from offset "), "{}", nodes.log(other));
    let reply = nodes.wire(other).call(&look(Freshness::Any)).unwrap();
    assert_eq!(reply.error(), Some(ErrorCode::Stopped));
    // The two others go on.
    write(50);
    for node in (0..3).filter(|node| *node != other) {
        assert!(!nodes.log(node).contains("it stops serving"), "{}", nodes.log(node));
    }
}
