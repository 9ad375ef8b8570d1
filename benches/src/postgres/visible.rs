//! Time from a client's send until the rows are visible in SQL, at a fixed rate, and from then
//! until `walengine_wait_for` answers.
//!
//! One thread sends, one polls the position, one calls the function for the newest acknowledged
//! write. They only note times; the results are computed afterwards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::Token;
use walengine_projector::database::Database;

use super::sql::{PositionMove, Sql};
use super::{ACCOUNTS, PostgresBench};
use crate::cluster::PARTITION;
use crate::error::{During, Failed, Result, failed};
use crate::limits::POLL_INTERVAL;
use crate::load::Transfers;
use crate::stats::{Latencies, Percentiles, Spread};

/// Transfers in a batch.
const BATCH: usize = 100;
/// Time between two batches: 10,000 transfers a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// Pause between two reads of the position: it is seen at most this and a round trip late.
const POSITION_INTERVAL: Duration = Duration::from_micros(250);
/// Batches sent during this time do not count.
const WARMUP: Duration = Duration::from_secs(1);
/// Timeout of the function.
const TIMEOUT: &str = "60 seconds";

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it should have been sent.
    intended: Instant,
    /// When its acknowledgement arrived.
    acknowledged: Instant,
    /// Offset of its last record.
    offset: u64,
}

/// An answer of the function.
#[derive(Clone, Copy, Debug)]
struct WaitAnswer {
    at: Instant,
    offset: u64,
}

/// Results of a round.
struct VisibleRound {
    acknowledged: Percentiles,
    visible: Percentiles,
    waited: Percentiles,
}

impl PostgresBench {
    /// Rounds at 10,000 transfers/s, with one projector.
    pub fn visible(&mut self) -> Result<()> {
        let home = self.home("visible")?;
        let engine = self.engine("visible")?;
        let projector = self.project(&engine, &home, "visible")?;
        let database = home.schema("visible")?;
        Sql::connect_when_ready(&database)?.wait(POLL_INTERVAL, ACCOUNTS.into())?;
        let time = WARMUP + Duration::from_secs_f64(self.arguments.seconds);
        let rounds: Vec<VisibleRound> = (0..self.arguments.rounds)
            .map(|_| round(engine.server.address, &database, time))
            .collect::<Result<_>>()?;
        projector.stop()?;
        let mut figure = |name: &str, of: fn(&VisibleRound) -> f64| {
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

fn round(server: SocketAddr, database: &Database, time: Duration) -> Result<VisibleRound> {
    let (poller, waiter) = (Sql::connect(database)?, Sql::connect(database)?);
    let client = Client::connect(Config::new(server.to_string())).during("connecting")?;
    // The last offset that matters, once everything is sent.
    let end = &AtomicU64::new(u64::MAX);
    let (tokens_in, tokens) = channel();
    std::thread::scope(|scope| {
        let polling = scope.spawn(move || {
            poller.watch(POSITION_INTERVAL, |next| Ok(next > end.load(Ordering::Relaxed)))
        });
        let waiting = scope.spawn(move || wait_for_each(&waiter, &tokens));
        let sent = send(&client, time, &tokens_in);
        drop(tokens_in);
        // If nothing was sent, the other threads end at once.
        let last = sent.as_ref().ok().and_then(|sent| sent.last()).map_or(0, |sent| sent.offset);
        end.store(last, Ordering::Relaxed);
        let moves = polling.join().map_err(|_| Failed("the polling thread has panicked".into()))?;
        let answers =
            waiting.join().map_err(|_| Failed("the waiting thread has panicked".into()))?;
        sum_up(&sent?, &moves?, &answers?)
    })
}

/// Sends a batch each interval, on schedule even if answers are late.
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
        // Fails only if the waiting thread has failed, which is reported later.
        let _ = tokens.send(token);
        after += INTERVAL;
    }
    Ok(sent)
}

/// Calls the function for the newest token, until there are no more tokens.
fn wait_for_each(sql: &Sql, tokens: &Receiver<Token>) -> Result<Vec<WaitAnswer>> {
    let statement = format!("SELECT walengine_wait_for($1, '{TIMEOUT}')");
    let mut answers = Vec::new();
    while let Ok(first) = tokens.recv() {
        let newest = tokens.try_iter().last().unwrap_or(first);
        if !sql.one::<bool>(&statement, &[&newest.to_string()])? {
            return failed(format!("{newest} was not visible within {TIMEOUT}"));
        }
        answers.push(WaitAnswer { at: Instant::now(), offset: newest.offset.0 });
    }
    Ok(answers)
}

fn sum_up(sent: &[Sent], moves: &[PositionMove], answers: &[WaitAnswer]) -> Result<VisibleRound> {
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
            // The function may see the row before the polling thread does.
            waited.record(nanos(answer.at.saturating_duration_since(seen)));
        }
    }
    Ok(VisibleRound {
        acknowledged: acknowledged.percentiles(),
        visible: visible.percentiles(),
        waited: waited.percentiles(),
    })
}

/// When a record was first seen.
fn seen_at(moves: &[PositionMove], offset: u64) -> Option<Instant> {
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
        let moves = [
            PositionMove { at: at(1), next_offset: 10 },
            PositionMove { at: at(2), next_offset: 20 },
        ];
        assert_eq!(seen_at(&moves, 9), Some(at(1)));
        assert_eq!(seen_at(&moves, 10), Some(at(2)));
        assert_eq!(seen_at(&moves, 20), None);
    }
}
