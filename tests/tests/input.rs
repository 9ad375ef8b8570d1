//! Does any input on a socket harm the server or its other clients?

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::frame::{self, FrameHead, FrameHeader, HEADER_BYTES, Kind, RequestId};
use walengine_net::limits::{BODY_BYTES_MAX, LOOKUP_IDS_MAX};
use walengine_net::message::{
    ErrorCode, Hello, HelloReply, IdNamespace, LookupAccounts, NO_OFFSET, ServerStatus,
    ServerStatusReply, Status, StatusReply, Submit, SubmitReply, Subscribe, Unsubscribe,
};
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir};
use walengine_tests::sim::Rng;
use walengine_tests::wire::Wire;

use crate::kill::create_accounts;

/// How much a server may grow by what these tests send it.
const GROWTH_BYTES_MAX: u64 = 96 << 20;
const PATIENCE: Duration = Duration::from_mins(1);
const IDLE: usize = 1000;

/// A server with accounts, and another client that uses it.
struct Served {
    server: Server,
    other: Wire,
    writer: Writer,
    resident_bytes: u64,
    _dir: TestDir,
}

impl Served {
    fn new(test: &str, configure: impl FnOnce(Launch) -> Launch) -> Self {
        let dir = TestDir::new(test);
        let server = configure(Launch::new(dir.path())).serve();
        create_accounts(&server, 1);
        let writer = Writer::new(7, &accounts_of(PartitionId(0), 1));
        let (other, resident_bytes) = (server.wire(0), server.resident_bytes());
        let mut served = Self { server, other, writer, resident_bytes, _dir: dir };
        served.still_serves();
        served
    }

    /// The other client's transfer succeeds.
    fn still_serves(&mut self) {
        let events = [self.writer.transfer().to_bytes()];
        let reply = self.other.call(&Submit { events: &events }).unwrap();
        assert_eq!(reply.open::<SubmitReply<'_>>().events(), 1);
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.server.address(), 0).unwrap()
    }

    fn end(mut self) {
        self.still_serves();
        let grown = self.server.resident_bytes().saturating_sub(self.resident_bytes);
        assert!(grown <= GROWTH_BYTES_MAX, "the server grew by {grown} bytes");
        self.server.stop();
    }
}

/// A frame with any header, and the right checksum.
fn any_frame(kind: u16, flags: u16, request: u64, body: &[u8]) -> Vec<u8> {
    let head = FrameHead::reply(PartitionId(0), RequestId(request));
    let header = FrameHeader { crc: 0, kind, flags, body_bytes: body.len() as u32, head };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(body);
    frame::seal(&mut bytes, head.request, 0);
    bytes
}

/// Seals a frame again after something in its header was changed.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    frame::seal(&mut bytes, RequestId(9), 0);
    bytes
}

/// A header that announces `body_bytes`, without a body.
fn announced(body_bytes: u32) -> Vec<u8> {
    let mut bytes = any_frame(Kind::Submit.number(), 0, 9, &[]);
    bytes[24..28].copy_from_slice(&body_bytes.to_le_bytes());
    sealed(bytes)
}

#[test]
fn a_frame_cut_off_at_any_byte_changes_nothing() {
    let mut served = Served::new("truncated", |launch| launch);
    let transfer = served.writer.transfer();
    let events = [transfer.to_bytes()];
    let hello = Hello { partition: 0, client_name: "cut off" };
    let mut sizes = Vec::new();
    for greeted in [false, true] {
        let mut size = usize::MAX;
        let mut length = 0;
        while length < size {
            let mut wire = served.connect();
            let whole = if greeted {
                assert_eq!(wire.call(&hello).unwrap().kind, Kind::HelloReply);
                wire.frame(&Submit { events: &events })
            } else {
                wire.frame(&hello)
            };
            size = whole.len();
            wire.send_bytes(&whole[..length]).unwrap();
            wire.stream().shutdown(Shutdown::Write).unwrap();
            assert!(wire.until_closed().is_empty(), "an answer to {length} bytes of {size}");
            length += 1;
        }
        sizes.push(size);
        served.still_serves();
    }
    assert!(sizes[1] > HEADER_BYTES + 128, "{sizes:?}");
    let ids = [transfer.id.0];
    let status = Status { at_least: NO_OFFSET, namespace: IdNamespace::Event as u8, ids: &ids };
    let reply = served.other.call(&status).unwrap();
    let known = reply.open::<StatusReply<'_>>().states[0].decided();
    assert_eq!(known, None, "a part of a transfer took effect");
    served.end();
}

/// What is wrong, the bytes, the error that answers, and whether the connection closes.
type Bad = (&'static str, Vec<u8>, ErrorCode, bool);

fn bad_frames() -> Vec<Bad> {
    let good = any_frame(Kind::ServerStatus.number(), 0, 9, &[0; 4]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let submit = Kind::Submit.number();
    let mut other_partition = good.clone();
    other_partition[14] = 1;
    vec![
        ("magic", with(0, b'X'), ErrorCode::Malformed, true),
        ("version", sealed(with(8, 9)), ErrorCode::UnsupportedVersion, true),
        ("checksum", with(5, good[5] ^ 1), ErrorCode::Malformed, true),
        ("body", with(good.len() - 1, 1), ErrorCode::Malformed, true),
        ("length of max + 1", announced(BODY_BYTES_MAX as u32 + 1), ErrorCode::TooLarge, true),
        ("length of 2^32 - 1", announced(u32::MAX), ErrorCode::TooLarge, true),
        ("kind", any_frame(77, 0, 9, &[]), ErrorCode::UnknownKind, false),
        ("a reply's kind", any_frame(130, 0, 9, &[]), ErrorCode::UnknownKind, false),
        ("flags", any_frame(submit, 0x8001, 9, &[]), ErrorCode::Malformed, false),
        ("length of 0", any_frame(submit, 0, 9, &[]), ErrorCode::Malformed, false),
        (
            "length of max",
            any_frame(submit, 0, 9, &vec![0xa5; BODY_BYTES_MAX]),
            ErrorCode::Malformed,
            false,
        ),
        ("partition", sealed(other_partition), ErrorCode::WrongPartition, false),
    ]
}

#[test]
fn each_wrong_field_gets_its_own_error_and_closes_only_what_must_be_closed() {
    let mut served = Served::new("wrong", |launch| launch);
    for (what, bytes, code, closes) in bad_frames() {
        let mut wire = served.server.wire(0);
        wire.send_bytes(&bytes).unwrap();
        let reply = wire.receive().unwrap_or_else(|error| panic!("wrong {what}: {error}"));
        assert_eq!(reply.error(), Some(code), "wrong {what}");
        if closes {
            assert!(wire.until_closed().is_empty(), "wrong {what}: more than one answer");
        } else {
            let reply = wire.call(&ServerStatus::default()).unwrap();
            assert_eq!(reply.kind, Kind::ServerStatusReply, "wrong {what}");
        }
        served.still_serves();
    }
    served.end();
}

/// The fault: such a connection was closed with bytes unread, which resets it; the answer that says why
/// may be lost with it.
#[test]
fn who_is_closed_for_a_bad_frame_reads_why_although_it_still_sends() {
    let mut served = Served::new("still-sending", |launch| launch);
    for subscribed in [false, true] {
        for (what, mut bytes, code, closes) in bad_frames() {
            if !closes {
                continue;
            }
            let mut wire = served.server.wire(0);
            if subscribed {
                // From here on the feed serves it.
                wire.send(&Subscribe { from: 1 << 40, credit_bytes: 1 }).unwrap();
                let reply = wire.call(&ServerStatus::default()).unwrap();
                assert_eq!(reply.kind, Kind::ServerStatusReply);
            }
            bytes.resize(1 << 20, 0x5a);
            let _ = wire.send_bytes(&bytes); // a reset is told below
            let reply = wire.receive().unwrap_or_else(|error| panic!("wrong {what}: {error}"));
            assert_eq!(reply.error(), Some(code), "wrong {what}");
            let _ = wire.send_bytes(&bytes);
            let end = wire.receive().unwrap_err().kind();
            assert_eq!(end, ErrorKind::UnexpectedEof, "wrong {what}: closed, and not reset");
            for _ in 0..10 {
                let error = wire.stream().take_error().unwrap();
                assert!(error.is_none(), "wrong {what}: {error:?}, on the feed: {subscribed}");
                thread::sleep(Duration::from_millis(10)); // a reset may be on its way
            }
        }
        served.still_serves();
    }
    served.end();
}

#[test]
fn a_connection_that_begins_wrong_is_told_why_and_closed() {
    let mut served = Served::new("wrong-start", |launch| launch);
    for (what, bytes, code, closes) in bad_frames() {
        let mut wire = served.connect();
        wire.send_bytes(&bytes).unwrap();
        let reply = wire.receive().unwrap_or_else(|error| panic!("wrong {what}: {error}"));
        // What is no frame is told as such; whatever else it is, it is no hello.
        let known = [ErrorCode::Malformed, ErrorCode::UnsupportedVersion, ErrorCode::TooLarge];
        let expected = if closes && known.contains(&code) && what != "checksum" && what != "body" {
            code
        } else {
            ErrorCode::WrongPartition
        };
        assert_eq!(reply.error(), Some(expected), "wrong {what}");
        assert!(wire.until_closed().is_empty(), "wrong {what}: more than one answer");
        served.still_serves();
    }
    // Well-formed, and out of turn.
    let mut wire = served.connect();
    let reply = wire.call(&ServerStatus::default()).unwrap();
    assert_eq!(reply.error(), Some(ErrorCode::WrongPartition));
    assert!(wire.until_closed().is_empty());
    // Another protocol, in a few bytes that never end.
    let mut wire = served.connect();
    wire.send_bytes(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let replies = wire.until_closed();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].error(), Some(ErrorCode::Malformed));
    // Each is counted by its reason, and the log says it of the first ones only.
    let away = |reason: &str| format!("client_connections_turned_away_{reason}_since_start");
    let reply = served.other.call(&ServerStatus::default()).unwrap();
    let rows = reply.open::<ServerStatusReply<'_>>().numbers.iter();
    let rows: Vec<_> = rows.map(|row| (row.name.to_string(), row.value.to_native())).collect();
    let count = |name: &str| rows.iter().find(|row| row.0 == name).map_or(0, |row| row.1);
    let (malformed, wrong) = (count(&away("malformed")), count(&away("wrong_partition")));
    assert_eq!(malformed + wrong, bad_frames().len() as u64 + 2, "{rows:?}");
    assert!(malformed > 2 && wrong > 2, "{rows:?}");
    let log = served.server.log();
    let told = log.lines().filter(|line| line.contains("turned away a connection of a client"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told.iter().all(|line| line.contains(" from 127.0.0.1:")), "{told:?}");
    served.end();
}

/// The fault: it was carried out, and the subscription went on with the same id.
#[test]
fn a_request_with_the_id_of_a_subscription_ends_it_and_is_not_carried_out() {
    let mut served = Served::new("subscribed-id", |launch| launch);
    let mut wire = served.server.wire(0);
    let (living, ended) = (RequestId(50), RequestId(60));
    for id in [living, ended] {
        wire.send_as(id, &Subscribe { from: 1 << 40, credit_bytes: 1 << 20 }).unwrap();
    }
    wire.send_as(ended, &Unsubscribe::default()).unwrap();
    assert_eq!(wire.receive().unwrap().kind, Kind::UnsubscribeReply);
    let transfer = served.writer.transfer();
    let events = [transfer.to_bytes()];
    for id in [living, ended, living] {
        wire.send_as(id, &Submit { events: &events }).unwrap();
        let reply = wire.receive().unwrap();
        assert_eq!((reply.request, reply.error()), (id, Some(ErrorCode::Malformed)));
    }
    wire.send_as(living, &Unsubscribe::default()).unwrap();
    assert_eq!(wire.receive().unwrap().error(), Some(ErrorCode::Malformed), "it lives on");
    // One for another partition is answered also where the feed serves the connection.
    let (mut elsewhere, astray) = (Vec::new(), RequestId(70));
    let subscribe = Subscribe { from: 0, credit_bytes: 1 << 20 };
    let head = FrameHead::reply(PartitionId(1), astray);
    frame::encode(&mut elsewhere, head, &subscribe).unwrap();
    wire.send_bytes(&elsewhere).unwrap();
    let reply = wire.receive().unwrap();
    assert_eq!((reply.request, reply.error()), (astray, Some(ErrorCode::WrongPartition)));
    let ids = [transfer.id.0];
    let status = Status { at_least: NO_OFFSET, namespace: IdNamespace::Event as u8, ids: &ids };
    let reply = served.other.call(&status).unwrap();
    assert_eq!(reply.open::<StatusReply<'_>>().states[0].decided(), None, "it was carried out");
    served.end();
}

/// The fault: a socket that is closed with bytes unread is reset, and its client may lose the answer.
#[test]
fn whatever_comes_behind_a_wrong_first_frame_its_answer_arrives_and_nothing_is_reset() {
    let served = Served::new("wrong-and-more", |launch| launch);
    for more in [1, 64 << 10, 1 << 20] {
        let mut bytes = served.connect().frame(&ServerStatus::default());
        bytes.resize(bytes.len() + more, 0);
        let mut stream = TcpStream::connect(served.server.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let found = frame::peek(&answer).unwrap().unwrap();
        assert_eq!((found.kind, found.frame_bytes()), (Kind::Error, answer.len()), "{more}");
        for _ in 0..20 {
            assert!(stream.take_error().unwrap().is_none(), "it was reset, with {more} more bytes");
            thread::sleep(Duration::from_millis(10)); // a reset may be on its way
        }
    }
    served.end();
}

#[test]
fn a_hello_for_no_partition_is_answered_by_its_own_id() {
    let served = Served::new("no-partition", |launch| launch);
    let mut wire = Wire::connect(served.server.address(), 7).unwrap();
    wire.send_as(RequestId(41), &Hello { partition: 7, client_name: "far" }).unwrap();
    let reply = wire.receive().unwrap();
    assert_eq!(reply.request, RequestId(41));
    assert_eq!(reply.error(), Some(ErrorCode::NoSuchPartition));
    assert!(wire.until_closed().is_empty());
    // Header and body that name different ones.
    let mut wire = served.connect();
    wire.send_as(RequestId(42), &Hello { partition: 1, client_name: "torn" }).unwrap();
    let reply = wire.receive().unwrap();
    assert_eq!((reply.request, reply.error()), (RequestId(42), Some(ErrorCode::WrongPartition)));
    assert!(wire.until_closed().is_empty());
    // A hello that announces too much is told before it has come.
    let mut wire = served.connect();
    let mut bytes = any_frame(Kind::Hello.number(), 0, 43, &[]);
    bytes[24..28].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    wire.send_bytes(&bytes).unwrap();
    let reply = wire.receive().unwrap();
    assert_eq!((reply.request, reply.error()), (RequestId(43), Some(ErrorCode::TooLarge)));
    assert!(wire.until_closed().is_empty());
    served.end();
}

#[test]
fn random_bodies_get_typed_answers() {
    let seed = 0x5eed_0005;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let mut served = Served::new("random", |launch| launch);
    let events = [served.writer.transfer().to_bytes(), served.writer.transfer().to_bytes()];
    let mut wire = served.server.wire(0);
    let valid = wire.frame(&Submit { events: &events })[HEADER_BYTES..].to_vec();
    // One that closes the connection whenever it is refused is left out.
    let is_answered = |kind: &Kind| !kind.is_reply() && *kind != Kind::ActFor;
    let requests: Vec<Kind> = Kind::all().filter(is_answered).collect();
    for round in 0..3000_u64 {
        let kind = requests[rng.index(requests.len())];
        let body = if rng.percent(30) {
            let mut body = valid.clone();
            for _ in 0..rng.between(1, 4) {
                // The end is where the lengths and pointers stand.
                let back = rng.index(12.min(body.len())) + 1;
                let at = if rng.percent(70) { body.len() - back } else { rng.index(body.len()) };
                body[at] ^= rng.between(1, 255) as u8;
            }
            body
        } else {
            let mut body = vec![0; rng.below(200) as usize];
            rng.fill(&mut body);
            body
        };
        let mark = 10_000_000 + round;
        wire.send_bytes(&any_frame(kind.number(), 0, 1000 + round, &body)).unwrap();
        wire.send_bytes(&any_frame(Kind::ServerStatus.number(), 0, mark, &[0; 4])).unwrap();
        loop {
            let reply = wire.receive().unwrap_or_else(|error| {
                panic!("{kind:?} {body:x?}: {error}\n{}", served.server.log())
            });
            let _ = reply.error(); // panics if the error itself is malformed
            if reply.request == RequestId(mark) {
                break;
            }
        }
    }
    served.end();
}

#[test]
fn a_frame_in_drips_delays_nobody_and_is_answered_when_whole() {
    let mut served = Served::new("drip", |launch| launch);
    let mut wires: Vec<_> = (0..50).map(|_| served.server.wire(0)).collect();
    let frames: Vec<_> =
        wires.iter_mut().map(|wire| wire.frame(&ServerStatus::default())).collect();
    for place in 0..3 {
        for (wire, frame) in wires.iter_mut().zip(&frames) {
            wire.send_bytes(&frame[place..=place]).unwrap();
        }
        let by = Instant::now() + Duration::from_secs(1);
        while Instant::now() < by {
            let began = Instant::now();
            served.still_serves();
            assert!(began.elapsed() < Duration::from_secs(10), "others wait for the slow ones");
        }
    }
    for (wire, frame) in wires.iter_mut().zip(&frames) {
        wire.send_bytes(&frame[3..]).unwrap();
        assert_eq!(wire.receive().unwrap().kind, Kind::ServerStatusReply);
    }
    served.end();
}

/// Lets this process have `files` open.
pub fn raise_open_files(files: usize) {
    let id = std::process::id().to_string();
    let limit = format!("--nofile={files}:");
    let status = Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap();
    assert!(status.success(), "cannot raise the limit of open files to {files}");
}

#[test]
fn a_thousand_idle_connections_cost_little_and_stay() {
    raise_open_files(4 * IDLE);
    // The server raises its own limit.
    let few = |launch: Launch| launch.through(&["prlimit", "--nofile=256:4096"]);
    let mut served = Served::new("idle", few);
    let mut greeted: Vec<_> = (0..IDLE).map(|_| served.server.wire(0)).collect();
    let silent: Vec<_> = (0..IDLE).map(|_| served.connect()).collect();
    for _ in 0..100 {
        served.still_serves();
    }
    let grown = served.server.resident_bytes().saturating_sub(served.resident_bytes);
    println!("{} bytes for each of {} connections", grown / (2 * IDLE as u64), 2 * IDLE);
    for wire in &mut greeted {
        assert_eq!(wire.call(&ServerStatus::default()).unwrap().kind, Kind::ServerStatusReply);
    }
    drop(silent);
    served.end();
}

#[test]
fn a_client_that_never_reads_is_stopped_and_closed() {
    let mut served = Served::new("never-reads", |launch| launch);
    let before = served.server.open_sockets();
    let accounts = accounts_of(PartitionId(0), 1);
    let ids = vec![accounts[0].id.0; LOOKUP_IDS_MAX];
    let mut greedy = served.server.wire(0);
    greedy.stream().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let lookup = LookupAccounts { at_least: NO_OFFSET, ids: &ids };
    let mut sent = 0;
    let error = loop {
        match greedy.send(&lookup) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "the server reads on and on");
        served.still_serves();
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    println!("the server read no further after {sent} look-ups");
    assert_eq!(served.server.open_sockets(), before + 1, "still there");
    let by = Instant::now() + PATIENCE;
    while served.server.open_sockets() > before {
        served.still_serves();
        assert!(Instant::now() < by, "never closed:\n{}", served.server.log());
        let grown = served.server.resident_bytes().saturating_sub(served.resident_bytes);
        assert!(grown <= GROWTH_BYTES_MAX, "the server grew by {grown} bytes");
        thread::sleep(Duration::from_millis(50));
    }
    let log = served.server.log();
    assert!(log.contains("slow: answers were left unread"), "{log}");
    served.end();
}

#[test]
fn a_greeting_says_what_the_server_takes() {
    let served = Served::new("greeting", |launch| launch);
    let mut wire = served.connect();
    let reply = wire.call(&Hello { partition: 0, client_name: "reader" }).unwrap();
    let hello = reply.open::<HelloReply<'_>>();
    assert_eq!(hello.partitions.to_native(), 1);
    assert_eq!(hello.body_bytes_max.to_native() as usize, BODY_BYTES_MAX);
    served.end();
}
