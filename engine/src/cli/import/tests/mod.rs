//! Is anything posted of a file that a strict model of the format would not post? 100,000 generated
//! files, valid and broken in every way that is known, each compared with a model that was written
//! from the rules and not from the code. The seed of a failure is printed.

mod files;
mod model;

use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{Book, EventBytes};

use super::chains::Batch;
use super::names::Names;
use super::reading::{Reading, Step};
use crate::sample::chance::Chance;
use files::Made;

const FILES: u64 = 100_000;

/// What a reading of a file comes to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Lines and events that are sent.
    sent: Vec<(u64, EventBytes)>,
    /// Lines that are not.
    held: Vec<u64>,
}

/// Reads a file that comes in pieces of up to `piece` bytes. `None` if it is broken.
fn read(made: &Made, piece: usize) -> Option<Outcome> {
    let mut reading = Reading::new(&made.wanted, Names::new(Book(0)));
    let (mut batch, mut rest) = (Batch::default(), &made.bytes[..]);
    let mut outcome = Outcome { sent: Vec::new(), held: Vec::new() };
    loop {
        match reading.step(&mut batch) {
            Err(_) => return None,
            Ok(Step::End) => return Some(outcome),
            Ok(Step::More) if rest.is_empty() => reading.records().end(),
            Ok(Step::More) => {
                let (bytes, more) = rest.split_at(piece.min(rest.len()));
                reading.records().feed(bytes);
                rest = more;
            }
            Ok(Step::Batch) => take(&batch, &mut outcome),
        }
    }
}

/// Checks what every batch must be, and notes its rows.
fn take(batch: &Batch, outcome: &mut Outcome) {
    assert!(batch.events.len() <= EVENTS_MAX, "a batch is one request");
    if let Some(last) = batch.events.last() {
        assert_eq!(last[118] & 1, 0, "a batch does not end inside of a chain");
    }
    assert_eq!(batch.events.len(), batch.accounts.len());
    let mut events = batch.events.iter();
    for row in &batch.rows {
        match &row.held {
            None => outcome.sent.push((row.line, *events.next().expect("a row has an event"))),
            Some(held) => {
                assert!(!held.why.is_empty() && !held.word.is_empty());
                outcome.held.push(row.line);
            }
        }
    }
    assert!(events.next().is_none(), "an event has a row");
}

#[test]
fn nothing_is_posted_that_a_strict_model_does_not_post() {
    let (mut broken, mut sent, mut held) = (0, 0, 0);
    for seed in 0..FILES {
        let mut chance = Chance(seed);
        let made = files::make(&mut chance);
        let expected = model::post(&made);
        let piece = 1 + chance.place(made.bytes.len().max(1) * 2);
        let found = read(&made, piece);
        let shown = || {
            let text = String::from_utf8_lossy(&made.bytes);
            let start: String = text.chars().take(3000).collect();
            format!("seed {seed}, {:?}\n{start}", made.wanted)
        };
        match (&expected, &found) {
            (None, None) => broken += 1,
            (Some(expected), Some(found)) => {
                assert!(found.sent == expected.sent, "{}", shown());
                assert_eq!(found.held, expected.held, "{}", shown());
                sent += found.sent.len();
                held += found.held.len();
            }
            _ => panic!("expected {expected:?}, found {found:?}: {}", shown()),
        }
        // However its bytes come, a file says the same.
        let again = read(&made, 7 + made.bytes.len());
        assert!(again == found, "read in pieces of {piece}: {}", shown());
    }
    println!("{broken} files broken, {sent} rows sent, {held} rows held");
    let files = FILES as usize;
    assert!((files / 4..files * 3 / 4).contains(&broken), "broken files and whole ones: {broken}");
    assert!(sent > files && held > files / 2, "rows that are sent, and rows that are not");
}
