//! Rows a second of a projector that catches up, and of one that is attached while more is written
//! than it can take. Each is measured between two bare COPYs of the same rows into the same indexed
//! tables.
//!
//! An attached projector begins with small transactions; as it falls behind, they become full. It
//! counts as steady after the first third of the rows, and is then compared with the COPY's last
//! two thirds.
//!
//! Further cases show where the projector loses against the COPY: its writer without feed and
//! encoding, with and without the merge of balances, and a COPY that shares the machine with the
//! same load.

use std::time::Duration;

use super::projector::Projector;
use super::rows::{Copied, LogRows, Merge};
use super::sql::{PositionMove, Sql};
use super::{ACCOUNTS, Engine, PostgresBench, PostgresHome, number};
use crate::error::{Failed, Result, failed};
use crate::limits::POLL_INTERVAL;
use crate::load::{self, LoadArguments};
use crate::stats::Spread;

/// The load on an attached projector, as a multiple of a bare COPY's rate.
const OVERLOAD: f64 = 1.5;
/// The load's duration, as a multiple of the time that a bare COPY of the rows takes.
const LOAD_TIMES: f64 = 1.5;
/// Transfers in a batch of the load.
const LOAD_BATCH: usize = 1000;
/// An attached projector is steady once it has one in this many of the rows.
const STEADY_FROM: u64 = 3;
/// Requests of the load that may be unanswered.
const LOAD_INFLIGHT: u16 = 64;

/// The measurements of a round, each between two bare COPYs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpeedCase {
    CatchUp,
    Steady,
    CopyBesideLoad,
    WriterWithoutMerge,
    WriterWithMerge,
}

/// Each with its name and its content.
const SPEED_CASES: [(SpeedCase, &str, &str); 5] = [
    (SpeedCase::CatchUp, "catching up", "the whole projector, engine idle"),
    (SpeedCase::Steady, "steady", "attached, 1.5 times the load that a COPY takes"),
    (SpeedCase::CopyBesideLoad, "bare COPY beside that load", "engine and client, no projector"),
    (SpeedCase::WriterWithoutMerge, "without balance merge", "projector's writer: COPY, position"),
    (SpeedCase::WriterWithMerge, "with balance merge", "its writer: COPY, position, balances"),
];

struct Speed<'a> {
    bench: &'a PostgresBench,
    home: PostgresHome,
    /// Its log holds the rows.
    engine: Engine,
    rows: LogRows,
    /// Schemas used so far; they are numbered, so that none is used twice.
    schemas: usize,
    catching_up: Transactions,
    steady: Transactions,
    /// Rows a second of an attached projector from its first row on.
    from_first_row: Vec<f64>,
}

/// The projector's transactions in each round.
#[derive(Default)]
struct Transactions {
    /// Mean number of rows in a transaction.
    rows: Vec<f64>,
    /// Part of the time that was spent in transactions; PostgreSQL has no share in the rest.
    part: Vec<f64>,
}

impl PostgresBench {
    /// Rounds of all cases.
    pub fn speed(&mut self) -> Result<()> {
        let home = self.home("speed")?;
        let engine = self.engine("speed")?;
        let transfers = engine.fill(self.arguments.transfers)?;
        let accounts = u64::from(ACCOUNTS);
        let rows = LogRows::read(engine.server.address, accounts, accounts + transfers)?;
        let per_transaction = number(transfers) / number(rows.transfers.len() as u64);
        let changed = rows.transfers.iter().map(|batch| number(batch.changes.len() as u64));
        let merged = Spread::of(changed).median;
        let mut speed = Speed {
            bench: self,
            home,
            engine,
            rows,
            schemas: 0,
            catching_up: Transactions::default(),
            steady: Transactions::default(),
            from_first_row: Vec::new(),
        };
        let mut bare = Vec::new();
        let mut rates = SPEED_CASES.map(|_| Vec::new());
        let mut ratios = SPEED_CASES.map(|_| Vec::new());
        for _ in 0..speed.bench.arguments.rounds {
            let mut before = speed.bare()?;
            bare.push(before.per_second());
            for (place, (way, ..)) in SPEED_CASES.into_iter().enumerate() {
                let rate = speed.measure(way, before.per_second())?;
                let after = speed.bare()?;
                bare.push(after.per_second());
                rates[place].push(rate);
                let from = if way == SpeedCase::Steady { speed.steady_from() } else { 0 };
                let beside = [&before, &after].map(|bare| bare.per_second_behind(from));
                ratios[place].push(rate / f64::midpoint(beside[0], beside[1]));
                before = after;
            }
        }
        let Speed { catching_up, steady, from_first_row, .. } = speed;
        let figures = &mut self.figures;
        println!("{transfers} transfers, {ACCOUNTS} accounts; rows/s, median [min - max]");
        figures.figure("rows in a transaction of a backlog", vec![per_transaction]);
        figures.figure("accounts that such a transaction changes", vec![merged]);
        figures.figure("rows/s, bare COPY BINARY: same rows, tables, transactions", bare);
        for ((_, name, what), rates) in SPEED_CASES.iter().zip(rates) {
            figures.figure(&format!("rows/s, {name}: {what}"), rates);
        }
        let name = "rows/s, steady and before: from its first, small transactions on";
        figures.figure(name, from_first_row);
        for (name, transactions) in [("catching up", catching_up), ("steady", steady)] {
            figures.figure(&format!("{name}: rows in a transaction, mean"), transactions.rows);
            figures.figure(&format!("{name}: part of the time in transactions"), transactions.part);
        }
        let from = format!("{transfers} transfers, {} rounds", self.arguments.rounds);
        for ((way, name, _), ratios) in SPEED_CASES.iter().zip(ratios) {
            let reached = figures.figure(&format!("part of bare COPY's, {name}"), ratios);
            let what = match way {
                SpeedCase::CatchUp => "catching up: rows/s, part of a bare COPY's",
                SpeedCase::Steady => "steady projection: rows/s, part of a bare COPY's",
                _ => continue,
            };
            figures.target(what, 0.85, false, Some(reached), &from);
        }
        Ok(())
    }
}

impl Speed<'_> {
    fn measure(&mut self, way: SpeedCase, bare: f64) -> Result<f64> {
        match way {
            SpeedCase::CatchUp => self.catch_up(),
            SpeedCase::Steady => self.steady(bare),
            SpeedCase::CopyBesideLoad => self.copy_beside_load(bare),
            SpeedCase::WriterWithoutMerge => self.writer(Merge::PositionOnly),
            SpeedCase::WriterWithMerge => self.writer(Merge::Balances),
        }
    }

    fn next_schema(&mut self) -> String {
        self.schemas += 1;
        format!("speed_{}", self.schemas)
    }

    /// Transfers that an attached projector writes before it counts as steady.
    fn steady_from(&self) -> u64 {
        self.rows.count() / STEADY_FROM
    }

    fn bare(&mut self) -> Result<Copied> {
        let schema = self.next_schema();
        let copied = self.rows.copy(&self.home.schema(&schema)?)?;
        self.home.clear(&schema)?;
        Ok(copied)
    }

    fn writer(&mut self, merge: Merge) -> Result<f64> {
        let schema = self.next_schema();
        let took = self.rows.write(&self.home.schema(&schema)?, merge)?;
        self.home.clear(&schema)?;
        Ok(number(self.rows.count()) / took.as_secs_f64())
    }

    /// A projector is started against a log that holds everything.
    fn catch_up(&mut self) -> Result<f64> {
        let schema = self.next_schema();
        let projector = self.bench.project(&self.engine, &self.home, &schema)?;
        let sql = Sql::connect_when_ready(&self.home.schema(&schema)?)?;
        // The first transaction is small, because it holds what arrived first. The clock starts
        // after it.
        sql.wait(POLL_INTERVAL, 1)?;
        let end = u64::from(ACCOUNTS) + self.rows.count();
        let projected = project_until(&projector, &sql, end)?;
        projector.stop()?;
        self.home.clear(&schema)?;
        Ok(self.catching_up.take(&projected))
    }

    /// A projector is attached before the first transfer is written.
    fn steady(&mut self, bare: f64) -> Result<f64> {
        let schema = self.next_schema();
        let engine = self.bench.engine("steady")?;
        let projector = self.bench.project(&engine, &self.home, &schema)?;
        let sql = Sql::connect_when_ready(&self.home.schema(&schema)?)?;
        let accounts = u64::from(ACCOUNTS);
        sql.wait(POLL_INTERVAL, accounts)?;
        let end = accounts + self.rows.count();
        let (whole, steady) = self.beside_load(&engine, bare, || {
            let first = newest(&sql.wait(POLL_INTERVAL, accounts + 1)?)?;
            sql.wait(POLL_INTERVAL, accounts + self.steady_from())?;
            let steady = project_until(&projector, &sql, end)?;
            let (rows, took) =
                (steady.last.next_offset - first.next_offset, steady.last.at - first.at);
            Ok((number(rows) / took.as_secs_f64(), steady))
        })?;
        projector.stop()?;
        self.home.clear(&schema)?;
        self.from_first_row.push(whole);
        Ok(self.steady.take(&steady))
    }

    fn copy_beside_load(&mut self, bare: f64) -> Result<f64> {
        let schema = self.next_schema();
        let engine = self.bench.engine("beside")?;
        let database = self.home.schema(&schema)?;
        let copied = self.beside_load(&engine, bare, || self.rows.copy(&database))?;
        self.home.clear(&schema)?;
        Ok(copied.per_second())
    }

    /// Does `work` while an engine takes the load that an attached projector is measured with.
    fn beside_load<T>(
        &self,
        engine: &Engine,
        bare: f64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let load = LoadArguments {
            batch: LOAD_BATCH,
            inflight: LOAD_INFLIGHT,
            seconds: LOAD_TIMES * number(self.rows.count()) / bare,
            rate: Some(OVERLOAD * bare / number(LOAD_BATCH as u64)),
            ..engine.load()
        };
        std::thread::scope(|scope| {
            let loading = scope.spawn(move || load::run(&load));
            let done = work();
            let load = loading.join().map_err(|_| Failed("the load has panicked".into()))?;
            load.and(done)
        })
    }
}

/// Rows projected from the end of one transaction to the end of another.
struct Projected {
    rows: u64,
    took: Duration,
    /// The last move of the position.
    last: PositionMove,
    transactions: f64,
    /// Seconds that the transactions took.
    in_transactions: f64,
}

fn newest(moves: &[PositionMove]) -> Result<PositionMove> {
    moves.last().copied().map_or_else(|| failed("nothing was projected"), Ok)
}

/// Measures from now, right after a commit, to the transaction that passes `end`.
fn project_until(projector: &Projector, sql: &Sql, end: u64) -> Result<Projected> {
    let (count, seconds) = projector.transactions()?;
    let moves = sql.wait(POLL_INTERVAL, end)?;
    let (count_after, seconds_after) = projector.transactions()?;
    let last = newest(&moves)?;
    let first = moves.first().map_or(last, |first| *first);
    let (rows, took) = (last.next_offset - first.next_offset, last.at - first.at);
    if rows == 0 {
        return failed("too few transactions; take more --transfers");
    }
    let (transactions, in_transactions) = (count_after - count, seconds_after - seconds);
    Ok(Projected { rows, took, last, transactions, in_transactions })
}

impl Transactions {
    /// Notes a round. Returns its rows a second.
    fn take(&mut self, projected: &Projected) -> f64 {
        let Projected { rows, took, transactions, in_transactions, .. } = projected;
        let seconds = took.as_secs_f64();
        self.rows.push(number(*rows) / transactions.max(1.0));
        self.part.push(in_transactions / seconds);
        number(*rows) / seconds
    }
}
