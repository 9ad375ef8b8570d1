//! The load generator: its arguments, its threads, and what they report.

mod connection;
mod payload;
mod poll;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use walengine_net::model::{AccountId, EventBytes, PartitionId};

use crate::cluster::LeaderCounts;
use crate::error::{Failed, Result, failed};
use crate::stats::{Percentiles, ratio};
use crate::system::{self, Device, DeviceCounters};

use payload::{Accounts, Random, Template};
pub use payload::{RECORD_BYTES, What};
use worker::{Pace, Plan, Seen, Worker};

/// How long after the connections are up the workers begin together.
const START_AFTER: Duration = Duration::from_millis(5);

/// What to load a server with.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArguments {
    /// Server to load
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7450")]
    pub server: SocketAddr,

    /// Connections, spread over threads and partitions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: usize,

    /// Transfers in a request, up to 8,190; or records, up to 1,000
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,

    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub inflight: u16,

    /// How long to measure, in seconds
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,

    /// How long to load before measuring, in seconds
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub warmup: f64,

    /// Send so many requests instead, and measure all of them
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,

    /// Requests a second, over all connections, however fast the answers are (open loop); without
    /// it a request follows each answer (closed loop)
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,

    /// Opaque records of 1 KiB instead of transfers
    #[arg(long)]
    pub records: bool,

    /// Use only the first so many partitions [default: all]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u16>,

    /// Accounts in each partition
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub accounts: u32,

    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,

    /// Process ids of the server's nodes, separated by commas, to measure their CPU time together
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub server_pid: Vec<u32>,

    /// The server's data directory, to read its block device's counters
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl LoadArguments {
    /// One connection, one transfer in flight.
    pub fn to(server: SocketAddr) -> Self {
        Self { server, ..Self::default() }
    }
}

impl Default for LoadArguments {
    fn default() -> Self {
        Self {
            server: SocketAddr::from(([127, 0, 0, 1], 7450)),
            connections: 1,
            batch: 1,
            inflight: 1,
            seconds: 1.0,
            warmup: 0.0,
            requests: None,
            rate: None,
            records: false,
            partitions: None,
            accounts: 10_000,
            threads: 1,
            server_pid: Vec::new(),
            data: None,
            json: false,
        }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests answered; each was durable and accepted whole.
    pub requests: u64,
    /// Transfers or records in them.
    pub events: u64,
    /// How long it was measured.
    pub seconds: f64,
    /// Transfers or records a second.
    pub events_per_second: f64,
    /// From intended send to answer, in microseconds.
    pub latency_micros: Percentiles,
    /// CPU time of the load generator for each event, in microseconds.
    pub client_cpu_micros_per_event: f64,
    /// CPU time of the server for each event, in microseconds, if its process is known.
    pub server_cpu_micros_per_event: Option<f64>,
    /// Bytes that the device wrote for each event, if it is known.
    pub device_bytes_per_event: Option<f64>,
    /// Flushes of the device for each acknowledged request, if it is known.
    pub device_flushes_per_batch: Option<f64>,
    /// Flushes of the device a second, if it is known.
    pub device_flushes_per_second: Option<f64>,
    /// Requests that the server was too busy for; each was sent again.
    #[serde(default)]
    pub busy: u64,
    /// What replication did meanwhile, if the server is a cluster.
    #[serde(default)]
    pub replication: Option<Replication>,
    /// Length of a request in bytes.
    pub request_bytes: usize,
    /// Length of an answer in bytes.
    pub reply_bytes: usize,
}

/// What a leader did for each acknowledged request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Replication {
    /// Bytes of entries sent to all followers.
    pub bytes_per_batch: f64,
    /// Flushes of the leader's log.
    pub flushes_per_batch: f64,
    /// Requests to take entries, to all followers.
    pub appends_per_batch: f64,
    /// Most flushes in flight at once since the leader was started.
    pub flushes_inflight_max: u64,
    /// Most appends in flight at once since then, for each follower.
    pub appends_inflight_max: Vec<u64>,
}

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
/// Anything but an acceptance of every event is one.
pub fn run(arguments: &LoadArguments) -> Result<LoadReport> {
    run_watched(arguments, || Ok(None))
}

/// As [`run`]; `counts` says, when counting begins and when it ends, what a cluster's leader counts.
pub fn run_watched(
    arguments: &LoadArguments,
    counts: impl Fn() -> Result<Option<LeaderCounts>>,
) -> Result<LoadReport> {
    let what = what(arguments)?;
    let (workers, request_bytes) = prepare(arguments, what)?;
    let device = arguments.data.as_deref().map(Device::of).transpose()?;
    let start = Instant::now() + START_AFTER;
    let (measure_from, until) = if arguments.requests.is_some() {
        (start, None)
    } else {
        let from = start + Duration::from_secs_f64(arguments.warmup);
        (from, Some(from + Duration::from_secs_f64(arguments.seconds)))
    };
    let threads = workers.len() as u64;
    let plan = |number: u64| Plan {
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
        let mut seen = Seen::new();
        for thread in running {
            let Ok(of_thread) = thread.join() else { return failed("a worker has panicked") };
            let of_thread = of_thread?;
            seen.requests += of_thread.requests;
            seen.latencies.add(&of_thread.latencies);
            seen.reply_bytes = seen.reply_bytes.max(of_thread.reply_bytes);
            seen.busy += of_thread.busy;
        }
        after.subtract(&before);
        let replication = counted.map(|(after, before)| replication(after.since(&before), &seen));
        Ok(LoadReport { replication, ..report(what, seconds, &seen, &after, request_bytes) })
    })
}

fn replication(counts: LeaderCounts, seen: &Seen) -> Replication {
    Replication {
        bytes_per_batch: ratio(counts.append_bytes, seen.requests),
        flushes_per_batch: ratio(counts.flushes, seen.requests),
        appends_per_batch: ratio(counts.appends, seen.requests),
        flushes_inflight_max: counts.flushes_inflight_max,
        appends_inflight_max: counts.appends_inflight_max,
    }
}

fn what(arguments: &LoadArguments) -> Result<What> {
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
        What::Records(arguments.batch)
    } else {
        What::Transfers(arguments.batch)
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

/// A server answers there.
pub fn probe(server: SocketAddr) -> Result<()> {
    connection::connect(server, PartitionId(0)).map(|_| ())
}

/// Two accounts that any load has created in partition 0.
pub fn accounts(partitions: u16) -> (AccountId, AccountId) {
    let accounts = Accounts::of(PartitionId(0), partitions, 2);
    (accounts.id(0), accounts.id(1))
}

/// Transfers like those of a load, for who sends them otherwise: between accounts that it has
/// created in partition 0.
pub struct Transfers {
    accounts: Accounts,
    rng: Random,
}

impl Transfers {
    /// Between so many accounts, in a cluster of so many partitions.
    pub fn between(accounts: u32, partitions: u16) -> Self {
        let accounts = Accounts::of(PartitionId(0), partitions, accounts);
        Self { accounts, rng: Random::new(seed(0)) }
    }

    /// So many of them.
    pub fn take(&mut self, count: usize) -> Vec<EventBytes> {
        (0..count).map(|_| self.accounts.transfer(&mut self.rng)).collect()
    }
}

/// Length in bytes of a request of `what`.
pub fn request_bytes(what: What) -> Result<usize> {
    let accounts = Accounts::of(PartitionId(0), 1, 2);
    Ok(Template::new(what, PartitionId(0), accounts)?.frame.len())
}

/// Connects, creates the accounts and deals the connections to the threads.
fn prepare(arguments: &LoadArguments, what: What) -> Result<(Vec<Worker>, usize)> {
    let (_, greeting) = connection::connect(arguments.server, PartitionId(0))?;
    let used = arguments.partitions.unwrap_or(greeting.partitions).clamp(1, greeting.partitions);
    let accounts_of = |partition: u16| {
        Accounts::of(PartitionId(partition), greeting.partitions, arguments.accounts)
    };
    let mut templates = Vec::new();
    for partition in 0..used {
        let (mut stream, _) = connection::connect(arguments.server, PartitionId(partition))?;
        let accounts = accounts_of(partition);
        connection::create_accounts(&mut stream, accounts, PartitionId(partition))?;
        templates.push(Template::new(what, PartitionId(partition), accounts)?);
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
        let (stream, _) = connection::connect(arguments.server, PartitionId(partition))?;
        let accounts = accounts_of(partition);
        let inflight = arguments.inflight;
        let worker = &mut workers[number % threads];
        worker.connections.push(connection::Connection::new(
            stream,
            &templates[template],
            what,
            accounts,
            inflight,
        ));
        worker.template_of.push(template);
    }
    Ok((workers, request_bytes))
}

/// Other ids in every run and thread.
fn seed(thread: usize) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40));
    random.next() ^ Random::new(thread as u64).next()
}

struct Counters {
    own_cpu_micros: u64,
    server_cpu_micros: Option<u64>,
    device: Option<DeviceCounters>,
}

impl Counters {
    fn read(nodes: &[u32], device: Option<&Device>) -> Result<Self> {
        let of_nodes: Vec<u64> =
            nodes.iter().map(|&pid| system::cpu_micros_of(pid)).collect::<Result<_>>()?;
        Ok(Self {
            own_cpu_micros: system::own_cpu_micros(),
            server_cpu_micros: (!nodes.is_empty()).then(|| of_nodes.iter().sum()),
            device: device.map(Device::counters).transpose()?,
        })
    }

    fn subtract(&mut self, before: &Self) {
        self.own_cpu_micros -= before.own_cpu_micros;
        self.server_cpu_micros = self
            .server_cpu_micros
            .zip(before.server_cpu_micros)
            .map(|(after, before)| after - before);
        self.device = self.device.zip(before.device).map(|(after, before)| after.since(before));
    }
}

fn report(
    what: What,
    seconds: f64,
    seen: &Seen,
    counters: &Counters,
    request_bytes: usize,
) -> LoadReport {
    let events = seen.requests * what.events() as u64;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_second = |count: u64| count as f64 / seconds;
    let device = counters.device;
    LoadReport {
        requests: seen.requests,
        events,
        seconds,
        events_per_second: per_second(events),
        latency_micros: seen.latencies.percentiles(),
        client_cpu_micros_per_event: ratio(counters.own_cpu_micros, events),
        server_cpu_micros_per_event: counters.server_cpu_micros.map(|cpu| ratio(cpu, events)),
        device_bytes_per_event: device.map(|device| ratio(device.write_bytes, events)),
        device_flushes_per_batch: device.map(|device| ratio(device.flushes, seen.requests)),
        device_flushes_per_second: device.map(|device| per_second(device.flushes)),
        busy: seen.busy,
        replication: None,
        request_bytes,
        reply_bytes: seen.reply_bytes,
    }
}

impl LoadReport {
    fn to_text(&self) -> String {
        let optional = |value: Option<f64>| match value {
            Some(value) => format!("{value:.3}"),
            None => "not measured".to_owned(),
        };
        let latency = &self.latency_micros;
        format!(
            "events/s                {:>14.0}\n\
             requests                {:>14} in {:.2} s\n\
             latency p50             {:>14.1} us\n\
             latency p90             {:>14.1} us\n\
             latency p99             {:>14.1} us\n\
             latency p99.9           {:>14.1} us\n\
             latency max             {:>14.1} us\n\
             client CPU              {:>14.3} us/event\n\
             server CPU              {:>14} us/event\n\
             device writes           {:>14} bytes/event\n\
             device flushes          {:>14} per acknowledged batch\n\
             device flushes          {:>14} per second\n",
            self.events_per_second,
            self.requests,
            self.seconds,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
            self.client_cpu_micros_per_event,
            optional(self.server_cpu_micros_per_event),
            optional(self.device_bytes_per_event),
            optional(self.device_flushes_per_batch),
            optional(self.device_flushes_per_second),
        )
    }
}

fn sleep_until(when: Instant) {
    std::thread::sleep(when.saturating_duration_since(Instant::now()));
}

/// Sleeps in steps of 20 ms, so that a worker's failure ends the wait.
fn sleep_until_or(when: Instant, over: impl Fn() -> bool) {
    while !over() {
        let left = when.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}
