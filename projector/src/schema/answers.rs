//! Do the functions say what the views say, and what the log says? Over logs made by hand: two accounts and a striped one on
//! each partition, a chain over all of them, and times of business.

use walengine_net::model::{
    AccountId, Amount, Book, EventId, PartitionId, Transfer, TransferFlags, Verdict,
};
use walengine_net::partition::of_account;

use crate::database::Connection;
use crate::handmade::postgres::{Server, ask};
use crate::handmade::stripes::{fees, log};
use crate::handmade::{Decided, LEDGER, account, transfer};

/// Microseconds since 1970: before the log begins, in its midst, at both ends of what PostgreSQL knows, and none.
const BOOKED: [Option<i64>; 8] =
    [Some(3), None, Some(-86_400_000_001), Some(1), Some(i64::MIN), Some(12), Some(i64::MAX), None];

/// Account 2 pays account 1, with and without a time of business.
fn booked(partition: PartitionId) -> Vec<Decided> {
    let one = |(booked, number): (Option<i64>, u128)| {
        let flags = booked.map_or(TransferFlags::default(), |_| TransferFlags::BOOKED);
        let event = Transfer {
            id: EventId(1000 + 100 * u128::from(partition.0) + number),
            debit_account_id: account(partition, 2),
            amount: Amount(3 + number * number),
            user_data_64: booked.map_or(7, i64::cast_unsigned),
            flags,
            ..transfer(0, partition, partition, 0)
        };
        (event.to_bytes(), Verdict::Ok, None)
    };
    BOOKED.into_iter().zip(1..).map(one).collect()
}

fn uuid(id: AccountId) -> String {
    format!("'{:032x}'::uuid", id.0)
}

async fn same(connection: &Connection, one: &str, other: &str) -> String {
    let found = ask(connection, one).await;
    assert_eq!(found, ask(connection, other).await, "{one}");
    found
}

#[tokio::test]
async fn functions_answer_as_the_views_and_the_log_do() {
    let server = Server::start("answers");
    let made = |partition| {
        let mut log = log(partition, 4);
        log.push(booked(partition));
        log
    };
    let (_, connection) = server.write("made", made).await;
    let mut accounts = vec![fees(), AccountId(5)];
    accounts.extend((0..6).map(|one| account(PartitionId(one % 3), u128::from(one / 3 + 1))));
    let span = |from: &str, to: &str| {
        format!(
            "'epoch'::timestamptz + interval '{from} us', 'epoch'::timestamptz + interval '{to} us'"
        )
    };
    let mut rows = 0;
    for id in accounts.into_iter().map(uuid) {
        let columns = "booked_at, partition, log_offset, transfer_id, kind::text, code, other_account_id, debit, credit";
        let of_view = format!("FROM account_statements WHERE account_id = {id}");
        let view = format!("SELECT time, {columns}, balance, ledger {of_view}");
        let log_order = "ORDER BY time, partition, log_offset";
        let order = log_order.replace("time", "log_time");
        let function =
            format!("SELECT log_time, {columns}, balance, ledger FROM statement({id}) {order}");
        rows += same(&connection, &function, &format!("{view} {log_order}")).await.lines().count();
        let newest =
            format!("SELECT log_time, {columns}, balance, ledger FROM newest_movements({id}, 3)");
        same(
            &connection,
            &newest,
            &format!("{view} ORDER BY time DESC, partition DESC, log_offset DESC LIMIT 3"),
        )
        .await;
        let sums =
            "coalesce(sum(debit), 0), coalesce(sum(credit), 0), coalesce(sum(credit - debit), 0)";
        for at in 0..25 {
            let time = format!("'epoch'::timestamptz + interval '{at} us'");
            let sum = format!("SELECT {sums} {of_view} AND time < {time}");
            same(&connection, &format!("SELECT * FROM balance_at({id}, {time})"), &sum).await;
            // As it stands in README, without the types of its arguments.
            let literal =
                format!("SELECT * FROM balance_at({id}, '1970-01-01 00:00:00.0000{at:02}Z')");
            same(&connection, &literal, &sum).await;
            if id != uuid(fees()) {
                let upto = format!("SELECT {sums} {of_view} AND log_offset <= {at}");
                same(&connection, &format!("SELECT * FROM balance_after({id}, {at})"), &upto).await;
            }
            let all = format!(
                "SELECT debits_posted, credits_posted, balance FROM balances_at({time}) WHERE account_id = {id}"
            );
            let known = format!(
                "{sum} HAVING (SELECT min(time) FROM accounts WHERE id = {id} AND home IS NULL) < {time}"
            );
            same(&connection, &all, &known).await;
            let sum = format!("SELECT {sums} {of_view} AND coalesce(booked_at, time) < {time}");
            same(&connection, &format!("SELECT * FROM balance_at({id}, {time}, 'booked')"), &sum)
                .await;
            let all = format!(
                "SELECT debits_posted, credits_posted, balance FROM balances_at({time}, 'booked') WHERE account_id = {id}"
            );
            let known = format!("{sum} HAVING EXISTS (SELECT FROM accounts WHERE id = {id})");
            same(&connection, &all, &known).await;
        }
        for (from, to) in [("0", "8"), ("5", "14"), ("11", "12"), ("9", "9")] {
            let [log, booked] = ["time", "coalesce(booked_at, time)"].map(|time| {
                let order = format!("{time}, partition, log_offset");
                let bounds = span(from, to).replace(", '", &format!(" AND {time} < '"));
                format!(
                    "SELECT log_offset, debits, credits, credits - debits FROM (
                         SELECT partition, log_offset, time, booked_at, sum(debit) OVER up AS debits, sum(credit) OVER up AS credits
                           {of_view} WINDOW up AS (ORDER BY {order})) s
                      WHERE {time} >= {bounds} ORDER BY {order}"
                )
            });
            for (by, expected) in [("log", log), ("booked", booked)] {
                let found = format!(
                    "SELECT log_offset, debits_posted, credits_posted, balance FROM statement({id}, {}, '{by}')",
                    span(from, to)
                );
                same(&connection, &found, &expected).await;
            }
        }
    }
    assert!(rows >= 60, "{rows}");
    let booked = format!(
        "SELECT booked_at FROM transfers WHERE debit_account_id = {} ORDER BY log_offset",
        uuid(account(PartitionId(0), 2))
    );
    connection.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let expected = "1970-01-01 00:00:00.000003+00\n\n1969-12-30 23:59:59.999999+00\n1970-01-01 00:00:00.000001+00\n-infinity\n\
                    1970-01-01 00:00:00.000012+00\n294247-01-10 04:00:54.775807+00\n";
    assert_eq!(ask(&connection, &booked).await, expected);
    for (balances, by) in [("log_time", "log"), ("booked", "booked")] {
        let all =
            format!("SELECT account_id, balance FROM balances_at('infinity', '{by}') ORDER BY 1");
        let present = "SELECT account_id, balance FROM balances ORDER BY 1";
        assert_eq!(ask(&connection, &all).await, ask(&connection, present).await, "{balances}");
    }
    let moved = "kind IN ('transfer', 'post') AND (flags >> 11) % 2 = 0";
    let by_day = format!(
        "SELECT ledger, (time AT TIME ZONE 'UTC')::date, count(*), sum(amount) FROM transfers WHERE {moved} GROUP BY 1, 2 ORDER BY 2"
    );
    same(&connection, "SELECT * FROM volume_by_day ORDER BY day", &by_day).await;
    let by_day = by_day.replace("(time", "(coalesce(booked_at, time)");
    let days =
        same(&connection, "SELECT * FROM volume_by_booked_day ORDER BY booked_day", &by_day).await;
    assert!(
        days.starts_with(&format!("{},-infinity,3,", LEDGER.0)) && days.lines().count() == 4,
        "{days}"
    );
    let newest = "SELECT log_time FROM newest_time";
    let newest = ask(&connection, newest).await;
    assert_eq!(newest, ask(&connection, "SELECT max(time) FROM transfers").await);
}

#[tokio::test]
async fn partition_of_is_the_hash_of_the_protocol() {
    let server = Server::start("partition-of");
    let (_, connection) = server.schema("made").await;
    let mut books: Vec<u32> = (0..40).chain((0..32).map(|bit| 1 << bit)).collect();
    books.extend((1..60u32).map(|one| one.wrapping_mul(0x9e37_79b9)));
    books.extend([u32::MAX - 2, 0xffff, 0x1_0000, 0x8000_0000]);
    let ids: Vec<AccountId> =
        books.iter().map(|book| AccountId(u128::from(*book) << 96 | 0x4d)).collect();
    for partitions in [1, 2, 3, 7, 16, 64, 1000, u16::MAX] {
        let values: Vec<String> = ids.iter().map(|id| uuid(*id)).collect();
        let all = format!(
            "SELECT partition_of(id, {partitions}) FROM unnest(ARRAY[{}]) WITH ORDINALITY AS ids (id, n) ORDER BY n",
            values.join(", ")
        );
        let expected: Vec<_> =
            ids.iter().map(|id| of_account(*id, partitions).0.to_string()).collect();
        assert_eq!(ask(&connection, &all).await, expected.join("\n"), "of {partitions}");
    }
    let striped = AccountId(u128::from(Book::STRIPED.0) << 96 | 1);
    let all = format!(
        "SELECT partition_of({0}), partition_of({0}, 1), partition_of({1}), partition_of({1}, 3)",
        uuid(striped),
        uuid(account(PartitionId(2), 1))
    );
    assert_eq!(ask(&connection, &all).await, ",0,2,2");
}
