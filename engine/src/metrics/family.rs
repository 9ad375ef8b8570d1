//! What the rows of the tables are made of. Names by the conventions of Prometheus: base units, `_total` behind
//! counters, everything begins with `walengine_`.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Every metric's name begins with this and an underscore.
pub const PREFIX: &str = "walengine";

/// A metric, as people know it.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Without prefix, unit and what its kind adds.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts.
    pub unit: Measure,
    /// One line for people, without a full stop.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May go up and down.
    Gauge,
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Times, in buckets.
    Histogram,
    /// Always 1; its labels say something.
    Info,
}

/// Unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A plain number.
    Number,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Head {
    /// Its name in rules and dashboards; a histogram's samples have this and `_bucket`, `_sum` or `_count`.
    pub fn full_name(&self) -> String {
        let unit = match self.unit {
            Measure::Number => "",
            Measure::Bytes => "_bytes",
            Measure::Seconds => "_seconds",
        };
        let end = match self.kind {
            Kind::Gauge | Kind::Histogram => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        format!("{PREFIX}_{}{unit}{end}", self.name)
    }

    /// For the encoder.
    pub fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        }
    }

    /// For the encoder.
    pub fn metric_unit(&self) -> Option<Unit> {
        match self.unit {
            Measure::Number => None,
            Measure::Bytes => Some(Unit::Bytes),
            Measure::Seconds => Some(Unit::Seconds),
        }
    }
}

/// A metric whose samples are numbers of a `T`.
pub struct Family<T: 'static> {
    /// What it is called.
    pub head: Head,
    /// One or more, which the last of its labels tells apart.
    pub samples: &'static [Sample<T>],
}

/// A number of a `T`, in metrics and in `walengine status`.
pub struct Sample<T> {
    /// Value of the metric's last label; empty if there is one sample only.
    pub label: &'static str,
    /// Its name in a server's status; empty if it is not there.
    pub status: &'static str,
    /// The number; `None` if it is not known, or makes no sense on this node.
    pub value: fn(&T) -> Option<u64>,
}

/// The rows of `status` that a table has, in its order.
pub fn status_rows<'a, T>(
    table: &'a [Family<T>],
    of: &'a T,
) -> impl Iterator<Item = (&'static str, u64)> + use<'a, T> {
    let samples = table.iter().flat_map(|family| family.samples);
    let shown = samples.filter(|sample| !sample.status.is_empty());
    shown.filter_map(|sample| Some((sample.status, (sample.value)(of)?)))
}
