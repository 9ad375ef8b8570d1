//! What does the answering end of a connection do with frames of unknown kinds, with peers that break
//! the protocol, and with those that leave their answers unread?

use std::future::{poll_fn, ready};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use openraft::async_runtime::{MpscReceiver, MpscSender};
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use openraft::vote::RaftLeaderId as _;
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::budget::Budget;
use walengine_replication::executor::Runtime as _;
use walengine_replication::peer::limits::LOG_PAGE_BYTES_MAX;
use walengine_replication::peer::{
    About, Carried, Hello, HelloReply, LogPage, LogRead, Message, PeerError, PeerErrorCode,
    Refusal, Words, frame,
};
use walengine_replication::received::Received;
use walengine_replication::runtime::{enter, within};
use walengine_replication::runtime_glommio::GlommioRuntime;
use walengine_replication::tcp::accept::{Answering, Refusals, serve};
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::tcp::{LOG_READS_MAX, OUT_BYTES_MAX, PeerIdentity};
use walengine_replication::transport::{AppendReceiver, NoAnswer, Request, Response, ResultSender};
use walengine_replication::types::{LogId, Member, NodeId, Types, Vote};

const PARTITION: PartitionId = PartitionId(0);
const HELLO: Hello = Hello { cluster: ClusterId(7), node: 2, partition: PARTITION, partitions: 1 };

/// What the last append follows.
const LAST_INDEX: u64 = 12;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the connections of peers may hold where that is tried.
const HELD_BYTES_MAX: usize = 16 << 20;

/// A group that answers reads of the log, with as many bytes as they ask for, and nothing else.
#[derive(Clone)]
struct OnlyReads;

impl Answering for OnlyReads {
    fn answer(
        &self,
        _from: NodeId,
        request: Request,
    ) -> impl Future<Output = Result<Response, NoAnswer>> + 'static {
        poll_fn(move |_| panic!("the group was asked: {request:?}"))
    }

    fn take_appends(
        &self,
        _from: NodeId,
        _requests: AppendReceiver,
        _results: ResultSender,
    ) -> impl Future<Output = Result<(), NoAnswer>> + 'static {
        poll_fn(|_| panic!("the group was handed appends"))
    }

    fn read_log(&self, read: LogRead) -> impl Future<Output = Result<LogPage, String>> + 'static {
        let entries = vec![0; read.bytes_max as usize & !0xff].into();
        let page = LogPage { vote: Vote::new(1, 1), committed: read.from, entries };
        ready(Ok(page))
    }

    fn carry(&self, _: Carried) -> impl Future<Output = Result<Words, String>> + 'static {
        poll_fn(|_| panic!("the group was brought transfers"))
    }

    fn about(&self) -> About {
        About { client_address: "db1.example:7450".into(), ..About::default() }
    }

    fn admits(&self, _node: NodeId) -> Result<(), Refusal> {
        Ok(())
    }

    fn may_go_on(&self) -> Result<(), String> {
        Ok(())
    }
}

const IDENTITY: PeerIdentity =
    PeerIdentity { cluster: HELLO.cluster, node: 1, partition: PARTITION, partitions: 1 };

/// Serves one connection, lets `ask` use it from a thread, and returns what was refused on it.
fn served(ask: impl FnOnce(SocketAddr) + Send + 'static) -> Rc<Refusals> {
    served_and_held(ask).0
}

/// As [`served`], and the most memory that the connection held.
fn served_and_held(ask: impl FnOnce(SocketAddr) + Send + 'static) -> (Rc<Refusals>, usize) {
    served_by(OnlyReads, ask)
}

/// As [`served_and_held`], by this group.
fn served_by(
    group: impl Answering,
    ask: impl FnOnce(SocketAddr) + Send + 'static,
) -> (Rc<Refusals>, usize) {
    glommio::LocalExecutor::default().run(async move {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asking = thread::spawn(move || ask(address));
        let stream = listener.accept().await.unwrap();
        let refusals = Rc::new(Refusals::default());
        let (budget, counted) = (Budget::default(), refusals.clone());
        serve(stream, None, Received::new(&budget), IDENTITY, group, runtime, counted).await;
        asking.join().unwrap();
        for _ in 0..1000 {
            if budget.used() > 0 {
                runtime.sleep(Duration::from_millis(10)).await; // what sends has not ended yet
            }
        }
        assert_eq!(budget.used(), 0, "it is given back");
        (refusals, budget.take_peak())
    })
}

fn framed(request: u64, message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, FrameHead::reply(PARTITION, RequestId(request)), message).unwrap();
    bytes
}

/// A frame of any kind, with the checksum that belongs to it.
fn raw_frame(request: u64, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = framed(request, &Message::LogRead(LogRead { from: 1, bytes_max: 1 }));
    bytes.truncate(32);
    bytes.extend_from_slice(body);
    bytes[10..12].copy_from_slice(&kind.to_le_bytes());
    bytes[24..28].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

struct Dialled {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Dialled {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut dialled = Self { stream, received: Vec::new() };
        dialled.stream.write_all(&framed(1, &Message::Hello(HELLO))).unwrap();
        let (_, reply) = dialled.next();
        assert!(matches!(reply, Message::HelloReply(HelloReply::Accepted { node: 1 })));
        dialled
    }

    fn next(&mut self) -> (u64, Message) {
        loop {
            if let Some(found) = frame::peek(&self.received).unwrap() {
                let next = (found.head.request.0, found.open().unwrap());
                let bytes = found.frame_bytes();
                self.received.drain(..bytes);
                return next;
            }
            let mut piece = [0; 16 << 10];
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "the connection was closed");
            self.received.extend_from_slice(&piece[..read]);
        }
    }
}

/// A stranger could once erase a ledger with these: a snapshot without chunks, behind no entry, in
/// the name of a leader of the highest term.
#[test]
fn a_snapshot_is_an_unknown_kind_and_the_connection_goes_on() {
    let refusals = served(|address| {
        let mut dialled = Dialled::new(address);
        let mut begin = [u64::MAX.to_le_bytes(), 2_u64.to_le_bytes()].concat();
        begin.extend_from_slice(&[1, 0, 0]); // committed; no last entry, no entry of a membership
        begin.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]); // a membership without nodes
        let frames =
            [(0x8006, begin), (0x8007, vec![0; 8]), (0x8008, vec![0; 16]), (0x8088, vec![0; 17])];
        for (request, (kind, body)) in (2..).zip(frames) {
            dialled.stream.write_all(&raw_frame(request, kind, &body)).unwrap();
            let (answered, reply) = dialled.next();
            let Message::Error(error) = reply else { panic!("{kind:#x} was answered: {reply:?}") };
            assert_eq!((answered, error.code), (request, PeerErrorCode::UnknownKind), "{kind:#x}");
        }
        let read = Message::LogRead(LogRead { from: 41, bytes_max: 1 });
        dialled.stream.write_all(&framed(6, &read)).unwrap();
        let (answered, reply) = dialled.next();
        assert_eq!(answered, 6);
        assert!(matches!(reply, Message::LogPage(page) if page.committed == 41));
    });
    assert_eq!(refusals.requests.get(), 4);
    assert_eq!((refusals.hellos.get(), refusals.broken.get()), (0, 0));
}

/// A group that lacks what the first append follows, and has been sent more by then.
#[derive(Clone)]
struct Lacks;

impl Answering for Lacks {
    fn answer(
        &self,
        from: NodeId,
        request: Request,
    ) -> impl Future<Output = Result<Response, NoAnswer>> + 'static {
        OnlyReads.answer(from, request)
    }

    fn take_appends(
        &self,
        _from: NodeId,
        requests: AppendReceiver,
        results: ResultSender,
    ) -> impl Future<Output = Result<(), NoAnswer>> + 'static {
        lack_the_first(requests, results)
    }

    fn read_log(&self, read: LogRead) -> impl Future<Output = Result<LogPage, String>> + 'static {
        OnlyReads.read_log(read)
    }

    fn carry(&self, carried: Carried) -> impl Future<Output = Result<Words, String>> + 'static {
        OnlyReads.carry(carried)
    }

    fn about(&self) -> About {
        OnlyReads.about()
    }

    fn admits(&self, node: NodeId) -> Result<(), Refusal> {
        OnlyReads.admits(node)
    }

    fn may_go_on(&self) -> Result<(), String> {
        OnlyReads.may_go_on()
    }
}

async fn lack_the_first(
    mut requests: AppendReceiver,
    results: ResultSender,
) -> Result<(), NoAnswer> {
    let lacks = requests.recv().await.and_then(|first| first.prev_log_id).unwrap();
    let is_last = |append: AppendEntriesRequest<Types>| {
        append.prev_log_id.map(|id| id.index) == Some(LAST_INDEX)
    };
    while !requests.recv().await.is_some_and(is_last) {}
    results.send(Err(StreamAppendError::Conflict(lacks))).await.unwrap();
    Ok(())
}

/// The fault: appends behind one that did not fit were never answered. Those of a newer stream of the leader counted
/// as under way for as long as the connection lived, until nothing more was sent on it.
#[test]
fn appends_behind_one_that_is_not_taken_are_told_so() {
    served_by(Lacks, |address| {
        let mut dialled = Dialled::new(address);
        let append = |index| {
            let leader = LeaderId::new(1, HELLO.node);
            Message::Append(AppendEntriesRequest {
                vote: Vote { leader_id: leader, committed: true },
                prev_log_id: Some(LogId::new(leader.to_committed(), index)),
                entries: Vec::new(),
                leader_commit: None,
            })
        };
        let frames: Vec<_> = (7..=LAST_INDEX).map(|index| framed(index, &append(index))).collect();
        dialled.stream.write_all(&frames.concat()).unwrap();
        let (first, reply) = dialled.next();
        assert!(matches!((first, &reply), (7, Message::AppendReply(Err(_)))), "{reply:?}");
        for request in 8..=LAST_INDEX {
            let (answered, reply) = dialled.next();
            let Message::Error(error) = reply else { panic!("answered with {reply:?}") };
            assert_eq!((answered, error.code), (request, PeerErrorCode::Busy));
        }
    });
}

/// Accepts and serves until the executor ends.
async fn accepting(listener: glommio::net::TcpListener, runtime: GlommioRuntime) {
    loop {
        let stream = listener.accept().await.unwrap();
        let received = Received::new(&Budget::default());
        let served = serve(stream, None, received, IDENTITY, OnlyReads, runtime, Rc::default());
        glommio::spawn_local(within(runtime, served)).detach();
    }
}

/// The fault: whoever said in gossip that a node has moved had the others dial a stranger in its place.
#[test]
fn a_peer_is_dialled_where_the_log_has_it_and_elsewhere_only_if_it_is_not_there() {
    glommio::LocalExecutor::default().run(async {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let listen = || glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (recorded, said, nowhere) = (listen(), listen(), listen());
        let [recorded_at, said_at, nowhere_at] =
            [&recorded, &said, &nowhere].map(|listener| listener.local_addr().unwrap());
        drop(nowhere);
        glommio::spawn_local(accepting(recorded, runtime)).detach();
        glommio::spawn_local(accepting(said, runtime)).detach();
        for (recorded_at, found_at) in [(recorded_at, recorded_at), (nowhere_at, said_at)] {
            let dialer = Dialer::new(PeerIdentity { node: 2, ..IDENTITY }, None, runtime);
            dialer.announce(IDENTITY.node, said_at);
            let member = Member::at(recorded_at.to_string());
            let (at, about, _) = dialer.about(IDENTITY.node, member).await.unwrap();
            assert_eq!(at, found_at);
            assert_eq!(about, Some(OnlyReads.about()));
            dialer.close();
        }
    });
}

/// The fault: a node that had moved looked for another one with its id where the log had it, did not find it
/// there, and then took itself, at the address that gossip tells of it, for the other.
#[test]
fn a_node_that_looks_for_its_namesake_does_not_find_itself() {
    glommio::LocalExecutor::default().run(async {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let listen = || glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, before) = (listen(), listen());
        let [own_at, before_at] = [&own, &before].map(|listener| listener.local_addr().unwrap());
        glommio::spawn_local(accepting(own, runtime)).detach();
        let look = async |recorded: SocketAddr| {
            let dialer = Dialer::new(IDENTITY, None, runtime);
            dialer.announce(IDENTITY.node, own_at);
            let about = dialer.about(IDENTITY.node, Member::at(recorded.to_string())).await;
            assert!(about.is_err(), "{about:?}");
            dialer.refused(IDENTITY.node)
        };
        drop(before);
        assert_eq!(look(before_at).await, None, "nobody is there any more");
        assert_eq!(look(own_at).await, Some(Refusal::NodeIdInUse), "as another one is found");
    });
}

/// Greets whoever comes, and says of itself that it takes clients at `client_address`; tells that it was asked
/// before it answers. The connection ends with the answer.
fn says_once(listener: &std::net::TcpListener, client_address: &str, asked: &Sender<()>) {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut dialled = Dialled { stream, received: Vec::new() };
    let (request, _) = dialled.next();
    let greeted = Message::HelloReply(HelloReply::Accepted { node: IDENTITY.node });
    dialled.stream.write_all(&framed(request, &greeted)).unwrap();
    let (request, question) = dialled.next();
    assert!(matches!(question, Message::About), "{question:?}");
    asked.send(()).unwrap();
    let about = About { client_address: client_address.into(), ..About::default() };
    dialled.stream.write_all(&framed(request, &Message::AboutReply(about))).unwrap();
}

/// The fault: an answer was taken for one from the address that was greeted last, though it came from another.
#[test]
fn what_a_peer_says_is_noted_with_the_address_at_which_it_was_asked() {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second) = (listen(), listen());
    let [first_at, second_at] = [&first, &second].map(|it| it.local_addr().unwrap());
    let (tells, asked) = channel();
    let answering = thread::spawn(move || {
        says_once(&first, "first", &tells);
        says_once(&second, "second", &tells);
    });
    glommio::LocalExecutor::default().run(async move {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let dialer = Dialer::new(PeerIdentity { node: 2, ..IDENTITY }, None, runtime);
        let ask = |at: SocketAddr| dialer.about(IDENTITY.node, Member::at(at.to_string()));
        let mut slow = Box::pin(ask(first_at));
        let by = Instant::now() + PATIENCE;
        while asked.try_recv().is_err() {
            assert!(Instant::now() < by, "nobody asks");
            assert!(poll_once(&mut slow).await.is_none());
            runtime.sleep(Duration::from_millis(1)).await;
        }
        // Whoever has asked looks for the answer only when another connection is up.
        let (at, about, _) = loop {
            assert!(Instant::now() < by, "the second one is not reached");
            if let Ok(answered) = ask(second_at).await {
                break answered;
            }
        };
        assert_eq!((at, about.unwrap().client_address.as_str()), (second_at, "second"));
        let (at, about, _) = slow.await.unwrap();
        assert_eq!((at, about.unwrap().client_address.as_str()), (first_at, "first"));
        dialer.close();
    });
    answering.join().unwrap();
}

/// A node of an earlier version is found where it is, and says nothing of itself.
#[test]
fn an_earlier_version_greets_and_says_nothing_of_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let earlier = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut asked = Dialled { stream, received: Vec::new() };
        let (request, _) = asked.next();
        let greeted = Message::HelloReply(HelloReply::Accepted { node: IDENTITY.node });
        asked.stream.write_all(&framed(request, &greeted)).unwrap();
        let (request, _) = asked.next();
        let unknown = Message::Error(PeerError::new(PeerErrorCode::UnknownKind, "kind 800a"));
        asked.stream.write_all(&framed(request, &unknown)).unwrap();
    });
    glommio::LocalExecutor::default().run(async move {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let dialer = Dialer::new(PeerIdentity { node: 2, ..IDENTITY }, None, runtime);
        let about = dialer.about(IDENTITY.node, Member::at(address.to_string())).await;
        let (at, about, _) = about.unwrap();
        assert_eq!((at, about), (address, None));
        dialer.close();
    });
    earlier.join().unwrap();
}

/// The fault: a connection on which nobody greeted in time stayed open for ever, and so did the next one.
#[test]
fn a_connection_that_is_not_greeted_in_time_is_closed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, is_closed) = channel();
    let silent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = Vec::new();
        stream.read_to_end(&mut hello).unwrap(); // until it is closed
        closed.send(hello.len()).unwrap();
    });
    glommio::LocalExecutor::default().run(async move {
        let runtime = GlommioRuntime::new();
        let _entered = enter(runtime);
        let dialer = Dialer::new(PeerIdentity { node: 2, ..IDENTITY }, None, runtime);
        let about = dialer.about(IDENTITY.node, Member::at(address.to_string())).await;
        assert!(about.is_err(), "{about:?}");
        let by = runtime.elapsed() + PATIENCE;
        let said = loop {
            match is_closed.try_recv() {
                Ok(bytes) => break bytes,
                Err(why) => assert!(runtime.elapsed() < by, "it is still open: {why}"),
            }
            runtime.sleep(Duration::from_millis(10)).await;
        };
        assert!(said > 0, "it had introduced itself");
    });
    silent.join().unwrap();
}

/// The fault: a peer that asked and took no answers had the node hold all of them, 550 MiB of them.
#[test]
fn a_peer_that_takes_no_answers_is_held_back_and_served_when_it_does() {
    const ROUNDS: usize = 40;
    const PAGE_BYTES: usize = 1 << 20;
    let (_, peak) = served_and_held(|address| {
        let mut dialled = Dialled::new(address);
        let mut request = 1;
        for _ in 0..ROUNDS {
            for _ in 0..LOG_READS_MAX {
                request += 1;
                let read = LogRead { from: 1, bytes_max: PAGE_BYTES as u32 };
                let bytes = framed(request, &Message::LogRead(read));
                dialled.stream.write_all(&bytes).unwrap();
            }
            thread::sleep(Duration::from_millis(3)); // it has answered these, or has stopped to
        }
        let mut answers = 0;
        while answers < ROUNDS * LOG_READS_MAX {
            dialled.next();
            answers += 1;
        }
    });
    let most = 4 * OUT_BYTES_MAX;
    assert!((PAGE_BYTES..most).contains(&peak), "{} KiB were held", peak >> 10);
}

/// The fault: the connection was closed with bytes unread, which resets it; the answer that says why may
/// be lost with it.
#[test]
fn a_peer_that_breaks_the_protocol_reads_why_although_it_still_sends() {
    let refusals = served(|address| {
        let mut dialled = Dialled::new(address);
        let mut bytes = framed(2, &Message::LogRead(LogRead { from: 1, bytes_max: 1 }));
        bytes[8..10].copy_from_slice(&9_u16.to_le_bytes()); // of another version of the protocol
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(1 << 20, 0x5a);
        let _ = dialled.stream.write_all(&bytes); // a reset is told below
        let (answered, reply) = dialled.next();
        let Message::Error(error) = reply else { panic!("answered with {reply:?}") };
        assert_eq!((answered, error.code), (2, PeerErrorCode::UnsupportedVersion));
        let _ = dialled.stream.write_all(&bytes);
        let end = dialled.stream.read(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(end, Ok(0), "it is closed and not reset");
    });
    assert_eq!(refusals.requests.get(), 1);
}

/// Asks for large pages for as long as the node takes more requests, and reads none.
fn ask_and_never_read(dialled: &mut Dialled) {
    let timeout = Duration::from_millis(20);
    dialled.stream.set_write_timeout(Some(timeout)).unwrap();
    for request in 2..100 {
        let read = Message::LogRead(LogRead { from: 1, bytes_max: 1 << 20 });
        if let Err(error) = dialled.stream.write_all(&framed(request, &read)) {
            let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            let stuck = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
            assert!(closed.contains(&error.kind()) || stuck.contains(&error.kind()), "{error}");
            return;
        }
        thread::sleep(Duration::from_millis(10)); // more than a few at a time are refused
    }
}

/// The fault: each connection held what its peer left unread, 550 MiB together.
#[test]
fn unread_pages_hold_a_bounded_memory_and_another_peer_is_answered_meanwhile() {
    glommio::LocalExecutor::default().run(async {
        let runtime = GlommioRuntime::new();
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let budget = Budget::new(HELD_BYTES_MAX);
        let counted = budget.clone();
        let accepting = glommio::spawn_local(async move {
            loop {
                let stream = listener.accept().await.unwrap();
                let received = Received::new(&counted);
                let serving =
                    serve(stream, None, received, IDENTITY, OnlyReads, runtime, Rc::default());
                glommio::spawn_local(within(runtime, serving)).detach();
            }
        });
        let asking = thread::spawn(move || {
            let mut silent: Vec<_> = (0..6).map(|_| Dialled::new(address)).collect();
            thread::scope(|scope| {
                for dialled in &mut silent {
                    scope.spawn(|| ask_and_never_read(dialled));
                }
            });
            let mut honest = Dialled::new(address);
            let read = Message::LogRead(LogRead { from: 41, bytes_max: 1 << 20 });
            honest.stream.write_all(&framed(7, &read)).unwrap();
            let (answered, reply) = honest.next();
            assert_eq!(answered, 7);
            assert!(matches!(reply, Message::LogPage(page) if page.committed == 41));
            drop(silent);
        });
        let by = Instant::now() + 2 * PATIENCE;
        let mut peak = 0;
        while !asking.is_finished() || budget.used() > 0 {
            assert!(Instant::now() < by, "{} bytes are held for nobody", budget.used());
            peak = peak.max(budget.take_peak());
            budget.look(); // as a shard does
            runtime.sleep(Duration::from_millis(50)).await;
        }
        asking.join().unwrap();
        // An answer counts when it is there, room or not.
        let most = HELD_BYTES_MAX + 2 * LOG_PAGE_BYTES_MAX;
        assert!(peak > HELD_BYTES_MAX / 2 && peak <= most, "{peak} bytes were held");
        drop(accepting);
    });
}
