//! Can a copy of a data directory be started exactly if `verify` passes it, whatever its files are?
//!
//! Directories of a lone node and of a group's node are copied as `cp` and `tar` copy them beside a
//! running server: each file as it stood at another moment. Files are lost, cut, swapped, and taken from
//! another cluster. One copy after the other is verified, and then opened by what the start opens it with.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine::fatal::Reason;
use walengine::partition::check::check;
use walengine::partition::group::raft_apply::RaftApply;
use walengine::partition::group::raft_log::{RaftLog, log_id_of};
use walengine::partition::group::{GroupTiming, join, raft_config};
use walengine::partition::opening::{self, OpenedPartition};
use walengine::partition::replica::Replica;
use walengine::partition::restore::Restored;
use walengine::storage::layout::{BLOCK, Superblock, Tail};
use walengine::storage::{contents, superblock};
use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::runtime::within;
use walengine_tests::cluster::SimNet;
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::moments::{DATA, Image, Moments, NODE, PARTITIONS};
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{Order, Rng, SimExecutor, SimRuntime};

/// Copies of each kind of node.
const COPIES: u64 = 200;

/// What the files of a disk come to: nothing to say, or why not.
type Answer = Result<(), String>;
/// What a group's node says when it lacks an entry that the others have.
const TAKEN_FROM_OTHERS: &str = "when Read Logs";

/// What both ask first.
async fn contents(disk: &MemoryDisk) -> Result<Superblock, String> {
    let data = Path::new(DATA);
    let found = superblock::read(disk, data).await.map_err(|error| error.to_string())?;
    let looked = contents::look(disk, data, &found).await.map_err(|error| error.to_string())?;
    looked.require_whole().map_err(|error| error.to_string())?;
    Ok(found)
}

/// Whether all of it is whole, or what starts all the same.
async fn verify(disk: MemoryDisk) -> Result<bool, String> {
    let (found, mut is_whole) = (contents(&disk).await?, true);
    for number in 0..PARTITIONS {
        let checked = check(disk.clone(), Path::new(DATA), &found, PartitionId(number)).await;
        let checked = checked.map_err(|fatal| fatal.message)?;
        if let Some(fatal) = checked.complaints.into_iter().next() {
            is_whole = false;
            if !checked.starts {
                return Err(fatal.message);
            }
        }
    }
    Ok(is_whole)
}

async fn start(disk: MemoryDisk, runtime: SimRuntime) -> Answer {
    let found = contents(&disk).await?;
    for number in 0..PARTITIONS {
        let (data, id) = (Path::new(DATA), PartitionId(number));
        let opened = opening::open(disk.clone(), runtime.clone(), data, &found, id, 4).await;
        let opened = opened.map_err(|fatal| fatal.message)?;
        if found.replicated {
            join_group(opened, runtime.clone()).await?;
        } else {
            opened.serve_alone().await.map_err(|fatal| fatal.message)?;
        }
    }
    Ok(())
}

async fn join_group(
    opened: OpenedPartition<MemoryDisk, SimRuntime>,
    runtime: SimRuntime,
) -> Answer {
    let OpenedPartition { id, log, log_config, restored, .. } = opened;
    let Restored { ledger, runs, from, members, .. } = restored;
    let log = RaftLog::new(NODE, log, &log_config, runtime.clone(), &Tail::default());
    log.recall_committed(&from).await.map_err(|error| error.to_string())?;
    let replica = Rc::new(RefCell::new(Replica::new(ledger)));
    let apply = RaftApply::restored(replica, log_id_of(&from), members);
    let config = raft_config(GroupTiming { heartbeat_millis: 50, election_millis: (150, 300) });
    let transport = SimNet::new(&runtime, 1).transport(NODE);
    let joined =
        within(runtime.clone(), join(id, log, apply, runs, runtime, transport, config)).await;
    joined.map(drop)
}

/// Runs one of the two, which must come to an end.
fn answer<T>(what: &str, run: impl FnOnce(&SimExecutor) -> T) -> T {
    let executor = SimExecutor::new(1, Order::Fifo);
    let ended = catch_unwind(AssertUnwindSafe(|| run(&executor)));
    ended.unwrap_or_else(|_| panic!("{what}: a panic is no answer"))
}

/// Makes copies that are not as they should be.
struct Copier {
    rng: Rng,
    own: Moments,
    other: Moments,
}

impl Copier {
    fn moment(&mut self) -> usize {
        self.rng.index(self.own.images.len())
    }

    fn file(&mut self, image: &Image, part: &str) -> Option<PathBuf> {
        let files: Vec<_> =
            image.keys().filter(|path| path.to_string_lossy().contains(part)).cloned().collect();
        (!files.is_empty()).then(|| files[self.rng.index(files.len())].clone())
    }

    /// A kind of file.
    fn part(&mut self) -> &'static str {
        let parts = ["", "", "hard-state", "segments", "snapshots", "superblock", "p0000", "p0001"];
        parts[self.rng.index(parts.len())]
    }

    /// The copy, and in words how it was made.
    fn copy(&mut self) -> (Image, String) {
        let moment = self.moment();
        let (mut image, mut made) = (self.own.images[moment].clone(), format!("moment {moment}"));
        if self.rng.percent(40) {
            let between = (moment, self.moment());
            image = self.hot(between.0.min(between.1), between.0.max(between.1));
            made = format!("hot copy between moments {between:?}");
        }
        for _ in 0..self.rng.below(3) {
            made = format!("{made}, {}", self.harm(&mut image));
        }
        (image, made)
    }

    /// Each file as it stood at some moment, or gone.
    fn hot(&mut self, first: usize, last: usize) -> Image {
        let mut image = Image::new();
        let all: BTreeSet<PathBuf> =
            self.own.images[first..=last].iter().flat_map(|image| image.keys().cloned()).collect();
        for path in all {
            let moment = self.rng.between(first as u64, last as u64) as usize;
            if let Some(bytes) = self.own.images[moment].get(&path) {
                image.insert(path, bytes.clone());
            }
        }
        image
    }

    fn harm(&mut self, image: &mut Image) -> String {
        let part = self.part();
        let Some(path) = self.file(image, part) else { return "nothing".to_owned() };
        let name = path.display().to_string();
        match self.rng.below(10) {
            // Files of another moment, all of a kind or one.
            0..=2 => {
                let moment = self.moment();
                let from = self.own.images[moment].clone();
                let one = self.rng.percent(50).then_some(&path);
                let is_of = |at: &PathBuf| match one {
                    Some(one) => at == one,
                    None => at.to_string_lossy().contains(part),
                };
                image.retain(|at, _| !is_of(at));
                image.extend(from.into_iter().filter(|(at, _)| is_of(at)));
                format!("{} of moment {moment}", one.map_or(format!("all of '{part}'"), |_| name))
            }
            3 => {
                image.remove(&path);
                format!("without {name}")
            }
            4 => {
                let bytes = image.get_mut(&path).expect("it is there");
                let length = self.rng.below(bytes.len() as u64 + 1);
                let length = if self.rng.percent(70) { length / BLOCK * BLOCK } else { length };
                bytes.truncate(length as usize);
                format!("{name} cut to {length} bytes")
            }
            5 => {
                let swap = |at: &PathBuf| {
                    let at = at.to_string_lossy();
                    PathBuf::from(if at.contains("p0000") {
                        at.replace("p0000", "p0001")
                    } else {
                        at.replace("p0001", "p0000")
                    })
                };
                if self.rng.percent(50) {
                    *image = image.iter().map(|(at, bytes)| (swap(at), bytes.clone())).collect();
                    return "partitions swapped".to_owned();
                }
                let Some(bytes) = image.get(&swap(&path)).cloned() else {
                    return "nothing".to_owned();
                };
                image.insert(path, bytes);
                format!("{name} of the other partition")
            }
            6 => {
                let moment = self.moment();
                let Some(bytes) = self.other.images[moment].get(&path).cloned() else {
                    return "nothing".to_owned();
                };
                image.insert(path, bytes);
                format!("{name} of another cluster")
            }
            7 => {
                let bytes = image[&path].clone();
                let to = match self.rng.below(4) {
                    0 => path.with_file_name("00000099.seg"),
                    1 => path.with_file_name("00000000000000000099.snap"),
                    2 => path.with_file_name("notes"),
                    _ => Path::new(DATA).join("p0002/hard-state"),
                };
                let what = format!("{name} also as {}", to.display());
                image.insert(to, bytes);
                what
            }
            8 => {
                let bytes = image.get_mut(&path).expect("it is there");
                if bytes.is_empty() {
                    return "nothing".to_owned();
                }
                let written = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
                let bit = self.rng.index(written * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                format!("bit {bit} of {name} flipped")
            }
            _ => {
                // The end of the log is not there yet.
                let Some(path) = self.file(image, "segments") else { return "nothing".to_owned() };
                let bytes = image.get_mut(&path).expect("it is there");
                let is_last = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
                let from = (self.rng.below(is_last as u64 + 1) / BLOCK * BLOCK) as usize;
                bytes[from..].fill(0);
                format!("{} zero from byte {from} on", path.display())
            }
        }
    }
}

fn verify_says_what_the_start_does(test: &str, replicated: bool) {
    let (own, other) = (ClusterId(0xc1), ClusterId(0xc2));
    let own = Moments::of(own, replicated, 5);
    let other = Moments::of(other, replicated, 5);
    let answers = each_of(test, COPIES, |seed| {
        let (own, other) = (own.clone(), other.clone());
        let (image, made) = Copier { rng: Rng::new(seed), own, other }.copy();
        let disk = MemoryDisk::new(image.clone());
        let changes = disk.changes();
        let what = format!("copy {seed}: {made}");
        let verified = answer(&what, |executor| {
            executor.block_on(verify(disk.clone())).expect("verify waits for nothing")
        });
        assert_eq!(disk.changes(), changes, "{what}: verify writes");
        assert!(disk.image().into_iter().eq(image), "{what}: verify has changed a byte");
        let started = answer(&what, |executor| {
            let started = start(disk.clone(), executor.runtime());
            executor.block_on(started).expect("the start waits for nothing")
        });
        // What is whole needs nobody, and nor does a node that serves alone.
        let needs_others = replicated && verified == Ok(false);
        let starts = match &started {
            Err(why) if needs_others && why.contains(TAKEN_FROM_OTHERS) => true,
            started => started.is_ok(),
        };
        assert_eq!(
            verified.is_ok(),
            starts,
            "{what}:\n verify says {verified:?}\n the start {started:?}"
        );
        verified.is_ok()
    });
    let passed = answers.iter().filter(|passed| **passed).count();
    println!("{test}: {passed} of {} copies can be started", answers.len());
    if answers.len() as u64 == COPIES {
        assert!(passed > answers.len() / 20 && passed < answers.len() / 2, "{passed} pass");
    }
}

#[test]
fn verify_passes_exactly_the_copies_of_a_lone_node_that_start() {
    verify_says_what_the_start_does(
        "copies::verify_passes_exactly_the_copies_of_a_lone_node_that_start",
        false,
    );
}

#[test]
fn verify_passes_exactly_the_copies_of_a_groups_node_that_start() {
    verify_says_what_the_start_does(
        "copies::verify_passes_exactly_the_copies_of_a_groups_node_that_start",
        true,
    );
}

/// The fault: `verify` refused a directory that starts, when a byte had rotted in front of the snapshot.
#[test]
fn what_only_verify_reads_is_told_and_starts_all_the_same() {
    for replicated in [false, true] {
        let moments = Moments::of(ClusterId(0xc1), replicated, 5);
        let mut image = moments.images.last().expect("there are some").clone();
        let first =
            image.iter_mut().find(|(path, _)| path.ends_with("p0000/segments/00000001.seg"));
        // The first entry stands in the block behind the header. Consensus looks at it, too.
        first.expect("a log begins with it").1[BLOCK as usize + 40] ^= 1;
        let disk = MemoryDisk::new(image);
        let executor = SimExecutor::new(1, Order::Fifo);
        let checked = executor.block_on(async {
            let found = contents(&disk).await.unwrap();
            check(disk.clone(), Path::new(DATA), &found, PartitionId(0)).await.unwrap()
        });
        let checked = checked.unwrap();
        assert!(checked.snapshot.index > 1, "it begins behind the damage");
        assert_eq!(checked.complaints[0].reason, Reason::Damaged, "{:?}", checked.complaints);
        assert!(checked.starts, "{:?}", checked.complaints);
        let started = executor.block_on(start(disk, executor.runtime())).unwrap();
        match started {
            // Here is nobody to take it from; `edges` has nodes that do.
            Err(why) if replicated => assert!(why.contains(TAKEN_FROM_OTHERS), "{why}"),
            started => assert!(started == Ok(()) && !replicated, "{replicated} {started:?}"),
        }
    }
}
