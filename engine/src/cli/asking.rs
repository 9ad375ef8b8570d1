//! What the commands that ask a server share: where it is, how fresh its answer must be.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, Config as ClientConfig, ReadFrom};
use walengine_net::model::{Offset, PartitionId, Token};

use super::output::Format;
use crate::config::ADDRESS_DEFAULT;
use crate::fatal::{Fatal, Reason};

/// Where the servers are, and how to print answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Asking {
    /// Addresses of one or more servers of a cluster, separated by commas; the others are found
    #[arg(long, value_name = "ADDR:PORT", env = "WALENGINE_SERVER", default_value = ADDRESS_DEFAULT, value_parser = servers)]
    pub server: String,

    /// Directory with a certificate and whom to believe, as `walengine cert` makes it
    #[arg(long, value_name = "DIR", env = "WALENGINE_TLS")]
    pub tls: Option<PathBuf>,

    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,

    /// How to print rows
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How fresh the state must be. Any node answers, unless the newest state is wanted.
#[derive(Debug, clap::Args)]
pub struct Freshly {
    /// Show every write that was acknowledged before; only leaders answer
    #[arg(long)]
    pub linearizable: bool,

    /// Wait for a state that includes these writes, named by their tokens, separated by commas
    #[arg(long, value_name = "TOKEN", value_delimiter = ',')]
    pub at: Vec<Token>,
}

/// Addresses of servers as a person gives them.
///
/// # Errors
/// One has no port: nothing would ever be found there.
fn servers(text: &str) -> Result<String, String> {
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let has_port = one.parse::<IpAddr>().is_err()
            && one.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
        if !has_port {
            return Err(format!("{one} has no port: say it too, as in {ADDRESS_DEFAULT}"));
        }
    }
    Ok(text.to_owned())
}

impl Asking {
    /// Connects to the servers.
    pub fn connect(&self) -> Result<Client, Fatal> {
        self.connect_within(Duration::from_secs(self.timeout))
    }

    /// Connects, with another deadline than --timeout says.
    pub fn connect_within(&self, deadline: Duration) -> Result<Client, Fatal> {
        let config = ClientConfig {
            client_name: "walengine command line".to_owned(),
            deadline,
            ..ClientConfig::new(self.server.clone())
        };
        let config = match &self.tls {
            Some(dir) => config
                .secured(dir)
                .map_err(|error| Fatal::new(Reason::Usage, format!("--tls: {error}")))?,
            None => config,
        };
        Ok(Client::connect(config)?)
    }

    /// Connects, for reads that are as fresh as is wanted.
    pub fn connect_to_read(&self, freshly: &Freshly) -> Result<Client, Fatal> {
        let client = self.connect()?;
        Ok(if freshly.linearizable { client.reading(ReadFrom::Linearizable) } else { client })
    }
}

/// Makes sure that the next page of a listing shows the same state or a newer one, from any node.
pub fn seen(tokens: &mut Vec<Token>, client: &Client, partition: PartitionId, next_offset: Offset) {
    let Some(offset) = next_offset.0.checked_sub(1).map(Offset) else { return };
    let seen = Token { cluster: client.info().cluster, partition, offset };
    let is_covered = |known: &Token| {
        (known.cluster, known.partition) == (seen.cluster, partition) && known.offset <= offset
    };
    tokens.retain(|known| !is_covered(known));
    tokens.push(seen);
}

/// The end of a list could not be confirmed at the leader.
pub fn unconfirmed(what: &str, partition: PartitionId, error: ClientError) -> Fatal {
    let fatal = Fatal::from(error);
    let message = format!(
        "these are the {what} of partition {partition} as far as a follower knows; there may be newer \
         ones: {}",
        fatal.message
    );
    Fatal::new(fatal.reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_server_has_a_port() {
        for fine in ["127.0.0.1:7450", "[::1]:7450", "db.example:1,other:2", " a:1 , b:2 ", ""] {
            assert_eq!(servers(fine).as_deref(), Ok(fine));
        }
        for bad in
            ["127.0.0.1", "::1", "[::1]", "db.example", "a:1,b", "a:", ":7450", "a:0", "a:65536"]
        {
            assert!(servers(bad).unwrap_err().contains("has no port"), "{bad}");
        }
    }
}
