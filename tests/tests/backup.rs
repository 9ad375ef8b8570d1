//! Does a backup of a running node or cluster restore to a prefix of its log, whatever cuts it short?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine::backup::inspect::Backup;
use walengine::backup::restore::{Made, Wanted, restore};
use walengine::backup::take::{Progress, Taken, Taking};
use walengine::fatal::Reason;
use walengine::ledger::{Draft, Ledger, LedgerTotals};
use walengine::partition::restore::apply;
use walengine::rewrite::cut;
use walengine_net::client::blocking::Client;
use walengine_net::client::{Config, ReadFrom};
use walengine_net::entry::{ChainHash, EntryHeader, EntryKind, EntryMeta};
use walengine_net::message::Entries;
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp, Token};
use walengine_tests::log_oracle::encode;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::nodes::{Nodes, PEER_PORT};
use walengine_tests::projector::EndsLoad;
use walengine_tests::server::{Launch, Server, TestDir, binary, run_command, text};
use walengine_tests::sim::Rng;

const PATIENCE: Duration = Duration::from_mins(1);
/// Backups of each kind, one behind the other.
const BACKUPS: usize = 25;
const SEGMENT_BYTES: u64 = 8 << 20;
const LOCKED: i32 = 4;
const DIRECTORY: i32 = 5;
const DAMAGED: i32 = 6;
const OTHER_LOG: i32 = 14;

/// Writes to all partitions until it is told to end.
fn load(config: &Config, seed: u64, ends: &AtomicBool) {
    let client = Client::connect(config.clone()).unwrap();
    let info = client.info().clone();
    let mut events: Vec<_> = info
        .partitions()
        .map(|partition| (partition, Mixed::new(seed, partition, info.partitions)))
        .collect();
    let mut rng = Rng::new(seed);
    for (partition, mixed) in &mut events {
        client.submit(*partition, &mixed.accounts()).unwrap();
    }
    while !ends.load(Ordering::Relaxed) {
        for (partition, mixed) in &mut events {
            let batch = mixed.batch(rng.between(1, 80) as usize);
            client.submit(*partition, &batch).unwrap();
        }
    }
}

/// What a log says of its states, read from the server: digest and chain hash at the end of each entry.
struct Source(Vec<BTreeMap<u64, ([u8; 32], ChainHash)>>);

impl Source {
    fn read(client: &Client, wanted: &[Vec<u64>]) -> Self {
        let info = client.info().clone();
        let leader = client.reading(ReadFrom::Linearizable);
        let mut states = Vec::new();
        for partition in info.partitions() {
            let wanted = &wanted[usize::from(partition.0)];
            let mut ledger = Ledger::new(partition, info.partitions);
            let mut ends = BTreeMap::from([(0, (ledger.digest(), ChainHash::default()))]);
            let mut next = Offset(0);
            loop {
                let page = leader.read_log(partition, next, 1 << 20, &[]).unwrap();
                if page.next_offset <= next {
                    break;
                }
                for entry in page.entries() {
                    let (header, body) = entry.unwrap();
                    if header.meta.records == 0 || header.next_offset() <= next {
                        continue;
                    }
                    apply(&mut ledger, &header, body).unwrap();
                    ledger.release(ledger.next_offset());
                    let end = header.next_offset().0;
                    if wanted.contains(&end) {
                        ends.insert(end, (ledger.digest(), header.chain));
                    }
                }
                next = page.next_offset;
            }
            states.push(ends);
        }
        Self(states)
    }

    /// The restored partitions are at states of this log.
    fn agrees(&self, made: &Made) {
        for one in &made.partitions {
            let end = one.log.end.next_offset.0;
            let state = self.0[usize::from(one.log.partition.0)].get(&end);
            let (digest, chain) =
                state.unwrap_or_else(|| panic!("offset {end} ends no entry of the log"));
            assert_eq!(*digest, one.log.digest, "{:?} at {end}", one.log.partition);
            assert!(end == 0 || *chain == one.log.source.chain, "{:?} at {end}", one.log.partition);
        }
    }
}

fn take(client: &Client, backup: &Path) -> Vec<Taken> {
    let mut newest = Progress::default();
    let mut taking = Taking {
        backup,
        client,
        any_node: false,
        patience: PATIENCE,
        interrupted: &AtomicBool::new(false),
        tell: &mut |progress| newest = progress,
    };
    let taken = taking.run(Timestamp(1)).unwrap();
    assert!(newest.records >= newest.wanted, "{newest:?}");
    taken
}

/// Verifies a backup, or a directory of data that nobody uses. A lock that this process has given back can be
/// held for a moment longer by a child that another test has begun and that is not yet another program.
fn verify(dir: &Path) -> Output {
    let by = Instant::now() + PATIENCE;
    loop {
        let output = Command::new(binary()).arg("verify").arg(dir).output().unwrap();
        if output.status.code() != Some(LOCKED) || Instant::now() >= by {
            return output;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Backups under load, each restored at once, and compared with the log afterwards.
fn backups_restore(dir: &Path, addresses: &str, wanted: &Wanted) -> Vec<Made> {
    let config = Config { deadline: PATIENCE, ..Config::new(addresses) };
    let client = Client::connect(config.clone()).unwrap();
    let (backup, ends) = (dir.join("backup"), AtomicBool::new(false));
    let mut restored = Vec::new();
    thread::scope(|scope| {
        let loading = scope.spawn(|| load(&config, 7, &ends));
        let ending = EndsLoad(&ends);
        let mut before = 0;
        for number in 0..BACKUPS {
            let by = Instant::now() + PATIENCE;
            while end_of(&client) <= before {
                assert!(Instant::now() < by, "the load stands still");
                thread::sleep(Duration::from_millis(5));
            }
            let acknowledged = end_of(&client);
            let taken = take(&client, &backup);
            before = taken[0].end.next_offset.0;
            assert!(before >= acknowledged, "backup {number} lacks what was acknowledged before");
            let data = dir.join(format!("restored-{number}"));
            let opened = Backup::open(&backup).unwrap();
            restored.push(restore(&opened, &data, wanted, |_, _| {}).unwrap());
            if number % 8 == 0 {
                let verified = verify(&data);
                assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
            }
            if number + 1 < BACKUPS {
                fs::remove_dir_all(&data).unwrap();
            }
        }
        drop(ending);
        loading.join().unwrap();
    });
    let partitions = usize::from(client.info().partitions);
    let mut offsets = vec![Vec::new(); partitions];
    for one in restored.iter().flat_map(|made| &made.partitions) {
        offsets[usize::from(one.log.partition.0)].push(one.log.end.next_offset.0);
    }
    let source = Source::read(&client, &offsets);
    for made in &restored {
        source.agrees(made);
    }
    let parts = fs::read_dir(backup.join("p0000")).unwrap().count();
    assert!(parts <= BACKUPS, "{parts} parts: every run adds one");
    restored
}

fn end_of(client: &Client) -> u64 {
    client
        .reading(ReadFrom::Linearizable)
        .read_log(PartitionId(0), Offset(0), 1, &[])
        .unwrap()
        .durable_offset
        .0
}

#[test]
fn backups_of_a_lone_node_under_load_restore_to_a_prefix_of_its_log() {
    let dir = TestDir::new("backup-alone");
    let launch = Launch::new(dir.path()).set("--partitions", "2").set("--snapshot-mib", "1");
    let mut server = launch.serve();
    let wanted = Wanted { segment_bytes: SEGMENT_BYTES, ..Wanted::default() };
    let made = backups_restore(dir.path(), &server.address().to_string(), &wanted);
    let cluster = server.client().info().cluster;
    server.stop();
    // The last one serves, and goes on, and is another cluster.
    let data = dir.path().join(format!("restored-{}", BACKUPS - 1));
    let last = made.last().unwrap();
    let server = Launch::new(dir.path()).data(&data).serve();
    let client = server.client();
    assert_ne!(client.info().cluster, cluster);
    assert_eq!(client.info().cluster, last.superblock.cluster);
    // Reservations whose time has come meanwhile expire at once.
    assert!(end_of(&client) >= last.partitions[0].log.end.next_offset.0);
    let token = Token { cluster, partition: PartitionId(0), offset: Offset(0) }.to_string();
    let asked = run_command(Some(&server), dir.path(), &["accounts", "--at", &token]);
    assert!(!asked.status.success(), "a token of the old cluster is taken: {}", text(&asked));
    let mut mixed = Mixed::new(99, PartitionId(0), 2);
    client.submit(PartitionId(0), &mixed.batch(50)).unwrap();
    assert!(end_of(&client) > last.partitions[0].log.end.next_offset.0);
}

#[test]
fn backups_of_a_cluster_under_load_restore_to_a_prefix_of_its_log() {
    let mut nodes = Nodes::start("backup-cluster", 3, |launch| launch);
    let dir = nodes.dir();
    let wanted = Wanted { segment_bytes: SEGMENT_BYTES, ..Wanted::default() };
    backups_restore(&dir, &nodes.addresses(), &wanted);
    // Two of three nodes are lost: what the last one has can still be saved.
    let backup = dir.join("rest");
    nodes.kill(0);
    nodes.kill(1);
    let address = nodes.address(2).to_string();
    let arguments = ["backup", "rest", "--server", &address, "--timeout", "3"];
    let refused = run_command(None, &dir, &arguments);
    assert!(!refused.status.success() && text(&refused).contains("--any-node"), "{refused:?}");
    let saved = run_command(None, &dir, &[&arguments[..], &["--any-node"]].concat());
    assert_eq!(saved.status.code(), Some(0), "{}", text(&saved));
    assert_eq!(verify(&backup).status.code(), Some(0));
}

/// A restored directory begins a new cluster, which a second node joins.
#[test]
fn a_restored_node_is_joined_by_others() {
    let dir = TestDir::new("backup-joined");
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    fill(&server.client(), 7, 20);
    let end = end_of(&server.client());
    backup(&server, dir.path(), &[]);
    server.stop();

    let key = dir.path().join("gossip.key"); // with it nobody has to admit the other one
    fs::write(&key, [0x5a; 32]).unwrap();
    let mut nodes = Nodes::prepare("backup-joining", 1, 1, |launch, network| {
        let join = format!("{}:{PEER_PORT}", network.address(0));
        launch.set("--join", &join).set("--key-file", key.to_str().unwrap())
    });
    let peer = format!("{}:{PEER_PORT}", nodes.network().address(0));
    let data = nodes.dir().join("node0/data");
    let data = data.to_str().unwrap();
    let restored = run(
        dir.path(),
        &["restore", "backup", data, "--peer-address", &peer, "--segment-mib", "8"],
    );
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored));
    nodes.spawn(0);
    nodes.wait_until_serving();
    nodes.spawn(1);
    nodes.server(1).wait_until_serving();
    let client = Client::connect(Config { deadline: PATIENCE, ..Config::new(nodes.addresses()) });
    let client = client.unwrap();
    assert_eq!(end_of(&client), end);
    fill(&client, 8, 5);
    let by = Instant::now() + PATIENCE;
    while nodes.view(0).is_none_or(|view| view.members.len() < 2) {
        assert!(Instant::now() < by, "it is not joined:\n{}", nodes.logs());
        thread::sleep(Duration::from_millis(20));
    }
    let ends = [0, 1].map(|node| {
        let one = Client::connect(Config::new(nodes.address(node).to_string())).unwrap();
        Source::read(&one, &[vec![end]]).0[0][&end]
    });
    assert_eq!(ends[0], ends[1]);
}

/// Writes batches of every kind of event to all partitions. The log ends with them, however long the test
/// takes.
fn fill(client: &Client, seed: u64, batches: usize) {
    for partition in client.info().partitions() {
        let mut mixed = Mixed::new(seed, partition, client.info().partitions).lasting();
        client.submit(partition, &mixed.accounts()).unwrap();
        for _ in 0..batches {
            client.submit(partition, &mixed.batch(40)).unwrap();
        }
    }
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    run_command(None, dir, arguments)
}

/// Takes a backup by the command.
fn backup(server: &Server, dir: &Path, more: &[&str]) -> String {
    let arguments = [&["backup", "backup"], more].concat();
    let taken = run_command(Some(server), dir, &arguments);
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken));
    text(&taken)
}

/// Every file of a backup but its manifest.
fn parts(backup: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(backup).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in fs::read_dir(path).unwrap() {
                let file = file.unwrap().path();
                files.insert(file.clone(), fs::read(&file).unwrap());
            }
        }
    }
    files
}

#[test]
fn what_was_backed_up_is_never_written_again() {
    let dir = TestDir::new("backup-incremental");
    let server = Launch::new(dir.path()).set("--partitions", "2").serve();
    fill(&server.client(), 7, 10);
    backup(&server, dir.path(), &[]);
    let place = dir.path().join("backup");
    let first = parts(&place);
    assert_eq!(first.len(), 2);
    // Nothing new: nothing is written.
    let said = backup(&server, dir.path(), &["--format", "json"]);
    assert!(said.contains(r#""new_records":"0""#), "{said}");
    assert_eq!(parts(&place), first);
    fill(&server.client(), 8, 10);
    backup(&server, dir.path(), &[]);
    let second = parts(&place);
    assert_eq!(second.len(), 4);
    assert!(first.iter().all(|(path, bytes)| second[path] == *bytes));
    let verified = verify(&place);
    assert_eq!(verified.status.code(), Some(0));
    assert!(text(&verified).contains("taken 3 times"), "{}", text(&verified));
}

/// A run that is killed at any moment leaves the earlier backup, and the next one goes on.
#[test]
fn a_killed_backup_is_continued() {
    let dir = TestDir::new("backup-killed");
    let server = Launch::new(dir.path()).set("--partitions", "2").serve();
    fill(&server.client(), 7, 10);
    backup(&server, dir.path(), &[]);
    let before = text(&run(dir.path(), &["restore", "backup", "first", "--segment-mib", "8"]));
    fill(&server.client(), 8, 150);
    let mut rng = Rng::new(3);
    for round in 0..8 {
        let mut child = Command::new(binary())
            .args(["backup", "backup", "--server", &server.address().to_string()])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(rng.below(40)));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(verify(&dir.path().join("backup")).status.code(), Some(0), "round {round}");
        let name = format!("round-{round}");
        let again = run(dir.path(), &["restore", "backup", &name, "--segment-mib", "8"]);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again));
        if !ended.success() {
            let state = |said: &str| {
                said.lines().filter(|line| line.contains(", state ")).map(str::to_owned).collect()
            };
            let (one, other): (Vec<String>, Vec<String>) = (state(&before), state(&text(&again)));
            // The last point may be in, although the process was killed behind it.
            assert!(
                one == other || verify_taken(&dir.path().join("backup")) > 1,
                "{one:?} {other:?}"
            );
        }
        fs::remove_dir_all(dir.path().join(&name)).unwrap();
    }
    backup(&server, dir.path(), &[]);
    let last = run(dir.path(), &["restore", "backup", "last", "--segment-mib", "8"]);
    let end = end_of(&server.client());
    assert!(text(&last).contains(&format!("partition 0: next offset {end},")), "{}", text(&last));
}

/// What a killed run has written counts as far as it is whole: a part that ends amid an entry, and one
/// that has its name already and that the manifest does not know.
#[test]
fn what_a_killed_backup_has_left_counts_up_to_its_last_whole_entry() {
    let dir = TestDir::new("backup-left");
    let server = Launch::new(dir.path()).set("--partitions", "2").serve();
    let (place, client) = (dir.path().join("backup"), server.client());
    fill(&client, 7, 10);
    backup(&server, dir.path(), &[]);
    let before = (parts(&place), fs::read(place.join("manifest")).unwrap());
    fill(&client, 8, 10);
    backup(&server, dir.path(), &[]);
    let whole = parts(&place);
    fs::write(place.join("manifest"), before.1).unwrap();
    let new: Vec<_> = whole.keys().filter(|path| !before.0.contains_key(*path)).collect();
    assert_eq!(new.len(), 2, "{new:?}");
    fs::remove_file(new[0]).unwrap();
    let torn = &whole[new[0]][..whole[new[0]].len() - 7];
    fs::write(new[0].with_extension("new"), torn).unwrap();
    assert_eq!(verify(&place).status.code(), Some(0), "the first run's is whole all the same");
    backup(&server, dir.path(), &[]);
    assert_eq!(parts(&place), whole);
    let verified = verify(&place);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    let restored = run(dir.path(), &["restore", "backup", "new", "--segment-mib", "8"]);
    let end = format!("partition 0: next offset {},", end_of(&client));
    assert!(text(&restored).contains(&end), "{}", text(&restored));
}

fn verify_taken(backup: &Path) -> usize {
    Backup::open(backup).unwrap().manifest.points.len()
}

#[test]
fn an_interrupted_backup_says_so_and_goes_on() {
    let dir = TestDir::new("backup-interrupted");
    let server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let client = server.client();
    fill(&client, 7, 20);
    let place = dir.path().join("backup");
    let interrupted = AtomicBool::new(false);
    let mut taking = Taking {
        backup: &place,
        client: &client,
        any_node: false,
        patience: PATIENCE,
        interrupted: &interrupted,
        tell: &mut |_| interrupted.store(true, Ordering::Relaxed),
    };
    let fatal = taking.run(Timestamp(1)).unwrap_err();
    assert_eq!(fatal.reason, Reason::Interrupted);
    assert!(fatal.message.contains("interrupted") && fatal.message.contains("again"), "{fatal}");
    // It never came to its end, and says so.
    let refused = run(dir.path(), &["restore", "backup", "new"]);
    assert_eq!(refused.status.code(), Some(DIRECTORY));
    assert!(text(&refused).contains("run `walengine backup` again"), "{}", text(&refused));
    assert!(!dir.path().join("new").exists());
    take(&client, &place);
    let restored = run(dir.path(), &["restore", "backup", "new", "--segment-mib", "8"]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored));
}

#[test]
fn mistakes_are_told_and_harm_nothing() {
    let dir = TestDir::new("backup-mistakes");
    let mut server = Launch::new(dir.path()).set("--partitions", "2").serve();
    fill(&server.client(), 7, 10);
    backup(&server, dir.path(), &[]);
    let other = TestDir::new("backup-mistakes-other");
    let mut foreign = Launch::new(other.path()).set("--partitions", "2").serve();
    let address = foreign.address().to_string();
    let place = dir.path().join("backup");
    let before = parts(&place);
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/notes"), b"mine").unwrap();
    let own = server.address().to_string();
    let says = |arguments: &[&str], code: i32, what: &str| {
        let output = run(dir.path(), arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(what), "{arguments:?}: {said}");
    };
    says(&["backup", "backup", "--server", &address], OTHER_LOG, "is a backup of cluster ");
    says(&["backup", "full", "--server", &own], 2, "notes");
    says(&["backup", "data", "--server", &own], 2, "is a data directory");
    says(&["backup", "backup", "--sever", &own], 2, "--server");
    says(&["backup", "new-backup", "--server", "127.0.0.1:1", "--timeout", "1"], 9, "127.0.0.1:1");
    assert!(!dir.path().join("new-backup").exists(), "nothing is made without a server");
    says(&["restore", "nowhere", "new"], DIRECTORY, "nowhere is not there");
    says(&["restore", "data", "new"], DIRECTORY, "holds no backup");
    says(&["restore", "backup", "full"], DIRECTORY, "notes");
    says(&["restore", "backup", "data"], DIRECTORY, "is not empty");
    says(&["restore", "backup", "new", "--to-offset", "7"], 2, "PARTITION:OFFSET");
    says(&["restore", "backup", "new", "--to-offset", "9:7"], 2, "no partition 9");
    says(&["restore", "backup", "new", "--to-offset", "0:99999999"], 2, "ends at offset");
    says(&["restore", "backup", "new", "--to-time", "yesterday"], 2, "1970");
    says(&["restore", "backup", "new", "--peer-address", "0.0.0.0:1"], 2, "reach");
    says(&["restore", "backup"], 2, "NEW_DIR");
    for command in ["backup", "restore"] {
        says(&[command, "--help"], 0, "Examples:");
    }
    assert!(!dir.path().join("new").exists(), "nothing is made of a mistake");
    assert_eq!(parts(&place), before);

    // The server is set back to an older copy: what is there is worth more.
    server.stop();
    foreign.stop();
    let set_back = dir.path().join("set-back");
    says(
        &["restore", "backup", set_back.to_str().unwrap(), "--segment-mib", "8"],
        0,
        "new cluster",
    );
    says(&["verify", "backup"], 0, "whole: a backup of cluster");

    // Damage, by file and byte; what is in front of it can be had.
    let part = before.keys().find(|path| path.to_string_lossy().contains("p0001")).unwrap();
    let mut bytes = before[part].clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(part, &bytes).unwrap();
    let name = part.file_name().unwrap().to_str().unwrap();
    says(&["verify", "backup"], DAMAGED, name);
    says(&["restore", "backup", "new"], DAMAGED, name);
    assert!(!dir.path().join("new").exists(), "nothing is made of damage");
    let said = text(&run(dir.path(), &["restore", "backup", "new"]));
    let to = said.split("--to-offset ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    says(&["restore", "backup", "new", "--to-offset", to, "--segment-mib", "8"], 0, "new cluster");
    fs::write(part, &bytes[..middle]).unwrap();
    says(&["restore", "backup", "other"], DAMAGED, name);
    // Whole entries, and too few of them: nothing but the manifest knows.
    let last = Entries::new(&before[part]).last().unwrap().unwrap().0.entry_bytes();
    fs::write(part, &before[part][..before[part].len() - last]).unwrap();
    says(&["verify", "backup"], DAMAGED, name);
    says(&["restore", "backup", "other"], DAMAGED, name);
    fs::remove_file(part).unwrap();
    says(&["restore", "backup", "other"], DAMAGED, "is missing");
    fs::write(place.join("manifest"), b"walengine").unwrap();
    says(&["restore", "backup", "other"], DAMAGED, "manifest");
    assert!(!dir.path().join("other").exists());
}

#[test]
fn two_at_once_do_not_mix() {
    let dir = TestDir::new("backup-two");
    let server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let client = server.client();
    fill(&client, 7, 10);
    let place = dir.path().join("backup");
    let arguments = ["backup", "backup"];
    let second = std::cell::RefCell::new(None);
    let mut taking = Taking {
        backup: &place,
        client: &client,
        any_node: false,
        patience: PATIENCE,
        interrupted: &AtomicBool::new(false),
        tell: &mut |_| {
            let again = || run_command(Some(&server), dir.path(), &arguments);
            second.borrow_mut().get_or_insert_with(again);
        },
    };
    taking.run(Timestamp(1)).unwrap();
    let second = second.into_inner().unwrap();
    assert_eq!(second.status.code(), Some(4), "{}", text(&second));
    assert!(text(&second).contains("under way"), "{}", text(&second));
    assert_eq!(verify(&place).status.code(), Some(0));
}

/// A restore that is killed leaves no data directory, and can be done again into the same place.
#[test]
fn a_killed_restore_is_no_data_directory_and_is_done_again() {
    let dir = TestDir::new("backup-restore-killed");
    let server = Launch::new(dir.path()).set("--partitions", "2").serve();
    fill(&server.client(), 7, 40);
    backup(&server, dir.path(), &[]);
    let arguments = ["restore", "backup", "new", "--segment-mib", "64"];
    let (new, mut killed) = (dir.path().join("new"), 0);
    for round in 0..6 {
        let mut child = Command::new(binary())
            .args(arguments)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let by = Instant::now() + PATIENCE;
        while !new.join("restoring").exists() && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < by);
        }
        thread::sleep(Duration::from_millis(round * 10));
        child.kill().unwrap();
        child.wait().unwrap();
        if new.join("superblock").exists() {
            break;
        }
        killed += 1;
        let refused = Launch::new(dir.path()).data(&new).fails();
        assert_eq!(refused.status.code(), Some(DIRECTORY), "{}", text(&refused));
        assert!(text(&refused).contains("run the same command again"), "{}", text(&refused));
    }
    assert!(killed > 0, "no restore was killed before its end");
    if !new.join("superblock").exists() {
        let again = run(dir.path(), &arguments);
        assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    }
    assert_eq!(verify(&new).status.code(), Some(0));
}

#[test]
fn a_full_disk_ends_backup_and_restore_with_what_to_do() {
    let dir = TestDir::new("backup-full");
    let server = Launch::new(dir.path()).set("--partitions", "1").serve();
    fill(&server.client(), 7, 200);
    backup(&server, dir.path(), &[]);
    let size = parts(&dir.path().join("backup")).values().map(Vec::len).sum::<usize>() as u64;
    let disk = LoopDisk::new(dir.path(), 64);
    let place = disk.path().join("backup");
    let there = place.to_str().unwrap();
    disk.fill(size / 2);
    let full = run_command(Some(&server), dir.path(), &["backup", there]);
    assert_eq!(full.status.code(), Some(11), "{}", text(&full));
    assert!(text(&full).contains("make room"), "{}", text(&full));
    let data = disk.path().join("data");
    let arguments = ["restore", "backup", data.to_str().unwrap(), "--segment-mib", "8"];
    let restored = run(dir.path(), &arguments);
    assert_eq!(restored.status.code(), Some(11), "{}", text(&restored));
    let said = text(&restored);
    assert!(said.contains("16 MiB at least are needed") && said.contains("make room"), "{said}");
    assert!(!data.exists(), "nothing was changed");
    disk.make_room();
    let taken = run_command(Some(&server), dir.path(), &["backup", there]);
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken));
    assert_eq!(verify(&place).status.code(), Some(0));
    let restored = run(dir.path(), &arguments);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored));
}

/// Up to any offset, the state is that of a ledger that was sent no more; up to any time likewise.
#[test]
fn the_first_records_of_an_entry_are_what_was_decided_of_them() {
    let partition = PartitionId(0);
    let mut mixed = Mixed::new(11, partition, 1);
    let mut source = Ledger::new(partition, 1);
    let mut restored = Ledger::new(partition, 1);
    let (mut index, mut inside, mut shortened) = (0, 0, 0);
    let mut chain = ChainHash::default();
    for round in 0..60 {
        let events = if round == 0 { mixed.accounts() } else { mixed.batch(30) };
        let mut draft = Draft::new();
        let now = Timestamp(source.last_timestamp().0 + 400_000_000);
        source.submit(&events, &mut draft, now, &mut Vec::new());
        source.release(source.next_offset());
        if draft.is_empty() {
            continue;
        }
        index += 1;
        let body = encode(&draft.body);
        let meta = EntryMeta {
            cluster: ClusterId(1),
            partition,
            kind: EntryKind::Events,
            term: 1,
            leader_node: 1,
            index,
            base_offset: draft.base_offset,
            records: draft.len() as u32,
            timestamp: draft.timestamp,
        };
        let header: EntryHeader = meta.encode(&body, 0, chain);
        chain = header.chain;
        if round % 5 == 0 && round > 0 {
            for records in 0..=meta.records {
                let to = meta.base_offset.0 + u64::from(records);
                let by_offset = cut::wanted(&header, &body, to, u64::MAX).unwrap();
                let by_time = match records.checked_sub(1) {
                    Some(last) => meta.timestamp.0 + u64::from(last),
                    None => meta.timestamp.0 - 1,
                };
                assert_eq!(cut::wanted(&header, &body, u64::MAX, by_time).unwrap(), by_offset);
                assert!(by_offset <= records);
                let linked = |at: u32| draft.body.events[at as usize][118] & 1 != 0;
                shortened += u32::from(by_offset < records);
                assert!(by_offset == records || linked(records - 1), "cut short without a chain");
                assert!(by_offset == 0 || !linked(by_offset - 1), "a chain is cut");
                let first = cut::first_records(EntryKind::Events, &body, by_offset).unwrap();
                let part = EntryMeta { records: by_offset, ..meta };
                let part = part.encode(&first, 0, ChainHash::default());
                let mut ledger = clone(&mut restored);
                if by_offset > 0 {
                    apply(&mut ledger, &part, &first).unwrap();
                    inside += 1;
                }
                assert_eq!(ledger.next_offset().0, meta.base_offset.0 + u64::from(by_offset));
                assert!(ledger.totals().values().all(LedgerTotals::balanced));
            }
        }
        apply(&mut restored, &header, &body).unwrap();
        restored.release(restored.next_offset());
        assert_eq!(restored.digest(), source.digest());
    }
    assert!(inside > 100 && shortened > 0, "{inside} cuts, {shortened} before a chain");
}

/// A ledger in the same state.
fn clone(ledger: &mut Ledger) -> Ledger {
    let mut cut = ledger.snapshot();
    let mut chunks = Vec::new();
    while let Some(chunk) = cut.next_chunk(ledger, 1 << 20) {
        chunks.push(chunk);
    }
    Ledger::restore(ledger.partition(), ledger.partitions(), chunks).unwrap()
}
