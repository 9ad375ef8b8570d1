//! A log of entries of every kind and size, and what is in it.

use walengine_net::entry::{EventsBody, IMPORT_MARK, RecordHead, RecordsBody};
use walengine_net::model::Resolved;

use super::counting_disk::CountingDisk;
use super::*;
use crate::storage::records::Record;

/// A few large entries fill it.
const SEGMENT_BYTES: u64 = 512 << 10;

pub type CountedLog = Log<CountingDisk, GlommioRuntime>;

pub fn some_config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, ..config() }
}

/// Numbers that follow from a seed.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }
}

pub struct SomeLog {
    pub dir: Dir,
    pub disk: CountingDisk,
    pub log: CountedLog,
    pub config: LogConfig,
    /// By offset.
    pub records: Vec<Record>,
    /// By offset: the length of the entry.
    pub entry_bytes: Vec<usize>,
    pub numbers: Numbers,
}

impl SomeLog {
    pub async fn new(seed: u64, config: LogConfig) -> Self {
        let dir = Dir::new();
        let disk = CountingDisk::new(dir.disk());
        let log = open_counted(&disk, &dir, &config, Tail::default()).await;
        let (records, entry_bytes) = (Vec::new(), Vec::new());
        Self { dir, disk, log, config, records, entry_bytes, numbers: Numbers(seed) }
    }

    /// Closes the log and opens it again, as behind a snapshot at its end: no older segment is read.
    pub async fn reopen(&mut self) {
        let end = self.log.last();
        self.log.clone().close().await.unwrap();
        self.open_behind(end).await;
    }

    pub async fn open_behind(&mut self, from: Tail) {
        self.log = open_counted(&self.disk, &self.dir, &self.config, from).await;
        self.disk.take_reads();
    }

    /// Waits until the marks of every full segment are saved.
    pub async fn rest(&self) {
        self.log.flush();
        self.log.wait_durable(self.log.last().index).await.unwrap();
        self.log.inner.save_marks();
        loop {
            let changed = self.log.changed().changed();
            {
                let state = self.log.inner.state.borrow();
                if state.unsaved.is_empty() && !state.saving_marks && state.in_flight == 0 {
                    return;
                }
            }
            changed.await;
        }
    }

    pub async fn append_any(&mut self) {
        match self.numbers.below(20) {
            0 => self.append(EntryKind::Blank, 0, &[]).await,
            1..=3 => {
                let count = 1 + self.numbers.below(9);
                self.append_opaque(count, 300).await;
            }
            4 => self.append_opaque(3, 40_000).await,
            5..=9 => {
                let count = 520 + self.numbers.below(900);
                self.append_events(count).await;
            }
            _ => {
                let count = 1 + self.numbers.below(30);
                self.append_events(count).await;
            }
        }
        if self.numbers.below(3) == 0 {
            self.log.flush();
        }
    }

    pub async fn append_events(&mut self, count: u64) {
        let first = self.records.len() as u64;
        let events: Vec<_> = (0..count)
            .map(|number| {
                let mut event = [(first + number) as u8; 128];
                event[..8].copy_from_slice(if number.is_multiple_of(5) {
                    &IMPORT_MARK
                } else {
                    b"another "
                });
                event[8..16].copy_from_slice(&(first + number).to_le_bytes());
                event[16..24].copy_from_slice(&self.numbers.below(u64::MAX).to_le_bytes());
                event
            })
            .collect();
        let resolved = self.numbers.below(3).min(count);
        let resolution = |index| Resolved { index, ..Resolved::default() }.to_bytes();
        let body = EventsBody {
            events: events.clone(),
            verdicts: vec![0; events.len()],
            resolved: (0..resolved).map(|at| resolution(at as u32)).collect(),
        };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        let mark = if self.numbers.below(4) == 0 { &IMPORT_MARK[..] } else { &[] };
        let bytes = [mark, &bytes].concat();
        self.append(EntryKind::Events, count as u32, &bytes).await;
        self.records.extend(events.into_iter().map(Record::Event));
    }

    pub async fn append_opaque(&mut self, count: u64, bytes_max: u64) {
        let mut body = RecordsBody::default();
        for _ in 0..count {
            let bytes = vec![self.numbers.below(256) as u8; self.numbers.below(bytes_max) as usize];
            let head = RecordHead {
                id: u128::from(self.numbers.below(1 << 30)),
                expected_offset: 7,
                bytes: bytes.len() as u32,
            };
            body.heads.push(head);
            body.verdicts.push(0);
            body.blob.extend_from_slice(&bytes);
            self.records.push(Record::Opaque { head, bytes: Some(bytes) });
        }
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        self.append(EntryKind::Records, count as u32, &bytes).await;
    }

    async fn append(&mut self, kind: EntryKind, records: u32, body: &[u8]) {
        self.entry_bytes.extend((0..records).map(|_| HEADER_BYTES + body.len()));
        loop {
            let meta = EntryMeta { kind, ..meta(self.log.last(), records) };
            let changed = self.log.changed().changed();
            match self.log.append(&meta, body) {
                Ok(_) => return,
                Err(AppendError::Full | AppendError::Backlog(_)) => {
                    self.log.flush();
                    changed.await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Asserts that these offsets give what was appended, as checked as they can be.
    pub async fn check(&self, offsets: &[Offset], what: &str) {
        let found = self.log.read_events_at(offsets).await.unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
        assert_eq!(found.len(), offsets.len(), "{what}");
        for (offset, found) in offsets.iter().zip(found) {
            let at = offset.0 as usize;
            assert!(found.record == self.records[at], "{what}: offset {offset}");
            let may_be_unchecked =
                self.entry_bytes[at] > 64 << 10 && matches!(found.record, Record::Event(_));
            assert!(found.is_checked || may_be_unchecked, "{what}: offset {offset}");
        }
    }

    /// Offsets, some of them twice, in any order.
    pub fn some_offsets(&mut self, count: usize) -> Vec<Offset> {
        let end = self.records.len() as u64;
        (0..count).map(|_| Offset(self.numbers.below(end))).collect()
    }

    pub fn all_offsets(&self) -> Vec<Offset> {
        (0..self.records.len() as u64).map(Offset).collect()
    }
}

pub async fn open_counted(
    disk: &CountingDisk,
    dir: &Dir,
    config: &LogConfig,
    from: Tail,
) -> CountedLog {
    let runtime = GlommioRuntime::new();
    Log::open(disk.clone(), runtime, dir.partition(), config.clone(), from).await.unwrap().log
}
