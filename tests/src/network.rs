//! A network on this machine for one test: a namespace for each node, and a bridge between them that
//! the test's clients reach, too. Needs root, and fails without it: a test of cut links that cuts
//! none proves nothing.
//!
//! A link is cut one way, at its sender, by a neighbour address that no card has: frames leave,
//! nobody takes them and nobody gets an error, as on a broken wire. Everything is removed at the
//! end; the next test removes what a killed one left behind.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names of bridges and namespaces begin with it; the test's process id follows.
const PREFIX: &str = "wt";
/// Nobody has it.
const NOBODY: &str = "02:00:00:00:00:fe";
/// The bridge's own place.
const HOST: u8 = 254;

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Two networks of one process must not choose the same addresses.
static CHOOSING: Mutex<()> = Mutex::new(());

/// See the module.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// First three bytes of every address.
    subnet: [u8; 3],
    nodes: usize,
}

impl Network {
    /// A network of `nodes` nodes, all links whole.
    ///
    /// # Panics
    /// If it can't be made; most likely the test is not run as root.
    pub fn new(nodes: usize) -> Self {
        let choosing = CHOOSING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sweep();
        let id = std::process::id();
        let name = format!("{PREFIX}{id}x{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let used = said("ip", &["-4", "-o", "address"]);
        let subnet = (0..=u8::MAX)
            .map(|step| [10, 200 + (id >> 8) as u8 % 50, (id as u8).wrapping_add(step)])
            .find(|[a, b, c]| !used.contains(&format!(" {a}.{b}.{c}.")))
            .expect("some subnet is free");
        let network = Self { name, subnet, nodes };
        let Self { name, .. } = &network;
        ip(&["link", "add", name, "type", "bridge", "mcast_snooping", "0"]);
        ip(&["address", "add", &format!("{}/24", network.at(HOST)), "dev", name]);
        ip(&["link", "set", name, "up"]);
        drop(choosing);
        for node in 0..nodes {
            network.add(node);
        }
        for node in 0..nodes {
            for other in (0..nodes).filter(|other| *other != node) {
                network.join(node, other);
            }
        }
        network
    }

    fn add(&self, node: usize) {
        let (space, outer) = (self.namespace(node), self.outer(node));
        ip(&["netns", "add", &space]);
        let peer = ["peer", "name", "eth0", "address", &card(node), "netns", &space];
        ip(&[&["link", "add", &outer, "type", "veth"][..], &peer].concat());
        ip(&["link", "set", &outer, "master", &self.name, "up"]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        let address = format!("{}/24", self.address(node));
        ip(&["-n", &space, "address", "add", &address, "dev", "eth0"]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
    }

    fn at(&self, place: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, place)
    }

    /// Where the test itself is.
    pub fn host(&self) -> Ipv4Addr {
        self.at(HOST)
    }

    /// Where a node is.
    pub fn address(&self, node: usize) -> Ipv4Addr {
        self.at(node as u8 + 1)
    }

    /// The namespace in which a node runs.
    pub fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    fn outer(&self, node: usize) -> String {
        format!("{}v{node}", self.name)
    }

    /// From now on nothing that `from` sends reaches `to`; the other way is as before.
    pub fn cut(&self, from: usize, to: usize) {
        self.send_to(from, to, NOBODY);
    }

    /// From now on a node neither hears nor is heard.
    pub fn unplug(&self, node: usize) {
        ip(&["link", "set", &self.outer(node), "down"]);
    }

    /// What `from` sends reaches `to` again.
    pub fn join(&self, from: usize, to: usize) {
        self.send_to(from, to, &card(to));
    }

    fn send_to(&self, from: usize, to: usize, card: &str) {
        let (space, to) = (self.namespace(from), self.address(to).to_string());
        ip(&[
            "-n",
            &space,
            "neigh",
            "replace",
            &to,
            "lladdr",
            card,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ]);
    }

    /// From now on a node neither gets nor sends anything by a protocol, `tcp` or `udp`, from or to a
    /// port of its own, as behind a firewall that drops it. Needs `nft`.
    pub fn shut(&self, node: usize, protocol: &str, port: u16) {
        let rules = format!(
            "table inet shut {{
                chain comes {{ type filter hook input priority 0; {protocol} dport {port} drop; {protocol} sport {port} drop; }}
                chain goes {{ type filter hook output priority 0; {protocol} dport {port} drop; {protocol} sport {port} drop; }}
            }}"
        );
        self.open(node);
        said("ip", &["netns", "exec", &self.namespace(node), "nft", &rules]);
    }

    /// Opens what [`Network::shut`] shut at a node.
    pub fn open(&self, node: usize) {
        let remove = "add table inet shut; delete table inet shut";
        said("ip", &["netns", "exec", &self.namespace(node), "nft", remove]);
    }

    /// Joins all that was cut.
    pub fn heal(&self) {
        for from in 0..self.nodes {
            for to in (0..self.nodes).filter(|to| *to != from) {
                self.join(from, to);
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(node)]).output();
            let _ = Command::new("ip").args(["link", "delete", &self.outer(node)]).output();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.name]).output();
    }
}

/// The card of a node.
fn card(node: usize) -> String {
    format!("02:00:00:00:01:{node:02x}")
}

/// Runs `ip`.
fn ip(arguments: &[&str]) {
    said("ip", arguments);
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install iproute2"));
    assert!(
        output.status.success(),
        "{program} {}: {}; this test makes network namespaces: run it as root",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Removes what tests left behind that were killed.
fn sweep() {
    for line in said("ip", &["-o", "link", "show", "type", "bridge"]).lines() {
        let Some(name) = line.split(": ").nth(1) else { continue };
        if is_of_the_dead(name) {
            let _ = Command::new("ip").args(["link", "delete", name]).output();
        }
    }
    for line in said("ip", &["netns", "list"]).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if is_of_the_dead(name) {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

fn is_of_the_dead(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('x').next());
    let id = id.and_then(|id| id.parse::<u32>().ok());
    id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists())
}
