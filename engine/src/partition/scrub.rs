//! Reads the whole log again and again, slowly, and gives way to whoever writes: rot in a segment that
//! nobody reads is found while other replicas still have what it destroys. A replica mends it from
//! them; a node that serves alone can only tell.

use std::time::Duration;

use super::Partition;
use super::commit::Commit;
use super::mending::{EntrySource, mend_open};
use crate::limits::{
    SCRUB_AGAIN_AFTER, SCRUB_BEGIN_AFTER, SCRUB_GIVE_WAY, SCRUB_LOOK_EVERY, SCRUB_TRIES_MAX,
};
use crate::runtime::Runtime;
use crate::storage::scrub::{Extent, Rot};

/// Scrubs at `bytes_per_second` until the partition ends; 0: not at all.
pub async fn run<C: Commit>(
    partition: Partition<C>,
    source: Option<impl EntrySource>,
    bytes_per_second: u64,
) {
    if bytes_per_second == 0 {
        return;
    }
    let is_mended = source.is_some();
    rest(&partition, SCRUB_BEGIN_AFTER).await;
    while !partition.is_ending() {
        let mut bad = 0;
        for extent in partition.log().extents() {
            match check(&partition, extent, source.as_ref(), bytes_per_second).await {
                Ok(found) => bad += found,
                Err(error) => {
                    tracing::error!(
                        "partition {}: reading segment {} again: {error}",
                        partition.id().partition,
                        extent.sequence
                    );
                    bad += 1;
                }
            }
        }
        bad += check_ids(&partition, bytes_per_second).await;
        partition.note_rot(bad);
        // What could not be mended is tried again soon: the others may be back then.
        let soon = bad > 0 && is_mended;
        rest(&partition, if soon { SCRUB_GIVE_WAY } else { SCRUB_AGAIN_AFTER }).await;
    }
}

/// Checks a segment, and mends what it can. Gives the number of places that stay damaged: the first
/// ends the look, since nothing behind it can be checked.
async fn check<C: Commit>(
    partition: &Partition<C>,
    extent: Extent,
    source: Option<&impl EntrySource>,
    bytes_per_second: u64,
) -> std::io::Result<u64> {
    let id = partition.id().partition;
    let mut tries = Tries::default();
    loop {
        let pace = async |bytes| give_way(partition, bytes, bytes_per_second).await;
        let Some(rot) = partition.log().check(extent, pace).await? else { return Ok(0) };
        let Rot { place, why, gap } = &rot;
        let Some(source) = source else {
            if partition.is_rot_news(place) {
                tracing::error!(
                    "partition {id}: the log is damaged in {place}: {why}; it was durable, and this node \
                     has no replica to take it from: restore the data directory from a backup"
                );
            }
            return Ok(1);
        };
        let mended = if tries.more(gap.index) {
            mend_open(partition.log(), id, &rot, source).await
        } else {
            Err("what other nodes have does not mend it".to_owned())
        };
        match mended {
            Ok(()) => partition.count_mended(),
            Err(error) => {
                if partition.is_rot_news(place) {
                    tracing::error!(
                        "partition {id}: the log is damaged in {place}: {why}; it can't be mended: \
                         {error}; if that stays so: stop this node, empty its data directory, and \
                         start it again: it copies itself from the others"
                    );
                }
                return Ok(1);
            }
        }
    }
}

/// Checks the runs of ids, which a start does not read. Gives 1 if one of them is damaged.
async fn check_ids<C: Commit>(partition: &Partition<C>, bytes_per_second: u64) -> u64 {
    let id = partition.id().partition;
    let pace = async |bytes| give_way(partition, bytes, bytes_per_second).await;
    let Err(error) = partition.older_ids().check_runs(pace).await else { return 0 };
    tracing::error!(
        "partition {id}: {error}; whether the ids in it were used before can't be told: restart this node, which \
         makes it again from the log"
    );
    if let Err(error) = partition.older_ids().distrust_runs().await {
        tracing::error!("partition {id}: what would spare a start reading the runs stays: {error}");
    }
    1
}

/// How often one entry was put in: more than a few times is no use.
#[derive(Default)]
struct Tries {
    index: u64,
    times: u32,
}

impl Tries {
    fn more(&mut self, index: u64) -> bool {
        if self.index != index {
            *self = Self { index, times: 0 };
        }
        self.times += 1;
        self.times <= SCRUB_TRIES_MAX
    }
}

/// Waits as long as reading `bytes` may take, and longer while others write.
async fn give_way<C: Commit>(partition: &Partition<C>, bytes: u64, bytes_per_second: u64) -> bool {
    let flushes = partition.log().flush_counts().flushes;
    let pause = Duration::from_micros(bytes * 1_000_000 / bytes_per_second);
    rest(partition, pause).await;
    if partition.log().flush_counts().flushes != flushes {
        rest(partition, pause.min(SCRUB_GIVE_WAY)).await;
    }
    !partition.is_ending()
}

/// Sleeps, but not past the partition's end.
async fn rest<C: Commit>(partition: &Partition<C>, time: Duration) {
    let mut left = time;
    while !left.is_zero() && !partition.is_ending() {
        let step = left.min(SCRUB_LOOK_EVERY);
        partition.runtime().sleep(step).await;
        left -= step;
    }
}
