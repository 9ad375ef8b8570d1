//! How long something took, counted in fixed buckets. Plain numbers without atomics: whoever measures keeps it on
//! its own core, and hands out copies.
//!
//! Rejected: hdrhistogram, which is finer than people alert on, takes kilobytes for each of them, and whose buckets
//! can't be added up over nodes by Prometheus.

use std::time::Duration;

/// Upper ends of the buckets in microseconds, ascending. From half a flush on a good disk to what a client waits for.
pub const BUCKET_MICROS: [u64; 18] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000,
];
const COUNTS: usize = BUCKET_MICROS.len() + 1;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// What took at most as long as its bucket, and more than the one before; the last has the rest.
    counts: [u64; COUNTS],
    sum_nanos: u64,
}

impl Latency {
    /// Counts one that took so long. Some nanoseconds of work.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_MICROS.partition_point(|end| end * 1_000 < nanos);
        self.counts[bucket] += 1;
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_nanos).as_secs_f64()
    }

    /// Upper end of each bucket in seconds, the last without an end, with its own count.
    pub fn buckets(&self) -> [(f64, u64); COUNTS] {
        let end = |bucket: usize| {
            let micros = BUCKET_MICROS.get(bucket).copied();
            micros.map_or(f64::INFINITY, |micros| Duration::from_micros(micros).as_secs_f64())
        };
        std::array::from_fn(|bucket| (end(bucket), self.counts[bucket]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_bucket_that_it_fits() {
        let mut latency = Latency::default();
        for micros in [0, 50, 51, 1_000, 30_000_000, 30_000_001] {
            latency.record(Duration::from_micros(micros));
        }
        latency.record(Duration::MAX);
        let there = latency.buckets().into_iter().filter(|(_, count)| *count > 0);
        let expected = [(0.000_05, 2), (0.000_1, 1), (0.001, 1), (30.0, 1), (f64::INFINITY, 2)];
        assert_eq!(there.collect::<Vec<_>>(), expected);
        assert_eq!(latency.count(), 7);
        assert!(latency.sum_seconds() > 60.0);
        assert!(BUCKET_MICROS.is_sorted());
    }
}
