//! The entries on the disks of a cluster's nodes that survive any power loss, whatever the nodes
//! say. Knows which are committed, and compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine::storage::layout::{BLOCK_BYTES, SegmentHeader, Tail};
use walengine_net::entry::{ChainHash, EntryKind, decode_entry};
use walengine_net::model::Offset;
use walengine_replication::types::{LogId, NodeId};

use crate::checked_partition::dir;
use crate::sim::{Rng, SimDisk};

/// Where the chain hash stands in an entry.
const CHAIN_AT: usize = 80;
/// Damage is put among so many of the newest committed entries, so that it is soon met.
const RECENT: u64 = 30;

/// An entry on a medium.
#[derive(Clone)]
struct Standing {
    /// The log's end if it were the last.
    tail: Tail,
    /// Newest index that its writer knew to be durable.
    durable_index: u64,
    segment: u64,
    path: Rc<Path>,
    position: usize,
    bytes: usize,
}

/// One node's.
struct Medium {
    /// Entry 1 first.
    entries: Vec<Standing>,
    /// So many of them the node has applied.
    committed: usize,
    /// Indexes of entries that the test has damaged.
    rotten: BTreeSet<u64>,
    /// Number and path of the segment behind the last entry's.
    next_segment: (u64, Rc<Path>),
}

impl Default for Medium {
    fn default() -> Self {
        let (entries, rotten) = (Vec::new(), BTreeSet::new());
        Self { entries, committed: 0, rotten, next_segment: (1, segment_path(1).into()) }
    }
}

/// See the module.
#[derive(Default)]
pub struct Media {
    nodes: BTreeMap<NodeId, Medium>,
    /// Chain hash of each entry that was ever on a medium, by term and index.
    ids: BTreeMap<(u64, u64), ChainHash>,
    /// What each committed entry leaves as the log's end.
    committed: Vec<Tail>,
    /// Which node decided in each term.
    deciders: BTreeMap<u64, NodeId>,
}

impl Media {
    /// Looks at what a node's medium holds by now.
    ///
    /// # Panics
    /// If one log id stands for two entries, or two nodes have decided in one term.
    pub fn look(&mut self, node: NodeId, disk: &SimDisk) {
        let Self { nodes, ids, deciders, .. } = self;
        let medium = nodes.entry(node).or_default();
        medium.forget_removed(disk);
        while let Some((standing, decider)) = medium.next(disk) {
            let Tail { index, term, chain, .. } = standing.tail;
            let first = *ids.entry((term, index)).or_insert(chain);
            assert!(first == chain, "node {node} has other bytes in entry {index} of term {term}");
            if let Some(decider) = decider {
                let first = *deciders.entry(term).or_insert(decider);
                assert!(first == decider, "{first} and {decider} both decided in term {term}");
            }
            medium.entries.push(standing);
        }
    }

    /// Takes note of what a node has applied.
    ///
    /// # Panics
    /// If it is not what others have applied, or if the node has lost what it had.
    pub fn note_applied(&mut self, node: NodeId, applied: Option<LogId>) {
        let medium = self.nodes.entry(node).or_default();
        let had = medium.committed;
        assert!(medium.entries.len() >= had, "node {node} has lost the committed entry {had}");
        if let Some(last) = had.checked_sub(1) {
            let same = medium.entries[last].tail == self.committed[last];
            assert!(same, "node {node}: the committed entry {had} has changed");
        }
        let applied = applied.map_or(0, |id| id.index as usize + 1).min(medium.entries.len());
        for at in had..applied {
            let tail = medium.entries[at].tail;
            match self.committed.get(at) {
                Some(first) => assert!(
                    *first == tail,
                    "node {node} has applied another entry {}: {tail:?} and not {first:?}",
                    at + 1
                ),
                None => self.committed.push(tail),
            }
        }
        medium.committed = had.max(applied);
    }

    /// On how many media the entry is that holds the record at `offset`.
    pub fn copies(&self, offset: Offset) -> usize {
        let mut copies: BTreeMap<(u64, [u8; 32]), usize> = BTreeMap::new();
        for medium in self.nodes.values() {
            let at = medium.entries.partition_point(|entry| entry.tail.next_offset <= offset);
            if let Some(entry) = medium.entries.get(at) {
                *copies.entry((entry.tail.index, entry.tail.chain.0)).or_default() += 1;
            }
        }
        copies.into_values().max().unwrap_or(0)
    }

    /// Flips one bit in a committed entry of the node that its log knows to have been durable, and
    /// gives its index. `None` if there is none yet.
    pub fn flip(&mut self, node: NodeId, disk: &SimDisk, rng: &mut Rng) -> Option<u64> {
        self.look(node, disk);
        let medium = self.nodes.get_mut(&node)?;
        let witness = medium.entries.iter().map(|entry| entry.durable_index).max()?;
        let last = witness.min(self.committed.len() as u64).min(medium.entries.len() as u64);
        if last == 0 {
            return None;
        }
        let first = if rng.percent(70) { last.saturating_sub(RECENT).max(1) } else { 1 };
        let index = rng.between(first, last);
        let entry = &medium.entries[index as usize - 1];
        let bit = rng.index(entry.bytes * 8);
        let at = entry.position + bit / 8;
        disk.edit(&entry.path, |bytes| bytes[at] ^= 1 << (bit % 8));
        medium.rotten.insert(index);
        Some(index)
    }

    /// Flips one bit in the newest entry on the node's medium, which all nodes have applied.
    ///
    /// # Panics
    /// If there is none.
    pub fn flip_last(&mut self, node: NodeId, disk: &SimDisk, rng: &mut Rng) -> u64 {
        self.look(node, disk);
        let medium = self.nodes.get_mut(&node).expect("it was looked at");
        let entry = medium.entries.last().expect("something was written");
        let bit = rng.index(entry.bytes * 8);
        let at = entry.position + bit / 8;
        disk.edit(&entry.path, |bytes| bytes[at] ^= 1 << (bit % 8));
        let index = entry.tail.index;
        medium.rotten.insert(index);
        index
    }

    /// The node's disk is another from now on.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Entries of the node's log that the test has damaged.
    pub fn rotten(&self, node: NodeId) -> Vec<u64> {
        self.nodes.get(&node).map_or(Vec::new(), |medium| medium.rotten.iter().copied().collect())
    }

    /// Committed entries that any node has applied.
    pub fn committed(&self) -> u64 {
        self.committed.len() as u64
    }
}

impl Medium {
    /// A truncation removes from the end.
    fn forget_removed(&mut self, disk: &SimDisk) {
        while let Some(last) = self.entries.last() {
            let chain = last.position + CHAIN_AT..last.position + CHAIN_AT + 32;
            let stands = |bytes: &[u8]| bytes.get(chain) == Some(&last.tail.chain.0[..]);
            if self.rotten.contains(&last.tail.index)
                || disk.with_durable(&last.path, stands) == Some(true)
            {
                return;
            }
            self.entries.pop();
        }
    }

    /// The entry behind the last, if it is there, and who decided it.
    fn next(&mut self, disk: &SimDisk) -> Option<(Standing, Option<NodeId>)> {
        let last = self.entries.last();
        let before = last.map_or(Tail::default(), |last| last.tail);
        if let Some(last) = last {
            let position = (last.position + last.bytes).next_multiple_of(BLOCK_BYTES);
            let found = entry_at(disk, last.segment, &last.path, position, &before);
            if found.is_some() {
                return found;
            }
        }
        let segment = last.map_or(0, |last| last.segment) + 1;
        if self.next_segment.0 != segment {
            self.next_segment = (segment, segment_path(segment).into());
        }
        let path = self.next_segment.1.clone();
        let begins = |bytes: &[u8]| {
            let header = bytes.first_chunk().map(SegmentHeader::from_block);
            matches!(header, Some(Ok(header)) if header.before == before)
        };
        if disk.with_durable(&path, begins) != Some(true) {
            return None;
        }
        entry_at(disk, segment, &path, BLOCK_BYTES, &before)
    }
}

fn entry_at(
    disk: &SimDisk,
    segment: u64,
    path: &Rc<Path>,
    position: usize,
    before: &Tail,
) -> Option<(Standing, Option<NodeId>)> {
    let look = |bytes: &[u8]| {
        let (header, _) = decode_entry(bytes.get(position..)?).ok()?;
        let tail = before.with(&header).ok()?;
        let decides = matches!(header.meta.kind, EntryKind::Events | EntryKind::Records);
        let decider = decides.then_some(header.meta.leader_node);
        let standing = Standing {
            tail,
            durable_index: header.durable_index,
            segment,
            path: path.clone(),
            position,
            bytes: header.entry_bytes(),
        };
        Some((standing, decider))
    };
    disk.with_durable(path, look).flatten()
}

/// Cuts a log at the first bad entry, whatever stands behind it, and gives the index of the last entry
/// that is left.
pub(super) fn cut_at_first_bad_entry(disk: &SimDisk) -> u64 {
    let mut good = Medium::default();
    while let Some((standing, _)) = good.next(disk) {
        good.entries.push(standing);
    }
    let last = good.entries.last();
    let (index, mut segment, mut position) = last.map_or((0, 1, BLOCK_BYTES), |last| {
        (last.tail.index, last.segment, last.position + last.bytes)
    });
    loop {
        let path = segment_path(segment);
        let is_clean = |bytes: &[u8]| bytes[position.min(bytes.len())..].iter().all(|&b| b == 0);
        match disk.with_durable(&path, is_clean) {
            None => return index,
            Some(true) => {}
            Some(false) => disk.edit(&path, |bytes| bytes[position..].fill(0)),
        }
        (segment, position) = (segment + 1, 0);
    }
}

fn segment_path(sequence: u64) -> PathBuf {
    dir().join("segments").join(format!("{sequence:08}.seg"))
}
