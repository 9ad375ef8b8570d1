//! A projector that was stopped while millions of transfers were written: how it catches up, and
//! how the engine's memory changes.

use std::time::Instant;

use super::sql::Sql;
use super::{ACCOUNTS, PostgresBench, number};
use crate::error::{Result, failed};
use crate::limits::{SAMPLE_INTERVAL, SETTLE};
use crate::stats::{Spread, ratio};
use crate::system::resident_bytes_of;

/// Most growth of the engine's memory while a reader catches up: pages in flight on its connection
/// and in the kernel, a few times the 8 MiB of credit that a subscription gives.
const GROWTH_MIB_MAX: f64 = 32.0;

impl PostgresBench {
    /// A single round, because it is long.
    pub fn behind(&mut self) -> Result<()> {
        let never = self.grown_without_projector()?;
        let home = self.home("behind")?;
        let engine = self.engine("behind")?;
        let database = home.schema("behind")?;
        let projector = self.project(&engine, &home, "behind")?;
        let sql = Sql::connect_when_ready(&database)?;
        sql.wait(SAMPLE_INTERVAL, ACCOUNTS.into())?;
        projector.stop()?;
        std::thread::sleep(SETTLE);
        let resident = || resident_bytes_of(engine.server.pid());
        let before = resident()?;
        let transfers = engine.fill(self.arguments.catch_up_transfers)?;
        std::thread::sleep(SETTLE);
        let written = resident()?;
        let end = u64::from(ACCOUNTS) + transfers;
        let mut most = written;
        let started = Instant::now();
        let projector = self.project(&engine, &home, "behind")?;
        sql.watch(SAMPLE_INTERVAL, |next| {
            most = most.max(resident()?);
            Ok(next >= end)
        })?;
        let seconds = started.elapsed().as_secs_f64();
        std::thread::sleep(SETTLE);
        let after = resident()?;
        let found: i64 = sql.one("SELECT count(*) FROM transfers", &[])?;
        if found.cast_unsigned() != transfers {
            return failed(format!("{found} rows for {transfers} transfers"));
        }
        projector.stop()?;
        let mib = |bytes: u64| ratio(bytes, 1 << 20);
        let figures = &mut self.figures;
        println!("\n{transfers} transfers were written while the projector was stopped");
        figures.figure("engine's MiB before the writes", vec![mib(before)]);
        figures.figure("engine's MiB after the writes", vec![mib(written)]);
        let grown = written.saturating_sub(before);
        let per_transfer = vec![ratio(grown, transfers)];
        figures.figure("growth in bytes a transfer, whose id is remembered", per_transfer);
        let per_transfer = vec![ratio(never, transfers)];
        figures.figure("the same for an engine that never had a projector", per_transfer);
        figures.figure("engine's MiB while the projector catches up, peak", vec![mib(most)]);
        figures.figure("engine's MiB after it has caught up", vec![mib(after)]);
        figures.figure("seconds from the projector's start until caught up", vec![seconds]);
        figures.figure("rows/s, start included", vec![number(transfers) / seconds]);
        let growth = vec![mib(most.saturating_sub(written))];
        let growth =
            figures.figure("engine's growth in MiB while the projector catches up", growth);
        let from = format!("{transfers} transfers");
        let what = "a stopped projector catches up: part of the rows that arrive";
        let all = Some(Spread::of([ratio(found.cast_unsigned(), transfers)]));
        figures.target(what, 1.0, false, all, &from);
        let what = "a projector catches up: engine's growth in MiB";
        figures.target(what, GROWTH_MIB_MAX, true, Some(growth), &from);
        let more = Some(Spread::of([mib(grown.saturating_sub(never))]));
        let what = "a projector is stopped: engine's extra growth in MiB";
        figures.target(what, GROWTH_MIB_MAX, true, more, &from);
        Ok(())
    }

    /// Growth of an engine's memory by the same transfers when nothing reads its log.
    fn grown_without_projector(&self) -> Result<u64> {
        let engine = self.engine("never")?;
        std::thread::sleep(SETTLE);
        let before = resident_bytes_of(engine.server.pid())?;
        engine.fill(self.arguments.catch_up_transfers)?;
        std::thread::sleep(SETTLE);
        Ok(resident_bytes_of(engine.server.pid())?.saturating_sub(before))
    }
}
