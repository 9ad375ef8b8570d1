//! Results: a line of JSON for each as it is measured, and a table and sentences for people.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::arguments::Plan;
use super::look::Look;
use super::transfers::IdOrder;
use crate::error::{During, Result};
use crate::limits::FILL_BATCH;
use crate::stats::{Spread, ratio};

/// A result. Units are in the names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A part of the transfers.
    Step(Step),
    /// From the start of the server's process until it has answered a write.
    Restart {
        /// Order of the ids.
        ids: IdOrder,
        /// It was killed under load; else it was told to stop.
        killed: bool,
        /// How long it took.
        seconds: f64,
        /// Resident memory of the server then.
        resident_bytes: u64,
    },
    /// Old transfers sent again, all of which had their first verdicts.
    Old {
        /// Order of the ids.
        ids: IdOrder,
        /// How long each batch took, in the order in which they were sent.
        batch_micros: Vec<f64>,
    },
    /// A round with 1 % of repeats beside one without.
    Pair {
        /// Order of the ids.
        ids: IdOrder,
        /// Rate with repeats.
        repeats_per_second: f64,
        /// Rate without.
        fresh_per_second: f64,
    },
}

/// A part of the transfers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Order of the ids.
    pub ids: IdOrder,
    /// Transfers that were accepted so far.
    pub transfers: u64,
    /// How long this part took.
    pub seconds: f64,
    /// Rate of this part.
    pub transfers_per_second: f64,
    /// CPU time of the server for each transfer of this part.
    pub cpu_micros_per_transfer: f64,
    /// Half of the batches of this part were answered within this.
    pub p50_micros: f64,
    /// 99 in 100 were.
    pub p99_micros: f64,
    /// What there is at its end.
    #[serde(flatten)]
    pub look: Look,
}

/// Where the lines go.
pub struct Lines {
    file: File,
    /// The file.
    pub path: PathBuf,
}

impl Lines {
    /// Creates the file.
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).during(&format!("creating {}", path.display()))?;
        Ok(Self { file, path })
    }

    /// Adds a line, which is there even if the measurement is broken off later.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        let json = serde_json::to_string(line).during("writing results")?;
        writeln!(self.file, "{json}").during(&format!("writing {}", self.path.display()))
    }
}

/// Head of the table.
pub const HEADING: &str = "\
| transfers | transfers/s | CPU us | memory MiB | ids in memory | ids on disk | filter MiB | fences MiB | \
log MiB | runs MiB | runs/log bytes | server wrote MiB | p50 ms | p99 ms |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

impl Step {
    /// A row below [`HEADING`].
    pub fn to_row(&self) -> String {
        let look = &self.look;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let count = |value: Option<u64>| or_none(value.map(grouped));
        let in_mib = |value: Option<u64>| or_none(value.map(|bytes| format!("{:.1}", mib(bytes))));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a rate")]
        let rate = grouped(self.transfers_per_second.round() as u64);
        format!(
            "| {} | {rate} | {:.3} | {:.1} | {} | {} | {} | {} | {:.0} | {:.1} | {} | {:.0} | {:.2} | {:.2} |",
            grouped(self.transfers),
            self.cpu_micros_per_transfer,
            mib(look.resident_bytes),
            count(look.ids_in_memory),
            count(look.ids_on_disk),
            in_mib(look.filter_bytes),
            in_mib(look.fences_bytes),
            mib(look.log_disk_bytes),
            mib(look.runs_disk_bytes),
            or_none(look.runs_per_log_byte().map(|part| format!("{part:.3}"))),
            mib(look.process_written_bytes),
            self.p50_micros / 1e3,
            self.p99_micros / 1e3,
        )
    }
}

/// What the steps say of growth: the last part beside the first after the warm-up.
pub fn growth(steps: &[Step], plan: &Plan) -> String {
    let behind = steps.get(plan.warm_up..).unwrap_or(&[]);
    let (Some(first), Some(last)) =
        (behind.get(..plan.part), steps.get(steps.len().saturating_sub(plan.part)..))
    else {
        return "too few steps to compare\n".into();
    };
    let (Some(from), Some(to)) = (first.last(), last.last()) else {
        return "too few steps to compare\n".into();
    };
    let of = |part: &[Step], figure: fn(&Step) -> f64| Spread::of(part.iter().map(figure));
    let gain = |figure| quotient(of(last, figure), of(first, figure));
    let resident = |step: &Step| step.look.resident_bytes;
    let transfers = to.transfers.saturating_sub(from.transfers);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let per_id = (resident(to) as f64 - resident(from) as f64) / transfers.max(1) as f64;
    let parts = [of_ids(to), of_ids(from)];
    let of_ids = if let [Some(to), Some(from)] = parts {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per_id = (to as f64 - from as f64) / transfers.max(1) as f64;
        format!("; {per_id:.2} of them in the tables of ids that the server counts")
    } else {
        String::new()
    };
    let runs = match (to.look.runs_written_bytes, to.look.log_written_bytes) {
        (Some(runs), Some(log)) => format!(
            "runs of ids: {:.1} bytes written a transfer, merges included, {:.3} of the log's {:.1}; \
             {:.1} on disk\n",
            ratio(runs, to.transfers),
            ratio(runs, log),
            ratio(log, to.transfers),
            ratio(to.look.runs_disk_bytes, to.transfers),
        ),
        _ => "runs of ids: the server does not count what it writes\n".into(),
    };
    format!(
        "last part over first, after a warm-up of {} (up to {} and {} of {}):\n\
         rate: {}\n\
         CPU a transfer: {}\n\
         memory: {per_id:.2} bytes an id, {:.1} MiB at {} to {:.1} MiB at {}{of_ids}\n{runs}",
        grouped(steps.get(plan.warm_up.wrapping_sub(1)).map_or(0, |step| step.transfers)),
        grouped(from.transfers),
        grouped(to.transfers),
        grouped(plan.batches() * FILL_BATCH as u64),
        shown(gain(|step| step.transfers_per_second)),
        shown(gain(|step| step.cpu_micros_per_transfer)),
        mib(resident(from)),
        grouped(from.transfers),
        mib(resident(to)),
        grouped(to.transfers),
    )
}

/// Bytes that the server says ids take in its memory.
fn of_ids(step: &Step) -> Option<u64> {
    let look = &step.look;
    Some(look.ids_in_memory_bytes? + look.filter_bytes? + look.fences_bytes?)
}

/// The quotient of two medians, and the least and greatest of any two values.
fn quotient(over: Spread, under: Spread) -> Spread {
    let part = |over: f64, under: f64| if under > 0.0 { over / under } else { 0.0 };
    Spread {
        median: part(over.median, under.median),
        min: part(over.min, under.max),
        max: part(over.max, under.min),
    }
}

/// Median, least and greatest.
pub fn shown(spread: Spread) -> String {
    format!("{:.3} [{:.3} - {:.3}]", spread.median, spread.min, spread.max)
}

/// A path in the directory of results, with the time in its name.
pub fn path(out: &Path, at: u64, extension: &str) -> PathBuf {
    out.join(format!("growth-{at}.{extension}"))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let with_comma = |(at, digit): (usize, char)| {
        let is_group = at > 0 && (digits.len() - at).is_multiple_of(3);
        is_group.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(with_comma).collect()
}

#[cfg(test)]
mod tests {
    use super::super::arguments::tests::parsed;
    use super::*;

    fn step(number: u64, rate: f64, resident_bytes: u64) -> Step {
        let look = Look { resident_bytes, ..Look::default() };
        Step {
            ids: IdOrder::Random,
            transfers: number * 8_190,
            seconds: 1.0,
            transfers_per_second: rate,
            cpu_micros_per_transfer: 1e6 / rate,
            p50_micros: 5e3,
            p99_micros: 9e3,
            look,
        }
    }

    #[test]
    fn the_last_part_is_compared_with_the_first_behind_the_warm_up() {
        let plan = parsed("--transfers 40950 --steps 5").unwrap().plan().unwrap();
        let rates = [10.0, 1000.0, 7.0, 7.0, 500.0];
        let steps: Vec<Step> =
            (1..).zip(rates).map(|(number, rate)| step(number, rate, number * 16_380)).collect();
        let told = growth(&steps, &plan);
        assert!(told.contains("rate: 0.500 [0.500 - 0.500]"), "{told}");
        assert!(told.contains("CPU a transfer: 2.000 ["), "{told}");
        assert!(told.contains("memory: 2.00 bytes an id"), "{told}");
        assert_eq!(growth(&[], &plan), "too few steps to compare\n");
    }

    #[test]
    fn a_row_has_a_cell_for_each_column_and_a_dash_for_what_is_not_known() {
        let row = step(123, 1_234_567.0, 1 << 20).to_row();
        let columns = |line: &str| line.matches('|').count();
        assert!(HEADING.lines().all(|line| columns(line) == columns(&row)), "{row}");
        assert!(row.starts_with("| 1,007,370 | 1,234,567 | 0.810 | 1.0 | - |"), "{row}");
        assert_eq!([0, 999, 1000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn a_line_of_json_says_its_kind_and_has_all_figures_side_by_side() {
        let json = serde_json::to_value(Line::Step(step(1, 5.0, 9))).unwrap();
        assert_eq!((&json["kind"], &json["ids"]), (&"step".into(), &"random".into()));
        assert_eq!((&json["transfers"], &json["resident_bytes"]), (&8190.into(), &9.into()));
    }
}
