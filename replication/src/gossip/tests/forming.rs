//! Is a cluster formed exactly once, whatever fails?
//!
//! GOSSIP.md, section 10, lists bugs that were put in by hand and found by these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use walengine_net::model::ClusterId;

use super::super::forming::{Forming, FormingStart};
use super::super::forming_message::FormingMessage;
use super::super::{
    Founding, FoundingMember, NodeStanding, Promise, PromiseState, Standing, Warning,
};
use super::sim::{Faults, Sim, address, settings};
use crate::types::NodeId;

const SOON: Duration = Duration::from_secs(15);

/// The clusters that any node knows: on disk, or told to its caller.
fn clusters(sim: &Sim) -> BTreeSet<ClusterId> {
    let formed = |promise: &Promise| {
        (promise.state == PromiseState::Formed).then_some(promise.founding.cluster)
    };
    sim.nodes
        .values()
        .flat_map(|node| {
            let told = node.formed.iter().map(|founding| founding.cluster);
            let disk = node.disk.cluster.iter().map(|&(cluster, _)| cluster);
            let promised = node.disk.promise.iter().filter_map(formed);
            told.chain(disk).chain(node.joined.iter().copied()).chain(promised).collect::<Vec<_>>()
        })
        .collect()
}

/// At most one cluster, and it was formed only with the promises of all its members.
fn check(sim: &Sim, seed: u64, expect: usize) {
    let clusters = clusters(sim);
    assert!(clusters.len() <= 1, "seed {seed}: {clusters:?}");
    for founding in sim.nodes.values().flat_map(|node| &node.formed) {
        let founder = sim.nodes[&founding.members[0].node].disk.promise.as_ref();
        assert!(
            founder.is_some_and(|promise| promise.state == PromiseState::Formed),
            "seed {seed}: {founding:?} is told and not decided: {founder:?}"
        );
        assert_eq!(founding.members.len(), expect, "seed {seed}: {founding:?}");
        for member in &founding.members {
            let promise = sim.nodes[&member.node].disk.promise.as_ref();
            assert!(
                promise.is_some_and(|promise| promise.founding == *founding),
                "seed {seed}: {} has promised {promise:?}, not {founding:?}",
                member.node
            );
        }
    }
}

/// Runs of five nodes of which any three may form a cluster.
const OVERLAPPING_SEEDS: u64 = 300;

fn chaos(seed: u64, nodes: u64, expect: usize) -> Sim {
    let mut sim = Sim::new(seed);
    sim.faults = Faults {
        lose: [0.0, 0.1, 0.3][sim.rng.random_range(0..3)],
        repeat: 0.1,
        delay_millis_max: [5, 100, 700][sim.rng.random_range(0..3)],
    };
    for node in 1..=nodes {
        sim.add(settings(node, &[1, 2, 3], Some(expect)), Standing::default());
        let state = sim.nodes.get_mut(&node).unwrap();
        state.save_millis_max = 200;
        if sim.rng.random_bool(0.2) {
            sim.crash(node);
        }
    }
    let all: Vec<NodeId> = (1..=nodes).collect();
    for _ in 0..sim.rng.random_range(5..60) {
        // Stop between any two steps, so that most crashes hit something unfinished.
        if sim.rng.random_bool(0.1) {
            // Long enough for a founder to give up.
            let secs = sim.rng.random_range(5..25);
            sim.run(Duration::from_secs(secs));
        } else if sim.rng.random_bool(0.5) {
            let millis = sim.rng.random_range(1..1_500);
            sim.run(Duration::from_millis(millis));
        } else {
            for _ in 0..sim.rng.random_range(1..40) {
                sim.step(sim.now + Duration::from_secs(1));
            }
        }
        // Preferably crash a node that is saving a promise, and hide it from the others after that.
        let saving = sim.saving();
        if let Some(&node) = saving.choose(&mut sim.rng)
            && sim.rng.random_bool(0.3)
        {
            sim.crash(node);
            if sim.rng.random_bool(0.5) {
                split(&mut sim, &all);
            }
            if sim.rng.random_bool(0.8) {
                sim.start(node);
            }
        }
        let node = *all.choose(&mut sim.rng).unwrap();
        match sim.rng.random_range(0..12) {
            0..4 if sim.nodes[&node].gossip.is_some() => sim.crash(node),
            0..8 if sim.nodes[&node].gossip.is_none() => sim.start(node),
            8 => {
                let others: Vec<_> = all.iter().copied().filter(|&other| other != node).collect();
                sim.partition(&[node], &others);
            }
            9 => sim.cut.clear(),
            10 | 11 => split(&mut sim, &all),
            _ => {}
        }
        check(&sim, seed, expect);
    }
    sim
}

/// Splits the nodes into two groups that do not hear each other. Removes earlier cuts.
fn split(sim: &mut Sim, all: &[NodeId]) {
    sim.cut.clear();
    let (left, right): (Vec<_>, Vec<_>) = all.iter().partition(|_| sim.rng.random_bool(0.5));
    sim.partition(&left, &right);
}

#[test]
fn at_most_one_cluster_is_formed_and_all_are_in_it_when_faults_stop() {
    let mut formed_amid = 0;
    for seed in 0..400 {
        let nodes = if seed % 2 == 0 { 3 } else { 5 };
        let mut sim = chaos(seed, nodes, nodes as usize);
        formed_amid += u32::from(!clusters(&sim).is_empty());
        sim.faults = Faults { delay_millis_max: 5, ..Faults::default() };
        sim.cut.clear();
        for node in 1..=nodes {
            if sim.nodes[&node].gossip.is_none() {
                sim.start(node);
            }
        }
        let what = format!("seed {seed}: all in one cluster");
        sim.until(Duration::from_secs(90), &what, |sim| {
            sim.nodes.values().all(|node| node.disk.cluster.is_some())
        });
        check(&sim, seed, nodes as usize);
        assert_eq!(clusters(&sim).len(), 1, "seed {seed}");
        let foundings: BTreeMap<_, _> = sim
            .nodes
            .values()
            .flat_map(|node| &node.formed)
            .map(|founding| (founding.cluster, founding))
            .collect();
        assert_eq!(foundings.len(), 1, "seed {seed}");
        sim.until(Duration::from_mins(1), &format!("seed {seed}: all alive"), Sim::all_alive);
    }
    // Otherwise there are too few or too many faults for a result.
    assert!((50..=350).contains(&formed_amid), "{formed_amid} of 400 formed amid faults");
}

/// More nodes than expected, with different ones cut off in turn: founding sets overlap, and only
/// promises keep them apart.
#[test]
fn at_most_one_cluster_is_formed_by_overlapping_sets() {
    let mut formed_amid: u64 = 0;
    for seed in 0..OVERLAPPING_SEEDS {
        let sim = chaos(seed, 5, 3);
        formed_amid += u64::from(!clusters(&sim).is_empty());
    }
    assert!(formed_amid >= OVERLAPPING_SEEDS / 10, "{formed_amid} formed amid faults");
}

#[test]
fn a_founder_that_crashes_after_its_decision_tells_it_when_it_is_back() {
    for nodes in [3, 5] {
        let mut sim = Sim::new(3);
        for node in 1..=nodes {
            sim.add(settings(node, &[1, 2, 3], Some(nodes as usize)), Standing::default());
        }
        let decided = |sim: &Sim| {
            let promise = sim.nodes[&1].disk.promise.as_ref();
            promise.is_some_and(|promise| promise.state == PromiseState::Formed)
        };
        while !decided(&sim) {
            let others: Vec<_> = (2..=nodes).collect();
            let saving = sim.nodes.values().all(|node| node.disk.promise.is_some());
            if saving && sim.cut.is_empty() {
                // Its datagrams are lost from now on, theirs still arrive.
                sim.cut.extend(others.iter().map(|&node| (1, node)));
            }
            sim.step(sim.now + SOON);
        }
        sim.crash(1);
        sim.cut.clear();
        sim.run(SOON);
        assert!(sim.nodes.values().skip(1).all(|node| node.formed.is_empty()));
        sim.start(1);
        sim.until(SOON, "formed", |sim| sim.nodes.values().all(|node| !node.formed.is_empty()));
        assert_eq!(clusters(&sim).len(), 1);
    }
}

#[test]
fn a_node_that_missed_the_decision_learns_it_from_any_member() {
    let mut sim = Sim::new(4);
    for node in 1..=3 {
        sim.add(settings(node, &[1, 2, 3], Some(3)), Standing::default());
    }
    while sim.nodes.values().any(|node| node.disk.promise.is_none()) {
        sim.step(sim.now + SOON);
    }
    sim.partition(&[3], &[1, 2]);
    // 3 has promised durably. Its answer may be lost, so let its datagrams through.
    sim.cut.retain(|&(from, _)| from != 3);
    sim.until(SOON, "formed without 3", |sim| !sim.nodes[&2].formed.is_empty());
    assert!(sim.nodes[&3].formed.is_empty());
    sim.crash(1); // the founder
    sim.cut.clear();
    sim.until(SOON, "formed at 3", |sim| !sim.nodes[&3].formed.is_empty());
}

#[test]
fn two_of_three_form_nothing() {
    let mut sim = Sim::new(5);
    for node in 1..=2 {
        sim.add(settings(node, &[1, 2, 3], Some(3)), Standing::default());
    }
    sim.run(Duration::from_mins(2));
    assert!(sim.nodes.values().all(|node| node.disk.promise.is_none()));
}

#[test]
fn more_candidates_than_expected_form_nothing_and_say_so() {
    let mut sim = Sim::new(6);
    sim.faults.delay_millis_max = 0;
    for node in 1..=4 {
        sim.add(settings(node, &[1], Some(3)), Standing::default());
    }
    sim.run(Duration::from_mins(1));
    assert!(clusters(&sim).is_empty(), "{:?}", clusters(&sim));
    for node in sim.nodes.values() {
        let warning = Warning::TooManyCandidates { expect: 3, found: 4 };
        assert!(node.warnings.contains(&warning), "{:?}", node.warnings);
    }
    // A person removes one: the cluster forms.
    sim.crash(4);
    sim.until(2 * SOON, "formed", |sim| (1..=3).all(|node| !sim.nodes[&node].formed.is_empty()));
}

#[test]
fn nodes_that_expect_different_things_form_nothing_and_say_so() {
    let mut sim = Sim::new(7);
    sim.add(settings(1, &[1], Some(2)), Standing::default());
    sim.add(settings(2, &[1], Some(3)), Standing::default());
    sim.run(Duration::from_secs(30));
    assert!(clusters(&sim).is_empty());
    let warnings = |node: u64| &sim.nodes[&node].warnings;
    assert!(warnings(1).contains(&Warning::OtherExpect { node: 2, expect: 3 }));
    assert!(warnings(2).contains(&Warning::OtherExpect { node: 1, expect: 2 }));

    let mut sim = Sim::new(7);
    sim.add(settings(1, &[1], Some(2)), Standing::default());
    let other = super::super::Settings { partitions: 4, ..settings(2, &[1], Some(2)) };
    sim.add(other, Standing::default());
    sim.run(Duration::from_secs(30));
    assert!(clusters(&sim).is_empty());
    let warning = Warning::OtherPartitions { node: 2, partitions: 4 };
    assert!(sim.nodes[&1].warnings.contains(&warning));
}

/// The other half of what was meant: a node that is to join one helps nobody to form one.
#[test]
fn nodes_that_are_to_join_a_cluster_never_form_one() {
    let mut sim = Sim::new(9);
    for node in 1..=4 {
        let expect = (node <= 2).then_some(3);
        sim.add(settings(node, &[1, 2, 3, 4], expect), Standing::default());
    }
    sim.run(Duration::from_mins(2));
    assert!(clusters(&sim).is_empty(), "{:?}", clusters(&sim));
    assert!(sim.nodes.values().all(|node| node.disk.promise.is_none() && node.joined.is_empty()));
    // They do join it once it is there.
    sim.add(settings(5, &[1, 2], Some(3)), Standing::default());
    sim.until(2 * SOON, "formed", |sim| {
        [1, 2, 5].iter().all(|id| !sim.nodes[id].formed.is_empty())
    });
    sim.until(2 * SOON, "joined", |sim| [3, 4].iter().all(|id| sim.nodes[id].joined.len() == 1));
}

#[test]
fn one_node_may_form_a_cluster_of_one() {
    let mut sim = Sim::new(8);
    sim.add(settings(1, &[], Some(1)), Standing::default());
    sim.until(SOON, "formed", |sim| sim.nodes[&1].formed.len() == 1);
    sim.add(settings(2, &[1], None), Standing::default());
    sim.until(SOON, "joined", |sim| sim.nodes[&2].joined.len() == 1);
}

#[test]
fn a_formed_cluster_takes_no_member_of_another() {
    let mut sim = Sim::cluster(9, 3);
    for node in 11..=13 {
        let disk = Standing { cluster: Some((ClusterId(88), 8)), promise: None };
        sim.add(settings(node, &[1, 11], None), disk);
    }
    sim.run(2 * SOON);
    for (at, node) in [(1, 11), (11, 1), (13, 3)] {
        assert_eq!(sim.standing(at, node), None);
    }
    assert_eq!(sim.standing(12, 13), Some(NodeStanding::Alive));
    assert!(sim.gossip(1).counters().other_cluster > 0);
}

#[test]
fn only_members_acknowledge_the_founders_decision() {
    let cluster = ClusterId(77);
    let member =
        |node| FoundingMember { node, peer_address: address(node), client_address: String::new() };
    let founding = Founding { cluster, partitions: 8, members: vec![member(1), member(2)] };
    let mut founder = Forming::new(FormingStart {
        me: 1,
        peer_address: address(1),
        expect: Some(2),
        partitions: 8,
        cluster: Some(cluster),
        promise: Some(Promise { state: PromiseState::Formed, founding }),
        seed: 1,
        boot: 1,
        now: SOON,
    });
    let mut committed = |from| {
        let message = FormingMessage::Committed(cluster);
        founder.handle(from, address(from), message, &[], SOON);
        founder.next_wake().is_none()
    };
    assert!(!committed(9), "a node that is no member ended the repetition");
    assert!(committed(2));
}
