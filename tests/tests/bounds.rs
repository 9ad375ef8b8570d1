//! Is what connections hold bounded, whatever they do, and given back; and is an operator answered
//! meanwhile?

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine::limits::{KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_PROBES_MAX};
use walengine_net::entry::ANY_OFFSET;
use walengine_net::frame::{self, FrameHead, FrameHeader, Kind, RequestId};
use walengine_net::limits::{BODY_BYTES_MAX, CREDIT_BYTES_MAX, LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX};
use walengine_net::message::{
    Append, AppendHead, ErrorCode, Hello, IdNamespace, ListAccounts, LookupAccounts,
    LookupTransfers, Message, NO_OFFSET, ReadLog, ServerStatus, Status, Submit, SubmitReply,
    Subscribe,
};
use walengine_net::model::{Account, ClusterId, PartitionId, Transfer};
use walengine_replication::peer;
use walengine_tests::nodes::Nodes;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir, run_command};
use walengine_tests::wire::{Reply, Wire};

use crate::input::raise_open_files;
use crate::kill::create_accounts;

/// How much a server may grow by all attacks together.
const GROWTH_BYTES_MAX: u64 = 256 << 20;
/// How much of that may stay once the attackers are gone.
const KEPT_BYTES_MAX: u64 = 96 << 20;
const PATIENCE: Duration = Duration::from_mins(2);
/// Shards and partitions of the node that is attacked.
const PARTITIONS: u16 = 2;
/// How often all attacks come, one second after the last ones are gone.
const WAVES: usize = 2;
const SILENT: usize = 1024;
const HEADERS: usize = 500;
const SUBSCRIBERS: usize = 200;
const SUBSCRIPTIONS: usize = 16;
const READERS: usize = 100;
const READS: usize = 48;
const HALVES: usize = 150;
const PEERS: usize = 40;
const PEER_READS: u64 = 60;
/// Of the log that is there before, so that subscriptions have something to send.
const LOG_BYTES: usize = 48 << 20;
const RECORD_BYTES: usize = 1 << 10;

/// The largest memory that a server was seen to have, while somebody uses it.
#[derive(Default)]
struct Watched {
    largest: AtomicU64,
    written: AtomicU64,
    ends: AtomicBool,
}

fn frame_of<M: Message>(partition: u16, request: u64, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = FrameHead::reply(PartitionId(partition), RequestId(request));
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

/// A header that announces the largest body.
fn announcing(partition: u16, kind: Kind, request: u64) -> Vec<u8> {
    let head = FrameHead::reply(PartitionId(partition), RequestId(request));
    let body_bytes = BODY_BYTES_MAX as u32;
    let header = FrameHeader { crc: 0, kind: kind.number(), flags: 0, body_bytes, head };
    header.to_bytes().to_vec()
}

/// Sends what the server takes, without waiting for long.
fn push(mut stream: &TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error) => {
            let kinds = [
                ErrorKind::WouldBlock,
                ErrorKind::TimedOut,
                ErrorKind::BrokenPipe,
                ErrorKind::ConnectionReset,
            ];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
    }
}

/// Opaque records in the log, so that subscriptions have something to send.
fn write_log(address: SocketAddr, partition: u16, bytes: usize) {
    let mut wire = Wire::greeted(address, partition).unwrap();
    let records = 1000;
    for batch in 0..bytes / (records * RECORD_BYTES) {
        let heads: Vec<_> = (0..records)
            .map(|record| AppendHead {
                id: ((batch * records + record) as u128) << 64 | 1,
                bytes: RECORD_BYTES as u32,
            })
            .collect();
        let blob = vec![batch as u8; records * RECORD_BYTES];
        let append = Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &blob };
        call_when_free(&mut wire, &append);
    }
}

/// The answer to a request, once the partition is not busy.
fn call_when_free<M: Message>(wire: &mut Wire, request: &M) -> Reply {
    loop {
        let reply = wire.call(request).unwrap();
        if reply.error() != Some(ErrorCode::Busy) {
            return reply;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Transfers of partition 0 that stand in one large entry; their ids.
fn write_large_entry(address: SocketAddr, accounts: &[Account]) -> Vec<u128> {
    let mut writer = Writer::new(3, accounts);
    let transfers: Vec<_> = (0..LOOKUP_IDS_MAX).map(|_| writer.transfer()).collect();
    let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
    let mut wire = Wire::greeted(address, 0).unwrap();
    let reply = call_when_free(&mut wire, &Submit { events: &events });
    assert_eq!(reply.open::<SubmitReply<'_>>().events(), events.len());
    transfers.iter().map(|transfer| transfer.id.0).collect()
}

/// Whom the attackers attack.
struct Victim {
    address: SocketAddr,
    partitions: u16,
    /// Of transfers of partition 0, all in one entry.
    ids: Vec<u128>,
}

impl Victim {
    /// A connection that has said hello, and the partition that it names.
    fn greeted(&self, place: usize) -> Option<(TcpStream, u16)> {
        let partition = place as u16 % self.partitions;
        let stream = TcpStream::connect(self.address).ok()?;
        push(&stream, &frame_of(partition, 1, &Hello { partition, client_name: "attacker" }));
        Some((stream, partition))
    }

    /// What a client can begin and not end.
    fn leave_frames_open(&self, streams: &mut Vec<TcpStream>) {
        // Nothing at all.
        streams.extend((0..SILENT).filter_map(|_| TcpStream::connect(self.address).ok()));
        // A half hello, and a header that announces a mebibyte.
        for place in 0..HEADERS {
            let Some((stream, partition)) = self.greeted(place) else { continue };
            push(&stream, &announcing(partition, Kind::Submit, 2));
            streams.push(stream);
            let Ok(stream) = TcpStream::connect(self.address) else { continue };
            push(&stream, &frame_of(0, 1, &Hello { partition: 0, client_name: "x" })[..40]);
            streams.push(stream);
        }
        // Most of that mebibyte, and never the end.
        let most = vec![0x5a; BODY_BYTES_MAX - 1];
        for place in 0..HALVES {
            let Some((stream, partition)) = self.greeted(place) else { continue };
            push(&stream, &announcing(partition, Kind::Submit, 2));
            push(&stream, &most);
            streams.push(stream);
        }
    }

    /// Subscriptions whose pages nobody takes.
    fn subscribe(&self, streams: &mut Vec<TcpStream>) {
        for place in 0..SUBSCRIBERS {
            let Some((stream, partition)) = self.greeted(place) else { continue };
            for number in 0..SUBSCRIPTIONS {
                let subscribe = Subscribe { from: 0, credit_bytes: CREDIT_BYTES_MAX };
                push(&stream, &frame_of(partition, 2 + number as u64, &subscribe));
            }
            streams.push(stream);
        }
    }

    /// Large reads whose answers nobody takes, of each kind.
    fn read(&self, streams: &mut Vec<TcpStream>) {
        for place in 0..READERS {
            let Some((stream, partition)) = self.greeted(place) else { continue };
            let account = accounts_of(PartitionId(partition), self.partitions)[0].id.0;
            let accounts = vec![account; LOOKUP_IDS_MAX];
            let limit = LIST_ACCOUNTS_MAX as u32;
            for request in 2..2 + READS as u64 {
                let at_least = if request % 2 == 0 { NO_OFFSET } else { NO_OFFSET - 1 };
                let bytes = match request % 5 {
                    0 => {
                        let lookup = LookupAccounts { at_least, ids: &accounts };
                        frame_of(partition, request, &lookup)
                    }
                    1 => {
                        let list = ListAccounts { at_least, after: 0, limit };
                        frame_of(partition, request, &list)
                    }
                    2 => {
                        let read = ReadLog { at_least, from: 0, bytes_max: u32::MAX };
                        frame_of(partition, request, &read)
                    }
                    3 => {
                        let lookup = LookupTransfers { at_least, ids: &self.ids };
                        frame_of(partition, request, &lookup)
                    }
                    _ => {
                        let namespace = IdNamespace::Event as u8;
                        let status = Status { at_least, namespace, ids: &self.ids };
                        frame_of(partition, request, &status)
                    }
                };
                push(&stream, &bytes);
            }
            streams.push(stream);
        }
    }

    /// Everything that a connection can ask for and leave lying, from many connections at once.
    fn attack(&self) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        self.leave_frames_open(&mut streams);
        self.subscribe(&mut streams);
        self.read(&mut streams);
        streams
    }
}

/// Writes and looks at the server's memory until it is told to end.
fn watch(server: &Server, accounts: &[Account], watched: &Watched) {
    let mut writer = Writer::new(7, accounts);
    let mut wire = server.wire(0);
    while !watched.ends.load(Ordering::Relaxed) {
        let events = [writer.transfer().to_bytes()];
        let reply = wire.call(&Submit { events: &events }).unwrap();
        assert_eq!(reply.open::<SubmitReply<'_>>().events(), 1, "honest writes go on");
        watched.written.fetch_add(1, Ordering::Relaxed);
        watched.largest.fetch_max(server.resident_bytes(), Ordering::Relaxed);
    }
}

/// The attackers are gone: what the server holds of them goes, too.
fn is_given_back(server: &Server, idle: u64) {
    let by = Instant::now() + PATIENCE;
    loop {
        let kept = server.resident_bytes().saturating_sub(idle);
        if kept <= KEPT_BYTES_MAX {
            return println!("{} MiB were kept", kept >> 20);
        }
        assert!(Instant::now() < by, "{} MiB were never given back", kept >> 20);
        thread::sleep(Duration::from_millis(100));
    }
}

/// The fault: the second wave of the attacks took 100 MiB more than the first, which the allocator held
/// free in its heaps.
#[test]
fn all_attacks_together_cost_a_bounded_memory_that_is_given_back() {
    raise_open_files(8000);
    let dir = TestDir::new("bounds");
    let cores = PARTITIONS.to_string();
    let launch = Launch::new(dir.path()).set("--cores", &cores).set("--partitions", &cores);
    let mut server = launch.serve();
    create_accounts(&server, PARTITIONS);
    let accounts = accounts_of(PartitionId(0), PARTITIONS);
    for partition in 0..PARTITIONS {
        write_log(server.address(), partition, LOG_BYTES / usize::from(PARTITIONS));
    }
    let ids = write_large_entry(server.address(), &accounts);
    let victim = Victim { address: server.address(), partitions: PARTITIONS, ids };
    let idle = server.resident_bytes();
    let watched = Watched::default();
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&server, &accounts, &watched));
        // The second finds what the first has made of the allocator's heaps.
        for _ in 0..WAVES {
            let streams = victim.attack();
            // Twice as long as memory that others wait for may be held.
            let by = Instant::now() + Duration::from_secs(4);
            let before = watched.written.load(Ordering::Relaxed);
            let mut asked = 0;
            while Instant::now() < by || asked < 3 {
                let status = run_command(Some(&server), dir.path(), &["status"]);
                assert!(status.status.success(), "{status:?}");
                asked += 1;
            }
            assert!(watched.written.load(Ordering::Relaxed) > before, "honest writes go on");
            drop(streams);
            thread::sleep(Duration::from_secs(1));
        }
        watched.ends.store(true, Ordering::Relaxed);
        watching.join().unwrap();
    });
    let grown = watched.largest.load(Ordering::Relaxed).saturating_sub(idle);
    println!(
        "idle {} MiB, grew by {} MiB, {} writes",
        idle >> 20,
        grown >> 20,
        watched.written.load(Ordering::Relaxed)
    );
    assert!(grown <= GROWTH_BYTES_MAX, "the server grew by {} MiB", grown >> 20);
    is_given_back(&server, idle);
    server.stop();
}

/// Connections to the port for peers that say they are a member, ask for pages of the log, and take
/// none.
fn attack_as_a_peer(address: SocketAddr, hello: peer::Hello, streams: &mut Vec<TcpStream>) {
    let framed = |request, message: &peer::Message| {
        let mut bytes = Vec::new();
        let head = FrameHead::reply(PartitionId(0), RequestId(request));
        peer::frame::encode(&mut bytes, head, message).unwrap();
        bytes
    };
    let greeting = framed(1, &peer::Message::Hello(hello));
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            push(&stream, &greeting);
            stream
        })
        .collect();
    // A few at a time are taken, so they come again and again.
    for request in 2..2 + PEER_READS {
        let read = peer::LogRead { from: 1 + request % 8, bytes_max: 1 << 20 };
        let read = framed(request, &peer::Message::LogRead(read));
        for stream in &peers {
            push(stream, &read);
        }
    }
    streams.extend(peers);
}

/// The fault: reads that wait for a majority were held without a bound, 2.1 GiB together, and what
/// peers left unread, 550 MiB.
#[test]
fn a_leader_without_majority_holds_a_bounded_memory_and_gives_it_back() {
    raise_open_files(8000);
    // Long, so that a busy machine ends no leadership before the network does.
    let mut nodes =
        Nodes::start("bounds-minority", 3, |launch| launch.set("--election-millis", "10000"));
    let leader = nodes.leader();
    let (address, peer_address) = (nodes.address(leader), nodes.peer_address(leader));
    create_accounts(nodes.server(leader), 1);
    let accounts = accounts_of(PartitionId(0), 1);
    write_log(address, 0, LOG_BYTES / 4);
    let ids = write_large_entry(address, &accounts);
    let victim = Victim { address, partitions: 1, ids };
    let view = nodes.view(leader).unwrap();
    let member = view.nodes.iter().map(|(id, ..)| *id).find(|id| *id != view.node).unwrap();
    let hello = peer::Hello {
        cluster: ClusterId(view.cluster),
        node: member,
        partition: PartitionId(0),
        partitions: 1,
    };
    let dir = nodes.dir();
    let idle = nodes.server(leader).resident_bytes();
    nodes.isolate(leader);
    // A write that is not decided: whatever shows its effect waits for it.
    let mut wire = nodes.wire(leader);
    let events = [Writer::new(7, &accounts).transfer().to_bytes()];
    wire.send(&Submit { events: &events }).unwrap();

    let server: &Server = nodes.server(leader);
    let watched = Watched::default();
    let streams = thread::scope(|scope| {
        scope.spawn(|| {
            while !watched.ends.load(Ordering::Relaxed) {
                watched.largest.fetch_max(server.resident_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut streams = Vec::new();
        victim.read(&mut streams);
        attack_as_a_peer(peer_address, hello, &mut streams);
        victim.subscribe(&mut streams);
        let by = Instant::now() + Duration::from_secs(3);
        let mut asked = 0;
        while Instant::now() < by || asked < 3 {
            let status = run_command(Some(server), &dir, &["status"]);
            assert!(status.status.success(), "{status:?}");
            asked += 1;
        }
        watched.ends.store(true, Ordering::Relaxed);
        streams
    });
    let grown = watched.largest.load(Ordering::Relaxed).saturating_sub(idle);
    println!("idle {} MiB, grew by {} MiB", idle >> 20, grown >> 20);
    assert!(grown <= GROWTH_BYTES_MAX, "the leader grew by {} MiB", grown >> 20);
    drop(streams);
    nodes.heal();
    nodes.leader();
    is_given_back(nodes.server(leader), idle);
    for node in 0..3 {
        nodes.server(node).stop();
    }
}

fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
    connect(&socket, &to).unwrap();
    socket.into()
}

#[test]
fn where_connections_are_at_their_limit_operators_and_other_addresses_get_in() {
    let dir = TestDir::new("connections");
    let mut server = Launch::new(dir.path()).set("--connections", "8").serve();
    create_accounts(&server, 1);
    // Three quarters of the places are one address's.
    let mut held: Vec<_> = (0..6).map(|_| server.wire(0)).collect();
    let mut beyond = server.wire(0);
    assert_eq!(beyond.call(&ServerStatus::default()).unwrap().error(), None);
    let accounts = accounts_of(PartitionId(0), 1);
    let mut writer = Writer::new(9, &accounts);
    let events = [writer.transfer().to_bytes()];
    assert_eq!(beyond.call(&Submit { events: &events }).unwrap().error(), Some(ErrorCode::Busy));
    let status = run_command(Some(&server), dir.path(), &["status"]);
    assert!(status.status.success(), "{status:?}");

    // Another address is served.
    let mut other = Wire::over(connect_from(9, server.address()), 0).unwrap();
    let reply = other.call(&Submit { events: &events }).unwrap();
    assert_eq!(reply.open::<SubmitReply<'_>>().events(), 1);

    // Silent connections in all kept places make room for an operator.
    let silent: Vec<_> =
        (0..40).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
    thread::sleep(Duration::from_millis(500));
    let status = run_command(Some(&server), dir.path(), &["status"]);
    assert!(status.status.success(), "{status:?}");
    drop(silent);

    // Who was told to come back is served once there is room.
    held.clear();
    let by = Instant::now() + PATIENCE;
    while beyond.call(&Submit { events: &events }).unwrap().error() == Some(ErrorCode::Busy) {
        assert!(Instant::now() < by, "there is room");
        thread::sleep(Duration::from_millis(20));
    }
    server.stop();
}

#[test]
fn a_connection_that_says_no_hello_is_closed_in_time() {
    let dir = TestDir::new("no-hello");
    let mut server = Launch::new(dir.path()).serve();
    let began = Instant::now();
    let mut silent = Wire::connect(server.address(), 0).unwrap();
    let mut half = Wire::connect(server.address(), 0).unwrap();
    let hello = half.frame(&Hello { partition: 0, client_name: "slow" });
    half.send_bytes(&hello[..hello.len() - 1]).unwrap();
    assert!(silent.until_closed().is_empty() && half.until_closed().is_empty());
    assert!(began.elapsed() >= Duration::from_secs(9), "it has its time");
    server.stop();
}

/// What the kernel has set for the server's end of a connection: which timer runs, and when it is due.
fn timer(server: SocketAddr, client: SocketAddr) -> Option<(u8, Duration)> {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let ends = (Some(server.port()), Some(client.port()));
    let row = rows.into_iter().find(|row| (port(row[1]), port(row[2])) == ends)?;
    let (kind, hundredths) = row[5].split_once(':')?;
    let due = Duration::from_millis(u64::from_str_radix(hundredths, 16).ok()? * 10);
    Some((u8::from_str_radix(kind, 16).ok()?, due))
}

/// The fault: a client whose host had vanished held its place and its memory for ever. The kernel asks
/// for it, and nothing but the socket's settings makes it.
#[test]
fn the_kernel_looks_for_clients_that_say_nothing_and_gives_them_up_within_a_minute() {
    const KEEPALIVE: u8 = 2; // proc_net_tcp.txt
    let all = KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_PROBES_MAX;
    assert!(all <= Duration::from_mins(1), "{all:?}");
    let dir = TestDir::new("keepalive");
    let mut server = Launch::new(dir.path()).serve();
    let connect = || TcpStream::connect(server.address()).unwrap();
    let silent = connect();
    let (greeted, subscribed) = (connect(), connect());
    let ends = [&silent, &greeted, &subscribed].map(|stream| stream.local_addr().unwrap());
    let (mut greeted, mut subscribed) =
        (Wire::over(greeted, 0).unwrap(), Wire::over(subscribed, 0).unwrap());
    assert_eq!(greeted.call(&ServerStatus::default()).unwrap().error(), None);
    subscribed.send(&Subscribe { from: 0, credit_bytes: 1 }).unwrap();
    assert_eq!(subscribed.call(&ServerStatus::default()).unwrap().error(), None);
    for (what, client) in ["silent", "greeted", "subscribed"].iter().zip(ends) {
        let by = Instant::now() + Duration::from_secs(20);
        loop {
            // Another timer runs until the client's kernel has confirmed what was sent.
            let found = timer(server.address(), client);
            if found.is_some_and(|(kind, due)| kind == KEEPALIVE && due <= KEEPALIVE_AFTER) {
                break;
            }
            assert!(Instant::now() < by, "{what}: {found:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
    server.stop();
}
