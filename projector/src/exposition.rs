//! How Prometheus reads the numbers of all partitions.

#![allow(clippy::cast_precision_loss, reason = "Prometheus takes floating point")]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, GaugeValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::audited::Outcome;
use crate::board::Board;
use crate::metrics::PartitionMetrics;

/// Every metric's name begins with this and an underscore.
const PREFIX: &str = "walengine_projector";
/// Quantiles of transaction times, as label values.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (1.0, "1")];

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

    /// What the database says of audits. Nothing of it while there was none.
    fn audits(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let audits = self.0.audits();
        let last = audits.last.as_ref();
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let single = [
            (
                "audit_ended_timestamp_seconds",
                "When the last audit ended that came to an end, since 1970",
                last.map(|last| seconds(last.ended_at)),
            ),
            (
                "audit_began_timestamp_seconds",
                "When that audit began, since 1970",
                last.map(|last| seconds(last.began_at)),
            ),
            (
                "audit_unfinished_timestamp_seconds",
                "When a later audit began that runs or was killed, since 1970",
                audits.unfinished.map(seconds),
            ),
            (
                "audit_differences",
                "Rows that differ from the log, by the last audit",
                last.and_then(|last| last.differences).map(|count| count as f64),
            ),
        ];
        for (name, help, value) in single {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            if let Some(value) = value {
                ConstGauge::new(Number(value)).encode(family)?;
            }
        }
        let help = "How the last audit ended: 1 for that outcome";
        let mut family =
            encoder.encode_descriptor("audit_outcome", help, None, MetricType::Gauge)?;
        for outcome in Outcome::ALL.into_iter().filter(|_| last.is_some()) {
            let labels = [("outcome", outcome.name())];
            let is = last.is_some_and(|last| last.outcome == outcome);
            ConstGauge::new(i64::from(is)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Records below this offset were compared by the last audit";
        let mut family =
            encoder.encode_descriptor("audit_next_offset", help, None, MetricType::Gauge)?;
        for (partition, next) in last.iter().flat_map(|last| last.next_offsets.iter().enumerate()) {
            let labels = [("partition", partition)];
            ConstGauge::new(Number(*next as f64)).encode(family.encode_family(&labels)?)?;
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
        let help = "Whether another projector writes, and this one waits for its end: 1 or 0";
        self.values(to, MetricType::Gauge, "standby", help, |metrics| {
            Some(f64::from(metrics.stands_by.load(Ordering::Relaxed)))
        })?;
        self.counter(to, "rows", "Rows written", |metrics| &metrics.rows)?;
        let help = "Transactions committed";
        self.counter(to, "transactions", help, |metrics| &metrics.transactions)?;
        let help = "Attempts that failed and were repeated";
        self.counter(to, "retries", help, |metrics| &metrics.retries)?;
        self.transaction_seconds(to)?;
        self.audits(to)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;
    use walengine_net::model::{Offset, PartitionId, Timestamp};

    use super::*;
    use crate::audited::{Audits, Ended};
    use crate::history::Position;
    use crate::metrics::now_nanos;

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
            "walengine_projector_standby{partition=\"3\"} 0",
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
    fn every_metric_is_in_the_document() {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry(Board::default())).unwrap();
        let types =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE walengine_projector_"));
        let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        assert!(names.len() > 15, "{text}");
        let document = include_str!("../METRICS.md");
        for name in names {
            // Sum and count stand with their quantiles.
            let name = name.trim_end_matches("_sum").trim_end_matches("_count");
            let is_there = [name.to_owned(), format!("{name}_total")]
                .iter()
                .any(|name| document.contains(&format!("`{name}`")));
            assert!(is_there, "{name} is not in METRICS.md");
        }
    }

    #[test]
    fn an_audit_is_shown_as_it_has_ended_and_none_before_there_was_one() {
        let of = |audits: Option<Audits>| -> Vec<String> {
            let board = Board::default();
            if let Some(audits) = audits {
                board.audited(audits);
            }
            let mut text = String::new();
            prometheus_text::encode(&mut text, &registry(board)).unwrap();
            let lines =
                text.lines().filter_map(|line| line.strip_prefix("walengine_projector_audit_"));
            lines.map(str::to_owned).collect()
        };
        assert!(of(None).is_empty());
        let unfinished = Audits { last: None, unfinished: Some(3_500_000_000) };
        assert_eq!(of(Some(unfinished)), ["unfinished_timestamp_seconds 3.5"]);
        let last = Ended {
            began_at: 1_000_000_000,
            ended_at: 2_000_000_000,
            outcome: Outcome::Different,
            differences: Some(7),
            next_offsets: vec![12, 0],
            program: String::new(),
        };
        let expected = [
            "ended_timestamp_seconds 2",
            "began_timestamp_seconds 1",
            "differences 7",
            "outcome{outcome=\"equal\"} 0",
            "outcome{outcome=\"different\"} 1",
            "outcome{outcome=\"failed\"} 0",
            "next_offset{partition=\"0\"} 12",
            "next_offset{partition=\"1\"} 0",
        ];
        assert_eq!(of(Some(Audits { last: Some(last), unfinished: None })), expected);
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
        let time = Some(Timestamp(seen_at));
        let position = Position { next_offset: Offset(5), time, ..Position::START };
        let metrics = board.of(PartitionId(0));
        metrics.remembers(&position, Some((9, seen_at)), Some(seen_at + minute));
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
}
