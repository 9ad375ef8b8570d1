//! One client connection: bytes in, frames to the session, answers out. Lives on the shard core of
//! the partition that its first frame named; the bytes of one that subscribes come and go by the feed.

use std::cell::Cell;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use futures_lite::io::WriteHalf;
use glommio::net::TcpStream;
use walengine_net::frame::{self, FrameError, FrameHead};
use walengine_net::message::ErrorCode;
use walengine_net::model::PartitionId;
use walengine_replication::received::{RECEIVE_BYTES_KEPT, Received};

use super::outbox::Outbox;
use super::served::Served;
use super::session::{Handled, Session};
use crate::feed::published::Subscriber;
use crate::feed::publisher::Publisher;
use crate::limits::{FEED_FRAMES_MAX, FRAME_WITHIN, ROOM_WITHIN, WRITE_WITHIN};
use crate::os::{self, SocketReader};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// When something began that must not take for ever, for the janitor.
#[derive(Default)]
pub struct Timing {
    /// Since when a frame has been incomplete.
    pub frame_since: Cell<Option<Duration>>,
    /// Since when answers have been unread.
    pub write_since: Cell<Option<Duration>>,
}

impl Timing {
    /// Whether a part of a frame is there, and nothing else.
    pub fn frame<R: Runtime>(&self, is_partial: bool, runtime: &R) {
        if !is_partial {
            self.frame_since.set(None);
        } else if self.frame_since.get().is_none() {
            self.frame_since.set(Some(runtime.elapsed()));
        }
    }

    /// What has taken too long, if anything.
    pub fn overdue(&self, now: Duration) -> Option<&'static str> {
        let passed = |since: &Cell<Option<Duration>>, limit| {
            since.get().is_some_and(|since| now.saturating_sub(since) > limit)
        };
        if passed(&self.frame_since, FRAME_WITHIN) {
            Some("a frame did not arrive whole in time")
        } else if passed(&self.write_since, WRITE_WITHIN) {
            Some("answers were left unread")
        } else {
            None
        }
    }
}

/// The connections of an executor.
#[derive(Default)]
pub struct Live(Vec<(Weak<Outbox>, Weak<Timing>)>);

impl Live {
    /// One more.
    pub fn add(&mut self, outbox: &Rc<Outbox>, timing: &Rc<Timing>) {
        self.0.push((Rc::downgrade(outbox), Rc::downgrade(timing)));
    }

    /// Closes those that take too long, and forgets those that are gone.
    pub fn end_overdue(&mut self, now: Duration) {
        self.0.retain(|(outbox, timing)| {
            let (Some(outbox), Some(timing)) = (outbox.upgrade(), timing.upgrade()) else {
                return false;
            };
            if let Some(why) = timing.overdue(now) {
                tracing::info!("closing a connection: {why}");
                outbox.cut();
            }
            true
        });
    }

    /// One of them has something to send still, or an answer to come.
    pub fn is_busy(&self) -> bool {
        self.0.iter().any(|(outbox, timing)| {
            let (Some(outbox), Some(timing)) = (outbox.upgrade(), timing.upgrade()) else {
                return false;
            };
            let sends = timing.write_since.get().is_some() || !outbox.is_empty();
            !outbox.has_ended() && (outbox.unanswered() > 0 || sends)
        })
    }
}

/// A connection whose partition is not known yet.
pub struct Stream(TcpStream);

impl Stream {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// The socket.
    pub fn into_inner(self) -> TcpStream {
        self.0
    }

    /// Reads until the first frame's header is there, and gives its partition; `None` if the client
    /// went away or speaks something else, which it is told.
    pub async fn first_partition(&mut self, received: &mut Received) -> Option<PartitionId> {
        loop {
            let filled = received.filled();
            match frame::peek_bytes(filled) {
                Ok(Some(_)) => {
                    let header = frame::FrameHeader::decode(filled).ok()?;
                    return Some(header.head.partition);
                }
                Ok(None) => {}
                Err(error) => {
                    self.refuse(&error).await;
                    return None;
                }
            }
            if received.fill(&mut self.0, 0).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Says why before closing.
    async fn refuse(&mut self, error: &FrameError) {
        let outbox = Outbox::default();
        put_frame_error(&outbox, PartitionId(0), error);
        self.send_last(&outbox).await;
    }

    /// Answers that there is no such partition, and closes.
    pub async fn refuse_partition(&mut self, partition: PartitionId, partitions: u16) {
        let outbox = Outbox::default();
        let head = FrameHead::reply(partition, frame::RequestId(1));
        let message = format!("there are partitions 0 to {}", partitions - 1);
        outbox.put_error(head, ErrorCode::NoSuchPartition, &message);
        self.send_last(&outbox).await;
    }

    async fn send_last(&mut self, outbox: &Outbox) {
        // The peer may be gone; there is nothing more to tell it then.
        let _ = self.0.write_all(&outbox.take(Vec::new())).await;
        let _ = self.0.close().await;
    }

    /// Serves until the client goes, breaks the protocol, or `outbox` is ended by somebody else.
    /// From its first subscription on the connection itself is on the feed.
    pub async fn serve<D: Disk, R: Runtime>(
        self,
        received: Received,
        mut session: Session<D, R>,
        publisher: &Publisher<D, R>,
        outbox: Rc<Outbox>,
        timing: Rc<Timing>,
        runtime: R,
    ) {
        let (reader, writer) = os::split(self.0);
        // A task of its own, so that an answer does not also wake what reads.
        runtime.spawn(write(writer, outbox.clone(), timing.clone(), runtime.clone()));
        let mut connection = Incoming { reader, received };
        let serving = async {
            if connection.read(&mut session, &outbox, &timing, &runtime).await == End::Subscribes {
                timing.frame_since.set(None);
                outbox.move_away().await;
                let socket = connection.reader.try_clone_socket();
                let received = connection.received.into_filled();
                drop(connection.reader);
                match socket {
                    Ok(socket) => {
                        serve_remotely(
                            &mut session,
                            publisher,
                            &outbox,
                            socket,
                            received,
                            &runtime,
                        )
                        .await;
                    }
                    Err(error) => {
                        tracing::warn!("cannot hand a connection to the feed: {error}");
                        return;
                    }
                }
            }
            // What was taken is still answered.
            while !outbox.has_ended() && (outbox.unanswered() > 0 || !outbox.is_empty()) {
                outbox.changed().changed().await;
            }
        };
        futures_lite::future::or(serving, outbox.ended()).await;
        outbox.end();
    }
}

/// Hands the connection to the feed, and serves what comes back from there.
async fn serve_remotely<D: Disk, R: Runtime>(
    session: &mut Session<D, R>,
    publisher: &Publisher<D, R>,
    outbox: &Rc<Outbox>,
    socket: std::net::TcpStream,
    received: Vec<u8>,
    runtime: &R,
) {
    let (passed_on, frames) = flume::bounded::<Vec<u8>>(FEED_FRAMES_MAX);
    let (sent_back, answers) = flume::bounded(FEED_FRAMES_MAX);
    let partition = session.partition_id();
    let subscriber = Subscriber { socket, received, partition, frames: passed_on, answers };
    let Some(_handed_over) = publisher.hand_over(subscriber) else {
        return outbox.end(); // the client sees the connection close and comes again
    };
    let answered = outbox.clone();
    runtime.spawn(async move {
        while !answered.has_ended() {
            let changed = answered.changed().changed();
            if answered.is_empty() {
                changed.await;
            } else if sent_back.send_async(answered.take(Vec::new())).await.is_err() {
                answered.end();
            }
        }
    });
    while let Ok(bytes) = frames.recv_async().await {
        let Ok(Some(frame)) = frame::peek(&bytes) else { break };
        if session.handle(&frame) == Handled::Close {
            break;
        }
        while outbox.is_full() && !outbox.has_ended() {
            outbox.changed().changed().await;
        }
    }
}

/// Why nothing more is read from a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
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

impl Incoming {
    async fn read<D: Disk, R: Runtime>(
        &mut self,
        session: &mut Session<D, R>,
        outbox: &Outbox,
        timing: &Timing,
        runtime: &R,
    ) -> End {
        let mut patience = Patience::default();
        loop {
            let wanted = match handle_frames(&mut self.received, session, outbox, &mut patience) {
                Ok(Next::Bytes(wanted)) => wanted,
                Ok(Next::Room) => {
                    timing.frame_since.set(None);
                    patience.wait(session.partition(), runtime).await;
                    continue;
                }
                Err(end) => return end,
            };
            if outbox.is_full() {
                timing.frame_since.set(None);
                outbox.changed().changed().await;
                continue;
            }
            timing.frame(!self.received.filled().is_empty(), runtime);
            match self.received.fill(&mut self.reader, wanted).await {
                Ok(0) | Err(_) => return End::Gone, // nobody to tell
                Ok(_) => {}
            }
        }
    }
}

/// What a connection needs to go on.
enum Next {
    /// Bytes of the next frame: so many in all.
    Bytes(usize),
    /// A write is there, and no room for it.
    Room,
}

/// Of the write in front that waits for room.
#[derive(Default)]
struct Patience {
    since: Option<Duration>,
    is_over: bool,
}

impl Patience {
    /// Waits until the partition may have room, or the time is over.
    async fn wait<D: Disk, R: Runtime>(&mut self, partition: &Served<D, R>, runtime: &R) {
        let by = *self.since.get_or_insert_with(|| runtime.elapsed()) + ROOM_WITHIN;
        loop {
            let changed = partition.changed();
            let changed = changed.changed();
            let left = by.saturating_sub(runtime.elapsed());
            if left.is_zero() {
                self.is_over = true;
                return;
            }
            futures_lite::future::or(changed, runtime.sleep(left)).await;
            if !partition.is_busy() {
                return;
            }
        }
    }
}

/// Hands every whole frame to the session. What the connection then needs, or why no further frame is
/// taken.
fn handle_frames<D: Disk, R: Runtime>(
    received: &mut Received,
    session: &mut Session<D, R>,
    outbox: &Outbox,
    patience: &mut Patience,
) -> Result<Next, End> {
    while !outbox.is_full() {
        let filled = received.filled();
        let consumed = match frame::peek(filled) {
            Ok(Some(frame)) => {
                let handled = match session.try_handle(&frame) {
                    Ok(handled) => handled,
                    Err(_) if patience.is_over => session.handle(&frame),
                    Err(_) => return Ok(Next::Room),
                };
                *patience = Patience::default();
                match handled {
                    Handled::Here => frame.frame_bytes(),
                    Handled::Subscribes => return Err(End::Subscribes),
                    Handled::Close => return Err(End::Gone),
                }
            }
            Ok(None) => {
                return Ok(Next::Bytes(frame::peek_bytes(filled).ok().flatten().unwrap_or(0)));
            }
            Err(error) => {
                put_frame_error(outbox, session.partition_id(), &error).ok_or(End::Gone)?
            }
        };
        received.consume(consumed);
    }
    Ok(Next::Bytes(0))
}

/// Answers that a frame is none that this server knows: its length, or that nothing behind it can be
/// understood.
pub fn put_frame_error(
    outbox: &Outbox,
    partition: PartitionId,
    error: &FrameError,
) -> Option<usize> {
    let code = match error {
        FrameError::Version { .. } => ErrorCode::UnsupportedVersion,
        FrameError::Kind { .. } => ErrorCode::UnknownKind,
        FrameError::Length { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    };
    outbox.put_error(FrameHead::reply(partition, error.request()), code, &error.to_string());
    match error {
        FrameError::Kind { frame_bytes, .. } | FrameError::Flags { frame_bytes, .. } => {
            Some(*frame_bytes)
        }
        _ => None,
    }
}

/// Sends what is put into the outbox until it has ended, or the connection moves away.
pub async fn write<R: Runtime>(
    mut writer: WriteHalf<TcpStream>,
    outbox: Rc<Outbox>,
    timing: Rc<Timing>,
    runtime: R,
) {
    let mut spare = Vec::new();
    loop {
        let changed = outbox.changed().changed();
        if outbox.is_moving() {
            drop(writer);
            return outbox.release();
        }
        if outbox.is_empty() {
            if outbox.has_ended() {
                break;
            }
            changed.await;
            continue;
        }
        let mut sending = outbox.take(std::mem::take(&mut spare));
        timing.write_since.set(Some(runtime.elapsed()));
        // A client that never reads would hold the write, and all that it keeps, for ever.
        let cut = async {
            outbox.until_cut().await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let sent = futures_lite::future::or(writer.write_all(&sending), cut).await;
        timing.write_since.set(None);
        if sent.is_err() {
            outbox.end();
            return;
        }
        sending.clear();
        if sending.capacity() <= RECEIVE_BYTES_KEPT {
            spare = sending;
        }
    }
    // The peer may be gone already.
    let _ = writer.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_and_a_write_have_their_time_and_idling_has_no_end() {
        let timing = Timing::default();
        assert_eq!(timing.overdue(FRAME_WITHIN * 100), None, "nothing has begun");
        let begun = Duration::from_secs(7);
        timing.frame_since.set(Some(begun));
        assert_eq!(timing.overdue(begun + FRAME_WITHIN), None);
        assert!(timing.overdue(begun + FRAME_WITHIN + Duration::from_millis(1)).is_some());
        timing.frame_since.set(None);
        timing.write_since.set(Some(begun));
        assert_eq!(timing.overdue(begun + WRITE_WITHIN), None);
        assert!(timing.overdue(begun + WRITE_WITHIN + Duration::from_millis(1)).is_some());
    }
}
