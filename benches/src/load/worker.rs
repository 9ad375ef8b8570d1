//! A thread of the load generator: some connections, one loop.
//!
//! With a single connection and no fixed rate the socket is simply read and written: no epoll call
//! stands between the answer and the next request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::payload::{Random, Template};
use super::poll::{self, Poll};
use crate::error::{During, Result, failed};
use crate::stats::Latencies;

/// Without an answer for so long the server counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// When a worker sends.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as there is a free slot.
    Closed,
    /// One each interval, whatever has been answered.
    Open(Duration),
}

/// How long a worker goes on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// When it begins.
    pub start: Instant,
    /// What is answered before this does not count.
    pub measure_from: Instant,
    /// What is answered after this does not count, and nothing is sent.
    pub until: Option<Instant>,
    /// Most requests; with this, all of them count.
    pub requests_max: u64,
    /// When to send.
    pub pace: Pace,
}

/// What a worker saw while it counted.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Requests answered.
    pub requests: u64,
    /// Times from intended send to answer.
    pub latencies: Latencies,
    /// Length of the last answer in bytes.
    pub reply_bytes: usize,
    /// Requests that the server was too busy for.
    pub busy: u64,
}

impl Seen {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { requests: 0, latencies: Latencies::new(), reply_bytes: 0, busy: 0 }
    }
}

/// Connections of a worker, each with the template of its partition.
pub struct Worker {
    /// The connections, greeted.
    pub connections: Vec<Connection>,
    /// Which template a connection uses.
    pub template_of: Vec<usize>,
    /// One for each partition.
    pub templates: Vec<Template>,
    /// Random ids come from here.
    pub rng: Random,
}

struct Run {
    worker: Worker,
    plan: Plan,
    sent: u64,
    seen: Seen,
    /// Where the search for room begins, so that connections take turns.
    turn: usize,
    /// What the server was too busy for: when to send it again, its connection, and when it should
    /// have been sent first.
    put_off: VecDeque<(Instant, usize, Instant)>,
}

impl Worker {
    /// Sends and receives until the plan is fulfilled and everything is answered.
    pub fn run(self, plan: Plan) -> Result<Seen> {
        let mut run = Run {
            worker: self,
            plan,
            sent: 0,
            seen: Seen::new(),
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
        self.worker.connections[0].stream.set_nonblocking(false).during("preparing")?;
        let timeout = Some(STUCK_AFTER);
        self.worker.connections[0].stream.set_read_timeout(timeout).during("preparing")?;
        loop {
            let now = Instant::now();
            if self.may_send(now) {
                self.fill(0, now)?;
            } else if self.is_idle() {
                return Ok(());
            }
            if let Some(&(when, ..)) = self.put_off.front() {
                std::thread::sleep(when.saturating_duration_since(now));
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
            connection.stream.set_nonblocking(true).during("preparing")?;
            poll.add(&connection.stream, number).during("preparing")?;
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
            if let Some(&(when, ..)) = self.put_off.front() {
                timeout = timeout.min(when.saturating_duration_since(now));
            }
            let ready = poll.wait(Some(timeout)).during("waiting")?;
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

    /// Sends again what the server was too busy for, with fresh ids; to which connections.
    fn send_put_off(&mut self, now: Instant) -> Result<Vec<usize>> {
        let mut to = Vec::new();
        while let Some(&(when, number, intended)) = self.put_off.front()
            && when <= now
            && self.worker.connections[number].has_room()
        {
            self.put_off.pop_front();
            self.push(number, intended);
            self.sent -= 1; // it is not one more
            self.worker.connections[number].send()?;
            to.push(number);
        }
        Ok(to)
    }

    fn may_send(&self, now: Instant) -> bool {
        self.sent < self.plan.requests_max && self.plan.until.is_none_or(|until| now < until)
    }

    /// Sends what a fixed rate has made due; how long until the next is.
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
                break; // it waits, and its latency grows
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

    /// Has epoll tell of room only while something waits for it.
    fn note_room(&self, poll: &Poll, number: usize, was_blocked: bool) -> Result<()> {
        let connection = &self.worker.connections[number];
        if connection.blocked != was_blocked {
            poll.change(&connection.stream, number, connection.blocked).during("waiting")?;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        let (plan, seen) = (&self.plan, &mut self.seen);
        let mut now = None;
        let put_off = &mut self.put_off;
        self.worker.connections[number].receive(|answered| {
            if let Some(after) = answered.busy_for {
                seen.busy += 1;
                put_off.push_back((Instant::now() + after, number, answered.intended));
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
