//! Replication of a partition by Raft, on the executor of the partition's shard.
//!
//! Above `net`, below `engine`, which re-exports what its shards use of it: the seam to the
//! executor ([`executor`], [`runtime_glommio`]) and [`local`] wake-ups. [`runtime`] is openraft's
//! runtime on that seam, the same in production and in simulation. [`types`] is what consensus is
//! about; [`network`] and [`service`] are its two sides towards peers, over the seam [`transport`];
//! [`peer`] is what replicas say to each other, as bytes; [`gossip`] is how nodes find each other,
//! [`membership`] which of them a group should have. One thread each; no value that lives on one is
//! handed to another.
#![forbid(unsafe_code)]

pub mod executor;
pub mod gossip;
pub mod local;
pub mod membership;
pub mod membership_codec;
pub mod network;
pub mod peer;
pub mod received;
pub mod runtime;
pub mod runtime_glommio;
pub mod service;
pub mod tcp;
pub mod transport;
pub mod types;
mod wait_queue;
