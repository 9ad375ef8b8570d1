//! Measures a case: rounds of floor, engine, floor, until enough of them are calm.

use std::time::Duration;

use walengine_net::limits::EVENTS_MAX;

use super::{CaseRunner, ELECTION, wait_for_quiet};
use crate::cluster::Cluster;
use crate::error::{Result, failed};
use crate::floor;
use crate::load::{self, LoadArguments, LoadReport};
use crate::log_only;
use crate::report::{Case, CaseReport, Floor, Round};
use crate::scaling::ScalingReport;
use crate::server::Scratch;
use crate::stats::Spread;
use crate::targets;

/// Rounds of a case that may fail without a figure.
const LOST_MAX: usize = 3;
/// Most raw commits in flight: a device of this class gains nothing from more.
const RAW_DEPTH_MAX: usize = 64;
/// The fixed rate, as a part of the first round's peak.
const PACED_PART: f64 = 0.5;
/// Loads whose requests in flight take longer than half a second are measured this many times
/// longer.
const HEAVY_TIMES: f64 = 4.0;

impl CaseRunner {
    pub(super) fn measure(&self, case: Case) -> Result<CaseReport> {
        let (mut calm, mut restless) = (Vec::new(), Vec::new());
        let (mut rate, mut lost) = (None, 0);
        while calm.len() < self.arguments.rounds && restless.len() < self.thrown_away_max() {
            match self.round(case, &mut rate) {
                Ok(round) if round.is_calm() => calm.push(round),
                Ok(round) => restless.push(round),
                // A cluster that loses its leader under load gives no figures. The loss is
                // reported.
                Err(error) if case.nodes > 1 && lost < LOST_MAX => {
                    eprintln!("walengine-bench: {}: a round was lost: {error}", case.name());
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let thrown_away = restless.len() + lost;
        let none = calm.is_empty();
        let rounds = if none { restless } else { calm };
        Ok(CaseReport { case, rounds, thrown_away, restless: none })
    }

    fn round(&self, case: Case, rate: &mut Option<f64>) -> Result<Round> {
        let before = self.floor(case)?;
        let peak = self.load(case, None)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = *rate.get_or_insert(PACED_PART * peak.requests as f64 / peak.seconds);
        let paced = self.load(case, Some(rate.max(1.0)))?;
        let after = self.floor(case)?;
        Ok(Round { before, peak, paced, after })
    }

    fn floor(&self, case: Case) -> Result<Floor> {
        let time = Duration::from_secs_f64(self.arguments.seconds / 4.0);
        let depth = (case.connections * usize::from(case.inflight)).min(RAW_DEPTH_MAX);
        let raw = self.raw.commits(case.entry_bytes(), depth, time)?;
        let request_bytes = load::request_bytes(case.request_kind())?;
        let loopback_micros = floor::round_trips(request_bytes, floor::REPLY_BYTES, time)?;
        Ok(Floor { raw, loopback_micros })
    }

    /// Starts a fresh server each time, so that every round starts from the same state.
    fn load(&self, case: Case, rate: Option<f64>) -> Result<LoadReport> {
        let scratch = Scratch::create(&self.arguments.place.dir, "case")?;
        let arguments = self.load_arguments(case, rate);
        if case.nodes > 1 {
            return self.load_cluster(scratch, case, &arguments);
        }
        let server = self.program.start(&scratch.0.join("data"), case.cores)?;
        wait_for_quiet(&server.data)?;
        let report = load::run(&LoadArguments {
            server: server.address,
            server_pid: vec![server.pid()],
            data: Some(server.data.clone()),
            ..arguments
        })?;
        server.stop()?;
        answered(case, report)
    }

    fn load_arguments(&self, case: Case, rate: Option<f64>) -> LoadArguments {
        let waves = case.connections * case.batch;
        let seconds = self.arguments.seconds * if waves > 100_000 { HEAVY_TIMES } else { 1.0 };
        LoadArguments {
            connections: case.connections,
            batch: case.batch,
            // At a fixed rate, a slow answer must not delay the next request.
            inflight: if rate.is_some() {
                case.inflight.max(paced_inflight(case))
            } else {
                case.inflight
            },
            seconds,
            warmup: seconds / 4.0,
            rate,
            records: case.records,
            ..LoadArguments::default()
        }
    }

    /// Loads the leader of a fresh cluster.
    fn load_cluster(
        &self,
        scratch: Scratch,
        case: Case,
        arguments: &LoadArguments,
    ) -> Result<LoadReport> {
        let mut cluster = Cluster::form(&self.program, scratch, case.nodes, ELECTION)?;
        let leader = cluster.wait_whole(case.nodes)?;
        wait_for_quiet(&cluster.nodes[leader].data)?;
        let arguments = LoadArguments {
            server: cluster.nodes[leader].client,
            server_pid: cluster.pids(),
            data: Some(cluster.nodes[leader].data.clone()),
            ..arguments.clone()
        };
        let report = load::run_watched(&arguments, || cluster.counts(leader).map(Some))?;
        answered(case, report)
    }

    pub(super) fn scaling(&self) -> Result<ScalingReport> {
        let (one, two) = (targets::scaling_case(1), targets::scaling_case(2));
        let time = Duration::from_secs_f64(self.arguments.seconds / 4.0);
        let raw = |writers| -> Result<f64> {
            Ok(self.raw.commits(one.entry_bytes(), writers, time)?.commits_per_second)
        };
        let (mut calm, mut restless) = (Vec::new(), Vec::new());
        while calm.len() < self.arguments.rounds && restless.len() < self.thrown_away_max() {
            let (one_before, two_before) = (raw(1)?, raw(2)?);
            let engine_one = self.load(one, None)?.events_per_second;
            let engine_two = self.load(two, None)?.events_per_second;
            let (one_after, two_after) = (raw(1)?, raw(2)?);
            let round =
                (engine_two / engine_one, (two_before + two_after) / (one_before + one_after));
            let moved =
                log_only::differ(one_before, one_after) || log_only::differ(two_before, two_after);
            if moved { restless.push(round) } else { calm.push(round) }
        }
        let thrown_away = restless.len();
        let rounds = if calm.is_empty() { restless } else { calm };
        let report = ScalingReport {
            engine_gain: Spread::of(rounds.iter().map(|round| round.0)),
            raw_gain: Spread::of(rounds.iter().map(|round| round.1)),
            part_of_raw_gain: Spread::of(rounds.iter().map(|round| round.0 / round.1)),
            from: format!("{}, {} rounds, {thrown_away} thrown away", two.name(), rounds.len()),
            thrown_away,
        };
        println!(
            "1 to 2 cores: engine x {:.2} [{:.2} - {:.2}], raw writers x {:.2} [{:.2} - {:.2}]; {}",
            report.engine_gain.median,
            report.engine_gain.min,
            report.engine_gain.max,
            report.raw_gain.median,
            report.raw_gain.min,
            report.raw_gain.max,
            report.from
        );
        Ok(report)
    }
}

fn answered(case: Case, report: LoadReport) -> Result<LoadReport> {
    if report.requests == 0 {
        return failed(format!("{}: nothing was answered in {} s", case.name(), report.seconds));
    }
    Ok(report)
}

/// Requests that may be unanswered on a connection at a fixed rate.
fn paced_inflight(case: Case) -> u16 {
    if case.batch <= 64 { 64 } else { 8 }
}

/// Batches of 1, 64, 1,024 and 8,190 transfers and 1,000 records; 1 and 64 connections; one and
/// `cores` cores. A single connection pipelines its requests, except for single transfers, which
/// show latency.
pub fn all(cores: usize, nodes: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut sizes = vec![1];
    if cores > 1 && nodes == 1 {
        sizes.push(cores);
    }
    let loads = [(false, 1), (false, 64), (false, 1024), (false, EVENTS_MAX), (true, 1000)];
    for cores in sizes {
        for (records, batch) in loads {
            for connections in [1, 64] {
                let inflight = if connections == 1 && batch > 1 { 4 } else { 1 };
                cases.push(Case { records, batch, connections, inflight, cores, nodes });
            }
        }
    }
    cases
}
