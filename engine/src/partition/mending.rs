//! Gets entries that this replica's disk has lost from the other replicas: before the log is opened, so
//! that the vote and everything else that this node has promised stay what they are, and while it
//! serves. A replica with a gap votes for nobody and acknowledges nothing until it is closed.

use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::EntryHeader;
use walengine_net::message::Entries;
use walengine_net::model::PartitionId;
use walengine_replication::peer::LogPage;

use crate::limits::{MEND_RETRY_AFTER, MEND_WITHIN};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::{OpenError, ReadError};
use crate::storage::layout::Tail;
use crate::storage::log::{Log, LogConfig};
use crate::storage::mend::{self, Gap};
use crate::storage::scrub::Rot;

/// Other replicas, which have what this one has lost.
pub trait EntrySource {
    /// Committed entries from `index` on, from a node that has them; and which.
    fn committed(&self, index: u64) -> impl Future<Output = Option<(u64, LogPage)>>;
}

/// Mends the damage that an open log has met, from other replicas; in words why not.
///
/// # Errors
/// Nobody has the entry now, or it does not fit; the disk fails.
pub async fn mend_open<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    partition: PartitionId,
    rot: &Rot,
    source: &impl EntrySource,
) -> Result<(), String> {
    let Rot { place, why, gap } = rot;
    let found = source.committed(gap.index).await;
    let (node, page) = found.ok_or("no other node has the entry now")?;
    let entry = Entries::new(&page.entries).next().and_then(Result::ok);
    let (header, body) = entry.ok_or("what another node gives for it is no entry")?;
    let put = log.mend(gap, &whole(&header, body)).await;
    put.map_err(|error| format!("what node {node} gives does not mend it: {error}"))?;
    tracing::warn!(
        "partition {partition}: the log was damaged in {place}: {why}; the entry was taken from node \
         {node} again; replace the disk if this comes again"
    );
    Ok(())
}

/// Mends what an open log could not read of the entry at `index`. True if it is worth another try.
pub async fn mend_read<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    partition: PartitionId,
    index: u64,
    source: &impl EntrySource,
) -> bool {
    let mut mended = 0;
    loop {
        let Some(extent) = log.extents().into_iter().rfind(|extent| extent.begins_by(index)) else {
            return false;
        };
        match log.check(extent, async |_| true).await {
            Ok(Some(rot)) => match mend_open(log, partition, &rot, source).await {
                // What comes before it in its segment is mended first.
                Ok(()) if (mended + 1..index).contains(&rot.gap.index) => mended = rot.gap.index,
                Ok(()) => return true,
                Err(why) => {
                    tracing::error!(
                        "partition {partition}: the log is damaged in {}: {}; it can't be mended: {why}",
                        rot.place,
                        rot.why
                    );
                    return false;
                }
            },
            Ok(None) => return true, // somebody else was faster
            Err(_) => return false,  // its reader says so
        }
    }
}

/// Mends the entry at an index from other replicas; true if it is worth another try to read it.
pub type Mender = Rc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool>>>>;

/// What `read` gives, again for as long as what has rotted can be mended.
///
/// # Errors
/// As of `read`.
pub async fn mended<T>(
    mender: Option<&Mender>,
    read: impl AsyncFn() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut last = None;
    loop {
        let read = read().await;
        let (Err(ReadError::Corrupt { place, .. }), Some(mender)) = (&read, mender) else {
            return read;
        };
        // Twice the same place: it is no use.
        if last.as_ref() == Some(place) || !mender(place.index).await {
            return read;
        }
        last = Some(place.clone());
    }
}

/// Nobody.
pub struct NoSource;

impl EntrySource for NoSource {
    async fn committed(&self, _: u64) -> Option<(u64, LogPage)> {
        None
    }
}

/// The partition whose log is mended.
pub struct Patient<'a, D: Disk, R: Runtime> {
    /// Its disk.
    pub disk: &'a D,
    /// The executor.
    pub runtime: &'a R,
    /// Its directory.
    pub dir: &'a Path,
    /// Its log.
    pub config: &'a LogConfig,
    /// Which it is.
    pub partition: PartitionId,
}

impl<D: Disk, R: Runtime> Patient<'_, D, R> {
    /// Mends a log that can't be opened, as far as other replicas have what it lacks. Waits for them for
    /// a while. `damage` is why it can't be opened.
    ///
    /// # Errors
    /// `damage`, or what else is wrong: nobody has given the entry, or no entry mends it.
    pub async fn mend(
        &self,
        source: &impl EntrySource,
        from: Tail,
        damage: OpenError,
    ) -> Result<(), OpenError> {
        let Self { disk, runtime, dir, config, partition } = self;
        let until = runtime.elapsed() + MEND_WITHIN;
        let mut mended = 0;
        tracing::error!("partition {partition}: {damage}; asking the other nodes for what is lost");
        loop {
            let Some(gap) = mend::find_gap(*disk, dir, config, from).await? else {
                tracing::warn!(
                    "partition {partition}: {mended} lost entries were taken from other nodes; \
                     replace the disk if this comes again"
                );
                return Ok(());
            };
            let Some((node, page)) = self.ask(source, gap.index, until).await else {
                return Err(damage);
            };
            mended += self.fill(gap, node, &page).await?;
        }
    }

    async fn ask(
        &self,
        source: &impl EntrySource,
        index: u64,
        until: Duration,
    ) -> Option<(u64, LogPage)> {
        loop {
            if let Some(found) = source.committed(index).await {
                return Some(found);
            }
            if self.runtime.elapsed() >= until {
                return None;
            }
            self.runtime.sleep(MEND_RETRY_AFTER).await;
        }
    }

    /// Puts in the entries of a page that are lost. Gives how many.
    async fn fill(&self, mut gap: Gap, node: u64, page: &LogPage) -> Result<u64, OpenError> {
        let Self { disk, dir, config, partition, .. } = self;
        let mut put = 0;
        for entry in Entries::new(&page.entries) {
            let given = |why: String| {
                let why = format!("node {node} gives another entry {} for it: {why}", gap.index);
                OpenError::File { path: dir.to_path_buf(), why }
            };
            let (header, body) = entry.map_err(|error| given(error.to_string()))?;
            let (vote, term) = (page.vote.leader_id, header.meta.term);
            if vote.term < term {
                return Err(given("it is newer than its leader".to_owned()));
            }
            if page.vote.committed {
                mend::save_vote(*disk, dir, config, term, (vote.term, vote.voted_for)).await?;
            }
            let index = gap.index;
            let bytes = whole(&header, body);
            let next = mend::put(*disk, dir, config, &gap, &bytes).await;
            gap = next.map_err(|error| given(error.to_string()))?;
            put += 1;
            tracing::warn!("partition {partition}: entry {index} was taken from node {node}");
            let lost = mend::is_lost(*disk, dir, config, &gap).await;
            if !lost.map_err(OpenError::io("reading what was mended"))? {
                break;
            }
        }
        Ok(put)
    }
}

/// An entry as it stands in a page.
pub fn whole(header: &EntryHeader, body: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], body].concat()
}
