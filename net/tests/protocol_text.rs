//! Are the worked frames and the vectors of PROTOCOL.md those of the code?

use std::path::Path;

use walengine_net::entry::{ChainHash, EntryKind, EntryMeta};
use walengine_net::model::{AccountId, ClusterId, Offset, PartitionId, Timestamp};
use walengine_net::partition::of_account;

fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_worked_frames_are_the_golden_ones() {
    let text = text();
    let mut frames = 0;
    for block in text.split("```frame ").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        let (name, lines) = block.split_once('\n').unwrap();
        let mut bytes = Vec::new();
        for line in lines.lines() {
            let at = usize::from_str_radix(&line[..2], 16).unwrap();
            assert_eq!(at, bytes.len(), "{name}: {line}");
            let hex = line[4..line.len().min(52)].split_whitespace();
            bytes.extend(hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let golden = std::fs::read(path.join(format!("{name}.bin"))).unwrap();
        assert_eq!(bytes, golden, "{name}");
        frames += 1;
    }
    assert_eq!(frames, 4);
}

/// The cells of the rows behind a table's head.
fn rows<'a>(text: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let (_, table) = text.split_once(head).unwrap_or_else(|| panic!("there is no table {head}"));
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.map(cells).collect()
}

#[test]
fn books_live_where_the_table_says() {
    let text = text();
    let rows = rows(&text, "| book | h | of 2 | of 3 | of 16 |");
    assert!(rows.len() >= 8);
    for row in rows {
        let book: u128 = row[0].parse().unwrap();
        for (cell, partitions) in [(2, 2), (3, 3), (4, 16)] {
            let found = of_account(AccountId(book << 96 | 5), partitions);
            assert_eq!(found, PartitionId(row[cell].parse().unwrap()), "book {book}");
        }
        let hash = u32::from_str_radix(row[1].trim_matches('`'), 16).unwrap();
        assert_eq!(hash % 16, row[4].parse::<u32>().unwrap());
    }
}

#[test]
fn the_chain_has_the_hashes_that_the_table_says_and_can_be_made_without_this_library() {
    let meta = |kind, index, timestamp, records| EntryMeta {
        cluster: ClusterId(0xc1),
        partition: PartitionId(1),
        kind,
        term: 1,
        leader_node: 7,
        index,
        base_offset: Offset(0),
        records,
        timestamp: Timestamp(timestamp),
    };
    let entries: [(EntryMeta, &[u8]); 2] = [
        (meta(EntryKind::Blank, 1, 0, 0), &[]),
        (meta(EntryKind::Records, 2, 1_700_000_000_000_000_000, 1), &[1, 2, 3, 4, 5]),
    ];
    let text = text();
    let rows = rows(&text, "| entry | hash |");
    let mut before = ChainHash::default();
    for ((meta, body), row) in entries.iter().zip(&rows) {
        let header = meta.encode(body, 0, before);
        let bytes = header.to_bytes();
        let parts = [&before.0[..], &bytes[8..64], &bytes[72..80], &bytes[112..128], body];
        let by_hand = blake3::hash(&parts.concat());
        assert_eq!(header.chain.0, *by_hand.as_bytes(), "entry {}", meta.index);
        assert_eq!(row[1], format!("`{by_hand}`"), "entry {}", meta.index);
        before = header.chain;
    }
    assert_eq!(rows.len(), entries.len());
}
