//! Harness of the integration tests: the simulator that storage runs on under faults, and real
//! server processes with the clients that watch them.
//!
//! The tests themselves are modules of the one binary `tests/main.rs`, named after the question
//! that each answers.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod crowd;
pub mod folded;
pub mod linear;
pub mod load;
pub mod memory;
pub mod mixed;
pub mod mount;
pub mod network;
pub mod nodes;
pub mod oracle;
pub mod partition;
pub mod postgres;
pub mod press;
pub mod projector;
pub mod seeds;
pub mod server;
pub mod sim;
pub mod wire;
pub mod witness;
