//! `health`: whether a node does its work, for probes and people.

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, ServerReport};
use walengine_net::model::PartitionId;

use super::asking::Asking;
use super::output::Output;
use crate::fatal::{Fatal, Reason};

const COLUMNS: &[(&str, usize)] = &[("partition", 9), ("ready", 5), ("state", 32), ("reason", 0)];
/// States of a partition's replica that does its work.
const READY: [&str; 2] = ["serving", "following"];

/// Say whether a server is ready
///
/// A server is ready if each of its partitions serves, or follows a leader that is known. The exit code is
/// 0 if it is, 1 if it is not, with the reasons, and 9 if no server answers. Asks the first server of
/// --server; `walengine cluster` tells of all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine health --server 10.0.0.1:7450 --timeout 2")]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

/// A partition, and why it is not ready.
struct Standing {
    partition: PartitionId,
    state: String,
    reason: Option<String>,
}

/// Prints a row for each partition.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let standings = standings(&client)?;
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    for Standing { partition, state, reason } in &standings {
        let ready = if reason.is_none() { "yes" } else { "no" };
        let reason = reason.clone().unwrap_or_default();
        output.row(&[partition.to_string(), ready.to_owned(), state.clone(), reason])?;
    }
    output.flush()?;
    let reasons: Vec<String> = standings
        .iter()
        .filter_map(|one| Some(format!("partition {}: {}", one.partition, one.reason.as_ref()?)))
        .collect();
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Fatal::new(Reason::Findings, format!("not ready: {}", reasons.join("; "))))
}

fn standings(client: &Client) -> Result<Vec<Standing>, Fatal> {
    // A node that can't tell of its cluster is not ready, and still answers for itself.
    let cluster = client.cluster_status();
    client
        .info()
        .partitions()
        .map(|partition| {
            let report = client.server_status(partition);
            if let Err(error @ (ClientError::Unreachable { .. } | ClientError::Insecure { .. })) =
                report
            {
                return Err(error.into());
            }
            let has_leader = cluster.as_ref().ok().map(|cluster| {
                cluster.groups.get(&partition).is_some_and(|group| group.leader.is_some())
            });
            Ok(standing(partition, &report, has_leader))
        })
        .collect()
}

/// Whether a partition is ready, by what the server says of it and whether its leader is known.
fn standing(
    partition: PartitionId,
    report: &Result<ServerReport, ClientError>,
    has_leader: Option<bool>,
) -> Standing {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let reason = Some(error.to_string());
            return Standing { partition, state: String::new(), reason };
        }
    };
    let is_state =
        |row: &&(Option<PartitionId>, String, String)| row.0 == Some(partition) && row.1 == "state";
    let state = report.texts.iter().find(is_state).map(|(.., text)| text.clone());
    let state = state.unwrap_or_default();
    let reason = match (state.as_str(), has_leader) {
        ("", _) => Some("this server has no replica of it".to_owned()),
        (state, _) if !READY.contains(&state) => Some(state.to_owned()),
        ("following", Some(false)) => Some("no leader is known".to_owned()),
        ("following", None) => Some("whether it has a leader is not known".to_owned()),
        _ => None,
    };
    Standing { partition, state, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_ready_if_it_serves_or_follows_a_leader() {
        let of = |state: &str, has_leader| {
            let texts = vec![(Some(PartitionId(1)), "state".to_owned(), state.to_owned())];
            let report = Ok(ServerReport { texts, ..ServerReport::default() });
            standing(PartitionId(1), &report, has_leader).reason
        };
        assert_eq!(of("serving", Some(true)), None);
        assert_eq!(of("serving", None), None);
        assert_eq!(of("following", Some(true)), None);
        assert!(of("following", Some(false)).is_some());
        assert!(of("following", None).is_some());
        for state in ["catching up", "refusing writes: disk stuck", "stopped: why", "shutting down"]
        {
            assert_eq!(of(state, Some(true)).as_deref(), Some(state));
        }
        let none = standing(PartitionId(1), &Ok(ServerReport::default()), Some(true));
        assert!(none.reason.is_some());
        let failed = standing(PartitionId(1), &Err(ClientError::Closed), Some(true));
        assert!(failed.reason.is_some());
    }
}
