//! What the projector measures of itself, for Prometheus and the progress bar.

#![allow(clippy::cast_precision_loss, reason = "Prometheus takes floating point")]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, GaugeValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::batch::Batch;
use crate::history::Position;

/// Every metric's name begins with this and an underscore.
const PREFIX: &str = "walengine_projector";
/// Quantiles of transaction times, as label values.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (1.0, "1")];

/// Numbers of one partition. Its tasks write them, any thread reads them.
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

    /// Notes the position that the database is at.
    pub fn found(&self, position: &Position) {
        self.next_offset.store(position.next_offset.0, Ordering::Relaxed);
        self.log_time.store(position.time.map_or(0, |time| time.0), Ordering::Relaxed);
    }

    /// Notes a committed batch, and how long its transaction took.
    pub fn committed(&self, batch: &Batch, took: Duration) {
        self.found(&batch.to);
        self.rows.fetch_add(batch.rows, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.transaction_micros().saturating_record(micros);
    }

    fn transaction_micros(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.transaction_micros.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt that failed and will be repeated.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a known end of the log; an earlier end than the known one is ignored.
    pub fn log_reaches(&self, end: Offset) {
        self.log_end.fetch_max(end.0, Ordering::Relaxed);
    }

    /// Offset of the first record that is not in the database.
    pub fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    /// Known end of the log, never before [`Self::next_offset`].
    pub fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::Relaxed).max(self.next_offset())
    }

    /// Records that are in the log but not in the database.
    pub fn lag_records(&self) -> u64 {
        self.log_end().saturating_sub(self.next_offset())
    }

    /// See [`lag_seconds`].
    pub fn lag_seconds(&self) -> f64 {
        let newest = Timestamp(self.log_time.load(Ordering::Relaxed));
        lag_seconds(self.lag_records(), newest)
    }
}

/// Age of the newest projected record; 0 if the log has no newer one.
pub fn lag_seconds(lag_records: u64, newest: Timestamp) -> f64 {
    if lag_records == 0 || newest.0 == 0 {
        return 0.0;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(newest.0)).as_secs_f64()
}

/// A registry that reads the numbers of these partitions at every scrape.
pub fn registry(partitions: &[Arc<PartitionMetrics>]) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(AllPartitions(partitions.to_vec())));
    registry
}

/// Printed without a fraction if it has none.
#[derive(Debug)]
struct Number(f64);

impl EncodeGaugeValue for Number {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        if self.0.fract() == 0.0 { (self.0 as i64).encode(encoder) } else { self.0.encode(encoder) }
    }
}

/// Reads a number of a partition.
type Value = fn(&PartitionMetrics) -> f64;

#[derive(Debug)]
struct AllPartitions(Vec<Arc<PartitionMetrics>>);

impl AllPartitions {
    fn values(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        kind: MetricType,
        name: &str,
        help: &str,
        value: Value,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for metrics in &self.0 {
            let labels = [("partition", metrics.partition.0)];
            ConstGauge::new(Number(value(metrics))).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// The encoder ends the name with `_total`.
    fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&PartitionMetrics) -> &AtomicU64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for metrics in &self.0 {
            let labels = [("partition", metrics.partition.0)];
            let count = value(metrics).load(Ordering::Relaxed);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Quantiles, count and sum, named as those of a Prometheus summary. The crate has no summaries
    /// and would end the names of counters with `_total`, so count and sum are untyped.
    fn transaction_seconds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from the start of the first attempt to the answer to COMMIT";
        let mut family =
            encoder.encode_descriptor("transaction_seconds", help, None, MetricType::Gauge)?;
        for metrics in &self.0 {
            let histogram = metrics.transaction_micros();
            for (quantile, label) in QUANTILES {
                let labels = ([("partition", metrics.partition.0)], [("quantile", label)]);
                let seconds = histogram.value_at_quantile(quantile) as f64 / 1e6;
                ConstGauge::new(Number(seconds)).encode(family.encode_family(&labels)?)?;
            }
        }
        let name = "transaction_seconds_sum";
        let help = "Time of all committed transactions together";
        self.values(encoder, MetricType::Unknown, name, help, |metrics| {
            let histogram = metrics.transaction_micros();
            histogram.mean() * histogram.len() as f64 / 1e6
        })?;
        let (name, help) = ("transaction_seconds_count", "Committed transactions");
        self.values(encoder, MetricType::Unknown, name, help, |metrics| {
            metrics.transaction_micros().len() as f64
        })
    }
}

impl Collector for AllPartitions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let gauges: [(&str, &str, Value); 4] = [
            ("next_offset", "First record that is not in PostgreSQL", |metrics| {
                metrics.next_offset() as f64
            }),
            ("log_end", "End of the log", |metrics| metrics.log_end() as f64),
            ("lag_records", "Records in the log that are not in PostgreSQL", |metrics| {
                metrics.lag_records() as f64
            }),
            (
                "lag_seconds",
                "Age of the newest projected record while there are newer ones",
                PartitionMetrics::lag_seconds,
            ),
        ];
        for (name, help, value) in gauges {
            self.values(to, MetricType::Gauge, name, help, value)?;
        }
        self.counter(to, "rows", "Rows written", |metrics| &metrics.rows)?;
        let help = "Transactions committed";
        self.counter(to, "transactions", help, |metrics| &metrics.transactions)?;
        let help = "Attempts that failed and were repeated";
        self.counter(to, "retries", help, |metrics| &metrics.retries)?;
        self.transaction_seconds(to)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn every_metric_is_named_and_labelled_as_dashboards_know_it() {
        let metrics = Arc::new(PartitionMetrics::new(PartitionId(3)));
        metrics.log_reaches(Offset(7));
        metrics.retried();
        metrics.transaction_micros().record(2_000_000).unwrap();
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry(&[metrics])).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "walengine_projector_next_offset{partition=\"3\"} 0",
            "walengine_projector_log_end{partition=\"3\"} 7",
            "walengine_projector_lag_records{partition=\"3\"} 7",
            "walengine_projector_lag_seconds{partition=\"3\"} 0",
            "walengine_projector_rows_total{partition=\"3\"} 0",
            "walengine_projector_transactions_total{partition=\"3\"} 0",
            "walengine_projector_retries_total{partition=\"3\"} 1",
        ];
        assert_eq!(samples[..expected.len()], expected);
        let names: Vec<&str> =
            samples[expected.len()..].iter().filter_map(|line| line.split(' ').next()).collect();
        let name = "walengine_projector_transaction_seconds";
        let expected: Vec<String> = ["0.5", "0.9", "0.99", "1"]
            .map(|quantile| format!("{name}{{partition=\"3\",quantile=\"{quantile}\"}}"))
            .into_iter()
            .chain(["sum", "count"].map(|part| format!("{name}_{part}{{partition=\"3\"}}")))
            .collect();
        assert_eq!(names, expected);
    }
}
