//! Can a datagram change membership that no member sent to this node in this life?

use std::time::{Duration, Instant};

use foca::{Codec as _, Header, Message};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use walengine_net::model::ClusterId;

use super::super::envelope::{DatagramError, DatagramHead, DatagramKind, Seal};
use super::super::identity::{Codec, SwimIdentity};
use super::super::limits::{LIFE_MAX, STRANGERS_MAX};
use super::super::{GossipKeys, NodeStanding, NodeView, Warning};
use super::sim::{Sim, address, settings};

const SOON: Duration = Duration::from_secs(10);

fn views(sim: &Sim, at: u64) -> Vec<NodeView> {
    sim.nodes[&at].gossip.as_ref().unwrap().nodes().collect()
}

fn mutated(rng: &mut SmallRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..4) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at.min(bytes.len()), rng.random()),
            _ => bytes.resize(rng.random_range(0..2_000), 0),
        }
    }
    bytes
}

#[test]
fn random_and_mutated_datagrams_change_nothing_with_a_key() {
    for seed in 0..5 {
        let mut sim = Sim::cluster(seed, 3);
        sim.record = Some(Vec::new());
        sim.until(SOON, "all alive", Sim::all_alive);
        sim.run(2 * SOON);
        let recorded = sim.record.take().unwrap();
        let before = views(&sim, 1);
        let accepted = sim.gossip(1).counters().accepted;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut injected = 0;
        while injected < 20_000 {
            let mut bytes = vec![0; rng.random_range(0..1_600)];
            rng.fill_bytes(&mut bytes);
            let (from, _, original) = recorded.choose(&mut rng).unwrap();
            if rng.random_bool(0.8) {
                bytes = mutated(&mut rng, original);
                if bytes == *original {
                    continue;
                }
            }
            injected += 1;
            sim.inject(1, *from, &bytes);
        }
        assert_eq!(views(&sim, 1), before, "seed {seed}");
        let counters = *sim.gossip(1).counters();
        assert_eq!(counters.accepted, accepted, "seed {seed}: {counters:?}");
        for count in [counters.foreign, counters.short, counters.oversized] {
            assert!(count > 0, "seed {seed}: {counters:?}");
        }
        assert!(counters.unauthenticated > 1_000, "seed {seed}: {counters:?}");
        sim.run(SOON);
        assert!(sim.all_alive());
    }
}

#[test]
fn without_a_key_whatever_passes_the_checksum_makes_no_panic() {
    // The checksum is corrected, so that the parsers see the change.
    let mut sim = Sim::new(1);
    for node in 1..=3 {
        let settings = super::super::Settings { keys: None, ..settings(node, &[1, 2], Some(3)) };
        sim.add(settings, super::super::Standing::default());
    }
    sim.record = Some(Vec::new());
    sim.run(2 * SOON);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut sequence = 1_u64 << 32;
    for _ in 0..60_000 {
        // Recent ones only: a node may have taken another boot because of earlier datagrams.
        let recorded = sim.record.as_ref().unwrap();
        let latest = &recorded[recorded.len().saturating_sub(200)..];
        let (from, to, original) = latest.choose(&mut rng).unwrap().clone();
        let node = sim.nodes.values().find(|state| state.settings.peer_address == to);
        let Some(node) = node.map(|state| state.settings.node) else { continue };
        // Mostly change the body; in the header anything that does not make later datagrams old.
        let mut bytes = if rng.random_bool(0.9) {
            [&original[..92], &mutated(&mut rng, &original[92..])].concat()
        } else {
            mutated(&mut rng, &original)
        };
        if bytes.len() >= 92 {
            bytes[8..24].fill(0);
            bytes[48..56].copy_from_slice(&original[48..56]); // the sender's boot
            sequence += 1;
            bytes[56..64].copy_from_slice(&sequence.to_le_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[24..]);
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        sim.inject(node, from, &bytes);
        if rng.random_bool(0.002) {
            sim.run(Duration::from_millis(100));
        }
    }
    sim.run(SOON);
    let counters = sim.gossip(1).counters();
    assert!(counters.accepted > 1_000 && counters.malformed > 1_000, "{counters:?}");
}

#[test]
fn a_replayed_datagram_is_taken_by_nobody() {
    let mut sim = Sim::cluster(2, 3);
    sim.record = Some(Vec::new());
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(2 * SOON);
    let recorded = sim.record.take().unwrap();
    for at in 1..=3 {
        let before = (views(&sim, at), *sim.gossip(at).counters());
        for (from, _, bytes) in &recorded {
            sim.inject(at, *from, bytes);
        }
        assert_eq!(views(&sim, at), before.0);
        let counters = *sim.gossip(at).counters();
        assert!(counters.replayed > before.1.replayed + 50, "{counters:?}");
    }
}

#[test]
fn a_replay_behind_a_restart_resurrects_and_kills_nobody() {
    let mut sim = Sim::cluster(3, 4);
    sim.record = Some(Vec::new());
    sim.until(SOON, "all alive", Sim::all_alive);
    // Record this: 2 dies, 3 counts as dead for a while and comes back. Then 1 restarts.
    sim.crash(2);
    sim.cut = vec![(1, 3), (4, 3), (3, 1), (3, 4)];
    sim.until(3 * SOON, "3 is thought dead", |sim| sim.standing(1, 3) == Some(NodeStanding::Dead));
    sim.cut.clear();
    sim.until(3 * SOON, "3 is back", |sim| sim.standing(1, 3) == Some(NodeStanding::Alive));
    sim.until(3 * SOON, "2 is dead", |sim| sim.standing(1, 2) == Some(NodeStanding::Dead));
    let recorded = sim.record.take().unwrap();
    sim.crash(1);
    sim.start(1);
    // At once, when it knows no node, and again later.
    for _ in 0..2 {
        let before = views(&sim, 1);
        for (from, to, bytes) in &recorded {
            if *to == address(1) {
                sim.inject(1, *from, bytes);
            }
        }
        assert_eq!(views(&sim, 1), before);
        sim.until(2 * SOON, "all alive", Sim::all_alive);
        assert_ne!(sim.standing(1, 2), Some(NodeStanding::Alive));
    }
}

#[test]
fn strangers_are_answered_at_a_bounded_rate() {
    let mut sim = Sim::cluster(4, 2);
    sim.until(SOON, "all alive", Sim::all_alive);
    // Greetings that all differ, by a node that has the key.
    let mut stranger = Stranger::new(9);
    let hellos: Vec<_> = (0..20_000).map(|_| stranger.hello()).collect();
    let sent = sim.gossip(1).counters().sent;
    for hello in &hellos {
        sim.inject(1, address(9), hello);
    }
    let counters = sim.gossip(1).counters();
    assert!(counters.sent - sent <= 100, "{counters:?}");
    assert!(counters.unanswered >= 19_900, "{counters:?}");
    sim.run(SOON);
    assert!(sim.all_alive());
}

/// Makes datagrams as a node with the key would.
struct Stranger {
    seal: Seal,
    head: DatagramHead,
}

impl Stranger {
    fn new(node: u64) -> Self {
        let head = DatagramHead {
            kind: DatagramKind::Hello,
            cluster: ClusterId(77),
            node,
            boot: 5,
            sequence: 0,
            to_boot: 0,
            peer_address: address(node),
            partitions: 8,
        };
        Self { seal: Seal::new(Some(&GossipKeys::one([7; 32]))), head }
    }

    fn hello(&mut self) -> Vec<u8> {
        self.head.sequence += 1;
        self.seal.seal(&self.head, &[])
    }
}

/// Ten seconds of a flood of everything that was ever sent, and of forgeries of it, from its senders'
/// addresses and from made-up ones: nobody's view changes, nobody is suspected, few are told of it, and a
/// node that starts in the midst of it is heard.
#[test]
fn a_flood_of_forged_and_replayed_datagrams_changes_no_view() {
    let mut sim = Sim::cluster(6, 4);
    sim.record = Some(Vec::new());
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(2 * SOON);
    sim.crash(4);
    sim.until(SOON, "4 is dead", |sim| sim.standing(1, 4) == Some(NodeStanding::Dead));
    sim.run(SOON);
    let recorded = sim.record.take().unwrap();
    let before: Vec<_> = (1..=3).map(|at| views(&sim, at)).collect();
    let told: Vec<_> = (1..=3).map(|at| sim.nodes[&at].warnings.len()).collect();
    let mut rng = SmallRng::seed_from_u64(6);
    let dropped = |sim: &mut Sim, at| {
        let dropped = sim.gossip(at).counters().dropped();
        dropped.iter().map(|(_, count)| count).sum::<u64>()
    };
    let dropped_before: u64 = (1..=3).map(|at| dropped(&mut sim, at)).sum();
    let mut flood = |sim: &mut Sim, millis: u64| {
        for _ in 0..millis {
            for _ in 0..10 {
                let (from, _, bytes) = recorded.choose(&mut rng).unwrap();
                let mut bytes = bytes.clone();
                let mut from = *from;
                if rng.random_bool(0.5) {
                    let at = rng.random_range(7..bytes.len());
                    bytes[at] ^= 1 << rng.random_range(0..8);
                    if rng.random_bool(0.5) {
                        from.set_port(rng.random_range(1_024..=u16::MAX));
                    }
                }
                sim.inject(rng.random_range(1..=3), from, &bytes);
            }
            sim.run(Duration::from_millis(1));
        }
    };
    for _ in 0..10 {
        flood(&mut sim, 1_000);
        for at in 1..=3 {
            assert_eq!(views(&sim, at), before[at as usize - 1], "node {at}");
        }
    }
    for at in 1..=3 {
        let warnings = &sim.nodes[&at].warnings[told[at as usize - 1]..];
        assert!(warnings.len() <= 3 * STRANGERS_MAX, "node {at}: {} warnings", warnings.len());
        let is_stranger = |it: &Warning| matches!(it, Warning::OtherKey { .. });
        assert!(warnings.iter().all(is_stranger), "node {at}: {warnings:?}");
    }
    let dropped: u64 = (1..=3).map(|at| dropped(&mut sim, at)).sum();
    assert!(dropped - dropped_before >= 99_000, "{}", dropped - dropped_before);
    sim.start(4);
    flood(&mut sim, 5_000);
    assert!(sim.all_alive(), "node 4 was not heard through the flood");
}

/// The life that a node runs in.
fn boot_of(sim: &mut Sim, node: u64, seal: &Seal) -> u64 {
    sim.record = Some(Vec::new());
    sim.run(Duration::from_millis(1_100));
    let sent = sim.record.take().unwrap();
    let last = sent.iter().rfind(|(from, _, _)| *from == address(node)).unwrap();
    seal.open(&last.2).unwrap().0.boot
}

/// A life in every place where a message of SWIM, a Welcome or a head can name one. The fault: the one that a probe is
/// about, and the one that it is for, were taken as they came.
#[test]
fn a_life_that_cannot_be_is_believed_nowhere() {
    let mut sim = Sim::cluster(9, 2);
    sim.until(SOON, "all alive", Sim::all_alive);
    let mut liar = Stranger::new(9);
    let boot = boot_of(&mut sim, 1, &liar.seal);
    (liar.head.kind, liar.head.to_boot) = (DatagramKind::Swim, boot);
    let life = |node: u64, bump: u64| SwimIdentity { node, bump, address: address(node) };
    for (claimed, is_malformed) in [(LIFE_MAX, false), (LIFE_MAX + 1, true), (u64::MAX, true)] {
        let (target, origin, probe_number) = (life(8, claimed), life(8, claimed), 1);
        let (src, me) = (life(9, 5), life(1, boot));
        for (what, src, dst, message) in [
            ("a target", src, me, Message::PingReq { target, probe_number }),
            ("an origin", src, me, Message::IndirectPing { origin, probe_number }),
            ("who has answered", src, me, Message::IndirectAck { target, probe_number }),
            ("who has asked", src, me, Message::ForwardedAck { origin, probe_number }),
            ("the receiver", src, life(1, claimed), Message::Gossip),
            ("the sender", life(9, claimed), me, Message::Gossip),
        ] {
            let mut body = Vec::new();
            let header = Header { src, src_incarnation: 0, dst, message };
            Codec.encode_header(&header, &mut body).unwrap();
            body.extend_from_slice(&0_u16.to_be_bytes());
            liar.head.sequence += 1;
            let bytes = liar.seal.seal(&liar.head, &body);
            let before = *sim.gossip(1).counters();
            sim.inject(1, address(9), &bytes);
            let after = *sim.gossip(1).counters();
            let malformed = after.malformed - before.malformed;
            assert_eq!(malformed, u64::from(is_malformed), "{what} of life {claimed}");
            assert_eq!(after.accepted - before.accepted, 1, "{what}: {after:?}");
        }
    }
    liar.head.kind = DatagramKind::Welcome;
    for (bump, known) in [(5, LIFE_MAX), (5, LIFE_MAX + 1), (LIFE_MAX, 5), (LIFE_MAX + 1, 5)] {
        let body = [bump, known].map(u64::to_le_bytes).concat();
        liar.head.sequence += 1;
        let bytes = liar.seal.seal(&liar.head, &body);
        let before = sim.gossip(1).counters().malformed;
        sim.inject(1, address(9), &bytes);
        let malformed = sim.gossip(1).counters().malformed - before;
        assert_eq!(malformed, u64::from(bump.max(known) > LIFE_MAX), "welcome {bump} {known}");
    }
    for (boot, to_boot) in [(LIFE_MAX + 1, boot), (5, LIFE_MAX + 1)] {
        let head = DatagramHead { boot, to_boot, ..liar.head };
        let opened = liar.seal.open(&liar.seal.seal(&head, &[]));
        assert_eq!(opened, Err(DatagramError::Malformed));
    }
}

/// The fault: whoever had the key said every two seconds that a node was once in a later life, ten years at a
/// time. After two minutes there was no later name left, and the process ended.
#[test]
fn no_claim_of_a_later_life_ends_a_process() {
    let mut sim = Sim::cluster(8, 2);
    sim.until(SOON, "all alive", Sim::all_alive);
    let mut liar = Stranger::new(2);
    let first = boot_of(&mut sim, 1, &liar.seal);
    let years = |count: u64| count * 365 * 24 * 3_600 * 1_000_000_000;
    liar.head.kind = DatagramKind::Welcome;
    liar.head.boot = first + years(1);
    for claimed in [years(9), u64::MAX - 1] {
        for _ in 0..120 {
            let now = boot_of(&mut sim, 1, &liar.seal);
            liar.head.boot += 1_000_000_000; // later than whatever the true one has taken meanwhile
            liar.head.sequence += 1;
            liar.head.to_boot = now;
            liar.head.peer_address = address(2);
            let known = now.saturating_add(claimed);
            let body = [first.to_le_bytes(), known.to_le_bytes()].concat();
            let bytes = liar.seal.seal(&liar.head, &body);
            sim.inject(1, address(2), &bytes);
        }
    }
    let last = boot_of(&mut sim, 1, &liar.seal);
    assert!(last > first && last <= first + years(10), "{last}");
}

/// Whoever listens learns neither who the nodes are nor where.
#[test]
fn names_and_addresses_are_not_in_a_sealed_datagram() {
    let names = |sim: &Sim| {
        let sent = sim.record.as_ref().unwrap();
        let holds = |text: &[u8]| {
            let found = sent.iter().filter(|it| it.2.windows(text.len()).any(|part| part == text));
            found.count()
        };
        let ip = |node: u8| [10, 0, 0, node];
        (1..=3).map(|node| holds(&ip(node)) + holds(format!("db{node}.").as_bytes())).sum::<usize>()
            + holds(b"example")
            + holds(&77_u128.to_le_bytes())
    };
    for sealed in [false, true] {
        let mut sim = Sim::new(1);
        sim.record = Some(Vec::new());
        for node in 1..=3 {
            let settings = settings(node, &[1, 2, 3], None);
            let keys = settings.keys.clone().filter(|_| sealed);
            let standing =
                super::super::Standing { cluster: Some((ClusterId(77), 8)), promise: None };
            sim.add(super::super::Settings { keys, ..settings }, standing);
        }
        sim.until(SOON, "all alive", Sim::all_alive);
        sim.run(SOON);
        assert!(sim.record.as_ref().unwrap().len() > 100);
        assert_eq!(names(&sim) == 0, sealed, "they are found where nothing is sealed");
    }
}

/// First the new key opens, too, then it seals, then the old one goes, each step on one node after
/// another: nobody is suspected.
#[test]
fn keys_are_exchanged_while_nobody_is_suspected() {
    let (old, new) = ([7; 32], [9; 32]);
    let steps = [GossipKeys::two(old, new), GossipKeys::two(new, old), GossipKeys::one(new)];
    let mut sim = Sim::cluster(7, 5);
    sim.until(SOON, "all alive", Sim::all_alive);
    let since = sim.now;
    for keys in &steps {
        for node in 1..=5 {
            sim.gossip(node).set_keys(keys);
            for _ in 0..40 {
                sim.run(Duration::from_millis(100));
                assert!(sim.all_alive(), "after node {node} took {keys:?}");
            }
        }
    }
    for at in 1..=5 {
        for view in views(&sim, at) {
            assert!(view.since <= since, "node {} was suspected by {at}", view.node);
        }
        assert_eq!(sim.gossip(at).counters().unauthenticated, 0);
    }
    // A node that was left behind is not heard any more.
    let mut behind = Stranger::new(9);
    sim.inject(1, address(9), &behind.hello());
    assert_eq!(sim.gossip(1).counters().unauthenticated, 1);
}

#[test]
fn a_flood_costs_little() {
    let mut sim = Sim::cluster(5, 3);
    sim.record = Some(Vec::new());
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(SOON);
    let mut rng = SmallRng::seed_from_u64(5);
    let mut random = vec![0; 1_400];
    rng.fill_bytes(&mut random);
    let recorded = sim.record.take().unwrap();
    let longest = recorded.iter().max_by_key(|(_, _, bytes)| bytes.len()).unwrap().2.clone();
    let mut forged = longest.clone();
    forged.resize(1_400, 0);
    let replayed = recorded.iter().rfind(|(_, to, _)| *to == address(1));
    let replayed = replayed.unwrap().2.clone();
    for (what, bytes) in [("random", random), ("forged", forged), ("replayed", replayed)] {
        let start = Instant::now();
        for _ in 0..20_000 {
            sim.inject(1, address(2), &bytes);
        }
        let took = start.elapsed();
        println!("20,000 {what} datagrams of {} bytes: {took:?}", bytes.len());
        // A second's flood; very generous, for a busy machine without optimization.
        assert!(took < Duration::from_secs(1), "{what}: {took:?}");
    }
}
