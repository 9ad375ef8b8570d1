//! Can anything that reaches the ports of a cluster's nodes, or claims to be one of them, move
//! leadership, membership or service?

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::message::{ErrorCode, NodeHealth, ServerStatus, ServerStatusReply};
use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::peer::{Hello, HelloReply, Message, PeerErrorCode, Refusal, frame};
use walengine_tests::network::Network;
use walengine_tests::nodes::{Nodes, PEER_PORT, View};
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::Launch;
use walengine_tests::sim::Rng;
use walengine_tests::wire::Wire;

/// Long, so that a busy machine ends no leadership.
const ELECTION_MILLIS: &str = "6000";
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a peer's answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const FLOOD: Duration = Duration::from_secs(4);
const FLOOD_PER_SECOND: usize = 20_000;
const FLOOD_STEP: Duration = Duration::from_millis(5);
/// Where the test listens to what nodes send to a stranger.
const STRANGER_PORT: u16 = 7999;
/// Where the checksum, or the authenticator, of a datagram stands.
const AUTHENTICATOR: std::ops::Range<usize> = 8..24;
/// Where the sender's id stands.
const NODE_AT: usize = 40;

/// A cluster, its view at the start, and a client that uses it.
pub struct Served {
    pub nodes: Nodes,
    client: Client,
    writer: Writer,
    pub before: View,
}

impl Served {
    fn new(mut nodes: Nodes) -> Self {
        nodes.form(3);
        let config = Config { deadline: PATIENCE, ..Config::new(nodes.addresses()) };
        let client = Client::connect(config).unwrap();
        let accounts = accounts_of(PartitionId(0), 1);
        assert!(client.create_accounts(&accounts).unwrap().all_ok());
        let before = wait_until_well(&nodes);
        Self { nodes, client, writer: Writer::new(7, &accounts), before }
    }

    pub fn still_serves(&mut self) {
        let events = [self.writer.transfer().to_bytes()];
        let written = self.client.submit(PartitionId(0), &events).unwrap();
        assert_eq!(written.outcomes().count(), 1);
    }

    /// By every node's account the leader and the members are those of the start.
    pub fn is_unchanged(&mut self) {
        self.still_serves();
        let now = wait_until_well(&self.nodes);
        let known = |view: &View| (view.leader, view.term, view.members.clone());
        assert_eq!(known(&now), known(&self.before), "{}", self.nodes.logs());
        for node in 0..3 {
            let view = self.nodes.view(node).unwrap();
            assert_eq!((view.leader, view.term), (self.before.leader, self.before.term));
            assert_eq!(view.nodes.len(), 3, "node {node} knows of another: {view:?}");
        }
    }

    /// A number of a node's server status; 0 if it is not there.
    pub fn number(&self, node: usize, name: &str) -> u64 {
        numbers(&mut self.nodes.wire(node)).get(name).copied().unwrap_or(0)
    }

    pub fn end(mut self) {
        self.is_unchanged();
        for node in 0..3 {
            self.nodes.server(node).stop();
        }
    }
}

fn numbers(wire: &mut Wire) -> BTreeMap<String, u64> {
    let reply = wire.call(&ServerStatus::default()).unwrap();
    let rows = reply.open::<ServerStatusReply<'_>>().numbers.iter();
    rows.map(|row| (row.name.to_string(), row.value.to_native())).collect()
}

/// Waits until every node sees all three alive, and gives the leader's view.
pub fn wait_until_well(nodes: &Nodes) -> View {
    let by = Instant::now() + PATIENCE;
    loop {
        let is_well = |view: &View| {
            let alive = |(_, health, _): &&(u64, NodeHealth, String)| *health == NodeHealth::Alive;
            view.nodes.iter().filter(alive).count() == 3
        };
        let views: Vec<_> = (0..3).filter_map(|node| nodes.view(node)).collect();
        if views.len() == 3 && views.iter().all(is_well) {
            let leader = nodes.leader();
            return nodes.view(leader).expect("the leader tells");
        }
        assert!(Instant::now() < by, "not all nodes are seen alive:\n{views:?}\n{}", nodes.logs());
        thread::sleep(Duration::from_millis(50));
    }
}

fn slow(launch: Launch) -> Launch {
    launch.set("--election-millis", ELECTION_MILLIS)
}

pub fn cluster(test: &str, spare: usize) -> Served {
    Served::new(Nodes::prepare(test, 3, spare, |launch, _| slow(launch)))
}

/// What a node says to these bytes on its port for peers; `None` if it closes without a word.
fn peer_says(address: SocketAddr, bytes: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut received = Vec::new();
    loop {
        if let Some(found) = frame::peek(&received).unwrap() {
            return Some(found.open().unwrap());
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return None,
            Ok(read) => received.extend_from_slice(&piece[..read]),
            // What was not read yet makes the close a reset.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("neither an answer nor a close: {error}"),
        }
    }
}

/// The answers to so many frames on one connection.
pub fn answers<const N: usize>(address: SocketAddr, bytes: &[u8]) -> [Message; N] {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut received = Vec::new();
    std::array::from_fn(|_| {
        loop {
            if let Some(found) = frame::peek(&received).unwrap() {
                let (message, bytes) = (found.open().unwrap(), found.frame_bytes());
                received.drain(..bytes);
                return message;
            }
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "the node has closed the connection");
            received.extend_from_slice(&piece[..read]);
        }
    })
}

pub fn peer_frame(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = FrameHead::reply(PartitionId(0), RequestId(1));
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

/// The same frame in another version of the protocol, with the right checksum.
fn of_version(mut bytes: Vec<u8>, version: u16) -> Vec<u8> {
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn each_wrong_peer_is_told_why_and_counted() {
    let mut served = cluster("wrong-peers", 0);
    let cluster = ClusterId(served.before.cluster);
    let target = 0;
    let (address, own) = (served.nodes.peer_address(target), served.nodes.view(target).unwrap());
    let member = own.nodes.iter().map(|(id, ..)| *id).find(|id| *id != own.node).unwrap();
    let right = Hello { cluster, node: member, partition: PartitionId(0), partitions: 1 };
    let refused = |hello: Hello| match peer_says(address, &peer_frame(&Message::Hello(hello))) {
        Some(Message::HelloReply(HelloReply::Refused(why))) => why,
        other => panic!("{hello:?} was answered with {other:?}"),
    };
    let before = served.number(target, "peers_refused_of_shard_since_start");
    let other = ClusterId(cluster.0 ^ 1);
    assert_eq!(refused(Hello { cluster: other, ..right }), Refusal::OtherCluster { cluster });
    assert_eq!(refused(Hello { node: own.node, ..right }), Refusal::NodeIdInUse);
    assert_eq!(refused(Hello { node: 77, ..right }), Refusal::NotMember);
    let more = Hello { partitions: 2, ..right };
    assert_eq!(refused(more), Refusal::OtherPartitions { partitions: 1 });
    let hello = peer_frame(&Message::Hello(right));
    for (version, why) in
        [(0, Refusal::OlderVersion { oldest: 1 }), (2, Refusal::NewerVersion { newest: 1 })]
    {
        match peer_says(address, &of_version(hello.clone(), version)) {
            Some(Message::HelloReply(HelloReply::Refused(said))) => assert_eq!(said, why),
            other => panic!("version {version} was answered with {other:?}"),
        }
    }
    assert_eq!(served.number(target, "peers_refused_of_shard_since_start"), before + 6);
    let counted = served.number(target, "peer_connections_turned_away_not_member_since_start");
    assert!(counted >= 6, "{counted}");
    let log = served.nodes.log(target);
    assert!(log.contains("turned away a connection of a peer from "), "{log}");
    served.is_unchanged();

    // A peer that has not introduced itself is asked to, whatever it sends.
    let early = peer_frame(&Message::HelloReply(HelloReply::Accepted { node: member }));
    match peer_says(address, &early) {
        Some(Message::Error(error)) => assert_eq!(error.code, PeerErrorCode::NotIntroduced),
        other => panic!("an early frame was answered with {other:?}"),
    }
    served.end();
}

/// A frame of any kind, with the checksum that belongs to it.
fn raw_frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let hello = Hello { cluster: ClusterId(1), node: 1, partition: PartitionId(0), partitions: 1 };
    let mut bytes = peer_frame(&Message::Hello(hello));
    bytes.truncate(32);
    bytes.extend_from_slice(body);
    bytes[10..12].copy_from_slice(&kind.to_le_bytes());
    bytes[24..28].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    of_version(bytes, 1)
}

/// Fault: these three frames, an empty snapshot under a high term, once erased a ledger.
#[test]
fn a_snapshot_from_a_member_is_refused_and_erases_nothing() {
    let served = cluster("peer-snapshot", 0);
    let leader = served.nodes.leader();
    let target = (leader + 1) % 3;
    let own = served.nodes.view(target).unwrap();
    let member = own.nodes.iter().map(|(id, ..)| *id).find(|id| *id != own.node).unwrap();
    let cluster = ClusterId(served.before.cluster);
    let hello = Hello { cluster, node: member, partition: PartitionId(0), partitions: 1 };
    let refused = "peer_requests_refused_of_shard_since_start";
    let before = served.number(target, refused);
    let mut begin = [u64::MAX.to_le_bytes(), member.to_le_bytes()].concat();
    begin.extend_from_slice(&[1, 0, 0]); // a committed vote, no last entry, no membership's entry
    begin.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]); // a membership without nodes
    for (kind, body) in [(0x8006, begin), (0x8007, vec![0; 8]), (0x8008, vec![0; 16])] {
        let bytes = [peer_frame(&Message::Hello(hello)), raw_frame(kind, &body)].concat();
        match &answers(served.nodes.peer_address(target), &bytes) {
            [Message::HelloReply(HelloReply::Accepted { .. }), Message::Error(error)] => {
                assert_eq!(error.code, PeerErrorCode::UnknownKind);
            }
            other => panic!("{kind:#x} was answered with {other:?}"),
        }
    }
    assert_eq!(served.number(target, refused), before + 3);
    served.end();
}

#[test]
fn each_ports_frames_are_refused_at_the_other() {
    let mut served = cluster("wrong-ports", 0);
    let target = 0;
    let broken = "peer_connections_broken_of_shard_since_start";
    let before = served.number(target, broken);
    let cluster = ClusterId(served.before.cluster);
    let hello = Hello { cluster, node: 77, partition: PartitionId(0), partitions: 1 };
    // Raft's frames where clients are served.
    let mut wire = Wire::connect(served.nodes.address(target), 0).unwrap();
    wire.send_bytes(&peer_frame(&Message::Hello(hello))).unwrap();
    let replies = wire.until_closed();
    let errors: Vec<_> = replies.iter().map(walengine_tests::wire::Reply::error).collect();
    assert_eq!(errors, [Some(ErrorCode::Malformed)]);
    served.is_unchanged();
    // A client's where peers are.
    let greeting = walengine_net::message::Hello { partition: 0, client_name: "lost" };
    let bytes = wire.frame(&greeting);
    assert!(peer_says(served.nodes.peer_address(target), &bytes).is_none());
    let mut random = vec![0; 4096];
    Rng::new(5).fill(&mut random);
    assert!(peer_says(served.nodes.peer_address(target), &random).is_none());
    assert_eq!(served.number(target, broken), before + 2);
    served.end();
}

/// A copy of a node's directory, started at another address, ends with a reason, and its original
/// goes on. The fault: the original ended, too, if the copy asked it itself.
#[test]
fn a_copy_of_a_data_directory_ends_and_its_original_goes_on() {
    let mut served = cluster("copy", 1);
    let leader = served.nodes.leader();
    let original = (leader + 1) % 3;
    served.nodes.server(original).stop();
    let home = |node: usize| served.nodes.dir().join(format!("node{node}"));
    let (from, to) = (home(original).join("data"), home(3).join("data"));
    let copied = Command::new("cp").arg("-a").args([&from, &to]).status().unwrap();
    assert!(copied.success());
    served.nodes.spawn(original);
    served.nodes.wait_until_serving();
    wait_until_well(&served.nodes);
    for asked in [leader, original] {
        let seed = served.nodes.peer_address(asked).to_string();
        let output = served.nodes.launch(3).clone().set("--join", &seed).fails();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("node id") && said.contains("copies"), "{said}");
        thread::sleep(Duration::from_secs(1));
        served.is_unchanged();
    }
    served.end();
}

#[test]
fn a_node_with_a_dead_seed_waits_and_says_so() {
    let mut served = cluster("dead-seed", 1);
    let nobody = format!("{}:{PEER_PORT}", served.nodes.address(3).ip());
    let nobody = nobody.replace(".4:", ".99:");
    let mut lost = served.nodes.launch(3).clone().set("--join", &nobody).spawn();
    let by = Instant::now() + PATIENCE;
    while !lost.log().contains("still waiting for a node of a cluster to join") {
        assert!(Instant::now() < by, "it says nothing:\n{}", lost.log());
        served.still_serves();
        thread::sleep(Duration::from_millis(100));
    }
    assert!(lost.log().contains(&nobody), "{}", lost.log());
    served.is_unchanged();
    lost.signal_term();
    assert_eq!(lost.wait().code(), Some(0), "{}", lost.log());
    served.end();
}

/// What the nodes say to a stranger whom they take for a seed.
fn overheard(stranger: &UdpSocket) -> Vec<Vec<u8>> {
    stranger.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut datagram = [0; 1500];
    while let Ok(bytes) = stranger.recv(&mut datagram) {
        heard.push(datagram[..bytes].to_vec());
    }
    assert!(!heard.is_empty(), "the nodes do not greet their seeds");
    heard
}

/// Nonsense, damaged datagrams, replayed ones and, where no key is used, hellos of nodes that do not
/// exist.
fn bad_datagram(rng: &mut Rng, heard: &[Vec<u8>], forges: bool) -> Vec<u8> {
    let mut datagram = heard[rng.index(heard.len())].clone();
    match rng.below(if forges { 4 } else { 3 }) {
        0 => {
            datagram = vec![0; rng.below(1472) as usize];
            rng.fill(&mut datagram);
        }
        1 => {
            let at = rng.index(datagram.len());
            datagram[at] ^= rng.between(1, 255) as u8;
        }
        2 => {}
        _ => {
            datagram[NODE_AT..NODE_AT + 8].copy_from_slice(&rng.next_u64().to_le_bytes());
            datagram[AUTHENTICATOR].fill(0);
            let crc = crc32c::crc32c(&datagram[..AUTHENTICATOR.start]);
            let crc = crc32c::crc32c_append(crc, &datagram[AUTHENTICATOR.end..]);
            datagram[AUTHENTICATOR][..4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    datagram
}

/// Floods the leader with bad datagrams while a client writes.
fn flood(test: &str, with_key: bool) {
    let seed = 0x5eed_0302;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let key = std::env::temp_dir().join(format!("walengine-key-{}-{test}", std::process::id()));
    std::fs::write(&key, [0x5a; 32]).unwrap();
    let configure = |launch: Launch, network: &Network| {
        let peers = (0..3).map(|node| format!("{}:{PEER_PORT}", network.address(node)));
        let stranger = format!("{}:{STRANGER_PORT}", network.host());
        let seeds: Vec<_> = peers.chain([stranger]).collect();
        let launch = slow(launch).set("--join", &seeds.join(","));
        if with_key { launch.set("--key-file", key.to_str().unwrap()) } else { launch }
    };
    let nodes = Nodes::prepare(test, 3, 0, configure);
    let stranger = UdpSocket::bind((nodes.network().host(), STRANGER_PORT)).unwrap();
    let mut served = Served::new(nodes);
    let heard = overheard(&stranger);
    let leader = served.nodes.leader();
    let (target, before) =
        (served.nodes.peer_address(leader), numbers(&mut served.nodes.wire(leader)));
    let bad: Vec<_> = (0..50_000).map(|_| bad_datagram(&mut rng, &heard, !with_key)).collect();
    let sent = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < FLOOD {
                let millis = began.elapsed().as_millis() as usize;
                while sent < millis * FLOOD_PER_SECOND / 1000 {
                    // It may be lost, like any datagram.
                    let _ = stranger.send_to(&bad[sent % bad.len()], target);
                    sent += 1;
                }
                thread::sleep(FLOOD_STEP);
            }
            sent
        });
        while !flooding.is_finished() {
            served.still_serves();
        }
        flooding.join().unwrap()
    });
    std::fs::remove_file(&key).unwrap();
    served.is_unchanged();
    thread::sleep(Duration::from_secs(1)); // a node tells its counts every half second
    let after = numbers(&mut served.nodes.wire(leader));
    let dropped: BTreeMap<_, _> = after
        .iter()
        .filter(|(name, _)| name.starts_with("datagrams_dropped"))
        .map(|(name, count)| (name.as_str(), count - before.get(name).unwrap_or(&0)))
        .collect();
    println!("{sent} datagrams sent: {dropped:?}");
    let sum: u64 = dropped.values().sum();
    assert!(sent >= FLOOD_PER_SECOND * FLOOD.as_secs() as usize / 2, "only {sent} were sent");
    assert!(sum > sent as u64 / 10, "{dropped:?} of {sent}");
    let reason = if with_key { "unauthenticated" } else { "damaged" };
    assert!(dropped[format!("datagrams_dropped_{reason}_since_start").as_str()] > 0);
    served.end();
}

#[test]
fn bad_datagrams_are_counted_and_move_nothing() {
    flood("flood", false);
}

#[test]
fn bad_datagrams_are_counted_and_move_nothing_where_a_key_is_used() {
    flood("flood-key", true);
}
