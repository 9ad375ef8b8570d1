//! Is every damage to a segment told, or provably the torn tail of a crash?
//!
//! A segment of 64 KiB full of entries is harmed in every way of a kind: each bit flipped, each
//! length, each sector zeroed, sectors swapped. What is served must be the entries that were written,
//! from the first on; and nothing may be missing that is known to be durable - by the hard state or
//! by an entry that is still whole.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walengine::fatal::Reason;
use walengine::partition::opening;
use walengine::runtime::Runtime as _;
use walengine::storage::disk::BLOCK_BYTES;
use walengine::storage::error::OpenError;
use walengine::storage::layout::Tail;
use walengine::storage::log::Log;
use walengine::storage::verify;
use walengine_net::entry::{EntryHeader, EntryKind, EntryMeta, HEADER_BYTES, decode_entry};
use walengine_net::model::{EventBytes, Timestamp};
use walengine_tests::checked_partition::{SEGMENT_BYTES, config, dir};
use walengine_tests::lone_partition::{self, DATA, PARTITION};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{Order, Rng, SECTOR_BYTES, SimDisk, SimExecutor, SimRuntime};

const SECTORS: usize = SEGMENT_BYTES as usize / SECTOR_BYTES;
/// Pieces that the bits are shared out in.
const PIECES: u64 = 64;
/// Every so many bits, the log is really opened, not only scanned.
const OPEN_EVERY: usize = 512;

/// A partition whose one segment is full.
#[derive(Clone)]
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    segment: PathBuf,
    /// Each entry: header and where it stands.
    entries: Vec<(EntryHeader, Range<usize>)>,
    /// Newest index that the hard state names.
    durable: u64,
}

/// What harm came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Damage was reported.
    Told,
    /// So many entries are served; what is behind them was cut as torn, so many bytes.
    Served { entries: usize, torn_bytes: u64 },
}

impl Sample {
    /// Fills a segment. Unless `idle`, the hard state knows nothing of the last entries.
    fn new(idle: bool) -> Self {
        let executor = SimExecutor::new(1, Order::Fifo);
        let disk = MemoryDisk::default();
        let filled = executor.block_on(fill(disk.clone(), executor.runtime(), idle));
        filled.expect("filling a segment waits for nothing");
        let files = disk.image();
        let segment = dir().join("segments/00000001.seg");
        let mut sample = Self { segment, files, entries: Vec::new(), durable: 0 };
        let mut entries = Vec::new();
        let outcome = Self::scan(&sample.disk(), |at, header, _| {
            entries.push((*header, at));
        });
        sample.durable = if idle { entries.len() as u64 } else { 0 };
        sample.entries = entries;
        assert_eq!(outcome, Outcome::Served { entries: sample.entries.len(), torn_bytes: 0 });
        let end = sample.entries.last().expect("entries").1.end;
        assert_eq!(end as u64, SEGMENT_BYTES, "the segment is full to its last byte");
        sample
    }

    fn scan(
        disk: &MemoryDisk,
        mut visit: impl FnMut(Range<usize>, &EntryHeader, &[u8]),
    ) -> Outcome {
        let config = config();
        let executor = SimExecutor::new(1, Order::Fifo);
        let (mut entries, dir) = (0, dir());
        let scan = verify::scan(disk.clone(), &dir, &config, Tail::default(), |entry| {
            let from = entry.position as usize;
            visit(from..from + entry.bytes.len(), entry.header, entry.bytes);
            entries += 1;
        });
        match executor.block_on(scan).expect("a scan waits for nothing") {
            Ok(report) if report.damage.is_empty() => {
                Outcome::Served { entries, torn_bytes: report.torn_bytes }
            }
            Ok(_) | Err(OpenError::Damaged { .. } | OpenError::Version { .. }) => Outcome::Told,
            Err(other) => panic!("{other}"),
        }
    }

    /// Scans the harmed disk and asserts that nothing wrong is served and nothing durable missing.
    /// `harmed` are the bytes of the segment that are not as they were.
    fn check(
        &self,
        disk: &MemoryDisk,
        harmed: impl IntoIterator<Item = Range<usize>>,
        what: &str,
    ) -> Outcome {
        let original = &self.files.iter().find(|(path, _)| *path == self.segment).unwrap().1;
        let mut index = 0;
        let outcome = Self::scan(disk, |at, header, bytes| {
            let expected =
                self.entries.get(index).unwrap_or_else(|| panic!("{what}: entry too many"));
            assert!(
                (header, &at) == (&expected.0, &expected.1) && *bytes == original[at],
                "{what}: wrong bytes are served as entry {}",
                index + 1,
            );
            index += 1;
        });
        let Outcome::Served { entries, torn_bytes } = outcome else { return outcome };
        let harmed: Vec<_> = harmed.into_iter().collect();
        let whole = |at: &Range<usize>| {
            harmed.iter().all(|harm| harm.end <= at.start || at.end <= harm.start)
        };
        let witnesses = self.entries.iter().filter(|(_, at)| whole(at));
        let named = witnesses.map(|(header, _)| header.durable_index).max().unwrap_or(0);
        let known = named.max(self.durable) as usize;
        assert!(
            entries >= known,
            "{what}: {known} entries are known to be durable, {entries} are left"
        );
        assert!(entries < self.entries.len() || torn_bytes > 0, "{what}: nobody noticed");
        outcome
    }

    /// Opens the harmed log and asserts that it does what the scan foretells; damage leaves every
    /// byte as it is.
    fn check_open(disk: &MemoryDisk, outcome: &Outcome, what: &str) {
        let (before, changes) = (disk.image(), disk.changes());
        let executor = SimExecutor::new(1, Order::Fifo);
        let opening = Log::open(disk.clone(), executor.runtime(), dir(), config(), Tail::default());
        match (executor.block_on(opening).expect("no stall"), outcome) {
            (Err(OpenError::Damaged { .. } | OpenError::Version { .. }), Outcome::Told) => {
                assert_eq!(disk.changes(), changes, "{what}: something was written");
                assert!(disk.image() == before, "{what}: bytes were changed");
            }
            (Ok(opened), Outcome::Served { entries, .. }) => {
                assert_eq!(opened.log.last().index as usize, *entries, "{what}");
            }
            (Ok(opened), Outcome::Told) => panic!("{what}: served up to {:?}", opened.log.last()),
            (Err(error), _) => panic!("{what}: {error}, but the scan says {outcome:?}"),
        }
    }

    fn disk(&self) -> MemoryDisk {
        MemoryDisk::new(self.files.clone())
    }
}

/// Entries of random sizes in flushes of a few, up to the last bytes of the segment.
async fn fill(disk: MemoryDisk, runtime: SimRuntime, idle: bool) {
    let opened = Log::open(disk, runtime.clone(), dir(), config(), Tail::default()).await;
    let log = opened.expect("an empty disk").log;
    let (config, mut rng) = (config(), Rng::new(7));
    let mut position = BLOCK_BYTES;
    while position < SEGMENT_BYTES as usize {
        let room = SEGMENT_BYTES as usize - position - HEADER_BYTES;
        let body_bytes = if room < 2000 { room } else { rng.between(0, 160) as usize * 8 };
        let mut body = vec![0; body_bytes];
        rng.fill(&mut body);
        let tail = log.last();
        let meta = EntryMeta {
            cluster: config.ids.cluster,
            partition: config.ids.partition,
            kind: EntryKind::Records,
            term: 1 + tail.index / 20,
            leader_node: 1,
            index: tail.index + 1,
            base_offset: tail.next_offset,
            records: 2,
            timestamp: Timestamp(tail.timestamp.0 + 1),
        };
        log.append(&meta, &body).expect("room");
        position += HEADER_BYTES + body_bytes;
        // Near the end no flush: its padding would leave bytes that no entry fills.
        if rng.percent(25) && position < SEGMENT_BYTES as usize - 2 * BLOCK_BYTES {
            log.flush();
            if rng.percent(50) {
                log.wait_durable(meta.index).await.expect("a healthy disk");
            }
            position = position.next_multiple_of(BLOCK_BYTES);
        }
    }
    log.flush();
    log.wait_durable(log.last().index).await.expect("a healthy disk");
    if idle {
        log.mark_idle().await.expect("a healthy disk");
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn sector(number: usize) -> Range<usize> {
    number * SECTOR_BYTES..(number + 1) * SECTOR_BYTES
}

/// Flips every `step`-th bit and returns how many flips were told, and how many cut a tail.
fn flip_bits(sample: &Sample, step: usize) -> (u64, u64) {
    let bits = SEGMENT_BYTES as usize * 8;
    let counts = each_of("damage::every_flipped_bit", PIECES, |piece| {
        let sample = sample.clone();
        let (disk, mut counts) = (sample.disk(), (0, 0));
        let piece_bits = bits / PIECES as usize;
        let first = piece as usize * piece_bits;
        for bit in (first..first + piece_bits).step_by(step) {
            disk.edit(&sample.segment, |bytes| flip(bytes, bit));
            let what = format!("bit {bit}");
            let harmed = bit / 8..bit / 8 + 1;
            let outcome = sample.check(&disk, [harmed], &what);
            match outcome {
                Outcome::Told => counts.0 += 1,
                Outcome::Served { .. } => counts.1 += 1,
            }
            if bit % OPEN_EVERY == 0 {
                let copy = MemoryDisk::new(disk.image());
                Sample::check_open(&copy, &outcome, &what);
            }
            disk.edit(&sample.segment, |bytes| flip(bytes, bit));
        }
        counts
    });
    counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn every_flipped_bit_is_told_or_the_torn_tail() {
    let sample = Sample::new(false);
    let (told, cut) = flip_bits(&sample, 1);
    println!("{} entries: {told} flips told, {cut} cut a tail", sample.entries.len());
    let all = told + cut == SEGMENT_BYTES * 8;
    let replay = told + cut == SEGMENT_BYTES * 8 / PIECES;
    assert!(replay || all && told > 0 && cut > 0, "both happen in a full segment");
}

#[test]
fn flipped_bit_before_the_durable_point_is_never_a_tail() {
    let (_, cut) = flip_bits(&Sample::new(true), 61);
    assert_eq!(cut, 0, "the hard state knows that every entry was durable");
}

#[test]
fn every_length_is_told() {
    for sample in [Sample::new(false), Sample::new(true)] {
        for length in 0..SEGMENT_BYTES as usize {
            let disk = sample.disk();
            disk.edit(&sample.segment, |bytes| bytes.truncate(length));
            let what = format!("length {length}");
            let missing = length..SEGMENT_BYTES as usize;
            let outcome = sample.check(&disk, Some(missing), &what);
            assert_eq!(outcome, Outcome::Told, "{what}");
            if length % OPEN_EVERY == 0 {
                Sample::check_open(&disk, &outcome, &what);
            }
        }
    }
}

#[test]
fn every_zeroed_sector_is_told_or_the_torn_tail() {
    for sample in [Sample::new(false), Sample::new(true)] {
        for number in 0..SECTORS {
            harm(&sample, &format!("sector {number} zeroed"), &[number], |bytes| {
                bytes[sector(number)].fill(0);
            });
        }
    }
}

#[test]
fn every_pair_of_swapped_sectors_is_told_or_the_torn_tail() {
    for sample in [Sample::new(false), Sample::new(true)] {
        for one in 0..SECTORS {
            for other in one + 1..SECTORS {
                harm(
                    &sample,
                    &format!("sectors {one} and {other} swapped"),
                    &[one, other],
                    |bytes| {
                        let (low, high) = bytes.split_at_mut(sector(other).start);
                        low[sector(one)].swap_with_slice(&mut high[..SECTOR_BYTES]);
                    },
                );
            }
        }
    }
}

/// Harms a fresh copy, checks it by scanning and by opening. What changes nothing is no harm.
fn harm(sample: &Sample, what: &str, sectors: &[usize], change: impl FnOnce(&mut Vec<u8>)) {
    let disk = sample.disk();
    disk.edit(&sample.segment, change);
    if disk.image() == sample.files {
        return;
    }
    let harmed = sectors.iter().map(|&number| sector(number));
    let outcome = sample.check(&disk, harmed, what);
    if sample.durable > 0 {
        assert_eq!(outcome, Outcome::Told, "{what}: every entry was durable");
    }
    Sample::check_open(&disk, &outcome, what);
}

/// The fault: a partition that is written every few hundred milliseconds never counted as idle, and its
/// hard state named nothing of its end. What a disk had lost of it was taken for a torn tail.
#[test]
fn what_is_lost_of_a_log_that_is_written_all_the_time_is_told() {
    let executor = SimExecutor::new(3, Order::Fifo);
    let disk = SimDisk::new(&executor.runtime(), 3);
    let (partition, _) = lone_partition::start(&executor, &disk);
    let runtime = executor.runtime();
    let accounts = accounts_of(PARTITION, 1);
    let mut writer = Writer::new(3, &accounts);
    let write = |event: EventBytes| {
        partition.submit(&[event], &mut Vec::new()).unwrap();
        executor.block_on(partition.until_visible()).unwrap().unwrap();
        executor.block_on(runtime.sleep(Duration::from_millis(300))).unwrap();
    };
    for account in &accounts {
        write(account.to_bytes());
    }
    (0..10).for_each(|_| write(writer.transfer().to_bytes()));
    let old = partition.log().last().index;
    (0..20).for_each(|_| write(writer.transfer().to_bytes())); // six seconds

    // Everything from that entry on is lost.
    let mut files: BTreeMap<PathBuf, Vec<u8>> = disk.image().into_iter().collect();
    let (_, segment) = files
        .iter_mut()
        .find(|(path, _)| path.ends_with("segments/00000001.seg"))
        .expect("a log begins with it");
    let begins = |at: &usize| {
        let entry = decode_entry(&segment[*at..]);
        entry.is_ok_and(|(header, _)| header.meta.index == old)
    };
    let at = (0..segment.len()).step_by(8).find(begins).expect("it was written");
    segment[at..].fill(0);
    let opening = async {
        let (data, superblock) = (Path::new(DATA), lone_partition::superblock());
        let disk = MemoryDisk::new(files);
        opening::open(disk, runtime.clone(), data, &superblock, PARTITION, 4).await
    };
    let fatal = executor.block_on(opening).unwrap().err().expect("it is no torn tail");
    assert_eq!(fatal.reason, Reason::Damaged, "{fatal}");
}
