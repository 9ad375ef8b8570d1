//! walengine: a thread-per-core write-ahead log for a ledger of money transactions.
//!
//! The library behind the `walengine` binary. ARCHITECTURE.md has the map.

#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod fatal;
pub mod feed;
pub mod ledger;
pub mod limits;
pub mod lock;
pub mod node;
#[allow(unsafe_code, reason = "the only place; each use says why it is sound")]
mod os;
pub mod planted;
pub mod preflight;
pub mod raft_apply;
pub mod raft_log;
pub mod raft_members;
mod raft_recent;
pub mod shard;
pub mod storage;

pub use walengine_replication::{executor as runtime, local, runtime_glommio};
