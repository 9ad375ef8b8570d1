//! Can a member of a cluster that says what no honest one does move leadership, cut the log, or end
//! another node? Speaks the peers' protocol itself, in the name of a member whose own program runs on.

use std::time::{Duration, Instant};

use openraft::EntryPayload;
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::vote::RaftLeaderId as _;
use walengine_net::entry::{EntryKind, EventsBody};
use walengine_net::message::{ServerStatus, ServerStatusReply};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};
use walengine_replication::peer::{Hello, HelloReply, Message, PeerErrorCode};
use walengine_replication::types::{Batch, Entry, LogId, NodeId, Types, Vote};

use crate::hostile::{Served, answers, cluster, peer_frame, wait_until_well};

const REFUSED: &str = "peer_requests_refused_of_shard_since_start";
const WRITES: usize = 20;
const PATIENCE: Duration = Duration::from_mins(1);

fn vote(term: u64, node: NodeId, committed: bool) -> Vote {
    Vote { leader_id: LeaderId::new(term, node), committed }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 0).to_committed(), index)
}

fn append(vote: Vote, prev: Option<LogId>, entries: Vec<Entry>) -> Message {
    Message::Append(AppendEntriesRequest::<Types> {
        vote,
        prev_log_id: prev,
        entries,
        leader_commit: Some(log_id(vote.leader_id.term, 1 << 30)),
    })
}

/// A batch as a leader of this term might send it, but for its body.
fn batch(term: u64, node: NodeId, index: u64) -> Entry {
    let payload = EntryPayload::Normal(Batch {
        kind: EntryKind::Events,
        term,
        leader_node: node,
        base_offset: Offset(0),
        records: 1,
        timestamp: Timestamp(u64::MAX / 2),
        body: [0; 64].into(),
    });
    Entry { log_id: log_id(term, index), payload }
}

/// What is said, and that it is refused as a lie; otherwise it is answered with a no.
pub fn lies(
    term: u64,
    liar: NodeId,
    target: NodeId,
    leader: NodeId,
) -> Vec<(&'static str, Message, bool)> {
    let candidate = |vote| VoteRequest::<Types>::new(vote, Some(log_id(term, 1 << 30)));
    let blank = |term, index| Entry { log_id: log_id(term, index), payload: EntryPayload::Blank };
    let own = vote(term + 1, liar, true);
    let mut transfer = candidate(vote(term + 1, liar, false));
    transfer.leadership_transfer = true;
    vec![
        ("the last term of all", Message::Vote(candidate(vote(u64::MAX, liar, false))), true),
        (
            "the last term of all, asked",
            Message::PreVote(candidate(vote(u64::MAX, liar, false))),
            true,
        ),
        ("a vote for another", Message::Vote(candidate(vote(term + 1, target, false))), true),
        ("an elected candidate", Message::Vote(candidate(vote(term + 1, liar, true))), true),
        ("a vote that no leader has named", Message::Vote(transfer), false),
        (
            "a transfer in the leader's name",
            Message::TransferLeader(TransferLeaderRequest::new(
                vote(term, leader, true),
                liar,
                None,
            )),
            true,
        ),
        ("the receiver leads", append(vote(term + 1, target, true), None, vec![]), true),
        (
            "the leader's own word",
            append(vote(term, leader, true), None, vec![blank(term, 0)]),
            true,
        ),
        ("nobody has elected it", append(own, None, vec![]), true),
        ("all is cut", append(own, None, vec![blank(term + 1, 0)]), true),
        ("an entry is cut", append(own, Some(log_id(term + 1, 3)), vec![blank(term + 1, 4)]), true),
        ("a forged batch", append(own, None, vec![batch(term + 1, liar, 0)]), true),
        ("the last term leads", append(vote(u64::MAX, liar, true), None, vec![]), true),
    ]
}

/// What an entry of the leader's own term has that nobody else may send: its vote, and the place behind the last
/// entry. In the leader's name, since it may be the leader itself that lies.
fn entry_of_2262(served: &Served, target: usize, leads: NodeId) -> Message {
    let mut wire = served.nodes.wire(target);
    let reply = wire.call(&ServerStatus::default()).unwrap();
    let status = reply.open::<ServerStatusReply<'_>>();
    let number = |name: &str| {
        let row = status.numbers.iter().find(|row| &*row.name == name);
        row.map(|row| row.value.to_native()).expect("the status has it")
    };
    let (term, last) = (served.before.term, number("last_index"));
    let events = vec![[0; 128]];
    let body = EventsBody { events, verdicts: vec![0], resolved: vec![] };
    let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
    let batch = Batch {
        kind: EntryKind::Events,
        term,
        leader_node: leads,
        base_offset: Offset(number("next_offset")),
        records: 1,
        timestamp: Timestamp(i64::MAX as u64), // the year 2262
        body: body[..].into(),
    };
    let entry = Entry { log_id: log_id(term, last), payload: EntryPayload::Normal(batch) };
    Message::Append(AppendEntriesRequest::<Types> {
        vote: vote(term, leads, true),
        prev_log_id: Some(log_id(term, last - 1)),
        entries: vec![entry],
        leader_commit: None,
    })
}

/// A leader that lies about the time is refused by every node.
fn lie_about_the_time(served: &mut Served) {
    let leader = served.nodes.leader();
    let leads = served.nodes.view(leader).expect("it tells").node;
    let hello = Hello {
        cluster: ClusterId(served.before.cluster),
        node: leads,
        partition: PartitionId(0),
        partitions: 1,
    };
    for target in [(leader + 1) % 3, (leader + 2) % 3] {
        let by = Instant::now() + PATIENCE;
        while served.number(target, "clocks_of_majority_known") == 0 {
            assert!(Instant::now() < by, "it hears no clocks:\n{}", served.nodes.log(target));
            std::thread::sleep(Duration::from_millis(20));
        }
        let before = served.number(target, REFUSED);
        let last = served.number(target, "last_index");
        let message = entry_of_2262(served, target, leads);
        let bytes = [peer_frame(&Message::Hello(hello)), peer_frame(&message)].concat();
        match answers(served.nodes.peer_address(target), &bytes) {
            [Message::HelloReply(HelloReply::Accepted { .. }), Message::Error(error)] => {
                assert_eq!(error.code, PeerErrorCode::Dishonest, "{error:?}");
                let time = "its time is far ahead";
                assert!(error.message.contains(time), "refused for something else: {error:?}");
            }
            other => panic!("it was answered with {other:?}"),
        }
        assert_eq!(served.number(target, REFUSED), before + 1);
        assert_eq!(served.number(target, "last_index"), last, "it was stored");
        served.still_serves();
    }
    served.is_unchanged();
}

/// Says all of it to every node but the liar's own.
fn lie(served: &mut Served) {
    let leader = served.nodes.leader();
    let id = |served: &Served, node| served.nodes.view(node).expect("it tells").node;
    let place = (leader + 1) % 3;
    let (liar, leads) = (id(served, place), id(served, leader));
    let term = served.before.term;
    let cluster = ClusterId(served.before.cluster);
    let hello = Hello { cluster, node: liar, partition: PartitionId(0), partitions: 1 };
    for target in [leader, (leader + 2) % 3] {
        let address = served.nodes.peer_address(target);
        let before = served.number(target, REFUSED);
        let mut refused = 0;
        for (what, message, is_lie) in lies(term, liar, id(served, target), leads) {
            if what == "the receiver leads" && target == leader {
                continue; // it does
            }
            let bytes = [peer_frame(&Message::Hello(hello)), peer_frame(&message)].concat();
            match answers(address, &bytes) {
                [Message::HelloReply(HelloReply::Accepted { .. }), Message::Error(error)]
                    if is_lie =>
                {
                    assert_eq!(error.code, PeerErrorCode::Dishonest, "{what}: {error:?}");
                    refused += 1;
                }
                [_, Message::VoteReply(answer)] if !is_lie => {
                    assert!(!answer.vote_granted, "{what}: {answer:?}");
                }
                other => panic!("{what} was answered with {other:?}"),
            }
            served.still_serves();
        }
        assert_eq!(served.number(target, REFUSED), before + refused);
        assert!(
            served.nodes.log(target).contains("is not believed"),
            "{}",
            served.nodes.log(target)
        );
    }
    served.is_unchanged();
}

#[test]
fn what_no_honest_member_says_is_refused_told_and_changes_nothing() {
    let mut served = cluster("liar", 0);
    for _ in 0..WRITES {
        served.still_serves();
    }
    lie(&mut served);
    lie_about_the_time(&mut served);
    // Nodes that have just been started know least.
    for node in 0..3 {
        served.nodes.kill(node);
    }
    for node in 0..3 {
        served.nodes.spawn(node);
    }
    served.nodes.wait_until_serving();
    served.before = wait_until_well(&served.nodes);
    lie(&mut served);
    served.end();
}

/// The fault: a sign of life names an entry that the follower is known to have. What the leader sent next was then
/// judged as if it came behind that one, and its entries were left out, though openraft's answer was a success. Where no
/// other follower was left, the leader waited for ever.
#[test]
fn a_sign_of_life_among_appends_has_no_entry_left_out() {
    let mut served = cluster("sign-of-life", 0);
    served.still_serves();
    let leader = served.nodes.leader();
    let (target, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let leads = served.nodes.view(leader).expect("it tells").node;
    let written = served.number(leader, "last_index");
    let by = Instant::now() + PATIENCE;
    while served.number(target, "durable_index") < written {
        assert!(Instant::now() < by, "it lacks what was written:\n{}", served.nodes.log(target));
        std::thread::sleep(Duration::from_millis(20));
    }
    served.nodes.kill(leader);
    served.nodes.kill(other);
    // From here on this test is the leader, and sends on without waiting for answers.
    let term = served.before.term;
    let sends = |prev: LogId, count: u64| {
        let after = prev.index + 1..=prev.index + count;
        let blank = |index| Entry { log_id: log_id(term, index), payload: EntryPayload::Blank };
        peer_frame(&Message::Append(AppendEntriesRequest::<Types> {
            vote: vote(term, leads, true),
            prev_log_id: Some(prev),
            entries: after.map(blank).collect(),
            leader_commit: None,
        }))
    };
    let hello = Hello {
        cluster: ClusterId(served.before.cluster),
        node: leads,
        partition: PartitionId(0),
        partitions: 1,
    };
    let [known, sent, last] = [written - 1, written + 2, written + 3].map(|it| log_id(term, it));
    let frames =
        [peer_frame(&Message::Hello(hello)), sends(known, 3), sends(known, 0), sends(sent, 1)];
    match answers(served.nodes.peer_address(target), &frames.concat()) {
        [
            Message::HelloReply(HelloReply::Accepted { .. }),
            Message::AppendReply(Ok(first)),
            Message::AppendReply(Ok(sign)),
            Message::AppendReply(Ok(second)),
        ] => assert_eq!([first, sign, second], [Some(sent), Some(known), Some(last)]),
        other => panic!("it was answered with {other:?}"),
    }
    assert_eq!(served.number(target, "last_index"), last.index + 1);
}
