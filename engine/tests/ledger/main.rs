//! Does the ledger decide as RULES.md says, and can it be rebuilt from its log and its snapshots?
//!
//! A naive model decides the same random events; everything visible must be equal.
//! `WALENGINE_TEST_SEED` sets the seed of the first run.

mod across;
mod chains;
mod documents;
mod forbidden;
mod generator;
mod imports;
mod model;
mod names;
mod older;
mod property;
mod reserved;
mod side;
mod snapshots;

/// `SplitMix64` (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Seed of the first run; printed, so that a failure can be repeated.
pub(crate) fn first_seed() -> u64 {
    let seed = std::env::var("WALENGINE_TEST_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("WALENGINE_TEST_SEED={seed}");
    seed
}
