//! Measures the log against raw writes of the same size and number in flight, without the engine:
//! `cargo run --release --example log_floor -- DIR`. Rounds alternate raw and log; each line gives
//! the median of five.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people, far below 2^52"
)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::LocalExecutorBuilder;
use walengine::runtime_glommio::GlommioRuntime;
use walengine::storage::disk::{Disk, DiskFile};
use walengine::storage::glommio_disk::GlommioDisk;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine_net::entry::{EntryKind, EntryMeta, HEADER_BYTES};
use walengine_net::model::{ClusterId, PartitionId, Timestamp};

const ROUNDS: usize = 5;

/// Flushes of one size, `inflight` of them at a time.
#[derive(Clone, Copy)]
struct Load {
    body_bytes: usize,
    inflight: usize,
    flushes: u64,
    /// Entries may gather into flushes of this many bytes.
    gather_bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct Measured {
    seconds: f64,
    p50_micros: f64,
    p99_micros: f64,
}

fn main() {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("log-floor-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the directory can be created");
    let executor = LocalExecutorBuilder::default()
        .io_memory(4 << 20)
        .spin_before_park(Duration::from_micros(10))
        .make()
        .expect("an executor starts");
    let in_dir = dir.clone();
    executor.run(async move {
        let small = 4096 - HEADER_BYTES;
        for load in [
            Load { body_bytes: small, inflight: 1, flushes: 8_000, gather_bytes: 0 },
            Load { body_bytes: small, inflight: 4, flushes: 24_000, gather_bytes: 0 },
            Load { body_bytes: 1_048_000, inflight: 1, flushes: 400, gather_bytes: 0 },
            Load { body_bytes: 1_048_000, inflight: 4, flushes: 400, gather_bytes: 0 },
            Load { body_bytes: 1_048_000, inflight: 2, flushes: 400, gather_bytes: 0 },
            Load { body_bytes: 1_048_000, inflight: 4, flushes: 4_000, gather_bytes: 0 },
        ] {
            measure(&in_dir, load).await;
        }
    });
    let _ = std::fs::remove_dir_all(&dir);
}

async fn measure(dir: &Path, load: Load) {
    let (mut raws, mut logs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        raws.push(raw(&dir.join(format!("raw-{round}")), load).await);
        logs.push(log(&dir.join(format!("log-{round}")), load).await);
    }
    let median = |values: &mut Vec<Measured>| {
        values.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        values[ROUNDS / 2]
    };
    let (raw, log) = (median(&mut raws), median(&mut logs));
    let rate = |measured: Measured| load.flushes as f64 / measured.seconds;
    let bytes = (load.body_bytes + HEADER_BYTES) as f64;
    println!(
        "{:>8} B x {} in flight: raw {:>6.0}/s {:>5.0} MB/s p50 {:>5.0} us p99 {:>5.0} us | log \
         {:>6.0}/s {:>5.0} MB/s p50 {:>5.0} us p99 {:>5.0} us | {:.0} %",
        bytes,
        load.inflight,
        rate(raw),
        rate(raw) * bytes / 1e6,
        raw.p50_micros,
        raw.p99_micros,
        rate(log),
        rate(log) * bytes / 1e6,
        log.p50_micros,
        log.p99_micros,
        100.0 * rate(log) / rate(raw),
    );
}

/// Writes with `O_DSYNC` into a file that was zero-written before.
async fn raw(path: &Path, load: Load) -> Measured {
    let disk = GlommioDisk::new(path.parent().expect("a file in a directory"));
    let bytes = (load.body_bytes + HEADER_BYTES).next_multiple_of(4096);
    let total = bytes as u64 * load.flushes;
    let file = Rc::new(disk.create(path, total).await.expect("create"));
    let zeros = Rc::new(filled(&disk, &vec![0; 1 << 20]));
    for at in (0..total.next_multiple_of(1 << 20)).step_by(1 << 20) {
        file.write(zeros.clone(), at).await.expect("zero");
    }
    file.sync().await.expect("sync");
    let next = Rc::new(Cell::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..load.inflight)
        .map(|_| {
            let (file, next) = (file.clone(), next.clone());
            let buffer = Rc::new(filled(&disk, &noise(bytes)));
            glommio::spawn_local(async move {
                let mut micros = Vec::new();
                while next.get() < load.flushes {
                    let at = next.replace(next.get() + 1) * bytes as u64;
                    let begun = Instant::now();
                    file.write_durable(buffer.clone(), at).await.expect("write");
                    micros.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                micros
            })
        })
        .collect();
    let mut micros = Vec::new();
    for task in tasks {
        micros.append(&mut task.await);
    }
    let seconds = start.elapsed().as_secs_f64();
    disk.remove(path).await.expect("remove");
    summary(seconds, micros)
}

/// One entry per flush; the next as soon as a flush may begin.
async fn log(dir: &Path, load: Load) -> Measured {
    let disk = GlommioDisk::new(dir.parent().expect("a directory in a directory"));
    let config = LogConfig {
        create: true,
        flush_inflight_max: load.inflight,
        flush_bytes_max: load.gather_bytes.max(load.body_bytes + HEADER_BYTES),
        ..LogConfig::new(ClusterId(1), PartitionId(0))
    };
    let runtime = GlommioRuntime::new();
    let opened = Log::open(disk, runtime, dir.to_owned(), config, Tail::default()).await;
    let log = opened.unwrap_or_else(|error| panic!("{error}")).log;
    glommio::timer::sleep(Duration::from_millis(1500)).await; // the preparer's first work
    let body = noise(load.body_bytes);
    let (mut begun, mut micros, mut durable) = (Vec::new(), Vec::new(), 0);
    let start = Instant::now();
    while durable < load.flushes {
        while (log.can_flush() || log.backlog_bytes() < 3 * load.gather_bytes)
            && log.last().index < load.flushes
        {
            let tail = log.last();
            let meta = EntryMeta {
                cluster: ClusterId(1),
                partition: PartitionId(0),
                kind: EntryKind::Records,
                term: 1,
                leader_node: 1,
                index: tail.index + 1,
                base_offset: tail.next_offset,
                records: 1,
                timestamp: Timestamp(tail.timestamp.0 + 1),
            };
            let now = Instant::now();
            if log.append(&meta, &body).is_err() {
                break;
            }
            begun.push(now);
            log.flush();
        }
        let changed = log.changed().changed();
        if log.durable_index() == durable {
            changed.await;
        }
        assert!(log.stopped().is_none(), "the log stopped");
        for index in durable..log.durable_index() {
            micros.push(begun[index as usize].elapsed().as_secs_f64() * 1e6);
        }
        durable = log.durable_index();
    }
    let seconds = start.elapsed().as_secs_f64();
    log.close().await.expect("close");
    std::fs::remove_dir_all(dir).expect("remove");
    summary(seconds, micros)
}

fn filled(disk: &GlommioDisk, bytes: &[u8]) -> <GlommioDisk as Disk>::Buffer {
    let mut buffer = disk.buffer(bytes.len());
    buffer.as_mut().copy_from_slice(bytes);
    buffer
}

/// Bytes that no layer below can make smaller, the same for both sides.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn summary(seconds: f64, mut micros: Vec<f64>) -> Measured {
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
    Measured { seconds, p50_micros: at(0.5), p99_micros: at(0.99) }
}
