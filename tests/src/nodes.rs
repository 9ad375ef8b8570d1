//! Real nodes of one cluster, each in its own network namespace, which tests kill, pause and cut
//! off. Clients of the test reach all of them at any time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use walengine_net::frame::Kind;
use walengine_net::message::{ClusterStatus, ClusterStatusReply, NodeHealth, ReplicaRole};
use walengine_net::tls::Tls;

use crate::network::Network;
use crate::server::{Launch, Server, TestDir, run_command};
use crate::wire::Wire;

/// Where every node serves its clients.
const CLIENT_PORT: u16 = 7450;
/// Where every node serves its peers.
pub const PEER_PORT: u16 = 7550;
/// How long a cluster may take to form, or to have a leader again.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a node may take to answer about itself.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The cluster's id.
    pub cluster: u128,
    /// Who tells.
    pub node: u64,
    /// Who leads; 0 if not known.
    pub leader: u64,
    /// The newest term known there.
    pub term: u64,
    /// The nodes: id, health and where they serve peers.
    pub nodes: Vec<(u64, NodeHealth, String)>,
    /// The members of the group.
    pub members: Vec<(u64, ReplicaRole)>,
}

/// A cluster.
#[derive(Debug)]
pub struct Nodes {
    servers: Vec<Option<Server>>,
    launches: Vec<Launch>,
    paused: Vec<bool>,
    network: Network,
    dir: TestDir,
}

impl Nodes {
    /// Starts `count` new nodes that form a cluster of one partition, and waits until it has a
    /// leader.
    ///
    /// # Panics
    /// If it does not form.
    pub fn start(test: &str, count: usize, configure: impl Fn(Launch) -> Launch) -> Self {
        let mut nodes = Self::prepare(test, count, 0, |launch, _| configure(launch));
        nodes.form(count);
        nodes
    }

    /// As [`Self::start`], but starts none; with `spare` more places for nodes that join later.
    pub fn prepare(
        test: &str,
        count: usize,
        spare: usize,
        configure: impl Fn(Launch, &Network) -> Launch,
    ) -> Self {
        let (dir, network) = (TestDir::new(test), Network::new(count + spare));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let launch = |node: usize| {
            let home = dir.path().join(format!("node{node}"));
            std::fs::create_dir_all(&home).unwrap();
            let others = (0..count).filter(|other| *other != node);
            let peers: Vec<_> =
                others.map(|other| format!("{}:{PEER_PORT}", network.address(other))).collect();
            let space = network.namespace(node);
            let launch = Launch::new(&home)
                .through(&["ip", "netns", "exec", &space])
                .set("--insecure", "true") // nobody else is in the namespaces
                .set("--listen", &format!("{}:{CLIENT_PORT}", network.address(node)))
                .set("--peer-listen", &format!("{}:{PEER_PORT}", network.address(node)))
                .set("--join", &peers.join(","))
                .set("--first-core", &(node % cores).to_string())
                .set("--partitions", "1");
            let founds = node < count;
            let launch = if founds { launch.set("--expect", &count.to_string()) } else { launch };
            configure(launch, &network)
        };
        let launches: Vec<_> = (0..count + spare).map(launch).collect();
        let servers = launches.iter().map(|_| None).collect();
        Self { servers, paused: vec![false; launches.len()], launches, network, dir }
    }

    /// Starts the first `count` nodes, and waits until they have formed a cluster.
    ///
    /// # Panics
    /// If they do not.
    pub fn form(&mut self, count: usize) {
        for node in 0..count {
            self.spawn(node);
        }
        self.wait_until_serving();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// How a node is started.
    pub fn launch(&self, node: usize) -> &Launch {
        &self.launches[node]
    }

    /// Has a node that does not run keep its data elsewhere.
    pub fn set_data(&mut self, node: usize, data: &std::path::Path) {
        self.launches[node] = self.launches[node].clone().data(data);
    }

    /// Their network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where a node serves its clients.
    pub fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((self.network.address(node), CLIENT_PORT))
    }

    /// Where a node serves its peers.
    pub fn peer_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((self.network.address(node), PEER_PORT))
    }

    /// Where all serve their clients.
    pub fn addresses(&self) -> String {
        let addresses = (0..self.count()).map(|node| self.address(node).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The process of a node.
    ///
    /// # Panics
    /// If it does not run.
    pub fn server(&mut self, node: usize) -> &mut Server {
        self.servers[node].as_mut().expect("it runs")
    }

    /// It was started and not killed.
    pub fn runs(&self, node: usize) -> bool {
        self.servers[node].is_some()
    }

    /// Starts a node, without waiting.
    pub fn spawn(&mut self, node: usize) {
        self.servers[node] = Some(self.launches[node].spawn());
    }

    /// Waits until all nodes that run serve and one of them leads.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn wait_until_serving(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            server.wait_until_serving();
        }
        self.leader();
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.paused[node] = false;
        if let Some(mut server) = self.servers[node].take() {
            server.kill();
            let log = server.log();
            assert!(!log.contains("panicked"), "node {node}:\n{log}");
        }
    }

    /// Stops a node's clock: it does nothing, and its connections stay.
    pub fn pause(&mut self, node: usize) {
        self.signal(node, "-STOP");
        self.paused[node] = true;
    }

    /// A paused node goes on as if nothing had happened.
    pub fn resume(&mut self, node: usize) {
        self.paused[node] = false;
        self.signal(node, "-CONT");
    }

    fn signal(&mut self, node: usize, signal: &str) {
        let id = self.server(node).process_id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success(), "node {node} is gone:\n{}", self.log(node));
    }

    /// Cuts a node off from all others, both ways; clients still reach it.
    pub fn isolate(&self, node: usize) {
        self.deafen(node);
        self.mute(node);
    }

    /// Nothing that the others send reaches the node.
    pub fn deafen(&self, node: usize) {
        for other in (0..self.count()).filter(|other| *other != node) {
            self.network.cut(other, node);
        }
    }

    /// Nothing that the node sends reaches the others.
    pub fn mute(&self, node: usize) {
        for other in (0..self.count()).filter(|other| *other != node) {
            self.network.cut(node, other);
        }
    }

    /// Joins all that was cut.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// A connection to a node, greeted.
    ///
    /// # Panics
    /// If there is none.
    pub fn wire(&self, node: usize) -> Wire {
        Wire::greeted(self.address(node), 0).unwrap()
    }

    /// What a node has said since it was started.
    pub fn log(&self, node: usize) -> String {
        self.servers[node].as_ref().map(Server::log).unwrap_or_default()
    }

    /// How far each node is, then the last lines of its log and its status, for a failing test. Of what a failing test
    /// says, often only the beginning is kept.
    pub fn logs(&self) -> String {
        const TOLD: [&str; 4] = ["term", "last_index", "durable_index", "next_offset"];
        let statuses: Vec<_> = (0..self.count()).map(|node| self.status(node)).collect();
        let mut text = String::new();
        for (node, status) in statuses.iter().enumerate() {
            let told = status.lines().filter_map(|line| line.strip_prefix("partition 0 "));
            let words = told.map(|line| line.split_whitespace().collect::<Vec<_>>());
            let far = words.filter(|words| TOLD.contains(&words[0])).map(|words| words.join(" "));
            let far = far.collect::<Vec<_>>().join(", ");
            text.extend(["node ", &node.to_string(), ": ", &far, "\n"]);
        }
        for (node, status) in statuses.iter().enumerate() {
            let log = self.log(node);
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            let view = format!("{:?}", self.view(node));
            let head = ["--- node ", &node.to_string(), ": ", &view, "\n"].concat();
            text.extend([&head[..], &last.join("\n"), "\n", status, "\n"]);
        }
        text
    }

    /// What `walengine status` says of a node, and `walengine cluster` of the members; nothing if it is not there.
    fn status(&self, node: usize) -> String {
        if !self.runs(node) {
            return String::new();
        }
        let address = self.address(node).to_string();
        let said = ["status", "cluster"].map(|command| {
            let output = run_command(None, &self.dir(), &[command, "--server", &address]);
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        said.concat()
    }

    /// What a node knows of the cluster; `None` if it does not tell.
    pub fn view(&self, node: usize) -> Option<View> {
        view_of(self.address(node), None)
    }

    /// The node that takes itself for the leader, in the newest term; `None` if none does.
    pub fn find_leader(&self) -> Option<usize> {
        let asked = (0..self.count()).filter(|node| self.runs(*node) && !self.paused[*node]);
        let leads = |node: usize| {
            let view = self.view(node)?;
            (view.leader == view.node).then_some((view.term, node))
        };
        asked.filter_map(leads).max().map(|(_, node)| node)
    }

    /// Waits until one leads.
    ///
    /// # Panics
    /// If none does.
    pub fn leader(&self) -> usize {
        self.leader_but(None)
    }

    /// Waits until one leads that is not `but`.
    ///
    /// # Panics
    /// If none does.
    pub fn leader_but(&self, but: Option<usize>) -> usize {
        let by = Instant::now() + PATIENCE;
        loop {
            match self.find_leader() {
                Some(leader) if Some(leader) != but => return leader,
                _ => {}
            }
            assert!(Instant::now() < by, "nobody leads:\n{}", self.logs());
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What the node at an address knows of the cluster; `None` if it does not tell.
pub fn view_of(address: SocketAddr, tls: Option<&Tls>) -> Option<View> {
    let mut wire = Wire::greeted_within(address, 0, tls, ANSWER_WITHIN).ok()?;
    let reply = wire.call(&ClusterStatus::default()).ok()?;
    if reply.kind != Kind::ClusterStatusReply {
        return None;
    }
    let status = reply.open::<ClusterStatusReply<'_>>();
    let group = status.groups.first()?;
    let nodes = status
        .nodes
        .iter()
        .map(|row| (row.node.to_native(), row.health(), row.peer_address.to_string()));
    Some(View {
        cluster: status.cluster.to_native(),
        node: status.node.to_native(),
        leader: group.leader.to_native(),
        term: group.term.to_native(),
        nodes: nodes.collect(),
        members: status.replicas.iter().map(|row| (row.node.to_native(), row.role())).collect(),
    })
}
