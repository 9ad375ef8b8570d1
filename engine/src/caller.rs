//! Who is at the other end of a connection, as far as it was proven.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use walengine_net::identity::Identity;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// From where it connected; `None` if the socket no longer says.
    pub address: Option<SocketAddr>,
    /// What its certificate says; `None` on a connection without TLS, which may do everything.
    pub identity: Option<Arc<Identity>>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "{identity}")?,
            None => f.write_str("somebody")?,
        }
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}
