//! Is every order written down before it is carried out, and none carried out that is not? Over sessions,
//! on the simulated disk; `edges::a_server_does_not_leave_at_the_cost_of_a_majority_unless_that_is_said`
//! looks at a real server's trail.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use walengine::audit::{Audit, Store};
use walengine::ledger::Ledger;
use walengine::partition::Partition;
use walengine_net::message::{
    AdminReply, AdminState, AdmitNode, ErrorCode, ImportLog, ImportLogReply, ImportState,
    ImportedEntry, Leave, LeaveAnyway, NO_NODE, RemoveNode, TransferLeadership,
};
use walengine_tests::lone_partition::NODE;

use crate::session::{Node, account};

/// What was written, and how long the log was when it was made durable.
#[derive(Clone, Default)]
struct Written {
    lines: Arc<Mutex<Vec<u8>>>,
    fails: Arc<Mutex<bool>>,
}

impl Written {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.lines.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn told(&self) -> Vec<(String, String)> {
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        self.lines().iter().map(|line| (word(line, "order"), word(line, "outcome"))).collect()
    }
}

impl Store for Written {
    fn bytes(&self) -> u64 {
        self.lines.lock().unwrap().len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.lines.lock().unwrap().truncate(bytes as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if *self.fails.lock().unwrap() {
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn node(written: &Written) -> Node {
    Node::with_audit(Audit::to(Box::new(written.clone())))
}

/// One account in one entry of another log.
fn import<'a>(
    entries: &'a [ImportedEntry],
    events: &'a [[u8; 128]],
    is_last: bool,
) -> ImportLog<'a> {
    ImportLog {
        base_offset: 0,
        is_last: u8::from(is_last),
        entries,
        events,
        resolved: &[],
        heads: &[],
        blob: &[],
        verdicts: &[0],
    }
}

const ENTRY: ImportedEntry = ImportedEntry { timestamp: 5, records: 1, resolved: 0, kind: 1 };

#[test]
fn each_order_of_an_operator_has_its_two_lines() {
    let written = Written::default();
    let node = node(&written);
    let mut connection = node.greeted();
    for reply in [
        connection.ask(&TransferLeadership { to: NO_NODE }),
        connection.ask(&RemoveNode { node: 7 }),
        connection.ask(&Leave { node: NODE }),
        connection.ask(&LeaveAnyway { node: NODE + 1 }),
        connection.ask(&AdmitNode { node: 7 }),
    ] {
        assert_eq!(reply.open::<AdminReply<'_>>().state(), AdminState::Refused, "it is alone");
    }
    let orders = ["transfer_leadership", "remove_node", "leave", "leave_anyway", "admit_node"];
    let expected = orders.iter().flat_map(|order| [(*order, "ordered"), (*order, "refused")]);
    let expected: Vec<_> = expected.map(|(order, is)| (order.to_owned(), is.to_owned())).collect();
    assert_eq!(written.told(), expected);
    let lines = written.lines();
    assert_eq!(lines[2]["arguments"], serde_json::json!({ "partition": 0, "node": 7 }));
    assert_eq!((&lines[2]["identity"], &lines[2]["address"]), (&"none".into(), &"none".into()));
    assert!(lines[5]["message"].as_str().unwrap().contains("serves alone"), "{}", lines[5]);
}

#[test]
fn an_order_that_can_not_be_written_down_is_refused_and_so_is_every_one_after_it() {
    let written = Written::default();
    let node = node(&written);
    let mut connection = node.greeted();
    *written.fails.lock().unwrap() = true;
    let refused = connection.ask(&LeaveAnyway { node: NODE });
    *written.fails.lock().unwrap() = false;
    let again = connection.ask(&TransferLeadership { to: NO_NODE });
    for reply in [refused, again] {
        let reply = reply.open::<AdminReply<'_>>();
        assert_eq!(reply.state(), AdminState::Refused);
        assert!(reply.message.contains("audit.jsonl"), "{}", &*reply.message);
        assert!(reply.message.contains("nothing was done"), "{}", &*reply.message);
    }
    assert_eq!(
        written.lines().len(),
        1,
        "nobody knows whether it is there, and no more is written"
    );
    // An import is one, too.
    let (entries, events) = ([ENTRY], [account(1)]);
    let request = import(&entries, &events, true);
    assert_eq!(connection.ask(&request).error(), Some(ErrorCode::Busy), "it is being written");
    assert_eq!(connection.ask(&request).error(), Some(ErrorCode::StorageFull));
    assert_eq!(node.partition.visible_offset().0, 0, "it was taken");
    assert!(!node.partition.with_ledger(|ledger| ledger.accounts_len() > 0));
}

#[test]
fn an_import_is_written_down_when_it_begins_and_when_it_ends() {
    let written = Written::default();
    let node = node(&written);
    let (entries, events) = ([ENTRY], [account(1)]);
    let taken = |partition: &Partition<_>| partition.with_ledger(Ledger::accounts_len);
    {
        let mut connection = node.greeted();
        let begun = connection.ask(&import(&entries, &events, false));
        assert_eq!(begun.error(), Some(ErrorCode::Busy));
        assert_eq!((written.told().len(), taken(&node.partition)), (1, 0), "the line comes first");
        let reply = connection.ask(&import(&entries, &events, false));
        assert_eq!(reply.open::<ImportLogReply<'_>>().state, ImportState::Taken as u8);
        assert_eq!((written.told().len(), taken(&node.partition)), (1, 1));
    }
    let mut connection = node.greeted();
    let (entries, events) = ([ImportedEntry { timestamp: 6, ..ENTRY }], [account(2)]);
    let last = ImportLog { base_offset: 1, ..import(&entries, &events, true) };
    assert_eq!(connection.ask(&last).error(), Some(ErrorCode::Busy));
    let reply = connection.ask(&last);
    assert_eq!(reply.open::<ImportLogReply<'_>>().state, ImportState::Taken as u8);
    assert_eq!(taken(&node.partition), 2);
    let outcomes: Vec<_> = written.told().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["ordered", "unfinished", "ordered", "done"], "{:?}", written.lines());
    assert_eq!(written.lines()[2]["arguments"]["from_offset"], 1);
}
