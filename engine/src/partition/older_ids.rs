//! Ids that are not among a ledger's newest: they are looked up in the runs on disk, and in the log, which
//! holds what was decided; and the newest go into runs as they get old.
//!
//! ```text
//!  look_up   keys ─ runs: hash, code, offset ─ log: the record there ─ facts for the ledger
//!  flush     committed newest ids ─ sorted by hash ─ a run, durable ─ out of the table
//!  merge     runs of one size ─ one run in their place
//! ```
//! A run's entry has a part of the hash only. What is looked up counts when the record in the log has the
//! id. A record that has it not is read again with its whole entry, which is checked: a rotten bit must not
//! make a known id look unknown.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::model::{
    Decided, EventBytes, EventKind, Expire, Offset, Transfer, Verdict, Word, event_kind,
};
use walengine_net::unit;

use super::ledger_access::LedgerAccess;
use super::mending::{Mender, mended};
use super::replica_id::ReplicaId;
use super::saved_filter;
use crate::ids::key::{Key, Space};
use crate::ids::run::{Run, RunEntry, RunMeta};
use crate::ids::runs::Runs;
use crate::ids::{RunRange, STEP_ENTRIES, Sought};
use crate::ledger::{
    Ended, Fact, LeavingKey, Ledger, PendingState, fingerprint_of_event, fingerprint_of_record,
    key_of,
};
use crate::limits::{
    FLUSH_RECORDS_MAX, FLUSH_STEP_KEYS, IDS_LOOK_EVERY, IDS_RETRY_AFTER, LOOK_UP_AGAIN_AFTER,
    LOOK_UP_RECORDS_MAX, LOOK_UP_TRIES_IO_MAX, LOOK_UP_TRIES_MAX, MANY_RECENT, PACE_FACTOR,
    PACE_STEP_MAX, RECENT_KEYS_MAX, RECENT_KEYS_MOST, SAVE_GENERATIONS_MIN, SAVE_SHARE,
};
use crate::planted::{self, Planted};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::ReadError;
use crate::storage::layout::RUN_ENTRY_BYTES;
use crate::storage::log::Log;
use crate::storage::records::{Record, RecordAt};

/// See the module. Clones are handles to the same.
pub struct OlderIds<D: Disk, R: Runtime> {
    runs: Runs<D>,
    log: Log<D, R>,
    runtime: R,
    recent_max: Rc<Cell<usize>>,
    recent_most: Rc<Cell<usize>>,
    /// Not before this do runs count as due again: the disk has refused one.
    rests_until: Rc<Cell<Duration>>,
    /// The filter is not saved before.
    save_rests_until: Rc<Cell<Duration>>,
    /// Mends what has rotted of the log.
    mender: Option<Mender>,
}

impl<D: Disk, R: Runtime> Clone for OlderIds<D, R> {
    fn clone(&self) -> Self {
        let Self { runs, log, runtime, mender, .. } = self;
        let Self { recent_max, recent_most, rests_until, save_rests_until, .. } = self;
        let (runs, log, runtime) = (runs.clone(), log.clone(), runtime.clone());
        let (recent_max, recent_most) = (recent_max.clone(), recent_most.clone());
        let (rests_until, save_rests_until) = (rests_until.clone(), save_rests_until.clone());
        let mender = mender.clone();
        Self { runs, log, runtime, recent_max, recent_most, rests_until, save_rests_until, mender }
    }
}

/// What is to be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The key.
    pub key: Key,
    /// The event that has it now, if one has: if the same stands in the log, not all of its entry need be read
    /// to believe that.
    pub event: Option<EventBytes>,
}

impl Wanted {
    /// A key alone.
    pub fn key(key: Key) -> Self {
        Self { key, event: None }
    }

    /// What was found unknown before these events are decided.
    pub fn of_events(keys: Vec<Key>, events: &[EventBytes]) -> Vec<Self> {
        if keys.is_empty() {
            return Vec::new(); // nearly always
        }
        // Most events are none of them: that takes one bit of 4,096 to tell.
        let bit_of = |key: &Key| ((key.hash >> 58) as usize, 1u64 << (key.hash >> 52 & 63));
        let mut bits = [0u64; 64];
        for key in &keys {
            let (word, bit) = bit_of(key);
            bits[word] |= bit;
        }
        let places: HashMap<_, usize> = keys.iter().map(named).zip(0..).collect();
        let mut wanted: Vec<Self> = keys.into_iter().map(Self::key).collect();
        for event in events {
            let key = key_of(event);
            let (word, bit) = bit_of(&key);
            if bits[word] & bit != 0
                && let Some(place) = places.get(&named(&key))
            {
                wanted[*place].event = Some(*event);
            }
        }
        wanted
    }

    /// What was found unknown before opaque records are decided.
    pub fn of_records(keys: Vec<Key>) -> Vec<Self> {
        keys.into_iter().map(Self::key).collect()
    }
}

impl<D: Disk, R: Runtime> OlderIds<D, R> {
    /// Of the partition with this log; `runs` are those that the ledger names.
    pub fn new(runs: Runs<D>, log: Log<D, R>, runtime: R) -> Self {
        let recent_max = Rc::new(Cell::new(RECENT_KEYS_MAX));
        let recent_most = Rc::new(Cell::new(RECENT_KEYS_MOST));
        let (rests_until, save_rests_until) = (Rc::default(), Rc::default());
        let mender = None;
        Self { runs, log, runtime, recent_max, recent_most, rests_until, save_rests_until, mender }
    }

    /// With other replicas that have what this one's log has lost.
    #[must_use]
    pub fn mended_by(self, mender: Option<Mender>) -> Self {
        Self { mender, ..self }
    }

    /// How many keys the ledger keeps before the older ones go into a run.
    pub fn set_recent_max(&self, recent_max: usize) {
        self.recent_max.set(recent_max);
    }

    /// With how many keys in the ledger no more is decided until some are in a run.
    pub fn set_recent_most(&self, recent_most: usize) {
        self.recent_most.set(recent_most);
    }

    /// The executor.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    /// The runs.
    pub fn runs(&self) -> &Runs<D> {
        &self.runs
    }

    /// Looks keys up in all runs. One fact for each. What has rotted of the log is mended, if that can be done.
    ///
    /// # Errors
    /// A run or the log can't be read; nothing is known of any key then.
    pub async fn look_up(&self, wanted: &[Wanted]) -> Result<Vec<(Key, Fact)>, ReadError> {
        mended(self.mender.as_ref(), async || self.look_up_as_it_is(wanted).await).await
    }

    async fn look_up_as_it_is(&self, wanted: &[Wanted]) -> Result<Vec<(Key, Fact)>, ReadError> {
        let mut facts = HashMap::new();
        let unsure = self.find(wanted, true, &mut facts).await?;
        if !unsure.is_empty() {
            self.find(&unsure, false, &mut facts).await?;
        }
        let fact = |key: &Key| facts.get(&named(key)).cloned().unwrap_or(Fact::Unknown);
        Ok(wanted.iter().map(|one| (one.key, fact(&one.key))).collect())
    }

    /// Finds what the runs and the log say of keys. With `trusts_hashes`, what has the hash of a key in one run is
    /// not looked for in the others: gives the keys that were not found in spite of that.
    async fn find(
        &self,
        wanted: &[Wanted],
        trusts_hashes: bool,
        facts: &mut HashMap<NamedKey, Fact>,
    ) -> Result<Vec<Wanted>, ReadError> {
        let sought = wanted.iter().map(|one| Sought::key(&one.key)).collect();
        let keys: HashMap<_, &Wanted> = wanted.iter().map(|one| (named(&one.key), one)).collect();
        let mut look_up = self.runs.look_up(sought);
        let mut met = HashSet::new();
        let mut entries = Vec::new();
        loop {
            // The log is read for one piece while the runs are for the next.
            let from_runs = async { look_up.next().await.map_err(ReadError::Run) };
            let from_log = self.read_facts(&entries, &keys, facts);
            let (next, read) = futures_lite::future::zip(from_runs, from_log).await;
            let (next, ()) = (next?, read?);
            entries = next.unwrap_or_default();
            if trusts_hashes {
                for entry in &entries {
                    look_up.found(entry.hash);
                    met.insert(entry.hash);
                }
            }
            if entries.is_empty() && look_up.has_ended() {
                break;
            }
        }
        let is_unsure = |one: &&Wanted| {
            met.contains(&RunEntry::cut(one.key.hash)) && !facts.contains_key(&named(&one.key))
        };
        Ok(wanted.iter().filter(is_unsure).copied().collect())
    }

    /// What the records of these entries say of wanted keys.
    async fn read_facts(
        &self,
        entries: &[RunEntry],
        wanted: &HashMap<NamedKey, &Wanted>,
        facts: &mut HashMap<NamedKey, Fact>,
    ) -> Result<(), ReadError> {
        for entries in entries.chunks(LOOK_UP_RECORDS_MAX) {
            let offsets: Vec<Offset> = entries.iter().map(|it| Offset(it.offset)).collect();
            let records = self.log.read_events_at(&offsets).await?;
            for (entry, found) in entries.iter().zip(records) {
                if let Some((key, fact)) = self.checked_fact_of(entry, found, wanted).await? {
                    facts.insert(named(&key), fact);
                }
            }
        }
        Ok(())
    }

    /// What a run's entry and the record that it points to say of a wanted key; `None` if they are another key's.
    async fn checked_fact_of(
        &self,
        entry: &RunEntry,
        found: RecordAt,
        wanted: &HashMap<NamedKey, &Wanted>,
    ) -> Result<Option<(Key, Fact)>, ReadError> {
        let mut record = found.record;
        let is_believed = match (&record, key_at(entry, &record)) {
            (Record::Event(_), _) if found.is_checked => true,
            (Record::Event(event), Some(key)) => match wanted.get(&named(&key)) {
                Some(Wanted { event: sent, .. }) => {
                    *sent == Some(*event) || key.space == Space::Resolution
                }
                None => true, // surely another's: a rotten bit leaves no id with the entry's hash
            },
            (Record::Event(_), None) => false,
            (Record::Opaque { bytes, .. }, key) => {
                bytes.is_some() || !key.is_some_and(|key| wanted.contains_key(&named(&key)))
            }
        };
        if !is_believed {
            record = self.log.read_checked_at(Offset(entry.offset)).await?.record;
        }
        let fact = fact_of(entry, &record);
        Ok(fact.filter(|(key, _)| wanted.contains_key(&named(key))))
    }

    /// As [`Self::look_up`], for a replica that can't go on without. What can't be read now may be read later, or be
    /// mended from the others: it is tried again, `within` this time if one is given.
    ///
    /// # Errors
    /// The log has stopped; a run stays unreadable, which the next start makes again; the time has passed.
    pub async fn look_up_patiently(
        &self,
        id: ReplicaId,
        wanted: &[Wanted],
        within: Option<Duration>,
    ) -> io::Result<Vec<(Key, Fact)>> {
        let by = within.map(|within| self.runtime.elapsed() + within);
        let mut tries = 0;
        loop {
            let error = match self.look_up(wanted).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            self.distrust(id).await;
            let is_lost = is_lost(&error, &mut tries);
            let is_late = by.is_some_and(|by| self.runtime.elapsed() >= by);
            if self.log.stopped().is_some() || is_late || is_lost {
                let why = format!(
                    "entries can't be applied before ids in them have been looked up: {error}; start this node \
                     again, which makes runs of ids that can't be read again from the log"
                );
                return Err(io::Error::other(why));
            }
            tracing::error!(
                "partition {}: entries can't be applied before ids in them have been looked up, which is tried \
                 again: {error}",
                id.partition
            );
            self.runtime.sleep(LOOK_UP_AGAIN_AFTER).await;
        }
    }

    /// The ledger has more keys than it should keep, and a good part of them can go: records below `below` are
    /// committed.
    pub fn is_flush_due(&self, ledger: &Ledger, below: Offset) -> bool {
        let max = self.recent_max.get();
        self.runtime.elapsed() >= self.rests_until.get()
            && ledger.recent_len() >= max
            && below.0 - ledger.runs_end() >= max as u64 / 2
    }

    /// The ledger has many times as many keys as it should keep.
    pub fn has_many(&self, ledger: &Ledger) -> bool {
        ledger.recent_len() >= self.recent_max.get().saturating_mul(MANY_RECENT)
    }

    /// The ledger has as many keys as it may have while some can go into a run.
    pub fn has_most(&self, ledger: &Ledger) -> bool {
        ledger.recent_len() >= self.recent_most.get()
    }

    /// A run could not be written or merged: for a while none is due.
    pub fn rest(&self) {
        self.rests_until.set(self.runtime.elapsed() + IDS_RETRY_AFTER);
    }

    /// Writes the keys of the oldest records below `below`, which must be committed, into a run, and has the ledger
    /// forget them. Nothing else may take keys out of the ledger meanwhile, nor may a snapshot be written.
    ///
    /// # Errors
    /// The disk's. The ledger keeps everything then.
    pub async fn flush(&self, ledger: &impl LedgerAccess, below: Offset) -> io::Result<()> {
        let first = ledger.with(|ledger| ledger.runs_end());
        if below.0 <= first {
            return Ok(());
        }
        let below = below.min(Offset(first + FLUSH_RECORDS_MAX));
        let mut pace = Pace::new(&self.runtime, ledger, FLUSH_STEP_KEYS);
        let mut leaving = self.leaving(ledger, below, &mut pace).await;
        let meta = RunMeta { first, end: below.0, ..leaving.meta };
        let mut writer = self.runs.begin(meta).await?;
        let written = async {
            let is_wrong = planted::has(Planted::FlushNotInFilter);
            for part in &mut leaving.parts {
                part.sort_unstable_by_key(RunEntry::order);
                if !is_wrong {
                    ledger.with(|ledger| ledger.note_older(part.iter().map(|entry| entry.hash)));
                }
                for entry in &*part {
                    writer.push(*entry).await?;
                }
                pace.did(part.len()).await;
            }
            Ok(())
        };
        if let Err(error) = written.await {
            let _ = writer.abort().await; // the first error is the one to tell
            return Err(error);
        }
        self.runs.add(writer).await?;
        ledger.with(|ledger| ledger.add_run(meta.range()));
        Ok(())
    }

    /// What is to go into a run, parted by the highest bits of the hashes.
    async fn leaving(
        &self,
        ledger: &impl LedgerAccess,
        below: Offset,
        pace: &mut Pace<'_, R, impl LedgerAccess>,
    ) -> Leaving {
        let (mut leaving, mut keys) = (Leaving::new(), Vec::with_capacity(FLUSH_STEP_KEYS));
        let mut next = Some(0);
        while let Some(from) = next {
            keys.clear();
            next = ledger.with(|ledger| ledger.leaving(from, below, FLUSH_STEP_KEYS, &mut keys));
            for key in &keys {
                leaving.push(key);
            }
            pace.did(keys.len()).await;
        }
        leaving
    }

    /// Merges runs, if some should be. False if none should.
    ///
    /// # Errors
    /// The disk's, or a run is damaged. Nothing has changed then.
    pub async fn merge(&self, ledger: &impl LedgerAccess) -> io::Result<bool> {
        let Some(plan) = self.runs.merge_due() else { return Ok(false) };
        // Where there is little room, the log has it first: the merged runs go only with the next snapshots.
        if self.runs.free_bytes().await? < plan.disk_bytes().saturating_mul(3) {
            return Ok(false);
        }
        if planted::has(Planted::RunNamedEarly) {
            let RunMeta { first, end, .. } = plan.meta();
            let mut early = self.runs.list();
            early.retain(|run| run.end <= first || run.first >= end);
            early.push(RunRange { first, end });
            early.sort_unstable_by_key(|run| run.first);
            ledger.with(|ledger| ledger.set_runs(early));
            self.runtime.sleep(IDS_LOOK_EVERY * 20).await; // long enough for a snapshot
        }
        let mut pace = Pace::new(&self.runtime, ledger, STEP_ENTRIES);
        self.runs.merge(plan, async || pace.did(STEP_ENTRIES).await).await?;
        let runs = self.runs.list();
        ledger.with(|ledger| ledger.set_runs(runs));
        Ok(true)
    }
}

impl<D: Disk, R: Runtime> OlderIds<D, R> {
    /// The runs whose filter is to be saved now, if much of it is not saved: [`Self::save_filter`] does it, whatever
    /// goes into runs meanwhile. Not while keys go into a run.
    pub fn begin_saving(&self, ledger: &impl LedgerAccess) -> Option<Vec<Rc<Run<D>>>> {
        let runs = self.runs.all();
        let rests = self.runtime.elapsed() < self.save_rests_until.get();
        (!rests && self.is_save_due(&runs) && ledger.with(Ledger::begin_saving)).then_some(runs)
    }

    /// Saves the filter of these runs.
    ///
    /// # Errors
    /// The disk's. Nothing was saved then.
    pub async fn save_filter(
        &self,
        id: ReplicaId,
        runs: &[Rc<Run<D>>],
        ledger: &impl LedgerAccess,
    ) -> io::Result<()> {
        let saved = saved_filter::save(id, &self.runs, runs, ledger, &self.runtime).await;
        while ledger.with(|ledger| ledger.end_saving(FLUSH_STEP_KEYS)) {
            self.runtime.yield_now().await;
        }
        if let Err(error) = saved {
            self.save_rests_until.set(self.runtime.elapsed() + IDS_RETRY_AFTER);
            return Err(error);
        }
        self.runs.note_saved(runs);
        // One may have been found damaged meanwhile.
        if self.runs.is_distrusted() { self.distrust_runs().await } else { Ok(()) }
    }

    fn is_save_due(&self, runs: &[Rc<Run<D>>]) -> bool {
        let (mut all, mut unsaved) = (0, 0);
        for run in runs {
            let entries = run.meta().entries;
            all += entries;
            unsaved += if self.runs.is_saved(run) { 0 } else { entries };
        }
        let least = SAVE_GENERATIONS_MIN.saturating_mul(self.recent_max.get() as u64);
        !self.runs.is_distrusted() && unsaved >= least.max(all / SAVE_SHARE)
    }

    /// Reads all runs. `pace` hears the bytes that were read, is the place to let others run, and says whether to
    /// go on with the next run.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if a file is not what was written.
    pub async fn check_runs(&self, mut pace: impl AsyncFnMut(u64) -> bool) -> io::Result<()> {
        let mut goes_on = true;
        for run in self.runs.all() {
            if !goes_on {
                break;
            }
            let mut before = 0;
            let paced = async |entries: u64| {
                let read = entries - std::mem::replace(&mut before, entries);
                goes_on = pace(read * RUN_ENTRY_BYTES as u64).await;
            };
            run.scan(|_| {}, paced).await?;
        }
        Ok(())
    }

    /// As [`Self::distrust_runs`]; that it could not be done is told.
    pub async fn distrust(&self, id: ReplicaId) {
        if let Err(error) = self.distrust_runs().await {
            tracing::warn!(
                "partition {}: what spares a start reading the runs of ids stays: {error}",
                id.partition
            );
        }
    }

    /// A run can't be read, or is not what was written: the next start reads all of them, and makes again from the
    /// log what is damaged.
    ///
    /// # Errors
    /// The disk's.
    pub async fn distrust_runs(&self) -> io::Result<()> {
        self.runs.distrust();
        saved_filter::remove_all(self.runs.disk(), self.runs.partition_dir()).await
    }

    /// Removes saved filters that no start will use.
    ///
    /// # Errors
    /// The disk's.
    pub async fn prune_saved(&self) -> io::Result<()> {
        let Some(ends) = self.runs.named().ends() else { return Ok(()) };
        saved_filter::prune(self.runs.disk(), self.runs.partition_dir(), &ends).await
    }
}

/// Lets others run after every few entries; after more, the more records those have decided meanwhile, so that the
/// work keeps up with them whatever it is that takes their time.
struct Pace<'a, R, L> {
    runtime: &'a R,
    ledger: &'a L,
    step_min: usize,
    step: usize,
    done: usize,
    /// What the ledger had decided at the last pause.
    decided: u64,
}

impl<'a, R: Runtime, L: LedgerAccess> Pace<'a, R, L> {
    fn new(runtime: &'a R, ledger: &'a L, step_min: usize) -> Self {
        let decided = ledger.with(|ledger| ledger.next_offset().0);
        Self { runtime, ledger, step_min, step: step_min, done: 0, decided }
    }

    async fn did(&mut self, entries: usize) {
        self.done += entries;
        if self.done >= self.step {
            self.done = 0;
            self.runtime.yield_now().await;
            let decided = self.ledger.with(|ledger| ledger.next_offset().0);
            let meanwhile = decided.saturating_sub(std::mem::replace(&mut self.decided, decided));
            let step = usize::try_from(meanwhile).unwrap_or(usize::MAX).saturating_mul(PACE_FACTOR);
            self.step = step.clamp(self.step_min, PACE_STEP_MAX);
        }
    }
}

/// Keys on their way into a run.
struct Leaving {
    /// All but the offsets.
    meta: RunMeta,
    /// In order of the highest bits of their hashes; none is in order itself.
    parts: Vec<Vec<RunEntry>>,
}

impl Leaving {
    const PART_BITS: u32 = 6;

    fn new() -> Self {
        let meta = RunMeta { first: 0, end: 0, entries: 0, id_low: u128::MAX, id_high: 0 };
        Self { meta, parts: vec![Vec::new(); 1 << Self::PART_BITS] }
    }

    fn push(&mut self, leaving: &LeavingKey) {
        let LeavingKey { key, code, offset } = *leaving;
        self.meta.entries += 1;
        if key.space == Space::Event {
            self.meta.id_low = self.meta.id_low.min(key.id);
            self.meta.id_high = self.meta.id_high.max(key.id);
        }
        let part = (key.hash >> (u64::BITS - Self::PART_BITS)) as usize;
        self.parts[part].push(RunEntry { hash: RunEntry::cut(key.hash), code, offset });
    }
}

/// Whether a run is not worth another try, after so many `tries` in a row that have met one that can't be read. What is
/// not what was written stays so; an error of the disk may pass.
pub(super) fn is_lost(error: &ReadError, tries: &mut u32) -> bool {
    let ReadError::Run(error) = error else {
        *tries = 0;
        return false;
    };
    *tries += 1;
    let is_damaged = error.kind() == io::ErrorKind::InvalidData;
    *tries >= if is_damaged { LOOK_UP_TRIES_MAX } else { LOOK_UP_TRIES_IO_MAX }
}

/// A key as tables have it whose own hashes nobody can choose.
type NamedKey = (u128, Space);

fn named(key: &Key) -> NamedKey {
    (key.id, key.space)
}

/// The key that a run's entry is for, as its record tells it; `None` if the record has none with the entry's hash.
/// Keys of two spaces may share a record and a part of their hashes: the code tells them apart, since no logged
/// verdict has the number of a reservation's end.
fn key_at(entry: &RunEntry, record: &Record) -> Option<Key> {
    let is_end = is_end(entry, record);
    let key = match record {
        Record::Event(event) if is_end => {
            Key::new(resolved_by(event, entry.code)?, Space::Resolution)
        }
        Record::Event(event) => match event_kind(event) {
            Ok(
                EventKind::Expire
                | EventKind::Mail
                | EventKind::Arrival
                | EventKind::GuardArrival
                | EventKind::WordArrival
                | EventKind::AccountArrival
                | EventKind::CloseArrival
                | EventKind::Word,
            )
            | Err(_) => return None,
            Ok(_) => key_of(event),
        },
        Record::Opaque { head, .. } => Key::new(head.id, Space::Event),
    };
    (RunEntry::cut(key.hash) == RunEntry::cut(entry.hash)).then_some(key)
}

/// Whether an entry tells of a reservation's end. No logged verdict has the number of one, but for those of refusals
/// by words, which have nothing else to tell.
fn is_end(entry: &RunEntry, record: &Record) -> bool {
    let Record::Event(event) = record else { return false };
    let is_word = matches!(event_kind(event), Ok(EventKind::Word | EventKind::WordArrival));
    is_word || entry.code < Verdict::REFUSAL_MIN && entry.code != Verdict::Ok.number()
}

/// What an event has ended in this way, if it has: a reservation, or what was in doubt. The word on the end of a
/// reservation ends both.
fn resolved_by(event: &EventBytes, code: u8) -> Option<u128> {
    match event_kind(event) {
        Ok(EventKind::Expire) => Some(Expire::from_bytes(event).pending_id.0),
        Ok(EventKind::Word | EventKind::WordArrival)
            if [PendingState::Posted, PendingState::Voided]
                .map(PendingState::number)
                .contains(&code) =>
        {
            Word::from_bytes(event).map(|word| word.pending_id.0)
        }
        Ok(EventKind::Word | EventKind::WordArrival) => {
            Word::from_bytes(event).map(|word| word.id.0)
        }
        Ok(EventKind::Transfer) => {
            let transfer = Transfer::from_bytes(event);
            unit::resolves(&transfer).then_some(transfer.pending_id.0)
        }
        _ => None,
    }
}

/// The key that an entry is for, and what it and its record say of it.
pub(super) fn fact_of(entry: &RunEntry, record: &Record) -> Option<(Key, Fact)> {
    Some((key_at(entry, record)?, fact_at(entry, record)?))
}

/// What an entry and its record say of the key that [`key_at`] gives.
fn fact_at(entry: &RunEntry, record: &Record) -> Option<Fact> {
    if is_end(entry, record) {
        let offset = Offset(entry.offset);
        let ended = |state| Fact::Resolution(Ended { state, offset });
        return PendingState::ended_from_number(entry.code).map(ended);
    }
    let fingerprint = match record {
        Record::Event(event) => fingerprint_of_event(event),
        Record::Opaque { head, bytes: Some(bytes) } => fingerprint_of_record(head, bytes),
        Record::Opaque { bytes: None, .. } => return None,
    };
    let verdict = Verdict::from_number(entry.code).filter(|verdict| !verdict.is_malformed())?;
    let decided = Decided { verdict, offset: Some(Offset(entry.offset)) };
    Some(Fact::Decided { decided, fingerprint })
}
