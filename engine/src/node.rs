//! One process: what starts and stops in which order. Runs on the control thread.
//!
//! Settings, preflight, lock, superblock, listening socket, shards; they serve once every partition
//! has been recovered. A signal stops them: nothing new is taken, what is in flight is finished.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use walengine_net::model::{ClusterId, PartitionId};

use crate::config::Config;
use crate::fatal::{Fatal, Reason};
use crate::limits::{HANDOVERS_MAX, LISTEN_BACKLOG, LISTEN_WITHIN, SPACE_EVERY};
use crate::lock::DirectoryLock;
use crate::preflight;
use crate::runtime::Runtime;
use crate::shard::{self, ShardStart};
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::Superblock;
use crate::storage::superblock;

/// What all shards and the control thread look at.
#[derive(Debug)]
pub struct Shared {
    /// Settings in force.
    pub config: Config,
    /// What the data directory says about itself.
    pub superblock: Superblock,
    /// Less than the reserve is free: writes are refused.
    pub full: AtomicBool,
    /// Bytes free at the last look.
    pub free_bytes: AtomicU64,
    /// An operator has asked this node to leave its cluster.
    pub leaving: AtomicBool,
    /// When the process began.
    pub started: Instant,
}

impl Shared {
    /// Shard on which a partition lives.
    pub fn shard_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.config.cores
    }
}

/// Serves until a signal comes. Returns `Ok` after a clean stop.
pub fn serve(config: Config) -> Result<(), Fatal> {
    preflight::check_machine(config.cores)?;
    preflight::raise_open_files();
    let started = Instant::now();
    let new = prepare_directory(&config)?;
    let _lock = DirectoryLock::take(&config.data)?;
    let superblock = if new { format_directory(&config)? } else { read_superblock(&config.data)? };
    warn_of_other_settings(&config, &superblock);
    let room = 2 * superblock.segment_bytes + config.reserve_bytes;
    preflight::check_directory(&config.data, if new { room } else { 0 })?;
    let listener = listen(&config)?;
    let shared = Arc::new(Shared {
        full: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        free_bytes: AtomicU64::new(0),
        config,
        superblock,
        started,
    });
    look_at_space(&shared);
    run_shards(&shared, &listener)
}

/// Formats a data directory without serving it. An existing one is an error.
pub fn format(config: &Config) -> Result<Superblock, Fatal> {
    preflight::check_machine(1)?;
    if !prepare_directory(config)? {
        let message = format!(
            "{} is formatted already; name another --data, or remove it if its log is not needed",
            config.data.display()
        );
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let _lock = DirectoryLock::take(&config.data)?;
    preflight::check_directory(&config.data, 0)?;
    format_directory(config)
}

/// Reads what a data directory says about itself.
pub fn read_superblock(data: &Path) -> Result<Superblock, Fatal> {
    let dir = data.to_path_buf();
    on_executor(async move { superblock::read(&GlommioDisk::new(&dir), &dir).await })?
        .map_err(|error| shard::open_failed(&error))
}

/// Runs a task to its end on an executor of the calling thread.
pub fn on_executor<T>(task: impl Future<Output = T>) -> Result<T, Fatal> {
    let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .io_memory(shard::IO_MEMORY_BYTES)
        .make()
        .map_err(|error| {
            Fatal::new(Reason::Preflight, format!("cannot start an io_uring executor: {error}"))
        })?;
    Ok(executor.run(task))
}

/// Creates the directory if need be. True if it is to be formatted.
fn prepare_directory(config: &Config) -> Result<bool, Fatal> {
    let dir = &config.data;
    let failed = |what: &str, error: std::io::Error| {
        let at = dir.display();
        let message = format!("cannot {what} the data directory {at}: {error}; see --data");
        Fatal::new(Reason::DataDirectory, message)
    };
    std::fs::create_dir_all(dir).map_err(|error| failed("create", error))?;
    if dir.join(superblock::NAME).exists() {
        return Ok(false);
    }
    let entries = std::fs::read_dir(dir).map_err(|error| failed("read", error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed("read", error))?.file_name();
        if name != "lock" {
            let message = format!(
                "{} has no superblock but holds {}: it is not a walengine data directory, or its \
                 format was cut short; name another --data, or empty it",
                dir.display(),
                Path::new(&name).display()
            );
            return Err(Fatal::new(Reason::DataDirectory, message));
        }
    }
    Ok(true)
}

fn format_directory(config: &Config) -> Result<Superblock, Fatal> {
    let random = || uuid::Uuid::new_v4().as_u128();
    let superblock = Superblock {
        cluster: ClusterId(random()),
        node: (random() as u64).max(1),
        partitions: config.partitions.unwrap_or(config.cores as u16),
        segment_bytes: config.segment_bytes,
        created: crate::runtime_glommio::GlommioRuntime::new().now(),
        replicated: false,
    };
    let dir = config.data.clone();
    on_executor(
        async move { superblock::write(&GlommioDisk::new(&dir), &dir, &superblock).await },
    )?
    .map_err(|error| shard::open_failed(&error))?;
    Ok(superblock)
}

fn warn_of_other_settings(config: &Config, superblock: &Superblock) {
    if config.partitions.is_some_and(|partitions| partitions != superblock.partitions) {
        let fixed = superblock.partitions;
        tracing::warn!("--partitions is ignored: {fixed} were fixed at format");
    }
}

/// Without `SO_REUSEPORT`: a second server on the address must be told, not served by halves.
fn listen(config: &Config) -> Result<TcpListener, Fatal> {
    let address = config.listen;
    let failed = |error: std::io::Error| {
        let fix = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process has it; stop that or choose another",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges",
            _ => "choose another address with --listen",
        };
        Fatal::new(Reason::Listen, format!("cannot listen on {address} ({error}): {fix}"))
    };
    let listener = bind_within(address, LISTEN_WITHIN).map_err(failed)?;
    // SAFETY: the descriptor is open as long as `listener` lives; listen(2) again only sets the
    // length of the queue.
    if unsafe { libc::listen(listener.as_raw_fd(), LISTEN_BACKLOG) } != 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    Ok(listener)
}

/// A killed server's `io_uring` holds its listening socket until the kernel has torn the ring down,
/// a moment after the process is gone: a restart must not fail over that.
fn bind_within(address: SocketAddr, wait: Duration) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + wait;
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

fn run_shards(shared: &Arc<Shared>, listener: &TcpListener) -> Result<(), Fatal> {
    let signals = watch_signals()?;
    let cores = shared.config.cores;
    let (handover_in, handover_out): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| flume::bounded(HANDOVERS_MAX)).unzip();
    let (report, reports) = flume::bounded(2 * cores);
    let mut stops = Vec::new();
    let mut threads = Vec::new();
    for (shard, handed) in handover_out.into_iter().enumerate() {
        let (stop, stopped) = flume::bounded(2);
        let listener = listener.try_clone().map_err(|error| {
            Fatal::new(Reason::Listen, format!("cannot share the listening socket: {error}"))
        })?;
        let start = ShardStart {
            shard,
            shared: shared.clone(),
            listener,
            peer_listener: None,
            founders: Arc::default(),
            handed,
            others: handover_in.clone(),
            commands: stopped,
            report: report.clone(),
        };
        threads.push(shard::spawn(start)?);
        stops.push(stop);
    }
    drop(report);
    let result = wait_ready(cores, &reports).and_then(|()| {
        for stop in &stops {
            let _ = stop.send(shard::Command::Serve); // a shard that has ended reports it itself
        }
        announce(shared, listener);
        wait_for_end(shared, &signals, &reports)
    });
    for stop in &stops {
        let _ = stop.send(shard::Command::Stop);
    }
    let mut result = result;
    for thread in threads {
        result = result.and(thread.join());
    }
    result
}

fn wait_ready(cores: usize, reports: &flume::Receiver<Result<(), Fatal>>) -> Result<(), Fatal> {
    for _ in 0..cores {
        match reports.recv() {
            Ok(report) => report?,
            Err(_) => return Err(Fatal::new(Reason::Disk, "a shard ended before it was ready")),
        }
    }
    Ok(())
}

/// Returns when a signal came, or with the reason why a shard ended by itself.
fn wait_for_end(
    shared: &Shared,
    signals: &flume::Receiver<i32>,
    reports: &flume::Receiver<Result<(), Fatal>>,
) -> Result<(), Fatal> {
    loop {
        match signals.recv_timeout(SPACE_EVERY) {
            Ok(signal) => {
                tracing::info!("signal {signal}: finishing what is in flight");
                return Ok(());
            }
            Err(_) => look_at_space(shared),
        }
        if let Ok(report) = reports.try_recv() {
            report?;
        }
    }
}

/// Says where it serves: the port is the system's choice if 0 was asked for.
fn announce(shared: &Shared, listener: &TcpListener) {
    let Config { cores, listen, data, .. } = &shared.config;
    let listen = listener.local_addr().unwrap_or(*listen);
    let partitions = shared.superblock.partitions;
    let seconds = shared.started.elapsed().as_secs_f64();
    let data = data.display();
    tracing::info!(
        "serving on {listen}: {cores} cores, {partitions} partitions, data in {data}, ready after \
         {seconds:.2} s"
    );
}

fn look_at_space(shared: &Shared) {
    match preflight::free_bytes(&shared.config.data) {
        Ok(free) => {
            let full = free < shared.config.reserve_bytes;
            shared.free_bytes.store(free, Ordering::Relaxed);
            if shared.full.swap(full, Ordering::Relaxed) != full {
                let mib = free >> 20;
                if full {
                    tracing::error!("{mib} MiB are free: writes are refused until there is room");
                } else {
                    tracing::info!("{mib} MiB are free: writes are taken again");
                }
            }
        }
        Err(error) => tracing::error!("cannot ask for free space: {error}"),
    }
}

fn watch_signals() -> Result<flume::Receiver<i32>, Fatal> {
    let failed = |error: std::io::Error| {
        Fatal::new(Reason::Preflight, format!("cannot watch for signals: {error}"))
    };
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ])
    .map_err(failed)?;
    let (sender, receiver) = flume::bounded(4);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    // Asked twice: what is in flight is not waited for. The log can take it.
                    std::process::exit(i32::from(Reason::Interrupted as u8));
                }
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(receiver)
}
