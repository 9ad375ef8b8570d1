//! One of a client's connections for a partition, without I/O: where to connect, what to send, what
//! was received, when to change to another node. Its owner moves the bytes and passes the time.
//!
//! A link outlives connections and nodes: unanswered requests go to the next one with the same
//! bytes. Its tests, in `net/tests/links.rs`, run in virtual time and need no socket.

mod receive;
mod redirect;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{Kind, RequestId};
use crate::model::PartitionId;

use super::buffer::ReceiveBuffer;
use super::directory::Lane;
use super::error::explain;
use super::operation::Answer;
use super::session::{Lost, NotTaken, RetryPolicy, Session, SessionConfig};
use super::shared::Shared;
use redirect::Redirect;

use super::{CONNECT_TIMEOUT, CONNECT_TIMEOUT_ELSEWHERE, ClientError, OUT_BYTES_WANTED};

/// Silence is checked at multiples of this, so that not every answer sets a timer anew.
const SILENCE_GRAIN: Duration = Duration::from_millis(100);

/// What happened to a request.
#[derive(Debug)]
pub enum Event<T> {
    /// It has ended.
    End {
        /// As passed with the request.
        context: T,
        /// Its answer, or why there is none.
        result: Result<Answer, ClientError>,
    },
    /// A page of a subscription, which continues.
    Page {
        /// The subscription.
        request: RequestId,
        /// The page's body.
        body: Answer,
    },
    /// A subscription has ended with its connection: subscribe again.
    StreamLost {
        /// As passed with the request.
        context: T,
    },
}

/// The connection is of no use any more: close it and call [`Link::lost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hangup;

/// The owner's context of a request, and when it was taken.
struct Waiting<T> {
    context: T,
    since: Duration,
}

/// See the module. `T` belongs to the owner: passed with a request and returned when it ends.
pub struct Link<T> {
    shared: Arc<Shared>,
    lane: Lane,
    session: Session<Waiting<T>>,
    address: String,
    /// What is wrong with the connection; `None` while it is open.
    trouble: Option<ClientError>,
    /// The connection ends because the server has named the leader.
    is_redirected: bool,
    /// The leader that a server has named last.
    redirect: Option<Redirect>,
    /// The requests in flight have been given up. A later attempt may succeed.
    has_given_up: bool,
    /// How long connecting may take, and then being greeted.
    patience: Duration,
    greeted_by: Duration,
    buffer: ReceiveBuffer,
    out: Vec<u8>,
    out_sent: usize,
    events: VecDeque<Event<T>>,
}

impl<T> Link<T> {
    /// Without a connection.
    pub fn new(shared: Arc<Shared>, partition: PartitionId, lane: Lane) -> Self {
        let session = Session::new(SessionConfig {
            partition,
            client_name: shared.config.client_name.clone(),
            acts_for: shared.config.acts_for.clone(),
            inflight_max: shared.config.inflight_max,
            policy: RetryPolicy::default(),
            seed: shared.seed(partition, lane),
        });
        Self {
            shared,
            lane,
            session,
            address: String::new(),
            trouble: None,
            is_redirected: false,
            redirect: None,
            has_given_up: false,
            patience: CONNECT_TIMEOUT,
            greeted_by: Duration::ZERO,
            buffer: ReceiveBuffer::default(),
            out: Vec::new(),
            out_sent: 0,
            events: VecDeque::new(),
        }
    }

    /// Its partition.
    pub fn partition(&self) -> PartitionId {
        self.session.partition()
    }

    /// Address of the connection, or of the last one.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Why it is not open.
    pub fn trouble(&self) -> Option<&ClientError> {
        self.trouble.as_ref()
    }

    /// Whether the requests in flight have been given up, because another attempt would end the
    /// same way or all addresses have been tried.
    pub fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    /// The error of a connection that was taken and then not greeted.
    pub fn not_greeted(&self) -> ClientError {
        let reason = "it took the connection, but did not greet".to_owned();
        ClientError::Unreachable { address: self.address.clone(), reason }
    }

    /// Whether the node has greeted.
    pub fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Whether no further request is taken.
    pub fn is_full(&self) -> bool {
        self.session.is_full()
    }

    /// Number of requests without an answer.
    pub fn inflight(&self) -> usize {
        self.session.inflight()
    }

    /// The owner's context of a request in flight.
    pub fn context(&self, request: RequestId) -> Option<&T> {
        self.session.context(request).map(|waiting| &waiting.context)
    }

    /// When to connect; `None` while there is a connection.
    pub fn connect_at(&self) -> Option<Duration> {
        self.session.connect_at()
    }

    /// Where to connect now, and how long that may take. Then call [`Link::connected`] or
    /// [`Link::broken`]. `None`: nowhere now, call [`Link::lost`].
    pub fn attempt(&mut self, now: Duration) -> Option<(String, Duration)> {
        let (partition, lane) = (self.partition(), self.lane);
        self.has_given_up = false;
        let mut directory = self.shared.directory();
        let is_alone = directory.is_alone(now);
        let picked = directory.pick(partition, lane, now);
        drop(directory);
        self.session.set_elsewhere(!is_alone);
        let Some(address) = picked else {
            // Another link of the partition is connecting there, or no address is known.
            if self.shared.config.addresses.is_empty() {
                let reason = "no address was given".to_owned();
                self.trouble = Some(ClientError::Unreachable { address: "?".to_owned(), reason });
            }
            return None;
        };
        self.address.clone_from(&address);
        // The system accepts connections for a process that is stopped.
        self.patience = if is_alone { CONNECT_TIMEOUT } else { CONNECT_TIMEOUT_ELSEWHERE };
        Some((address, self.patience))
    }

    /// There is a connection.
    pub fn connected(&mut self, now: Duration) {
        self.greeted_by = now + self.patience;
        self.session.connected(now, self.greeted_by);
    }

    /// Connecting failed, or the connection broke. Call [`Link::lost`] next.
    pub fn broken(&mut self, now: Duration, error: &io::Error) -> Hangup {
        self.fail(now, ClientError::unreachable(&self.address, error))
    }

    fn fail(&mut self, now: Duration, trouble: ClientError) -> Hangup {
        if let Some(redirect) = &mut self.redirect {
            redirect.failed(&self.address, &trouble);
        }
        self.in_trouble(trouble);
        self.shared.directory().failed(&self.address, now);
        Hangup
    }

    fn in_trouble(&mut self, trouble: ClientError) {
        self.shared.set_trouble(self.partition(), self.lane, Some(trouble.clone()));
        self.trouble = Some(trouble);
    }

    /// There is no connection any more. Unanswered requests go to the next one. If there never was
    /// one, they fail once all addresses have been tried.
    pub fn lost(&mut self, now: Duration) {
        self.buffer.clear();
        self.out.clear();
        self.out_sent = 0;
        let is_redirected = std::mem::take(&mut self.is_redirected);
        let streams = if is_redirected {
            self.session.redirected(now)
        } else {
            self.session.disconnected(now)
        };
        for lost in streams {
            self.events.push_back(Event::StreamLost { context: lost.context.context });
        }
        let partition = self.partition();
        let mut directory = self.shared.directory();
        directory.ended(partition, self.lane);
        let is_hopeless = self.shared.info.get().is_none() && directory.is_hopeless();
        drop(directory);
        if is_hopeless {
            self.give_up(now);
        }
    }

    /// Takes a request with a deadline.
    pub fn take(
        &mut self,
        now: Duration,
        kind: Kind,
        frame: Vec<u8>,
        deadline: Duration,
        context: T,
    ) -> Option<RequestId> {
        let waiting = Waiting { context, since: now };
        match self.session.request_frame(kind, deadline, frame, waiting) {
            Ok(request) => Some(request),
            Err((error, Waiting { context, .. })) => {
                let error = match error {
                    NotTaken::Encode(error) => error.into(),
                    NotTaken::Full => {
                        let reason = error.to_string();
                        ClientError::Deadline { waited: Duration::ZERO, reason }
                    }
                };
                self.events.push_back(Event::End { context, result: Err(error) });
                None
            }
        }
    }

    /// Gives a subscription more credit.
    pub fn credit(&mut self, request: RequestId, bytes: u64) {
        self.session.credit(request, bytes);
    }

    /// Nobody waits for this request any more.
    pub fn forget(&mut self, request: RequestId) {
        self.session.forget(request);
    }

    /// Bytes to send. Report progress with [`Link::sent`].
    pub fn outgoing(&mut self, now: Duration) -> &[u8] {
        if self.out_sent == self.out.len() {
            self.out.clear();
            self.out_sent = 0;
            self.session.fill(now, &mut self.out, OUT_BYTES_WANTED);
        }
        &self.out[self.out_sent..]
    }

    /// Whether some of [`Link::outgoing`] waits for the socket.
    pub fn has_outgoing(&self) -> bool {
        self.out_sent < self.out.len()
    }

    /// Whether [`Link::outgoing`] has something new to say, and the socket takes it.
    pub fn has_queued(&self) -> bool {
        !self.has_outgoing() && self.session.has_outgoing()
    }

    /// `bytes` of [`Link::outgoing`] have been sent.
    pub fn sent(&mut self, bytes: usize) {
        self.out_sent += bytes;
        assert!(self.out_sent <= self.out.len(), "more was sent than there was");
    }

    /// Room for received bytes. Report their number with [`Link::received`].
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.room()
    }

    /// To be called at [`Link::wake_at`]. Ends requests past their deadline, and checks whether the
    /// connection is still of use.
    pub fn check(&mut self, now: Duration) -> Result<(), Hangup> {
        while let Some(lost) = self.session.expire(now) {
            self.explain_to(lost, now);
        }
        if self.session.connect_at().is_some() {
            return Ok(());
        }
        if !self.session.is_ready() {
            if now < self.greeted_by {
                return Ok(());
            }
            return Err(self.fail(now, self.not_greeted()));
        }
        if self.session.has_stalled(now) {
            let reason = "it does not answer".to_owned();
            let address = self.address.clone();
            return Err(self.fail(now, ClientError::Unreachable { address, reason }));
        }
        if self.session.probe_at().is_some_and(|probe_at| probe_at <= now) {
            self.session.ask_cluster(now);
        }
        Ok(())
    }

    /// To be called before a request is taken. Asks about the cluster if the last answer is old,
    /// and leaves a node that is no longer the best if no request is in flight.
    pub fn refresh(&mut self, now: Duration) -> Result<(), Hangup> {
        if !self.session.is_ready() {
            return Ok(());
        }
        let mut directory = self.shared.directory();
        if directory.claim_refresh(now) {
            self.session.ask_cluster(now);
        }
        let is_idle = self.session.inflight() == 0 && self.lane.may_move();
        if is_idle && directory.is_misplaced(self.session.partition(), self.lane, now) {
            self.is_redirected = true;
            return Err(Hangup);
        }
        Ok(())
    }

    /// When [`Link::check`] has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        let mut wake_at = self.session.wake_at();
        let mut also = |time: Option<Duration>| {
            wake_at = wake_at.into_iter().chain(time).min();
        };
        if self.session.connect_at().is_none() && !self.session.is_ready() {
            also(Some(self.greeted_by));
        }
        also(self.session.stalled_at().map(grained));
        also(self.session.probe_at().map(grained));
        wake_at
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Ends all requests in flight: another attempt would end the same way.
    fn give_up(&mut self, now: Duration) {
        self.has_given_up = true;
        while let Some(lost) = self.session.give_up() {
            self.explain_to(lost, now);
        }
    }

    fn explain_to(&mut self, lost: Lost<Waiting<T>>, now: Duration) {
        let waited = now.saturating_sub(lost.context.since);
        let error = explain(lost.kind, lost.was_sent, lost.refusal, waited, self.trouble.as_ref());
        let error = match &self.redirect {
            Some(redirect) => redirect.explain(self.partition(), waited, error),
            None => error,
        };
        self.events.push_back(Event::End { context: lost.context.context, result: Err(error) });
    }
}

/// The next time at which silence is checked.
fn grained(time: Duration) -> Duration {
    let grain = SILENCE_GRAIN.as_nanos() as u64;
    Duration::from_nanos((time.as_nanos() as u64).div_ceil(grain) * grain)
}
