//! Readings of a file from its source: the first, which checks it, and the one whose rows are sent.
//! That is made on a thread of its own, so that rows are read while others are decided.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use walengine_net::cli::{Fatal, Reason};
use walengine_net::client::blocking::Client;
use walengine_net::message::IdNamespace;
use walengine_net::model::{Book, EventId, LedgerId, Verdict, event_id};

use super::chains::{Batch, BatchRow};
use super::columns::Wanted;
use super::names::Names;
use super::reading::{Reading, Step};
use super::refused::Refused;
use super::summary::Summary;
use super::twice::Seen;
use crate::cli::csv_file::source::Source;
use crate::cli::csv_file::{broken, feed};
use crate::cli::interrupt::{Stop, interrupted};

/// Batches that are read ahead.
const AHEAD: usize = 2;
/// Bytes of rows that a packed byte unpacks to, about.
const UNPACKED: u64 = 8;

/// What the first reading found.
pub struct Checked {
    pub names: Names,
    pub seen: Seen,
    pub header: Vec<String>,
    pub delimiter: u8,
    pub rows: u64,
    pub held: Held,
}

/// Rows that are not sent.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub counts: BTreeMap<&'static str, u64>,
    pub first: Option<(u64, String)>,
}

impl Held {
    fn note(&mut self, row: &BatchRow) {
        let Some(held) = &row.held else { return };
        *self.counts.entry(held.word).or_default() += 1;
        self.first.get_or_insert_with(|| (row.line, held.why.clone()));
    }

    /// How many there are and what is wrong with the first; `None` if there are none.
    pub fn told(&self) -> Option<String> {
        let (line, why) = self.first.as_ref()?;
        let count: u64 = self.counts.values().sum();
        Some(format!("{count} rows can't be sent (the first: line {line}: {why})"))
    }
}

/// Reads a file once, and hands each batch to `take`.
fn each_batch(
    source: &Source,
    is_first: bool,
    reading: &mut Reading,
    stop: Stop,
    mut take: impl FnMut(&mut Reading, Batch) -> Result<Batch, Fatal>,
) -> Result<(), Fatal> {
    let mut bytes = if is_first { source.first() } else { source.again()? };
    let (mut block, mut batch) = (Vec::new(), Batch::default());
    loop {
        match reading.step(&mut batch).map_err(|error| broken(source, &error))? {
            Step::Batch => batch = take(reading, batch)?,
            Step::End => return Ok(()),
            Step::More => {
                stop.look()?;
                feed(source, &mut *bytes, &mut block, reading.records())?;
            }
        }
    }
}

/// The first reading.
pub fn check(source: &Source, wanted: &Wanted, book: Book, stop: Stop) -> Result<Checked, Fatal> {
    let mut reading = Reading::new(wanted, Names::new(book));
    let unpacked = if source.is_packed() { UNPACKED } else { 1 };
    let mut seen = Seen::new(source.bytes().saturating_mul(unpacked));
    let (mut rows, mut held) = (0, Held::default());
    each_batch(source, true, &mut reading, stop, |reading, batch| {
        rows += batch.rows.len() as u64;
        let mut events = batch.events.iter().zip(&batch.accounts);
        for row in &batch.rows {
            held.note(row);
            if row.held.is_some() {
                continue;
            }
            if let Some((event, accounts)) = events.next() {
                seen.note(EventId(event_id(event)));
                for place in accounts {
                    reading.names().is_used(*place, ledger_of(event), row.line);
                }
            }
        }
        Ok(batch)
    })?;
    source.unchanged()?;
    seen.close();
    let (header, delimiter) = (reading.header().to_vec(), reading.delimiter());
    let names = reading.into_names();
    Ok(Checked { names, seen, header, delimiter, rows, held })
}

/// Another reading, for what it takes every row to tell.
pub fn each_row(
    source: &Source,
    wanted: &Wanted,
    names: &mut Names,
    stop: Stop,
    mut look: impl FnMut(&Names, [u32; 2], LedgerId),
) -> Result<(), Fatal> {
    let taken = std::mem::replace(names, Names::new(Book(0)));
    let mut reading = Reading::new(wanted, taken);
    each_batch(source, false, &mut reading, stop, |reading, batch| {
        for (event, accounts) in batch.events.iter().zip(&batch.accounts) {
            look(reading.names(), *accounts, ledger_of(event));
        }
        Ok(batch)
    })?;
    *names = reading.into_names();
    Ok(())
}

fn ledger_of(event: &walengine_net::model::EventBytes) -> LedgerId {
    LedgerId(u32::from_le_bytes([event[112], event[113], event[114], event[115]]))
}

/// What another reading finds, once the ledgers of all accounts are known.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows that would be sent.
    pub sent: u64,
    /// Those of them that were decided before.
    pub known: u64,
    pub held: Held,
}

/// Reads the file as it would be sent, and asks about every id if there is a client to ask.
pub fn rehearse(
    source: &Source,
    wanted: &Wanted,
    names: &mut Names,
    client: Option<&Client>,
    stop: Stop,
) -> Result<Found, Fatal> {
    let mut found = Found::default();
    let taken = std::mem::replace(names, Names::new(Book(0)));
    let mut reading = Reading::new(wanted, taken);
    each_batch(source, false, &mut reading, stop, |_, batch| {
        found.sent += batch.events.len() as u64;
        for row in &batch.rows {
            found.held.note(row);
        }
        if let Some(client) = client
            && !batch.events.is_empty()
        {
            let ids: Vec<u128> = batch.events.iter().map(event_id).collect();
            let verdicts = client.status(IdNamespace::Event, &ids, &[])?;
            found.known += verdicts.iter().flatten().count() as u64;
        }
        Ok(batch)
    })?;
    *names = reading.into_names();
    Ok(found)
}

/// Sends the rows of the file, and tells what comes of each batch.
pub fn send(
    source: &Source,
    wanted: &Wanted,
    checked: Checked,
    client: &Client,
    refused: &mut Refused,
    stop: Stop,
    mut progress: impl FnMut(&dyn Fn(&mut Summary)),
) -> Result<(), Fatal> {
    let mut seen = checked.seen;
    let mut reading = Reading::new(wanted, checked.names);
    let (batches, coming) = mpsc::sync_channel::<Result<Batch, Fatal>>(AHEAD);
    let (used, free) = mpsc::channel::<Batch>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let result = each_batch(source, false, &mut reading, stop, |_, batch| {
                batches.send(Ok(batch)).map_err(|_| interrupted())?;
                Ok(free.try_recv().unwrap_or_default())
            });
            if let Err(error) = result {
                // The other side has ended, and knows why.
                let _ = batches.send(Err(error));
            }
        });
        let coming = coming; // so that the thread ends when this does
        for batch in &coming {
            stop.look()?;
            let batch = batch?;
            progress(&|all| all.has_sent |= !batch.events.is_empty());
            let summary = submit(client, &batch, &mut seen, refused)?;
            let path = refused.path().map(std::path::Path::to_owned);
            progress(&|all| all.add(&summary, path.as_ref()));
            // The reader may be done.
            let _ = used.send(batch);
        }
        source.unchanged()
    })
}

/// Sends a batch. What comes of it alone.
fn submit(
    client: &Client,
    batch: &Batch,
    seen: &mut Seen,
    refused: &mut Refused,
) -> Result<Summary, Fatal> {
    let mut summary = Summary { rows: batch.rows.len() as u64, ..Summary::default() };
    let submitted = if batch.events.is_empty() {
        walengine_net::client::Submitted::default()
    } else {
        client.submit_all(&batch.events)?
    };
    summary.add_tokens(&submitted.tokens);
    let mut outcomes = batch.events.iter().zip(submitted.outcomes());
    for row in &batch.rows {
        if let Some(why) = &row.held {
            *summary.held.entry(why.word).or_default() += 1;
            summary.add_reason(row.line, &why.why);
            refused.write(row.line, why.word, &why.why, batch.text(row))?;
            continue;
        }
        let Some((event, outcome)) = outcomes.next() else {
            let message = "the server's answer makes no sense: it has fewer outcomes than events";
            return Err(Fatal::new(Reason::Server, message));
        };
        let verdict = outcome.verdict;
        let before = seen.before(EventId(event_id(event)), row.line);
        if let Some(before) = before {
            summary.add_twice(row.line, before);
        } else if !outcome.fresh && verdict != Verdict::IdReused {
            summary.repeats += 1;
        }
        if verdict.is_ok() {
            summary.accepted += u64::from(outcome.fresh);
            continue;
        }
        *summary.refused.entry(verdict.name()).or_default() += 1;
        let why = match before {
            Some(before) => format!("{}: that of line {before}", verdict.meaning()),
            None => verdict.meaning().to_owned(),
        };
        summary.add_reason(row.line, &why);
        refused.write(row.line, verdict.name(), &why, batch.text(row))?;
    }
    refused.flush()?;
    Ok(summary)
}
