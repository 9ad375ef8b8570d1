//! Ids that must be looked up before requests can be decided: gathered while others are being looked up, and
//! then looked up all at once.

use std::collections::HashMap;

use walengine_net::model::{Decided, EventBytes, EventId, Verdict};

use super::Partition;
use super::commit::Commit;
use super::older_ids::{Wanted, is_lost};
use crate::ids::key::{Key, Space};
use crate::ledger::{Ended, Fact, Ledger};
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
            let version = self.with_ledger(Ledger::facts_version);
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
            if keys.iter().any(|key| ledger.must_look_up(key)) {
                return None;
            }
            let decided: Vec<_> = keys.iter().map(|key| ledger.decided_key(key)).collect();
            let ends = ends_of(ledger, keys, &decided);
            (!ends.iter().any(|(_, end)| ledger.must_look_up(end))).then_some(decided)
        })
    }

    /// First verdicts of what has these keys, for readers.
    ///
    /// # Errors
    /// What is not in memory can't be read.
    pub async fn decided(&self, keys: &[Key]) -> Result<Vec<Option<Decided>>, ReadError> {
        let mut decided = self.known(keys, Ledger::decided_key, Fact::decided).await?;
        let ends = self.with_ledger(|ledger| {
            for (key, decided) in
                keys.iter().zip(&mut decided).filter(|(key, _)| key.space == Space::Event)
            {
                // A reservation that spans partitions is accepted, and has no end yet.
                if let Some(decided) = decided.as_mut().filter(|it| it.verdict == Verdict::InDoubt)
                    && ledger.pending(EventId(key.id)).is_some()
                {
                    decided.verdict = Verdict::Ok;
                }
            }
            ends_of(ledger, keys, &decided)
        });
        let ids: Vec<EventId> = ends.iter().map(|(_, end)| EventId(end.id)).collect();
        for ((place, _), ended) in ends.iter().zip(self.ended(&ids).await?) {
            if let (Some(decided), Some(Ended { state, .. })) = (&mut decided[*place], ended) {
                decided.verdict = state.verdict();
            }
        }
        Ok(decided)
    }

    /// What became of reservations, and of what was in doubt, for readers.
    ///
    /// # Errors
    /// As [`Self::decided`].
    pub async fn ended(&self, ids: &[EventId]) -> Result<Vec<Option<Ended>>, ReadError> {
        let keys: Vec<Key> = ids.iter().map(|id| Key::new(id.0, Space::Resolution)).collect();
        let known = |ledger: &Ledger, key: &Key| ledger.ended(EventId(key.id));
        self.known(&keys, known, Fact::ended).await
    }

    /// What the ledger knows of these keys, or else their facts say.
    async fn known<T>(
        &self,
        keys: &[Key],
        known: impl Fn(&Ledger, &Key) -> Option<T>,
        told: impl Fn(&Fact) -> Option<T>,
    ) -> Result<Vec<Option<T>>, ReadError> {
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
            let all = self.with_ledger(|ledger| {
                if ledger.facts_version() != version {
                    found.retain(|_, fact| *fact != Fact::Unknown); // it may be in a run now
                }
                // What was decided meanwhile is in memory.
                let of = |key: &Key| {
                    if ledger.must_look_up(key) {
                        found.get(key).map(&told)
                    } else {
                        Some(known(ledger, key))
                    }
                };
                keys.iter().map(of).collect()
            });
            if let Some(all) = all {
                return Ok(all);
            }
        }
    }
}

/// Those that were in doubt and are no more, by place, and the keys under which stands what became of them.
fn ends_of(ledger: &Ledger, keys: &[Key], decided: &[Option<Decided>]) -> Vec<(usize, Key)> {
    let ends = keys.iter().zip(decided).enumerate().filter_map(|(place, (key, decided))| {
        let is_unsure = decided.is_some_and(|decided| decided.verdict == Verdict::InDoubt)
            && !ledger.is_in_doubt(EventId(key.id));
        is_unsure.then(|| (place, Key::new(key.id, Space::Resolution)))
    });
    ends.collect()
}
