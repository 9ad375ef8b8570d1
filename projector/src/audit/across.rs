//! Holds what each partition has sent to others against what has arrived there: by tables that the
//! audit has compared with both logs.

use tokio_postgres::Client;
use walengine_net::model::{PartitionId, Verdict};

use crate::database::Database;
use crate::limits::DIFFERENCES_MAX;
use crate::trouble::Trouble;
use crate::values::Numeric;

/// Every word has its arrival, with the same verdict and amount, and every arrival has a word or is
/// under way. A partition may be projected less far than another. Then an arrival is not missed before
/// a later one from the same home, or a record of a later time than the word, is there: places and
/// times ascend; what is only told may come later. And what home has sent is not missed before home is projected past
/// its place.
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
    SELECT 'under_way', partition, log_offset, time, other_partition, log_offset, id, null, null, false, null
      FROM {under_way}
), newest AS (
    SELECT partition, home, max(place) AS place FROM {arrivals} GROUP BY 1, 2
)
SELECT coalesce(s.name, 'arrivals'), coalesce(s.partition, a.partition),
       coalesce(s.log_offset, a.log_offset), coalesce(s.other, a.home),
       s.verdict, s.amount, a.verdict, a.amount
  FROM sent s FULL JOIN {arrivals} a
    ON a.home = s.partition AND a.partition = s.other AND a.place = s.place
  LEFT JOIN {positions} home ON home.partition = a.home
  LEFT JOIN {positions} other ON other.partition = s.other
  LEFT JOIN newest n ON n.home = s.partition AND n.partition = s.other
 WHERE s.place IS NULL AND a.place < home.next_offset
    OR a.place IS NULL AND s.verdict IS NOT NULL AND (s.place < n.place OR s.time < other.log_time AND NOT s.is_told)
    OR (s.verdict, s.amount) <> (a.verdict, a.amount)
    OR s.place IS NOT NULL AND a.place IS NOT NULL
       AND (NOT s.is_told AND s.id IS DISTINCT FROM a.id
            OR s.name = 'transfers' AND s.pending_id IS DISTINCT FROM a.pending_id)
 ORDER BY 2, 3 LIMIT $1";

/// Descriptions of the first rows that do not fit, each with the partition that it is of.
pub async fn differences(
    database: &Database,
    client: &Client,
) -> Result<Vec<(PartitionId, String)>, Trouble> {
    let mut statement = DIFFERENCES.to_owned();
    for name in ["transfers", "refused_events", "under_way", "arrivals", "positions"] {
        statement = statement.replace(&format!("{{{name}}}"), &database.name(name));
    }
    // It takes as long as the tables are large.
    let rows = client.query(&statement, &[&(DIFFERENCES_MAX as i64)]).await?;
    let mut found = Vec::new();
    for row in rows {
        let (name, partition): (&str, i32) = (row.try_get(0)?, row.try_get(1)?);
        let (offset, other): (i64, i32) = (row.try_get(2)?, row.try_get(3)?);
        let said = outcome(row.try_get(4)?, row.try_get(5)?);
        let what = match (said, outcome(row.try_get(6)?, row.try_get(7)?)) {
            (said, Some(arrived)) if name != "arrivals" => {
                let said = said.unwrap_or_else(|| "another transfer".to_owned());
                format!("{said}, by partition {other} {arrived}")
            }
            (_, Some(_)) => format!("partition {other} has sent no such transfer"),
            (_, None) => format!("it has not arrived at partition {other}"),
        };
        let partition = PartitionId(partition.try_into().unwrap_or_default());
        found.push((partition, format!("{name}, log_offset {offset}: {what}")));
    }
    Ok(found)
}

/// What became of a transfer, in words.
fn outcome(verdict: Option<i16>, amount: Option<Numeric>) -> Option<String> {
    let (verdict, amount) = (verdict?, amount?.magnitude);
    let known = u8::try_from(verdict).ok().and_then(Verdict::from_number);
    Some(match known {
        Some(Verdict::Ok) => format!("moved {amount}"),
        Some(refusal) => format!("refused: {refusal}"),
        None => format!("refused: verdict {verdict}"),
    })
}
