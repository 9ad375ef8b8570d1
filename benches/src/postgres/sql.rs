//! A connection to PostgreSQL for one thread of the benchmark, and the moves of the position.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::{FromSqlOwned, ToSql};
use walengine_projector::config::Target;
use walengine_projector::database::{Connection, Database};
use walengine_projector::fatal::Fatal;

use crate::error::{During, Result, failed};
use crate::limits::POLL_INTERVAL;

/// Superuser and database of a server that the projector manages.
pub const OWNER: &str = "walengine";
/// How long a new server and a new projector may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// A projector whose position has not moved for this long counts as stuck.
const STUCK_AFTER: Duration = Duration::from_mins(2);

/// Schema `name` on the server whose socket is in `directory`.
pub fn schema_of(directory: &Path, name: &str) -> Result<Database> {
    Database::new(Target::of_socket(directory, OWNER, OWNER), name).during("naming a schema")
}

/// A connection with its own runtime.
pub struct Sql {
    /// Drives the connection during a query.
    pub runtime: Runtime,
    /// The connection; its search path is the schema.
    pub connection: Connection,
}

/// The first sight of a position.
#[derive(Clone, Copy, Debug)]
pub struct PositionMove {
    /// When the answer arrived.
    pub at: Instant,
    /// First record that is not visible.
    pub next_offset: u64,
}

impl Sql {
    /// Connects.
    pub fn connect(database: &Database) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().during("a runtime")?;
        let connection = runtime.block_on(database.connect()).map_err(Fatal::from);
        Ok(Self { connection: connection.during("connecting to PostgreSQL")?, runtime })
    }

    /// Connects once server and tables exist.
    pub fn connect_when_ready(database: &Database) -> Result<Self> {
        let since = Instant::now();
        loop {
            let ready = Self::connect(database).and_then(|sql| {
                let is_there = sql.one::<bool>("SELECT to_regclass('positions') IS NOT NULL", &[]);
                if is_there? { Ok(sql) } else { failed("the projector has not made its tables") }
            });
            match ready {
                Ok(sql) => return Ok(sql),
                Err(error) if since.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Runs statements without results.
    pub fn run(&self, statements: &str) -> Result<()> {
        self.runtime.block_on(self.connection.batch_execute(statements)).during(statements)
    }

    /// The only value of the only row.
    pub fn one<T: FromSqlOwned>(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T> {
        let row = self.runtime.block_on(self.connection.query_one(statement, parameters));
        row.and_then(|row| row.try_get(0)).during(statement)
    }

    /// Reads partition 0's position, with a pause between two reads, until `is_over` returns true
    /// for it. Returns every move.
    pub fn watch(
        &self,
        pause: Duration,
        mut is_over: impl FnMut(u64) -> Result<bool>,
    ) -> Result<Vec<PositionMove>> {
        let select = "SELECT next_offset FROM positions WHERE partition = 0";
        let prepared = self.runtime.block_on(self.connection.prepare(select)).during(select)?;
        let mut moves: Vec<PositionMove> = Vec::new();
        let mut last = Instant::now();
        loop {
            let row = self.runtime.block_on(self.connection.query_one(&prepared, &[]));
            let next: i64 = row.and_then(|row| row.try_get(0)).during(select)?;
            let (at, next_offset) = (Instant::now(), next.cast_unsigned());
            if moves.last().is_none_or(|moved| moved.next_offset < next_offset) {
                moves.push(PositionMove { at, next_offset });
                last = at;
            }
            if is_over(next_offset)? {
                return Ok(moves);
            }
            if last.elapsed() > STUCK_AFTER {
                return failed(format!("the position stays at {next_offset}"));
            }
            std::thread::sleep(pause);
        }
    }

    /// Waits until everything below `offset` is visible. Returns every move.
    pub fn wait(&self, pause: Duration, offset: u64) -> Result<Vec<PositionMove>> {
        self.watch(pause, |next| Ok(next >= offset))
    }
}
