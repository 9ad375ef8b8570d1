//! Whether the other nodes answer this one just now. Gossip takes seconds to suspect a node; one that was killed
//! answers nothing at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;
use walengine_net::client::tokio::Client;
use walengine_net::client::{ClientError, Config};
use walengine_net::model::PartitionId;
use walengine_net::tls::Tls;

use crate::limits::{HTTP_NODE_ANSWER_WITHIN, HTTP_NODES_ASKED_EVERY, HTTP_NODES_ASKED_MAX};

/// A client of one node, connected when it is first needed. It keeps itself connected.
type Connected = Arc<OnceCell<Client>>;

/// See the module.
pub struct Answers {
    tls: Option<Arc<Tls>>,
    /// Held while nodes are asked: whoever comes meanwhile gets the same answer.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    when: Option<Instant>,
    answers: BTreeMap<String, bool>,
    clients: BTreeMap<String, Connected>,
}

impl Answers {
    /// Of nodes that are asked with these credentials.
    pub fn new(tls: Option<Arc<Tls>>) -> Self {
        Self { tls, known: Mutex::default() }
    }

    /// Which of the nodes at these addresses answer. They are asked twice a second at most, whoever wants to know;
    /// those beyond a bound are not in the answer.
    pub async fn of(&self, addresses: &[String]) -> BTreeMap<String, bool> {
        let mut known = self.known.lock().await;
        if known.when.is_some_and(|when| when.elapsed() < HTTP_NODES_ASKED_EVERY) {
            return known.answers.clone();
        }
        let asked = || addresses.iter().take(HTTP_NODES_ASKED_MAX);
        known.clients.retain(|address, _| asked().any(|one| one == address));
        let clients: Vec<(String, Connected)> = asked()
            .map(|address| {
                let client = known.clients.entry(address.clone()).or_default();
                (address.clone(), client.clone())
            })
            .collect();
        let answers = join_all(clients.iter().map(|(address, client)| self.ask(address, client)));
        let answers = answers.await;
        known.answers = clients.into_iter().map(|(address, _)| address).zip(answers).collect();
        known.when = Some(Instant::now());
        known.answers.clone()
    }

    async fn ask(&self, address: &str, client: &Connected) -> bool {
        let answer = timeout(HTTP_NODE_ANSWER_WITHIN, async {
            let config = Config {
                client_name: "walengine http".to_owned(),
                tls: self.tls.clone(),
                ..Config::new(address)
            };
            let client = client.get_or_try_init(|| Client::connect(config)).await?;
            client.server_status(PartitionId(0)).await
        });
        // A refusal is an answer, too.
        matches!(answer.await, Ok(Ok(_) | Err(ClientError::Refused { .. })))
    }
}
