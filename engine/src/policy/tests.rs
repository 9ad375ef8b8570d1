//! Does a policy give exactly what it says, and does it say what is wrong in it?

use std::sync::Arc;

use walengine_net::frame::Kind;
use walengine_net::model::{Book, LedgerId};

use super::*;
use crate::caller::Caller;

fn identity(role: Role, name: &str) -> Identity {
    Identity::new("bank", role, name).unwrap()
}

const EXAMPLE: &str = r#"
# The bank.
[[allow]]
who = "client/payments"
may = ["write", "read"]
books = [7, "100-199"]
ledgers = [840]

[[allow]]
who = ["client/*", "admin/ops"]
may = "read"
books = [9]
ledgers = "all"

[[allow]]
who = "admin/ops"
may = ["admin", "read-log"]
"#;

#[test]
fn a_policy_gives_what_its_rules_say_together_and_nothing_else() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let payments = policy.rights(&identity(Role::Client, "payments"));
    for (book, ledger, write, read) in [
        (7, 840, true, true),
        (100, 840, true, true),
        (199, 840, true, true),
        (200, 840, false, false),
        (7, 978, false, false),
        (9, 978, false, true),
        (9, 840, false, true),
        (0, 840, false, false),
    ] {
        let (at, ledger) = (Book(book), LedgerId(ledger));
        assert_eq!(payments.write.has(at, ledger), write, "write {book}, {ledger}");
        assert_eq!(payments.read.has(at, ledger), read, "read {book}, {ledger}");
    }
    assert!(!payments.read_log && !payments.admin && !payments.is_unbounded());
    let other = policy.rights(&identity(Role::Client, "payments2"));
    assert!(other.read.has(Book(9), LedgerId(1)) && !other.has(Right::Write));
    let ops = policy.rights(&identity(Role::Admin, "ops"));
    assert!(ops.admin && ops.read_log && ops.has(Right::Read) && !ops.has(Right::Write));
    for stranger in [identity(Role::Admin, "ops2"), identity(Role::Projector, "payments")] {
        assert!(!policy.rights(&stranger).any(), "{stranger}");
    }
    let nobody = Policy::parse("").unwrap();
    assert!(!nobody.rights(&identity(Role::Admin, "ops")).any(), "a file without rules");
}

#[test]
fn without_a_file_operators_administer_and_read_projectors_read_and_nobody_writes() {
    let policy = Policy::default();
    for (role, name, expected) in [
        (Role::Admin, "a", vec![Right::Read, Right::ReadLog, Right::Admin]),
        (Role::Projector, "p", vec![Right::Read, Right::ReadLog]),
        (Role::Client, "c", vec![]),
        (Role::Node, "1", vec![]),
    ] {
        let rights = policy.rights(&identity(role, name));
        let found: Vec<_> = Right::ALL.into_iter().filter(|right| rights.has(*right)).collect();
        assert_eq!(found, expected, "{role}");
        assert_eq!(rights.read.is_everything(), rights.has(Right::Read), "{role}");
    }
}

#[test]
fn what_is_wrong_in_a_policy_is_told_with_its_line() {
    let rule = |body: &str| format!("\n[[allow]]\n{body}\n");
    let good = "who = \"client/a\"\nmay = \"write\"\nbooks = \"all\"\nledgers = \"all\"";
    assert!(Policy::parse(&rule(good)).is_ok());
    for (from, to, line, part) in [
        ("client/a", "client", 3, "ROLE/NAME"),
        ("client/a", "root/a", 3, "ROLE/NAME"),
        ("client/a", "client/a b", 3, "letters"),
        ("client/a", "client/a*", 3, "letters"),
        ("client/a", "node/01", 3, "number"),
        ("\"client/a\"", "[]", 3, "not empty"),
        ("\"client/a\"", "7", 3, "`who` is a text"),
        ("\"write\"", "\"Write\"", 4, "`read-log`"),
        ("\"write\"", "[]", 4, "not empty"),
        ("books = \"all\"", "books = [8, \"9-7\"]", 5, "FIRST-LAST"),
        ("books = \"all\"", "books = [4294967296]", 5, "4294967295"),
        ("books = \"all\"", "books = [-1]", 5, "from 0"),
        ("books = \"all\"", "books = [\"+1-2\"]", 5, "FIRST-LAST"),
        ("books = \"all\"", "books = []", 5, "\"all\""),
        ("books = \"all\"", "books = \"7\"", 5, "\"all\""),
        ("books = \"all\"\n", "", 2, "needs books"),
        ("ledgers = \"all\"", "", 2, "needs ledgers"),
        ("ledgers = \"all\"", "ledgers = [0]", 6, "from 1"),
        ("books =", "book =", 5, "unknown field `book`"),
        ("who = \"client/a\"\n", "", 2, "missing field `who`"),
        ("\"write\"\nbooks = \"all\"", "[\"write\", \"admin\"]\nbooks = [7]", 2, "of its own"),
        ("\"write\"\nbooks = \"all\"", "\"read-log\"\nbooks = [7]", 2, "of its own"),
        ("[[allow]]", "[[deny]]", 2, "unknown field `deny`"),
        ("who =", "who", 3, ""),
    ] {
        let text = rule(good).replacen(from, to, 1);
        let error = Policy::parse(&text).expect_err(&text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn a_permit_follows_the_policy_and_names_who_lacks_what() {
    let policies = Arc::new(Policies::default());
    let caller = Caller {
        identity: Some(Arc::new(identity(Role::Client, "payments"))),
        ..Caller::default()
    };
    let permit = Permit::new(&policies, caller);
    let anybody = Permit::new(&policies, Caller::default());
    assert!(permit.check(Kind::Hello).is_ok());
    let error = permit.check(Kind::Submit).unwrap_err().to_string();
    assert!(error.starts_with("client/payments lacks the right `write`"), "{error}");
    assert!(permit.is_lost() && permit.bounded().is_some());
    policies.set(Policy::parse(EXAMPLE).unwrap());
    assert!(permit.check(Kind::Submit).is_ok() && permit.check(Kind::ServerStatus).is_ok());
    assert!(permit.check(Kind::Append).is_err(), "opaque records are of no book");
    assert!(!permit.is_lost());
    permit.note_follows_log();
    assert!(permit.is_lost(), "it may not see the log any more");
    policies.set(Policy::parse("").unwrap());
    for kind in Kind::all().filter(|kind| !kind.is_reply()) {
        // For whom, is judged on its own.
        let is_judged_elsewhere = matches!(kind, Kind::Hello | Kind::ActFor);
        assert_eq!(permit.check(kind).is_ok(), is_judged_elsewhere, "{kind:?}");
        assert!(anybody.check(kind).is_ok(), "who has no identity may do everything");
    }
    assert!(!anybody.is_lost() && anybody.bounded().is_none());
}

#[test]
fn a_node_acts_once_for_one_who_is_no_node_and_gives_no_orders_for_them() {
    let everything = "[[allow]]\nwho = \"admin/ops\"\nmay = [\"read-log\", \"admin\"]\n";
    let policies = Arc::new(Policies::default());
    policies.set(Policy::parse(everything).unwrap());
    let permit = |role, name: &str| {
        let identity = Some(Arc::new(identity(role, name)));
        Permit::new(&policies, Caller { identity, ..Caller::default() })
    };
    let node = permit(Role::Node, "1");
    assert!(node.check(Kind::ReadLog).is_err(), "a node's own certificate reads nothing");
    node.act_for(identity(Role::Admin, "ops")).unwrap();
    assert!(node.check(Kind::ReadLog).is_ok());
    assert!(
        node.check(Kind::RemoveNode).is_err()
            && permit(Role::Admin, "ops").check(Kind::RemoveNode).is_ok()
    );
    node.act_for(identity(Role::Client, "other")).unwrap_err();
    policies.set(Policy::parse("").unwrap());
    assert!(node.check(Kind::ReadLog).is_err() && node.is_lost(), "the policy goes on to count");
    policies.set(Policy::parse(everything).unwrap());
    assert!(node.check(Kind::RemoveNode).is_err(), "another policy gives no orders either");

    for (role, name, whom) in [
        (Role::Client, "payments", identity(Role::Admin, "ops")),
        (Role::Admin, "ops", identity(Role::Client, "payments")),
        (Role::Node, "1", identity(Role::Node, "2")),
        (Role::Node, "1", Identity::new("another", Role::Admin, "ops").unwrap()),
    ] {
        let error = permit(role, name).act_for(whom.clone()).unwrap_err().to_string();
        assert!(error.contains("may make no requests for others"), "{role} for {whom}: {error}");
    }
    let anybody = Permit::new(&policies, Caller::default());
    anybody.act_for(identity(Role::Client, "payments")).unwrap_err();
}
