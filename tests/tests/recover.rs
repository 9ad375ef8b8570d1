//! Does `walengine recover` go on with what is left, say what is not, and keep the old cluster out?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use walengine::storage::config::Votes;
use walengine::storage::ids::Ids;
use walengine::storage::layout::{Superblock, Tail};
use walengine::storage::partition_dir;
use walengine::storage::salvage::{End, Promises, Salvage};
use walengine::storage::verify::scan;
use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::entry::ChainHash;
use walengine_net::message::ReplicaRole;
use walengine_net::model::{ClusterId, Offset, PartitionId};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::moments::{DATA, Image, Moments, PARTITIONS};
use walengine_tests::server::{Launch, TestDir, run_command, text};
use walengine_tests::sim::{Order, Rng, SimExecutor};
use walengine_tests::trio::{Ledger, PARTITION, Trio, flip, wait_for};

const USAGE: i32 = 2;
const DATA_DIRECTORY: i32 = 5;
const LOCKED: i32 = 4;
const FINDINGS: i32 = 1;

fn recover(dir: &Path, arguments: &[&str]) -> Output {
    run_command(None, dir, &[&["recover"], arguments].concat())
}

fn digest(client: &Client) -> [u8; 32] {
    client.state_digest(PARTITION).unwrap().digest
}

/// Every file of a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_last_of_three_goes_on_alone_and_then_with_new_ones_and_old_ones_stay_out() {
    let mut trio = Trio::form("recover-last", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(30);
    let before = digest(&trio.client());
    let (left, others) = (0, [1, 2]);
    let new = trio.dir.path().join("new");
    let new = new.to_str().unwrap().to_owned();
    let (old, home) = (trio.data(left), trio.home(left));
    let old = old.to_str().unwrap();
    let peer = trio.peers[left].to_string();

    // It runs.
    let output = recover(&home, &[old]);
    assert_eq!(output.status.code(), Some(LOCKED), "{}", text(&output));
    trio.stop(left);
    // The others run: they are the cluster.
    let output = recover(&home, &[old, &new, "--peer-address", &peer, "--yes"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(FINDINGS), "{said}");
    assert!(said.contains("a majority of partition 0's voters could be there"), "{said}");
    for node in others {
        trio.kill(node);
    }

    let untouched = files(&trio.data(left));
    let output = recover(&home, &[old]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("does not answer") && said.contains("nothing was made"), "{said}");
    assert!(!said.contains("lost: entries"), "{said}");
    let output = recover(&home, &[old, "--yes"]);
    assert_eq!(output.status.code(), Some(USAGE), "{}", text(&output));
    let output = recover(&home, &[old, old, "--yes"]);
    assert_eq!(output.status.code(), Some(DATA_DIRECTORY), "{}", text(&output));
    let output = recover(&home, &[old, &new, "--peer-address", &peer, "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(untouched == files(&trio.data(left)), "the old directory was changed");

    // An old member that comes back with its directory stays out.
    let launch = |data: &str, node: usize| {
        fs::create_dir_all(trio.home(node)).unwrap();
        Launch::new(&trio.home(node))
            .data(Path::new(data))
            .set("--listen", &trio.clients[node].to_string())
            .set("--peer-listen", &trio.peers[node].to_string())
            .set("--join", &peer)
    };
    let first = launch(&new, left).serve();
    let client = first.client();
    assert_eq!(digest(&client), before);
    let stranger = launch(trio.data(1).to_str().unwrap(), 1).spawn();
    let told =
        || first.log().contains("another cluster") || stranger.log().contains("another cluster");
    wait_for("nobody says that it is of another cluster", told, || {
        format!("{}\n---\n{}", first.log(), stranger.log())
    });
    drop(stranger);
    let members = |client: &Client| {
        let replicas = client.cluster_status().unwrap().replicas;
        let voters = replicas.values().filter(|replica| replica.role == ReplicaRole::Voter);
        voters.count()
    };
    assert_eq!(members(&client), 1);

    // Emptied, they are members like any others; and whatever was acknowledged is where it was.
    let joined =
        others.map(|node| launch(trio.home(node).join("empty").to_str().unwrap(), node).spawn());
    wait_for(
        "they are not joined",
        || members(&client) == 3,
        || joined.iter().fold(first.log(), |logs, server| logs + "\n---\n" + &server.log()),
    );
    ledger.check(&trio);
    let config = Config::new(trio.clients[1].to_string());
    let follower = Client::connect(config).unwrap();
    let is_equal = || digest(&follower) == digest(&client);
    wait_for("the states differ", is_equal, || joined[0].log());
}

#[test]
fn a_damaged_log_is_recovered_up_to_its_damage_and_the_loss_is_told() {
    let dir = TestDir::new("recover-damaged");
    let mut server =
        Launch::new(dir.path()).set("--partitions", "1").set("--segment-mib", "8").serve();
    let client = server.client();
    let accounts = walengine_tests::noted_writes::accounts_of(PARTITION, 1);
    client.create_accounts(&accounts).unwrap();
    let mut writer = walengine_tests::noted_writes::Writer::new(5, &accounts);
    let mut digests = BTreeMap::new();
    for _ in 0..20 {
        let at = digest_at(&client);
        digests.insert(at.0, at.1);
        client.submit(PARTITION, &[writer.transfer().to_bytes()]).unwrap();
    }
    server.stop();
    let old = dir.path().join("data");
    let segment = old.join("p0000/segments/00000001.seg");
    // Somewhere in the middle of what was written.
    let bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    flip(&segment, end as u64 / 2);
    let output = recover(dir.path(), &["data", "new", "--yes"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("lost: entries ") && said.contains("it ends in 00000001.seg"), "{said}");
    let mut server = Launch::new(dir.path()).data(&dir.path().join("new")).serve();
    let (next, found) = digest_at(&server.client());
    assert_eq!(Some(&found), digests.get(&next), "the state at offset {next} is another");
    assert!(next > Offset(0) && Some(&next) < digests.keys().last(), "{next}");
    server.stop();
}

fn digest_at(client: &Client) -> (Offset, [u8; 32]) {
    let state = client.state_digest(PARTITION).unwrap();
    (state.next_offset, state.digest)
}

/// What can be read of one partition.
struct Read {
    chains: Vec<ChainHash>,
    tail: Tail,
    end: Option<End>,
    promises: Promises,
}

fn read(image: &Image, superblock: &Superblock, partition: PartitionId) -> Read {
    let disk = MemoryDisk::new(image.clone());
    let dir = partition_dir(Path::new(DATA), partition);
    let ids = Ids { cluster: superblock.cluster, partition };
    let segment_bytes = superblock.segment_bytes;
    let executor = SimExecutor::new(1, Order::Fifo);
    let read = async move {
        let mut salvage = Salvage::open(disk, &dir, ids, segment_bytes).await;
        let mut chains = Vec::new();
        while let Some((header, _)) = salvage.next().await {
            chains.push(header.chain);
        }
        let (tail, end) = (salvage.tail(), salvage.end().cloned());
        Read { chains, tail, end, promises: salvage.promises().clone() }
    };
    executor.block_on(read).expect("nothing is waited for")
}

/// One fault in one file: a flipped bit, a cut, or its loss.
fn harm(image: &mut Image, rng: &mut Rng) -> String {
    let files: Vec<_> =
        image.keys().filter(|path| path.to_string_lossy().contains("/p0")).cloned().collect();
    let path = files[rng.index(files.len())].clone();
    let bytes = image.get_mut(&path).unwrap();
    let at = rng.index(bytes.len().max(1));
    match rng.below(4) {
        0 => {
            image.remove(&path);
            format!("{} lost", path.display())
        }
        1 => {
            bytes.truncate(at);
            format!("{} cut at {at}", path.display())
        }
        _ if bytes.is_empty() => "nothing".to_owned(),
        _ => {
            // Most of a segment is zeros behind its end.
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |end| end + 1);
            let at = at % end;
            bytes[at] ^= 1 << rng.below(8);
            format!("{} flipped at {at}", path.display())
        }
    }
}

/// Whatever one fault does: what is read is what stood there before, and nothing is missing without a word.
#[test]
fn what_is_read_of_a_harmed_directory_is_the_beginning_of_its_log() {
    let mut rng = Rng::new(11);
    let (mut shorter, mut told) = (0, 0);
    for (seed, replicated) in [(1, false), (2, true)] {
        let moments = Moments::of(ClusterId(9), replicated, seed);
        for _ in 0..150 {
            let image = &moments.images[rng.index(moments.images.len())];
            let mut harmed = image.clone();
            let what = harm(&mut harmed, &mut rng);
            for partition in (0..PARTITIONS).map(PartitionId) {
                let dir = partition_dir(Path::new(DATA), partition);
                if !image.keys().any(|path| path.starts_with(&dir)) {
                    continue;
                }
                let whole = read(image, &moments.superblock, partition);
                let rest = read(&harmed, &moments.superblock, partition);
                assert!(whole.chains.starts_with(&rest.chains), "{what}");
                if rest.tail != whole.tail {
                    shorter += 1;
                    // Only what a power cut could have torn goes without a word.
                    let is_told = rest.tail.index < rest.promises.index()
                        || rest.end.is_some_and(|end| end.why.is_some());
                    assert!(is_told, "{what}: {:?} of {:?}", rest.tail, whole.tail);
                    told += 1;
                }
            }
        }
    }
    assert!(shorter > 50, "{shorter} of the faults cost entries");
    assert_eq!(told, shorter);
}

/// Without any harm it reads what the start reads.
#[test]
fn what_is_read_of_a_whole_directory_is_its_log() {
    for (seed, replicated) in [(3, false), (4, true)] {
        let moments = Moments::of(ClusterId(9), replicated, seed);
        for image in &moments.images {
            for partition in (0..PARTITIONS).map(PartitionId) {
                let dir = partition_dir(Path::new(DATA), partition);
                if !image.contains_key(&dir.join("hard-state")) {
                    continue;
                }
                let found = read(image, &moments.superblock, partition);
                let config = walengine::data_dir::log_config(&moments.superblock, partition);
                let config = walengine::storage::log::LogConfig { votes: Votes::Any, ..config };
                let disk = MemoryDisk::new(image.clone());
                let executor = SimExecutor::new(1, Order::Fifo);
                let scanned = executor.block_on(async move {
                    scan(disk, &dir, &config, Tail::default(), |_| {}).await.unwrap()
                });
                let report = scanned.expect("nothing is waited for");
                assert!(report.damage.is_empty(), "{:?}", report.damage);
                assert_eq!(found.tail, report.tail);
                let why = found.end.and_then(|end| end.why);
                assert_eq!(
                    why.is_some(),
                    report.torn_bytes > 0,
                    "{why:?} {:?} {report:?}",
                    found.promises
                );
            }
        }
    }
}
