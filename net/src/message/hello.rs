//! How a connection starts: the client names a partition, the server introduces itself.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::CLIENT_NAME_BYTES_MAX;

/// First request of every connection. The header names the partition that the connection is for. If
/// the cluster does not have it, the server answers `NoSuchPartition`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Hello<'a> {
    /// The partition again; it must be the header's.
    pub partition: u16,
    /// Name of the client, for the server's operator.
    #[rkyv(with = InlineAsBox)]
    pub client_name: &'a str,
}

/// A node has somebody's certificate before it, and asks what follows on this connection for them: it may then do
/// what they may, but give no orders. Only the first request behind the `Hello`; if it is refused, the connection is closed.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ActFor<'a> {
    /// The URI of their certificate: [`crate::identity`].
    #[rkyv(with = InlineAsBox)]
    pub identity: &'a str,
}

/// The connection is for them.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize)]
pub struct ActForReply {
    /// 0.
    pub reserved: u32,
}

/// What the server is, and its limits.
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
    /// 1 if this node leads the partition and accepts writes, else 0.
    pub is_leader: u8,
    /// Largest body of a request in bytes.
    pub body_bytes_max: u32,
    /// Most events in a batch.
    pub events_max: u32,
    /// Most unanswered requests on this connection.
    pub inflight_max: u32,
    /// Name and version of the server, for people.
    #[rkyv(with = InlineAsBox)]
    pub server_version: &'a str,
    /// Address of the leader if that is another node and known, else empty.
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

impl Message for ActFor<'_> {
    const KIND: Kind = Kind::ActFor;
    type View = ArchivedActFor<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        label("the identity", &view.identity)
    }
}

impl Message for ActForReply {
    const KIND: Kind = Kind::ActForReply;
    type View = ArchivedActForReply;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
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
