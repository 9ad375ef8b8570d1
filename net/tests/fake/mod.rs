//! Small servers in memory for the tests of clients. They know ids and offsets, but no rules. The
//! nodes of a cluster share one state, so that all replicas are equal at all times.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use walengine_net::entry::{ChainHash, EntryKind, EntryMeta, EventsBody};
use walengine_net::frame::{Frame, FrameHead, Kind, encode, encode_as, peek};
use walengine_net::message::{
    Append, ClusterStatusReply, ErrorCode, ErrorReply, EventState, Freshness, GroupRow, Hello,
    HelloReply, ListAccounts, ListAccountsReply, LogPage, LookupAccounts, LookupAccountsReply,
    LookupTransfers, LookupTransfersReply, NO_OFFSET, NO_PARTITION, NodeRow, NumberRow,
    OutcomeRuns, ReadLog, ServerStatusReply, Status, StatusReply, Submit, SubmitReply, Subscribe,
    TextRow, UnsubscribeReply, VerdictState, open_frame,
};
use walengine_net::model::{
    ClusterId, EventBytes, EventKind, Offset, PartitionId, Timestamp, Verdict, event_id, event_kind,
};

pub const CLUSTER: u128 = 0xc1;
pub const PARTITIONS: u16 = 3;

#[derive(Default)]
struct Partition {
    /// By namespace and id: offset and event.
    decided: HashMap<(bool, u128), (u64, EventBytes)>,
    entries: Vec<u8>,
    next_offset: u64,
}

/// Faults, and how many times each happens.
#[derive(Default)]
pub struct Mischief {
    /// Takes effect, then closes the connection instead of answering.
    pub drop_replies: usize,
    /// The same, but keeps the connection and never answers.
    pub swallow_replies: usize,
    /// Answers `Busy`.
    pub busy: usize,
    /// When to come back after that.
    pub busy_millis: u32,
    /// Takes effect, then another node leads.
    pub lose_leadership: usize,
    /// Takes effect, then the node is down and nobody leads.
    pub die: usize,
    /// Closes the connection after a page of a subscription.
    pub drop_after_page: usize,
}

/// Health of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Well,
    /// Accepts connections and closes them.
    Down,
    /// Accepts connections and frames, and never answers.
    Mute,
    /// Greets and answers, but never a write or a linearizable read.
    Stuck,
}

/// One node, and what is wrong with it.
#[derive(Default)]
pub struct Node {
    pub address: String,
    pub health: Health,
    /// Names this leader instead of the real one.
    pub hint: Option<String>,
    /// Does not know `ClusterStatus`.
    pub is_old: bool,
    /// Answers look-ups of transfers only once this many partitions have been asked.
    pub together: Option<Arc<Barrier>>,
    /// Has applied nothing yet: what it is asked for in any state, it does not know.
    pub is_behind: bool,
    /// Counts itself as the leader, in this term, and the others as dead.
    pub cut_off_in: Option<u64>,
    /// Subscriptions that were ended.
    pub unsubscribed: usize,
    pub connections: usize,
    pub writes: usize,
    pub reads: usize,
}

#[derive(Default)]
pub struct State {
    partitions: HashMap<u16, Partition>,
    pub mischief: Mischief,
    pub connections: usize,
    /// Place of the node that leads all partitions.
    pub leader: Option<usize>,
    pub nodes: Vec<Node>,
}

impl State {
    /// Events that were decided, each once.
    pub fn decided(&self) -> usize {
        self.partitions.values().map(|partition| partition.decided.len()).sum()
    }

    fn leader_address(&self, node: usize) -> String {
        let real = self.leader.filter(|&leader| leader != node);
        let real = real.map_or(String::new(), |leader| self.nodes[leader].address.clone());
        self.nodes[node].hint.clone().unwrap_or(real)
    }
}

/// A node of a cluster whose nodes share one state.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    node: usize,
}

/// How often a node checks whether it is down.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Fake {
    /// A cluster of one node.
    pub fn start() -> Self {
        Self::cluster(1).remove(0)
    }

    /// A cluster whose first node leads.
    pub fn cluster(nodes: usize) -> Vec<Self> {
        let state = Arc::new(Mutex::new(State { leader: Some(0), ..State::default() }));
        (0..nodes).map(|node| Self::join(state.clone(), node)).collect()
    }

    fn join(state: Arc<Mutex<State>>, node: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let known = Node { address: address.to_string(), ..Node::default() };
        state.lock().unwrap().nodes.push(known);
        let fake = Self { address, state, node };
        let server = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        fake
    }

    pub fn mischief(&self, change: impl FnOnce(&mut Mischief)) {
        change(&mut self.state.lock().unwrap().mischief);
    }

    /// Reads or changes this node.
    pub fn node<R>(&self, change: impl FnOnce(&mut Node) -> R) -> R {
        change(&mut self.state.lock().unwrap().nodes[self.node])
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        self.state.lock().unwrap().connections += 1;
        self.node(|node| node.connections += 1);
        let (mut buffer, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        while !self.node(|node| node.health == Health::Down) {
            while let Some(frame) = peek(&buffer).unwrap() {
                let together = self.node(|node| node.together.clone());
                if let (Kind::LookupTransfers, Some(together)) = (frame.kind, together) {
                    together.wait();
                }
                let mut out = Vec::new();
                let goes_on = self.answer(&frame, &mut out);
                let bytes = frame.frame_bytes();
                buffer.drain(..bytes);
                if self.node(|node| node.health == Health::Mute) {
                    out.clear();
                }
                if stream.write_all(&out).is_err() || !goes_on {
                    return;
                }
            }
            match stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(bytes) => buffer.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Returns whether the connection stays open.
    fn answer(&self, frame: &Frame<'_>, out: &mut Vec<u8>) -> bool {
        let head = FrameHead::reply(frame.head.partition, frame.head.request);
        let number = frame.head.partition.0;
        let mut state = self.state.lock().unwrap();
        let leads = state.leader == Some(self.node);
        let leader = state.leader_address(self.node);
        if state.nodes[self.node].health == Health::Mute {
            return true;
        }
        if frame.kind == Kind::Hello {
            let hello = open_frame::<Hello>(frame).unwrap();
            assert_eq!(hello.partition.to_native(), number);
            let (node, is_leader) = (self.node as u64 + 1, u8::from(leads));
            encode(out, head, &HelloReply { node, is_leader, leader: &leader, ..hello_reply() })
                .unwrap();
            return true;
        }
        if frame.kind == Kind::ClusterStatus {
            self.cluster_status(&state, head, out);
            return true;
        }
        if frame.kind == Kind::SubmitSpanning {
            // As servers of release 0.1.
            let error = ErrorReply::new(ErrorCode::UnknownKind, "what?");
            encode(out, head, &error).unwrap();
            return true;
        }
        let is_write = matches!(frame.kind, Kind::Submit | Kind::Append);
        let for_leader = is_write || is_linearizable(frame);
        if for_leader && !leads {
            let error = ErrorReply::new(ErrorCode::NotLeader, "ask the leader").leader(&leader);
            encode(out, head, &error).unwrap();
            return true;
        }
        let State { partitions, mischief, nodes, .. } = &mut *state;
        let node = &mut nodes[self.node];
        if for_leader && node.health == Health::Stuck {
            return true;
        }
        *(if is_write { &mut node.writes } else { &mut node.reads }) += 1;
        let mut nothing = Partition::default();
        let partition = if node.is_behind && !for_leader {
            &mut nothing
        } else {
            partitions.entry(number).or_default()
        };
        match frame.kind {
            Kind::Submit | Kind::Append => {
                if take(&mut mischief.busy) {
                    let busy = ErrorReply::new(ErrorCode::Busy, "queue full")
                        .retry_after_millis(mischief.busy_millis.max(1));
                    encode(out, head, &busy).unwrap();
                    return true;
                }
                partition.write(number, frame, head, out);
                if take(&mut mischief.drop_replies) {
                    out.clear();
                    return false;
                }
                if take(&mut mischief.swallow_replies) {
                    out.clear();
                }
                if take(&mut mischief.lose_leadership) {
                    out.clear();
                    state.leader = Some((self.node + 1) % state.nodes.len());
                    let lost = ErrorReply::new(ErrorCode::LeadershipLost, "it moved");
                    encode(out, head, &lost).unwrap();
                } else if take(&mut mischief.die) {
                    out.clear();
                    state.nodes[self.node].health = Health::Down;
                    state.leader = None;
                    return false;
                }
            }
            Kind::Unsubscribe => {
                node.unsubscribed += 1;
                partition.read(frame, head, out);
            }
            Kind::Subscribe => {
                partition.read(frame, head, out);
                return !take(&mut mischief.drop_after_page);
            }
            _ => partition.read(frame, head, out),
        }
        true
    }

    fn cluster_status(&self, state: &State, head: FrameHead, out: &mut Vec<u8>) {
        if state.nodes[self.node].is_old {
            let error = ErrorReply::new(ErrorCode::UnknownKind, "what?");
            return encode(out, head, &error).unwrap();
        }
        let nodes: Vec<_> = (1..)
            .zip(&state.nodes)
            .map(|(node, known)| NodeRow {
                node,
                state: match state.nodes[self.node].cut_off_in {
                    Some(_) if node != self.node as u64 + 1 => 2,
                    _ if known.health == Health::Down => 2,
                    _ => 0,
                },
                cores: 1,
                free_bytes: 1 << 30,
                heard_seconds: 1,
                client_address: &known.address,
                peer_address: "",
                version: "fake 1",
            })
            .collect();
        let leader = state.leader.map_or(0, |leader| leader as u64 + 1);
        let (leader, term) = match state.nodes[self.node].cut_off_in {
            Some(term) => (self.node as u64 + 1, term),
            None => (leader, leader + 1),
        };
        let groups: Vec<_> = (0..PARTITIONS)
            .map(|partition| GroupRow {
                partition,
                leader,
                term,
                committed_offset: 0,
                is_changing: 0,
            })
            .collect();
        let (cluster, node) = (CLUSTER, self.node as u64 + 1);
        let reply =
            ClusterStatusReply { cluster, node, nodes: &nodes, groups: &groups, replicas: &[] };
        encode(out, head, &reply).unwrap();
    }
}

fn is_linearizable(frame: &Frame<'_>) -> bool {
    let freshness = match frame.kind {
        Kind::LookupAccounts => open_frame::<LookupAccounts>(frame).unwrap().freshness(),
        Kind::ListAccounts => open_frame::<ListAccounts>(frame).unwrap().freshness(),
        Kind::LookupTransfers => open_frame::<LookupTransfers>(frame).unwrap().freshness(),
        Kind::Status => open_frame::<Status>(frame).unwrap().freshness(),
        Kind::ReadLog => open_frame::<ReadLog>(frame).unwrap().freshness(),
        _ => Freshness::Any,
    };
    freshness == Freshness::Linearizable
}

fn take(count: &mut usize) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

fn hello_reply() -> HelloReply<'static> {
    HelloReply {
        cluster: CLUSTER,
        node: 1,
        next_offset: 0,
        durable_offset: 0,
        partitions: PARTITIONS,
        is_leader: 1,
        body_bytes_max: 1 << 20,
        events_max: 8190,
        inflight_max: 64,
        server_version: "fake 1",
        leader: "",
    }
}

impl Partition {
    fn write(&mut self, number: u16, frame: &Frame<'_>, head: FrameHead, out: &mut Vec<u8>) {
        let mut runs = OutcomeRuns::default();
        let (mut token_offset, mut fresh) = (NO_OFFSET, Vec::new());
        let base = self.next_offset;
        let mut decide = |is_account: bool, id: u128, event: EventBytes| {
            if id == 0 {
                runs.push(Verdict::IdZero, None, true, Timestamp(0));
                return;
            }
            let known = self.decided.get(&(is_account, id)).map(|&(offset, _)| offset);
            let offset = known.unwrap_or(self.next_offset);
            if known.is_none() {
                self.decided.insert((is_account, id), (offset, event));
                self.next_offset += 1;
                fresh.push(event);
            }
            token_offset =
                if token_offset == NO_OFFSET { offset } else { token_offset.max(offset) };
            runs.push(Verdict::Ok, Some(Offset(offset)), known.is_none(), Timestamp(offset + 1));
        };
        if frame.kind == Kind::Submit {
            for event in open_frame::<Submit>(frame).unwrap().events.iter() {
                decide(event_kind(event) == Ok(EventKind::Account), event_id(event), *event);
            }
        } else {
            for (head, _) in open_frame::<Append>(frame).unwrap().records() {
                decide(false, head.id.to_native(), [0; 128]);
            }
        }
        self.log(number, base, &fresh);
        let kind = frame.kind.reply().unwrap();
        encode_as(out, kind, head, &SubmitReply { token_offset, runs: runs.as_slice() }).unwrap();
    }

    fn log(&mut self, number: u16, base: u64, events: &[EventBytes]) {
        if events.is_empty() {
            return;
        }
        let meta = EntryMeta {
            cluster: ClusterId(CLUSTER),
            partition: PartitionId(number),
            kind: EntryKind::Events,
            term: 1,
            leader_node: 1,
            index: base + 1,
            base_offset: Offset(base),
            records: events.len() as u32,
            timestamp: Timestamp(base + 1),
        };
        let body = EventsBody {
            events: events.to_vec(),
            verdicts: vec![0; events.len()],
            resolved: Vec::new(),
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        self.entries.extend(meta.encode(&body, base, ChainHash::default()).to_bytes());
        self.entries.extend_from_slice(&body);
    }

    /// Entries from the one that contains `from`.
    fn entries_from(&self, from: u64) -> &[u8] {
        let mut rest = self.entries.as_slice();
        while let Ok((header, _)) = walengine_net::entry::decode_entry(rest) {
            if header.meta.base_offset.0 + u64::from(header.meta.records) > from {
                break;
            }
            rest = &rest[header.entry_bytes()..];
        }
        rest
    }

    fn read(&self, frame: &Frame<'_>, head: FrameHead, out: &mut Vec<u8>) {
        let next_offset = self.next_offset;
        match frame.kind {
            Kind::LookupAccounts => {
                let ids = &open_frame::<LookupAccounts>(frame).unwrap().ids;
                let known = |id| self.decided.get(&(true, id)).map(|&(_, event)| event);
                let found = ids.iter().enumerate();
                let found = found.filter_map(|(at, id)| Some((at as u32, known(id.to_native())?)));
                let (found, accounts): (Vec<u32>, Vec<_>) = found.unzip();
                let reply = LookupAccountsReply { next_offset, found: &found, accounts: &accounts };
                encode(out, head, &reply).unwrap();
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame).unwrap();
                let after = request.after.to_native() as usize;
                let mut all: Vec<_> =
                    self.decided.iter().filter(|((is_account, _), _)| *is_account).collect();
                all.sort_by_key(|(_, (offset, _))| *offset);
                let accounts: Vec<EventBytes> = all.iter().map(|(_, (_, event))| *event).collect();
                let end = (after + request.limit.to_native() as usize).min(accounts.len());
                let next_cursor = if end < accounts.len() { end as u64 } else { 0 };
                let accounts = &accounts[after..end];
                encode(out, head, &ListAccountsReply { next_offset, next_cursor, accounts })
                    .unwrap();
            }
            Kind::LookupTransfers => {
                let mut states = Vec::new();
                for (at, id) in open_frame::<LookupTransfers>(frame).unwrap().ids.iter().enumerate()
                {
                    let Some(&(offset, event)) = self.decided.get(&(false, id.to_native())) else {
                        continue;
                    };
                    states.push(EventState {
                        index: at as u32,
                        verdict: 0,
                        has_resolved: 0,
                        offset,
                        timestamp: offset + 1,
                        event,
                        resolved: [0; 64],
                    });
                }
                encode(out, head, &LookupTransfersReply { next_offset, states: &states }).unwrap();
            }
            Kind::Status => {
                let status = open_frame::<Status>(frame).unwrap();
                let is_account = status.namespace == 1;
                let state = |id: u128| match self.decided.get(&(is_account, id)) {
                    Some(&(offset, _)) => VerdictState { known: 1, verdict: 0, offset },
                    None => VerdictState { known: 0, verdict: 0, offset: 0 },
                };
                let states: Vec<_> = status.ids.iter().map(|id| state(id.to_native())).collect();
                encode(out, head, &StatusReply { next_offset, states: &states }).unwrap();
            }
            Kind::ReadLog | Kind::Subscribe => {
                let (kind, from) = if frame.kind == Kind::ReadLog {
                    (Kind::LogPage, open_frame::<ReadLog>(frame).unwrap().from.to_native())
                } else {
                    (Kind::Feed, open_frame::<Subscribe>(frame).unwrap().from.to_native())
                };
                let entries = self.entries_from(from);
                let page = LogPage { next_offset, durable_offset: next_offset, entries };
                if kind == Kind::LogPage || !entries.is_empty() {
                    encode_as(out, kind, head, &page).unwrap();
                }
            }
            Kind::Credit => {}
            Kind::Unsubscribe => encode(out, head, &UnsubscribeReply { next_offset }).unwrap(),
            Kind::ServerStatus => {
                let reply = ServerStatusReply {
                    numbers: &[NumberRow { partition: 0, value: next_offset, name: "next_offset" }],
                    texts: &[TextRow { partition: NO_PARTITION, name: "version", text: "fake 1" }],
                };
                encode(out, head, &reply).unwrap();
            }
            kind => panic!("the fake does not know {kind:?}"),
        }
    }
}
