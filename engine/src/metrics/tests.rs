//! Tests of the tables, the page and the document.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use walengine_net::model::{PartitionId, Verdict};
use walengine_replication::turned_away::{Reason, Side};

use super::document::document;
use super::family::{Family, Head, status_rows};
use super::kafka::KAFKA;
use super::node::{
    BUILD, GOSSIP_DROPPED, NODE, NodeNumbers, SHARD_AGE, SeenShard, TROUBLE, TURNED_AWAY,
};
use super::numbers::{PartitionNumbers, PeerNumbers, PeersRefused, Published, ShardNumbers};
use super::page::text_of;
use super::table::{PARTITION, PEER, SHARD, TIMES, VERDICTS};

fn heads_of<T>(table: &[Family<T>]) -> impl Iterator<Item = Head> {
    table.iter().map(|family| family.head)
}

fn heads() -> Vec<Head> {
    let irregular = [BUILD, TROUBLE, TURNED_AWAY, GOSSIP_DROPPED, SHARD_AGE, VERDICTS];
    let tables = heads_of(NODE).chain(heads_of(SHARD)).chain(heads_of(PARTITION));
    let tables = tables.chain(heads_of(KAFKA));
    let tables = tables.chain(heads_of(PEER)).chain(TIMES.iter().map(|times| times.head));
    tables.chain(irregular).collect()
}

fn shard(numbers: ShardNumbers) -> SeenShard {
    SeenShard { numbers: Arc::new(numbers), age_seconds: 1 }
}

/// A node with two shards, the first of which leads a partition.
fn numbers() -> NodeNumbers {
    let peer = PeerNumbers {
        node: 3,
        is_dialled: true,
        lag_entries: Some(17),
        silent_seconds: None,
        appends: 5,
        ..PeerNumbers::default()
    };
    let mut partition = PartitionNumbers {
        partition: PartitionId(4),
        next_offset: 9,
        leads: true,
        is_full: true,
        refused_memory: 2,
        verdicts: vec![(Verdict::Ok, 8), (Verdict::ExceedsCredits, 1)],
        peers: vec![peer],
        ..PartitionNumbers::default()
    };
    partition.commit.record(Duration::from_millis(3));
    let first = ShardNumbers {
        peer_connections: 2,
        partitions: vec![partition],
        troubles: vec!["node_3_disk_slow".to_owned()],
        peers: Some(PeersRefused::default()),
        ..ShardNumbers::default()
    };
    let second =
        ShardNumbers { troubles: vec!["node_3_disk_slow".to_owned()], ..ShardNumbers::default() };
    NodeNumbers {
        connections: 7,
        is_secured: true,
        certificate_left_seconds: Some(3600),
        turned_away: vec![(Side::Peer, Reason::Expired, 3)],
        shards: vec![shard(first), shard(second)],
        ..NodeNumbers::default()
    }
}

#[test]
fn a_page_shows_what_shards_and_node_have_said() {
    let page = text_of(numbers());
    for line in [
        "# HELP walengine_next_offset Offset of the next record: behind what a leader has decided, or a follower \
         has applied",
        "# UNIT walengine_commit_seconds seconds",
        "# TYPE walengine_records counter",
        "walengine_next_offset{partition=\"4\"} 9",
        "walengine_leads{partition=\"4\"} 1",
        "walengine_refusing{partition=\"4\",reason=\"disk_full\"} 1",
        "walengine_refusing{partition=\"4\",reason=\"memory\"} 0",
        "walengine_refused_total{partition=\"4\",reason=\"memory\"} 2",
        "walengine_verdicts_total{partition=\"4\",verdict=\"exceeds_credits\"} 1",
        "walengine_commit_seconds_bucket{le=\"0.002\",partition=\"4\"} 0",
        "walengine_commit_seconds_bucket{le=\"0.005\",partition=\"4\"} 1",
        "walengine_commit_seconds_bucket{le=\"+Inf\",partition=\"4\"} 1",
        "walengine_commit_seconds_count{partition=\"4\"} 1",
        "walengine_follower_lag_entries{partition=\"4\",peer=\"3\"} 17",
        "walengine_appends_total{partition=\"4\",peer=\"3\"} 5",
        "walengine_shard_numbers_age_seconds{shard=\"1\"} 1",
        "walengine_peers_refused_total{shard=\"0\",what=\"greeting\"} 0",
        "walengine_connections{kind=\"tls\"} 7",
        "walengine_connections{kind=\"plain\"} 0",
        "walengine_connections{kind=\"peer\"} 2",
        "walengine_connections_turned_away_total{side=\"peer\",reason=\"expired\"} 3",
        "walengine_certificate_left_seconds 3600",
        "walengine_troubles 1",
        "walengine_trouble{peer=\"3\",trouble=\"disk_slow\"} 1",
    ] {
        assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
    }
    assert!(page.contains("walengine_build_info{version=\""), "{page}");
    assert!(page.ends_with("# EOF\n"));
    // What nobody knows is not shown as 0.
    assert!(!page.contains("walengine_follower_silent_seconds{"), "{page}");
    assert!(!page.contains("walengine_peers_refused_total{shard=\"1\""), "{page}");
}

#[test]
fn a_node_that_has_just_started_has_a_page() {
    let page = text_of(NodeNumbers::default());
    for head in heads() {
        let name = head.full_name();
        let name = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} is not in\n{page}");
    }
    assert!(!page.contains("\nwalengine_certificate_left_seconds "), "without certificates");
}

#[test]
fn each_name_is_one_number_in_metrics_and_in_status() {
    let names: Vec<String> = heads().iter().map(Head::full_name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for Head { name, help, .. } in heads() {
        assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('|'), "{name}: {help}");
    }
    let numbers = numbers();
    let shard = &*numbers.shards[0].numbers;
    let partition = &shard.partitions[0];
    let of_node = status_rows(NODE, &numbers).chain(status_rows(SHARD, shard));
    let of_partition = status_rows(PARTITION, partition);
    let of_partition = of_partition.chain(status_rows(PEER, &partition.peers[0]));
    for rows in [of_node.collect::<Vec<_>>(), of_partition.collect()] {
        let names: BTreeSet<_> = rows.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), rows.len(), "{rows:?}");
    }
}

#[test]
fn a_reader_gets_the_newest_of_each_shard() {
    let published = Published::new(2);
    let of = |connections| ShardNumbers { connections, ..ShardNumbers::default() };
    published.put(1, of(5));
    let read = published.newest();
    published.put(1, of(6));
    assert_eq!(read.iter().map(|it| it.connections).collect::<Vec<_>>(), [0, 5]);
    assert_eq!(published.newest()[1].connections, 6);
}

#[test]
fn the_document_lists_what_the_tables_have() {
    let again = "cargo run --example metrics_document -p walengine >engine/src/metrics/METRICS.md";
    assert!(document() == include_str!("METRICS.md"), "METRICS.md is of other tables: {again}");
}
