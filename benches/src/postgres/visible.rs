//! From a client's send until SQL sees the rows, at a fixed rate, and how soon after that
//! `walengine_wait_for` answers.
//!
//! One thread sends, one asks for the position again and again, one waits with the function for what
//! was acknowledged last. They only note times; what these come to is worked out afterwards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::Token;
use walengine_projector::database::Database;

use super::sql::{Moved, Sql};
use super::{ACCOUNTS, Bench, LOOK_EVERY};
use crate::cluster::PARTITION;
use crate::error::{During, Failed, Result, failed};
use crate::load::Transfers;
use crate::stats::{Latencies, Percentiles, Spread};

/// Transfers in a batch.
const BATCH: usize = 100;
/// A batch each; makes 10,000 transfers a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// Pause of who asks for the position: what is seen is late by at most this and a round trip.
const POLL_EVERY: Duration = Duration::from_micros(250);
/// What is sent before this does not count.
const WARMUP: Duration = Duration::from_secs(1);
/// What the function may wait for a row.
const TIMEOUT: &str = "60 seconds";

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it should have been sent.
    intended: Instant,
    /// When its acknowledgement was here.
    acknowledged: Instant,
    /// Its last record.
    offset: u64,
}

/// The function has answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    offset: u64,
}

/// What a round comes to.
struct Round {
    acknowledged: Percentiles,
    visible: Percentiles,
    waited: Percentiles,
}

impl Bench {
    /// Rounds at 10,000 transfers/s, with one projector.
    pub fn visible(&mut self) -> Result<()> {
        let home = self.home("visible")?;
        let engine = self.engine("visible")?;
        let projector = self.project(&engine, &home, "visible")?;
        let database = home.schema("visible")?;
        Sql::connect_when_ready(&database)?.wait(LOOK_EVERY, ACCOUNTS.into())?;
        let time = WARMUP + Duration::from_secs_f64(self.arguments.seconds);
        let rounds: Vec<Round> = (0..self.arguments.rounds)
            .map(|_| round(engine.server.address, &database, time))
            .collect::<Result<_>>()?;
        projector.stop()?;
        let mut figure = |name: &str, of: fn(&Round) -> f64| {
            self.figures.figure(name, rounds.iter().map(of).collect())
        };
        println!("\n10,000 transfers/s in batches of {BATCH}, all on one machine");
        figure("ms from send to acknowledgement, p50", |round| round.acknowledged.p50 / 1e3);
        figure("ms from send to acknowledgement, p99", |round| round.acknowledged.p99 / 1e3);
        figure("ms from send until visible in SQL, p50", |round| round.visible.p50 / 1e3);
        figure("ms from send until visible in SQL, p99", |round| round.visible.p99 / 1e3);
        figure("ms from send until visible in SQL, max", |round| round.visible.max / 1e3);
        figure("ms from visible to the answer of walengine_wait_for, p50", |round| {
            round.waited.p50 / 1e3
        });
        figure("ms from visible to the answer of walengine_wait_for, p99", |round| {
            round.waited.p99 / 1e3
        });
        let slowest = Spread::of(rounds.iter().map(|round| round.waited.max / 1e3));
        figure("ms from visible to the answer of walengine_wait_for, max", |round| {
            round.waited.max / 1e3
        });
        let answers: u64 = rounds.iter().map(|round| round.waited.count).sum();
        let from = format!("{answers} answers, the slowest of all rounds");
        let most = Some(Spread { median: slowest.max, ..slowest });
        self.figures.target("walengine_wait_for: ms after visibility", 50.0, true, most, &from);
        Ok(())
    }
}

fn round(server: SocketAddr, database: &Database, time: Duration) -> Result<Round> {
    let (poller, waiter) = (Sql::connect(database)?, Sql::connect(database)?);
    let client = Client::connect(Config::new(server.to_string())).during("connecting")?;
    // Past this offset nobody needs to ask; known when everything is sent.
    let end = &AtomicU64::new(u64::MAX);
    let (tokens_in, tokens) = channel();
    std::thread::scope(|scope| {
        let polling = scope
            .spawn(move || poller.watch(POLL_EVERY, |next| Ok(next > end.load(Ordering::Relaxed))));
        let waiting = scope.spawn(move || wait_for_each(&waiter, &tokens));
        let sent = send(&client, time, &tokens_in);
        drop(tokens_in);
        // Without a last one the others end at once.
        let last = sent.as_ref().ok().and_then(|sent| sent.last()).map_or(0, |sent| sent.offset);
        end.store(last, Ordering::Relaxed);
        let moves = polling.join().map_err(|_| Failed("who asks has panicked".into()))?;
        let answers = waiting.join().map_err(|_| Failed("who waits has panicked".into()))?;
        sum_up(&sent?, &moves?, &answers?)
    })
}

/// Sends a batch each interval, as if the answers took no time.
fn send(client: &Client, time: Duration, tokens: &Sender<Token>) -> Result<Vec<Sent>> {
    let mut transfers = Transfers::between(ACCOUNTS, client.info().partitions);
    let start = Instant::now();
    let mut sent = Vec::new();
    let mut after = Duration::ZERO;
    while after < time {
        let intended = start + after;
        let events = transfers.take(BATCH);
        std::thread::sleep(intended.saturating_duration_since(Instant::now()));
        let submitted = client.submit(PARTITION, &events).during("sending transfers")?;
        let acknowledged = Instant::now();
        let Some(&token) = submitted.tokens.first().filter(|_| submitted.all_ok()) else {
            return failed("a batch was not accepted");
        };
        if after >= WARMUP {
            sent.push(Sent { intended, acknowledged, offset: token.offset.0 });
        }
        // Nobody takes it if the other side has failed, which is told later.
        let _ = tokens.send(token);
        after += INTERVAL;
    }
    Ok(sent)
}

/// Calls the function for the newest token, again and again, until there are no more.
fn wait_for_each(sql: &Sql, tokens: &Receiver<Token>) -> Result<Vec<Answered>> {
    let statement = format!("SELECT walengine_wait_for($1, '{TIMEOUT}')");
    let mut answers = Vec::new();
    while let Ok(first) = tokens.recv() {
        let newest = tokens.try_iter().last().unwrap_or(first);
        if !sql.one::<bool>(&statement, &[&newest.to_string()])? {
            return failed(format!("{newest} was not visible within {TIMEOUT}"));
        }
        answers.push(Answered { at: Instant::now(), offset: newest.offset.0 });
    }
    Ok(answers)
}

fn sum_up(sent: &[Sent], moves: &[Moved], answers: &[Answered]) -> Result<Round> {
    let (mut acknowledged, mut visible, mut waited) =
        (Latencies::new(), Latencies::new(), Latencies::new());
    for one in sent {
        let Some(seen) = seen_at(moves, one.offset) else {
            return failed("a batch was not seen");
        };
        acknowledged.record(nanos(one.acknowledged - one.intended));
        visible.record(nanos(seen.saturating_duration_since(one.intended)));
    }
    for answer in answers {
        if let Some(seen) = seen_at(moves, answer.offset) {
            // It may have seen the row before who asks for the position.
            waited.record(nanos(answer.at.saturating_duration_since(seen)));
        }
    }
    Ok(Round {
        acknowledged: acknowledged.percentiles(),
        visible: visible.percentiles(),
        waited: waited.percentiles(),
    })
}

/// When a record was first seen.
fn seen_at(moves: &[Moved], offset: u64) -> Option<Instant> {
    let place = moves.partition_point(|moved| moved.next_offset <= offset);
    moves.get(place).map(|moved| moved.at)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_seen_with_the_first_position_behind_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let moves = [Moved { at: at(1), next_offset: 10 }, Moved { at: at(2), next_offset: 20 }];
        assert_eq!(seen_at(&moves, 9), Some(at(1)));
        assert_eq!(seen_at(&moves, 10), Some(at(2)));
        assert_eq!(seen_at(&moves, 20), None);
    }
}
