//! Does the page for Prometheus say what has happened, and do rules and dashboard name what is there?

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use walengine::budget::Budget;
use walengine::session::numbers;
use walengine_net::message::{ServerStatus, ServerStatusReply, Submit};
use walengine_tests::metric_names::{PROJECTOR, dashboard, rules, shown, used};
use walengine_tests::server::{TestDir, text};

use crate::session::{Connection, Node, transfer};

/// The page of a node, of what its shard says now.
fn page(node: &Node) -> String {
    let state = &node.facts.state;
    state.published.put(0, numbers::published(&node.facts, &Budget::default(), 0));
    walengine::metrics::text(state)
}

/// The value of a sample.
fn sample<T: FromStr<Err: Debug>>(page: &str, name: &str) -> T {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

/// That of a metric of the only partition, which is a whole number.
fn number(page: &str, name: &str) -> u64 {
    sample(page, &format!("walengine_{name}{{partition=\"0\"}}"))
}

/// All times of one kind of the only partition together.
fn seconds(page: &str, times: &str) -> f64 {
    sample(page, &format!("walengine_{times}_seconds_sum{{partition=\"0\"}}"))
}

/// A node on which a client has done something: two accounts, six transfers of which three were refused and one
/// was a repeat.
fn busy(node: &Node) -> Connection<'_> {
    let mut client = node.with_accounts();
    client.ask(&Submit { events: &[transfer(11, 5), transfer(12, 0), transfer(13, 0)] });
    client.ask(&Submit { events: &[transfer(14, 5), transfer(11, 5), transfer(11, 6)] });
    client
}

#[test]
fn what_a_client_has_done_is_on_the_page() {
    let node = Node::new();
    let mut client = busy(&node);
    let page = page(&node);
    let verdicts = |verdict: &str| -> u64 {
        let of = format!("{{partition=\"0\",verdict=\"{verdict}\"}}");
        sample(&page, &format!("walengine_verdicts_total{of}"))
    };
    let expected = [("ok", 5), ("amount_zero", 2), ("id_reused", 1)];
    assert_eq!(expected.map(|(verdict, _)| (verdict, verdicts(verdict))), expected);
    assert_eq!(number(&page, "records_total"), number(&page, "committed_offset"));
    let (entries, flushes) = (number(&page, "entries_total"), number(&page, "flushes_total"));
    // Three requests, each in an entry of its own: nothing else was there to go with it.
    for (times, count) in [("commit", entries), ("answer", 3), ("flush", flushes)] {
        let counted = number(&page, &format!("{times}_seconds_count"));
        assert_eq!((times, counted), (times, count));
        let sum = seconds(&page, times);
        assert!(sum > 0.0 && sum < 1.0, "{times} took {sum} s of virtual time");
    }
    assert_eq!((entries, number(&page, "leads")), (3, 1));
    assert_eq!((number(&page, "answers_waiting"), number(&page, "entries_under_way")), (0, 0));
    // `status` tells the same.
    let reply = client.ask(&ServerStatus { reserved: 0 });
    let rows = &reply.open::<ServerStatusReply<'_>>().numbers;
    let row = |name: &str| rows.iter().find(|row| &*row.name == name).unwrap().value.to_native();
    for (status, metric) in [
        ("records_since_start", "records_total"),
        ("next_offset", "next_offset"),
        ("flush_bytes_since_start", "flushed_bytes_total"),
    ] {
        assert_eq!((status, row(status)), (status, number(&page, metric)));
    }
}

/// A request waits for its flush, and is timed until it is answered.
#[test]
fn the_time_of_an_answer_is_that_of_its_client() {
    let node = Node::new();
    let mut client = node.with_accounts();
    let counted = |page: &str| {
        ["answer", "commit"].map(|times| number(page, &format!("{times}_seconds_count")))
    };
    client.say(&Submit { events: &[transfer(11, 5)] });
    let before = page(&node);
    assert_eq!((number(&before, "answers_waiting"), counted(&before)), (1, [1, 1]));
    client.answer();
    let after = page(&node);
    assert_eq!(counted(&after), [2, 2]);
    let took = |times: &str| seconds(&after, times) - seconds(&before, times);
    assert!(took("answer") >= took("commit") && took("commit") > 0.0, "{after}");
}

/// A partition that is too busy has a client wait, whose patience is what counts.
#[test]
fn what_a_request_waits_for_before_it_is_decided_counts() {
    let node = Node::new();
    let mut client = node.with_accounts();
    let before = page(&node);
    let events = [transfer(11, 5)];
    node.partition.await_clocks(); // nothing is decided meanwhile
    client.try_say(&Submit { events: &events }).unwrap_err();
    node.wait(Duration::from_millis(300));
    node.partition.hear_clocks(1, &[0]);
    client.try_say(&Submit { events: &events }).unwrap();
    client.answer();
    let after = page(&node);
    assert_eq!(number(&after, "answer_seconds_count"), 2);
    assert!(seconds(&after, "answer") - seconds(&before, "answer") >= 0.3, "{after}");
    assert!(seconds(&after, "commit") < 0.3, "from its proposal only: {after}");
}

#[test]
fn rules_and_dashboard_name_only_what_the_page_has() {
    let shown = shown(&page(&Node::new()));
    for file in [rules(), dashboard()] {
        let used = used(&file);
        assert!(used.len() > 20, "{}: {used:?}", file.display());
        let missing: Vec<_> = used
            .iter()
            .filter(|name| !name.starts_with(PROJECTOR) && !shown.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{} names what no page has: {missing:?}", file.display());
    }
}

/// Runs `promtool`, which is in Debian's package prometheus.
fn promtool(arguments: &[&str], input: Option<&Path>) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments);
    if let Some(input) = input {
        command.stdin(fs::File::open(input).unwrap());
    }
    let output =
        command.output().expect("promtool is there: Debian has it in the package prometheus");
    let said = text(&output);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// Each alert fires on made-up series that show its trouble, and none while all is well.
#[test]
fn each_alert_tells_of_its_trouble_and_has_a_runbook() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/alerts_test.yaml");
    promtool(&["check", "rules", rules().to_str().unwrap()], None);
    promtool(&["test", "rules", tests.to_str().unwrap()], None);
    let (rules, tests) = (fs::read_to_string(rules()).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 20);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is in no test");
        assert!(alert.contains("runbook: \"") && alert.contains("severity: "), "{alert}");
    }
}

/// `promtool check metrics` reads the older text format, which differs in the names of counters' heads.
fn in_older_format(page: &str) -> String {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let ends: BTreeMap<&str, &str> = kinds
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => (name, "_total"),
            "info" => (name, "_info"),
            _ => (name, ""),
        })
        .collect();
    let mut older = String::new();
    for line in page.lines() {
        let head = line.strip_prefix("# ").and_then(|line| line.split_once(' '));
        let head = head.and_then(|(what, rest)| Some((what, rest.split_once(' ')?)));
        let _ = match head {
            Some((what @ ("HELP" | "TYPE"), (name, rest))) => {
                let rest = if rest == "info" { "gauge" } else { rest };
                writeln!(older, "# {what} {name}{} {rest}", ends[name])
            }
            Some(_) => Ok(()),
            None => writeln!(older, "{line}"),
        };
    }
    older
}

#[test]
fn prometheus_takes_the_page() {
    let node = Node::new();
    let _client = busy(&node);
    let page = page(&node);
    let dir = TestDir::new("metrics");
    // Names, types, units and help as Prometheus advises.
    let file = dir.path().join("older");
    fs::write(&file, in_older_format(&page)).unwrap();
    let said = promtool(&["check", "metrics"], Some(&file));
    assert!(said.trim().is_empty(), "{said}");
    // Its own reader of OpenMetrics takes each line; that one wants times.
    let time = |line: &str| if line.starts_with('#') { "" } else { " 1700000000" };
    let timed_line = |line: &str| format!("{line}{}\n", time(line));
    let (timed, blocks) = (dir.path().join("timed"), dir.path().join("blocks"));
    fs::write(&timed, page.lines().map(timed_line).collect::<String>()).unwrap();
    let (timed, blocks) = (timed.to_str().unwrap(), blocks.to_str().unwrap());
    promtool(&["tsdb", "create-blocks-from", "openmetrics", timed, blocks], None);
}
