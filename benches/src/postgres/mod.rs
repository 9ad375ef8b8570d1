//! The projector, measured beside what PostgreSQL takes by itself: rows a second, latency until a
//! write is visible in SQL, what it costs the engine, and how it catches up.
//!
//! PostgreSQL is the private server that the projector manages, with its settings; fsync is on.

mod behind;
mod cost;
mod projector;
mod rows;
mod speed;
mod sql;
mod visible;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use walengine_projector::database::Database;
use walengine_projector::managed::Managed;

use crate::error::{During, Result, failed};
use crate::figures::Figures;
use crate::interrupt::Watch;
use crate::load::{self, LoadArguments};
use crate::run::wait_for_quiet;
use crate::server::{Program, Scratch, Server};
use projector::{Postgres, Projector, ProjectorProgram};
use sql::Sql;

/// Accounts that transfers move between.
const ACCOUNTS: u32 = 10_000;
/// Transfers in a batch that fills a log, and in one of the engine's peak.
const FILL_BATCH: usize = 8190;
/// A directory in memory.
const MEMORY: &str = "/dev/shm";
/// Pause between two looks at a position where milliseconds don't matter.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct PostgresArguments {
    /// Directory on the disk to use; what is written there is removed again. An unprivileged user
    /// must be able to reach it, if this is run by root
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Only this: `speed`, `visible`, `cost` or `behind`
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,

    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,

    /// How long each load takes where latency is measured, in seconds
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,

    /// Transfers that are projected where rows a second are measured
    #[arg(long, value_name = "N", default_value_t = 600_000)]
    pub transfers: u64,

    /// Transfers that a stopped projector catches up with
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    pub catch_up_transfers: u64,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,

    /// The projector to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub projector: Option<PathBuf>,

    /// Where JSON goes
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
}

/// Measures one part.
type Measure = fn(&mut Bench) -> Result<()>;

/// What every part needs.
struct Bench {
    arguments: PostgresArguments,
    /// `--dir` without detours: PostgreSQL's user looks from elsewhere.
    dir: PathBuf,
    server: Program,
    projector: ProjectorProgram,
    figures: Figures,
}

/// A PostgreSQL for one part. It ends before its directory goes.
struct Home {
    _managed: Managed,
    scratch: Scratch,
}

/// An engine on one core with the accounts, and nothing else in its log. It ends before its directory
/// goes.
struct Engine {
    server: Server,
    _scratch: Scratch,
}

/// Runs all of it.
pub fn command(arguments: &PostgresArguments) -> Result<()> {
    if arguments.rounds == 0 {
        return failed("--rounds must be at least 1");
    }
    std::fs::create_dir_all(&arguments.dir).during("creating --dir")?;
    let dir = std::fs::canonicalize(&arguments.dir).during("looking for --dir")?;
    let server = Program::find(arguments.server.as_deref())?;
    let projector = ProjectorProgram::find(arguments.projector.as_deref())?;
    let watch = Watch::begin(&[&dir, Path::new(MEMORY)])?;
    let (arguments, figures) = (arguments.clone(), Figures::default());
    let mut bench = Bench { arguments, dir, server, projector, figures };
    let parts: [(&str, Measure); 4] = [
        ("speed", Bench::speed),
        ("visible", Bench::visible),
        ("cost", Bench::cost),
        ("behind", Bench::behind),
    ];
    for (name, measure) in parts {
        if bench.arguments.case.as_ref().is_none_or(|case| name.contains(&**case)) {
            watch.settle(measure(&mut bench))?;
        }
    }
    bench.figures.finish(&bench.arguments.out, "postgres")
}

impl Bench {
    fn home(&self, part: &str) -> Result<Home> {
        let scratch = Scratch::create(&self.dir, &format!("{part}-pg"))?;
        let managed = Managed::start(&scratch.0.join("pg")).during("starting PostgreSQL")?;
        Ok(Home { _managed: managed, scratch })
    }

    /// Starts it when all that was written before is on disk.
    fn engine(&self, part: &str) -> Result<Engine> {
        Command::new("sync").status().during("running sync")?;
        let scratch = Scratch::create(&self.dir, part)?;
        let server = self.server.start(&scratch.0.join("data"), 1)?;
        let engine = Engine { server, _scratch: scratch };
        load::run(&LoadArguments { requests: Some(0), ..engine.load() })?;
        wait_for_quiet(&engine.server.data)?;
        Ok(engine)
    }

    fn project(&self, engine: &Engine, home: &Home, schema: &str) -> Result<Projector> {
        let postgres = home.directory();
        let log = home.scratch.0.join("projector.log");
        let postgres = Postgres::Running(&postgres);
        self.projector.start(engine.server.address, postgres, schema, &log)
    }
}

impl Home {
    fn directory(&self) -> PathBuf {
        self.scratch.0.join("pg")
    }

    fn schema(&self, name: &str) -> Result<Database> {
        sql::schema_of(&self.directory(), name)
    }

    /// Removes a schema that was measured, and has everything on disk before the next one.
    fn clear(&self, schema: &str) -> Result<()> {
        let sql = Sql::connect(&self.schema(schema)?)?;
        sql.run(&format!("DROP SCHEMA {schema} CASCADE"))?;
        sql.run("CHECKPOINT")
    }
}

impl Engine {
    fn load(&self) -> LoadArguments {
        LoadArguments { accounts: ACCOUNTS, ..LoadArguments::to(self.server.address) }
    }

    /// Fills the log with whole batches; how many transfers they are.
    fn fill(&self, transfers: u64) -> Result<u64> {
        let requests = transfers.div_ceil(FILL_BATCH as u64);
        let batch = FILL_BATCH;
        load::run(&LoadArguments { batch, inflight: 4, requests: Some(requests), ..self.load() })?;
        Ok(requests * FILL_BATCH as u64)
    }

    fn data(&self) -> &Path {
        &self.server.data
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "a figure for people; 53 bits are plenty")]
fn number(count: u64) -> f64 {
    count as f64
}
