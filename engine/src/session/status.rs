//! The server's account of itself, as named numbers. Each shard tells of its own partitions.

use std::borrow::Cow;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::limits::{LABEL_BYTES_MAX, STATUS_ROWS_MAX};
use walengine_net::message::{
    NO_PARTITION, NumberRow, ServerStatusReply, TROUBLE, TextRow, bounded,
};
use walengine_net::model::PartitionId;

use super::admin::Operated;
use super::node_facts::NodeFacts;
use super::numbers::{of_partition, of_shard, troubles_of_nodes};
use crate::connection::outbox::Outbox;
use crate::limits::STATUS_TROUBLES_MAX;
use crate::metrics::family::status_rows;
use crate::metrics::node::{NODE, NodeNumbers};
use crate::metrics::numbers::PartitionNumbers;
use crate::metrics::table::{PARTITION, PEER, SHARD};
use crate::node_state::NodeState;
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::refused::Refused;
use crate::trouble::Trouble;
use crate::version::SERVER_VERSION;

/// A partition or [`NO_PARTITION`], the number's name, and the number.
type Row = (u16, Cow<'static, str>, u64);

/// Answers [`Kind::ServerStatus`], with as many of the shard's partitions as fit.
pub fn answer<C: Operated>(node: &NodeFacts<C>, outbox: &Outbox, head: FrameHead) {
    let state = &*node.state;
    let row = |(name, value)| (NO_PARTITION, Cow::Borrowed(name), value);
    let mut numbers: Vec<Row> = Vec::new();
    numbers.extend(status_rows(NODE, &NodeNumbers::of(state)).map(row));
    numbers.extend(status_rows(SHARD, &of_shard(node, outbox.budget())).map(row));
    numbers.extend(not_taken(state));
    let own = head.partition;
    let troubles = troubles(node, own);
    let mut texts =
        vec![TextRow { partition: NO_PARTITION, name: "version", text: SERVER_VERSION }];
    let links = match (&state.tls, state.config.reachable()) {
        (Some(_), _) => "secured by certificates",
        (None, None) => "not secured; only this machine reaches them",
        (None, Some(_)) => "insecure: whoever reaches this node may do everything",
    };
    texts.push(TextRow { partition: NO_PARTITION, name: "links", text: links });
    texts.extend(troubles.iter().map(|(partition, name, text)| TextRow {
        partition: *partition,
        name,
        text,
    }));
    let states: Vec<_> = node.partitions.iter().map(|partition| state_of(partition)).collect();
    // The connection's own partition is always there. Who wants all asks on a connection of each.
    for place in own_first(node.partitions.iter().map(|one| one.id().partition), own) {
        let before = numbers.len();
        put_partition(
            &of_partition(&node.partitions[place], node.dialers.get(place)),
            &mut numbers,
        );
        if numbers.len() + texts.len() >= STATUS_ROWS_MAX {
            numbers.truncate(before);
            break;
        }
        let (id, text) = (node.partitions[place].id().partition.0, &states[place]);
        texts.push(TextRow { partition: id, name: "state", text });
    }
    let numbers = numbers.iter().map(|(partition, name, value)| NumberRow {
        partition: *partition,
        value: *value,
        name,
    });
    let reply = ServerStatusReply { numbers: &numbers.collect::<Vec<_>>(), texts: &texts };
    outbox.put(Kind::ServerStatusReply, head, &reply);
}

/// Datagrams that were dropped and connections that were turned away, by reason: those that there were.
fn not_taken(state: &NodeState) -> impl Iterator<Item = Row> {
    let dropped = state
        .gossip_dropped
        .each()
        .map(|(reason, count)| (format!("datagrams_dropped_{reason}_since_start"), count));
    let away = state.turned_away.each().map(|(side, reason, count)| {
        let (side, reason) = (side.name(), reason.name());
        (format!("{side}_connections_turned_away_{reason}_since_start"), count)
    });
    let there_were = dropped.chain(away).filter(|(_, count)| *count > 0);
    there_were.map(|(name, count)| (NO_PARTITION, Cow::Owned(name), count))
}

/// Places of partitions, that of `own` before the others.
fn own_first(partitions: impl Iterator<Item = PartitionId>, own: PartitionId) -> Vec<usize> {
    let mut places: Vec<_> = partitions.enumerate().collect();
    places.sort_by_key(|(_, partition)| *partition != own);
    places.into_iter().map(|(place, _)| place).collect()
}

fn put_partition(of: &PartitionNumbers, numbers: &mut Vec<Row>) {
    let id = of.partition.0;
    let rows = status_rows(PARTITION, of);
    numbers.extend(rows.map(|(name, value)| (id, Cow::Borrowed(name), value)));
    for peer in of.peers.iter().filter(|peer| peer.is_dialled) {
        let rows = status_rows(PEER, peer);
        let named = |name: &str| Cow::Owned(format!("{name}{}", peer.node));
        numbers.extend(rows.map(|(name, value)| (id, named(name), value)));
    }
}

/// What a person should look at: about nodes, and in this shard's groups, first in that of `own`.
fn troubles<C: Commit>(node: &NodeFacts<C>, own: PartitionId) -> Vec<(u16, String, String)> {
    let row = |partition: u16, one: &Trouble| {
        let text = bounded(&one.text, LABEL_BYTES_MAX).to_owned();
        (partition, format!("{TROUBLE}{}", one.key), text)
    };
    let of_nodes = troubles_of_nodes(node);
    let of_nodes = of_nodes.iter().map(|one| row(NO_PARTITION, one));
    let of_groups = node.troubles.borrow();
    let mut of_groups: Vec<_> = of_groups
        .iter()
        .flat_map(|(partition, troubles)| troubles.iter().map(|one| row(partition.0, one)))
        .collect();
    of_groups.sort_by_key(|(partition, ..)| *partition != own.0);
    of_nodes.chain(of_groups).take(STATUS_TROUBLES_MAX).collect()
}

fn state_of<C: Commit>(partition: &Partition<C>) -> String {
    let text = match partition.stopped() {
        Some(Refused::Stopped(reason)) => format!("stopped: {reason}"),
        Some(_) => "shutting down".into(),
        None if partition.is_stuck() => "refusing writes: disk stuck".into(),
        None if partition.rotten() > 0 => "damaged: the server's log says where".into(),
        None if partition.is_full() => "refusing writes: disk nearly full".into(),
        None if partition.is_short_of_memory() => "refusing writes: memory nearly used up".into(),
        None if !partition.is_readable() => "catching up".into(),
        None if !partition.leads() => "following".into(),
        None if partition.is_importing() => {
            "taking an import, and nothing else until it is finished".into()
        }
        None => "serving".into(),
    };
    walengine_net::message::bounded(&text, walengine_net::limits::LABEL_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_the_connection_comes_first() {
        let partitions = || [1, 3, 5, 7].map(PartitionId).into_iter();
        assert_eq!(own_first(partitions(), PartitionId(5)), [2, 0, 1, 3]);
        assert_eq!(own_first(partitions(), PartitionId(9)), [0, 1, 2, 3]);
    }
}
