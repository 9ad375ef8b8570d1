//! Subscriptions of one connection: the log as it grows, within the credit that the client gives.
//!
//! Entries come from the log, which keeps the newest in memory; a slow reader is served from
//! segments and holds up nobody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use walengine_net::frame::{FrameHead, Kind, RequestId};
use walengine_net::limits::{CREDIT_BYTES_MAX, SUBSCRIPTIONS_MAX};
use walengine_net::message::{ErrorCode, LogPage, UnsubscribeReply};
use walengine_net::model::Offset;

use super::outbox::Outbox;
use super::reads::{put_read_error, read_page};
use super::served::Served;
use crate::limits::FEED_PAGE_BYTES;
use crate::local::Notify;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// The subscriptions of one connection.
#[derive(Default)]
pub struct Subscriptions {
    open: Rc<RefCell<HashMap<RequestId, Rc<Subscription>>>>,
}

#[derive(Default)]
struct Subscription {
    /// Below zero by what the last page was larger than the credit: the next credit pays for it.
    credit_bytes: Cell<i64>,
    next_offset: Cell<Offset>,
    ended: Cell<bool>,
    changed: Notify,
}

impl Subscriptions {
    /// Starts one; it lives until it is closed, the connection ends, or the log can't be read.
    pub fn open<D: Disk, R: Runtime>(
        &self,
        partition: &Served<D, R>,
        outbox: &Rc<Outbox>,
        head: FrameHead,
        from: Offset,
        credit_bytes: u64,
    ) {
        let mut open = self.open.borrow_mut();
        if open.len() >= SUBSCRIPTIONS_MAX || open.contains_key(&head.request) {
            let message = "too many subscriptions on one connection, or a request id used twice";
            return outbox.put_error(head, ErrorCode::TooLarge, message);
        }
        let subscription = Rc::new(Subscription::default());
        subscription.credit_bytes.set(bounded(credit_bytes));
        subscription.next_offset.set(from);
        open.insert(head.request, subscription.clone());
        let (partition, outbox, all) = (partition.clone(), outbox.clone(), self.open.clone());
        partition.runtime().clone().spawn(async move {
            subscription.feed(&partition, &outbox, head).await;
            all.borrow_mut().remove(&head.request);
        });
    }

    /// Lets one send more. One that is not there has ended; its last frame is on its way.
    pub fn credit(&self, request: RequestId, bytes: u64) {
        if let Some(subscription) = self.open.borrow().get(&request) {
            let credit = subscription.credit_bytes.get() + bounded(bytes);
            subscription.credit_bytes.set(credit.min(bounded(CREDIT_BYTES_MAX)));
            subscription.changed.notify_all();
        }
    }

    /// Ends one and says where to go on.
    pub fn close(&self, outbox: &Outbox, head: FrameHead) {
        let Some(subscription) = self.open.borrow_mut().remove(&head.request) else {
            let message = "no such subscription on this connection";
            return outbox.put_error(head, ErrorCode::Malformed, message);
        };
        subscription.end();
        let reply = UnsubscribeReply { next_offset: subscription.next_offset.get().0 };
        outbox.put(Kind::UnsubscribeReply, head, &reply);
    }

    /// Ends all of them: the connection is gone.
    pub fn close_all(&self) {
        for (_, subscription) in self.open.borrow_mut().drain() {
            subscription.end();
        }
    }
}

impl Subscription {
    fn end(&self) {
        self.ended.set(true);
        self.changed.notify_all();
    }

    async fn feed<D: Disk, R: Runtime>(
        &self,
        partition: &Served<D, R>,
        outbox: &Rc<Outbox>,
        head: FrameHead,
    ) {
        while !self.ended.get() && !outbox.has_ended() {
            let (credit, room) = (self.changed.changed(), outbox.changed().changed());
            let durable = partition.changed().changed();
            let from = self.next_offset.get();
            let behind = from < partition.told_offset();
            if self.credit_bytes.get() <= 0 || outbox.is_full() || !behind {
                if partition.stopped().is_some() && !behind {
                    outbox.put_error(head, ErrorCode::Stopped, "the partition has stopped");
                    return;
                }
                futures_lite::future::or(futures_lite::future::or(credit, room), durable).await;
                continue;
            }
            let bytes_max = self.credit_bytes.get().unsigned_abs().min(FEED_PAGE_BYTES) as usize;
            let page = match read_page(partition, from, bytes_max).await {
                Ok(page) => page,
                Err(error) => return put_read_error(outbox, head, &error),
            };
            if self.ended.get() || page.entries.is_empty() {
                continue;
            }
            let bytes = bounded(page.entries.len() as u64);
            self.credit_bytes.set(self.credit_bytes.get() - bytes);
            self.next_offset.set(page.next_offset);
            let frame = LogPage {
                next_offset: page.next_offset.0,
                durable_offset: partition.told_offset().0,
                entries: &page.entries,
            };
            outbox.put(Kind::Feed, head, &frame);
        }
    }
}

/// Credit as a number that can go below zero.
fn bounded(bytes: u64) -> i64 {
    i64::try_from(bytes.min(CREDIT_BYTES_MAX)).unwrap_or(i64::MAX / 2)
}
