//! The commands `status` and `wait-for`: how far the database is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walengine_net::model::{Timestamp, Token};
use walengine_net::say;

use crate::cli::Sides;
use crate::database::within;
use crate::fatal::{Fatal, Reason};
use crate::metrics::lag_seconds;
use crate::trouble::Trouble;
use crate::values::Time;
use crate::{position, schema, service};

/// Prints a line for each partition.
pub async fn run(sides: &Sides) -> Result<(), Fatal> {
    let database = sides.database()?;
    let connection = database.connect().await?;
    let client = service::connect(&sides.servers()).await?;
    schema::check(&database, &connection, client.info()).await?;
    say!(
        "{:<10}{:>14}{:>14}{:>14}{:>14}{:>18}",
        "partition",
        "position",
        "log_end",
        "lag_records",
        "lag_seconds",
        "written_ago_s"
    );
    let written =
        format!("SELECT written_at FROM {} WHERE partition = $1", database.name("positions"));
    for partition in client.info().partitions() {
        let position = position::read(&database, &connection, partition).await?;
        let end = service::log_end(&client, partition).await?;
        let end = end.0.max(position.next_offset.0);
        let row = within(connection.query_one(&written, &[&i32::from(partition.0)])).await?;
        let Time(written_at): Time =
            row.try_get(0).map_err(|error| Fatal::from(Trouble::from(error)))?;
        let lag = end - position.next_offset.0;
        let behind = lag_seconds(lag, position.time.unwrap_or(Timestamp(0)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ago = now.saturating_sub(Duration::from_nanos(written_at.0)).as_secs_f64();
        say!(
            "{:<10}{:>14}{end:>14}{lag:>14}{behind:>14.3}{ago:>18.3}",
            partition.to_string(),
            position.next_offset.to_string()
        );
    }
    Ok(())
}

/// Waits until the database includes the token's write.
pub async fn wait(sides: &Sides, token: Token, timeout: Duration) -> Result<(), Fatal> {
    let database = sides.database()?;
    let connection = database.connect().await?;
    let call =
        format!("SELECT {}($1, make_interval(secs => $2))", database.name("walengine_wait_for"));
    let text = token.to_string();
    let answer = connection.query_one(&call, &[&text, &timeout.as_secs_f64()]).await;
    let row = answer.map_err(|error| match error.as_db_error() {
        // Refused by the function itself, mostly another cluster's token.
        Some(refusal) if refusal.hint().is_some() => {
            let (message, hint) = (refusal.message(), refusal.hint().unwrap_or_default());
            Fatal::new(Reason::OtherLog, format!("{message}: {hint}"))
        }
        _ => Trouble::from(error).into(),
    })?;
    let visible: bool = row.try_get(0).map_err(|error| Fatal::from(Trouble::from(error)))?;
    if visible {
        return Ok(());
    }
    let message = format!(
        "{token} is not in the database after {timeout:?}: `walengine-projector status` shows how \
         far it is"
    );
    Err(Fatal::new(Reason::Findings, message))
}
