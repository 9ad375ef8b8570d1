//! One frame of every kind, with contents that never change.

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::frame::{FrameHead, Kind, RequestId, encode, encode_as};
use walengine_net::message::{
    ActFor, ActForReply, AdminReply, AdminState, AdmitNode, Append, AppendHead, ClusterStatus,
    ClusterStatusReply, Credit, ErrorCode, ErrorReply, EventState, GroupRow, Hello, HelloReply,
    ImportLog, ImportLogReply, ImportedEntry, LINEARIZABLE, Leave, LeaveAnyway, ListAccounts,
    ListAccountsReply, LogPage, LookupAccounts, LookupAccountsReply, LookupTransfers,
    LookupTransfersReply, Message, NO_OFFSET, NO_PARTITION, NodeRow, NumberRow, OutcomeRun,
    Reached, ReadEntries, ReadLog, RemoveNode, ReplicaRow, ServerStatus, ServerStatusReply,
    StateDigest, StateDigestReply, Status, StatusReply, Submit, SubmitReply, SubmitSpanning,
    SubmitSpanningReply, Subscribe, TextRow, TransferLeadership, Unsubscribe, UnsubscribeReply,
    VerdictState,
};
use walengine_net::message::{
    FindNames, FindNamesReply, LedgerRow, ListLedgers, ListLedgersReply, ListReservations,
    ListReservationsReply, LookupNames, LookupNamesReply, ReservationRow,
};
use walengine_net::model::{
    Account, AccountId, Amount, Code, EventId, LedgerId, NameText, PartitionId, Transfer,
};

struct Frames(Vec<(String, Vec<u8>)>);

impl Frames {
    fn add<M: Message>(&mut self, name: &str, message: &M) {
        self.add_as(M::KIND, name, message);
    }

    fn add_as<M: Message>(&mut self, kind: Kind, name: &str, message: &M) {
        let deadline_millis = if kind.is_reply() { 0 } else { 10_000 };
        let request = RequestId(0x0102_0304_0506_0708);
        let head = FrameHead { partition: PartitionId(1), request, deadline_millis };
        let mut bytes = Vec::new();
        encode_as(&mut bytes, kind, head, message).expect("a golden frame is small");
        let mut again = Vec::new();
        if kind == M::KIND {
            encode(&mut again, head, message).expect("a golden frame is small");
            assert_eq!(again, bytes);
        }
        self.0.push((format!("{:03}_{name}", kind.number()), bytes));
    }
}

/// Name and bytes of every golden frame.
pub fn frames() -> Vec<(String, Vec<u8>)> {
    let mut all = Frames(Vec::new());
    let account = Account {
        id: AccountId(1 << 96 | 7),
        credits_posted: Amount(100),
        ledger: LedgerId(978),
        code: Code(1),
        ..Account::default()
    };
    let transfer = Transfer {
        id: EventId(0x0190_1234_5678_7abc_8def_0123_4567_89ab),
        debit_account_id: AccountId(1 << 96 | 7),
        credit_account_id: AccountId(1 << 96 | 8),
        amount: Amount(42),
        ledger: LedgerId(978),
        code: Code(2),
        ..Transfer::default()
    };
    requests(&mut all, &account, &transfer);
    replies(&mut all, &account, &transfer);
    all.0
}

fn requests(all: &mut Frames, account: &Account, transfer: &Transfer) {
    let at_least = NO_OFFSET;
    all.add("hello", &Hello { partition: 1, client_name: "golden" });
    all.add("submit", &Submit { events: &[account.to_bytes(), transfer.to_bytes()] });
    all.add("submit_spanning", &SubmitSpanning { events: &[transfer.to_bytes()] });
    let heads = [AppendHead { id: 5, bytes: 3 }, AppendHead { id: 6, bytes: 2 }];
    all.add("append", &Append { expected_offset: ANY_OFFSET, heads: &heads, blob: b"onetw" });
    all.add("lookup_accounts", &LookupAccounts { at_least, ids: &[account.id.0, 9] });
    all.add("list_accounts", &ListAccounts { at_least, after: 0, limit: 100 });
    all.add("lookup_names", &LookupNames { at_least, ids: &[account.id.0, 9] });
    all.add("find_names", &FindNames { at_least, after: 0, limit: 10, prefix: b"anna" });
    all.add("list_ledgers", &ListLedgers { at_least });
    all.add("list_reservations", &ListReservations { at_least, after: 0, limit: 100 });
    all.add("lookup_transfers", &LookupTransfers { at_least: 12, ids: &[transfer.id.0] });
    all.add("status", &Status { at_least, namespace: 0, ids: &[transfer.id.0, 9] });
    all.add("read_log", &ReadLog { at_least, from: 3, bytes_max: 65_536 });
    all.add("subscribe", &Subscribe { from: 3, credit_bytes: 1 << 20 });
    all.add("credit", &Credit { bytes: 4096 });
    all.add("unsubscribe", &Unsubscribe::default());
    all.add("server_status", &ServerStatus::default());
    all.add("cluster_status", &ClusterStatus::default());
    all.add("transfer_leadership", &TransferLeadership { to: 2 });
    all.add("remove_node", &RemoveNode { node: 3 });
    all.add("leave", &Leave { node: 1 });
    all.add("leave_anyway", &LeaveAnyway { node: 1 });
    all.add("admit_node", &AdmitNode { node: 4 });
    all.add("state_digest", &StateDigest::default());
    let entry = |timestamp: u64, records, resolved, kind| {
        let timestamp = 1_700_000_000_000_000_000 + timestamp;
        ImportedEntry { timestamp, records, resolved, kind }
    };
    all.add(
        "import_log",
        &ImportLog {
            base_offset: 3,
            is_last: 1,
            entries: &[entry(0, 2, 1, 1), entry(9, 1, 0, 2)],
            events: &[account.to_bytes(), transfer.to_bytes()],
            resolved: &[[0; 64]],
            heads: &[RecordHead { id: 5, expected_offset: ANY_OFFSET, bytes: 3 }],
            blob: b"one",
            verdicts: &[0, 51, 0],
        },
    );
    all.add("act_for", &ActFor { identity: "spiffe://bank/client/payments" });
    all.add("read_entries", &ReadEntries { at_least, from_index: 1, bytes_max: 65_536 });
    let ids = &[transfer.id.0];
    all.add("status_linearizable", &Status { at_least: LINEARIZABLE, namespace: 0, ids });
}

fn replies(all: &mut Frames, account: &Account, transfer: &Transfer) {
    let next_offset = 13;
    all.add(
        "hello_reply",
        &HelloReply {
            cluster: 0xfeed,
            node: 1,
            next_offset,
            durable_offset: 13,
            partitions: 2,
            is_leader: 1,
            body_bytes_max: 1 << 20,
            events_max: 8190,
            inflight_max: 1024,
            server_version: "walengine 0.1.0",
            leader: "",
        },
    );
    let run = OutcomeRun {
        count: 2,
        verdict: 0,
        marks: OutcomeRun::HAS_OFFSET,
        first_offset: 11,
        first_timestamp: 1_700_000_000_000_000_000,
    };
    let submitted = SubmitReply { token_offset: 12, runs: &[run] };
    all.add("submit_reply", &submitted);
    all.add_as(Kind::AppendReply, "append_reply", &submitted);
    let accounts = &[account.to_bytes()];
    all.add("lookup_accounts_reply", &LookupAccountsReply { next_offset, found: &[0], accounts });
    all.add("list_accounts_reply", &ListAccountsReply { next_offset, next_cursor: 0, accounts });
    let name = |text| NameText::new(text).expect("it is short").to_bytes();
    let names = &[name("Anna Novak")];
    all.add("lookup_names_reply", &LookupNamesReply { next_offset, found: &[0], names });
    let ids = &[account.id.0];
    all.add("find_names_reply", &FindNamesReply { next_offset, next_cursor: 7, ids, names });
    let ledgers = &[LedgerRow { ledger: 978, scale: 2, name: name("EUR") }];
    all.add("list_ledgers_reply", &ListLedgersReply { next_offset, ledgers });
    let row = ReservationRow {
        id: 9,
        debit_account_id: account.id.0,
        credit_account_id: 2,
        amount: 1250,
        offset: 77,
        expires_at: 0,
        ledger: 978,
        code: 1,
        in_doubt: 0,
    };
    let reservations = &[row];
    let reply = ListReservationsReply { next_offset, next_cursor: 0, reservations };
    all.add("list_reservations_reply", &reply);
    let state = EventState {
        index: 0,
        verdict: 0,
        has_resolved: 0,
        offset: 12,
        timestamp: 1_700_000_000_000_000_001,
        event: transfer.to_bytes(),
        resolved: [0; 64],
    };
    all.add("lookup_transfers_reply", &LookupTransfersReply { next_offset, states: &[state] });
    let states = &[
        VerdictState { known: 1, verdict: 0, offset: 12 },
        VerdictState { known: 0, verdict: 0, offset: 0 },
    ];
    all.add("status_reply", &StatusReply { next_offset, states });
    let page = LogPage { next_offset, durable_offset: 13, entries: b"(entries)" };
    all.add("log_page", &page);
    all.add_as(Kind::Feed, "feed", &page);
    all.add_as(Kind::EntriesPage, "entries_page", &page);
    all.add("act_for_reply", &ActForReply::default());
    all.add("unsubscribe_reply", &UnsubscribeReply { next_offset });
    all.add(
        "server_status_reply",
        &ServerStatusReply {
            numbers: &[NumberRow { partition: 1, value: 13, name: "next_offset" }],
            texts: &[TextRow { partition: NO_PARTITION, name: "version", text: "0.1.0" }],
        },
    );
    cluster(all);
    let error = ErrorReply::new(ErrorCode::Busy, "the queue is full").retry_after_millis(5);
    all.add("error", &error.leader("10.0.0.2:7450"));
    let lost = "leadership moved while the batch was being replicated";
    all.add("error_leadership_lost", &ErrorReply::new(ErrorCode::LeadershipLost, lost));
}

fn cluster(all: &mut Frames) {
    let node = |node, state, client_address| NodeRow {
        node,
        state,
        cores: 2,
        free_bytes: 1 << 30,
        heard_seconds: 60,
        client_address,
        peer_address: "10.0.0.1:7451",
        version: "0.1.0",
    };
    let (term, committed_offset) = (4, 13);
    let replica = |node, role, matched_index| ReplicaRow {
        partition: 1,
        node,
        role,
        matched_index,
        last_index: 9,
    };
    all.add(
        "cluster_status_reply",
        &ClusterStatusReply {
            cluster: 0xfeed,
            node: 1,
            nodes: &[node(1, 0, "10.0.0.1:7450"), node(2, 2, "")],
            groups: &[GroupRow { partition: 1, leader: 1, term, committed_offset, is_changing: 0 }],
            replicas: &[replica(1, 0, 9), replica(2, 1, 7)],
        },
    );
    let reply = AdminReply::new(AdminState::Started, "node 2 is being caught up");
    all.add("transfer_leadership_reply", &reply);
    all.add_as(Kind::RemoveNodeReply, "remove_node_reply", &reply);
    all.add_as(Kind::LeaveReply, "leave_reply", &AdminReply::new(AdminState::Done, ""));
    let reply = AdminReply::new(AdminState::Started, "");
    all.add_as(Kind::LeaveAnywayReply, "leave_anyway_reply", &reply);
    all.add_as(Kind::AdmitNodeReply, "admit_node_reply", &AdminReply::new(AdminState::Done, ""));
    all.add(
        "state_digest_reply",
        &StateDigestReply {
            next_offset: 13,
            last_timestamp: 1_700_000_000_000_000_001,
            accounts: 2,
            pendings: 1,
            ids: 12,
            is_importing: 0,
            digest: std::array::from_fn(|place| place as u8),
        },
    );
    let now = 1_700_000_001_000_000_000;
    let runs =
        &[OutcomeRun { count: 1, verdict: 0, marks: 1, first_offset: 12, first_timestamp: term }];
    let tokens = &[Reached { partition: 1, offset: 12 }, Reached { partition: 0, offset: 40 }];
    all.add("submit_spanning_reply", &SubmitSpanningReply { tokens, runs });
    let message = "offset 5: the log says ok, this replica exceeds_credits";
    all.add("import_log_reply", &ImportLogReply { next_offset: 4, now, state: 3, message });
}
