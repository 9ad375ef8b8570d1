//! Looks after the membership of a group once a second, on its leader: which nodes should be in it, and
//! which should lead. `walengine_replication::membership` has the rules; this feeds them and carries
//! out what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use walengine_net::message::ReplicaRole;
use walengine_net::model::PartitionId;
use walengine_replication::contacts::Contacts;
use walengine_replication::membership::{GroupView, Policy, Step, next_step, waiting};
use walengine_replication::peer::Refusal;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::{Member, NodeId};

use crate::acquaintances::Acquaintances;
use crate::cluster_view::ClusterView;
use crate::leave_cost::{self, Cost};
use crate::limits::MEMBERSHIP_EVERY;
use crate::orders::ControlOrder;
use crate::partition::group::changes::GroupReport;
use crate::partition::group::{Consensus, Group};
use crate::runtime::Runtime;
use crate::session::node_facts::NodeFacts;
use crate::storage::disk::Disk;
use crate::trouble::{self, GroupFacts, Said, Trouble};

/// Looks after one group until the node ends.
pub async fn run<D: Disk, R: Runtime>(
    group: Group<D, R>,
    node: Rc<NodeFacts<Consensus<D, R>>>,
    dialer: Dialer<R>,
    mut policy: Policy,
    control: Option<flume::Sender<ControlOrder>>,
) {
    let runtime = group.runtime().clone();
    let (mut contacts, mut said) = (Contacts::default(), Said::default());
    policy.contact_within = group.contact_within();
    loop {
        runtime.sleep(MEMBERSHIP_EVERY).await;
        let report = group.report();
        introduce(&report, &node, control.as_ref());
        let cluster = node.cluster.borrow().clone();
        let answered = report.members.iter().filter(|(member, _)| **member != group.id().node);
        let answered = answered.map(|(member, progress)| (*member, progress.answered));
        let now = runtime.elapsed();
        let contact = contacts.look(report.term, answered, policy.contact_within, now);
        let known = &node.state.acquaintances;
        let view = GroupView { contact, confirmed: known.confirmed(), ..view(&group, &report) };
        // A leader says so.
        let asks = group.leads() && !policy.is_proven;
        let waiting = if asks { waiting(&view, &cluster.nodes, &policy) } else { Vec::new() };
        let troubles = troubles(&group, &report, &view, &cluster, &dialer, &waiting);
        say(group.id().partition, &mut said, &troubles);
        node.troubles.borrow_mut().insert(group.id().partition, troubles);
        let id = group.id();
        node.state.note_leave_cost(id.partition, leave_cost(id.node, &report, known, &policy));
        if !group.leads() {
            continue;
        }
        let partition = view.partition;
        let Some(step) = next_step(&view, &cluster.nodes, &policy, cluster.now()) else {
            continue;
        };
        tracing::info!("partition {partition}: {}", in_words(&step));
        if let Err(why) = take(&group, step).await {
            // The next look shows what became of it, and tries again.
            tracing::warn!("partition {partition}: that did not work out: {why}");
        }
    }
}

fn say(partition: PartitionId, said: &mut Said, troubles: &[Trouble]) {
    let (begins, ends) = said.news(troubles);
    for text in begins {
        tracing::warn!("partition {partition}: {text}");
    }
    for text in ends {
        tracing::info!("partition {partition}: over: {text}");
    }
}

fn troubles<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    report: &GroupReport,
    view: &GroupView,
    cluster: &ClusterView,
    dialer: &Dialer<R>,
    waiting: &[(NodeId, SocketAddr)],
) -> Vec<Trouble> {
    let me = group.id().node;
    let others = report.voters.iter().filter(|voter| **voter != me);
    let leads = group.leads() && report.leader == Some(me);
    // One that led and is cut off may not have heard of its successor: nobody talks to it.
    let refused = |voter: &&NodeId| !leads && dialer.refused(**voter) == Some(Refusal::NotMember);
    trouble::of_group(&GroupFacts {
        me,
        leads,
        cut_off: group.leads() && report.leader.is_none(),
        contact: &view.contact,
        removed: &view.removed,
        chosen: report.chosen,
        others: others.clone().count(),
        refused_by: others.filter(refused).count(),
        waiting,
        clock: group.agreement(),
        log_ahead: group.log_ahead(),
        nodes: &cluster.nodes,
        now: cluster.now(),
    })
}

/// What it would cost the group if this node left.
fn leave_cost(
    me: NodeId,
    report: &GroupReport,
    known: &Acquaintances,
    policy: &Policy,
) -> Option<Cost> {
    if report.leader.is_none() {
        return Some(Cost::NoLeader);
    }
    let role = |node: &NodeId| {
        if report.voters.contains(node) { ReplicaRole::Voter } else { ReplicaRole::Learner }
    };
    let replicas: Vec<_> = report.members.keys().map(|node| (*node, role(node))).collect();
    let stays = |node: NodeId| {
        let answers = report.members.get(&node).and_then(|progress| progress.answered);
        let answers = answers.is_some_and(|ago| ago <= policy.contact_within);
        // Only a leader hears the others' answers.
        (answers || known.answers(node, policy.contact_within)) && !known.leaves(node)
    };
    leave_cost::cost(&replicas, me, stays)
}

/// Introduces members that gossip has not heard of to it, so that it greets them.
fn introduce<D: Disk, R: Runtime>(
    report: &GroupReport,
    node: &NodeFacts<Consensus<D, R>>,
    control: Option<&flume::Sender<ControlOrder>>,
) {
    let Some(control) = control else { return };
    let cluster = node.cluster.borrow();
    for (&id, progress) in &report.members {
        let Ok(address) = progress.member.peer_address.parse::<SocketAddr>() else { continue };
        if cluster.node(id).is_none() {
            // If its queue is full, next time.
            let _ = control.try_send(ControlOrder::Introduce(id, address));
        }
    }
}

fn view<D: Disk, R: Runtime>(group: &Group<D, R>, report: &GroupReport) -> GroupView {
    let id = group.id();
    let others = report.members.iter().filter(|(node, _)| **node != id.node);
    GroupView {
        cluster: id.cluster,
        partition: id.partition,
        me: id.node,
        term: report.term,
        voters: report.voters.iter().copied().collect(),
        learners: report
            .members
            .keys()
            .filter(|node| !report.voters.contains(node))
            .copied()
            .collect(),
        removed: group.removed_members(),
        changing: report.is_changing,
        addresses: report
            .members
            .iter()
            .filter_map(|(&node, progress)| {
                Some((node, progress.member.peer_address.parse().ok()?))
            })
            .collect(),
        matched: others
            .filter_map(|(node, progress)| Some((*node, progress.matched_index?)))
            .collect(),
        last: report.last_index,
        committed: report.last_index, // what is behind it is little; the rules ask for the lag
        contact: BTreeMap::new(),
        confirmed: BTreeMap::new(),
        chosen: report.chosen,
        must_give_way: group.is_full() || group.is_stuck() || group.is_short_of_memory(),
    }
}

async fn take<D: Disk, R: Runtime>(group: &Group<D, R>, step: Step) -> Result<(), String> {
    match step {
        Step::AddLearner { node, address } => {
            group.add_learner(node, Member::at(address.to_string())).await
        }
        Step::Promote { voters } | Step::Replace { voters } => group.set_voters(voters).await,
        Step::RemoveLearner(node) => group.remove_learner(node).await,
        Step::Move { node, address } => group.set_address(node, address).await,
        Step::TransferLeadership { to } => {
            if group.hand_over(Some(to)).await {
                Ok(())
            } else {
                Err(format!("node {to} did not take over in time"))
            }
        }
    }
}

fn in_words(step: &Step) -> String {
    let list = |voters: &std::collections::BTreeSet<NodeId>| format!("{voters:?}");
    match step {
        Step::AddLearner { node, address } => format!("node {node} at {address} begins to learn"),
        Step::Promote { voters } => format!("learners begin to vote: {}", list(voters)),
        Step::Replace { voters } => format!("a voter goes; those that stay: {}", list(voters)),
        Step::RemoveLearner(node) => format!("learner {node} goes"),
        Step::Move { node, address } => format!("node {node} is at {address} now"),
        Step::TransferLeadership { to } => format!("node {to} is to lead"),
    }
}
