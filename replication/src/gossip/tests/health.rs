//! Do nodes find each other, notice who is gone, and find each other again?

use std::time::Duration;

use walengine_net::model::ClusterId;

use super::super::{NodeStanding, Standing};
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
    for expect in [None, Some(3)] {
        let mut sim = Sim::cluster(1, 3);
        sim.run(SOON);
        sim.add(settings(4, &[9, 3], expect), Standing::default());
        sim.until(SOON, "joined", |sim| sim.nodes[&4].joined == [ClusterId(77)]);
        sim.until(SOON, "all alive", Sim::all_alive);
        assert_eq!(sim.nodes[&4].disk.cluster, Some((ClusterId(77), 8)));
    }
}

#[test]
fn a_crashed_node_is_dead_and_stays_in_sight_until_it_is_back() {
    let mut sim = Sim::cluster(1, 3);
    sim.until(SOON, "all alive", Sim::all_alive);
    sim.crash(2);
    sim.until(2 * SOON, "dead", |sim| sim.standing(1, 2) == Some(NodeStanding::Dead));
    let since = sim.view(1, 2).unwrap().since;
    sim.run(Duration::from_secs(3600));
    assert_eq!(sim.standing(1, 2), Some(NodeStanding::Dead));
    assert_eq!(sim.view(1, 2).unwrap().since, since);
    sim.start(2);
    sim.until(SOON, "alive again", Sim::all_alive);
}
