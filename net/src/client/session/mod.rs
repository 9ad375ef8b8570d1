//! One connection's side of the conversation, without I/O: request ids, what is in flight,
//! deadlines, matching of replies, what is sent again and when.
//!
//! The owner moves bytes and tells the time; `now` is a monotonic time since any fixed point. A
//! session outlives connections: what was not answered is sent again, same bytes, on the next.

mod receive;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::frame::{self, EncodeError, FrameHead, Kind, RequestId};
use crate::limits::DEADLINE_MILLIS_MAX;
use crate::message::{ClusterStatus, Credit, ErrorCode, Hello, Message, open};
use crate::model::PartitionId;

use super::chance::Chance;

pub use super::chance::RetryPolicy;
pub use receive::{LinkError, Received};

/// Frames whose memory is kept for the next requests.
const SPARE_FRAMES_MAX: usize = 16;
/// Quiet after which the server of a subscription is asked whether it is still there.
const PROBE_AFTER: Duration = Duration::from_secs(5);

/// What a session is for.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The partition that its connection is opened for.
    pub partition: PartitionId,
    /// What the client calls itself.
    pub client_name: String,
    /// Requests that may be unanswered.
    pub inflight_max: usize,
    /// When to come back.
    pub policy: RetryPolicy,
    /// Start of the chance in pauses; the same seed and times give the same conversation.
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
    /// Sent on this connection, and not answered.
    is_out: bool,
    /// This sending was refused without effect: the next connection repeats it.
    is_untouched: bool,
    /// Was out when a connection was lost: a write may have taken effect.
    was_lost: bool,
    /// Not before this time, after a `Busy`.
    send_at: Option<Duration>,
    attempts: u32,
    /// Times that a server could not answer for a reason of its own.
    refusals: u32,
    /// Bytes that a subscription may still get; below zero by what the last page was too large.
    credit_bytes: i64,
    context: T,
}

/// One partition's conversation with a server. `T` is the owner's own: given with a request, and
/// given back with its end.
pub struct Session<T> {
    config: SessionConfig,
    link: Link,
    attempts: u32,
    /// Stalls in a row, without an answer in between.
    stalls: u32,
    chance: Chance,
    next_request: u64,
    hello: Option<RequestId>,
    /// The question about the cluster, and when it was asked.
    question: Option<(RequestId, Duration)>,
    /// Requests but subscriptions, and subscriptions, that are out.
    outs: usize,
    streams: usize,
    /// When the last of them was answered, or the first of them sent.
    quiet_since: Duration,
    /// When anything came in.
    heard_at: Duration,
    /// There is another node to go to.
    has_elsewhere: bool,
    inflight: HashMap<u64, Pending<T>>,
    queue: VecDeque<u64>,
    /// Frames without an answer, and the `Hello`.
    oneway: Vec<u8>,
    /// No deadline and no `send_at` is earlier; may lag behind.
    wake_at: Option<Duration>,
    spare: Vec<Vec<u8>>,
    last_refusal: Option<ErrorCode>,
}

/// Why a request was not taken; it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As many are unanswered as may be: wait for one.
    #[error("too many requests are in flight")]
    Full,
    /// Larger than a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<T> {
    /// As given with the request.
    pub context: T,
    /// Its kind.
    pub kind: Kind,
    /// It was sent, and neither answered nor put off: a write may have taken effect.
    pub was_sent: bool,
    /// The last repetition that the server asked for.
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

    /// Requests go out: there is a connection and its `Hello` was answered.
    pub fn is_ready(&self) -> bool {
        self.link == Link::Ready
    }

    /// There is another node to go to.
    pub fn has_elsewhere(&self) -> bool {
        self.has_elsewhere
    }

    /// Whether there is another node to go to: some refusals are then worth a repetition.
    pub fn set_elsewhere(&mut self, has_elsewhere: bool) {
        self.has_elsewhere = has_elsewhere;
    }

    /// Requests without an answer.
    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// No further request is taken.
    pub fn is_full(&self) -> bool {
        self.inflight.len() >= self.config.inflight_max
    }

    /// A connection is there. Its first frame is a `Hello`; requests follow when it is answered.
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
    }

    /// The connection, or the attempt at one, is lost. What was sent and not answered is sent
    /// again on the next. Gives back the subscriptions, which are not: their owner knows best
    /// where to go on.
    pub fn disconnected(&mut self, now: Duration) -> Vec<Lost<T>> {
        let pause = self.config.policy.pause(self.attempts, self.chance.next());
        self.hang_up(now + pause)
    }

    /// As [`Session::disconnected`], when the server has said where to go instead: the first time
    /// without a pause. Servers that send a client in circles are asked with growing ones.
    pub fn redirected(&mut self, now: Duration) -> Vec<Lost<T>> {
        if self.attempts == 0 { self.hang_up(now) } else { self.disconnected(now) }
    }

    fn hang_up(&mut self, connect_at: Duration) -> Vec<Lost<T>> {
        self.attempts = self.attempts.saturating_add(1);
        self.link = Link::Down { connect_at };
        self.hello = None;
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
        // The oldest go first, and before all that were never sent.
        out.sort_unstable();
        for &request in out.iter().rev() {
            self.queue.push_front(request);
        }
        lost
    }

    /// Takes a request that is to be answered by `deadline`.
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

    /// Gives a subscription more credit; nothing if it has ended.
    pub fn credit(&mut self, request: RequestId, bytes: u64) {
        let Some(pending) = self.inflight.get_mut(&request.0) else { return };
        if !pending.is_out || self.link != Link::Ready {
            return;
        }
        pending.credit_bytes = pending.credit_bytes.saturating_add(signed(bytes));
        let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
        frame::encode(&mut self.oneway, head, &Credit { bytes }).expect("a Credit is small");
    }

    /// Nobody waits for this request any more; its answer will be dropped.
    pub fn forget(&mut self, request: RequestId) {
        let Some(pending) = self.remove(request.0) else { return };
        if pending.kind == Kind::Subscribe && pending.is_out && self.link == Link::Ready {
            let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
            let unsubscribe = crate::message::Unsubscribe::default();
            frame::encode(&mut self.oneway, head, &unsubscribe).expect("an Unsubscribe is small");
        }
    }

    /// Asks what the server knows of the cluster; the answer is [`Received::Cluster`]. Nothing if
    /// there is no connection, or it was asked already.
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

    /// When the server counts as stalled: requests are out, and none has been answered for long;
    /// or it did not answer a question about the cluster.
    pub fn stalled_at(&self) -> Option<Duration> {
        if self.link != Link::Ready {
            return None;
        }
        let requests = (self.outs > 0).then_some(self.quiet_since);
        let question = self.question.map(|(_, asked_at)| asked_at.max(self.heard_at));
        let since = requests.into_iter().chain(question).min()?;
        Some(since + self.config.policy.stall(self.stalls))
    }

    /// Whether the server has stalled; the next stall in a row is given twice the time.
    pub fn has_stalled(&mut self, now: Duration) -> bool {
        let has_stalled = self.stalled_at().is_some_and(|stalled_at| stalled_at <= now);
        self.stalls = self.stalls.saturating_add(u32::from(has_stalled));
        has_stalled
    }

    /// When to ask the server of a subscription whether it is still there: a log that does not grow
    /// is as quiet as a server that is gone.
    pub fn probe_at(&self) -> Option<Duration> {
        let is_quiet = self.link == Link::Ready && self.question.is_none() && self.streams > 0;
        is_quiet.then_some(self.heard_at + PROBE_AFTER)
    }

    /// Something is to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.oneway.is_empty() || (self.link == Link::Ready && !self.queue.is_empty())
    }

    /// Appends frames to `out` until it holds `bytes_wanted` or more, or nothing is to be sent.
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

    /// The next request whose deadline has passed; call until there is none. Also brings back
    /// into the queue what a `Busy` had put off.
    pub fn expire(&mut self, now: Duration) -> Option<Lost<T>> {
        if self.wake_at.is_none_or(|wake_at| wake_at > now) {
            return None;
        }
        let passed =
            self.inflight.iter().find(|(_, pending)| pending.deadline <= now).map(|(&id, _)| id);
        if let Some(request) = passed {
            return self.lose(request);
        }
        let mut due: Vec<u64> = Vec::new();
        self.wake_at = None;
        for (&request, pending) in &mut self.inflight {
            if pending.send_at.is_some_and(|send_at| send_at <= now) {
                pending.send_at = None;
                due.push(request);
            }
            let next = pending.send_at.unwrap_or(pending.deadline).min(pending.deadline);
            self.wake_at = Some(self.wake_at.map_or(next, |wake_at| wake_at.min(next)));
        }
        due.sort_unstable();
        self.queue.extend(due);
        None
    }

    /// Gives up the next request in flight; call until there is none.
    pub fn give_up(&mut self) -> Option<Lost<T>> {
        let request = *self.inflight.keys().min()?;
        self.lose(request)
    }

    /// When [`Session::expire`] has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    /// The owner's part of a request that is in flight.
    pub fn context(&self, request: RequestId) -> Option<&T> {
        self.inflight.get(&request.0).map(|pending| &pending.context)
    }

    fn remove(&mut self, request: u64) -> Option<Pending<T>> {
        let pending = self.inflight.remove(&request)?;
        self.came_in(pending.kind, pending.is_out);
        Some(pending)
    }

    /// A request of this kind is no longer out, if it was.
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

    fn wake_by(&mut self, time: Duration) {
        self.wake_at = Some(self.wake_at.map_or(time, |wake_at| wake_at.min(time)));
    }
}

/// Whole milliseconds until `deadline`, at least 1, because 0 means no limit.
fn millis_until(now: Duration, deadline: Duration) -> u32 {
    let millis = deadline.saturating_sub(now).as_millis();
    u32::try_from(millis).unwrap_or(u32::MAX).clamp(1, DEADLINE_MILLIS_MAX)
}

/// Credit as a number that can go below zero; limits.rs bounds it far below the largest.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
