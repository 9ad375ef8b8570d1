//! Do statements by time of business stand in that order, with the balances of that order, by command line and by HTTP?

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use walengine_tests::http::Http;
use walengine_tests::server::{Launch, Server, TestDir, run_command, text};

/// In book 1, which is on the other partition.
const FAR: &str = "00000001-0000-0000-0000-000000000007";

/// Times as the file has them, in microseconds since 1970, and as they are shown. What has none counts at its log time, which is
/// between the others: the test was written in 2026, and it is not 2040 yet.
const TIMES: [(&str, i64, &str); 5] = [
    ("1993-03-01", 730_944_000_000_000, "1993-03-01"),
    ("2040-01-01", 2_208_988_800_000_000, "2040-01-01"),
    ("", 2_000_000_000_000_000, ""),
    ("1965-03-01", -152_668_800_000_000, "1965-03-01"),
    ("1993-03-01T01:30:00+01:00", 730_945_800_000_000, "1993-03-01T00:30:00.000000Z"),
];

/// A row of anna's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    micros: i64,
    booked: String,
    debit: i128,
    credit: i128,
    balance: i128,
}

/// A file whose dates are out of order, and what anna's statement of it is by their order. Amounts differ, so that each row is
/// known by its own. Two of them are between partitions, at times that no other row has.
fn history() -> (String, Vec<Row>) {
    let mut file = "id,debit_account,credit_account,amount,ledger,code,day\n".to_owned();
    let mut rows = Vec::new();
    for n in 0..60_usize {
        let (day, micros, booked) = match n {
            11 => ("2001-09-09", 999_993_600_000_000, "2001-09-09"),
            48 => ("1970-01-01", 0, "1970-01-01"),
            n => TIMES[(n * 3 + n / 5) % 5],
        };
        let other = if matches!(n, 11 | 48) { FAR } else { "till" };
        let amount = n as i128 + 1;
        let (debit, credit) = if n % 3 == 0 { (0, amount * 2) } else { (amount, 0) };
        let [from, to] = if credit > 0 { [other, "anna"] } else { ["anna", other] };
        writeln!(file, "row {n},{from},{to},{},7,1,{day}", debit + credit).unwrap();
        rows.push(Row { micros, booked: booked.to_owned(), debit, credit, balance: 0 });
    }
    rows.sort_by_key(|row| row.micros); // stable: what was booked at one time is in order of the log
    let mut balance = 0;
    for row in &mut rows {
        balance += row.credit - row.debit;
        row.balance = balance;
    }
    (file, rows)
}

/// A server of two partitions with that history.
fn bank(test: &str) -> (TestDir, Server, Http, Vec<Row>) {
    let dir = TestDir::new(test);
    let launch = Launch::new(dir.path()).set("--partitions", "2").set("--http", "127.0.0.1:0");
    let server = launch.serve();
    let (file, rows) = history();
    fs::write(dir.path().join("history.csv"), file).unwrap();
    let import = ["import", "history.csv", "--create-accounts", "--time", "day"];
    let output = run_command(Some(&server), dir.path(), &import);
    assert!(output.status.success(), "{}", text(&output));
    let address: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();
    (dir, server, Http::connect(address), rows)
}

/// Rows as either way shows them, with the times that they ought to have.
fn shown(rows: &[Value], expected: &[Row]) -> Vec<Row> {
    let number = |row: &Value, name: &str| match row[name].as_str().unwrap() {
        "" => 0,
        text => text.parse().unwrap(),
    };
    let row = |(row, expected): (&Value, &Row)| Row {
        micros: expected.micros,
        booked: row["booked"].as_str().unwrap_or_default().to_owned(),
        debit: number(row, "debit"),
        credit: number(row, "credit"),
        balance: number(row, "balance"),
    };
    assert_eq!(rows.len(), expected.len(), "{rows:#?}");
    rows.iter().zip(expected).map(row).collect()
}

/// A statement by the command line.
fn printed(server: &Server, dir: &TestDir, more: &[&str]) -> Vec<Value> {
    let statement = ["statement", "anna", "--by", "booked", "--format", "json"];
    let output = run_command(Some(server), dir.path(), &[&statement[..], more].concat());
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A page by HTTP, and what to ask for the next one.
fn page(http: &mut Http, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = http.get(&format!("/api/v1/accounts/anna/statement?by=booked&{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    (page["rows"].as_array().unwrap().clone(), page["next"].as_str().map(str::to_owned))
}

#[test]
fn a_statement_by_time_of_business_has_the_order_and_the_balances_of_that_time() {
    let (dir, server, mut http, rows) = bank("booked");
    let all = printed(&server, &dir, &["--newest", "1000"]);
    assert_eq!(shown(&all, &rows), rows);
    let newest = &rows[40..];
    assert_eq!(shown(&printed(&server, &dir, &[]), newest), newest);
    // From a time on, with it, and before a time, without it. Balances begin with what was before.
    let until = 730_945_800_000_000;
    let span: Vec<Row> =
        rows.iter().filter(|row| (0..until).contains(&row.micros)).cloned().collect();
    assert!(span[0].balance != span[0].credit - span[0].debit && span.len() > 10);
    let found = printed(&server, &dir, &["--from", "1970-01-01", "--to", "1993-03-01T00:30:00Z"]);
    assert_eq!(shown(&found, &span), span);
    let since: Vec<Row> = rows.iter().filter(|row| row.micros >= until).cloned().collect();
    let found = printed(&server, &dir, &["--from", "1993-03-01 00:30"]);
    assert_eq!(shown(&found, &since), since);

    // By HTTP the newest are first, and what comes meanwhile changes no page of the same statement.
    let (mut by_http, mut next) = page(&mut http, "limit=7");
    let transfer = json!({"id": "late", "debit_account": "till", "credit_account": "anna",
        "amount": "1000000", "ledger": 7, "code": 1});
    assert_eq!(http.post("/api/v1/transfers", &transfer).status, 201);
    while let Some(before) = next {
        let (rows, then) = page(&mut http, &format!("limit=7&before={before}"));
        by_http.extend(rows);
        next = then;
    }
    by_http.reverse();
    assert_eq!(shown(&by_http, &rows), rows);
    let (mut found, next) = page(&mut http, "limit=500&from=1970-01-01&to=1993-03-01T00:30:00Z");
    found.reverse();
    assert_eq!((shown(&found, &span), next), (span, None));
}

#[test]
fn what_no_statement_by_time_of_business_can_answer_is_refused() {
    let (dir, server, mut http, _) = bank("booked-refused");
    let fine = ["statement", "anna", "--by", "booked", "--from", "2026-11-01T00:00:00.0000001Z"];
    assert_eq!(run_command(Some(&server), dir.path(), &fine).status.code(), Some(2));
    let early = ["statement", "anna", "--from", "1965-03-01"]; // of the log
    assert_eq!(run_command(Some(&server), dir.path(), &early).status.code(), Some(2));
    let place = page(&mut http, "limit=7").1.unwrap();
    let (of_log, _) = place.split_once('.').unwrap();
    for query in [
        "from=1965-03-01".to_owned(),
        "by=time".to_owned(),
        "by=booked&from=yesterday".to_owned(),
        format!("before={place}"),
        format!("by=booked&before={of_log}"),
        "by=booked&before=9999999-1-1.0.0".to_owned(),
        "by=booked&before=5-1-1.0.0".to_owned(),
    ] {
        let answer = http.get(&format!("/api/v1/accounts/anna/statement?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
}
