//! Harness of the integration tests: the simulator that storage runs on under faults.
//!
//! The tests themselves are modules of the one binary `tests/main.rs`, named after the question
//! that each answers.
#![forbid(unsafe_code)]

pub mod load;
pub mod memory;
pub mod oracle;
pub mod partition;
pub mod seeds;
pub mod sim;
