//! Is an export read back as it was, and is every change to one found?

use std::io::BufReader;

use walengine_net::entry::{
    ANY_OFFSET, ChainHash, EntryHeader, EntryKind, EntryMeta, EventsBody, RecordHead, RecordsBody,
};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Close, CloseFlags, ClusterId, Code,
    EventBytes, EventId, Expire, Guard, GuardFlags, LedgerId, Mail, Offset, PartitionId, Resolved,
    Sent, Timestamp, Transfer, TransferFlags, Verdict, Word,
};

use super::{Content, ExportError, ExportedEntry, Header, PartitionEnd, Reader, Writer};

const TIME: u64 = 1_800_000_000_000_000_000;

/// One event of every kind, with every field filled.
fn events() -> EventsBody {
    let transfer = Transfer {
        id: EventId(u128::MAX - 1),
        debit_account_id: AccountId(12),
        credit_account_id: AccountId(13),
        amount: Amount(u128::MAX),
        pending_id: EventId(15),
        user_data_128: u128::MAX,
        user_data_64: u64::MAX,
        user_data_32: u32::MAX,
        timeout_seconds: u32::MAX,
        ledger: LedgerId(u32::MAX),
        code: Code(u16::MAX),
        flags: TransferFlags::ALL,
        timestamp: Timestamp(0),
    };
    let account = Account {
        id: AccountId(1),
        user_data_128: 2,
        user_data_64: 3,
        ledger: LedgerId(4),
        code: Code(5),
        flags: AccountFlags::ALL,
        ..Account::default()
    };
    let guard = Guard {
        id: EventId(1),
        account_id: AccountId(2),
        available: Amount(3),
        version: 4,
        flags: GuardFlags::ALL,
    };
    let close = Close { id: EventId(1), account_id: AccountId(2), flags: CloseFlags::ALL };
    let word = Word {
        id: EventId(12),
        place: 13,
        verdict: Verdict::ExceedsDebits,
        amount: Amount(14),
        pending_id: EventId(15),
        is_linked: true,
    };
    // What no ledger logs: a field that walengine fills, and flags that are not known.
    let filled = Transfer { timestamp: Timestamp(9), ..transfer };
    let mut strange = account.to_bytes();
    strange[119] |= 0x08;
    let events: Vec<EventBytes> = vec![
        transfer.to_bytes(),
        account.to_bytes(),
        guard.to_bytes(),
        close.to_bytes(),
        Expire { pending_id: EventId(6) }.to_bytes(),
        Mail { home: PartitionId(8), previous: 9, settled_below: 10 }.to_bytes(),
        Arrival { sent: Sent::Transfer(transfer), place: 11 }.to_bytes(),
        Arrival { sent: Sent::Guard(guard), place: 12 }.to_bytes(),
        Arrival { sent: Sent::Word(word), place: 13 }.to_bytes(),
        word.to_bytes(),
        Transfer { id: EventId(7), ..Transfer::default() }.to_bytes(),
        filled.to_bytes(),
        strange,
        [0xff; 128],
    ];
    let verdicts = (0..events.len())
        .map(|place| Verdict::all().filter(|one| !one.is_malformed()).nth(place).unwrap().number());
    let resolved = |index, amount| Resolved {
        debit_account_id: AccountId(112),
        credit_account_id: AccountId(113),
        amount: Amount(amount),
        index,
        ledger: LedgerId(120),
        code: Code(121),
    };
    // As beside the word on what has changed nothing here.
    let none = Resolved { amount: Amount(7), index: 9, ..Resolved::default() };
    EventsBody {
        verdicts: verdicts.collect(),
        resolved: [resolved(0, u128::MAX), resolved(4, 0), none].map(|it| it.to_bytes()).into(),
        events,
    }
}

fn records() -> RecordsBody {
    let head = |id, expected_offset, bytes| RecordHead { id, expected_offset, bytes };
    RecordsBody {
        heads: vec![head(5, ANY_OFFSET, 3), head(6, 10, 0), head(7, 0, 5)],
        verdicts: vec![0, 100, 0],
        blob: b"a\"\n\0\xff\xfe\x80z".to_vec(),
    }
}

fn of_partition(partition: u16, offset: u64, time: u64, content: Content) -> ExportedEntry {
    let partition = PartitionId(partition);
    let (base_offset, timestamp) = (Offset(offset), Timestamp(time));
    ExportedEntry { partition, base_offset, timestamp, content }
}

fn entries() -> Vec<ExportedEntry> {
    let events = || Content::Events(events());
    vec![
        of_partition(0, 0, TIME, events()),
        of_partition(1, 0, TIME, Content::Records(records())),
        of_partition(0, 14, TIME + 14, Content::Records(records())),
        of_partition(0, 17, TIME + 500, events()),
    ]
}

fn in_log(entry: &ExportedEntry) -> (EntryHeader, Vec<u8>) {
    let (kind, body) = match &entry.content {
        Content::Events(body) => {
            (EntryKind::Events, rkyv::to_bytes::<rkyv::rancor::Error>(body).unwrap())
        }
        Content::Records(body) => {
            (EntryKind::Records, rkyv::to_bytes::<rkyv::rancor::Error>(body).unwrap())
        }
    };
    let meta = EntryMeta {
        cluster: ClusterId(0xfeed),
        partition: entry.partition,
        kind,
        term: 1,
        leader_node: 1,
        index: 1,
        base_offset: entry.base_offset,
        records: entry.records() as u32,
        timestamp: entry.timestamp,
    };
    (meta.encode(&body, 0, ChainHash::default()), body.to_vec())
}

fn ends() -> Vec<PartitionEnd> {
    let end = |next_offset, last_timestamp, digest| PartitionEnd {
        next_offset: Offset(next_offset),
        last_timestamp: Timestamp(last_timestamp),
        accounts: 1,
        pendings: 2,
        ids: 3,
        digest: [digest; 32],
    };
    vec![end(31, TIME + 513, 7), end(3, TIME + 2, 8), end(0, 0, 9)]
}

fn written() -> Vec<u8> {
    let header = Header {
        cluster: ClusterId(0xfeed),
        created: Timestamp(TIME + 1000),
        program: "0.1.0 \"quoted\"".to_owned(),
        ends: ends().iter().map(|end| end.next_offset).collect(),
    };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    for entry in entries() {
        let (header, body) = in_log(&entry);
        writer.entry(&header, &body).unwrap();
    }
    writer.finish(&ends()).unwrap()
}

/// Reads with a small buffer, so that lines come in pieces.
fn read(bytes: &[u8]) -> Result<(Vec<ExportedEntry>, Vec<PartitionEnd>), ExportError> {
    let mut reader = Reader::new(BufReader::with_capacity(7, bytes))?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok((entries, reader.ends().unwrap().to_vec()))
}

/// Line breaks are kept.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn what_was_written_is_read() {
    let bytes = written();
    let reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.header().cluster, ClusterId(0xfeed));
    assert_eq!(reader.header().program, "0.1.0 \"quoted\"");
    assert_eq!(reader.header().ends, [31, 3, 0].map(Offset));
    let (found, found_ends) = read(&bytes).unwrap();
    assert_eq!((found, found_ends), (entries(), ends()));
    for line in lines(&bytes) {
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert!(value.is_object(), "any reader of JSON can read each line");
    }
}

/// The promise of EXPORT.md, section 3, for people with other tools.
#[test]
fn each_hash_is_that_of_the_bytes_before_it() {
    let text = String::from_utf8(written()).unwrap();
    let mut hashes = 0;
    for (at, key) in text.match_indices("\"hash\":\"") {
        let before = at + key.len();
        let expected = blake3::hash(&text.as_bytes()[..before]).to_hex();
        assert_eq!(text[before..before + 64], *expected);
        hashes += 1;
    }
    assert_eq!(hashes, entries().len() + 1);
}

#[test]
fn every_cut_is_found() {
    let bytes = written();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut at {length} of {}", bytes.len());
    }
}

#[test]
fn every_flipped_bit_is_found_before_its_entry_is_given_out() {
    let bytes = written();
    let whole = entries();
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        let Ok(mut reader) = Reader::new(&flipped[..]) else { continue };
        let mut given = Vec::new();
        let error = loop {
            match reader.next_entry() {
                Ok(Some(entry)) => given.push(entry),
                Ok(None) => panic!("byte {place} was changed, and nothing was said"),
                Err(error) => break error,
            }
        };
        assert!(whole.starts_with(&given), "byte {place}: {error}, but an entry had it");
    }
}

#[test]
fn lines_that_are_doubled_left_out_or_moved_are_found() {
    let all = lines(&written());
    for place in 0..all.len() {
        let mut doubled = all.clone();
        doubled.insert(place, all[place].clone());
        assert!(read(&doubled.concat()).is_err(), "line {place} twice");
        let mut left_out = all.clone();
        left_out.remove(place);
        assert!(read(&left_out.concat()).is_err(), "without line {place}");
        for other in place + 1..all.len() {
            let mut moved = all.clone();
            moved.swap(place, other);
            assert!(read(&moved.concat()).is_err(), "lines {place} and {other} exchanged");
        }
    }
    let more = [written(), b"{}\n".to_vec()].concat();
    assert!(read(&more).unwrap_err().why.contains("behind the last line"));
    assert!(read(&[written(), written()].concat()).is_err());
}

/// Whoever can compute hashes can write any file. What contradicts itself is refused all the same.
#[test]
fn an_entry_that_does_not_follow_is_refused_though_its_hash_is_right() {
    let export = |entries: &[ExportedEntry], ends: &[PartitionEnd]| {
        let header = Header {
            cluster: ClusterId(1),
            created: Timestamp(1),
            program: String::new(),
            ends: ends.iter().map(|end| end.next_offset).collect(),
        };
        let mut writer = Writer::new(Vec::new(), &header).unwrap();
        for entry in entries {
            let (header, body) = in_log(entry);
            writer.entry(&header, &body).unwrap();
        }
        read(&writer.finish(ends).unwrap()).map(|_| ())
    };
    assert!(export(&entries(), &ends()).is_ok());
    let with = |change: &dyn Fn(&mut Vec<ExportedEntry>)| {
        let mut entries = entries();
        change(&mut entries);
        export(&entries, &ends())
    };
    assert!(with(&|entries| entries[2].base_offset = Offset(11)).is_err(), "a gap");
    assert!(with(&|entries| entries[2].base_offset = Offset(8)).is_err(), "an overlap");
    assert!(with(&|entries| entries[2].timestamp = Timestamp(TIME + 12)).is_err(), "back in time");
    assert!(with(&|entries| entries[3].partition = PartitionId(3)).is_err(), "no such partition");
    assert!(with(&|entries| drop(entries.pop())).is_err(), "fewer than it says");
    let mut other = ends();
    other[1].next_offset = Offset(2);
    assert!(export(&entries(), &other).is_err(), "more than it says");
}

#[test]
fn a_line_without_end_takes_no_memory_without_end() {
    let bytes = written();
    let endless = std::io::Read::chain(&bytes[..200], std::io::repeat(b'1'));
    let error = Reader::new(BufReader::new(endless)).and_then(|mut reader| reader.next_entry());
    assert!(error.unwrap_err().why.contains("longer than any line"));
}

#[test]
fn another_version_is_named() {
    let text = String::from_utf8(written()).unwrap();
    let newer = text.replacen("\"walengine_export\":1", "\"walengine_export\":2", 1);
    let error = read(newer.as_bytes()).unwrap_err();
    assert!(error.why.contains("version 2") && error.line == 1, "{error}");
    assert!(read(b"id,debit_account\n").is_err() && read(b"").is_err());
}
