//! One connection's side of the conversation, without I/O: request ids, what is in flight,
//! deadlines, matching of replies, what is sent again and when.
//!
//! The owner moves bytes and tells the time; `now` is a monotonic time since any fixed point. A
//! session outlives connections: what was not answered is sent again, same bytes, on the next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::frame::{self, CONNECTION, EncodeError, Frame, FrameError, FrameHead, Kind, RequestId};
use crate::limits::DEADLINE_MILLIS_MAX;
use crate::message::{
    ArchivedErrorReply, ArchivedHelloReply, Credit, ErrorCode, ErrorReply, Hello, HelloReply,
    LogPage, Message, MessageError, open, open_frame,
};
use crate::model::PartitionId;

/// Frames whose memory is kept for the next requests.
const SPARE_FRAMES_MAX: usize = 16;

/// When to come back.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// First pause after a lost connection, and after a `Busy` without a hint.
    pub pause_min: Duration,
    /// Longest pause; each is twice the one before, and between half and whole by chance.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { pause_min: Duration::from_millis(10), pause_max: Duration::from_secs(1) }
    }
}

impl RetryPolicy {
    /// Pause before the `attempt`-th repetition (from 0); `random` is any number.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        let whole = self.pause_min.saturating_mul(1 << attempt.min(16)).min(self.pause_max);
        jittered(whole, random)
    }
}

/// Between half of `whole` and all of it.
fn jittered(whole: Duration, random: u64) -> Duration {
    let half_nanos = (whole / 2).as_nanos() as u64;
    whole / 2 + Duration::from_nanos(random % (half_nanos + 1))
}

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
    /// Was out when a connection was lost: a write may have taken effect.
    was_lost: bool,
    /// Not before this time, after a `Busy`.
    send_at: Option<Duration>,
    attempts: u32,
    /// Bytes that a subscription may still get.
    credit_bytes: u64,
    context: T,
}

/// One partition's conversation with a server. `T` is the owner's own: given with a request, and
/// given back with its end.
pub struct Session<T> {
    config: SessionConfig,
    link: Link,
    attempts: u32,
    random: u64,
    next_request: u64,
    hello: Option<RequestId>,
    inflight: HashMap<u64, Pending<T>>,
    queue: VecDeque<u64>,
    /// Frames without an answer, and the `Hello`.
    oneway: Vec<u8>,
    /// No deadline and no `send_at` is earlier; may lag behind.
    wake_at: Option<Duration>,
    spare: Vec<Vec<u8>>,
    leader: Option<String>,
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

/// What came in.
pub enum Received<'a, T> {
    /// The connection is open for requests.
    Ready(&'a ArchivedHelloReply<'static>),
    /// A request's answer, and its end.
    Reply {
        /// As given with the request.
        context: T,
        /// The answer.
        frame: Frame<'a>,
    },
    /// A request failed, and its end. What is worth repeating has been repeated before.
    Failed {
        /// As given with the request.
        context: T,
        /// Why.
        error: &'a ArchivedErrorReply<'static>,
    },
    /// A page of a subscription, which goes on.
    Feed {
        /// The subscription.
        request: RequestId,
        /// The page.
        frame: Frame<'a>,
    },
    /// Nothing for the owner: a repetition was put off, or nobody waits for this answer any more.
    Nothing,
}

/// The connection can't go on: close it, tell [`Session::disconnected`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A frame that does not belong here.
    #[error("{0}")]
    OutOfTurn(&'static str),
    /// The server refuses the connection; it will refuse the next one, too.
    #[error("{message}")]
    Refused {
        /// Why.
        code: Option<ErrorCode>,
        /// The reason in words.
        message: String,
    },
    /// The server asks to come back, or points elsewhere.
    #[error("{message}")]
    ComeBack {
        /// The reason in words.
        message: String,
    },
}

impl LinkError {
    /// Another attempt would end the same way: give up what is in flight.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::ComeBack { .. } | Self::Frame(FrameError::Crc { .. }))
    }
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
            random: config.seed,
            next_request: 1,
            hello: None,
            inflight: HashMap::new(),
            queue: VecDeque::new(),
            oneway: Vec::new(),
            wake_at: None,
            spare: Vec::new(),
            leader: None,
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

    /// Address of the node that leads, if a server pointed there: connect to it next.
    pub fn take_leader(&mut self) -> Option<String> {
        self.leader.take()
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
        let random = self.random();
        let pause = self.config.policy.pause(self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        self.link = Link::Down { connect_at: now + pause };
        self.hello = None;
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
            pending.was_lost = true;
            out.push(request);
        }
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
                .map_or(0, |subscribe| subscribe.credit_bytes.to_native()),
            _ => 0,
        };
        let pending = Pending {
            kind,
            frame,
            deadline,
            is_out: false,
            was_lost: false,
            send_at: None,
            attempts: 0,
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
        pending.credit_bytes = pending.credit_bytes.saturating_add(bytes);
        let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
        frame::encode(&mut self.oneway, head, &Credit { bytes }).expect("a Credit is small");
    }

    /// Nobody waits for this request any more; its answer will be dropped.
    pub fn forget(&mut self, request: RequestId) {
        let Some(pending) = self.inflight.remove(&request.0) else { return };
        if pending.kind == Kind::Subscribe && pending.is_out && self.link == Link::Ready {
            let head = FrameHead { partition: self.config.partition, request, deadline_millis: 0 };
            let unsubscribe = crate::message::Unsubscribe::default();
            frame::encode(&mut self.oneway, head, &unsubscribe).expect("an Unsubscribe is small");
        }
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
            let deadline_millis = millis_until(now, pending.deadline);
            frame::seal(&mut pending.frame, RequestId(request), deadline_millis);
            out.extend_from_slice(&pending.frame);
        }
    }

    /// Takes the frame at the start of `buffer`, if it is whole, with its length in bytes. Call
    /// again with the rest. After an error the connection is of no use any more.
    pub fn receive<'a>(
        &mut self,
        now: Duration,
        buffer: &'a [u8],
    ) -> Result<Option<(usize, Received<'a, T>)>, LinkError> {
        let Some(frame) = frame::peek(buffer)? else { return Ok(None) };
        let bytes = frame.frame_bytes();
        let received = if Some(frame.head.request) == self.hello {
            self.greeted(&frame)?
        } else if frame.kind == Kind::Error {
            self.refused(now, &frame)?
        } else if frame.kind == Kind::Feed {
            self.fed(frame)?
        } else {
            self.answered(frame)?
        };
        Ok(Some((bytes, received)))
    }

    fn greeted<'a>(&mut self, frame: &Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        if frame.kind == Kind::Error {
            return Err(self.link_error(open::<ErrorReply>(frame.body)?));
        }
        let hello = open_frame::<HelloReply>(frame)?;
        self.hello = None;
        self.link = Link::Ready;
        Ok(Received::Ready(hello))
    }

    /// A refusal of the connection as a whole.
    fn link_error(&mut self, error: &ArchivedErrorReply<'static>) -> LinkError {
        let (code, message) = (error.code(), error.message.to_string());
        self.note_leader(error);
        let transient = [ErrorCode::Busy, ErrorCode::NotLeader, ErrorCode::ShuttingDown];
        if code.is_some_and(|code| transient.contains(&code)) {
            self.last_refusal = code;
            LinkError::ComeBack { message }
        } else {
            LinkError::Refused { code, message }
        }
    }

    fn note_leader(&mut self, error: &ArchivedErrorReply<'static>) {
        if error.code() == Some(ErrorCode::NotLeader) && !error.leader.is_empty() {
            self.leader = Some(error.leader.to_string());
        }
    }

    fn refused<'a>(
        &mut self,
        now: Duration,
        frame: &Frame<'a>,
    ) -> Result<Received<'a, T>, LinkError> {
        let error = open::<ErrorReply>(frame.body)?;
        let request = frame.head.request;
        if request == CONNECTION {
            return Err(self.link_error(error));
        }
        let Some(pending) = self.inflight.get(&request.0) else {
            return Ok(Received::Nothing);
        };
        match error.code() {
            Some(ErrorCode::Busy) => {
                let hint = Duration::from_millis(error.retry_after_millis.to_native().into());
                self.put_off(now, request.0, hint);
                Ok(Received::Nothing)
            }
            // The next connection repeats it.
            Some(ErrorCode::NotLeader | ErrorCode::ShuttingDown)
                if pending.kind != Kind::Subscribe =>
            {
                self.note_leader(error);
                self.last_refusal = error.code();
                Err(LinkError::ComeBack { message: error.message.to_string() })
            }
            _ => match self.finish(request.0) {
                Some(context) => Ok(Received::Failed { context, error }),
                None => Ok(Received::Nothing),
            },
        }
    }

    fn put_off(&mut self, now: Duration, request: u64, hint: Duration) {
        let random = self.random();
        let Some(pending) = self.inflight.get_mut(&request) else { return };
        if !pending.is_out {
            return; // a second refusal of the same sending
        }
        pending.is_out = false;
        let pause = if hint.is_zero() {
            self.config.policy.pause(pending.attempts, random)
        } else {
            hint + jittered(hint, random) / 2
        };
        pending.attempts = pending.attempts.saturating_add(1);
        pending.send_at = Some(now + pause);
        self.last_refusal = Some(ErrorCode::Busy);
        self.wake_by(now + pause);
    }

    fn fed<'a>(&mut self, frame: Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        let request = frame.head.request;
        let Some(pending) = self.inflight.get_mut(&request.0) else {
            return Ok(Received::Nothing); // forgotten while it was on its way
        };
        if pending.kind != Kind::Subscribe {
            return Err(LinkError::OutOfTurn("a page of a subscription answers another request"));
        }
        let bytes = open::<LogPage>(frame.body)?.entries.len() as u64;
        if pending.credit_bytes == 0 && bytes > 0 {
            return Err(LinkError::OutOfTurn("a subscription was sent more than its credit"));
        }
        pending.credit_bytes = pending.credit_bytes.saturating_sub(bytes);
        self.attempts = 0;
        Ok(Received::Feed { request, frame })
    }

    fn answered<'a>(&mut self, frame: Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        let request = frame.head.request;
        let Some(pending) = self.inflight.get(&request.0) else {
            return Ok(Received::Nothing); // late, or a second answer
        };
        let was_sent = pending.is_out || pending.was_lost || pending.attempts > 0;
        if pending.kind.reply() != Some(frame.kind) || !was_sent {
            return Err(LinkError::OutOfTurn("the answer is not one to this kind of request"));
        }
        // Only now: a server that greets and then turns away must not be asked without pause.
        self.attempts = 0;
        match self.finish(request.0) {
            Some(context) => Ok(Received::Reply { context, frame }),
            None => Ok(Received::Nothing),
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

    fn lose(&mut self, request: u64) -> Option<Lost<T>> {
        let pending = self.inflight.remove(&request)?;
        Some(Lost {
            context: pending.context,
            kind: pending.kind,
            was_sent: pending.is_out || pending.was_lost,
            refusal: self.last_refusal,
        })
    }

    fn finish(&mut self, request: u64) -> Option<T> {
        let pending = self.inflight.remove(&request)?;
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

    /// `SplitMix64` (Steele, Lea and Flood, 2014): enough to spread pauses.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Whole milliseconds until `deadline`, at least 1, because 0 means no limit.
fn millis_until(now: Duration, deadline: Duration) -> u32 {
    let millis = deadline.saturating_sub(now).as_millis();
    u32::try_from(millis).unwrap_or(u32::MAX).clamp(1, DEADLINE_MILLIS_MAX)
}
