//! One connection of the load generator: slots for requests in flight, and two reused buffers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use walengine_net::frame::{self, Frame, Kind, RequestId};
use walengine_net::message::{ErrorCode, ErrorReply, HelloReply, SubmitReply, open};
use walengine_net::model::PartitionId;
use walengine_net::tls::{Expected, Stream, Tls};

use super::payload::{self, Accounts, Random, RequestKind, Template};
use crate::error::{During, Result, failed};

/// Frames are sent together, up to this many bytes.
const SEND_BYTES: usize = 64 << 10;
/// Size of the receive buffer; answers are small.
const RECEIVE_BYTES: usize = 256 << 10;
/// Lower bits of a request id, which hold the slot.
const SLOT_BITS: u32 = 16;
/// How long the setup waits for an answer.
const SETUP_WITHIN: Duration = Duration::from_mins(1);

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When the request should have been sent.
    pub intended: Instant,
    /// Length of the answer in bytes.
    pub reply_bytes: usize,
    /// Set if the server was busy. The request keeps its slot until [`Connection::release`].
    pub busy: Option<PutOff>,
}

/// A request that the server refused as busy.
#[derive(Clone, Copy, Debug)]
pub struct PutOff {
    /// Pause that the server asks for.
    pub after: Duration,
    /// The slot of the request.
    pub slot: u16,
}

/// A socket with TLS or without.
pub type Wire = Stream<TcpStream>;

/// A connection after the greeting.
pub struct Connection {
    /// The socket.
    pub stream: Wire,
    /// The socket is full, and the rest of the output waits for room.
    pub blocked: bool,
    request_kind: RequestKind,
    accounts: Accounts,
    /// Frames side by side; each began as a copy of the template.
    out: Vec<u8>,
    frame_bytes: usize,
    out_end: usize,
    out_sent: usize,
    slots: Vec<Slot>,
    free: Vec<u16>,
    next: u64,
    received: Vec<u8>,
    received_end: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    request: RequestId,
    intended: Instant,
}

/// The server's greeting.
#[derive(Clone, Copy, Debug)]
pub struct Greeting {
    /// Partitions of the cluster.
    pub partitions: u16,
    /// The node that leads the partition, if that is another one.
    pub leader: Option<SocketAddr>,
}

/// Connects to the partition's leader, which `server` is or names, and greets. The socket is blocking.
pub fn connect(
    server: SocketAddr,
    partition: PartitionId,
    tls: Option<&Tls>,
) -> Result<(Wire, Greeting)> {
    let (mut wire, mut greeting) = greet(server, partition, tls)?;
    if let Some(leader) = greeting.leader {
        (wire, greeting) = greet(leader, partition, tls)?;
    }
    Ok((wire, greeting))
}

fn greet(
    server: SocketAddr,
    partition: PartitionId,
    tls: Option<&Tls>,
) -> Result<(Wire, Greeting)> {
    let at = format!("connecting to {server}");
    let mut stream = dial(server, partition, tls).during(&at)?;
    stream.socket().set_read_timeout(Some(SETUP_WITHIN)).during(&at)?;
    stream.write_all(&payload::hello(partition)?).and_then(|()| stream.flush()).during(&at)?;
    let mut received = Vec::new();
    let frame = read_frame(&mut stream, &mut received)?;
    let reply = expect::<HelloReply>(&frame, Kind::HelloReply)?;
    let leader = reply.leader.parse().ok();
    let greeting = Greeting { partitions: reply.partitions.to_native(), leader };
    Ok((stream, greeting))
}

fn dial(server: SocketAddr, partition: PartitionId, tls: Option<&Tls>) -> io::Result<Wire> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Stream::plain(socket)) };
    let expected = Expected::node_at(None, server.ip().into());
    let mut secured = tls.current().connect(expected, partition)?;
    secured.handshake(&mut socket)?;
    Ok(Stream::secured(socket, secured))
}

/// Creates the missing accounts, in full batches.
pub fn create_accounts(
    stream: &mut Wire,
    accounts: Accounts,
    partition: PartitionId,
) -> Result<()> {
    let mut received = Vec::new();
    let mut start = 0;
    let mut request = 2;
    while start < accounts.count() {
        let end = accounts.count().min(start + walengine_net::limits::EVENTS_MAX as u32);
        let frame = payload::creations(accounts, start..end, partition, RequestId(request))?;
        stream.write_all(&frame).and_then(|()| stream.flush()).during("creating accounts")?;
        let reply = read_frame(stream, &mut received)?;
        let repeats_too = true;
        check_reply(&reply, RequestKind::Transfers((end - start) as usize), repeats_too)?;
        let consumed = reply.frame_bytes();
        received.drain(..consumed);
        (start, request) = (end, request + 1);
    }
    Ok(())
}

impl Connection {
    /// Takes over a socket after the greeting; `inflight` requests may be unanswered.
    pub fn new(
        stream: Wire,
        template: &Template,
        request_kind: RequestKind,
        accounts: Accounts,
        inflight: u16,
    ) -> Self {
        let frame_bytes = template.frame.len();
        let frames = (SEND_BYTES / frame_bytes).clamp(1, usize::from(inflight));
        let now = Instant::now();
        Self {
            stream,
            blocked: false,
            request_kind,
            accounts,
            out: template.frame.repeat(frames),
            frame_bytes,
            out_end: 0,
            out_sent: 0,
            slots: vec![Slot { request: RequestId(0), intended: now }; usize::from(inflight)],
            free: (0..inflight).rev().collect(),
            next: 1,
            received: vec![0; RECEIVE_BYTES],
            received_end: 0,
        }
    }

    /// Whether another request can be built now.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() && self.has_space()
    }

    /// Whether another request could be built if a slot were free.
    pub fn has_space(&self) -> bool {
        !self.blocked && self.out_end + self.frame_bytes <= self.out.len()
    }

    /// Frees the slot of a request that was refused as busy.
    pub fn release(&mut self, slot: u16) {
        self.free.push(slot);
    }

    /// Whether nothing is unanswered or unsent.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Appends the next request to the output. Call only when [`Self::has_room`].
    pub fn push(&mut self, template: &Template, intended: Instant, rng: &mut Random) {
        let Some(slot) = self.free.pop() else {
            unreachable!("the caller has checked for room");
        };
        let request = RequestId((self.next << SLOT_BITS) | u64::from(slot));
        self.next += 1;
        self.slots[usize::from(slot)] = Slot { request, intended };
        let frame = &mut self.out[self.out_end..self.out_end + self.frame_bytes];
        template.fill(frame, request, self.accounts, rng);
        self.out_end += self.frame_bytes;
    }

    /// Sends as much of the output as the socket takes. If some is left, [`Self::blocked`] is set.
    pub fn send(&mut self) -> Result<()> {
        while self.out_sent < self.out_end {
            match self.stream.write(&self.out[self.out_sent..self.out_end]) {
                Ok(sent) => self.out_sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return failed(format!("sending: {error}")),
            }
        }
        match self.stream.flush() {
            Ok(()) => (self.out_sent, self.out_end, self.blocked) = (0, 0, false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
            Err(error) => return failed(format!("sending: {error}")),
        }
        Ok(())
    }

    /// Reads once, checks every answer, and passes it on.
    pub fn receive(&mut self, mut answered: impl FnMut(Answered)) -> Result<()> {
        match self.stream.read(&mut self.received[self.received_end..]) {
            Ok(0) => return failed("the server closed the connection"),
            Ok(read) => self.received_end += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return failed(format!("receiving: {error}")),
        }
        let mut start = 0;
        while let Some(frame) =
            frame::peek(&self.received[start..self.received_end]).during("receiving")?
        {
            let busy_for = busy_for(&frame)?;
            if busy_for.is_none() {
                check_reply(&frame, self.request_kind, false)?;
            }
            let number = (frame.head.request.0 & ((1 << SLOT_BITS) - 1)) as u16;
            let slot = self.slots.get(usize::from(number));
            let Some(slot) = slot.filter(|slot| slot.request == frame.head.request) else {
                return failed("an answer to a request that was not sent");
            };
            let (intended, reply_bytes) = (slot.intended, frame.frame_bytes());
            start += reply_bytes;
            self.slots[usize::from(number)].request = RequestId(0);
            let busy = busy_for.map(|after| PutOff { after, slot: number });
            if busy.is_none() {
                self.free.push(number);
            }
            answered(Answered { intended, reply_bytes, busy });
        }
        self.received.copy_within(start..self.received_end, 0);
        self.received_end -= start;
        Ok(())
    }
}

/// The pause that the server asks for, if it was busy.
pub fn busy_for(frame: &Frame<'_>) -> Result<Option<Duration>> {
    if frame.kind != Kind::Error {
        return Ok(None);
    }
    let error = open::<ErrorReply>(frame.body).during("opening an error")?;
    let is_busy = error.code() == Some(ErrorCode::Busy);
    let after = Duration::from_millis(error.retry_after_millis.to_native().max(1).into());
    Ok(is_busy.then_some(after))
}

/// Checks that every event was accepted and, unless `repeats_too`, for the first time.
fn check_reply(frame: &Frame<'_>, request_kind: RequestKind, repeats_too: bool) -> Result<()> {
    let reply = expect::<SubmitReply>(frame, request_kind.reply())?;
    if reply.events() != request_kind.events() {
        return failed(format!("{} outcomes for {} events", reply.events(), request_kind.events()));
    }
    let refused = reply.runs.iter().any(|run| run.to_native().verdict != 0);
    let repeated = reply
        .runs
        .iter()
        .any(|run| run.to_native().marks & walengine_net::message::OutcomeRun::REPEAT != 0);
    if refused || (repeated && !repeats_too) {
        let outcome = reply.outcomes().find(|outcome| !outcome.verdict.is_ok() || !outcome.fresh);
        return failed(format!("not accepted: {outcome:?}"));
    }
    Ok(())
}

/// Opens the body of an answer of this kind. An error answer becomes an error.
pub fn expect<'a, Reply>(frame: &Frame<'a>, kind: Kind) -> Result<&'a Reply::View>
where
    Reply: walengine_net::message::Message,
{
    if frame.kind == kind {
        return open::<Reply>(frame.body).during("opening an answer");
    }
    if frame.kind != Kind::Error {
        return failed(format!("an answer of kind {:?} instead of {kind:?}", frame.kind));
    }
    let error = open::<ErrorReply>(frame.body).during("opening an error")?;
    let code = error.code().map_or("unknown error", |code| code.name());
    failed(format!("the server answered {code}: {}", &*error.message))
}

/// Reads until `received` begins with a whole frame.
pub fn read_frame<'a>(stream: &mut Wire, received: &'a mut Vec<u8>) -> Result<Frame<'a>> {
    let mut piece = [0; 4096];
    while frame::peek(received).during("receiving")?.is_none() {
        let read = stream.read(&mut piece).during("receiving")?;
        if read == 0 {
            return failed("the server closed the connection");
        }
        received.extend_from_slice(&piece[..read]);
    }
    match frame::peek(received).during("receiving")? {
        Some(frame) => Ok(frame),
        None => failed("no answer"),
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::frame::FrameHead;
    use walengine_net::message::OutcomeRun;

    use super::*;

    fn reply(run: OutcomeRun) -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = FrameHead::reply(PartitionId(0), RequestId(1));
        frame::encode(&mut bytes, head, &SubmitReply { token_offset: 9, runs: &[run] }).unwrap();
        bytes
    }

    fn checked(run: OutcomeRun) -> Result<()> {
        let bytes = reply(run);
        check_reply(&frame::peek(&bytes).unwrap().unwrap(), RequestKind::Transfers(64), false)
    }

    #[test]
    fn only_fresh_acceptance_of_every_event_counts() {
        let marks = OutcomeRun::HAS_OFFSET;
        let all = OutcomeRun { count: 64, verdict: 0, marks, first_offset: 5, first_timestamp: 1 };
        assert!(checked(all).is_ok());
        assert!(checked(OutcomeRun { count: 63, ..all }).is_err(), "one is missing");
        assert!(checked(OutcomeRun { verdict: 86, ..all }).is_err(), "refused");
        let marks = marks | OutcomeRun::REPEAT;
        assert!(checked(OutcomeRun { marks, ..all }).is_err(), "decided before");
        let mut damaged = reply(all);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(frame::peek(&damaged).is_err(), "damaged on the way");
    }

    #[test]
    fn a_reply_has_the_length_that_the_floor_assumes() {
        let run =
            OutcomeRun { count: 1, verdict: 0, marks: 1, first_offset: 5, first_timestamp: 1 };
        assert_eq!(reply(run).len(), crate::floor::REPLY_BYTES);
    }
}
