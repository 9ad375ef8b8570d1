//! A shard: one core, one executor, the partitions that live there and their connections.
//!
//! Shards share nothing but [`crate::node_state::NodeState`]. What crosses between them is a connection, once, on its
//! way to the partition that its first frame names.
//!
//! ```text
//!  start    partitions opened ─ ready ─ [ShardOrder::Serve] ─ clients accepted
//!  stop     [ShardOrder::Stop] ─ leadership handed over ─ nothing taken ─ last snapshot ─
//!           nothing accepted ─ partitions closed ─ last answers sent
//! ```

mod accept;
mod asking;
mod caretaker;
mod handed;
mod host;
mod housekeeping;
mod operators;
mod peers;
pub mod publisher;
mod run;
mod serve;
mod start;
mod state;

use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use walengine_replication::runtime::within;

use crate::fatal::{Fatal, Reason};
use crate::limits::{IO_MEMORY_BYTES, RING_DEPTH};
use crate::partition::alone::Alone;
use crate::partition::group::Consensus;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::glommio_disk::GlommioDisk;

pub use start::ShardStart;

/// A running shard.
pub struct ShardThread {
    handle: std::thread::JoinHandle<Result<(), Fatal>>,
}

impl ShardThread {
    /// Waits for its end.
    pub fn join(self) -> Result<(), Fatal> {
        self.handle.join().unwrap_or_else(|_| {
            Err(Fatal::new(Reason::Disk, "a shard panicked; its message is above"))
        })
    }
}

/// Starts a shard on its core.
pub fn spawn(start: ShardStart) -> Result<ShardThread, Fatal> {
    let name = format!("shard-{}", start.shard);
    let handle = std::thread::Builder::new().name(name).spawn(move || run_thread(start));
    handle
        .map(|handle| ShardThread { handle })
        .map_err(|error| Fatal::new(Reason::Preflight, format!("cannot start a thread: {error}")))
}

fn run_thread(start: ShardStart) -> Result<(), Fatal> {
    let core = start.state.config.shard_cores[start.shard];
    let report = start.report.clone();
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("shard-{}", start.shard))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spin_before_park(Duration::from_micros(start.state.config.spin_micros))
        .make();
    let runtime = GlommioRuntime::new();
    let result = match executor {
        Ok(executor) if start.state.superblock.replicated => {
            type Replicated = Consensus<GlommioDisk, GlommioRuntime>;
            executor.run(within(runtime, run::run::<Replicated>(start)))
        }
        Ok(executor) => {
            type Lone = Alone<GlommioDisk, GlommioRuntime>;
            executor.run(within(runtime, run::run::<Lone>(start)))
        }
        Err(error) => {
            let message = format!(
                "cannot start an io_uring executor on core {core} ({error}); if the core is not \
                 this process's to use, lower --cores"
            );
            Err(Fatal::new(Reason::Preflight, message))
        }
    };
    if let Err(fatal) = &result {
        // The main thread may be past listening; it gets the same from the join.
        let _ = report.send(Err(Fatal::new(fatal.reason, fatal.message.clone())));
    }
    result
}
