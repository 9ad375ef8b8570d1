//! Each rule by name, and random groups: does no step cost a quorum, and do the steps end?

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::gossip::NodeMeta;

const CLUSTER: ClusterId = ClusterId(7);
const NOW: Duration = Duration::from_secs(10_000);
const POLICY: Policy = Policy { replicas: 3, dead_after: Duration::from_mins(5) };

fn address(node: NodeId) -> SocketAddr {
    format!("10.0.0.{node}:7451").parse().unwrap()
}

fn ids(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

fn node(node: NodeId, standing: NodeStanding, for_secs: u64) -> NodeView {
    NodeView {
        node,
        peer_address: address(node),
        standing,
        since: NOW.saturating_sub(Duration::from_secs(for_secs)),
        meta: Some(NodeMeta::default()),
        cluster: Some(CLUSTER),
    }
}

fn alive(nodes: &[NodeId]) -> Vec<NodeView> {
    nodes.iter().map(|&id| node(id, NodeStanding::Alive, 1_000)).collect()
}

fn leaving(id: NodeId) -> NodeView {
    let meta = Some(NodeMeta { leaving: true, ..NodeMeta::default() });
    NodeView { meta, ..node(id, NodeStanding::Alive, 1_000) }
}

/// All nodes alive except these.
fn with(nodes: &[NodeId], others: &[NodeView]) -> Vec<NodeView> {
    let mut views = alive(nodes);
    views.extend_from_slice(others);
    views
}

/// A group of partition 0, led by its preferred voter, with every member caught up.
fn group(voters: &[NodeId], learners: &[NodeId]) -> GroupView {
    GroupView {
        cluster: CLUSTER,
        me: voters[0],
        term: 3,
        voters: ids(voters),
        learners: ids(learners),
        matched: voters.iter().chain(learners).map(|&id| (id, 50_000)).collect(),
        last: 50_000,
        committed: 50_000,
        ..GroupView::default()
    }
}

fn step(group: &GroupView, nodes: &[NodeView]) -> Option<Step> {
    next_step(group, nodes, &POLICY, NOW)
}

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is an option")]
fn replace(voters: &[NodeId]) -> Option<Step> {
    Some(Step::Replace { voters: ids(voters) })
}

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is an option")]
fn promote(voters: &[NodeId]) -> Option<Step> {
    Some(Step::Promote { voters: ids(voters) })
}

#[test]
fn a_new_live_node_becomes_a_learner() {
    let found = step(&group(&[1, 2, 3], &[]), &alive(&[1, 2, 3, 4]));
    assert_eq!(found, Some(Step::AddLearner { node: 4, address: address(4) }));
}

#[test]
fn a_node_of_another_cluster_or_of_none_or_not_alive_is_not_added() {
    for cluster in [None, Some(ClusterId(8))] {
        let stranger = NodeView { cluster, ..node(4, NodeStanding::Alive, 1_000) };
        assert_eq!(step(&group(&[1, 2, 3], &[]), &with(&[1, 2, 3], &[stranger])), None);
    }
    for standing in [NodeStanding::Suspect, NodeStanding::Dead, NodeStanding::Left] {
        let gone = node(4, standing, 1_000);
        assert_eq!(step(&group(&[1, 2, 3], &[]), &with(&[1, 2, 3], &[gone])), None);
    }
    assert_eq!(step(&group(&[1, 2, 3], &[]), &with(&[1, 2, 3], &[leaving(4)])), None);
}

#[test]
fn a_removed_node_is_never_added_again() {
    let group = GroupView { removed: ids(&[4]), ..group(&[1, 2, 3], &[]) };
    assert_eq!(step(&group, &alive(&[1, 2, 3, 4])), None);
}

#[test]
fn nothing_happens_while_a_change_is_under_way() {
    let group = GroupView { changing: true, partition: PartitionId(1), ..group(&[1, 2], &[3]) };
    assert_eq!(step(&group, &with(&[1, 2, 3, 4], &[node(5, NodeStanding::Left, 1)])), None);
}

#[test]
fn from_an_odd_number_two_learners_are_promoted_together() {
    assert_eq!(step(&group(&[1], &[2]), &alive(&[1, 2])), None);
    assert_eq!(step(&group(&[1], &[2, 3]), &alive(&[1, 2, 3])), promote(&[1, 2, 3]));
    let policy = Policy { replicas: 5, ..POLICY };
    let five = next_step(&group(&[1, 2, 3], &[4, 5, 6]), &alive(&[1, 2, 3, 4, 5, 6]), &policy, NOW);
    assert_eq!(five, promote(&[1, 2, 3, 4, 5]));
}

#[test]
fn from_an_even_number_one_learner_is_promoted() {
    assert_eq!(step(&group(&[1, 2], &[3, 4]), &alive(&[1, 2, 3, 4])), promote(&[1, 2, 3]));
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut group = group(&[1, 2], &[3]);
    group.matched.insert(3, group.last - CAUGHT_UP_ENTRIES - 1);
    assert_eq!(step(&group, &alive(&[1, 2, 3])), None);
    group.matched.insert(3, group.last - CAUGHT_UP_ENTRIES);
    assert_eq!(step(&group, &alive(&[1, 2, 3])), promote(&[1, 2, 3]));
    group.matched.remove(&3);
    assert_eq!(step(&group, &alive(&[1, 2, 3])), None);
}

#[test]
fn beyond_the_wanted_number_learners_stay_learners() {
    assert_eq!(step(&group(&[1, 2, 3], &[4, 5]), &alive(&[1, 2, 3, 4, 5])), None);
}

#[test]
fn a_voter_dead_for_long_is_replaced_by_a_learner() {
    let dead = |secs| with(&[1, 2, 4], &[node(3, NodeStanding::Dead, secs)]);
    assert_eq!(step(&group(&[1, 2, 3], &[4]), &dead(300)), None);
    assert_eq!(step(&group(&[1, 2, 3], &[4]), &dead(301)), replace(&[1, 2, 4]));
}

#[test]
fn a_dead_voter_stays_when_no_learner_can_take_its_place() {
    let dead = node(3, NodeStanding::Dead, 1_000);
    assert_eq!(step(&group(&[1, 2, 3], &[]), &with(&[1, 2], &[dead])), None);
}

#[test]
fn of_an_even_number_a_dead_voter_is_removed() {
    let dead = node(4, NodeStanding::Dead, 1_000);
    assert_eq!(step(&group(&[1, 2, 3, 4], &[]), &with(&[1, 2, 3], &[dead])), replace(&[1, 2, 3]));
}

#[test]
fn a_voter_that_was_never_heard_counts_from_when_it_was_introduced() {
    let unheard = NodeView { cluster: None, meta: None, ..node(3, NodeStanding::Dead, 301) };
    let group = group(&[1, 2, 3], &[4]);
    assert_eq!(step(&group, &with(&[1, 2, 4], &[unheard])), replace(&[1, 2, 4]));
    assert_eq!(step(&group, &alive(&[1, 2, 4])), None, "not even introduced");
}

#[test]
fn nothing_changes_without_a_majority_of_live_voters() {
    let group = group(&[1, 2, 3], &[4, 5]);
    for standing in [NodeStanding::Dead, NodeStanding::Suspect, NodeStanding::Left] {
        let gone = [node(2, standing, 1_000), node(3, NodeStanding::Dead, 1_000)];
        assert_eq!(step(&group, &with(&[1, 4, 5, 6], &gone)), None, "{standing:?}");
    }
}

#[test]
fn a_voter_that_left_is_replaced_or_removed_at_once() {
    let left = [node(3, NodeStanding::Left, 0)];
    assert_eq!(step(&group(&[1, 2, 3], &[4]), &with(&[1, 2, 4], &left)), replace(&[1, 2, 4]));
    assert_eq!(step(&group(&[1, 2, 3], &[]), &with(&[1, 2], &left)), replace(&[1, 2]));
}

#[test]
fn a_leaving_voter_waits_for_a_learner_that_is_catching_up() {
    let mut group = group(&[1, 2, 3], &[4]);
    let nodes = with(&[1, 2, 4], &[leaving(3)]);
    group.matched.insert(4, 0);
    assert_eq!(step(&group, &nodes), None);
    group.matched.insert(4, group.last);
    assert_eq!(step(&group, &nodes), replace(&[1, 2, 4]));
}

#[test]
fn of_two_voters_one_can_leave_while_it_lives() {
    assert_eq!(step(&group(&[1, 2], &[]), &with(&[1], &[leaving(2)])), replace(&[1]));
}

#[test]
fn a_learner_that_left_or_is_leaving_is_removed() {
    let group = group(&[1, 2, 3], &[4]);
    for gone in [node(4, NodeStanding::Left, 0), leaving(4)] {
        assert_eq!(step(&group, &with(&[1, 2, 3], &[gone])), Some(Step::RemoveLearner(4)));
    }
    assert_eq!(step(&group, &with(&[1, 2, 3], &[node(4, NodeStanding::Dead, 9_000)])), None);
}

#[test]
fn a_full_group_drops_a_dead_learner_for_a_new_node() {
    let learners: Vec<NodeId> = (4..=NODES_MAX as u64).collect();
    let group = group(&[1, 2, 3], &learners);
    let mut nodes = alive(&(1..=NODES_MAX as u64 + 1).collect::<Vec<_>>());
    assert_eq!(step(&group, &nodes), None);
    nodes[9] = node(10, NodeStanding::Dead, 301);
    assert_eq!(step(&group, &nodes), Some(Step::RemoveLearner(10)));
}

#[test]
fn a_leaving_leader_hands_over_first() {
    let nodes = with(&[2, 3, 4], &[leaving(1)]);
    let mut three = group(&[1, 2, 3], &[4]);
    assert_eq!(step(&three, &nodes), Some(Step::TransferLeadership { to: 2 }));
    three.matched.insert(2, 0);
    assert_eq!(step(&three, &nodes), Some(Step::TransferLeadership { to: 3 }));
    // The next leader removes it, and it does not lead again until then.
    let led = GroupView { me: 2, ..group(&[1, 2, 3], &[4]) };
    assert_eq!(step(&led, &nodes), replace(&[2, 3, 4]));
    // The only voter promotes a learner first, even to an even number of voters.
    assert_eq!(step(&group(&[1], &[2]), &with(&[2], &[leaving(1)])), promote(&[1, 2]));
}

#[test]
fn partition_p_is_led_by_its_pth_voter() {
    let nodes = alive(&[4, 5, 9]);
    for (partition, preferred) in [(0, 4), (1, 5), (2, 9), (3, 4), (7, 5)] {
        for me in [4, 5, 9] {
            let partition = PartitionId(partition);
            let group = GroupView { partition, me, ..group(&[4, 5, 9], &[]) };
            let due = (me != preferred).then_some(Step::TransferLeadership { to: preferred });
            assert_eq!(step(&group, &nodes), due, "{partition} led by {me}");
        }
    }
}

#[test]
fn leadership_is_not_given_to_who_lags_or_is_not_stable_or_is_leaving() {
    let mut group = GroupView { partition: PartitionId(1), ..group(&[1, 2, 3], &[]) };
    for other in [
        node(2, NodeStanding::Alive, 9),
        node(2, NodeStanding::Suspect, 1_000),
        node(2, NodeStanding::Dead, 100),
    ] {
        assert_eq!(step(&group, &with(&[1, 3], &[other])), None);
    }
    group.matched.insert(2, 0);
    assert_eq!(step(&group, &alive(&[1, 2, 3])), None);
}

fn random_group(rng: &mut SmallRng) -> (GroupView, Vec<NodeView>, Policy) {
    let standings =
        [NodeStanding::Alive, NodeStanding::Alive, NodeStanding::Alive, NodeStanding::Suspect]
            .into_iter()
            .chain([NodeStanding::Dead, NodeStanding::Left])
            .collect::<Vec<_>>();
    let mut nodes = Vec::new();
    let (mut voters, mut learners) = (Vec::new(), Vec::new());
    for id in 1..=rng.random_range(1..=9) {
        match rng.random_range(0..4) {
            0 | 1 => voters.push(id),
            2 => learners.push(id),
            _ => {}
        }
        if rng.random_bool(0.95) {
            let standing = *standings.choose(rng).unwrap();
            let mut view = node(id, standing, rng.random_range(0..1_000));
            if rng.random_bool(0.1) {
                view = NodeView { standing, ..leaving(id) };
            }
            if rng.random_bool(0.05) {
                view.cluster = *[None, Some(ClusterId(8))].choose(rng).unwrap();
            }
            nodes.push(view);
        }
    }
    if voters.is_empty() {
        voters.push(10);
    }
    let mut group = group(&voters, &learners);
    group.partition = PartitionId(rng.random_range(0..5));
    group.me = *voters.choose(rng).unwrap();
    for matched in group.matched.values_mut() {
        if rng.random_bool(0.2) {
            *matched = 0;
        }
    }
    let replicas = *[3, 5].choose(rng).unwrap();
    (group, nodes, Policy { replicas, ..POLICY })
}

/// Executes a step as Raft would.
fn apply(group: &mut GroupView, step: &Step) {
    match step {
        Step::AddLearner { node, .. } => {
            assert!(!group.removed.contains(node), "{node} is added again");
            group.learners.insert(*node);
            group.matched.insert(*node, group.last);
        }
        Step::Promote { voters } | Step::Replace { voters } => {
            group.learners.retain(|node| !voters.contains(node));
            group.removed.extend(group.voters.difference(voters));
            group.voters.clone_from(voters);
        }
        Step::RemoveLearner(node) => {
            group.learners.remove(node);
            group.removed.insert(*node);
        }
        Step::TransferLeadership { to } => group.me = *to,
    }
}

#[test]
fn whatever_gossip_says_no_step_costs_a_quorum_and_steps_come_to_an_end() {
    for seed in 0..20_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut group, nodes, policy) = random_group(&mut rng);
        let alive = |id: NodeId| {
            nodes.iter().any(|view| {
                view.node == id
                    && view.standing == NodeStanding::Alive
                    && view.cluster == Some(CLUSTER)
            })
        };
        let mut steps = Vec::new();
        while let Some(step) = next_step(&group, &nodes, &policy, NOW) {
            // Counted here again, in another way than in the code.
            let live = |voters: &BTreeSet<NodeId>| {
                voters.iter().filter(|&&id| alive(id) || id == group.me).count()
            };
            if let Step::Promote { voters } | Step::Replace { voters } = &step {
                assert!(live(&group.voters) > group.voters.len() / 2, "seed {seed}: {step:?}");
                assert!(live(voters) > voters.len() / 2, "seed {seed}: {step:?}");
                assert!(voters.contains(&group.me), "seed {seed}: {step:?}");
                assert!(
                    voters
                        .iter()
                        .all(|id| { group.voters.contains(id) || group.learners.contains(id) })
                );
            }
            if let Step::TransferLeadership { to } = step {
                assert!(group.voters.contains(&to) && alive(to), "seed {seed}: {step:?}");
            }
            apply(&mut group, &step);
            steps.push(step);
            assert!(steps.len() < 40, "seed {seed} does not end: {steps:?}");
        }
    }
}
