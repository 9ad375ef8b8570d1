//! Conversations of two nodes, and the first datagram of every form in them: the contents of the
//! golden files. Nothing here is random.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId, Timestamp};
use walengine_replication::gossip::{
    Founding, FoundingMember, Gossip, NodeMeta, Output, OwnCondition, Promise, PromiseState,
    Settings, Standing,
};

const CLUSTER: ClusterId = ClusterId(0x000f_0e0d_0c0b_0a09_0807_0605_0403_0201);
const BOOT_NANOS: u64 = 1_700_000_000_000_000_000;

/// Names of the files without their ending, and the bytes.
pub fn datagrams() -> BTreeMap<String, Vec<u8>> {
    let mut said = BTreeMap::new();
    for conversation in [formed, released, refused, id_in_use, left, condition] {
        for bytes in conversation() {
            said.entry(format!("{}_crc", name(&bytes))).or_insert(bytes);
        }
    }
    said
}

/// The kind; for SWIM and forming also the message.
fn name(bytes: &[u8]) -> String {
    let (kind, body) = (bytes[6], &bytes[92..]);
    match kind {
        1 => "1_hello".into(),
        2 => "2_welcome".into(),
        3 if body.is_empty() => "3_refused".into(),
        3 => "3_refused_silence".into(),
        4 => format!("4_swim_{:02}", body[34 + 2 + 34]),
        5 => format!("5_forming_{}", body[0]),
        6 => "6_leave".into(),
        _ => "7_condition".into(),
    }
}

fn address(node: u64) -> SocketAddr {
    match node {
        1 => "10.0.0.1:7451".parse().unwrap(),
        other => format!("[fd00::{other}]:7451").parse().unwrap(),
    }
}

fn settings(node: u64, expect: Option<usize>) -> Settings {
    Settings {
        node,
        peer_address: address(node),
        seeds: vec![address(1), address(2)],
        keys: None,
        expect,
        partitions: 8,
        boot: Timestamp(BOOT_NANOS + node),
        meta: NodeMeta {
            client_address: format!("db{node}.example:7450"),
            cores: 4,
            version: "0.1.0".into(),
            led: BTreeMap::from([(PartitionId(node as u16), 7), (PartitionId(70), 9)]),
            free_bytes: 1 << 40,
            leaving: false,
        },
    }
}

fn founding() -> Founding {
    let member = |node: u64| FoundingMember {
        node,
        peer_address: address(node),
        client_address: format!("db{node}.example:7450"),
    };
    Founding { cluster: CLUSTER, partitions: 8, members: vec![member(1), member(2)] }
}

fn promised() -> Standing {
    let promise = Promise { state: PromiseState::Promised, founding: founding() };
    Standing { cluster: None, promise: Some(promise) }
}

fn member() -> Standing {
    Standing { cluster: Some((CLUSTER, 8)), promise: None }
}

/// Runs until `until`. Datagrams and disks take no time.
fn talk(nodes: &mut [Gossip], addresses: &[SocketAddr], until: Duration) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        let mut quiet = false;
        let now = nodes.iter().map(Gossip::next_wake).min().unwrap();
        while !quiet {
            quiet = true;
            for at in 0..nodes.len() {
                while let Some(output) = nodes[at].next_output() {
                    quiet = false;
                    match output {
                        Output::Send { to, bytes } => {
                            said.push(bytes.clone());
                            if let Some(to) = addresses.iter().position(|&known| known == to) {
                                nodes[to].handle(addresses[at], &bytes, now.min(until));
                            }
                        }
                        Output::SavePromise(_) => nodes[at].promise_saved(now.min(until)),
                        _ => {}
                    }
                }
            }
        }
        if now >= until {
            return said;
        }
        for node in nodes.iter_mut() {
            node.tick(now);
        }
    }
}

fn start(settings: Settings, standing: Standing) -> Gossip {
    Gossip::new(settings, standing, 1, Duration::ZERO).unwrap()
}

fn formed() -> Vec<Vec<u8>> {
    let mut nodes =
        [start(settings(1, Some(2)), promised()), start(settings(2, Some(2)), Standing::default())];
    talk(&mut nodes, &[address(1), address(2)], Duration::from_secs(5))
}

/// The founder has lost everything about the cluster that it began to form.
fn released() -> Vec<Vec<u8>> {
    let mut nodes =
        [start(settings(1, None), Standing::default()), start(settings(2, Some(2)), promised())];
    talk(&mut nodes, &[address(1), address(2)], Duration::from_secs(5))
}

fn refused() -> Vec<Vec<u8>> {
    let mut nodes =
        [start(settings(1, Some(2)), promised()), start(settings(2, None), Standing::default())];
    talk(&mut nodes, &[address(1), address(2)], Duration::from_secs(5))
}

fn id_in_use() -> Vec<Vec<u8>> {
    let second = Settings { peer_address: address(9), ..settings(2, None) };
    let mut nodes = [
        start(settings(1, None), member()),
        start(settings(2, None), member()),
        start(second, member()),
    ];
    let addresses = [address(1), address(2), address(9)];
    let mut said = talk(&mut nodes[..2], &addresses[..2], Duration::from_secs(1));
    said.extend(talk(&mut nodes, &addresses, Duration::from_secs(3)));
    said
}

fn left() -> Vec<Vec<u8>> {
    let mut nodes = [start(settings(1, None), member()), start(settings(2, None), member())];
    let addresses = [address(1), address(2)];
    let mut said = talk(&mut nodes, &addresses, Duration::from_secs(2));
    nodes[1].leave(Duration::from_secs(2));
    said.extend(talk(&mut nodes, &addresses, Duration::from_millis(2_050)));
    said
}

fn condition() -> Vec<Vec<u8>> {
    let mut nodes = [start(settings(1, None), member()), start(settings(2, None), member())];
    let addresses = [address(1), address(2)];
    let mut said = talk(&mut nodes, &addresses, Duration::from_secs(2));
    let clock = Timestamp(BOOT_NANOS + 2_000_000_000);
    let own = OwnCondition { is_full: true, is_slow: true, clock, ..OwnCondition::default() };
    nodes[1].tell_condition(own, Duration::from_secs(2));
    said.extend(talk(&mut nodes, &addresses, Duration::from_millis(2_050)));
    said
}
