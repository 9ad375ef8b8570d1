//! Rows a second: the projector that catches up, and the one that is attached while more is written
//! than it takes, each between two bare COPYs of the same rows into the same indexed tables.
//!
//! An attached projector begins with small transactions and, as it falls behind, comes to full ones.
//! It is steady from the first third of the rows on; the COPY's last two thirds are beside it then.
//!
//! Where the projector loses against the COPY is shown by its writer without feed and encoding, with
//! and without the merge of balances, and by a COPY that shares the machine with the same load.

use std::time::Duration;

use super::projector::Projector;
use super::rows::{Copied, Merge, Rows};
use super::sql::{Moved, Sql};
use super::{ACCOUNTS, Bench, Engine, Home, LOOK_EVERY, number};
use crate::error::{Failed, Result, failed};
use crate::load::{self, LoadArguments};
use crate::stats::Spread;

/// The load on an attached projector is so many times what a bare COPY takes.
const OVERLOAD: f64 = 1.5;
/// It goes on so many times longer than a bare COPY of the rows takes.
const LOAD_TIMES: f64 = 1.5;
/// Transfers in a batch of it.
const LOAD_BATCH: usize = 1000;
/// An attached projector is steady when it has this part of the rows.
const STEADY_FROM: u64 = 3;
/// Requests of it that may be unanswered.
const LOAD_INFLIGHT: u16 = 64;

/// What is measured in a round, each between two bare COPYs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    CatchUp,
    Steady,
    CopyBesideLoad,
    WriterWithoutMerge,
    WriterWithMerge,
}

/// Each with its name, and what it includes.
const WAYS: [(Way, &str, &str); 5] = [
    (Way::CatchUp, "catching up", "the whole projector, engine idle"),
    (Way::Steady, "steady", "attached, 1.5 times the load that a COPY takes"),
    (Way::CopyBesideLoad, "bare COPY beside that load", "engine and client, no projector"),
    (Way::WriterWithoutMerge, "without balance merge", "projector's writer: COPY, position"),
    (Way::WriterWithMerge, "with balance merge", "its writer: COPY, position, balances"),
];

struct Speed<'a> {
    bench: &'a Bench,
    home: Home,
    /// Holds the rows.
    engine: Engine,
    rows: Rows,
    /// Schemas are numbered, so that none is used twice.
    schemas: usize,
    catching_up: Transactions,
    steady: Transactions,
    /// Rows a second of an attached projector, from its first row on.
    from_first_row: Vec<f64>,
}

/// The projector's transactions, for each round.
#[derive(Default)]
struct Transactions {
    /// Rows in one, on average.
    rows: Vec<f64>,
    /// The part of the time that was spent in them. Of the rest PostgreSQL knows nothing.
    part: Vec<f64>,
}

impl Bench {
    /// Rounds of all ways.
    pub fn speed(&mut self) -> Result<()> {
        let home = self.home("speed")?;
        let engine = self.engine("speed")?;
        let transfers = engine.fill(self.arguments.transfers)?;
        let accounts = u64::from(ACCOUNTS);
        let rows = Rows::read(engine.server.address, accounts, accounts + transfers)?;
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
        let mut rates = WAYS.map(|_| Vec::new());
        let mut ratios = WAYS.map(|_| Vec::new());
        for _ in 0..speed.bench.arguments.rounds {
            let mut before = speed.bare()?;
            bare.push(before.per_second());
            for (place, (way, ..)) in WAYS.into_iter().enumerate() {
                let rate = speed.measure(way, before.per_second())?;
                let after = speed.bare()?;
                bare.push(after.per_second());
                rates[place].push(rate);
                let from = if way == Way::Steady { speed.steady_from() } else { 0 };
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
        for ((_, name, what), rates) in WAYS.iter().zip(rates) {
            figures.figure(&format!("rows/s, {name}: {what}"), rates);
        }
        let name = "rows/s, steady and before: from its first, small transactions on";
        figures.figure(name, from_first_row);
        for (name, transactions) in [("catching up", catching_up), ("steady", steady)] {
            figures.figure(&format!("{name}: rows in a transaction, mean"), transactions.rows);
            figures.figure(&format!("{name}: part of the time in transactions"), transactions.part);
        }
        let from = format!("{transfers} transfers, {} rounds", self.arguments.rounds);
        for ((way, name, _), ratios) in WAYS.iter().zip(ratios) {
            let reached = figures.figure(&format!("part of bare COPY's, {name}"), ratios);
            let what = match way {
                Way::CatchUp => "catching up: rows/s, part of a bare COPY's",
                Way::Steady => "steady projection: rows/s, part of a bare COPY's",
                _ => continue,
            };
            figures.target(what, 0.85, false, Some(reached), &from);
        }
        Ok(())
    }
}

impl Speed<'_> {
    fn measure(&mut self, way: Way, bare: f64) -> Result<f64> {
        match way {
            Way::CatchUp => self.catch_up(),
            Way::Steady => self.steady(bare),
            Way::CopyBesideLoad => self.copy_beside_load(bare),
            Way::WriterWithoutMerge => self.writer(Merge::PositionOnly),
            Way::WriterWithMerge => self.writer(Merge::Balances),
        }
    }

    fn next_schema(&mut self) -> String {
        self.schemas += 1;
        format!("speed_{}", self.schemas)
    }

    /// Transfers that an attached projector has before it counts as steady.
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
        // The first transaction holds what came first, which is little; the clock starts behind it.
        sql.wait(LOOK_EVERY, 1)?;
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
        sql.wait(LOOK_EVERY, accounts)?;
        let end = accounts + self.rows.count();
        let (whole, steady) = self.beside_load(&engine, bare, || {
            let first = newest(&sql.wait(LOOK_EVERY, accounts + 1)?)?;
            sql.wait(LOOK_EVERY, accounts + self.steady_from())?;
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

    /// Does something while an engine takes the load that an attached projector is measured with.
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

/// What was projected from one transaction's end to another's.
struct Projected {
    rows: u64,
    took: Duration,
    /// The last move of the position.
    last: Moved,
    transactions: f64,
    /// Seconds that they took.
    in_transactions: f64,
}

fn newest(moves: &[Moved]) -> Result<Moved> {
    moves.last().copied().map_or_else(|| failed("nothing was projected"), Ok)
}

/// From now on, when something was committed just now, to the transaction that passes `end`.
fn project_until(projector: &Projector, sql: &Sql, end: u64) -> Result<Projected> {
    let (count, seconds) = projector.transactions()?;
    let moves = sql.wait(LOOK_EVERY, end)?;
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
    /// Notes a round; its rows a second.
    fn take(&mut self, projected: &Projected) -> f64 {
        let Projected { rows, took, transactions, in_transactions, .. } = projected;
        let seconds = took.as_secs_f64();
        self.rows.push(number(*rows) / transactions.max(1.0));
        self.part.push(in_transactions / seconds);
        number(*rows) / seconds
    }
}
