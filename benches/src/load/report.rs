//! The report of a load, and the counters that it is computed from.

use serde::{Deserialize, Serialize};

use super::payload::RequestKind;
use super::worker::WorkerCounts;
use crate::error::Result;
use crate::leader_counts::LeaderCounts;
use crate::stats::{Percentiles, ratio};
use crate::system::{self, Device, DeviceCounters};

/// Results of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests answered; every event in them was accepted.
    pub requests: u64,
    /// Transfers or records in them.
    pub events: u64,
    /// How long the load was measured.
    pub seconds: f64,
    /// Transfers or records a second.
    pub events_per_second: f64,
    /// From intended send to answer, in microseconds.
    pub latency_micros: Percentiles,
    /// CPU time of the load generator for each event, in microseconds.
    pub client_cpu_micros_per_event: f64,
    /// CPU time of the server for each event, in microseconds, if its process was named.
    pub server_cpu_micros_per_event: Option<f64>,
    /// Bytes that the device wrote for each event, if the data directory was named.
    pub device_bytes_per_event: Option<f64>,
    /// Flushes of the device for each acknowledged request, likewise.
    pub device_flushes_per_batch: Option<f64>,
    /// Flushes of the device a second, likewise.
    pub device_flushes_per_second: Option<f64>,
    /// Requests that the server answered with `Busy`; each was sent again.
    #[serde(default)]
    pub busy: u64,
    /// Work of the leader's replication, if the server is a cluster.
    #[serde(default)]
    pub replication: Option<Replication>,
    /// Length of a request in bytes.
    pub request_bytes: usize,
    /// Length of an answer in bytes.
    pub reply_bytes: usize,
}

/// Work of a leader for each acknowledged request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Replication {
    /// Bytes of entries sent to all followers.
    pub bytes_per_batch: f64,
    /// Flushes of the leader's log.
    pub flushes_per_batch: f64,
    /// Append requests sent to all followers.
    pub appends_per_batch: f64,
    /// Most flushes in flight at once since the leader started.
    pub flushes_inflight_max: u64,
    /// Most append requests in flight at once since then, for each follower.
    pub appends_inflight_max: Vec<u64>,
}

impl LoadReport {
    /// Without replication and the length of a request, which are not counted.
    pub(super) fn new(
        kind: RequestKind,
        seconds: f64,
        seen: &WorkerCounts,
        counters: &Counters,
    ) -> Self {
        let events = seen.requests * kind.events() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let per_second = |count: u64| count as f64 / seconds;
        let device = counters.device;
        Self {
            requests: seen.requests,
            events,
            seconds,
            events_per_second: per_second(events),
            latency_micros: seen.latencies.percentiles(),
            client_cpu_micros_per_event: ratio(counters.own_cpu_micros, events),
            server_cpu_micros_per_event: counters.server_cpu_micros.map(|cpu| ratio(cpu, events)),
            device_bytes_per_event: device.map(|device| ratio(device.write_bytes, events)),
            device_flushes_per_batch: device.map(|device| ratio(device.flushes, seen.requests)),
            device_flushes_per_second: device.map(|device| per_second(device.flushes)),
            busy: seen.busy,
            replication: None,
            request_bytes: 0,
            reply_bytes: seen.reply_bytes,
        }
    }

    /// Lines for people.
    pub(super) fn to_text(&self) -> String {
        let optional = |value: Option<f64>| match value {
            Some(value) => format!("{value:.3}"),
            None => "not measured".to_owned(),
        };
        let latency = &self.latency_micros;
        format!(
            "events/s                {:>14.0}\n\
             requests                {:>14} in {:.2} s\n\
             latency p50             {:>14.1} us\n\
             latency p90             {:>14.1} us\n\
             latency p99             {:>14.1} us\n\
             latency p99.9           {:>14.1} us\n\
             latency max             {:>14.1} us\n\
             client CPU              {:>14.3} us/event\n\
             server CPU              {:>14} us/event\n\
             device writes           {:>14} bytes/event\n\
             device flushes          {:>14} per acknowledged batch\n\
             device flushes          {:>14} per second\n",
            self.events_per_second,
            self.requests,
            self.seconds,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
            self.client_cpu_micros_per_event,
            optional(self.server_cpu_micros_per_event),
            optional(self.device_bytes_per_event),
            optional(self.device_flushes_per_batch),
            optional(self.device_flushes_per_second),
        )
    }
}

impl Replication {
    /// From a leader's counters, over so many requests.
    pub(super) fn new(counts: LeaderCounts, requests: u64) -> Self {
        Self {
            bytes_per_batch: ratio(counts.append_bytes, requests),
            flushes_per_batch: ratio(counts.flushes, requests),
            appends_per_batch: ratio(counts.appends, requests),
            flushes_inflight_max: counts.flushes_inflight_max,
            appends_inflight_max: counts.appends_inflight_max,
        }
    }
}

/// What the kernel counts, read at one moment or between two.
pub(super) struct Counters {
    own_cpu_micros: u64,
    server_cpu_micros: Option<u64>,
    device: Option<DeviceCounters>,
}

impl Counters {
    /// Reads them for this process, the nodes and the device.
    pub(super) fn read(nodes: &[u32], device: Option<&Device>) -> Result<Self> {
        let of_nodes: Vec<u64> =
            nodes.iter().map(|&pid| system::cpu_micros_of(pid)).collect::<Result<_>>()?;
        Ok(Self {
            own_cpu_micros: system::own_cpu_micros(),
            server_cpu_micros: (!nodes.is_empty()).then(|| of_nodes.iter().sum()),
            device: device.map(Device::counters).transpose()?,
        })
    }

    /// Leaves what was counted since `before`.
    pub(super) fn subtract(&mut self, before: &Self) {
        self.own_cpu_micros -= before.own_cpu_micros;
        self.server_cpu_micros = self
            .server_cpu_micros
            .zip(before.server_cpu_micros)
            .map(|(after, before)| after - before);
        self.device = self.device.zip(before.device).map(|(after, before)| after.since(before));
    }
}
