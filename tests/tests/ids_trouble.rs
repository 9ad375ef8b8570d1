//! What becomes of runs of ids, and of the memory that they spare, when the disk is full or fails, or the power
//! did in the middle?

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine::audit::Audit;
use walengine::ids::MergeSizes;
use walengine::ids::key::{Key, Space};
use walengine::ledger::{Fact, Ledger};
use walengine::partition::mending::Mender;
use walengine::partition::older_ids::Wanted;
use walengine::partition::replica_id::ReplicaId;
use walengine::partition::{Partition, opening, snapshots};
use walengine::runtime::Runtime as _;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::model::{AccountId, Amount, Code, EventId, LedgerId, Transfer};
use walengine_tests::lone_partition::{
    CLUSTER, DATA, LoneCommit, NODE, PARTITION, start_on, superblock,
};
use walengine_tests::mixed_events::Mixed;
use walengine_tests::sim::{Effect, Order, SimDisk, SimExecutor, SimRuntime, Stopped};

const RECENT_KEYS_MAX: usize = 60;
const MERGE_SIZES: MergeSizes = MergeSizes { group_runs: 3, small_entries: 50 };
const RUNS: &str = "/ids";
/// Everything that is due is done by then.
const A_WHILE: Duration = Duration::from_secs(1);

type SimPartition = Partition<LoneCommit<SimDisk>>;

/// A machine with a partition on it.
struct Machine {
    executor: SimExecutor,
    runtime: SimRuntime,
    disk: SimDisk,
    partition: SimPartition,
    next_id: u128,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let executor = SimExecutor::new(seed, Order::Random);
        let runtime = executor.runtime();
        let disk = SimDisk::new(&runtime, seed);
        let (partition, _) = start_on(&executor, &runtime, &disk, Audit::default());
        partition.older_ids().set_recent_max(RECENT_KEYS_MAX);
        partition.runs().set_merge_sizes(MERGE_SIZES);
        let mut machine = Self { executor, runtime, disk, partition, next_id: 1 << 70 };
        let accounts = Mixed::new(1, PARTITION, 1).accounts();
        machine.submit(&accounts);
        machine
    }

    /// Starts it on this disk.
    fn start(executor: SimExecutor, disk: SimDisk) -> (Self, usize) {
        let runtime = executor.runtime();
        let started = executor.block_on(async {
            let superblock = superblock();
            let (data, disk) = (Path::new(DATA), disk.clone());
            let opening = opening::open(disk, runtime.clone(), data, &superblock, PARTITION, 4);
            let mut opened = opening.await?;
            opened.recent_keys_max = RECENT_KEYS_MAX;
            opened.restored.runs.set_merge_sizes(MERGE_SIZES);
            let skipped = opened.restored.skipped.len();
            Ok::<_, walengine::fatal::Fatal>((opened.serve_alone().await?, skipped))
        });
        let (partition, skipped) =
            started.expect("a healthy machine").unwrap_or_else(|fatal| panic!("no start: {fatal}"));
        (Self { executor, runtime, disk, partition, next_id: 1 << 80 }, skipped)
    }

    fn submit(&mut self, events: &[walengine_net::model::EventBytes]) {
        let mut outcomes = Vec::new();
        self.partition
            .submit(events, &mut outcomes)
            .expect("nothing is looked up, and there is room");
        assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok()), "{outcomes:?}");
    }

    fn transfers(&mut self, count: u128) {
        let account = |number: u128| AccountId(1 << 96 | number);
        let transfer = |id: u128| Transfer {
            id: EventId(id),
            debit_account_id: account(1),
            credit_account_id: account(2),
            amount: Amount(5),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        };
        let ids = self.next_id..self.next_id + count;
        self.next_id += count;
        let events: Vec<_> = ids.map(|id| transfer(id).to_bytes()).collect();
        self.submit(&events);
    }

    /// Sends transfers with pauses, in which runs are written and merged.
    fn work(&mut self, batches: u64) -> Result<(), Stopped> {
        for _ in 0..batches {
            self.transfers(40);
            self.wait(Duration::from_millis(60))?;
        }
        Ok(())
    }

    fn wait(&self, time: Duration) -> Result<(), Stopped> {
        self.executor.block_on(self.runtime.sleep(time))
    }

    fn recent(&self) -> usize {
        self.partition.with_ledger(Ledger::recent_len)
    }

    /// Names of all files of runs, finished or not.
    fn files(&self) -> BTreeSet<String> {
        files(&self.disk)
    }

    /// Names of the files of the runs that count.
    fn runs(&self) -> BTreeSet<String> {
        let list = self.partition.runs().list().into_iter();
        list.map(|run| format!("{:016x}-{:016x}.run", run.first, run.end)).collect()
    }

    fn snapshot(&self) {
        let written = self.executor.block_on(async {
            let dir = walengine::storage::partition_dir(Path::new(DATA), PARTITION);
            let store = SnapshotStore::open(self.disk.clone(), &dir).await.expect("a healthy disk");
            snapshots::take(&self.partition, &store).await
        });
        assert!(written.expect("it is on").expect("a healthy disk").is_some());
    }
}

fn files(disk: &SimDisk) -> BTreeSet<String> {
    let paths = disk.image().into_iter().map(|(path, _)| path);
    let paths = paths.filter(|path| path.to_string_lossy().contains(RUNS));
    paths.filter_map(|path: PathBuf| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// The fault: a merge that a power cut had ended kept its space until the next snapshot, and on a full disk
/// there is none.
#[test]
fn what_a_power_cut_has_left_of_runs_is_removed_at_the_start() {
    let mut left = 0;
    for nth in 1..=60 {
        let mut machine = Machine::new(nth);
        machine.disk.crash_at_path(RUNS, nth * 5);
        assert!(machine.work(60).is_err(), "the power fails");
        let executor = SimExecutor::new(nth, Order::Random);
        let disk = machine.disk.crash(&executor.runtime(), nth);
        let found = files(&disk);
        let (machine, _) = Machine::start(executor, disk);
        left += found.difference(&machine.runs()).count();
        machine.partition.set_full(true);
        machine.wait(A_WHILE).expect("it is on");
        assert_eq!(machine.files(), machine.runs(), "cut at {nth}");
    }
    assert!(left > 60, "{left} files were left");
}

/// The fault: what was merged went only with the next snapshot, and a full disk takes none.
#[test]
fn what_was_merged_goes_while_the_disk_is_full() {
    let mut machine = Machine::new(1);
    machine.work(30).expect("it is on");
    let (files, runs) = (machine.files(), machine.runs());
    assert!(files.len() > runs.len() + 10, "{files:?}");
    machine.snapshot();
    machine.work(10).expect("it is on");
    let named = machine.partition.runs().named().all().expect("a whole snapshot");
    machine.partition.set_full(true);
    machine.wait(A_WHILE).expect("it is on");
    let mut needed = machine.runs();
    needed.extend(named.iter().map(|run| format!("{:016x}-{:016x}.run", run.first, run.end)));
    assert_eq!(machine.files(), needed);
    // A disk that stays full is looked at again.
    machine
        .disk
        .install(Path::new("/data/p0000/ids/0000000000000001-0000000000000002.run"), vec![0; 4096]);
    machine.wait(Duration::from_secs(11)).expect("it is on");
    assert_eq!(machine.files(), needed);
}

/// The fault: as long as the disk was nearly full, a follower, which takes what its leader sends, kept the ids
/// of all of that in memory.
#[test]
fn ids_go_from_memory_to_disk_while_it_is_nearly_full() {
    let mut machine = Machine::new(1);
    machine.transfers(1000);
    machine.partition.set_full(true);
    assert!(machine.recent() > 1000);
    machine.wait(A_WHILE).expect("it is on");
    assert!(machine.recent() < RECENT_KEYS_MAX, "{} keys in memory", machine.recent());
}

/// The faults: each snapshot had more ids to write than the one before, and kept them from going into runs for longer;
/// and a stop waited ten seconds for what had ended with it.
#[test]
fn a_snapshot_begins_when_ids_are_few_and_a_stop_does_not_wait_for_that() {
    let mut machine = Machine::new(1);
    machine.transfers(1000);
    machine.snapshot();
    let named = machine.partition.runs().named().all().expect("a whole snapshot");
    assert!(!named.is_empty(), "the ids were in memory when it began");
    machine.transfers(1000);
    machine.partition.stop_taking();
    let in_time = machine.runtime.elapsed() + A_WHILE;
    machine.snapshot();
    assert!(machine.runtime.elapsed() < in_time, "the stop waited for it");
}

/// The fault: of 300 million ids that ascended, 103 million were in memory, for deciding was faster than what takes them
/// to disk.
#[test]
fn writes_wait_while_too_many_ids_are_in_memory_and_go_on_once_some_have_left() {
    let mut machine = Machine::new(1);
    machine.partition.older_ids().set_recent_most(500);
    machine.transfers(1000);
    assert!(!machine.partition.is_busy(), "none of them is committed yet, so none can leave");
    machine.wait(Duration::from_millis(10)).expect("it is on");
    assert!(machine.recent() > 1000 && machine.partition.is_busy());
    machine.wait(A_WHILE).expect("it is on");
    assert!(machine.recent() < 500 && !machine.partition.is_busy());
    machine.transfers(1000);
}

/// The fault: one read of a run that failed ended the process.
#[test]
fn a_run_that_can_not_be_read_at_the_start_ends_nothing_and_stays() {
    let mut machine = Machine::new(1);
    for _ in 0..2 {
        machine.work(10).expect("it is on");
        machine.snapshot();
    }
    // So that the start reads the runs.
    let distrusted = machine.executor.block_on(machine.partition.older_ids().distrust_runs());
    distrusted.expect("it is on").expect("a healthy disk");
    let files = machine.files();
    let mut passed_over = 0;
    for nth in 1.. {
        let executor = SimExecutor::new(nth, Order::Random);
        let disk = machine.disk.copy(&executor.runtime());
        disk.plan_at_path(RUNS, nth, Effect::Eio);
        let (sick, skipped) = Machine::start(executor, disk);
        passed_over += skipped;
        if sick.disk.failed().is_empty() {
            break; // it does less than that
        }
        sick.wait(A_WHILE).expect("it is on");
        assert!(sick.files().is_superset(&files), "the {nth}th operation failed");
        let executor = SimExecutor::new(nth, Order::Random);
        let disk = sick.disk.copy(&executor.runtime());
        let (well, skipped) = Machine::start(executor, disk);
        assert_eq!(skipped, 0, "after the {nth}th operation had failed");
        let digest = |machine: &Machine| machine.partition.with_ledger(Ledger::digest);
        assert_eq!(digest(&well), digest(&machine));
    }
    assert!(passed_over > 5, "{passed_over} snapshots passed over");
}

const ID: ReplicaId = ReplicaId { cluster: CLUSTER, partition: PARTITION, node: NODE };
/// An id that is in a run by then.
const OLD: u128 = (1 << 70) + 7;

impl Machine {
    /// Flips a bit of each file whose path has this part, at each place where these bytes are. Gives how many.
    fn flip(&self, part: &str, what: &[u8]) -> usize {
        flip(&self.disk, part, what)
    }

    /// What a replica hears that looks an old id up, and gives up after this time if one is given; `None` if
    /// it has heard nothing for ten minutes.
    fn looks_up(&self, within: Option<Duration>) -> Option<io::Result<Vec<(Key, Fact)>>> {
        let older = self.partition.older_ids();
        let wanted = [Wanted::key(Key::new(OLD, Space::Event))];
        let heard = async {
            let long = async {
                self.runtime.sleep(Duration::from_mins(10)).await;
                None
            };
            let answered = async { Some(older.look_up_patiently(ID, &wanted, within).await) };
            futures_lite::future::or(answered, long).await
        };
        self.executor.block_on(heard).expect("it is on")
    }
}

fn flip(disk: &SimDisk, part: &str, what: &[u8]) -> usize {
    let mut flipped = 0;
    for (path, bytes) in disk.image() {
        if path.to_string_lossy().contains(part) {
            let places: Vec<_> =
                (0..bytes.len()).filter(|at| bytes[*at..].starts_with(what)).collect();
            let middle = what.len() / 2;
            disk.edit(&path, |bytes| places.iter().for_each(|at| bytes[*at + middle] ^= 1));
            flipped += places.len();
        }
    }
    flipped
}

/// The fault: a replica whose log had rotted where an old id was waited for an operator, and for ever, although the
/// others had what it lacked.
#[test]
fn a_look_up_has_the_log_mended_by_the_others() {
    let mut machine = Machine::new(1);
    machine.work(30).expect("it is on");
    assert_eq!(machine.flip(".seg", &OLD.to_le_bytes()), 1);
    let (disk, mended) = (machine.disk.clone(), Rc::new(Cell::new(0)));
    let (mends, others) = (mended.clone(), disk.clone());
    let mender: Mender = Rc::new(move |index| {
        assert!(index > 0, "the entry of the record");
        let rotten = OLD ^ (1 << 64);
        mends.set(mends.get() + flip(&others, ".seg", &rotten.to_le_bytes()));
        Box::pin(async { true })
    });
    let older = machine.partition.older_ids().clone().mended_by(Some(mender));
    let wanted = [Wanted::key(Key::new(OLD, Space::Event))];
    let found = machine.executor.block_on(older.look_up(&wanted)).expect("it is on");
    let found = found.expect("what was mended can be read");
    assert!(matches!(found[..], [(_, Fact::Decided { .. })]), "{found:?}");
    assert_eq!(mended.get(), 1);
    // What nobody can mend ends.
    machine.flip(".seg", &OLD.to_le_bytes());
    let older = older.mended_by(Some(Rc::new(|_| Box::pin(async { true }))));
    let found = machine.executor.block_on(older.look_up(&wanted)).expect("it is on");
    let why = found.expect_err("it is rotten").to_string();
    assert!(why.contains("the log is damaged in "), "{why}");
}

/// The fault: so did one that could not read a run, which only a start makes again.
#[test]
fn a_replica_waits_for_the_log_to_be_mended_and_not_for_a_run() {
    let mut machine = Machine::new(1);
    machine.work(30).expect("it is on");
    let found = machine.looks_up(None).expect("it is answered").expect("all is well");
    assert!(matches!(found[..], [(_, Fact::Decided { .. })]), "{found:?}");
    machine.flip(".seg", &OLD.to_le_bytes());
    assert!(machine.looks_up(None).is_none(), "the others may be back later");
    let why = machine.looks_up(Some(Duration::from_secs(30))).expect("a start does not wait");
    let why = why.expect_err("it is rotten").to_string();
    assert!(why.contains("the log is damaged in "), "{why}");
    assert!(machine.flip("/ids", b"") > 0);
    let by = machine.runtime.elapsed() + Duration::from_secs(10);
    let why = machine.looks_up(None).expect("it does not wait").expect_err("no run can be read");
    assert!(why.to_string().contains("start this node again"), "{why}");
    assert!(machine.runtime.elapsed() < by);
}
