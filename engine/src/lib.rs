//! walengine: a thread-per-core write-ahead log for a ledger of money transactions.
//!
//! The library behind the `walengine` binary. ARCHITECTURE.md has the map.

#![deny(unsafe_code)]

pub mod acquaintances;
pub mod across;
pub mod addresses;
pub mod admission;
pub mod agreed_clock;
pub mod audit;
pub mod backup;
pub mod business_time;
pub mod by_business;
pub mod caller;
pub mod cli;
pub mod cluster_view;
pub mod config;
pub mod connection;
pub mod control;
pub mod data_dir;
mod decimals;
pub mod disk_health;
pub mod effect;
pub mod executor;
pub mod export;
pub mod fatal;
pub mod feed;
pub mod http;
pub mod ids;
pub mod kafka;
pub mod leave_cost;
pub mod ledger;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod memory_parts;
pub mod metrics;
pub mod node;
pub mod node_state;
pub mod orders;
#[allow(unsafe_code, reason = "the only place; each use says why it is sound")]
pub mod os;
pub mod partition;
pub mod places;
pub mod planted;
pub mod policy;
pub mod preflight;
pub mod private_files;
pub mod recover;
pub mod refused;
pub mod rewrite;
pub mod sample;
pub mod session;
pub mod shard;
mod shares;
pub mod storage;
pub mod trouble;
pub mod version;
pub mod visible;

pub use walengine_replication::{budget, executor as runtime, local, runtime_glommio};
