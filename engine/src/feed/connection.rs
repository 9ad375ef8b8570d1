//! One connection on the feed: subscriptions are served here, everything else goes on to the session
//! on the partition's shard, and its answers come back this way.

use std::rc::Rc;

use futures_lite::io::{ReadHalf, split};
use glommio::net::TcpStream;
use walengine_net::frame::{self, Frame, FrameHead, Kind};
use walengine_net::message::{Credit, MessageError, Subscribe, Unsubscribe, open_frame};
use walengine_net::model::{Offset, PartitionId};
use walengine_replication::received::Received;

use super::published::Subscriber;
use super::source::Source;
use super::subscriptions::Subscriptions;
use crate::connection::errors::{put_frame_error, put_message_error};
use crate::connection::outbox::Outbox;
use crate::connection::timing::Timing;
use crate::connection::writer;
use crate::os;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// See the module.
pub struct Connection<D: Disk, R: Runtime> {
    partition: PartitionId,
    source: Rc<Source<D>>,
    subscriptions: Subscriptions,
    outbox: Rc<Outbox>,
    runtime: R,
}

impl<D: Disk, R: Runtime> Connection<D, R> {
    /// A connection of a partition, without subscriptions, whose answers go into `outbox`.
    pub fn new(
        partition: PartitionId,
        source: Rc<Source<D>>,
        outbox: Rc<Outbox>,
        runtime: R,
    ) -> Self {
        Self { partition, source, subscriptions: Subscriptions::default(), outbox, runtime }
    }

    /// Serves until the client goes, breaks the protocol, or the session ends.
    pub async fn serve(
        subscriber: Subscriber,
        source: Rc<Source<D>>,
        outbox: Rc<Outbox>,
        timing: Rc<Timing>,
        runtime: R,
    ) {
        let Subscriber { socket, received, partition, frames, answers } = subscriber;
        let (reader, writer) = split(os::glommio_stream(socket));
        runtime.spawn(writer::write(writer, outbox.clone(), timing.clone(), runtime.clone()));
        let this = Self::new(partition, source, outbox.clone(), runtime);
        let reading = async {
            this.read(reader, Received::from_bytes(received), &timing, frames).await;
            this.subscriptions.close_all();
            std::future::pending::<()>().await; // what the session has taken is still answered
        };
        let answering = async {
            while let Ok(answer) = answers.recv_async().await {
                outbox.put_frame(&answer);
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
    }

    async fn read(
        &self,
        mut reader: ReadHalf<TcpStream>,
        mut received: Received,
        timing: &Timing,
        frames: flume::Sender<Vec<u8>>,
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
                    (bytes, (!is_own).then(|| filled[..bytes].to_vec()))
                }
                Ok(None) => (0, None),
                Err(error) => match put_frame_error(&self.outbox, self.partition, &error) {
                    Some(bytes) => (bytes, None),
                    None => return,
                },
            };
            if let Some(frame) = passed_on
                && frames.send_async(frame).await.is_err()
            {
                return; // the session has ended
            }
            if consumed > 0 {
                received.consume(consumed);
                continue;
            }
            timing.frame(!filled.is_empty(), &self.runtime);
            let wanted = frame::peek_bytes(filled).ok().flatten().unwrap_or(0);
            match received.fill(&mut reader, wanted).await {
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
        let result = match frame.kind {
            Kind::Subscribe => self.subscribe(frame, head),
            Kind::Credit => open_frame::<Credit>(frame).map(|credit| {
                self.subscriptions.credit(head.request, credit.bytes.to_native());
            }),
            Kind::Unsubscribe => open_frame::<Unsubscribe>(frame)
                .map(|_| self.subscriptions.close(&self.outbox, head)),
            _ => return false,
        };
        if let Err(error) = result {
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
