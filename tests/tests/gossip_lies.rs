//! Can whoever has the key of gossip end a node, send a client elsewhere, or cost a vote? Seals datagrams
//! itself, in the name of members that run on, as GOSSIP.md says. And what does a node do that runs from a
//! copy of another's data directory, which gossip only tells of?

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use walengine_net::message::{Hello, HelloReply, ReplicaRole};
use walengine_tests::nodes::View;
use walengine_tests::trio::{Ledger, Trio, copy_tree, free_address, wait_for};
use walengine_tests::wire::Wire;

const KEY: [u8; 32] = [0x5a; 32];
const STRANGER: &str = "203.0.113.9:7450";
/// For so long it is lied without a break: longer than any patience of a node with gossip.
const LIES: Duration = Duration::from_secs(5);

/// Numbers of kinds.
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;
const SWIM: u8 = 4;
const LEAVE: u8 = 6;
const CONDITION: u8 = 7;

/// A member's name in the mouth of a liar, towards one other member.
struct Liar {
    socket: UdpSocket,
    cipher: XChaCha20Poly1305,
    cluster: u128,
    node: u64,
    /// Where the member really is.
    address: SocketAddr,
    /// Of a life that began later than the true one.
    boot: u64,
    sequence: u64,
    to: SocketAddr,
    /// The receiver's, and its bump.
    to_life: (u64, u64),
}

fn address_bytes(address: SocketAddr) -> [u8; 18] {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&v4.ip().to_ipv6_mapped().octets());
    bytes[16..].copy_from_slice(&v4.port().to_le_bytes());
    bytes
}

impl Liar {
    fn new(cluster: u128, node: u64, address: SocketAddr, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let key = blake3::derive_key("walengine gossip 1 sealed datagram", &KEY);
        let boot = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let cipher = XChaCha20Poly1305::new(&key.into());
        let (sequence, to_life) = (0, (0, 0));
        Self { socket, cipher, cluster, node, address, boot, sequence, to, to_life }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.sequence += 1;
        let front = [&b"WALG"[..], &[1, 0, 0, 2]].concat();
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&self.node.to_le_bytes());
        nonce[8..16].copy_from_slice(&self.boot.to_le_bytes());
        nonce[16..].copy_from_slice(&self.sequence.to_le_bytes());
        let mut sealed = vec![kind];
        sealed.extend(self.cluster.to_le_bytes());
        for number in [self.node, self.boot, self.sequence, self.to_life.0] {
            sealed.extend(number.to_le_bytes());
        }
        sealed.extend(address_bytes(self.address));
        sealed.extend(1_u16.to_le_bytes());
        sealed.extend_from_slice(body);
        let tag = self.cipher.encrypt_in_place_detached(&nonce.into(), &front, &mut sealed);
        let bytes = [&front[..], &tag.unwrap(), &nonce, &sealed].concat();
        self.socket.send_to(&bytes, self.to).unwrap();
    }

    /// Learns which life of the receiver datagrams must be for.
    fn greet(&mut self) {
        wait_for(
            "nobody answers a greeting that is sealed with the right key",
            || {
                self.say(HELLO, &[]);
                let mut bytes = [0; 1500];
                let Ok(length) = self.socket.recv(&mut bytes) else { return false };
                let (front, sealed) = bytes[..length].split_at_mut(48);
                let nonce: [u8; 24] = front[24..48].try_into().unwrap();
                let tag: [u8; 16] = front[8..24].try_into().unwrap();
                let (nonce, tag) = (nonce.into(), tag.into());
                let opened =
                    self.cipher.decrypt_in_place_detached(&nonce, &front[..8], sealed, &tag);
                opened.expect("it is sealed with the same key");
                let number = |at: usize| u64::from_le_bytes(sealed[at..at + 8].try_into().unwrap());
                self.to_life = (number(25), number(69));
                sealed[0] == WELCOME
            },
            String::new,
        );
    }

    fn page(&self, page: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.node, self.boot, self.boot + self.sequence] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.push(page);
        bytes.extend_from_slice(content);
        bytes
    }

    /// Page 0: bit 0 of the flags is `left`, bit 1 `leaving`.
    fn base(&self, flags: u8) -> Vec<u8> {
        let mut content = self.boot.to_le_bytes().to_vec();
        content.push(flags);
        content.extend(self.cluster.to_le_bytes());
        for number in [0_u16, 1, 1] {
            content.extend(number.to_le_bytes());
        }
        content.extend(0_u64.to_le_bytes());
        for text in [STRANGER, "0.1.0"] {
            content.extend((text.len() as u16).to_le_bytes());
            content.extend_from_slice(text.as_bytes());
        }
        self.page(0, &content)
    }

    /// A message of SWIM with pages and nothing else.
    fn broadcast(&mut self, to: u64, pages: &[Vec<u8>]) {
        let mut body = Vec::new();
        for (node, life, address) in
            [(self.node, self.boot, self.address), (to, self.to_life.1, self.to)]
        {
            body.extend(node.to_le_bytes());
            body.extend(life.to_le_bytes());
            body.extend(address_bytes(address));
            if node == self.node {
                body.extend(0_u16.to_le_bytes());
            }
        }
        body.extend([10, 0]);
        for page in pages {
            body.extend((page.len() as u16).to_be_bytes());
            body.extend_from_slice(page);
        }
        self.say(SWIM, &body);
    }

    /// Everything that could move the receiver, once.
    fn lie(&mut self, to: u64) {
        let leads = [1_u64.to_le_bytes(), (1_u64 << 40).to_le_bytes()].concat();
        let pages = [self.base(2), self.page(1, &leads)];
        self.broadcast(to, &pages);
        let year_2200 = 7_258_118_400_000_000_000_u64;
        self.say(CONDITION, &[&year_2200.to_le_bytes()[..], &[0b1111]].concat());
        self.say(REFUSED, &[]);
        self.sequence += 1;
        let left = self.base(1);
        self.say(LEAVE, &left);
    }
}

fn voters(view: &View) -> Vec<u64> {
    let voters = view.members.iter().filter(|(_, role)| *role == ReplicaRole::Voter);
    voters.map(|(node, _)| *node).collect()
}

/// Where the node sends clients.
fn sends_to(address: SocketAddr) -> String {
    let mut wire = Wire::connect(address, 0).unwrap();
    let hello = Hello { partition: 0, client_name: "tests" };
    wire.call(&hello).unwrap().open::<HelloReply<'_>>().leader.to_string()
}

#[test]
fn whoever_has_the_key_ends_no_node_sends_no_client_away_and_costs_no_vote() {
    let key = std::env::temp_dir().join(format!("walengine-lies-{}", std::process::id()));
    fs::write(&key, KEY).unwrap();
    let mut trio = Trio::form("gossip-lies", &[("--key-file", key.to_str().unwrap())]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(5);
    let leader = trio.leader();
    let ids: Vec<u64> = (0..3).map(|node| trio.view(node).unwrap().node).collect();
    let before = trio.view(leader).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let led =
        || others.iter().all(|at| sends_to(trio.clients[*at]) == trio.clients[leader].to_string());
    wait_for("clients are not sent to the leader", led, || trio.logs());
    let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
    let mut liars: Vec<(u64, Liar)> = pairs
        .filter(|(from, to)| from != to)
        .map(|(from, to)| {
            let (at, to_at) = (trio.peers[from], trio.peers[to]);
            (ids[to], Liar::new(before.cluster, ids[from], at, to_at))
        })
        .collect();
    for (_, liar) in &mut liars {
        liar.greet();
    }
    let began = Instant::now();
    while began.elapsed() < LIES {
        for (to, liar) in &mut liars {
            liar.lie(*to);
            // Another node has outbid the lie meanwhile, or the receiver has taken another name.
            if liar.sequence % 64 < 4 {
                liar.boot = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
                liar.greet();
            }
        }
        ledger.write(1);
        for at in &others {
            let to = sends_to(trio.clients[*at]);
            assert!(to.is_empty() || trio.clients.iter().any(|it| it.to_string() == to), "{to}");
        }
    }
    for node in 0..3 {
        assert!(trio.view(node).is_some(), "node {node} has ended:\n{}", trio.logs());
    }
    let after = trio.view(trio.leader()).unwrap();
    assert_eq!(voters(&after), voters(&before), "{}", trio.logs());
    assert!(!trio.logs().contains("a voter goes"), "{}", trio.logs());
    // Nobody's clock was moved by clocks that gossip tells of.
    assert!(!trio.logs().contains("theirs is followed"), "{}", trio.logs());
    // They find each other again once it is over, also after a restart.
    (0..3).for_each(|node| trio.stop(node));
    (0..3).for_each(|node| trio.spawn(node, false));
    trio.wait_until_serving();
    ledger.check(&trio);
    ledger.write(5);
    fs::remove_file(&key).unwrap();
}

/// The fault: gossip alone ended the process. It only leads to the question now, which is put to the node
/// that answers where the cluster has it.
#[test]
fn a_node_that_runs_from_a_copy_ends_when_the_other_answers_for_itself() {
    const DATA_DIRECTORY: i32 = 5;
    let mut trio = Trio::form("gossip-copy", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(5);
    let node = (trio.leader() + 1) % 3;
    trio.stop(node);
    let copy = trio.dir.path().join("copy");
    copy_tree(&trio.home(node), &copy);
    trio.spawn(node, false);
    trio.wait_until_serving();
    let launch = trio.launch(node, false).data(&copy.join("data"));
    let (client, peer) = (free_address().to_string(), free_address().to_string());
    let mut second = launch.set("--listen", &client).set("--peer-listen", &peer).spawn();
    let ended = second.wait();
    let log = second.log();
    assert_eq!(ended.code(), Some(DATA_DIRECTORY), "{log}");
    assert!(log.contains("two nodes run from copies of one data directory"), "{log}");
    assert!(log.contains(&trio.peers[node].to_string()), "{log}");
    assert!(trio.view(node).is_some(), "{}", trio.logs());
    ledger.write(5);
    ledger.check(&trio);
}
