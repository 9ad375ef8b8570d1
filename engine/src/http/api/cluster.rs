//! Nodes and partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::future::join;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use walengine_net::client::ClusterReport;
use walengine_net::message::NodeHealth;

use super::asked::Unasked;
use super::document::AnyProblem;
use crate::http::caller::Caller;
use crate::http::json::Digits;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::limits::HTTP_CLUSTER_WITHIN;

/// The cluster as its nodes see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownCluster {
    /// The cluster's id: 32 digits to base 16.
    cluster: String,
    /// Version of the node that answers.
    version: String,
    nodes: Vec<ShownNode>,
    partitions: Vec<ShownPartition>,
    /// What a person should look at.
    troubles: Vec<ShownTrouble>,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownNode {
    #[schema(value_type = String)]
    node: Digits<u64>,
    /// `alive`, `suspect`, `dead` or `left`.
    health: String,
    /// Whether it has just answered the node that tells; `null`: it was not asked, since it is not alive, or there
    /// is no address.
    answers: Option<bool>,
    /// Seconds in that state.
    for_seconds: u64,
    cores: u16,
    /// Bytes free where its data is.
    #[schema(value_type = String)]
    free_bytes: Digits<u64>,
    client_address: String,
    peer_address: String,
    version: String,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownPartition {
    partition: u16,
    /// The node that leads it, if one is known to.
    #[schema(value_type = Option<String>)]
    leader: Option<Digits<u64>>,
    #[schema(value_type = String)]
    term: Digits<u64>,
    /// Everything below is committed.
    #[schema(value_type = String)]
    committed_offset: Digits<u64>,
    /// Its membership is being changed.
    is_changing: bool,
    replicas: Vec<ShownReplica>,
}

/// A replica.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownReplica {
    #[schema(value_type = String)]
    node: Digits<u64>,
    role: String,
    /// Entries of the log that it is not known to have.
    #[schema(value_type = String)]
    lag_entries: Digits<u64>,
}

/// Something that a person should look at.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownTrouble {
    /// `null`: it is about a node, or all of them.
    partition: Option<u16>,
    text: String,
}

/// Nodes, leaders and troubles.
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "cluster",
    operation_id = "getCluster",
    responses((status = 200, body = ShownCluster, description = "As the nodes see it"), AnyProblem)
)]
pub async fn status(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
) -> Result<Json<ShownCluster>, Problem> {
    let client = shared.client(&caller).await?;
    let identity = caller.identity()?;
    let before = shared.seen.lock().await.clone().filter(|(who, _)| *who == identity);
    let (report, answers) = if let Some((_, before)) = before {
        // A cluster whose leader has just died tells nothing until it has another one: what it said last, then,
        // and which nodes answer.
        let addresses = addresses(&before);
        let asked = timeout(HTTP_CLUSTER_WITHIN, client.cluster_status());
        let (report, answers) = join(asked, shared.answers.of(&addresses)).await;
        (report.unwrap_or(Ok(before))?, answers)
    } else {
        let report = client.cluster_status().await?;
        let answers = shared.answers.of(&addresses(&report)).await;
        (report, answers)
    };
    *shared.seen.lock().await = Some((identity, report.clone()));
    let info = client.info();
    Ok(Json(ShownCluster {
        cluster: format!("{:032x}", info.cluster.0),
        version: info.server_version.clone(),
        nodes: nodes(&report, &answers),
        partitions: partitions(&report),
        troubles: report
            .troubles
            .iter()
            .map(|trouble| ShownTrouble {
                partition: trouble.partition.map(|partition| partition.0),
                text: trouble.text.clone(),
            })
            .collect(),
    }))
}

/// Where those that are alive take clients.
fn addresses(report: &ClusterReport) -> Vec<String> {
    let alive = report.nodes.values().filter(|node| node.health == NodeHealth::Alive);
    let addresses = alive.map(|node| node.client_address.clone());
    addresses.filter(|address| !address.is_empty()).collect()
}

fn nodes(report: &ClusterReport, answers: &BTreeMap<String, bool>) -> Vec<ShownNode> {
    let shown = report.nodes.values().map(|node| ShownNode {
        node: Digits(node.node),
        health: node.health.name().to_owned(),
        answers: Some(node.client_address.as_str())
            .filter(|_| node.health == NodeHealth::Alive)
            .and_then(|address| answers.get(address).copied()),
        for_seconds: node.heard_seconds,
        cores: node.cores,
        free_bytes: Digits(node.free_bytes),
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
        version: node.version.clone(),
    });
    shown.collect()
}

fn partitions(report: &ClusterReport) -> Vec<ShownPartition> {
    let shown = report.groups.iter().map(|(&partition, group)| {
        let replicas = report.replicas.iter().filter(|((of, _), _)| *of == partition);
        ShownPartition {
            partition: partition.0,
            leader: group.leader.map(Digits),
            term: Digits(group.term),
            committed_offset: Digits(group.committed_offset.0),
            is_changing: group.is_changing,
            replicas: replicas
                .map(|((_, node), replica)| ShownReplica {
                    node: Digits(*node),
                    role: replica.role.name().to_owned(),
                    lag_entries: Digits(replica.lag_entries),
                })
                .collect(),
        }
    });
    shown.collect()
}
