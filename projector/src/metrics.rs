//! What the projector measures of itself, for Prometheus and the progress bar.

#![allow(clippy::cast_precision_loss, reason = "Prometheus takes floating point")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::batch::Batch;
use crate::history::Position;

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
    pub(crate) has_postgres: AtomicBool,
    /// Whether another projector writes, and the writer waits for its end.
    pub(crate) stands_by: AtomicBool,
    pub(crate) rows: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) retries: AtomicU64,
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
            stands_by: AtomicBool::new(false),
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

    /// Notes what the database knows of earlier runs, while no server has answered in this one: its
    /// position, the log's end and when that was seen, and since when no server answers.
    pub fn remembers(
        &self,
        position: &Position,
        seen: Option<(u64, u64)>,
        gone_since: Option<u64>,
    ) {
        // First: an end that was seen, while nobody is known to be gone, shows an engine that answers.
        let since = gone_since.unwrap_or_else(now_nanos);
        // Keeps the beginning.
        let _ = self.gone_since.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
        self.found(position);
        if let Some((end, at)) = seen {
            self.log_end.fetch_max(end, Ordering::Relaxed);
            self.seen_at.fetch_max(at, Ordering::Relaxed);
        }
    }

    /// Notes a committed batch, and how long its transaction took.
    pub fn committed(&self, batch: &Batch, took: Duration) {
        self.found(&batch.to);
        self.rows.fetch_add(batch.rows, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.transaction_micros().saturating_record(micros);
    }

    pub(crate) fn transaction_micros(&self) -> MutexGuard<'_, Histogram<u64>> {
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

    /// Notes whether another projector writes, so that the writer waits for its end.
    pub fn stands_by(&self, stands_by: bool) {
        self.stands_by.store(stands_by, Ordering::Relaxed);
    }

    /// Whether the log's end was ever heard of.
    pub fn was_seen(&self) -> bool {
        self.seen_at.load(Ordering::Relaxed) != 0
    }

    /// Whether the position of the database is known.
    pub(crate) fn is_found(&self) -> bool {
        self.is_found.load(Ordering::Relaxed)
    }

    /// Whether it is known how far the database is behind.
    pub(crate) fn has_lag(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

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
