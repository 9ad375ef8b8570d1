//! METRICS.md, made of the tables: `cargo run --example metrics_document -p walengine` prints it.

use std::fmt::Write as _;

use super::family::{Family, Head, Kind};
use super::kafka::KAFKA;
use super::latency::BUCKET_MICROS;
use super::node::{BUILD, GOSSIP_DROPPED, NODE, SHARD_AGE, TROUBLE, TURNED_AWAY};
use super::table::{PARTITION, PEER, SHARD, TIMES, VERDICTS};

const INTRODUCTION: &str = "\
# Metrics

What a server says of itself at `/metrics`, in the text format of OpenMetrics. Made of the tables in `table.rs`,
`node.rs` and `kafka.rs`, which `walengine status` shows, too: where a row has a name in the last column, both show the same number.
Change those, then

    cargo run --example metrics_document -p walengine >engine/src/metrics/METRICS.md

Each shard says about once a second what it has; a scrape shows what it has said last and takes no time of any shard.
`walengine_shard_numbers_age_seconds` tells how old that is. Counters begin at 0 when the process does. Metrics of a
partition are those of its replica on this node; several nodes have the same partition, and one of them leads it.

`grafana/walengine.json` is a dashboard of them, and `alerts.yaml`
has rules, each with what to do. The projector has metrics of its own, `walengine_projector_…`, on its own address
(`--metrics`): `projector/METRICS.md`.
";

/// The document.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "The node");
    irregular(&mut text, &BUILD);
    table(&mut text, NODE);
    for head in [TROUBLE, TURNED_AWAY, GOSSIP_DROPPED] {
        irregular(&mut text, &head);
    }
    section(&mut text, "Kafka consumers of the node");
    table(&mut text, KAFKA);
    section(&mut text, "Each shard");
    irregular(&mut text, &SHARD_AGE);
    table(&mut text, SHARD);
    section(&mut text, "Each partition");
    table(&mut text, PARTITION);
    irregular(&mut text, &VERDICTS);
    for times in &TIMES {
        irregular(&mut text, &times.head);
    }
    let ends: Vec<String> = BUCKET_MICROS.iter().map(|micros| seconds(*micros)).collect();
    let _ = write!(text, "\nBuckets of the histograms end at {} seconds.\n", ends.join(", "));
    section(&mut text, "Each other replica of a partition");
    table(&mut text, PEER);
    text
}

fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn section(text: &mut String, title: &str) {
    let _ =
        write!(text, "\n## {title}\n\n| metric | kind | labels | what it says | in `status` |\n");
    text.push_str("|---|---|---|---|---|\n");
}

fn irregular(text: &mut String, head: &Head) {
    let labels: Vec<String> = head.labels.iter().map(|label| format!("`{label}`")).collect();
    row(text, head, &labels.join(", "), "");
}

fn table<T>(text: &mut String, table: &[Family<T>]) {
    for Family { head, samples } in table {
        let mut labels: Vec<String> =
            head.labels.iter().map(|label| format!("`{label}`")).collect();
        let values: Vec<&str> =
            samples.iter().map(|sample| sample.label).filter(|label| !label.is_empty()).collect();
        if let (false, Some(last)) = (values.is_empty(), labels.last_mut()) {
            let _ = write!(last, " ({})", values.join(", "));
        }
        let status: Vec<String> = samples
            .iter()
            .filter(|sample| !sample.status.is_empty())
            .map(|sample| match sample.status.strip_suffix('_') {
                Some(_) => format!("`{}N`", sample.status),
                None => format!("`{}`", sample.status),
            })
            .collect();
        row(text, head, &labels.join(", "), &status.join(", "));
    }
}

fn row(text: &mut String, head: &Head, labels: &str, status: &str) {
    let kind = match head.kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        Kind::Info => "info",
    };
    let (name, help) = (head.full_name(), head.help);
    let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} | {status} |");
}
