//! How a session answers: at once, or when what it says is visible. Lives on the connection's core;
//! not `Send`.

use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{self, FrameHead, Kind};
use walengine_net::message::{ErrorCode, Message};
use walengine_replication::budget::Held;

use super::node_facts::NodeFacts;
use crate::connection::outbox::Outbox;
use crate::limits::{GIVE_WAY_LOOK_MILLIS, GIVE_WAY_WITHIN, HELD_ANSWER_BYTES};
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::refused::Refused;

/// The answers of one connection on one partition. Clones answer on the same connection.
pub struct Replies<C: Commit> {
    /// The partition.
    pub partition: Partition<C>,
    /// Its node.
    pub node: Rc<NodeFacts<C>>,
    /// Where answers go.
    pub outbox: Rc<Outbox>,
}

impl<C: Commit> Clone for Replies<C> {
    fn clone(&self) -> Self {
        let Self { partition, node, outbox } = self;
        Self { partition: partition.clone(), node: node.clone(), outbox: outbox.clone() }
    }
}

impl<C: Commit> Replies<C> {
    /// Says why a request has no outcome, and who leads if this node does not.
    pub fn put_refused(&self, head: FrameHead, refused: &Refused) {
        let refused = &self.elsewhere(refused).unwrap_or_else(|| refused.clone());
        let leader = match refused {
            Refused::NotLeader(Some(leader)) => self.node.client_address(*leader),
            _ => String::new(),
        };
        self.outbox.put_refused(head, refused, &leader);
    }

    /// What to say instead of a refusal for the disk's or memory's sake, if the write can be taken elsewhere: this
    /// node's leadership is about to move, or has moved and it could not be told.
    fn elsewhere(&self, refused: &Refused) -> Option<Refused> {
        let cluster = self.node.cluster.borrow();
        let (partition, me) = (self.partition.id().partition, self.partition.id().node);
        match refused {
            Refused::DiskStuck if self.node.state.config.cluster.is_some() => {
                Some(Refused::NotLeader(self.node.leader_but_this(partition)))
            }
            Refused::StorageFull | Refused::MemoryFull => {
                let full_for = match refused {
                    Refused::MemoryFull => self.partition.short_of_memory_for(),
                    _ => self.partition.full_for(),
                };
                let gives_way = full_for <= GIVE_WAY_WITHIN && cluster.has_fit_node_but(me);
                gives_way.then_some(Refused::Busy { retry_after_millis: GIVE_WAY_LOOK_MILLIS })
            }
            _ => None,
        }
    }

    /// Encodes an answer now and sends it when the state that it shows is visible.
    pub fn put_when_visible<M: Message>(&self, kind: Kind, head: FrameHead, reply: &M) {
        self.put_when_visible_since(kind, head, reply, None);
    }

    fn put_when_visible_since<M: Message>(
        &self,
        kind: Kind,
        head: FrameHead,
        reply: &M,
        since: Option<Duration>,
    ) {
        let mut encoded = Vec::new();
        if frame::encode_as(&mut encoded, kind, head, reply).is_err() {
            let message = "the answer does not fit in a frame: ask for less at once";
            return self.outbox.put_error(head, ErrorCode::TooLarge, message);
        }
        self.outbox.begin();
        let replies = self.clone();
        let bytes = HELD_ANSWER_BYTES + encoded.len();
        let answer = move |result: Result<(), &Refused>| {
            match result {
                Ok(()) => {
                    replies.outbox.put_frame(&encoded);
                    if let Some(since) = since {
                        replies.partition.note_answer(since);
                    }
                }
                Err(refused) => replies.put_refused(head, refused),
            }
            replies.outbox.finish();
        };
        self.partition.when_visible(bytes, Box::new(answer));
    }

    /// Answers what was decided: `at_once`, or as [`Self::put_when_visible`]. The request came at `since`.
    pub fn put_decided<M: Message>(
        &self,
        kind: Kind,
        head: FrameHead,
        reply: &M,
        at_once: bool,
        since: Duration,
    ) {
        if at_once {
            self.outbox.put(kind, head, reply);
            self.partition.note_answer(since);
        } else {
            self.put_when_visible_since(kind, head, reply, Some(since));
        }
    }

    /// As [`Self::put_when_visible`], for an answer that changes nothing and may be large. It is kept
    /// with the connection and goes with it, whatever the log does. `held` is its memory.
    pub fn put_read_when_visible<M: Message>(
        &self,
        kind: Kind,
        head: FrameHead,
        reply: &M,
        held: Held,
    ) {
        let mut encoded = Vec::new();
        if frame::encode_as(&mut encoded, kind, head, reply).is_err() {
            let message = "the answer does not fit in a frame: ask for less at once";
            return self.outbox.put_error(head, ErrorCode::TooLarge, message);
        }
        self.outbox.begin();
        let parked = self.outbox.park(encoded, held);
        let replies = self.clone();
        let answer = move |result: Result<(), &Refused>| {
            let encoded = replies.outbox.unpark(parked);
            match (result, encoded) {
                (Ok(()), Some((encoded, _held))) => replies.outbox.put_frame(&encoded),
                (Ok(()), None) => {} // the connection is gone
                (Err(refused), _) => replies.put_refused(head, refused),
            }
            replies.outbox.finish();
        };
        self.partition.when_visible(HELD_ANSWER_BYTES, Box::new(answer));
    }

    /// Has a request answered in the background.
    pub fn spawn(&self, answering: impl Future<Output = ()> + 'static) {
        let outbox = self.outbox.clone();
        outbox.begin();
        self.partition.spawn(|_| async move {
            answering.await;
            outbox.finish();
        });
    }
}
