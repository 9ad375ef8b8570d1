//! Reads a log again that nobody reads any more, so that rot is found while other replicas still have
//! what it destroys. Changes nothing.

use std::rc::Rc;

use super::disk::Disk;
use super::error::Place;
use super::layout::{self, BLOCK, Tail};
use super::limits::SCRUB_READ_BYTES;
use super::log::Log;
use super::mend::{self, Gap, MendError};
use super::segment;
use super::state::Inner;
use super::window::{Step, Window};
use crate::runtime::Runtime;

/// A segment with durable entries.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Its number.
    pub sequence: u64,
    before: Tail,
    /// Its last entry that is durable.
    last: u64,
}

impl Extent {
    /// The entry at `index` stands in this segment, or in one behind it.
    pub fn begins_by(&self, index: u64) -> bool {
        self.before.index < index
    }
}

/// Damage in what was durable.
#[derive(Clone, Debug)]
pub struct Rot {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub why: String,
    /// The entry that belongs there.
    pub gap: Gap,
}

impl<D: Disk, R: Runtime> Log<D, R> {
    /// Segments that hold durable entries, in order.
    pub fn extents(&self) -> Vec<Extent> {
        let state = self.inner.state.borrow();
        let ends = state.segments.iter().skip(1).map(|next| next.before.index);
        let ends = ends.chain([state.tail.index]).map(|last| last.min(state.durable));
        let all = state.segments.iter().zip(ends);
        let extents = all.map(|(segment, last)| {
            let (sequence, before) = (segment.sequence, segment.before);
            Extent { sequence, before, last }
        });
        extents.filter(|extent| extent.last > extent.before.index).collect()
    }

    /// Reads a segment and checks every checksum and every link of the chain. `pace` is called with the
    /// bytes that were read since it was called last, and returns when more may be read; false: no more
    /// is wanted. `None`: it is right, or was cut meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub async fn check(
        &self,
        extent: Extent,
        pace: impl AsyncFn(u64) -> bool,
    ) -> std::io::Result<Option<Rot>> {
        let Inner { disk, dir, config, .. } = &*self.inner;
        let cuts = self.inner.state.borrow().cuts;
        let file = Rc::new(disk.open(&segment::path(dir, extent.sequence)).await?);
        let bytes = config.segment_bytes;
        let mut window = Window::new(disk.clone(), file, bytes, SCRUB_READ_BYTES);
        let (mut tail, mut end, mut paced) = (extent.before, BLOCK, BLOCK);
        while tail.index < extent.last {
            let step = window.step(config.ids, &tail, end).await?;
            let was_cut = self.inner.state.borrow().cuts != cuts;
            let (position, why) = match step {
                _ if was_cut => return Ok(None),
                Step::Entry { position, header, tail: next } => {
                    (tail, end) = (next, position + header.entry_bytes() as u64);
                    if end - paced >= SCRUB_READ_BYTES as u64 {
                        if !pace(end - paced).await {
                            return Ok(None);
                        }
                        paced = end;
                    }
                    continue;
                }
                Step::DirtyPadding { position } => {
                    (position, "the padding before the entry is not zero".to_owned())
                }
                Step::End { position, why } => (position, why),
            };
            let (index, segment) = (tail.index + 1, segment::name(extent.sequence));
            let gap = Gap {
                index,
                promised: extent.last,
                before: tail,
                sequence: extent.sequence,
                position: layout::block_up(end),
                begins_segment: false,
                next: None,
            };
            return Ok(Some(Rot { place: Place { segment, position, index }, why, gap }));
        }
        Ok(None)
    }

    /// Puts an entry of another replica into the place where this one has lost it, durably.
    ///
    /// # Errors
    /// It is not the entry that was lost; the disk fails.
    pub async fn mend(&self, gap: &Gap, entry: &[u8]) -> Result<(), MendError> {
        let Inner { disk, dir, config, .. } = &*self.inner;
        mend::put(disk, dir, config, gap, entry).await.map(drop)
    }
}
