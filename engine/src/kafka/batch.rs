//! Records of the log as one batch of Kafka's format 2. No I/O.

use serde::ser::Error as _;
use serde_json::Error;

use super::wire::Writer;
use crate::http::json::Record;

/// Bytes of a batch before its records.
const HEAD_BYTES: usize = 61;

/// Records as readers take them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Empty without records.
    pub bytes: Vec<u8>,
    /// How many there are in it.
    pub records: u64,
}

/// As many of the records, which follow each other, as fit into `bytes_max`; with `is_first` the first always does, so that a
/// reader comes on. A record's offset is the log's, its time the log's in milliseconds.
///
/// # Errors
/// A record is not shown as JSON, or does not follow the one before, which is our own mistake.
pub fn batch(records: &[Record], bytes_max: usize, is_first: bool) -> Result<Batch, Error> {
    let Some(first) = records.first() else { return Ok(Batch::default()) };
    let (mut encoded, mut count) = (Vec::new(), 0_i64);
    let base_millis = millis(first);
    let mut max_millis = base_millis;
    for record in records {
        if record.offset.0 != first.offset.0 + count.cast_unsigned() {
            return Err(Error::custom(format!("a record is missing before {}", record.offset.0)));
        }
        let body = body(record, millis(record) - base_millis, count)?;
        let is_free = is_first && count == 0;
        if !is_free && HEAD_BYTES + encoded.len() + body.len() + 5 > bytes_max {
            break;
        }
        varint(&mut encoded, length(&body));
        encoded.extend(body);
        count += 1;
        max_millis = millis(record);
    }
    if count == 0 {
        return Ok(Batch::default());
    }
    let mut checked = Writer::default();
    checked.i16(0); // neither compressed nor transactional, and each record has its own time
    checked.i32(count as i32 - 1);
    checked.i64(base_millis);
    checked.i64(max_millis);
    checked.i64(-1); // no producer, nor its epoch and sequence
    checked.i16(-1);
    checked.i32(-1);
    checked.i32(count as i32);
    checked.0.extend(encoded);
    let mut whole = Writer::default();
    whole.i64(first.offset.0.cast_signed());
    whole.length(4 + 1 + 4 + checked.0.len());
    whole.i32(-1); // the leader's term is no reader's business
    whole.i8(2);
    whole.0.extend(crc32c::crc32c(&checked.0).to_be_bytes());
    whole.0.extend(checked.0);
    Ok(Batch { bytes: whole.0, records: count.cast_unsigned() })
}

fn millis(record: &Record) -> i64 {
    (record.timestamp.0 / 1_000_000).cast_signed()
}

fn body(record: &Record, after_millis: i64, place: i64) -> Result<Vec<u8>, Error> {
    let mut body = vec![0]; // attributes, of which there are none
    varint(&mut body, after_millis);
    varint(&mut body, place);
    bytes(&mut body, record.id().map(str::as_bytes));
    bytes(&mut body, Some(&serde_json::to_vec(record)?));
    varint(&mut body, 2);
    for (name, value) in [("kind", record.kind.name()), ("verdict", record.verdict)] {
        bytes(&mut body, Some(name.as_bytes()));
        bytes(&mut body, Some(value.as_bytes()));
    }
    Ok(body)
}

fn bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint(out, length(bytes));
            out.extend(bytes);
        }
        None => varint(out, -1),
    }
}

/// In an answer, whose length is bounded.
fn length(bytes: &[u8]) -> i64 {
    (bytes.len() as u64).cast_signed()
}

/// Zigzag, then seven bits a byte, the lowest first.
fn varint(out: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63).cast_unsigned();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag() {
        for (value, expected) in
            [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (64, vec![0x80, 1]), (300, vec![0xd8, 4])]
        {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }
}
