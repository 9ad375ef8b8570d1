use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::*;
use crate::limits::AUDIT_BYTES_MAX;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir();
        let path = path.join(format!("walengine-audit-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.join(NAME)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a whole line: {text:?}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn caller() -> Caller {
    let identity = walengine_net::identity::Identity::of_uri("spiffe://bank/admin/ann").unwrap();
    let address = Some("192.0.2.7:4711".parse().unwrap());
    Caller { address, identity: Some(Arc::new(identity)) }
}

fn order() -> Order {
    Order::new("remove_node").with("partition", 3).with("node", 17)
}

#[test]
fn an_order_has_a_line_before_it_is_carried_out_and_one_with_what_became_of_it() {
    let dir = Dir::new();
    let thread = Audit::start(&dir.0).unwrap();
    let begun = thread.audit().begin_waiting(&caller(), order()).unwrap();
    let before = dir.lines();
    assert_eq!(before.len(), 1, "it is there before the order is carried out");
    begun.end(Outcome::Refused, "node 17 is\nalive");
    thread.audit().note(&Order::new("reload"), Outcome::Done, "").unwrap();
    drop(thread.audit().begin_waiting(&Caller::default(), Order::new("leave")).unwrap());
    thread.stop();
    let lines = dir.lines();
    assert_eq!(lines[0], before[0]);
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    for line in &lines[..2] {
        assert_eq!(text(line, "order"), "remove_node");
        assert_eq!(line["arguments"], serde_json::json!({ "partition": 3, "node": 17 }));
        assert_eq!(text(line, "identity"), "spiffe://bank/admin/ann");
        assert_eq!(text(line, "address"), "192.0.2.7:4711");
        assert!(chrono::DateTime::parse_from_rfc3339(&text(line, "time")).is_ok(), "{line}");
        assert_eq!(line["id"], lines[0]["id"]);
    }
    assert_ne!(lines[2]["id"], lines[0]["id"]);
    assert_eq!(text(&lines[1], "message"), "node 17 is\nalive");
    let outcomes: Vec<_> = lines.iter().map(|line| text(line, "outcome")).collect();
    assert_eq!(outcomes, ["ordered", "refused", "done", "ordered", "unfinished"]);
    assert_eq!(
        (text(&lines[3], "identity"), text(&lines[3], "address")),
        ("none".into(), "none".into())
    );
    let mode = dir.0.join(NAME).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn control_characters_are_escaped() {
    let order = Order::new("restore").with("from", "a\u{1b}[2J\u{7f}\u{9b}31m\n\u{202e}b");
    let line = line::line("7", &order, &Caller::default(), "done", "\r\u{1b}]0;x\u{7}");
    assert_eq!(line.trim_end_matches('\n').chars().find(|one| one.is_control()), None, "{line:?}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["arguments"]["from"], "a\u{1b}[2J\u{7f}\u{9b}31m\n\u{202e}b");
    assert_eq!(read["message"], "\r\u{1b}]0;x\u{7}");
}

#[test]
fn a_full_file_is_put_aside_and_none_is_removed() {
    let dir = Dir::new();
    let full = vec![b' '; AUDIT_BYTES_MAX as usize - 10];
    std::fs::write(dir.0.join(NAME), [full, b"\n".to_vec()].concat()).unwrap();
    let audit = Audit::open(&dir.0).unwrap();
    audit.begin_waiting(&caller(), order()).unwrap().end(Outcome::Done, "");
    assert_eq!(dir.lines().len(), 2, "both in the new one");
    let names: Vec<_> =
        std::fs::read_dir(&dir.0).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| is_name(name)), "{names:?}");
    assert!(!is_name(OsStr::new("audit.json")) && !is_name(OsStr::new("p0000")));
}

#[test]
fn a_line_that_a_crash_has_torn_spoils_no_other() {
    let dir = Dir::new();
    std::fs::write(dir.0.join(NAME), b"{\"time\":").unwrap();
    Audit::open(&dir.0).unwrap().note(&order(), Outcome::Done, "").unwrap();
    let text = std::fs::read_to_string(dir.0.join(NAME)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "{\"time\":"));
    assert!(serde_json::from_str::<Value>(lines[1]).is_ok());
}

/// A disk that fails when it is told to.
struct Failing {
    written: Arc<Mutex<Vec<u8>>>,
    write: &'static [bool],
    sync: &'static [bool],
    writes: Cell<usize>,
    syncs: Cell<usize>,
}

impl Failing {
    fn fails(plan: &[bool], count: &Cell<usize>) -> io::Result<()> {
        let at = count.replace(count.get() + 1);
        match plan.get(at) {
            Some(true) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Store for Failing {
    fn bytes(&self) -> u64 {
        self.written.lock().unwrap().len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let failed = Self::fails(self.write, &self.writes);
        let written = if failed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.written.lock().unwrap().extend_from_slice(written);
        failed
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.written.lock().unwrap().truncate(bytes as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Self::fails(self.sync, &self.syncs)
    }

    fn rotate(&mut self) -> io::Result<()> {
        unreachable!("nothing is that long here")
    }
}

fn failing(write: &'static [bool], sync: &'static [bool]) -> (Audit, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::default();
    let (writes, syncs) = (Cell::default(), Cell::default());
    let store = Failing { written: Arc::clone(&written), write, sync, writes, syncs };
    (Audit::to(Box::new(store)), written)
}

#[test]
fn what_does_not_fit_on_the_disk_refuses_the_order_and_leaves_no_half_line() {
    let (audit, written) = failing(&[true, false], &[]);
    let refused = audit.begin_waiting(&caller(), order()).unwrap_err();
    assert!(refused.to_string().contains("before it is carried out"), "{refused}");
    assert!(written.lock().unwrap().is_empty());
    audit.begin_waiting(&caller(), order()).unwrap().end(Outcome::Done, "");
    let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert_eq!(
        written.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(),
        2
    );
}

#[test]
fn after_one_failed_sync_nothing_is_written_and_every_order_is_refused() {
    let (audit, written) = failing(&[], &[false, true, false, false]);
    let begun = audit.begin_waiting(&caller(), order()).unwrap();
    let refused = audit.begin_waiting(&caller(), order()).unwrap_err();
    assert!(refused.to_string().contains("start the server again"), "{refused}");
    let bytes = written.lock().unwrap().len();
    assert_eq!(audit.begin_waiting(&caller(), order()).unwrap_err(), refused);
    assert_eq!(audit.note(&order(), Outcome::Done, ""), Err(refused));
    begun.end(Outcome::Done, "");
    assert_eq!(written.lock().unwrap().len(), bytes, "it was written again");
}

#[test]
fn a_full_queue_is_not_taken_for_a_server_that_stops() {
    let dir = Dir::new();
    let (jobs, told) = flume::bounded(1);
    let audit = Audit(Way::Thread(jobs));
    let log = dir.0.join("log");
    let writer = Arc::new(std::fs::File::create(&log).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, || {
        audit.put("the first\n".to_owned());
        audit.put("the second\n".to_owned());
        let refused = audit.begin_waiting(&caller(), order()).unwrap_err();
        assert!(refused.to_string().contains("too many orders"), "{refused}");
        drop(told);
        audit.put("the third\n".to_owned());
    });
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("the second") && lines[0].contains("too many orders"), "{log}");
    assert!(lines[1].contains("the third") && lines[1].contains("is stopping"), "{log}");
}
