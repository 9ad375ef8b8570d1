//! The whole benchmark: starts servers, goes through the cases, floor and engine in turn, and writes
//! table, JSON and plots.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::error::{During, Result, failed};
use crate::floor::{self, RawFile};
use crate::load::{self, LoadArguments, LoadReport};
use crate::log_only::{self, LogArguments, LogReport};
use crate::memory::{self, MemoryArguments, MemoryReport};
use crate::peers::{self, PeerReport, PeersArguments};
use crate::plots;
use crate::report::{Case, CaseReport, Floor, Round};
use crate::server::{Program, Scratch};
use crate::stats::Spread;
use crate::system::Device;
use crate::targets::{self, Measured, Target};

/// Election timeout of clusters: the default.
pub const ELECTION: Duration = Duration::from_secs(1);
/// Rounds of a case that may end without a figure.
const LOST_MAX: usize = 3;
/// Most raw commits in flight: past it a device of this class gains nothing.
const RAW_DEPTH_MAX: usize = 64;
/// The fixed rate is this part of the first round's peak.
const PACED_PART: f64 = 0.5;
/// Length of an answer to a batch that was accepted whole: header, token, list of one run.
pub const REPLY_BYTES: usize = 70;

/// Loads in which a wave of requests takes longer than half a second are measured so many times
/// longer.
const HEAVY_TIMES: f64 = 4.0;
/// A fresh server writes zeros ahead of its log; the load begins when the device writes less than
/// this in a look.
const QUIET_BYTES: u64 = 1 << 20;
/// How long a look at the device takes.
const QUIET_LOOK: Duration = Duration::from_millis(50);
/// How many looks at most: other programs may use the device, too.
const QUIET_LOOKS: usize = 40;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArguments {
    /// Directory on the disk to measure; what is written there is removed again
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Rounds of floor, engine, floor that must count
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,

    /// How long each load takes, in seconds; floors take half of it
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,

    /// About a minute: one short round of each case, no extra ones. For a first look only
    #[arg(long)]
    pub quick: bool,

    /// Only cases whose name contains this, such as `transfers-8190`, `c64-n1`, `log` or `scaling`
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,

    /// Cores of the larger server [default: all of the machine]
    #[arg(long, value_name = "N")]
    pub cores: Option<usize>,

    /// Nodes of a cluster on this machine, one core each; load goes to the leader. 1: a node alone
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,

    /// Where JSON and plots go
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,

    /// Measure memory and restart, too (1 M accounts, 10 M transfers)
    #[arg(long)]
    pub memory: bool,

    /// Measure Redis Streams, etcd and PostgreSQL, too, as far as they are installed
    #[arg(long)]
    pub peers: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// Seconds since 1970.
    pub at: u64,
    /// Cores of the machine.
    pub machine_cores: usize,
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// The log alone.
    pub logs: Vec<LogReport>,
    /// One core and two.
    pub scaling: Option<ScalingReport>,
    /// Memory and restart.
    pub memory: Option<MemoryReport>,
    /// Others.
    pub peers: Vec<PeerReport>,
    /// What must be reached, and what was.
    pub targets: Vec<Target>,
}

/// What a second core adds, beside what a second raw writer adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScalingReport {
    /// Events/s on two cores over those on one.
    pub engine_gain: Spread,
    /// Raw commits/s of two writers over those of one.
    pub raw_gain: Spread,
    /// The one gain over the other.
    pub part_of_raw_gain: Spread,
    /// Load that it was measured with.
    pub from: String,
    /// Rounds that were thrown away.
    pub thrown_away: usize,
}

struct Bench {
    arguments: RunArguments,
    program: Program,
    raw: RawFile,
}

/// Runs it all.
pub fn command(arguments: &RunArguments) -> Result<()> {
    let mut arguments = arguments.clone();
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (1, 0.5);
    }
    if arguments.nodes == 0 || arguments.nodes > 5 {
        return failed("--nodes must be from 1 to 5");
    }
    if arguments.rounds == 0 {
        return failed("--rounds must be at least 1");
    }
    std::fs::create_dir_all(&arguments.dir).during("creating --dir")?;
    let program = Program::find(arguments.server.as_deref())?;
    let raw = RawFile::create(&arguments.dir)?;
    let bench = Bench { arguments, program, raw };
    let report = bench.run()?;
    println!("\nMust reach");
    for target in &report.targets {
        println!("{}", target.to_line());
    }
    bench.save(&report)
}

impl Bench {
    fn run(&self) -> Result<RunReport> {
        let machine_cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = self.arguments.cores.unwrap_or(machine_cores);
        let cases = self.cases(cores)?;
        let alone = self.arguments.nodes == 1;
        let logs = if alone && self.wants("log") {
            log_only::measure_all(&self.log_arguments())?
        } else {
            Vec::new()
        };
        let scaling =
            if alone && self.wants("scaling") && cores > 1 { Some(self.scaling()?) } else { None };
        let memory = if self.arguments.memory || self.asks_for("memory") {
            let (dir, server) = (self.arguments.dir.clone(), self.arguments.server.clone());
            Some(memory::command(&MemoryArguments { dir, server, ..MemoryArguments::default() })?)
        } else {
            None
        };
        let peers = if self.arguments.peers {
            let (dir, seconds) = (self.arguments.dir.clone(), self.arguments.seconds);
            peers::command(&PeersArguments { dir, seconds })
        } else {
            Vec::new()
        };
        let measured = Measured {
            cases: &cases,
            logs: &logs,
            scaling: scaling.as_ref(),
            memory: memory.as_ref(),
        };
        let targets = if alone { targets::all(&measured) } else { targets::of_clusters(&measured) };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(RunReport { at, machine_cores, cases, logs, scaling, memory, peers, targets })
    }

    fn cases(&self, cores: usize) -> Result<Vec<CaseReport>> {
        let cases: Vec<Case> = all_cases(cores, self.arguments.nodes)
            .into_iter()
            .filter(|case| self.wants(&case.name()))
            .collect();
        if !cases.is_empty() {
            println!("{}", CaseReport::heading());
        }
        let mut reports = Vec::new();
        for case in cases {
            let report = self.measure(case)?;
            println!("{}", report.to_lines());
            reports.push(report);
        }
        Ok(reports)
    }

    fn wants(&self, name: &str) -> bool {
        self.arguments.case.as_ref().is_none_or(|case| name.contains(case.as_str()))
    }

    fn asks_for(&self, name: &str) -> bool {
        self.arguments.case.is_some() && self.wants(name)
    }

    /// Most rounds that may be thrown away before the machine counts as restless.
    fn thrown_away_max(&self) -> usize {
        if self.arguments.quick { 1 } else { 2 * self.arguments.rounds }
    }

    fn measure(&self, case: Case) -> Result<CaseReport> {
        let (mut calm, mut restless) = (Vec::new(), Vec::new());
        let (mut rate, mut lost) = (None, 0);
        while calm.len() < self.arguments.rounds && restless.len() < self.thrown_away_max() {
            match self.round(case, &mut rate) {
                Ok(round) if round.is_calm() => calm.push(round),
                Ok(round) => restless.push(round),
                // A cluster whose leader was lost under load gives no figures; that it was, counts.
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
        let request_bytes = load::request_bytes(case.what())?;
        let loopback_micros = floor::round_trips(request_bytes, REPLY_BYTES, time)?;
        Ok(Floor { raw, loopback_micros })
    }

    /// A fresh server each time, so that every round starts from the same state.
    fn load(&self, case: Case, rate: Option<f64>) -> Result<LoadReport> {
        let scratch = Scratch::create(&self.arguments.dir, "case")?;
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
            // With a fixed rate, a slow answer must not hold the next request back.
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

    /// The same on a fresh cluster, at its leader.
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

    fn scaling(&self) -> Result<ScalingReport> {
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

    fn log_arguments(&self) -> LogArguments {
        let RunArguments { dir, rounds, seconds, .. } = self.arguments.clone();
        LogArguments { dir, rounds, seconds: seconds / 2.0 }
    }

    fn save(&self, report: &RunReport) -> Result<()> {
        let out = &self.arguments.out;
        std::fs::create_dir_all(out).during("creating the directory for results")?;
        let json = serde_json::to_string_pretty(report).during("writing results")?;
        let path = out.join(format!("run-{}.json", report.at));
        write(&path, &json)?;
        println!("\nresults: {}", path.display());
        for (name, svg) in plots::of(&report.cases) {
            let path = out.join(name);
            write(&path, &svg)?;
            println!("plot:    {}", path.display());
        }
        Ok(())
    }
}

fn answered(case: Case, report: LoadReport) -> Result<LoadReport> {
    if report.requests == 0 {
        return failed(format!("{}: nothing was answered in {} s", case.name(), report.seconds));
    }
    Ok(report)
}

/// Waits until a fresh server has written its zeros.
pub fn wait_for_quiet(data: &Path) -> Result<()> {
    let device = Device::of(data)?;
    for _ in 0..QUIET_LOOKS {
        let before = device.counters()?;
        std::thread::sleep(QUIET_LOOK);
        if device.counters()?.since(before).write_bytes < QUIET_BYTES {
            break;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).during(&format!("writing {}", path.display()))
}

/// Requests that may be unanswered on a connection at a fixed rate.
fn paced_inflight(case: Case) -> u16 {
    if case.batch <= 64 { 64 } else { 8 }
}

/// Batches of 1, 64, 1,024 and 8,190 transfers and 1,000 records; 1 and 64 connections; one and
/// `cores` cores. A single connection pipelines, but for single transfers: those show latency.
fn all_cases(cores: usize, nodes: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut sizes = vec![1];
    if cores > 1 && nodes == 1 {
        sizes.push(cores);
    }
    let loads = [(false, 1), (false, 64), (false, 1024), (false, 8190), (true, 1000)];
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
