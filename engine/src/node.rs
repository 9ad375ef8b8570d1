//! One process: what starts and stops in which order. Runs on the control thread.
//!
//! Settings, preflight, lock, superblock, listening socket, shards; they serve once every partition
//! has been recovered. A signal stops them: nothing new is taken, what is in flight is finished.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use walengine_net::model::{ClusterId, PartitionId};

use crate::config::Config;
use crate::control::dropped::Dropped;
use crate::control::joining::{self, Joined};
use crate::control::{Control, Event, Order, forming};
use crate::fatal::{Fatal, Reason};
use crate::feed::Feed;
use crate::limits::{
    COMMANDS_MAX, HANDOVERS_MAX, LEAVE_WITHIN, LISTEN_BACKLOG, LISTEN_WITHIN, SPACE_EVERY,
};
use crate::lock::{self, DirectoryLock};
use crate::os;
use crate::preflight;
use crate::runtime::Runtime;
use crate::shard::{self, Beginning, Command, ShardStart};
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
    /// Groups on this node that will go on with it.
    pub named_by: AtomicUsize,
    /// Datagrams that gossip has dropped.
    pub gossip_dropped: Dropped,
    /// When the process began.
    pub started: Instant,
}

impl Shared {
    /// Shard on which a partition lives.
    pub fn shard_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.config.cores
    }
}

/// Sockets that the shards accept from.
struct Sockets {
    clients: TcpListener,
    /// In a cluster.
    peers: Option<TcpListener>,
}

/// Why a node that served ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A signal came.
    Signal,
    /// An operator wants it to leave its cluster.
    Leave,
}

/// Serves until a signal comes. Returns `Ok` after a clean stop.
pub fn serve(config: Config) -> Result<(), Fatal> {
    preflight::check_machine(config.cores)?;
    preflight::raise_open_files();
    let started = Instant::now();
    let new = prepare_directory(&config)?;
    let _lock = DirectoryLock::take(&config.data)?;
    let found = if new { None } else { Some(read_superblock(&config.data)?) };
    let room = 2 * found.map_or(config.segment_bytes, |found| found.segment_bytes);
    preflight::check_directory(&config.data, if new { room + config.reserve_bytes } else { 0 })?;
    let peers = config.cluster.as_ref().map(|cluster| listen(cluster.peer_listen, "--peer-listen"));
    let sockets =
        Sockets { clients: listen(config.listen, "--listen")?, peers: peers.transpose()? };
    let signals = watch_signals()?;
    match config.cluster.clone() {
        None => {
            let superblock = match found {
                Some(found) if found.replicated => return Err(not_alone()),
                Some(found) => found,
                None => format_directory(&config)?,
            };
            run(config, superblock, started, &sockets, &signals, None, &Beginning::default())?;
        }
        Some(cluster) => {
            let clients = sockets.clients.local_addr().unwrap_or(config.listen);
            let joined = joining::enter(&config, &cluster, found, clients, &signals)?;
            let Some(Joined { superblock, beginning, control }) = joined else { return Ok(()) };
            let control_now = Some(&control);
            let ended =
                run(config, superblock, started, &sockets, &signals, control_now, &beginning);
            control.stop(matches!(ended, Ok(End::Leave)));
            ended?;
        }
    }
    Ok(())
}

fn not_alone() -> Fatal {
    let message = "this data directory is of a node of a cluster: give it --peer-listen and --join";
    Fatal::new(Reason::DataDirectory, message)
}

/// Formats a data directory without serving it. An existing one is an error.
pub fn format(config: &Config) -> Result<Superblock, Fatal> {
    if config.cluster.is_some() {
        let message = "a node of a cluster formats its data directory itself when it forms or joins \
                       one: start it without `format`";
        return Err(Fatal::new(Reason::Usage, message));
    }
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
        if ![lock::NAME, forming::NAME, forming::NAME_NEW].iter().any(|known| name == *known)
            && !is_unfinished_partition(&name)
        {
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

/// A crash between the first partition and the superblock of a cluster's node leaves such; nothing
/// was promised with them yet.
fn is_unfinished_partition(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.strip_prefix('p').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
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
        logs_created: false,
    };
    write_superblock(config, superblock)
}

/// Writes the superblock: from then on the data directory is whole.
pub fn write_superblock(config: &Config, superblock: Superblock) -> Result<Superblock, Fatal> {
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
fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, Fatal> {
    let failed = |error: std::io::Error| cannot_listen(flag, address, &error);
    let listener = bind_within(address, LISTEN_WITHIN).map_err(failed)?;
    os::set_backlog(&listener, LISTEN_BACKLOG).map_err(failed)?;
    Ok(listener)
}

/// Why an address can't be listened on, and what to do.
pub fn cannot_listen(flag: &str, address: SocketAddr, error: &std::io::Error) -> Fatal {
    let other = format!("choose another address with {flag}");
    let fix = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another process has it; stop that or choose another",
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges",
        _ => &other,
    };
    Fatal::new(Reason::Listen, format!("cannot listen on {address} ({error}): {fix}"))
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

/// Runs the shards until the node ends.
fn run(
    config: Config,
    superblock: Superblock,
    started: Instant,
    sockets: &Sockets,
    signals: &flume::Receiver<i32>,
    control: Option<&Control>,
    beginning: &Beginning,
) -> Result<End, Fatal> {
    warn_of_other_settings(&config, &superblock);
    let shared = Arc::new(Shared {
        full: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        named_by: AtomicUsize::new(0),
        gossip_dropped: Dropped::default(),
        free_bytes: AtomicU64::new(0),
        config,
        superblock,
        started,
    });
    look_at_space(&shared);
    let cores = shared.config.cores;
    let (handover_in, handover_out): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| flume::bounded(HANDOVERS_MAX)).unzip();
    let (report, reports) = flume::bounded(2 * cores);
    let feed = Feed::start(&shared.config, &shared.superblock)?;
    let mut commands = Vec::new();
    let mut threads = Vec::new();
    let share = |listener: &TcpListener| {
        listener.try_clone().map_err(|error| {
            Fatal::new(Reason::Listen, format!("cannot share the listening socket: {error}"))
        })
    };
    for (shard, handed) in handover_out.into_iter().enumerate() {
        let (command, commanded) = flume::bounded(COMMANDS_MAX);
        let start = ShardStart {
            shard,
            shared: shared.clone(),
            listener: share(&sockets.clients)?,
            peer_listener: sockets.peers.as_ref().map(share).transpose()?,
            beginning: beginning.clone(),
            feed: feed.ways.clone(),
            handed,
            others: handover_in.clone(),
            commands: commanded,
            report: report.clone(),
            control: control.map(Control::orders),
        };
        threads.push(shard::spawn(start)?);
        commands.push(command);
    }
    drop(report);
    let ended = wait_ready(cores, &reports).and_then(|()| {
        for command in &commands {
            let _ = command.send(Command::Serve); // a shard that has ended reports it itself
        }
        if let Some(control) = control {
            let _ = control.orders().send(Order::Serve(shared.clone(), commands.clone()));
        }
        announce(&shared, &sockets.clients);
        wait_for_end(&shared, signals, &reports, control)
    });
    for command in &commands {
        let _ = command.send(Command::Stop);
    }
    let mut ended = ended;
    for thread in threads {
        ended = ended.and_then(|end| thread.join().map(|()| end));
    }
    feed.stop();
    ended
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

/// Returns when the node is to end, or with the reason why a part of it ended by itself.
fn wait_for_end(
    shared: &Shared,
    signals: &flume::Receiver<i32>,
    reports: &flume::Receiver<Result<(), Fatal>>,
    control: Option<&Control>,
) -> Result<End, Fatal> {
    let mut leaving_since = None;
    loop {
        match signals.recv_timeout(SPACE_EVERY) {
            Ok(signal) => {
                tracing::info!("signal {signal}: finishing what is in flight");
                return Ok(End::Signal);
            }
            Err(_) => look_at_space(shared),
        }
        if let Ok(report) = reports.try_recv() {
            report?;
        }
        if let Some(control) = control {
            // What else it tells is known by now.
            while let Ok(event) = control.events.try_recv() {
                if let Event::Failed(fatal) = event {
                    return Err(fatal);
                }
            }
        }
        if shared.leaving.load(Ordering::Relaxed) {
            let since = *leaving_since.get_or_insert_with(Instant::now);
            let named_by = shared.named_by.load(Ordering::Relaxed);
            if named_by == 0 {
                tracing::info!("leaving: every group goes on without this node");
                return Ok(End::Leave);
            }
            if since.elapsed() >= LEAVE_WITHIN {
                tracing::warn!(
                    "leaving, though {named_by} groups have not taken this node out yet: they will \
                     when they see that it has left, if a majority is sure without it"
                );
                return Ok(End::Leave);
            }
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
    match os::free_bytes(&shared.config.data) {
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
