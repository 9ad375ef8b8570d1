//! Does a real server heed its policy file, and changes of it while it runs?

use std::time::Duration;

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, Config};
use walengine_net::message::ErrorCode;
use walengine_net::model::{
    Account, AccountId, Code, EventBytes, LedgerId, Offset, PartitionId, Verdict,
};
use walengine_tests::credentials::Credentials;
use walengine_tests::server::{Launch, Server, TestDir, text};
use walengine_tests::trio::wait_for;

/// Generous: what is asked for takes a second or two.
const DEADLINE: Duration = Duration::from_mins(1);
const PARTITION: PartitionId = PartitionId(0);

const OPERATORS: &str = "[[allow]]\nwho = \"admin/*\"\nmay = \"admin\"\n";
const WRITER: &str =
    "[[allow]]\nwho = \"client/w7\"\nmay = \"write\"\nbooks = [7]\nledgers = \"all\"\n";
const FOLLOWER: &str = "[[allow]]\nwho = \"client/log\"\nmay = \"read-log\"\n";
const READER: &str =
    "[[allow]]\nwho = \"client/log\"\nmay = \"read\"\nbooks = [7]\nledgers = \"all\"\n";

fn account(book: u32, number: u128) -> EventBytes {
    let id = AccountId(u128::from(book) << 96 | number);
    Account { id, ledger: LedgerId(978), code: Code(1), ..Account::default() }.to_bytes()
}

fn connect(server: &Server, credentials: &Credentials, who: &str) -> Client {
    let config = credentials.config(who, &server.address().to_string());
    Client::connect(Config { deadline: DEADLINE, ..config }).unwrap()
}

/// The verdict on a new account.
fn opened(client: &Client, book: u32, number: u128) -> Result<Verdict, ClientError> {
    let submitted = client.submit_all(&[account(book, number)])?;
    Ok(submitted.outcomes().next().unwrap().verdict)
}

/// Connections that were ended since their caller lost a right.
fn ended(operator: &Client) -> u64 {
    let report = operator.server_status(PARTITION).unwrap();
    let is_row = |name: &str| name.contains("right_ended");
    report.numbers.iter().find(|(_, name, _)| is_row(name)).map_or(0, |(.., value)| *value)
}

/// Waits until the server has said something so many times.
fn until_said(server: &Server, what: &str, times: usize) {
    wait_for(what, || server.log().matches(what).count() >= times, || server.log());
}

fn reload(server: &Server) {
    let id = server.process_id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

#[test]
fn a_server_heeds_its_policy_and_what_becomes_of_it() {
    let dir = TestDir::new("policy");
    let path = dir.path();
    let credentials = Credentials::at(path);
    for command in
        ["ca --cluster bank", "node 1 --address 1=127.0.0.1", "client w7 log", "admin ops"]
    {
        credentials.cert(command);
    }
    let tls = credentials.of("node-1");
    let (policy, named) = (tls.join("policy.toml"), path.join("named.toml"));
    let launch = Launch::new(path).set("--partitions", "1").set("--tls", tls.to_str().unwrap());

    // What is wrong at the start ends it.
    std::fs::write(&policy, "[[allow]]\nwho = \"client/w7\"\nmay = \"write\"\n").unwrap();
    let said = text(&launch.fails());
    assert!(said.contains("policy.toml, line 1: `write` needs books"), "{said}");
    let other = launch.clone().set("--policy", named.to_str().unwrap());
    let said = text(&other.fails());
    assert!(said.contains("there is no policy") && said.contains("named.toml"), "{said}");

    // The one that is named counts.
    std::fs::write(&named, format!("{OPERATORS}{WRITER}{FOLLOWER}")).unwrap();
    let mut server = other.serve();
    let (writer, follower) =
        (connect(&server, &credentials, "client-w7"), connect(&server, &credentials, "client-log"));
    assert_eq!(opened(&writer, 7, 1).unwrap(), Verdict::Ok);
    assert_eq!(opened(&writer, 8, 1).unwrap(), Verdict::Forbidden);
    let error = writer.read_log(PARTITION, Offset(0), 4096, &[]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Forbidden));
    let said = error.to_string();
    assert!(said.starts_with("forbidden: client/w7 lacks the right `read-log`"), "{said}");
    assert_eq!(opened(&follower, 7, 2).unwrap_err().code(), Some(ErrorCode::Forbidden));
    let mut subscription = follower.subscribe(PARTITION, Offset(0));
    subscription.next().unwrap();
    assert_eq!(subscription.next_offset(), Offset(1), "nothing of book 8 is logged");

    // A broken file is told once, and nothing changes.
    std::fs::write(&named, format!("{OPERATORS}[[allow]]\nwho = \"client/w7\"\nmay = [\"fly\"]\n"))
        .unwrap();
    reload(&server);
    let broken = "named.toml, line 6: \"fly\" is no right";
    until_said(&server, broken, 1);
    assert_eq!(opened(&writer, 7, 2).unwrap(), Verdict::Ok);
    subscription.next().unwrap();

    // Who loses every right is gone, and so is who follows a log that it may not see any more.
    std::fs::write(&named, format!("{OPERATORS}{READER}")).unwrap();
    let operator = connect(&server, &credentials, "admin-ops");
    wait_for("connections without a right stay", || ended(&operator) >= 2, || server.log());
    assert_eq!(server.log().matches(broken).count(), 1, "told once");
    // What goes out on the connection that was closed may have been taken, as far as the client knows.
    let error = opened(&writer, 7, 3).unwrap_err();
    let is_open = matches!(error, ClientError::OutcomeUnknown { .. });
    assert!(is_open || error.code() == Some(ErrorCode::Forbidden), "{error}");
    assert_eq!(opened(&writer, 7, 3).unwrap_err().code(), Some(ErrorCode::Forbidden));
    assert_eq!(subscription.next().unwrap_err().code(), Some(ErrorCode::Forbidden));
    assert_eq!(follower.list_accounts(PARTITION, None, 10, &[]).unwrap().accounts.len(), 2);

    // And comes back.
    std::fs::write(&named, format!("{OPERATORS}{WRITER}")).unwrap();
    until_said(&server, "is in force", 2);
    assert_eq!(opened(&writer, 7, 3).unwrap(), Verdict::Ok);
    server.stop();
}
