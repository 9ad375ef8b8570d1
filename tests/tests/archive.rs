//! Is what the feed reads beside the writing shard always what was committed, whole and in order?
//!
//! The feed reads segments on another core, while they are appended to, cut behind what is committed,
//! and rolled; and it is handed entries from memory.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine::storage::archive::{Archive, Extent};
use walengine::storage::error::AppendError;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine_net::entry::{EntryKind, EntryMeta};
use walengine_net::message::Entries;
use walengine_net::model::{Offset, Timestamp};
use walengine_tests::checked_partition::{DATA, config, dir};
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime};

const SEEDS: u64 = 200;
const STEPS: u64 = 80;
const READERS: u64 = 3;
const ENTRY_BYTES_MAX: u64 = 9 << 10;
const PAGE_BYTES_MAX: u64 = 40 << 10;

/// What the log holds by its writer's account.
#[derive(Default)]
struct Account {
    /// Each entry's bytes and the offset behind it.
    entries: RefCell<Vec<(Vec<u8>, Offset)>>,
    /// Entries of them that are committed.
    committed: Cell<usize>,
    extent: Cell<Option<Extent>>,
    ended: Cell<bool>,
    pages: Cell<u64>,
    cuts: Cell<u64>,
}

#[test]
fn what_is_read_beside_the_writer_is_what_was_committed() {
    let done = each_of("archive::what_is_read_beside_the_writer", SEEDS, |seed| {
        let executor = SimExecutor::new(seed, Order::Random);
        let runtime = executor.runtime();
        executor.block_on(one(runtime, seed)).expect("nothing waits for ever")
    });
    let sum = |number: usize| done.iter().map(|done| [done.0, done.1, done.2][number]).sum::<u64>();
    let (pages, cuts, segments) = (sum(0), sum(1), sum(2));
    println!("{pages} pages, {cuts} truncations, {segments} segments");
    assert!(done.len() == 1 || (pages > 10 * SEEDS && cuts > SEEDS && segments > 3 * SEEDS));
}

async fn one(runtime: SimRuntime, seed: u64) -> (u64, u64, u64) {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(&runtime, seed);
    disk.install_dir(Path::new(DATA));
    let config = LogConfig { entries_on_blocks: rng.below(2) == 0, ..config() };
    let opened = Log::open(disk.clone(), runtime.clone(), dir(), config.clone(), Tail::default());
    let log = opened.await.expect("a healthy disk").log;
    log.tap().set_open(true);
    let account = Rc::new(Account::default());
    let (cluster, partition) = (config.ids.cluster, config.ids.partition);
    let archive = Archive::new(disk, dir(), cluster, partition, config.segment_bytes);
    let archive = Rc::new(archive);
    let readers = Rc::new(Cell::new(READERS));
    for number in 0..READERS {
        let (archive, account, readers) = (archive.clone(), account.clone(), readers.clone());
        let (rng, pause) = (Rng::new(seed ^ (number << 32)), runtime.clone());
        runtime.spawn(async move {
            read(archive, account, rng, pause).await;
            readers.set(readers.get() - 1);
        });
    }
    let mut tapped = 0;
    for _ in 0..STEPS {
        for _ in 0..rng.below(6) {
            append(&log, &config, &account, &mut rng).await;
        }
        log.flush();
        if rng.below(3) > 0 {
            log.wait_durable(log.last().index).await.expect("a healthy disk");
        }
        let durable = log.durable_index();
        let committed = account.committed.get() as u64;
        if durable > committed {
            let committed = rng.between(committed + 1, durable);
            account.committed.set(committed as usize);
            account.extent.set(Some(Extent { index: committed, sequence: log.last_segment() }));
            for entry in log.tap().take_to(committed) {
                let (bytes, next_offset) = &account.entries.borrow()[tapped];
                assert_eq!((entry.index, &entry.bytes), (tapped as u64 + 1, bytes));
                assert_eq!(entry.next_offset, *next_offset);
                tapped += 1;
            }
            assert_eq!(tapped as u64, committed, "what is handed over has no gap");
        }
        let last = log.last().index;
        if config.entries_on_blocks && rng.below(6) == 0 && last > account.committed.get() as u64 {
            let after = rng.between(account.committed.get() as u64, last);
            log.truncate_after(after).await.expect("a healthy disk");
            account.entries.borrow_mut().truncate(after as usize);
            account.cuts.set(account.cuts.get() + u64::from(after < last));
        }
    }
    account.ended.set(true);
    while readers.get() > 0 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    (account.pages.get(), account.cuts.get(), log.last_segment())
}

async fn append(
    log: &Log<SimDisk, SimRuntime>,
    config: &LogConfig,
    account: &Account,
    rng: &mut Rng,
) {
    let last = log.last();
    let records = rng.below(4) as u32;
    let meta = EntryMeta {
        cluster: config.ids.cluster,
        partition: config.ids.partition,
        kind: if records == 0 { EntryKind::Blank } else { EntryKind::Records },
        term: 1,
        leader_node: 1,
        index: last.index + 1,
        base_offset: last.next_offset,
        records,
        timestamp: Timestamp(last.timestamp.0 + u64::from(records)),
    };
    let bytes = if records == 0 { 0 } else { rng.below(ENTRY_BYTES_MAX) };
    let body: Vec<u8> = (0..bytes).map(|_| rng.below(256) as u8).collect();
    loop {
        let changed = log.changed().changed();
        match log.append(&meta, &body) {
            Ok(header) => {
                let entry = [&header.to_bytes()[..], &body].concat();
                account.entries.borrow_mut().push((entry, header.next_offset()));
                return;
            }
            Err(AppendError::Full | AppendError::Backlog(_)) => {
                log.flush();
                changed.await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads from somewhere on, as a subscription does, and compares.
async fn read(
    archive: Rc<Archive<SimDisk>>,
    account: Rc<Account>,
    mut rng: Rng,
    runtime: SimRuntime,
) {
    let (mut offset, mut cursor) = (Offset(0), None);
    loop {
        let (ended, extent) = (account.ended.get(), account.extent.get());
        let told = extent
            .map_or(Offset(0), |extent| account.entries.borrow()[extent.index as usize - 1].1);
        if offset >= told {
            if ended {
                return;
            }
            runtime.sleep(Duration::from_micros(rng.below(3000))).await;
            continue;
        }
        let Some(extent) = extent else { continue };
        match rng.below(8) {
            0 => cursor = None,
            1 => (offset, cursor) = (Offset(rng.below(told.0)), None),
            _ => {}
        }
        let bytes_max = rng.below(PAGE_BYTES_MAX) as usize;
        let read = archive.read(offset, None, cursor, extent, bytes_max).await;
        let (page, place) = read.expect("a healthy log");
        // Behind the last page, or from the entries without records on that stand before the one wanted.
        let first = if let Some(cursor) = cursor {
            Some(cursor.index() as usize - 1)
        } else {
            let mut before = Offset(0);
            account.entries.borrow().iter().position(|entry| {
                let is_blank = std::mem::replace(&mut before, entry.1) == entry.1;
                entry.1 > offset || is_blank && entry.1 == offset
            })
        };
        let entries = account.entries.borrow();
        let (mut number, mut rest) = (first.expect("it was committed"), page.as_slice());
        assert!(!rest.is_empty(), "records up to {told} are committed, {offset} is wanted");
        for entry in Entries::new(&page) {
            let (bytes, _) = &entries[number];
            entry.expect("whole entries");
            assert!(rest.starts_with(bytes), "entry {}", number + 1);
            rest = &rest[bytes.len()..];
            number += 1;
        }
        assert!(rest.is_empty() && number as u64 <= extent.index);
        assert!(place.offset() > offset && place.offset() == entries[number - 1].1);
        drop(entries);
        (offset, cursor) = (place.offset(), Some(place));
        account.pages.set(account.pages.get() + 1);
    }
}
