//! Are the bytes on the wire still those of version 1? The files are written by
//! `examples/golden_frames.rs`, never from here.

#[path = "golden/frames.rs"]
mod frames;

use std::collections::BTreeSet;
use std::path::Path;

use walengine_net::frame::{Kind, peek};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

#[test]
fn every_kind_has_the_bytes_it_always_had() {
    let mut kinds = BTreeSet::new();
    for (name, bytes) in frames::frames() {
        let golden = std::fs::read(folder().join(format!("{name}.bin"))).unwrap();
        assert_eq!(bytes, golden, "{name}");
        let frame = peek(&golden).unwrap().unwrap();
        kinds.insert(frame.kind.number());
    }
    assert_eq!(kinds, Kind::all().map(Kind::number).collect());
}

#[test]
fn no_golden_file_is_forgotten() {
    let expected: BTreeSet<_> =
        frames::frames().into_iter().map(|(name, _)| format!("{name}.bin")).collect();
    let found: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "bin"))
        .collect();
    assert_eq!(found, expected);
}

/// The layout of PROTOCOL.md, section 4, by hand: a client in C reads it like this.
#[test]
fn a_submit_can_be_read_without_this_library() {
    let bytes = std::fs::read(folder().join("002_submit.bin")).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..4], b"WALF");
    let body_bytes = u32_at(24) as usize;
    assert_eq!(bytes.len(), 32 + body_bytes);
    let root = bytes.len() - 8;
    let list = root.checked_add_signed(u32_at(root).cast_signed() as isize).unwrap();
    let count = u32_at(root + 4) as usize;
    assert_eq!((list, count), (32, 2));
    let ids = (0..count).map(|event| bytes[list + event * 128]).collect::<Vec<_>>();
    assert_eq!(ids, [7, 0xab]);
    assert_eq!(bytes.len(), list + count * 128 + 8);
}
