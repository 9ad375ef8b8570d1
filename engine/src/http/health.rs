//! Whether the process lives, and whether it is ready for clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;

use super::shared::{NOT_OPENED, Shared};
use crate::limits::SHARD_SILENT_AFTER;
use crate::metrics::node::NodeNumbers;
use crate::metrics::numbers::PartitionNumbers;

/// The process answers. Nothing else is asked of it.
pub async fn live() -> &'static str {
    "live\n"
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// What is in the way.
    reasons: Vec<String>,
}

/// 200 if this node does its part for clients now, and 503 with what is in the way.
pub async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let reasons = match shared.node.get() {
        Some(node) => reasons(&NodeNumbers::of(node)),
        None => vec![NOT_OPENED.to_owned()],
    };
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons }))
}

/// What keeps a node from doing its part, the node's own first.
fn reasons(node: &NodeNumbers) -> Vec<String> {
    let of_node = [
        (node.is_full, "the disk is nearly full: writes are refused"),
        (node.is_short_of_memory, "memory is nearly used up: writes are refused"),
        (node.is_stuck, "the disk does not answer"),
        (node.is_leaving, "the node is leaving the cluster"),
    ];
    let of_node = of_node.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text.to_owned());
    let mut reasons: Vec<String> = of_node.collect();
    let mut partitions = 0;
    for (number, shard) in node.shards.iter().enumerate() {
        if shard.age_seconds > SHARD_SILENT_AFTER.as_secs() {
            reasons.push(format!("shard {number} has said nothing for {} s", shard.age_seconds));
        }
        partitions += shard.numbers.partitions.len() as u64;
        reasons.extend(shard.numbers.partitions.iter().filter_map(reason));
    }
    if partitions < node.partitions {
        let missing = node.partitions - partitions;
        reasons.push(format!("{missing} of {} partitions have said nothing yet", node.partitions));
    }
    reasons
}

/// What keeps a partition from doing its part; the worst only.
fn reason(partition: &PartitionNumbers) -> Option<String> {
    let what = match partition {
        PartitionNumbers { is_stopped: true, .. } => "has stopped",
        PartitionNumbers { is_stuck: true, .. } => "waits for the disk",
        PartitionNumbers { is_readable: false, .. } => "is catching up",
        PartitionNumbers { is_importing: true, .. } => "takes an import, and nothing else",
        PartitionNumbers { leads: false, knows_leader: false, .. } => "knows no leader",
        _ => return None,
    };
    Some(format!("partition {} {what}", partition.partition))
}

#[cfg(test)]
mod tests {
    use walengine_net::model::PartitionId;

    use super::*;
    use crate::metrics::node::SeenShard;
    use crate::metrics::numbers::ShardNumbers;

    fn node(age_seconds: u64, partitions: Vec<PartitionNumbers>) -> NodeNumbers {
        let numbers = Arc::new(ShardNumbers { partitions, ..ShardNumbers::default() });
        let shards = vec![SeenShard { numbers, age_seconds }];
        NodeNumbers { partitions: 2, shards, ..NodeNumbers::default() }
    }

    #[test]
    fn a_node_is_ready_when_all_of_it_is() {
        let serves = |partition| PartitionNumbers {
            partition: PartitionId(partition),
            is_readable: true,
            knows_leader: true,
            ..PartitionNumbers::default()
        };
        assert_eq!(reasons(&node(1, vec![serves(0), serves(1)])), [""; 0]);
        let alone = PartitionNumbers { knows_leader: false, ..serves(1) };
        assert_eq!(reasons(&node(1, vec![serves(0), alone])), ["partition 1 knows no leader"]);
        let late = PartitionNumbers { is_readable: false, knows_leader: false, ..serves(0) };
        assert_eq!(reasons(&node(1, vec![late, serves(1)])), ["partition 0 is catching up"]);
        let silent = reasons(&node(60, vec![serves(0)]));
        assert_eq!(
            silent,
            ["shard 0 has said nothing for 60 s", "1 of 2 partitions have said nothing yet"]
        );
        let full = NodeNumbers { is_full: true, ..node(1, vec![serves(0), serves(1)]) };
        assert_eq!(reasons(&full), ["the disk is nearly full: writes are refused"]);
    }
}
