//! `watch`: what each partition does now, look after look.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write as _};
use std::slice;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use walengine_net::cli;
use walengine_net::client::ClusterReport;
use walengine_net::client::blocking::Client;
use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::say_aside;

use super::asking::Asking;
use super::log_time::shown_micros;
use super::output::{Format, Output, table_text};
use crate::fatal::Fatal;

const COLUMNS: &[(&str, usize)] = &[
    ("time", 27),
    ("partition", 9),
    ("leader", 20),
    ("records_per_second", 18),
    ("refused_per_second", 18),
    ("lag_entries", 11),
    ("committed_offset", 16),
    ("trouble", 0),
];
/// Counts of requests that a server told to come back.
const REFUSED: [&str; 3] =
    ["refused_busy_since_start", "refused_full_since_start", "refused_memory_since_start"];

/// Watch what the partitions do, until interrupted
///
/// A row for each partition: who leads, records that were committed a second, requests a second that the
/// first server of --server has told to come back (busy, full, short of memory), and how far the slowest
/// replica is behind. On a terminal the table is drawn again and again; elsewhere there is a row for
/// each partition and look, with its time. Latencies are not shown: servers don't measure those of clients.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  walengine watch\n  walengine watch --interval 10 --format csv >>watch.csv"
)]
pub struct Arguments {
    /// Time between looks, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,

    /// Stop after so many rows of each partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    asking: Asking,
}

/// What was seen at a moment.
struct Look {
    at: Instant,
    cluster: ClusterReport,
    refused: BTreeMap<PartitionId, u64>,
}

/// Watches.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let format = arguments.asking.format;
    let is_drawn = format == Format::Text && io::stdout().is_terminal();
    let mut output = if is_drawn { None } else { Some(Output::new(format, COLUMNS)?) };
    let mut before = look(&client)?;
    let (mut left, mut drawn_lines) = (arguments.count.unwrap_or(u64::MAX), 0);
    while left > 0 {
        thread::sleep(Duration::from_secs(arguments.interval));
        // A cluster without a majority, or without this server, comes back.
        let now = match look(&client) {
            Ok(now) => now,
            Err(error) => {
                say_aside!("{error}");
                continue;
            }
        };
        let rows = rows(&before, &now, client.info().partitions());
        match &mut output {
            None => drawn_lines = draw(&rows, drawn_lines)?,
            Some(output) => {
                let time = wall_time();
                for row in &rows {
                    output.row(&[slice::from_ref(&time), &row[..]].concat())?;
                }
                output.flush()?;
            }
        }
        (before, left) = (now, left - 1);
    }
    Ok(())
}

fn look(client: &Client) -> Result<Look, Fatal> {
    let mut refused = BTreeMap::new();
    let cluster = client.cluster_status()?;
    for partition in client.info().partitions() {
        let numbers = client.server_status(partition)?.numbers;
        let its = numbers
            .iter()
            .filter(|(of, name, _)| *of == Some(partition) && REFUSED.contains(&name.as_str()));
        refused.insert(partition, its.map(|(.., count)| count).sum());
    }
    Ok(Look { at: Instant::now(), cluster, refused })
}

/// A row for each partition, without the time.
fn rows(
    before: &Look,
    now: &Look,
    partitions: impl Iterator<Item = PartitionId>,
) -> Vec<Vec<String>> {
    let millis = now.at.saturating_duration_since(before.at).as_millis().max(1);
    let a_second = |before: Option<u64>, now: Option<u64>| match (before, now) {
        (Some(before), Some(now)) => {
            (u128::from(now.saturating_sub(before)) * 1000 / millis).to_string()
        }
        _ => "-".to_owned(),
    };
    let offset = |look: &Look, partition| {
        look.cluster.groups.get(&partition).map(|group| group.committed_offset.0)
    };
    partitions
        .map(|partition| {
            let group = now.cluster.groups.get(&partition);
            let leader = group.and_then(|group| group.leader);
            let its = (partition, 0)..=(partition, u64::MAX);
            let lag = now.cluster.replicas.range(its).map(|(_, replica)| replica.lag_entries).max();
            let or_none =
                |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
            let refused = |look: &Look| look.refused.get(&partition).copied();
            let troubles = now
                .cluster
                .troubles
                .iter()
                .filter(|one| one.partition.is_none_or(|of| of == partition));
            let troubles: Vec<&str> = troubles.map(|trouble| trouble.text.as_str()).collect();
            vec![
                partition.to_string(),
                leader.map_or("none".to_owned(), |leader| leader.to_string()),
                a_second(offset(before, partition), offset(now, partition)),
                a_second(refused(before), refused(now)),
                or_none(lag),
                or_none(offset(now, partition)),
                troubles.join("; "),
            ]
        })
        .collect()
}

/// Draws the table over the one before, of so many lines. Returns how many this one has.
fn draw(rows: &[Vec<String>], drawn_lines: usize) -> Result<usize, Fatal> {
    let heading: Vec<&str> = COLUMNS[1..].iter().map(|(name, _)| *name).collect();
    let table = table_text(&heading, rows);
    let up =
        if drawn_lines == 0 { String::new() } else { format!("\u{1b}[{drawn_lines}A\u{1b}[J") };
    let mut out = io::stdout().lock();
    let written = out.write_all(format!("{up}{table}").as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| cli::unwritten(&error))?;
    Ok(table.lines().count())
}

fn wall_time() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    shown_micros(Timestamp(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use walengine_net::client::Trouble;
    use walengine_net::model::Offset;

    use super::*;

    #[test]
    fn rates_are_differences_a_second() {
        let look = |at: Instant, offset: u64, busy: u64| {
            let mut cluster = ClusterReport::default();
            let group = walengine_net::client::operation::GroupReport {
                leader: Some(2),
                term: 1,
                committed_offset: Offset(offset),
                is_changing: false,
            };
            cluster.groups.insert(PartitionId(0), group);
            let trouble =
                Trouble { partition: Some(PartitionId(0)), text: "a disk is slow".into() };
            cluster.troubles.insert(trouble);
            Look { at, cluster, refused: BTreeMap::from([(PartitionId(0), busy)]) }
        };
        let begin = Instant::now();
        let (before, now) = (look(begin, 100, 4), look(begin + Duration::from_secs(2), 300, 10));
        let rows = rows(&before, &now, [0, 1].map(PartitionId).into_iter());
        assert_eq!(rows[0], ["0", "2", "100", "3", "-", "300", "a disk is slow"]);
        assert_eq!(rows[1], ["1", "none", "-", "-", "-", "-", ""], "nothing is known of it");
    }
}
