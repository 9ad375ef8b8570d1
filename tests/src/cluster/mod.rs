//! A simulated cluster: several nodes with the real ledger, log and Raft storage on one thread, a
//! network between them that fails, and an observer that knows what must never happen.

mod buggy_disk;
mod bugs;
mod check;
mod client;
mod liar;
mod media;
mod net;
mod node;
mod run;
mod schedules;
mod snapshot;
mod torment;

pub use buggy_disk::{BuggyDisk, BuggyFile};
pub use bugs::Bug;
pub use check::Observer;
pub use client::{Client, Told};
pub use media::Media;
pub use net::{NetFaults, SimNet, SimTransport};
pub use node::{Cluster, Opened, Place, SimPartition};
pub use run::{Ran, Scene, at_rest, describe, end_faults, play, run, run_with, run_with_liar};
pub use schedules::{its_electors_are_dead, leader_loses_its_tail, one_stays_dead};
pub use torment::{Counts, Profile, torment};
