//! Frames on their way into a connection.

use std::cell::{Cell, RefCell};

use futures_lite::future::or;
use futures_lite::{AsyncWrite, AsyncWriteExt};
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::model::PartitionId;

use super::OUT_BYTES_MAX;
use crate::local::Notify;
use crate::peer::{EncodeError, Message, frame};
use crate::received::RECEIVE_BYTES_KEPT;

/// The queue of frames that wait to be sent on a connection, encoded.
pub(super) struct Outgoing {
    partition: PartitionId,
    bytes: RefCell<Vec<u8>>,
    /// The connection has ended or must end. Never unset.
    ended: Cell<bool>,
    /// Whatever is queued is not sent. Invariant: only if `ended`.
    cut: Cell<bool>,
    changed: Notify,
}

impl Outgoing {
    pub(super) fn new(partition: PartitionId) -> Self {
        let (bytes, changed) = (RefCell::default(), Notify::new());
        Self { partition, bytes, ended: Cell::new(false), cut: Cell::new(false), changed }
    }

    /// Queues a frame. After an error nothing was queued.
    pub(super) fn put(&self, request: u64, message: &Message) -> Result<(), EncodeError> {
        let head = FrameHead {
            partition: self.partition,
            request: RequestId(request),
            deadline_millis: 0,
        };
        frame::encode(&mut self.bytes.borrow_mut(), head, message)?;
        self.changed.notify_all();
        Ok(())
    }

    /// Completes when more may be queued, or the connection has ended.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.changed();
            if self.ended.get() || self.bytes.borrow().len() < OUT_BYTES_MAX {
                return;
            }
            changed.await;
        }
    }

    /// Ends the connection after what is queued was sent.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.changed.notify_all();
    }

    /// Ends the connection at once: the peer takes nothing any more.
    pub(super) fn cut(&self) {
        self.cut.set(true);
        self.end();
    }

    async fn was_cut(&self) -> std::io::Result<()> {
        loop {
            let changed = self.changed.changed();
            if self.cut.get() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            changed.await;
        }
    }

    /// The connection has ended, or must end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Completes when the connection has ended, or must end.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.changed.changed();
            if self.ended.get() {
                return;
            }
            changed.await;
        }
    }

    /// Sends what is queued until the connection ends. What was queued before that is still sent.
    pub(super) async fn send_all<W: AsyncWrite + Unpin>(&self, mut writer: W) {
        let mut spare = Vec::new();
        loop {
            let changed = self.changed.changed();
            if self.bytes.borrow().is_empty() {
                if self.ended.get() {
                    break;
                }
                changed.await;
                continue;
            }
            let mut sending = self.bytes.replace(std::mem::take(&mut spare));
            self.changed.notify_all();
            if or(writer.write_all(&sending), self.was_cut()).await.is_err() {
                break; // the peer is gone
            }
            sending.clear();
            if sending.capacity() <= 4 * RECEIVE_BYTES_KEPT {
                spare = sending;
            }
        }
        self.end();
        if !self.cut.get() {
            // The peer may be gone already.
            let _ = writer.close().await;
        }
    }
}
