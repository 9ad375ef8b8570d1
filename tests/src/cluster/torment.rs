//! Harms a simulated cluster: crashes, pauses, cuts, a bad network, bad and full disks.

use std::ops::Add;
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine_replication::types::NodeId;

use super::{Cluster, NetFaults};
use crate::sim::{OpClass, Rng, SimRuntime};

/// Faults stop after this much virtual time.
const FAULTS_LAST: Duration = Duration::from_millis(6700);
/// Least time between two faults, in milliseconds.
const BETWEEN_MILLIS_MIN: u64 = 20;
/// A crash or an error hits one of so many next operations of a disk.
const OPERATIONS_MAX: u64 = 60;
/// A disk that fills up has at most this much room left, in bytes.
const LEFT_BYTES_MAX: u64 = 300 << 10;

/// How often each fault comes: weights.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// A node loses power at once.
    pub crash: u64,
    /// A node loses power in one of the next operations of its disk.
    pub crash_in_operation: u64,
    /// All nodes lose power together.
    pub blackout: u64,
    /// A node stands still.
    pub pause: u64,
    /// All go on.
    pub resume: u64,
    /// Two nodes don't hear each other, in one direction or both.
    pub cut: u64,
    /// All hear each other again.
    pub heal: u64,
    /// The network gets better or worse.
    pub weather: u64,
    /// One of the next writes or flushes of a node's disk fails.
    pub write_error: u64,
    /// One of the next reads of a node's disk fails.
    pub read_error: u64,
    /// A node's disk fills up.
    pub full: u64,
    /// All disks have room again.
    pub room: u64,
    /// A bit of one node's log flips; of one node only in a whole run.
    pub flip: u64,
    /// A node writes a snapshot, which it starts from again.
    pub snapshot: u64,
    /// Longest time between two faults, in milliseconds.
    pub between_millis_max: u64,
    /// How many of 100 nodes that are down or have failed start again at each fault.
    pub restart_percent: u64,
}

impl Profile {
    /// Everything, now and then.
    pub const MIXED: Self = Self {
        crash: 6,
        crash_in_operation: 4,
        blackout: 2,
        pause: 2,
        resume: 2,
        cut: 2,
        heal: 2,
        weather: 2,
        write_error: 1,
        read_error: 1,
        full: 1,
        room: 2,
        flip: 1,
        snapshot: 3,
        between_millis_max: 400,
        restart_percent: 60,
    };
    /// Nothing; to begin a directed profile with.
    pub const CALM: Self = Self {
        crash: 0,
        crash_in_operation: 0,
        blackout: 0,
        pause: 0,
        resume: 0,
        cut: 0,
        heal: 0,
        weather: 0,
        write_error: 0,
        read_error: 0,
        full: 0,
        room: 0,
        flip: 0,
        snapshot: 0,
        between_millis_max: 200,
        restart_percent: 60,
    };
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Power losses of single nodes.
    pub crashes: u64,
    /// Errors of disks that were planned.
    pub errors: u64,
    /// Disks that were filled.
    pub fills: u64,
    /// Bits that were flipped.
    pub flips: u64,
    /// Snapshots that were begun.
    pub snapshots: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            crashes: self.crashes + other.crashes,
            errors: self.errors + other.errors,
            fills: self.fills + other.fills,
            flips: self.flips + other.flips,
            snapshots: self.snapshots + other.snapshots,
        }
    }
}

#[derive(Clone, Copy)]
enum Fault {
    Crash,
    CrashInOperation,
    Blackout,
    Pause,
    Resume,
    Cut,
    Heal,
    Weather,
    WriteError,
    ReadError,
    Full,
    Room,
    Flip,
    Snapshot,
}

impl Profile {
    fn draw(&self, rng: &mut Rng) -> Fault {
        let shares = [
            (Fault::Crash, self.crash),
            (Fault::CrashInOperation, self.crash_in_operation),
            (Fault::Blackout, self.blackout),
            (Fault::Pause, self.pause),
            (Fault::Resume, self.resume),
            (Fault::Cut, self.cut),
            (Fault::Heal, self.heal),
            (Fault::Weather, self.weather),
            (Fault::WriteError, self.write_error),
            (Fault::ReadError, self.read_error),
            (Fault::Full, self.full),
            (Fault::Room, self.room),
            (Fault::Flip, self.flip),
            (Fault::Snapshot, self.snapshot),
        ];
        let mut draw = rng.below(shares.iter().map(|(_, share)| share).sum());
        for (fault, share) in shares {
            if draw < share {
                return fault;
            }
            draw -= share;
        }
        unreachable!("a draw is below the sum of all shares")
    }
}

/// Torments a cluster for a while.
pub async fn torment(
    cluster: &Cluster,
    root: &SimRuntime,
    rng: &mut Rng,
    profile: Profile,
) -> Counts {
    let nodes = cluster.ids().len() as u64;
    let victim: NodeId = rng.between(1, nodes);
    let mut counts = Counts::default();
    let until = root.elapsed() + FAULTS_LAST;
    while root.elapsed() < until {
        let millis = rng.between(BETWEEN_MILLIS_MIN, profile.between_millis_max);
        root.sleep(Duration::from_millis(millis)).await;
        for id in cluster.ids_in() {
            let hurt = cluster.is_down(id) || cluster.has_failed(id);
            if hurt && rng.percent(profile.restart_percent) {
                cluster.restart(id).await;
            }
        }
        let id: NodeId = rng.between(1, nodes);
        let up = |id| u64::from(!cluster.is_down(id));
        match profile.draw(rng) {
            Fault::Crash => {
                counts.crashes += up(id);
                cluster.crash(id);
            }
            Fault::CrashInOperation => {
                counts.crashes += up(id);
                cluster.crash_at(id, rng.between(1, OPERATIONS_MAX));
            }
            Fault::Blackout => {
                for id in cluster.ids() {
                    counts.crashes += up(id);
                    cluster.crash(id);
                }
            }
            Fault::Pause => cluster.pause(id, true),
            Fault::Resume => cluster.ids().into_iter().for_each(|id| cluster.pause(id, false)),
            Fault::Cut => {
                let other = rng.between(1, nodes);
                cluster.net.cut(id, other, true);
                if rng.percent(60) {
                    cluster.net.cut(other, id, true);
                }
            }
            Fault::Heal => cluster.net.heal(),
            Fault::Weather => cluster.net.set_faults(weather(rng)),
            Fault::WriteError => {
                counts.errors += up(id);
                cluster.fail(id, OpClass::WritesAndSyncs, rng.between(1, OPERATIONS_MAX));
            }
            Fault::ReadError => {
                counts.errors += up(id);
                cluster.fail(id, OpClass::Reads, rng.between(1, OPERATIONS_MAX));
            }
            Fault::Full => {
                counts.fills += 1;
                cluster.fill(id, rng.below(LEFT_BYTES_MAX));
            }
            Fault::Room => cluster.ids().into_iter().for_each(|id| cluster.make_room(id)),
            Fault::Flip => counts.flips += u64::from(cluster.flip(victim, rng)),
            Fault::Snapshot => {
                counts.snapshots += up(id);
                cluster.snapshot(id);
            }
        }
    }
    counts
}

/// Another network: worse, or better.
pub(super) fn weather(rng: &mut Rng) -> NetFaults {
    NetFaults {
        delay_micros: (20, rng.between(100, 20_000)),
        lost_per_mille: rng.below(100),
        doubled_per_mille: rng.below(100),
        broken_per_mille: rng.below(30),
    }
}
