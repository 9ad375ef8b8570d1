//! The protocol between the replicas of a partition, as bytes. Sans I/O: bytes in, messages out.
//!
//! Below the transport, which owns sockets, time and request ids. Lives on the partition's shard. A
//! frame is believed only if its checksum is right ([`frame`]); its body is decoded by hand into
//! openraft's own types ([`Message`]). No bytes cause a panic, and memory stays within a small
//! multiple of the frame's length. Decides nothing: openraft knows what a message means. Layout:
//! `replication/PEER.md`.

mod about;
mod append;
mod bytes;
mod carried;
mod election;
mod entry;
mod error;
pub mod frame;
mod hello;
mod kind;
pub mod limits;
mod log_page;
mod message;
mod peer_error;
mod raft;

pub use about::About;
pub use append::fitting;
pub use carried::{Carried, Words};
pub use error::{DecodeError, EncodeError};
pub use hello::{Hello, HelloReply, Refusal};
pub use kind::Kind;
pub use log_page::{LogPage, LogRead};
pub use message::Message;
pub use peer_error::{PeerError, PeerErrorCode};
