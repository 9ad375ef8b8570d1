//! One connection. Moves bytes between the socket and the [`Link`] while its owner waits for
//! something.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::client::directory::Lane;
use crate::client::link::{Event, Hangup, Link};
use crate::client::operation::Answer;
use crate::client::{CONNECT_TIMEOUT, ClientError, ClusterInfo};
use crate::frame::{Kind, RequestId};
use crate::model::PartitionId;

use super::Common;

/// Longest wait in the system before deadlines are looked at again.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Shortest wait that the system knows.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// How long a write may wait while the server may be waiting for us to read.
const WRITE_WAIT: Duration = Duration::from_millis(10);

pub(super) struct BlockingLink {
    common: Arc<Common>,
    /// Requests are known by their number on this link.
    link: Link<u64>,
    stream: Option<TcpStream>,
    next_number: u64,
    done: HashMap<u64, Result<Answer, ClientError>>,
    /// Bounded by the subscription's credit.
    pages: VecDeque<Vec<u8>>,
    feed: Option<RequestId>,
    read_wait: Duration,
}

impl BlockingLink {
    pub(super) fn new(common: Arc<Common>, partition: PartitionId, lane: Lane) -> Self {
        let link = Link::new(common.shared.clone(), partition, lane);
        Self {
            common,
            link,
            stream: None,
            next_number: 0,
            done: HashMap::new(),
            pages: VecDeque::new(),
            feed: None,
            read_wait: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.common.now()
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.link.partition()
    }

    /// Makes the first connection; fails once all addresses have been tried in vain.
    pub(super) fn greet(&mut self) -> Result<ClusterInfo, ClientError> {
        let by = self.now() + self.common.shared.config.deadline.min(CONNECT_TIMEOUT);
        loop {
            self.pump(by);
            if let Some(info) = self.common.shared.info.get() {
                return Ok(info.clone());
            }
            let is_late = self.now() >= by;
            match self.link.trouble() {
                Some(trouble) if is_late || self.link.has_given_up() => return Err(trouble.clone()),
                None if is_late => {
                    let reason = "it took the connection, but did not greet".to_owned();
                    let address = self.link.address().to_owned();
                    return Err(ClientError::Unreachable { address, reason });
                }
                _ => {}
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
        let (number, _) = self.take(kind, frame, deadline)?;
        Ok(number)
    }

    fn take(
        &mut self,
        kind: Kind,
        frame: Vec<u8>,
        deadline: Duration,
    ) -> Result<(u64, RequestId), ClientError> {
        while self.link.is_full() {
            self.pump(deadline);
        }
        if let Err(hangup) = self.link.refresh(self.now()) {
            self.lost(hangup);
        }
        let number = self.next_number;
        self.next_number += 1;
        let taken = self.link.take(self.now(), kind, frame, deadline, number);
        self.settle();
        match (taken, self.done.remove(&number)) {
            (_, Some(Err(error))) => Err(error),
            (Some(request), _) => Ok((number, request)),
            (None, _) => Err(ClientError::Closed),
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
        if self.link.is_ready() {
            // What is wrong shows when somebody waits.
            let _ = self.send();
        }
    }

    pub(super) fn subscribe(&mut self, frame: Vec<u8>) -> Result<RequestId, ClientError> {
        self.pages.clear();
        let (_, request) = self.take(Kind::Subscribe, frame, Duration::MAX)?;
        self.feed = Some(request);
        Ok(request)
    }

    pub(super) fn credit(&mut self, request: RequestId, bytes: u64) {
        self.link.credit(request, bytes);
    }

    pub(super) fn has(&self, request: RequestId) -> bool {
        self.link.context(request).is_some()
    }

    pub(super) fn unsubscribe(&mut self, request: RequestId) {
        self.link.forget(request);
        self.feed = None;
        self.pages.clear();
        self.nudge();
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
            let Some(number) = self.link.context(request).copied() else {
                return Ok(None);
            };
            if self.now() >= by {
                return Ok(None);
            }
            self.pump(by);
            if let Some(Err(error)) = self.done.remove(&number) {
                return Err(error);
            }
        }
    }

    /// Moves things on, once: waits for the socket, a deadline or `by`, and no longer.
    fn pump(&mut self, by: Duration) {
        let now = self.now();
        let wake_at = self.link.wake_at().unwrap_or(Duration::MAX).min(by);
        let wait = wake_at.saturating_sub(now).clamp(WAIT_MIN, WAIT_MAX);
        let moved = match self.link.connect_at() {
            Some(connect_at) if connect_at > now => {
                std::thread::sleep(connect_at.saturating_sub(now).min(wait));
                Ok(())
            }
            Some(_) => self.connect(by),
            None => self.send().and_then(|all_sent| {
                // The server may wait for us to read before it reads on.
                self.read(if all_sent { wait } else { WAIT_MIN })
            }),
        };
        // Only now: what has come in while nobody called is no silence.
        match moved.and_then(|()| self.link.check(self.now())) {
            Ok(()) => self.settle(),
            Err(hangup) => self.lost(hangup),
        }
    }

    fn connect(&mut self, by: Duration) -> Result<(), Hangup> {
        let (address, wait) = self.link.attempt(self.now()).ok_or(Hangup)?;
        let wait = by.saturating_sub(self.now()).clamp(WAIT_MIN, wait);
        match connect(&address, wait) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.read_wait = Duration::ZERO;
                self.link.connected(self.now());
                Ok(())
            }
            Err(error) => Err(self.link.broken(self.now(), &error)),
        }
    }

    /// Sends what the socket takes; whether that was all.
    fn send(&mut self) -> Result<bool, Hangup> {
        let Some(stream) = &mut self.stream else { return Ok(true) };
        loop {
            let now = self.common.now();
            let bytes = self.link.outgoing(now);
            if bytes.is_empty() {
                return Ok(true);
            }
            match stream.write(bytes) {
                Ok(bytes) => self.link.sent(bytes),
                Err(error) if is_wait(error.kind()) => return Ok(false),
                Err(error) => return Err(self.link.broken(now, &error)),
            }
        }
    }

    fn read(&mut self, wait: Duration) -> Result<(), Hangup> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if wait != self.read_wait {
            if let Err(error) = stream.set_read_timeout(Some(wait)) {
                return Err(self.link.broken(self.common.now(), &error));
            }
            self.read_wait = wait;
        }
        match stream.read(self.link.room()) {
            Ok(bytes) => self.link.received(self.common.now(), bytes),
            Err(error) if is_wait(error.kind()) => Ok(()),
            Err(error) => Err(self.link.broken(self.common.now(), &error)),
        }
    }

    /// Keeps what has ended for those who will ask.
    fn settle(&mut self) {
        while let Some(event) = self.link.next_event() {
            match event {
                Event::End { context, result } => drop(self.done.insert(context, result)),
                Event::Page { request, body } if self.feed == Some(request) => {
                    self.pages.push_back(body);
                }
                // A subscription's owner sees that it has ended, and starts anew.
                Event::Page { .. } | Event::StreamLost { .. } => {}
            }
        }
    }

    fn lost(&mut self, _: Hangup) {
        self.stream = None;
        self.link.lost(self.now());
        self.settle();
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
