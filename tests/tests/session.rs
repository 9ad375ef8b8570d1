//! Does a session answer each request as the protocol says? Without a socket: frames in, answers
//! out, on the simulated disk and in virtual time.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use walengine::audit::Audit;
use walengine::budget::Budget;
use walengine::caller::Caller;
use walengine::connection::outbox::Outbox;
use walengine::ledger::Ledger;
use walengine::limits::READS_INFLIGHT_MAX;
use walengine::partition::Partition;
use walengine::refused::Refused;
use walengine::runtime::Runtime;
use walengine::session::node_facts::NodeFacts;
use walengine::session::{Handled, Scratch, Session};
use walengine_net::frame::{self, FrameHead, FrameHeader, Kind, RequestId};
use walengine_net::limits::{
    BODY_BYTES_MAX, EVENTS_MAX, INFLIGHT_MAX, LOOKUP_IDS_MAX, STATUS_ROWS_MAX,
};
use walengine_net::message::{
    AdminReply, AdminState, Append, AppendHead, Credit, ErrorCode, EventOutcome, Freshness, Hello,
    HelloReply, IdNamespace, Leave, ListAccounts, ListAccountsReply, ListReservations,
    ListReservationsReply, LookupAccounts, LookupAccountsReply, LookupTransfers,
    LookupTransfersReply, Message, NO_NODE, NO_OFFSET, RemoveNode, ServerStatus, ServerStatusReply,
    Status, StatusReply, Submit, SubmitReply, Subscribe, TransferLeadership, Unsubscribe,
};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset,
    PartitionId, Transfer, TransferFlags, Verdict,
};
use walengine_tests::lone_partition::{CLUSTER, LoneCommit, NODE, PARTITION, start_on};
use walengine_tests::sim::{Order, SimDisk, SimExecutor};
use walengine_tests::wire::Reply;

/// Virtual time in which every flush ends that was begun.
const A_WHILE: Duration = Duration::from_millis(50);

/// A node that serves one partition alone.
pub struct Node {
    pub executor: SimExecutor,
    pub partition: Partition<LoneCommit<SimDisk>>,
    pub disk: SimDisk,
    pub facts: Rc<NodeFacts<LoneCommit<SimDisk>>>,
    scratch: Rc<RefCell<Scratch>>,
}

/// One connection to it.
pub struct Connection<'a> {
    node: &'a Node,
    session: Session<LoneCommit<SimDisk>>,
    pub outbox: Rc<Outbox>,
    requests: u64,
}

impl Node {
    pub fn new() -> Self {
        Self::with_audit(Audit::default())
    }

    /// Its orders are written down there.
    pub fn with_audit(audit: Audit) -> Self {
        let executor = SimExecutor::new(1, Order::Fifo);
        let disk = SimDisk::new(&executor.runtime(), 1);
        let (partition, facts) = start_on(&executor, &executor.runtime(), &disk, audit);
        Self { executor, partition, disk, facts, scratch: Rc::default() }
    }

    fn connect(&self) -> Connection<'_> {
        self.connect_within(&Budget::default())
    }

    pub fn connect_within(&self, budget: &Budget) -> Connection<'_> {
        self.connect_with(budget, Caller::default())
    }

    /// A connection of somebody.
    pub fn connect_as(&self, caller: Caller) -> Connection<'_> {
        self.connect_with(&Budget::default(), caller)
    }

    fn connect_with(&self, budget: &Budget, caller: Caller) -> Connection<'_> {
        let outbox = Rc::new(Outbox::new(budget));
        let served = self.partition.clone();
        let (facts, scratch) = (self.facts.clone(), self.scratch.clone());
        let session = Session::new(served, facts, outbox.clone(), scratch, caller);
        Connection { node: self, session, outbox, requests: 0 }
    }

    /// A connection that has been greeted.
    pub fn greeted(&self) -> Connection<'_> {
        let mut connection = self.connect();
        let reply = connection.ask(&hello());
        assert_eq!(reply.kind, Kind::HelloReply);
        connection
    }

    /// A greeted connection to a node that has two accounts, 1 and 2.
    pub fn with_accounts(&self) -> Connection<'_> {
        let mut connection = self.greeted();
        let reply = connection.ask(&Submit { events: &[account(1), account(2)] });
        assert!(outcomes(&reply).iter().all(|one| one.verdict.is_ok() && one.fresh));
        connection
    }

    pub fn wait(&self, time: Duration) {
        let runtime = self.executor.runtime();
        self.executor.block_on(async { runtime.sleep(time).await }).unwrap();
    }

    fn next_offset(&self) -> u64 {
        self.partition.with_ledger(Ledger::next_offset).0
    }
}

impl Connection<'_> {
    /// Gives the session a message; nothing else runs meanwhile.
    pub fn say<M: Message>(&mut self, message: &M) -> Handled {
        self.say_to(PARTITION, message)
    }

    fn say_to<M: Message>(&mut self, partition: PartitionId, message: &M) -> Handled {
        self.say_with(FrameHead::reply(partition, RequestId(0)), message)
    }

    pub fn say_within<M: Message>(&mut self, deadline_millis: u32, message: &M) -> Handled {
        let head = FrameHead::reply(PARTITION, RequestId(0));
        self.say_with(FrameHead { deadline_millis, ..head }, message)
    }

    fn say_with<M: Message>(&mut self, head: FrameHead, message: &M) -> Handled {
        self.requests += 1;
        let head = FrameHead { request: RequestId(self.requests), ..head };
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, head, message).unwrap();
        self.session.handle(&frame::peek(&bytes).unwrap().unwrap())
    }

    /// Gives it a write that it may be too busy for.
    pub fn try_say<M: Message>(&mut self, message: &M) -> Result<Handled, Refused> {
        self.requests += 1;
        let head = FrameHead::reply(PARTITION, RequestId(self.requests));
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, head, message).unwrap();
        self.session.try_handle(&frame::peek(&bytes).unwrap().unwrap())
    }

    /// Gives it a body that may be no message, under a header that is right.
    fn say_bytes(&mut self, kind: Kind, body: &[u8]) -> Handled {
        self.requests += 1;
        let head = FrameHead::reply(PARTITION, RequestId(self.requests));
        let body_bytes = body.len() as u32;
        let header = FrameHeader { crc: 0, kind: kind as u16, flags: 0, body_bytes, head };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(body);
        frame::seal(&mut bytes, head.request, 0);
        self.session.handle(&frame::peek(&bytes).unwrap().unwrap())
    }

    /// What is answered already.
    pub fn answers_now(&self) -> Vec<Reply> {
        let bytes = self.outbox.take(Vec::new());
        let mut rest = bytes.as_slice();
        let mut replies = Vec::new();
        while let Some(found) = frame::peek(rest).unwrap() {
            let (kind, request) = (found.kind, found.head.request);
            assert_eq!(found.head.partition, PARTITION);
            replies.push(Reply { kind, request, body: found.body.to_vec() });
            rest = &rest[found.frame_bytes()..];
        }
        assert!(rest.is_empty(), "answers are whole frames");
        replies
    }

    /// What is answered once everything has had its time.
    pub fn answers(&self) -> Vec<Reply> {
        self.node.wait(A_WHILE);
        self.answers_now()
    }

    /// The one answer to the newest request.
    pub fn answer(&self) -> Reply {
        let mut replies = self.answers();
        assert_eq!(replies.len(), 1, "one request has one answer");
        let reply = replies.remove(0);
        assert_eq!(reply.request, RequestId(self.requests));
        reply
    }

    pub fn ask<M: Message>(&mut self, message: &M) -> Reply {
        assert_eq!(self.say(message), Handled::Here);
        self.answer()
    }
}

pub fn hello() -> Hello<'static> {
    Hello { partition: PARTITION.0, client_name: "tests" }
}

pub fn account(id: u128) -> EventBytes {
    let (ledger, code) = (LedgerId(978), Code(1));
    Account { id: AccountId(id), ledger, code, ..Account::default() }.to_bytes()
}

pub fn transfer(id: u128, amount: u128) -> EventBytes {
    let transfer = Transfer {
        id: EventId(id),
        debit_account_id: AccountId(1),
        credit_account_id: AccountId(2),
        amount: Amount(amount),
        ledger: LedgerId(978),
        code: Code(1),
        ..Transfer::default()
    };
    transfer.to_bytes()
}

fn outcomes(reply: &Reply) -> Vec<EventOutcome> {
    reply.open::<SubmitReply<'_>>().outcomes().collect()
}

fn list(freshness: Freshness) -> ListAccounts {
    ListAccounts { at_least: freshness.number(), after: 0, limit: 10 }
}

#[test]
fn nothing_is_done_before_a_hello() {
    let node = Node::new();
    let mut connection = node.connect();
    assert_eq!(connection.say(&Submit { events: &[account(1)] }), Handled::Close);
    assert_eq!(connection.answer().error(), Some(ErrorCode::WrongPartition));
    assert_eq!(node.next_offset(), 0);

    // A hello whose header and body name different partitions does not say which is meant.
    let mut connection = node.connect();
    let other = Hello { partition: PARTITION.0 + 1, client_name: "tests" };
    assert_eq!(connection.say(&other), Handled::Close);
    assert_eq!(connection.answer().error(), Some(ErrorCode::WrongPartition));
    let mut connection = node.greeted();
    assert_eq!(connection.ask(&other).error(), Some(ErrorCode::WrongPartition));
    assert_eq!(connection.ask(&ServerStatus { reserved: 0 }).error(), None, "it goes on");

    // A hello that is none does not greet.
    let mut connection = node.connect();
    assert_eq!(connection.say_bytes(Kind::Hello, &[0xff; 3]), Handled::Here);
    assert_eq!(connection.answer().error(), Some(ErrorCode::Malformed));
    assert_eq!(connection.say(&ServerStatus { reserved: 0 }), Handled::Close);
}

#[test]
fn a_hello_is_answered_with_who_serves_and_what_it_takes() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    let reply = connection.ask(&hello());
    let reply = reply.open::<HelloReply<'_>>();
    assert_eq!((reply.cluster.to_native(), reply.node.to_native()), (CLUSTER.0, NODE));
    assert_eq!((reply.partitions.to_native(), reply.is_leader), (1, 1));
    assert_eq!((reply.next_offset.to_native(), reply.durable_offset.to_native()), (2, 2));
    assert_eq!(reply.body_bytes_max.to_native() as usize, BODY_BYTES_MAX);
    assert_eq!(reply.events_max.to_native() as usize, EVENTS_MAX);
    assert_eq!(reply.inflight_max.to_native() as usize, INFLIGHT_MAX);
    assert!(reply.server_version.starts_with("walengine "));
    assert!(reply.leader.is_empty(), "who leads has nobody to name");
}

#[test]
fn a_frame_for_another_partition_is_refused_and_the_next_is_served() {
    let node = Node::new();
    let mut connection = node.connect();
    let elsewhere = PartitionId(1);
    assert_eq!(connection.say_to(elsewhere, &hello()), Handled::Close, "that was no hello");
    assert_eq!(connection.answer().error(), Some(ErrorCode::WrongPartition));

    let mut connection = node.with_accounts();
    assert_eq!(connection.say_to(elsewhere, &Submit { events: &[transfer(9, 5)] }), Handled::Here);
    assert_eq!(connection.answer().error(), Some(ErrorCode::WrongPartition));
    assert_eq!(node.next_offset(), 2);
    let reply = connection.ask(&Submit { events: &[transfer(9, 5)] });
    assert_eq!(outcomes(&reply)[0].offset, Some(Offset(2)));
}

/// Kinds of frames whose numbers are in a range.
fn kinds(numbers: Range<u16>) -> Vec<Kind> {
    let kinds: Vec<_> = numbers.filter_map(|number| Kind::try_from(number).ok()).collect();
    assert!(kinds.len() > 10, "{kinds:?}");
    kinds
}

#[test]
fn a_malformed_body_of_each_kind_is_told_and_harms_nothing() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    for kind in kinds(0..0x80) {
        // What begins a subscription is judged on the feed, and for whom a connection is may not stay open.
        if matches!(kind, Kind::Subscribe | Kind::ActFor) {
            continue;
        }
        // Too short for any.
        for body in [&[][..], &[0], &[0xff; 3]] {
            assert_eq!(connection.say_bytes(kind, body), Handled::Here, "{kind:?}");
            assert_eq!(connection.answer().error(), Some(ErrorCode::Malformed), "{kind:?}");
        }
    }
    // Whole, and still not what the kind means.
    let namespace = Status { at_least: NO_OFFSET, namespace: 2, ids: &[1] };
    assert_eq!(connection.ask(&namespace).error(), Some(ErrorCode::Malformed));
    let lengths = Append {
        expected_offset: NO_OFFSET,
        heads: &[AppendHead { id: 5, bytes: 4 }],
        blob: b"abc",
    };
    let mut bytes = Vec::new();
    assert!(frame::encode(&mut bytes, FrameHead::reply(PARTITION, RequestId(1)), &lengths).is_ok());
    let body = frame::peek(&bytes).unwrap().unwrap().body.to_vec();
    assert_eq!(connection.say_bytes(Kind::Append, &body), Handled::Here);
    assert_eq!(connection.answer().error(), Some(ErrorCode::Malformed));

    assert_eq!(node.next_offset(), 2, "nothing was decided");
    let reply = connection.ask(&Submit { events: &[transfer(9, 5)] });
    assert!(outcomes(&reply)[0].verdict.is_ok());
}

#[test]
fn an_answer_is_no_request() {
    let node = Node::new();
    let mut connection = node.greeted();
    for kind in kinds(0x80..0x100) {
        assert_eq!(connection.say_bytes(kind, &[]), Handled::Here, "{kind:?}");
        assert_eq!(connection.answer().error(), Some(ErrorCode::UnknownKind), "{kind:?}");
    }
}

#[test]
fn a_write_is_answered_once_durable_and_a_repeat_gets_the_first_verdict() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    let events = [transfer(9, 5), transfer(10, 0), transfer(9, 5), transfer(9, 6)];
    assert_eq!(connection.say(&Submit { events: &events }), Handled::Here);
    assert!(connection.answers_now().is_empty(), "what is not durable is not acknowledged");
    assert_eq!(connection.outbox.unanswered(), 1);
    let reply = connection.answer();
    assert_eq!(reply.kind, Kind::SubmitReply);
    assert_eq!(
        reply.open::<SubmitReply<'_>>().token_offset(),
        Some(Offset(node.next_offset() - 1))
    );
    let found = outcomes(&reply);
    assert!(found[0].verdict.is_ok() && found[0].fresh && found[0].offset == Some(Offset(2)));
    assert!(!found[1].verdict.is_ok(), "nothing is moved by a transfer of nothing");
    assert_eq!((found[2].verdict, found[2].fresh), (found[0].verdict, false));
    assert_eq!(found[2].offset, found[0].offset);
    assert_eq!(found[3].verdict, Verdict::IdReused);

    // On another connection, as after a loss of the first.
    let before = node.next_offset();
    let again = outcomes(&node.greeted().ask(&Submit { events: &events[..1] }));
    assert_eq!((again[0].verdict, again[0].offset), (found[0].verdict, found[0].offset));
    assert!(!again[0].fresh);
    assert_eq!(node.next_offset(), before);
}

#[test]
fn records_go_where_they_are_expected_or_nowhere() {
    let node = Node::new();
    let mut connection = node.greeted();
    let heads = [AppendHead { id: 5, bytes: 2 }, AppendHead { id: 6, bytes: 1 }];
    let reply = connection.ask(&Append { expected_offset: 0, heads: &heads, blob: b"abc" });
    assert_eq!(reply.kind, Kind::AppendReply);
    let found = outcomes(&reply);
    assert_eq!((found[0].offset, found[1].offset), (Some(Offset(0)), Some(Offset(1))));
    let late = [AppendHead { id: 7, bytes: 3 }];
    let reply = connection.ask(&Append { expected_offset: 1, heads: &late, blob: b"abc" });
    assert!(!outcomes(&reply)[0].verdict.is_ok(), "something else stands there");
}

#[test]
fn past_the_limit_of_unanswered_requests_a_client_is_told_to_come_back() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    for id in 0..INFLIGHT_MAX {
        let events = [transfer(100 + id as u128, 1)];
        assert_eq!(connection.say(&Submit { events: &events }), Handled::Here);
    }
    assert!(connection.answers_now().is_empty());
    let before = node.next_offset();
    assert_eq!(connection.say(&Submit { events: &[transfer(9, 1)] }), Handled::Here);
    let refused = connection.answers_now();
    assert_eq!((refused.len(), refused[0].error()), (1, Some(ErrorCode::Busy)));
    assert_eq!(refused[0].request, RequestId(connection.requests));
    assert_eq!(node.next_offset(), before, "it was not decided");

    let answers = connection.answers();
    assert_eq!(answers.len(), INFLIGHT_MAX);
    assert!(answers.iter().all(|reply| outcomes(reply)[0].verdict.is_ok()));
    assert_eq!(connection.outbox.unanswered(), 0);
    assert!(outcomes(&connection.ask(&Submit { events: &[transfer(9, 1)] }))[0].verdict.is_ok());
}

#[test]
fn reads_from_disk_have_a_limit_of_their_own() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    let look = LookupTransfers { at_least: NO_OFFSET, ids: &[9] };
    for _ in 0..READS_INFLIGHT_MAX {
        assert_eq!(connection.say(&look), Handled::Here);
    }
    assert!(connection.answers_now().is_empty());
    assert_eq!(connection.say(&look), Handled::Here);
    let refused = connection.answers_now();
    assert_eq!((refused.len(), refused[0].error()), (1, Some(ErrorCode::Busy)));
    assert_eq!(connection.answers().len(), READS_INFLIGHT_MAX);
    assert_eq!(connection.ask(&look).error(), None);
}

#[test]
fn a_read_shows_what_is_durable_at_the_freshness_that_it_asks_for() {
    let node = Node::new();
    let mut writer = node.with_accounts();
    let mut reader = node.greeted();
    assert_eq!(writer.say(&Submit { events: &[account(3)] }), Handled::Here);
    for freshness in [Freshness::Any, Freshness::AtLeast(Offset(2)), Freshness::Linearizable] {
        assert_eq!(reader.say(&list(freshness)), Handled::Here);
    }
    assert!(reader.answers_now().is_empty(), "a power cut could still take it back");
    let replies = reader.answers();
    assert_eq!(replies.len(), 3);
    for reply in &replies {
        let page = reply.open::<ListAccountsReply<'_>>();
        assert_eq!((page.next_offset.to_native(), page.accounts.len()), (3, 3));
    }
    assert_eq!(writer.answers().len(), 1);
}

#[test]
fn a_state_that_is_not_there_yet_is_waited_for_until_the_deadline() {
    let node = Node::new();
    let (mut writer, mut reader) = (node.with_accounts(), node.greeted());
    let ahead = list(Freshness::AtLeast(Offset(2)));
    assert_eq!(reader.say_within(1000, &ahead), Handled::Here);
    assert!(reader.answers().is_empty(), "it may come yet, also where it is decided");
    writer.ask(&Submit { events: &[account(3)] });
    let page = reader.answer();
    assert_eq!(page.open::<ListAccountsReply<'_>>().accounts.len(), 3);

    let ahead = list(Freshness::AtLeast(Offset(3)));
    assert_eq!(reader.say_within(1000, &ahead), Handled::Here);
    node.wait(Duration::from_millis(900));
    assert!(reader.answers_now().is_empty());
    node.wait(Duration::from_millis(200));
    assert_eq!(reader.answer().error(), Some(ErrorCode::NotYet));
}

#[test]
fn a_request_id_is_used_once_and_is_not_zero() {
    let node = Node::new();
    let mut connection = node.greeted();
    for (last, what) in [(u64::MAX, "zero"), (0, "the hello's"), (4, "one that was answered")] {
        if last == 4 {
            connection.requests = 4;
            assert_eq!(connection.ask(&Submit { events: &[account(1)] }).error(), None);
        }
        connection.requests = last;
        connection.requests = connection.requests.wrapping_add(1);
        let before = node.next_offset();
        let head = FrameHead::reply(PARTITION, RequestId(connection.requests));
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, head, &Submit { events: &[account(2)] }).unwrap();
        connection.session.handle(&frame::peek(&bytes).unwrap().unwrap());
        assert_eq!(connection.answer().error(), Some(ErrorCode::Malformed), "{what}");
        assert_eq!(node.next_offset(), before, "{what}");
    }
    // One that is not answered yet.
    connection.requests = 8;
    assert_eq!(connection.say(&Submit { events: &[account(3)] }), Handled::Here);
    connection.requests = 8;
    assert_eq!(connection.say(&Submit { events: &[account(4)] }), Handled::Here);
    let answers = connection.answers();
    let errors: Vec<_> = answers.iter().map(Reply::error).collect();
    assert_eq!(errors, [Some(ErrorCode::Malformed), None]);
    // One that was answered busy, since then nothing was done: clients send the same bytes again.
    let budget = Budget::new(1 << 20);
    let mut busy = node.connect_within(&budget);
    busy.ask(&hello());
    let held = budget.try_take(1 << 20).unwrap();
    let ids = vec![1; LOOKUP_IDS_MAX];
    let large = LookupAccounts { at_least: NO_OFFSET, ids: &ids };
    assert_eq!(busy.ask(&large).error(), Some(ErrorCode::Busy));
    drop(held);
    busy.requests -= 1;
    assert_eq!(busy.ask(&large).error(), None);
    busy.requests -= 1;
    assert_eq!(busy.ask(&large).error(), Some(ErrorCode::Malformed));
    // Ids in any order are as good as ascending ones.
    for id in [1000, 20, 999] {
        connection.requests = id;
        assert_eq!(connection.ask(&ServerStatus { reserved: 0 }).error(), None, "{id}");
    }
}

#[test]
fn a_token_names_what_was_answered_and_is_missing_where_nothing_was_logged() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    let token = |reply: &Reply| reply.open::<SubmitReply<'_>>().token_offset();
    let malformed = connection.ask(&Submit { events: &[transfer(10, 0)] });
    assert_eq!(token(&malformed), None, "nothing was logged, though the log has records");
    assert_eq!(token(&connection.ask(&Submit { events: &[] })), None);
    let written = connection.ask(&Submit { events: &[transfer(9, 5), transfer(11, 0)] });
    assert_eq!(token(&written), Some(Offset(2)));
    connection.ask(&Submit { events: &[account(3)] });
    let repeat = connection.ask(&Submit { events: &[transfer(9, 5), account(1)] });
    assert_eq!(token(&repeat), Some(Offset(2)), "the newest of the first records");
}

#[test]
fn reads_are_refused_where_memory_is_short_and_leave_none_behind() {
    let node = Node::new();
    node.with_accounts();
    let budget = Budget::new(100 << 10);
    let ids = vec![1; LOOKUP_IDS_MAX];
    let large = LookupAccounts { at_least: NO_OFFSET, ids: &ids };
    let small = LookupAccounts { at_least: NO_OFFSET, ids: &[1] };
    let mut connection = node.connect_within(&budget);
    connection.ask(&hello());
    // What somebody else holds.
    let held = budget.try_take(90 << 10).unwrap();
    assert_eq!(connection.ask(&large).error(), Some(ErrorCode::Busy));
    assert_eq!(connection.ask(&small).error(), None, "little is always there");
    drop(held);
    assert_eq!(connection.ask(&large).error(), None, "more than the limit, alone");

    // Answers that wait for the log go with their connection.
    let mut writer = node.greeted();
    assert_eq!(writer.say(&Submit { events: &[account(3)] }), Handled::Here);
    connection.outbox.keeps(0);
    assert_eq!(connection.say(&large), Handled::Here);
    assert!(budget.used() > 500 << 10);
    connection.outbox.end();
    assert_eq!(budget.used(), 0);
    assert_eq!(writer.answers().len(), 1);
}

#[test]
fn each_read_finds_what_was_written() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    connection.ask(&Submit { events: &[transfer(9, 5)] });
    let at_least = NO_OFFSET;
    let reply = connection.ask(&LookupAccounts { at_least, ids: &[2, 77, 1] });
    let reply = reply.open::<LookupAccountsReply<'_>>();
    let found: Vec<_> =
        reply.accounts().map(|(place, bytes)| (place, Account::from_bytes(bytes))).collect();
    assert_eq!(found.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 2]);
    assert_eq!((found[0].1.credits_posted, found[1].1.debits_posted), (Amount(5), Amount(5)));

    let namespace = IdNamespace::Event as u8;
    let reply = connection.ask(&Status { at_least, namespace, ids: &[9, 10] });
    let states = &reply.open::<StatusReply<'_>>().states;
    assert_eq!((states[0].known, states[0].offset.to_native(), states[1].known), (1, 2, 0));
    let namespace = IdNamespace::Account as u8;
    let reply = connection.ask(&Status { at_least, namespace, ids: &[1] });
    assert_eq!(reply.open::<StatusReply<'_>>().states[0].offset.to_native(), 0);

    let reply = connection.ask(&LookupTransfers { at_least, ids: &[9] });
    assert_eq!(reply.open::<LookupTransfersReply<'_>>().states.len(), 1);
}

/// An account that may not spend more than it has.
fn limited(id: u128) -> EventBytes {
    let (ledger, code) = (LedgerId(978), Code(1));
    let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    Account { id: AccountId(id), ledger, code, flags, ..Account::default() }.to_bytes()
}

/// A node on which account 3 has as much as `reservations`, and all of it is reserved for a second.
fn with_reservations(node: &Node, reservations: u128) -> Connection<'_> {
    let mut connection = node.with_accounts();
    let fund = Transfer {
        credit_account_id: AccountId(3),
        ..Transfer::from_bytes(&transfer(5, reservations))
    };
    connection.ask(&Submit { events: &[limited(3), fund.to_bytes()] });
    let reserve = |id| Transfer {
        debit_account_id: AccountId(3),
        timeout_seconds: 1,
        flags: TransferFlags::PENDING,
        ..Transfer::from_bytes(&transfer(id, 1))
    };
    let ids: Vec<u128> = (1000..1000 + reservations).collect();
    for ids in ids.chunks(EVENTS_MAX) {
        let events: Vec<_> = ids.iter().map(|id| reserve(*id).to_bytes()).collect();
        let reply = connection.ask(&Submit { events: &events });
        assert!(outcomes(&reply).iter().all(|outcome| outcome.verdict.is_ok()));
    }
    connection
}

#[test]
fn what_is_due_ends_before_an_event_that_needs_it_however_much_is_due() {
    let node = Node::new();
    let all = 30_000;
    let mut connection = with_reservations(&node, all);
    let spend = |id, amount| {
        let spend = Transfer::from_bytes(&transfer(id, amount));
        Transfer { debit_account_id: AccountId(3), ..spend }.to_bytes()
    };
    let refused = connection.ask(&Submit { events: &[spend(6, 1)] });
    assert_eq!(outcomes(&refused)[0].verdict, Verdict::ExceedsCredits, "all of it is reserved");
    node.wait(Duration::from_secs(2));
    // Nothing has looked for what is due meanwhile but this request.
    let mut tries = 0;
    let reply = loop {
        let reply = connection.ask(&Submit { events: &[spend(7, all)] });
        if reply.error() != Some(ErrorCode::Busy) {
            break reply;
        }
        tries += 1;
        assert!(tries < 100, "it gets its turn");
    };
    assert!(outcomes(&reply)[0].verdict.is_ok(), "{:?}", outcomes(&reply));
    assert_eq!(node.partition.with_ledger(Ledger::pendings_len), 0);
}

/// One page looks at so many places and no more, whether anything is there or not.
#[test]
fn reservations_are_listed_page_by_page_and_pages_without_any_do_not_end_the_list() {
    let node = Node::new();
    let mut connection = with_reservations(&node, 30_000);
    let last = EventId(1000 + 29_999);
    let list = |connection: &mut Connection<'_>| {
        let (mut after, mut pages) = (0, Vec::new());
        loop {
            let request = ListReservations { at_least: NO_OFFSET, after, limit: 4096 };
            let reply = connection.ask(&request);
            let page = reply.open::<ListReservationsReply<'_>>();
            pages.push(page.reservations.iter().map(|row| row.id.to_native()).collect::<Vec<_>>());
            after = page.next_cursor.to_native();
            if after == 0 {
                break pages;
            }
        }
    };
    let mut found = list(&mut connection).concat();
    found.sort_unstable();
    assert_eq!(found, (1000..31_000).collect::<Vec<_>>());
    // All but the last one end.
    let voids: Vec<_> = (0..29_999)
        .map(|number| Transfer {
            id: EventId(100_000 + number),
            pending_id: EventId(1000 + number),
            flags: TransferFlags::VOID_PENDING,
            ..Transfer::default()
        })
        .collect();
    for voids in voids.chunks(EVENTS_MAX) {
        let events: Vec<_> = voids.iter().map(Transfer::to_bytes).collect();
        let reply = connection.ask(&Submit { events: &events });
        assert!(outcomes(&reply).iter().all(|outcome| outcome.verdict.is_ok()));
    }
    assert_eq!(list(&mut connection), [vec![], vec![last.0]]);
    let end = Transfer {
        id: EventId(200_000),
        pending_id: last,
        flags: TransferFlags::VOID_PENDING,
        ..Transfer::default()
    };
    connection.ask(&Submit { events: &[end.to_bytes()] });
    assert_eq!(list(&mut connection), [Vec::<u128>::new()], "no place is looked at for nothing");
}

#[test]
fn a_backlog_of_due_reservations_ends_by_itself() {
    let node = Node::new();
    with_reservations(&node, 30_000);
    node.wait(Duration::from_secs(2));
    node.partition.expire(); // as the shard does a few times a second
    node.wait(Duration::from_secs(1));
    assert_eq!(node.partition.with_ledger(Ledger::pendings_len), 0, "one look was enough");
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let node = Node::new();
    let mut connection = node.with_accounts();
    node.partition.set_full(true);
    let write = Submit { events: &[transfer(9, 5)] };
    assert_eq!(connection.ask(&write).error(), Some(ErrorCode::StorageFull));
    let page = connection.ask(&list(Freshness::Any));
    assert_eq!(page.open::<ListAccountsReply<'_>>().accounts.len(), 2);
    node.partition.set_full(false);
    assert!(outcomes(&connection.ask(&write))[0].verdict.is_ok());
}

#[test]
fn a_subscription_goes_to_the_feed_and_there_is_none_here() {
    let node = Node::new();
    let mut connection = node.greeted();
    let subscribe = Subscribe { from: 0, credit_bytes: 1 << 20 };
    assert_eq!(connection.say(&subscribe), Handled::Subscribes);
    assert!(connection.answers().is_empty(), "the feed answers");
    let unsubscribe = Unsubscribe { reserved: 0 };
    assert_eq!(connection.ask(&unsubscribe).error(), Some(ErrorCode::Malformed));
    // The last credit of a subscription that has ended may still come.
    assert_eq!(connection.say(&Credit { bytes: 1 }), Handled::Here);
    assert!(connection.answers().is_empty());
}

#[test]
fn a_lone_node_neither_leaves_nor_hands_over() {
    let node = Node::new();
    let mut connection = node.greeted();
    let refused = |reply: Reply| {
        let reply = reply.open::<AdminReply<'_>>();
        assert_eq!(reply.state(), AdminState::Refused, "{}", &*reply.message);
        reply.message.to_string()
    };
    assert!(refused(connection.ask(&Leave { node: NODE })).contains("serves alone"));
    assert!(refused(connection.ask(&Leave { node: NODE + 1 })).contains("this is node 7"));
    refused(connection.ask(&RemoveNode { node: NODE + 1 }));
    refused(connection.ask(&TransferLeadership { to: NO_NODE }));
    assert_eq!(connection.ask(&Leave { node: NO_NODE }).error(), Some(ErrorCode::Malformed));
    let writes = connection.ask(&Submit { events: &[account(1)] });
    assert!(outcomes(&writes)[0].verdict.is_ok(), "it serves on");
}

/// The fault: a shard of many partitions answered with more rows than a client takes, and was asked in vain.
#[test]
fn a_status_has_no_more_rows_than_a_client_takes_and_those_of_its_partition_are_there() {
    let node = Node::new();
    let many = vec![node.partition.clone(); 400];
    let facts = Rc::new(NodeFacts::new(node.facts.state.clone(), many, Vec::new()));
    let few = node.greeted().ask(&ServerStatus::default());
    let rows_of_one = few.open::<ServerStatusReply<'_>>().numbers.len();
    let outbox = Rc::new(Outbox::default());
    let (served, scratch) = (node.partition.clone(), node.scratch.clone());
    let session = Session::new(served, facts, outbox.clone(), scratch, Caller::default());
    let mut connection = Connection { node: &node, session, outbox, requests: 0 };
    connection.ask(&hello());
    let reply = connection.ask(&ServerStatus::default());
    let status = reply.open::<ServerStatusReply<'_>>(); // which counts the rows
    let rows = status.numbers.len() + status.texts.len();
    assert!(rows > STATUS_ROWS_MAX - rows_of_one && rows <= STATUS_ROWS_MAX, "{rows}");
    assert!(status.texts.iter().any(|row| &*row.name == "version"));
    assert!(status.texts.iter().any(|row| &*row.name == "state"));
}
