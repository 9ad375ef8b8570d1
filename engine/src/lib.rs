//! walengine: a thread-per-core write-ahead log for a ledger of money transactions.
//!
//! The library behind the `walengine` binary. ARCHITECTURE.md has the map.

pub mod ledger;
pub mod local;
pub mod runtime;
pub mod runtime_glommio;
pub mod storage;
