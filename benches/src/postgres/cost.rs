//! What an attached projector costs the engine: the same load with and without it, in turn.
//!
//! The engine has a core that it is pinned to. Projector and PostgreSQL run with the lowest priority
//! (nice 19), so that what is measured is the engine's work for a reader, and not that machines with
//! few cores are shared.

use std::path::Path;

use super::sql::{self, Sql};
use super::{ACCOUNTS, Bench, Engine, FILL_BATCH, LOOK_EVERY, Postgres, number};
use crate::error::Result;
use crate::load::{self, LoadArguments, LoadReport};
use crate::run::wait_for_quiet;
use crate::server::Scratch;
use crate::stats::Spread;

/// Requests in flight at the peak, as in the engine's own benchmark.
const INFLIGHT: u16 = 4;
/// Requests that may be unanswered at a fixed rate.
const PACED_INFLIGHT: u16 = 8;
/// Load before it is measured, as a part of what is.
const WARMUP_PART: f64 = 0.25;

/// A load, and what was projected in the meantime.
struct Loaded {
    load: LoadReport,
    projected_per_second: f64,
}

/// All rounds of one kind of load.
#[derive(Default)]
struct Costs {
    alone: Vec<LoadReport>,
    attached: Vec<LoadReport>,
    rate_ratios: Vec<f64>,
    p99_ratios: Vec<f64>,
    projected: Vec<f64>,
}

/// What they come to.
struct Summary {
    /// Transfers/s of the engine alone.
    alone: Spread,
    /// Of the attached one, as a part of that.
    rate: Spread,
    /// Its p99 over that of the engine alone.
    p99: Spread,
}

impl Bench {
    /// Rounds of peak and half load: alone, attached, alone.
    pub fn cost(&mut self) -> Result<()> {
        // Made once and started anew for each load: while it is not attached, nothing of it runs.
        let postgres = Scratch::create(&self.dir, "cost-pg")?;
        let (mut peak, mut half) = (Costs::default(), Costs::default());
        let mut rate = None;
        for round in 0..self.arguments.rounds {
            let schema = format!("peak_{round}");
            self.round(&mut peak, None, &postgres.0, &schema)?;
            // Half of what the first one reached.
            let first = peak.alone.first().map_or(0.0, |load| load.events_per_second);
            let rate = *rate.get_or_insert(first / 2.0 / number(FILL_BATCH as u64));
            let schema = format!("half_{round}");
            self.round(&mut half, Some(rate), &postgres.0, &schema)?;
        }
        println!(
            "\nengine on one core, pinned; batches of {FILL_BATCH}, one connection; projector and \
             PostgreSQL at nice 19"
        );
        let from = format!("{} rounds of {} s", self.arguments.rounds, self.arguments.seconds);
        let at_peak = self.summary("at its peak", peak);
        let what = "attached projector: engine's transfers/s, part of those alone";
        self.figures.target(what, 0.95, false, Some(at_peak.rate), &from);
        let what = "attached projector: engine's p99 at its peak, over alone";
        self.figures.target(what, 1.1, true, Some(at_peak.p99), &from);
        let at_half = self.summary("at half of it", half);
        let from = format!("{from}, {:.0} transfers/s", at_half.alone.median);
        let what = "attached projector: engine's p99 at half its peak, over alone";
        self.figures.target(what, 1.1, true, Some(at_half.p99), &from);
        Ok(())
    }

    fn summary(&mut self, load: &str, costs: Costs) -> Summary {
        let mut figure =
            |name: &str, values| self.figures.figure(&format!("{load}: {name}"), values);
        let rates =
            |loads: &[LoadReport]| loads.iter().map(|load| load.events_per_second).collect();
        let cpu = |loads: &[LoadReport]| {
            loads.iter().filter_map(|load| load.server_cpu_micros_per_event).collect()
        };
        let p99s =
            |loads: &[LoadReport]| loads.iter().map(|load| load.latency_micros.p99).collect();
        let alone = figure("transfers/s, engine alone", rates(&costs.alone));
        figure("transfers/s, projector attached", rates(&costs.attached));
        figure("rows/s projected meanwhile", costs.projected);
        figure("engine's CPU us a transfer, alone", cpu(&costs.alone));
        figure("engine's CPU us a transfer, projector attached", cpu(&costs.attached));
        figure("p99 us, engine alone", p99s(&costs.alone));
        figure("p99 us, projector attached", p99s(&costs.attached));
        let rate = figure("transfers/s attached, part of those alone", costs.rate_ratios);
        let p99 = figure("p99 attached, over alone", costs.p99_ratios);
        Summary { alone, rate, p99 }
    }

    fn round(
        &self,
        costs: &mut Costs,
        rate: Option<f64>,
        postgres: &Path,
        schema: &str,
    ) -> Result<()> {
        let before = self.alone(rate)?;
        let attached = self.attached(rate, postgres, schema)?;
        let after = self.alone(rate)?;
        let part = |of: fn(&LoadReport) -> f64| {
            of(&attached.load) / f64::midpoint(of(&before), of(&after))
        };
        costs.rate_ratios.push(part(|load| load.events_per_second));
        costs.p99_ratios.push(part(|load| load.latency_micros.p99));
        costs.projected.push(attached.projected_per_second);
        costs.attached.push(attached.load);
        costs.alone.extend([before, after]);
        Ok(())
    }

    fn alone(&self, rate: Option<f64>) -> Result<LoadReport> {
        let engine = self.engine("alone")?;
        load::run(&self.cost_load(&engine, rate))
    }

    fn attached(&self, rate: Option<f64>, postgres: &Path, schema: &str) -> Result<Loaded> {
        let engine = self.engine("attached")?;
        let directory = postgres.join("pg");
        let (to, log) = (Postgres::ManagedAndNice(&directory), postgres.join("projector.log"));
        let mut projector = self.projector.start(engine.server.address, to, schema, &log)?;
        let sql = Sql::connect_when_ready(&sql::schema_of(&directory, schema)?)?;
        sql.wait(LOOK_EVERY, ACCOUNTS.into())?;
        wait_for_quiet(engine.data())?;
        let load = load::run(&self.cost_load(&engine, rate))?;
        projector.check()?;
        let select = "SELECT next_offset FROM positions WHERE partition = 0";
        let projected = sql.one::<i64>(select, &[])?.cast_unsigned() - u64::from(ACCOUNTS);
        drop(sql);
        projector.stop()?;
        let seconds = load.seconds * (1.0 + WARMUP_PART);
        Ok(Loaded { load, projected_per_second: number(projected) / seconds })
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
