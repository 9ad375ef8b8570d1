//! Holds what each partition has sent to others, or handed on, against what has arrived there, and stripes of accounts
//! against each other: by tables that the audit has compared with both logs.

use tokio_postgres::Client;
use walengine_net::model::{PartitionId, Verdict};

use crate::database::Database;
use crate::limits::DIFFERENCES_MAX;
use crate::trouble::Trouble;
use crate::values::Numeric;

/// Every word has its arrival, with the same verdict and amount, and every arrival has a word or is
/// under way. What has arrived and was handed on is sent by that stop, too: a chain is held against the next stop, stop by
/// stop. A partition may be projected less far than another. Then an arrival is not missed before
/// a later one from the same home, or a record of a later time than the word, is there: places and
/// times ascend; what is only told may come later. And what home has sent is not missed before home is projected past
/// its place. One that is under way where it has arrived is there, and has no outcome yet.
const DIFFERENCES: &str = "
WITH sent AS (
    SELECT 'transfers' AS name, partition, log_offset, time, other_partition AS other,
           prepared_offset AS place, id, 0::smallint AS verdict, amount,
           sides IS NULL AND kind IN ('void', 'expire') AS is_told, pending_id
      FROM {transfers} WHERE other_partition IS NOT NULL
    UNION ALL
    SELECT 'refused_events', partition, log_offset, time, other_partition, prepared_offset, id, verdict, 0, false, null
      FROM {refused_events} WHERE other_partition IS NOT NULL
    UNION ALL
    SELECT 'arrivals', partition, log_offset, time, other_partition, prepared_offset, id, verdict, amount, false, pending_id
      FROM {arrivals} WHERE other_partition IS NOT NULL
    UNION ALL
    SELECT 'under_way', partition, log_offset, time, other_partition, log_offset, id, null, null, false, null
      FROM {under_way}
), arrived AS (
    SELECT 'arrivals' AS name, partition, log_offset, home, place, id, verdict, amount, pending_id FROM {arrivals}
    UNION ALL
    SELECT 'under_way', partition, log_offset, home, home_place, id, null, null, null
      FROM {under_way} WHERE home IS NOT NULL
), newest AS (
    SELECT partition, home, max(place) AS place FROM arrived GROUP BY 1, 2
)
SELECT coalesce(s.name, a.name), coalesce(s.partition, a.partition),
       coalesce(s.log_offset, a.log_offset), coalesce(s.other, a.home),
       s.verdict, s.amount, a.verdict, a.amount, s.place IS NOT NULL, a.place IS NOT NULL
  FROM sent s FULL JOIN arrived a
    ON a.home = s.partition AND a.partition = s.other AND a.place = s.place
  LEFT JOIN {positions} home ON home.partition = a.home
  LEFT JOIN {positions} other ON other.partition = s.other
  LEFT JOIN newest n ON n.home = s.partition AND n.partition = s.other
 WHERE s.place IS NULL AND a.place < home.next_offset
    OR a.place IS NULL AND s.verdict IS NOT NULL AND (s.place < n.place OR s.time < other.log_time AND NOT s.is_told)
    OR (s.verdict, s.amount) <> (a.verdict, a.amount)
    OR s.verdict IS NOT NULL AND a.name = 'under_way' AND s.time < other.log_time
    OR s.place IS NOT NULL AND a.place IS NOT NULL
       AND (NOT s.is_told AND s.id IS DISTINCT FROM a.id
            OR s.name IN ('transfers', 'arrivals') AND a.name = 'arrivals'
               AND s.pending_id IS DISTINCT FROM a.pending_id)
 ORDER BY 2, 3 LIMIT $1";

/// Every stripe of an account is as the home of the account has created it. Home is not missed before it is projected
/// past the time of the stripe.
const STRIPES: &str = "
SELECT s.partition, s.log_offset, s.home, a.id IS NOT NULL
  FROM {accounts} s JOIN {positions} home ON home.partition = s.home
  LEFT JOIN {accounts} a ON a.id = s.id AND a.partition = s.home AND a.home IS NULL
 WHERE s.home IS NOT NULL
   AND (a.id IS NULL AND s.time < home.log_time
        OR a.id IS NOT NULL
           AND (a.ledger, a.code, a.debits_must_not_exceed_credits, a.credits_must_not_exceed_debits, a.user_data_128,
                a.user_data_64)
               IS DISTINCT FROM
               (s.ledger, s.code, s.debits_must_not_exceed_credits, s.credits_must_not_exceed_debits, s.user_data_128,
                s.user_data_64))
 ORDER BY 1, 2 LIMIT $1";

/// Descriptions of the first rows that do not fit, each with the partition that it is of.
pub async fn differences(
    database: &Database,
    client: &Client,
) -> Result<Vec<(PartitionId, String)>, Trouble> {
    let named = |statement: &str| {
        let mut statement = statement.to_owned();
        for name in
            ["accounts", "transfers", "refused_events", "under_way", "arrivals", "positions"]
        {
            statement = statement.replace(&format!("{{{name}}}"), &database.name(name));
        }
        statement
    };
    // They take as long as the tables are large.
    let limit = DIFFERENCES_MAX as i64;
    let mut found = Vec::new();
    for row in client.query(&named(STRIPES), &[&limit]).await? {
        let (partition, offset): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (home, is_there): (i32, bool) = (row.try_get(2)?, row.try_get(3)?);
        let what = if is_there { "another one" } else { "no such account" };
        let what = format!("accounts, log_offset {offset}: partition {home} has created {what}");
        found.push((PartitionId(partition.try_into().unwrap_or_default()), what));
    }
    for row in client.query(&named(DIFFERENCES), &[&limit]).await? {
        let (name, partition): (&str, i32) = (row.try_get(0)?, row.try_get(1)?);
        let (offset, other): (i64, i32) = (row.try_get(2)?, row.try_get(3)?);
        let said = outcome(row.try_get(4)?, row.try_get(5)?);
        let arrived = outcome(row.try_get(6)?, row.try_get(7)?);
        let what = match (row.try_get(8)?, row.try_get(9)?) {
            (false, _) => format!("partition {other} has sent no such transfer"),
            (true, false) => format!("it has not arrived at partition {other}"),
            (true, true) => format!("{said}, at partition {other} {arrived}"),
        };
        let partition = PartitionId(partition.try_into().unwrap_or_default());
        found.push((partition, format!("{name}, log_offset {offset}: {what}")));
    }
    Ok(found)
}

/// What became of a transfer, in words.
fn outcome(verdict: Option<i16>, amount: Option<Numeric>) -> String {
    let (Some(verdict), Some(amount)) = (verdict, amount) else {
        return "another transfer, or without an outcome".to_owned();
    };
    let known = u8::try_from(verdict).ok().and_then(Verdict::from_number);
    match known {
        Some(Verdict::Ok) => format!("moved {}", amount.magnitude),
        Some(refusal) => format!("refused: {refusal}"),
        None => format!("refused: verdict {verdict}"),
    }
}

#[cfg(test)]
mod tests;
