//! A connection on its way to the shard that owns its partition.

use glommio::net::AcceptedTcpStream;
use walengine_net::model::PartitionId;

use crate::admission::Admitted;

/// Which port a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Clients.
    Clients,
    /// Other nodes.
    Peers,
}

/// See the module.
pub struct HandedConnection {
    /// The socket, on no executor.
    pub stream: AcceptedTcpStream,
    /// What came over it and was not acted on: with TLS, the beginning of the handshake.
    pub received: Vec<u8>,
    /// The partition that its first frame names, or the client's first message of TLS.
    pub partition: PartitionId,
    /// Which port it came to.
    pub port: Port,
    /// Counts it; `None` of a peer.
    pub admitted: Option<Admitted>,
}
