//! Tells the feed how far a partition has come, and hands committed entries over while somebody
//! waits for them. Lives on the partition's shard core; never waits for the feed.

use std::cell::Cell;
use std::rc::Rc;

use crate::feed::published::{FeedChannels, Passing, Subscriber};
use crate::local::Notify;
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::visible::Visible;

/// See the module.
pub struct Publisher<C: Commit> {
    partition: Partition<C>,
    channels: FeedChannels,
    /// What the feed was told last.
    told: Cell<Visible>,
    /// Connections that were handed over and live.
    subscribers: Cell<usize>,
    begun: Notify,
}

impl<C: Commit> Publisher<C> {
    /// Of one partition.
    pub fn new(partition: Partition<C>, channels: FeedChannels) -> Self {
        let (told, subscribers, begun) = (Cell::default(), Cell::new(0), Notify::new());
        Self { partition, channels, told, subscribers, begun }
    }

    /// What is on its way between connections on the feed and their sessions.
    pub fn passing(&self) -> Passing {
        self.channels.passing.clone()
    }

    /// Hands a connection over; keep what is returned for as long as it lives. `None` if the feed has
    /// too much to do, or has ended.
    pub fn hand_over(&self, subscriber: Subscriber) -> Option<HandedOver<'_, C>> {
        self.publish();
        self.channels.subscribers.try_send(subscriber).ok()?;
        self.subscribers.set(self.subscribers.get() + 1);
        self.begun.notify_all();
        Some(HandedOver(self))
    }

    /// Publishes for as long as the partition lives.
    pub async fn run(self: Rc<Self>) {
        loop {
            let begun = self.begun.changed();
            if self.subscribers.get() == 0 {
                begun.await;
                continue;
            }
            let (changed, written) = (self.partition.changed(), self.partition.log().changed());
            let (changed, written) = (changed.changed(), written.changed());
            self.publish();
            futures_lite::future::or(changed, written).await;
        }
    }

    /// Tells what is new.
    pub fn publish(&self) {
        let FeedChannels { published, .. } = &self.channels;
        let (visible, log) = (self.partition.visible(), self.partition.log());
        if visible.index > self.told.get().index && visible.index <= log.durable_index() {
            self.told.set(visible);
            published.tell(visible, log.last_segment());
            let wanted = published.is_wanted();
            log.tap().set_open(wanted);
            if wanted {
                self.send();
            }
        }
        if self.partition.stopped().is_some() && published.stop() {
            let _ = self.channels.notices.try_send(Vec::new()); // a full queue wakes the feed as well
        }
    }

    fn send(&self) {
        let mut entries = self.partition.log().tap().take_to(self.told.get().index);
        let bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        let published = &self.channels.published;
        if !published.take_room(bytes) {
            entries = Vec::new(); // they are in the segments
        }
        if let Err(error) = self.channels.notices.try_send(entries) {
            let lost = error.into_inner();
            published.give_room(lost.iter().map(|entry| entry.bytes.len()).sum());
        }
    }
}

/// A connection that the feed has, until this is dropped.
pub struct HandedOver<'a, C: Commit>(&'a Publisher<C>);

impl<C: Commit> Drop for HandedOver<'_, C> {
    fn drop(&mut self) {
        let Publisher { subscribers, channels, partition, .. } = self.0;
        subscribers.set(subscribers.get() - 1);
        if subscribers.get() == 0 {
            channels.published.set_wanted(false);
            partition.log().tap().set_open(false);
        }
    }
}
