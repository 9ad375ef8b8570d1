//! Room for the bodies of requests, so that all of them together have a bound.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};

const KIB: usize = 1 << 10;

/// Room for all bodies that are being read or acted on.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// For so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / KIB)))
    }

    /// Takes so much more, at once or not at all: bodies of which half is there must not wait for each other.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn take(&self, bytes: usize) -> Result<Taken, Problem> {
        let taken = self.0.clone().try_acquire_many_owned(bytes.div_ceil(KIB) as u32);
        taken
            .map_err(|_| Problem::new(Kind::TooMany, "other requests take all the room for bodies"))
    }
}

/// What a body takes of the room, given back when it is dropped.
pub type Taken = OwnedSemaphorePermit;
