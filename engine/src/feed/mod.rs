//! The feed: serves subscriptions of all partitions on a thread of its own, beside the shards.
//!
//! A shard hands a connection over when it subscribes. While a subscriber is near the end of the log,
//! committed entries come from the shard in memory. A subscriber older than that in-memory tail is
//! served from segment files, which the feed reads itself. A shard never waits for the feed.

pub mod connection;
pub mod published;
pub mod source;
mod subscriptions;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use glommio::{LocalExecutorBuilder, Placement};
use walengine_net::model::PartitionId;
use walengine_replication::budget::Budget;
use walengine_replication::runtime::within;

use crate::connection::memory::HeldMemory;
use crate::connection::outbox::Outbox;
use crate::connection::timing::{LiveConnections, Timing};
use crate::fatal::{Fatal, Reason};
use crate::limits::{
    CONNECTIONS_LOOK_EVERY, DISK_READS_MAX, FEED_NOTICES_MAX, FEED_SUBSCRIBERS_MAX,
    IO_MEMORY_BYTES, LINGER,
};
use crate::memory_parts::{Part, Parts};
use crate::node_state::NodeState;
use crate::runtime::Runtime as _;
use crate::runtime_glommio::GlommioRuntime;
use crate::shares::{feed_connections_share, feed_recent_share};
use crate::storage;
use crate::storage::archive::Archive;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::Superblock;
use connection::Connection;
use published::{FeedChannels, Notice, Passing, Published, Subscriber};
use source::Source;

/// The running feed.
pub struct Feed {
    /// For each partition, by number.
    pub channels: Vec<FeedChannels>,
    stop: flume::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

/// A partition's end of the feed.
struct FeedEnd {
    published: Arc<Published>,
    notices: flume::Receiver<Notice>,
}

impl Feed {
    /// Starts it, for all partitions of a data directory.
    pub fn start(state: &Arc<NodeState>) -> Result<Self, Fatal> {
        let superblock = &state.superblock;
        let (subscribers, arriving) = flume::bounded(FEED_SUBSCRIBERS_MAX);
        let (stop, stopping) = flume::bounded(1);
        let (passing, queued) = (Passing::default(), Arc::default());
        let (channels, ends): (Vec<_>, Vec<_>) = (0..superblock.partitions)
            .map(|_| {
                let (sender, notices) = flume::bounded(FEED_NOTICES_MAX);
                let published = Arc::new(Published::new(&queued));
                let subscribers = subscribers.clone();
                let (own, passing) = (published.clone(), passing.clone());
                let own = FeedChannels { published: own, notices: sender, subscribers, passing };
                (own, FeedEnd { published, notices })
            })
            .unzip();
        let state = state.clone();
        let (report, started) = flume::bounded(1);
        let failed =
            |why: String| Fatal::new(Reason::Preflight, format!("cannot start the feed: {why}"));
        let run = move || {
            let executor = LocalExecutorBuilder::new(Placement::Unbound)
                .name("feed")
                .io_memory(IO_MEMORY_BYTES)
                .make();
            match executor {
                Ok(executor) => {
                    let _ = report.send(Ok(())); // who starts it waits for that
                    let serving = serve(state, passing, ends, arriving, stopping);
                    executor.run(within(GlommioRuntime::new(), serving));
                }
                Err(error) => drop(report.send(Err(error.to_string()))),
            }
        };
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(run);
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { channels, stop, thread }),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("it panicked; its message is above".to_owned())),
        }
    }

    /// Ends it once the shards have ended: last pages still go out, for a moment.
    pub fn stop(self) {
        drop(self.channels);
        let _ = self.stop.send(()); // it has ended already if nobody listens
        if self.thread.join().is_err() {
            tracing::error!("the feed panicked; its message is above");
        }
    }
}

async fn serve(
    state: Arc<NodeState>,
    passing: Passing,
    ends: Vec<FeedEnd>,
    arriving: flume::Receiver<Subscriber>,
    stopping: flume::Receiver<()>,
) {
    let runtime = GlommioRuntime::new();
    let (config, superblock) = (state.config.clone(), state.superblock);
    let disk = GlommioDisk::new(&config.data);
    let (budget, reads) = (Budget::new(feed_connections_share()), Budget::new(DISK_READS_MAX));
    let recent = Budget::new(feed_recent_share());
    let sources: Vec<_> = (0..)
        .zip(ends)
        .map(|(number, FeedEnd { published, notices })| {
            let partition = PartitionId(number);
            let dir = storage::partition_dir(&config.data, partition);
            let Superblock { cluster, segment_bytes, .. } = superblock;
            let archive = Archive::new(disk.clone(), dir, cluster, partition, segment_bytes);
            let reads = reads.clone();
            let source = Rc::new(Source::new(published, archive, &recent, reads));
            runtime.spawn(source.clone().follow(notices));
            source
        })
        .collect();
    let live = Rc::<RefCell<LiveConnections>>::default();
    let turned_away = state.turned_away.clone();
    let (looked, own, pressed) = (sources.clone(), live.clone(), budget.clone());
    let newest = recent.clone();
    runtime.spawn(async move {
        let mut memory = HeldMemory::new(pressed.clone(), state.clone());
        let mut told = Parts::default();
        loop {
            runtime.sleep(CONNECTIONS_LOOK_EVERY).await;
            for source in &looked {
                source.look();
            }
            let mut parts = Parts::default();
            parts.add(Part::Connections, pressed.used() as u64);
            parts.add(Part::NewestEntries, newest.used() as u64);
            state.memory_parts.tell(&mut told, parts);
            let is_short = memory.look();
            own.borrow_mut().end_overdue(runtime.elapsed(), is_short);
        }
    });
    let (served, own) = (sources, live.clone());
    let accepting = async {
        while let Ok(subscriber) = arriving.recv_async().await {
            let Some(source) = served.get(usize::from(subscriber.partition.0)) else { continue };
            let outbox = Rc::new(Outbox::new(&budget));
            let address = subscriber.socket.peer_addr();
            let timing = Rc::new(Timing::new(address, &turned_away));
            own.borrow_mut().add(&outbox, &timing, None, None); // its session's shard looks after it
            let (source, passing) = (source.clone(), passing.clone());
            runtime.spawn(Connection::serve(subscriber, source, passing, outbox, timing, runtime));
        }
        std::future::pending::<()>().await;
    };
    let stopped = async {
        let _ = stopping.recv_async().await;
    };
    futures_lite::future::or(accepting, stopped).await;
    let deadline = runtime.elapsed() + LINGER;
    while live.borrow().is_busy() && runtime.elapsed() < deadline {
        runtime.sleep(std::time::Duration::from_millis(1)).await;
    }
}
