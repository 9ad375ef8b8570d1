//! Do the functions say what the views say, and what the log says? Over logs made by hand: two accounts and a striped one on
//! each partition, a chain over all of them, and times of business.

use walengine_net::model::{
    AccountId, Amount, Arrival, Book, EventId, Mail, PartitionId, Resolved, Sent, Transfer,
    TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_account;

use crate::database::Connection;
use crate::handmade::postgres::{Server, ask};
use crate::handmade::stripes::{fees, log};
use crate::handmade::{Decided, LAST, LEDGER, MIDST, account, transfer, transit};

const DAY: i64 = 86_400_000_000;
/// Microseconds since 1970: before the log begins, in its midst, at both ends of what PostgreSQL knows, and none. 1 January 1970 is the
/// 13th day of its span, so one of these is in the second half of it, and one in the next.
const BOOKED: [Option<i64>; 10] = [
    Some(3),
    None,
    Some(-DAY - 1),
    Some(1),
    Some(i64::MIN),
    Some(12),
    Some(i64::MAX),
    None,
    Some(8 * DAY),
    Some(30 * DAY),
];

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

/// A payment and a chain of two between accounts of two partitions, all with a time of business: as their home has them, and as
/// they arrive. The chain debits the other partition, too.
fn across(partition: PartitionId) -> Vec<Vec<Decided>> {
    let (pays, linked) = (TransferFlags::BOOKED, TransferFlags::BOOKED.with(TransferFlags::LINKED));
    let all = [(MIDST, LAST, 4u64, pays), (LAST, MIDST, 2, linked), (MIDST, LAST, 13, pays)];
    let transfers = all.into_iter().zip(500..).map(|((from, to, booked, flags), id)| Transfer {
        user_data_64: booked,
        flags,
        ..transfer(id, from, to, id / 4)
    });
    let place: usize = plain(MIDST).iter().map(Vec::len).sum();
    let places = u64::try_from(place).unwrap()..;
    let [mut sent, mut told, mut arrived] = [const { Vec::new() }; 3];
    let mail = Mail { home: MIDST, previous: 0, settled_below: places.start };
    arrived.push((mail.to_bytes(), Verdict::Ok, None));
    for (transfer, place) in transfers.zip(places) {
        let word = Word {
            id: transfer.id,
            place,
            verdict: Verdict::Ok,
            amount: transfer.amount,
            pending_id: EventId(0),
            is_linked: transfer.flags.contains(TransferFlags::LINKED),
        };
        let is_debited = transfer.debit_account_id == account(MIDST, 1);
        let [debit, credit] = if is_debited {
            [transfer.debit_account_id, transit(LAST)]
        } else {
            [transit(LAST), transfer.credit_account_id]
        };
        let resolved = Resolved {
            debit_account_id: debit,
            credit_account_id: credit,
            amount: transfer.amount,
            index: 0,
            ledger: LEDGER,
            code: transfer.code,
        };
        sent.push((transfer.to_bytes(), Verdict::InDoubt, None));
        told.push((word.to_bytes(), Verdict::Ok, Some(resolved)));
        let arrival = Arrival { sent: Sent::Transfer(transfer), place };
        arrived.push((arrival.to_bytes(), Verdict::Ok, None));
    }
    match partition {
        MIDST => vec![sent, told],
        LAST => vec![arrived],
        _ => Vec::new(),
    }
}

/// What happens on a partition alone, but for stripes.
fn plain(partition: PartitionId) -> Vec<Vec<Decided>> {
    let mut log = log(partition, 4);
    log.push(booked(partition));
    log
}

fn made(partition: PartitionId) -> Vec<Vec<Decided>> {
    let mut log = plain(partition);
    log.extend(across(partition));
    log
}

#[tokio::test]
async fn functions_answer_as_the_views_and_the_log_do() {
    let server = Server::start("answers");
    let (_, connection) = server.write("made", made).await;
    answer_alike(&connection, 1).await;
}

/// From marks behind each entry, and behind some.
#[tokio::test]
async fn functions_answer_from_marks_as_they_do_without() {
    let server = Server::start("marks");
    for (schema, often) in [("each", 1), ("some", 3)] {
        let is_marked = |number: usize| number.is_multiple_of(often);
        let (_, connection) = server.write_marked(schema, made, is_marked).await;
        let marks = ask(&connection, "SELECT count(*) FROM account_marks").await;
        assert!(marks.parse::<u32>().unwrap() > 10, "{marks}");
        let all = "SELECT count(*) FILTER (WHERE log_offset = next_offset), count(*) > 6 FROM balance_marks JOIN positions USING (partition)";
        assert_eq!(ask(&connection, all).await, if often == 1 { "3,t" } else { "2,t" });
        answer_alike(&connection, 4).await;
    }
}

#[tokio::test]
async fn an_account_that_has_changed_often_is_marked_by_the_writer() {
    let server = Server::start("often");
    let many = |partition| {
        let mut log = made(partition);
        let one = |id: u128| {
            let event = Transfer {
                debit_account_id: account(partition, 2),
                ..transfer(10_000 * u128::from(partition.0 + 1) + id, partition, partition, id)
            };
            let to_fees = Transfer { credit_account_id: fees(), ..event };
            let event = if id.is_multiple_of(2) { event } else { to_fees };
            (Transfer { flags: TransferFlags::default(), ..event }.to_bytes(), Verdict::Ok, None)
        };
        log.extend([(1..=700).map(one).collect(), (701..=2_400).map(one).collect()]);
        log
    };
    let (_, connection) = server.write("made", many).await;
    let marks = "SELECT count(*), count(DISTINCT account_id), (SELECT count(*) FROM balance_marks) FROM account_marks";
    assert_eq!(ask(&connection, marks).await, "9,7,0");
    let wrong = "SELECT * FROM account_marks k CROSS JOIN LATERAL (
            SELECT coalesce(sum(m.debit), 0) AS d, coalesce(sum(m.credit), 0) AS c, coalesce(sum(m.debit) FILTER (WHERE m.booked_at IS NOT NULL), 0) AS db
              FROM movements m WHERE m.account_id = k.account_id AND m.partition = k.partition AND m.log_offset < k.log_offset) AS s
          WHERE (k.debits_posted, k.credits_posted, k.debits_booked) IS DISTINCT FROM (s.d, s.c, s.db)";
    assert_eq!(ask(&connection, wrong).await, "");
}

#[tokio::test]
async fn questions_by_id_read_one_partition_and_in_transit_accounts_have_none() {
    let server = Server::start("one-partition");
    let (database, connection) = server.write("made", made).await;
    let columns = "ledger, code, balance, available, debits_posted, credits_posted, debits_pending, credits_pending, version, closed";
    for id in [fees(), account(PartitionId(1), 1), account(PartitionId(2), 2), AccountId(5)] {
        let id = uuid(id);
        let view = format!("SELECT {columns} FROM balances WHERE account_id = {id}");
        same(&connection, &format!("SELECT {columns} FROM balance_of({id})"), &view).await;
    }
    let reads = "SELECT relname FROM pg_stat_xact_user_tables WHERE schemaname = 'made' AND relname ~ '^(accounts|transfers|arrivals|account_marks|booked_sums)_p'
                    AND coalesce(idx_scan, 0) + seq_scan > 0 ORDER BY 1";
    let all = ["balance_of({})", "balance_at({}, 'infinity', 'booked')", "newest_movements({})"];
    for ask_for in all.into_iter().chain(["statement({}, by => 'booked')"]) {
        let ask_for = ask_for.replace("{}", &uuid(account(LAST, 1)));
        // What a session has read is counted for some time.
        let fresh = database.connect().await.unwrap();
        fresh.batch_execute("SET search_path = made").await.unwrap();
        fresh.batch_execute(&format!("BEGIN; SELECT * FROM {ask_for}")).await.unwrap();
        let read = ask(&fresh, reads).await;
        let is_other = |line: &&str| !line.ends_with("_p0001");
        assert!(read.contains("accounts_p0001"), "{ask_for}: {read}");
        assert_eq!(read.lines().find(is_other), None, "{ask_for}");
    }
    for ask_for in ["balance_at({}, 'infinity')", "statement({})", "newest_movements({})"] {
        let statement = format!("SELECT * FROM {}", ask_for.replace("{}", &uuid(transit(LAST))));
        let error = connection.batch_execute(&statement).await.unwrap_err();
        let message = error.as_db_error().map(|error| error.hint().unwrap_or_default().to_owned());
        assert!(message.is_some_and(|hint| hint.contains("in_transit")), "{ask_for}");
    }
    let booked = "SELECT booked_at IS NOT NULL, sides FROM arrivals WHERE id IS NOT NULL AND kind = 'transfer' ORDER BY log_offset";
    assert_eq!(ask(&connection, booked).await, "t,\nt,1\nt,2");
}

/// What statements come to.
const SUMS: &str =
    "coalesce(sum(debit), 0), coalesce(sum(credit), 0), coalesce(sum(credit - debit), 0)";

/// Balances by time of business, of one account and among all.
async fn booked_alike(connection: &Connection, id: &str, time: &str) {
    let sum = format!(
        "SELECT {SUMS} FROM account_statements WHERE account_id = {id} AND coalesce(booked_at, time) < {time}"
    );
    same(connection, &format!("SELECT * FROM balance_at({id}, {time}, 'booked')"), &sum).await;
    let all = format!(
        "SELECT debits_posted, credits_posted, balance FROM balances_at({time}, 'booked') WHERE account_id = {id}"
    );
    let known = format!("{sum} HAVING EXISTS (SELECT FROM accounts WHERE id = {id})");
    same(connection, &all, &known).await;
}

/// At each of so many times.
async fn answer_alike(connection: &Connection, every: usize) {
    connection.batch_execute("SET jit = off").await.unwrap();
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
        rows += same(connection, &function, &format!("{view} {log_order}")).await.lines().count();
        let newest =
            format!("SELECT log_time, {columns}, balance, ledger FROM newest_movements({id}, 3)");
        same(
            connection,
            &newest,
            &format!("{view} ORDER BY time DESC, partition DESC, log_offset DESC LIMIT 3"),
        )
        .await;
        for at in (0..25).step_by(every) {
            let time = format!("'epoch'::timestamptz + interval '{at} us'");
            let sum = format!("SELECT {SUMS} {of_view} AND time < {time}");
            same(connection, &format!("SELECT * FROM balance_at({id}, {time})"), &sum).await;
            // As it stands in README, without the types of its arguments.
            let literal =
                format!("SELECT * FROM balance_at({id}, '1970-01-01 00:00:00.0000{at:02}Z')");
            same(connection, &literal, &sum).await;
            if id != uuid(fees()) {
                let upto = format!("SELECT {SUMS} {of_view} AND log_offset <= {at}");
                same(connection, &format!("SELECT * FROM balance_after({id}, {at})"), &upto).await;
            }
            let all = format!(
                "SELECT debits_posted, credits_posted, balance FROM balances_at({time}) WHERE account_id = {id}"
            );
            let known = format!(
                "{sum} HAVING (SELECT min(time) FROM accounts WHERE id = {id} AND home IS NULL) < {time}"
            );
            same(connection, &all, &known).await;
            booked_alike(connection, &id, &time).await;
        }
        // Counted from the beginning of a span of 32 days, and from its end back.
        for at in [-20, -1, 3, 4, 5, 8, 9, 18, 19, 20, 30, 31, 40] {
            let time = format!("'epoch'::timestamptz + interval '{at} days'");
            booked_alike(connection, &id, &time).await;
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
                same(connection, &found, &expected).await;
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
                    1970-01-01 00:00:00.000012+00\n294247-01-10 04:00:54.775807+00\n\n1970-01-09 00:00:00+00\n1970-01-31 00:00:00+00";
    assert_eq!(ask(connection, &booked).await, expected);
    for (balances, by) in [("log_time", "log"), ("booked", "booked")] {
        let all =
            format!("SELECT account_id, balance FROM balances_at('infinity', '{by}') ORDER BY 1");
        let present = "SELECT account_id, balance FROM balances ORDER BY 1";
        assert_eq!(ask(connection, &all).await, ask(connection, present).await, "{balances}");
    }
    let sums = "SELECT partition, account_id, booked_span((booked_at AT TIME ZONE 'UTC')::date), sum(debit), sum(credit)
                  FROM movements WHERE booked_at IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let kept = "SELECT partition, account_id, first_day, debits, credits FROM booked_sums ORDER BY 1, 2, 3";
    assert!(same(connection, kept, sums).await.lines().count() > 10);
    let moved = "kind IN ('transfer', 'post') AND (flags >> 11) % 2 = 0";
    let by_day = format!(
        "SELECT ledger, (time AT TIME ZONE 'UTC')::date, count(*), sum(amount) FROM transfers WHERE {moved} GROUP BY 1, 2 ORDER BY 2"
    );
    same(connection, "SELECT * FROM volume_by_day ORDER BY day", &by_day).await;
    let by_day = by_day.replace("(time", "(coalesce(booked_at, time)");
    let days =
        same(connection, "SELECT * FROM volume_by_booked_day ORDER BY booked_day", &by_day).await;
    assert!(
        days.starts_with(&format!("{},-infinity,3,", LEDGER.0)) && days.lines().count() == 6,
        "{days}"
    );
    let newest = "SELECT log_time FROM newest_time";
    let newest = ask(connection, newest).await;
    assert_eq!(newest, ask(connection, "SELECT max(time) FROM transfers").await);
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
