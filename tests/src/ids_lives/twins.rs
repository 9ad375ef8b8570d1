//! Ids with the hashes of others, as somebody who wants trouble makes them.

use walengine::ids::key::{Key, Space};

use crate::sim::Rng;

/// Another id with the hash of this one, in the namespace of events and in the others.
pub(super) fn twin_of(id: u128, low: u64) -> u128 {
    let part = |low: u64| {
        let product = u128::from(low ^ 0x8ebc_6af0_9c88_c6e3) * 0x5899_65cc_7537_4cc3;
        product as u64 ^ (product >> 64) as u64
    };
    let high = (id >> 64) as u64 ^ part(id as u64) ^ part(low);
    u128::from(high) << 64 | u128::from(low)
}

/// Keys that nobody has used: random ones, and some whose hashes are those of used ones.
pub(super) fn unknown_keys(used: &[Key]) -> Vec<Key> {
    let mut rng = Rng::new(used.len() as u64);
    let mut keys: Vec<Key> =
        (0..50).map(|_| Key::new(u128::from(rng.next_u64()) << 64 | 3, Space::Event)).collect();
    for key in used.iter().step_by(7) {
        let twin = Key::new(twin_of(key.id, rng.next_u64()), key.space);
        assert_eq!(twin.hash, key.hash, "the hash is made otherwise than here");
        keys.push(twin);
    }
    keys
}
