//! A member's part: promising or refusing, being released, learning what became of the promise.

use std::net::SocketAddr;

use walengine_net::model::ClusterId;

use super::super::forming_message::{FormingMessage, RefusedBecause};
use super::super::promise::{Founding, FoundingMember, Promise, PromiseState};
use super::{Candidate, Forming};
use crate::types::NodeId;

impl Forming {
    /// The founder asks for a promise.
    pub(super) fn requested(
        &mut self,
        from: NodeId,
        address: SocketAddr,
        founding: Founding,
        candidates: &[Candidate],
    ) {
        let cluster = founding.cluster;
        let answer = match (&self.held, self.cluster) {
            (_, Some(known)) if known == cluster => FormingMessage::Commit(cluster),
            (_, Some(_)) => {
                FormingMessage::Refused { cluster, because: RefusedBecause::HasCluster }
            }
            (Some(held), None) if held.founding == founding => FormingMessage::Promised(cluster),
            (Some(_), None) => {
                FormingMessage::Refused { cluster, because: RefusedBecause::Promised }
            }
            (None, None) => match self.objection(from, &founding, candidates) {
                Some(because) => FormingMessage::Refused { cluster, because },
                None => return self.save(Promise { state: PromiseState::Promised, founding }),
            },
        };
        self.send(from, address, answer);
    }

    /// Why this node does not promise; `None` if it does.
    fn objection(
        &self,
        from: NodeId,
        founding: &Founding,
        candidates: &[Candidate],
    ) -> Option<RefusedBecause> {
        let members = &founding.members;
        let is_me = |member: &FoundingMember| {
            member.node == self.me && member.peer_address == self.peer_address
        };
        let outsider = |each: &Candidate| !members.iter().any(|m| m.node == each.member.node);
        if self.expect != Some(members.len()) {
            Some(RefusedBecause::OtherExpect)
        } else if self.partitions != founding.partitions {
            Some(RefusedBecause::OtherPartitions)
        } else if members.first().map(|member| member.node) != Some(from)
            || !members.iter().any(is_me)
            || candidates.iter().any(outsider)
        {
            Some(RefusedBecause::OtherMembers)
        } else {
            None
        }
    }

    /// A founder lets this node go. Only the founder of the held promise can.
    pub(super) fn released(&mut self, from: NodeId, cluster: ClusterId) {
        if let Some(held) = &self.held
            && held.founding.cluster == cluster
            && held.state == PromiseState::Promised
            && held.founder() == from
            && from != self.me
        {
            self.save(Promise { state: PromiseState::Released, founding: held.founding.clone() });
        }
    }

    /// A member asks what became of the cluster that it has promised to form.
    pub(super) fn inquired(
        &mut self,
        from: NodeId,
        address: SocketAddr,
        cluster: ClusterId,
        founder: NodeId,
    ) {
        if self.cluster == Some(cluster) {
            self.send(from, address, FormingMessage::Commit(cluster));
        } else if founder == self.me && !self.holds(cluster) {
            // Nothing about it is durable here, so it was never decided and never will be.
            self.send(from, address, FormingMessage::Release(cluster));
        }
    }

    /// A node of a cluster has spoken: if this node has promised to form that cluster, it is
    /// formed.
    pub(in super::super) fn heard_formed(&mut self, cluster: ClusterId) {
        if self.saving.is_none()
            && let Some(held) = &self.held
            && held.founding.cluster == cluster
            && held.state == PromiseState::Promised
        {
            self.save(Promise { state: PromiseState::Formed, founding: held.founding.clone() });
        }
    }
}
