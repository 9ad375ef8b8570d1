//! Holds marks and the sums by time of business against the rows of transfers and arrivals, which the audit has compared with the
//! log. A mark that is missing is no difference, but for one of all accounts: answers are the same without it.

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;
use walengine_net::model::PartitionId;

use super::compare::TableReport;
use crate::booked::of_movements;
use crate::database::{Database, columns};
use crate::limits::DIFFERENCES_MAX;
use crate::tables::{ACCOUNT_MARKS, BALANCE_MARKS, BOOKED_SUMS, Table};
use crate::trouble::Trouble;

/// Compares the three tables of a partition, in the client's transaction.
pub async fn compare(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<[TableReport; 3], Trouble> {
    let part = |table: &Table| database.part(table.name, partition);
    let movements = database.name("movements");
    let sums = format!(
        "WITH expected ({0}) AS ({1})
         SELECT format('account %s, span of %s', account_id, first_day),
                e.debits || ' and ' || e.credits, d.debits || ' and ' || d.credits
           FROM expected e FULL JOIN {2} d USING (partition, account_id, first_day)
          ORDER BY account_id, first_day",
        columns(&BOOKED_SUMS),
        of_movements(&movements, &database.name("booked_span"), partition),
        part(&BOOKED_SUMS)
    );
    // Each mark stands between the rows of its account, and sums up those before it.
    let marks = format!(
        "SELECT format('account %s, offset %s', account_id, log_offset), concat_ws(' ', d, c, db, cb), found
           FROM (SELECT account_id, log_offset, found, coalesce(sum(debit) OVER up, 0) AS d, coalesce(sum(credit) OVER up, 0) AS c,
                        coalesce(sum(debit) FILTER (WHERE is_booked) OVER up, 0) AS db,
                        coalesce(sum(credit) FILTER (WHERE is_booked) OVER up, 0) AS cb
                   FROM (SELECT account_id, log_offset, 1 AS rank, debit, credit, booked_at IS NOT NULL AS is_booked,
                                null AS found
                           FROM {movements} WHERE partition = {partition}
                          UNION ALL
                         SELECT account_id, log_offset, 0, 0, 0, false,
                                concat_ws(' ', debits_posted, credits_posted, debits_booked, credits_booked) FROM {}) AS both_kinds
                 WINDOW up AS (PARTITION BY account_id ORDER BY log_offset, rank ROWS UNBOUNDED PRECEDING)) AS summed
          WHERE found IS NOT NULL ORDER BY account_id, log_offset",
        part(&ACCOUNT_MARKS)
    );
    let all = format!(
        "SELECT format('offset %s', b.log_offset),
                concat(count(m.account_id), ' accounts, without ', (
                    SELECT count(*) FROM (SELECT account_id, min(log_offset) AS first FROM {movements}
                                           WHERE partition = {partition} GROUP BY 1) AS f
                     WHERE f.first < b.log_offset AND NOT EXISTS (
                           SELECT FROM {marks} k WHERE k.log_offset = b.log_offset AND k.account_id = f.account_id))),
                concat(b.accounts, ' accounts, without 0')
           FROM {} b LEFT JOIN {marks} m USING (log_offset) GROUP BY b.log_offset, b.accounts ORDER BY 1",
        part(&BALANCE_MARKS),
        marks = part(&ACCOUNT_MARKS)
    );
    Ok([
        report(client, ACCOUNT_MARKS, &marks).await?,
        report(client, BALANCE_MARKS, &all).await?,
        report(client, BOOKED_SUMS, &sums).await?,
    ])
}

/// The report of a query that has what a row is, what it should say and what it says.
pub(super) async fn report(
    client: &Client,
    table: Table,
    statement: &str,
) -> Result<TableReport, Trouble> {
    let (mut rows, mut differences, mut differing) = (0, Vec::new(), 0);
    let mut digests = [blake3::Hasher::new(), blake3::Hasher::new()];
    // It takes as long as the table of transfers is large.
    let nothing: [&str; 0] = [];
    let mut found = std::pin::pin!(client.query_raw(statement, nothing).await?);
    while let Some(row) = found.try_next().await? {
        let key: &str = row.try_get(0)?;
        let both: [Option<&str>; 2] = [row.try_get(1)?, row.try_get(2)?];
        for (digest, what) in digests.iter_mut().zip(both) {
            what.map(|what| digest.update(key.as_bytes()).update(what.as_bytes()));
        }
        let [expected, is] = both;
        rows += u64::from(expected.is_some());
        if expected == is {
            continue;
        }
        differing += 1;
        if differences.len() < DIFFERENCES_MAX {
            let [expected, is] = both.map(|what| what.unwrap_or("nothing"));
            differences.push(format!("{}, {key}: it has {is}, by the log {expected}", table.name));
        }
    }
    let [log_digest, table_digest] = digests.map(|digest| *digest.finalize().as_bytes());
    Ok(TableReport { table: table.name, rows, log_digest, table_digest, differences, differing })
}
