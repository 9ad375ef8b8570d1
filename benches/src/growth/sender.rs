//! One connection that sends batches of known transfers, a few in flight, and checks every answer
//! against what the transfers were first told.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use walengine_net::frame::RequestId;
use walengine_net::message::SubmitReply;
use walengine_net::model::PartitionId;

use super::transfers::{IdOrder, Transfers};
use crate::error::{During, Result, failed};
use crate::limits::FILL_BATCH;
use crate::load::{self, Accounts, Random, RequestKind, Template, Wire};

const PARTITION: PartitionId = PartitionId(0);
const KIND: RequestKind = RequestKind::Transfers(FILL_BATCH);

/// Transfers to send in one request.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Number of its first transfer; the others follow.
    first: u64,
    /// Old transfers in the places of some of them: place, number, and the offset that it must have.
    old: Vec<(usize, u64, u64)>,
    /// The others may have been decided already: nobody knows, since a server died before it answered.
    perhaps_decided: bool,
}

/// What the server has answered, of batches without old transfers: the first number and its offset.
#[derive(Debug, Default)]
pub struct History {
    batches: Vec<(u64, u64)>,
    next_number: u64,
}

/// An answered batch.
pub struct Answered {
    /// From sending to the answer, in nanoseconds; from the first time if the server was busy.
    pub nanos: u64,
    /// When the answer was there.
    pub at: Instant,
}

struct Sent {
    request: RequestId,
    since: Instant,
    batch: Batch,
}

/// The connection.
pub struct Sender {
    wire: Wire,
    template: Rc<Template>,
    transfers: Rc<Transfers>,
    frame: Vec<u8>,
    received: Vec<u8>,
    in_flight: VecDeque<Sent>,
    next_request: u64,
}

/// What is needed to connect again.
#[derive(Clone)]
pub struct Sending {
    template: Rc<Template>,
    transfers: Rc<Transfers>,
}

impl Sending {
    /// Creates the accounts.
    pub fn prepare(server: SocketAddr, order: IdOrder, accounts: u32) -> Result<Self> {
        let (mut wire, partitions) = load::connect_counting(server, None)?;
        let accounts = Accounts::of(PARTITION, partitions, accounts);
        load::create_accounts(&mut wire, accounts, PARTITION)?;
        let template = Rc::new(Template::new(KIND, PARTITION, accounts)?);
        Ok(Self { template, transfers: Rc::new(Transfers::new(order, accounts)) })
    }

    /// Connects.
    pub fn connect(&self, server: SocketAddr) -> Result<Sender> {
        let Self { template, transfers } = self.clone();
        Ok(Sender {
            wire: load::connect(server, None)?,
            frame: template.frame.clone(),
            template,
            transfers,
            received: Vec::new(),
            in_flight: VecDeque::new(),
            next_request: 2,
        })
    }
}

impl History {
    /// A batch of transfers that come for the first time.
    pub fn fresh(&mut self) -> Batch {
        let first = self.next_number;
        self.next_number += FILL_BATCH as u64;
        Batch { first, old: Vec::new(), perhaps_decided: false }
    }

    /// The same with an old transfer in every `every`th place, drawn from all that were answered.
    pub fn with_old(&mut self, every: usize, random: &mut Random) -> Result<Batch> {
        let mut batch = self.fresh();
        for place in (0..FILL_BATCH).step_by(every) {
            let (number, offset) = self.draw(random)?;
            batch.old.push((place, number, offset));
        }
        Ok(batch)
    }

    /// A batch of old transfers only; the last one that was answered is among them.
    pub fn all_old(&mut self, random: &mut Random) -> Result<Batch> {
        let mut batch = self.with_old(1, random)?;
        if let (Some(cell), Some(&(first, offset))) = (batch.old.last_mut(), self.batches.last()) {
            let last = FILL_BATCH as u64 - 1;
            (cell.1, cell.2) = (first + last, offset + last);
        }
        Ok(batch)
    }

    fn draw(&self, random: &mut Random) -> Result<(u64, u64)> {
        let below =
            |random: &mut Random, count: usize| (random.next() % count.max(1) as u64) as usize;
        let Some(&(first, offset)) = self.batches.get(below(random, self.batches.len())) else {
            return failed("nothing was sent yet that could be sent again");
        };
        let place = below(random, FILL_BATCH) as u64;
        Ok((first + place, offset + place))
    }
}

impl Sender {
    /// Number of unanswered batches.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Sends a batch.
    pub fn send(&mut self, batch: Batch) -> Result<()> {
        self.send_since(batch, None)
    }

    fn send_since(&mut self, batch: Batch, since: Option<Instant>) -> Result<()> {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let mut old = batch.old.iter().peekable();
        self.template.fill_each(&mut self.frame, request, |place, cell| {
            let number = match old.next_if(|(at, ..)| *at == place) {
                Some((_, number, _)) => *number,
                None => batch.first + place as u64,
            };
            self.transfers.put(cell, number);
        });
        let since = since.unwrap_or_else(Instant::now);
        self.in_flight.push_back(Sent { request, since, batch });
        self.wire.write_all(&self.frame).and_then(|()| self.wire.flush()).during("sending")
    }

    /// Waits for an answer and checks it; what is new goes into the history. A batch that the server is
    /// too busy for is sent again.
    pub fn receive(&mut self, history: &mut History) -> Result<Answered> {
        loop {
            let frame = load::read_frame(&mut self.wire, &mut self.received)?;
            let at = Instant::now();
            let place = self.in_flight.iter().position(|one| one.request == frame.head.request);
            let Some(sent) = place.and_then(|place| self.in_flight.remove(place)) else {
                return failed("an answer to a request that was not sent");
            };
            let bytes = frame.frame_bytes();
            let busy = load::busy_for(&frame)?;
            if busy.is_none() {
                let reply = load::expect::<SubmitReply>(&frame, KIND.reply())?;
                let outcomes = reply.outcomes().map(|outcome| Told {
                    is_ok: outcome.verdict.is_ok(),
                    is_fresh: outcome.fresh,
                    offset: outcome.offset.map(|offset| offset.0),
                });
                sent.batch.check(outcomes, history)?;
            }
            self.received.drain(..bytes);
            let Some(pause) = busy else {
                let nanos = at.saturating_duration_since(sent.since).as_nanos() as u64;
                return Ok(Answered { nanos, at });
            };
            std::thread::sleep(pause);
            self.send_since(sent.batch, Some(sent.since))?;
        }
    }

    /// Sends one batch and waits for its answer; nothing else is in flight.
    pub fn exchange(&mut self, batch: Batch, history: &mut History) -> Result<Answered> {
        self.send(batch)?;
        self.receive(history)
    }

    /// The batches that nobody will answer any more, oldest first: the server was killed.
    pub fn unanswered(self) -> Vec<Batch> {
        let batches = self.in_flight.into_iter().map(|sent| sent.batch);
        batches.map(|batch| Batch { perhaps_decided: true, ..batch }).collect()
    }
}

/// What the server said of one transfer.
#[derive(Clone, Copy, Debug)]
struct Told {
    is_ok: bool,
    is_fresh: bool,
    offset: Option<u64>,
}

impl Batch {
    /// Old transfers must have their first verdict at their first offset; the others must be accepted, at
    /// offsets that follow each other.
    fn check(&self, told: impl Iterator<Item = Told>, history: &mut History) -> Result<()> {
        let mut old = self.old.iter().peekable();
        let (mut first, mut next, mut count) = (None, None, 0);
        for (place, told) in told.enumerate() {
            count += 1;
            let wanted = old.next_if(|(at, ..)| *at == place);
            let is_right = if let Some((_, _, offset)) = wanted {
                told.is_ok && !told.is_fresh && told.offset == Some(*offset)
            } else {
                let follows = next.is_none() || told.offset == next;
                let is_new = told.is_fresh || self.perhaps_decided;
                first = first.or(told.offset);
                next = told.offset.map(|offset| offset + 1);
                told.is_ok && is_new && told.offset.is_some() && follows
            };
            if !is_right {
                let what = match wanted {
                    Some((_, number, offset)) => format!("{number}, whose record is at {offset}"),
                    None => format!("{}, sent for the first time", self.first + place as u64),
                };
                return failed(format!("a wrong answer to transfer {what}: {told:?}"));
            }
        }
        if count != FILL_BATCH {
            return failed(format!("{count} outcomes for {FILL_BATCH} transfers"));
        }
        if let (true, Some(offset)) = (self.old.is_empty(), first) {
            history.batches.push((self.first, offset));
        }
        Ok(())
    }
}

/// Sends batches that `next` makes, `inflight` at once, until it makes no more and all are answered.
/// `on` gets each answer and the number of answers so far.
pub fn stream(
    sender: &mut Sender,
    history: &mut History,
    inflight: usize,
    mut next: impl FnMut(&mut History) -> Result<Option<Batch>>,
    mut on: impl FnMut(&Answered, u64) -> Result<()>,
) -> Result<Duration> {
    let start = Instant::now();
    let (mut answers, mut is_over) = (0, false);
    let mut end = start;
    loop {
        while !is_over && sender.in_flight() < inflight {
            match next(history)? {
                Some(batch) => sender.send(batch)?,
                None => is_over = true,
            }
        }
        if sender.in_flight() == 0 {
            return Ok(end - start);
        }
        let answered = sender.receive(history)?;
        answers += 1;
        end = answered.at;
        on(&answered, answers)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(first: u64) -> Vec<Told> {
        let at = |offset| Told { is_ok: true, is_fresh: true, offset: Some(offset) };
        (first..first + FILL_BATCH as u64).map(at).collect()
    }

    #[test]
    fn an_answer_that_is_not_the_first_one_is_wrong() {
        let mut history = History::default();
        let batch = history.fresh();
        assert!(batch.check(fresh(9).into_iter().skip(1), &mut history).is_err(), "one is missing");
        for spoil in [
            (|told| told.is_ok = false) as fn(&mut Told),
            |told| told.is_fresh = false,
            |told| told.offset = None,
            |told| told.offset = Some(5),
        ] {
            let mut told = fresh(9);
            spoil(&mut told[70]);
            assert!(batch.check(told.into_iter(), &mut history).is_err());
        }
        batch.check(fresh(9).into_iter(), &mut history).unwrap();

        let old = history.all_old(&mut Random::new(1)).unwrap();
        let as_first = |at: &(usize, u64, u64)| {
            assert_eq!(at.2, at.1 + 9, "the offset that it was told");
            Told { is_ok: true, is_fresh: false, offset: Some(at.2) }
        };
        let right: Vec<Told> = old.old.iter().map(as_first).collect();
        old.check(right.iter().copied(), &mut history).unwrap();
        assert!(old.check(fresh(9 + FILL_BATCH as u64).into_iter(), &mut history).is_err());
        for spoil in [
            (|told| told.is_ok = false) as fn(&mut Told),
            |told| told.is_fresh = true,
            |told| told.offset = told.offset.map(|offset| offset + 1),
        ] {
            let mut told = right.clone();
            spoil(&mut told[8189]);
            assert!(old.check(told.into_iter(), &mut history).is_err());
        }
        assert_eq!(history.batches.len(), 1, "only what was new can be drawn");
    }
}
