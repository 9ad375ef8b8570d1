//! Figures that must be reached, beside those that were. Shortfalls are shown, not hidden.

use serde::{Deserialize, Serialize};
use walengine_net::limits::EVENTS_MAX;

use crate::load::Replication;
use crate::log_only::LogReport;
use crate::memory::MemoryReport;
use crate::report::{Case, CaseReport, Round};
use crate::scaling::ScalingReport;

/// A figure that must be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Name of the figure.
    pub what: String,
    /// The wanted value.
    pub wanted: f64,
    /// Median, least and greatest of what was reached; `None` if it was not measured.
    pub reached: Option<(f64, f64, f64)>,
    /// The wanted value is the most that is allowed, rather than the least.
    pub at_most: bool,
    /// Case that the figure comes from.
    pub from: String,
}

/// The results that targets are computed from.
#[derive(Default)]
pub struct Measured<'a> {
    /// The cases.
    pub cases: &'a [CaseReport],
    /// The log alone.
    pub logs: &'a [LogReport],
    /// One core and two.
    pub scaling: Option<&'a ScalingReport>,
    /// Memory and restart.
    pub memory: Option<&'a MemoryReport>,
}

impl Target {
    /// Whether it is met; `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.reached.map(
            |(reached, _, _)| {
                if self.at_most { reached <= self.wanted } else { reached >= self.wanted }
            },
        )
    }

    /// A line for people.
    pub fn to_line(&self) -> String {
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        let bound = if self.at_most { "<=" } else { ">=" };
        let wanted = figure(self.wanted);
        let reached = self.reached.map_or(String::new(), |(reached, min, max)| {
            format!("{:>12} [{} - {}]", figure(reached), figure(min), figure(max))
        });
        format!("{verdict:<13} {:<62} {bound} {wanted:>10} {reached:<40} {}", self.what, self.from)
    }
}

/// A figure for people, with as many digits as its size needs.
pub fn figure(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The project's targets for a single node.
pub fn all(measured: &Measured<'_>) -> Vec<Target> {
    let mut targets = speed(measured.cases);
    targets.extend(logs(measured.logs));
    targets.push(Target {
        what: "1 to 2 cores: gain, as part of what two raw writers gain over one".into(),
        wanted: 0.9,
        reached: measured.scaling.map(|report| ends(report.part_of_raw_gain)),
        at_most: false,
        from: measured.scaling.map_or(String::new(), |report| report.from.clone()),
    });
    let memory = |what: &str, wanted: f64, of: fn(&MemoryReport) -> f64| Target {
        what: what.into(),
        wanted,
        reached: measured.memory.map(|report| (of(report), of(report), of(report))),
        at_most: true,
        from: "memory".into(),
    };
    targets.push(memory("bytes per account", 200.0, |report| report.bytes_per_account));
    targets.push(memory("bytes per remembered id", 40.0, |report| report.bytes_per_id));
    targets.push(memory("seconds to restart", 5.0, |report| {
        report.restart_seconds.max(report.restart_after_kill_seconds)
    }));
    targets
}

/// Cases with this batch size and, if named, this many connections.
fn transfers(
    cases: &[CaseReport],
    batch: usize,
    connections: Option<usize>,
) -> impl Iterator<Item = &CaseReport> {
    cases.iter().filter(move |report| {
        let case = report.case;
        let fits = connections.is_none_or(|connections| case.connections == connections);
        !case.records && case.batch == batch && fits
    })
}

fn fastest<'a>(reports: impl Iterator<Item = &'a CaseReport>) -> Option<&'a CaseReport> {
    let rate = |report: &CaseReport| report.spread(events_per_second).median;
    reports.max_by(|one, other| rate(one).total_cmp(&rate(other)))
}

fn events_per_second(round: &Round) -> f64 {
    round.peak.events_per_second
}

/// A target that a figure of a case is to reach.
fn of_case(
    what: &str,
    wanted: f64,
    at_most: bool,
    of: Option<&CaseReport>,
    value: fn(&Round) -> f64,
) -> Target {
    Target {
        what: what.into(),
        wanted,
        reached: of.map(|report| ends(report.spread(value))),
        at_most,
        from: of.map_or(String::new(), name),
    }
}

fn speed(cases: &[CaseReport]) -> Vec<Target> {
    let large = fastest(transfers(cases, EVENTS_MAX, None));
    let shared = fastest(transfers(cases, 1, Some(64)));
    let single = transfers(cases, 1, Some(1)).min_by_key(|report| report.case.cores);
    vec![
        of_case("batch 8,190: transfers/s", 1e6, false, large, events_per_second),
        of_case("batch 8,190: server CPU, us per transfer", 0.45, true, large, |round| {
            round.peak.server_cpu_micros_per_event.unwrap_or(f64::INFINITY)
        }),
        of_case(
            "64 connections, one transfer each: transfers/s",
            150_000.0,
            false,
            shared,
            events_per_second,
        ),
        of_case(
            "one transfer at a time: p50 over raw commit + round trip",
            1.25,
            true,
            single,
            |round| round.peak.latency_micros.p50 / round.floor_micros(1.0, |micros| micros.p50),
        ),
        of_case(
            "one transfer at a time: p99 over raw commit + round trip",
            1.5,
            true,
            single,
            |round| round.peak.latency_micros.p99 / round.floor_micros(1.0, |micros| micros.p99),
        ),
    ]
}

/// Targets of a cluster of three nodes that share this machine.
pub fn of_clusters(measured: &Measured<'_>) -> Vec<Target> {
    let find = |batch, connections| fastest(transfers(measured.cases, batch, connections));
    let inflight = |of: fn(&Replication) -> u64| {
        let seen = measured.cases.iter().flat_map(|report| &report.rounds);
        let most = seen.filter_map(|round| round.peak.replication.as_ref()).map(of).max();
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        most.map(|most| (most as f64, most as f64, most as f64))
    };
    let counted = |what: &str, reached| Target {
        what: what.into(),
        wanted: 2.0,
        reached,
        at_most: false,
        from: "all cases".into(),
    };
    vec![
        of_case(
            "batch 8,190: transfers/s",
            400_000.0,
            false,
            find(EVENTS_MAX, None),
            events_per_second,
        ),
        of_case(
            "64 connections, one transfer each: transfers/s",
            40_000.0,
            false,
            find(1, Some(64)),
            events_per_second,
        ),
        of_case(
            "one transfer at a time: p50 over raw commit + 2 round trips",
            2.0,
            true,
            find(1, Some(1)),
            |round| round.peak.latency_micros.p50 / round.floor_micros(2.0, |micros| micros.p50),
        ),
        counted("most flushes in flight", inflight(|one| one.flushes_inflight_max)),
        counted(
            "most appends in flight to the follower that had fewest",
            inflight(|one| one.appends_inflight_max.iter().copied().min().unwrap_or_default()),
        ),
    ]
}

fn logs(logs: &[LogReport]) -> Vec<Target> {
    // Against the better of the raw bandwidths, one at a time or several in flight.
    let bandwidth = logs
        .iter()
        .filter(|report| report.case.records > 0 && report.case.logs == 1)
        .max_by(|a, b| a.floor_per_second.median.total_cmp(&b.floor_per_second.median));
    let small = logs.iter().find(|report| {
        report.case.records == 0 && report.case.inflight == 4 && report.case.logs == 1
    });
    let target = |what: &str, wanted, report: Option<&LogReport>| Target {
        what: what.into(),
        wanted,
        reached: report.map(|report| ends(report.part_of_floor)),
        at_most: false,
        from: report
            .map_or(String::new(), |report| format!("log, {} in flight", report.case.inflight)),
    };
    vec![
        target("log only, 1 KiB x 1,000: part of the raw bandwidth", 0.8, bandwidth),
        target("log only, small flushes, 4 in flight: part of the raw rate", 0.7, small),
    ]
}

fn name(report: &CaseReport) -> String {
    let note = if report.restless { " (restless machine)" } else { "" };
    report.case.name() + note
}

fn ends(spread: crate::stats::Spread) -> (f64, f64, f64) {
    (spread.median, spread.min, spread.max)
}

/// The case that scaling is measured with, on this many cores.
pub fn scaling_case(cores: usize) -> Case {
    Case { records: false, batch: EVENTS_MAX, connections: 64, inflight: 1, cores, nodes: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_falls_short_says_so() {
        let mut target = Target {
            what: "events/s".into(),
            wanted: 100.0,
            reached: Some((99.0, 90.0, 110.0)),
            at_most: false,
            from: String::new(),
        };
        assert!(target.to_line().starts_with("NOT MET"));
        target.at_most = true;
        assert!(target.to_line().starts_with("met"));
        target.reached = None;
        assert!(target.to_line().starts_with("not measured"));
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        let targets = all(&Measured::default());
        assert_eq!(targets.len(), 11);
        assert!(targets.iter().all(|target| target.is_met().is_none()));
    }
}
