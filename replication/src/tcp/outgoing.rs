//! Frames on their way into a connection.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncWrite, AsyncWriteExt};
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::model::PartitionId;

use super::{OUT_BYTES_MAX, OUT_STEP_BYTES};
use crate::budget::{Budget, Held};
use crate::executor::Runtime;
use crate::local::Notify;
use crate::peer::{EncodeError, Message, frame};
use crate::received::RECEIVE_BYTES_KEPT;

/// The queue of frames that wait to be sent on a connection, encoded.
pub(super) struct Outgoing {
    partition: PartitionId,
    bytes: RefCell<Vec<u8>>,
    /// Memory of what is being sent.
    sending_bytes: Cell<usize>,
    /// Since when it has been sent without the peer taking a step of it.
    stuck_since: Cell<Option<Duration>>,
    /// Invariant: the memory of `bytes`, and `sending_bytes`.
    held: RefCell<Held>,
    /// The connection has ended or must end. Never unset.
    ended: Cell<bool>,
    /// Whatever is queued is not sent. Invariant: only if `ended`.
    cut: Cell<bool>,
    /// Nothing more is sent, and the sending side is closed. Never unset.
    shut: Cell<bool>,
    changed: Notify,
}

impl Outgoing {
    /// Of a connection on the partition. What it holds counts against the budget.
    pub(super) fn new(partition: PartitionId, budget: &Budget) -> Self {
        Self {
            partition,
            bytes: RefCell::default(),
            sending_bytes: Cell::new(0),
            stuck_since: Cell::new(None),
            held: RefCell::new(budget.hold()),
            ended: Cell::new(false),
            cut: Cell::new(false),
            shut: Cell::new(false),
            changed: Notify::new(),
        }
    }

    fn count(&self) {
        let bytes = self.bytes.borrow().capacity() + self.sending_bytes.get();
        self.held.borrow_mut().set(bytes);
    }

    /// The peer has taken nothing since then.
    pub(super) fn stuck_since(&self) -> Option<Duration> {
        self.stuck_since.get()
    }

    /// It holds memory that others may wait for.
    pub(super) fn holds_much(&self) -> bool {
        self.held.borrow().bytes() > RECEIVE_BYTES_KEPT
    }

    /// Queues a frame. After an error nothing was queued.
    pub(super) fn put(&self, request: u64, message: &Message) -> Result<(), EncodeError> {
        let head = FrameHead {
            partition: self.partition,
            request: RequestId(request),
            deadline_millis: 0,
        };
        frame::encode(&mut self.bytes.borrow_mut(), head, message)?;
        self.count();
        self.changed.notify_all();
        Ok(())
    }

    /// Completes when more may be queued, or the connection has ended.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.changed();
            let waits = self.bytes.borrow().len() + self.sending_bytes.get();
            if self.ended.get() || waits < OUT_BYTES_MAX {
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

    /// What was queued when it ended is not sent.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    async fn was_cut(&self) -> std::io::Result<()> {
        self.until(&self.cut).await;
        Err(std::io::ErrorKind::TimedOut.into())
    }

    /// The connection has ended, or must end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Completes when everything was sent that will be, and the sending side is closed.
    pub(super) async fn shut(&self) {
        self.until(&self.shut).await;
    }

    /// Completes when the connection has ended, or must end.
    pub(super) async fn ended(&self) {
        self.until(&self.ended).await;
    }

    async fn until(&self, is_so: &Cell<bool>) {
        loop {
            let changed = self.changed.changed();
            if is_so.get() {
                return;
            }
            changed.await;
        }
    }

    /// Sends what is queued until the connection ends. What was queued before that is still sent.
    pub(super) async fn send_all<W: AsyncWrite + Unpin>(
        &self,
        mut writer: W,
        runtime: &impl Runtime,
    ) {
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
            self.sending_bytes.set(sending.capacity());
            self.count();
            self.changed.notify_all();
            let sends = async {
                for step in sending.chunks(OUT_STEP_BYTES) {
                    self.stuck_since.set(Some(runtime.elapsed()));
                    writer.write_all(step).await?;
                }
                writer.flush().await
            };
            if or(sends, self.was_cut()).await.is_err() {
                break; // the peer is gone
            }
            self.stuck_since.set(None);
            sending.clear();
            if sending.capacity() <= 4 * RECEIVE_BYTES_KEPT {
                spare = sending;
            }
            self.sending_bytes.set(spare.capacity());
            self.count();
            self.changed.notify_all();
        }
        self.end();
        drop(self.bytes.take());
        self.sending_bytes.set(0);
        self.count();
        if !self.cut.get() {
            // The peer may be gone already.
            let _ = writer.close().await;
        }
        self.shut.set(true);
        self.changed.notify_all();
    }
}
