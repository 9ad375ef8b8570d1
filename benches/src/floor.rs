//! The floor: disk and network without the engine.
//!
//! Raw commits are direct writes with `O_DSYNC` into a file that was filled with zeros before, by
//! one thread for each write in flight. Round trips use blocking sockets on loopback.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::{During, Failed, Result, failed};
use crate::stats::{Latencies, Percentiles};

/// Unit of direct I/O in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Length of the answer to a batch that was accepted whole: header, token, list of one run.
pub const REPLY_BYTES: usize = 70;
/// Length of the file.
const FILE_BYTES: usize = 256 << 20;
/// Size of a write while the file is prepared.
const PREPARE_BYTES: usize = 4 << 20;

/// A file for raw commits; removed when dropped.
pub struct RawFile {
    path: PathBuf,
}

/// Results of raw commits of one size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RawReport {
    /// Size of a commit in bytes.
    pub bytes: usize,
    /// Commits in flight.
    pub depth: usize,
    /// Commits a second.
    pub commits_per_second: f64,
    /// Time of one commit, in microseconds.
    pub latency_micros: Percentiles,
}

/// A buffer that starts at a block boundary.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize, fill: u8) -> Self {
        let bytes = vec![fill; len + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, start, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl RawFile {
    /// Creates it in `dir` and fills it with zeros.
    pub fn create(dir: &Path) -> Result<Self> {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("walengine-bench-{}-floor-{number}", std::process::id()));
        let file = Self { path };
        let at = format!("preparing {}", file.path.display());
        let zeros = Aligned::new(PREPARE_BYTES, 0);
        let out = file.open(true).during(&at)?;
        for place in (0..FILE_BYTES).step_by(PREPARE_BYTES) {
            out.write_all_at(zeros.as_slice(), place as u64).during(&at)?;
        }
        out.sync_all().during(&at)?;
        Ok(file)
    }

    fn open(&self, create: bool) -> std::io::Result<File> {
        let durable = if create { OFlags::empty() } else { OFlags::DSYNC };
        OpenOptions::new()
            .write(true)
            .create(create)
            .truncate(create)
            .custom_flags((OFlags::DIRECT | durable).bits().cast_signed())
            .open(&self.path)
    }

    /// Commits `bytes`, rounded up to blocks, with `depth` writes in flight, for `time`.
    pub fn commits(&self, bytes: usize, depth: usize, time: Duration) -> Result<RawReport> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let region = FILE_BYTES / depth / bytes * bytes;
        if region == 0 {
            return failed(format!("{depth} commits of {bytes} bytes do not fit in the file"));
        }
        let start = Instant::now();
        let until = start + time;
        let writer = |number: usize| -> Result<Latencies> {
            let file = self.open(false).during("opening the raw file")?;
            let buffer = Aligned::new(bytes, number as u8 | 1);
            let mut latencies = Latencies::new();
            let mut place = 0;
            let mut before = Instant::now();
            while before < until {
                let at = (number * region + place) as u64;
                file.write_all_at(buffer.as_slice(), at).during("writing the raw file")?;
                let after = Instant::now();
                latencies.record((after - before).as_nanos() as u64);
                before = after;
                place = (place + bytes) % region;
            }
            Ok(latencies)
        };
        let writer = &writer;
        let latencies = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..depth).map(|number| scope.spawn(move || writer(number))).collect();
            let mut all = Latencies::new();
            for thread in threads {
                all.add(&thread.join().map_err(|_| Failed("a raw writer panicked".into()))??);
            }
            Ok::<_, Failed>(all)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let latency_micros = latencies.percentiles();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let commits_per_second = latency_micros.count as f64 / seconds;
        Ok(RawReport { bytes, depth, commits_per_second, latency_micros })
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        // Fails only if it was never created.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Round trips on loopback, one at a time, for `time`. A request of `request_bytes` is read whole
/// before `reply_bytes` are sent back.
pub fn round_trips(
    request_bytes: usize,
    reply_bytes: usize,
    time: Duration,
) -> Result<Percentiles> {
    let what = "measuring loopback";
    let listener = TcpListener::bind("127.0.0.1:0").during(what)?;
    let address = listener.local_addr().during(what)?;
    std::thread::scope(|scope| {
        scope.spawn(move || echo(&listener, request_bytes, reply_bytes));
        let mut stream = TcpStream::connect(address).during(what)?;
        stream.set_nodelay(true).during(what)?;
        let (request, mut reply) = (vec![1; request_bytes], vec![0; reply_bytes]);
        let mut latencies = Latencies::new();
        let until = Instant::now() + time;
        let mut before = Instant::now();
        while before < until {
            stream.write_all(&request).during(what)?;
            stream.read_exact(&mut reply).during(what)?;
            let after = Instant::now();
            latencies.record((after - before).as_nanos() as u64);
            before = after;
        }
        Ok(latencies.percentiles())
    })
}

/// Answers until the client disconnects.
fn echo(listener: &TcpListener, request_bytes: usize, reply_bytes: usize) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    // Without it the floor is only slower.
    let _ = stream.set_nodelay(true);
    let (mut request, reply) = (vec![0; request_bytes], vec![1; reply_bytes]);
    while stream.read_exact(&mut request).is_ok() {
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_block() {
        for len in [1, 4096, 12_288] {
            let buffer = Aligned::new(len, 7);
            assert_eq!(buffer.as_slice().as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_slice().len(), len);
        }
    }

    #[test]
    fn round_trips_are_counted() {
        assert!(round_trips(168, 62, Duration::from_millis(20)).unwrap().count > 0);
    }
}
