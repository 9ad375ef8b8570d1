//! The commands `status` and `wait-for`: how far the database is.

use std::time::Duration;

use walengine_net::client::tokio::Client;
use walengine_net::client::{Config as ClientConfig, ReadFrom};
use walengine_net::model::{PartitionId, Token};
use walengine_net::say;

use crate::audited::{self, Audits, Outcome};
use crate::cli::Sides;
use crate::fatal::{Fatal, Reason};
use crate::limits::ENGINE_ANSWERS_WITHIN;
use crate::metrics::seconds_since;
use crate::trouble::Trouble;
use crate::{engine, noted, position, schema};

/// Prints a line for each partition, and how the last audit has ended if there was one. Without a server, the log's end is what the projector last saw,
/// and the command fails.
pub async fn run(sides: &Sides) -> Result<(), Fatal> {
    let database = sides.database()?;
    let connection = database.connect().await?;
    let engine = connect(&sides.servers()?).await;
    match &engine {
        Ok(client) => schema::check(&database, &connection, client.info()).await?,
        Err(_) if schema::version(&database, &connection).await?.is_some() => {}
        Err(why) => return Err(gone(sides, why)),
    }
    say!(
        "{:<10}{:>14}{:>14}{:>14}{:>14}{:>18}{:>12}{:>20}{:>18}",
        "partition",
        "position",
        "log_end",
        "lag_records",
        "lag_seconds",
        "written_ago_s",
        "end_age_s",
        "engine",
        "projector_ago_s"
    );
    let mut failed = engine.as_ref().err().cloned();
    for row in noted::read(&database, &connection).await? {
        let position = position::read(&database, &connection, row.partition).await?;
        let next = position.next_offset;
        let mut has_leader = true;
        let seen = match &engine {
            // The leader knows the end. A follower tells what it has, if there is no leader.
            Ok(client) => {
                let leader = client.reading(ReadFrom::Linearizable);
                match engine::look(&leader, row.partition, next).await {
                    Err(why) => match engine::look(client, row.partition, next).await {
                        Ok(seen) => {
                            failed.get_or_insert(why);
                            has_leader = false;
                            Ok(seen)
                        }
                        Err(why) => Err(why),
                    },
                    seen => seen,
                }
            }
            Err(why) => Err(why.clone()),
        };
        let (end, lag_seconds, age, state) = match &seen {
            Ok(seen) => {
                let end = seen.end.0.max(next.0);
                let lag =
                    seen.time.filter(|_| end > next.0).map_or(0.0, |time| seconds_since(time.0));
                let state = if has_leader { "connected" } else { "no leader" };
                (Some(end), Some(lag), Some(0.0), state.to_owned())
            }
            Err(why) => {
                failed.get_or_insert_with(|| why.clone());
                let gone =
                    row.gone_since.map(|since| format!("gone {:.0} s", seconds_since(since)));
                let end = row.log_end.map(|end| end.max(next.0));
                let age = row.seen_at.map(seconds_since);
                // What was there then waits since then at least.
                let lag = end.and_then(|end| if end > next.0 { age } else { Some(0.0) });
                (end, lag, age, gone.unwrap_or_else(|| "no answer".to_owned()))
            }
        };
        let number =
            |value: Option<u64>| value.map_or("unknown".to_owned(), |value| value.to_string());
        let seconds =
            |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:.3}"));
        say!(
            "{:<10}{:>14}{:>14}{:>14}{:>14}{:>18}{:>12}{state:>20}{:>18}",
            row.partition.to_string(),
            next.to_string(),
            number(end),
            number(end.map(|end| end - next.0)),
            seconds(lag_seconds),
            seconds(Some(seconds_since(row.written_at))),
            seconds(age),
            seconds(row.noted_at.map(seconds_since)),
        );
    }
    for line in last_audit(&audited::read(&database, &connection).await?) {
        say!("{line}");
    }
    failed.map_or(Ok(()), |why| Err(gone(sides, &why)))
}

/// What is known of audits; nothing if there was none.
fn last_audit(audits: &Audits) -> Vec<String> {
    let ago = |nanos| format!("{:.0} s ago", seconds_since(nanos));
    let last = audits.last.as_ref().map(|last| {
        let said = match (last.outcome, last.differences) {
            (Outcome::Different, Some(1)) => "1 row differs".to_owned(),
            (Outcome::Different, Some(count)) => format!("{count} rows differ"),
            (outcome, _) => outcome.name().to_owned(),
        };
        let upto: Vec<String> = (0..)
            .zip(&last.next_offsets)
            .map(|(partition, next)| format!("{}-{next}", PartitionId(partition)))
            .collect();
        let at = if upto.is_empty() { String::new() } else { format!(" at {}", upto.join(" ")) };
        format!("last audit: {said}{at}, {}, release {}", ago(last.ended_at), last.program)
    });
    let unfinished = audits.unfinished.map(|began| {
        format!("an audit began {} and has not ended: it runs, or was killed", ago(began))
    });
    last.into_iter().chain(unfinished).collect()
}

/// Connects, or tells why not, in a few seconds.
async fn connect(config: &ClientConfig) -> Result<Client, String> {
    match tokio::time::timeout(ENGINE_ANSWERS_WITHIN, Client::connect(config.clone())).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {ENGINE_ANSWERS_WITHIN:?}")),
    }
}

fn gone(sides: &Sides, why: &str) -> Fatal {
    let message = format!(
        "no answer from walengine at {} ({why}): the position is right, but how far the log reaches is \
         only what the projector last saw; `walengine status` asks the servers",
        sides.server
    );
    Fatal::new(Reason::Server, message)
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
