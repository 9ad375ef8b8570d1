//! The benchmark's plots: latency by percentile, and throughput and p99 by batch size.

use crate::report::{Case, CaseReport};
use crate::svg::{Plot, Series};

/// Where a percentile stands: each nine takes as much room as the one before.
fn place(percentile: f64) -> f64 {
    100.0 / (100.0 - percentile)
}

/// Names and contents of all plots that there is something for.
pub fn of(cases: &[CaseReport]) -> Vec<(String, String)> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for report in cases {
        let group = (report.case.connections, report.case.cores);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut plots: Vec<(String, Plot)> = groups
        .iter()
        .map(|&(connections, cores)| {
            (format!("latency-c{connections}-n{cores}.svg"), latency(cases, connections, cores))
        })
        .collect();
    let events = |report: &CaseReport| report.spread(|round| round.peak.events_per_second).median;
    let floor_events = |report: &CaseReport| {
        report.spread(|round| round.floor_events_per_second(report.case)).median
    };
    plots.push((
        "throughput.svg".into(),
        by_batch(
            cases,
            &groups,
            "Transfers a second by batch size",
            "transfers/s",
            &events,
            &floor_events,
        ),
    ));
    let p99 = |report: &CaseReport| report.spread(|round| round.paced.latency_micros.p99).median;
    let floor_p99 = |report: &CaseReport| {
        let trips = report.case.round_trips();
        report.spread(|round| round.floor_micros(trips, |micros| micros.p99)).median
    };
    plots.push((
        "p99.svg".into(),
        by_batch(
            cases,
            &groups,
            "p99 at half the peak rate by batch size; floor: raw commit + round trip",
            "microseconds",
            &p99,
            &floor_p99,
        ),
    ));
    plots.into_iter().filter_map(|(name, plot)| Some((name, plot.to_svg()?))).collect()
}

fn latency(cases: &[CaseReport], connections: usize, cores: usize) -> Plot {
    let ours = cases
        .iter()
        .filter(|report| (report.case.connections, report.case.cores) == (connections, cores));
    let mut series = Vec::new();
    for (colour, report) in ours.enumerate() {
        let Some(round) = report.rounds.get(report.rounds.len() / 2) else { continue };
        let curve = |curve: &[(f64, f64)]| {
            let below_all = curve.iter().filter(|point| point.0 < 100.0);
            below_all.map(|&(percentile, micros)| (place(percentile), micros)).collect()
        };
        series.push(Series {
            name: label(report.case),
            points: curve(&round.paced.latency_micros.curve),
            colour,
            dashed: false,
        });
        series.push(Series {
            name: format!("raw commit, {}", label(report.case)),
            points: curve(&round.before.raw.latency_micros.curve),
            colour,
            dashed: true,
        });
    }
    let ticks = [
        (0.0, "0"),
        (50.0, "50"),
        (90.0, "90"),
        (99.0, "99"),
        (99.9, "99.9"),
        (99.99, "99.99"),
        (99.999, "99.999"),
    ];
    Plot {
        title: format!("Latency at half the peak rate, {connections} connections, {cores} cores"),
        x_label: "percentile",
        y_label: "microseconds from intended send to answer",
        x_ticks: ticks.iter().map(|&(percentile, name)| (place(percentile), name.into())).collect(),
        series,
    }
}

fn by_batch(
    cases: &[CaseReport],
    groups: &[(usize, usize)],
    title: &str,
    y_label: &'static str,
    engine: &dyn Fn(&CaseReport) -> f64,
    floor: &dyn Fn(&CaseReport) -> f64,
) -> Plot {
    let mut series = Vec::new();
    for (colour, &(connections, cores)) in groups.iter().enumerate() {
        let points = |value: &dyn Fn(&CaseReport) -> f64| -> Vec<(f64, f64)> {
            let ours = cases.iter().filter(|report| {
                let case = report.case;
                !case.records && (case.connections, case.cores) == (connections, cores)
            });
            #[expect(clippy::cast_precision_loss, reason = "a place in a plot")]
            ours.map(|report| (report.case.batch as f64, value(report))).collect()
        };
        let name = format!("{connections} conn., {cores} cores");
        let engine = points(engine);
        let floor = points(floor);
        series.push(Series { name: name.clone(), points: engine, colour, dashed: false });
        series.push(Series { name: format!("floor, {name}"), points: floor, colour, dashed: true });
    }
    Plot {
        title: title.into(),
        x_label: "transfers in a batch",
        y_label,
        x_ticks: [(1.0, "1"), (64.0, "64"), (1024.0, "1,024"), (8190.0, "8,190")]
            .map(|(batch, name)| (batch, name.to_owned()))
            .to_vec(),
        series,
    }
}

fn label(case: Case) -> String {
    if case.records { "1 KiB x 1,000".into() } else { format!("{} transfers", case.batch) }
}
