//! Does everybody get to do what the policy says, and nothing else? Without a socket, on the simulated disk,
//! with callers whose identity is made up.

use std::rc::Rc;
use std::sync::Arc;

use walengine::budget::Budget;
use walengine::caller::Caller;
use walengine::connection::outbox::Outbox;
use walengine::connection::request_ids::RequestIds;
use walengine::feed::connection::Connection as FeedConnection;
use walengine::feed::published::Published;
use walengine::feed::source::Source;
use walengine::limits::LIST_LOOK_MAX;
use walengine::policy::{Permit, Policy};
use walengine::session::Handled;
use walengine::storage::archive::Archive;
use walengine::storage::partition_dir;
use walengine_net::frame::{self, FrameHead, Kind, RequestId};
use walengine_net::identity::{Identity, Role};
use walengine_net::limits::EVENTS_MAX;
use walengine_net::message::{
    AdmitNode, Append, AppendHead, ClusterStatus, Credit, ErrorCode, ErrorReply, EventOutcome,
    FindNames, IdNamespace, ImportLog, Leave, LeaveAnyway, ListAccounts, ListAccountsReply,
    ListLedgers, ListReservations, ListReservationsReply, LogPage, LookupAccounts,
    LookupAccountsReply, LookupNames, LookupTransfers, LookupTransfersReply, Message, NO_NODE,
    NO_OFFSET, ReadEntries, ReadLog, RemoveNode, ServerStatus, ServerStatusReply, StateDigest,
    Status, StatusReply, Submit, SubmitReply, SubmitSpanning, Subscribe, TransferLeadership,
    Unsubscribe, open,
};
use walengine_net::model::{
    Account, AccountId, Amount, Close, CloseFlags, Code, EventBytes, EventId, Guard, GuardFlags,
    LedgerId, Offset, Transfer, TransferFlags, Verdict,
};
use walengine_tests::lone_partition::{CLUSTER, DATA, NODE, PARTITION, SEGMENT_BYTES};
use walengine_tests::wire::Reply;

use crate::session::{Connection, Node, hello};

/// Account `number` of a book.
const fn at(book: u32, number: u128) -> u128 {
    (book as u128) << 96 | number
}

const EUR: LedgerId = LedgerId(978);
const USD: LedgerId = LedgerId(840);

fn account(id: u128, ledger: LedgerId) -> EventBytes {
    Account { id: AccountId(id), ledger, code: Code(1), ..Account::default() }.to_bytes()
}

fn plain(id: u128, debit: u128, credit: u128) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: AccountId(debit),
        credit_account_id: AccountId(credit),
        amount: Amount(5),
        ledger: EUR,
        code: Code(1),
        ..Transfer::default()
    }
}

fn transfer(id: u128, debit: u128, credit: u128) -> EventBytes {
    plain(id, debit, credit).to_bytes()
}

fn pending(id: u128, book: u32) -> EventBytes {
    let transfer = plain(id, at(book, 1), at(book, 2));
    Transfer { flags: TransferFlags::PENDING, ..transfer }.to_bytes()
}

fn post(id: u128, pending: u128) -> EventBytes {
    let (id, pending_id) = (EventId(id), EventId(pending));
    Transfer { id, pending_id, flags: TransferFlags::POST_PENDING, ..Transfer::default() }
        .to_bytes()
}

fn void(id: u128, pending: u128) -> EventBytes {
    let (id, pending_id) = (EventId(id), EventId(pending));
    Transfer { id, pending_id, flags: TransferFlags::VOID_PENDING, ..Transfer::default() }
        .to_bytes()
}

fn linked(mut event: EventBytes) -> EventBytes {
    event[118] |= 1;
    event
}

fn guard(id: u128, account: u128) -> EventBytes {
    let (id, account_id) = (EventId(id), AccountId(account));
    Guard { id, account_id, flags: GuardFlags::AVAILABLE_TO_DEBIT, ..Guard::default() }.to_bytes()
}

/// The reservations of [`bank`], by book: one that is open, and one that was posted.
const OPEN: [(u32, u128); 2] = [(7, 71), (8, 81)];
const POSTED: [(u32, u128); 2] = [(7, 72), (8, 82)];
/// Other ids of book 8: a transfer, a guard, a posting; and an opaque record.
const SENT: u128 = 83;
const GUARDED: u128 = 84;
const POSTING: u128 = 182;
const OPAQUE: u128 = 90;

/// A node with books 7 and 8, each with two accounts in euros and two in dollars.
fn bank(policy: &str) -> Node {
    let node = Node::new();
    let mut anybody = node.greeted();
    let mut events = Vec::new();
    for book in [7, 8] {
        for (number, ledger) in [(1, EUR), (2, EUR), (3, USD), (4, USD)] {
            events.push(account(at(book, number), ledger));
        }
    }
    for (book, id) in OPEN.into_iter().chain(POSTED) {
        events.push(pending(id, book));
    }
    events.extend([post(172, 72), post(POSTING, 82)]);
    events.extend([linked(guard(GUARDED, at(8, 1))), transfer(SENT, at(8, 1), at(8, 2))]);
    let reply = anybody.ask(&Submit { events: &events });
    assert!(outcomes(&reply).iter().all(|one| one.verdict.is_ok()));
    let heads = [AppendHead { id: OPAQUE, bytes: 3 }];
    let reply = anybody.ask(&Append { expected_offset: NO_OFFSET, heads: &heads, blob: b"abc" });
    assert!(outcomes(&reply)[0].verdict.is_ok());
    drop(anybody);
    node.facts.state.policies.set(Policy::parse(policy).unwrap());
    node
}

fn caller(role: Role, name: &str) -> Caller {
    let identity = Identity::new("bank", role, name).unwrap();
    Caller { identity: Some(Arc::new(identity)), ..Caller::default() }
}

/// A greeted connection of a client of this name.
fn client<'a>(node: &'a Node, name: &str) -> Connection<'a> {
    greeted(node, caller(Role::Client, name))
}

fn greeted(node: &Node, caller: Caller) -> Connection<'_> {
    let mut connection = node.connect_as(caller);
    assert_eq!(connection.ask(&hello()).error(), None);
    connection
}

fn outcomes(reply: &Reply) -> Vec<EventOutcome> {
    reply.open::<SubmitReply<'_>>().outcomes().collect()
}

fn verdicts(reply: &Reply) -> Vec<Verdict> {
    outcomes(reply).iter().map(|one| one.verdict).collect()
}

/// Sends events as clients do: again while the answer is `busy`.
fn submit(connection: &mut Connection<'_>, events: &[EventBytes]) -> Reply {
    for _ in 0..10 {
        let reply = connection.ask(&Submit { events });
        if reply.error() != Some(ErrorCode::Busy) {
            return reply;
        }
    }
    panic!("it stays busy");
}

/// The whole log, byte for byte, with its chain of hashes, and where the next record goes.
fn log(node: &Node) -> (Offset, Vec<u8>) {
    let log = node.partition.log();
    let bytes = node.executor.block_on(async { log.read(1, 1 << 20).await }).unwrap().unwrap();
    assert!(!bytes.is_empty());
    (node.partition.with_ledger(walengine::ledger::Ledger::next_offset), bytes)
}

fn message(reply: &Reply) -> String {
    assert_eq!(reply.error(), Some(ErrorCode::Forbidden));
    open::<ErrorReply<'_>>(&reply.body).unwrap().message.to_string()
}

const WRITER: &str =
    "[[allow]]\nwho = \"client/w7\"\nmay = \"write\"\nbooks = [7]\nledgers = [978]\n";
const READER: &str =
    "[[allow]]\nwho = \"client/r7\"\nmay = \"read\"\nbooks = [7]\nledgers = [978]\n";

/// Sends a request of a kind that touches nothing but book 7.
fn request(connection: &mut Connection<'_>, kind: Kind) -> Handled {
    let at_least = NO_OFFSET;
    match kind {
        Kind::Hello => connection.say(&hello()),
        Kind::Submit => connection.say(&Submit { events: &[transfer(900, at(7, 1), at(7, 2))] }),
        Kind::SubmitSpanning => {
            connection.say(&SubmitSpanning { events: &[transfer(902, at(7, 1), at(7, 2))] })
        }
        Kind::Append => {
            let heads = [AppendHead { id: 901, bytes: 1 }];
            connection.say(&Append { expected_offset: NO_OFFSET, heads: &heads, blob: b"x" })
        }
        Kind::LookupAccounts => connection.say(&LookupAccounts { at_least, ids: &[at(7, 1)] }),
        Kind::ListAccounts => connection.say(&ListAccounts { at_least, after: 0, limit: 10 }),
        Kind::LookupNames => connection.say(&LookupNames { at_least, ids: &[at(7, 1)] }),
        Kind::FindNames => {
            connection.say(&FindNames { at_least, after: 0, limit: 10, prefix: b"a" })
        }
        Kind::ListLedgers => connection.say(&ListLedgers { at_least }),
        Kind::ListReservations => {
            connection.say(&ListReservations { at_least, after: 0, limit: 10 })
        }
        Kind::LookupTransfers => connection.say(&LookupTransfers { at_least, ids: &[71] }),
        Kind::Status => connection.say(&Status { at_least, namespace: 0, ids: &[71] }),
        Kind::ReadLog => connection.say(&ReadLog { at_least, from: 0, bytes_max: 4096 }),
        Kind::Subscribe => connection.say(&Subscribe { from: 0, credit_bytes: 4096 }),
        Kind::Credit => connection.say(&Credit { bytes: 1 }),
        Kind::Unsubscribe => connection.say(&Unsubscribe { reserved: 0 }),
        Kind::ServerStatus => connection.say(&ServerStatus { reserved: 0 }),
        Kind::ClusterStatus => connection.say(&ClusterStatus { reserved: 0 }),
        Kind::TransferLeadership => connection.say(&TransferLeadership { to: NO_NODE }),
        Kind::RemoveNode => connection.say(&RemoveNode { node: NODE + 1 }),
        Kind::Leave => connection.say(&Leave { node: NODE }),
        Kind::ReadEntries => connection.say(&ReadEntries { at_least, from_index: 1, bytes_max: 1 }),
        Kind::LeaveAnyway => connection.say(&LeaveAnyway { node: NODE }),
        Kind::AdmitNode => connection.say(&AdmitNode { node: NODE + 1 }),
        Kind::StateDigest => connection.say(&StateDigest { hold_millis: 0 }),
        Kind::ImportLog => connection.say(&ImportLog {
            base_offset: 0,
            is_last: 1,
            entries: &[],
            events: &[],
            resolved: &[],
            heads: &[],
            blob: &[],
            verdicts: &[],
        }),
        other => panic!("{other:?} is new: send one here, and give it a row in golden/rights.txt"),
    }
}

/// One cell of the matrix: whether the request was acted on. What is forbidden changes nothing.
fn is_acted_on(node: &Node, kind: Kind, caller: Caller) -> bool {
    let mut connection = greeted(node, caller);
    let before = log(node);
    let handled = request(&mut connection, kind);
    let answers = connection.answers();
    let is_forbidden = answers.iter().any(|reply| reply.error() == Some(ErrorCode::Forbidden));
    if is_forbidden {
        assert_eq!((handled, answers.len()), (Handled::Here, 1), "{kind:?}");
        assert_eq!(log(node), before, "{kind:?} was forbidden and logged");
    } else if kind.submits() || kind == Kind::Append {
        assert!(outcomes(&answers[0])[0].verdict.is_ok());
        assert_eq!(log(node).0, before.0.plus(1));
    } else {
        assert_eq!(handled == Handled::Subscribes, kind == Kind::Subscribe);
        assert_eq!(log(node), before, "{kind:?} writes nothing");
    }
    !is_forbidden
}

/// Rows are the kinds of requests that the code knows, so none can be forgotten; the file is written by hand.
#[test]
fn every_request_is_acted_on_for_those_who_may_and_forbidden_to_all_others() {
    let policy = "[[allow]]\nwho = \"client/write-7\"\nmay = \"write\"\nbooks = [7]\nledgers = \"all\"\n\
                  [[allow]]\nwho = \"client/read-7\"\nmay = \"read\"\nbooks = [7]\nledgers = \"all\"\n\
                  [[allow]]\nwho = \"client/read-log\"\nmay = \"read-log\"\n\
                  [[allow]]\nwho = \"client/admin\"\nmay = \"admin\"\n\
                  [[allow]]\nwho = \"client/write-all\"\nmay = \"write\"\nbooks = \"all\"\nledgers = \"all\"\n";
    let given = Policy::parse(policy).unwrap();
    let named = |name: &str| (given.clone(), caller(Role::Client, name));
    let unnamed = |role, name: &str| (Policy::default(), caller(role, name));
    let columns = [
        ("no-right", named("other")),
        ("write-7", named("write-7")),
        ("read-7", named("read-7")),
        ("read-log", named("read-log")),
        ("admin", named("admin")),
        ("write-all", named("write-all")),
        ("projector", unnamed(Role::Projector, "reporting")),
        ("operator", unnamed(Role::Admin, "ops")),
        ("node", unnamed(Role::Node, "7")),
        ("plain", (Policy::parse("").unwrap(), Caller::default())),
    ];
    // For whom a connection is takes no right, but to be a node: `policy::tests`.
    let kinds = || Kind::all().filter(|kind| !kind.is_reply() && *kind != Kind::ActFor);
    let mut found: Vec<_> = kinds().map(|kind| format!("{kind:?}")).collect();
    let mut head = "request".to_owned();
    for (name, (policy, caller)) in columns {
        head = format!("{head} {name}");
        let node = bank("");
        node.facts.state.policies.set(policy);
        for (kind, row) in kinds().zip(&mut found) {
            let may = is_acted_on(&node, kind, caller.clone());
            row.push_str(if may { " yes" } else { " -" });
        }
    }
    found.insert(0, head);
    let golden = include_str!("../golden/rights.txt").lines().filter(|line| !line.starts_with('#'));
    let golden: Vec<_> =
        golden.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found, golden);
}

#[test]
fn a_writer_of_one_book_has_nothing_logged_that_touches_another() {
    let node = bank(WRITER);
    let mut writer = client(&node, "w7");
    let forbidden = Verdict::Forbidden;
    let beside = Verdict::LinkedEventMalformed;
    let mut next = 1000;
    let mut id = || {
        next += 1;
        next
    };
    let own = |id| transfer(id, at(7, 1), at(7, 2));
    let other_code = |id, code| {
        let named = plain(id, at(7, 1), at(7, 2));
        let flags = TransferFlags::POST_PENDING;
        Transfer { pending_id: EventId(81), code: Code(code), flags, ..named }.to_bytes()
    };
    let close = |id| {
        let (id, account_id) = (EventId(id), AccountId(at(8, 1)));
        Close { id, account_id, flags: CloseFlags::default() }.to_bytes()
    };
    let dollars =
        |id, debit| Transfer { ledger: USD, ..plain(id, at(7, debit), at(7, 4)) }.to_bytes();
    let nothing = |id| Transfer { amount: Amount(0), ..plain(id, at(8, 1), at(8, 2)) }.to_bytes();
    let cases: Vec<(&str, Vec<EventBytes>, Vec<Verdict>)> = vec![
        ("both in 8", vec![transfer(id(), at(8, 1), at(8, 2))], vec![forbidden]),
        ("debits 8", vec![transfer(id(), at(8, 1), at(7, 1))], vec![forbidden]),
        ("credits 8", vec![transfer(id(), at(7, 1), at(8, 1))], vec![forbidden]),
        ("nobody there", vec![transfer(id(), at(9, 1), at(7, 1))], vec![forbidden]),
        (
            "last of a chain",
            vec![linked(own(id())), transfer(id(), at(8, 1), at(7, 2))],
            vec![beside, forbidden],
        ),
        (
            "first of a chain",
            vec![linked(transfer(id(), at(8, 1), at(7, 2))), linked(own(id())), own(id())],
            vec![forbidden, beside, beside],
        ),
        ("posts 8", vec![post(id(), 81)], vec![forbidden]),
        ("voids 8", vec![void(id(), 81)], vec![forbidden]),
        ("posts 8 in a chain", vec![linked(own(id())), post(id(), 81)], vec![beside, forbidden]),
        ("posts 8 as its own", vec![other_code(id(), 1)], vec![forbidden]),
        ("posts 8 again", vec![post(id(), 82)], vec![forbidden]),
        ("voids what was posted in 8", vec![void(id(), 82)], vec![forbidden]),
        ("again in a chain", vec![linked(own(id())), post(id(), 82)], vec![beside, forbidden]),
        ("posts a transfer of 8", vec![post(id(), SENT)], vec![forbidden]),
        ("posts a guard of 8", vec![post(id(), GUARDED)], vec![forbidden]),
        ("posts a posting of 8", vec![post(id(), POSTING)], vec![forbidden]),
        ("posts an opaque record", vec![post(id(), OPAQUE)], vec![forbidden]),
        ("guards 8", vec![linked(guard(id(), at(8, 1))), own(id())], vec![forbidden, beside]),
        ("closes 8", vec![close(id())], vec![forbidden]),
        ("opens in 8", vec![account(at(8, 9), EUR)], vec![forbidden]),
        ("opens in dollars", vec![account(at(7, 9), USD)], vec![forbidden]),
        ("moves dollars", vec![dollars(id(), 3)], vec![forbidden]),
        ("dollars of none", vec![dollars(id(), 9)], vec![forbidden]),
        ("a dollar account", vec![transfer(id(), at(7, 1), at(7, 3))], vec![forbidden]),
        ("malformed besides", vec![nothing(id())], vec![Verdict::AmountZero]),
    ];
    let before = log(&node);
    for (what, events, expected) in &cases {
        let reply = submit(&mut writer, events);
        assert_eq!(verdicts(&reply), *expected, "{what}");
        for outcome in outcomes(&reply) {
            assert_eq!((outcome.offset, outcome.timestamp.0), (None, 0), "{what}");
        }
        assert_eq!(reply.open::<SubmitReply<'_>>().token_offset(), None, "{what}");
        assert_eq!(log(&node), before, "{what}: logged");
    }
    // Nothing of it is remembered: whoever may gets fresh decisions under the same ids.
    let mut anybody = node.greeted();
    for (what, events, expected) in &cases {
        if expected.contains(&forbidden) {
            let reply = submit(&mut anybody, events);
            assert!(outcomes(&reply).iter().all(|one| one.fresh && one.offset.is_some()), "{what}");
        }
    }
}

#[test]
fn what_may_be_done_beside_what_is_forbidden_is_decided_in_order() {
    let node = bank(WRITER);
    let mut writer = client(&node, "w7");
    let first = log(&node).0;
    let own = |id| transfer(id, at(7, 1), at(7, 2));
    let events = [
        own(1001),
        transfer(1002, at(8, 1), at(8, 2)),
        linked(own(1003)),
        own(1004),
        linked(own(1005)),
        transfer(1006, at(7, 1), at(8, 2)),
        post(1007, 71),
        own(1001),
        account(at(7, 5), EUR),
    ];
    let reply = submit(&mut writer, &events);
    let (ok, forbidden, beside) = (Verdict::Ok, Verdict::Forbidden, Verdict::LinkedEventMalformed);
    let expected = [ok, forbidden, ok, ok, beside, forbidden, ok, ok, ok];
    assert_eq!(verdicts(&reply), expected);
    let found: Vec<_> =
        outcomes(&reply).iter().map(|one| one.offset.map(|at| at.0 - first.0)).collect();
    let (none, some) = (None, Some);
    let offsets = [some(0), none, some(1), some(2), none, none, some(3), some(0), some(4)];
    assert_eq!(found, offsets);
    let fresh: Vec<_> = outcomes(&reply).iter().map(|one| one.fresh).collect();
    assert_eq!(fresh, [true, true, true, true, true, true, true, false, true]);
    assert_eq!(log(&node).0, first.plus(5));
}

/// The writer may not read, and a retry of what it sent itself must still be answered.
#[test]
fn an_id_tells_nothing_of_its_first_event_to_who_may_not_read_that() {
    let policy =
        format!("{WRITER}{READER}").replace("\"client/w7\"", "[\"client/w7\", \"client/rw7\"]");
    let policy = policy.replace("\"client/r7\"", "[\"client/r7\", \"client/rw7\"]");
    let node = bank(&policy);
    let own = |id| transfer(id, at(7, 1), at(7, 2));
    let before = log(&node);
    for name in ["w7", "rw7"] {
        let mut writer = client(&node, name);
        let firsts = [
            (81, pending(81, 8)),
            (SENT, transfer(SENT, at(8, 1), at(8, 2))),
            (POSTING, post(POSTING, 82)),
        ];
        for (id, body) in firsts {
            // The same body, and another of its own.
            let same = submit(&mut writer, &[body]);
            assert_eq!(verdicts(&same), [Verdict::Forbidden], "{name}, {id}");
            let another = if id == SENT { POSTING } else { SENT };
            for events in [vec![own(id)], vec![linked(own(id)), own(another)]] {
                let other = submit(&mut writer, &events);
                for outcome in outcomes(&other) {
                    let told =
                        (outcome.verdict, outcome.offset, outcome.timestamp.0, outcome.fresh);
                    assert_eq!(told, (Verdict::IdReused, None, 0, false), "{name}, {id}");
                }
                assert_eq!(other.open::<SubmitReply<'_>>().token_offset(), None);
            }
        }
        let other = submit(&mut writer, &[own(OPAQUE)]);
        assert_eq!(
            (outcomes(&other)[0].verdict, outcomes(&other)[0].offset),
            (Verdict::IdReused, None)
        );
    }
    assert_eq!(log(&node), before);

    let ids = [81, SENT, GUARDED, POSTING, OPAQUE, 71, 72, 172, 5000];
    let status = Status { at_least: NO_OFFSET, namespace: IdNamespace::Event as u8, ids: &ids };
    let look = LookupTransfers { at_least: NO_OFFSET, ids: &ids };
    let known = |reply: Reply| -> Vec<(u8, bool)> {
        let states = &reply.open::<StatusReply<'_>>().states;
        states.iter().map(|one| (one.known, one.offset.to_native() > 0)).collect()
    };
    let (no, yes) = ((0, false), (1, true));
    let mut writer = client(&node, "w7");
    assert_eq!(writer.ask(&status).error(), Some(ErrorCode::Forbidden));
    for name in ["r7", "rw7"] {
        let mut reader = client(&node, name);
        let found = known(reader.ask(&status));
        assert_eq!(found, [no, no, no, no, no, yes, yes, yes, no], "{name}");
        let found = reader.ask(&look);
        let states = &found.open::<LookupTransfersReply<'_>>().states;
        let places: Vec<_> = states.iter().map(|one| one.index.to_native()).collect();
        assert_eq!(places, [5, 6, 7], "{name}");
    }
    let found = known(node.greeted().ask(&status));
    assert_eq!(found, [yes, yes, yes, yes, yes, yes, yes, yes, no], "without bounds");

    // A chain with an id of book 8 in it is known in part: it fails, and is told no more.
    let mut writer = client(&node, "rw7");
    let told = outcomes(&submit(&mut writer, &[linked(own(SENT)), own(3000)]));
    assert_eq!((told[0].verdict, told[0].offset), (Verdict::IdReused, None));
    assert_eq!(
        (told[1].verdict, told[1].offset),
        (Verdict::LinkedEventFailed, Some(before.0.plus(1)))
    );

    // Its own ids are answered as ever; only another body's offset is not told, since it could be anyone's.
    for name in ["w7", "rw7"] {
        let mut writer = client(&node, name);
        let id = 2000 + name.len() as u128;
        let first = outcomes(&submit(&mut writer, &[own(id), post(id + 100, 72)]));
        assert_eq!(first[1].verdict, Verdict::PendingAlreadyPosted, "{name}");
        let again = outcomes(&submit(&mut writer, &[own(id), post(id + 100, 72)]));
        for (first, again) in first.iter().zip(&again) {
            assert_eq!((first.verdict, first.offset), (again.verdict, again.offset), "{name}");
            assert!(first.fresh && !again.fresh && first.offset.is_some());
        }
        let other = outcomes(&submit(&mut writer, &[transfer(id, at(7, 2), at(7, 1))]));
        assert_eq!((other[0].verdict, other[0].offset), (Verdict::IdReused, None));
    }
}

#[test]
fn a_reader_of_one_book_and_ledger_sees_nothing_else() {
    let node = bank(READER);
    let mut reader = client(&node, "r7");
    let at_least = NO_OFFSET;
    let reply = reader.ask(&LookupAccounts { at_least, ids: &[at(7, 1), at(8, 1)] });
    let why = message(&reply);
    assert!(why.starts_with("client/r7 lacks the right `read` in book 8"), "{why}");
    // One of another ledger is answered like one that is not there.
    let reply = reader.ask(&LookupAccounts { at_least, ids: &[at(7, 3), at(7, 2), at(7, 99)] });
    let reply = reply.open::<LookupAccountsReply<'_>>();
    assert_eq!(reply.found.iter().map(|place| place.to_native()).collect::<Vec<_>>(), [1]);
    let status = Status {
        at_least,
        namespace: IdNamespace::Account as u8,
        ids: &[at(7, 1), at(7, 3), at(8, 1), at(7, 99)],
    };
    let reply = reader.ask(&status);
    let known: Vec<_> =
        reply.open::<StatusReply<'_>>().states.iter().map(|one| one.known).collect();
    assert_eq!(known, [1, 0, 0, 0]);
    // Page by page: what is left out makes no page that looks like the last.
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let reply = reader.ask(&ListAccounts { at_least, after, limit: 1 });
        let page = reply.open::<ListAccountsReply<'_>>();
        found.extend(page.accounts.iter().map(|bytes| Account::from_bytes(bytes).id.0));
        after = page.next_cursor.to_native();
        if after == 0 {
            break;
        }
    }
    assert_eq!(found, [at(7, 1), at(7, 2)]);
    let all = node.greeted().ask(&ListAccounts { at_least, after: 0, limit: 100 });
    assert_eq!(all.open::<ListAccountsReply<'_>>().accounts.len(), 8);
    let open = |connection: &mut Connection<'_>| {
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let reply = connection.ask(&ListReservations { at_least, after, limit: 1 });
            let page = reply.open::<ListReservationsReply<'_>>();
            found.extend(page.reservations.iter().map(|row| row.id.to_native()));
            after = page.next_cursor.to_native();
            if after == 0 {
                break found;
            }
        }
    };
    let of_book = |book| OPEN.into_iter().filter(move |(its, _)| *its == book).map(|(_, id)| id);
    assert_eq!(open(&mut reader), of_book(7).collect::<Vec<_>>());
    assert_eq!(open(&mut node.greeted()), of_book(7).chain(of_book(8)).collect::<Vec<_>>());
}

/// A page that is empty because all of it was left out does not end the list.
#[test]
fn a_list_goes_on_behind_many_accounts_that_are_left_out() {
    let node = bank(READER);
    let mut anybody = node.greeted();
    let mut number = 100;
    while number < 100 + LIST_LOOK_MAX as u128 + 1000 {
        let ids = number..number + EVENTS_MAX as u128;
        let events: Vec<_> = ids.map(|number| account(at(8, number), EUR)).collect();
        assert!(verdicts(&submit(&mut anybody, &events)).iter().all(|verdict| verdict.is_ok()));
        number += EVENTS_MAX as u128;
    }
    submit(&mut anybody, &[account(at(7, 9), EUR)]);
    let mut reader = client(&node, "r7");
    let (mut after, mut found, mut pages) = (2, Vec::new(), 0);
    loop {
        let reply = reader.ask(&ListAccounts { at_least: NO_OFFSET, after, limit: 4096 });
        let page = reply.open::<ListAccountsReply<'_>>();
        found.extend(page.accounts.iter().map(|bytes| Account::from_bytes(bytes).id.0));
        (after, pages) = (page.next_cursor.to_native(), pages + 1);
        if after == 0 {
            break;
        }
    }
    assert_eq!((found, pages), (vec![at(7, 9)], 2));
}

/// A post that names no account is its reservation's, accepted or refused; one of a reservation that never
/// was is nobody's.
#[test]
fn a_posting_is_seen_by_who_sees_its_reservation() {
    let node = bank(READER);
    let mut anybody = node.greeted();
    let events = [post(301, 72), post(302, 82), post(303, 71), post(304, 5000), void(305, 71)];
    submit(&mut anybody, &events);
    let mut reader = client(&node, "r7");
    let ids = [301, 302, 303, 304, 305];
    let reply = reader.ask(&LookupTransfers { at_least: NO_OFFSET, ids: &ids });
    let states = &reply.open::<LookupTransfersReply<'_>>().states;
    let places: Vec<_> = states.iter().map(|one| one.index.to_native()).collect();
    assert_eq!(places, [0, 2, 4]);
}

#[test]
fn a_connection_follows_the_policy_from_one_request_to_the_next() {
    let node = bank(WRITER);
    let mut writer = client(&node, "w7");
    let own = |id| transfer(id, at(7, 1), at(7, 2));
    assert_eq!(verdicts(&submit(&mut writer, &[own(1001)])), [Verdict::Ok]);
    node.facts.state.policies.set(Policy::parse(READER).unwrap());
    let before = log(&node);
    let why = message(&writer.ask(&Submit { events: &[own(1002)] }));
    assert!(why.starts_with("client/w7 lacks the right `write`"), "{why}");
    assert_eq!(log(&node), before);
    node.facts.state.policies.set(Policy::parse(&WRITER.replace('7', "8")).unwrap());
    assert!(writer.ask(&Submit { events: &[own(1002)] }).error().is_some(), "w7 is not w8");
    node.facts.state.policies.set(Policy::parse(&WRITER.replace("[7]", "[8]")).unwrap());
    assert_eq!(verdicts(&submit(&mut writer, &[own(1002)])), [Verdict::Forbidden]);
    node.facts.state.policies.set(Policy::parse(WRITER).unwrap());
    assert_eq!(verdicts(&submit(&mut writer, &[own(1002)])), [Verdict::Ok]);
    // Two requests and one event.
    let status = writer.ask(&ServerStatus { reserved: 0 });
    let rows = &status.open::<ServerStatusReply<'_>>().numbers;
    let row = rows.iter().find(|row| &*row.name == "forbidden_since_start").unwrap();
    assert_eq!(row.value.to_native(), 3);
}

/// A read that was taken while it was allowed, and waits for a state.
#[test]
fn a_read_that_waits_is_not_answered_once_the_right_is_gone() {
    let node = bank(READER);
    let mut reader = client(&node, "r7");
    let next = log(&node).0;
    let ahead = ListAccounts { at_least: next.0, after: 0, limit: 10 };
    assert_eq!(reader.say_within(10_000, &ahead), Handled::Here);
    assert!(reader.answers().is_empty());
    node.facts.state.policies.set(Policy::parse("").unwrap());
    submit(&mut node.greeted(), &[transfer(1001, at(7, 1), at(7, 2))]);
    assert_eq!(reader.answer().error(), Some(ErrorCode::Forbidden));
}

fn say<M: Message>(request: u64, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = FrameHead::reply(PARTITION, RequestId(request));
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

/// Later subscriptions of a connection never come to its session: the feed has it then.
#[test]
fn the_feed_asks_for_the_right_to_the_log_as_well() {
    let policy = "[[allow]]\nwho = \"client/log\"\nmay = \"read-log\"\n";
    let node = bank(policy);
    let policies = &node.facts.state.policies;
    let permit = Permit::new(policies, caller(Role::Client, "log"));
    let published = Arc::new(Published::default());
    published.tell(node.partition.visible(), node.partition.log().last_segment());
    let dir = partition_dir(std::path::Path::new(DATA), PARTITION);
    let archive = Archive::new(node.disk.clone(), dir, CLUSTER, PARTITION, SEGMENT_BYTES);
    let source = Source::new(published.clone(), archive, &Budget::new(1 << 20), Budget::default());
    let (outbox, ids) = (Rc::new(Outbox::default()), RequestIds::default());
    let runtime = node.executor.runtime();
    let feed =
        FeedConnection::new(PARTITION, Rc::new(source), outbox.clone(), ids, permit, runtime);
    let handle = |bytes: &[u8]| assert!(feed.handle(&frame::peek(bytes).unwrap().unwrap()));
    let answer = || {
        node.wait(std::time::Duration::from_millis(50));
        let bytes = outbox.take(Vec::new());
        let frame = frame::peek(&bytes).unwrap()?;
        Some(Reply { kind: frame.kind, request: frame.head.request, body: frame.body.to_vec() })
    };
    let log_grows = |id| {
        submit(&mut node.greeted(), &[transfer(id, at(7, 1), at(7, 2))]);
        published.tell(node.partition.visible(), node.partition.log().last_segment());
    };
    let subscribe = Subscribe { from: 0, credit_bytes: 1 };
    // A page, whatever the credit; as much credit again is used up by the next.
    let page_bytes = || answer().expect("a page").open::<LogPage<'_>>().entries.len() as u64;
    handle(&say(1, &subscribe));
    let credit = Credit { bytes: page_bytes() };
    log_grows(1001);
    handle(&say(1, &credit));
    let credit = Credit { bytes: page_bytes() };
    log_grows(1002);
    policies.set(Policy::parse(READER).unwrap());
    handle(&say(2, &subscribe));
    let refused = answer().unwrap();
    assert_eq!((refused.error(), refused.request), (Some(ErrorCode::Forbidden), RequestId(2)));
    // More credit for the first one: its last frame says why it ends.
    handle(&say(1, &credit));
    let refused = answer().unwrap();
    assert_eq!((refused.error(), refused.request), (Some(ErrorCode::Forbidden), RequestId(1)));
    policies.set(Policy::parse(policy).unwrap());
    handle(&say(1, &credit));
    assert!(answer().is_none(), "it has ended");
    handle(&say(2, &subscribe));
    assert_eq!(answer().unwrap().error(), Some(ErrorCode::Malformed), "the id is used");
}
