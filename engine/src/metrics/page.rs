//! The page that Prometheus reads: the tables, in the text format of `OpenMetrics` 1.0.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::registry::Registry;

use super::family::{Family, Head, Kind, PREFIX, Sample};
use super::kafka::KAFKA;
use super::node::{BUILD, GOSSIP_DROPPED, NODE, NodeNumbers, SHARD_AGE, TROUBLE, TURNED_AWAY};
use super::numbers::PartitionNumbers;
use super::table::{PARTITION, PEER, SHARD, TIMES, VERDICTS};
use crate::node_state::NodeState;
use crate::version::SERVER_VERSION;

/// Content type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page. Takes no time of any shard: it shows what each has said last, about a second ago.
pub fn text(state: &NodeState) -> String {
    text_of(NodeNumbers::of(state))
}

/// The same of these numbers.
pub fn text_of(numbers: NodeNumbers) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Page(numbers)));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes everything");
    text
}

/// Labels of a sample: of what it is, and which of several.
type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
struct Page(NodeNumbers);

impl Page {
    fn partitions(&self) -> impl Iterator<Item = &PartitionNumbers> {
        self.0.shards.iter().flat_map(|shard| &shard.numbers.partitions)
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (to, node) = (&mut encoder, &self.0);
        put(to, &BUILD, |family| {
            let labels = [(BUILD.labels[0], SERVER_VERSION)];
            family.encode_info(&labels)
        })?;
        table(to, NODE, &[(node, Vec::new())])?;
        table(to, KAFKA, &[(&node.kafka, Vec::new())])?;
        each(
            to,
            &TROUBLE,
            node.troubles().into_iter().filter_map(|key| {
                // As made by `Trouble::of_node`.
                let (peer, trouble) = key.strip_prefix("node_")?.split_once('_')?;
                Some((vec![peer.to_owned(), trouble.to_owned()], 1))
            }),
        )?;
        each(
            to,
            &TURNED_AWAY,
            node.turned_away.iter().map(|(side, reason, count)| {
                (vec![side.name().to_owned(), reason.name().to_owned()], *count)
            }),
        )?;
        each(
            to,
            &GOSSIP_DROPPED,
            node.gossip_dropped.iter().map(|(reason, count)| (vec![(*reason).to_owned()], *count)),
        )?;
        each(
            to,
            &SHARD_AGE,
            node.shards
                .iter()
                .enumerate()
                .map(|(number, shard)| (vec![number.to_string()], shard.age_seconds)),
        )?;
        let shards = node
            .shards
            .iter()
            .enumerate()
            .map(|(number, shard)| (&*shard.numbers, vec![("shard", number.to_string())]));
        table(to, SHARD, &shards.collect::<Vec<_>>())?;
        let of = |it: &PartitionNumbers| vec![("partition", it.partition.0.to_string())];
        table(to, PARTITION, &self.partitions().map(|it| (it, of(it))).collect::<Vec<_>>())?;
        let peers = self.partitions().flat_map(|it| {
            it.peers.iter().map(move |peer| {
                let labels = [of(it), vec![("peer", peer.node.to_string())]].concat();
                (peer, labels)
            })
        });
        table(to, PEER, &peers.collect::<Vec<_>>())?;
        each(
            to,
            &VERDICTS,
            self.partitions().flat_map(|it| {
                let partition = it.partition.0.to_string();
                it.verdicts.iter().map(move |(verdict, count)| {
                    (vec![partition.clone(), verdict.name().to_owned()], *count)
                })
            }),
        )?;
        for times in &TIMES {
            put(to, &times.head, |family| {
                self.partitions().try_for_each(|it| {
                    let (latency, labels) = ((times.of)(it), of(it));
                    let mut sample = family.encode_family(&labels)?;
                    let (sum, count) = (latency.sum_seconds(), latency.count());
                    sample.encode_histogram::<NoLabelSet>(sum, count, &latency.buckets(), None)
                })
            })?;
        }
        Ok(())
    }
}

fn put(
    to: &mut DescriptorEncoder<'_>,
    head: &Head,
    samples: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let unit = head.metric_unit();
    samples(&mut to.encode_descriptor(head.name, head.help, unit.as_ref(), head.metric_type())?)
}

/// A metric with these values of its labels.
fn each(
    to: &mut DescriptorEncoder<'_>,
    head: &Head,
    mut samples: impl Iterator<Item = (Vec<String>, u64)>,
) -> fmt::Result {
    put(to, head, |family| {
        samples.try_for_each(|(labels, value)| {
            let labels: Labels = head.labels.iter().copied().zip(labels).collect();
            number(family, head.kind, &labels, value)
        })
    })
}

/// All metrics of a table, of each of `all` with its labels.
fn table<T>(
    to: &mut DescriptorEncoder<'_>,
    table: &[Family<T>],
    all: &[(&T, Labels)],
) -> fmt::Result {
    table.iter().try_for_each(|Family { head, samples }| {
        put(to, head, |family| {
            all.iter().try_for_each(|(it, labels)| {
                samples.iter().try_for_each(|Sample { label, value, .. }| {
                    let Some(value) = value(it) else { return Ok(()) };
                    let mut labels = labels.clone();
                    if let (false, Some(name)) = (label.is_empty(), head.labels.last()) {
                        labels.push((name, (*label).to_owned()));
                    }
                    number(family, head.kind, &labels, value)
                })
            })
        })
    })
}

fn number(
    family: &mut MetricEncoder<'_>,
    kind: Kind,
    labels: &impl EncodeLabelSet,
    value: u64,
) -> fmt::Result {
    let mut sample = family.encode_family(labels)?;
    match kind {
        Kind::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => sample.encode_gauge(&value),
    }
}
