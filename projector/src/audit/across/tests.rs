//! Does SQL show a striped account once, and does the audit see what does not fit?

use super::*;
use crate::handmade::postgres::{Server, ask};
use crate::handmade::stripes::{CLOSING, fees, home, log, others};
use crate::handmade::{PARTITIONS, created};

/// Of the striped account, as the logs end.
const CREDITS: u128 = 30 + 31 + 32 + 1 + 2;

#[tokio::test]
async fn a_striped_account_is_one_for_people_and_gatherings_are_none_of_theirs() {
    let server = Server::start("stripes");
    for entries in 0..4 {
        let logs = |partition| log(partition, entries);
        let (database, connection) = server.write(&format!("until_{entries}"), logs).await;
        let found = differences(&database, &connection).await.unwrap();
        assert_eq!(found, [], "{entries} entries");
        let pairs = "SELECT debits_posted = credits_posted FROM trial_balance";
        assert_eq!(ask(&connection, pairs).await, "t");
        let shown = "SELECT count(*) FROM spanning_transfers";
        assert_eq!(ask(&connection, shown).await, "0", "{entries} entries");
    }
    let (database, connection) = server.write("stripes", |partition| log(partition, 4)).await;
    let sql = async |query: &str| ask(&connection, query).await;
    let versions = "SELECT count(*), sum(version) FROM account_stripes";
    let stripes = sql(versions).await;
    let (count, version) = stripes.split_once(',').unwrap();
    assert_eq!(count, PARTITIONS.to_string());
    let whole =
        "SELECT balance, available, debits_posted, credits_posted, debits_pending, credits_pending,
                        version, closed
                   FROM balances WHERE account_id >= 'fffffffe-0000-0000-0000-000000000000'";
    let left = CREDITS - 20;
    assert_eq!(sql(whole).await, format!("{left},{left},20,{CREDITS},0,0,{version},t"));
    let all = "SELECT count(*), count(DISTINCT account_id) FROM balances";
    let accounts = usize::from(PARTITIONS) * created(home()).len() + 1;
    assert_eq!(sql(all).await, format!("{accounts},{accounts}"));
    let statement = format!(
        "SELECT debit, credit, balance FROM account_statements WHERE account_id = '{:032x}'
          ORDER BY time, partition, log_offset",
        fees().0
    );
    let rows = sql(&statement).await;
    let (mut balance, mut moved) = (0, Vec::new());
    for row in rows.lines() {
        let numbers: Vec<i128> = row.split(',').map(|number| number.parse().unwrap()).collect();
        balance += numbers[1] - numbers[0];
        assert_eq!(numbers[2], balance, "{rows}");
        moved.push(numbers[1] - numbers[0]);
    }
    moved.sort_unstable();
    assert_eq!(moved, [-20, 1, 2, 30, 31, 32], "no gathering");
    assert_eq!(sql("SELECT count(*) FROM transfer_states WHERE id IS NULL").await, "0");
    assert_eq!(sql("SELECT count(*) FROM transfers WHERE id IS NULL").await, "1");
    let transits =
        "SELECT sum(debits_posted), sum(credits_posted), sum(credits_pending) FROM in_transit";
    assert_eq!(sql(transits).await, "25,25,0");
    assert_eq!(sql("SELECT in_transit FROM trial_balance").await, "0");
    let closings = format!("SELECT count(*) FROM account_events WHERE id = '{:032x}'", CLOSING.0);
    assert_eq!(sql(&closings).await, PARTITIONS.to_string());
    broken_promises_are_named(&database, &connection).await;
}

async fn broken_promises_are_named(database: &Database, connection: &Client) {
    let [first, second] = others();
    let part = |table, partition| database.part(table, partition);
    let stripe = part("accounts", first);
    let (is_it, given) = (format!("id = '{:032x}'", fees().0), part("arrivals", second));
    for (change, mend, expected) in [
        (
            format!("UPDATE {given} SET amount = amount + 1 WHERE home = {first}"),
            format!("UPDATE {given} SET amount = amount - 1 WHERE home = {first}"),
            "moved 25, at partition",
        ),
        (
            format!("UPDATE {stripe} SET code = code + 1 WHERE {is_it}"),
            format!("UPDATE {stripe} SET code = code - 1 WHERE {is_it}"),
            "has created another one",
        ),
        (
            format!("UPDATE {0} SET home = {first} WHERE {is_it}", part("accounts", home())),
            format!("UPDATE {0} SET home = NULL WHERE {is_it}", part("accounts", home())),
            "has created no such account",
        ),
    ] {
        connection.batch_execute(&change).await.unwrap();
        let found = differences(database, connection).await.unwrap();
        assert!(found.iter().any(|(_, what)| what.contains(expected)), "{change}: {found:?}");
        connection.batch_execute(&mend).await.unwrap();
        assert_eq!(differences(database, connection).await.unwrap(), [], "{mend}");
    }
}
