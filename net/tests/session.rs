//! Does the session keep its promises when replies are lost, late, doubled or nonsense? No sockets.

use std::time::Duration;

use walengine_net::client::session::{
    LinkError, NotTaken, Received, RetryPolicy, Session, SessionConfig,
};
use walengine_net::frame::{Frame, FrameHead, Kind, RequestId, encode, peek};
use walengine_net::message::{
    ErrorCode, ErrorReply, HelloReply, LogPage, Message, NO_OFFSET, OutcomeRun, Submit,
    SubmitReply, Subscribe,
};
use walengine_net::model::{PartitionId, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn session(inflight_max: usize) -> Session<&'static str> {
    Session::new(SessionConfig {
        partition: PartitionId(0),
        client_name: "test".to_owned(),
        acts_for: None,
        inflight_max,
        policy: RetryPolicy::default(),
        seed: 1,
    })
}

fn submit(
    session: &mut Session<&'static str>,
    deadline: Duration,
    name: &'static str,
) -> RequestId {
    session.request(deadline, &Submit { events: &[[7; 128]] }, name).unwrap()
}

/// Kind and id of every frame that the session sends.
fn sent(session: &mut Session<&'static str>, now: Duration) -> Vec<(Kind, RequestId)> {
    let mut out = Vec::new();
    session.fill(now, &mut out, usize::MAX);
    let (mut frames, mut rest) = (Vec::new(), out.as_slice());
    while let Some(frame) = peek(rest).unwrap() {
        frames.push((frame.kind, frame.head.request));
        rest = &rest[frame.frame_bytes()..];
    }
    assert!(rest.is_empty());
    frames
}

fn reply<M: Message>(request: RequestId, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, FrameHead::reply(PartitionId(0), request), message).unwrap();
    bytes
}

fn hello_reply() -> HelloReply<'static> {
    HelloReply {
        cluster: 1,
        node: 1,
        next_offset: 0,
        durable_offset: 0,
        partitions: 1,
        is_leader: 1,
        body_bytes_max: 1,
        events_max: 1,
        inflight_max: 1,
        server_version: "fake",
        leader: "",
    }
}

/// Effect of a frame: the name of the request that ended, or what happened instead.
fn receive(session: &mut Session<&'static str>, now: Duration, bytes: &[u8]) -> String {
    match session.receive(now, bytes) {
        Ok(Some((length, received))) => {
            assert_eq!(length, bytes.len());
            match received {
                Received::Ready(_) => "ready".to_owned(),
                Received::Reply { context, frame: Frame { kind, .. } } => {
                    format!("{context} {kind:?}")
                }
                Received::Open { context } => format!("{context} is open"),
                Received::Failed { context, error } => {
                    format!("{context} {}", error.code().unwrap())
                }
                Received::Feed { .. } => "feed".to_owned(),
                Received::Cluster(_) => "cluster".to_owned(),
                Received::Nothing => "nothing".to_owned(),
            }
        }
        Ok(None) => "more".to_owned(),
        Err(error) => format!("closed: {error}"),
    }
}

fn open(session: &mut Session<&'static str>, now: Duration) {
    assert!(session.connect_at().unwrap() <= now);
    session.connected(now, now + SECOND);
    let hello = sent(session, now);
    assert!(matches!(hello[..], [(Kind::Hello, _)]), "only the greeting goes first: {hello:?}");
    assert_eq!(receive(session, now, &reply(hello[0].1, &hello_reply())), "ready");
}

const DONE: SubmitReply<'static> = SubmitReply { token_offset: 1, runs: &[] };

#[test]
fn replies_are_matched_in_any_order() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let ids = ["a", "b", "c"].map(|name| submit(&mut session, now + SECOND, name));
    assert_eq!(sent(&mut session, now), ids.map(|id| (Kind::Submit, id)));
    for (at, name) in [(2, "c"), (0, "a"), (1, "b")] {
        let got = receive(&mut session, now, &reply(ids[at], &DONE));
        assert_eq!(got, format!("{name} SubmitReply"));
    }
    assert_eq!(session.inflight(), 0);
}

#[test]
fn a_lost_reply_sends_the_same_request_again() {
    let mut session = session(8);
    open(&mut session, SECOND);
    let first = submit(&mut session, SECOND * 9, "first");
    let second = submit(&mut session, SECOND * 9, "second");
    assert_eq!(sent(&mut session, SECOND).len(), 2);
    let third = submit(&mut session, SECOND * 9, "third");
    assert!(session.disconnected(SECOND).is_empty());
    let again_at = session.connect_at().unwrap();
    assert!(again_at > SECOND && again_at <= SECOND + Duration::from_millis(10), "{again_at:?}");
    open(&mut session, again_at);
    let expected = [first, second, third].map(|id| (Kind::Submit, id));
    assert_eq!(sent(&mut session, again_at), expected);
    assert_eq!(receive(&mut session, again_at, &reply(first, &DONE)), "first SubmitReply");
}

#[test]
fn second_and_unknown_answers_are_dropped() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let id = submit(&mut session, now + SECOND, "a");
    sent(&mut session, now);
    assert_eq!(receive(&mut session, now, &reply(id, &DONE)), "a SubmitReply");
    assert_eq!(receive(&mut session, now, &reply(id, &DONE)), "nothing");
    assert_eq!(receive(&mut session, now, &reply(RequestId(999), &DONE)), "nothing");
    let busy = ErrorReply::new(ErrorCode::Busy, "");
    assert_eq!(receive(&mut session, now, &reply(RequestId(999), &busy)), "nothing");
}

#[test]
fn an_answer_of_the_wrong_kind_closes_the_connection() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let id = submit(&mut session, now + SECOND, "a");
    let early = session.receive(now, &reply(id, &DONE)).err();
    assert!(matches!(early, Some(LinkError::OutOfTurn(_))), "answered before it was sent");
    sent(&mut session, now);
    let page = LogPage { next_offset: 0, durable_offset: 0, entries: &[] };
    assert!(receive(&mut session, now, &reply(id, &page)).starts_with("closed"));
}

#[test]
fn busy_is_tried_again_after_the_hint() {
    let mut session = session(8);
    open(&mut session, SECOND);
    let id = submit(&mut session, SECOND * 9, "a");
    sent(&mut session, SECOND);
    let busy = ErrorReply::new(ErrorCode::Busy, "queue full").retry_after_millis(40);
    assert_eq!(receive(&mut session, SECOND, &reply(id, &busy)), "nothing");
    let wake_at = session.wake_at().unwrap();
    let pause = wake_at.saturating_sub(SECOND);
    assert!((40..=60).contains(&pause.as_millis()), "{pause:?}");
    assert!(session.expire(wake_at.saturating_sub(Duration::from_nanos(1))).is_none());
    assert!(sent(&mut session, SECOND).is_empty());
    assert!(session.expire(wake_at).is_none());
    assert_eq!(sent(&mut session, wake_at), [(Kind::Submit, id)]);
    assert_eq!(receive(&mut session, wake_at, &reply(id, &DONE)), "a SubmitReply");
}

#[test]
fn a_deadline_says_whether_the_outcome_is_open() {
    let mut session = session(8);
    open(&mut session, SECOND);
    let busy = submit(&mut session, SECOND * 2, "busy");
    submit(&mut session, SECOND * 2, "sent");
    sent(&mut session, SECOND);
    let later = ErrorReply::new(ErrorCode::Busy, "").retry_after_millis(5_000);
    receive(&mut session, SECOND, &reply(busy, &later));
    submit(&mut session, SECOND * 2, "waiting");
    assert!(session.expire(Duration::from_nanos(1_999_999_999)).is_none());
    let mut lost = Vec::new();
    while let Some(end) = session.expire(SECOND * 2) {
        lost.push((end.context, end.was_sent));
    }
    lost.sort_unstable();
    assert_eq!(lost, [("busy", false), ("sent", true), ("waiting", false)]);
    assert_eq!(session.inflight(), 0);
    assert!(sent(&mut session, SECOND * 2).is_empty(), "what has expired is not sent");
}

#[test]
fn what_was_out_when_a_connection_broke_stays_open_after_a_busy() {
    let mut session = session(8);
    open(&mut session, SECOND);
    let id = submit(&mut session, SECOND * 9, "a");
    sent(&mut session, SECOND);
    session.disconnected(SECOND);
    open(&mut session, SECOND * 2);
    sent(&mut session, SECOND * 2);
    let busy = ErrorReply::new(ErrorCode::Busy, "").retry_after_millis(60_000);
    receive(&mut session, SECOND * 2, &reply(id, &busy));
    let lost = session.expire(SECOND * 9).unwrap();
    assert!(lost.was_sent, "the first sending may have taken effect");
}

#[test]
fn requests_past_the_bound_come_back() {
    let mut session = session(2);
    submit(&mut session, SECOND, "a");
    submit(&mut session, SECOND, "b");
    let back = session.request(SECOND, &Submit { events: &[] }, "c").unwrap_err();
    assert_eq!(back, (NotTaken::Full, "c"));
    assert!(!session.has_outgoing(), "nothing goes out before the greeting");
}

#[test]
fn reconnects_back_off_with_chance_and_a_limit() {
    let mut session = session(2);
    let (mut now, mut pauses) = (SECOND, Vec::new());
    for _ in 0..12 {
        session.disconnected(now);
        let connect_at = session.connect_at().unwrap();
        pauses.push(connect_at.saturating_sub(now));
        now = connect_at;
        session.connected(now, now + SECOND);
    }
    for (attempt, pause) in pauses.iter().enumerate() {
        let whole = (Duration::from_millis(10) * (1 << attempt)).min(SECOND);
        assert!(*pause >= whole / 2 && *pause <= whole, "attempt {attempt}: {pause:?}");
    }
}

#[test]
fn not_leader_leads_to_the_leader() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let id = submit(&mut session, now + SECOND, "a");
    sent(&mut session, now);
    let error = ErrorReply::new(ErrorCode::NotLeader, "ask node 2").leader("10.0.0.2:7450");
    let link = session.receive(now, &reply(id, &error)).err().unwrap();
    assert!(!link.is_final());
    let LinkError::ComeBack { leader, .. } = link else { panic!("{link}") };
    assert_eq!(leader, "10.0.0.2:7450");
    session.redirected(now);
    let at = session.connect_at().unwrap();
    assert_eq!(at, now, "where to go is known");
    open(&mut session, at);
    assert_eq!(sent(&mut session, at), [(Kind::Submit, id)]);
}

#[test]
fn a_server_that_greets_and_turns_away_is_asked_with_growing_pauses() {
    let (mut session, mut now) = (session(8), SECOND);
    submit(&mut session, SECOND * 99, "a");
    for attempt in 0..8 {
        open(&mut session, now);
        let (_, request) = sent(&mut session, now)[0];
        let error = reply(request, &ErrorReply::new(ErrorCode::ShuttingDown, "bye"));
        assert!(session.receive(now, &error).is_err());
        session.disconnected(now);
        let connect_at = session.connect_at().unwrap();
        assert!(
            connect_at.saturating_sub(now) >= Duration::from_millis(5) * (1 << attempt).min(64)
        );
        now = connect_at;
    }
}

#[test]
fn a_refused_greeting_is_final_unless_the_server_says_come_back() {
    for (code, is_final) in [
        (ErrorCode::NoSuchPartition, true),
        (ErrorCode::UnsupportedVersion, true),
        (ErrorCode::Busy, false),
        (ErrorCode::ShuttingDown, false),
    ] {
        let mut session = session(8);
        session.connected(SECOND, SECOND * 2);
        let hello = sent(&mut session, SECOND)[0].1;
        let error = reply(hello, &ErrorReply::new(code, "no"));
        assert_eq!(session.receive(SECOND, &error).err().unwrap().is_final(), is_final, "{code}");
    }
}

#[test]
fn another_version_is_told_as_such() {
    let mut session = session(8);
    session.connected(SECOND, SECOND * 2);
    let hello = sent(&mut session, SECOND)[0].1;
    let mut bytes = reply(hello, &hello_reply());
    bytes[8] = 9;
    assert!(receive(&mut session, SECOND, &bytes).contains("protocol version 9"));
}

#[test]
fn errors_of_one_request_end_it_alone() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let ids = ["a", "b"].map(|name| submit(&mut session, now + SECOND, name));
    sent(&mut session, now);
    let full = ErrorReply::new(ErrorCode::StorageFull, "the disk is full");
    assert_eq!(receive(&mut session, now, &reply(ids[0], &full)), "a storage_full");
    assert_eq!(receive(&mut session, now, &reply(ids[1], &DONE)), "b SubmitReply");
}

/// A policy may have changed between two sendings, and the first may have been acted on.
#[test]
fn what_is_forbidden_now_may_have_been_done_when_it_was_sent_first() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let ids = ["a", "b", "c"].map(|name| submit(&mut session, now + SECOND * 9, name));
    sent(&mut session, now);
    let error = ErrorReply::new(ErrorCode::Forbidden, "client/a lacks the right `write`");
    assert_eq!(receive(&mut session, now, &reply(ids[0], &error)), "a forbidden");
    assert!(session.disconnected(now).is_empty());
    let again_at = session.connect_at().unwrap();
    open(&mut session, again_at);
    let fresh = submit(&mut session, again_at + SECOND * 9, "fresh");
    assert_eq!(sent(&mut session, again_at).len(), 3, "what was answered is not sent again");
    let verdict = Verdict::Forbidden.number();
    let run = OutcomeRun { count: 1, verdict, marks: 0, first_offset: 0, first_timestamp: 0 };
    let refused = SubmitReply { token_offset: NO_OFFSET, runs: &[run] };
    assert_eq!(receive(&mut session, again_at, &reply(ids[1], &error)), "b is open");
    assert_eq!(receive(&mut session, again_at, &reply(ids[2], &refused)), "c is open");
    assert_eq!(receive(&mut session, again_at, &reply(fresh, &refused)), "fresh SubmitReply");
}

#[test]
fn subscriptions_are_bounded_by_credit_and_end_with_the_connection() {
    let (mut session, now) = (session(8), SECOND);
    open(&mut session, now);
    let request =
        session.request(Duration::MAX, &Subscribe { from: 0, credit_bytes: 10 }, "log").unwrap();
    sent(&mut session, now);
    let mut feed = Vec::new();
    let page = LogPage { next_offset: 1, durable_offset: 1, entries: &[1; 8] };
    let head = FrameHead::reply(PartitionId(0), request);
    walengine_net::frame::encode_as(&mut feed, Kind::Feed, head, &page).unwrap();
    assert_eq!(receive(&mut session, now, &feed), "feed");
    assert_eq!(receive(&mut session, now, &feed), "feed", "an entry may pass the rest of it");
    assert!(receive(&mut session, now, &feed).starts_with("closed"), "no credit is left");
    session.credit(request, 10);
    assert_eq!(sent(&mut session, now), [(Kind::Credit, request)]);
    assert_eq!(receive(&mut session, now, &feed), "feed");
    // Sixteen bytes for a credit of ten, eight for four: the next credit pays for the excess.
    session.credit(request, 3);
    assert_eq!(sent(&mut session, now), [(Kind::Credit, request)]);
    assert!(receive(&mut session, now, &feed).starts_with("closed"), "it only pays the debt");
    let lost = session.disconnected(now);
    assert_eq!(lost.len(), 1);
    assert_eq!(session.inflight(), 0);
}

#[test]
fn random_bytes_never_panic() {
    let mut seed = 0x5eed_0002_u64;
    println!("seed {seed:#x}");
    for _ in 0..2_000 {
        let mut session = session(8);
        open(&mut session, SECOND);
        let id = submit(&mut session, SECOND * 2, "a");
        sent(&mut session, SECOND);
        let mut bytes = reply(id, &DONE);
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] ^= (seed >> 25) as u8;
        }
        let _ = session.receive(SECOND, &bytes);
    }
}
