//! Pages of the log in a form that Python takes whole: numpy sees the events of a page as one array.

use walengine_net::client::{ClientError, Page};
use walengine_net::entry::{
    ANY_OFFSET, EntryError, EntryHeader, EntryKind, access_events, access_records,
};
use walengine_net::model::{EVENT_BYTES, Offset, RESOLVED_BYTES, Resolved};

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
    let (mut records, mut opaque) = (Vec::new(), Vec::new());
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| unreadable(&error))?;
        match header.meta.kind {
            EntryKind::Events => add_events(&header, body, from, &mut records),
            EntryKind::Records => add_opaque(&header, body, from, &mut opaque),
            EntryKind::Blank | EntryKind::Membership => Ok(()),
        }
        .map_err(|error| unreadable(&error))?;
    }
    Ok((page.next_offset.0, page.durable_offset.0, records, opaque))
}

fn unreadable(error: &EntryError) -> ClientError {
    ClientError::Answer(format!("an entry of the log: {error}"))
}

/// Offset and log time of each record of an entry, from `from` on.
fn places(header: &EntryHeader, from: Offset) -> impl Iterator<Item = (usize, u64, u64)> {
    let (base, time) = (header.meta.base_offset.0, header.meta.timestamp.0);
    let skipped = from.0.saturating_sub(base);
    let wanted = skipped..u64::from(header.meta.records).max(skipped);
    wanted.map(move |at| (at as usize, base + at, time + at))
}

fn add_events(
    header: &EntryHeader,
    body: &[u8],
    from: Offset,
    records: &mut Vec<u8>,
) -> Result<(), EntryError> {
    let body = access_events(body)?;
    let mut resolved = body.resolved.iter().peekable();
    records.reserve(body.events.len() * RECORD_BYTES);
    for (at, offset, time) in places(header, from) {
        let (Some(event), Some(verdict)) = (body.events.get(at), body.verdicts.get(at)) else {
            return Err(EntryError::Body);
        };
        let index = |bytes| Resolved::from_bytes(bytes).index as usize;
        while resolved.next_if(|bytes| index(*bytes) < at).is_some() {}
        let its = resolved.next_if(|bytes| index(*bytes) == at);
        records.extend_from_slice(&offset.to_le_bytes());
        records.extend_from_slice(&time.to_le_bytes());
        records.extend_from_slice(&[*verdict, u8::from(its.is_some()), 0, 0, 0, 0, 0, 0]);
        records.extend_from_slice(event);
        records.extend_from_slice(its.unwrap_or(&[0; RESOLVED_BYTES]));
    }
    Ok(())
}

fn add_opaque(
    header: &EntryHeader,
    body: &[u8],
    from: Offset,
    opaque: &mut Vec<Opaque>,
) -> Result<(), EntryError> {
    let body = access_records(body)?;
    let ends = body.heads.iter().scan(0usize, |end, head| {
        *end += head.bytes.to_native() as usize;
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    for (at, offset, time) in places(header, from) {
        let start = if at == 0 { Some(0) } else { ends.get(at - 1).copied() };
        let bytes = start.zip(ends.get(at)).and_then(|(start, end)| body.blob.get(start..*end));
        let (Some(head), Some(verdict), Some(bytes)) =
            (body.heads.get(at), body.verdicts.get(at), bytes)
        else {
            return Err(EntryError::Body);
        };
        let expected = Some(head.expected_offset.to_native()).filter(|at| *at != ANY_OFFSET);
        opaque.push((offset, time, *verdict, head.id.to_native(), expected, bytes.to_vec()));
    }
    Ok(())
}
