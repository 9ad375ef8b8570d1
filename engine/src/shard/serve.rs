//! One client connection on its shard: bytes in, frames to the session, answers out. From its first
//! subscription on, the bytes of a connection come and go by the feed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{self, HEADER_BYTES, Kind};
use walengine_net::tls::Proven;
use walengine_replication::received::{RECEIVE_BYTES_MIN, Received};
use walengine_replication::tcp::socket::{MovingSocket, Socket, SocketReader};
use walengine_replication::turned_away::Reason;

use super::host::Hosted;
use super::operators::Place;
use super::publisher::Publisher;
use super::state::Shard;
use crate::caller::Caller;
use crate::connection::errors::{put_frame_error, put_too_many_connections};
use crate::connection::outbox::Outbox;
use crate::connection::timing::Timing;
use crate::connection::writer;
use crate::feed::published::{Passed, Subscriber};
use crate::limits::{
    ANSWER_AFTER_END_WITHIN, FEED_ANSWERS_MAX, FEED_FRAMES_MAX, LOOK_AHEAD_BYTES_MAX,
    LOOK_UP_ASKED_AGAIN_AFTER, LOOK_UP_WITHIN, ROOM_WITHIN,
};
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::refused::{BUSY_READING, Refused};
use crate::runtime::Runtime;
use crate::session::admin::Operated;
use crate::session::{Handled, Session};

/// Serves a client of the partition at `place` until it goes, breaks the protocol, or its outbox is
/// ended by somebody else.
pub(super) async fn serve_client<C: Hosted>(
    shard: &Rc<Shard<C>>,
    place: usize,
    socket: Socket,
    proven: Option<Proven>,
    received: Received,
    at: Place,
) {
    let node = &shard.node;
    let outbox = Rc::new(Outbox::new(&shard.budget));
    let address = socket.peer_addr();
    let timing = Rc::new(Timing::new(address, &node.state.turned_away));
    let partition = node.partitions[place].clone();
    let identity = proven.as_ref().map(|proven| proven.identity.clone());
    let caller = Caller { address, identity };
    let scratch = shard.scratch.clone();
    let session = Session::new(partition, node.clone(), outbox.clone(), scratch, caller);
    shard.live.borrow_mut().add(&outbox, &timing, proven, Some(session.permit()));
    node.connections.set(node.connections.get() + 1);
    let at = Rc::new(at);
    let runtime = shard.runtime;
    let connection = Connection {
        session,
        outbox: outbox.clone(),
        timing,
        runtime,
        at: at.clone(),
        ahead: Cell::default(),
    };
    let serving = connection.serve(socket, received, &shard.publishers[place]);
    futures_lite::future::or(serving, at.given_up()).await;
    outbox.end();
    node.connections.set(node.connections.get() - 1);
}

/// A connection and what serves it.
struct Connection<C: Operated> {
    session: Session<C>,
    outbox: Rc<Outbox>,
    timing: Rc<Timing>,
    runtime: C::Runtime,
    at: Rc<Place>,
    /// Bytes of the frames that have come and were looked at ahead.
    ahead: Cell<usize>,
}

impl<C: Operated> Connection<C>
where
    C::Runtime: Copy,
{
    async fn serve(mut self, socket: Socket, received: Received, publisher: &Publisher<C>) {
        let outbox = self.outbox.clone();
        let (reader, writer) = socket.split();
        // A task of its own, so that an answer does not also wake what reads.
        let sending = writer::write(writer, outbox.clone(), self.timing.clone(), self.runtime);
        self.runtime.spawn(sending);
        let mut incoming = Incoming { reader, received };
        let gone = async {
            outbox.ended().await;
            ReadEnd::Gone
        };
        let end = futures_lite::future::or(self.read(&mut incoming), gone).await;
        self.timing.frame(false, false, &self.runtime); // no more of it is waited for
        let reader = match end {
            ReadEnd::Gone => {
                let Incoming { reader, received } = incoming;
                drop(received);
                Some(reader)
            }
            ReadEnd::Subscribes => {
                let serving = self.hand_over(publisher, incoming);
                futures_lite::future::or(serving, outbox.ended()).await;
                None
            }
        };
        // What was taken is still answered, for a while: a client that is gone looks like one that has
        // only closed its side.
        let answering = async {
            while !outbox.has_ended() && (outbox.unanswered() > 0 || !outbox.is_empty()) {
                outbox.changed().changed().await;
            }
        };
        let late = self.runtime.sleep(ANSWER_AFTER_END_WITHIN);
        futures_lite::future::or(answering, late).await;
        outbox.end();
        if let Some(mut reader) = reader {
            writer::read_out(&mut reader, &outbox, &self.runtime).await;
        }
    }

    /// Has the sending half let go of the connection, and has it served from the feed.
    async fn hand_over(&mut self, publisher: &Publisher<C>, incoming: Incoming) {
        self.outbox.move_away().await;
        let Incoming { reader, received } = incoming;
        let received = received.into_filled();
        let socket = reader.whole().expect("the sending half is gone once it has moved away");
        self.serve_from_feed(publisher, socket.depart(), received).await;
    }

    /// Hands the connection to the feed, and serves what comes back from there.
    async fn serve_from_feed(
        &mut self,
        publisher: &Publisher<C>,
        socket: MovingSocket,
        received: Vec<u8>,
    ) {
        let (passed_on, frames) = flume::bounded::<Passed>(FEED_FRAMES_MAX);
        let (sent_back, answers) = flume::bounded(FEED_ANSWERS_MAX);
        let partition = self.session.partition_id();
        let ids = self.session.request_ids().clone();
        self.session.permit().note_follows_log();
        let permit = self.session.permit().as_ref().clone();
        let frames_in = passed_on;
        let subscriber =
            Subscriber { socket, received, partition, ids, permit, frames: frames_in, answers };
        let outbox = &self.outbox;
        let Some(_handed_over) = publisher.hand_over(subscriber) else {
            return outbox.end(); // the client sees the connection close and comes again
        };
        let (answered, passing, runtime) = (outbox.clone(), publisher.passing(), self.runtime);
        self.runtime.spawn(async move {
            while !answered.has_ended() {
                let changed = answered.changed().changed();
                if answered.is_empty() {
                    changed.await;
                    continue;
                }
                let answers = answered.take(Vec::new());
                answered.keeps(answers.capacity());
                let answers = passing.pass(answers, &runtime).await;
                if sent_back.send_async(answers).await.is_err() {
                    answered.end();
                }
                answered.keeps(0);
            }
        });
        while let Ok(passed) = frames.recv_async().await {
            let Ok(Some(frame)) = frame::peek(&passed.bytes) else { break };
            // What is for another partition the session answers, too.
            if frame.kind == Kind::Subscribe && frame.head.partition == partition {
                self.session.note_subscribed(frame.head.request);
                continue;
            }
            if self.session.handle(&frame) == Handled::Close {
                break;
            }
            while outbox.is_full() && !outbox.has_ended() {
                outbox.changed().changed().await;
            }
        }
    }

    /// Reads and handles frames until the connection ends or subscribes.
    async fn read(&mut self, incoming: &mut Incoming) -> ReadEnd {
        let mut patience = Patience::default();
        let timing = self.timing.clone();
        loop {
            let wanted = match self.handle_frames(&mut incoming.received, &mut patience) {
                Ok(Next::Bytes(wanted)) => wanted,
                Ok(Next::Room(refused)) => {
                    timing.frame_since.set(None);
                    let partition = self.session.partition();
                    if refused == BUSY_READING {
                        let waiting = patience.wait_for_ids(partition);
                        futures_lite::future::or(waiting, self.look_ahead(incoming)).await;
                    } else {
                        let has_room = |partition: &Partition<C>| !partition.is_busy();
                        patience.wait(partition, (ROOM_WITHIN, ROOM_WITHIN), has_room).await;
                    }
                    continue;
                }
                Err(end) => return end,
            };
            if self.outbox.is_full() {
                timing.frame_since.set(None);
                self.outbox.changed().changed().await;
                continue;
            }
            let Incoming { reader, received } = incoming;
            if wanted > RECEIVE_BYTES_MIN {
                timing.waits(received.room(wanted), &self.runtime).await;
            }
            timing.frame(!received.filled().is_empty(), received.holds_much(), &self.runtime);
            match received.read(reader).await {
                Ok(0) | Err(_) => return ReadEnd::Gone, // nobody to tell
                Ok(_) => {}
            }
        }
    }

    /// Reads on while the first frame waits for its ids, and has those of the next ones looked up meanwhile. Never
    /// ends. What is wrong with a frame or the connection it leaves to be found in its turn.
    async fn look_ahead(&self, incoming: &mut Incoming) {
        let Incoming { reader, received } = incoming;
        let mut at = 0;
        loop {
            let goes_on = self.look_at_frames(received.filled(), &mut at);
            let wanted = frame::peek_bytes(&received.filled()[at..]).ok().flatten();
            let wanted = at + wanted.unwrap_or(HEADER_BYTES);
            let goes_on = goes_on && at < LOOK_AHEAD_BYTES_MAX && received.spare_room(wanted);
            if !goes_on || !matches!(received.read(reader).await, Ok(1..)) {
                break;
            }
            self.runtime.yield_now().await;
        }
        std::future::pending::<()>().await;
    }

    /// Looks at the whole frames from `at` on, but for the first of all and those that were looked at before. False
    /// if one is not right.
    fn look_at_frames(&self, filled: &[u8], at: &mut usize) -> bool {
        loop {
            let rest = &filled[*at..];
            if *at < self.ahead.get() {
                // It was checked then.
                let bytes = frame::peek_bytes(rest).ok().flatten();
                let Some(bytes) = bytes.filter(|bytes| *bytes <= rest.len()) else { return true };
                *at += bytes;
                continue;
            }
            match frame::peek(rest) {
                Ok(Some(frame)) => {
                    if *at > 0 {
                        self.session.look_ahead(&frame);
                    }
                    *at += frame.frame_bytes();
                    self.ahead.set(*at);
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Hands every whole frame to the session. What the connection then needs, or why no further
    /// frame is taken.
    fn handle_frames(
        &mut self,
        received: &mut Received,
        patience: &mut Patience,
    ) -> Result<Next, ReadEnd> {
        let session = &mut self.session;
        while !self.outbox.is_full() {
            let filled = received.filled();
            let consumed = match frame::peek(filled) {
                Ok(Some(frame)) => {
                    if self.at.refuses(frame.kind, || self.runtime.elapsed()) {
                        put_too_many_connections(&self.outbox, session.reply_head(&frame));
                        let refused = frame.frame_bytes();
                        consume(received, &self.ahead, refused);
                        continue;
                    }
                    let handled = match session.try_handle(&frame) {
                        Ok(handled) => handled,
                        Err(_) if patience.is_over => session.handle(&frame),
                        Err(refused) => return Ok(Next::Room(refused)),
                    };
                    *patience = Patience::default();
                    match handled {
                        Handled::Here => frame.frame_bytes(),
                        Handled::Subscribes => return Err(ReadEnd::Subscribes),
                        Handled::Close => return Err(ReadEnd::Gone),
                    }
                }
                Ok(None) => {
                    let wanted = frame::peek_bytes(filled).ok().flatten().unwrap_or(0);
                    return Ok(Next::Bytes(wanted));
                }
                Err(error) => {
                    let skipped = put_frame_error(&self.outbox, session.partition_id(), &error);
                    skipped.ok_or_else(|| {
                        self.timing.turned_away(Reason::Malformed, &error);
                        ReadEnd::Gone
                    })?
                }
            };
            consume(received, &self.ahead, consumed);
        }
        Ok(Next::Bytes(0))
    }
}

/// Drops a frame that was handled; `ahead` counts it no more.
fn consume(received: &mut Received, ahead: &Cell<usize>, bytes: usize) {
    received.consume(bytes);
    ahead.set(ahead.get().saturating_sub(bytes));
}

/// Why nothing more is read from a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadEnd {
    /// The client is gone, or must go.
    Gone,
    /// It subscribes; the frame that says so is the next.
    Subscribes,
}

/// What comes in.
struct Incoming {
    reader: SocketReader,
    received: Received,
}

/// What a connection needs to go on.
enum Next {
    /// Bytes of the next frame: so many in all.
    Bytes(usize),
    /// A write is there, and no room for it, or ids must be looked up first.
    Room(Refused),
}

/// How long the write in front has waited, for room or for its ids.
#[derive(Default)]
struct Patience {
    /// For what it waits, by how long it may, and since when.
    since: Option<(Duration, Duration)>,
    is_over: bool,
}

impl Patience {
    /// Waits until something was looked up, or the time is over.
    async fn wait_for_ids<C: Commit>(&mut self, partition: &Partition<C>) {
        let before = partition.looked_up();
        // What found no room among others' look-ups is tried again even if none of them has ended.
        let again = partition.runtime().elapsed() + LOOK_UP_ASKED_AGAIN_AFTER;
        let goes_on = |partition: &Partition<C>| {
            partition.looked_up() != before
                || !partition.leads()
                || partition.stopped().is_some()
                || partition.runtime().elapsed() >= again
        };
        let within = (LOOK_UP_WITHIN, LOOK_UP_ASKED_AGAIN_AFTER);
        self.wait(partition, within, goes_on).await;
    }

    /// Waits until the partition `goes_on`, which is looked at when it has changed and every so often, or until the
    /// time is over.
    async fn wait<C: Commit>(
        &mut self,
        partition: &Partition<C>,
        (within, every): (Duration, Duration),
        goes_on: impl Fn(&Partition<C>) -> bool,
    ) {
        let runtime = partition.runtime();
        let since = match self.since {
            Some((same, since)) if same == within => since,
            _ => runtime.elapsed(),
        };
        self.since = Some((within, since));
        let by = since + within;
        loop {
            let changed = partition.changed();
            let changed = changed.changed();
            let left = by.saturating_sub(runtime.elapsed());
            if left.is_zero() {
                self.is_over = true;
                return;
            }
            futures_lite::future::or(changed, runtime.sleep(left.min(every))).await;
            if goes_on(partition) {
                return;
            }
        }
    }
}
