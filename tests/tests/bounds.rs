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
    Append, AppendHead, ErrorCode, Hello, ListAccounts, LookupAccounts, LookupTransfers, Message,
    NO_OFFSET, ReadLog, ServerStatus, Submit, SubmitReply, Subscribe,
};
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir, run_command};
use walengine_tests::wire::Wire;

use crate::input::raise_open_files;
use crate::kill::create_accounts;

/// How much a server may grow by all attacks together.
const GROWTH_BYTES_MAX: u64 = 256 << 20;
/// How much of that may stay once the attackers are gone.
const KEPT_BYTES_MAX: u64 = 96 << 20;
const PATIENCE: Duration = Duration::from_mins(2);
const HEADERS: usize = 500;
const SUBSCRIBERS: usize = 200;
const SUBSCRIPTIONS: usize = 16;
const READERS: usize = 100;
const READS: usize = 48;
const HALVES: usize = 150;
/// Of the log that is there before, so that subscriptions have something to send.
const LOG_BYTES: usize = 48 << 20;
const RECORD_BYTES: usize = 1 << 10;

/// The largest memory that a server was seen to have, while somebody uses it.
struct Watched {
    largest: AtomicU64,
    written: AtomicU64,
    ends: AtomicBool,
}

fn frame_of<M: Message>(request: u64, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = FrameHead::reply(PartitionId(0), RequestId(request));
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

/// A header that announces the largest body.
fn announcing(kind: Kind, request: u64) -> Vec<u8> {
    let head = FrameHead::reply(PartitionId(0), RequestId(request));
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

fn greeted(server: &Server) -> Option<TcpStream> {
    let stream = TcpStream::connect(server.address()).ok()?;
    push(&stream, &frame_of(1, &Hello { partition: 0, client_name: "attacker" }));
    Some(stream)
}

fn write_log(server: &Server) {
    let mut wire = server.wire(0);
    let records = 1000;
    for batch in 0..LOG_BYTES / (records * RECORD_BYTES) {
        let heads: Vec<_> = (0..records)
            .map(|record| AppendHead {
                id: ((batch * records + record) as u128) << 64 | 1,
                bytes: RECORD_BYTES as u32,
            })
            .collect();
        let blob = vec![batch as u8; records * RECORD_BYTES];
        let append = Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &blob };
        while wire.call(&append).unwrap().error() == Some(ErrorCode::Busy) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Everything that a connection can ask for and leave lying, from many connections at once.
fn attack(server: &Server) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    // Nothing, a half hello, and a hello that is none.
    for place in 0..HEADERS {
        let Ok(stream) = TcpStream::connect(server.address()) else { continue };
        match place % 3 {
            0 => {}
            1 => push(&stream, &frame_of(1, &Hello { partition: 0, client_name: "x" })[..40]),
            _ => push(&stream, &announcing(Kind::Submit, 1)),
        }
        streams.push(stream);
    }
    // A header that announces a mebibyte.
    for _ in 0..HEADERS {
        let Some(stream) = greeted(server) else { continue };
        push(&stream, &announcing(Kind::Submit, 2));
        streams.push(stream);
    }
    // Most of that mebibyte, and never the end.
    let most = vec![0x5a; BODY_BYTES_MAX - 1];
    for _ in 0..HALVES {
        let Some(stream) = greeted(server) else { continue };
        push(&stream, &announcing(Kind::Submit, 2));
        push(&stream, &most);
        streams.push(stream);
    }
    // Subscriptions whose pages nobody takes.
    for _ in 0..SUBSCRIBERS {
        let Some(stream) = greeted(server) else { continue };
        for number in 0..SUBSCRIPTIONS {
            let subscribe = Subscribe { from: 0, credit_bytes: CREDIT_BYTES_MAX };
            push(&stream, &frame_of(2 + number as u64, &subscribe));
        }
        streams.push(stream);
    }
    // Large reads whose answers nobody takes, of each kind.
    let account = accounts_of(PartitionId(0), 1)[0].id.0;
    let ids = vec![account; LOOKUP_IDS_MAX];
    let limit = LIST_ACCOUNTS_MAX as u32;
    for _ in 0..READERS {
        let Some(stream) = greeted(server) else { continue };
        for number in 0..READS as u64 {
            let at_least = if number % 2 == 0 { NO_OFFSET } else { NO_OFFSET - 1 };
            let bytes = match number % 4 {
                0 => frame_of(2 + number, &LookupAccounts { at_least, ids: &ids }),
                1 => frame_of(2 + number, &ListAccounts { at_least, after: 0, limit }),
                2 => frame_of(2 + number, &ReadLog { at_least, from: 0, bytes_max: u32::MAX }),
                _ => frame_of(2 + number, &LookupTransfers { at_least, ids: &ids }),
            };
            push(&stream, &bytes);
        }
        streams.push(stream);
    }
    streams
}

/// Writes and looks at the server's memory until it is told to end.
fn watch(server: &Server, watched: &Watched) {
    let mut writer = Writer::new(7, &accounts_of(PartitionId(0), 1));
    let mut wire = server.wire(0);
    while !watched.ends.load(Ordering::Relaxed) {
        let events = [writer.transfer().to_bytes()];
        let reply = wire.call(&Submit { events: &events }).unwrap();
        assert_eq!(reply.open::<SubmitReply<'_>>().events(), 1, "honest writes go on");
        watched.written.fetch_add(1, Ordering::Relaxed);
        watched.largest.fetch_max(server.resident_bytes(), Ordering::Relaxed);
    }
}

#[test]
fn all_attacks_together_cost_a_bounded_memory_that_is_given_back() {
    raise_open_files(8000);
    let dir = TestDir::new("bounds");
    let server = Launch::new(dir.path()).serve();
    create_accounts(&server, 1);
    write_log(&server);
    let idle = server.resident_bytes();
    let watched = Watched {
        largest: AtomicU64::new(0),
        written: AtomicU64::new(0),
        ends: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&server, &watched));
        let streams = attack(&server);
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
    let by = Instant::now() + PATIENCE;
    loop {
        let kept = server.resident_bytes().saturating_sub(idle);
        if kept <= KEPT_BYTES_MAX {
            println!("{} MiB were kept", kept >> 20);
            break;
        }
        assert!(Instant::now() < by, "{} MiB were never given back", kept >> 20);
        thread::sleep(Duration::from_millis(100));
    }
    let mut server = server;
    server.stop();
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
