//! Replication of a partition by Raft, on the executor of the partition's shard.
//!
//! Above `net` and below `engine`, which re-exports the parts that its shards use: the seam to the
//! executor ([`executor`], [`runtime_glommio`]) and [`local`] wake-ups. [`runtime`] is openraft's
//! runtime on that seam, the same in production and in simulation. [`types`] instantiates openraft.
//! [`network`] asks peers and [`service`] answers them, over the seam [`transport`]; [`tcp`] is
//! that seam over TCP, and [`peer`] the bytes on it; [`read_out`] ends a connection. [`reached`] remembers
//! how far each peer had the log; [`turned_away`] counts and tells which connections were not taken; [`honest`] says what an honest peer could ask or answer. [`gossip`] is how
//! nodes find each other; [`membership`] says which of them a group should have. Everything here stays on
//! the thread that made it.
#![forbid(unsafe_code)]

pub mod budget;
pub mod contacts;
pub mod executor;
pub mod gossip;
pub mod honest;
pub mod local;
pub mod membership;
pub mod membership_codec;
pub mod network;
pub mod peer;
pub mod reached;
pub mod read_out;
pub mod received;
pub mod runtime;
pub mod runtime_glommio;
pub mod service;
pub mod tcp;
pub mod transport;
pub mod turned_away;
pub mod types;
mod wait_queue;
