//! Asks the other nodes of the cluster what they say of themselves, on the connections of one group, and
//! makes sure of what gossip says of this node's own id. See [`crate::acquaintances`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use walengine_net::model::Timestamp;
use walengine_replication::gossip::NodeStanding;
use walengine_replication::membership_codec::NODES_MAX;
use walengine_replication::peer::Refusal;
use walengine_replication::runtime::within;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::{Member, NodeId};

use crate::fatal::{Fatal, Reason};
use crate::limits::{ASK_EVERY, ASK_FIRST_EVERY, CLOCKS_WITHIN};
use crate::partition::group::{Consensus, Group};
use crate::runtime::Runtime;
use crate::session::node_facts::NodeFacts;
use crate::storage::disk::Disk;

/// Asks until the node ends.
pub async fn run<D: Disk, R: Runtime>(
    group: Group<D, R>,
    node: Rc<NodeFacts<Consensus<D, R>>>,
    dialer: Dialer<R>,
    report: flume::Sender<Result<(), Fatal>>,
) {
    let runtime = group.runtime().clone();
    let (asked, began) = (Asked::default(), runtime.elapsed());
    loop {
        let others = others(&group, &node);
        for (&other, member) in &others {
            let (node, dialer, member) = (node.clone(), dialer.clone(), member.clone());
            let now = runtime.clone();
            asked.once(&runtime, other, async move {
                if let Ok((at, about, took)) = dialer.about(other, member).await {
                    // It has answered halfway.
                    let now = now.now().0.saturating_sub(took.as_nanos() as u64 / 2);
                    node.state.acquaintances.note(other, at, about, Timestamp(now));
                }
            });
        }
        node.state.acquaintances.keep(|other| others.contains_key(&other));
        if node.cluster.borrow().is_id_claimed {
            let (group, node, dialer) = (group.clone(), node.clone(), dialer.clone());
            let report = report.clone();
            asked.once(&runtime, group.id().node, async move {
                if let Some(fatal) = namesake(&group, &node, &dialer).await {
                    let _ = report.try_send(Err(fatal)); // one of them is enough
                }
            });
        }
        let answered = others.keys().filter(|other| node.state.acquaintances.has_answered(**other));
        // Before it knows the group, it does not know who the others are.
        let others = (!group.knows_no_members()).then_some(others.len());
        let running = runtime.elapsed().saturating_sub(began);
        runtime.sleep(pause(others, answered.count(), running)).await;
    }
}

/// How long until the others are asked again. A node that leads takes no writes before it knows the clocks of a
/// majority, or has waited for them long enough. So the others are asked quickly at the start. If no majority
/// is there by then, it is not looked for so often any more: the first writes may wait for [`ASK_EVERY`] longer.
fn pause(others: Option<usize>, answered: usize, running: Duration) -> Duration {
    let knows_majority = others.is_some_and(|others| 2 * (answered + 1) > others + 1);
    if knows_majority || running >= CLOCKS_WITHIN { ASK_EVERY } else { ASK_FIRST_EVERY }
}

/// The nodes that are being asked and have not answered yet.
#[derive(Clone, Default)]
struct Asked(Rc<RefCell<BTreeSet<NodeId>>>);

impl Asked {
    /// Has a node asked in the background, so that nobody waits for one that does not answer. Nothing happens
    /// while an earlier question to it is open.
    fn once<R: Runtime>(
        &self,
        runtime: &R,
        node: NodeId,
        question: impl Future<Output = ()> + 'static,
    ) {
        if !self.0.borrow_mut().insert(node) {
            return;
        }
        let asked = self.clone();
        let asking = async move {
            question.await;
            asked.0.borrow_mut().remove(&node);
        };
        runtime.spawn(within(runtime.clone(), asking));
    }
}

/// The members of the group, and the living nodes of the cluster that gossip tells of beside them.
fn others<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    node: &NodeFacts<Consensus<D, R>>,
) -> BTreeMap<NodeId, Member> {
    let id = group.id();
    let members = group.report().members.into_iter();
    let mut others: BTreeMap<_, _> =
        members.map(|(member, progress)| (member, progress.member)).collect();
    let cluster = node.cluster.borrow();
    let living = cluster
        .nodes
        .iter()
        .filter(|view| view.standing == NodeStanding::Alive && view.cluster == Some(id.cluster));
    for view in living {
        if others.len() < NODES_MAX {
            others.entry(view.node).or_insert_with(|| Member::at(view.peer_address.to_string()));
        }
    }
    others.remove(&id.node);
    others
}

/// Gossip says that another node has this one's id. Whoever has the key may say so: it is asked where the
/// group's log has this node. If it has this one's id, the process must end.
async fn namesake<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    node: &NodeFacts<Consensus<D, R>>,
    dialer: &Dialer<R>,
) -> Option<Fatal> {
    let me = group.id().node;
    let cluster = node.state.config.cluster.as_ref()?;
    let recorded = group.report().members.remove(&me)?;
    if recorded.member.peer_address == cluster.peer_address.to_string() {
        return None; // that is where this one is
    }
    let at = recorded.member.peer_address.clone();
    let refused = dialer.about(me, recorded.member).await.is_err()
        && dialer.refused(me) == Some(Refusal::NodeIdInUse);
    let message = format!(
        "node {me} answers at {at}, where the cluster has it: this is another node with its id, and \
         two nodes run from copies of one data directory; a new node starts from an empty one"
    );
    refused.then(|| Fatal::new(Reason::DataDirectory, message))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::runtime_glommio::GlommioRuntime;

    /// The faults: a cluster of one, and one whose majority is down, looked fifty times a second for ever.
    #[test]
    fn the_others_are_asked_quickly_until_a_majority_has_answered_or_nobody_waits_for_it() {
        let early = CLOCKS_WITHIN / 2;
        for (others, answered, running, expected) in [
            (None, 0, early, ASK_FIRST_EVERY),
            (None, 0, CLOCKS_WITHIN, ASK_EVERY),
            (Some(0), 0, Duration::ZERO, ASK_EVERY),
            (Some(1), 0, early, ASK_FIRST_EVERY),
            (Some(1), 1, early, ASK_EVERY),
            (Some(2), 0, early, ASK_FIRST_EVERY),
            (Some(2), 0, CLOCKS_WITHIN, ASK_EVERY),
            (Some(2), 1, early, ASK_EVERY),
            (Some(3), 1, early, ASK_FIRST_EVERY),
            (Some(3), 2, early, ASK_EVERY),
            (Some(4), 1, early, ASK_FIRST_EVERY),
            (Some(4), 2, early, ASK_EVERY),
        ] {
            let found = pause(others, answered, running);
            assert_eq!(found, expected, "{answered} of {others:?} after {running:?}");
        }
    }

    /// The fault: while this node looked for another one with its id, nobody else was asked.
    #[test]
    fn one_that_does_not_answer_holds_up_no_other_and_is_asked_once() {
        glommio::LocalExecutor::default().run(async {
            let (runtime, asked) = (GlommioRuntime::new(), Asked::default());
            let heard = Rc::<RefCell<Vec<NodeId>>>::default();
            for _ in 0..3 {
                for node in [1, 2] {
                    let heard = heard.clone();
                    asked.once(&runtime, node, async move {
                        heard.borrow_mut().push(node);
                        if node == 1 {
                            pending::<()>().await;
                        }
                    });
                }
                while asked.0.borrow().contains(&2) {
                    runtime.yield_now().await;
                }
            }
            assert_eq!(*heard.borrow(), [1, 2, 2, 2]);
        });
    }
}
