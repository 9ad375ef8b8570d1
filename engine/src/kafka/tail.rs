//! Waits for the end of partitions to move, for all requests that wait.
//!
//! A connection to a shard takes few subscriptions, and many consumers may wait for the same partition. So there is one
//! for each partition and identity, as long as somebody waits. It only wakes: what is shown is read by each request with
//! the rights of its own caller.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use walengine_net::client::tokio::Client;
use walengine_net::identity::Identity;
use walengine_net::model::{Offset, PartitionId};

/// Whose tail, and of what.
type Key = (Option<Arc<Identity>>, PartitionId);

/// See the module.
#[derive(Default)]
pub struct Tails(Mutex<Vec<(Key, Weak<Tail>)>>);

/// One subscription; ends with the last request that waits for it.
struct Tail {
    /// Everything below is committed. Closed if the subscription has failed.
    end: watch::Receiver<Offset>,
    task: AbortHandle,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tails {
    /// Waits until there is a record at or behind one of `ends`, at most for `wait`. Also ends if a subscription fails.
    pub async fn wait(
        &self,
        client: &Client,
        identity: Option<&Arc<Identity>>,
        ends: &[(PartitionId, Offset)],
        wait: Duration,
    ) {
        let moved = ends.iter().map(|&(partition, end)| {
            let tail = self.of(client, (identity.cloned(), partition), end);
            Box::pin(async move {
                let mut seen = tail.end.clone();
                // An error says that the subscription has ended: the reader finds out why.
                let _ = seen.wait_for(|&known| known > end).await;
            })
        });
        let moved: Vec<_> = moved.collect();
        if moved.is_empty() {
            return tokio::time::sleep(wait).await;
        }
        let _ = timeout(wait, select_all(moved)).await;
    }

    fn of(&self, client: &Client, key: Key, end: Offset) -> Arc<Tail> {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tails.retain(|(_, tail)| tail.strong_count() > 0);
        let known = tails.iter().find(|(known, _)| *known == key);
        let known = known.and_then(|(_, tail)| tail.upgrade());
        // One that has failed is begun anew.
        if let Some(tail) = known.filter(|tail| tail.end.has_changed().is_ok()) {
            return tail;
        }
        tails.retain(|(known, _)| *known != key);
        let (moves, seen) = watch::channel(end);
        let mut subscription = client.subscribe(key.1, end);
        let task = tokio::spawn(async move {
            while let Ok(page) = subscription.next().await {
                moves.send_replace(page.next_offset);
            }
        });
        let tail = Arc::new(Tail { end: seen, task: task.abort_handle() });
        tails.push((key, Arc::downgrade(&tail)));
        tail
    }
}
