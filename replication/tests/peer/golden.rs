//! Are the bytes between replicas still those of version 1? `examples/golden_peer_frames.rs` writes
//! the files; the tests never do.

use std::collections::BTreeSet;
use std::path::Path;

use walengine_replication::peer::{Kind, frame};

use crate::frames::frames;
use crate::support::encoded;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

#[test]
fn every_form_of_every_kind_has_the_bytes_it_always_had() {
    let mut kinds = BTreeSet::new();
    for (name, bytes) in frames() {
        let golden = std::fs::read(folder().join(format!("{name}.bin"))).unwrap();
        assert_eq!(bytes, golden, "{name}");
        let frame = frame::peek(&golden).unwrap().unwrap();
        assert_eq!(format!("{:04x}", frame.kind.number()), name[..4]);
        assert_eq!(encoded(frame.head, &frame.open().unwrap()), golden, "{name}");
        kinds.insert(frame.kind);
    }
    assert_eq!(kinds, Kind::ALL.iter().copied().collect());
}

#[test]
fn no_golden_file_is_forgotten() {
    let expected: BTreeSet<_> = frames().into_iter().map(|(name, _)| name + ".bin").collect();
    let found: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "frames.rs")
        .collect();
    assert_eq!(found, expected);
}
