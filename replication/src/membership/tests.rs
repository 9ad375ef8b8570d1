//! Each rule by name, and random groups: does no step cost a quorum, and do the steps end?

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::gossip::NodeMeta;

const CLUSTER: ClusterId = ClusterId(7);
const NOW: Duration = Duration::from_secs(10_000);
const POLICY: Policy = Policy {
    replicas: 3,
    dead_after: Duration::from_mins(5),
    is_proven: true,
    contact_within: Duration::from_secs(2),
};
/// What consensus hears of a member that answers, and has for long.
const STEADY: Contact =
    Contact { silent: Duration::ZERO, steady: Some(Duration::from_secs(1_000)) };

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
        condition: None,
    }
}

fn silent_for(seconds: u64) -> Contact {
    Contact { silent: Duration::from_secs(seconds), steady: None }
}

/// Consensus hears what gossip hears: the case in which UDP and TCP are both open, or both shut. And what
/// gossip says of the nodes they have said themselves.
fn heard_alike(group: &GroupView, nodes: &[NodeView]) -> GroupView {
    let heard = |view: &NodeView| {
        let since = NOW.saturating_sub(view.since);
        let contact = match view.standing {
            NodeStanding::Alive => Contact { silent: Duration::ZERO, steady: Some(since) },
            _ => Contact { silent: since, steady: None },
        };
        (view.node, contact)
    };
    let contact = nodes.iter().map(heard).collect();
    let said = |view: &NodeView| {
        let meta = view.meta.as_ref();
        let confirmed = Confirmed {
            address: view.peer_address,
            is_leaving: view.standing == NodeStanding::Left || meta.is_some_and(|it| it.leaving),
            condition: view.condition.unwrap_or_default(),
        };
        (view.node, confirmed)
    };
    let confirmed = nodes.iter().map(said).collect();
    GroupView { contact, confirmed, ..group.clone() }
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
    next_step(&heard_alike(group, nodes), nodes, &POLICY, NOW)
}

/// With what consensus hears of some members told apart.
fn step_with(group: &GroupView, nodes: &[NodeView], heard: &[(NodeId, Contact)]) -> Option<Step> {
    let mut group = heard_alike(group, nodes);
    group.contact.extend(heard.iter().copied());
    next_step(&group, nodes, &POLICY, NOW)
}

fn sick(id: NodeId, condition: NodeCondition) -> NodeView {
    NodeView { condition: Some(condition), ..node(id, NodeStanding::Alive, 1_000) }
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
fn a_lost_disk_at_the_same_address_is_replaced_at_once() {
    let mut view = group(&[1, 2, 3], &[4]);
    view.addresses = BTreeMap::from([(1, address(1)), (2, address(2)), (3, address(3))]);
    let dead = node(3, NodeStanding::Dead, 5);
    let heir = NodeView { peer_address: address(3), ..node(4, NodeStanding::Alive, 5) };
    let all = with(&[1, 2], &[dead.clone(), heir.clone()]);
    assert_eq!(step(&view, &all), replace(&[1, 2, 4]));
    let elsewhere = with(&[1, 2, 4], &[dead]);
    assert_eq!(step(&view, &elsewhere), None, "it may come back");
    let lives = with(&[1, 2], &[node(3, NodeStanding::Suspect, 5), heir]);
    assert_eq!(step(&view, &lives), None, "nobody is dead");
    for contact in [STEADY, silent_for(1)] {
        assert_eq!(step_with(&view, &all, &[(3, contact)]), None, "it answers consensus");
    }
    let unheard = step_with(&view, &all, &[(4, silent_for(5))]);
    assert_eq!(unheard, None, "the heir does not answer consensus");
    // Nor does it let another learner take the place at once: its own disk may be the one that is lost.
    view.learners.insert(5);
    view.matched.insert(5, view.last);
    let others = with(&[1, 2, 5], &[node(3, NodeStanding::Dead, 5), all[3].clone()]);
    assert_eq!(step_with(&view, &others, &[(4, silent_for(5))]), None);
}

#[test]
fn a_member_that_has_moved_is_recorded_where_it_is() {
    let mut view = group(&[1, 2, 3], &[]);
    view.addresses = (1..=3).map(|node| (node, address(node))).collect();
    assert_eq!(step(&view, &alive(&[1, 2, 3])), None);
    let moved = |secs| NodeView { peer_address: address(9), ..node(3, NodeStanding::Alive, secs) };
    let found = step(&view, &with(&[1, 2], &[moved(5)]));
    assert_eq!(found, Some(Step::Move { node: 3, address: address(9) }));
    let fresh = step(&view, &with(&[1, 2], &[moved(1)]));
    assert_eq!(fresh, None, "it may be gone again");
    let dead = NodeView { standing: NodeStanding::Dead, ..moved(5) };
    assert_eq!(step(&view, &with(&[1, 2], &[dead])), None);
    let unheard = step_with(&view, &with(&[1, 2], &[moved(5)]), &[(3, silent_for(5))]);
    assert_eq!(unheard, None, "it does not answer consensus there");
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
    let nodes = alive(&[1, 2, 3, 4, 5, 6]);
    let six = heard_alike(&group(&[1, 2, 3], &[4, 5, 6]), &nodes);
    let five = next_step(&six, &nodes, &policy, NOW);
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

/// The fault: death was judged by gossip alone.
#[test]
fn with_only_udp_shut_a_voter_that_answers_consensus_stays() {
    let dead_to_gossip = with(&[1, 2, 4], &[node(3, NodeStanding::Dead, 9_000)]);
    let group = group(&[1, 2, 3], &[4]);
    assert_eq!(step_with(&group, &dead_to_gossip, &[(3, STEADY)]), None);
    assert_eq!(step(&group, &dead_to_gossip), replace(&[1, 2, 4]), "with both shut it goes");
    // It counts towards the majority, too: 1 and 3 may take a new node in.
    let nodes = with(&[1, 5], &[node(2, NodeStanding::Dead, 9), node(3, NodeStanding::Dead, 9)]);
    let learns = Some(Step::AddLearner { node: 5, address: address(5) });
    assert_eq!(step_with(&group, &nodes, &[(3, STEADY)]), learns);
    assert_eq!(step(&group, &nodes), None);
}

/// The fault: death was judged by gossip alone.
#[test]
fn with_only_tcp_shut_a_voter_that_does_not_answer_consensus_is_replaced_in_time() {
    let (group, nodes) = (group(&[1, 2, 3], &[4]), alive(&[1, 2, 3, 4]));
    assert_eq!(step_with(&group, &nodes, &[(3, silent_for(300))]), None);
    assert_eq!(step_with(&group, &nodes, &[(3, silent_for(301))]), replace(&[1, 2, 4]));
    // Nor does it count towards a majority, nor is a learner promoted that does not answer.
    let silent = [(2, silent_for(3)), (3, silent_for(301))];
    assert_eq!(step_with(&group, &nodes, &silent), None);
    let silent = [(4, silent_for(3)), (3, silent_for(301))];
    assert_eq!(step_with(&group, &nodes, &silent), None);
}

#[test]
fn a_new_leader_waits_itself_whatever_gossip_says_of_the_time_before() {
    let nodes = with(&[1, 2, 4], &[node(3, NodeStanding::Dead, 9_000)]);
    let group = group(&[1, 2, 3], &[4]);
    assert_eq!(step_with(&group, &nodes, &[(3, silent_for(300))]), None);
    assert_eq!(step_with(&group, &nodes, &[(3, silent_for(301))]), replace(&[1, 2, 4]));
    assert_eq!(step_with(&group, &nodes, &[(2, silent_for(1))]), None, "2 has not answered yet");
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

/// The fault: leadership went back every second to the preferred leader, whose TCP was shut.
#[test]
fn leadership_is_not_given_to_who_is_cut_off_or_was_a_moment_ago() {
    let group = GroupView { partition: PartitionId(1), ..group(&[1, 2, 3], &[]) };
    let nodes = alive(&[1, 2, 3]);
    let steady = |seconds| Contact { steady: Some(Duration::from_secs(seconds)), ..STEADY };
    for heard in [silent_for(0), silent_for(9_000), Contact::default(), steady(9)] {
        assert_eq!(step_with(&group, &nodes, &[(2, heard)]), None, "{heard:?}");
    }
    let due = Some(Step::TransferLeadership { to: 2 });
    assert_eq!(step_with(&group, &nodes, &[(2, steady(10))]), due);
    // Whatever gossip says: only its UDP is shut.
    let nodes = with(&[1, 3], &[node(2, NodeStanding::Dead, 9_000)]);
    assert_eq!(step_with(&group, &nodes, &[(2, steady(10))]), due);
}

fn sicknesses() -> [NodeCondition; 4] {
    let well = NodeCondition::default();
    [
        NodeCondition { is_full: true, ..well },
        NodeCondition { is_slow: true, ..well },
        NodeCondition { is_short_of_memory: true, ..well },
        NodeCondition { is_stuck: true, ..well },
    ]
}

#[test]
fn leadership_is_not_given_to_a_full_slow_or_stuck_disk() {
    let group = GroupView { partition: PartitionId(1), ..group(&[1, 2, 3], &[]) };
    for condition in sicknesses() {
        assert_eq!(step(&group, &with(&[1, 3], &[sick(2, condition)])), None, "{condition:?}");
    }
    let due = Some(Step::TransferLeadership { to: 2 });
    assert_eq!(step(&group, &with(&[1, 3], &[sick(2, NodeCondition::default())])), due);
}

/// The fault: a leader whose disk was full refused writes while its followers had room.
#[test]
fn a_leader_whose_disk_takes_no_writes_gives_way_to_one_that_takes_them() {
    let full = GroupView { must_give_way: true, ..group(&[1, 2, 3], &[]) };
    let to = |to| Some(Step::TransferLeadership { to });
    assert_eq!(step(&full, &alive(&[1, 2, 3])), to(2));
    for condition in sicknesses() {
        assert_eq!(step(&full, &with(&[1, 3], &[sick(2, condition)])), to(3));
        let both = [sick(2, condition), sick(3, condition)];
        assert_eq!(step(&full, &with(&[1], &both)), None, "there is nobody better");
    }
    assert_eq!(step_with(&full, &alive(&[1, 2, 3]), &[(2, silent_for(3))]), to(3));
    let mut behind = full.clone();
    behind.matched.insert(2, 0);
    assert_eq!(step(&behind, &alive(&[1, 2, 3])), to(3));
    let chosen = GroupView { chosen: Some(3), ..full.clone() };
    assert_eq!(step(&chosen, &alive(&[1, 2, 3])), to(3));
    // One that leaves goes whatever the others' disks are like.
    let nodes = [leaving(1), sick(2, sicknesses()[0]), sick(3, sicknesses()[0])];
    assert_eq!(step(&full, &nodes), to(2));
}

/// The fault: what an operator had moved went back within a second.
#[test]
fn whom_an_operator_chose_leads_and_nobody_else_is_preferred() {
    for (me, due) in [(1, Some(3)), (2, Some(3)), (3, None)] {
        let group = GroupView { me, chosen: Some(3), ..group(&[1, 2, 3], &[]) };
        let due = due.map(|to| Step::TransferLeadership { to });
        assert_eq!(step(&group, &alive(&[1, 2, 3])), due, "led by {me}");
    }
    // While the chosen one can't lead, leadership stays where it is.
    let group = GroupView { me: 2, chosen: Some(3), ..group(&[1, 2, 3], &[]) };
    assert_eq!(step(&group, &with(&[1, 2], &[node(3, NodeStanding::Dead, 100)])), None);
    // One that is no voter any more is not waited for.
    let gone = GroupView { chosen: Some(9), ..group };
    assert_eq!(step(&gone, &alive(&[1, 2, 3])), Some(Step::TransferLeadership { to: 1 }));
}

#[test]
fn partitions_prefer_voters_in_turn() {
    let leads = |partition| preferred(PartitionId(partition), &ids(&[9, 4, 7]), None);
    assert_eq!([0, 1, 2, 3].map(leads), [4, 7, 9, 4].map(Some));
    assert_eq!(preferred(PartitionId(0), &ids(&[]), None), None);
}

/// The fault: whoever had the key said that a node leaves, has left, is dead for long, has moved, has an heir
/// or a full disk, and it lost its vote, its address or its leadership.
#[test]
fn what_only_gossip_says_moves_nobody_who_answers() {
    let lies = |rng: &mut SmallRng, id: NodeId| {
        let standing =
            *[NodeStanding::Alive, NodeStanding::Dead, NodeStanding::Left].choose(rng)?;
        let meta = NodeMeta { leaving: rng.random_bool(0.5), ..NodeMeta::default() };
        let condition = NodeCondition { is_full: rng.random_bool(0.5), ..NodeCondition::default() };
        let (meta, condition) = (Some(meta), Some(condition));
        let peer_address = address(rng.random_range(1..=9));
        Some(NodeView { peer_address, meta, condition, ..node(id, standing, 9_000) })
    };
    for seed in 0..5_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let honest = alive(&[1, 2, 3, 4]);
        let mut view = heard_alike(&group(&[1, 2, 3], &[4]), &honest);
        view.addresses = (1..=4).map(|node| (node, address(node))).collect();
        for silent in [2, 3] {
            if rng.random_bool(0.2) {
                view.contact.insert(silent, silent_for(rng.random_range(0..=300)));
            }
        }
        view.partition = PartitionId(rng.random_range(0..3));
        // The leader's own row is its own word; strangers may be named, too.
        let mut nodes = alive(&[1]);
        nodes.extend((2..=8).filter_map(|id| lies(&mut rng, id)));
        let found = next_step(&view, &nodes, &POLICY, NOW);
        let may_lead = |to: &NodeId| view.contact[to].steady.is_some();
        match &found {
            None => {}
            Some(Step::TransferLeadership { to }) if may_lead(to) => {}
            Some(step) => panic!("seed {seed}: {step:?} of {nodes:?}"),
        }
    }
}

#[test]
fn a_node_is_taken_in_only_where_it_has_greeted() {
    let nodes = alive(&[1, 2, 3, 4]);
    let mut view = heard_alike(&group(&[1, 2, 3], &[]), &nodes);
    let learns = Some(Step::AddLearner { node: 4, address: address(4) });
    assert_eq!(next_step(&view, &nodes, &POLICY, NOW), learns);
    view.confirmed.get_mut(&4).unwrap().address = address(5);
    assert_eq!(next_step(&view, &nodes, &POLICY, NOW), None, "it is not where gossip says");
    view.confirmed.remove(&4);
    assert_eq!(next_step(&view, &nodes, &POLICY, NOW), None, "nobody has greeted as this node");
}

/// The fault: `--expect 1`, and whoever came next voted four seconds later.
#[test]
fn a_stranger_that_proves_nothing_waits_for_an_operator_unless_it_is_on_the_loopback() {
    let nodes = alive(&[1, 2, 3, 4]);
    let view = heard_alike(&group(&[1, 2, 3], &[]), &nodes);
    let policy = Policy { is_proven: false, ..POLICY };
    assert_eq!(next_step(&view, &nodes, &policy, NOW), None);
    assert_eq!(waiting(&view, &nodes, &policy), [(4, address(4))]);
    assert_eq!(waiting(&view, &nodes, &POLICY), []);
    let mut nodes = nodes;
    for here in ["127.0.0.1:7451", "[::1]:7451"] {
        nodes[3].peer_address = here.parse().unwrap();
        let view = heard_alike(&view, &nodes);
        let learns = Some(Step::AddLearner { node: 4, address: here.parse().unwrap() });
        assert_eq!(next_step(&view, &nodes, &policy, NOW), learns);
    }
    // Taken in by an operator it is a learner like any other.
    let view = heard_alike(&group(&[1], &[4, 5]), &alive(&[1, 4, 5]));
    assert_eq!(next_step(&view, &alive(&[1, 4, 5]), &policy, NOW), promote(&[1, 4, 5]));
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
    let mut group = heard_alike(&group(&voters, &learners), &nodes);
    for contact in group.contact.values_mut() {
        // A firewall between them lets the one or the other through.
        match rng.random_range(0..10) {
            0 => *contact = STEADY,
            1 => *contact = silent_for(rng.random_range(0..1_000)),
            _ => {}
        }
    }
    // One that leaves says so; of others it is not always known.
    group.confirmed.retain(|_, said| said.is_leaving || rng.random_bool(0.9));
    group.must_give_way = rng.random_bool(0.1);
    group.chosen = rng.random_bool(0.2).then(|| rng.random_range(1..=9));
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
        Step::Move { node, address } => drop(group.addresses.insert(*node, *address)),
        Step::TransferLeadership { to } => {
            group.must_give_way = false; // the heir's disk is in order
            group.me = *to;
        }
    }
}

#[test]
fn whatever_gossip_says_no_step_costs_a_quorum_and_steps_come_to_an_end() {
    for seed in 0..20_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut group, nodes, policy) = random_group(&mut rng);
        let contact = group.contact.clone();
        let alive = |id: NodeId| contact.get(&id).is_some_and(|heard| heard.steady.is_some());
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
