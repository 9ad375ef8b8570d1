//! How a connection starts: the client names a partition, the server says what it is.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::CLIENT_NAME_BYTES_MAX;

/// First request of every connection. The header's partition is the one that the connection is
/// for; a server without it answers `NoSuchPartition`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Hello<'a> {
    /// The partition once more, so that the two can be compared.
    pub partition: u16,
    /// What the client calls itself; shown by the server to its operator.
    #[rkyv(with = InlineAsBox)]
    pub client_name: &'a str,
}

/// What the server is, and what it takes.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct HelloReply<'a> {
    /// The cluster; stands in every token.
    pub cluster: u128,
    /// This node.
    pub node: u64,
    /// Next offset of the partition's log.
    pub next_offset: u64,
    /// Everything below this offset is durable.
    pub durable_offset: u64,
    /// Partitions of the cluster; fixed when it was formatted.
    pub partitions: u16,
    /// 1 if this node leads the partition and takes writes, else 0.
    pub is_leader: u8,
    /// Largest body of a request in bytes.
    pub body_bytes_max: u32,
    /// Events in a batch.
    pub events_max: u32,
    /// Requests of this connection that may be unanswered.
    pub inflight_max: u32,
    /// Name and version of the server, for people.
    #[rkyv(with = InlineAsBox)]
    pub server_version: &'a str,
    /// Address of the node that leads, when it is another and known; else empty.
    #[rkyv(with = InlineAsBox)]
    pub leader: &'a str,
}

impl Message for Hello<'_> {
    const KIND: Kind = Kind::Hello;
    type View = ArchivedHello<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the client's name", view.client_name.len(), CLIENT_NAME_BYTES_MAX)
    }
}

impl Message for HelloReply<'_> {
    const KIND: Kind = Kind::HelloReply;
    type View = ArchivedHelloReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        label("the server's version", &view.server_version)?;
        label("the leader's address", &view.leader)?;
        if view.partitions.to_native() == 0 {
            return Err(MessageError::Contradiction("a cluster without partitions"));
        }
        Ok(())
    }
}
