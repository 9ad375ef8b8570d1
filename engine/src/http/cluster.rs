//! The cluster that requests go to: a client over the client library for each identity that asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::timeout;
use walengine_net::client::tokio::Client;
use walengine_net::client::{ClientError, Config, DEADLINE_DEFAULT};
use walengine_net::identity::Identity;
use walengine_net::tls::Tls;

use super::caller::Caller;
use super::problem::Problem;
use crate::limits::HTTP_CLIENTS_MAX;

/// See the module.
pub struct Cluster {
    config: Config,
    /// Who asks, and the client that asks for it; the one that was used last stands last.
    clients: Mutex<Vec<(Option<Arc<Identity>>, Connected)>>,
}

/// A client, connected when it is first needed. It keeps itself connected.
type Connected = Arc<OnceCell<Client>>;

impl Cluster {
    /// The one of a node that takes clients at `clients`; `name` is what it calls itself there.
    pub fn new(name: &str, clients: SocketAddr, tls: Option<Arc<Tls>>) -> Self {
        let config =
            Config { client_name: name.to_owned(), tls, ..Config::new(own(clients).to_string()) };
        Self { config, clients: Mutex::default() }
    }

    /// A client that may do what the caller may.
    ///
    /// # Errors
    /// The caller proves nothing any more, or the node does not take clients yet.
    pub async fn client(&self, caller: &Caller) -> Result<Client, Problem> {
        let identity = caller.identity()?;
        let connected = self.of(identity.clone());
        let config = || Config { acts_for: identity, ..self.config.clone() };
        // Those that wait for another's attempt to connect make their own after it.
        let connecting = connected.get_or_try_init(|| Client::connect(config()));
        let Ok(client) = timeout(DEADLINE_DEFAULT, connecting).await else {
            let reason = "this node's own port for clients did not answer".to_owned();
            return Err(ClientError::Deadline { waited: DEADLINE_DEFAULT, reason }.into());
        };
        Ok(client?.clone())
    }

    fn of(&self, identity: Option<Arc<Identity>>) -> Connected {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clients.iter().position(|(known, _)| *known == identity);
        let found = known.map(|place| clients.remove(place));
        if clients.len() >= HTTP_CLIENTS_MAX {
            clients.remove(0); // its connections close with the last request on them
        }
        let found = found.unwrap_or_else(|| (identity, Connected::default()));
        clients.push(found.clone());
        found.1
    }
}

/// Where this machine reaches an address that it listens on.
fn own(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}
