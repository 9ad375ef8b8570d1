//! Ids that must be looked up before requests can be decided: gathered while others are being looked up, and
//! then looked up all at once.

use std::collections::HashMap;

use walengine_net::model::{Decided, EventBytes};

use super::Partition;
use super::commit::Commit;
use super::older_ids::{Wanted, is_lost};
use crate::ids::key::Key;
use crate::ledger::Fact;
use crate::limits::LOOK_UP_AGAIN_AFTER;
use crate::refused::{BUSY_READING, Refused};
use crate::runtime::Runtime;
use crate::storage::error::ReadError;

impl<C: Commit> Partition<C> {
    /// Has keys looked up, for the ledger to know. Wakes who waits for the partition when they are.
    pub(super) fn look_up(&self, wanted: Vec<Wanted>) {
        if self.inner.asked.ask(wanted) {
            self.spawn(|partition| async move { partition.look_up_all().await });
        }
    }

    async fn look_up_all(&self) {
        let asked = &self.inner.asked;
        let mut tries = 0;
        while let Some(wanted) = asked.next()
            && self.stopped().is_none()
        {
            let version = self.with_ledger(crate::ledger::Ledger::facts_version);
            // What does not count any more is asked for again by who needs it.
            let (found, failed) = self.look_up_in_parts(&wanted).await;
            self.inner.replica.borrow_mut().learn(version, found);
            if let Some(error) = failed {
                tracing::error!(
                    "partition {}: whether some ids were used before can't be read, and requests with them wait; \
                     if it stays so, restart this node, which makes the runs of ids again from the log: {error}",
                    self.inner.id.partition
                );
                self.inner.older.distrust(self.inner.id).await;
                if is_lost(&error, &mut tries) {
                    self.inner.commit.can_not_look_up(error.to_string()).await;
                }
                self.runtime().sleep(LOOK_UP_AGAIN_AFTER).await;
            } else {
                tries = 0;
            }
            asked.answered(&wanted);
            self.note_looked_up();
        }
    }

    /// A look-up has ended: whoever waits for one tries again.
    pub fn note_looked_up(&self) {
        self.inner.looked_up.set(self.inner.looked_up.get() + 1);
        self.inner.changed.notify_all();
    }

    /// Number of look-ups that have ended.
    pub fn looked_up(&self) -> u64 {
        self.inner.looked_up.get()
    }

    /// What can be read. What can't does not keep the others waiting: they are looked up in halves.
    async fn look_up_in_parts(&self, wanted: &[Wanted]) -> (Vec<(Key, Fact)>, Option<ReadError>) {
        let (mut found, mut failed) = (Vec::new(), None);
        let mut parts = vec![wanted];
        while let Some(part) = parts.pop() {
            match self.inner.older.look_up(part).await {
                Ok(facts) => found.extend(facts),
                Err(error) if part.len() == 1 => failed = Some(error),
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        (found, failed)
    }

    /// Makes sure that these events can be decided now, as far as their ids go.
    ///
    /// # Errors
    /// They are being looked up; whoever waits for the partition is woken.
    pub fn require_known(&self, events: &[EventBytes]) -> Result<(), Refused> {
        let unknown = self.with_ledger(|ledger| ledger.unknown(events));
        if unknown.is_empty() {
            return Ok(());
        }
        self.look_up(Wanted::of_events(unknown, events));
        Err(BUSY_READING)
    }

    /// First verdicts of what has these keys, if none must be looked up.
    pub fn decided_now(&self, keys: &[Key]) -> Option<Vec<Option<Decided>>> {
        self.with_ledger(|ledger| {
            let is_known = keys.iter().all(|key| !ledger.must_look_up(key));
            is_known.then(|| keys.iter().map(|key| ledger.decided_key(key)).collect())
        })
    }

    /// First verdicts of what has these keys, for readers.
    ///
    /// # Errors
    /// What is not in memory can't be read.
    pub async fn decided(&self, keys: &[Key]) -> Result<Vec<Option<Decided>>, ReadError> {
        let mut found = HashMap::new();
        loop {
            let (version, unknown) = self.with_ledger(|ledger| {
                let unknown = keys
                    .iter()
                    .filter(|key| ledger.must_look_up(key) && !found.contains_key(*key))
                    .map(|key| Wanted::key(*key));
                (ledger.facts_version(), unknown.collect::<Vec<_>>())
            });
            if !unknown.is_empty() {
                found.extend(self.inner.older.look_up(&unknown).await?);
            }
            let decided = self.with_ledger(|ledger| {
                if ledger.facts_version() != version {
                    found.retain(|_, fact| *fact != Fact::Unknown); // it may be in a run now
                }
                // What was decided meanwhile is in memory.
                let of = |key: &Key| {
                    if ledger.must_look_up(key) {
                        found.get(key).map(Fact::decided)
                    } else {
                        Some(ledger.decided_key(key))
                    }
                };
                keys.iter().map(of).collect()
            });
            if let Some(decided) = decided {
                return Ok(decided);
            }
        }
    }
}
