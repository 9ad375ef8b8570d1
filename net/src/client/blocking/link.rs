//! One partition's connection. Moves bytes between the socket and the session while its owner
//! waits for something.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::client::buffer::ReceiveBuffer;
use crate::client::error::explain;
use crate::client::operation::Answer;
use crate::client::session::{
    LinkError, Lost, NotTaken, Received, RetryPolicy, Session, SessionConfig,
};
use crate::client::{CONNECT_TIMEOUT, ClientError, ClusterInfo, OUT_BYTES_WANTED, jitter_seed};
use crate::frame::{Kind, RequestId};
use crate::model::PartitionId;

use super::Common;

/// Longest wait in the system before deadlines are looked at again.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Shortest wait that the system knows.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// How long a write may wait while the server may be waiting for us to read.
const WRITE_WAIT: Duration = Duration::from_millis(10);

/// A call's number on its link, and since when it waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    since: Duration,
}

pub(super) struct Link {
    common: Arc<Common>,
    session: Session<Waiting>,
    stream: Option<TcpStream>,
    address: String,
    /// Of the cluster; `None` until the first greeting.
    info: Option<ClusterInfo>,
    greeted_by: Duration,
    trouble: Option<ClientError>,
    next_number: u64,
    done: HashMap<u64, Result<Answer, ClientError>>,
    /// Bounded by the subscription's credit.
    pages: VecDeque<Vec<u8>>,
    feed: Option<RequestId>,
    buffer: ReceiveBuffer,
    out: Vec<u8>,
    out_sent: usize,
    read_wait: Duration,
}

impl Link {
    pub(super) fn new(
        common: Arc<Common>,
        partition: PartitionId,
        info: Option<ClusterInfo>,
    ) -> Self {
        let session = Session::new(SessionConfig {
            partition,
            client_name: common.config.client_name.clone(),
            inflight_max: common.config.inflight_max,
            policy: RetryPolicy::default(),
            seed: jitter_seed() ^ u64::from(partition.0),
        });
        let address = common.config.address.clone();
        Self {
            common,
            session,
            stream: None,
            address,
            info,
            greeted_by: Duration::ZERO,
            trouble: None,
            next_number: 0,
            done: HashMap::new(),
            pages: VecDeque::new(),
            feed: None,
            buffer: ReceiveBuffer::default(),
            out: Vec::new(),
            out_sent: 0,
            read_wait: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.common.now()
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.session.partition()
    }

    /// Makes the first connection; any trouble ends the attempt.
    pub(super) fn greet(&mut self) -> Result<ClusterInfo, ClientError> {
        let by = self.now() + self.common.config.deadline.min(CONNECT_TIMEOUT);
        loop {
            self.pump(by);
            if let Some(info) = self.info.clone() {
                return Ok(info);
            }
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            if self.now() >= by {
                let reason = "it took the connection, but did not greet".to_owned();
                return Err(ClientError::Unreachable { address: self.address.clone(), reason });
            }
        }
    }

    /// Takes a request; waits for room if too many are in flight.
    pub(super) fn start(
        &mut self,
        kind: Kind,
        frame: Vec<u8>,
        deadline: Duration,
    ) -> Result<u64, ClientError> {
        while self.session.is_full() {
            self.pump(deadline);
        }
        let number = self.next_number;
        self.next_number += 1;
        let waiting = Waiting { number, since: self.now() };
        match self.session.request_frame(kind, deadline, frame, waiting) {
            Ok(_) => Ok(number),
            Err((NotTaken::Encode(error), _)) => Err(error.into()),
            Err((error @ NotTaken::Full, _)) => {
                Err(ClientError::Deadline { waited: Duration::ZERO, reason: error.to_string() })
            }
        }
    }

    /// Waits for the end of a call; the session's deadlines bound it.
    pub(super) fn wait(&mut self, number: u64) -> Result<Answer, ClientError> {
        loop {
            if let Some(result) = self.done.remove(&number) {
                return result;
            }
            self.pump(Duration::MAX);
        }
    }

    /// Sends what can be sent without waiting for anything else.
    pub(super) fn nudge(&mut self) {
        if self.session.is_ready() {
            let _ = self.send();
        }
    }

    pub(super) fn subscribe(&mut self, frame: Vec<u8>) -> Result<RequestId, ClientError> {
        while self.session.is_full() {
            self.pump(Duration::MAX);
        }
        let waiting = Waiting { number: self.next_number, since: self.now() };
        self.next_number += 1;
        self.pages.clear();
        let taken = self.session.request_frame(Kind::Subscribe, Duration::MAX, frame, waiting);
        let request = taken.map_err(|(error, _)| ClientError::Answer(error.to_string()))?;
        self.feed = Some(request);
        Ok(request)
    }

    pub(super) fn credit(&mut self, request: RequestId, bytes: u64) {
        self.session.credit(request, bytes);
    }

    pub(super) fn has(&self, request: RequestId) -> bool {
        self.session.context(request).is_some()
    }

    pub(super) fn unsubscribe(&mut self, request: RequestId) {
        self.session.forget(request);
        self.feed = None;
        self.pages.clear();
        let _ = self.send();
    }

    /// The next page of a subscription; `None` when it is `by`, or the subscription has ended.
    pub(super) fn next_page(
        &mut self,
        request: RequestId,
        by: Duration,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(page) = self.pages.pop_front() {
                return Ok(Some(page));
            }
            let Some(waiting) = self.session.context(request).copied() else {
                return Ok(None);
            };
            if self.now() >= by {
                return Ok(None);
            }
            self.pump(by);
            if let Some(Err(error)) = self.done.remove(&waiting.number) {
                return Err(error);
            }
        }
    }

    /// Moves things on, once: waits for the socket, a deadline or `by`, and no longer.
    fn pump(&mut self, by: Duration) {
        self.expire();
        let now = self.now();
        let wake_at = self.session.wake_at().unwrap_or(Duration::MAX).min(by);
        let wait = wake_at.saturating_sub(now).clamp(WAIT_MIN, WAIT_MAX);
        if let Some(connect_at) = self.session.connect_at() {
            if connect_at > now {
                std::thread::sleep(connect_at.saturating_sub(now).min(wait));
            } else {
                self.connect(by);
            }
            return;
        }
        let sent = self.send().and_then(|all_sent| {
            // The server may wait for us to read before it reads on.
            self.read(if all_sent { wait } else { WAIT_MIN })
        });
        if !self.session.is_ready() && self.now() >= self.greeted_by && sent.is_ok() {
            let reason = "it took the connection, but did not greet".to_owned();
            self.lost(ClientError::Unreachable { address: self.address.clone(), reason });
        } else if let Err(trouble) = sent {
            self.lost(trouble);
        }
    }

    fn connect(&mut self, by: Duration) {
        let timeout = by.saturating_sub(self.now()).clamp(WAIT_MIN, CONNECT_TIMEOUT);
        match connect(&self.address, timeout) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.read_wait = Duration::ZERO;
                self.greeted_by = self.now() + CONNECT_TIMEOUT;
                self.session.connected(self.now(), self.greeted_by);
            }
            Err(error) => self.lost(ClientError::unreachable(&self.address, &error)),
        }
    }

    /// Sends what the socket takes; whether that was all.
    fn send(&mut self) -> Result<bool, ClientError> {
        let Some(stream) = &mut self.stream else { return Ok(true) };
        loop {
            if self.out_sent == self.out.len() {
                self.out.clear();
                self.out_sent = 0;
                self.session.fill(self.common.now(), &mut self.out, OUT_BYTES_WANTED);
                if self.out.is_empty() {
                    return Ok(true);
                }
            }
            match stream.write(&self.out[self.out_sent..]) {
                Ok(bytes) => self.out_sent += bytes,
                Err(error) if is_wait(error.kind()) => return Ok(false),
                Err(error) => return Err(ClientError::unreachable(&self.address, &error)),
            }
        }
    }

    fn read(&mut self, wait: Duration) -> Result<(), ClientError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let unreachable = |error: &std::io::Error| ClientError::unreachable(&self.address, error);
        if wait != self.read_wait {
            stream.set_read_timeout(Some(wait)).map_err(|error| unreachable(&error))?;
            self.read_wait = wait;
        }
        match stream.read(self.buffer.room()) {
            Ok(0) => Err(unreachable(&ErrorKind::ConnectionAborted.into())),
            Ok(bytes) => {
                self.buffer.filled(bytes);
                self.dispatch().map_err(|error| {
                    let trouble = ClientError::of_link(&self.address, &error);
                    if error.is_final() {
                        self.give_up(&trouble);
                    }
                    trouble
                })
            }
            Err(error) if is_wait(error.kind()) => Ok(()),
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn dispatch(&mut self) -> Result<(), LinkError> {
        let now = self.now();
        loop {
            let data = self.buffer.data();
            let Some((bytes, received)) = self.session.receive(now, data)? else {
                return Ok(());
            };
            match received {
                Received::Ready(hello) => {
                    let info = ClusterInfo::from(hello);
                    Self::compare(&info, self.info.as_ref())?;
                    self.info = Some(info);
                    self.trouble = None;
                }
                Received::Reply { context, frame } => {
                    self.done.insert(context.number, Ok(frame.body.to_vec()));
                }
                Received::Failed { context, error } => {
                    self.done.insert(context.number, Err(ClientError::refused(error)));
                }
                Received::Feed { request, frame } => {
                    if self.feed == Some(request) {
                        self.pages.push_back(frame.body.to_vec());
                    }
                }
                Received::Nothing => {}
            }
            self.buffer.consume(bytes);
        }
    }

    fn compare(info: &ClusterInfo, known: Option<&ClusterInfo>) -> Result<(), LinkError> {
        match known {
            Some(known) if (known.cluster, known.partitions) != (info.cluster, info.partitions) => {
                let message = format!(
                    "this is cluster {:032x} with {} partitions, not {:032x} with {}: connect anew",
                    info.cluster.0, info.partitions, known.cluster.0, known.partitions
                );
                Err(LinkError::Refused { code: None, message })
            }
            _ => Ok(()),
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        while let Some(lost) = self.session.expire(now) {
            self.explain_to(&lost, now);
        }
    }

    fn explain_to(&mut self, lost: &Lost<Waiting>, now: Duration) {
        let waited = now.saturating_sub(lost.context.since);
        let error = explain(lost, waited, self.trouble.as_ref());
        self.done.insert(lost.context.number, Err(error));
    }

    fn give_up(&mut self, trouble: &ClientError) {
        self.trouble = Some(trouble.clone());
        let now = self.now();
        while let Some(lost) = self.session.give_up() {
            self.explain_to(&lost, now);
        }
    }

    /// The connection is gone. A subscription's owner sees that it has ended, and starts anew.
    fn lost(&mut self, trouble: ClientError) {
        self.trouble = Some(trouble);
        self.stream = None;
        self.buffer.clear();
        self.out.clear();
        self.out_sent = 0;
        drop(self.session.disconnected(self.now()));
        match self.session.take_leader() {
            Some(leader) => self.address = leader,
            None => self.address.clone_from(&self.common.config.address),
        }
    }
}

fn is_wait(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn connect(address: &str, timeout: Duration) -> std::io::Result<TcpStream> {
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for address in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, timeout);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_WAIT))?;
    Ok(stream)
}
