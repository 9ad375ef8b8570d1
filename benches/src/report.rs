//! One case of the benchmark: its rounds, and how they are summed up for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::floor::RawReport;
use crate::load::{LoadReport, Replication, What};
use crate::stats::{Percentiles, Spread};

/// What is sent, and to how large a server.
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
    /// Nodes of it; each has that many cores.
    #[serde(default = "one")]
    pub nodes: usize,
}

/// The machine without the engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Floor {
    /// Direct writes with a flush, of the entry's size and as many in flight.
    pub raw: RawReport,
    /// Round trips of the request's and answer's size, in microseconds.
    pub loopback_micros: Percentiles,
}

/// Floor, engine, floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Before the engine.
    pub before: Floor,
    /// Closed loop: as fast as it goes.
    pub peak: LoadReport,
    /// Open loop at a fixed rate; latency from the intended send time.
    pub paced: LoadReport,
    /// After the engine.
    pub after: Floor,
}

/// A case, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// Which.
    pub case: Case,
    /// The rounds that count.
    pub rounds: Vec<Round>,
    /// Rounds that were thrown away because their floors differed.
    pub thrown_away: usize,
    /// No round was calm; those that are shown had floors that differed.
    pub restless: bool,
}

impl Case {
    /// Short name, for `--case` and plots.
    pub fn name(self) -> String {
        let what = if self.records { "records" } else { "transfers" };
        let nodes = if self.nodes > 1 { format!("x{}", self.nodes) } else { String::new() };
        format!("{what}-{}-c{}-n{}{nodes}", self.batch, self.connections, self.cores)
    }

    /// Round trips on loopback that a request takes at least: a cluster asks its followers, too.
    pub fn round_trips(self) -> f64 {
        if self.nodes > 1 { 2.0 } else { 1.0 }
    }

    /// What a request holds.
    pub fn what(self) -> What {
        if self.records { What::Records(self.batch) } else { What::Transfers(self.batch) }
    }

    /// Bytes of the entry that one request becomes, without padding.
    pub fn entry_bytes(self) -> usize {
        // Header, root, and for each event itself and its verdict; for records a head besides.
        let cell = if self.records { crate::load::RECORD_BYTES + 28 } else { 128 };
        walengine_net::entry::HEADER_BYTES + 24 + self.batch * (cell + 1)
    }
}

/// Nodes of a case in results from before there were clusters.
fn one() -> usize {
    1
}

impl Round {
    /// The floors are close enough to believe what is between them.
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

    /// A percentile of raw commit and so many loopback round trips, added up, in microseconds.
    pub fn floor_micros(&self, trips: f64, of: impl Fn(&Percentiles) -> f64) -> f64 {
        let sum =
            |floor: &Floor| of(&floor.raw.latency_micros) + trips * of(&floor.loopback_micros);
        f64::midpoint(sum(&self.before), sum(&self.after))
    }
}

impl CaseReport {
    /// A figure over the rounds.
    pub fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of))
    }

    /// Names of the columns.
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

    /// Floor, peak and paced load, a line each.
    pub fn to_lines(&self) -> String {
        let mut lines = String::new();
        let name = self.case.name();
        let floor = |of: fn(&Percentiles) -> f64| {
            self.spread(|round| {
                f64::midpoint(
                    of(&round.before.raw.latency_micros),
                    of(&round.after.raw.latency_micros),
                )
            })
        };
        let raw = Latency {
            p50: floor(|p| p.p50),
            p90: floor(|p| p.p90),
            p99: floor(|p| p.p99),
            p999: floor(|p| p.p999),
            max: floor(|p| p.max),
        };
        let rate = self.spread(|round| round.floor_events_per_second(self.case));
        line(&mut lines, &name, "raw disk", rate, &raw, "");
        let loopback = |of: fn(&Percentiles) -> f64| {
            self.spread(|round| {
                f64::midpoint(of(&round.before.loopback_micros), of(&round.after.loopback_micros))
            })
        };
        let trips = Latency {
            p50: loopback(|p| p.p50),
            p90: loopback(|p| p.p90),
            p99: loopback(|p| p.p99),
            p999: loopback(|p| p.p999),
            max: loopback(|p| p.max),
        };
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

    /// What the leader did for each batch, and what it had in flight.
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
             followers; {busy} requests put off",
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
        let latency = Latency {
            p50: spread(|load| load.latency_micros.p50),
            p90: spread(|load| load.latency_micros.p90),
            p99: spread(|load| load.latency_micros.p99),
            p999: spread(|load| load.latency_micros.p999),
            max: spread(|load| load.latency_micros.max),
        };
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

/// A count a second in few characters.
pub fn short(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} k/s", rate / 1e3),
        rate if rate >= 1e3 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{rate:.0} /s"),
    }
}
