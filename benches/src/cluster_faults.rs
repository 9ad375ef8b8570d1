//! Clusters under faults: what a slow follower, a node that joins and a dead leader cost.
//!
//! Half load is half of what 64 connections with one transfer each reach on the healthy cluster,
//! sent at a fixed rate; latency counts from when a request should have been sent.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{Config, new_event_id};
use walengine_net::model::{Amount, Code, LedgerId, Transfer};

use crate::cluster::{Cluster, PARTITION};
use crate::error::{During, Result, failed};
use crate::figures::Figures;
use crate::floor::{RawFile, RawReport};
use crate::load::{self, LoadArguments, LoadReport};
use crate::run::{ELECTION, wait_for_quiet};
use crate::server::{Program, Scratch};
use crate::stats::{Spread, ratio};
use crate::throttle::SlowDisk;

/// Nodes of each cluster.
const NODES: usize = 3;
/// Connections of the half load.
const CONNECTIONS: usize = 64;
/// Requests that may be unanswered on each of them at a fixed rate.
const INFLIGHT: u16 = 64;
/// The slow disk is this many times slower.
const SLOWER: f64 = 100.0;
/// Transfers in a batch that fills a log.
const FILL_BATCH: usize = 8190;
/// Entries behind the leader at which a new node counts as caught up: a blink at half load.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// How long a new node may take.
const JOIN_WITHIN: Duration = Duration::from_mins(2);
/// Pause between two looks at a new node.
const LOOK: Duration = Duration::from_millis(20);
/// Clients that wait for the next leader; the first answer counts.
const WAITERS: usize = 4;
/// How long a client waits for the next leader.
const FAILOVER_WITHIN: Duration = Duration::from_secs(20);
/// Load before a leader is killed.
const LOADED_FOR: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultsArguments {
    /// Directory on the disk to use; what is written there is removed again
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Only this: `slow`, `join` or `failover`
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,

    /// Rounds of healthy and slow
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,

    /// How long each load takes, in seconds
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,

    /// Transfers in the log of the cluster that a node joins
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub transfers: u64,

    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub kills: usize,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,

    /// Where JSON goes
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
}

struct Faults<'a> {
    arguments: &'a FaultsArguments,
    program: Program,
    report: Figures,
}

/// Runs all of it.
pub fn command(arguments: &FaultsArguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.dir).during("creating --dir")?;
    let program = Program::find(arguments.server.as_deref())?;
    let mut faults = Faults { arguments, program, report: Figures::default() };
    let wants = |name: &str| arguments.case.as_ref().is_none_or(|case| name.contains(&**case));
    if wants("slow") {
        faults.slow_follower()?;
    }
    if wants("join") {
        faults.join()?;
    }
    if wants("failover") {
        faults.failover()?;
    }
    faults.report.finish(&arguments.out, "cluster-faults")
}

impl Faults<'_> {
    fn form(&self, name: &str) -> Result<(Cluster, usize)> {
        let scratch = Scratch::create(&self.arguments.dir, name)?;
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

    /// Healthy, slow disk, healthy, paused: round after round, on one cluster.
    fn slow_follower(&mut self) -> Result<()> {
        let (mut cluster, leader) = self.form("slow")?;
        let rate = self.half_load(&cluster, leader)?;
        let follower = (leader + 1) % NODES;
        let Some(pid) = cluster.pid(follower) else { return failed("the follower has ended") };
        let disk = SlowDisk::create(&cluster.nodes[follower].data)
            .and_then(|disk| disk.add(pid).map(|()| disk));
        let writes_per_second = match &disk {
            Ok(disk) => Some(self.slowness(disk)?),
            Err(why) => {
                println!("no slow disk can be made here: {why}");
                None
            }
        };
        wait_for_quiet(&cluster.nodes[leader].data)?; // the raw file was written
        let (mut slow, mut paused) = (Vec::new(), Vec::new());
        let (mut healthy_p99, mut slow_p99, mut paused_p99) = (Vec::new(), Vec::new(), Vec::new());
        let seconds = self.arguments.seconds;
        for _ in 0..self.arguments.rounds {
            let healthy = Self::load(&cluster, leader, Some(rate), seconds)?.latency_micros.p99;
            healthy_p99.push(healthy);
            cluster.signal(follower, libc::SIGSTOP)?;
            let load = Self::load(&cluster, leader, Some(rate), seconds);
            cluster.signal(follower, libc::SIGCONT)?;
            let load = load?.latency_micros.p99;
            paused_p99.push(load);
            paused.push(load / healthy);
            Self::still_leads(&mut cluster, leader)?;
            let (Ok(disk), Some(writes)) = (&disk, writes_per_second) else { continue };
            let healthy = Self::load(&cluster, leader, Some(rate), seconds)?.latency_micros.p99;
            healthy_p99.push(healthy);
            disk.limit(writes)?;
            let load = Self::load(&cluster, leader, Some(rate), seconds);
            disk.limit(0)?;
            let load = load?.latency_micros.p99;
            slow_p99.push(load);
            slow.push(load / healthy);
            Self::still_leads(&mut cluster, leader)?;
        }
        let from = format!("half load, {rate:.0}/s");
        self.report.figure("leader's p99 us, healthy", healthy_p99);
        self.report.figure("leader's p99 us, a follower paused", paused_p99);
        let paused = self.report.figure("ratio, a follower paused", paused);
        let what = "a follower paused: leader's p99 over healthy";
        self.report.target(what, 3.0, true, Some(paused), &from);
        let what = "a follower's disk 100 times slower: leader's p99 over healthy";
        let slow = if slow.is_empty() {
            None
        } else {
            self.report.figure("leader's p99 us, a follower's disk slow", slow_p99);
            Some(self.report.figure("ratio, a follower's disk slow", slow))
        };
        self.report.target(what, 3.0, true, slow, &from);
        Ok(())
    }

    /// Writes a second that make commits 100 times slower, and whether they do.
    fn slowness(&mut self, disk: &SlowDisk) -> Result<u64> {
        let raw = RawFile::create(&self.arguments.dir)?;
        let time = Duration::from_secs_f64(self.arguments.seconds / 4.0);
        // Limits let writes through in bursts: their mean counts.
        let mean = |report: RawReport| 1e6 / report.commits_per_second;
        let healthy = mean(raw.commits(1, 1, time)?);
        let slow = Duration::from_secs_f64(healthy * SLOWER / 1e6).as_micros().max(1);
        let writes = (1_000_000 / slow as u64).max(1);
        disk.limit(writes)?;
        let slow = disk.run(|| raw.commits(1, 1, 4 * time).map(mean));
        disk.limit(0)?;
        self.report.figure("raw commit us, mean, healthy", vec![healthy]);
        let name = format!("raw commit us, mean, at most {writes} writes/s");
        self.report.figure(&name, vec![slow?]);
        Ok(writes)
    }

    fn still_leads(cluster: &mut Cluster, leader: usize) -> Result<()> {
        if cluster.wait_whole(NODES)? == leader {
            return Ok(());
        }
        failed("leadership has moved: these figures are of two leaders")
    }

    /// A fourth node joins a cluster with a long log.
    fn join(&mut self) -> Result<()> {
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
                    meanwhile
                        .lock()
                        .map_err(|_| crate::error::Failed("poisoned".into()))?
                        .push(p99);
                }
                Ok(())
            });
            let seen = watch_join(cluster, leader, started);
            joined.store(true, Ordering::Relaxed);
            loading.join().map_err(|_| crate::error::Failed("the load has panicked".into()))??;
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

    /// Kills the leader under load, again and again.
    fn failover(&mut self) -> Result<()> {
        let (mut cluster, _) = self.form("failover")?;
        let mut seconds = Vec::new();
        for _ in 0..self.arguments.kills {
            let leader = cluster.wait_whole(NODES)?;
            seconds.push(kill_leader(&mut cluster, leader)?.as_secs_f64());
            cluster.start(leader, None)?;
        }
        let timeouts = seconds.iter().map(|seconds| seconds / ELECTION.as_secs_f64()).collect();
        let millis = seconds.iter().map(|seconds| seconds * 1e3).collect();
        self.report.figure("milliseconds from kill -9 of the leader to the next write", millis);
        let timeouts = self.report.figure("the same in election timeouts", timeouts);
        let most = Spread { median: timeouts.max, ..timeouts };
        let from = format!("{} kills, election timeout {ELECTION:?}", self.arguments.kills);
        let what = "leader killed: most election timeouts to the next write";
        self.report.target(what, 3.0, true, Some(most), &from);
        Ok(())
    }
}

/// What a node says that it has copied of the log before it joined its group, in MB.
fn copied_mb(log: &Path) -> Result<f64> {
    let said = std::fs::read_to_string(log).during("reading a node's log")?;
    let mib = said.lines().find_map(|line| {
        let (_, behind) = line.split_once(": copied ")?;
        behind.split_once(" entries, ")?.1.split_once(" MiB")?.0.parse::<u32>().ok()
    });
    Ok(mib.map_or(0.0, |mib| f64::from(mib) * 1.048_576))
}

/// When the first entry went to the newest node, how many bytes did until it was caught up, and when
/// it was.
fn watch_join(
    cluster: &mut Cluster,
    leader: usize,
    started: Instant,
) -> Result<(Duration, u64, Duration)> {
    let client = cluster.nodes.last().map(|node| node.client.to_string()).unwrap_or_default();
    let mut first = None;
    while started.elapsed() < JOIN_WITHIN {
        std::thread::sleep(LOOK);
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

/// From the kill to the first answer to a write that was sent after it.
fn kill_leader(cluster: &mut Cluster, leader: usize) -> Result<Duration> {
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.client.to_string()).collect();
    let (addresses, killed) = (&addresses.join(","), &Mutex::new(None::<Instant>));
    let load = LoadArguments {
        connections: CONNECTIONS,
        seconds: FAILOVER_WITHIN.as_secs_f64(),
        ..LoadArguments::to(cluster.nodes[leader].client)
    };
    std::thread::scope(|scope| {
        // It ends with the leader.
        scope.spawn(move || load::run(&load).is_err());
        let waiters: Vec<_> =
            (0..WAITERS).map(|_| scope.spawn(|| wait(addresses, killed))).collect();
        std::thread::sleep(LOADED_FOR);
        if let Ok(mut killed) = killed.lock() {
            *killed = Some(Instant::now());
        }
        cluster.kill(leader)?;
        let mut shortest = None;
        for waiter in waiters {
            let took =
                waiter.join().map_err(|_| crate::error::Failed("a client panicked".into()))?;
            let took = took?;
            shortest = Some(shortest.map_or(took, |shortest: Duration| shortest.min(took)));
        }
        shortest.map_or_else(|| failed("nobody waited"), Ok)
    })
}

/// Writes, one transfer after the other, until one that was sent after the kill is answered.
fn wait(addresses: &str, killed: &Mutex<Option<Instant>>) -> Result<Duration> {
    let config = Config { deadline: FAILOVER_WITHIN, ..Config::new(addresses) };
    let client = Client::connect(config).during("connecting")?;
    let since = Instant::now();
    let accounts = load::accounts(client.info().partitions);
    while since.elapsed() < FAILOVER_WITHIN {
        let transfer = Transfer {
            id: new_event_id(),
            debit_account_id: accounts.0,
            credit_account_id: accounts.1,
            amount: Amount(1),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        };
        let sent = Instant::now();
        // Whatever the verdict is: it was committed.
        let answered = client.submit(PARTITION, &[transfer.to_bytes()]).is_ok();
        let killed = killed.lock().ok().and_then(|killed| *killed);
        if let (true, Some(killed)) = (answered, killed)
            && sent >= killed
        {
            return Ok(killed.elapsed());
        }
    }
    failed("no write was answered after the leader was killed")
}
