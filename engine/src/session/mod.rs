//! What a server does with the frames of one connection. No sockets: frames in, answers into the
//! [`Outbox`]. Lives on the shard core of the connection's partition; not `Send`.

pub mod admin;
mod bounded;
pub mod disk_reads;
pub mod event_reads;
mod imports;
pub mod log_reads;
mod naming;
pub mod node_facts;
pub mod numbers;
mod orders;
pub mod reads;
pub mod replies;
mod reservations;
mod status;
mod written;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::frame::{Frame, FrameHead, Kind, RequestId};
use walengine_net::identity::Identity;
use walengine_net::limits::{BODY_BYTES_MAX, EVENTS_MAX, HOLD_MILLIS_MAX, INFLIGHT_MAX};
use walengine_net::message::{
    ActFor, ActForReply, AdmitNode, Append, ClusterStatus, Credit, ErrorCode, Hello, HelloReply,
    ImportLog, Leave, LeaveAnyway, MessageError, NO_NODE, OutcomeRuns, RemoveNode, ServerStatus,
    StateDigest, TransferLeadership, Unsubscribe, open_frame,
};
use walengine_net::model::{EventBytes, PartitionId, Verdict};

use crate::caller::Caller;
use crate::connection::errors::{
    put_bad_request_id, put_forbidden, put_message_error, put_no_subscription,
};
use crate::connection::outbox::Outbox;
use crate::connection::request_ids::RequestIds;
use crate::ledger::{Ledger, Outcomes};
use crate::partition::Partition;
use crate::partition::taken::Taken;
use crate::policy::{Permit, Rights};
use crate::refused::{BUSY_READING, Refused};
use crate::runtime::Runtime as _;
use crate::version::SERVER_VERSION;
use admin::{GroupOrder, Operated};
use bounded::{Judge, Judged};
use imports::TracedImport;
use node_facts::NodeFacts;
use reads::{ReadScratch, Reads};
use replies::Replies;
use written::{Asked, events_of};

/// Memory that the sessions of a shard share, since they run one at a time.
pub struct Scratch {
    outcomes: Outcomes,
    runs: OutcomeRuns,
    heads: Vec<RecordHead>,
    reads: Rc<RefCell<ReadScratch>>,
}

impl Default for Scratch {
    /// Of the only shard.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Scratch {
    /// Of one of so many shards.
    pub fn new(cores: usize) -> Self {
        let (outcomes, runs, heads) = (Outcomes::default(), OutcomeRuns::default(), Vec::new());
        Self { outcomes, runs, heads, reads: Rc::new(RefCell::new(ReadScratch::new(cores))) }
    }
}

/// One connection's requests.
pub struct Session<C: Operated> {
    replies: Replies<C>,
    reads: Reads<C>,
    scratch: Rc<RefCell<Scratch>>,
    permit: Rc<Permit>,
    ids: RequestIds,
    import: TracedImport,
    has_greeted: bool,
    /// Since when the frame in front waits to be handled, if it was looked at before.
    waits_since: Option<Duration>,
    /// Something was asked for.
    has_asked: bool,
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
    OtherPartition,
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

impl<C: Operated> Session<C> {
    /// A session on the partition that the connection named.
    pub fn new(
        partition: Partition<C>,
        node: Rc<NodeFacts<C>>,
        outbox: Rc<Outbox>,
        scratch: Rc<RefCell<Scratch>>,
        caller: Caller,
    ) -> Self {
        let replies = Replies { partition, node, outbox };
        let permit = Rc::new(Permit::new(&replies.node.state.policies, caller));
        let reads = Reads::new(replies.clone(), scratch.borrow().reads.clone(), permit.clone());
        let (ids, import) = (RequestIds::default(), TracedImport::default());
        Self {
            replies,
            reads,
            scratch,
            permit,
            ids,
            import,
            has_greeted: false,
            has_asked: false,
            waits_since: None,
        }
    }

    /// The partition that it is on.
    pub fn partition(&self) -> &Partition<C> {
        &self.replies.partition
    }

    /// Its number.
    pub fn partition_id(&self) -> PartitionId {
        self.partition().id().partition
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        self.permit.caller()
    }

    /// What the caller may do.
    pub fn permit(&self) -> &Rc<Permit> {
        &self.permit
    }

    /// The request ids that were used.
    pub fn request_ids(&self) -> &RequestIds {
        &self.ids
    }

    /// The feed has judged a Subscribe of this id.
    pub fn note_subscribed(&mut self, id: RequestId) {
        let _ = self.ids.take(id); // if it was used before, the feed has said so
    }

    fn outbox(&self) -> &Outbox {
        &self.replies.outbox
    }

    /// Acts on a frame whose checksum has been verified.
    pub fn handle(&mut self, frame: &Frame<'_>) -> Handled {
        self.try_handle(frame).unwrap_or_else(|refused| {
            self.waits_since = None;
            self.partition().count_busy();
            self.replies.put_refused(self.reply_head(frame), &refused);
            Handled::Here
        })
    }

    /// A frame waits for one before it: has its ids looked up meanwhile, if it is a write that needs that.
    pub fn look_ahead(&self, frame: &Frame<'_>) {
        let is_write = self.has_greeted && frame.kind.submits();
        if !is_write || frame.head.partition != self.partition_id() || !self.partition().leads() {
            return;
        }
        if let Ok(events) = events_of(frame) {
            // Whether it is known, it hears in its turn.
            let _ = self.partition().require_known(events);
        }
    }

    /// As [`Self::handle`], but a write that the partition is too busy for is left as it is, to be
    /// handled again.
    pub fn try_handle(&mut self, frame: &Frame<'_>) -> Result<Handled, Refused> {
        let handled = self.handle_now(frame);
        if handled.is_ok() {
            self.waits_since = None;
        }
        handled
    }

    fn handle_now(&mut self, frame: &Frame<'_>) -> Result<Handled, Refused> {
        let head = self.reply_head(frame);
        if !self.has_greeted && frame.kind != Kind::Hello {
            let message = "the first frame must be a hello, which names the partition";
            self.outbox().put_error(head, ErrorCode::WrongPartition, message);
            return Ok(Handled::Close);
        }
        if frame.head.partition != head.partition {
            let message = "this connection is for another partition: open one for each";
            self.outbox().put_error(head, ErrorCode::WrongPartition, message);
            return Ok(self.unless_greeted(Handled::Close));
        }
        while let Some(freed) = self.replies.outbox.take_freed() {
            self.ids.free(freed);
        }
        // These two name a subscription.
        let begins = !matches!(frame.kind, Kind::Credit | Kind::Unsubscribe);
        if begins && self.ids.is_used(head.request) && frame.kind != Kind::Subscribe {
            put_bad_request_id(self.outbox(), head);
            return Ok(Handled::Here);
        }
        if self.outbox().unanswered() >= INFLIGHT_MAX {
            self.outbox().put_busy(head);
            return Ok(Handled::Here);
        }
        if let Err(forbidden) = self.permit.check(frame.kind) {
            if begins {
                let _ = self.ids.take(head.request);
            }
            put_forbidden(self.outbox(), head, &forbidden);
            return Ok(Handled::Here);
        }
        if frame.kind == Kind::Subscribe {
            return Ok(Handled::Subscribes); // the feed judges its id, and takes it
        }
        if frame.kind == Kind::ActFor {
            let _ = self.ids.take(head.request);
            return Ok(self.act_for(frame, head));
        }
        self.has_asked |= frame.kind != Kind::Hello;
        let handled = self.dispatch(frame, head);
        if begins && !matches!(handled, Err(Unhandled::Refused(Refused::Busy { .. }))) {
            let _ = self.ids.take(head.request);
        }
        match handled {
            Ok(()) => {}
            Err(Unhandled::Message(error)) => put_message_error(self.outbox(), head, &error),
            Err(Unhandled::OtherPartition) => {
                let message = "the hello's header and body name different partitions";
                self.outbox().put_error(head, ErrorCode::WrongPartition, message);
                return Ok(self.unless_greeted(Handled::Close));
            }
            Err(Unhandled::Refused(refused @ Refused::Busy { .. })) => return Err(refused),
            Err(Unhandled::Refused(refused)) => {
                self.replies.put_refused(head, &refused);
            }
        }
        Ok(Handled::Here)
    }

    /// What becomes of a connection that goes on once it has been greeted.
    fn unless_greeted(&self, otherwise: Handled) -> Handled {
        if self.has_greeted { Handled::Here } else { otherwise }
    }

    /// Head of the answer to a frame.
    pub fn reply_head(&self, frame: &Frame<'_>) -> FrameHead {
        FrameHead::reply(self.partition_id(), frame.head.request)
    }

    /// The connection of a node becomes somebody's. One that may not must end: what follows was not meant to be done
    /// with the node's own rights.
    fn act_for(&self, frame: &Frame<'_>, head: FrameHead) -> Handled {
        let identity = open_frame::<ActFor<'_>>(frame)
            .map_err(|error| error.to_string())
            .and_then(|asked| Identity::of_uri(&asked.identity).map_err(|error| error.to_string()));
        match identity {
            Err(why) => self.outbox().put_error(head, ErrorCode::Malformed, &why),
            Ok(_) if self.has_asked => {
                let why = "for whom a connection is must be said before anything is asked for";
                self.outbox().put_error(head, ErrorCode::Malformed, why);
            }
            Ok(identity) => match self.permit.act_for(identity) {
                Ok(()) => {
                    self.outbox().put(Kind::ActForReply, head, &ActForReply::default());
                    return Handled::Here;
                }
                Err(forbidden) => put_forbidden(self.outbox(), head, &forbidden),
            },
        }
        Handled::Close
    }

    fn dispatch(&mut self, frame: &Frame<'_>, head: FrameHead) -> Result<(), Unhandled> {
        match frame.kind {
            Kind::Hello => {
                let hello = open_frame::<Hello<'_>>(frame)?;
                if hello.partition.to_native() != self.partition_id().0 {
                    return Err(Unhandled::OtherPartition);
                }
                self.hello(head);
            }
            Kind::Submit | Kind::SubmitSpanning => {
                let (asked, events) = (Asked::by(frame, head, self.since()), events_of(frame)?);
                match self.permit.bounded() {
                    None => self.write(asked, events, |partition, outcomes, _| {
                        partition.submit(events, outcomes)
                    })?,
                    Some(rights) => self.submit_bounded(asked, events, &rights)?,
                }
            }
            Kind::Append => {
                let request = open_frame::<Append<'_>>(frame)?;
                let expected = request.expected_offset.to_native();
                let asked = Asked::by(frame, head, self.since());
                self.write(asked, &[], |partition, outcomes, heads| {
                    heads.clear();
                    heads.extend(request.heads.iter().zip(0..).map(|(head, place)| RecordHead {
                        id: head.id.to_native(),
                        expected_offset: expected_at(expected, place),
                        bytes: head.bytes.to_native(),
                    }));
                    let taken = partition.append_records(heads, &request.blob, outcomes)?;
                    if let Some(rights) = self.permit.bounded() {
                        hide_others(&rights, outcomes);
                    }
                    Ok(taken)
                })?;
            }
            Kind::LookupAccounts
            | Kind::ListAccounts
            | Kind::Status
            | Kind::LookupTransfers
            | Kind::LookupNames
            | Kind::FindNames
            | Kind::ListLedgers
            | Kind::ListReservations
            | Kind::ReadLog
            | Kind::ReadEntries => self.reads.take(frame, head)?,
            // One that has ended; its last frame is on its way.
            Kind::Credit => drop(open_frame::<Credit>(frame)?),
            Kind::Unsubscribe => {
                open_frame::<Unsubscribe>(frame)?;
                put_no_subscription(self.outbox(), head);
            }
            Kind::ServerStatus => {
                open_frame::<ServerStatus>(frame)?;
                status::answer(&self.replies.node, self.outbox(), head);
            }
            Kind::ClusterStatus => {
                open_frame::<ClusterStatus>(frame)?;
                admin::cluster_status(&self.replies.node, self.outbox(), head);
            }
            Kind::TransferLeadership => {
                let to = open_frame::<TransferLeadership>(frame)?.to.to_native();
                let order = GroupOrder::Transfer((to != NO_NODE).then_some(to));
                self.order(Kind::TransferLeadershipReply, head, order);
            }
            Kind::RemoveNode => {
                let node = open_frame::<RemoveNode>(frame)?.node.to_native();
                self.order(Kind::RemoveNodeReply, head, GroupOrder::Remove(node));
            }
            Kind::Leave => {
                let node = open_frame::<Leave>(frame)?.node.to_native();
                self.leave(Kind::LeaveReply, head, node);
            }
            Kind::LeaveAnyway => {
                let node = open_frame::<LeaveAnyway>(frame)?.node.to_native();
                self.leave(Kind::LeaveAnywayReply, head, node);
            }
            Kind::AdmitNode => {
                let node = open_frame::<AdmitNode>(frame)?.node.to_native();
                self.order(Kind::AdmitNodeReply, head, GroupOrder::Admit(node));
            }
            Kind::StateDigest => {
                let hold = open_frame::<StateDigest>(frame)?.hold_millis.to_native();
                let hold = Duration::from_millis(hold.min(HOLD_MILLIS_MAX).into());
                imports::state_digest(&self.replies, head, hold);
            }
            Kind::ImportLog => {
                let request = open_frame::<ImportLog<'_>>(frame)?;
                self.import.take(&self.replies, self.permit.caller(), head, request)?;
            }
            reply => return Err(MessageError::Kind { expected: Kind::Hello, found: reply }.into()),
        }
        Ok(())
    }

    /// When the frame in front was looked at first, by the runtime's clock: from then on its sender waits for us.
    fn since(&mut self) -> Duration {
        let runtime = self.replies.partition.runtime();
        *self.waits_since.get_or_insert_with(|| runtime.elapsed())
    }

    fn hello(&mut self, head: FrameHead) {
        self.has_greeted = true;
        let id = self.partition().id();
        // With a stuck disk it may not have heard that another leads.
        let is_stuck = self.partition().is_stuck();
        let is_leader = self.partition().leads() && !is_stuck;
        let leader = match self.partition().leader() {
            _ if is_stuck => self.replies.node.leader_but_this(id.partition),
            Some(leader) if !is_leader => Some(leader),
            _ => None,
        };
        let leader = leader.map(|leader| self.replies.node.client_address(leader));
        let leader = leader.unwrap_or_default();
        let reply = HelloReply {
            cluster: id.cluster.0,
            node: id.node,
            next_offset: self.partition().with_ledger(Ledger::next_offset).0,
            durable_offset: self.partition().visible_offset().0,
            partitions: self.partition().with_ledger(Ledger::partitions),
            is_leader: u8::from(is_leader),
            body_bytes_max: BODY_BYTES_MAX as u32,
            events_max: EVENTS_MAX as u32,
            inflight_max: INFLIGHT_MAX as u32,
            server_version: SERVER_VERSION,
            leader: &leader,
        };
        self.outbox().put(Kind::HelloReply, head, &reply);
    }

    /// Has an operator's order carried out in the background, once it is written down.
    fn order(&self, kind: Kind, head: FrameHead, order: GroupOrder) {
        let (replies, caller) = (self.replies.clone(), self.caller().clone());
        self.replies.spawn(async move {
            orders::group(&replies, &caller, kind, head, order).await;
        });
    }

    fn leave(&self, kind: Kind, head: FrameHead, node: u64) {
        let (replies, caller) = (self.replies.clone(), self.caller().clone());
        self.replies.spawn(async move {
            orders::leave(&replies, &caller, kind, head, node).await;
        });
    }

    /// Has events decided of which some may be forbidden.
    fn submit_bounded(
        &self,
        asked: Asked,
        events: &[EventBytes],
        rights: &Rights,
    ) -> Result<(), Refused> {
        let mut forbidden = Vec::new();
        // Another than the leader says who leads.
        if self.partition().leads() && !rights.write.is_everything() {
            self.partition().require_known(events)?;
            let known = self.reads.known();
            let mut unknown = Vec::new();
            self.partition().with_ledger(|ledger| {
                let judge = Judge { rights, ledger, known: &known };
                forbidden.extend(events.iter().map(|event| match judge.judge(event) {
                    Judged::Unknown(id) => {
                        unknown.push(id.0);
                        false
                    }
                    judged => judged == Judged::Forbidden,
                }));
            });
            drop(known);
            if !unknown.is_empty() {
                self.reads.find_out(unknown);
                return Err(BUSY_READING);
            }
        }
        self.write(asked, events, |partition, outcomes, _| {
            if !forbidden.contains(&true) {
                let taken = partition.submit(events, outcomes)?;
                hide_others(rights, outcomes);
                return Ok(taken);
            }
            let taken = partition.submit_but(events, &forbidden, outcomes)?;
            hide_others(rights, outcomes);
            let answered = outcomes.iter().filter(|one| one.verdict == Verdict::Forbidden);
            self.permit.count_forbidden(answered.count() as u64);
            Ok(taken)
        })?;
        self.reads.forget_known();
        Ok(())
    }

    fn write(
        &self,
        asked: Asked,
        events: &[EventBytes],
        decide: impl FnOnce(
            &Partition<C>,
            &mut Outcomes,
            &mut Vec<RecordHead>,
        ) -> Result<Taken, Refused>,
    ) -> Result<(), Refused> {
        let Scratch { outcomes, runs, heads, .. } = &mut *self.scratch.borrow_mut();
        outcomes.clear();
        let taken = decide(self.partition(), outcomes, heads)?;
        let doubts = self.partition().doubts_of(events, outcomes);
        if doubts.is_empty() {
            written::put(&self.replies, asked, outcomes, &taken, runs);
        } else {
            written::put_settled(&self.replies, asked, doubts, outcomes.clone(), taken);
        }
        Ok(())
    }
}

/// Hides where the first event with an id stands from who sent another under the same id, unless it may
/// see everything: the first may be anybody's.
fn hide_others(rights: &Rights, outcomes: &mut Outcomes) {
    if !rights.read.is_everything() {
        let reused = outcomes.iter_mut().filter(|outcome| outcome.verdict == Verdict::IdReused);
        reused.for_each(|outcome| outcome.offset = None);
    }
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
