//! What other nodes may ask of the groups on this shard.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use walengine_net::tls::Proven;
use walengine_replication::gossip::NodeStanding;
use walengine_replication::peer::{About, Carried, LogPage, LogRead, Refusal, Words};
use walengine_replication::received::Received;
use walengine_replication::runtime::within;
use walengine_replication::tcp::PeerIdentity;
use walengine_replication::tcp::accept::{self, Answering};
use walengine_replication::tcp::socket::Socket;
use walengine_replication::transport::{AppendReceiver, NoAnswer, Request, Response, ResultSender};
use walengine_replication::types::NodeId;

use super::operators::Place;
use crate::across;
use crate::partition::group::{Consensus, Group, copying};
use crate::partition::replica_id::ReplicaId;
use crate::runtime::Runtime as _;
use crate::runtime_glommio::GlommioRuntime;
use crate::session::node_facts::NodeFacts;
use crate::storage::glommio_disk::GlommioDisk;

type LocalConsensus = Consensus<GlommioDisk, GlommioRuntime>;
type LocalGroup = Group<GlommioDisk, GlommioRuntime>;

/// Serves a peer of the group at `place` in the background.
pub(super) fn serve(
    node: &Rc<NodeFacts<LocalConsensus>>,
    place: usize,
    socket: Socket,
    proven: Option<Proven>,
    received: Received,
    at: Place,
) {
    let group = node.partitions[place].clone();
    let ReplicaId { cluster, partition, node: own } = group.id();
    let partitions = node.state.superblock.partitions;
    let identity = PeerIdentity { cluster, node: own, partition, partitions };
    let address = socket.peer_addr();
    let gate = Gate { group, node: node.clone(), proven: Rc::new(proven) };
    let (runtime, refusals) = (GlommioRuntime::new(), node.refusals.clone());
    let served = accept::serve(socket, address, received, identity, gate, runtime, refusals);
    runtime.spawn(within(runtime, async move {
        served.await;
        drop(at);
    }));
}

/// What peers of a group may ask of it.
#[derive(Clone)]
struct Gate {
    group: LocalGroup,
    node: Rc<NodeFacts<LocalConsensus>>,
    /// What the peer's certificate proves.
    proven: Rc<Option<Proven>>,
}

impl Answering for Gate {
    fn answer(
        &self,
        from: NodeId,
        request: Request,
    ) -> impl Future<Output = Result<Response, NoAnswer>> + 'static {
        let group = self.group.clone();
        async move { group.commit().answer(from, request).await }
    }

    fn take_appends(
        &self,
        from: NodeId,
        requests: AppendReceiver,
        results: ResultSender,
    ) -> impl Future<Output = Result<(), NoAnswer>> + 'static {
        let group = self.group.clone();
        async move { group.commit().take_appends(from, requests, results).await }
    }

    fn read_log(&self, read: LogRead) -> impl Future<Output = Result<LogPage, String>> + 'static {
        let group = self.group.clone();
        async move { copying::page(&group, read).await.map_err(|error| error.to_string()) }
    }

    fn carry(&self, carried: Carried) -> impl Future<Output = Result<Words, String>> + 'static {
        let (group, state) = (self.group.clone(), self.node.state.clone());
        async move {
            let words = if carried.to == group.id().partition {
                across::take(&group, &carried).await
            } else if carried.to.0 < state.superblock.partitions {
                across::send(&state.letters.to(carried.to), carried).await
            } else {
                return Err("there is no such partition".to_owned());
            };
            words.map_err(|error| error.to_string())
        }
    }

    fn about(&self) -> About {
        let state = &self.node.state;
        About {
            is_leaving: state.is_leaving.load(Ordering::Relaxed),
            condition: state.condition(GlommioRuntime::new().now()),
            client_address: state.client_address.clone(),
        }
    }

    /// Members may, and whom this node, which may be behind, knows as a node of the cluster.
    fn admits(&self, node: NodeId) -> Result<(), Refusal> {
        let proven = (*self.proven).as_ref().map(|proven| proven.identity.node());
        if proven.is_some_and(|proven| proven != Some(node)) {
            return Err(Refusal::OtherIdentity);
        }
        let known = self.node.cluster.borrow().node(node).map(|view| view.standing);
        let has_left = known == Some(NodeStanding::Left);
        let is_member = self.group.is_member(node);
        if !is_member && self.group.removed_members().contains(&node) {
            // It left, or was replaced while it was away. Told so, it can say so.
            return Err(Refusal::NotMember);
        }
        if is_member || known.is_some() && !has_left || self.group.knows_no_members() {
            Ok(())
        } else {
            Err(Refusal::NotMember)
        }
    }

    fn may_go_on(&self) -> Result<(), String> {
        match &*self.proven {
            Some(proven) => proven.check().map_err(|why| why.to_string()),
            None => Ok(()),
        }
    }
}
