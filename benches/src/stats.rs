//! Latencies and their summaries: recorded in nanoseconds, shown in microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is recorded as it is, in nanoseconds.
const LATENCY_NANOS_MAX: u64 = 120_000_000_000;
/// Percentiles of the plots: dense where the tail is.
const CURVE: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Latencies of one measurement.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// The usual percentiles in microseconds, and the curve for plots.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them are faster.
    pub p50: f64,
    /// 90 in 100 are faster.
    pub p90: f64,
    /// 99 in 100 are faster.
    pub p99: f64,
    /// 999 in 1,000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// Number of latencies.
    pub count: u64,
    /// Pairs of percentile and microseconds.
    pub curve: Vec<(f64, f64)>,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3);
        Self(bounds.expect("the bounds are constants that fit"))
    }

    /// Adds a latency; longer ones than the longest count as the longest.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds the latencies of another thread or round.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Computes the percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let at = |percentile| micros(self.0.value_at_percentile(percentile));
        Percentiles {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: micros(self.0.max()),
            count: self.0.len(),
            curve: CURVE.iter().map(|&percentile| (percentile, at(percentile))).collect(),
        }
    }
}

/// Median, least and greatest of a figure over the rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Spread of these values; zeros if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self { median, min, max }
    }
}

impl From<f64> for Spread {
    /// Spread of a single value.
    fn from(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// Nanoseconds as microseconds.
pub fn micros(nanos: u64) -> f64 {
    ratio(nanos, 1000)
}

/// A quotient of counts; 0 if the divisor is 0.
#[expect(clippy::cast_precision_loss, reason = "figures for people; 53 bits are plenty")]
pub fn ratio(count: u64, over: u64) -> f64 {
    if over == 0 { 0.0 } else { count as f64 / over as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|micros| latencies.record(micros * 1000));
        let percentiles = latencies.percentiles();
        assert!((percentiles.p50 - 500.0).abs() < 1.0 && (percentiles.p99 - 990.0).abs() < 2.0);
        assert_eq!(percentiles.count, 1000);
    }
}
