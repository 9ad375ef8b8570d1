//! The preparer: creates the next segments and writes zeros ahead of the entries, so that a commit
//! changes no file metadata. Runs in the background, one piece at a time.
//!
//! Zeros and entries never meet, since a write that would meet zeros waits for them:
//!
//! ```text
//! preparer     look: `from` >= write_position -> mark `zeroing` -> write zeros -> durable -> unmark
//!              \______ one step, no await ______/
//! flush        seal: takes blocks from write_position on -> meets `zeroing`? wait -> write
//!              \_ moves write_position: no new zeros there _/
//! ```
//! A segment has its name once it is allocated, zeroed as far as it is going to be, and synced.

use std::rc::Rc;

use super::config::ZERO_PAUSE;
use super::disk::{Disk, DiskFile};
use super::segment::{self, CreateError, Zeroing};
use super::state::{Inner, State};
use crate::runtime::Runtime;

enum Job<D: Disk> {
    Create(u64),
    Zero(Rc<D::File>, u64),
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Starts the preparer if it rests and has something to do.
    pub fn prepare(self: &Rc<Self>) {
        if self.state.borrow().preparing {
            return;
        }
        if let Some(job) = self.next_job() {
            let inner = self.clone();
            self.runtime.spawn(async move { inner.prepare_all(job).await });
        }
    }

    async fn prepare_all(self: Rc<Self>, mut job: Job<D>) {
        loop {
            match job {
                Job::Create(sequence) => self.create_segment(sequence).await,
                Job::Zero(file, from) => self.write_zeros(&file, from).await,
            }
            let next = self.next_job();
            self.changed.notify_all();
            match next {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Chooses what is to do next, and marks it as being done.
    fn next_job(&self) -> Option<Job<D>> {
        let mut state = self.state.borrow_mut();
        let job = if state.stopped.is_some() || state.truncating || state.closing {
            None
        } else if state.prepared.len() < self.config.prepared_segments && !state.no_room {
            Some(Job::Create(state.last_sequence() + 1))
        } else {
            self.next_zeros(&mut state)
        };
        state.preparing = job.is_some();
        job
    }

    fn next_zeros(&self, state: &mut State<D>) -> Option<Job<D>> {
        let chunk = self.config.zero_chunk_bytes as u64;
        let segment = state.segments.last()?;
        let (sequence, file) = (segment.sequence, segment.file.clone()?);
        // Behind all that is handed to a flush, and behind what is staged: a flush seldom has to
        // wait then.
        let staged = state.staged.as_ref().map_or(0, |staged| staged.used as u64);
        let written = (state.write_position + staged).next_multiple_of(chunk);
        let from = state.zeroed.max(written);
        let small = state.flush_bytes_recent <= self.config.zero_ahead_flush_bytes_max;
        let near = from < state.write_position + self.config.zero_ahead_bytes;
        if !small || !near || from + chunk > self.config.segment_bytes {
            return None;
        }
        assert!(from >= state.write_position, "zeros over what was handed to a flush");
        state.zeroing = Some((sequence, from, from + chunk));
        Some(Job::Zero(file, from))
    }

    async fn write_zeros(&self, file: &D::File, from: u64) {
        let result = file.write_durable(self.zeros.clone(), from).await;
        match result {
            Ok(()) => {
                let mut state = self.state.borrow_mut();
                if let Some((sequence, _, to)) = state.zeroing.take()
                    && state.segments.last().is_some_and(|last| last.sequence == sequence)
                {
                    state.zeroed = state.zeroed.max(to);
                }
            }
            Err(error) => {
                self.stop("writing zeros ahead of the log", error);
            }
        }
    }

    async fn create_segment(&self, sequence: u64) {
        let go_on = async || self.may_zero().await;
        let zeroing = Zeroing { zeros: &self.zeros, bytes: self.config.segment_bytes, go_on };
        let bytes = self.config.segment_bytes;
        match segment::create(&self.disk, &self.dir, sequence, bytes, zeroing).await {
            Ok(prepared) => {
                let mut state = self.state.borrow_mut();
                state.told_no_room = false;
                state.add_prepared(prepared);
            }
            Err(CreateError::Wanting(error)) => {
                let first = !self.state.borrow().no_room && !self.state.borrow().told_no_room;
                let mut state = self.state.borrow_mut();
                (state.no_room, state.told_no_room) = (true, true);
                drop(state);
                if first {
                    let at = self.dir.display();
                    tracing::warn!(
                        "{at}: the next segment can't be prepared, which is tried again: {error}"
                    );
                }
            }
            Err(CreateError::Failed(error)) => {
                self.stop("preparing the next segment", error);
            }
        }
    }

    /// A segment that is not needed yet is zeroed to its end, slowly while flushes are in flight. If
    /// none is ready and the last one is half full, the rest of it is only allocated: that is slower to
    /// write to later, but it is ready sooner.
    async fn may_zero(&self) -> bool {
        let (needed, busy) = {
            let state = self.state.borrow();
            let stopping = state.stopped.is_some() || state.closing;
            let ending = state.write_position > self.config.segment_bytes / 2;
            (stopping || ending && state.prepared.is_empty(), state.in_flight > 0)
        };
        if !needed && busy {
            self.runtime.sleep(ZERO_PAUSE).await;
        }
        !needed
    }
}
