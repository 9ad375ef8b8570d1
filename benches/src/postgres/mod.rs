//! Measures the projector: rows a second beside a bare COPY, latency until a write is visible in
//! SQL, its cost to the engine, and how it catches up.
//!
//! PostgreSQL is the private server that the projector manages, with its settings. `fsync` is on.

mod behind;
mod cost;
mod projector;
mod rows;
mod speed;
mod sql;
mod visible;

use std::path::{Path, PathBuf};
use std::process::Command;

use walengine_projector::database::Database;
use walengine_projector::managed::Managed;

use crate::arguments::{PlaceArguments, wants};
use crate::error::{During, Result, failed};
use crate::figures::Figures;
use crate::interrupt::InterruptWatch;
use crate::limits::FILL_BATCH;
use crate::load::{self, LoadArguments};
use crate::run::wait_for_quiet;
use crate::server::{Program, Scratch, Server};
use projector::{Postgres, Projector, ProjectorProgram};
use sql::Sql;

/// Accounts that transfers move between.
const ACCOUNTS: u32 = 10_000;
/// A directory in memory.
const MEMORY: &str = "/dev/shm";

/// Extent of the measurements.
#[derive(Clone, Debug, clap::Args)]
pub struct PostgresArguments {
    /// Directory, server and results
    #[command(flatten)]
    pub place: PlaceArguments,

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

    /// The projector to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub projector: Option<PathBuf>,
}

/// Measures a part.
type Measure = fn(&mut PostgresBench) -> Result<()>;

/// Everything that the parts need.
struct PostgresBench {
    arguments: PostgresArguments,
    /// `--dir`, absolute: PostgreSQL runs in another directory.
    dir: PathBuf,
    server: Program,
    projector: ProjectorProgram,
    figures: Figures,
}

/// A PostgreSQL for one part. Fields are in this order so that it ends before its directory is
/// removed.
struct PostgresHome {
    _managed: Managed,
    scratch: Scratch,
}

/// An engine on one core, with nothing but the accounts in its log. Fields are in this order so
/// that it ends before its directory is removed.
struct Engine {
    server: Server,
    _scratch: Scratch,
}

/// Runs all of it.
pub fn command(arguments: &PostgresArguments) -> Result<()> {
    if arguments.rounds == 0 {
        return failed("--rounds must be at least 1");
    }
    std::fs::create_dir_all(&arguments.place.dir).during("creating --dir")?;
    let dir = std::fs::canonicalize(&arguments.place.dir).during("looking for --dir")?;
    let server = Program::find(arguments.place.server.as_deref())?;
    let projector = ProjectorProgram::find(arguments.projector.as_deref())?;
    let watch = InterruptWatch::begin(&[&dir, Path::new(MEMORY)])?;
    let (arguments, figures) = (arguments.clone(), Figures::default());
    let mut bench = PostgresBench { arguments, dir, server, projector, figures };
    let parts: [(&str, Measure); 4] = [
        ("speed", PostgresBench::speed),
        ("visible", PostgresBench::visible),
        ("cost", PostgresBench::cost),
        ("behind", PostgresBench::behind),
    ];
    for (name, measure) in parts {
        if wants(bench.arguments.case.as_ref(), name) {
            watch.settle(measure(&mut bench))?;
        }
    }
    bench.figures.finish(&bench.arguments.place.out, "postgres")
}

impl PostgresBench {
    fn home(&self, part: &str) -> Result<PostgresHome> {
        let scratch = Scratch::create(&self.dir, &format!("{part}-pg"))?;
        let managed = Managed::start(&scratch.0.join("pg")).during("starting PostgreSQL")?;
        Ok(PostgresHome { _managed: managed, scratch })
    }

    /// Starts an engine once all earlier writes are on disk.
    fn engine(&self, part: &str) -> Result<Engine> {
        Command::new("sync").status().during("running sync")?;
        let scratch = Scratch::create(&self.dir, part)?;
        let server = self.server.start(&scratch.0.join("data"), 1)?;
        let engine = Engine { server, _scratch: scratch };
        load::run(&LoadArguments { requests: Some(0), ..engine.load() })?;
        wait_for_quiet(&engine.server.data)?;
        Ok(engine)
    }

    fn project(&self, engine: &Engine, home: &PostgresHome, schema: &str) -> Result<Projector> {
        let postgres = home.directory();
        let log = home.scratch.0.join("projector.log");
        let postgres = Postgres::Running(&postgres);
        self.projector.start(engine.server.address, postgres, schema, &log)
    }
}

impl PostgresHome {
    fn directory(&self) -> PathBuf {
        self.scratch.0.join("pg")
    }

    fn schema(&self, name: &str) -> Result<Database> {
        sql::schema_of(&self.directory(), name)
    }

    /// Removes a measured schema, and waits until everything is on disk.
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

    /// Fills the log with whole batches. Returns the number of transfers in them.
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
