//! A leader that is killed under load.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{Config, new_event_id};
use walengine_net::model::{Amount, Code, LedgerId, Transfer};

use super::{CONNECTIONS, ClusterFaults, NODES};
use crate::cluster::{Cluster, PARTITION};
use crate::error::{During, Failed, Result, failed};
use crate::load::{self, LoadArguments};
use crate::run::ELECTION;
use crate::stats::Spread;

/// Clients that wait for the next leader; the first answer counts.
const WAITERS: usize = 4;
/// How long a client waits for the next leader.
const FAILOVER_WITHIN: Duration = Duration::from_secs(20);
/// Load before a leader is killed.
const LOADED_FOR: Duration = Duration::from_millis(500);

impl ClusterFaults<'_> {
    /// Kills the leader under load, many times.
    pub(super) fn failover(&mut self) -> Result<()> {
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

/// Time from the kill to the first answer to a write that was sent after it.
fn kill_leader(cluster: &mut Cluster, leader: usize) -> Result<Duration> {
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.client.to_string()).collect();
    let (addresses, killed) = (&addresses.join(","), &Mutex::new(None::<Instant>));
    let load = LoadArguments {
        connections: CONNECTIONS,
        seconds: FAILOVER_WITHIN.as_secs_f64(),
        ..LoadArguments::to(cluster.nodes[leader].client)
    };
    std::thread::scope(|scope| {
        // The load ends with the leader.
        scope.spawn(move || load::run(&load).is_err());
        let waiters: Vec<_> =
            (0..WAITERS).map(|_| scope.spawn(|| wait_for_leader(addresses, killed))).collect();
        std::thread::sleep(LOADED_FOR);
        if let Ok(mut killed) = killed.lock() {
            *killed = Some(Instant::now());
        }
        cluster.kill(leader)?;
        let mut shortest = None;
        for waiter in waiters {
            let took = waiter.join().map_err(|_| Failed("a client panicked".into()))?;
            let took = took?;
            shortest = Some(shortest.map_or(took, |shortest: Duration| shortest.min(took)));
        }
        shortest.map_or_else(|| failed("nobody waited"), Ok)
    })
}

/// Sends one transfer after another until one that was sent after the kill is answered.
fn wait_for_leader(addresses: &str, killed: &Mutex<Option<Instant>>) -> Result<Duration> {
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
        // Any verdict counts: the event was committed.
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
