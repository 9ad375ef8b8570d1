//! The values behind the golden files, and their encoding by today's code.

use rkyv::rancor;
use walengine::storage::layout::{
    FenceBlock, HardState, HardStateSlot, RunBlock, RunEntry, RunHeader, SegmentHeader,
    SnapshotFrame, SnapshotMeta, Superblock, Tail, block_up, entry_up,
};
use walengine_net::entry::{
    ANY_OFFSET, ChainHash, EntryKind, EntryMeta, EventsBody, RecordHead, RecordsBody,
};
use walengine_net::model::{
    AccountId, Amount, ClusterId, Code, EventId, LedgerId, Offset, PartitionId, Resolved,
    Timestamp, Transfer, TransferFlags,
};

const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
const PARTITION: PartitionId = PartitionId(3);
/// Contents of the snapshot.
pub const SNAPSHOT_DATA: &[u8] = b"the state of the ledger, opaque to the storage";
const SEGMENT_BYTES: u64 = 64 << 10;

pub fn superblock() -> Superblock {
    Superblock {
        cluster: CLUSTER,
        node: 7,
        partitions: 4,
        segment_bytes: SEGMENT_BYTES,
        created: Timestamp(1_700_000_000_000_000_001),
        replicated: false,
        logs_created: false,
    }
}

pub fn segment_header() -> SegmentHeader {
    SegmentHeader {
        cluster: CLUSTER,
        partition: PARTITION,
        sequence: 1,
        created: Timestamp(1_700_000_000_000_000_002),
        before: Tail::default(),
        segment_bytes: SEGMENT_BYTES,
    }
}

pub fn hard_state() -> HardStateSlot {
    HardStateSlot {
        cluster: CLUSTER,
        partition: PARTITION,
        sequence: 9,
        state: HardState {
            term: 2,
            voted_for: Some(7),
            vote_committed: true,
            commit_index: 2,
            durable_index: 3,
        },
        cut_after: Some(3),
    }
}

pub fn snapshot() -> SnapshotMeta {
    let applied = Tail {
        index: 3,
        term: 2,
        next_offset: Offset(4),
        timestamp: Timestamp(30),
        chain: ChainHash([5; 32]),
    };
    SnapshotMeta { cluster: CLUSTER, partition: PARTITION, created: Timestamp(40), applied }
}

pub fn events() -> EventsBody {
    let transfer = Transfer {
        id: EventId(11),
        debit_account_id: AccountId(1),
        credit_account_id: AccountId(2),
        amount: Amount(300),
        ledger: LedgerId(840),
        code: Code(1),
        flags: TransferFlags::BALANCING_DEBIT,
        timestamp: Timestamp(20),
        ..Transfer::default()
    };
    let resolved = Resolved {
        debit_account_id: AccountId(1),
        credit_account_id: AccountId(2),
        amount: Amount(250),
        index: 1,
        ledger: LedgerId(840),
        code: Code(1),
    };
    EventsBody {
        events: vec![[0; 128], transfer.to_bytes()],
        verdicts: vec![41, 0],
        resolved: vec![resolved.to_bytes()],
    }
}

pub fn records() -> RecordsBody {
    let head = |id, expected_offset, bytes| RecordHead { id, expected_offset, bytes };
    RecordsBody {
        heads: vec![head(21, ANY_OFFSET, 5), head(22, 3, 6)],
        verdicts: vec![0, 0],
        blob: b"firstsecond".to_vec(),
    }
}

/// Kind, body and number of records of the segment's entries.
pub fn entries() -> Vec<(EntryKind, Vec<u8>, u32)> {
    let events = rkyv::to_bytes::<rancor::Error>(&events()).expect("encodes").to_vec();
    let records = rkyv::to_bytes::<rancor::Error>(&records()).expect("encodes").to_vec();
    vec![
        (EntryKind::Blank, Vec::new(), 0),
        (EntryKind::Events, events, 2),
        (EntryKind::Records, records, 2),
    ]
}

/// Name and bytes of each golden file. The segment's file ends behind its last written block.
pub fn encode() -> Vec<(&'static str, Vec<u8>)> {
    let superblock = superblock().to_block();
    let older = HardStateSlot { sequence: 8, ..hard_state() };
    vec![
        ("superblock.bin", [superblock, superblock].concat()),
        ("segment.bin", segment()),
        ("hard_state.bin", [older.to_block(), hard_state().to_block()].concat()),
        ("snapshot.bin", snapshot_file()),
        ("run.bin", run_file()),
    ]
}

fn run_file() -> Vec<u8> {
    let (header, entries) = (run(), run_entries());
    let fences = FenceBlock::encode(&header, 0, &[entries[0].hash]);
    [header.to_block(), RunBlock::encode(&header, 0, &entries), fences].concat()
}

/// Of a run whose first offset is not 0: entries have the distance from it.
pub fn run() -> RunHeader {
    RunHeader {
        cluster: CLUSTER,
        partition: PARTITION,
        first: 0x0000_0a0b_0c0d_0e0f,
        end: 0x0000_0b00_0000_0000,
        entries: 3,
        id_low: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        id_high: 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20,
    }
}

/// Two keys with the same hash, and the last offset of the run.
pub fn run_entries() -> [RunEntry; 3] {
    let RunHeader { first, end, .. } = run();
    let entry = |hash, code, offset| RunEntry { hash, code, offset };
    [
        entry(0x0102_0304_0506_0000, 0, first),
        entry(0x0102_0304_0506_0000, 41, first + 0x0102_0304),
        entry(0xfffe_fdfc_fbfa_0000, 2, end - 1),
    ]
}

/// The first two entries in one flush, the third in the next.
fn segment() -> Vec<u8> {
    let mut bytes = segment_header().to_block().to_vec();
    let mut tail = Tail::default();
    for (number, (kind, body, records)) in entries().into_iter().enumerate() {
        let meta = EntryMeta {
            cluster: CLUSTER,
            partition: PARTITION,
            kind,
            term: 2,
            leader_node: 7,
            index: tail.index + 1,
            base_offset: tail.next_offset,
            records,
            timestamp: Timestamp(tail.timestamp.0 + 10),
        };
        let durable = if number == 2 { 2 } else { 0 };
        let header = meta.encode(&body, durable, tail.chain);
        tail = tail.with(&header).expect("entries follow each other");
        let start = if number == 2 { block_up } else { entry_up };
        bytes.resize(start(bytes.len() as u64) as usize, 0);
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes.resize(block_up(bytes.len() as u64) as usize, 0);
    bytes
}

fn snapshot_file() -> Vec<u8> {
    let mut bytes = snapshot().to_block().to_vec();
    let chunk = SnapshotFrame { trailer: false, bytes: SNAPSHOT_DATA.len() as u32, number: 0 };
    bytes.extend_from_slice(&chunk.to_bytes(SNAPSHOT_DATA));
    bytes.extend_from_slice(SNAPSHOT_DATA);
    bytes.resize(4096 + (256 << 10), 0);
    let mut sum = (SNAPSHOT_DATA.len() as u64).to_le_bytes().to_vec();
    sum.extend_from_slice(&crc32c::crc32c(SNAPSHOT_DATA).to_le_bytes());
    sum.extend_from_slice(&[0; 4]);
    let trailer = SnapshotFrame { trailer: true, bytes: 16, number: 1 };
    bytes.extend_from_slice(&trailer.to_bytes(&sum));
    bytes.extend_from_slice(&sum);
    bytes.resize(4096 + (256 << 10) + 4096, 0);
    bytes
}
