//! Subscriptions of one connection: the log as it grows, within the credit that the client gives.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use walengine_net::frame::{FrameHead, Kind, RequestId};
use walengine_net::limits::{CREDIT_BYTES_MAX, SUBSCRIPTIONS_MAX};
use walengine_net::message::{ErrorCode, LogPage, UnsubscribeReply};
use walengine_net::model::Offset;

use super::source::{Place, Source};
use crate::connection::errors::{put_no_subscription, put_read_error};
use crate::connection::outbox::Outbox;
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
    /// Below zero if the last page was larger than the credit; the next credit pays for it.
    credit_bytes: Cell<i64>,
    next_offset: Cell<Offset>,
    ended: Cell<bool>,
    changed: Notify,
}

impl Subscriptions {
    /// Starts a subscription. It lives until it is closed, the connection ends, or the log can't be read.
    pub fn open<D: Disk, R: Runtime>(
        &self,
        source: &Rc<Source<D>>,
        runtime: &R,
        outbox: &Rc<Outbox>,
        head: FrameHead,
        from: Offset,
        credit_bytes: u64,
    ) {
        let mut open = self.open.borrow_mut();
        if open.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return outbox.put_error(head, ErrorCode::TooLarge, &message);
        }
        let subscription = Rc::new(Subscription::default());
        subscription.credit_bytes.set(bounded(credit_bytes));
        subscription.next_offset.set(from);
        open.insert(head.request, subscription.clone());
        let (source, outbox, all) = (source.clone(), outbox.clone(), self.open.clone());
        runtime.spawn(async move {
            subscription.feed(&source, &outbox, head).await;
            all.borrow_mut().remove(&head.request);
        });
    }

    /// Lets a subscription send more. An unknown one has ended, and its last frame is on its way.
    pub fn credit(&self, request: RequestId, bytes: u64) {
        if let Some(subscription) = self.open.borrow().get(&request) {
            let credit = subscription.credit_bytes.get() + bounded(bytes);
            subscription.credit_bytes.set(credit.min(bounded(CREDIT_BYTES_MAX)));
            subscription.changed.notify_all();
        }
    }

    /// Ends a subscription and says where to go on.
    pub fn close(&self, outbox: &Outbox, head: FrameHead) {
        let Some(subscription) = self.open.borrow_mut().remove(&head.request) else {
            return put_no_subscription(outbox, head);
        };
        subscription.end();
        let reply = UnsubscribeReply { next_offset: subscription.next_offset.get().0 };
        outbox.put(Kind::UnsubscribeReply, head, &reply);
    }

    /// Ends one, and says whether it lived; what its client is told comes from elsewhere.
    pub fn end(&self, request: RequestId) -> bool {
        let ended = self.open.borrow_mut().remove(&request);
        if let Some(subscription) = &ended {
            subscription.end();
        }
        ended.is_some()
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

    /// Completes when nothing more is to be sent.
    async fn until_over(&self, outbox: &Outbox) {
        loop {
            let changed = self.changed.changed();
            if self.ended.get() || outbox.has_ended() {
                return;
            }
            futures_lite::future::or(changed, outbox.ended()).await;
        }
    }

    async fn feed<D: Disk>(&self, source: &Source<D>, outbox: &Rc<Outbox>, head: FrameHead) {
        let mut place = Place { offset: self.next_offset.get(), index: None, cursor: None };
        while !self.ended.get() && !outbox.has_ended() {
            let (changed, room) = (self.changed.changed(), outbox.changed().changed());
            let may_send = self.credit_bytes.get() > 0 && !outbox.is_full();
            if may_send && place.offset >= source.visible_offset() {
                if source.is_stopped() {
                    outbox.put_error(head, ErrorCode::Stopped, "the partition has stopped");
                    return;
                }
                // The outbox knows whether the connection has ended.
                let ended = futures_lite::future::or(changed, outbox.ended());
                futures_lite::future::or(source.grown(place.offset), ended).await;
                continue;
            }
            if !may_send {
                futures_lite::future::or(changed, room).await;
                continue;
            }
            let bytes_max = self.credit_bytes.get().unsigned_abs().min(FEED_PAGE_BYTES) as usize;
            let room = async { Some(outbox.budget().take(bytes_max).await) };
            let over = async {
                self.until_over(outbox).await;
                None
            };
            // Held until the page is in the outbox, which counts it from then on.
            let Some(mut held) = futures_lite::future::or(room, over).await else { return };
            let entries = match source.page(&mut place, bytes_max).await {
                Ok(entries) => entries,
                Err(error) => return put_read_error(outbox, head, &error),
            };
            if self.ended.get() {
                return;
            }
            held.set(entries.capacity());
            if entries.is_empty() {
                let message = "the log ends before what was committed";
                return outbox.put_error(head, ErrorCode::Internal, message);
            }
            self.credit_bytes.set(self.credit_bytes.get() - bounded(entries.len() as u64));
            self.next_offset.set(place.offset);
            let frame = LogPage {
                next_offset: place.offset.0,
                durable_offset: source.visible_offset().0,
                entries: &entries,
            };
            outbox.put(Kind::Feed, head, &frame);
        }
    }
}

/// Credit as a number that can go below zero.
fn bounded(bytes: u64) -> i64 {
    i64::try_from(bytes.min(CREDIT_BYTES_MAX)).unwrap_or(i64::MAX / 2)
}
