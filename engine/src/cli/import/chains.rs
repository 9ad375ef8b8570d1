//! Rows into batches. A chain goes whole or not at all: it is never cut, and if one of its rows
//! can't be sent, none is. Pure.

use std::collections::HashSet;
use std::ops::Range;

use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{EventBytes, EventId, TransferFlags, event_id};

use super::columns::{Row, Unreadable};
use crate::limits::{IMPORT_BATCH_BYTES_MAX, IMPORT_BATCH_ROWS_MAX, IMPORT_HELD_MAX};

/// Rows that are taken together, in the order of the file.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is sent: of each row that is not held, in order.
    pub events: Vec<EventBytes>,
    /// Places of debit and credit account of each of them.
    pub accounts: Vec<[u32; 2]>,
    pub rows: Vec<BatchRow>,
    text: Vec<u8>,
}

/// One row of a batch.
#[derive(Debug)]
pub struct BatchRow {
    pub line: u64,
    text: Range<u32>,
    /// Why it is not sent.
    pub held: Option<Box<Held>>,
}

/// Why a row is not sent.
#[derive(Clone, Debug)]
pub struct Held {
    /// In one word, for programs.
    pub word: &'static str,
    pub why: String,
    id: Option<EventId>,
}

/// Another row of its chain can't be sent.
const CHAIN_INCOMPLETE: &str = "chain_incomplete";
const CHAIN_TOO_LONG: &str = "chain_too_long";
const CHAIN_OPEN: &str = "chain_open";
/// The reservation that it posts or voids stands in a row that can't be sent.
const PENDING_HELD: &str = "pending_held";

impl Batch {
    /// The bytes of a row as they stand in the file.
    pub fn text(&self, row: &BatchRow) -> &[u8] {
        &self.text[row.text.start as usize..row.text.end as usize]
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.events.clear();
        self.accounts.clear();
        self.rows.clear();
        self.text.clear();
    }

    fn push(&mut self, line: u64, text: &[u8], held: Option<Box<Held>>) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text);
        self.rows.push(BatchRow { line, text: start..self.text.len() as u32, held });
    }

    /// Moves everything from these places on to the empty batch `to`.
    fn move_tail(&mut self, (row, event): (usize, usize), to: &mut Self) {
        to.events.extend(self.events.drain(event..));
        to.accounts.extend(self.accounts.drain(event..));
        let Some(first) = self.rows.get(row) else { return };
        let start = first.text.start;
        to.text.extend(self.text.drain(start as usize..));
        to.rows.extend(self.rows.drain(row..).map(|mut row| {
            row.text = row.text.start - start..row.text.end - start;
            row
        }));
    }
}

/// Puts rows into batches.
#[derive(Debug)]
pub struct Chains {
    batch: Batch,
    /// The beginning of the next batch.
    next: Batch,
    chain: Chain,
    /// Ids of rows that are held.
    held: HashSet<EventId>,
}

/// The chain to which the next row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    None,
    /// All of its rows so far can be sent. Begins with this row and this event of the batch.
    Whole {
        line: u64,
        row: usize,
        event: usize,
    },
    /// None of its rows is sent, because of this line.
    Broken {
        line: u64,
        because: u64,
        word: &'static str,
    },
}

impl Chains {
    /// No rows yet.
    pub fn new() -> Self {
        let (batch, next) = (Batch::default(), Batch::default());
        Self { batch, next, chain: Chain::None, held: HashSet::new() }
    }

    /// Adds the next row. `true` if a batch is complete, which must then be taken.
    pub fn push(&mut self, line: u64, text: &[u8], row: Result<Row, Unreadable>) -> bool {
        let mut is_complete = self.make_room(text.len());
        match row.map(|row| self.checked(row)) {
            Ok(Ok(row)) => self.add(line, text, &row),
            Ok(Err(unreadable)) | Err(unreadable) => self.hold(line, text, unreadable),
        }
        is_complete |= !self.next.rows.is_empty();
        let is_cut = matches!(self.chain, Chain::Whole { .. });
        is_complete
            || (!is_cut
                && (self.batch.rows.len() >= IMPORT_BATCH_ROWS_MAX
                    || self.batch.text.len() >= IMPORT_BATCH_BYTES_MAX / 4))
    }

    /// The file has ended.
    pub fn end(&mut self) {
        if let Chain::Whole { line, .. } = self.chain {
            self.break_chain(line, CHAIN_OPEN);
        }
        self.chain = Chain::None;
    }

    /// Takes the batch, whose place `into` takes. Empty if no rows are left.
    pub fn take(&mut self, into: &mut Batch) {
        into.clear();
        std::mem::swap(&mut self.batch, into);
        std::mem::swap(&mut self.batch, &mut self.next);
    }

    /// Whether more rows are held than a file can be taken for that is only faulty here and there.
    pub fn has_too_many_held(&self) -> bool {
        self.held.len() > IMPORT_HELD_MAX
    }

    /// A row that posts or voids the reservation of a row that is held must wait for it: it would
    /// be refused for ever.
    fn checked(&self, row: Row) -> Result<Row, Unreadable> {
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        let transfer = &row.transfer;
        if transfer.flags.intersects(ends) && self.held.contains(&transfer.pending_id) {
            return Err(Unreadable {
                word: PENDING_HELD,
                why: "the row of its pending transfer is not sent either".into(),
                may_be_linked: transfer.flags.contains(TransferFlags::LINKED),
                id: Some(transfer.id),
            });
        }
        Ok(row)
    }

    /// Sees to it that the chain which goes on has room. `true` if the rows before it are complete.
    fn make_room(&mut self, bytes: usize) -> bool {
        let Chain::Whole { line, row, event } = self.chain else { return false };
        let is_full = self.batch.events.len() == EVENTS_MAX;
        let is_large = self.batch.text.len() + bytes > IMPORT_BATCH_BYTES_MAX;
        if !is_full && !is_large {
            return false;
        }
        if row == 0 {
            self.break_chain(line, CHAIN_TOO_LONG);
            return false;
        }
        self.batch.move_tail((row, event), &mut self.next);
        self.chain = Chain::Whole { line, row: 0, event: 0 };
        true
    }

    /// The batch that the next row belongs to.
    fn current(&mut self) -> &mut Batch {
        if self.next.rows.is_empty() { &mut self.batch } else { &mut self.next }
    }

    fn add(&mut self, line: u64, text: &[u8], row: &Row) {
        let is_linked = row.transfer.flags.contains(TransferFlags::LINKED);
        if let Chain::Broken { line: first, because, word } = self.chain {
            let held = Held { word, why: leg(first, because, word), id: Some(row.transfer.id) };
            self.note(&held);
            self.current().push(line, text, Some(Box::new(held)));
            if !is_linked {
                self.chain = Chain::None;
            }
            return;
        }
        let batch = self.current();
        let begins = Chain::Whole { line, row: batch.rows.len(), event: batch.events.len() };
        batch.push(line, text, None);
        batch.events.push(row.transfer.to_bytes());
        batch.accounts.push(row.accounts);
        match (self.chain, is_linked) {
            (Chain::None, true) => self.chain = begins,
            (_, true) => {}
            (_, false) => self.chain = Chain::None,
        }
    }

    fn hold(&mut self, line: u64, text: &[u8], unreadable: Unreadable) {
        let held = Held { word: unreadable.word, why: unreadable.why, id: unreadable.id };
        self.note(&held);
        if let Chain::Whole { .. } = self.chain {
            self.break_chain(line, CHAIN_INCOMPLETE);
        }
        self.current().push(line, text, Some(Box::new(held)));
        self.chain = match (self.chain, unreadable.may_be_linked) {
            (_, false) => Chain::None,
            (Chain::None, true) => Chain::Broken { line, because: line, word: CHAIN_INCOMPLETE },
            (chain, true) => chain,
        };
    }

    fn note(&mut self, held: &Held) {
        self.held.extend(held.id);
    }

    /// Holds the rows that the chain has so far.
    fn break_chain(&mut self, because: u64, word: &'static str) {
        let Chain::Whole { line, row, event } = self.chain else { return };
        self.chain = Chain::Broken { line, because, word };
        let why = leg(line, because, word);
        let batch = if self.next.rows.is_empty() { &mut self.batch } else { &mut self.next };
        for (row, event) in batch.rows[row..].iter_mut().zip(&batch.events[event..]) {
            let id = EventId(event_id(event));
            self.held.insert(id);
            row.held = Some(Box::new(Held { word, why: why.clone(), id: Some(id) }));
        }
        batch.events.truncate(event);
        batch.accounts.truncate(event);
    }
}

/// Why a row of a chain is not sent.
fn leg(first: u64, because: u64, word: &str) -> String {
    match word {
        CHAIN_TOO_LONG => format!(
            "its chain, which begins in line {first}, has more than {EVENTS_MAX} rows or is larger \
             than {} MiB",
            IMPORT_BATCH_BYTES_MAX >> 20
        ),
        CHAIN_OPEN => format!(
            "the file ends inside of its chain, which begins in line {first}: the last row of a \
             chain is not linked"
        ),
        _ => {
            format!("line {because} of its chain is not sent, and a chain goes whole or not at all")
        }
    }
}
