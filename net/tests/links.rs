//! Do a client's connections go to the right nodes, and no more often than needed? In virtual time,
//! with scripted servers and no sockets.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use walengine_net::client::directory::{Lane, Route};
use walengine_net::client::link::{Event, Link};
use walengine_net::client::operation::{self, WriteIds};
use walengine_net::client::shared::Shared;
use walengine_net::client::{ClientError, ClusterInfo, Config};
use walengine_net::frame::{Frame, FrameHead, Kind, encode, encode_unsealed, peek};
use walengine_net::message::{
    ErrorCode, ErrorReply, Freshness, HelloReply, Message, Status, Submit, SubmitReply, Subscribe,
    open,
};
use walengine_net::model::{ClusterId, EventId, PartitionId};

const HOME: PartitionId = PartitionId(0);
const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// How a scripted node answers.
#[derive(Clone, Debug)]
enum Script {
    /// Refuses connections.
    Down,
    /// Accepts connections and does not greet.
    Silent,
    /// Leads, and answers requests that are sent after this time.
    Leads { from: Duration },
    /// Greets as a follower that names this leader, and refuses requests.
    Follows { leader: &'static str },
    /// Its host has vanished: connections stay and nothing answers; new ones are not made.
    Vanished,
    /// Greets as leader, and answers requests with this code.
    Fails { code: ErrorCode },
}

struct World {
    now: Duration,
    nodes: BTreeMap<&'static str, Script>,
    /// Connections: time, client, lane, address.
    attempts: Vec<(Duration, usize, Lane, String)>,
    /// Contents of submissions, in the order in which a node received them.
    got: Vec<(&'static str, u8)>,
}

struct Client {
    number: usize,
    shared: Arc<Shared>,
    links: HashMap<Lane, Link<u8>>,
    connected: HashMap<Lane, &'static str>,
    ended: Vec<(u8, Result<(), ClientError>)>,
}

impl Client {
    fn new(number: usize, addresses: &str) -> Self {
        let shared = Arc::new(Shared::seeded(Config::new(addresses), number as u64 + 1));
        Self { number, shared, links: HashMap::new(), connected: HashMap::new(), ended: Vec::new() }
    }

    fn link(&mut self, lane: Lane) -> &mut Link<u8> {
        let shared = self.shared.clone();
        self.links.entry(lane).or_insert_with(|| Link::new(shared, HOME, lane))
    }

    fn submit(&mut self, now: Duration, mark: u8, deadline: Duration) {
        let mut frame = Vec::new();
        let submit = Submit { events: &[[mark; 128]] };
        encode_unsealed(&mut frame, Kind::Submit, HOME, &submit).unwrap();
        self.link(Lane::Leader).take(now, Kind::Submit, frame, deadline, mark).unwrap();
    }

    fn ended(&self, mark: u8) -> Option<&Result<(), ClientError>> {
        self.ended.iter().find(|(ended, _)| *ended == mark).map(|(_, result)| result)
    }

    /// Does what is due. Returns when to be called again.
    fn turn(&mut self, world: &mut World) -> Option<Duration> {
        let mut wake_at = None;
        let lanes: Vec<Lane> = self.links.keys().copied().collect();
        for lane in lanes {
            let rounds = (0..1_000).take_while(|_| self.turn_link(world, lane)).count();
            assert!(rounds < 1_000, "it goes in circles without a pause");
            let link = &self.links[&lane];
            let connect_at = link.connect_at().filter(|_| link.inflight() > 0);
            wake_at = wake_at.into_iter().chain(link.wake_at()).chain(connect_at).min();
        }
        wake_at
    }

    /// Whether anything was done.
    fn turn_link(&mut self, world: &mut World, lane: Lane) -> bool {
        let now = world.now;
        let link = self.links.get_mut(&lane).unwrap();
        let mut done = link.check(now).is_err();
        let mut hangs_up = done;
        if !hangs_up && link.connect_at().is_some_and(|at| at <= now) && link.inflight() > 0 {
            done = true;
            match link.attempt(now) {
                None => hangs_up = true,
                Some((address, _)) => {
                    world.attempts.push((now, self.number, lane, address.clone()));
                    let (name, script) = world.nodes.get_key_value(address.as_str()).unwrap();
                    if matches!(script, Script::Down | Script::Vanished) {
                        link.broken(now, &ErrorKind::ConnectionRefused.into());
                        hangs_up = true;
                    } else {
                        self.connected.insert(lane, name);
                        link.connected(now);
                    }
                }
            }
        }
        if let Some(&name) = self.connected.get(&lane).filter(|_| !hangs_up) {
            let bytes = link.outgoing(now).to_vec();
            link.sent(bytes.len());
            let mut rest = bytes.as_slice();
            while let Some(frame) = peek(rest).unwrap().filter(|_| !hangs_up) {
                rest = &rest[frame.frame_bytes()..];
                let answer = world.answer(name, &frame);
                if !answer.is_empty() {
                    done = true;
                    link.room()[..answer.len()].copy_from_slice(&answer);
                    hangs_up = link.received(now, answer.len()).is_err();
                }
            }
        }
        if hangs_up {
            self.connected.remove(&lane);
            link.lost(now);
        }
        while let Some(event) = link.next_event() {
            if let Event::End { context, result } = event {
                self.ended.push((context, result.map(|_| ())));
            }
        }
        done
    }
}

impl World {
    fn new(nodes: &[(&'static str, Script)]) -> Self {
        let nodes = nodes.iter().cloned().collect();
        Self { now: SECOND, nodes, attempts: Vec::new(), got: Vec::new() }
    }

    fn answer(&mut self, name: &'static str, frame: &Frame<'_>) -> Vec<u8> {
        let script = self.nodes[name].clone();
        let mut out = Vec::new();
        let head = FrameHead::reply(HOME, frame.head.request);
        let mut say = |message: &ErrorReply<'_>| encode(&mut out, head, message).unwrap();
        match (frame.kind, script) {
            (_, Script::Silent | Script::Down | Script::Vanished) | (Kind::Subscribe, _) => {}
            (Kind::Hello, script) => {
                let (is_leader, leader) = match script {
                    Script::Follows { leader } => (0, leader),
                    _ => (1, ""),
                };
                let node = self.nodes.keys().position(|known| *known == name).unwrap() as u64 + 1;
                encode(&mut out, head, &hello(node, is_leader, leader)).unwrap();
            }
            (Kind::ClusterStatus, _) => say(&ErrorReply::new(ErrorCode::UnknownKind, "")),
            (_, Script::Follows { leader }) => {
                say(&ErrorReply::new(ErrorCode::NotLeader, "not here").leader(leader));
            }
            (_, Script::Fails { code }) => say(&ErrorReply::new(code, "no")),
            (Kind::Submit, Script::Leads { from }) => {
                let mark = open::<Submit>(frame.body).unwrap().events[0][0];
                self.got.push((name, mark));
                if from <= self.now {
                    let run = walengine_net::message::OutcomeRun {
                        count: 1,
                        verdict: 0,
                        marks: 1,
                        first_offset: 0,
                        first_timestamp: 1,
                    };
                    encode(&mut out, head, &SubmitReply { token_offset: 0, runs: &[run] }).unwrap();
                }
            }
            (kind, script) => panic!("{kind:?} to {script:?}"),
        }
        out
    }

    /// Lets time pass until `by`.
    fn run(&mut self, clients: &mut [Client], by: Duration) {
        loop {
            let wake_at = clients.iter_mut().filter_map(|client| client.turn(self)).min();
            let next = wake_at.unwrap_or(by).max(self.now + MILLI / 100);
            if next >= by {
                self.now = by;
                return;
            }
            self.now = next;
        }
    }
}

/// Knowledge of a client that was connected before.
fn info() -> ClusterInfo {
    ClusterInfo { cluster: ClusterId(1), partitions: 1, server_version: String::new() }
}

fn hello(node: u64, is_leader: u8, leader: &str) -> HelloReply<'_> {
    HelloReply {
        cluster: 1,
        node,
        next_offset: 0,
        durable_offset: 0,
        partitions: 1,
        is_leader,
        body_bytes_max: 1,
        events_max: 1,
        inflight_max: 1,
        server_version: "scripted",
        leader,
    }
}

#[test]
fn a_redirect_keeps_the_order_of_requests_and_takes_no_pause() {
    let follows = Script::Follows { leader: "c:1" };
    let leads = Script::Leads { from: Duration::ZERO };
    let mut world = World::new(&[("a:1", follows), ("c:1", leads)]);
    let mut client = Client::new(0, "a:1");
    (1..=5).for_each(|mark| client.submit(SECOND, mark, SECOND * 9));
    world.run(std::slice::from_mut(&mut client), SECOND + MILLI);
    assert_eq!(world.got, [1, 2, 3, 4, 5].map(|mark| ("c:1", mark)));
    // It no longer leads, and says so only when it is asked.
    world.nodes.insert("c:1", Script::Follows { leader: "a:1" });
    world.nodes.insert("a:1", Script::Leads { from: Duration::ZERO });
    world.got.clear();
    (6..=9).for_each(|mark| client.submit(world.now, mark, SECOND * 9));
    world.run(std::slice::from_mut(&mut client), SECOND + MILLI * 2);
    assert_eq!(world.got, [6, 7, 8, 9].map(|mark| ("a:1", mark)));
}

#[test]
fn circles_of_redirects_are_walked_with_growing_pauses() {
    let mut world = World::new(&[
        ("a:1", Script::Follows { leader: "b:1" }),
        ("b:1", Script::Follows { leader: "a:1" }),
    ]);
    let mut client = Client::new(0, "a:1");
    client.submit(SECOND, 1, SECOND * 11);
    world.run(std::slice::from_mut(&mut client), SECOND * 12);
    let error = client.ended(1).unwrap().clone().unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { waited, .. } if waited == SECOND * 10));
    assert!((16..=26).contains(&world.attempts.len()), "{}", world.attempts.len());
    let last = world.attempts.windows(2).last().unwrap();
    assert!(last[1].0.saturating_sub(last[0].0) >= SECOND / 2);
}

#[test]
fn refusals_without_effect_leave_no_outcome_open() {
    for (code, is_open) in [
        (ErrorCode::NotLeader, false),
        (ErrorCode::LeadershipLost, true),
        (ErrorCode::ShuttingDown, true),
        (ErrorCode::Stopped, true),
    ] {
        let fails = Script::Fails { code };
        let mut world = World::new(&[("a:1", fails.clone()), ("b:1", fails)]);
        let mut client = Client::new(0, "a:1,b:1");
        client.submit(SECOND, 1, SECOND * 2);
        world.run(std::slice::from_mut(&mut client), SECOND * 3);
        let error = client.ended(1).unwrap().clone().unwrap_err();
        assert_eq!(error == ClientError::OutcomeUnknown { waited: SECOND }, is_open, "{error}");
        let asked: Vec<_> = world.attempts.iter().map(|(.., address)| address.as_str()).collect();
        assert!(asked.contains(&"a:1") && asked.contains(&"b:1"), "{code}: {asked:?}");
    }
}

#[test]
fn a_stopped_node_that_is_alone_is_told_at_once() {
    let mut world = World::new(&[("a:1", Script::Fails { code: ErrorCode::Stopped })]);
    let mut client = Client::new(0, "a:1");
    client.submit(SECOND, 1, SECOND * 9);
    world.run(std::slice::from_mut(&mut client), SECOND + MILLI);
    let error = client.ended(1).unwrap().clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Stopped));
}

/// Another node's policy would say the same: it is told at once. Only a write that may have been taken
/// before, while it was allowed, is not called forbidden.
#[test]
fn what_is_forbidden_is_not_tried_again_and_not_denied_if_it_may_be_done() {
    let forbids = Script::Fails { code: ErrorCode::Forbidden };
    let mut world = World::new(&[("a:1", forbids.clone()), ("b:1", forbids.clone())]);
    let mut client = Client::new(0, "a:1,b:1");
    client.submit(SECOND, 1, SECOND * 9);
    world.run(std::slice::from_mut(&mut client), SECOND * 2);
    let error = client.ended(1).unwrap().clone().unwrap_err();
    assert_eq!((error.code(), world.attempts.len()), (Some(ErrorCode::Forbidden), 1), "{error}");

    let loses = Script::Fails { code: ErrorCode::LeadershipLost };
    let mut world = World::new(&[("a:1", loses)]);
    let mut client = Client::new(0, "a:1");
    client.submit(SECOND, 1, SECOND * 9);
    world.run(std::slice::from_mut(&mut client), SECOND * 2);
    assert!(client.ended(1).is_none(), "it asks again");
    world.nodes.insert("a:1", forbids);
    world.run(std::slice::from_mut(&mut client), SECOND * 5);
    let error = client.ended(1).unwrap().clone().unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { .. }), "{error}");
}

#[test]
fn a_silent_server_is_left_only_for_another() {
    let never = Script::Leads { from: Duration::MAX };
    let mut world = World::new(&[("a:1", never.clone())]);
    let mut client = Client::new(0, "a:1");
    client.submit(SECOND, 1, SECOND * 30);
    world.run(std::slice::from_mut(&mut client), SECOND * 31);
    assert_eq!((world.attempts.len(), world.got.len()), (1, 1), "there is nobody else");

    let mut world = World::new(&[("a:1", never.clone()), ("b:1", never)]);
    let mut client = Client::new(0, "a:1,b:1");
    client.submit(SECOND, 1, SECOND * 32);
    world.run(std::slice::from_mut(&mut client), SECOND * 33);
    // After 1, 2, 4, 8 and 8 seconds: a slow server is not sent the same request ever faster.
    assert!((5..=7).contains(&world.got.len()), "{:?}", world.got);
}

/// The fault: a subscriber to the only server waited for ever when that server's host vanished, and
/// later calls went into the same dead connection.
#[test]
fn a_vanished_host_is_noticed_within_a_minute_by_whoever_waits_for_it() {
    for kind in [Kind::Subscribe, Kind::Submit] {
        let leads = Script::Leads { from: Duration::MAX };
        let mut world = World::new(&[("a:1", leads.clone())]);
        let mut client = Client::new(0, "a:1");
        let mut frame = Vec::new();
        match kind {
            Kind::Subscribe => {
                let subscribe = Subscribe { from: 0, credit_bytes: 1 << 20 };
                encode_unsealed(&mut frame, kind, HOME, &subscribe).unwrap();
            }
            _ => encode_unsealed(&mut frame, kind, HOME, &Submit { events: &[[1; 128]] }).unwrap(),
        }
        client.link(Lane::Leader).take(SECOND, kind, frame.clone(), SECOND * 600, 1).unwrap();
        // A log that does not grow, and a write that takes long, end no connection.
        world.run(std::slice::from_mut(&mut client), SECOND * 120);
        assert_eq!(world.attempts.len(), 1, "{kind:?}");
        assert_eq!(client.shared.trouble(HOME, Lane::Leader), None);
        world.nodes.insert("a:1", Script::Vanished);
        world.run(std::slice::from_mut(&mut client), SECOND * 180);
        assert!(client.shared.trouble(HOME, Lane::Leader).is_some(), "{kind:?}: nobody noticed");
        world.nodes.insert("a:1", leads);
        if kind == Kind::Subscribe {
            // Its owner subscribes again, where it was.
            client.link(Lane::Leader).take(world.now, kind, frame, SECOND * 600, 1).unwrap();
        }
        world.run(std::slice::from_mut(&mut client), SECOND * 190);
        assert_eq!(client.shared.trouble(HOME, Lane::Leader), None, "{kind:?}: it is back");
    }
}

#[test]
fn one_connection_of_a_partition_is_made_to_an_address_at_a_time() {
    let mut world = World::new(&[("a:1", Script::Silent), ("b:1", Script::Silent)]);
    let mut client = Client::new(0, "a:1,b:1");
    client.shared.info.set(info()).unwrap();
    let lanes = [Lane::Leader, Lane::Home, Lane::Reader(0), Lane::Reader(1)];
    for (mark, lane) in (1..).zip(lanes) {
        let mut frame = Vec::new();
        let submit = Submit { events: &[[mark; 128]] };
        encode_unsealed(&mut frame, Kind::Submit, HOME, &submit).unwrap();
        client.link(lane).take(SECOND, Kind::Submit, frame, SECOND * 60, mark).unwrap();
    }
    for _ in 0..400 {
        let by = world.now + SECOND / 10;
        world.run(std::slice::from_mut(&mut client), by);
        let mut open: Vec<_> = client.connected.values().collect();
        open.sort_unstable();
        let all = open.len();
        open.dedup();
        assert_eq!(open.len(), all, "two attempts at one address at {:?}", world.now);
    }
    assert!(world.attempts.len() >= 30, "{}", world.attempts.len());
}

#[test]
fn nodes_that_are_down_are_asked_ever_more_rarely() {
    let nodes = ["a:1", "b:1", "c:1"].map(|name| (name, Script::Down));
    let mut world = World::new(&nodes);
    let mut client = Client::new(0, "a:1,b:1,c:1");
    client.shared.info.set(info()).unwrap();
    client.submit(SECOND, 1, SECOND * 61);
    world.run(std::slice::from_mut(&mut client), SECOND * 62);
    let attempts = world.attempts.len();
    assert!((60..=140).contains(&attempts), "{attempts} attempts in a minute");
    for name in ["a:1", "b:1", "c:1"] {
        let of = world.attempts.iter().filter(|(.., address)| address == name).count();
        assert!(of >= attempts / 5, "{name} was asked {of} times of {attempts}");
    }
    assert!(matches!(client.ended(1), Some(Err(ClientError::Unreachable { .. }))));
}

#[test]
fn a_first_connection_fails_when_every_address_has_been_tried() {
    let nodes = ["a:1", "b:1", "c:1"].map(|name| (name, Script::Down));
    let mut world = World::new(&nodes);
    let mut client = Client::new(0, "a:1,b:1,c:1");
    client.submit(SECOND, 1, SECOND * 61);
    world.run(std::slice::from_mut(&mut client), SECOND * 2);
    assert!(matches!(client.ended(1), Some(Err(ClientError::Unreachable { .. }))));
    let mut asked: Vec<_> = world.attempts.iter().map(|(.., address)| address.clone()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["a:1", "b:1", "c:1"]);
}

/// A leader with 500 clients dies, and the next one leads three seconds later.
#[test]
fn clients_do_not_come_back_as_a_herd() {
    const CLIENTS: usize = 500;
    let follows = Script::Follows { leader: "" };
    let mut world = World::new(&[
        ("a:1", Script::Leads { from: Duration::ZERO }),
        ("b:1", follows.clone()),
        ("c:1", follows),
    ]);
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|number| Client::new(number, "a:1,b:1,c:1")).collect();
    for client in &mut clients {
        client.submit(SECOND, 1, SECOND * 30);
    }
    world.run(&mut clients, SECOND * 5);
    assert!(clients.iter().all(|client| matches!(client.ended(1), Some(Ok(())))));
    world.nodes.insert("a:1", Script::Down);
    world.attempts.clear();
    let died = world.now;
    for client in &mut clients {
        let link = client.link(Lane::Leader);
        link.broken(died, &ErrorKind::ConnectionReset.into());
        link.lost(died);
        client.connected.clear();
        client.submit(died, 2, SECOND * 30);
    }
    world.run(&mut clients, died + SECOND * 3);
    world.nodes.insert("b:1", Script::Leads { from: Duration::ZERO });
    world.nodes.insert("c:1", Script::Follows { leader: "b:1" });
    world.run(&mut clients, died + SECOND * 8);
    assert!(clients.iter().all(|client| matches!(client.ended(2), Some(Ok(())))));
    let total = world.attempts.len();
    assert!(total <= CLIENTS * 16, "{total} attempts");
    // In the second before the next leader, no 50 ms have more than a fifth of them.
    let mut bins: HashMap<u128, usize> = HashMap::new();
    for (at, ..) in &world.attempts {
        let since = at.saturating_sub(died);
        if since >= SECOND * 2 && since < SECOND * 3 {
            *bins.entry(since.as_millis() / 50).or_default() += 1;
        }
    }
    let (most, all) = (bins.values().max().unwrap(), bins.values().sum::<usize>());
    assert!(*most <= all / 5, "{most} of {all} attempts in 50 ms");
}

#[test]
fn a_node_that_came_back_is_forgiven() {
    let mut world =
        World::new(&[("a:1", Script::Follows { leader: "b:1" }), ("b:1", Script::Down)]);
    let mut client = Client::new(0, "a:1,b:1");
    client.submit(SECOND, 1, SECOND * 90);
    world.run(std::slice::from_mut(&mut client), SECOND * 60);
    world.nodes.insert("b:1", Script::Leads { from: Duration::ZERO });
    world.run(std::slice::from_mut(&mut client), SECOND * 80);
    assert!(client.ended(1).unwrap().is_ok());
    // After it has served, a lost connection counts as a first failure again.
    let now = world.now;
    let link = client.link(Lane::Leader);
    link.broken(now, &ErrorKind::ConnectionReset.into());
    link.lost(now);
    client.connected.clear();
    client.submit(now, 2, now + SECOND * 20);
    world.run(std::slice::from_mut(&mut client), now + SECOND);
    assert!(matches!(client.ended(2), Some(Ok(()))));
}

/// Requests to leave go over this lane: they must not reach another node.
#[test]
fn what_is_for_the_named_node_goes_to_no_other() {
    let mut world = World::new(&[
        ("a:1", Script::Follows { leader: "b:1" }),
        ("b:1", Script::Leads { from: Duration::ZERO }),
    ]);
    let mut client = Client::new(0, "a:1");
    client.submit(SECOND, 1, SECOND * 2);
    world.run(std::slice::from_mut(&mut client), SECOND * 2);
    assert!(client.ended(1).unwrap().is_ok(), "now it knows the leader");
    world.nodes.insert("a:1", Script::Down);
    for round in 2..5 {
        let now = world.now;
        assert_eq!(client.shared.lane(HOME, Route::Home, now), Lane::Home);
        let mut frame = Vec::new();
        encode_unsealed(&mut frame, Kind::Submit, HOME, &Submit { events: &[[2; 128]] }).unwrap();
        client.link(Lane::Home).take(now, Kind::Submit, frame, now + SECOND, round).unwrap();
        world.run(std::slice::from_mut(&mut client), now + SECOND * 2);
        assert!(client.ended(round).unwrap().is_err());
    }
    assert!(world.got.iter().all(|(_, mark)| *mark != 2));
    let mut named = Client::new(1, "a:1");
    assert_eq!(named.shared.lane(HOME, Route::Home, world.now), Lane::Home, "alone or not");
    assert_eq!(named.link(Lane::Home).attempt(world.now).unwrap().0, "a:1");
}

#[test]
fn an_open_outcome_is_asked_of_the_leader_linearizably() {
    let plan =
        operation::resolve(&info(), &WriteIds::of_records(HOME, &[(EventId(5), b"")])).unwrap();
    assert_eq!(plan.calls.len(), 1);
    for call in plan.calls {
        assert_eq!((call.route, call.kind), (Route::Leader, Status::KIND));
        let status = open::<Status>(&call.frame[walengine_net::frame::HEADER_BYTES..]).unwrap();
        assert_eq!(status.freshness(), Freshness::Linearizable);
    }
}

/// The fault: "no server at" an address that the caller had never named, with advice to start one there.
#[test]
fn a_leader_that_cant_be_reached_is_told_with_who_names_it() {
    let mut world = World::new(&[
        ("a:1", Script::Follows { leader: "far:1" }),
        ("b:1", Script::Follows { leader: "far:1" }),
        ("far:1", Script::Down),
    ]);
    let mut client = Client::new(0, "a:1,b:1");
    client.submit(SECOND, 1, SECOND * 9);
    world.run(std::slice::from_mut(&mut client), SECOND * 10);
    let Some(Err(error)) = client.ended(1) else { panic!("{:?}", client.ended(1)) };
    let text = error.to_string();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{text}");
    assert!(text.contains("names far:1 as the leader") && text.contains("--advertise"), "{text}");
    assert!(text.contains("connection refused") && text.contains("last asked"), "{text}");
    let asked = |name: &str| world.attempts.iter().filter(|(.., address)| address == name).count();
    assert!(asked("a:1") >= 2 && asked("b:1") >= 2, "those that were given are tried again");

    // It is reached after all: nothing is left of the trouble.
    world.nodes.insert("far:1", Script::Leads { from: Duration::ZERO });
    client.submit(world.now, 2, SECOND * 40);
    world.run(std::slice::from_mut(&mut client), SECOND * 40);
    assert!(matches!(client.ended(2), Some(Ok(()))), "{:?}", client.ended(2));
}
