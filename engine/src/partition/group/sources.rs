//! What a replica asks of other members: an entry that its own disk has lost, of any that has it; what other
//! partitions send, of the leader.

use walengine_replication::gossip::{NodeStanding, NodeView};
use walengine_replication::peer::{Carried, LogPage, LogRead, Words};
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::{Member, NodeId};

use super::Group;
use crate::across::{Forward, Undelivered};
use crate::limits::MEND_READ_BYTES;
use crate::orders::ControlOrder;
use crate::partition::mending::EntrySource;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// The nodes that gossip has heard of, for a replica whose log can't be opened yet.
pub struct HeardNodes<R: Runtime> {
    /// This node.
    pub own: NodeId,
    /// To the others.
    pub dialer: Dialer<R>,
    /// Knows them.
    pub control: Option<flume::Sender<ControlOrder>>,
}

impl<R: Runtime> EntrySource for HeardNodes<R> {
    async fn committed(&self, index: u64) -> Option<(NodeId, LogPage)> {
        let (telling, told) = flume::bounded(1);
        let control = self.control.as_ref()?;
        control.send_async(ControlOrder::TellNodes(telling)).await.ok()?;
        let nodes: Vec<NodeView> = told.recv_async().await.ok()?;
        let others = nodes.into_iter().filter(|view| {
            view.node != self.own && view.standing == NodeStanding::Alive && view.cluster.is_some()
        });
        for view in others {
            let member = Member::at(view.peer_address.to_string());
            if let Some(page) = ask(&self.dialer, view.node, member, index).await {
                return Some((view.node, page));
            }
        }
        None
    }
}

impl<R: Runtime> Drop for HeardNodes<R> {
    fn drop(&mut self) {
        self.dialer.close();
    }
}

/// The members of a group that serves.
pub struct OtherMembers<D: Disk, R: Runtime> {
    /// The group.
    pub group: Group<D, R>,
    /// To the others.
    pub dialer: Dialer<R>,
}

impl<D: Disk, R: Runtime> EntrySource for OtherMembers<D, R> {
    async fn committed(&self, index: u64) -> Option<(NodeId, LogPage)> {
        let own = self.group.id().node;
        for (node, progress) in self.group.report().members {
            if node != own
                && let Some(page) = ask(&self.dialer, node, progress.member, index).await
            {
                return Some((node, page));
            }
        }
        None
    }
}

async fn ask<R: Runtime>(
    dialer: &Dialer<R>,
    node: NodeId,
    member: Member,
    index: u64,
) -> Option<LogPage> {
    let read = LogRead { from: index, bytes_max: MEND_READ_BYTES };
    match dialer.read_log(node, member, read).await {
        Ok(page) if page.committed >= index && !page.entries.is_empty() => Some(page),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!("entry {index} is not to be had from node {node}: {error}");
            None
        }
    }
}

/// Reaches a group's members.
pub struct ToMembers<D: Disk, R: Runtime> {
    /// The group.
    pub group: Group<D, R>,
    /// To the others.
    pub dialer: Dialer<R>,
}

impl<D: Disk, R: Runtime> Clone for ToMembers<D, R> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), dialer: self.dialer.clone() }
    }
}

impl<D: Disk, R: Runtime> Forward for ToMembers<D, R> {
    fn others(&self) -> Vec<NodeId> {
        let here = self.group.id().node;
        self.group.report().members.into_keys().filter(|node| *node != here).collect()
    }

    async fn forward(&self, node: NodeId, carried: Carried) -> Result<Words, Undelivered> {
        let failed = |why: &dyn std::fmt::Display| Undelivered(why.to_string());
        let members = self.group.report().members;
        let member = members.get(&node).map(|progress| progress.member.clone());
        let member = member.ok_or_else(|| failed(&"that node is no member"))?;
        self.dialer.carry(node, member, carried).await.map_err(|error| failed(&error))
    }
}
