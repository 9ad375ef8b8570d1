//! Are the datagrams still those of version 1? `examples/golden_gossip.rs` writes the files; the
//! tests never do.

#[path = "golden_gossip/datagrams.rs"]
mod datagrams;

use std::collections::BTreeSet;
use std::path::Path;

use datagrams::datagrams;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_gossip"))
}

#[test]
fn every_form_of_every_kind_has_the_bytes_it_always_had() {
    for (name, bytes) in datagrams() {
        let golden = std::fs::read(folder().join(format!("{name}.bin"))).unwrap();
        assert_eq!(bytes, golden, "{name}");
    }
}

#[test]
fn no_golden_file_is_forgotten_and_every_kind_has_one() {
    let expected: BTreeSet<_> = datagrams().into_keys().map(|name| name + ".bin").collect();
    let found: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        // What is sealed is tried beside the code that seals.
        .filter(|name| name != "datagrams.rs" && !name.starts_with("sealed."))
        .collect();
    assert_eq!(found, expected);
    for kind in ["1_hello", "2_welcome", "3_refused", "3_refused_silence", "6_leave", "7_condition"]
        .into_iter()
        .map(str::to_owned)
        .chain(
            (1..=7)
                .map(|message| format!("5_forming_{message}"))
                .chain([1, 2, 7, 8, 9].into_iter().map(|message| format!("4_swim_{message:02}"))),
        )
    {
        assert!(found.contains(&format!("{kind}_crc.bin")), "{kind}: {found:?}");
    }
}
