//! Notes of what clients of a cluster did and were told, and whether one log explains them.
//!
//! Every answer names a position in the partition's log: a write names the offset of its record, a
//! read the offset after the last record that it shows. So the order of operations is given and need
//! not be searched for. Three things are compared: an operation that began after another had ended
//! stands after it; the log holds what writes were told; reads show the fold of the log at their
//! positions. One sort and one pass: n log n.

use std::collections::HashMap;
use std::time::Instant;

use walengine_net::message::EventOutcome;
use walengine_net::model::{AccountId, EventBytes, Offset, Resolved, Verdict};

use crate::crash_witness::{History, Name, Record, name_of, records_of};
use walengine_net::message::Entries;

/// An event that was answered. Times are nanoseconds since the test began.
#[derive(Clone, Copy, Debug)]
struct Write {
    name: Name,
    /// When the first request that had it was sent.
    begin: u64,
    end: u64,
    offset: Offset,
    verdict: Verdict,
}

/// What a read must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Everything that was acknowledged before it began.
    Linearizable,
    /// At least this record.
    Token(Offset),
}

/// What a read showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Balances of accounts.
    Balances(Vec<(AccountId, Option<[u128; 4]>)>),
    /// Verdicts of events, with their records.
    Verdicts(Vec<(u128, Option<(Verdict, Offset)>)>),
}

/// A read that was answered.
#[derive(Clone, Debug)]
struct Read {
    begin: u64,
    end: u64,
    demand: Demand,
    /// It shows everything below and nothing else.
    next_offset: Offset,
    shown: Shown,
}

/// What one client did and was told.
#[derive(Debug)]
pub struct Notes {
    started: Instant,
    first_sent: HashMap<Name, u64>,
    writes: Vec<Write>,
    reads: Vec<Read>,
    requests: u64,
}

impl Notes {
    /// Empty, for a client of a test that began at `started`.
    pub fn new(started: Instant) -> Self {
        let (writes, reads) = (Vec::new(), Vec::new());
        Self { started, first_sent: HashMap::new(), writes, reads, requests: 0 }
    }

    /// Now.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// These are about to be sent.
    pub fn sends(&mut self, events: &[EventBytes]) {
        let now = self.now();
        for event in events {
            self.first_sent.entry(name_of(event)).or_insert(now);
        }
    }

    /// A write was answered.
    ///
    /// # Panics
    /// If it was not sent, or has an answer for another number of events.
    pub fn wrote(&mut self, events: &[EventBytes], outcomes: &[EventOutcome]) {
        assert_eq!(events.len(), outcomes.len(), "one outcome for each event");
        let end = self.now();
        self.requests += 1;
        for (event, outcome) in events.iter().zip(outcomes) {
            let name = name_of(event);
            let offset = outcome.offset.expect("nothing malformed was sent");
            let begin = self.first_sent[&name];
            self.writes.push(Write { name, begin, end, offset, verdict: outcome.verdict });
        }
    }

    /// A read that began at `begin` was answered.
    pub fn read(&mut self, begin: u64, demand: Demand, next_offset: Offset, shown: Shown) {
        let end = self.now();
        self.requests += 1;
        self.reads.push(Read { begin, end, demand, next_offset, shown });
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Answers.
    pub requests: u64,
    /// Events in answers to writes.
    pub writes: u64,
    /// Reads that had to be linearizable.
    pub linearizable: u64,
    /// Reads with a token.
    pub tokens: u64,
}

impl Checked {
    /// Writes and reads together.
    pub fn operations(&self) -> u64 {
        self.writes + self.linearizable + self.tokens
    }
}

/// For any moment, how far the log was known to reach by answers that had come before.
struct Known {
    /// Ends of operations, ascending, with the furthest position known by then.
    by_end: Vec<(u64, u64)>,
}

impl Known {
    fn new(notes: &[Notes]) -> Self {
        let writes = notes.iter().flat_map(|notes| &notes.writes);
        let reads = notes.iter().flat_map(|notes| &notes.reads);
        // What a follower shows is committed, so it counts as much as what the leader shows.
        let mut by_end: Vec<_> = writes
            .map(|write| (write.end, write.offset.0 + 1))
            .chain(reads.map(|read| (read.end, read.next_offset.0)))
            .collect();
        by_end.sort_unstable();
        let mut furthest = 0;
        for (_, position) in &mut by_end {
            furthest = furthest.max(*position);
            *position = furthest;
        }
        Self { by_end }
    }

    fn before(&self, begin: u64) -> u64 {
        let behind = self.by_end.partition_point(|(end, _)| *end < begin);
        behind.checked_sub(1).map_or(0, |last| self.by_end[last].1)
    }
}

/// Compares what clients were told with each other and with the log, given as its entries.
///
/// # Panics
/// If anything contradicts the log, or the order of time.
pub fn check(entries: &[u8], notes: &[Notes]) -> Checked {
    let log: Vec<(Record, Option<Resolved>)> = records_of(Entries::new(entries)).collect();
    let at: HashMap<Name, usize> =
        (0..).zip(&log).map(|(place, (record, _))| (name_of(&record.event), place)).collect();
    let known = Known::new(notes);
    let mut checked = Checked::default();
    for notes in notes {
        checked.requests += notes.requests;
        for write in &notes.writes {
            checked.writes += 1;
            let place = at.get(&write.name);
            let place =
                place.unwrap_or_else(|| panic!("lost after it was acknowledged: {write:?}"));
            let (record, _) = &log[*place];
            let logged = (record.offset, record.verdict);
            assert_eq!(logged, (write.offset, write.verdict), "{write:?}");
            let earliest = known.before(write.begin);
            assert!(write.offset.0 >= earliest, "below {earliest}, known before: {write:?}");
        }
    }
    let mut reads: Vec<&Read> = notes.iter().flat_map(|notes| &notes.reads).collect();
    for read in &reads {
        match read.demand {
            Demand::Linearizable => {
                checked.linearizable += 1;
                let earliest = known.before(read.begin);
                assert!(read.next_offset.0 >= earliest, "old, {earliest} was known: {read:?}");
            }
            Demand::Token(token) => {
                checked.tokens += 1;
                assert!(read.next_offset > token, "without its own write: {read:?}");
            }
        }
    }
    reads.sort_by_key(|read| read.next_offset);
    shows_what_the_log_says(log, &at, &reads);
    checked
}

/// Each read shows the state that all records below its position come to, in order of position.
fn shows_what_the_log_says(
    log: Vec<(Record, Option<Resolved>)>,
    at: &HashMap<Name, usize>,
    reads: &[&Read],
) {
    let verdicts: Vec<(Verdict, Offset)> =
        log.iter().map(|(record, _)| (record.verdict, record.offset)).collect();
    let mut state = History::default();
    let mut log = log.into_iter();
    for read in reads {
        while state.next_offset < read.next_offset {
            let (record, resolved) = log.next().unwrap_or_else(|| panic!("past the end: {read:?}"));
            state.add(record, resolved.as_ref());
        }
        match &read.shown {
            Shown::Balances(balances) => {
                for (account, shown) in balances {
                    assert_eq!(*shown, state.balances(*account), "{account:?} in {read:?}");
                }
            }
            Shown::Verdicts(shown) => {
                for (id, shown) in shown {
                    let place = at.get(&(false, *id));
                    let logged = place.map(|place| verdicts[*place]);
                    let logged = logged.filter(|(_, offset)| *offset < read.next_offset);
                    assert_eq!(*shown, logged, "id {id:x} in {read:?}");
                }
            }
        }
    }
    // The rest has one record for each name, too.
    for (record, resolved) in log {
        state.add(record, resolved.as_ref());
    }
}

/// Times from each of `moments` to the end of the first write that began later, in nanoseconds.
///
/// # Panics
/// If no write did.
pub fn resumed_after(notes: &[Notes], moments: &[u64]) -> Vec<u64> {
    let writes = notes.iter().flat_map(|notes| &notes.writes);
    let mut writes: Vec<_> = writes.map(|write| (write.begin, write.end)).collect();
    writes.sort_unstable();
    // The earliest end among all that began no earlier.
    let mut earliest = u64::MAX;
    for (_, end) in writes.iter_mut().rev() {
        earliest = earliest.min(*end);
        *end = earliest;
    }
    let after = |moment: &u64| {
        let first = writes.partition_point(|(begin, _)| begin < moment);
        writes.get(first).expect("writes go on").1 - moment
    };
    moments.iter().map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(begin: u64, end: u64, next_offset: u64) -> Read {
        let (demand, shown) = (Demand::Linearizable, Shown::Verdicts(Vec::new()));
        Read { begin, end, demand, next_offset: Offset(next_offset), shown }
    }

    fn notes(reads: Vec<Read>) -> Notes {
        Notes { reads, ..Notes::new(Instant::now()) }
    }

    #[test]
    fn what_ended_before_is_known() {
        let known = Known::new(&[notes(vec![read(0, 10, 5), read(1, 20, 3)]), notes(vec![])]);
        let before = [0, 10, 11, 20, 21].map(|begin| known.before(begin));
        assert_eq!(before, [0, 0, 5, 5, 5]);
    }

    #[test]
    #[should_panic(expected = "old, 5 was known")]
    fn a_read_behind_an_earlier_one_is_found() {
        check(&[], &[notes(vec![read(0, 10, 5)]), notes(vec![read(11, 12, 4)])]);
    }
}
