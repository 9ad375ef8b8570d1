//! Does the audit find every manual change and nothing else? Are readers kept from changing
//! anything?

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::model::{EventId, PartitionId};
use walengine_tests::log_fold::Folded;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::postgres::{OWNER, Postgres};
use walengine_tests::projector::{Projecting, Projector};
use walengine_tests::server::{Launch, Server, TestDir};

/// How long the projector may take to write what the log has.
const PATIENCE: Duration = Duration::from_mins(1);
const PARTITIONS: u16 = 2;
const BATCHES: usize = 12;
const BATCH_EVENTS: usize = 1_000;
/// More than the longest timeout of a reservation in the load.
const EXPIRED_AFTER: Duration = Duration::from_millis(2_500);

/// A server, a database, and a projector between them.
struct Setup {
    /// Removed at the end.
    dir: TestDir,
    postgres: Postgres,
    server: Server,
    projecting: Projecting,
    projector: Projector,
}

impl Setup {
    fn start(test: &str) -> Self {
        let dir = TestDir::new(test);
        let postgres = Postgres::start(&dir.path().join("pg"));
        let server = Launch::new(dir.path()).set("--partitions", "2").serve();
        let address = server.address().to_string();
        let projecting = Projecting::new(dir.path(), &address, &postgres.url());
        let projector = projecting.clone().set("--metrics", "127.0.0.1:0").spawn();
        Self { dir, postgres, server, projecting, projector }
    }

    fn load(&mut self, seed: u64) -> Folded {
        let mut client = self.server.client();
        load(&mut client, seed);
        // Pending transfers expire. Then the log does not change any more.
        thread::sleep(EXPIRED_AFTER);
        let folded = Folded::read(&mut client);
        self.projector.wait_until_at(&self.postgres, &folded.ends);
        folded
    }
}

/// Events of every kind to every partition.
fn load(client: &mut Client, seed: u64) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut mixed = Mixed::new(seed + u64::from(partition.0), partition, PARTITIONS);
        client.submit(partition, &mixed.accounts()).unwrap();
        for batch in 0..BATCHES {
            client.submit(partition, &mixed.batch(BATCH_EVENTS)).unwrap();
            let id = EventId(
                u128::from(seed) << 80 | u128::from(partition.0) << 64 | (batch as u128 + 1),
            );
            client.append_records(partition, &[(id, b"anything at all")], None).unwrap();
        }
    }
}

#[test]
fn tables_are_an_independent_fold_of_a_log_with_events_of_every_kind() {
    let mut setup = Setup::start("projector-kinds");
    let folded = setup.load(0x5eed_0100);
    folded.agrees_with(&setup.postgres);
    let kinds = setup.postgres.ask("SELECT count(DISTINCT kind) FROM walengine.transfers");
    let states = setup.postgres.ask("SELECT count(DISTINCT state) FROM walengine.reservations");
    let refusals =
        setup.postgres.ask("SELECT count(DISTINCT verdict) FROM walengine.refused_events");
    println!("{} transfers, {} refused, {refusals} verdicts", folded.transfers(), folded.refused());
    assert!(kinds.parse::<u64>().unwrap() >= 4, "{kinds} kinds");
    assert!(states.parse::<u64>().unwrap() >= 3, "{states} states");
    assert!(refusals.parse::<u64>().unwrap() >= 4, "{refusals} verdicts");
    let expired = "SELECT count(*) > 0 FROM walengine.transfers WHERE kind = 'expire'";
    assert_eq!(setup.postgres.ask(expired), "t", "some have expired");
    setup.projecting.audit_finds_no_difference();
    // Whoever looks at the projector sees that there was an audit.
    setup.projector.wait_to_show("audit_outcome{outcome=\"equal\"} 1");
    setup.projector.wait_to_show("audit_differences 0");
    let next =
        setup.postgres.ask("SELECT next_offset FROM walengine.positions WHERE partition = 1");
    setup.projector.wait_to_show(&format!("audit_next_offset{{partition=\"1\"}} {next}"));
    setup.projector.stop();
    setup.server.stop();
}

/// How the newest audit has ended, how many differences it has found, and whether it said these words; nothing where it has not ended.
fn newest_audit(setup: &Setup, words: &str) -> String {
    let words = words.replace('\'', "''");
    setup.postgres.ask(&format!(
        "SELECT outcome, differences, strpos(said, '{words}') > 0, ended_at IS NOT NULL, cardinality(next_offsets)
           FROM walengine.audits ORDER BY began_at DESC LIMIT 1"
    ))
}

#[test]
fn audit_names_every_kind_of_change() {
    let mut setup = Setup::start("projector-audit");
    setup.load(0x5eed_0300);
    setup.projector.stop();
    let some = |sql: &str| setup.postgres.ask(sql);
    let offset = some("SELECT log_offset FROM walengine.transfers_p0001 ORDER BY random() LIMIT 1");
    let changes: &[(&str, String, String, &str)] = &[
        (
            "one changed amount",
            format!("UPDATE walengine.transfers_p0001 SET amount = amount + 1 WHERE log_offset = {offset}"),
            format!("UPDATE walengine.transfers_p0001 SET amount = amount - 1 WHERE log_offset = {offset}"),
            "amount is",
        ),
        (
            "a missing row",
            format!(
                "CREATE TABLE kept AS SELECT * FROM walengine.transfers_p0001 WHERE log_offset = {offset};
                 DELETE FROM walengine.transfers_p0001 WHERE log_offset = {offset}"
            ),
            "INSERT INTO walengine.transfers_p0001 SELECT * FROM kept".to_owned(),
            "the row is missing",
        ),
        (
            "a doubled row",
            "ALTER TABLE walengine.transfers_p0001 DROP CONSTRAINT transfers_p0001_pkey;
             DROP INDEX walengine.transfers_p0001_id_idx;
             INSERT INTO walengine.transfers_p0001 SELECT * FROM kept"
                .to_owned(),
            format!(
                "DELETE FROM walengine.transfers_p0001 WHERE ctid = (SELECT max(ctid)
                   FROM walengine.transfers_p0001 WHERE log_offset = {offset})"
            ),
            "more than once",
        ),
        (
            "a wrong balance",
            "UPDATE walengine.accounts_p0000 SET credits_posted = credits_posted + 1
              WHERE log_offset = 7"
                .to_owned(),
            "UPDATE walengine.accounts_p0000 SET credits_posted = credits_posted - 1
              WHERE log_offset = 7"
                .to_owned(),
            "credits_posted is",
        ),
        (
            "a wrong state",
            "CREATE TABLE kept_state AS SELECT * FROM walengine.reservations_p0000
              WHERE state = 'posted' LIMIT 1;
             UPDATE walengine.reservations_p0000 SET state = 'voided'
              WHERE id = (SELECT id FROM kept_state)"
                .to_owned(),
            "UPDATE walengine.reservations_p0000 SET state = 'posted'
              WHERE id = (SELECT id FROM kept_state)"
                .to_owned(),
            "state is voided, by the log posted",
        ),
        (
            "another reason",
            "UPDATE walengine.refused_events_p0000 SET reason = reason || '!'
              WHERE log_offset = (SELECT min(log_offset) FROM walengine.refused_events_p0000)"
                .to_owned(),
            "UPDATE walengine.refused_events_p0000 SET reason = rtrim(reason, '!')
              WHERE log_offset = (SELECT min(log_offset) FROM walengine.refused_events_p0000)"
                .to_owned(),
            "reason is",
        ),
    ];
    for (what, change, mend, words) in changes {
        setup.postgres.ask(change);
        let (equal, said) = setup.projecting.audit();
        assert!(!equal && said.contains(words), "{what}: {said}");
        let named = Projecting::differences(&said);
        assert_eq!(named, 1, "{what} is one difference: {said}");
        // A sum over a row that was changed differs, too.
        let all = said.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(newest_audit(&setup, words), format!("different,{all},t,t,2"), "{what}: {said}");
        setup.postgres.ask(mend);
        let (equal, said) = setup.projecting.audit();
        assert!(equal, "{what}, mended: {said}");
        assert_eq!(newest_audit(&setup, "All tables"), "equal,0,t,t,2", "{what}, mended");
    }
    an_audit_that_does_not_come_to_its_end_has_not_passed(&setup);
    an_outcome_that_may_not_be_written_is_told(&setup);
    setup.server.stop();
}

fn an_audit_that_does_not_come_to_its_end_has_not_passed(setup: &Setup) {
    setup.postgres.ask("ALTER TABLE walengine.opaque_records_p0001 RENAME TO opaque_gone");
    let output = setup.projecting.run(&["audit"]);
    assert_eq!(output.status.code(), Some(13));
    assert_eq!(newest_audit(setup, "opaque_records_p0001\" is missing"), "failed,,t,t,");
    setup.postgres.ask("ALTER TABLE walengine.opaque_gone RENAME TO opaque_records_p0001");
    // One that is killed while it waits for a table.
    thread::scope(|scope| {
        let held = "BEGIN; LOCK TABLE walengine.opaque_records_p0001; SELECT pg_sleep(600) AS held";
        scope.spawn(|| setup.postgres.ask_as(OWNER, held));
        let by = Instant::now() + PATIENCE;
        let wait_for = |what: &str| {
            while setup.postgres.ask(what) == "0" {
                assert!(Instant::now() < by, "{what}");
                thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS held' AND wait_event = 'PgSleep'",
        );
        let mut audit = setup.projecting.spawn_command("audit");
        wait_for("SELECT count(*) FROM walengine.audits WHERE ended_at IS NULL");
        audit.kill();
        setup.postgres.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%AS held'",
        );
    });
    assert_eq!(newest_audit(setup, ""), ",,,f,");
    let status = setup.projecting.run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("last audit: failed") && status.contains("has not ended"), "{status}");
}

fn an_outcome_that_may_not_be_written_is_told(setup: &Setup) {
    setup.postgres.ask("CREATE ROLE looks LOGIN IN ROLE walengine_reader");
    let known = "SELECT count(*) FROM walengine.audits";
    let before = setup.postgres.ask(known);
    let address = setup.server.address().to_string();
    let url = setup.postgres.url_of("looks", OWNER);
    let output = Projecting::new(setup.dir.path(), &address, &url).run(&["audit"]);
    let [said, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert_eq!(output.status.code(), Some(0), "{said}{error}");
    assert!(said.contains("partition 1: equal at position"), "{said}");
    assert!(error.contains("the outcome of this audit is not in table"), "{error}");
    assert_eq!(setup.postgres.ask(known), before);
}

fn metrics_tell_how_far_it_is(setup: &Setup) {
    let log = setup.projector.log();
    let (_, behind) = log.split_once("metrics on http://").expect("it says where");
    let address = behind.split('/').next().unwrap();
    // A reservation may expire at any moment, which adds to the log.
    let by = Instant::now() + PATIENCE;
    loop {
        let text = scraped(address);
        let missing = missing_metrics(setup, &text);
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < by, "{missing:?} are not in {text}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn scraped(address: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    text
}

/// Lines that the metrics must have for the present position of PostgreSQL, and lack.
fn missing_metrics(setup: &Setup, text: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for partition in 0..PARTITIONS {
        let next = "SELECT next_offset FROM walengine.positions WHERE partition =";
        let next = setup.postgres.ask(&format!("{next} {partition}"));
        for (name, value) in
            [("next_offset", next.as_str()), ("lag_records", "0"), ("lag_seconds", "0")]
        {
            let line = format!("walengine_projector_{name}{{partition=\"{partition}\"}} {value}");
            if !text.lines().any(|found| found == line) {
                missing.push(line);
            }
        }
        let quantile =
            format!("transaction_seconds{{partition=\"{partition}\",quantile=\"0.99\"}}");
        if !text.contains(&quantile) {
            missing.push(quantile);
        }
    }
    missing
}

#[test]
fn readers_read_and_change_nothing_and_wait_for_their_writes() {
    let mut setup = Setup::start("projector-readers");
    setup.load(0x5eed_0400);
    setup
        .postgres
        .ask("CREATE ROLE reader LOGIN IN ROLE walengine_reader; CREATE ROLE stranger LOGIN");
    let ask = |user: &str, sql: &str| setup.postgres.ask_as(user, sql);
    assert!(ask("reader", "SELECT * FROM walengine.balances LIMIT 1").is_ok());
    assert!(ask("reader", "SELECT * FROM walengine.transfer_states LIMIT 1").is_ok());
    for table in [
        "accounts",
        "transfers",
        "transfers_p0000",
        "reservations",
        "refused_events",
        "opaque_records",
        "account_events",
        "positions",
        "log",
        "verdicts",
        "schema_versions",
        "audits",
    ] {
        for sql in ["DELETE FROM", "TRUNCATE", "INSERT INTO", "DROP TABLE"] {
            let tail = if sql == "INSERT INTO" { "DEFAULT VALUES" } else { "" };
            let refused = ask("reader", &format!("{sql} walengine.{table} {tail}")).unwrap_err();
            let is_refusal =
                refused.contains("permission denied") || refused.contains("must be owner");
            assert!(is_refusal, "{sql} {table}: {refused}");
        }
        assert!(ask("stranger", &format!("SELECT * FROM walengine.{table}")).is_err(), "{table}");
    }
    // Every table and column has a comment.
    let silent = setup.postgres.ask(
        "SELECT string_agg(c.relname || coalesce('.' || a.attname, ''), ' ')
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          WHERE n.nspname = 'walengine' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            AND c.relname <> 'transfer_states'
            AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)",
    );
    assert_eq!(silent, "", "tables and columns without a comment");

    let client = setup.server.client();
    let partition = PartitionId(1);
    let mut mixed = Mixed::new(0x5eed_0500, partition, PARTITIONS);
    for round in 0..20 {
        let events = mixed.batch(50);
        let submitted = client.submit(partition, &events).unwrap();
        let token = submitted.tokens.first().expect("something was logged").to_string();
        let seen =
            ask("reader", &format!("SELECT walengine.walengine_wait_for('{token}')")).unwrap();
        assert_eq!(seen, "t", "round {round}");
        let next =
            setup.postgres.ask("SELECT next_offset FROM walengine.positions WHERE partition = 1");
        let offset: u64 = token.rsplit('-').next().unwrap().parse().unwrap();
        assert!(next.parse::<u64>().unwrap() > offset, "{next} {offset}");
    }
    let cluster = client.info().cluster;
    let far = format!("{:032x}-0-999999999", cluster.0);
    let answer = |sql: String| ask("reader", &sql);
    let seen = answer(format!("SELECT walengine.walengine_wait_for('{far}', '100 ms')"));
    assert_eq!(seen.as_deref(), Ok("f"), "it says that it can't yet");
    let other =
        answer(format!("SELECT walengine.walengine_wait_for('{:032x}-0-1')", cluster.0 ^ 1));
    assert!(other.unwrap_err().contains("is of cluster"), "another cluster's token");
    let wrong = answer("SELECT walengine.walengine_wait_for('nonsense')".to_owned());
    assert!(wrong.unwrap_err().contains("is not a token"));
    let blind = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT walengine.walengine_wait_for(";
    assert!(answer(format!("{blind}'{far}')")).unwrap_err().contains("can't see"));

    let run = setup.projecting.run(&["wait-for", &far, "--timeout", "1"]);
    let waited = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{waited}");
    let status = setup.projecting.run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.lines().count(), 1 + usize::from(PARTITIONS), "{status}");
    metrics_tell_how_far_it_is(&setup);
    setup.projector.stop();
    setup.server.stop();
}
