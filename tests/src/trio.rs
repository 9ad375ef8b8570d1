//! Three real nodes of one cluster on this machine, without namespaces and so without root, and what
//! befalls their disks.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::{EventBytes, Offset, PartitionId};

use crate::credentials::Credentials;
use crate::nodes::{View, view_of};
use crate::noted_writes::{Writer, accounts_of};
use crate::server::{Launch, Server, TestDir, binary};

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The only one.
pub const PARTITION: PartitionId = PartitionId(0);

/// Waits until something is so.
///
/// # Panics
/// If it is not within a minute, with what `say` says.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool, say: impl Fn() -> String) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "{what}:\n{}", say());
        thread::sleep(LOOK_EVERY);
    }
}

/// An address of this machine that nobody uses, by TCP or UDP.
///
/// # Panics
/// If there is none.
pub fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Three nodes of one cluster on this machine, with one partition.
pub struct Trio {
    /// For the test's own files.
    pub dir: TestDir,
    /// Where each node serves its clients.
    pub clients: Vec<SocketAddr>,
    /// Where each node serves its peers.
    pub peers: Vec<SocketAddr>,
    servers: Vec<Option<Server>>,
    flags: Vec<(&'static str, String)>,
    /// If connections are secured: node 0 is node 1 by its certificate, and so on.
    pub credentials: Option<Credentials>,
}

impl Trio {
    /// Starts three new nodes with these flags, and waits until they have formed a cluster.
    ///
    /// # Panics
    /// If they do not.
    pub fn form(test: &str, flags: &[(&'static str, &str)]) -> Self {
        Self::start(TestDir::new(test), flags, None)
    }

    /// As [`Self::form`], with certificates.
    ///
    /// # Panics
    /// If they do not form a cluster.
    pub fn form_secured(test: &str, flags: &[(&'static str, &str)]) -> Self {
        let dir = TestDir::new(test);
        let credentials = Credentials::make(dir.path());
        Self::start(dir, flags, Some(credentials))
    }

    fn start(
        dir: TestDir,
        flags: &[(&'static str, &str)],
        credentials: Option<Credentials>,
    ) -> Self {
        let addresses = || (0..3).map(|_| free_address()).collect::<Vec<_>>();
        let flags = flags.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
        let (clients, peers) = (addresses(), addresses());
        let mut trio =
            Self { dir, clients, peers, servers: vec![None, None, None], flags, credentials };
        (0..3).for_each(|node| trio.spawn(node, true));
        trio.wait_until_serving();
        trio
    }

    /// The directory of a node.
    pub fn home(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    /// Its data directory.
    pub fn data(&self, node: usize) -> PathBuf {
        self.home(node).join("data")
    }

    /// How a node is started: to found the cluster, or to join it.
    ///
    /// # Panics
    /// If its directory can't be made.
    pub fn launch(&self, node: usize, founds: bool) -> Launch {
        fs::create_dir_all(self.home(node)).unwrap();
        let peers: Vec<_> = self.peers.iter().map(ToString::to_string).collect();
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let launch = Launch::new(&self.home(node))
            .set("--listen", &self.clients[node].to_string())
            .set("--peer-listen", &self.peers[node].to_string())
            .set("--join", &peers.join(","))
            .set("--first-core", &(node % cores).to_string())
            .set("--partitions", "1");
        let launch = if founds { launch.set("--expect", "3") } else { launch };
        let launch = match &self.credentials {
            Some(credentials) => {
                let own = credentials.of(&format!("node-{}", node + 1));
                launch.set("--tls", own.to_str().expect("its name is text"))
            }
            None => launch,
        };
        self.flags.iter().fold(launch, |launch, (flag, value)| launch.set(flag, value))
    }

    /// Starts a node.
    pub fn spawn(&mut self, node: usize, founds: bool) {
        self.servers[node] = Some(self.launch(node, founds).spawn());
    }

    /// Waits until a node has ended by itself.
    ///
    /// # Panics
    /// If it does not end, or was not started.
    pub fn wait(&mut self, node: usize) -> ExitStatus {
        self.servers[node].as_mut().expect("it was started").wait()
    }

    /// Starts a node again with one more flag.
    pub fn spawn_with(&mut self, node: usize, flag: &str, value: &str) {
        self.servers[node] = Some(self.launch(node, false).set(flag, value).spawn());
    }

    /// Waits until every node that runs serves, and one leads.
    ///
    /// # Panics
    /// If that does not come.
    pub fn wait_until_serving(&mut self) {
        self.servers.iter_mut().flatten().for_each(Server::wait_until_serving);
        self.leader();
    }

    /// The process of a node.
    ///
    /// # Panics
    /// If it does not run.
    pub fn server(&self, node: usize) -> &Server {
        self.servers[node].as_ref().expect("it runs")
    }

    /// Kills a node.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, node: usize) {
        self.servers[node].take().expect("it runs").kill();
    }

    /// Stops a node.
    ///
    /// # Panics
    /// If it does not run, or ends badly.
    pub fn stop(&mut self, node: usize) {
        self.servers[node].take().expect("it runs").stop();
    }

    /// What a node has logged.
    pub fn log(&self, node: usize) -> String {
        self.servers[node].as_ref().map(Server::log).unwrap_or_default()
    }

    /// What all nodes have logged.
    pub fn logs(&self) -> String {
        let logs = (0..3).map(|node| format!("--- node {node}\n{}", self.log(node)));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// The cluster as a node sees it.
    pub fn view(&self, node: usize) -> Option<View> {
        let tls = self.credentials.as_ref().map(|credentials| credentials.open("admin-ops"));
        view_of(self.clients[node], tls.as_deref())
    }

    /// Waits until a node leads, and gives its place.
    ///
    /// # Panics
    /// If none does.
    pub fn leader(&self) -> usize {
        let mut found = None;
        let find = || {
            found = (0..3).find(|node| {
                let view = self.servers[*node].as_ref().and_then(|_| self.view(*node));
                view.is_some_and(|view| view.leader == view.node)
            });
            found.is_some()
        };
        wait_for("nobody leads", find, || self.logs());
        found.unwrap()
    }

    /// Settings of a client of all nodes, who is this one if there are certificates.
    ///
    /// # Panics
    /// If its certificate can't be read.
    pub fn config(&self, who: &str) -> Config {
        let all: Vec<_> = self.clients.iter().map(ToString::to_string).collect();
        match &self.credentials {
            Some(credentials) => credentials.config(who, &all.join(",")),
            None => Config::new(all.join(",")),
        }
    }

    /// A client of all nodes.
    ///
    /// # Panics
    /// If none answers.
    pub fn client(&self) -> Client {
        Client::connect(Config { deadline: PATIENCE, ..self.config("client-payments") }).unwrap()
    }
}

/// A client that remembers what it was told, to ask for it again.
pub struct Ledger {
    client: Client,
    writer: Writer,
    told: Vec<(Vec<EventBytes>, Vec<Option<Offset>>)>,
}

impl Ledger {
    /// With accounts of its own.
    ///
    /// # Panics
    /// If they can't be made.
    pub fn of(trio: &Trio) -> Self {
        let (client, accounts) = (trio.client(), accounts_of(PARTITION, 1));
        assert!(client.create_accounts(&accounts).unwrap().all_ok());
        Self { client, writer: Writer::new(5, &accounts), told: Vec::new() }
    }

    fn ask(&self, events: &[EventBytes]) -> Vec<Option<Offset>> {
        let submitted = self.client.submit(PARTITION, events).unwrap();
        submitted.outcomes().map(|outcome| outcome.offset).collect()
    }

    /// Writes batches of one transfer.
    ///
    /// # Panics
    /// If they are refused.
    pub fn write(&mut self, batches: usize) {
        self.write_large(batches, 1);
    }

    /// Writes batches of many transfers.
    ///
    /// # Panics
    /// If they are refused.
    pub fn write_large(&mut self, batches: usize, events: usize) {
        for _ in 0..batches {
            let events: Vec<_> = (0..events).map(|_| self.writer.transfer().to_bytes()).collect();
            let outcomes = self.ask(&events);
            self.told.push((events, outcomes));
        }
    }

    /// Writes batches of many accounts, which stay in memory; none is written twice.
    ///
    /// # Panics
    /// If they are refused.
    pub fn write_accounts(&mut self, batches: usize, accounts: usize) {
        for _ in 0..batches {
            let mut account = accounts_of(PARTITION, 1)[0];
            // Behind those of the writer, and in the same book.
            account.id.0 += (1 + self.told.len() as u128) << 32;
            let mut next = || {
                account.id.0 += 1;
                account.to_bytes()
            };
            let events: Vec<_> = (0..accounts).map(|_| next()).collect();
            let outcomes = self.ask(&events);
            self.told.push((events, outcomes));
        }
    }

    /// Everything that was acknowledged is where it was.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&mut self, trio: &Trio) {
        self.client = trio.client(); // nodes may be elsewhere
        for (events, told) in &self.told {
            assert_eq!(&self.ask(events), told, "{}", trio.logs());
        }
    }
}

/// Flips one bit of a file.
///
/// # Panics
/// If that fails.
pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    file.sync_all().unwrap();
}

/// Runs `walengine verify`.
///
/// # Panics
/// If it can't be run.
pub fn verify(data: &Path) -> Output {
    Command::new(binary()).arg("verify").arg(data).output().unwrap()
}

/// Copies a directory.
///
/// # Panics
/// If that fails.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
            File::open(&to).unwrap().sync_all().unwrap();
        }
    }
}
