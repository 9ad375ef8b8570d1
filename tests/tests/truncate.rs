//! Does a read that meets a truncation under way wait for its end?
//!
//! The fault: it took the zeros of the truncation for damage. A follower's state machine, which reads
//! what it applies while the entries behind are being removed, then stopped for good.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine::storage::error::ReadError;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine::storage::records::Record;
use walengine_net::entry::{EntryKind, EntryMeta, EventsBody};
use walengine_net::model::{Offset, Timestamp};
use walengine_tests::checked_partition::{DATA, config, dir};
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime};

const ENTRIES: u64 = 12;
const KEPT: u64 = 4;
const EVENTS: usize = 3;
const SEEDS: u64 = 300;
/// The truncation takes milliseconds.
const SLOW_TIMES: u32 = 20;

#[test]
fn a_read_that_meets_a_truncation_waits_for_its_end() {
    let waited = each_of("truncate::a_read_that_meets_a_truncation", SEEDS, |seed| {
        let executor = SimExecutor::new(seed, Order::Random);
        let runtime = executor.runtime();
        executor.block_on(one(runtime, seed)).expect("nothing waits for ever")
    });
    let met = waited.iter().filter(|waited| **waited).count();
    println!("{met} of {} reads met the truncation", waited.len());
    assert!(met > waited.len() / 10 || waited.len() == 1, "the schedule misses what it is for");
}

/// True if the read began during the truncation, ended behind it, and found the entry gone.
async fn one(runtime: SimRuntime, seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(&runtime, seed);
    disk.install_dir(Path::new(DATA));
    let config = LogConfig { entries_on_blocks: true, ..config() };
    let opened = Log::open(disk.clone(), runtime.clone(), dir(), config.clone(), Tail::default());
    let log = opened.await.expect("a healthy disk").log;
    for index in 1..=ENTRIES {
        let last = log.last();
        let meta = EntryMeta {
            cluster: config.ids.cluster,
            partition: config.ids.partition,
            kind: EntryKind::Events,
            term: 1,
            leader_node: 1,
            index,
            base_offset: last.next_offset,
            records: EVENTS as u32,
            timestamp: Timestamp(last.timestamp.0 + 1),
        };
        let body = EventsBody {
            events: vec![[index as u8; 128]; EVENTS],
            verdicts: vec![0; EVENTS],
            resolved: Vec::new(),
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).expect("it fits in memory");
        log.append(&meta, &body).expect("a healthy log");
        log.flush();
        log.wait_durable(index).await.expect("a healthy disk");
    }
    disk.set_faults(|faults| faults.latency_times = SLOW_TIMES);
    let ended = Rc::new(Cell::new(false));
    let (cut, end) = (log.clone(), ended.clone());
    runtime.spawn(async move {
        cut.truncate_after(KEPT).await.expect("a healthy disk");
        end.set(true);
    });
    runtime.sleep(Duration::from_micros(rng.below(40_000))).await;
    let begun_before = !ended.get();
    let index = rng.between(KEPT + 1, ENTRIES);
    // By index, or by the offset of one of its events.
    let read = if seed.is_multiple_of(2) {
        log.read(index, 1).await.map(|bytes| !bytes.is_empty())
    } else {
        let offset = Offset((index - 1) * EVENTS as u64 + rng.below(EVENTS as u64));
        let found = log.read_events_at(&[Offset(0), offset]).await;
        found.map(|found| found[1].record == Record::Event([index as u8; 128]))
    };
    match read {
        Ok(is_right) => {
            assert!(is_right && begun_before, "entry {index} was removed before");
            false
        }
        Err(ReadError::NoEntry { .. } | ReadError::NoOffset { .. }) => {
            assert_eq!(log.last().index, KEPT, "it is gone when all of it is done");
            begun_before
        }
        Err(error) => panic!("a truncation is taken for damage: {error}"),
    }
}
