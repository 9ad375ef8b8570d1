//! Harness of the integration tests: a simulator with faults, and real server processes with the
//! clients that watch them. The tests are modules of the binary `tests/main.rs`; README.md lists
//! both.
#![forbid(unsafe_code)]

pub mod between;
pub mod checked_partition;
pub mod cluster;
pub mod cluster_clients;
pub mod crash_witness;
pub mod credentials;
pub mod http;
pub mod ids_lives;
pub mod linearizability;
pub mod log_file;
pub mod log_fold;
pub mod log_oracle;
pub mod lone_partition;
pub mod loop_disk;
pub mod memory_disk;
pub mod metric_names;
pub mod mixed_events;
pub mod moments;
pub mod network;
pub mod nodes;
pub mod noted_writes;
pub mod partition_load;
pub mod pooler;
pub mod postgres;
pub mod projected_node;
pub mod projector;
pub mod seeds;
pub mod server;
pub mod sim;
pub mod spanning;
pub mod trio;
pub mod wire;
