//! The hard-state file: two slots, written alternately, one save at a time. Lives on the partition's
//! core. A save is durable when it returns, and never touches the slot that counts until then:
//!
//! ```text
//! save      n           n + 1        n + 2
//! slot      n mod 2     the other    n mod 2
//! counts    n - 1 ----> n ---------> n + 1      each at the moment its write is durable
//! ```
//! A save whose end is unknown (an error, a dropped future) is the last one: the next would overwrite
//! the slot that may be the only good one.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::cases::SlotsCase;
use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::files;
use super::ids::Ids;
use super::layout::{BLOCK, HARD_STATE_SLOTS, HardState, HardStateSlot};
use crate::local::Notify;

const NAME: &str = "hard-state";
const NAME_NEW: &str = "hard-state.new";

/// The open file.
pub(super) struct HardStateFile<D: Disk> {
    disk: D,
    file: D::File,
    /// The slot that counts: durable.
    last: RefCell<HardStateSlot>,
    /// A save is under way.
    busy: Cell<bool>,
    /// A save has begun and not ended well.
    abandoned: Cell<bool>,
    freed: Notify,
}

/// An opened file and what was found.
pub(super) struct OpenedHardState<D: Disk> {
    pub file: HardStateFile<D>,
    pub slot: HardStateSlot,
    /// One slot could not be read, and may have held the newest save.
    pub slot_lost: bool,
}

/// Creates the file with nothing in it: the last step of creating a partition.
pub(super) async fn create<D: Disk>(disk: &D, dir: &Path, ids: Ids) -> io::Result<()> {
    let slot = HardStateSlot {
        cluster: ids.cluster,
        partition: ids.partition,
        sequence: 0,
        state: HardState::default(),
        cut_after: None,
    };
    let mut buffer = disk.buffer(HARD_STATE_SLOTS as usize * BLOCK_BYTES);
    for copy in buffer.as_mut().chunks_exact_mut(BLOCK_BYTES) {
        copy.copy_from_slice(&slot.to_block());
    }
    files::replace(disk, dir, NAME_NEW, NAME, buffer).await
}

/// The file in the directory of a partition.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Nothing was ever saved: the file is absent, or as it was created.
pub(super) async fn is_unsaved<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    if !exists(disk, dir).await? {
        return Ok(true);
    }
    let file = disk.open(&path(dir)).await?;
    if file.len().await? != HARD_STATE_SLOTS * BLOCK {
        return Ok(false);
    }
    let buffer = file.read(disk.buffer(HARD_STATE_SLOTS as usize * BLOCK_BYTES), 0).await?;
    let (blocks, _) = buffer.as_ref().as_chunks::<BLOCK_BYTES>();
    Ok(blocks
        .iter()
        .all(|block| HardStateSlot::from_block(block).is_ok_and(|slot| slot.sequence == 0)))
}

/// The hard state is there, and so the partition.
pub(super) async fn exists<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    match disk.list(dir).await {
        Ok(names) => Ok(names.iter().any(|name| name.as_os_str() == NAME)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl<D: Disk> HardStateFile<D> {
    /// Opens the file and reads the slot that counts.
    pub async fn open(disk: D, dir: &Path, ids: Ids) -> Result<OpenedHardState<D>, OpenError> {
        let path = path(dir);
        let failed = || OpenError::io("reading the hard state");
        let file = disk.open(&path).await.map_err(failed())?;
        let bytes = file.len().await.map_err(failed())?;
        if bytes != HARD_STATE_SLOTS * BLOCK {
            return Err(OpenError::File { path, why: format!("it has {bytes} bytes") });
        }
        let buffer = disk.buffer(HARD_STATE_SLOTS as usize * BLOCK_BYTES);
        let buffer = file.read(buffer, 0).await.map_err(failed())?;
        let (blocks, _) = buffer.as_ref().as_chunks::<BLOCK_BYTES>();
        let Ok(slots) = <[_; HARD_STATE_SLOTS as usize]>::try_from(blocks) else {
            return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
        };
        let slots = slots.map(|block| HardStateSlot::from_block(&block));
        let (slot, slot_lost) = match SlotsCase::of(slots, ids) {
            SlotsCase::Whole(slot) => (slot, false),
            SlotsCase::OneLost(slot) => (slot, true),
            SlotsCase::Foreign => {
                let why = "it is of another cluster or partition".to_owned();
                return Err(OpenError::File { path, why });
            }
            SlotsCase::Version(error) | SlotsCase::BothLost(error) => {
                return Err(OpenError::block(path, error));
            }
        };
        let (last, busy) = (RefCell::new(slot), Cell::new(false));
        let abandoned = Cell::new(false);
        let file = Self { disk, file, last, busy, abandoned, freed: Notify::new() };
        Ok(OpenedHardState { file, slot, slot_lost })
    }

    /// What was saved last.
    pub fn last(&self) -> HardState {
        self.last.borrow().state
    }

    /// Saves the last state with `change` made to it, after all saves that were begun before.
    ///
    /// # Errors
    /// The disk's; or an earlier save failed or its future was dropped. Then nobody knows which state a
    /// restart finds, and no further save is tried.
    pub async fn save(&self, change: impl FnOnce(&mut HardStateSlot)) -> io::Result<()> {
        while self.busy.get() {
            self.freed.changed().await;
        }
        if self.abandoned.get() {
            return Err(io::Error::other("an earlier save did not end"));
        }
        self.busy.set(true);
        self.abandoned.set(true); // until this one has ended well
        let _freed = Freed(self);
        let mut slot = *self.last.borrow();
        change(&mut slot);
        slot.sequence += 1;
        let (counts, ids) = (*self.last.borrow(), (slot.cluster, slot.partition));
        assert!(ids == (counts.cluster, counts.partition), "a hard state stays its partition's");
        let mut buffer = self.disk.buffer(BLOCK_BYTES);
        buffer.as_mut().copy_from_slice(&slot.to_block());
        let position = (slot.sequence % HARD_STATE_SLOTS) * BLOCK;
        self.file.write_durable(Rc::new(buffer), position).await?;
        *self.last.borrow_mut() = slot;
        self.abandoned.set(false);
        Ok(())
    }
}

/// Lets the next save begin, also when this one's future is dropped.
struct Freed<'a, D: Disk>(&'a HardStateFile<D>);

impl<D: Disk> Drop for Freed<'_, D> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.freed.notify_all();
    }
}
