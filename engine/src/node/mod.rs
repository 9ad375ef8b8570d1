//! One process: what starts and stops in which order. Runs on the main thread.
//!
//! ```text
//!  start   preflight ─ lock ─ superblock ─ contents ─ sockets ─ HTTP ─ [control: cluster] ─ feed ─ shards ─ serve
//!  stop    signal ─ HTTP ─ shards: nothing new, finish, snapshot, close ─ feed ─ control
//!          a disk that does not answer holds it up for a while only
//! ```

mod credentials;
mod descriptors;
mod signals;
mod space;
mod stopping;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use walengine_net::cli::supervisor;
use walengine_net::tls::Tls;

use crate::audit::Audit;
use crate::config::Config;
use crate::control::Control;
use crate::control::joining::{self, Entered};
use crate::data_dir::{self, Owner};
use crate::fatal::{Fatal, Reason};
use crate::feed::Feed;
use crate::http::Http;
use crate::kafka::Kafka;
use crate::limits::{HANDOVERS_MAX, LEAVE_WITHIN, MEMORY_EVERY, SHARD_ORDERS_MAX, SPACE_EVERY};
use crate::listen::listen;
use crate::memory;
use crate::node_state::NodeState;
use crate::orders::{Beginning, ClusterEvent, ControlOrder, ShardOrder};
use crate::os;
use crate::preflight;
use crate::shard::{self, ShardStart};
use crate::storage::layout::Superblock;

/// Sockets that the shards accept from.
struct Sockets {
    clients: TcpListener,
    /// In a cluster.
    peers: Option<TcpListener>,
}

/// What a node knows of itself before its shards start.
struct Prepared {
    config: Config,
    superblock: Superblock,
    tls: Option<Arc<Tls>>,
    started: Instant,
    http: Option<Http>,
    /// Where Kafka consumers come.
    kafka: Option<TcpListener>,
}

/// Why a node that served ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeEnd {
    /// A signal came.
    Signal,
    /// An operator wants it to leave its cluster.
    Leave,
}

/// Serves until a signal comes. Returns `Ok` after a clean stop.
pub fn serve(config: Config) -> Result<(), Fatal> {
    let tls = credentials::open(&config)?;
    let node = tls.as_ref().and_then(|tls| tls.current().own().node());
    let config = Config { node, ..config };
    preflight::check_machine(config.cores)?;
    let started = Instant::now();
    os::keep_large_allocations_apart();
    let limits = memory::set_budget(config.memory_bytes);
    let (_lock, found) = data_dir::enter(&config)?;
    let room = 2 * found.map_or(config.segment_bytes, |found| found.segment_bytes);
    let is_new = found.is_none();
    let partitions = found.map(|found| found.partitions).or(config.partitions);
    memory::require_least(limits, config.cores, partitions.unwrap_or(config.cores as u16))?;
    preflight::check_directory(
        &config.data,
        if is_new { room + config.reserve_bytes } else { 0 },
        is_new,
    )?;
    preflight::warn_of_file_system(&config.data);
    if let Some(superblock) = &found {
        let complaints = data_dir::complaints(&config.data, superblock)?;
        complaints.into_iter().next().map_or(Ok(()), Err)?;
        tls.as_ref().map_or(Ok(()), |tls| credentials::check_owner(tls, superblock))?;
    }
    let peers = config.cluster.as_ref().map(|cluster| listen(cluster.peer_listen, "--peer-listen"));
    let sockets =
        Sockets { clients: listen(config.listen, "--listen")?, peers: peers.transpose()? };
    let signals = signals::watch()?;
    let clients = sockets.clients.local_addr().unwrap_or(config.listen);
    let http = Http::start(&config.http, clients, tls.clone())?;
    let kafka = Kafka::listen(&config)?;
    match config.cluster.clone() {
        None => {
            let superblock = match found {
                Some(found) if found.replicated => return Err(not_alone()),
                Some(found) => found,
                None => data_dir::format(&config, Owner::alone(&config))?,
            };
            let beginning = Beginning::default();
            run(
                Prepared { config, superblock, tls, started, http, kafka },
                &sockets,
                &signals,
                None,
                &beginning,
            )?;
        }
        Some(cluster) => {
            let entered = joining::enter(&config, &cluster, found, clients, &signals)?;
            let Some(Entered { superblock, beginning, control }) = entered else { return Ok(()) };
            let control_now = Some(&control);
            let prepared = Prepared { config, superblock, tls, started, http, kafka };
            let ended = run(prepared, &sockets, &signals, control_now, &beginning);
            control.stop(matches!(ended, Ok(NodeEnd::Leave)));
            ended?;
        }
    }
    Ok(())
}

fn not_alone() -> Fatal {
    let message = "this data directory is of a node of a cluster: give it --peer-listen and --join";
    Fatal::new(Reason::DataDirectory, message)
}

fn warn_of_other_settings(config: &Config, superblock: &Superblock) {
    if config.partitions.is_some_and(|partitions| partitions != superblock.partitions) {
        let fixed = superblock.partitions;
        tracing::warn!("--partitions is ignored: {fixed} were fixed at format");
    }
}

/// Runs the shards until the node ends.
fn run(
    prepared: Prepared,
    sockets: &Sockets,
    signals: &flume::Receiver<i32>,
    control: Option<&Control>,
    beginning: &Beginning,
) -> Result<NodeEnd, Fatal> {
    let Prepared { config, superblock, tls, started, http, kafka } = prepared;
    warn_of_other_settings(&config, &superblock);
    let connections_max = descriptors::connections_max(&config, superblock.partitions);
    let config = Config { connections_max, ..config };
    let trail = Audit::start(&config.data)?;
    let clients = sockets.clients.local_addr().unwrap_or(config.listen);
    let advertised = config.cluster.as_ref().map(|cluster| cluster.client_address(clients));
    let state = NodeState::new(config, superblock, trail.audit(), started);
    let mut state = state.secured(tls);
    state.client_address = advertised.unwrap_or_default();
    let state = Arc::new(state);
    let kafka = kafka.map(|listener| Kafka::open(&state, clients, listener));
    let mut kafka = kafka.transpose()?;
    let mut credentials = credentials::Watch::begin(&state)?;
    space::look(&state);
    space::look_at_memory(&state);
    let cores = state.config.cores;
    let (handover_in, handover_out): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| flume::bounded(HANDOVERS_MAX)).unzip();
    let (report, reports) = flume::bounded(2 * cores);
    let feed = Feed::start(&state)?;
    let mut shards = Vec::new();
    let mut threads = Vec::new();
    let share = |listener: &TcpListener| {
        listener.try_clone().map_err(|error| {
            Fatal::new(Reason::Listen, format!("cannot share the listening socket: {error}"))
        })
    };
    for (shard, handed) in handover_out.into_iter().enumerate() {
        let (order, orders) = flume::bounded(SHARD_ORDERS_MAX);
        let start = ShardStart {
            shard,
            state: state.clone(),
            listener: share(&sockets.clients)?,
            peer_listener: sockets.peers.as_ref().map(share).transpose()?,
            beginning: beginning.clone(),
            feed: feed.channels.clone(),
            handed,
            others: handover_in.clone(),
            orders,
            report: report.clone(),
            control: control.map(Control::orders),
        };
        threads.push(shard::spawn(start)?);
        shards.push(order);
    }
    drop(report);
    let ended = wait_ready(cores, &reports).and_then(|()| {
        for order in &shards {
            let _ = order.send(ShardOrder::Serve); // a shard that has ended reports it itself
        }
        if let Some(control) = control {
            let _ = control.orders().send(ControlOrder::Serve(state.clone(), shards.clone()));
        }
        announce(&state, &sockets.clients);
        if let Some(http) = &http {
            http.serves(&state);
        }
        kafka.as_mut().map_or(Ok(()), Kafka::serve)?;
        supervisor::serves(&format!("Serving on {clients}"));
        wait_for_end(&state, &mut credentials, signals, &reports, control)
    });
    supervisor::stops();
    let stop = stopping::Stop::begin(&state.config.data, |fatal| {
        tracing::error!("{fatal}");
        std::process::exit(i32::from(fatal.reason as u8));
    });
    // Its requests would wait for shards that have ended.
    drop(http);
    drop(kafka);
    for order in &shards {
        let _ = order.send(ShardOrder::Stop);
    }
    let mut ended = ended;
    for thread in threads {
        ended = ended.and_then(|end| thread.join().map(|()| end));
    }
    stop.waits_for("the feed's reads");
    feed.stop();
    drop(stop);
    trail.stop();
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
    state: &NodeState,
    credentials: &mut credentials::Watch,
    signals: &flume::Receiver<i32>,
    reports: &flume::Receiver<Result<(), Fatal>>,
    control: Option<&Control>,
) -> Result<NodeEnd, Fatal> {
    let mut leaving_since = None;
    let mut space_looked = Instant::now();
    loop {
        if let Ok(signal) = signals.recv_timeout(MEMORY_EVERY) {
            tracing::info!("signal {signal}: finishing what is in flight");
            return Ok(NodeEnd::Signal);
        }
        credentials.look();
        space::look_at_memory(state);
        if space_looked.elapsed() >= SPACE_EVERY {
            space_looked = Instant::now();
            space::look(state);
        }
        state.turned_away.tell();
        if state.gives_back.swap(false, Ordering::Relaxed) {
            os::give_back_memory();
        }
        if let Ok(report) = reports.try_recv() {
            report?;
        }
        if let Some(control) = control {
            // What else it tells is known by now.
            while let Ok(event) = control.events.try_recv() {
                if let ClusterEvent::Failed(fatal) = event {
                    return Err(fatal);
                }
            }
        }
        if state.is_leaving.load(Ordering::Relaxed) {
            let since = *leaving_since.get_or_insert_with(Instant::now);
            let groups_kept = state.groups_kept.load(Ordering::Relaxed);
            if groups_kept == 0 {
                tracing::info!("leaving: every group goes on without this node");
                return Ok(NodeEnd::Leave);
            }
            if since.elapsed() >= LEAVE_WITHIN {
                if let Some(why) = state.must_stay() {
                    // It was not so when it was asked.
                    state.is_leaving.store(false, Ordering::Relaxed);
                    leaving_since = None;
                    tracing::warn!("this node does not leave after all: {why}");
                    continue;
                }
                tracing::warn!(
                    "leaving, though {groups_kept} groups have not taken this node out yet: they will \
                     when they see that it has left, if a majority is sure without it"
                );
                return Ok(NodeEnd::Leave);
            }
        }
    }
}

/// Says where it serves: the port is the system's choice if 0 was asked for.
fn announce(state: &NodeState, listener: &TcpListener) {
    let Config { cores, listen, data, .. } = &state.config;
    let listen = listener.local_addr().unwrap_or(*listen);
    let partitions = state.superblock.partitions;
    let seconds = state.started.elapsed().as_secs_f64();
    let data = data.display();
    tracing::info!(
        "serving on {listen}: {cores} cores, {partitions} partitions, data in {data}, ready after \
         {seconds:.2} s"
    );
}
