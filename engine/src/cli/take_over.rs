//! `import` of a file that `export` has written: another cluster's log, record by record.
//!
//! ```text
//!  read the file once     every hash, every line; where the target has records, they must be the same
//!  read it again          entries in order, a request at a time; each partition's last one is kept back
//!  at the end             the last ones, which end the import; then the states are compared
//! ```
//!
//! Whatever stops it: what was taken stays, the target takes nothing else, and running it again goes on
//! behind that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use walengine_net::client::blocking::Client;
use walengine_net::client::{EntriesToImport, ReadFrom, StateSummary};
use walengine_net::entry::{EntryKind, EventsBody, RecordsBody, access_events, access_records};
use walengine_net::limits::{BODY_BYTES_MAX, IMPORT_ENTRIES_MAX};
use walengine_net::message::{ImportState, ImportedEntry};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp, Token};
use walengine_net::say;

use super::asking::Asking;
use super::csv_file::source::Input;
use super::export::{bar_of, digest_text, states};
use super::interrupt::Stop;
use crate::across::ties::{Ties, fit};
use crate::export::{Content, ExportedEntry, FIRST_KEY, PartitionEnd, Reader};
use crate::fatal::{Fatal, Reason};
use crate::limits::{IMPORT_CLOCK_WAIT_MAX, IMPORT_LASTS_WITHIN};

/// How a compressed file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file's text, with how much of the file was read.
type Source = (BufReader<Box<dyn Read>>, Arc<AtomicU64>);

/// Whether a file is an export, by its first bytes, unpacked if need be. What can't be read is none.
pub(super) fn is_export(input: &Input) -> bool {
    open(input).is_ok_and(|(source, _)| begins_an_export(source))
}

/// Whether this is the beginning of an export.
fn begins_an_export(source: impl Read) -> bool {
    let mut first = Vec::new();
    let read = source.take(FIRST_KEY.len() as u64).read_to_end(&mut first);
    read.is_ok() && first == FIRST_KEY.as_bytes()
}

/// Begins to read it, however far it was read before.
fn open(input: &Input) -> Result<Source, Fatal> {
    let failed = |error: &std::io::Error| {
        Fatal::new(Reason::File, format!("cannot read {}: {error}", input.shown))
    };
    let file = input.file.try_clone().map_err(|error| failed(&error))?;
    let read = Arc::new(AtomicU64::new(0));
    let mut counting = BufReader::new(Counting { file, at: 0, read: read.clone() });
    let is_packed = counting.fill_buf().map_err(|error| failed(&error))?.starts_with(&GZIP);
    let source: Box<dyn Read> = if is_packed {
        Box::new(flate2::bufread::MultiGzDecoder::new(counting))
    } else {
        Box::new(counting)
    };
    Ok((BufReader::with_capacity(BODY_BYTES_MAX, source), read))
}

/// Reads a file from its beginning, and counts the bytes for the progress bar.
struct Counting {
    file: File,
    at: u64,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.file.read_at(buffer, self.at)?;
        self.at += bytes as u64;
        self.read.store(self.at, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Takes over the log in a file.
pub(super) fn run(input: &Input, asking: &Asking, dry_run: bool, stop: Stop) -> Result<(), Fatal> {
    let path = input.shown.as_str();
    let client = asking.connect()?.reading(ReadFrom::Leader);
    let total = input.file.metadata().map_or(0, |found| found.len());
    let (source, read) = open(input)?;
    let mut reader = reader(path, source)?;
    let header = reader.header().clone();
    let partitions = client.info().partitions;
    if header.ends.len() != usize::from(partitions) {
        let has = header.ends.len();
        let message = format!(
            "the export has {has} partitions and this cluster {partitions}: a record's place and \
             verdict hold in its own partition, so the number stays: format the new cluster with \
             --partitions {has}; fewer cores can serve them"
        );
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let before = states(asking)?;
    let bar = bar_of(total, "checking");
    let mut there: Vec<_> = client
        .info()
        .partitions()
        .zip(&before)
        .map(|(partition, state)| TargetLog::new(partition, state.next_offset))
        .collect();
    let mut ties: Vec<_> =
        client.info().partitions().map(|partition| Ties::new(partition, partitions)).collect();
    while let Some(entry) = next(path, &mut reader)? {
        there[usize::from(entry.partition.0)].compare(&client, &entry)?;
        if let Content::Events(body) = &entry.content {
            let ties = &mut ties[usize::from(entry.partition.0)];
            ties.take_events(entry.base_offset, &body.events, &body.verdicts, &body.resolved);
        }
        bar.set_position(read.load(Ordering::Relaxed));
        check_interrupted(stop, "nothing was imported")?;
    }
    bar.finish_and_clear();
    fit(&ties).map_err(|misfit| Fatal::new(Reason::Damaged, format!("{path}: {misfit}")))?;
    let ends = reader.ends().unwrap_or_default().to_vec();
    for (state, (end, partition)) in before.iter().zip(ends.iter().zip(0u16..)) {
        if state.is_importing && state.next_offset >= end.next_offset {
            let message = format!(
                "partition {partition} takes an import of a longer export than this one: finish it \
                 with the file that it was begun with"
            );
            return Err(Fatal::new(Reason::DataDirectory, message));
        }
    }
    let is_there =
        |(state, end): (&StateSummary, &PartitionEnd)| state.next_offset >= end.next_offset;
    if !dry_run && !before.iter().zip(&ends).all(is_there) {
        let (source, read) = open(input)?;
        let again = self::reader(path, source)?;
        if *again.header() != header {
            return Err(changed(path));
        }
        let mut taking = Taking::new(&client, &before, &ends);
        let bar = bar_of(total, "importing");
        let taken = taking.all(path, again, stop, || {
            bar.set_position(read.load(Ordering::Relaxed));
        });
        bar.finish_and_clear();
        taken.map_err(|fatal| taking.explain(fatal))?;
    }
    report(asking, client.info().cluster, &before, &ends, dry_run)
}

fn changed(path: &str) -> Fatal {
    let message = format!("{path} was changed while it was imported");
    Fatal::new(Reason::File, message)
}

fn check_interrupted(stop: Stop, what: &str) -> Result<(), Fatal> {
    if stop.is_told() {
        return Err(Fatal::new(Reason::Interrupted, format!("interrupted; {what}")));
    }
    Ok(())
}

fn reader<R: BufRead>(path: &str, source: R) -> Result<Reader<R>, Fatal> {
    Reader::new(source).map_err(|error| unreadable(path, &error))
}

fn next<R: BufRead>(path: &str, reader: &mut Reader<R>) -> Result<Option<ExportedEntry>, Fatal> {
    reader.next_entry().map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &str, error: &crate::export::ExportError) -> Fatal {
    Fatal::new(Reason::File, format!("{path}, {error}"))
}

/// The records that the target has already, to be compared with those of the export.
struct TargetLog {
    partition: PartitionId,
    /// Where they end.
    end: Offset,
    /// Where the next page begins.
    next: Offset,
    read: VecDeque<ExportedEntry>,
}

impl TargetLog {
    fn new(partition: PartitionId, end: Offset) -> Self {
        Self { partition, end, next: Offset(0), read: VecDeque::new() }
    }

    /// Entries from `from` on that are there up to `end`.
    fn from(partition: PartitionId, from: Offset, end: Offset) -> Self {
        Self { partition, end, next: from, read: VecDeque::new() }
    }

    /// Compares an entry of the export with what is there, if anything is.
    fn compare(&mut self, client: &Client, entry: &ExportedEntry) -> Result<(), Fatal> {
        if entry.base_offset >= self.end {
            return Ok(());
        }
        if self.read.is_empty() {
            self.read_on(client)?;
        }
        let found = self.read.pop_front();
        if found.as_ref() == Some(entry) {
            return Ok(());
        }
        let message = format!(
            "partition {} has another history at offset {} than the export: nothing was imported; an \
             export goes into a cluster that holds nothing yet, or the beginning of the same log",
            self.partition, entry.base_offset
        );
        Err(Fatal::new(Reason::DataDirectory, message))
    }

    fn read_on(&mut self, client: &Client) -> Result<(), Fatal> {
        let (cluster, partition) = (client.info().cluster, self.partition);
        let token = Token { cluster, partition, offset: Offset(self.end.0 - 1) };
        let page = client.read_log(partition, self.next, BODY_BYTES_MAX, &[token])?;
        let bad =
            |error| Fatal::new(Reason::Server, format!("the server sent a bad entry: {error}"));
        for entry in page.entries() {
            let (header, body) = entry.map_err(bad)?;
            let content = match header.meta.kind {
                EntryKind::Events => {
                    let body = access_events(body).map_err(bad)?;
                    Content::Events(EventsBody {
                        events: body.events.to_vec(),
                        verdicts: body.verdicts.to_vec(),
                        resolved: body.resolved.to_vec(),
                    })
                }
                EntryKind::Records => {
                    let body = access_records(body).map_err(bad)?;
                    let heads = body.heads.iter().map(|head| walengine_net::entry::RecordHead {
                        id: head.id.to_native(),
                        expected_offset: head.expected_offset.to_native(),
                        bytes: head.bytes.to_native(),
                    });
                    Content::Records(RecordsBody {
                        heads: heads.collect(),
                        verdicts: body.verdicts.to_vec(),
                        blob: body.blob.to_vec(),
                    })
                }
                EntryKind::Blank | EntryKind::Membership => continue,
            };
            self.read.push_back(ExportedEntry {
                partition,
                base_offset: header.meta.base_offset,
                timestamp: header.meta.timestamp,
                content,
            });
        }
        self.next = page.next_offset;
        Ok(())
    }
}

/// What is on its way into the target.
struct Taking<'a> {
    client: &'a Client,
    /// For each partition: where its log goes on.
    reached: Vec<Offset>,
    /// For each partition: where the import ends.
    ends: Vec<Offset>,
    /// The last entry of each partition, which ends its import.
    last: Vec<Option<ExportedEntry>>,
    /// Entries of one partition, in order.
    waiting: VecDeque<ExportedEntry>,
    waiting_bytes: usize,
    taken: u64,
}

impl<'a> Taking<'a> {
    fn new(client: &'a Client, before: &[StateSummary], ends: &[PartitionEnd]) -> Self {
        Self {
            client,
            reached: before.iter().map(|state| state.next_offset).collect(),
            ends: ends.iter().map(|end| end.next_offset).collect(),
            last: vec![None; ends.len()],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            taken: 0,
        }
    }

    fn all<R: BufRead>(
        &mut self,
        path: &str,
        mut reader: Reader<R>,
        stop: Stop,
        progress: impl Fn(),
    ) -> Result<(), Fatal> {
        while let Some(entry) = next(path, &mut reader)? {
            let partition = usize::from(entry.partition.0);
            if entry.base_offset < self.reached[partition] {
                continue; // it was compared
            }
            if entry.end() == self.ends[partition] {
                self.last[partition] = Some(entry);
                continue;
            }
            let other = self.waiting.front().is_some_and(|one| one.partition != entry.partition);
            let bytes = bytes_of(&entry);
            let is_full = self.waiting_bytes + bytes > BODY_BYTES_MAX / 2
                || self.waiting.len() == IMPORT_ENTRIES_MAX;
            if other || is_full {
                self.send(false)?;
                progress();
                check_interrupted(stop, "the import is not finished")?;
            }
            self.waiting.push_back(entry);
            self.waiting_bytes += bytes;
        }
        self.send(false)?;
        let same = |ends: &[PartitionEnd]| {
            ends.iter().map(|end| end.next_offset).eq(self.ends.iter().copied())
        };
        if !reader.ends().is_some_and(same) {
            return Err(changed(path));
        }
        // Whose import is over exchanges what is under way with the others. Those that have begun take nothing until
        // theirs is over, too; the others are asked to wait, and come first.
        let begins = |last: &Option<ExportedEntry>| {
            last.as_ref().is_some_and(|last| last.base_offset == Offset(0))
        };
        for (partition, _) in self.last.iter().enumerate().filter(|(_, last)| begins(last)) {
            let partition = PartitionId(partition as u16);
            self.client.state_digest_holding(partition, IMPORT_LASTS_WITHIN)?;
        }
        let (first, rest): (Vec<_>, Vec<_>) = self.last.iter_mut().partition(|last| begins(last));
        let lasts: Vec<_> = first.into_iter().chain(rest).filter_map(Option::take).collect();
        for last in lasts {
            self.waiting.push_back(last);
            self.send(true)?;
        }
        Ok(())
    }

    /// Sends what waits until all of it is taken.
    fn send(&mut self, is_last: bool) -> Result<(), Fatal> {
        while let Some(first) = self.waiting.front() {
            let (partition, base) = (first.partition, first.base_offset);
            let request = request(&self.waiting, is_last);
            let outcome = self.client.import_log(partition, &request)?;
            let at = format!("partition {partition}, offset {}", outcome.next_offset);
            match outcome.state {
                ImportState::Taken => {}
                // What was sent before the connection was lost is there, if it is the same.
                ImportState::OtherOffset if outcome.next_offset > base => {
                    self.compare_with_target(partition, base, outcome.next_offset, is_last)?;
                }
                ImportState::OtherTime => {
                    self.wait_for_the_clock(&at, outcome.next_offset, outcome.now)?;
                }
                ImportState::OtherOffset | ImportState::Differs => {
                    let message = format!(
                        "{at}: the target does not decide as the export says: {}",
                        if outcome.message.is_empty() {
                            "its log has changed"
                        } else {
                            &outcome.message
                        }
                    );
                    return Err(Fatal::new(Reason::Disagreement, message));
                }
            }
            while self.waiting.front().is_some_and(|entry| entry.end() <= outcome.next_offset) {
                self.taken += self.waiting.pop_front().map_or(0, |entry| entry.records());
            }
            self.reached[usize::from(partition.0)] = outcome.next_offset;
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    fn compare_with_target(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        was_last: bool,
    ) -> Result<(), Fatal> {
        let mut there = TargetLog::from(partition, from, to);
        self.waiting.iter().try_for_each(|entry| there.compare(self.client, entry))?;
        // Behind the import's last entry anybody may write.
        if !was_last && self.waiting.back().is_some_and(|last| last.end() < to) {
            let message = format!("partition {partition} took other writes than this import's");
            return Err(Fatal::new(Reason::Disagreement, message));
        }
        Ok(())
    }

    /// The clocks of two clusters differ a little.
    fn wait_for_the_clock(&self, at: &str, next: Offset, now: Timestamp) -> Result<(), Fatal> {
        let entry = self.waiting.iter().find(|entry| entry.base_offset == next);
        let time = entry.map_or(Timestamp(0), |entry| entry.timestamp);
        let ahead = Duration::from_nanos(time.0.saturating_sub(now.0));
        if ahead.is_zero() || ahead > IMPORT_CLOCK_WAIT_MAX {
            let message = if ahead.is_zero() {
                format!("{at}: log time {time} is not past that of the target's newest record")
            } else {
                format!(
                    "{at}: log time {time} is {} seconds ahead of the target's clock: one of the two \
                     clusters' clocks is wrong",
                    ahead.as_secs()
                )
            };
            return Err(Fatal::new(Reason::Disagreement, message));
        }
        std::thread::sleep(ahead.min(Duration::from_secs(1)));
        Ok(())
    }

    /// What has happened until something stopped the import.
    fn explain(&self, fatal: Fatal) -> Fatal {
        let (taken, message) = (self.taken, fatal.message);
        if taken == 0 {
            return Fatal::new(fatal.reason, message);
        }
        let message = format!(
            "{message}; {taken} records were taken and stay: run it again to go on behind them, until \
             then the cluster takes no other writes"
        );
        Fatal::new(fatal.reason, message)
    }
}

fn bytes_of(entry: &ExportedEntry) -> usize {
    match &entry.content {
        Content::Events(body) => {
            size_of_val(&body.events[..]) + size_of_val(&body.resolved[..]) + body.verdicts.len()
        }
        Content::Records(body) => body.heads.len() * 32 + body.blob.len(),
    }
}

fn request(entries: &VecDeque<ExportedEntry>, is_last: bool) -> EntriesToImport {
    let base_offset = entries.front().map_or(Offset(0), |first| first.base_offset);
    let mut request = EntriesToImport { base_offset, is_last, ..EntriesToImport::default() };
    for entry in entries {
        let (kind, resolved) = match &entry.content {
            Content::Events(body) => {
                request.events.extend_from_slice(&body.events);
                request.resolved.extend_from_slice(&body.resolved);
                request.verdicts.extend_from_slice(&body.verdicts);
                (EntryKind::Events, body.resolved.len())
            }
            Content::Records(body) => {
                request.heads.extend_from_slice(&body.heads);
                request.blob.extend_from_slice(&body.blob);
                request.verdicts.extend_from_slice(&body.verdicts);
                (EntryKind::Records, 0)
            }
        };
        request.entries.push(ImportedEntry {
            timestamp: entry.timestamp.0,
            records: entry.records() as u32, // as many as the entry of a log had
            resolved: resolved as u32,
            kind: kind as u8,
        });
    }
    request
}

/// Compares the states, and says what was done.
fn report(
    asking: &Asking,
    cluster: ClusterId,
    before: &[StateSummary],
    ends: &[PartitionEnd],
    dry_run: bool,
) -> Result<(), Fatal> {
    let mut different = Vec::new();
    let now = if dry_run { before.to_vec() } else { states(asking)? };
    for ((before, now), (end, partition)) in before.iter().zip(&now).zip(ends.iter().zip(0u16..)) {
        let missing = end.next_offset.0.saturating_sub(before.next_offset.0);
        let there = end.next_offset.0 - missing;
        let id = PartitionId(partition);
        if dry_run {
            say!("partition {id}: {missing} records would be imported, {there} are there already");
            continue;
        }
        let compared = if now.next_offset != end.next_offset {
            // Such as reservations that came due while this was going on.
            format!("{} records since", now.next_offset.0.saturating_sub(end.next_offset.0))
        } else if now.digest == end.digest {
            format!("the same state, digest {}", digest_text(&now.digest))
        } else {
            different.push(id.to_string());
            "another state".to_owned()
        };
        let next_offset = end.next_offset;
        say!(
            "partition {id}: {missing} records imported, {there} were there, next offset \
             {next_offset}: {compared}"
        );
        if let Some(offset) = end.next_offset.0.checked_sub(1).map(Offset) {
            say!("token {}", Token { cluster, partition: id, offset });
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    let message = format!(
        "after the import, partition {} has another state than the export says: do not use this \
         cluster, and report this",
        different.join(", ")
    );
    Err(Fatal::new(Reason::Disagreement, message))
}
