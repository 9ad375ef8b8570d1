//! State of the simulated disk behind its handles: names, contents, what is in flight, plans.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine::storage::disk::BLOCK_BYTES;

use super::disk::{CrashSite, Op, OpKind, Phase, SimBuffer};
use super::faults::{Effect, Faults, OpClass};
use super::file::{Fate, FileContent};
use super::names::{Inode, Names};
use super::rng::Rng;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A write that the device has not finished.
pub struct InFlight {
    pub inode: Inode,
    pub offset: u64,
    pub buffer: Rc<SimBuffer>,
}

/// One operation under way.
pub struct Ticket {
    pub number: u64,
    pub effect: Option<Effect>,
    pub latency: Duration,
}

/// The disk.
pub struct Media {
    pub rng: Rng,
    pub faults: Faults,
    pub names: Names,
    pub files: BTreeMap<Inode, FileContent>,
    in_flight: BTreeMap<u64, InFlight>,
    inodes: u64,
    counts: [u64; OpClass::ALL.len()],
    plans: Vec<(OpClass, u64, Effect)>,
    /// Part of a path, operations on such until then, what happens.
    plans_at_path: Vec<(&'static str, u64, Effect)>,
    pub boundaries: u64,
    pub crash_at: Option<u64>,
    pub crash_at_path: Option<(&'static str, u64)>,
    pub crash_site: Option<CrashSite>,
    /// Operations to which something planned has happened.
    pub failed: Vec<(OpKind, PathBuf, Effect)>,
    /// Every operation so far, if they are recorded.
    pub ops: Option<Vec<Op>>,
}

impl Media {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            faults: Faults::default(),
            names: Names::default(),
            files: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            inodes: 0,
            counts: [0; OpClass::ALL.len()],
            plans: Vec::new(),
            plans_at_path: Vec::new(),
            boundaries: 0,
            crash_at: None,
            crash_at_path: None,
            crash_site: None,
            failed: Vec::new(),
            ops: None,
        }
    }

    /// Operations of `class` so far.
    pub fn count(&self, class: OpClass) -> u64 {
        self.counts[class as usize]
    }

    pub fn plan(&mut self, class: OpClass, nth: u64, effect: Effect) {
        assert!(nth >= 1, "operations are counted from 1");
        self.plans.push((class, self.count(class) + nth, effect));
    }

    pub fn plan_at_path(&mut self, part: &'static str, nth: u64, effect: Effect) {
        assert!(nth >= 1, "operations are counted from 1");
        self.plans_at_path.push((part, nth, effect));
    }

    pub fn plan_nothing(&mut self) {
        self.plans.clear();
        self.plans_at_path.clear();
    }

    pub fn begin(&mut self, op: &mut Op, in_flight: Option<InFlight>) -> Ticket {
        let told = self.ops.is_some() || self.crash_at.is_some() || self.crash_at_path.is_some();
        let mut files = self.names.files();
        if told && let Some((path, _)) = files.find(|(_, inode)| inode.0 == op.file) {
            op.path = path.into();
        }
        drop(files);
        let number = self.count(OpClass::All) + 1;
        let mut effect = None;
        for class in OpClass::ALL {
            if class.has(op.kind) {
                self.counts[class as usize] += 1;
                let count = self.count(class);
                let planned = self.plans.iter().find(|plan| plan.0 == class && plan.1 == count);
                effect = effect.or(planned.map(|plan| plan.2));
            }
        }
        for (part, left, planned) in &mut self.plans_at_path {
            if op.path.to_string_lossy().contains(*part) {
                *left -= 1;
                effect = effect.or((*left == 0).then_some(*planned));
            }
        }
        self.plans_at_path.retain(|(_, left, _)| *left > 0);
        if let Some(effect) = effect {
            self.failed.push((op.kind, op.path.clone(), effect));
        }
        if let Some(in_flight) = in_flight {
            self.in_flight.insert(number, in_flight);
        }
        if let Some(ops) = &mut self.ops {
            ops.push(Op { number, ..op.clone() });
        }
        Ticket { number, effect, latency: self.latency(op.kind) }
    }

    fn latency(&mut self, kind: OpKind) -> Duration {
        let (low, high) = match kind {
            OpKind::Open | OpKind::Len | OpKind::List | OpKind::FreeBytes => (1, 5),
            OpKind::Sync | OpKind::SyncDir => (40, 400),
            _ => (20, 200),
        };
        let micros = self.rng.between(low, high);
        // A few stragglers, as real devices have them: they let much overtake them.
        let micros = if self.rng.percent(3) { micros * 20 } else { micros };
        Duration::from_micros(micros) * self.faults.latency_times
    }

    /// Counts a boundary; true if the power fails at it.
    pub fn boundary(&mut self, number: u64, op: &Op, phase: Phase) -> bool {
        self.boundaries += 1;
        let mut ends = self.crash_at == Some(self.boundaries);
        if let Some((part, left)) = &mut self.crash_at_path
            && op.path.to_string_lossy().contains(*part)
        {
            *left -= 1;
            ends |= *left == 0;
        }
        if !ends {
            return false;
        }
        let written = self.files.get(&Inode(op.file)).map(FileContent::bytes);
        let (from, to) = (op.offset as usize, (op.offset + op.bytes) as usize);
        let buffer = self.in_flight.get(&number).map(|write| (*write.buffer).as_ref());
        let bytes = buffer.or_else(|| written.and_then(|bytes| bytes.get(from..to)));
        self.crash_site = Some(CrashSite {
            kind: op.kind,
            path: op.path.clone(),
            offset: op.offset,
            phase,
            zeros: bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)),
        });
        true
    }

    pub fn end<T>(&mut self, ticket: &Ticket, result: &io::Result<T>) {
        let error = result.as_ref().err().map(io::Error::kind);
        if let Some(ops) = &mut self.ops
            && let Some(op) = ops.iter_mut().rev().find(|op| op.number == ticket.number)
        {
            (op.completed, op.error) = (true, error);
        }
    }

    pub fn content(&mut self, inode: Inode) -> &mut FileContent {
        self.files.get_mut(&inode).expect("an open file has content")
    }

    /// The planned failure, for operations that it leaves undone.
    pub fn refuse(ticket: &Ticket) -> io::Result<()> {
        match ticket.effect {
            Some(Effect::Eio) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Effect::Enospc) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Effect::Short) => Err(io::Error::new(io::ErrorKind::WriteZero, "short write")),
            _ => Ok(()),
        }
    }

    pub fn create(&mut self, path: &Path, bytes: u64) -> io::Result<Inode> {
        if bytes > self.free_bytes() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.inodes += 1;
        let inode = Inode(self.inodes);
        self.names.link(path, inode)?;
        self.files.insert(inode, FileContent::zeroed(bytes));
        Ok(inode)
    }

    /// A file that has been there for ever.
    pub fn install(&mut self, path: &Path, bytes: Vec<u8>) {
        self.inodes += 1;
        let inode = Inode(self.inodes);
        self.files.insert(inode, FileContent::durable(bytes));
        self.names.install(path, Some(inode));
    }

    pub fn used_bytes(&self) -> u64 {
        let used = |inode| self.files.get(&inode).map_or(0, |file| file.bytes().len() as u64);
        self.names.files().map(|(_, inode)| used(inode)).sum()
    }

    pub fn free_bytes(&self) -> u64 {
        if self.faults.capacity_bytes == u64::MAX {
            return u64::MAX; // it is asked for with every write
        }
        self.faults.capacity_bytes.saturating_sub(self.used_bytes())
    }

    pub fn finish_write(&mut self, ticket: &Ticket, durable: bool) -> io::Result<()> {
        let write = self.in_flight.remove(&ticket.number).expect("a write is in flight once");
        let mut flipped;
        let mut bytes = (*write.buffer).as_ref();
        let (mut offset, length) = (write.offset, self.content(write.inode).bytes().len() as u64);
        let grows_bytes = (offset + bytes.len() as u64).saturating_sub(length);
        if grows_bytes > self.free_bytes() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let mut rng = self.rng.fork();
        match ticket.effect {
            Some(Effect::Eio | Effect::Enospc | Effect::Short) => {
                self.content(write.inode).land_partly(offset, bytes, &mut rng);
                return Self::refuse(ticket);
            }
            Some(Effect::Lose) => return Ok(()),
            Some(Effect::Misdirect) => offset = other_block(offset, length, &mut rng),
            Some(Effect::Flip) => {
                flipped = bytes.to_vec();
                flip_bit(&mut flipped, &mut rng);
                bytes = &flipped;
            }
            None => {}
        }
        if durable && !self.faults.lying {
            self.content(write.inode).land_durably(offset, bytes);
        } else {
            self.content(write.inode).land(offset, bytes);
        }
        Ok(())
    }

    pub fn finish_sync(&mut self, ticket: &Ticket, inode: Inode, before: u64) -> io::Result<()> {
        if let Err(error) = Self::refuse(ticket) {
            self.content(inode).fail_sync(before);
            return Err(error);
        }
        if !self.faults.lying {
            self.content(inode).sync(before);
        }
        Ok(())
    }

    pub fn finish_read(
        &mut self,
        ticket: &Ticket,
        inode: Inode,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        if ticket.effect == Some(Effect::Short) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::refuse(ticket)?;
        let end = offset as usize + buffer.len();
        let Some(bytes) = self.content(inode).bytes().get(offset as usize..end) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        buffer.copy_from_slice(bytes);
        if ticket.effect == Some(Effect::Flip) {
            flip_bit(buffer, &mut self.rng);
        }
        Ok(())
    }

    /// What power loss leaves; counters start again, plans are void.
    pub fn after_crash(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let garbage = self.faults.garbage;
        // Some crashes treat everything alike, as a cache that was all lost or all kept.
        let mood = rng.below(8);
        let fate = |rng: &mut Rng| match mood {
            0 => Fate::Kept,
            1 => Fate::Lost,
            _ => Fate::draw(rng, garbage),
        };
        let names =
            self.names.after_crash(&mut rng, [100, 0, 50, 50, 50, 90, 10, 50][mood as usize]);
        let mut files = BTreeMap::new();
        for (_, inode) in names.files() {
            let in_flight = self.in_flight.values().filter(|write| write.inode == inode);
            let in_flight: Vec<_> =
                in_flight.map(|write| (write.offset, (*write.buffer).as_ref())).collect();
            let lengths_vanish = self.faults.lengths_vanish;
            let file = &self.files[&inode];
            files.insert(inode, file.after_crash(&in_flight, &mut rng, fate, lengths_vanish));
        }
        let faults = self.faults.clone();
        Self { faults, names, files, inodes: self.inodes, ..Self::new(rng.next_u64()) }
    }
}

/// A block of the file other than the one at `offset`, if there is one.
fn other_block(offset: u64, length: u64, rng: &mut Rng) -> u64 {
    let blocks = length / BLOCK_BYTES as u64;
    if blocks < 2 {
        return offset + BLOCK_BYTES as u64;
    }
    let block = rng.below(blocks - 1);
    let block = if block >= offset / BLOCK_BYTES as u64 { block + 1 } else { block };
    block * BLOCK_BYTES as u64
}

fn flip_bit(bytes: &mut [u8], rng: &mut Rng) {
    let bit = rng.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}
