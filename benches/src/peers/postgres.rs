//! A ledger in PostgreSQL. One function call for each batch inserts the transfers and updates the
//! balances, set-based, with `fsync` and `synchronous_commit` on.
//!
//! The function generates the batch, so PostgreSQL does not have to receive and parse it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{PATIENCE, PeerReport, PeersArguments, Running, find, output, path_text};
use crate::error::{During, Result, failed};
use crate::server::Scratch;
use crate::stats::Latencies;

/// Transfers in a batch, and connections.
const LOADS: [(usize, usize); 5] = [(1, 1), (1, 64), (64, 1), (1024, 1), (8190, 1)];

const SCHEMA: &str = "
CREATE TABLE account (
    id bigint PRIMARY KEY,
    debits numeric(39, 0) NOT NULL DEFAULT 0,
    credits numeric(39, 0) NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE transfer (
    id uuid PRIMARY KEY,
    debit bigint NOT NULL,
    credit bigint NOT NULL,
    amount numeric(39, 0) NOT NULL CHECK (amount > 0),
    at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO account (id) SELECT generate_series(0, 9999);
CREATE FUNCTION post(transfers int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    from_ids bigint[];
    to_ids bigint[];
    amounts numeric[];
BEGIN
    SELECT array_agg(gen_random_uuid()), array_agg(batch.a),
           array_agg((batch.a + batch.step) % 10000), array_agg(batch.minor)
      INTO ids, from_ids, to_ids, amounts
      FROM (SELECT floor(random() * 10000)::bigint AS a,
                   1 + floor(random() * 9999)::bigint AS step,
                   1 + floor(random() * 64)::numeric AS minor
              FROM generate_series(1, transfers)) AS batch;
    -- In a fixed order, so that connections don't deadlock.
    PERFORM 1 FROM account WHERE id = ANY (from_ids || to_ids) ORDER BY id FOR UPDATE;
    WITH inserted AS (
        INSERT INTO transfer (id, debit, credit, amount)
        SELECT * FROM unnest(ids, from_ids, to_ids, amounts)
        ON CONFLICT DO NOTHING RETURNING debit, credit, amount
    ), folded AS (
        SELECT account_id, sum(spent) AS spent, sum(received) AS received
          FROM (SELECT debit AS account_id, amount AS spent, 0 AS received FROM inserted
                UNION ALL SELECT credit, 0, amount FROM inserted) AS sides
         GROUP BY account_id
    )
    UPDATE account SET debits = debits + folded.spent, credits = credits + folded.received
      FROM folded WHERE account.id = folded.account_id;
END $$;
";

pub fn measure(arguments: &PeersArguments) -> Result<Vec<PeerReport>> {
    let name = "PostgreSQL ledger";
    let (Some(initdb), Some(postgres), Some(psql), Some(pgbench)) =
        (find("initdb"), find("postgres"), find("psql"), find("pgbench"))
    else {
        return Ok(PeerReport::absent(name, "postgresql", "the PostgreSQL server"));
    };
    let scratch =
        Scratch::create(&fs::canonicalize(&arguments.dir).during("looking for --dir")?, "pg")?;
    let user = User::unprivileged(&scratch.0)?;
    let data = scratch.0.join("data");
    output(
        user.command(&initdb, &scratch.0).args(["-A", "trust", "-U", "bench", "-D"]).arg(&data),
        "running initdb",
    )?;
    let socket = path_text(&scratch.0);
    let child = user
        .command(&postgres, &scratch.0)
        .arg("-D")
        .arg(&data)
        .args(["-k", &socket, "-c", "listen_addresses=", "-c", "fsync=on"])
        .args(["-c", "synchronous_commit=on", "-c", "shared_buffers=1GB"])
        .args(["-c", "max_wal_size=8GB", "-c", "max_connections=200"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .during("starting PostgreSQL")?;
    let _running = Running(child);
    let query = |sql: &str| {
        let mut command = user.command(&psql, &scratch.0);
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", &socket, "-U", "bench"]);
        output(command.args(["-d", "postgres", "-c", sql]), "running psql")
    };
    let since = Instant::now();
    while let Err(error) = query("SELECT 1") {
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    query(SCHEMA)?;
    let load =
        PgbenchLoad { user: &user, pgbench: &pgbench, dir: &scratch.0, seconds: arguments.seconds };
    LOADS.iter().map(|&(batch, clients)| load.run(batch, clients)).collect()
}

struct PgbenchLoad<'a> {
    user: &'a User,
    pgbench: &'a Path,
    dir: &'a Path,
    seconds: f64,
}

impl PgbenchLoad<'_> {
    fn run(&self, batch: usize, clients: usize) -> Result<PeerReport> {
        let script = self.dir.join("script.sql");
        fs::write(&script, format!("SELECT post({batch});\n")).during("writing the script")?;
        let prefix = format!("log-{batch}-{clients}");
        let seconds = self.seconds.ceil().max(1.0);
        output(
            self.user
                .command(self.pgbench, self.dir)
                .args(["-n", "-M", "prepared", "-h", &path_text(self.dir), "-U", "bench"])
                .args(["-c", &clients.to_string(), "-j", "1", "-T", &format!("{seconds:.0}")])
                .args(["-l", "--log-prefix", &prefix, "-f", &path_text(&script), "postgres"]),
            "running pgbench",
        )?;
        let mut latencies = Latencies::new();
        for file in fs::read_dir(self.dir).during("reading pgbench's log")?.flatten() {
            if file.file_name().to_string_lossy().starts_with(&prefix) {
                read_log(&file.path(), &mut latencies)?;
            }
        }
        let micros = latencies.percentiles();
        if micros.count == 0 {
            return failed("pgbench logged nothing");
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let events_per_second = (micros.count * batch as u64) as f64 / seconds;
        Ok(PeerReport {
            name: format!("PostgreSQL ledger, {batch} a call, {clients} conn."),
            not_run: None,
            events_per_second,
            p50_micros: micros.p50,
            p99_micros: micros.p99,
            max_micros: micros.max,
        })
    }
}

/// Reads a log with a line for each call: client, number, microseconds, and more.
fn read_log(path: &Path, latencies: &mut Latencies) -> Result<()> {
    let text = fs::read_to_string(path).during("reading pgbench's log")?;
    for line in text.lines() {
        if let Some(micros) = line.split(' ').nth(2).and_then(|field| field.parse::<u64>().ok()) {
            latencies.record(micros * 1000);
        }
    }
    Ok(())
}

/// The user that PostgreSQL runs as, because it refuses to run as root.
struct User {
    ids: Option<(u32, u32)>,
}

impl User {
    /// The caller; for root the user `postgres`, which becomes the owner of `dir`.
    fn unprivileged(dir: &Path) -> Result<Self> {
        if fs::metadata("/proc/self").during("looking for the user")?.uid() != 0 {
            return Ok(Self { ids: None });
        }
        let users = fs::read_to_string("/etc/passwd").during("reading /etc/passwd")?;
        let Some(ids) = users.lines().find_map(ids_of_postgres) else {
            return failed("PostgreSQL can't run as root, and there is no user postgres");
        };
        chown(dir, Some(ids.0), Some(ids.1)).during("handing the directory to postgres")?;
        Ok(Self { ids: Some(ids) })
    }

    fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir);
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }
}

fn ids_of_postgres(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    if fields.next() != Some("postgres") {
        return None;
    }
    let user = fields.nth(1)?.parse().ok()?;
    Some((user, fields.next()?.parse().ok()?))
}
