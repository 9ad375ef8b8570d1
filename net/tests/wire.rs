//! Does the codec carry every message, and refuse everything else?

use walengine_net::entry::ANY_OFFSET;
use walengine_net::frame::{
    self, FrameError, FrameHead, FrameHeader, HEADER_BYTES, Kind, RequestId, encode, peek,
};
use walengine_net::limits::{
    BODY_BYTES_MAX, CLUSTER_GROUPS_MAX, CLUSTER_NODES_MAX, CLUSTER_REPLICAS_MAX, EVENTS_MAX,
    LABEL_BYTES_MAX, PAGE_BODY_BYTES_MAX,
};
use walengine_net::message::{ActFor, ActForReply};
use walengine_net::message::{
    AdminReply, AdminState, AdmitNode, ClusterStatus, ClusterStatusReply, Freshness, GroupRow,
    LINEARIZABLE, Leave, LeaveAnyway, NodeHealth, NodeRow, RemoveNode, ReplicaRole, ReplicaRow,
    TransferLeadership,
};
use walengine_net::message::{
    Append, AppendHead, ErrorCode, ErrorReply, EventOutcome, Hello, HelloReply, ListAccounts,
    ListAccountsReply, LogPage, LookupAccounts, LookupAccountsReply, LookupTransfers,
    LookupTransfersReply, Message, MessageError, NO_OFFSET, OutcomeRuns, ReadEntries, ReadLog,
    ServerStatus, ServerStatusReply, Status, StatusReply, Submit, SubmitReply, Subscribe,
    Unsubscribe, open,
};
use walengine_net::message::{Credit, EventState, NumberRow, TextRow, UnsubscribeReply};
use walengine_net::message::{
    FindNames, FindNamesReply, LedgerRow, ListLedgers, ListLedgersReply, ListReservations,
    ListReservationsReply, LookupNames, LookupNamesReply, ReservationRow,
};
use walengine_net::model::{EventBytes, NameText, Offset, PartitionId, Timestamp, Verdict};

/// A small random generator. Its seed is enough to reproduce a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn head() -> FrameHead {
    FrameHead { partition: PartitionId(3), request: RequestId(7), deadline_millis: 10_000 }
}

fn frame_of<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, head(), message).unwrap();
    bytes
}

fn round_trip<M: Message>(message: &M, see: impl FnOnce(&M::View)) {
    let bytes = frame_of(message);
    let frame = peek(&bytes).unwrap().unwrap();
    assert_eq!((frame.kind, frame.head, frame.frame_bytes()), (M::KIND, head(), bytes.len()));
    see(open::<M>(frame.body).unwrap());
    for length in 0..frame.body.len().min(2_000) {
        let _ = open::<M>(&frame.body[..length]);
    }
}

#[test]
fn every_message_survives_its_frame() {
    round_trip(&Hello { partition: 3, client_name: "test" }, |view| {
        assert_eq!((view.partition.to_native(), &*view.client_name), (3, "test"));
    });
    let hello = HelloReply {
        cluster: 1 << 100,
        node: 2,
        next_offset: 3,
        durable_offset: 4,
        partitions: 5,
        is_leader: 1,
        body_bytes_max: 6,
        events_max: 7,
        inflight_max: 8,
        server_version: "walengine 0.1.0",
        leader: "",
    };
    round_trip(&hello, |view| {
        assert_eq!(view.cluster.to_native(), 1 << 100);
        assert_eq!((&*view.server_version, &*view.leader), ("walengine 0.1.0", ""));
    });
    round_trip(&Submit { events: &[[1; 128], [2; 128]] }, |view| {
        assert_eq!(&*view.events, &[[1; 128], [2; 128]]);
    });
    let heads = [AppendHead { id: 5, bytes: 2 }, AppendHead { id: 6, bytes: 1 }];
    round_trip(&Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &[1, 2, 3] }, |view| {
        let records: Vec<_> = view.records().map(|(h, r)| (h.id.to_native(), r)).collect();
        assert_eq!(records, [(5, &[1u8, 2][..]), (6, &[3][..])]);
    });
    round_trip(&LookupAccounts { at_least: NO_OFFSET, ids: &[1, u128::MAX] }, |view| {
        assert_eq!((view.at_least(), view.ids[1].to_native()), (None, u128::MAX));
    });
    let reply =
        LookupAccountsReply { next_offset: 9, found: &[0, 4], accounts: &[[1; 128], [2; 128]] };
    round_trip(&reply, |view| {
        let found: Vec<_> = view.accounts().collect();
        assert_eq!(found, [(0, &[1; 128]), (4, &[2; 128])]);
    });
    round_trip(&ListAccounts { at_least: 3, after: 4, limit: 5 }, |view| {
        assert_eq!((view.at_least(), view.limit.to_native()), (Some(Offset(3)), 5));
    });
    round_trip(
        &ListAccountsReply { next_offset: 1, next_cursor: 2, accounts: &[[3; 128]] },
        |view| assert_eq!(view.accounts.len(), 1),
    );
    round_trip(&LookupNames { at_least: 3, ids: &[8] }, |view| {
        assert_eq!((view.at_least(), view.ids[0].to_native()), (Some(Offset(3)), 8));
    });
    let anna = NameText::new("Anna").unwrap();
    let names = &[anna.to_bytes()];
    round_trip(&LookupNamesReply { next_offset: 9, found: &[3], names }, |view| {
        assert_eq!(view.names().collect::<Vec<_>>(), [(3, anna)]);
    });
    let find = FindNames { at_least: 3, after: 4, limit: 5, prefix: "Č".as_bytes() };
    round_trip(&find, |view| {
        assert_eq!((view.at_least(), &*view.prefix), (Some(Offset(3)), "Č".as_bytes()));
    });
    let reply = FindNamesReply { next_offset: 1, next_cursor: 2, ids: &[7], names };
    round_trip(&reply, |view| assert_eq!(view.next_cursor.to_native(), 2));
    round_trip(&ListLedgers { at_least: 3 }, |view| {
        assert_eq!(view.at_least(), Some(Offset(3)));
    });
    let ledgers = &[LedgerRow { ledger: 978, scale: 2, name: anna.to_bytes() }];
    round_trip(&ListLedgersReply { next_offset: 1, ledgers }, |view| {
        assert_eq!((view.ledgers[0].ledger.to_native(), view.ledgers[0].scale), (978, 2));
    });
    round_trip(&ListReservations { at_least: 3, after: 4, limit: 5 }, |view| {
        assert_eq!((view.at_least(), view.after.to_native()), (Some(Offset(3)), 4));
    });
    let row = ReservationRow {
        id: 1,
        debit_account_id: 2,
        credit_account_id: 3,
        amount: 4,
        offset: 5,
        expires_at: 6,
        ledger: 7,
        code: 8,
        in_doubt: 1,
    };
    let reply = ListReservationsReply { next_offset: 1, next_cursor: 2, reservations: &[row] };
    round_trip(&reply, |view| {
        let row = &view.reservations[0];
        assert_eq!((row.amount.to_native(), row.code.to_native(), row.in_doubt), (4, 8, 1));
    });
    round_trip(&LookupTransfers { at_least: 3, ids: &[8] }, |view| {
        assert_eq!(view.ids[0].to_native(), 8);
    });
    let state = EventState {
        index: 1,
        verdict: 86,
        has_resolved: 1,
        offset: 2,
        timestamp: 3,
        event: [4; 128],
        resolved: [5; 64],
    };
    round_trip(&LookupTransfersReply { next_offset: 9, states: &[state] }, |view| {
        assert_eq!((view.states[0].event, view.states[0].resolved), ([4; 128], [5; 64]));
    });
    round_trip(&Status { at_least: NO_OFFSET, namespace: 1, ids: &[1, 2] }, |view| {
        assert_eq!(view.ids.len(), 2);
    });
    round_trip(&StatusReply { next_offset: 1, states: &[] }, |view| {
        assert!(view.states.is_empty());
    });
    round_trip(&ReadLog { at_least: 1, from: 2, bytes_max: 3 }, |view| {
        assert_eq!(view.from.to_native(), 2);
    });
    round_trip(&Subscribe { from: 2, credit_bytes: 3 }, |view| {
        assert_eq!(view.credit_bytes.to_native(), 3);
    });
    round_trip(&Credit { bytes: 2 }, |view| assert_eq!(view.bytes.to_native(), 2));
    round_trip(&Unsubscribe::default(), |_| {});
    round_trip(&UnsubscribeReply { next_offset: 2 }, |view| {
        assert_eq!(view.next_offset.to_native(), 2);
    });
    round_trip(&LogPage { next_offset: 2, durable_offset: 3, entries: &[0; 300] }, |view| {
        assert_eq!(view.entries.len(), 300);
        assert!(view.entries().next().unwrap().is_err(), "zeros are no entry");
    });
    round_trip(&ServerStatus::default(), |_| {});
    let status = ServerStatusReply {
        numbers: &[NumberRow { partition: 1, value: 2, name: "free_bytes" }],
        texts: &[TextRow { partition: 1, name: "version", text: "0.1.0" }],
    };
    round_trip(&status, |view| {
        assert_eq!((&*view.numbers[0].name, &*view.texts[0].text), ("free_bytes", "0.1.0"));
    });
    cluster_messages_survive();
    let error = ErrorReply::new(ErrorCode::Busy, "later").retry_after_millis(5).leader("a:1");
    round_trip(&error, |view| {
        assert_eq!((view.code(), view.retry_after_millis.to_native()), (Some(ErrorCode::Busy), 5));
        assert_eq!((&*view.leader, &*view.message), ("a:1", "later"));
    });
}

fn node_row(node: u64) -> NodeRow<'static> {
    NodeRow {
        node,
        state: 1,
        cores: 2,
        free_bytes: 3,
        heard_seconds: 4,
        client_address: "a:1",
        peer_address: "b:2",
        version: "0.1.0",
    }
}

const GROUP: GroupRow =
    GroupRow { partition: 1, leader: 2, term: 3, committed_offset: 4, is_changing: 1 };
const REPLICA: ReplicaRow =
    ReplicaRow { partition: 1, node: 2, role: 1, matched_index: 3, last_index: 4 };

fn cluster_messages_survive() {
    round_trip(&ClusterStatus::default(), |_| {});
    let status = ClusterStatusReply {
        cluster: 1 << 90,
        node: 7,
        nodes: &[node_row(6), node_row(7)],
        groups: &[GROUP, GroupRow { partition: 2, ..GROUP }],
        replicas: &[REPLICA, ReplicaRow { node: 3, ..REPLICA }],
    };
    round_trip(&status, |view| {
        let node = &view.nodes[1];
        assert_eq!((node.node.to_native(), node.health()), (7, NodeHealth::Suspect));
        let texts = (&*node.client_address, &*node.peer_address, &*node.version);
        assert_eq!(texts, ("a:1", "b:2", "0.1.0"));
        assert_eq!(view.groups[1].partition.to_native(), 2);
        assert_eq!(view.replicas[1].role(), ReplicaRole::Learner);
    });
    round_trip(&TransferLeadership { to: 0 }, |view| assert_eq!(view.to(), None));
    round_trip(&TransferLeadership { to: 3 }, |view| assert_eq!(view.to(), Some(3)));
    round_trip(&RemoveNode { node: 3 }, |view| assert_eq!(view.node.to_native(), 3));
    round_trip(&Leave { node: 1 }, |view| assert_eq!(view.node.to_native(), 1));
    round_trip(&LeaveAnyway { node: 1 }, |view| assert_eq!(view.node.to_native(), 1));
    round_trip(&AdmitNode { node: 4 }, |view| assert_eq!(view.node.to_native(), 4));
    round_trip(&AdminReply::new(AdminState::Refused, "no majority"), |view| {
        assert_eq!((view.state(), &*view.message), (AdminState::Refused, "no majority"));
    });
}

#[test]
fn a_read_says_how_fresh_its_answer_must_be() {
    let asked = [Freshness::Any, Freshness::AtLeast(Offset(3)), Freshness::Linearizable];
    for freshness in asked {
        let at_least = freshness.number();
        assert_eq!(Freshness::from_number(at_least), freshness);
        let known = freshness.offset();
        round_trip(&LookupAccounts { at_least, ids: &[1] }, |view| {
            assert_eq!((view.freshness(), view.at_least()), (freshness, known));
        });
        round_trip(&ListAccounts { at_least, after: 0, limit: 1 }, |view| {
            assert_eq!((view.freshness(), view.at_least()), (freshness, known));
        });
        round_trip(&LookupTransfers { at_least, ids: &[1] }, |view| {
            assert_eq!((view.freshness(), view.at_least()), (freshness, known));
        });
        round_trip(&Status { at_least, namespace: 0, ids: &[1] }, |view| {
            assert_eq!((view.freshness(), view.at_least()), (freshness, known));
        });
        round_trip(&ReadLog { at_least, from: 0, bytes_max: 1 }, |view| {
            assert_eq!((view.freshness(), view.at_least()), (freshness, known));
        });
    }
    assert_eq!(
        (Freshness::Any.number(), Freshness::Linearizable.number()),
        (NO_OFFSET, LINEARIZABLE)
    );
}

/// Whether an answer about the cluster can be opened.
fn is_cluster_status(status: &ClusterStatusReply<'_>) -> Result<(), MessageError> {
    let bytes = frame_of(status);
    open::<ClusterStatusReply>(peek(&bytes).unwrap().unwrap().body).map(|_| ())
}

#[test]
fn contradictions_about_the_cluster_are_refused() {
    let good = ClusterStatusReply { cluster: 1, node: 1, nodes: &[], groups: &[], replicas: &[] };
    assert_eq!(is_cluster_status(&good), Ok(()));
    let contradicts = |status: &ClusterStatusReply<'_>| {
        assert!(matches!(is_cluster_status(status), Err(MessageError::Contradiction(_))));
    };
    contradicts(&ClusterStatusReply { nodes: &[node_row(2), node_row(2)], ..good });
    contradicts(&ClusterStatusReply { nodes: &[node_row(0)], ..good });
    contradicts(&ClusterStatusReply { nodes: &[NodeRow { state: 4, ..node_row(1) }], ..good });
    contradicts(&ClusterStatusReply { groups: &[GROUP, GROUP], ..good });
    contradicts(&ClusterStatusReply { replicas: &[REPLICA, REPLICA], ..good });
    contradicts(&ClusterStatusReply { replicas: &[ReplicaRow { role: 2, ..REPLICA }], ..good });
    for bytes in [frame_of(&RemoveNode { node: 0 }), frame_of(&Leave { node: 0 })] {
        let body = peek(&bytes).unwrap().unwrap().body;
        assert!(open::<RemoveNode>(body).is_err() && open::<Leave>(body).is_err());
    }
}

#[test]
fn the_largest_answer_about_a_cluster_fits_one_frame() {
    let text = "x".repeat(LABEL_BYTES_MAX);
    let row = NodeRow { client_address: &text, peer_address: &text, version: &text, ..node_row(1) };
    let nodes: Vec<_> =
        (1..=CLUSTER_NODES_MAX as u64 + 1).map(|node| NodeRow { node, ..row }).collect();
    let groups: Vec<_> =
        (0..=CLUSTER_GROUPS_MAX as u16).map(|partition| GroupRow { partition, ..GROUP }).collect();
    let replicas: Vec<_> =
        (0..=CLUSTER_REPLICAS_MAX as u64).map(|node| ReplicaRow { node, ..REPLICA }).collect();
    let full = ClusterStatusReply {
        cluster: 1,
        node: 1,
        nodes: &nodes[..CLUSTER_NODES_MAX],
        groups: &groups[..CLUSTER_GROUPS_MAX],
        replicas: &replicas[..CLUSTER_REPLICAS_MAX],
    };
    assert_eq!(is_cluster_status(&full), Ok(()));
    let empty = ClusterStatusReply { cluster: 1, node: 1, nodes: &[], groups: &[], replicas: &[] };
    for past in [
        ClusterStatusReply { nodes: &nodes, ..empty },
        ClusterStatusReply { groups: &groups, ..empty },
        ClusterStatusReply { replicas: &replicas, ..empty },
    ] {
        assert!(matches!(is_cluster_status(&past), Err(MessageError::TooMany { .. })));
    }
}

#[test]
fn full_batches_fit_one_frame() {
    let events: Vec<EventBytes> = vec![[9; 128]; EVENTS_MAX + 1];
    let bytes = frame_of(&Submit { events: &events[..EVENTS_MAX] });
    let frame = peek(&bytes).unwrap().unwrap();
    assert!(frame.body.len() <= BODY_BYTES_MAX);
    assert_eq!(open::<Submit>(frame.body).unwrap().events.len(), EVENTS_MAX);
    let bytes = frame_of(&Submit { events: &events });
    let frame = peek(&bytes).unwrap().unwrap();
    assert!(matches!(open::<Submit>(frame.body), Err(MessageError::TooMany { .. })));

    let heads = vec![AppendHead { id: 1, bytes: 1024 }; 1000];
    let append = Append { expected_offset: 0, heads: &heads, blob: &vec![3; 1000 * 1024] };
    let bytes = frame_of(&append);
    let view = open::<Append>(peek(&bytes).unwrap().unwrap().body).unwrap();
    assert_eq!(view.records().count(), 1000);
    assert!(view.records().all(|(_, record)| record == [3; 1024]));
}

#[test]
fn too_large_a_body_leaves_the_buffer_as_it_was() {
    let mut bytes = vec![1, 2, 3];
    let events = vec![[0; 128]; EVENTS_MAX + 3];
    let error = encode(&mut bytes, head(), &Submit { events: &events }).unwrap_err();
    assert_eq!((error.limit_bytes, bytes.as_slice()), (BODY_BYTES_MAX, &[1, 2, 3][..]));
}

#[test]
fn every_flipped_bit_of_a_frame_is_detected() {
    let mut bytes = frame_of(&Submit { events: &[[7; 128]] });
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        // With a larger length the reader waits for bytes that never come, until its deadline.
        assert!(!matches!(peek(&bytes), Ok(Some(_))), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(peek(&bytes).unwrap().is_some());
}

#[test]
fn a_truncated_frame_waits_for_more_at_every_byte() {
    let bytes = frame_of(&Submit { events: &[[7; 128]] });
    for length in 0..bytes.len() {
        assert!(matches!(peek(&bytes[..length]), Ok(None)), "length {length}");
    }
    let (mut two, mut seen) = (bytes.clone(), 0);
    two.extend_from_slice(&bytes);
    let mut rest = two.as_slice();
    while let Some(frame) = peek(rest).unwrap() {
        rest = &rest[frame.frame_bytes()..];
        seen += 1;
    }
    assert_eq!((seen, rest.len()), (2, 0));
}

#[test]
fn lengths_are_judged_by_the_header_alone() {
    let header = |kind: u16, body_bytes: u32| FrameHeader {
        crc: 0,
        kind,
        flags: 0,
        body_bytes,
        head: head(),
    };
    let (submit, page) = (Kind::Submit.number(), Kind::LogPage.number());
    for (kind, fits) in
        [(submit, BODY_BYTES_MAX), (page, PAGE_BODY_BYTES_MAX), (99, BODY_BYTES_MAX)]
    {
        let fits = fits as u32;
        assert!(matches!(peek(&header(kind, fits).to_bytes()), Ok(None)));
        for length in [fits + 1, u32::MAX] {
            let error = peek(&header(kind, length).to_bytes()).unwrap_err();
            assert!(matches!(error, FrameError::Length { .. }), "{error}");
            assert_eq!((error.closes(), error.request()), (true, RequestId(7)));
        }
    }
    assert!(matches!(peek(&header(submit, 0).to_bytes()), Err(FrameError::Crc { .. })));
    assert_eq!(open::<Submit>(&[]).err(), Some(MessageError::Body));
}

#[test]
fn strangers_and_other_versions_are_told_apart() {
    assert!(matches!(peek(b"GET / HTTP/1.1"), Err(FrameError::Magic(_))));
    assert_eq!(peek(b"WALP").err(), Some(FrameError::PeerFrame));
    assert_eq!(peek(&[&b"WALP"[..], &[0; 60]].concat()).err(), Some(FrameError::PeerFrame));
    assert!(matches!(peek(b"WAL"), Ok(None)));
    let mut bytes = frame_of(&Unsubscribe::default());
    bytes[8] = 2;
    let error = peek(&bytes).unwrap_err();
    assert_eq!(error, FrameError::Version { found: 2, request: RequestId(7) });
    assert!(error.closes());
}

#[test]
fn unknown_kinds_and_flags_are_skipped_not_fatal() {
    for (kind, flags) in [(77, 0), (Kind::Hello.number(), 1)] {
        let mut header = FrameHeader { crc: 0, kind, flags, body_bytes: 4, head: head() };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(b"body");
        header.crc = crc32c::crc32c(&bytes[8..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let error = peek(&bytes).unwrap_err();
        assert!(!error.closes());
        assert!(
            matches!(
                error,
                FrameError::Kind { frame_bytes: 36, .. }
                    | FrameError::Flags { frame_bytes: 36, .. }
            ),
            "{error}"
        );
    }
}

fn open_all(body: &[u8]) -> usize {
    macro_rules! opened {
        ($($message:ty,)*) => { 0 $(+ usize::from(open::<$message>(body).is_ok()))* };
    }
    opened!(
        Hello,
        HelloReply,
        ActFor,
        ActForReply,
        Submit,
        Append,
        SubmitReply,
        LookupAccounts,
        LookupAccountsReply,
        ListAccounts,
        ListAccountsReply,
        LookupTransfers,
        LookupTransfersReply,
        LookupNames,
        LookupNamesReply,
        FindNames,
        FindNamesReply,
        ListLedgers,
        ListLedgersReply,
        ListReservations,
        ListReservationsReply,
        Status,
        StatusReply,
        ReadEntries,
        ReadLog,
        Subscribe,
        Credit,
        Unsubscribe,
        UnsubscribeReply,
        LogPage,
        ServerStatus,
        ServerStatusReply,
        ClusterStatus,
        ClusterStatusReply,
        TransferLeadership,
        RemoveNode,
        Leave,
        LeaveAnyway,
        AdmitNode,
        AdminReply,
        ErrorReply,
    )
}

#[test]
fn garbage_bodies_give_typed_errors() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let status = ServerStatusReply {
        numbers: &[NumberRow { partition: 1, value: 2, name: "free_bytes" }; 3],
        texts: &[TextRow { partition: 1, name: "version", text: "0.1.0" }; 2],
    };
    let cluster = ClusterStatusReply {
        cluster: 1,
        node: 7,
        nodes: &[node_row(6), node_row(7)],
        groups: &[GROUP],
        replicas: &[REPLICA],
    };
    let samples = [
        frame_of(&cluster),
        frame_of(&status),
        frame_of(&Submit { events: &[[1; 128]; 3] }),
        frame_of(&Hello { partition: 1, client_name: "c" }),
    ];
    for round in 0..60_000 {
        let mut body = if round % 2 == 0 {
            (0..random.below(200)).map(|_| random.next() as u8).collect::<Vec<_>>()
        } else {
            samples[round / 2 % samples.len()][HEADER_BYTES..].to_vec()
        };
        for _ in 0..random.below(4) {
            if !body.is_empty() {
                let at = random.below(body.len() as u64) as usize;
                body[at] = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8][random.below(6) as usize];
            }
        }
        open_all(&body);
    }
}

#[test]
fn outcomes_survive_their_runs() {
    for seed in 0..300u64 {
        let mut random = Random(seed);
        let mut runs = OutcomeRuns::default();
        let (mut expected, mut offset, mut time) = (Vec::new(), 0u64, 1_000u64);
        for _ in 0..random.below(400) {
            if random.below(10) == 0 {
                (offset, time) = (random.next() >> 1, random.next() >> 1);
            }
            let outcome = match random.below(12) {
                0 => outcome(Verdict::IdZero, None, true, 0),
                1 => outcome(Verdict::Ok, Some(random.below(5)), false, 0),
                2 => outcome(Verdict::ExceedsCredits, Some(offset), true, time),
                _ => outcome(Verdict::Ok, Some(offset), true, time),
            };
            if outcome.fresh && outcome.offset.is_some() {
                (offset, time) = (offset + 1, time + 1);
            }
            runs.push(outcome.verdict, outcome.offset, outcome.fresh, outcome.timestamp);
            expected.push(outcome);
        }
        let bytes = frame_of(&SubmitReply { token_offset: 5, runs: runs.as_slice() });
        let view = open::<SubmitReply>(peek(&bytes).unwrap().unwrap().body).unwrap();
        let found: Vec<_> = view.outcomes().collect();
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(view.events(), expected.len());
    }
}

fn outcome(verdict: Verdict, offset: Option<u64>, fresh: bool, timestamp: u64) -> EventOutcome {
    EventOutcome { verdict, offset: offset.map(Offset), fresh, timestamp: Timestamp(timestamp) }
}

#[test]
fn a_fresh_batch_is_one_run() {
    let mut runs = OutcomeRuns::default();
    for event in 0..EVENTS_MAX as u64 {
        runs.push(Verdict::Ok, Some(Offset(event)), true, Timestamp(event + 50));
    }
    assert_eq!(runs.as_slice().len(), 1);
    let bytes = frame_of(&SubmitReply { token_offset: 5, runs: runs.as_slice() });
    assert!(bytes.len() < 80, "{}", bytes.len());
}

#[test]
fn replies_that_claim_more_than_a_batch_are_refused() {
    let mut bytes = Vec::new();
    let run = walengine_net::message::OutcomeRun {
        count: u32::MAX,
        verdict: 0,
        marks: 0,
        first_offset: 0,
        first_timestamp: 0,
    };
    encode(&mut bytes, head(), &SubmitReply { token_offset: 0, runs: &[run] }).unwrap();
    let body = peek(&bytes).unwrap().unwrap().body;
    assert!(matches!(open::<SubmitReply>(body), Err(MessageError::TooMany { .. })));
}

/// Asserts no time: PROTOCOL.md, section 8, has what was measured in a release build.
#[test]
fn opening_a_full_batch_succeeds_and_prints_its_cost() {
    let events: Vec<EventBytes> = vec![[9; 128]; EVENTS_MAX];
    let mut bytes = Vec::new();
    let started = std::time::Instant::now();
    for _ in 0..100 {
        bytes.clear();
        encode(&mut bytes, head(), &Submit { events: &events }).unwrap();
    }
    let encoding = started.elapsed() / 100;
    let body = &bytes[HEADER_BYTES..];
    let started = std::time::Instant::now();
    for _ in 0..100 {
        let view = open::<Submit>(std::hint::black_box(body)).unwrap();
        std::hint::black_box(view.events.len());
    }
    let opening = started.elapsed() / 100;
    let started = std::time::Instant::now();
    for _ in 0..100 {
        std::hint::black_box(frame::peek(std::hint::black_box(&bytes)).unwrap());
    }
    println!("encode {encoding:?}, open {opening:?}, peek with crc {:?}", started.elapsed() / 100);
}
