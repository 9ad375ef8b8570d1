//! `capacity`: what a transfer costs on disk, and for how long there is room.

use std::thread;
use std::time::Duration;

use walengine_net::client::blocking::Client;
use walengine_net::say_aside;

use super::asking::Asking;
use super::output::{Format, Output};
use super::sizes;
use crate::fatal::Fatal;
use crate::limits::CAPACITY_SECONDS_MIN;

const COLUMNS: &[(&str, usize)] = &[("name", 26), ("value", 0)];

/// Say what a record takes on disk, and for how many days there is room
///
/// From the server's own counts: bytes of its log a record, bytes on disk of what remembers an id, and how
/// much is free before writes are refused. The rate is that since the server was started, or with
/// --measure that between two looks. Within an hour of the start the first says little about a day, and
/// days are left out. A transfer is one record; between two partitions it is three, of which the home of
/// it has two.
///
/// Asks the first server of --server, about its own disk.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine capacity\n  walengine capacity --measure 30")]
pub struct Arguments {
    /// Look twice, so many seconds apart, for the rate of now
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    measure: Option<u64>,

    #[command(flatten)]
    asking: Asking,
}

/// What a server has counted, of all its partitions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    uptime_seconds: u64,
    free_bytes: u64,
    reserve_bytes: u64,
    records: u64,
    log_bytes: u64,
    ids: u64,
    ids_bytes: u64,
}

/// What follows from that. Tenths, so that all is whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capacity {
    usable_bytes: u64,
    /// `None` where nothing was counted yet.
    log_tenths: Option<u64>,
    ids_tenths: Option<u64>,
    rate_tenths: u64,
    seconds: u64,
    days_left: Option<u64>,
}

/// Prints the capacity.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let first = match arguments.measure {
        None => Look::default(),
        Some(seconds) => {
            let first = look(&client)?;
            thread::sleep(Duration::from_secs(seconds));
            first
        }
    };
    let last = look(&client)?;
    let mut capacity = capacity(&first, &last);
    if arguments.measure.is_none() && capacity.is_young() {
        capacity.days_left = None;
        say_aside!(
            "the server was started {} s ago, too short a time to tell days from: --measure takes the rate of now",
            capacity.seconds
        );
    }
    let format = arguments.asking.format;
    let mut output = Output::new(format, COLUMNS)?;
    for (name, value) in rows(&last, &capacity, format == Format::Text) {
        output.row(&[name.to_owned(), value])?;
    }
    output.flush()
}

fn look(client: &Client) -> Result<Look, Fatal> {
    let mut look = Look::default();
    for partition in client.info().partitions() {
        // Each shard tells of all its partitions.
        for (of, name, value) in client.server_status(partition)?.numbers {
            look.add(of == Some(partition), of.is_none(), &name, value);
        }
    }
    Ok(look)
}

impl Look {
    fn add(&mut self, is_of_partition: bool, is_of_node: bool, name: &str, value: u64) {
        match name {
            "uptime_seconds" if is_of_node => self.uptime_seconds = value,
            "free_bytes" if is_of_node => self.free_bytes = value,
            "reserve_bytes" if is_of_node => self.reserve_bytes = value,
            "records_since_start" if is_of_partition => self.records += value,
            "flush_bytes_since_start" if is_of_partition => self.log_bytes += value,
            "ids_on_disk" if is_of_partition => self.ids += value,
            "ids_on_disk_bytes" if is_of_partition => self.ids_bytes += value,
            _ => {}
        }
    }
}

fn capacity(first: &Look, last: &Look) -> Capacity {
    let tenths = |bytes: u64, count: u64| {
        (count > 0).then(|| (u128::from(bytes) * 10 / u128::from(count)) as u64)
    };
    let records = last.records.saturating_sub(first.records);
    let seconds = last.uptime_seconds.saturating_sub(first.uptime_seconds).max(1);
    let usable_bytes = last.free_bytes.saturating_sub(last.reserve_bytes);
    let log_tenths = tenths(last.log_bytes, last.records);
    let ids_tenths = tenths(last.ids_bytes, last.ids);
    let a_record = u128::from(log_tenths.unwrap_or(0)) + u128::from(ids_tenths.unwrap_or(0));
    let a_day = u128::from(records) * a_record * 86_400 / u128::from(seconds);
    let days = (a_day > 0).then(|| u128::from(usable_bytes) * 10 / a_day);
    Capacity {
        usable_bytes,
        log_tenths,
        ids_tenths,
        rate_tenths: (u128::from(records) * 10 / u128::from(seconds)) as u64,
        seconds,
        days_left: days.map(|days| u64::try_from(days).unwrap_or(u64::MAX)),
    }
}

impl Capacity {
    /// No day can be told from it.
    fn is_young(&self) -> bool {
        self.seconds < CAPACITY_SECONDS_MIN
    }
}

fn rows(look: &Look, capacity: &Capacity, is_text: bool) -> Vec<(&'static str, String)> {
    let bytes = |bytes: u64| if is_text { sizes::bytes(bytes) } else { bytes.to_string() };
    let tenths = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
    let unknown = || if is_text { "not known yet".to_owned() } else { String::new() };
    let or_unknown = |value: Option<String>| value.unwrap_or_else(unknown);
    vec![
        ("log_bytes_per_record", or_unknown(capacity.log_tenths.map(tenths))),
        ("ids_bytes_per_record", or_unknown(capacity.ids_tenths.map(tenths))),
        ("free_bytes", bytes(look.free_bytes)),
        ("usable_bytes", bytes(capacity.usable_bytes)),
        ("records_per_second", tenths(capacity.rate_tenths)),
        ("measured_seconds", capacity.seconds.to_string()),
        ("days_left", or_unknown(capacity.days_left.map(|days| days.to_string()))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_day() -> Look {
        Look {
            uptime_seconds: 86_400,
            free_bytes: 11_000_000,
            reserve_bytes: 1_000_000,
            records: 10_000,
            log_bytes: 1_500_000,
            ids: 1000,
            ids_bytes: 20_000,
        }
    }

    #[test]
    fn days_are_what_is_usable_by_what_a_day_takes() {
        let found = capacity(&Look::default(), &after_a_day());
        // 150 bytes of log and 20 of ids for each of 10,000 records a day.
        assert_eq!((found.log_tenths, found.ids_tenths), (Some(1500), Some(200)));
        assert_eq!((found.usable_bytes, found.days_left), (10_000_000, Some(5)));
        assert_eq!((found.rate_tenths, found.seconds), (1, 86_400));
    }

    #[test]
    fn between_two_looks_only_their_rate_counts() {
        let last = after_a_day();
        let first = Look { uptime_seconds: 86_390, records: 9_000, ..last };
        let found = capacity(&first, &last);
        assert_eq!((found.rate_tenths, found.seconds, found.days_left), (1000, 10, Some(0)));
        assert_eq!(capacity(&last, &last).days_left, None, "nothing is written");
    }

    #[test]
    fn a_start_a_while_ago_tells_nothing_of_days() {
        let after =
            |uptime_seconds| capacity(&Look::default(), &Look { uptime_seconds, ..after_a_day() });
        assert!(after(3599).is_young() && !after(3600).is_young());
    }

    #[test]
    fn what_was_not_counted_is_not_known() {
        let found = capacity(&Look::default(), &Look::default());
        assert_eq!((found.log_tenths, found.ids_tenths, found.days_left), (None, None, None));
        let full = Look { free_bytes: 5, reserve_bytes: 10, ..after_a_day() };
        assert_eq!(capacity(&Look::default(), &full).days_left, Some(0));
        for is_text in [true, false] {
            assert_eq!(rows(&full, &found, is_text).len(), 7);
        }
    }

    #[test]
    fn a_partition_counts_once_though_its_shard_tells_of_others() {
        let mut look = Look::default();
        look.add(true, false, "records_since_start", 5);
        look.add(false, false, "records_since_start", 7);
        look.add(false, true, "free_bytes", 9);
        assert_eq!((look.records, look.free_bytes), (5, 9));
    }
}
