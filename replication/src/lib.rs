//! What replication stands on: the seam to time and tasks, and wake-ups between tasks of one thread.
//!
//! Above `net`, below `engine`, which re-exports what its shards use of it.
#![forbid(unsafe_code)]

pub mod executor;
pub mod local;
pub mod runtime_glommio;
