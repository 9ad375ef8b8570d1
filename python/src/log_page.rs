//! Pages of the log in a form that Python takes whole: numpy sees the events of a page as one array.

use walengine_net::client::{ClientError, Page};
use walengine_net::entry::EntryError;
use walengine_net::model::{EVENT_BYTES, Offset, RESOLVED_BYTES};
use walengine_net::records::{Content, records};

/// Bytes of a record with an event: offset, log time, verdict, whether it has a resolution, six zeros,
/// event, resolution. `RECORD` in `arrays.py` says the same to numpy.
const RECORD_BYTES: usize = 24 + EVENT_BYTES + RESOLVED_BYTES;

/// An opaque record: offset, log time, verdict, id, expected offset, bytes.
type Opaque = (u64, u64, u8, u128, Option<u64>, Vec<u8>);

/// Next offset, durable offset, records with events, opaque records. The package puts the two kinds of
/// records together by their offsets.
pub type PageFields = (u64, u64, Vec<u8>, Vec<Opaque>);

/// The records of a page that are not before `from`: its first entry may begin earlier.
///
/// # Errors
/// An entry is damaged, or of a kind that this version does not know.
pub fn fields(page: &Page, from: Offset) -> Result<PageFields, ClientError> {
    let (mut events, mut opaque) = (Vec::new(), Vec::new());
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| unreadable(&error))?;
        let all = records(&header, body).map_err(|error| unreadable(&error))?;
        events.reserve(all.size_hint().0 * RECORD_BYTES);
        for record in all.filter(|record| record.offset >= from) {
            let (offset, time) = (record.offset.0, record.timestamp.0);
            let verdict = record.verdict.number();
            match record.content {
                Content::Event { event, resolved } => {
                    events.extend_from_slice(&offset.to_le_bytes());
                    events.extend_from_slice(&time.to_le_bytes());
                    let is_resolved = u8::from(resolved.is_some());
                    events.extend_from_slice(&[verdict, is_resolved, 0, 0, 0, 0, 0, 0]);
                    events.extend_from_slice(event);
                    events.extend_from_slice(resolved.unwrap_or(&[0; RESOLVED_BYTES]));
                }
                Content::Opaque { id, expected_offset, data } => {
                    let expected = expected_offset.map(|offset| offset.0);
                    opaque.push((offset, time, verdict, id, expected, data.to_vec()));
                }
            }
        }
    }
    Ok((page.next_offset.0, page.durable_offset.0, events, opaque))
}

fn unreadable(error: &EntryError) -> ClientError {
    ClientError::Answer(format!("an entry of the log: {error}"))
}
