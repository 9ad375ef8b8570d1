//! A connection to a cluster: every question of the client, written once for both faces of the package.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use walengine_net::client::batch::Split;
use walengine_net::client::{
    ClientError, Config, PIPELINE_DEPTH_DEFAULT, ReadFrom, Submitted, operation, tokio as on_tokio,
};
use walengine_net::limits::EVENTS_MAX;
use walengine_net::message::{IdNamespace, OutcomeRuns};
use walengine_net::model::{
    Account, AccountId, EVENT_BYTES, EventBytes, EventId, Offset, PartitionId,
};
use walengine_net::{partition, unit};

use crate::call::{Call, Host, Value, seconds, value};
use crate::error::{Failure, may_have_changed};
use crate::events::{Events, resolved_fields};
use crate::log_page;
use crate::subscription::Subscription;
use crate::token::{Token, models};

/// A client of a cluster.
#[pyclass(frozen, module = "walengine._native")]
pub struct Connection {
    host: Arc<Host>,
    client: on_tokio::Client,
}

fn read_from(name: &str) -> PyResult<ReadFrom> {
    match name {
        "any" => Ok(ReadFrom::Any),
        "leader" => Ok(ReadFrom::Leader),
        "linearizable" => Ok(ReadFrom::Linearizable),
        _ => Err(PyValueError::new_err(format!("reads can't be from {name}"))),
    }
}

/// Connects to a cluster. `serves_loops`: its calls are started for loops, and not waited for by threads.
#[pyfunction]
pub fn connect(
    servers: &str,
    tls: Option<PathBuf>,
    timeout: f64,
    name: String,
    reads: &str,
    serves_loops: bool,
) -> PyResult<Call> {
    let (host, reads) = (Host::new(serves_loops)?, read_from(reads)?);
    let config = Config {
        deadline: seconds(timeout)?,
        client_name: name,
        read_from: reads,
        ..Config::new(servers)
    };
    if config.addresses.is_empty() {
        return Err(PyValueError::new_err("no address of a server"));
    }
    let its = host.clone();
    Ok(Call::new(&host, async move {
        let config = match tls {
            Some(dir) => config.secured(&dir).map_err(|error| Failure::of_credentials(&error))?,
            None => config,
        };
        let client = on_tokio::Client::connect(config).await.map_err(Failure::of_read)?;
        Ok(value(Connection { host: its, client }))
    }))
}

#[pymethods]
impl Connection {
    /// The cluster's id, the number of its partitions, name and version of the server.
    fn info(&self) -> (u128, u16, String) {
        let info = self.client.info();
        (info.cluster.0, info.partitions, info.server_version.clone())
    }

    /// The partition of an account.
    fn partition_of(&self, account: u128) -> u16 {
        partition::of_account(AccountId(account), self.client.info().partitions).0
    }

    /// A client over the same connections, whose reads are answered elsewhere.
    fn reading(&self, reads: &str) -> PyResult<Self> {
        let client = self.client.reading(read_from(reads)?);
        Ok(Self { host: self.host.clone(), client })
    }

    /// Submits events of any partitions, or all to one.
    fn submit(
        &self,
        py: Python<'_>,
        events: PyBuffer<u8>,
        partition: Option<u16>,
    ) -> PyResult<Call> {
        let (client, events) = (self.client.clone(), Events::in_buffer(py, &events)?);
        Ok(Call::new(&self.host, async move {
            let submitted = match partition {
                Some(partition) => {
                    let one = client.submit(PartitionId(partition), events.as_slice()).await;
                    one.map_err(Failure::of_write)
                }
                None => submit_all(&client, events.as_slice()).await,
            };
            submitted.map(answer_of)
        }))
    }

    /// As `submit`, where each event is of an account, whatever its flags say of its kind.
    fn create_accounts(&self, py: Python<'_>, accounts: PyBuffer<u8>) -> PyResult<Call> {
        let (client, accounts) = (self.client.clone(), Events::in_buffer(py, &accounts)?);
        let accounts = accounts.into_accounts();
        Ok(Call::new(&self.host, async move {
            submit_all(&client, accounts.as_slice()).await.map(answer_of)
        }))
    }

    /// Appends opaque records to a partition.
    fn append_records(
        &self,
        partition: u16,
        records: Vec<(u128, Vec<u8>)>,
        expected: Option<u64>,
    ) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let records: Vec<(EventId, &[u8])> =
                records.iter().map(|(id, bytes)| (EventId(*id), bytes.as_slice())).collect();
            let expected = expected.map(Offset);
            let appended = client.append_records(PartitionId(partition), &records, expected).await;
            appended.map(answer_of).map_err(Failure::of_write)
        })
    }

    /// One byte for each id, 1 if the account exists, and the accounts, of zeros if not.
    fn lookup_accounts(&self, ids: Vec<u128>, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let ids: Vec<AccountId> = ids.into_iter().map(AccountId).collect();
            let found = client.lookup_accounts(&ids, &models(tokens)).await;
            let found = found.map_err(Failure::of_read)?;
            let exist: Vec<u8> = found.iter().map(|account| u8::from(account.is_some())).collect();
            let bytes = found.iter().map(|account| match account {
                Some(account) => account.to_bytes(),
                None => [0; EVENT_BYTES],
            });
            Ok(value((exist, bytes.collect::<Vec<_>>().into_flattened())))
        })
    }

    /// For each id the partition, verdict, offset, log time, event and resolution, or `None`.
    fn lookup_transfers(&self, ids: Vec<u128>, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let ids: Vec<EventId> = ids.into_iter().map(EventId).collect();
            let found = client.lookup_transfers(&ids, &models(tokens)).await;
            let fields = found.map_err(Failure::of_read)?.into_iter().map(|decision| {
                decision.map(|of| {
                    let (verdict, event) = (of.verdict.number(), of.event.to_bytes().to_vec());
                    let resolved = of.resolved.as_ref().map(resolved_fields);
                    (of.partition.0, verdict, of.offset.0, of.timestamp.0, event, resolved)
                })
            });
            Ok(value(fields.collect::<Vec<_>>()))
        })
    }

    /// For each id, of accounts or of events, the partition, verdict and offset, or `None`.
    fn verdicts(&self, ids: Vec<u128>, are_accounts: bool, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let of = if are_accounts { IdNamespace::Account } else { IdNamespace::Event };
            let found = client.status(of, &ids, &models(tokens)).await;
            let fields = found.map_err(Failure::of_read)?.into_iter();
            let fields =
                fields.map(|one| one.map(|of| (of.partition.0, of.verdict.number(), of.offset.0)));
            Ok(value(fields.collect::<Vec<_>>()))
        })
    }

    /// A page of a partition's accounts: their bytes, where the next page starts, and the offset.
    fn list_accounts(
        &self,
        partition: u16,
        after: Option<u64>,
        limit: usize,
        tokens: Vec<Token>,
    ) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let (partition, tokens) = (PartitionId(partition), models(tokens));
            let page = client.list_accounts(partition, after, limit, &tokens).await;
            let page = page.map_err(Failure::of_read)?;
            let accounts: Vec<_> = page.accounts.iter().map(Account::to_bytes).collect();
            Ok(value((accounts.into_flattened(), page.next_cursor, page.next_offset.0)))
        })
    }

    /// What accounts are called, or `None`.
    fn lookup_names(&self, ids: Vec<u128>, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let ids: Vec<AccountId> = ids.into_iter().map(AccountId).collect();
            let names = client.lookup_names(&ids, &models(tokens)).await;
            let names = names.map_err(Failure::of_read)?.into_iter();
            Ok(value(names.map(|name| name.map(|of| of.to_string())).collect::<Vec<_>>()))
        })
    }

    /// A page of a partition's accounts whose names begin so: ids, names, and where the next page starts.
    fn find_names(
        &self,
        partition: u16,
        prefix: String,
        after: Option<u128>,
        limit: usize,
        tokens: Vec<Token>,
    ) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let (partition, tokens) = (PartitionId(partition), models(tokens));
            let page = client.find_names(partition, &prefix, after, limit, &tokens).await;
            let page = page.map_err(Failure::of_read)?;
            let accounts = page.accounts.iter().map(|of| (of.id.0, of.name.to_string()));
            Ok(value((accounts.collect::<Vec<_>>(), page.next_cursor)))
        })
    }

    /// Number, name and scale of each ledger that was described.
    fn ledgers(&self, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let described = client.ledgers(&models(tokens)).await.map_err(Failure::of_read)?;
            let fields = described.iter().map(|of| (of.ledger.0, of.name.to_string(), of.scale));
            Ok(value(fields.collect::<Vec<_>>()))
        })
    }

    /// A page of a partition's log.
    fn read_log(&self, partition: u16, from_: u64, bytes_max: usize, tokens: Vec<Token>) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let (partition, from, tokens) = (PartitionId(partition), Offset(from_), models(tokens));
            let page = client.read_log(partition, from, bytes_max, &tokens).await;
            let fields = page.and_then(|page| log_page::fields(&page, from));
            Ok(value(fields.map_err(Failure::of_read)?))
        })
    }

    /// The log of a partition as it grows.
    fn subscribe(&self, partition: u16, from_: u64) -> Subscription {
        let inner = self.client.subscribe(PartitionId(partition), Offset(from_));
        Subscription::new(&self.host, inner)
    }

    /// Numbers and texts of a server's status, each with its partition and name.
    fn server_status(&self, partition: u16) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let report = client.server_status(PartitionId(partition)).await;
            let report = report.map_err(Failure::of_read)?;
            let numbers =
                report.numbers.into_iter().map(|(of, name, value)| (number(of), name, value));
            let texts = report.texts.into_iter().map(|(of, name, text)| (number(of), name, text));
            Ok(value((numbers.collect::<Vec<_>>(), texts.collect::<Vec<_>>())))
        })
    }

    /// Nodes, groups, replicas and troubles of the cluster.
    fn cluster_status(&self) -> Call {
        let client = self.client.clone();
        Call::new(&self.host, async move {
            let report = client.cluster_status().await.map_err(Failure::of_read)?;
            let nodes = report.nodes.into_values().map(|of| {
                let (client, peer) = (of.client_address, of.peer_address);
                let health = of.health.name();
                (
                    of.node,
                    health,
                    of.heard_seconds,
                    of.cores,
                    of.free_bytes,
                    client,
                    peer,
                    of.version,
                )
            });
            let groups = report.groups.into_iter().map(|(partition, of)| {
                (partition.0, of.leader, of.term, of.committed_offset.0, of.is_changing)
            });
            let replicas = report
                .replicas
                .into_iter()
                .map(|((partition, node), of)| (partition.0, node, of.role.name(), of.lag_entries));
            let troubles = report.troubles.into_iter().map(|of| (number(of.partition), of.text));
            Ok(value((
                nodes.collect::<Vec<_>>(),
                groups.collect::<Vec<_>>(),
                replicas.collect::<Vec<_>>(),
                troubles.collect::<Vec<_>>(),
            )))
        })
    }
}

fn number(partition: Option<PartitionId>) -> Option<u16> {
    partition.map(|partition| partition.0)
}

/// The partition of all events, if they are one batch: they are sent from where they are, and not copied into
/// one for each partition.
fn only_home(events: &[EventBytes], partitions: u16) -> Option<PartitionId> {
    let home = |chain| unit::path(chain, partitions).ok().flatten().map(|path| path.home);
    let mut homes = unit::units(events).map(home);
    let first = homes.next()??;
    (events.len() <= EVENTS_MAX && homes.all(|home| home == Some(first))).then_some(first)
}

/// As the client's own `submit_all`; but an error says how far the other batches came, which the client's
/// leaves open.
async fn submit_all(
    client: &on_tokio::Client,
    events: &[EventBytes],
) -> Result<Submitted, Failure> {
    if let Some(partition) = only_home(events, client.info().partitions) {
        return client.submit(partition, events).await.map_err(Failure::of_write);
    }
    let split = operation::split_by_partition(client.info(), events).map_err(Failure::of_read)?;
    let Split { batches, places } = split;
    let count = batches.len();
    let mut results = vec![Submitted::default(); count];
    let (mut failed, mut answered, mut is_open): (Option<ClientError>, _, _) = (None, 0, false);
    let done = |index: usize, result: Result<Submitted, ClientError>| match result {
        Ok(result) => (results[index], answered) = (result, answered + 1),
        Err(error) => {
            is_open |= may_have_changed(&error);
            failed.get_or_insert(error);
        }
    };
    client.submit_pipelined(batches, PIPELINE_DEPTH_DEFAULT, done).await;
    match failed {
        Some(error) => Err(Failure::of_batches(error, is_open, answered, count)),
        None => Ok(operation::merge(&Split { batches: Vec::new(), places }, &results)),
    }
}

/// Tokens, and for each event 18 bytes: verdict, marks (1: it has a record; 2: a repeat), offset, log time.
/// `OUTCOME` in `arrays.py` says the same to numpy.
fn answer_of(submitted: Submitted) -> Value {
    let tokens: Vec<Token> = submitted.tokens.iter().map(|token| Token(*token)).collect();
    value((tokens, outcomes(&submitted.outcomes)))
}

fn outcomes(of: &OutcomeRuns) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(of.events() * 18);
    for outcome in of.iter() {
        let marks = u8::from(outcome.offset.is_some()) | u8::from(!outcome.fresh) << 1;
        bytes.extend_from_slice(&[outcome.verdict.number(), marks]);
        bytes.extend_from_slice(&outcome.offset.map_or(0, |offset| offset.0).to_le_bytes());
        bytes.extend_from_slice(&outcome.timestamp.0.to_le_bytes());
    }
    bytes
}
