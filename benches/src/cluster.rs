//! A cluster of walengine servers on this machine, which the benchmark starts, queries and
//! disturbs. Nodes share the cores in turn. Each has its own data directory under one scratch
//! directory.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use walengine_net::client::blocking::Client;
use walengine_net::client::{ClusterReport, Config};
use walengine_net::model::PartitionId;

use crate::error::{During, Result, failed};
use crate::leader_counts::LeaderCounts;
use crate::server::{Program, Scratch};
use crate::system::{self, free_address};

/// How long forming, or electing a leader, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two status requests.
const STATUS_INTERVAL: Duration = Duration::from_millis(10);
/// How long one request may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// A cluster is whole when every follower is behind by at most this many entries.
const LAG_MAX: u64 = 64;
/// The only partition: figures are of one Raft group.
pub const PARTITION: PartitionId = PartitionId(0);

/// A server of a cluster; killed when dropped.
pub struct Node {
    child: Option<Child>,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where peers connect.
    pub peer: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    core: usize,
}

/// The nodes of a cluster.
pub struct Cluster {
    program: Program,
    election: Duration,
    /// In the order in which they were added; the place is not the node's id. Declared before the
    /// scratch directory, so that nodes end before their directories are removed.
    pub nodes: Vec<Node>,
    scratch: Scratch,
}

impl Cluster {
    /// Starts `nodes` nodes and waits until they have formed a cluster and one leads.
    pub fn form(
        program: &Program,
        scratch: Scratch,
        nodes: usize,
        election: Duration,
    ) -> Result<Self> {
        let mut cluster = Self { program: program.clone(), scratch, election, nodes: Vec::new() };
        for _ in 0..nodes {
            cluster.add()?;
        }
        for place in 0..nodes {
            cluster.start(place, Some(nodes))?;
        }
        cluster.wait_whole(nodes)?;
        cluster.settle(nodes)?;
        Ok(cluster)
    }

    /// Moves leadership to the node that the engine prefers, so that it does not move later.
    fn settle(&mut self, nodes: usize) -> Result<usize> {
        let Some((leader, report)) = self.look()? else { return self.wait_whole(nodes) };
        let first = report.nodes.keys().next().copied();
        let moved = self.ask(leader, |client| client.transfer_leadership(PARTITION, first));
        if let Err(error) = moved {
            eprintln!("walengine-bench: leadership does not move: {error}");
        }
        self.wait_whole(nodes)
    }

    /// Adds a node without starting it.
    pub fn add(&mut self) -> Result<usize> {
        let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let place = self.nodes.len();
        let data = self.scratch.0.join(format!("node-{place}"));
        let (client, peer) = (free_address()?, free_address()?);
        self.nodes.push(Node { child: None, client, peer, data, core: place % machine });
        Ok(place)
    }

    /// Starts a node that is not running.
    pub fn start(&mut self, place: usize, expect: Option<usize>) -> Result<()> {
        let others = self.nodes.iter().enumerate().filter(|&(other, _)| other != place);
        let join: Vec<String> = others.map(|(_, node)| node.peer.to_string()).collect();
        let node = &mut self.nodes[place];
        let log = File::options().create(true).append(true).open(node.data.with_extension("log"));
        let mut command = Command::new(&self.program.path);
        command
            .args(["--cores", "1", "--first-core", &node.core.to_string(), "--partitions", "1"])
            .args(["--listen", &node.client.to_string(), "--peer-listen", &node.peer.to_string()])
            .args(["--join", &join.join(","), "--reserve-mib", "64"])
            .args(["--election-millis", &self.election.as_millis().to_string(), "--data"])
            .arg(&node.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.during("creating a node's log")?);
        if let Some(expect) = expect {
            command.args(["--expect", &expect.to_string()]);
        }
        node.child = Some(command.spawn().during("starting a node")?);
        Ok(())
    }

    /// Waits until one node leads and `nodes` replicas hold nearly all of its log. Returns its
    /// place.
    pub fn wait_whole(&mut self, nodes: usize) -> Result<usize> {
        let since = Instant::now();
        loop {
            if let Some((leader, report)) = self.look()? {
                let close =
                    report.replicas.values().filter(|one| one.lag_entries <= LAG_MAX).count();
                if close >= nodes {
                    return Ok(leader);
                }
            }
            if since.elapsed() > PATIENCE {
                return failed(format!("no whole cluster of {nodes} nodes; {}", self.last_words()));
            }
            std::thread::sleep(STATUS_INTERVAL);
        }
    }

    /// The leader's place and its report of the cluster, if there is a leader.
    pub fn look(&mut self) -> Result<Option<(usize, ClusterReport)>> {
        for place in 0..self.nodes.len() {
            let Some(child) = &mut self.nodes[place].child else { continue };
            if let Some(status) = child.try_wait().during("looking at a node")? {
                return failed(format!("node {place} has ended, {status}; {}", self.last_words()));
            }
            let Ok(report) = self.ask(place, Client::cluster_status) else { continue };
            let leader = report.groups.get(&PARTITION).and_then(|group| group.leader);
            let address = leader.and_then(|id| report.nodes.get(&id));
            let Some(address) = address.map(|node| node.client_address.clone()) else { continue };
            let found = self.nodes.iter().position(|node| node.client.to_string() == address);
            if found == Some(place) {
                return Ok(Some((place, report)));
            }
        }
        Ok(None)
    }

    /// Asks one node over a new connection.
    pub fn ask<T, E: std::fmt::Display>(
        &self,
        place: usize,
        question: impl FnOnce(&Client) -> std::result::Result<T, E>,
    ) -> Result<T> {
        let address = self.nodes[place].client.to_string();
        let config = Config { deadline: ASK_WITHIN, ..Config::new(&address) };
        let client = Client::connect(config).during(&address)?;
        question(&client).during(&address)
    }

    /// Counters from a node's status.
    pub fn counts(&self, place: usize) -> Result<LeaderCounts> {
        let report = self.ask(place, |client| client.server_status(PARTITION))?;
        let mut counts = LeaderCounts::default();
        for (of, name, value) in report.numbers {
            if of != Some(PARTITION) {
                continue;
            }
            match name.as_str() {
                "flushes_since_start" => counts.flushes = value,
                "flushes_inflight_max" => counts.flushes_inflight_max = value,
                name if name.starts_with("appends_to_node_") => counts.appends += value,
                name if name.starts_with("append_bytes_to_node_") => counts.append_bytes += value,
                name if name.starts_with("appends_inflight_max_to_node_") => {
                    counts.appends_inflight_max.push(value);
                }
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Bytes of entries that a node has sent to the node with this id.
    pub fn bytes_to(&self, place: usize, node: u64) -> Result<u64> {
        let wanted = format!("append_bytes_to_node_{node}");
        let report = self.ask(place, |client| client.server_status(PARTITION))?;
        let found = report.numbers.iter().find(|(_, name, _)| *name == wanted);
        Ok(found.map_or(0, |&(_, _, value)| value))
    }

    /// Process ids of the running nodes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(Child::id).collect()
    }

    /// Sends a signal to a node.
    pub fn signal(&self, place: usize, signal: Signal) -> Result<()> {
        let Some(pid) = self.pid(place) else { return failed("the node is not running") };
        system::signal(pid, signal)
    }

    /// Kills a node.
    pub fn kill(&mut self, place: usize) -> Result<()> {
        let Some(mut child) = self.nodes[place].child.take() else { return Ok(()) };
        child.kill().during("killing a node")?;
        child.wait().during("killing a node")?;
        Ok(())
    }

    /// A node's process id, if it runs.
    pub fn pid(&self, place: usize) -> Option<u32> {
        self.nodes[place].child.as_ref().map(Child::id)
    }

    fn last_words(&self) -> String {
        let last = |node: &Node| {
            let log = std::fs::read_to_string(node.data.with_extension("log")).unwrap_or_default();
            log.lines().last().unwrap_or("its log is empty").to_owned()
        };
        let words: Vec<String> = self.nodes.iter().map(last).collect();
        format!("last words of the nodes: {}", words.join(" | "))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
