//! The whole benchmark: measures all cases, engine and floor in turn, and writes a table, JSON and
//! plots.

mod cases;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::arguments::{PlaceArguments, wants};
use crate::error::{During, Result, failed};
use crate::floor::RawFile;
use crate::log_only::{self, LogArguments, LogReport};
use crate::memory::{self, MemoryArguments, MemoryReport};
use crate::peers::{self, PeerReport, PeersArguments};
use crate::plots;
use crate::report::{Case, CaseReport};
use crate::scaling::ScalingReport;
use crate::server::Program;
use crate::system::Device;
use crate::targets::{self, Measured, Target};

/// Election timeout of clusters: the default.
pub const ELECTION: Duration = Duration::from_secs(1);

/// A fresh server writes zeros ahead of its log. It has finished when the device writes less than
/// this during one look.
const QUIET_BYTES: u64 = 1 << 20;
/// Duration of a look at the device.
const QUIET_LOOK: Duration = Duration::from_millis(50);
/// Most looks: other programs may use the device, too.
const QUIET_LOOKS: usize = 40;

/// Extent of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArguments {
    /// Directory, server and results
    #[command(flatten)]
    pub place: PlaceArguments,

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

    /// Nodes of a cluster on this machine, one core each; the load goes to the leader. 1: no
    /// cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,

    /// Also measure memory and restart (1 M accounts, 10 M transfers)
    #[arg(long)]
    pub memory: bool,

    /// Also measure Redis Streams, etcd and PostgreSQL, as far as they are installed
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
    /// Other programs.
    pub peers: Vec<PeerReport>,
    /// What must be reached, beside what was.
    pub targets: Vec<Target>,
}

struct CaseRunner {
    arguments: RunArguments,
    program: Program,
    raw: RawFile,
}

/// Runs all of it.
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
    std::fs::create_dir_all(&arguments.place.dir).during("creating --dir")?;
    let program = Program::find(arguments.place.server.as_deref())?;
    let raw = RawFile::create(&arguments.place.dir)?;
    let runner = CaseRunner { arguments, program, raw };
    let report = runner.run()?;
    println!("\nMust reach");
    for target in &report.targets {
        println!("{}", target.to_line());
    }
    runner.save(&report)
}

impl CaseRunner {
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
            let PlaceArguments { dir, server, .. } = self.arguments.place.clone();
            Some(memory::command(&MemoryArguments { dir, server, ..MemoryArguments::default() })?)
        } else {
            None
        };
        let peers = if self.arguments.peers {
            let (dir, seconds) = (self.arguments.place.dir.clone(), self.arguments.seconds);
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
        let cases: Vec<Case> = cases::all(cores, self.arguments.nodes)
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
        wants(self.arguments.case.as_ref(), name)
    }

    fn asks_for(&self, name: &str) -> bool {
        self.arguments.case.is_some() && self.wants(name)
    }

    /// Most rounds that may be thrown away before the machine counts as restless.
    fn thrown_away_max(&self) -> usize {
        if self.arguments.quick { 1 } else { 2 * self.arguments.rounds }
    }

    fn log_arguments(&self) -> LogArguments {
        let RunArguments { place, rounds, seconds, .. } = self.arguments.clone();
        LogArguments { dir: place.dir, rounds, seconds: seconds / 2.0 }
    }

    fn save(&self, report: &RunReport) -> Result<()> {
        let out = &self.arguments.place.out;
        std::fs::create_dir_all(out).during("creating the directory for results")?;
        let json = serde_json::to_string_pretty(report).during("writing results")?;
        let path = out.join(format!("run-{}.json", report.at));
        write(&path, &json)?;
        println!("\nresults: {}", path.display());
        for (name, svg) in plots::of(&report.cases)? {
            let path = out.join(name);
            write(&path, &svg)?;
            println!("plot:    {}", path.display());
        }
        Ok(())
    }
}

/// Waits until a fresh server has written the zeros ahead of its log.
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
