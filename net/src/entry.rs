//! One entry: the log's unit, the same on disk, between replicas and on the feed.
//!
//! 128 bytes of header and an rkyv body. Layout: `engine/src/storage/FORMAT.md`, section 2. No I/O.
//! A decoded header counts only after [`EntryHeader::check`] has passed with the body.

use std::fmt;
use std::ops::Range;

use num_enum::TryFromPrimitive;
use rkyv::rancor;

use crate::model::{
    ClusterId, EVENT_BYTES, EventBytes, Offset, PartitionId, RESOLVED_BYTES, ResolvedBytes,
    Timestamp, Verdict,
};

/// Size of the header in bytes.
pub const HEADER_BYTES: usize = 128;
/// First four bytes of every entry: "WALE".
pub const MAGIC: u32 = u32::from_le_bytes(*b"WALE");
/// Version of header and bodies that this program writes.
pub const FORMAT_VERSION: u16 = 1;
/// Largest body of an entry in bytes: a full frame of events with their verdicts and resolutions.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// Expected offset of a record that may get any.
pub const ANY_OFFSET: u64 = u64::MAX;

/// The first bytes of a body whose entry was imported, and is not the import's last: see
/// [`is_amid_import`]. The lists of the body stand behind them.
pub const IMPORT_MARK: [u8; 8] = *b"imported";
/// Size of a body's root, whose first vector is that of the events, or heads.
const BODY_ROOT_BYTES: usize = 24;
const _: () = assert!(
    size_of::<ArchivedEventsBody>() == BODY_ROOT_BYTES
        && size_of::<ArchivedRecordsBody>() == BODY_ROOT_BYTES
);

const CRC_AT: usize = 4;
const CRC_END: usize = 8;
const DURABLE_AT: usize = 64;
const DURABLE_END: usize = 72;
const CHAIN_AT: usize = 80;
const CHAIN_END: usize = 112;
const RESERVED_AT: usize = 120;
const _: () = assert!(CHAIN_END + 16 == HEADER_BYTES && DURABLE_END <= CHAIN_AT);

/// Links an entry to the one before it. Equal hashes mean equal history.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl fmt::Display for ChainHash {
    /// The first twelve hexadecimal digits: enough to compare by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u16)]
pub enum EntryKind {
    /// Nothing: the first entry of a leader's term.
    Blank = 0,
    /// An [`EventsBody`].
    Events = 1,
    /// A [`RecordsBody`].
    Records = 2,
    /// Members of the group. Opaque to all but the consensus library.
    Membership = 3,
}

/// Everything about an entry but its body, checksum and chain hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// What the body holds.
    pub kind: EntryKind,
    /// Raft term in which the leader decided it.
    pub term: u64,
    /// Node id of that leader.
    pub leader_node: u64,
    /// Raft index: 1, 2, 3, … without gaps.
    pub index: u64,
    /// Offset of its first record; without records, the next offset.
    pub base_offset: Offset,
    /// Number of records.
    pub records: u32,
    /// Log time of its first record. Record `i` has this plus `i`.
    pub timestamp: Timestamp,
}

/// A header as it stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The other fields.
    pub meta: EntryMeta,
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// Checksum over bytes 8–127 and the body.
    pub crc: u32,
    /// Newest index that the writer knew to be durable on its own disk.
    pub durable_index: u64,
    /// Hash over the previous entry's chain hash and this entry.
    pub chain: ChainHash,
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Fewer bytes than the header or the body needs.
    #[error("needs {needed} bytes, has {found}")]
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// All zero: nothing was written here.
    #[error("nothing was written here")]
    Blank,
    /// Not the first four bytes of an entry.
    #[error("magic {0:#010x} is not that of an entry")]
    Magic(u32),
    /// Written by a version that this program does not know.
    #[error("format version {0} is not known to this program")]
    Version(u16),
    /// No such kind of entry.
    #[error("entry kind {0} is not known to this program")]
    Kind(u16),
    /// The length of the body is past the limit.
    #[error("body of {0} bytes is larger than the limit")]
    BodyBytes(u32),
    /// Reserved bytes are set.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// The checksum does not match.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The body does not fit its kind.
    #[error("the body is malformed")]
    Body,
}

/// Body of [`EntryKind::Events`]: requests and decisions, in order of offset.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct EventsBody {
    /// Events as the client sent them.
    pub events: Vec<EventBytes>,
    /// Number of each event's [`Verdict`].
    pub verdicts: Vec<u8>,
    /// Effective accounts and amounts that the events do not tell, in order of `index`.
    pub resolved: Vec<ResolvedBytes>,
}

/// Body of [`EntryKind::Records`].
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct RecordsBody {
    /// One for each record, in order of offset.
    pub heads: Vec<RecordHead>,
    /// Number of each record's [`Verdict`].
    pub verdicts: Vec<u8>,
    /// The records' bytes, concatenated.
    pub blob: Vec<u8>,
}

/// Id and length of an opaque record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct RecordHead {
    /// Its id, which has one verdict for ever.
    pub id: u128,
    /// Offset that the writer expected, or [`ANY_OFFSET`].
    pub expected_offset: u64,
    /// Length in bytes.
    pub bytes: u32,
}

impl EntryMeta {
    /// Encodes the header that goes in front of `body`.
    ///
    /// # Panics
    /// If the body is larger than [`BODY_BYTES_MAX`].
    pub fn encode(&self, body: &[u8], durable_index: u64, previous: ChainHash) -> EntryHeader {
        assert!(body.len() <= BODY_BYTES_MAX, "body of {} bytes", body.len());
        let mut header = EntryHeader {
            meta: *self,
            body_bytes: body.len() as u32,
            crc: 0,
            durable_index,
            chain: ChainHash::default(),
        };
        header.chain = chain_hash(previous, &header.to_bytes(), body);
        header.crc = crc(&header.to_bytes(), body);
        header
    }
}

impl EntryHeader {
    /// Bytes of header and body together.
    pub fn entry_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Encodes. Bytes as in FORMAT.md, section 2.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(CRC_AT, &self.crc.to_le_bytes());
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(10, &(self.meta.kind as u16).to_le_bytes());
        put(12, &self.body_bytes.to_le_bytes());
        put(16, &self.meta.cluster.0.to_le_bytes());
        put(32, &self.meta.term.to_le_bytes());
        put(40, &self.meta.index.to_le_bytes());
        put(48, &self.meta.base_offset.0.to_le_bytes());
        put(56, &self.meta.timestamp.0.to_le_bytes());
        put(DURABLE_AT, &self.durable_index.to_le_bytes());
        put(72, &self.meta.partition.0.to_le_bytes());
        put(76, &self.meta.records.to_le_bytes());
        put(CHAIN_AT, &self.chain.0);
        put(112, &self.meta.leader_node.to_le_bytes());
        bytes
    }

    /// Decodes the first [`HEADER_BYTES`] of `bytes`. The checksum is not checked yet.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(EntryError::Short { needed: HEADER_BYTES, found: bytes.len() });
        };
        let magic = u32::from_le_bytes(array(bytes, 0));
        if magic != MAGIC {
            let blank = bytes.iter().all(|&byte| byte == 0);
            return Err(if blank { EntryError::Blank } else { EntryError::Magic(magic) });
        }
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != FORMAT_VERSION {
            return Err(EntryError::Version(version));
        }
        let kind = EntryKind::try_from(u16::from_le_bytes(array(bytes, 10)))
            .map_err(|unknown| EntryError::Kind(unknown.number))?;
        let body_bytes = u32::from_le_bytes(array(bytes, 12));
        if body_bytes as usize > BODY_BYTES_MAX {
            return Err(EntryError::BodyBytes(body_bytes));
        }
        if bytes[74..76] != [0; 2] || bytes[RESERVED_AT..] != [0; 8] {
            return Err(EntryError::Reserved);
        }
        Ok(Self {
            meta: EntryMeta {
                cluster: ClusterId(u128::from_le_bytes(array(bytes, 16))),
                partition: PartitionId(u16::from_le_bytes(array(bytes, 72))),
                kind,
                term: u64::from_le_bytes(array(bytes, 32)),
                leader_node: u64::from_le_bytes(array(bytes, 112)),
                index: u64::from_le_bytes(array(bytes, 40)),
                base_offset: Offset(u64::from_le_bytes(array(bytes, 48))),
                records: u32::from_le_bytes(array(bytes, 76)),
                timestamp: Timestamp(u64::from_le_bytes(array(bytes, 56))),
            },
            body_bytes,
            crc: u32::from_le_bytes(array(bytes, CRC_AT)),
            durable_index: u64::from_le_bytes(array(bytes, DURABLE_AT)),
            chain: ChainHash(array(bytes, CHAIN_AT)),
        })
    }

    /// Checks that the body is complete and that the checksum over both matches.
    pub fn check(&self, body: &[u8]) -> Result<(), EntryError> {
        if body.len() != self.body_bytes as usize {
            return Err(EntryError::Short { needed: self.body_bytes as usize, found: body.len() });
        }
        let found = crc(&self.to_bytes(), body);
        if found == self.crc { Ok(()) } else { Err(EntryError::Crc { expected: self.crc, found }) }
    }

    /// Whether this entry follows one whose chain hash is `previous`.
    pub fn follows(&self, previous: ChainHash, body: &[u8]) -> bool {
        chain_hash(previous, &self.to_bytes(), body) == self.chain
    }

    /// Offset after this entry's last record.
    pub fn next_offset(&self) -> Offset {
        self.meta.base_offset.plus(u64::from(self.meta.records))
    }
}

/// Decodes header and body of the entry at the start of `bytes`, and checks the checksum. The rest
/// of `bytes` is ignored.
pub fn decode_entry(bytes: &[u8]) -> Result<(EntryHeader, &[u8]), EntryError> {
    let header = EntryHeader::decode(bytes)?;
    let Some(body) = bytes.get(HEADER_BYTES..header.entry_bytes()) else {
        return Err(EntryError::Short { needed: header.entry_bytes(), found: bytes.len() });
    };
    header.check(body)?;
    Ok((header, body))
}

/// Checks and opens a body of [`EntryKind::Events`] without copying it. In the result every verdict
/// is known, and every resolution names a record.
pub fn access_events(body: &[u8]) -> Result<&ArchivedEventsBody, EntryError> {
    let body =
        rkyv::access::<ArchivedEventsBody, rancor::Failure>(body).map_err(|_| EntryError::Body)?;
    let verdicts_known = body.verdicts.iter().all(|&number| Verdict::from_number(number).is_some());
    let records = body.events.len();
    let resolved_known = body
        .resolved
        .iter()
        .all(|resolved| crate::model::Resolved::from_bytes(resolved).index < records as u32);
    if body.verdicts.len() == records && verdicts_known && resolved_known {
        Ok(body)
    } else {
        Err(EntryError::Body)
    }
}

/// Where the events stand in the body of an entry of [`EntryKind::Events`], by the header alone. `None` if
/// its body is not laid out as this program lays it out: [`access_events`] finds them.
///
/// The events are the first list of a body, behind the mark of an import if it has one; then come the
/// verdicts, the resolutions and the root. So the lengths tell whether there is a mark: a resolution is
/// eight times as long. Whoever reads only these bytes has checked nothing.
pub fn events_at(header: &EntryHeader) -> Option<Range<usize>> {
    let records = header.meta.records as usize;
    let least = records * (EVENT_BYTES + 1) + BODY_ROOT_BYTES;
    let rest = (header.body_bytes as usize).checked_sub(least)?;
    let start = rest % RESOLVED_BYTES;
    let is_known = (start == 0 || start == IMPORT_MARK.len())
        && rest / RESOLVED_BYTES <= records
        && header.meta.kind == EntryKind::Events;
    is_known.then_some(start..start + records * EVENT_BYTES)
}

/// Checks and opens a body of [`EntryKind::Records`] without copying it. In the result every
/// verdict is known, and the lengths add up to that of the blob.
pub fn access_records(body: &[u8]) -> Result<&ArchivedRecordsBody, EntryError> {
    let body =
        rkyv::access::<ArchivedRecordsBody, rancor::Failure>(body).map_err(|_| EntryError::Body)?;
    let verdicts_known = body.verdicts.iter().all(|&number| Verdict::from_number(number).is_some());
    let blob_bytes: u64 = body.heads.iter().map(|head| u64::from(head.bytes.to_native())).sum();
    let lengths_agree =
        body.verdicts.len() == body.heads.len() && blob_bytes == body.blob.len() as u64;
    if verdicts_known && lengths_agree { Ok(body) } else { Err(EntryError::Body) }
}

/// Where the records of a log end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordsEnd {
    /// Offset of the record that comes next.
    pub next_offset: Offset,
    /// Log time of the last record.
    pub timestamp: Timestamp,
}

impl RecordsEnd {
    /// The end behind an entry of so many records, each a nanosecond later than the one before.
    ///
    /// # Errors
    /// What contradicts this end.
    pub fn with(
        self,
        base_offset: Offset,
        timestamp: Timestamp,
        records: u32,
    ) -> Result<Self, &'static str> {
        if base_offset != self.next_offset {
            return Err("the offset does not follow the one before");
        }
        let records = u64::from(records);
        let next_offset = self.next_offset.0.checked_add(records);
        let next_offset = Offset(next_offset.ok_or("the offset is past 2^64")?);
        if records == 0 {
            return Ok(Self { next_offset, timestamp: self.timestamp.max(timestamp) });
        }
        if timestamp <= self.timestamp {
            return Err("the time does not follow the one before");
        }
        let last = timestamp.0.checked_add(records - 1).ok_or("the time is past 2^64")?;
        Ok(Self { next_offset, timestamp: Timestamp(last) })
    }
}

/// Whether the body of an entry with records says that its entry was imported and more is to come.
/// While the newest entry says so, its partition takes an import and nothing else.
///
/// No id can be mistaken for the mark: the first list begins behind it.
pub fn is_amid_import(body: &[u8]) -> bool {
    let first_list = || {
        let root = body.len().checked_sub(BODY_ROOT_BYTES)?;
        let distance = i32::from_le_bytes(*body.get(root..)?.first_chunk()?);
        root.checked_add_signed(distance as isize)
    };
    body.starts_with(&IMPORT_MARK) && first_list() == Some(IMPORT_MARK.len())
}

fn crc(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[CRC_END..]), body)
}

/// The hash leaves out what may differ between replicas or depends on the hash itself: checksum,
/// durable index, chain hash.
fn chain_hash(previous: ChainHash, header: &[u8; HEADER_BYTES], body: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(&header[CRC_END..DURABLE_AT]);
    hasher.update(&header[DURABLE_END..CHAIN_AT]);
    hasher.update(&header[CHAIN_END..]);
    hasher.update(body);
    ChainHash(*hasher.finalize().as_bytes())
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(records: u32) -> EntryMeta {
        EntryMeta {
            cluster: ClusterId(0xfeed),
            partition: PartitionId(1),
            kind: EntryKind::Events,
            term: 2,
            leader_node: 3,
            index: 4,
            base_offset: Offset(5),
            records,
            timestamp: Timestamp(6),
        }
    }

    fn events_body() -> Vec<u8> {
        let body = EventsBody {
            events: vec![[7; 128], [8; 128]],
            verdicts: vec![0, 50],
            resolved: vec![[0; 64]],
        };
        rkyv::to_bytes::<rancor::Error>(&body).unwrap().to_vec()
    }

    #[test]
    fn entry_survives_its_bytes() {
        let body = events_body();
        let header = meta(2).encode(&body, 3, ChainHash([9; 32]));
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&body);
        let (decoded, found) = decode_entry(&bytes).unwrap();
        assert_eq!((decoded, found), (header, body.as_slice()));
        assert!(decoded.follows(ChainHash([9; 32]), found));
        assert!(!decoded.follows(ChainHash([8; 32]), found));
        assert_eq!(access_events(found).unwrap().events.as_slice(), &[[7; 128], [8; 128]]);
    }

    #[test]
    fn only_the_mark_in_front_of_the_lists_says_that_an_import_is_under_way() {
        let plain = events_body();
        assert!(!is_amid_import(&plain));
        let marked = [&IMPORT_MARK[..], &plain].concat();
        assert!(is_amid_import(&marked));
        let (opened, body) = (access_events(&marked).unwrap(), access_events(&plain).unwrap());
        assert_eq!(opened.events.as_slice(), body.events.as_slice());
        // An event whose id begins with the same bytes.
        let mut event = [7; 128];
        event[..8].copy_from_slice(&IMPORT_MARK);
        let body = EventsBody { events: vec![event], verdicts: vec![0], resolved: Vec::new() };
        let bytes = rkyv::to_bytes::<rancor::Error>(&body).unwrap();
        assert!(bytes.starts_with(&IMPORT_MARK) && !is_amid_import(&bytes));
        for length in 0..40 {
            assert!(!is_amid_import(&marked[..length.min(marked.len())]), "{length}");
        }
    }

    #[test]
    fn events_stand_where_the_lengths_of_their_body_say() {
        let event = |number: usize| {
            let mut event = [number as u8; 128];
            event[..8].copy_from_slice(if number.is_multiple_of(3) {
                &IMPORT_MARK
            } else {
                b"another "
            });
            event[8..16].copy_from_slice(&(number as u64).to_le_bytes());
            event
        };
        let mut memory = rkyv::util::AlignedVec::<16>::new();
        for records in (1..40).chain([255, 256, 1000, 8190]) {
            for resolved in [0, 1, 2, 3, records / 2, records - 1, records] {
                if resolved > records {
                    continue;
                }
                let resolution = |index| crate::model::Resolved { index, ..Default::default() };
                let body = EventsBody {
                    events: (0..records).map(event).collect(),
                    verdicts: vec![0; records],
                    resolved: (0..resolved).map(|at| resolution(at as u32).to_bytes()).collect(),
                };
                for mark in [&[][..], &IMPORT_MARK[..]] {
                    memory.clear();
                    memory.extend_from_slice(mark);
                    let bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&body, memory);
                    memory = bytes.unwrap();
                    let header = meta(records as u32).encode(&memory, 3, ChainHash::default());
                    let events = events_at(&header).unwrap();
                    assert_eq!(events.start, mark.len(), "{records} records, {resolved} resolved");
                    let found = memory[events].chunks_exact(128);
                    assert!(found.eq(body.events.iter().map(|event| &event[..])));
                }
            }
        }
    }

    #[test]
    fn events_of_a_body_of_odd_length_are_not_guessed() {
        let body = events_body();
        for odd in (1..64).filter(|odd| *odd != 8) {
            let longer = [&vec![0; odd][..], &body].concat();
            let header = meta(2).encode(&longer, 3, ChainHash::default());
            assert_eq!(events_at(&header), None, "{odd}");
        }
        let header = meta(3).encode(&body, 3, ChainHash::default());
        assert_eq!(events_at(&header), None, "too short for three");
        let header = meta(0).encode(&body, 3, ChainHash::default());
        assert_eq!(events_at(&header), None, "more resolutions than records");
        let records = EntryMeta { kind: EntryKind::Records, ..meta(2) };
        assert_eq!(events_at(&records.encode(&body, 3, ChainHash::default())), None);
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_detected() {
        let body = events_body();
        let mut bytes = meta(2).encode(&body, 3, ChainHash::default()).to_bytes().to_vec();
        bytes.extend_from_slice(&body);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(decode_entry(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn durable_index_is_outside_the_chain() {
        let body = events_body();
        let one = meta(2).encode(&body, 3, ChainHash::default());
        let other = meta(2).encode(&body, 4, ChainHash::default());
        assert_eq!(one.chain, other.chain);
        assert_ne!(one.crc, other.crc);
    }

    #[test]
    fn bodies_that_contradict_themselves_are_refused() {
        let encode = |body: &EventsBody| rkyv::to_bytes::<rancor::Error>(body).unwrap();
        let good = EventsBody { events: vec![[0; 128]], verdicts: vec![0], resolved: vec![] };
        assert!(access_events(&encode(&good)).is_ok());
        let unknown = EventsBody { verdicts: vec![255], ..good.clone() };
        assert_eq!(access_events(&encode(&unknown)).err(), Some(EntryError::Body));
        let missing = EventsBody { verdicts: vec![], ..good.clone() };
        assert_eq!(access_events(&encode(&missing)).err(), Some(EntryError::Body));
        let index = crate::model::Resolved { index: 1, ..Default::default() };
        let beyond = EventsBody { resolved: vec![index.to_bytes()], ..good };
        assert_eq!(access_events(&encode(&beyond)).err(), Some(EntryError::Body));

        let encode = |body: &RecordsBody| rkyv::to_bytes::<rancor::Error>(body).unwrap();
        let head = RecordHead { id: 1, expected_offset: ANY_OFFSET, bytes: 2 };
        let good = RecordsBody { heads: vec![head], verdicts: vec![0], blob: vec![1, 2] };
        assert!(access_records(&encode(&good)).is_ok());
        let short = RecordsBody { blob: vec![1], ..good };
        assert_eq!(access_records(&encode(&short)).err(), Some(EntryError::Body));
    }
}
