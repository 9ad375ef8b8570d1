//! Random load on one partition: appends, group commits, rolls, snapshots, saves, truncations.

use std::rc::Rc;
use std::time::Duration;

use walengine::ledger::{Draft, RecordsDraft};
use walengine::runtime::Runtime;
use walengine::storage::disk::Disk;
use walengine::storage::error::{AppendError, LogStopped};
use walengine::storage::layout::HardState;
use walengine::storage::truncate::TruncateError;
use walengine_net::entry::{ANY_OFFSET, EntryKind, EntryMeta, RecordHead};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset,
    Timestamp, Transfer, TransferFlags,
};

use crate::checked_partition::{Partition, config};
use crate::log_oracle::encode;
use crate::sim::Rng;

/// Accounts that money moves between.
const ACCOUNTS: u64 = 12;
const EVENTS_MAX: u64 = 40;
const RECORD_BYTES_MAX: u64 = 6000;

/// How often each thing happens: weights.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Entries.
    pub append: u64,
    /// Flushes that nobody waits for at once.
    pub flush: u64,
    /// Waits for everything appended.
    pub wait: u64,
    /// Saves of the hard state.
    pub save: u64,
    /// Snapshots.
    pub snapshot: u64,
    /// Truncations.
    pub truncate: u64,
    /// Reads.
    pub read: u64,
}

impl Mix {
    /// A mix for one life.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            append: 60,
            flush: rng.between(5, 60),
            wait: rng.between(0, 10),
            save: rng.between(0, 6),
            snapshot: rng.between(0, 4),
            truncate: rng.between(0, 3),
            read: rng.between(0, 5),
        }
    }
}

/// The load of one life of a partition.
pub struct Load<D: Disk, R: Runtime> {
    partition: Rc<Partition<D, R>>,
    rng: Rng,
    mix: Mix,
    term: u64,
}

impl<D: Disk, R: Runtime> Load<D, R> {
    /// Load on `partition`, in a term after all earlier ones.
    pub fn new(partition: Rc<Partition<D, R>>, mut rng: Rng) -> Self {
        let term = partition.log.last().term.max(partition.log.hard_state().term) + 1;
        let mix = Mix::draw(&mut rng);
        Self { partition, rng, mix, term }
    }

    /// Does `steps` things.
    ///
    /// # Errors
    /// The log has stopped.
    pub async fn run(&mut self, steps: u64) -> Result<(), LogStopped> {
        for _ in 0..steps {
            self.step().await?;
            if self.rng.percent(20) {
                let micros = self.rng.below(400);
                self.partition.runtime.sleep(Duration::from_micros(micros)).await;
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), LogStopped> {
        let Mix { append, flush, wait, save, snapshot, truncate, read } = self.mix;
        let mut chosen =
            self.rng.below(append + flush + wait + save + snapshot + truncate + read + 1);
        let mut is = |weight: u64| {
            let is = chosen < weight;
            chosen = chosen.wrapping_sub(weight);
            is
        };
        let partition = self.partition.clone();
        let last = partition.log.last().index;
        if is(append) {
            self.append().await
        } else if is(flush) {
            partition.log.flush();
            self.acknowledge_later();
            Ok(())
        } else if is(wait) {
            partition.log.flush();
            self.acknowledge_later();
            partition.log.wait_durable(last).await
        } else if is(save) {
            self.save().await
        } else if is(snapshot) {
            partition.snapshot().await
        } else if is(truncate) {
            self.truncate().await
        } else if is(read) {
            if last > 0 {
                partition.check_read(self.rng.between(1, last)).await;
            }
            Ok(())
        } else {
            partition.log.mark_idle().await
        }
    }

    /// Tells the oracle when the log says that its last entry is durable.
    fn acknowledge_later(&self) {
        let (partition, tail) = (self.partition.clone(), self.partition.log.last());
        if tail.index == 0 {
            return;
        }
        self.partition.runtime.spawn(async move {
            if partition.log.wait_durable(tail.index).await.is_ok() {
                partition.oracle.borrow_mut().acknowledge(tail.index, tail.chain);
            }
        });
    }

    async fn append(&mut self) -> Result<(), LogStopped> {
        match self.rng.below(20) {
            0 => {
                // The time of the last record: the ledger knows no other.
                let at = self.partition.log.last();
                let time = at.timestamp;
                self.append_entry(EntryKind::Blank, at.next_offset, 0, time, &[]).await
            }
            1..4 => self.append_records().await,
            _ => self.append_events().await,
        }
    }

    async fn append_events(&mut self) -> Result<(), LogStopped> {
        let first = self.partition.ledger.borrow().accounts_len() == 0;
        let events = if first { accounts() } else { self.transfers() };
        let (mut draft, mut outcomes) = (Draft::new(), Vec::new());
        let now = self.partition.runtime.now();
        self.partition.ledger.borrow_mut().submit(&events, &mut draft, now, &mut outcomes);
        assert_eq!(outcomes.len(), events.len(), "one outcome for each event");
        if draft.is_empty() {
            return Ok(());
        }
        let (offset, time) = (draft.base_offset, draft.timestamp);
        let (records, body) = (draft.len(), encode(&draft.take()));
        self.append_entry(EntryKind::Events, offset, records, time, &body).await
    }

    async fn append_records(&mut self) -> Result<(), LogStopped> {
        let mut blob = vec![0; self.rng.below(RECORD_BYTES_MAX) as usize];
        self.rng.fill(&mut blob);
        let head = RecordHead {
            id: u128::from(self.rng.next_u64()) << 32 | 1,
            expected_offset: ANY_OFFSET,
            bytes: blob.len() as u32,
        };
        let (mut draft, mut outcomes) = (RecordsDraft::new(), Vec::new());
        let now = self.partition.runtime.now();
        self.partition.ledger.borrow_mut().append_records(
            &[head],
            &blob,
            &mut draft,
            now,
            &mut outcomes,
        );
        if draft.is_empty() {
            return Ok(());
        }
        let (offset, time) = (draft.base_offset, draft.timestamp);
        let (records, body) = (draft.len(), encode(&draft.take()));
        self.append_entry(EntryKind::Records, offset, records, time, &body).await
    }

    /// Appends, waiting for room as long as it takes.
    async fn append_entry(
        &mut self,
        kind: EntryKind,
        base_offset: Offset,
        records: usize,
        timestamp: Timestamp,
        body: &[u8],
    ) -> Result<(), LogStopped> {
        let (config, partition) = (config(), &self.partition);
        let meta = EntryMeta {
            cluster: config.ids.cluster,
            partition: config.ids.partition,
            kind,
            term: self.term,
            leader_node: 1,
            index: partition.log.last().index + 1,
            base_offset,
            records: records as u32,
            timestamp,
        };
        loop {
            let changed = partition.log.changed();
            let changed = changed.changed();
            match partition.log.append(&meta, body) {
                Ok(header) => {
                    partition.oracle.borrow_mut().appended(header, body);
                    return Ok(());
                }
                Err(AppendError::Stopped(stopped)) => return Err(stopped),
                Err(AppendError::Full | AppendError::Backlog(_)) => {
                    if partition.log.no_room() {
                        partition.log.prepare_again();
                    }
                    partition.log.flush();
                    changed.await;
                }
                Err(other) => panic!("appending entry {}: {other}", meta.index),
            }
        }
    }

    async fn save(&mut self) -> Result<(), LogStopped> {
        let state = HardState {
            term: self.term,
            voted_for: self.rng.percent(50).then_some(1),
            vote_committed: self.rng.percent(50),
            commit_index: self.partition.oracle.borrow().snapshot,
            durable_index: 0,
        };
        self.partition.oracle.borrow_mut().saving(state);
        self.partition.log.save_hard_state(state).await?;
        self.partition.oracle.borrow_mut().saved();
        Ok(())
    }

    /// Cuts the last few entries, as a new leader does, and goes on in a new term.
    async fn truncate(&mut self) -> Result<(), LogStopped> {
        let partition = self.partition.clone();
        let last = partition.log.last().index;
        // A snapshot holds committed entries only, and those are never cut.
        let least = partition.oracle.borrow().snapshot.max(last.saturating_sub(self.rng.below(30)));
        // An entry that a stopped log refused may still be there at the next open.
        let refused = partition.oracle.borrow().is_cutting();
        if least >= last || refused || partition.snapshotting.get() {
            return Ok(());
        }
        let after = self.rng.between(least, last - 1);
        partition.oracle.borrow_mut().cutting(after);
        match partition.log.truncate_after(after).await {
            Ok(()) => partition.oracle.borrow_mut().cut(),
            Err(TruncateError::Stopped(stopped)) => return Err(stopped),
            Err(other) => panic!("truncating after {after}: {other}"),
        }
        assert_eq!(partition.log.last().index, after, "the log ends where it was cut");
        *partition.ledger.borrow_mut() = partition.oracle.borrow().replay();
        self.term += 1;
        Ok(())
    }

    fn transfers(&mut self) -> Vec<EventBytes> {
        (0..self.rng.between(1, EVENTS_MAX)).map(|_| self.transfer().to_bytes()).collect()
    }

    fn transfer(&mut self) -> Transfer {
        let rng = &mut self.rng;
        // Few ids, so that repeats, reuse and resolved reservations happen.
        let id = EventId(u128::from(rng.between(1, 4000)));
        let debit = rng.between(1, ACCOUNTS);
        let credit = (debit + rng.below(ACCOUNTS - 1)) % ACCOUNTS + 1;
        let mut transfer = Transfer {
            id,
            debit_account_id: AccountId(u128::from(debit)),
            credit_account_id: AccountId(u128::from(credit)),
            amount: Amount(u128::from(rng.between(1, 1000))),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        };
        match rng.below(10) {
            0 => {
                transfer.flags = TransferFlags::PENDING;
                transfer.timeout_seconds = rng.below(2) as u32;
            }
            1 | 2 => {
                let post = rng.percent(50);
                transfer = Transfer {
                    id,
                    pending_id: EventId(u128::from(rng.between(1, 4000))),
                    flags: if post {
                        TransferFlags::POST_PENDING
                    } else {
                        TransferFlags::VOID_PENDING
                    },
                    ..Transfer::default()
                };
            }
            3 => transfer.flags = TransferFlags::BALANCING_DEBIT,
            _ => {}
        }
        transfer
    }
}

fn accounts() -> Vec<EventBytes> {
    let account = |id: u64| Account {
        id: AccountId(u128::from(id)),
        ledger: LedgerId(1),
        code: Code(1),
        flags: if id.is_multiple_of(3) {
            AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        } else {
            AccountFlags::default()
        },
        ..Account::default()
    };
    (1..=ACCOUNTS).map(|id| account(id).to_bytes()).collect()
}
