//! The load generator: prepares the connections, runs the threads, and sums up their counts.

mod arguments;
mod connection;
mod payload;
mod poll;
mod report;
mod worker;

use std::net::SocketAddr;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use walengine_net::model::{AccountId, EventBytes, PartitionId};
use walengine_net::tls::Tls;

pub use self::arguments::LoadArguments;
pub use self::connection::{Wire, busy_for, create_accounts, expect, read_frame};
pub use self::payload::{
    Accounts, RECORD_BYTES, Random, RequestKind, Template, put_transfer, random_id,
};
use self::report::Counters;
pub use self::report::{LoadReport, Replication};
use self::worker::{LoadPlan, Pace, Worker, WorkerCounts};
use crate::error::{During, Failed, Result, failed};
use crate::leader_counts::LeaderCounts;
use crate::limits::SAMPLE_INTERVAL;
use crate::system::Device;

/// Pause between the last connection's setup and the common start of all workers.
const START_AFTER: Duration = Duration::from_millis(5);

/// Runs the load and prints the report.
pub fn command(arguments: &LoadArguments) -> Result<()> {
    let report = run(arguments)?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&report);
        println!("{}", json.map_err(|error| Failed(error.to_string()))?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(())
}

/// Runs the load.
///
/// # Errors
/// Any answer other than the acceptance of every event.
pub fn run(arguments: &LoadArguments) -> Result<LoadReport> {
    run_watched(arguments, || Ok(None))
}

/// As [`run`]; `counts` reads a cluster's leader's counters, once when measuring begins and once
/// when it ends.
pub fn run_watched(
    arguments: &LoadArguments,
    counts: impl Fn() -> Result<Option<LeaderCounts>>,
) -> Result<LoadReport> {
    let kind = kind_of(arguments)?;
    let (workers, request_bytes) = prepare(arguments, kind)?;
    let device = arguments.data.as_deref().map(Device::of).transpose()?;
    let start = Instant::now() + START_AFTER;
    let (measure_from, until) = if arguments.requests.is_some() {
        (start, None)
    } else {
        let from = start + Duration::from_secs_f64(arguments.warmup);
        (from, Some(from + Duration::from_secs_f64(arguments.seconds)))
    };
    let threads = workers.len() as u64;
    let plan = |number: u64| LoadPlan {
        start,
        measure_from,
        until,
        requests_max: arguments.requests.map_or(u64::MAX, |requests| {
            requests / threads + u64::from(number < requests % threads)
        }),
        pace: pace(arguments.rate, threads),
    };
    let read = || Counters::read(&arguments.server_pid, device.as_ref());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(workers)
            .map(|(number, worker)| {
                let plan = plan(number);
                scope.spawn(move || {
                    std::thread::sleep(plan.start.saturating_duration_since(Instant::now()));
                    worker.run(plan)
                })
            })
            .collect();
        sleep_until(measure_from);
        let counted_before = counts()?;
        let before = read()?;
        let from = Instant::now();
        if let Some(until) = until {
            sleep_until_or(until, || running.iter().any(ScopedJoinHandle::is_finished));
        } else {
            sleep_until_or(from + Duration::from_hours(24), || {
                running.iter().all(ScopedJoinHandle::is_finished)
            });
        }
        let mut after = read()?;
        let seconds = from.elapsed().as_secs_f64();
        let counted = counts()?.zip(counted_before);
        let mut seen = WorkerCounts::new();
        for thread in running {
            let Ok(of_thread) = thread.join() else { return failed("a worker has panicked") };
            let of_thread = of_thread?;
            seen.requests += of_thread.requests;
            seen.latencies.add(&of_thread.latencies);
            seen.reply_bytes = seen.reply_bytes.max(of_thread.reply_bytes);
            seen.busy += of_thread.busy;
        }
        after.subtract(&before);
        let mut report = LoadReport::new(kind, seconds, &seen, &after);
        report.request_bytes = request_bytes;
        let replication = |(after, before): (LeaderCounts, _)| {
            Replication::new(after.since(&before), seen.requests)
        };
        report.replication = counted.map(replication);
        Ok(report)
    })
}

fn kind_of(arguments: &LoadArguments) -> Result<RequestKind> {
    let limit = if arguments.records { 1000 } else { walengine_net::limits::EVENTS_MAX };
    if !(1..=limit).contains(&arguments.batch) {
        return failed(format!("--batch must be from 1 to {limit}"));
    }
    if arguments.connections == 0 || arguments.threads == 0 || arguments.inflight == 0 {
        return failed("--connections, --threads and --inflight must be at least 1");
    }
    if arguments.accounts < 2 {
        return failed("--accounts must be at least 2");
    }
    Ok(if arguments.records {
        RequestKind::Records(arguments.batch)
    } else {
        RequestKind::Transfers(arguments.batch)
    })
}

fn pace(rate: Option<f64>, threads: u64) -> Pace {
    match rate {
        Some(rate) => {
            Pace::Open(Duration::from_secs_f64(1.0 / rate).saturating_mul(threads as u32))
        }
        None => Pace::Closed,
    }
}

/// A connection to partition 0 that was greeted; it does nothing more.
pub fn connect(server: SocketAddr, tls: Option<&Tls>) -> Result<Wire> {
    connect_counting(server, tls).map(|(wire, _)| wire)
}

/// The same, with the number of the cluster's partitions.
pub fn connect_counting(server: SocketAddr, tls: Option<&Tls>) -> Result<(Wire, u16)> {
    let (wire, greeting) = connection::connect(server, PartitionId(0), tls)?;
    Ok((wire, greeting.partitions))
}

/// Two accounts that every load creates in partition 0.
pub fn accounts(partitions: u16) -> (AccountId, AccountId) {
    let accounts = Accounts::of(PartitionId(0), partitions, 2);
    (accounts.id(0), accounts.id(1))
}

/// Transfers as a load sends them, for other clients: between accounts that a load has created in
/// partition 0.
pub struct Transfers {
    accounts: Accounts,
    rng: Random,
}

impl Transfers {
    /// Between `accounts` accounts, in a cluster of `partitions` partitions.
    pub fn between(accounts: u32, partitions: u16) -> Self {
        let accounts = Accounts::of(PartitionId(0), partitions, accounts);
        Self { accounts, rng: Random::new(seed(0)) }
    }

    /// The next `count` transfers.
    pub fn take(&mut self, count: usize) -> Vec<EventBytes> {
        (0..count).map(|_| self.accounts.transfer(&mut self.rng)).collect()
    }
}

/// Length in bytes of a request of this kind.
pub fn request_bytes(kind: RequestKind) -> Result<usize> {
    let accounts = Accounts::of(PartitionId(0), 1, 2);
    Ok(Template::new(kind, PartitionId(0), accounts)?.frame.len())
}

/// Connects, creates the accounts and deals the connections to the threads.
fn prepare(arguments: &LoadArguments, kind: RequestKind) -> Result<(Vec<Worker>, usize)> {
    let tls = arguments.tls.as_deref().map(Tls::open).transpose().during("--tls")?;
    let connect = |partition: u16| {
        connection::connect(arguments.server, PartitionId(partition), tls.as_ref())
    };
    let (_, greeting) = connect(0)?;
    let used = arguments.partitions.unwrap_or(greeting.partitions).clamp(1, greeting.partitions);
    let own_accounts_of = |partition: u16| {
        Accounts::of(PartitionId(partition), greeting.partitions, arguments.accounts)
    };
    let accounts_of = |partition: u16| {
        let next = (partition + 1) % greeting.partitions;
        own_accounts_of(partition).spanning(arguments.spanning, own_accounts_of(next))
    };
    let mut templates = Vec::new();
    // What spans goes to all of them.
    let written = if arguments.spanning > 0 { greeting.partitions } else { used };
    for partition in 0..written {
        let (mut stream, _) = connect(partition)?;
        let accounts = accounts_of(partition);
        connection::create_accounts(&mut stream, accounts, PartitionId(partition))?;
        templates.push(Template::new(kind, PartitionId(partition), accounts)?);
    }
    let request_bytes = templates[0].frame.len();
    let threads = arguments.threads.min(arguments.connections);
    let mut workers: Vec<Worker> = (0..threads)
        .map(|number| Worker {
            connections: Vec::new(),
            template_of: Vec::new(),
            templates: templates.clone(),
            rng: Random::new(seed(number)),
        })
        .collect();
    for number in 0..arguments.connections {
        let partition = (number % usize::from(used)) as u16;
        let template = usize::from(partition);
        let (stream, _) = connect(partition)?;
        let accounts = accounts_of(partition);
        let inflight = arguments.inflight;
        let worker = &mut workers[number % threads];
        worker.connections.push(connection::Connection::new(
            stream,
            &templates[template],
            kind,
            accounts,
            inflight,
        ));
        worker.template_of.push(template);
    }
    Ok((workers, request_bytes))
}

/// Differs between runs and between threads, so that ids do.
pub fn seed(thread: usize) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40));
    random.next() ^ Random::new(thread as u64).next()
}

fn sleep_until(when: Instant) {
    std::thread::sleep(when.saturating_duration_since(Instant::now()));
}

/// Sleeps until `when`, or until `over` says so; in steps, so that a worker's failure ends the
/// wait.
fn sleep_until_or(when: Instant, over: impl Fn() -> bool) {
    while !over() {
        let left = when.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(SAMPLE_INTERVAL));
    }
}
