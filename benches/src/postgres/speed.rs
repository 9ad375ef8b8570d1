//! Rows a second: the projector that catches up, and the one that is attached while more is written
//! than it takes, each between two bare COPYs of the same rows into the same indexed tables.
//!
//! Where the projector loses against the COPY is shown by its writer without feed and encoding, with
//! and without the merge of balances, and by a COPY that shares the machine with the same load.

use std::time::Duration;

use super::rows::{Merge, Rows};
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

const WAYS: [(Way, &str); 5] = [
    (Way::CatchUp, "projector catching up: feed, encoding, COPY, position, balances"),
    (Way::Steady, "projector attached, 1.5 times the load that a bare COPY takes"),
    (Way::CopyBesideLoad, "bare COPY beside that load (engine, generator; no projector)"),
    (Way::WriterWithoutMerge, "projector's writer without balance merge: COPY, position"),
    (Way::WriterWithMerge, "projector's writer with balance merge: COPY, position, balances"),
];

struct Speed<'a> {
    bench: &'a Bench,
    home: Home,
    /// Holds the rows.
    engine: Engine,
    rows: Rows,
    /// Schemas are numbered, so that none is used twice.
    schemas: usize,
    /// Of catching up: the part of its time that was spent in transactions.
    in_transactions: Vec<f64>,
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
        let mut speed =
            Speed { bench: self, home, engine, rows, schemas: 0, in_transactions: Vec::new() };
        let mut bare = Vec::new();
        let mut rates = WAYS.map(|_| Vec::new());
        let mut ratios = WAYS.map(|_| Vec::new());
        for _ in 0..speed.bench.arguments.rounds {
            let mut before = speed.bare()?;
            bare.push(before);
            for (place, (way, _)) in WAYS.into_iter().enumerate() {
                let rate = speed.measure(way, before)?;
                let after = speed.bare()?;
                bare.push(after);
                rates[place].push(rate);
                ratios[place].push(rate / f64::midpoint(before, after));
                before = after;
            }
        }
        let in_transactions = speed.in_transactions;
        let figures = &mut self.figures;
        println!("{transfers} transfers, {ACCOUNTS} accounts; rows/s, median [min - max]");
        figures.figure("rows in a transaction of a backlog", vec![per_transaction]);
        figures.figure("accounts that such a transaction changes", vec![merged]);
        figures.figure("rows/s, bare COPY BINARY, same rows, tables, transactions", bare);
        for ((_, name), rates) in WAYS.iter().zip(rates) {
            figures.figure(&format!("rows/s, {name}"), rates);
        }
        let name = "catching up: part of its time inside of transactions";
        figures.figure(name, in_transactions);
        let from = format!("{transfers} transfers, {} rounds", self.arguments.rounds);
        for ((way, name), ratios) in WAYS.iter().zip(ratios) {
            let what = format!("part of bare COPY, {name}");
            let reached = figures.figure(&what, ratios);
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

    /// Rows a second of a bare COPY.
    fn bare(&mut self) -> Result<f64> {
        let schema = self.next_schema();
        let took = self.rows.copy(&self.home.schema(&schema)?)?;
        self.home.clear(&schema)?;
        Ok(self.per_second(took))
    }

    fn writer(&mut self, merge: Merge) -> Result<f64> {
        let schema = self.next_schema();
        let took = self.rows.write(&self.home.schema(&schema)?, merge)?;
        self.home.clear(&schema)?;
        Ok(self.per_second(took))
    }

    fn per_second(&self, took: Duration) -> f64 {
        number(self.rows.count()) / took.as_secs_f64()
    }

    /// A projector is started against a log that holds everything.
    fn catch_up(&mut self) -> Result<f64> {
        let schema = self.next_schema();
        let projector = self.bench.project(&self.engine, &self.home, &schema)?;
        let sql = Sql::connect_when_ready(&self.home.schema(&schema)?)?;
        let end = u64::from(ACCOUNTS) + self.rows.count();
        let moves = sql.wait(LOOK_EVERY, end)?;
        let (transactions, seconds) = projector.transactions()?;
        projector.stop()?;
        let (rate, took) = rate_of(&moves)?;
        // The first one is over when the clock starts; it is small.
        let counted = seconds * (transactions - 1.0) / transactions;
        self.in_transactions.push((counted / took.as_secs_f64()).min(1.0));
        self.home.clear(&schema)?;
        Ok(rate)
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
        let moves = self.beside_load(&engine, bare, || {
            // The clock starts with the first transfers.
            let mut moves = sql.wait(LOOK_EVERY, end)?;
            moves.retain(|moved| moved.next_offset > accounts);
            Ok(moves)
        })?;
        projector.stop()?;
        self.home.clear(&schema)?;
        Ok(rate_of(&moves)?.0)
    }

    fn copy_beside_load(&mut self, bare: f64) -> Result<f64> {
        let schema = self.next_schema();
        let engine = self.bench.engine("beside")?;
        let database = self.home.schema(&schema)?;
        let took = self.beside_load(&engine, bare, || self.rows.copy(&database))?;
        self.home.clear(&schema)?;
        Ok(self.per_second(took))
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

/// Rows a second from the first transaction seen to the last, and how long that was.
fn rate_of(moves: &[Moved]) -> Result<(f64, Duration)> {
    let moves = moves.iter().filter(|moved| moved.next_offset > 0);
    let (mut first, mut last) = (None, None);
    for moved in moves {
        first = first.or(Some(moved));
        last = Some(moved);
    }
    let (Some(first), Some(last)) = (first, last) else { return failed("nothing was projected") };
    let (rows, took) = (last.next_offset - first.next_offset, last.at - first.at);
    if rows == 0 {
        return failed("all was projected at once; take more --transfers");
    }
    Ok((number(rows) / took.as_secs_f64(), took))
}
