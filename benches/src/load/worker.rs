//! A thread of the load generator: some connections, one loop.
//!
//! With a single connection and no fixed rate the socket is read and written without epoll, so that
//! no call stands between an answer and the next request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::connection::{Connection, PutOff};
use super::payload::{Random, Template};
use super::poll::{self, Poll};
use crate::error::{During, Result, failed};
use crate::stats::Latencies;

/// A server that has not answered for this long counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// When a worker sends.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as a slot is free.
    Closed,
    /// One request each interval, whether or not earlier ones were answered.
    Open(Duration),
}

/// When a worker sends, and how much.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// When to begin.
    pub start: Instant,
    /// Answers before this do not count.
    pub measure_from: Instant,
    /// Answers after this do not count, and nothing is sent any more.
    pub until: Option<Instant>,
    /// Most requests.
    pub requests_max: u64,
    /// When to send.
    pub pace: Pace,
}

/// Counts of a worker over the measured time.
#[derive(Clone, Debug)]
pub struct WorkerCounts {
    /// Requests answered.
    pub requests: u64,
    /// Times from intended send to answer.
    pub latencies: Latencies,
    /// Length of the last answer in bytes.
    pub reply_bytes: usize,
    /// Requests that the server refused as busy.
    pub busy: u64,
}

impl WorkerCounts {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { requests: 0, latencies: Latencies::new(), reply_bytes: 0, busy: 0 }
    }
}

/// A worker's connections, each with the template of its partition.
pub struct Worker {
    /// The connections, after the greeting.
    pub connections: Vec<Connection>,
    /// Each connection's template, by place.
    pub template_of: Vec<usize>,
    /// A template for each partition.
    pub templates: Vec<Template>,
    /// Source of random ids.
    pub rng: Random,
}

struct Run {
    worker: Worker,
    plan: LoadPlan,
    sent: u64,
    seen: WorkerCounts,
    /// Connection at which the search for room begins, so that they take turns.
    turn: usize,
    /// Requests that the server refused as busy. Each keeps its slot, so that no other request
    /// takes its turn.
    put_off: VecDeque<PutOffRequest>,
}

/// A request that will be sent again.
struct PutOffRequest {
    when: Instant,
    connection: usize,
    slot: u16,
    /// When it should have been sent the first time.
    intended: Instant,
}

impl Worker {
    /// Sends and receives until the plan is done and everything is answered.
    pub fn run(self, plan: LoadPlan) -> Result<WorkerCounts> {
        let mut run = Run {
            worker: self,
            plan,
            sent: 0,
            seen: WorkerCounts::new(),
            turn: 0,
            put_off: VecDeque::new(),
        };
        if run.worker.connections.len() == 1 && matches!(plan.pace, Pace::Closed) {
            run.single()?;
        } else {
            run.many()?;
        }
        Ok(run.seen)
    }
}

impl Run {
    fn single(&mut self) -> Result<()> {
        self.worker.connections[0].stream.socket().set_nonblocking(false).during("preparing")?;
        let timeout = Some(STUCK_AFTER);
        self.worker.connections[0].stream.socket().set_read_timeout(timeout).during("preparing")?;
        loop {
            let now = Instant::now();
            if self.may_send(now) {
                self.fill(0, now)?;
            } else if self.is_idle() {
                return Ok(());
            }
            if let Some(waiting) = self.put_off.front() {
                std::thread::sleep(waiting.when.saturating_duration_since(now));
                self.send_put_off(Instant::now())?;
            }
            self.receive(0)?;
            if now.elapsed() >= STUCK_AFTER {
                return failed("the server has not answered for 30 s");
            }
        }
    }

    fn many(&mut self) -> Result<()> {
        let mut poll = Poll::new().during("preparing")?;
        poll::sharpen_timers();
        for (number, connection) in self.worker.connections.iter().enumerate() {
            connection.stream.socket().set_nonblocking(true).during("preparing")?;
            poll.add(connection.stream.socket(), number).during("preparing")?;
        }
        if matches!(self.plan.pace, Pace::Closed) {
            for number in 0..self.worker.connections.len() {
                self.go_on(&poll, number, Instant::now())?;
            }
        }
        loop {
            let now = Instant::now();
            if !self.may_send(now) && self.is_idle() {
                return Ok(());
            }
            for number in self.send_put_off(now)? {
                self.note_room(&poll, number, false)?;
            }
            let mut timeout = self.send_due(&poll, now)?;
            // A request that is due waits for room on its connection, which epoll reports.
            if let Some(waiting) = self.put_off.front().filter(|waiting| waiting.when > now) {
                timeout = timeout.min(waiting.when - now);
            }
            let ready = poll.wait(timeout).during("waiting")?;
            if ready == 0 && timeout >= STUCK_AFTER {
                return failed("the server has not answered for 30 s");
            }
            for place in 0..ready {
                let (number, has_room) = poll.ready(place);
                self.receive(number)?;
                if has_room {
                    self.worker.connections[number].send()?;
                    self.note_room(&poll, number, true)?;
                }
                if matches!(self.plan.pace, Pace::Closed) {
                    self.go_on(&poll, number, Instant::now())?;
                }
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.put_off.is_empty() && self.worker.connections.iter().all(Connection::is_idle)
    }

    /// Sends refused requests again, with fresh ids. Returns the connections that they went to.
    fn send_put_off(&mut self, now: Instant) -> Result<Vec<usize>> {
        let mut to = Vec::new();
        while let Some(&PutOffRequest { when, connection, slot, intended }) = self.put_off.front()
            && when <= now
            && self.worker.connections[connection].has_space()
        {
            self.put_off.pop_front();
            self.worker.connections[connection].release(slot);
            self.push(connection, intended);
            self.sent -= 1; // it was counted before
            self.worker.connections[connection].send()?;
            to.push(connection);
        }
        Ok(to)
    }

    fn may_send(&self, now: Instant) -> bool {
        self.sent < self.plan.requests_max && self.plan.until.is_none_or(|until| now < until)
    }

    /// Sends the requests that a fixed rate has made due. Returns the time until the next one is.
    fn send_due(&mut self, poll: &Poll, now: Instant) -> Result<Duration> {
        let Pace::Open(interval) = self.plan.pace else {
            return Ok(STUCK_AFTER);
        };
        while self.may_send(now) {
            let intended = self.plan.start + mul(interval, self.sent);
            if intended > now {
                return Ok(intended - now);
            }
            let Some(number) = self.next_with_room() else {
                break; // the request waits, and its latency grows
            };
            self.push(number, intended);
            self.send(poll, number)?;
        }
        Ok(STUCK_AFTER)
    }

    fn next_with_room(&mut self) -> Option<usize> {
        let connections = &self.worker.connections;
        let places = (self.turn..connections.len()).chain(0..self.turn);
        let number = places.into_iter().find(|&number| connections[number].has_room())?;
        self.turn = (number + 1) % connections.len();
        Some(number)
    }

    /// Fills the free slots of a connection.
    fn go_on(&mut self, poll: &Poll, number: usize, now: Instant) -> Result<()> {
        let was_blocked = self.worker.connections[number].blocked;
        if !was_blocked && self.may_send(now) {
            self.fill(number, now)?;
            self.note_room(poll, number, was_blocked)?;
        }
        Ok(())
    }

    fn fill(&mut self, number: usize, now: Instant) -> Result<()> {
        while self.worker.connections[number].has_room() && self.sent < self.plan.requests_max {
            self.push(number, now);
            if !self.worker.connections[number].has_room() {
                self.worker.connections[number].send()?;
            }
        }
        self.worker.connections[number].send()
    }

    fn push(&mut self, number: usize, intended: Instant) {
        let template = &self.worker.templates[self.worker.template_of[number]];
        self.worker.connections[number].push(template, intended, &mut self.worker.rng);
        self.sent += 1;
    }

    fn send(&mut self, poll: &Poll, number: usize) -> Result<()> {
        let was_blocked = self.worker.connections[number].blocked;
        self.worker.connections[number].send()?;
        self.note_room(poll, number, was_blocked)
    }

    /// Has epoll report room only while something waits for it.
    fn note_room(&self, poll: &Poll, number: usize, was_blocked: bool) -> Result<()> {
        let connection = &self.worker.connections[number];
        if connection.blocked != was_blocked {
            poll.change(connection.stream.socket(), number, connection.blocked)
                .during("waiting")?;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        let (plan, seen) = (&self.plan, &mut self.seen);
        let mut now = None;
        let put_off = &mut self.put_off;
        self.worker.connections[number].receive(|answered| {
            if let Some(PutOff { after, slot }) = answered.busy {
                seen.busy += 1;
                let (when, intended) = (Instant::now() + after, answered.intended);
                put_off.push_back(PutOffRequest { when, connection: number, slot, intended });
                return;
            }
            let now = *now.get_or_insert_with(Instant::now);
            let counts = now >= plan.measure_from && plan.until.is_none_or(|until| now < until);
            if counts {
                let nanos = now.saturating_duration_since(answered.intended).as_nanos();
                seen.latencies.record(u64::try_from(nanos).unwrap_or(u64::MAX));
                seen.requests += 1;
                seen.reply_bytes = answered.reply_bytes;
            }
        })
    }
}

fn mul(interval: Duration, times: u64) -> Duration {
    Duration::from_nanos((interval.as_nanos() as u64).saturating_mul(times))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use walengine_net::frame::{self, FrameHead};
    use walengine_net::message::{ErrorCode, ErrorReply, OutcomeRun, SubmitReply};
    use walengine_net::model::PartitionId;

    use super::super::connection::Wire;
    use super::super::payload::{Accounts, RequestKind};
    use super::*;

    const PARTITION: PartitionId = PartitionId(0);
    const RETRY: Duration = Duration::from_millis(40);

    /// Refuses the first request as busy, and takes all others. Returns how long after the refusal
    /// the next request came, and how many it took.
    fn serve(mut stream: TcpStream) -> (Duration, u32) {
        let (mut received, mut piece) = (Vec::new(), [0; 4096]);
        let (mut refused, mut waited, mut taken) = (None::<Instant>, Duration::ZERO, 0);
        loop {
            let Some(frame) = frame::peek(&received).unwrap() else {
                match stream.read(&mut piece).unwrap() {
                    0 => return (waited, taken),
                    read => received.extend_from_slice(&piece[..read]),
                }
                continue;
            };
            let head = FrameHead::reply(PARTITION, frame.head.request);
            let consumed = frame.frame_bytes();
            received.drain(..consumed);
            let mut answer = Vec::new();
            if let Some(refused) = refused {
                waited = if taken == 0 { refused.elapsed() } else { waited };
                taken += 1;
                let marks = OutcomeRun::HAS_OFFSET;
                let run = OutcomeRun {
                    count: 1,
                    verdict: 0,
                    marks,
                    first_offset: u64::from(taken),
                    first_timestamp: 1,
                };
                let reply = SubmitReply { token_offset: 1, runs: &[run] };
                frame::encode(&mut answer, head, &reply).unwrap();
            } else {
                let reply = ErrorReply::new(ErrorCode::Busy, "")
                    .retry_after_millis(RETRY.as_millis() as u32);
                frame::encode(&mut answer, head, &reply).unwrap();
                refused = Some(Instant::now());
            }
            stream.write_all(&answer).unwrap();
        }
    }

    #[test]
    fn a_request_that_is_put_off_keeps_its_turn() {
        let accounts = Accounts::of(PARTITION, 1, 2);
        let template = Template::new(RequestKind::Transfers(1), PARTITION, accounts).unwrap();
        for count in [1, 2] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let connect = |_| {
                let stream = TcpStream::connect(address).unwrap();
                let server = listener.accept().unwrap().0;
                let kind = RequestKind::Transfers(1);
                let connection = Connection::new(Wire::plain(stream), &template, kind, accounts, 1);
                (connection, thread::spawn(move || serve(server)))
            };
            let (connections, servers): (Vec<_>, Vec<_>) = (0..count).map(connect).unzip();
            let worker = Worker {
                connections,
                template_of: vec![0; count],
                templates: vec![template.clone()],
                rng: Random::new(1),
            };
            let start = Instant::now();
            let (pace, requests_max) = (Pace::Closed, 3 * count as u64);
            let plan = LoadPlan { start, measure_from: start, until: None, requests_max, pace };
            let seen = worker.run(plan).unwrap();
            assert_eq!((seen.requests, seen.busy), (3 * count as u64, count as u64));
            let served: Vec<_> = servers.into_iter().map(|server| server.join().unwrap()).collect();
            assert!(served.iter().all(|(waited, _)| *waited >= RETRY), "{served:?}");
            assert_eq!(served.iter().map(|(_, taken)| taken).sum::<u32>(), 3 * count as u32);
        }
    }
}
