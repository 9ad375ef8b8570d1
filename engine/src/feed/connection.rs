//! One connection on the feed: subscriptions are served here, everything else goes on to the session
//! on the partition's shard, and its answers come back this way.

use std::cell::RefCell;
use std::rc::Rc;

use walengine_net::frame::{self, Frame, FrameHead, Kind};
use walengine_net::message::{Credit, MessageError, Subscribe, Unsubscribe, open_frame};
use walengine_net::model::{Offset, PartitionId};
use walengine_replication::received::{RECEIVE_BYTES_MIN, Received};
use walengine_replication::tcp::socket::SocketReader;
use walengine_replication::turned_away::Reason;

use super::published::{Passed, Passing, Subscriber};
use super::source::Source;
use super::subscriptions::Subscriptions;
use crate::connection::errors::{
    put_bad_request_id, put_forbidden, put_frame_error, put_message_error,
};
use crate::connection::outbox::Outbox;
use crate::connection::request_ids::RequestIds;
use crate::connection::timing::Timing;
use crate::connection::writer;
use crate::policy::Permit;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// See the module.
pub struct Connection<D: Disk, R: Runtime> {
    partition: PartitionId,
    source: Rc<Source<D>>,
    subscriptions: Subscriptions,
    outbox: Rc<Outbox>,
    ids: RefCell<RequestIds>,
    permit: Permit,
    runtime: R,
}

impl<D: Disk, R: Runtime> Connection<D, R> {
    /// A connection of a partition, without subscriptions, whose answers go into `outbox`.
    pub fn new(
        partition: PartitionId,
        source: Rc<Source<D>>,
        outbox: Rc<Outbox>,
        ids: RequestIds,
        permit: Permit,
        runtime: R,
    ) -> Self {
        let (subscriptions, ids) = (Subscriptions::default(), RefCell::new(ids));
        Self { partition, source, subscriptions, outbox, ids, permit, runtime }
    }

    /// Serves until the client goes, breaks the protocol, or the session ends.
    pub async fn serve(
        subscriber: Subscriber,
        source: Rc<Source<D>>,
        passing: Passing,
        outbox: Rc<Outbox>,
        timing: Rc<Timing>,
        runtime: R,
    ) {
        let Subscriber { socket, received, partition, ids, permit, frames, answers } = subscriber;
        let (mut reader, writer) = socket.arrive().split();
        runtime.spawn(writer::write(writer, outbox.clone(), timing.clone(), runtime.clone()));
        let this = Self::new(partition, source, outbox.clone(), ids, permit, runtime);
        let reading = async {
            let received = Received::from_bytes(received, outbox.budget());
            this.read(&mut reader, received, &timing, frames, &passing).await;
            timing.frame(false, false, &this.runtime); // no more of it is waited for
            this.subscriptions.close_all();
            std::future::pending::<()>().await; // what the session has taken is still answered
        };
        let answering = async {
            while let Ok(answer) = answers.recv_async().await {
                outbox.put_frame(&answer.bytes);
                drop(answer);
                while outbox.is_full() && !outbox.has_ended() {
                    outbox.changed().changed().await;
                }
            }
            // The session has ended: what is there is still sent.
            while !outbox.has_ended() && !outbox.is_empty() {
                outbox.changed().changed().await;
            }
        };
        let working = futures_lite::future::or(reading, answering);
        futures_lite::future::or(working, outbox.ended()).await;
        this.subscriptions.close_all();
        outbox.end();
        writer::read_out(&mut reader, &outbox, &this.runtime).await;
    }

    async fn read(
        &self,
        reader: &mut SocketReader,
        mut received: Received,
        timing: &Timing,
        frames: flume::Sender<Passed>,
        passing: &Passing,
    ) {
        loop {
            while self.outbox.is_full() {
                timing.frame_since.set(None);
                self.outbox.changed().changed().await;
            }
            let filled = received.filled();
            let (consumed, passed_on) = match frame::peek(filled) {
                Ok(Some(frame)) => {
                    let bytes = frame.frame_bytes();
                    let is_own = self.handle(&frame);
                    // The session takes note of the id of a subscription, so that nothing else has it later.
                    let is_passed_on = !is_own || frame.kind == Kind::Subscribe;
                    (bytes, is_passed_on.then(|| filled[..bytes].to_vec()))
                }
                Ok(None) => (0, None),
                Err(error) => match put_frame_error(&self.outbox, self.partition, &error) {
                    Some(bytes) => (bytes, None),
                    None => return timing.turned_away(Reason::Malformed, &error),
                },
            };
            if let Some(frame) = passed_on
                && frames.send_async(passing.pass(frame, &self.runtime).await).await.is_err()
            {
                return; // the session has ended
            }
            if consumed > 0 {
                received.consume(consumed);
                continue;
            }
            let wanted = frame::peek_bytes(filled).ok().flatten().unwrap_or(0);
            if wanted > RECEIVE_BYTES_MIN {
                timing.waits(received.room(wanted), &self.runtime).await;
            }
            timing.frame(!received.filled().is_empty(), received.holds_much(), &self.runtime);
            match received.read(reader).await {
                Ok(0) | Err(_) => return, // gone; nobody to tell
                Ok(_) => {}
            }
        }
    }

    /// Acts on a frame whose checksum has been verified, if it is of a subscription.
    pub fn handle(&self, frame: &Frame<'_>) -> bool {
        let head = FrameHead::reply(self.partition, frame.head.request);
        if frame.head.partition != self.partition {
            return false;
        }
        let is_own = matches!(frame.kind, Kind::Subscribe | Kind::Credit | Kind::Unsubscribe);
        if is_own && let Err(forbidden) = self.permit.check(frame.kind) {
            if frame.kind == Kind::Subscribe {
                let _ = self.ids.borrow_mut().take(head.request);
            }
            self.subscriptions.end(head.request);
            put_forbidden(&self.outbox, head, &forbidden);
            return true;
        }
        let result = match frame.kind {
            Kind::Subscribe if !self.ids.borrow_mut().take(head.request) => {
                self.subscriptions.end(head.request);
                put_bad_request_id(&self.outbox, head);
                return true;
            }
            Kind::Subscribe => self.subscribe(frame, head),
            Kind::Credit => open_frame::<Credit>(frame).map(|credit| {
                self.subscriptions.credit(head.request, credit.bytes.to_native());
            }),
            Kind::Unsubscribe => open_frame::<Unsubscribe>(frame)
                .map(|_| self.subscriptions.close(&self.outbox, head)),
            // An error is the last frame with its id, so that the subscription is over, too.
            _ if self.subscriptions.end(head.request) => {
                put_bad_request_id(&self.outbox, head);
                return true;
            }
            _ => {
                // The session judges it; no subscription may take the same id later.
                let _ = self.ids.borrow_mut().take(head.request);
                return false;
            }
        };
        if let Err(error) = result {
            // An error is the last frame with its id.
            self.subscriptions.end(head.request);
            put_message_error(&self.outbox, head, &error);
        }
        true
    }

    fn subscribe(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        let request = open_frame::<Subscribe>(frame)?;
        let (from, credit) = (request.from.to_native(), request.credit_bytes.to_native());
        let (source, runtime, outbox) = (&self.source, &self.runtime, &self.outbox);
        self.subscriptions.open(source, runtime, outbox, head, Offset(from), credit);
        Ok(())
    }
}
