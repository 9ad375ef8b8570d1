//! The cost of an attached projector to the engine: the same load with and without it, in turn.
//!
//! The engine is pinned to a core that nothing else uses. Projector and PostgreSQL run on the
//! others while they are idle (`SCHED_IDLE`). So the engine's work for a reader is measured, rather
//! than the sharing of a small machine: here, a process at nice 19 that only spins costs the engine
//! a sixth. The disk has no such priority, so PostgreSQL is measured on the engine's disk and in
//! memory, as if it had its own.

use std::path::Path;

use super::sql::{self, Sql};
use super::{ACCOUNTS, Engine, MEMORY, Postgres, PostgresBench, number};
use crate::error::Result;
use crate::limits::{FILL_BATCH, POLL_INTERVAL};
use crate::load::{self, LoadArguments, LoadReport};
use crate::run::wait_for_quiet;
use crate::server::Scratch;
use crate::stats::Spread;

/// Requests in flight at the peak, as in the engine's own benchmark.
const INFLIGHT: u16 = 4;
/// Requests that may be unanswered at a fixed rate.
const PACED_INFLIGHT: u16 = 8;
/// Unmeasured load before the measured one, as a part of it.
const WARMUP_PART: f64 = 0.25;
const SCHEMA: &str = "cost";

/// A load with an attached projector.
struct AttachedLoad {
    load: LoadReport,
    projected_per_second: f64,
}

/// All rounds of a kind of load.
#[derive(Default)]
struct Costs {
    alone: Vec<LoadReport>,
    on_disk: Attached,
    in_memory: Attached,
}

/// Rounds with a projector, each between two rounds without.
#[derive(Default)]
struct Attached {
    loads: Vec<LoadReport>,
    projected: Vec<f64>,
    rate_ratios: Vec<f64>,
    p99_ratios: Vec<f64>,
}

/// Rate and p99 with a projector over those of the engine alone.
struct Ratios {
    rate: Spread,
    p99: Spread,
}

impl PostgresBench {
    /// Rounds of peak and half load. Each is: alone, attached, alone, attached, alone.
    pub fn cost(&mut self) -> Result<()> {
        let (mut peak, mut half) = (Costs::default(), Costs::default());
        let mut rate = None;
        for _ in 0..self.arguments.rounds {
            self.round(&mut peak, None)?;
            // Half of the first peak.
            let first = peak.alone.first().map_or(0.0, |load| load.events_per_second);
            let rate = *rate.get_or_insert(first / 2.0 / number(FILL_BATCH as u64));
            self.round(&mut half, Some(rate))?;
        }
        println!(
            "\nengine on one core, pinned; batches of {FILL_BATCH}, one connection; projector and \
             PostgreSQL on the others while they are idle"
        );
        let from = format!("{} rounds of {} s", self.arguments.rounds, self.arguments.seconds);
        let places = ["on the engine's disk", "in memory"];
        let at_peak = self.summary("peak", peak);
        let at_half = self.summary("half", half);
        for ((place, peak), half) in places.into_iter().zip(at_peak).zip(at_half) {
            let mut target = |what: &str, wanted, at_most, reached| {
                let what = format!("PostgreSQL {place}: {what}");
                self.figures.target(&what, wanted, at_most, Some(reached), &from);
            };
            target("attached transfers/s over alone", 0.95, false, peak.rate);
            target("p99 over alone, at the peak", 1.1, true, peak.p99);
            target("p99 over alone, at half of it", 1.1, true, half.p99);
        }
        Ok(())
    }

    /// Ratios with PostgreSQL on disk and in memory.
    fn summary(&mut self, load: &str, costs: Costs) -> [Ratios; 2] {
        self.loads(&format!("{load}, engine alone"), &costs.alone);
        let places = [("on its disk", costs.on_disk), ("in memory", costs.in_memory)];
        places.map(|(place, attached)| {
            let name = format!("{load}, PostgreSQL {place}");
            self.loads(&name, &attached.loads);
            let mut figure =
                |what: &str, values| self.figures.figure(&format!("{name}: {what}"), values);
            figure("rows/s projected meanwhile", attached.projected);
            let rate = figure("transfers/s over those alone", attached.rate_ratios);
            let p99 = figure("p99 over that alone", attached.p99_ratios);
            Ratios { rate, p99 }
        })
    }

    fn loads(&mut self, name: &str, loads: &[LoadReport]) {
        let mut figure = |what: &str, of: fn(&LoadReport) -> f64| {
            let values = loads.iter().map(of).collect();
            self.figures.figure(&format!("{name}: {what}"), values)
        };
        figure("transfers/s", |load| load.events_per_second);
        figure("p99 us", |load| load.latency_micros.p99);
        figure("engine's CPU us a transfer", |load| {
            load.server_cpu_micros_per_event.unwrap_or_default()
        });
    }

    fn round(&self, costs: &mut Costs, rate: Option<f64>) -> Result<()> {
        let before = self.alone(rate)?;
        let on_disk = self.attached(rate, &self.dir)?;
        let between = self.alone(rate)?;
        let in_memory = self.attached(rate, Path::new(MEMORY))?;
        let after = self.alone(rate)?;
        costs.on_disk.add(on_disk, [&before, &between]);
        costs.in_memory.add(in_memory, [&between, &after]);
        costs.alone.extend([before, between, after]);
        Ok(())
    }

    fn alone(&self, rate: Option<f64>) -> Result<LoadReport> {
        let engine = self.engine("alone")?;
        load::run(&self.cost_load(&engine, rate))
    }

    /// With a PostgreSQL in `place` that exists only for this load.
    fn attached(&self, rate: Option<f64>, place: &Path) -> Result<AttachedLoad> {
        let postgres = Scratch::create(place, "cost-pg")?;
        let directory = postgres.0.join("pg");
        let engine = self.engine("attached")?;
        let (to, log) = (Postgres::ManagedAndIdle(&directory), postgres.0.join("projector.log"));
        let mut projector = self.projector.start(engine.server.address, to, SCHEMA, &log)?;
        let sql = Sql::connect_when_ready(&sql::schema_of(&directory, SCHEMA)?)?;
        sql.wait(POLL_INTERVAL, ACCOUNTS.into())?;
        wait_for_quiet(engine.data())?;
        let load = load::run(&self.cost_load(&engine, rate))?;
        projector.check()?;
        let select = "SELECT next_offset FROM positions WHERE partition = 0";
        let projected = sql.one::<i64>(select, &[])?.cast_unsigned() - u64::from(ACCOUNTS);
        drop(sql);
        projector.stop()?;
        let seconds = load.seconds * (1.0 + WARMUP_PART);
        Ok(AttachedLoad { load, projected_per_second: number(projected) / seconds })
    }

    fn cost_load(&self, engine: &Engine, rate: Option<f64>) -> LoadArguments {
        let seconds = self.arguments.seconds;
        LoadArguments {
            batch: FILL_BATCH,
            inflight: if rate.is_some() { PACED_INFLIGHT } else { INFLIGHT },
            seconds,
            warmup: seconds * WARMUP_PART,
            rate,
            server_pid: vec![engine.server.pid()],
            ..engine.load()
        }
    }
}

impl Attached {
    /// Adds a round, with the rounds without a projector before and after it.
    fn add(&mut self, attached: AttachedLoad, alone: [&LoadReport; 2]) {
        let part = |of: fn(&LoadReport) -> f64| {
            of(&attached.load) / f64::midpoint(of(alone[0]), of(alone[1]))
        };
        self.rate_ratios.push(part(|load| load.events_per_second));
        self.p99_ratios.push(part(|load| load.latency_micros.p99));
        self.projected.push(attached.projected_per_second);
        self.loads.push(attached.load);
    }
}
