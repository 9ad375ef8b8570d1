//! A node that joins a cluster with a long log.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;

use super::{CONNECTIONS, ClusterFaults, INFLIGHT};
use crate::cluster::{Cluster, PARTITION};
use crate::error::{During, Failed, Result, failed};
use crate::limits::{FILL_BATCH, SAMPLE_INTERVAL};
use crate::load::{self, LoadArguments};
use crate::stats::ratio;

/// The new node has caught up when it is this many entries behind the leader: next to nothing at
/// half load.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// How long the new node may take.
const JOIN_WITHIN: Duration = Duration::from_mins(2);

impl ClusterFaults<'_> {
    /// A fourth node joins a cluster with a long log.
    pub(super) fn join(&mut self) -> Result<()> {
        let (mut cluster, leader) = self.form("join")?;
        load::run(&LoadArguments {
            batch: FILL_BATCH,
            inflight: 4,
            requests: Some(self.arguments.transfers.div_ceil(FILL_BATCH as u64)),
            ..LoadArguments::to(cluster.nodes[leader].client)
        })?;
        Self::still_leads(&mut cluster, leader)?;
        let rate = self.half_load(&cluster, leader)?;
        let seconds = self.arguments.seconds;
        let mut healthy = Vec::new();
        for _ in 0..self.arguments.rounds {
            healthy.push(Self::load(&cluster, leader, Some(rate), seconds)?.latency_micros.p99);
        }
        let healthy = self.report.figure("leader's p99 us before a node joins", healthy);
        let place = cluster.add()?;
        let joined = AtomicBool::new(false);
        let meanwhile = Mutex::new(Vec::new());
        cluster.start(place, None)?;
        let started = Instant::now();
        let (cluster, joined, meanwhile) = (&mut cluster, &joined, &meanwhile);
        let client = cluster.nodes[leader].client;
        let window = LoadArguments {
            connections: CONNECTIONS,
            inflight: INFLIGHT,
            seconds: 1.0,
            rate: Some(rate),
            ..LoadArguments::to(client)
        };
        let (first, bytes, caught_up) = std::thread::scope(|scope| {
            let loading = scope.spawn(move || -> Result<()> {
                while !joined.load(Ordering::Relaxed) {
                    let p99 = load::run(&window)?.latency_micros.p99;
                    meanwhile.lock().map_err(|_| Failed("poisoned".into()))?.push(p99);
                }
                Ok(())
            });
            let seen = watch_join(cluster, leader, started);
            joined.store(true, Ordering::Relaxed);
            loading.join().map_err(|_| Failed("the load has panicked".into()))??;
            seen
        })?;
        let copied_mb = copied_mb(&cluster.nodes[place].data.with_extension("log"))?;
        let rate_mb = (copied_mb + ratio(bytes, 1) / 1e6) / caught_up.as_secs_f64();
        let p99s = meanwhile.lock().map_or_else(|_| Vec::new(), |values| values.clone());
        self.report.figure("seconds from start to the first entry", vec![first.as_secs_f64()]);
        self.report.figure("seconds from start until caught up", vec![caught_up.as_secs_f64()]);
        self.report.figure("MB of log copied", vec![copied_mb]);
        self.report.figure("MB of log sent by consensus", vec![ratio(bytes, 1) / 1e6]);
        let rate_mb = self.report.figure("MB/s of log", vec![rate_mb]);
        let ratios = p99s.iter().map(|p99| p99 / healthy.median).collect();
        self.report.figure("leader's p99 us while a node joins, each second", p99s);
        let ratios = self.report.figure("ratio, each second of it", ratios);
        let from = format!("{} transfers, half load {rate:.0}/s", self.arguments.transfers);
        self.report.target(
            "a node joins: MB/s of log until caught up",
            200.0,
            false,
            Some(rate_mb),
            &from,
        );
        self.report.target(
            "a node joins: leader's p99 over before",
            2.0,
            true,
            Some(ratios),
            &from,
        );
        Ok(())
    }
}

/// MB of log that a node copied before it joined its group, according to its own log file.
fn copied_mb(log: &Path) -> Result<f64> {
    let said = std::fs::read_to_string(log).during("reading a node's log")?;
    let mib = said.lines().find_map(|line| {
        let (_, behind) = line.split_once(": copied ")?;
        behind.split_once(" entries, ")?.1.split_once(" MiB")?.0.parse::<u32>().ok()
    });
    Ok(mib.map_or(0.0, |mib| f64::from(mib) * 1.048_576))
}

/// Watches the newest node until it has caught up. Returns when the first entry was sent to it, how
/// many bytes were, and when it had caught up.
fn watch_join(
    cluster: &mut Cluster,
    leader: usize,
    started: Instant,
) -> Result<(Duration, u64, Duration)> {
    let client = cluster.nodes.last().map(|node| node.client.to_string()).unwrap_or_default();
    let mut first = None;
    while started.elapsed() < JOIN_WITHIN {
        std::thread::sleep(SAMPLE_INTERVAL);
        let Ok(report) = cluster.ask(leader, Client::cluster_status) else { continue };
        let found = report.nodes.values().find(|node| node.client_address == client);
        let Some(node) = found.map(|node| node.node) else { continue };
        let Some(replica) = report.replicas.get(&(PARTITION, node)) else { continue };
        let bytes = cluster.bytes_to(leader, node)?;
        if bytes == 0 {
            continue;
        }
        let first = *first.get_or_insert_with(|| started.elapsed());
        if replica.lag_entries <= CAUGHT_UP_ENTRIES {
            return Ok((first, bytes, started.elapsed()));
        }
    }
    failed("the new node does not catch up")
}
