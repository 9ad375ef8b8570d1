//! `status`: the status of a server, partition by partition.

use std::collections::BTreeMap;

use super::asking::Asking;
use super::output::Output;
use crate::fatal::Fatal;

const COLUMNS: &[(&str, usize)] = &[("scope", 12), ("name", 28), ("value", 0)];

/// Print the status of a server
///
/// Numbers and texts. A name ends in its unit.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

/// Prints the server's status. Each shard reports its own partitions, so all are asked.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let info = client.info().clone();
    let mut rows = BTreeMap::new();
    for partition in info.partitions() {
        let report = client.server_status(partition)?;
        let numbers = report
            .numbers
            .into_iter()
            .map(|(of, name, value)| ((of.map(|of| of.0), name), value.to_string()));
        let texts =
            report.texts.into_iter().map(|(of, name, text)| ((of.map(|of| of.0), name), text));
        rows.extend(numbers.chain(texts));
    }
    rows.insert((None, "cluster".into()), format!("{:032x}", info.cluster.0));
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    for ((partition, name), value) in rows {
        let scope = partition.map_or("node".into(), |partition| format!("partition {partition}"));
        output.row(&[scope, name, value])?;
    }
    output.flush()
}
