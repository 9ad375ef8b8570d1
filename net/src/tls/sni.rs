//! The partition of a connection, told before hands are shaken: in the server name that the client's
//! first message carries.

use rustls::pki_types::{DnsName, ServerName};
use rustls::server::Acceptor;

use crate::model::PartitionId;

const SUFFIX: &str = ".walengine";

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// More bytes are needed.
    Partial,
    /// It is TLS. Without a partition any will do: what comes next names it.
    Named(Option<PartitionId>),
    /// It is no TLS.
    Foreign,
}

/// The server name of a partition: `p7.walengine`.
///
/// # Panics
/// Never: it is a good name.
pub fn server_name(partition: PartitionId) -> ServerName<'static> {
    let name = DnsName::try_from(format!("p{}{SUFFIX}", partition.0)).expect("letters and digits");
    ServerName::DnsName(name)
}

/// What the first bytes of a connection say. They are looked at, and stay to be used.
pub fn greeting(mut bytes: &[u8]) -> Greeting {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        let before = bytes.len();
        if acceptor.read_tls(&mut bytes).is_err() || bytes.len() == before {
            return Greeting::Foreign;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Greeting::Named(hello.server_name().and_then(partition));
            }
            Ok(None) => {}
            Err(_) => return Greeting::Foreign,
        }
    }
    Greeting::Partial
}

fn partition(name: &str) -> Option<PartitionId> {
    let number = name.strip_suffix(SUFFIX)?.strip_prefix('p')?;
    number.parse().ok().map(PartitionId)
}
