//! Places for connections. Who has one and asks nothing gives it up once somebody else has waited for one: otherwise a pool of idle
//! connections would keep whatever watches a node from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::limits::{ACCEPT_RETRY_AFTER, PLACE_WITHIN};

/// Why connections are asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    ForOthers,
    ForGood,
}

/// See the module.
#[derive(Debug)]
pub struct Places {
    count: u32,
    free: Arc<Semaphore>,
    leave: watch::Sender<Leave>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    leaves: watch::Receiver<Leave>,
    _taken: OwnedSemaphorePermit,
}

impl Places {
    /// So many.
    pub fn new(count: u32) -> Self {
        let free = Arc::new(Semaphore::new(count as usize));
        Self { count, free, leave: watch::Sender::new(Leave::ForOthers) }
    }

    /// The next connection, once there is a place for it; the others wait behind it, in the system's queue. `whose` it is says the log
    /// where none can be accepted, which is tried again.
    pub async fn accept(&self, listener: &TcpListener, whose: &str) -> (TcpStream, Place) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true); // slower, and right
                    return (stream, self.take().await);
                }
                Err(error) => {
                    // Out of descriptors, most likely: others may close meanwhile.
                    tracing::warn!(
                        "{whose} cannot accept connections, which is tried again: {error}"
                    );
                    sleep(ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }

    /// One, as soon as there is one. Those that ask nothing are asked to leave, again and again, until there is.
    async fn take(&self) -> Place {
        loop {
            match timeout(PLACE_WITHIN, self.free.clone().acquire_owned()).await {
                Ok(taken) => {
                    let taken = taken.expect("nobody closes the semaphore");
                    return Place { leaves: self.leave.subscribe(), _taken: taken };
                }
                Err(_) => drop(self.leave.send_replace(Leave::ForOthers)),
            }
        }
    }

    /// Asks everybody to leave, and waits until they have, at most for `wait`.
    pub async fn close(&self, wait: Duration) {
        self.leave.send_replace(Leave::ForGood);
        let _ = timeout(wait, self.free.acquire_many(self.count)).await;
    }
}

impl Place {
    /// From now on it could ask: whoever was asked to leave before for others did not mean this one.
    pub fn begins(&mut self) {
        if *self.leaves.borrow() == Leave::ForOthers {
            self.leaves.mark_unchanged();
        }
    }

    /// Waits until it is asked to leave if it asks nothing.
    pub async fn is_wanted(&mut self) {
        if self.leaves.changed().await.is_err() {
            std::future::pending::<()>().await; // the places are gone, and so will this connection be
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_has_the_others_asked_and_nobody_is_asked_without_that() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let places = Places::new(1);
            let mut first = places.take().await;
            let asked = timeout(2 * PLACE_WITHIN, first.is_wanted()).await;
            assert!(asked.is_err(), "nobody waits");
            let leaves = async {
                first.is_wanted().await;
                drop(first);
            };
            let (mut second, ()) = tokio::join!(places.take(), leaves);
            // What the first was asked is not asked of its successor.
            assert!(timeout(PLACE_WITHIN / 2, second.is_wanted()).await.is_err());
            places.leave.send_replace(Leave::ForOthers);
            second.begins();
            assert!(timeout(PLACE_WITHIN / 2, second.is_wanted()).await.is_err());
            places.close(Duration::ZERO).await;
            second.begins();
            second.is_wanted().await;
        });
    }
}
