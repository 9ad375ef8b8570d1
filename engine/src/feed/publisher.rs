//! Tells the feed how far a partition has come, and hands committed entries over while somebody
//! waits for them. Lives on the partition's shard core; never waits for the feed.

use std::cell::Cell;
use std::rc::Rc;

use super::published::{Subscriber, Told, Way};
use crate::limits::FEED_QUEUE_BYTES_MAX;
use crate::local::Notify;
use crate::runtime::Runtime;
use crate::shard::served::Served;
use crate::storage::disk::Disk;

/// See the module.
pub struct Publisher<D: Disk, R: Runtime> {
    partition: Served<D, R>,
    way: Way,
    told: Cell<Told>,
    /// Connections that were handed over and live.
    subscribers: Cell<usize>,
    begun: Notify,
}

impl<D: Disk, R: Runtime> Publisher<D, R> {
    /// Of one partition.
    pub fn new(partition: Served<D, R>, way: Way) -> Self {
        let (told, subscribers, begun) = (Cell::default(), Cell::new(0), Notify::new());
        Self { partition, way, told, subscribers, begun }
    }

    /// Hands a connection over; keep what is returned for as long as it lives. `None` if the feed has
    /// too much to do, or has ended.
    pub fn hand_over(&self, subscriber: Subscriber) -> Option<HandedOver<'_, D, R>> {
        self.publish();
        self.way.subscribers.try_send(subscriber).ok()?;
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
            let (told, written) = (self.partition.changed(), self.partition.log().changed());
            let (told, written) = (told.changed(), written.changed());
            self.publish();
            futures_lite::future::or(told, written).await;
        }
    }

    /// Tells what is new.
    pub fn publish(&self) {
        let Way { published, .. } = &self.way;
        let (told, log) = (self.partition.told_entry(), self.partition.log());
        if told.index > self.told.get().index && told.index <= log.durable_index() {
            self.told.set(told);
            published.tell(told, log.last_segment());
            let wanted = published.is_wanted();
            log.tap().set_open(wanted);
            if wanted {
                self.send();
            }
        }
        if self.partition.stopped().is_some() && published.stop() {
            let _ = self.way.notices.try_send(Vec::new()); // a full queue wakes the feed as well
        }
    }

    fn send(&self) {
        let mut entries = self.partition.log().tap().take_to(self.told.get().index);
        let bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        let published = &self.way.published;
        if !published.take_room(bytes, FEED_QUEUE_BYTES_MAX) {
            entries = Vec::new(); // they are in the segments
        }
        if let Err(error) = self.way.notices.try_send(entries) {
            let lost = error.into_inner();
            published.give_room(lost.iter().map(|entry| entry.bytes.len()).sum());
        }
    }
}

/// A connection that the feed has, until this is dropped.
pub struct HandedOver<'a, D: Disk, R: Runtime>(&'a Publisher<D, R>);

impl<D: Disk, R: Runtime> Drop for HandedOver<'_, D, R> {
    fn drop(&mut self) {
        let Publisher { subscribers, way, partition, .. } = self.0;
        subscribers.set(subscribers.get() - 1);
        if subscribers.get() == 0 {
            way.published.set_wanted(false);
            partition.log().tap().set_open(false);
        }
    }
}
