//! One frame of every form of every kind: the contents of the golden files.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use walengine_net::entry::EntryKind;
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::model::{
    AccountId, Amount, Arrival, ClusterId, EventId, Offset, PartitionId, Sent, Timestamp, Transfer,
    Verdict, Word,
};
use walengine_replication::gossip::OwnCondition;
use walengine_replication::peer::{
    About, Carried, Hello, HelloReply, LogPage, LogRead, Message, PeerError, PeerErrorCode,
    Refusal, Words, frame,
};
use walengine_replication::types::{Batch, Entry, LogId, Member, Membership, Vote};

/// Names of the files without their ending, and the bytes.
pub fn frames() -> Vec<(String, Vec<u8>)> {
    messages().into_iter().map(|(name, message)| (name.to_owned(), encoded(&message))).collect()
}

fn encoded(message: &Message) -> Vec<u8> {
    let head = FrameHead {
        partition: PartitionId(3),
        request: RequestId(0x0102_0304_0506_0708),
        deadline_millis: 750,
    };
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn membership() -> Membership {
    let node = |id: u64| (id, Member::at(format!("10.0.0.{id}:7451")));
    let nodes: BTreeMap<_, _> = (1..=4).map(node).collect();
    let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    Membership::new(configs, nodes).unwrap()
}

fn batch(kind: EntryKind, term: u64, body: &[u8]) -> Batch {
    Batch {
        kind,
        term,
        leader_node: 2,
        base_offset: Offset(1000),
        records: 5,
        timestamp: Timestamp(1_700_000_000_000_000_000),
        body: body.into(),
    }
}

fn messages() -> Vec<(&'static str, Message)> {
    let (vote, elected) = (Vote::new(9, 1), Vote::new_committed(7, 2));
    let (refused, failed) = (HelloReply::Refused, Message::Error);
    let entry = |term, index, payload| Entry { log_id: log_id(term, index), payload };
    let entries = vec![
        entry(6, 41, EntryPayload::Normal(batch(EntryKind::Events, 6, b"events"))),
        entry(6, 42, EntryPayload::Normal(batch(EntryKind::Records, 6, b""))),
        entry(7, 43, EntryPayload::Blank),
        entry(7, 44, EntryPayload::Membership(membership())),
    ];
    let hello = Hello {
        cluster: ClusterId(0x000f_0e0d_0c0b_0a09_0807_0605_0403_0201),
        node: 2,
        partition: PartitionId(3),
        partitions: 8,
    };
    let request =
        |leadership_transfer, last| VoteRequest { vote, last_log_id: last, leadership_transfer };
    let changed = TransferLeaderError::VoteChanged { expected: elected, actual: vote };
    let behind = TransferLeaderError::LogNotFlushed { expected: Some(log_id(7, 44)), actual: None };
    vec![
        ("8001_hello", Message::Hello(hello)),
        (
            "8002_append",
            Message::Append(AppendEntriesRequest {
                vote: elected,
                prev_log_id: Some(log_id(6, 40)),
                entries,
                leader_commit: Some(log_id(6, 39)),
            }),
        ),
        (
            "8002_append_empty",
            Message::Append(AppendEntriesRequest {
                vote: elected,
                prev_log_id: None,
                entries: vec![],
                leader_commit: None,
            }),
        ),
        ("8003_vote", Message::Vote(request(true, Some(log_id(6, 40))))),
        ("8004_pre_vote", Message::PreVote(request(false, None))),
        (
            "8005_transfer_leader",
            Message::TransferLeader(TransferLeaderRequest::new(elected, 3, Some(log_id(7, 44)))),
        ),
        ("8009_log_read", Message::LogRead(LogRead { from: 41, bytes_max: 0x0010_0000 })),
        ("800a_about", Message::About),
        (
            "808a_about_reply",
            Message::AboutReply(About {
                is_leaving: true,
                condition: OwnCondition {
                    is_slow: true,
                    clock: Timestamp(1_700_000_000_000_000_000),
                    ..OwnCondition::default()
                },
                client_address: "db1.example:7450".into(),
            }),
        ),
        ("8081_hello_reply", Message::HelloReply(HelloReply::Accepted { node: 1 })),
        (
            "8081_refused_1",
            Message::HelloReply(refused(Refusal::OtherCluster { cluster: ClusterId(77) })),
        ),
        ("8081_refused_2", Message::HelloReply(refused(Refusal::OlderVersion { oldest: 1 }))),
        ("8081_refused_3", Message::HelloReply(refused(Refusal::NewerVersion { newest: 1 }))),
        ("8081_refused_4", Message::HelloReply(refused(Refusal::NodeIdInUse))),
        ("8081_refused_5", Message::HelloReply(refused(Refusal::UnknownPartition))),
        ("8081_refused_6", Message::HelloReply(refused(Refusal::NotMember))),
        (
            "8081_refused_7",
            Message::HelloReply(refused(Refusal::OtherPartitions { partitions: 4 })),
        ),
        ("8082_append_reply", Message::AppendReply(Ok(Some(log_id(7, 44))))),
        ("8082_append_reply_none", Message::AppendReply(Ok(None))),
        (
            "8082_append_conflict",
            Message::AppendReply(Err(StreamAppendError::Conflict(log_id(6, 40)))),
        ),
        ("8082_append_higher", Message::AppendReply(Err(StreamAppendError::HigherVote(vote)))),
        (
            "8083_vote_reply",
            Message::VoteReply(VoteResponse {
                vote,
                vote_granted: true,
                last_log_id: Some(log_id(6, 40)),
            }),
        ),
        (
            "8084_pre_vote_reply",
            Message::PreVoteReply(VoteResponse {
                vote: elected,
                vote_granted: false,
                last_log_id: None,
            }),
        ),
        ("8085_transfer_reply", Message::TransferLeaderReply(Ok(()))),
        ("8085_transfer_changed", Message::TransferLeaderReply(Err(changed))),
        ("8085_transfer_behind", Message::TransferLeaderReply(Err(behind))),
        (
            "8089_log_page",
            Message::LogPage(LogPage {
                vote: elected,
                committed: 44,
                entries: (*b"entries as on disk").into(),
            }),
        ),
        (
            "800b_carry",
            Message::Carry(Carried {
                home: PartitionId(1),
                to: PartitionId(2),
                covers_from: 50,
                settled_below: 49,
                time: Timestamp(1_700_000_000_000_000_001),
                arrivals: vec![Arrival {
                    sent: Sent::Transfer(Transfer {
                        id: EventId(7),
                        debit_account_id: AccountId(8),
                        credit_account_id: AccountId(9),
                        amount: Amount(10),
                        ..Transfer::default()
                    }),
                    place: 51,
                }],
            }),
        ),
        (
            "808b_carry_reply",
            Message::CarryReply(Words {
                time: Timestamp(1_700_000_000_000_000_002),
                next_offset: Offset(61),
                words: vec![Word {
                    id: EventId(7),
                    place: 51,
                    verdict: Verdict::Ok,
                    amount: Amount(10),
                    pending_id: EventId(6),
                    is_linked: false,
                }],
            }),
        ),
        (
            "80ff_error",
            failed(PeerError {
                retry_after_millis: 250,
                ..PeerError::new(PeerErrorCode::Busy, "the queue of partition 3 is full, účet")
            }),
        ),
    ]
}
