//! One case of the benchmark: its rounds, and their summary for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::floor::RawReport;
use crate::load::{LoadReport, Replication, RequestKind};
use crate::stats::{Percentiles, Spread};

/// A load, and the size of the server that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Opaque records of 1 KiB instead of transfers.
    pub records: bool,
    /// Events in a request.
    pub batch: usize,
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub inflight: u16,
    /// Cores of the server.
    pub cores: usize,
    /// Nodes of the cluster; each has that many cores.
    #[serde(default = "one")]
    pub nodes: usize,
}

/// The machine's own speed, without the engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Floor {
    /// Durable direct writes of the entry's size, with as many in flight.
    pub raw: RawReport,
    /// Round trips with requests and answers of the same size, in microseconds.
    pub loopback_micros: Percentiles,
}

/// The engine, measured between two floors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Floor before the engine.
    pub before: Floor,
    /// Closed loop: as fast as possible.
    pub peak: LoadReport,
    /// Open loop at a fixed rate; latency from the intended send time.
    pub paced: LoadReport,
    /// Floor after the engine.
    pub after: Floor,
}

/// A measured case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// The case.
    pub case: Case,
    /// The rounds that count.
    pub rounds: Vec<Round>,
    /// Rounds that were thrown away because their floors differed.
    pub thrown_away: usize,
    /// No round was calm: those shown are rounds whose floors differed.
    pub restless: bool,
}

impl Case {
    /// Short name, for `--case` and plots.
    pub fn name(self) -> String {
        let what = if self.records { "records" } else { "transfers" };
        let nodes = if self.nodes > 1 { format!("x{}", self.nodes) } else { String::new() };
        format!("{what}-{}-c{}-n{}{nodes}", self.batch, self.connections, self.cores)
    }

    /// Fewest round trips on loopback that a request takes: a cluster also asks its followers.
    pub fn round_trips(self) -> f64 {
        if self.nodes > 1 { 2.0 } else { 1.0 }
    }

    /// Content of a request.
    pub fn request_kind(self) -> RequestKind {
        if self.records {
            RequestKind::Records(self.batch)
        } else {
            RequestKind::Transfers(self.batch)
        }
    }

    /// Bytes of the entry that one request becomes, without padding.
    pub fn entry_bytes(self) -> usize {
        // Header, root, and for each event itself and its verdict; for records a head besides.
        let cell = if self.records { crate::load::RECORD_BYTES + 28 } else { 128 };
        walengine_net::entry::HEADER_BYTES + 24 + self.batch * (cell + 1)
    }
}

/// Nodes of a case in results that are older than clusters.
fn one() -> usize {
    1
}

impl Round {
    /// The two floors are close enough to trust what was measured between them.
    pub fn is_calm(&self) -> bool {
        let (before, after) = (&self.before.raw, &self.after.raw);
        !crate::log_only::differ(before.commits_per_second, after.commits_per_second)
    }

    /// Events a second that the bare disk would take.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn floor_events_per_second(&self, case: Case) -> f64 {
        let (before, after) = (&self.before.raw, &self.after.raw);
        f64::midpoint(before.commits_per_second, after.commits_per_second) * case.batch as f64
    }

    /// A percentile of a raw commit plus that of `trips` loopback round trips, in microseconds.
    pub fn floor_micros(&self, trips: f64, of: impl Fn(&Percentiles) -> f64) -> f64 {
        let sum =
            |floor: &Floor| of(&floor.raw.latency_micros) + trips * of(&floor.loopback_micros);
        f64::midpoint(sum(&self.before), sum(&self.after))
    }
}

impl CaseReport {
    /// Spread of a figure over the rounds.
    pub fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of))
    }

    /// Column names.
    pub fn heading() -> String {
        format!(
            "{:<24} {:<16} {:>11} {:<21} {:>9} {:<19} {:>9} {:>9} {:<19} {:>9} {:>9} {:>7} {:>7} {:>8} {:>8}",
            "case",
            "",
            "events/s",
            "[min - max]",
            "p50 us",
            "[min - max]",
            "p90",
            "p99",
            "[min - max]",
            "p99.9",
            "max",
            "server",
            "client",
            "device",
            "flushes"
        ) + &format!(
            "\n{:<159} {:>24} {:>7} {:>7} {:>8} {:>8}",
            "", "", "us/ev", "us/ev", "B/event", "/batch"
        )
    }

    /// One line each for raw disk, loopback, peak and paced load.
    pub fn to_lines(&self) -> String {
        let mut lines = String::new();
        let name = self.case.name();
        let raw = Latency::new(|of| {
            self.spread(|round| {
                let (before, after) = (&round.before.raw, &round.after.raw);
                f64::midpoint(of(&before.latency_micros), of(&after.latency_micros))
            })
        });
        let rate = self.spread(|round| round.floor_events_per_second(self.case));
        line(&mut lines, &name, "raw disk", rate, &raw, "");
        let trips = Latency::new(|of| {
            self.spread(|round| {
                f64::midpoint(of(&round.before.loopback_micros), of(&round.after.loopback_micros))
            })
        });
        line(&mut lines, "", "loopback", Spread::default(), &trips, "");
        self.load(&mut lines, "peak", |round| &round.peak);
        let paced = Spread::of(self.rounds.iter().map(|round| round.paced.events_per_second));
        self.load(&mut lines, &format!("at {}", short(paced.median)), |round| &round.paced);
        self.replication(&mut lines);
        let note = if self.restless { ": NO CALM ROUND, figures of restless ones" } else { "" };
        let _ = writeln!(
            lines,
            "{:<24} {} rounds, {} thrown away{note}; {} in flight on each connection",
            "",
            self.rounds.len(),
            self.thrown_away,
            self.case.inflight
        );
        lines
    }

    /// The leader's work for each batch, and its most in flight.
    fn replication(&self, lines: &mut String) {
        let peaks = || self.rounds.iter().filter_map(|round| round.peak.replication.as_ref());
        if peaks().next().is_none() {
            return;
        }
        let spread = |of: fn(&Replication) -> f64| Spread::of(peaks().map(of));
        let (bytes, flushes) =
            (spread(|one| one.bytes_per_batch), spread(|one| one.flushes_per_batch));
        let appends = spread(|one| one.appends_per_batch);
        let disk = peaks().map(|one| one.flushes_inflight_max).max().unwrap_or_default();
        let followers = peaks().map(|one| one.appends_inflight_max.len()).max().unwrap_or_default();
        let each: Vec<String> = (0..followers)
            .filter_map(|place| peaks().filter_map(|one| one.appends_inflight_max.get(place)).max())
            .map(u64::to_string)
            .collect();
        let busy: u64 = self.rounds.iter().map(|round| round.peak.busy).sum();
        let _ = writeln!(
            lines,
            "{:<24} {:<16} {:.0} B/batch to followers [{:.0} - {:.0}]; per batch {:.3} flushes \
             [{:.3} - {:.3}] and {:.3} appends; most in flight: {disk} flushes, {} appends to the \
             followers; {busy} requests refused as busy",
            "",
            "replication",
            bytes.median,
            bytes.min,
            bytes.max,
            flushes.median,
            flushes.min,
            flushes.max,
            appends.median,
            each.join(" and "),
        );
    }

    fn load(&self, lines: &mut String, label: &str, of: impl Fn(&Round) -> &LoadReport) {
        let spread = |figure: fn(&LoadReport) -> f64| self.spread(|round| figure(of(round)));
        let latency =
            Latency::new(|percentile| self.spread(|round| percentile(&of(round).latency_micros)));
        let rest = format!(
            " {:>7.3} {:>7.3} {:>8.1} {:>8.3}",
            spread(|load| load.server_cpu_micros_per_event.unwrap_or(0.0)).median,
            spread(|load| load.client_cpu_micros_per_event).median,
            spread(|load| load.device_bytes_per_event.unwrap_or(0.0)).median,
            spread(|load| load.device_flushes_per_batch.unwrap_or(0.0)).median,
        );
        line(lines, "", label, spread(|load| load.events_per_second), &latency, &rest);
    }
}

struct Latency {
    p50: Spread,
    p90: Spread,
    p99: Spread,
    p999: Spread,
    max: Spread,
}

impl Latency {
    /// `spread` gives the spread of one percentile over the rounds.
    fn new(spread: impl Fn(fn(&Percentiles) -> f64) -> Spread) -> Self {
        Self {
            p50: spread(|percentiles| percentiles.p50),
            p90: spread(|percentiles| percentiles.p90),
            p99: spread(|percentiles| percentiles.p99),
            p999: spread(|percentiles| percentiles.p999),
            max: spread(|percentiles| percentiles.max),
        }
    }
}

fn line(lines: &mut String, name: &str, label: &str, rate: Spread, of: &Latency, rest: &str) {
    let ends = |spread: Spread| format!("[{:.0} - {:.0}]", spread.min, spread.max);
    let (events, events_ends) = if rate == Spread::default() {
        (String::new(), String::new())
    } else {
        (format!("{:.0}", rate.median), format!("[{} - {}]", short(rate.min), short(rate.max)))
    };
    let _ = writeln!(
        lines,
        "{name:<24} {label:<16} {events:>11} {events_ends:<21} {:>9.1} {:<19} {:>9.1} {:>9.1} {:<19} {:>9.1} {:>9.1}{rest}",
        of.p50.median,
        ends(of.p50),
        of.p90.median,
        of.p99.median,
        ends(of.p99),
        of.p999.median,
        of.max.median,
    );
}

/// A rate in few characters.
pub fn short(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} k/s", rate / 1e3),
        rate if rate >= 1e3 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.0} /s"),
    }
}
