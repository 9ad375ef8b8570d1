//! The benchmark's plots: latency by percentile, and throughput and p99 by batch size.

use crate::chart::{Chart, Series};
use crate::error::Result;
use crate::report::{Case, CaseReport};
use crate::stats::Spread;

/// Place of a percentile on the axis: each further nine takes as much room as the one before it.
fn place(percentile: f64) -> f64 {
    100.0 / (100.0 - percentile)
}

/// File names and contents of all plots that there is something for.
pub fn of(cases: &[CaseReport]) -> Result<Vec<(String, String)>> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for report in cases {
        let group = (report.case.connections, report.case.cores);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut charts: Vec<(String, Chart)> = groups
        .iter()
        .map(|&(connections, cores)| {
            (format!("latency-c{connections}-n{cores}.svg"), latency(cases, connections, cores))
        })
        .collect();
    let throughput = ByBatch {
        title: "Transfers a second by batch size",
        y_label: "transfers/s",
        engine: |report| report.spread(|round| round.peak.events_per_second),
        floor: |report| report.spread(|round| round.floor_events_per_second(report.case)),
    };
    charts.push(("throughput.svg".into(), throughput.chart(cases, &groups)));
    let p99 = ByBatch {
        title: "p99 at half the peak rate by batch size; floor: raw commit + round trip",
        y_label: "microseconds",
        engine: |report| report.spread(|round| round.paced.latency_micros.p99),
        floor: |report| {
            let trips = report.case.round_trips();
            report.spread(|round| round.floor_micros(trips, |micros| micros.p99))
        },
    };
    charts.push(("p99.svg".into(), p99.chart(cases, &groups)));
    let mut plots = Vec::new();
    for (name, chart) in charts {
        plots.extend(chart.to_svg()?.map(|svg| (name, svg)));
    }
    Ok(plots)
}

fn latency(cases: &[CaseReport], connections: usize, cores: usize) -> Chart {
    let ours = cases
        .iter()
        .filter(|report| (report.case.connections, report.case.cores) == (connections, cores));
    let mut series = Vec::new();
    for (colour, report) in ours.enumerate() {
        let Some(round) = report.rounds.get(report.rounds.len() / 2) else { continue };
        let curve = |curve: &[(f64, f64)]| {
            let below_all = curve.iter().filter(|point| point.0 < 100.0);
            below_all.map(|&(percentile, micros)| (place(percentile), micros.into())).collect()
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
    Chart {
        title: format!("Latency at half the peak rate, {connections} connections, {cores} cores"),
        x_label: "percentile",
        y_label: "microseconds from intended send to answer",
        x_ticks: ticks.map(|(percentile, name)| (place(percentile), name)).to_vec(),
        series,
    }
}

/// A figure of all groups of cases by batch size, beside its floor.
struct ByBatch {
    title: &'static str,
    y_label: &'static str,
    engine: fn(&CaseReport) -> Spread,
    floor: fn(&CaseReport) -> Spread,
}

impl ByBatch {
    fn chart(&self, cases: &[CaseReport], groups: &[(usize, usize)]) -> Chart {
        let mut series = Vec::new();
        for (colour, &(connections, cores)) in groups.iter().enumerate() {
            let points = |value: fn(&CaseReport) -> Spread| {
                let ours = cases.iter().filter(|report| {
                    let case = report.case;
                    !case.records && (case.connections, case.cores) == (connections, cores)
                });
                #[expect(clippy::cast_precision_loss, reason = "a place in a plot")]
                ours.map(|report| (report.case.batch as f64, value(report))).collect()
            };
            let name = format!("{connections} conn., {cores} cores");
            let floor = format!("floor, {name}");
            let (engine, below) = (points(self.engine), points(self.floor));
            series.push(Series { name, points: engine, colour, dashed: false });
            series.push(Series { name: floor, points: below, colour, dashed: true });
        }
        Chart {
            title: self.title.into(),
            x_label: "transfers in a batch",
            y_label: self.y_label,
            x_ticks: vec![(1.0, "1"), (64.0, "64"), (1024.0, "1,024"), (8190.0, "8,190")],
            series,
        }
    }
}

fn label(case: Case) -> String {
    if case.records { "1 KiB x 1,000".into() } else { format!("{} transfers", case.batch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LoadReport;
    use crate::report::{Floor, Round};

    /// Rounds in which every latency is `micros` at the median, and rates vary by a tenth.
    fn rounds(micros: f64) -> Vec<Round> {
        let rounds = [0.9, 1.0, 1.1].map(|part| {
            let mut round = Round {
                before: Floor::default(),
                peak: LoadReport::default(),
                paced: LoadReport::default(),
                after: Floor::default(),
            };
            let nines = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0];
            let curve = |slope: f64| {
                let at = |percentile: f64| micros * part * (1.0 + slope * place(percentile).ln());
                nines.map(|percentile| (percentile, at(percentile))).to_vec()
            };
            round.peak.events_per_second = 1e8 / micros * part;
            round.paced.latency_micros.p99 = 5.0 * micros * part;
            round.paced.latency_micros.curve = curve(1.0);
            round.before.raw.latency_micros.curve = curve(0.3);
            for floor in [&mut round.before, &mut round.after] {
                floor.raw.commits_per_second = 1e6 / micros;
                floor.raw.latency_micros.p99 = 2.0 * micros;
            }
            round
        });
        rounds.into()
    }

    #[test]
    fn each_group_has_a_plot_of_latencies_beside_those_by_batch_size() {
        let mut cases = Vec::new();
        for connections in [1, 64] {
            for (records, batch) in
                [(false, 1), (false, 64), (false, 1024), (false, 8190), (true, 1000)]
            {
                let case = Case { records, batch, connections, inflight: 1, cores: 2, nodes: 1 };
                let micros = 100.0 + 10.0 * f64::from(u32::try_from(batch + connections).unwrap());
                let rounds = rounds(micros);
                cases.push(CaseReport { case, rounds, thrown_away: 0, restless: false });
            }
        }
        let plots = of(&cases).unwrap();
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["latency-c1-n2.svg", "latency-c64-n2.svg", "throughput.svg", "p99.svg"];
        assert_eq!(names, expected);
        assert!(plots[0].1.contains("99.999") && plots[0].1.contains("raw commit, 8190 transfers"));
        assert!(plots[2].1.contains("8,190") && plots[2].1.contains("floor, 64 conn., 2 cores"));
        assert!(of(&[]).unwrap().is_empty(), "nothing measured, nothing drawn");
    }
}
