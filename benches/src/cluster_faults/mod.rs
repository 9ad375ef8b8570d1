//! Clusters under faults: the cost of a slow follower, of a node that joins and of a dead leader.
//!
//! Half load is half of what 64 connections with one transfer each reach on the healthy cluster,
//! sent at a fixed rate. Latency counts from the time at which a request should have been sent.

mod failover;
mod join;
mod slow;

use crate::arguments::{PlaceArguments, wants};
use crate::cluster::Cluster;
use crate::error::{During, Result, failed};
use crate::figures::Figures;
use crate::load::{self, LoadArguments, LoadReport};
use crate::run::{ELECTION, wait_for_quiet};
use crate::server::{Program, Scratch};

/// Nodes of each cluster.
const NODES: usize = 3;
/// Connections of the half load.
const CONNECTIONS: usize = 64;
/// Requests that may be unanswered on each of them at a fixed rate.
const INFLIGHT: u16 = 64;

/// Extent of the measurements.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultsArguments {
    /// Directory, server and results
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Only this: `slow`, `join` or `failover`
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,

    /// Rounds of healthy, paused and slow
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,

    /// How long each load takes, in seconds
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,

    /// Transfers in the log of the cluster that a node joins
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub transfers: u64,

    /// Number of times that the leader is killed
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub kills: usize,
}

struct ClusterFaults<'a> {
    arguments: &'a FaultsArguments,
    program: Program,
    report: Figures,
}

/// Runs all of it.
pub fn command(arguments: &FaultsArguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.place.dir).during("creating --dir")?;
    let program = Program::find(arguments.place.server.as_deref())?;
    let mut faults = ClusterFaults { arguments, program, report: Figures::default() };
    let wants = |name| wants(arguments.case.as_ref(), name);
    if wants("slow") {
        faults.slow_follower()?;
    }
    if wants("join") {
        faults.join()?;
    }
    if wants("failover") {
        faults.failover()?;
    }
    faults.report.finish(&arguments.place.out, "cluster-faults")
}

impl ClusterFaults<'_> {
    fn form(&self, name: &str) -> Result<(Cluster, usize)> {
        let scratch = Scratch::create(&self.arguments.place.dir, name)?;
        let mut cluster = Cluster::form(&self.program, scratch, NODES, ELECTION)?;
        let leader = cluster.wait_whole(NODES)?;
        wait_for_quiet(&cluster.nodes[leader].data)?;
        Ok((cluster, leader))
    }

    /// Half of what the healthy cluster reaches, in requests a second.
    fn half_load(&self, cluster: &Cluster, leader: usize) -> Result<f64> {
        let peak = Self::load(cluster, leader, None, self.arguments.seconds)?;
        println!("peak {:.0}/s with {CONNECTIONS} connections", peak.events_per_second);
        Ok(peak.events_per_second / 2.0)
    }

    fn load(
        cluster: &Cluster,
        leader: usize,
        rate: Option<f64>,
        seconds: f64,
    ) -> Result<LoadReport> {
        load::run(&LoadArguments {
            connections: CONNECTIONS,
            inflight: if rate.is_some() { INFLIGHT } else { 1 },
            seconds,
            warmup: seconds / 8.0,
            rate,
            ..LoadArguments::to(cluster.nodes[leader].client)
        })
    }

    fn still_leads(cluster: &mut Cluster, leader: usize) -> Result<()> {
        if cluster.wait_whole(NODES)? == leader {
            return Ok(());
        }
        failed("leadership has moved: these figures are of two leaders")
    }
}
