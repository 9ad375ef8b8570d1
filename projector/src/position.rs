//! The position of a partition, which is advanced in the transaction that writes the records before
//! it; and what is under way there.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Row, Statement};
use walengine_net::entry::ChainHash;
use walengine_net::model::{AccountId, Amount, Code, LedgerId, Offset, PartitionId};

use crate::across::{Across, Prepared, Sides, Source, UnderWay};
use crate::database::{Database, within};
use crate::fatal::{Fatal, Reason};
use crate::history::Position;
use crate::tables::{ACCOUNTS, UNDER_WAY};
use crate::trouble::Trouble;
use crate::values::{Numeric, Time, Uuid};

/// The writer of a partition holds an advisory lock. Its first key is a hash of this and the
/// schema, its second key the partition.
const WRITER: &str = "walengine-projector ";

/// Reads the position.
pub async fn read(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<Position, Trouble> {
    let statement = format!(
        "SELECT next_offset, entry_index, chain_hash, log_time FROM {} WHERE partition = $1",
        database.name("positions")
    );
    let row = within(client.query_opt(&statement, &[&i32::from(partition.0)])).await?;
    let damaged = |what| damaged(what, partition, &database.name("positions"));
    let row = row.ok_or_else(|| damaged("there is no row for"))?;
    let (next_offset, index): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let chain: Vec<u8> = row.try_get(2)?;
    Ok(Position {
        next_offset: Offset(next_offset.try_into().map_err(|_| damaged("bad offset of"))?),
        index: index.try_into().map_err(|_| damaged("bad index of"))?,
        chain: ChainHash(chain.try_into().map_err(|_| damaged("bad chain hash of"))?),
        time: row.try_get::<_, Option<Time>>(3)?.map(|time| time.0),
    })
}

fn damaged(what: &str, partition: PartitionId, table: &str) -> Fatal {
    let message = format!(
        "{what} partition {partition} in table {table}: it was changed by hand; \
         `walengine-projector rebuild` recreates the tables"
    );
    Fatal::new(Reason::Schema, message)
}

/// Reads what is under way at the position, in a transaction that sees both as they were together.
pub async fn under_way(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<UnderWay, Trouble> {
    let statement = format!(
        "SELECT log_offset, other_partition, time, amount, body, debit_account_id, credit_account_id, ledger, code,
                sides, transit_partition, home, home_place, origin
           FROM {}",
        database.part(UNDER_WAY.name, partition)
    );
    let mut prepared = BTreeMap::new();
    for row in within(client.query(&statement, &[])).await? {
        let damaged = || damaged("bad row of", partition, &database.name(UNDER_WAY.name));
        let one = prepared_of(&row, damaged)?;
        prepared.insert(one.across.prepared, one);
    }
    let statement =
        format!("SELECT id FROM {} WHERE id >= $1", database.part(ACCOUNTS.name, partition));
    let first = Uuid(AccountId::in_transit(PartitionId(0), LedgerId(0)).0);
    let rows = within(client.query(&statement, &[&first])).await?;
    let id = |row: &tokio_postgres::Row| row.try_get(0).map(|Uuid(id)| id);
    Ok(UnderWay { prepared, accounts: rows.iter().map(id).collect::<Result<_, _>>()? })
}

/// What a row of table `under_way` stands for.
fn prepared_of(row: &Row, damaged: impl Fn() -> Fatal) -> Result<Prepared, Trouble> {
    let offset_of = |offset: i64| offset.try_into().map(Offset).map_err(|_| damaged());
    let partition_of = |number: i32| number.try_into().map(PartitionId).map_err(|_| damaged());
    let (offset, other) = (offset_of(row.try_get(0)?)?, partition_of(row.try_get(1)?)?);
    let (Time(time), amount): (Time, Numeric) = (row.try_get(2)?, row.try_get(3)?);
    let body: &[u8] = row.try_get(4)?;
    let (Uuid(debit), Uuid(credit)): (Uuid, Uuid) = (row.try_get(5)?, row.try_get(6)?);
    let (ledger, code): (i64, i32) = (row.try_get(7)?, row.try_get(8)?);
    let (sides, transit): (Option<i16>, Option<i32>) = (row.try_get(9)?, row.try_get(10)?);
    let transit = transit.map(partition_of).transpose()?.unwrap_or(other);
    let sides = sides.map(|number| Sides::from_number(number, transit).ok_or_else(&damaged));
    let (home, place): (Option<i32>, Option<i64>) = (row.try_get(11)?, row.try_get(12)?);
    let origin = row.try_get::<_, Option<i32>>(13)?.map(partition_of).transpose()?;
    let source = match (home, place) {
        (None, None) if origin.is_none() => None,
        (Some(home), Some(place)) => {
            Some(Source { home: partition_of(home)?, place: offset_of(place)?, origin })
        }
        _ => return Err(damaged().into()),
    };
    Ok(Prepared {
        across: Across { other, prepared: offset, sides: sides.transpose()? },
        source,
        time,
        amount: Amount(amount.magnitude),
        debit: AccountId(debit),
        credit: AccountId(credit),
        ledger: LedgerId(ledger.try_into().map_err(|_| damaged())?),
        code: Code(code.try_into().map_err(|_| damaged())?),
        body: body.try_into().map_err(|_| damaged())?,
    })
}

/// Prepares the statement that compares and advances the position.
pub async fn prepare(database: &Database, client: &Client) -> Result<Statement, Trouble> {
    let statement = format!(
        "UPDATE {} SET next_offset = $1, entry_index = $2, chain_hash = $3, log_time = $4,
                written_at = clock_timestamp()
          WHERE partition = $5 AND next_offset = $6 AND chain_hash = $7",
        database.name("positions")
    );
    within(client.prepare(&statement)).await
}

/// Advances the position to `to` if it is `from`. Otherwise returns false and changes nothing.
pub async fn advance(
    client: &Client,
    statement: &Statement,
    partition: PartitionId,
    from: &Position,
    to: &Position,
) -> Result<bool, tokio_postgres::Error> {
    let changed = client
        .execute(
            statement,
            &[
                &(to.next_offset.0 as i64),
                &(to.index as i64),
                &to.chain.0.as_slice(),
                &to.time.map(Time),
                &i32::from(partition.0),
                &(from.next_offset.0 as i64),
                &from.chain.0.as_slice(),
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Takes the lock of a partition's writer for as long as the connection lasts. False if another
/// writer holds it. Comparing positions makes a second writer harmless; the lock saves its work.
pub async fn try_lock(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<bool, Trouble> {
    let key = format!("{WRITER}{}", database.schema());
    let statement = "SELECT pg_try_advisory_lock(hashtext($1), $2)";
    let row = within(client.query_one(statement, &[&key, &i32::from(partition.0)])).await?;
    Ok(row.try_get(0)?)
}
