//! What certificates cost: one server with TLS and one without, loaded in turn, round by round; how many
//! handshakes a core makes in a second; what an idle connection holds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use walengine_net::tls::Tls;

use crate::error::{During, Result, failed};
use crate::limits::SETTLE;
use crate::load::{self, LoadArguments};
use crate::server::{Program, Scratch, Server};
use crate::stats::{Spread, ratio};
use crate::system;

/// Transfers in a request, connections, and requests in flight on each.
const CASES: [(usize, usize, u16); 3] = [(8190, 1, 1), (1, 64, 1), (1, 1, 1)];

/// Extent of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct SecuredArguments {
    /// Directory on the disk to use
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Rounds; in each, both servers are loaded
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub rounds: usize,

    /// How long each load is measured, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub seconds: f64,

    /// Idle connections to open
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub idle: usize,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
}

/// Measures and prints.
pub fn command(arguments: &SecuredArguments) -> Result<()> {
    let scratch = Scratch::create(&arguments.dir, "secured")?;
    let plain = Program::find(arguments.server.as_deref())?;
    let credentials = make_credentials(&plain.path, &scratch.0)?;
    let secured = plain.clone().secured(&credentials);
    let (plain, secured) =
        (plain.start(&scratch.0.join("plain"), 1)?, secured.start(&scratch.0.join("secured"), 1)?);
    let client = credentials.join("client-bench");
    println!(
        "with certificates, as a part of without: median [least-most] of {}",
        arguments.rounds
    );
    for (batch, connections, inflight) in CASES {
        let (mut rates, mut tails) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            let measure = |server: &Server, tls: Option<&PathBuf>| {
                let mut load = LoadArguments::to(server.address);
                (load.batch, load.connections, load.inflight) = (batch, connections, inflight);
                (load.seconds, load.warmup, load.tls) = (arguments.seconds, 0.3, tls.cloned());
                load::run(&load)
            };
            let (with, without);
            if round % 2 == 0 {
                with = measure(&secured, Some(&client))?;
                without = measure(&plain, None)?;
            } else {
                without = measure(&plain, None)?;
                with = measure(&secured, Some(&client))?;
            }
            rates.push(with.events_per_second / without.events_per_second);
            tails.push(with.latency_micros.p99 / without.latency_micros.p99);
        }
        println!(
            "{batch:>5} x {connections:<3} events/s {}  p99 {}",
            shown(&Spread::of(rates)),
            shown(&Spread::of(tails))
        );
    }
    handshakes(&secured, &client, arguments)?;
    idle(&plain, None, arguments)?;
    idle(&secured, Some(&client), arguments)
}

fn shown(spread: &Spread) -> String {
    format!("{:.2} [{:.2}-{:.2}]", spread.median, spread.min, spread.max)
}

/// An authority, a node and a client, by the program's own command.
fn make_credentials(program: &Path, dir: &Path) -> Result<PathBuf> {
    let policy = "[[allow]]\nwho = \"client/*\"\nmay = [\"write\", \"read\"]\n\
                  books = \"all\"\nledgers = \"all\"\n";
    for arguments in [&["ca", "--cluster", "bench"][..], &["node", "1"], &["client", "bench"]] {
        let made = Command::new(program).arg("cert").args(arguments).current_dir(dir).output();
        let made = made.during("making certificates")?;
        if !made.status.success() {
            return failed(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        std::fs::write(dir.join("certs/ca/policy.toml"), policy).during("writing the policy")?;
    }
    Ok(dir.join("certs"))
}

/// Connects again and again, and counts the server's time.
fn handshakes(server: &Server, client: &Path, arguments: &SecuredArguments) -> Result<()> {
    let tls = Tls::open(client).during("reading certificates")?;
    let mut a_second = Vec::new();
    for _ in 0..arguments.rounds {
        let (before, since) = (system::cpu_micros_of(server.pid())?, Instant::now());
        let mut count = 0;
        while since.elapsed() < Duration::from_secs_f64(arguments.seconds) {
            load::connect(server.address, Some(&tls))?;
            count += 1;
        }
        let micros = system::cpu_micros_of(server.pid())?.saturating_sub(before);
        a_second.push(ratio(count * 1_000_000, micros));
    }
    let Spread { median, min, max } = Spread::of(a_second);
    println!("handshakes for a second of a core: {median:.0} [{min:.0}-{max:.0}]");
    Ok(())
}

/// Opens connections that say hello and nothing more.
fn idle(server: &Server, client: Option<&Path>, arguments: &SecuredArguments) -> Result<()> {
    let tls = client.map(Tls::open).transpose().during("reading certificates")?;
    std::thread::sleep(SETTLE);
    let before = system::resident_bytes_of(server.pid())?;
    let open = (0..arguments.idle).map(|_| load::connect(server.address, tls.as_ref()));
    let open = open.collect::<Result<Vec<_>>>()?;
    std::thread::sleep(SETTLE);
    let held = system::resident_bytes_of(server.pid())?.saturating_sub(before);
    let each = ratio(held, open.len() as u64 * 1024);
    let how = if client.is_some() { "with" } else { "without" };
    println!("an idle connection {how} certificates: {each:.1} KiB, of {} open", open.len());
    Ok(())
}
