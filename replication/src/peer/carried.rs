//! Transfers from another partition on their way to its leader, and the words on them.

use walengine_net::model::{
    Arrival, EVENT_BYTES, EventBytes, Offset, PartitionId, Timestamp, Word,
};

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::CARRIED_MAX;

/// What another partition has prepared for this one. The engine's ACROSS.md says what the places mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Where it comes from.
    pub home: PartitionId,
    /// Where it goes.
    pub to: PartitionId,
    /// Everything from this place to the last arrival is in it.
    pub covers_from: u64,
    /// Everything below this is settled at home.
    pub settled_below: u64,
    /// Log time at home: all that is said here had happened.
    pub time: Timestamp,
    /// At most [`CARRIED_MAX`].
    pub arrivals: Vec<Arrival>,
}

/// What a partition has said of what was carried to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Log time there: all of them had been logged.
    pub time: Timestamp,
    /// Next offset there: they were all logged below it.
    pub next_offset: Offset,
    /// At most [`CARRIED_MAX`].
    pub words: Vec<Word>,
}

const MALFORMED: DecodeError = DecodeError::Contradiction("an event is not what it should be");

pub(super) fn put(out: &mut Vec<u8>, carried: &Carried) -> Result<(), EncodeError> {
    at_most("arrivals", carried.arrivals.len(), CARRIED_MAX)?;
    out.extend_from_slice(&carried.home.0.to_le_bytes());
    out.extend_from_slice(&carried.to.0.to_le_bytes());
    out.extend_from_slice(&carried.covers_from.to_le_bytes());
    out.extend_from_slice(&carried.settled_below.to_le_bytes());
    out.extend_from_slice(&carried.time.0.to_le_bytes());
    put_events(out, carried.arrivals.iter().map(Arrival::to_bytes));
    Ok(())
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Carried, DecodeError> {
    let (home, to) = (PartitionId(reader.u16("home")?), PartitionId(reader.u16("destination")?));
    let (covers_from, settled_below) = (reader.u64("first place")?, reader.u64("settled place")?);
    let time = Timestamp(reader.u64("time")?);
    let arrivals = events(reader, |bytes| {
        Arrival::from_bytes(bytes).filter(|arrival| arrival.to_bytes() == *bytes)
    })?;
    Ok(Carried { home, to, covers_from, settled_below, time, arrivals })
}

pub(super) fn put_words(out: &mut Vec<u8>, said: &Words) -> Result<(), EncodeError> {
    at_most("words", said.words.len(), CARRIED_MAX)?;
    out.extend_from_slice(&said.time.0.to_le_bytes());
    out.extend_from_slice(&said.next_offset.0.to_le_bytes());
    put_events(out, said.words.iter().map(Word::to_bytes));
    Ok(())
}

fn put_events(out: &mut Vec<u8>, events: impl ExactSizeIterator<Item = EventBytes>) {
    out.extend_from_slice(&(events.len() as u32).to_le_bytes());
    events.for_each(|event| out.extend_from_slice(&event));
}

pub(super) fn words(reader: &mut Reader<'_>) -> Result<Words, DecodeError> {
    let time = Timestamp(reader.u64("time")?);
    let next_offset = Offset(reader.u64("next offset")?);
    let word = |bytes: &_| Word::from_bytes(bytes).filter(|word| word.to_bytes() == *bytes);
    Ok(Words { time, next_offset, words: events(reader, word)? })
}

fn events<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&EventBytes) -> Option<T>,
) -> Result<Vec<T>, DecodeError> {
    let found = reader.u32("number of events")? as usize;
    if found > CARRIED_MAX {
        return Err(DecodeError::TooMany { what: "events", found, limit: CARRIED_MAX });
    }
    let (events, _) = reader.take("events", found * EVENT_BYTES)?.as_chunks::<EVENT_BYTES>();
    let decoded: Option<Vec<T>> = events.iter().map(decode).collect();
    decoded.ok_or(MALFORMED)
}
