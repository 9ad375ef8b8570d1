//! Do nodes find each other, detect failed nodes, and find each other again?

use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use super::super::{NodeMeta, NodeStanding, OwnCondition, Standing, Warning};
use super::sim::{Sim, meta, settings};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn three_nodes_find_each_other_and_know_their_metadata() {
    let mut sim = Sim::cluster(1, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.until(SOON, "metadata everywhere", |sim| {
        let knows = |at, node| sim.view(at, node).and_then(|view| view.meta) == Some(meta(node));
        (1..=3).all(|at| (1..=3).all(|node| knows(at, node)))
    });
    assert_eq!(sim.view(1, 2).unwrap().cluster, Some(ClusterId(77)));
}

#[test]
fn three_nodes_form_one_cluster() {
    let mut sim = Sim::new(1);
    for node in 1..=3 {
        sim.add(settings(node, &[1, 2, 3], Some(3)), Standing::default());
    }
    sim.until(SOON, "formed", |sim| sim.nodes.values().all(|node| node.formed.len() == 1));
    let foundings: Vec<_> = sim.nodes.values().map(|node| node.formed[0].clone()).collect();
    assert!(foundings.windows(2).all(|pair| pair[0] == pair[1]), "{foundings:?}");
    sim.until(SOON, "all alive", Sim::all_alive);
}

#[test]
fn a_node_without_a_cluster_joins_that_of_its_seeds() {
    let mut sim = Sim::cluster(1, 3);
    sim.run(SOON);
    sim.add(settings(4, &[9, 3], None), Standing::default());
    sim.until(SOON, "joined", |sim| sim.nodes[&4].joined == [ClusterId(77)]);
    sim.until(SOON, "all alive", Sim::all_alive);
    assert_eq!(sim.nodes[&4].disk.cluster, Some((ClusterId(77), 8)));
}

/// The fault: three nodes that were to form a new cluster became members of another, since one of them
/// named a node of that in its seeds.
#[test]
fn a_node_that_is_to_form_a_cluster_never_joins_one_and_says_so() {
    let mut sim = Sim::cluster(1, 3);
    sim.run(SOON);
    for node in 11..=13 {
        let seeds = if node == 12 { &[11, 13, 3][..] } else { &[11, 12, 13] };
        sim.add(settings(node, seeds, Some(3)), Standing::default());
    }
    sim.run(6 * SOON);
    let told = Warning::FormsBesideCluster { seed: super::sim::address(3), cluster: ClusterId(77) };
    assert!(sim.nodes[&12].warnings.contains(&told), "{:?}", sim.nodes[&12].warnings);
    for node in 11..=13 {
        assert!(sim.nodes[&node].joined.is_empty(), "{node} joined");
        let cluster = sim.gossip(node).cluster();
        assert_ne!(cluster, Some(ClusterId(77)), "{node}");
    }
}

#[test]
fn a_node_with_another_key_and_the_one_that_it_speaks_to_are_both_told() {
    for keys in [None, Some(super::super::GossipKeys::one([8; 32]))] {
        let mut sim = Sim::cluster(1, 3);
        sim.run(SOON);
        let other = super::super::Settings { keys, ..settings(4, &[3], None) };
        sim.add(other, Standing::default());
        sim.run(SOON);
        let address = super::sim::address;
        assert_eq!(sim.nodes[&3].warnings, [Warning::OtherKey { address: address(4) }]);
        assert_eq!(sim.nodes[&4].warnings, [Warning::OtherKey { address: address(3) }]);
        sim.run(6 * SOON);
        assert!(sim.gossip(3).counters().unauthenticated < 500, "they do not go on for ever");
    }
}

/// The fault: a node that came back at another address before the others had seen it die was taken for
/// a copy, and ended.
#[test]
fn a_node_that_comes_back_at_another_address_is_heard_there() {
    for asleep in [0, 1, 5, 60] {
        let mut sim = Sim::cluster(14, 3);
        sim.until(SOON, "all alive", Sim::all_alive);
        sim.crash(2);
        sim.run(Duration::from_secs(asleep));
        let moved = super::sim::address(99);
        sim.nodes.get_mut(&2).unwrap().settings.peer_address = moved;
        sim.start(2);
        let is_heard = |sim: &Sim| {
            [1, 3].into_iter().all(|at| {
                let view = sim.view(at, 2).unwrap();
                view.peer_address == moved && view.standing == NodeStanding::Alive
            })
        };
        sim.until(6 * SOON, "heard at its new address", is_heard);
        let warnings = &sim.nodes[&2].warnings;
        let is_copy = |it: &Warning| matches!(it, Warning::NodeIdInUse { .. });
        assert!(!warnings.iter().any(is_copy), "{asleep}: {warnings:?}");
        for at in [1, 3] {
            assert_eq!(sim.nodes[&at].warnings, [], "node {at}, {asleep}: it is no copy");
        }
    }
}

#[test]
fn nodes_that_all_move_find_each_other_by_their_seeds() {
    let mut sim = Sim::cluster(15, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    for node in 1..=3 {
        sim.crash(node);
        let moved = &mut sim.nodes.get_mut(&node).unwrap().settings;
        moved.peer_address = super::sim::address(90 + node);
        moved.seeds = (91..=93).map(super::sim::address).collect();
    }
    (1..=3).for_each(|node| sim.start(node));
    sim.until(SOON, "all alive", Sim::all_alive);
    let view = sim.view(1, 2).unwrap();
    assert_eq!(view.peer_address, super::sim::address(92));
}

#[test]
fn a_crashed_node_is_dead_and_stays_in_sight_until_it_is_back() {
    let mut sim = Sim::cluster(1, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.crash(2);
    sim.until(2 * SOON, "dead", |sim| sim.standing(1, 2) == Some(NodeStanding::Dead));
    let since = sim.view(1, 2).unwrap().since;
    sim.run(Duration::from_hours(1));
    assert_eq!(sim.standing(1, 2), Some(NodeStanding::Dead));
    assert_eq!(sim.view(1, 2).unwrap().since, since);
    sim.start(2);
    sim.until(SOON, "alive again", Sim::all_alive);
}

#[test]
fn halves_that_lost_each_other_meet_again() {
    for seed in 0..10 {
        let mut sim = Sim::cluster(seed, 5);
        sim.until(SOON, "all alive", Sim::all_alive);
        sim.partition(&[1, 2], &[3, 4, 5]);
        sim.until(3 * SOON, "apart", |sim| {
            sim.standing(1, 5) == Some(NodeStanding::Dead)
                && sim.standing(5, 1) == Some(NodeStanding::Dead)
        });
        sim.run(Duration::from_mins(10));
        sim.cut.clear();
        sim.until(6 * SOON, "together", Sim::all_alive);
    }
}

#[test]
fn all_nodes_restart_and_find_each_other_by_their_seeds() {
    let mut sim = Sim::cluster(2, 5);
    sim.until(SOON, "all alive", Sim::all_alive);
    for _ in 0..3 {
        for node in 1..=5 {
            sim.crash(node);
        }
        sim.run(Duration::from_secs(1));
        for node in 1..=5 {
            sim.start(node);
        }
        sim.until(2 * SOON, "all alive", Sim::all_alive);
    }
}

#[test]
fn a_node_whose_seeds_are_all_gone_is_found_by_those_who_know_it() {
    let mut sim = Sim::cluster(2, 3);
    sim.add(settings(4, &[9], None), Standing { cluster: Some((ClusterId(77), 8)), promise: None });
    sim.run(SOON);
    assert_eq!(sim.standing(1, 4), None);
    let now = sim.now;
    sim.gossip(1).introduce(4, super::sim::address(4), now);
    assert_eq!(sim.standing(1, 4), Some(NodeStanding::Dead));
    sim.until(SOON, "all alive", Sim::all_alive);
}

#[test]
fn a_false_suspicion_is_refuted() {
    let mut sim = Sim::cluster(3, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(SOON);
    // 2 hears nothing for a moment, not long enough to count as dead.
    sim.cut = vec![(1, 2), (3, 2)];
    sim.until(SOON, "suspect", |sim| sim.standing(1, 2) == Some(NodeStanding::Suspect));
    sim.cut.clear();
    sim.until(SOON, "refuted", Sim::all_alive);
    // Now long enough: it comes back as a new life of the same node.
    sim.cut = vec![(1, 2), (3, 2)];
    sim.until(2 * SOON, "dead", |sim| sim.standing(1, 2) == Some(NodeStanding::Dead));
    sim.cut.clear();
    sim.until(2 * SOON, "back", Sim::all_alive);
}

#[test]
fn an_unsteady_network_makes_nobody_dead() {
    let mut sim = Sim::cluster(4, 5);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.faults.lose = 0.05;
    sim.faults.repeat = 0.05;
    sim.faults.delay_millis_max = 100;
    for _ in 0..600 {
        sim.run(Duration::from_secs(1));
        for at in 1..=5 {
            for node in 1..=5 {
                assert_ne!(sim.standing(at, node), Some(NodeStanding::Dead), "{at} {node}");
            }
        }
    }
}

#[test]
fn a_node_that_leaves_has_left_everywhere_and_may_come_back() {
    let mut sim = Sim::cluster(5, 5);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(SOON);
    sim.faults.lose = 0.1;
    let now = sim.now;
    sim.gossip(2).leave(now);
    sim.drain(2);
    sim.until(SOON, "told", |sim| sim.nodes[&2].gossip.as_ref().unwrap().has_left());
    sim.crash(2);
    sim.until(SOON, "left", |sim| {
        [1, 3, 4, 5].iter().all(|&at| sim.standing(at, 2) == Some(NodeStanding::Left))
    });
    sim.run(6 * SOON);
    assert_eq!(sim.standing(1, 2), Some(NodeStanding::Left));
    sim.start(2);
    sim.until(2 * SOON, "back", Sim::all_alive);
}

#[test]
fn a_node_whose_clock_went_back_is_heard_again() {
    let mut sim = Sim::cluster(6, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.run(10 * SOON);
    sim.crash(2);
    sim.nodes.get_mut(&2).unwrap().clock_behind = Duration::from_hours(1);
    sim.start(2);
    sim.until(2 * SOON, "heard again", Sim::all_alive);
    let changed = NodeMeta { free_bytes: 4711, ..meta(2) };
    sim.gossip(2).set_meta(changed.clone()).unwrap();
    sim.drain(2);
    sim.until(2 * SOON, "metadata", |sim| {
        [1, 3].iter().all(|&at| sim.view(at, 2).unwrap().meta.as_ref() == Some(&changed))
    });
    assert_eq!(sim.gossip(1).counters().node_id_in_use, 0);
}

#[test]
fn metadata_reaches_everybody_and_newcomers_too() {
    let mut sim = Sim::cluster(7, 5);
    sim.until(SOON, "all alive", Sim::all_alive);
    let led = (0..1024).map(|p| (PartitionId(p), u64::from(p) + 1)).collect();
    let much = NodeMeta { led, ..meta(3) };
    sim.gossip(3).set_meta(much.clone()).unwrap();
    sim.drain(3);
    let knows = |sim: &Sim, at: u64, it: &NodeMeta| {
        sim.view(at, 3).is_some_and(|view| view.meta.as_ref() == Some(it))
    };
    sim.until(SOON, "much", |sim| (1..=5).all(|at| knows(sim, at, &much)));
    sim.add(settings(6, &[1], None), Standing::default());
    sim.until(2 * SOON, "at the newcomer", |sim| knows(sim, 6, &much));
    // It leads nothing any more: an empty page is news, too. A new life leads nothing.
    sim.gossip(3).set_meta(meta(3)).unwrap();
    sim.drain(3);
    sim.until(SOON, "little", |sim| (1..=6).all(|at| knows(sim, at, &meta(3))));
    sim.gossip(3).set_meta(much.clone()).unwrap();
    sim.drain(3);
    sim.until(SOON, "much again", |sim| (1..=6).all(|at| knows(sim, at, &much)));
    sim.crash(3);
    sim.start(3);
    sim.until(2 * SOON, "a new life", |sim| (1..=6).all(|at| knows(sim, at, &meta(3))));
}

#[test]
fn a_process_that_slept_takes_nobody_else_for_dead() {
    let mut suspected = 0;
    for seed in 0..20 {
        let mut sim = Sim::cluster(seed, 3);
        sim.until(SOON, "all alive", Sim::all_alive);
        sim.run(SOON);
        // Stopped while it suspects a node.
        sim.cut = vec![(2, 1), (3, 1)];
        sim.run(Duration::from_millis(1_500 + 75 * seed));
        let others = [2, 3].map(|node| sim.standing(1, node));
        suspected += others.iter().filter(|it| **it == Some(NodeStanding::Suspect)).count();
        let gossip = sim.nodes.get_mut(&1).unwrap().gossip.take();
        sim.cut.clear();
        sim.run(3 * SOON);
        sim.nodes.get_mut(&1).unwrap().gossip = gossip;
        let until = sim.now + Duration::from_secs(5);
        while sim.step(until) {
            for node in [2, 3] {
                assert_ne!(sim.standing(1, node), Some(NodeStanding::Dead), "seed {seed}: {node}");
            }
        }
        sim.until(3 * SOON, "all alive", Sim::all_alive);
    }
    assert!(suspected > 10, "{suspected} suspects say nothing");
}

#[test]
fn a_dead_node_is_forgotten_on_request_only() {
    let mut sim = Sim::cluster(9, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    assert!(!sim.gossip(1).forget(2), "it lives");
    sim.crash(2);
    sim.until(2 * SOON, "dead", |sim| sim.standing(1, 2) == Some(NodeStanding::Dead));
    sim.run(SOON); // until nobody tells it any more
    assert!(sim.gossip(1).forget(2));
    sim.drain(1);
    sim.run(6 * SOON);
    assert_eq!(sim.standing(1, 2), None);
    assert_eq!(sim.standing(3, 2), Some(NodeStanding::Dead));
}

#[test]
fn a_second_node_with_an_id_in_use_is_refused_and_told() {
    let mut sim = Sim::cluster(10, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    // The simulation knows it under another number; on the wire it is a second node 2.
    let impostor = super::super::Settings {
        node: 2,
        peer_address: super::sim::address(99),
        ..settings(99, &[1, 3], None)
    };
    let disk = Standing { cluster: Some((ClusterId(77), 8)), promise: None };
    sim.add(settings(99, &[1, 3], None), disk);
    sim.crash(99);
    sim.nodes.get_mut(&99).unwrap().settings = impostor;
    sim.start(99);
    let told = |it: &Warning| matches!(it, Warning::NodeIdInUse { .. });
    let is_twice = |it: &Warning| matches!(it, Warning::NodeIdUsedTwice { .. });
    for _ in 0..120 {
        let now = sim.now;
        sim.gossip(2).tell_condition(OwnCondition::default(), now);
        sim.drain(2);
        sim.run(Duration::from_millis(500));
        for at in [1, 3] {
            let view = sim.view(at, 2).unwrap();
            assert_eq!(view.standing, NodeStanding::Alive);
            assert_eq!(view.peer_address, super::sim::address(2));
        }
        // The copy's process ends when it is told: the others must know of it by then.
        let is_told = sim.nodes[&99].warnings.iter().any(told);
        let is_known = [1, 3].iter().any(|at| sim.nodes[at].warnings.iter().any(is_twice));
        assert!(is_known || !is_told, "nobody could say why the copy ended");
    }
    assert!(sim.gossip(1).counters().node_id_in_use > 0);
    let warned = &sim.nodes[&99].warnings;
    assert!(warned.iter().any(told), "{warned:?}");
    // The others tell, too, once a minute at most.
    let told = Warning::NodeIdUsedTwice {
        node: 2,
        known: super::sim::address(2),
        claimed_by: super::sim::address(99),
    };
    for at in [1, 3] {
        let warned = &sim.nodes[&at].warnings;
        assert_eq!(warned.first(), Some(&told), "node {at}");
        assert!(warned.len() <= 2, "{warned:?}");
    }
}

#[test]
fn each_node_knows_the_others_disks_and_clocks_while_they_live() {
    let mut sim = Sim::cluster(14, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    let second = Duration::from_secs(1);
    let tell = |sim: &mut Sim, is_full: bool| {
        let now = sim.now;
        for node in sim.running() {
            // The clock of node 3 is ten seconds ahead.
            let ahead = if node == 3 { 10 * second } else { Duration::ZERO };
            let clock = Timestamp((now + ahead).as_nanos() as u64);
            let is_full = is_full && node == 2;
            let condition = OwnCondition { is_full, clock, ..OwnCondition::default() };
            sim.gossip(node).tell_condition(condition, now);
            sim.drain(node);
        }
        sim.run(second);
    };
    assert_eq!(sim.view(1, 2).unwrap().condition, None, "not told yet");
    (0..3).for_each(|_| tell(&mut sim, true));
    let seen = |sim: &Sim, at, node| sim.view(at, node).unwrap().condition.unwrap();
    assert!(seen(&sim, 1, 2).is_full && !seen(&sim, 1, 2).is_fit() && seen(&sim, 1, 3).is_fit());
    for (at, node, ahead) in [(1, 2, 0), (1, 3, 10), (3, 1, -10), (3, 3, 0)] {
        let off = seen(&sim, at, node).clock_ahead_nanos - ahead * 1_000_000_000;
        assert!(off.abs() < 10_000_000, "node {at} sees node {node} off by {off} ns");
    }
    (0..2).for_each(|_| tell(&mut sim, false));
    assert!(seen(&sim, 1, 2).is_fit());
    sim.crash(3);
    sim.until(10 * second, "dead", |sim| sim.standing(1, 3) == Some(NodeStanding::Dead));
    assert_eq!(sim.view(1, 3).unwrap().condition, None, "that was long ago");
}

/// Fault: a node that was greeted by a copy of itself believed the copy and ended.
#[test]
fn a_copy_that_asks_its_original_is_told_by_it_and_the_original_stays() {
    let mut sim = Sim::cluster(12, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    let copy = super::super::Settings {
        node: 2,
        peer_address: super::sim::address(99),
        ..settings(99, &[2], None)
    };
    let disk = Standing { cluster: Some((ClusterId(77), 8)), promise: None };
    sim.add(settings(99, &[2], None), disk);
    sim.crash(99);
    sim.nodes.get_mut(&99).unwrap().settings = copy;
    sim.start(99);
    sim.run(Duration::from_secs(20));
    let told = |warnings: &[Warning]| {
        warnings.iter().any(|warning| matches!(warning, Warning::NodeIdInUse { .. }))
    };
    assert!(told(&sim.nodes[&99].warnings), "{:?}", sim.nodes[&99].warnings);
    assert!(!told(&sim.nodes[&2].warnings), "{:?}", sim.nodes[&2].warnings);
    assert!(sim.gossip(2).counters().node_id_in_use > 0);
}

/// Fault: both others suspected 3, then lost each other, which made foca drop the timers that would
/// have declared 3 dead. Nobody told 3 any more, and it stayed suspect for ever although it
/// answered.
#[test]
fn nobody_stays_suspect_who_answers() {
    for seed in 0..100 {
        let mut sim = Sim::cluster(seed, 3);
        sim.until(SOON, "all alive", Sim::all_alive);
        let millis = 10 * (seed % 37);
        sim.cut = vec![(1, 3), (2, 3)];
        sim.run(Duration::from_millis(1_500 + millis));
        sim.partition(&[1], &[2]);
        sim.run(Duration::from_millis(4_000 + 10 * millis));
        sim.cut.clear();
        sim.until(6 * SOON, &format!("seed {seed}: all alive"), Sim::all_alive);
    }
}
