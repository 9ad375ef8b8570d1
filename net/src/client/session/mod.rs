//! The client's side of one connection, without I/O: request ids, requests in flight, deadlines,
//! matching of replies, and repetitions. Its tests, in `net/tests/session.rs`, need no socket.
//!
//! The owner moves bytes and passes the time. `now` is monotonic, since any fixed point. A session
//! outlives connections: unanswered requests are sent again, with the same bytes, on the next one.

mod receive;
mod time;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{self, EncodeError, FrameHead, Kind, RequestId};
use crate::identity::Identity;
use crate::limits::DEADLINE_MILLIS_MAX;
use crate::message::{ActFor, ClusterStatus, Credit, ErrorCode, Hello, Message, open};
use crate::model::PartitionId;

use super::chance::Chance;

pub use super::chance::RetryPolicy;
pub use receive::{LinkError, Received};

/// Frames whose memory is reused for later requests.
const SPARE_FRAMES_MAX: usize = 16;

/// Settings of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The partition of its connection.
    pub partition: PartitionId,
    /// Name of the client, for the server's operator.
    pub client_name: String,
    /// For whom requests are made, if not for whom the connection's certificate names.
    pub acts_for: Option<Arc<Identity>>,
    /// Most requests in flight.
    pub inflight_max: usize,
    /// Pauses and timeouts.
    pub policy: RetryPolicy,
    /// Seed of the jitter in pauses. The same seed and times give the same conversation.
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// No connection; the next attempt is due at this time.
    Down { connect_at: Duration },
    /// Connected, `Hello` not yet answered.
    Greeting,
    /// Open for requests.
    Ready,
}

struct Pending<T> {
    kind: Kind,
    frame: Vec<u8>,
    deadline: Duration,
    /// Sent on this connection and not answered.
    is_out: bool,
    /// The server refused it without effect: the next connection repeats it.
    is_untouched: bool,
    /// Sent and unanswered when a connection was lost: a write may have taken effect.
    was_lost: bool,
    /// Not sent again before this time, after a `Busy`.
    send_at: Option<Duration>,
    attempts: u32,
    /// How often a server could not answer it for a reason of the server's.
    refusals: u32,
    /// Bytes that the server may still send to a subscription. Negative after a page that exceeds
    /// the credit.
    credit_bytes: i64,
    context: T,
}

/// The conversation with a server about one partition. `T` belongs to the owner: passed with a
/// request and returned when it ends.
pub struct Session<T> {
    config: SessionConfig,
    link: Link,
    attempts: u32,
    /// Consecutive stalls without an answer in between.
    stalls: u32,
    chance: Chance,
    next_request: u64,
    hello: Option<RequestId>,
    /// Unanswered, that the connection is for somebody else.
    acting: Option<RequestId>,
    /// The open question about the cluster, and when it was asked.
    question: Option<(RequestId, Duration)>,
    /// Sent and unanswered, without subscriptions.
    outs: usize,
    /// Subscriptions that are sent and have not ended.
    streams: usize,
    /// When the last of `outs` was answered, or the first of them sent.
    quiet_since: Duration,
    /// When anything was last received.
    heard_at: Duration,
    /// Another node could be asked.
    has_elsewhere: bool,
    inflight: HashMap<u64, Pending<T>>,
    queue: VecDeque<u64>,
    /// Frames that have no answer, the `Hello`, and questions about the cluster.
    oneway: Vec<u8>,
    /// No deadline and no `send_at` is earlier. May be too early.
    wake_at: Option<Duration>,
    spare: Vec<Vec<u8>>,
    last_refusal: Option<ErrorCode>,
}

/// Why a request was not taken. The owner's context is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As many are in flight as allowed: wait for one.
    #[error("too many requests are in flight")]
    Full,
    /// Larger than a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<T> {
    /// As passed with the request.
    pub context: T,
    /// Its kind.
    pub kind: Kind,
    /// It was sent, and neither answered nor refused: a write may have taken effect.
    pub was_sent: bool,
    /// The last code with which the server asked for a repetition.
    pub refusal: Option<ErrorCode>,
}

impl<T> Session<T> {
    /// A session without a connection, due to connect at once.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            link: Link::Down { connect_at: Duration::ZERO },
            attempts: 0,
            stalls: 0,
            chance: Chance(config.seed),
            next_request: 1,
            hello: None,
            acting: None,
            question: None,
            outs: 0,
            streams: 0,
            quiet_since: Duration::ZERO,
            heard_at: Duration::ZERO,
            has_elsewhere: false,
            inflight: HashMap::new(),
            queue: VecDeque::new(),
            oneway: Vec::new(),
            wake_at: None,
            spare: Vec::new(),
            last_refusal: None,
            config,
        }
    }

    /// The partition that the connection is for.
    pub fn partition(&self) -> PartitionId {
        self.config.partition
    }

    /// When to connect; `None` while there is a connection.
    pub fn connect_at(&self) -> Option<Duration> {
        match self.link {
            Link::Down { connect_at } => Some(connect_at),
            Link::Greeting | Link::Ready => None,
        }
    }

    /// Whether requests are sent: there is a connection, and its `Hello` was answered.
    pub fn is_ready(&self) -> bool {
        self.link == Link::Ready
    }

    /// Whether another node could be asked.
    pub fn has_elsewhere(&self) -> bool {
        self.has_elsewhere
    }

    /// Sets whether another node could be asked. Some refusals are then worth a repetition.
    pub fn set_elsewhere(&mut self, has_elsewhere: bool) {
        self.has_elsewhere = has_elsewhere;
    }

    /// Number of requests without an answer.
    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Whether no further request is taken.
    pub fn is_full(&self) -> bool {
        self.inflight.len() >= self.config.inflight_max
    }

    /// There is a connection. Its first frame is a `Hello`; requests follow once it is answered.
    pub fn connected(&mut self, now: Duration, hello_deadline: Duration) {
        assert!(matches!(self.link, Link::Down { .. }), "connected twice");
        self.link = Link::Greeting;
        self.heard_at = now;
        self.oneway.clear();
        let request = self.new_request();
        self.hello = Some(request);
        let deadline_millis = millis_until(now, hello_deadline);
        let head = FrameHead { partition: self.config.partition, request, deadline_millis };
        let client_name =
            crate::message::bounded(&self.config.client_name, crate::limits::CLIENT_NAME_BYTES_MAX);
        let hello = Hello { partition: self.config.partition.0, client_name };
        frame::encode(&mut self.oneway, head, &hello).expect("a Hello is small");
        if let Some(identity) = self.config.acts_for.clone() {
            let request = self.new_request();
            self.acting = Some(request);
            let act_for = ActFor { identity: &identity.uri() };
            let head = FrameHead { request, ..head };
            frame::encode(&mut self.oneway, head, &act_for).expect("an identity is small");
        }
    }

    /// The connection, or an attempt to connect, failed. Unanswered requests are sent again on the
    /// next one. Subscriptions are not: they are returned, because their owner knows where to
    /// resume.
    pub fn disconnected(&mut self, now: Duration) -> Vec<Lost<T>> {
        let pause = self.config.policy.pause(self.attempts, self.chance.next());
        self.hang_up(now + pause)
    }

    /// As [`Session::disconnected`], when the server has named another: the first time without a
    /// pause. The pauses grow, so that servers that point to each other are not flooded.
    pub fn redirected(&mut self, now: Duration) -> Vec<Lost<T>> {
        if self.attempts == 0 { self.hang_up(now) } else { self.disconnected(now) }
    }

    fn hang_up(&mut self, connect_at: Duration) -> Vec<Lost<T>> {
        self.attempts = self.attempts.saturating_add(1);
        self.link = Link::Down { connect_at };
        self.hello = None;
        self.acting = None;
        self.question = None;
        self.oneway.clear();
        let streams: Vec<u64> = self
            .inflight
            .iter()
            .filter(|(_, pending)| pending.kind == Kind::Subscribe && pending.is_out)
            .map(|(&request, _)| request)
            .collect();
        let lost = streams.into_iter().filter_map(|request| self.lose(request)).collect();
        let mut out: Vec<u64> = Vec::new();
        for (&request, pending) in self.inflight.iter_mut().filter(|(_, pending)| pending.is_out) {
            pending.is_out = false;
            pending.was_lost |= !std::mem::take(&mut pending.is_untouched);
            out.push(request);
        }
        (self.outs, self.streams) = (0, 0);
        // In the order in which they were taken, and before those that were never sent.
        out.sort_unstable();
        for &request in out.iter().rev() {
            self.queue.push_front(request);
        }
        lost
    }

    /// Takes a request with a deadline.
    pub fn request<M: Message>(
        &mut self,
        deadline: Duration,
        message: &M,
        context: T,
    ) -> Result<RequestId, (NotTaken, T)> {
        if self.is_full() {
            return Err((NotTaken::Full, context));
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        match frame::encode_unsealed(&mut frame, M::KIND, self.config.partition, message) {
            Ok(()) => self.request_frame(M::KIND, deadline, frame, context),
            Err(error) => Err((error.into(), context)),
        }
    }

    /// As [`Session::request`], with a frame from [`frame::encode_unsealed`].
    pub fn request_frame(
        &mut self,
        kind: Kind,
        deadline: Duration,
        frame: Vec<u8>,
        context: T,
    ) -> Result<RequestId, (NotTaken, T)> {
        if self.is_full() {
            return Err((NotTaken::Full, context));
        }
        let request = self.new_request();
        let credit_bytes = match kind {
            Kind::Subscribe => open::<crate::message::Subscribe>(&frame[frame::HEADER_BYTES..])
                .map_or(0, |subscribe| signed(subscribe.credit_bytes.to_native())),
            _ => 0,
        };
        let pending = Pending {
            kind,
            frame,
            deadline,
            is_out: false,
            is_untouched: false,
            was_lost: false,
            send_at: None,
            attempts: 0,
            refusals: 0,
            credit_bytes,
            context,
        };
        self.inflight.insert(request.0, pending);
        self.queue.push_back(request.0);
        self.wake_by(deadline);
        Ok(request)
    }

    /// Gives a subscription more credit. Does nothing if it has ended.
    pub fn credit(&mut self, request: RequestId, bytes: u64) {
        let Some(pending) = self.inflight.get_mut(&request.0) else { return };
        if !pending.is_out || self.link != Link::Ready {
            return;
        }
        pending.credit_bytes = pending.credit_bytes.saturating_add(signed(bytes));
        let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
        frame::encode(&mut self.oneway, head, &Credit { bytes }).expect("a Credit is small");
    }

    /// Nobody waits for this request any more. Its answer will be dropped.
    pub fn forget(&mut self, request: RequestId) {
        let Some(pending) = self.remove(request.0) else { return };
        if pending.kind == Kind::Subscribe && pending.is_out && self.link == Link::Ready {
            let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
            let unsubscribe = crate::message::Unsubscribe::default();
            frame::encode(&mut self.oneway, head, &unsubscribe).expect("an Unsubscribe is small");
        }
    }

    /// Asks what the server knows of the cluster. The answer is [`Received::Cluster`]. Does nothing
    /// without a connection, or while the question is open.
    pub fn ask_cluster(&mut self, now: Duration) {
        if self.link != Link::Ready || self.question.is_some() {
            return;
        }
        let request = self.new_request();
        self.question = Some((request, now));
        let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
        frame::encode(&mut self.oneway, head, &ClusterStatus::default())
            .expect("a ClusterStatus is small");
    }

    /// Whether there is something to send.
    pub fn has_outgoing(&self) -> bool {
        !self.oneway.is_empty() || (self.link == Link::Ready && !self.queue.is_empty())
    }

    /// Appends frames to `out` until it holds `bytes_wanted` or more, or there is nothing to send.
    pub fn fill(&mut self, now: Duration, out: &mut Vec<u8>, bytes_wanted: usize) {
        if matches!(self.link, Link::Down { .. }) {
            return;
        }
        out.append(&mut self.oneway);
        while self.link == Link::Ready && out.len() < bytes_wanted {
            let Some(request) = self.queue.pop_front() else { break };
            let Some(pending) = self.inflight.get_mut(&request) else { continue };
            pending.is_out = true;
            if pending.kind == Kind::Subscribe {
                self.streams += 1;
            } else {
                if self.outs == 0 {
                    self.quiet_since = now;
                }
                self.outs += 1;
            }
            let deadline_millis = millis_until(now, pending.deadline);
            frame::seal(&mut pending.frame, RequestId(request), deadline_millis);
            out.extend_from_slice(&pending.frame);
        }
    }

    /// The owner's context of a request in flight.
    pub fn context(&self, request: RequestId) -> Option<&T> {
        self.inflight.get(&request.0).map(|pending| &pending.context)
    }

    fn remove(&mut self, request: u64) -> Option<Pending<T>> {
        let pending = self.inflight.remove(&request)?;
        self.came_in(pending.kind, pending.is_out);
        Some(pending)
    }

    /// Counts a request of this kind as no longer out, if it was.
    fn came_in(&mut self, kind: Kind, was_out: bool) {
        let count = if kind == Kind::Subscribe { &mut self.streams } else { &mut self.outs };
        *count -= usize::from(was_out);
    }

    fn lose(&mut self, request: u64) -> Option<Lost<T>> {
        let pending = self.remove(request)?;
        Some(Lost {
            context: pending.context,
            kind: pending.kind,
            was_sent: (pending.is_out && !pending.is_untouched) || pending.was_lost,
            refusal: self.last_refusal,
        })
    }

    fn finish(&mut self, request: u64) -> Option<T> {
        let pending = self.remove(request)?;
        if self.spare.len() < SPARE_FRAMES_MAX {
            self.spare.push(pending.frame);
        }
        Some(pending.context)
    }

    fn new_request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        request
    }
}

/// Whole milliseconds until `deadline`, at least 1, because 0 means no limit.
fn millis_until(now: Duration, deadline: Duration) -> u32 {
    let millis = deadline.saturating_sub(now).as_millis();
    u32::try_from(millis).unwrap_or(u32::MAX).clamp(1, DEADLINE_MILLIS_MAX)
}

/// Credit as a signed number. limits.rs bounds it far below the largest.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
