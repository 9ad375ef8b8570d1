//! What the projector measures of itself, for Prometheus, the progress bar and the log.

#![allow(clippy::cast_precision_loss, reason = "metrics are told in floating point")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::batch::Batch;
use crate::history::Position;

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// Numbers of one partition; written by its tasks, read by anybody.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// The partition.
    pub partition: PartitionId,
    next_offset: AtomicU64,
    log_end: AtomicU64,
    log_time: AtomicU64,
    rows: AtomicU64,
    transactions: AtomicU64,
    retries: AtomicU64,
    transaction_micros: Mutex<Histogram<u64>>,
}

impl PartitionMetrics {
    /// All zero.
    pub fn new(partition: PartitionId) -> Self {
        let histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2)
            .expect("the bounds are constants that fit each other");
        Self {
            partition,
            next_offset: AtomicU64::new(0),
            log_end: AtomicU64::new(0),
            log_time: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            transaction_micros: Mutex::new(histogram),
        }
    }

    /// The database was found at this position.
    pub fn found(&self, position: &Position) {
        self.next_offset.store(position.next_offset.0, Ordering::Relaxed);
        self.log_time.store(position.time.map_or(0, |time| time.0), Ordering::Relaxed);
    }

    /// A batch is committed.
    pub fn committed(&self, batch: &Batch, took: Duration) {
        self.found(&batch.to);
        self.rows.fetch_add(batch.rows, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut histogram = self.transaction_micros.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(micros);
    }

    /// An attempt failed and is made again.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The log reaches so far, as some node knew.
    pub fn log_reaches(&self, end: Offset) {
        self.log_end.fetch_max(end.0, Ordering::Relaxed);
    }

    /// First record that is not in the database.
    pub fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    /// End of the log; at least what is in the database.
    pub fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::Relaxed).max(self.next_offset())
    }

    /// Records that are in the log and not in the database.
    pub fn lag_records(&self) -> u64 {
        self.log_end().saturating_sub(self.next_offset())
    }

    /// Age of the newest projected record while there are newer ones.
    pub fn lag_seconds(&self) -> f64 {
        let newest = Timestamp(self.log_time.load(Ordering::Relaxed));
        lag_seconds(self.lag_records(), newest)
    }
}

/// Age of the newest projected record; 0 if nothing newer is in the log.
pub fn lag_seconds(lag_records: u64, newest: Timestamp) -> f64 {
    if lag_records == 0 || newest.0 == 0 {
        return 0.0;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(newest.0)).as_secs_f64()
}

/// All partitions in the text format of Prometheus, version 0.0.4.
pub fn prometheus(partitions: &[std::sync::Arc<PartitionMetrics>]) -> String {
    let mut text = String::new();
    let mut family = |name: &str,
                      kind: &str,
                      help: &str,
                      value: &dyn Fn(&PartitionMetrics) -> f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}"); // to a String
        for metrics in partitions {
            let _ =
                writeln!(text, "{name}{{partition=\"{}\"}} {}", metrics.partition, value(metrics));
        }
    };
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    family(
        "walengine_projector_next_offset",
        "gauge",
        "First record that is not in PostgreSQL.",
        &|metrics| metrics.next_offset() as f64,
    );
    family("walengine_projector_log_end", "gauge", "End of the log.", &|metrics| {
        metrics.log_end() as f64
    });
    family(
        "walengine_projector_lag_records",
        "gauge",
        "Records in the log that are not in PostgreSQL.",
        &|metrics| metrics.lag_records() as f64,
    );
    family(
        "walengine_projector_lag_seconds",
        "gauge",
        "Age of the newest projected record while there are newer ones.",
        &PartitionMetrics::lag_seconds,
    );
    family("walengine_projector_rows_total", "counter", "Rows written.", &|metrics| {
        load(&metrics.rows)
    });
    family(
        "walengine_projector_transactions_total",
        "counter",
        "Transactions committed.",
        &|metrics| load(&metrics.transactions),
    );
    family(
        "walengine_projector_retries_total",
        "counter",
        "Attempts that failed and were made again.",
        &|metrics| load(&metrics.retries),
    );
    quantiles(&mut text, partitions);
    text
}

fn quantiles(text: &mut String, partitions: &[std::sync::Arc<PartitionMetrics>]) {
    let name = "walengine_projector_transaction_seconds";
    let help = "Time from the first attempt's start to the COMMIT's answer.";
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} summary");
    for metrics in partitions {
        let lock = &metrics.transaction_micros;
        let histogram = lock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let partition = metrics.partition;
        for quantile in QUANTILES {
            let seconds = histogram.value_at_quantile(quantile) as f64 / 1e6;
            let labels = format!("partition=\"{partition}\",quantile=\"{quantile}\"");
            let _ = writeln!(text, "{name}{{{labels}}} {seconds}");
        }
        let sum = histogram.mean() * histogram.len() as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum{{partition=\"{partition}\"}} {sum}");
        let _ = writeln!(text, "{name}_count{{partition=\"{partition}\"}} {}", histogram.len());
    }
}
