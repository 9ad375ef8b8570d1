//! What a server does with the frames of one connection. No sockets: frames in, answers into the
//! [`Outbox`]. Lives on the shard core of the connection's partition; not `Send`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::limits::{BODY_BYTES_MAX, EVENTS_MAX, INFLIGHT_MAX};
use walengine_net::message::{
    AdminReply, AdminState, Append, ClusterStatus, Credit, ErrorCode, Hello, HelloReply, Leave,
    MessageError, NO_NODE, OutcomeRuns, RemoveNode, ServerStatus, Submit, SubmitReply,
    TransferLeadership, Unsubscribe, offset_number, open_frame,
};
use walengine_net::model::Offset;

use super::admin::{self, Order};
use super::outbox::Outbox;
use super::reader::{ReadScratch, Reader, hold};
use super::request::{Refused, Taken};
use super::served::Served;
use super::status::{self, NodeFacts};
use crate::ledger::{Ledger, Outcomes};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Name and version, told to clients.
pub const SERVER_VERSION: &str = concat!("walengine ", env!("CARGO_PKG_VERSION"));

/// Memory that the sessions of a shard share, since they run one at a time.
#[derive(Default)]
pub struct Scratch {
    outcomes: Outcomes,
    runs: OutcomeRuns,
    heads: Vec<RecordHead>,
    reads: Rc<RefCell<ReadScratch>>,
}

/// One connection's requests.
pub struct Session<D: Disk, R: Runtime> {
    partition: Served<D, R>,
    reader: Reader<D, R>,
    node: Rc<NodeFacts<D, R>>,
    outbox: Rc<Outbox>,
    scratch: Rc<RefCell<Scratch>>,
    greeted: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was acted on.
    Here,
    /// It begins a subscription: the connection, with this frame, belongs on the feed.
    Subscribes,
    /// The connection must close.
    Close,
}

/// Why a frame was not acted on.
enum Unhandled {
    Message(MessageError),
    Refused(Refused),
}

impl From<MessageError> for Unhandled {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl From<Refused> for Unhandled {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl<D: Disk, R: Runtime> Session<D, R> {
    /// A session on the partition that the connection named.
    pub fn new(
        partition: Served<D, R>,
        node: Rc<NodeFacts<D, R>>,
        outbox: Rc<Outbox>,
        scratch: Rc<RefCell<Scratch>>,
    ) -> Self {
        let reads = scratch.borrow().reads.clone();
        let reader = Reader::new(partition.clone(), node.clone(), outbox.clone(), reads);
        Self { partition, reader, node, outbox, scratch, greeted: false }
    }

    /// The partition that it is on.
    pub fn partition(&self) -> &Served<D, R> {
        &self.partition
    }

    /// Its number.
    pub fn partition_id(&self) -> walengine_net::model::PartitionId {
        self.partition.identity().partition
    }

    /// Acts on a frame whose checksum has been verified.
    pub fn handle(&mut self, frame: &Frame<'_>) -> Handled {
        self.try_handle(frame).unwrap_or_else(|refused| {
            self.partition.count_busy();
            self.node.put_refused(&self.outbox, self.reply_head(frame), &refused);
            Handled::Here
        })
    }

    /// As [`Self::handle`], but a write that the partition is too busy for is left as it is, to be
    /// handled again.
    pub fn try_handle(&mut self, frame: &Frame<'_>) -> Result<Handled, Refused> {
        let head = self.reply_head(frame);
        if frame.head.partition != head.partition {
            let message = "this connection is for another partition: open one for each";
            self.outbox.put_error(head, ErrorCode::WrongPartition, message);
            return Ok(Handled::Here);
        }
        if !self.greeted && frame.kind != Kind::Hello {
            self.outbox.put_error(head, ErrorCode::Malformed, "the first frame must be a hello");
            return Ok(Handled::Close);
        }
        if self.outbox.unanswered() >= INFLIGHT_MAX {
            self.outbox.put_refused(head, &Refused::Busy { retry_after_millis: 1 });
            return Ok(Handled::Here);
        }
        if frame.kind == Kind::Subscribe {
            return Ok(Handled::Subscribes);
        }
        match self.dispatch(frame, head) {
            Ok(()) => {}
            Err(Unhandled::Message(error)) => put_message_error(&self.outbox, head, &error),
            Err(Unhandled::Refused(refused @ Refused::Busy { .. })) => return Err(refused),
            Err(Unhandled::Refused(refused)) => {
                self.node.put_refused(&self.outbox, head, &refused);
            }
        }
        Ok(Handled::Here)
    }

    fn reply_head(&self, frame: &Frame<'_>) -> FrameHead {
        FrameHead::reply(self.partition.identity().partition, frame.head.request)
    }

    fn dispatch(&mut self, frame: &Frame<'_>, head: FrameHead) -> Result<(), Unhandled> {
        match frame.kind {
            Kind::Hello => {
                open_frame::<Hello<'_>>(frame)?;
                self.hello(head);
            }
            Kind::Submit => {
                let request = open_frame::<Submit<'_>>(frame)?;
                self.write(Kind::SubmitReply, head, |partition, outcomes, _| {
                    partition.submit(&request.events, outcomes)
                })?;
            }
            Kind::Append => {
                let request = open_frame::<Append<'_>>(frame)?;
                let expected = request.expected_offset.to_native();
                self.write(Kind::AppendReply, head, |partition, outcomes, heads| {
                    heads.clear();
                    heads.extend(request.heads.iter().zip(0..).map(|(head, place)| RecordHead {
                        id: head.id.to_native(),
                        expected_offset: expected_at(expected, place),
                        bytes: head.bytes.to_native(),
                    }));
                    partition.append_records(heads, &request.blob, outcomes)
                })?;
            }
            Kind::LookupAccounts
            | Kind::ListAccounts
            | Kind::Status
            | Kind::LookupTransfers
            | Kind::ReadLog => self.reader.take(frame, head)?,
            // One that has ended; its last frame is on its way.
            Kind::Credit => drop(open_frame::<Credit>(frame)?),
            Kind::Unsubscribe => {
                open_frame::<Unsubscribe>(frame)?;
                put_no_subscription(&self.outbox, head);
            }
            Kind::ServerStatus => {
                open_frame::<ServerStatus>(frame)?;
                status::answer(&self.node, &self.outbox, head);
            }
            Kind::ClusterStatus => {
                open_frame::<ClusterStatus>(frame)?;
                admin::cluster_status(&self.node, &self.outbox, head);
            }
            Kind::TransferLeadership => {
                let to = open_frame::<TransferLeadership>(frame)?.to.to_native();
                let order = Order::Transfer((to != NO_NODE).then_some(to));
                self.order(Kind::TransferLeadershipReply, head, order);
            }
            Kind::RemoveNode => {
                let node = open_frame::<RemoveNode>(frame)?.node.to_native();
                self.order(Kind::RemoveNodeReply, head, Order::Remove(node));
            }
            Kind::Leave => {
                let node = open_frame::<Leave>(frame)?.node.to_native();
                self.leave(head, node);
            }
            reply => return Err(MessageError::Kind { expected: Kind::Hello, found: reply }.into()),
        }
        Ok(())
    }

    fn hello(&mut self, head: FrameHead) {
        self.greeted = true;
        let identity = self.partition.identity();
        let is_leader = self.partition.leads();
        let leader = match self.partition.leader() {
            Some(leader) if !is_leader => self.node.client_address(leader),
            _ => String::new(),
        };
        let reply = HelloReply {
            cluster: identity.cluster.0,
            node: identity.node,
            next_offset: self.partition.with_ledger(Ledger::next_offset).0,
            durable_offset: self.partition.told_offset().0,
            partitions: self.partition.with_ledger(Ledger::partitions),
            is_leader: u8::from(is_leader),
            body_bytes_max: BODY_BYTES_MAX as u32,
            events_max: EVENTS_MAX as u32,
            inflight_max: INFLIGHT_MAX as u32,
            server_version: SERVER_VERSION,
            leader: &leader,
        };
        self.outbox.put(Kind::HelloReply, head, &reply);
    }

    /// Has an operator's order carried out.
    fn order(&self, kind: Kind, head: FrameHead, order: Order) {
        let (partition, node, outbox) =
            (self.partition.clone(), self.node.clone(), self.outbox.clone());
        outbox.begin();
        self.partition.spawn(async move {
            admin::obey(partition, node, outbox.clone(), kind, head, order).await;
            outbox.finish();
        });
    }

    fn leave(&self, head: FrameHead, node: u64) {
        let me = self.partition.identity().node;
        let (state, message) = if node != me {
            (AdminState::Refused, format!("this is node {me}: ask the one that shall leave"))
        } else if !self.node.shared.superblock.replicated {
            (AdminState::Refused, "this node serves alone: stop it with SIGTERM".to_owned())
        } else if self.node.shared.leaving.swap(true, Ordering::Relaxed) {
            (AdminState::Unchanged, "it is leaving already".to_owned())
        } else {
            (AdminState::Started, "it ends when others have taken its place".to_owned())
        };
        self.outbox.put(Kind::LeaveReply, head, &AdminReply::new(state, &message));
    }

    fn write(
        &self,
        kind: Kind,
        head: FrameHead,
        decide: impl FnOnce(
            &Served<D, R>,
            &mut Outcomes,
            &mut Vec<RecordHead>,
        ) -> Result<Taken, Refused>,
    ) -> Result<(), Refused> {
        let Scratch { outcomes, runs, heads, .. } = &mut *self.scratch.borrow_mut();
        outcomes.clear();
        let taken = decide(&self.partition, outcomes, heads)?;
        runs.clear();
        // Fresh records have growing offsets; a repeat points at or below one already seen.
        let mut fresh_from = taken.fresh_from;
        for outcome in &*outcomes {
            let fresh = outcome.offset.is_none_or(|offset| offset >= fresh_from);
            let timestamp = outcome.offset.map_or_else(Default::default, |at| taken.time_of(at));
            runs.push(outcome.verdict, outcome.offset, fresh, timestamp);
            if let (true, Some(offset)) = (fresh, outcome.offset) {
                fresh_from = offset.plus(1);
            }
        }
        let next = self.partition.with_ledger(Ledger::next_offset);
        let reply = SubmitReply {
            token_offset: offset_number(next.0.checked_sub(1).map(Offset)),
            runs: runs.as_slice(),
        };
        hold(&self.partition, &self.outbox, kind, head, &reply);
        Ok(())
    }
}

/// Answers that a message is not what its kind asks for.
pub fn put_message_error(outbox: &Outbox, head: FrameHead, error: &MessageError) {
    let code = match error {
        MessageError::TooMany { .. } => ErrorCode::TooLarge,
        MessageError::Kind { .. } => ErrorCode::UnknownKind,
        _ => ErrorCode::Malformed,
    };
    outbox.put_error(head, code, &error.to_string());
}

/// Answers that there is no such subscription.
pub fn put_no_subscription(outbox: &Outbox, head: FrameHead) {
    let message = "no such subscription on this connection";
    outbox.put_error(head, ErrorCode::Malformed, message);
}

/// Offset that record `place` of a conditional batch must get.
fn expected_at(expected: u64, place: u64) -> u64 {
    // Saturating at `ANY_OFFSET` would turn a condition off; no log gets that far.
    if expected == ANY_OFFSET {
        ANY_OFFSET
    } else {
        expected.saturating_add(place).min(ANY_OFFSET - 1)
    }
}
