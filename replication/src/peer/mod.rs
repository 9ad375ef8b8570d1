//! What replicas of a partition say to each other, as bytes. Sans I/O: bytes in, messages out.
//!
//! Below the transport, which owns sockets, time and request ids; on a partition's shard. A frame
//! is believed only when its checksum is right ([`frame`]); its body is decoded by hand into
//! openraft's own types ([`Message`]). Whatever the bytes are, there is an error and no panic, and
//! memory stays within a small multiple of the frame's length. Never decides anything: what a
//! message means to the group is openraft's business. Layout: `replication/PEER.md`.

mod append;
mod bytes;
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

pub use append::fitting;
pub use error::{DecodeError, EncodeError};
pub use hello::{Hello, HelloReply, Refusal};
pub use kind::Kind;
pub use log_page::{LogPage, LogRead};
pub use message::Message;
pub use peer_error::{PeerError, PeerErrorCode};
