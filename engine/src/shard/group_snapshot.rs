//! Snapshots of a replicated partition: cut at the tail, which counts once it is committed.

use std::time::Duration;

use walengine_net::message::Entries;

use super::replicated::Replicated;
use super::request::Identity;
use super::snapshots::{Cut, Progress, Snapshotting};
use crate::ledger::Ledger;
use crate::raft_apply::Point;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::Tail;
use crate::storage::log::Log;

/// A cut that waits for its commit is looked at this often, should nothing be committed any more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl<D: Disk, R: Runtime> Snapshotting for Replicated<D, R> {
    type Disk = D;
    type Runtime = R;

    fn identity(&self) -> Identity {
        self.inner.identity
    }

    fn runtime(&self) -> &R {
        &self.inner.runtime
    }

    fn log(&self) -> &Log<D, R> {
        self.inner.log.log()
    }

    fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        Self::with_ledger(self, look)
    }

    fn ends(&self) -> bool {
        self.inner.closing.get() || self.stopped().is_some()
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    fn progress(&self) -> &Progress {
        &self.inner.snapshots
    }

    fn written_bytes(&self) -> u64 {
        self.inner.apply.applied_bytes()
    }

    /// What this leader has decided and not seen committed is in the cut. If it is taken back, so is
    /// the cut, whatever another leader puts in its place.
    async fn cut(&self) -> Option<Cut> {
        let inner = &*self.inner;
        let state = {
            let mut replica = inner.replica.borrow_mut();
            inner.proposals.borrow_mut().extend(replica.seal());
            replica.cut()
        };
        inner.work.notify_all();
        inner.apply.await_offset(state.next_offset());
        let Point { applied, members } = loop {
            let changed = inner.apply.changed();
            let changed = changed.changed();
            if !state.holds(inner.replica.borrow().ledger()) || self.stopped().is_some() {
                return None;
            }
            if let Some(point) = inner.apply.reached() {
                break point;
            }
            futures_lite::future::or(changed, inner.runtime.sleep(LOOK_EVERY)).await;
        };
        let bytes = inner.log.log().read(applied.index + 1, 1).await.ok()?;
        let (header, _) = Entries::new(&bytes).next()?.ok()?;
        let applied = Tail::of(&header);
        assert!(applied.next_offset == state.next_offset(), "{applied:?} at another offset");
        let written_bytes = inner.apply.applied_bytes();
        Some(Cut { members: members.encode(), state, applied, written_bytes })
    }
}
