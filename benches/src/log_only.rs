//! The log without network and ledger: the engine's storage against raw writes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use serde::{Deserialize, Serialize};
use walengine::runtime::Runtime as _;
use walengine::runtime_glommio::GlommioRuntime;
use walengine::storage::error::AppendError;
use walengine::storage::glommio_disk::GlommioDisk;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine_net::entry::{ANY_OFFSET, EntryKind, EntryMeta, RecordHead, RecordsBody};
use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use crate::error::{During, Failed, Result, failed};
use crate::floor::RawFile;
use crate::load::RECORD_BYTES;
use crate::server::Scratch;
use crate::stats::{Latencies, Percentiles, Spread};

/// A round counts if its two floors differ by at most this part.
pub const FLOORS_DIFFER_MAX: f64 = 0.15;
/// Flushes in flight in the cases with several.
const SMALL_INFLIGHT: usize = 4;
/// Bytes of a body that nearly fills one block together with its header.
const SMALL_BODY_BYTES: usize = 3072;
/// Memory of an executor for direct I/O, in bytes.
const IO_MEMORY_BYTES: usize = 64 << 20;
/// How long an idle executor spins; the same as in the server.
const SPIN: Duration = Duration::from_micros(20);

/// Extent of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArguments {
    /// Directory on the disk to measure
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Rounds of floor, engine, floor
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,

    /// How long each part of a round takes, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub seconds: f64,
}

/// A kind of entry, and how many are in flight on how many logs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LogCase {
    /// Records of 1 KiB in an entry; 0 for an entry of one block.
    pub records: usize,
    /// Flushes in flight on each log.
    pub inflight: usize,
    /// Logs, each on its own core.
    pub logs: usize,
}

/// The engine's log beside the floor, over all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogReport {
    /// The case.
    pub case: LogCase,
    /// Length of an entry on disk in bytes.
    pub entry_bytes: usize,
    /// Entries a second.
    pub entries_per_second: Spread,
    /// Raw writes a second of the same size, with as many in flight.
    pub floor_per_second: Spread,
    /// The engine's rate over the floor's, round by round.
    pub part_of_floor: Spread,
    /// From append to durable, in microseconds, of the middle round.
    pub latency_micros: Percentiles,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that were thrown away because their floors differed.
    pub thrown_away: usize,
}

struct LogRound {
    entries_per_second: f64,
    latencies: Latencies,
}

/// The cases: bandwidth one at a time and with several in flight, small flushes, and two cores.
pub const CASES: [LogCase; 6] = [
    LogCase { records: 1000, inflight: 1, logs: 1 },
    LogCase { records: 1000, inflight: SMALL_INFLIGHT, logs: 1 },
    LogCase { records: 0, inflight: 1, logs: 1 },
    LogCase { records: 0, inflight: SMALL_INFLIGHT, logs: 1 },
    LogCase { records: 0, inflight: 1, logs: 2 },
    LogCase { records: 1000, inflight: 1, logs: 2 },
];

/// Measures and prints all cases.
pub fn command(arguments: &LogArguments) -> Result<()> {
    measure_all(arguments).map(|_| ())
}

/// Measures all cases, printing each as it is done.
pub fn measure_all(arguments: &LogArguments) -> Result<Vec<LogReport>> {
    println!("{}", LogReport::heading());
    let mut reports = Vec::new();
    for case in CASES {
        let seconds = Duration::from_secs_f64(arguments.seconds);
        let report = measure(case, &arguments.dir, arguments.rounds, seconds)?;
        println!("{}", report.to_line());
        reports.push(report);
    }
    Ok(reports)
}

/// Measures one case: rounds of floor, engine, floor.
pub fn measure(case: LogCase, dir: &Path, rounds: usize, time: Duration) -> Result<LogReport> {
    let raw = RawFile::create(dir)?;
    let body = body(case)?;
    let entry_bytes = (walengine_net::entry::HEADER_BYTES + body.len())
        .next_multiple_of(crate::floor::BLOCK_BYTES);
    let depth = case.inflight * case.logs;
    let (mut calm, mut thrown_away) = (Vec::new(), Vec::new());
    // At most twice as many extra rounds, so that a restless machine does not keep us for ever.
    while calm.len() < rounds && thrown_away.len() < 2 * rounds {
        let before = raw.commits(entry_bytes, depth, time / 2)?.commits_per_second;
        let written = write(case, &body, dir, time)?;
        let after = raw.commits(entry_bytes, depth, time / 2)?.commits_per_second;
        let round = (f64::midpoint(before, after), written);
        if differ(before, after) { thrown_away.push(round) } else { calm.push(round) }
    }
    let thrown = thrown_away.len();
    let counted = if calm.is_empty() { thrown_away } else { calm };
    let middle = &counted[counted.len() / 2].1;
    Ok(LogReport {
        case,
        entry_bytes,
        entries_per_second: Spread::of(counted.iter().map(|round| round.1.entries_per_second)),
        floor_per_second: Spread::of(counted.iter().map(|round| round.0)),
        part_of_floor: Spread::of(counted.iter().map(|round| round.1.entries_per_second / round.0)),
        latency_micros: middle.latencies.percentiles(),
        rounds: counted.len(),
        thrown_away: thrown,
    })
}

/// Whether the two floors of a round are too far apart to trust what was measured between them.
pub fn differ(before: f64, after: f64) -> bool {
    (before - after).abs() > FLOORS_DIFFER_MAX * before.max(after)
}

impl LogReport {
    /// Column names.
    pub fn heading() -> String {
        "log only, no network         entries/s  [min - max]                floor/s   of floor \
         [min - max]         MB/s    p50 us    p99 us  rounds (thrown away)"
            .to_owned()
    }

    /// The figures, below [`Self::heading`].
    pub fn to_line(&self) -> String {
        let what = if self.case.records == 0 {
            format!("{} B", self.entry_bytes)
        } else {
            format!("1 KiB x {}", self.case.records)
        };
        let name = format!("{what}, {} in flight x {}", self.case.inflight, self.case.logs);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let megabytes = self.entries_per_second.median * self.entry_bytes as f64 / 1e6;
        format!(
            "{name:<28} {:>9.0}  {:<22} {:>11.0}   {:>7.1}% {:<16} {megabytes:>9.0} {:>9.1} {:>9.1}  {} ({})",
            self.entries_per_second.median,
            format!("[{:.0} - {:.0}]", self.entries_per_second.min, self.entries_per_second.max),
            self.floor_per_second.median,
            self.part_of_floor.median * 100.0,
            format!(
                "[{:.0} - {:.0}]",
                self.part_of_floor.min * 100.0,
                self.part_of_floor.max * 100.0
            ),
            self.latency_micros.p50,
            self.latency_micros.p99,
            self.rounds,
            self.thrown_away,
        )
    }
}

fn body(case: LogCase) -> Result<Vec<u8>> {
    if case.records == 0 {
        return Ok(vec![0x5a; SMALL_BODY_BYTES]);
    }
    let head = RecordHead { id: 1, expected_offset: ANY_OFFSET, bytes: RECORD_BYTES as u32 };
    let body = RecordsBody {
        heads: vec![head; case.records],
        verdicts: vec![0; case.records],
        blob: vec![0x5a; case.records * RECORD_BYTES],
    };
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&body).during("building the entry")?;
    Ok(bytes.to_vec())
}

/// Writes to the engine's log for `time`.
fn write(case: LogCase, body: &[u8], dir: &Path, time: Duration) -> Result<LogRound> {
    let scratch = Scratch::create(dir, "log")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let written = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..case.logs)
            .map(|number| {
                let data = scratch.0.join(number.to_string());
                scope.spawn(move || {
                    std::fs::create_dir_all(&data).during("creating a log")?;
                    let executor = LocalExecutorBuilder::new(Placement::Fixed(number % cores))
                        .io_memory(IO_MEMORY_BYTES)
                        .spin_before_park(SPIN)
                        .make()
                        .during("starting an executor")?;
                    executor.run(write_one(case, body, data, number as u16, time))
                })
            })
            .collect();
        let mut all = LogRound { entries_per_second: 0.0, latencies: Latencies::new() };
        for thread in threads {
            let one = thread.join().map_err(|_| Failed("a log's thread panicked".into()))??;
            all.entries_per_second += one.entries_per_second;
            all.latencies.add(&one.latencies);
        }
        Ok::<_, Failed>(all)
    })?;
    Ok(written)
}

async fn write_one(
    case: LogCase,
    body: &[u8],
    data: PathBuf,
    partition: u16,
    time: Duration,
) -> Result<LogRound> {
    let runtime = GlommioRuntime::new();
    let config = LogConfig {
        create: true,
        flush_inflight_max: case.inflight,
        ..LogConfig::new(ClusterId(1), PartitionId(partition))
    };
    let disk = GlommioDisk::new(&data);
    let opened = Log::open(disk, runtime, data.join("p"), config, Tail::default()).await;
    let log = opened.during("opening a log")?.log;
    let mut appended: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let mut durable = 0;
    while start.elapsed() < time {
        // Registered before the look, so that no change is missed.
        let changed = log.changed().changed();
        let appending = append(&log, case, body, partition, &mut appended, &runtime)?;
        durable = log.durable_index();
        let now = Instant::now();
        while appended.front().is_some_and(|&(index, _)| index <= durable) {
            if let Some((_, since)) = appended.pop_front() {
                latencies.record((now - since).as_nanos() as u64);
            }
        }
        if let Some(stopped) = log.stopped() {
            return failed(format!("the log has stopped: {stopped}"));
        }
        if !appending {
            changed.await;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let entries_per_second = durable as f64 / start.elapsed().as_secs_f64();
    log.close().await.during("closing a log")?;
    Ok(LogRound { entries_per_second, latencies })
}

/// Appends one entry and flushes it, if a flush can begin at once. Returns whether it could.
fn append(
    log: &Log<GlommioDisk, GlommioRuntime>,
    case: LogCase,
    body: &[u8],
    partition: u16,
    appended: &mut VecDeque<(u64, Instant)>,
    runtime: &GlommioRuntime,
) -> Result<bool> {
    if !log.can_flush() {
        return Ok(false);
    }
    let last = log.last();
    let meta = EntryMeta {
        cluster: ClusterId(1),
        partition: PartitionId(partition),
        kind: EntryKind::Records,
        term: 1,
        leader_node: 1,
        index: last.index + 1,
        base_offset: last.next_offset,
        records: case.records.max(1) as u32,
        timestamp: Timestamp(runtime.now().0.max(last.timestamp.0 + 1)),
    };
    let before = Instant::now();
    match log.append(&meta, body) {
        Ok(_) => {
            appended.push_back((meta.index, before));
            log.flush();
            Ok(true)
        }
        Err(AppendError::Full | AppendError::Backlog(_)) => Ok(false),
        Err(error) => failed(format!("appending: {error}")),
    }
}
