//! What the projector measures of itself, for Prometheus and the progress bar.

#![allow(clippy::cast_precision_loss, reason = "Prometheus takes floating point")]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
use crate::board::Board;
use crate::history::Position;
use crate::noted::Noted;

/// Every metric's name begins with this and an underscore.
const PREFIX: &str = "walengine_projector";
/// Quantiles of transaction times, as label values.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (1.0, "1")];

/// What a server says of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSeen {
    /// Offset after the newest committed record.
    pub end: Offset,
    /// Log time of the record that was asked for, if it is there.
    pub time: Option<Timestamp>,
}

/// Numbers of one partition. Its tasks write them, any thread reads them.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// The partition.
    pub partition: PartitionId,
    next_offset: AtomicU64,
    /// Whether the position that the database is at is known.
    is_found: AtomicBool,
    log_end: AtomicU64,
    /// Log time of the newest projected record.
    log_time: AtomicU64,
    /// Log time of the oldest record that was not projected, when a server was asked last.
    waiting_time: AtomicU64,
    /// When the log got ahead of the database; 0 while that is not known.
    behind_since: AtomicU64,
    /// When the log's end was last heard of; 0 for never.
    seen_at: AtomicU64,
    /// Since when no server answers; 0 while one does.
    gone_since: AtomicU64,
    /// Whether the writer has a connection to PostgreSQL.
    has_postgres: AtomicBool,
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
            is_found: AtomicBool::new(false),
            log_end: AtomicU64::new(0),
            log_time: AtomicU64::new(0),
            waiting_time: AtomicU64::new(0),
            behind_since: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
            gone_since: AtomicU64::new(0),
            has_postgres: AtomicBool::new(false),
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
        self.is_found.store(true, Ordering::Relaxed);
    }

    /// Notes what the database knows of earlier runs, while no server has answered in this one.
    pub fn remembers(&self, position: &Position, noted: &Noted) {
        self.found(position);
        if let (Some(end), Some(at)) = (noted.log_end, noted.seen_at) {
            self.log_end.fetch_max(end, Ordering::Relaxed);
            self.seen_at.fetch_max(at, Ordering::Relaxed);
        }
        let since = noted.gone_since.unwrap_or_else(now_nanos);
        // Keeps the beginning.
        let _ = self.gone_since.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
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
        let now = now_nanos();
        let was = self.log_end.fetch_max(end.0, Ordering::Relaxed);
        let next = self.next_offset();
        if was <= next && end.0 > next && self.seen_at.load(Ordering::Relaxed) != 0 {
            self.behind_since.store(now, Ordering::Relaxed);
        }
        self.seen_at.store(now, Ordering::Relaxed);
        self.gone_since.store(0, Ordering::Relaxed);
    }

    /// Notes what a server said of the log, and of the record at `next`.
    pub fn engine_answers(&self, next: Offset, seen: LogSeen) {
        self.log_reaches(seen.end);
        if let Some(time) = seen.time
            && next.0 >= self.next_offset()
        {
            self.waiting_time.store(time.0, Ordering::Relaxed);
        }
    }

    /// Notes that no server answers.
    pub fn engine_is_gone(&self) {
        self.retried();
        let now = now_nanos();
        // Keeps the beginning. Nobody else sets it.
        let _ = self.gone_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes whether the writer has a connection.
    pub fn has_postgres(&self, has: bool) {
        self.has_postgres.store(has, Ordering::Relaxed);
    }

    /// Whether the log's end was ever heard of.
    pub fn was_seen(&self) -> bool {
        self.seen_at.load(Ordering::Relaxed) != 0
    }

    /// Whether the position of the database is known.
    fn is_found(&self) -> bool {
        self.is_found.load(Ordering::Relaxed)
    }

    /// Whether it is known how far the database is behind.
    fn has_lag(&self) -> bool {
        self.is_found() && self.was_seen()
    }

    /// For how long no server has answered; `None` while one does.
    pub fn engine_gone_seconds(&self) -> Option<f64> {
        let since = self.gone_since.load(Ordering::Relaxed);
        (since != 0).then(|| seconds_since(since))
    }

    /// Age of what is known of the log's end; 0 before anything is known.
    pub fn log_end_age_seconds(&self) -> f64 {
        let seen = self.seen_at.load(Ordering::Relaxed);
        if seen == 0 { 0.0 } else { seconds_since(seen) }
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

    /// For how long the oldest record that is not in the database has been in the log; 0 if there is
    /// none. The time in which nothing was written does not count.
    pub fn lag_seconds(&self) -> f64 {
        if self.lag_records() == 0 {
            return 0.0;
        }
        // The record is not older than the newest projected one, and was not there while the log
        // had no more than the database.
        let since = [&self.waiting_time, &self.log_time, &self.behind_since]
            .map(|time| time.load(Ordering::Relaxed));
        since.into_iter().max().filter(|since| *since != 0).map_or(0.0, seconds_since)
    }
}

/// The clock of this machine, in nanoseconds since 1970.
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since a time in nanoseconds since 1970; 0 if that is ahead.
pub fn seconds_since(nanos: u64) -> f64 {
    Duration::from_nanos(now_nanos().saturating_sub(nanos)).as_secs_f64()
}

/// A registry that reads the numbers of all partitions that are known at every scrape.
pub fn registry(board: Board) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(AllPartitions(board)));
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

/// Reads a number of a partition; `None` while it is not known.
type Value = fn(&PartitionMetrics) -> Option<f64>;

#[derive(Debug)]
struct AllPartitions(Board);

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
        for metrics in &self.0.partitions() {
            let Some(value) = value(metrics) else { continue };
            let labels = [("partition", metrics.partition.0)];
            ConstGauge::new(Number(value)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Whether somebody is connected: for each partition, or without one while none is known.
    fn connected(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        before: bool,
        value: impl Fn(&PartitionMetrics) -> bool,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let all = self.0.partitions();
        if all.is_empty() {
            return ConstGauge::new(i64::from(before)).encode(family);
        }
        for metrics in &all {
            let labels = [("partition", metrics.partition.0)];
            let value = i64::from(value(metrics));
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
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
        for metrics in &self.0.partitions() {
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
        for metrics in &self.0.partitions() {
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
            Some(histogram.mean() * histogram.len() as f64 / 1e6)
        })?;
        let (name, help) = ("transaction_seconds_count", "Committed transactions");
        self.values(encoder, MetricType::Unknown, name, help, |metrics| {
            Some(metrics.transaction_micros().len() as f64)
        })
    }
}

impl Collector for AllPartitions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let gauges: [(&str, &str, Value); 5] = [
            ("next_offset", "First record that is not in PostgreSQL", |metrics| {
                metrics.is_found().then(|| metrics.next_offset() as f64)
            }),
            ("log_end", "End of the log as last known", |metrics| {
                metrics.was_seen().then(|| metrics.log_end() as f64)
            }),
            ("lag_records", "Records in the log that are not in PostgreSQL", |metrics| {
                metrics.has_lag().then(|| metrics.lag_records() as f64)
            }),
            (
                "lag_seconds",
                "How long the oldest record that is not in PostgreSQL has been in the log",
                |metrics| metrics.has_lag().then(|| metrics.lag_seconds()),
            ),
            ("log_end_age_seconds", "Time since the end of the log was last heard of", |metrics| {
                metrics.was_seen().then(|| metrics.log_end_age_seconds())
            }),
        ];
        for (name, help, value) in gauges {
            self.values(to, MetricType::Gauge, name, help, value)?;
        }
        let help = "Whether a server of walengine answers: 1 or 0";
        self.connected(to, "engine_connected", help, false, |metrics| {
            metrics.was_seen() && metrics.engine_gone_seconds().is_none()
        })?;
        let help = "Whether the writer is connected: 1 or 0";
        self.connected(to, "postgres_connected", help, self.0.knows_postgres(), |metrics| {
            metrics.has_postgres.load(Ordering::Relaxed)
        })?;
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
        let board = Board::default();
        let metrics = board.of(PartitionId(3));
        metrics.found(&Position::START);
        metrics.log_reaches(Offset(7));
        metrics.retried();
        metrics.transaction_micros().record(2_000_000).unwrap();
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry(board)).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "walengine_projector_next_offset{partition=\"3\"} 0",
            "walengine_projector_log_end{partition=\"3\"} 7",
            "walengine_projector_lag_records{partition=\"3\"} 7",
            "walengine_projector_lag_seconds{partition=\"3\"} 0",
            "walengine_projector_log_end_age_seconds{partition=\"3\"} ",
            "walengine_projector_engine_connected{partition=\"3\"} 1",
            "walengine_projector_postgres_connected{partition=\"3\"} 0",
            "walengine_projector_rows_total{partition=\"3\"} 0",
            "walengine_projector_transactions_total{partition=\"3\"} 0",
            "walengine_projector_retries_total{partition=\"3\"} 1",
        ];
        for (sample, expected) in samples.iter().zip(expected) {
            assert!(sample.starts_with(expected), "{sample}");
        }
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

    #[test]
    fn before_anybody_answers_it_is_known_that_nobody_does() {
        let samples = |board: &Board| -> Vec<String> {
            let mut text = String::new();
            prometheus_text::encode(&mut text, &registry(board.clone())).unwrap();
            let known =
                text.lines().filter(|line| !line.starts_with('#') && !line.contains("tran"));
            known
                .map(|line| line.strip_prefix("walengine_projector_").unwrap().to_owned())
                .collect()
        };
        let board = Board::default();
        assert_eq!(samples(&board), ["engine_connected 0", "postgres_connected 0"]);
        board.has_postgres(true);
        assert_eq!(samples(&board), ["engine_connected 0", "postgres_connected 1"]);

        // What an earlier run has left in the database.
        let minute = 60_000_000_000;
        let seen_at = now_nanos() - 10 * minute;
        let noted = Noted {
            partition: PartitionId(0),
            written_at: seen_at,
            log_end: Some(9),
            seen_at: Some(seen_at),
            gone_since: Some(seen_at + minute),
            noted_at: None,
        };
        let time = Some(Timestamp(seen_at));
        let position = Position { next_offset: Offset(5), time, ..Position::START };
        let metrics = board.of(PartitionId(0));
        metrics.remembers(&position, &noted);
        let found = samples(&board);
        for expected in [
            "next_offset{partition=\"0\"} 5",
            "log_end{partition=\"0\"} 9",
            "lag_records{partition=\"0\"} 4",
            "engine_connected{partition=\"0\"} 0",
        ] {
            assert!(found.iter().any(|line| line == expected), "{expected}: {found:?}");
        }
        assert!((599.0..900.0).contains(&metrics.lag_seconds()), "{}", metrics.lag_seconds());
        assert!(metrics.log_end_age_seconds() > 599.0);
        assert!(metrics.engine_gone_seconds().unwrap() > 539.0);

        // A position that is not known is not shown as 0, nor is the lag behind it.
        let board = Board::default();
        board.of(PartitionId(1)).log_reaches(Offset(8));
        let found = samples(&board);
        assert!(found.contains(&"log_end{partition=\"1\"} 8".to_owned()), "{found:?}");
        assert!(!found.iter().any(|line| line.starts_with("next") || line.starts_with("lag")));
    }

    fn found_at(next: u64, time: u64) -> PartitionMetrics {
        let metrics = PartitionMetrics::new(PartitionId(0));
        let time = Some(Timestamp(time));
        metrics.found(&Position { next_offset: Offset(next), time, ..Position::START });
        metrics
    }

    #[test]
    fn the_time_without_writes_is_no_lag() {
        let minutes = 600_000_000_000;
        let metrics = found_at(5, now_nanos() - minutes);
        metrics.engine_answers(Offset(5), LogSeen { end: Offset(5), time: None });
        assert!(metrics.lag_seconds().abs() < f64::EPSILON, "nothing is missing");
        metrics.log_reaches(Offset(6));
        assert_eq!(metrics.lag_records(), 1);
        assert!(
            metrics.lag_seconds() < 60.0,
            "{} s: it was written just now",
            metrics.lag_seconds()
        );
        // A projector that was away for ten minutes knows the age of what it has missed.
        let metrics = found_at(5, now_nanos() - 10 * minutes);
        let time = Some(Timestamp(now_nanos() - minutes));
        metrics.engine_answers(Offset(5), LogSeen { end: Offset(9), time });
        assert_eq!(metrics.lag_records(), 4);
        assert!((599.0..700.0).contains(&metrics.lag_seconds()), "{}", metrics.lag_seconds());
    }

    #[test]
    fn a_dead_engine_is_seen_and_what_was_known_stays() {
        let metrics = found_at(5, 7);
        assert!(!metrics.was_seen());
        metrics.log_reaches(Offset(8));
        assert!(metrics.engine_gone_seconds().is_none());
        metrics.engine_is_gone();
        std::thread::sleep(Duration::from_millis(2));
        metrics.engine_is_gone();
        assert!(metrics.engine_gone_seconds().unwrap() > 0.001, "since the first failure");
        assert!(metrics.log_end_age_seconds() > 0.001);
        assert_eq!((metrics.log_end(), metrics.lag_records()), (8, 3));
        assert_eq!(metrics.retries.load(Ordering::Relaxed), 2);
        metrics.log_reaches(Offset(8));
        assert!(metrics.engine_gone_seconds().is_none());
    }
}
