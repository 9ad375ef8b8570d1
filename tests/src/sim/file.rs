//! Bytes of one simulated file: what readers see, what is durable, and what lies between.

use std::rc::Rc;

use super::rng::Rng;

/// Unit in which a device tears; a sector is old or new (or, if switched on, garbage).
pub const SECTOR_BYTES: usize = 512;

/// A completed write that power loss may still undo.
#[derive(Clone, Debug)]
struct Unsynced {
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
    /// Sectors of it that no later durable write has replaced.
    live: Vec<bool>,
    /// A sync that covered it failed: no later sync makes it durable.
    doomed: bool,
}

/// How power loss treats one write.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// All of it survives.
    Kept,
    /// Nothing of it survives.
    Lost,
    /// It survives up to a cut.
    Prefix {
        /// Where the cut is, in thousandths of the write.
        cut: u64,
    },
    /// Each sector by itself survives or not.
    AnySectors,
    /// The same, and some of the survivors hold random bytes.
    Garbage,
}

/// Content of a file. What readers see and what is durable share memory until they differ: most
/// files are sealed, and a crash copies all of them.
#[derive(Clone, Debug, Default)]
pub struct FileContent {
    now: Rc<Vec<u8>>,
    durable: Rc<Vec<u8>>,
    durable_length_known: bool,
    unsynced: Vec<Unsynced>,
    writes: u64,
}

impl FileContent {
    /// A new file of `bytes` zero bytes, none of it durable.
    pub fn zeroed(bytes: u64) -> Self {
        Self { now: Rc::new(vec![0; bytes as usize]), ..Self::default() }
    }

    /// A file that has been on disk for ever.
    pub fn durable(bytes: Vec<u8>) -> Self {
        Self::shared(Rc::new(bytes))
    }

    fn shared(bytes: Rc<Vec<u8>>) -> Self {
        Self { durable: bytes.clone(), now: bytes, durable_length_known: true, ..Self::default() }
    }

    /// What a reader sees.
    pub fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// What no power loss takes away.
    pub fn durable_bytes(&self) -> &[u8] {
        &self.durable
    }

    /// Changes bytes at rest.
    pub fn edit(&mut self, change: impl Fn(&mut Vec<u8>)) {
        change(Rc::make_mut(&mut self.now));
        change(Rc::make_mut(&mut self.durable));
        for write in &mut self.unsynced {
            write.live.fill(false);
        }
    }

    /// Number of the next write: what a sync that starts now does not cover.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// A write completes; power loss may still undo it.
    pub fn land(&mut self, offset: u64, bytes: &[u8]) {
        put(Rc::make_mut(&mut self.now), offset, bytes);
        let live = vec![true; bytes.len().div_ceil(SECTOR_BYTES)];
        let number = self.writes;
        self.unsynced.push(Unsynced { number, offset, bytes: bytes.to_vec(), live, doomed: false });
        self.writes += 1;
    }

    /// A write completes and is durable.
    pub fn land_durably(&mut self, offset: u64, bytes: &[u8]) {
        put(Rc::make_mut(&mut self.now), offset, bytes);
        self.settle_length();
        put(Rc::make_mut(&mut self.durable), offset, bytes);
        for write in &mut self.unsynced {
            write.supersede(offset, bytes.len());
        }
        self.forget_replaced();
        self.writes += 1;
    }

    /// A write fails on the way: some of its sectors landed.
    pub fn land_partly(&mut self, offset: u64, bytes: &[u8], rng: &mut Rng) {
        for (sector, chunk) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if rng.percent(50) {
                self.land(offset + (sector * SECTOR_BYTES) as u64, chunk);
            }
        }
    }

    /// A sync completes: every write before number `before` is durable.
    pub fn sync(&mut self, before: u64) {
        self.settle_length();
        for at in 0..self.unsynced.len() {
            if self.unsynced[at].number >= before || self.unsynced[at].doomed {
                continue;
            }
            let (olders, rest) = self.unsynced.split_at_mut(at);
            let write = &mut rest[0];
            let durable = Rc::make_mut(&mut self.durable);
            if write.live.contains(&false) {
                for (sector, offset, bytes) in sectors(write.offset, &write.bytes) {
                    if write.live[sector] {
                        put(durable, offset, bytes);
                    }
                }
            } else {
                put(durable, write.offset, &write.bytes);
            }
            // Older writes of the same place that a failed sync left behind can't come back.
            for older in olders {
                older.supersede(write.offset, write.bytes.len());
            }
            write.live.fill(false);
        }
        self.forget_replaced();
    }

    /// A sync fails: what it covered has lost its chance.
    pub fn fail_sync(&mut self, before: u64) {
        for write in self.unsynced.iter_mut().filter(|write| write.number < before) {
            write.doomed = true;
        }
    }

    /// The file after power loss, with `in_flight` writes (offset, bytes) under way. `fate` draws
    /// the lot of each write.
    pub fn after_crash(
        &self,
        in_flight: &[(u64, &[u8])],
        rng: &mut Rng,
        fate: impl Fn(&mut Rng) -> Fate,
        lengths_vanish: bool,
    ) -> Self {
        let mut pieces = Vec::new();
        for write in &self.unsynced {
            let fate = fate(rng);
            for (sector, offset, bytes) in sectors(write.offset, &write.bytes) {
                if let Some(garbage) = fate.of(sector, write.live.len(), rng)
                    && write.live[sector]
                {
                    pieces.push((offset, bytes, garbage));
                }
            }
        }
        for &(offset, bytes) in in_flight {
            let fate = fate(rng);
            for (sector, offset, chunk) in sectors(offset, bytes) {
                if let Some(garbage) = fate.of(sector, bytes.len() / SECTOR_BYTES, rng) {
                    pieces.push((offset, chunk, garbage));
                }
            }
        }
        rng.shuffle(&mut pieces);
        let length = self.length_after_crash(rng, lengths_vanish);
        if pieces.is_empty() && length == self.durable.len() {
            return Self::shared(self.durable.clone());
        }
        let mut image = self.durable.to_vec();
        image.resize(length, 0);
        for (offset, bytes, garbage) in pieces {
            if offset as usize + bytes.len() > length {
                continue;
            }
            put(&mut image, offset, bytes);
            if garbage {
                rng.fill(&mut image[offset as usize..offset as usize + bytes.len()]);
            }
        }
        Self::durable(image)
    }

    fn length_after_crash(&self, rng: &mut Rng, lengths_vanish: bool) -> usize {
        let (durable, now) = (self.durable.len(), self.now.len());
        if !lengths_vanish || now <= durable {
            return now;
        }
        match rng.below(3) {
            0 if !self.durable_length_known => 0,
            0 => durable,
            1 => now,
            _ => {
                let sectors =
                    rng.between((durable / SECTOR_BYTES) as u64, (now / SECTOR_BYTES) as u64);
                durable.max(sectors as usize * SECTOR_BYTES)
            }
        }
    }

    fn settle_length(&mut self) {
        if self.durable.len() != self.now.len() {
            Rc::make_mut(&mut self.durable).resize(self.now.len(), 0);
        }
        self.durable_length_known = true;
    }

    fn forget_replaced(&mut self) {
        self.unsynced.retain(|write| write.live.contains(&true));
    }
}

impl Unsynced {
    fn supersede(&mut self, offset: u64, length: usize) {
        let replaced = offset..offset + length as u64;
        for (sector, live) in self.live.iter_mut().enumerate() {
            *live &= !replaced.contains(&(self.offset + (sector * SECTOR_BYTES) as u64));
        }
    }
}

impl Fate {
    /// A lot of any kind.
    pub fn draw(rng: &mut Rng, garbage: bool) -> Self {
        match rng.below(if garbage { 10 } else { 9 }) {
            0..3 => Self::Kept,
            3..6 => Self::Lost,
            6 => Self::Prefix { cut: rng.below(1001) },
            7 | 8 => Self::AnySectors,
            _ => Self::Garbage,
        }
    }

    /// `None`: the sector keeps its old bytes. Otherwise it is written, with garbage if true.
    fn of(self, sector: usize, sectors: usize, rng: &mut Rng) -> Option<bool> {
        let kept = match self {
            Self::Kept => true,
            Self::Lost => false,
            Self::Prefix { cut } => (sector as u64) * 1000 < cut * sectors as u64,
            Self::AnySectors | Self::Garbage => rng.percent(50),
        };
        kept.then(|| matches!(self, Self::Garbage) && rng.percent(30))
    }
}

/// Sector number in the write, offset in the file, bytes.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, u64, &[u8])> {
    let chunks = bytes.chunks(SECTOR_BYTES).enumerate();
    chunks.map(move |(sector, bytes)| (sector, offset + (sector * SECTOR_BYTES) as u64, bytes))
}

fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[start..end].copy_from_slice(bytes);
}
