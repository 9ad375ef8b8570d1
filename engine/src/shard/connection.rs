//! One client connection: bytes in, frames to the session, answers out. Lives on the shard core of
//! the partition that its first frame named.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use futures_lite::io::{ReadHalf, WriteHalf, split};
use glommio::net::TcpStream;
use walengine_net::frame::{self, FrameError, FrameHead};
use walengine_net::message::ErrorCode;
use walengine_net::model::PartitionId;
use walengine_replication::received::{RECEIVE_BYTES_KEPT, Received};

use super::outbox::Outbox;
use super::session::Session;
use crate::limits::{FRAME_WITHIN, WRITE_WITHIN};
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
    pub async fn serve<D: Disk, R: Runtime>(
        self,
        received: Received,
        mut session: Session<D, R>,
        outbox: Rc<Outbox>,
        timing: Rc<Timing>,
        runtime: R,
    ) {
        let (reader, writer) = split(self.0);
        // A task of its own, so that an answer does not also wake what reads.
        runtime.spawn(write(writer, outbox.clone(), timing.clone(), runtime.clone()));
        let reading = async {
            read(reader, received, &mut session, &outbox, &timing, &runtime).await;
            // What was taken is still answered.
            while !outbox.has_ended() && (outbox.unanswered() > 0 || !outbox.is_empty()) {
                outbox.changed().changed().await;
            }
        };
        futures_lite::future::or(reading, outbox.ended()).await;
        outbox.end();
    }
}

async fn read<D: Disk, R: Runtime>(
    mut reader: ReadHalf<TcpStream>,
    mut received: Received,
    session: &mut Session<D, R>,
    outbox: &Outbox,
    timing: &Timing,
    runtime: &R,
) {
    loop {
        let Ok(wanted) = handle_frames(&mut received, session, outbox) else { return };
        if outbox.is_full() {
            timing.frame_since.set(None);
            outbox.changed().changed().await;
            continue;
        }
        let partial = !received.filled().is_empty();
        if !partial {
            timing.frame_since.set(None);
        } else if timing.frame_since.get().is_none() {
            timing.frame_since.set(Some(runtime.elapsed()));
        }
        match received.fill(&mut reader, wanted).await {
            Ok(0) | Err(_) => return, // gone; nobody to tell
            Ok(_) => {}
        }
    }
}

/// Hands every whole frame to the session. How many bytes the frame behind them needs in all, or
/// that the connection must close.
fn handle_frames<D: Disk, R: Runtime>(
    received: &mut Received,
    session: &mut Session<D, R>,
    outbox: &Outbox,
) -> Result<usize, ()> {
    while !outbox.is_full() {
        let filled = received.filled();
        let consumed = match frame::peek(filled) {
            Ok(Some(frame)) => {
                session.handle(&frame).map_err(|_| ())?;
                frame.frame_bytes()
            }
            Ok(None) => return Ok(frame::peek_bytes(filled).ok().flatten().unwrap_or(0)),
            Err(error) => {
                put_frame_error(outbox, session.partition_id(), &error);
                match error {
                    FrameError::Kind { frame_bytes, .. }
                    | FrameError::Flags { frame_bytes, .. } => frame_bytes,
                    _ => return Err(()),
                }
            }
        };
        received.consume(consumed);
    }
    Ok(0)
}

fn put_frame_error(outbox: &Outbox, partition: PartitionId, error: &FrameError) {
    let code = match error {
        FrameError::Version { .. } => ErrorCode::UnsupportedVersion,
        FrameError::Kind { .. } => ErrorCode::UnknownKind,
        FrameError::Length { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    };
    outbox.put_error(FrameHead::reply(partition, error.request()), code, &error.to_string());
}

async fn write<R: Runtime>(
    mut writer: WriteHalf<TcpStream>,
    outbox: Rc<Outbox>,
    timing: Rc<Timing>,
    runtime: R,
) {
    let mut spare = Vec::new();
    loop {
        let changed = outbox.changed().changed();
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
