//! The hard-state file: two slots, written alternately, one save at a time. Lives on the partition's
//! core. A save is durable when it returns; the slot that counts until then is not touched.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::layout::{BLOCK, BlockError, HARD_STATE_SLOTS, HardState, HardStateSlot};
use super::log::Ids;
use super::superblock::replace_file;
use crate::local::Notify;

const NAME: &str = "hard-state";
const NAME_NEW: &str = "hard-state.new";

/// The open file.
pub(super) struct HardStateFile<D: Disk> {
    disk: D,
    file: D::File,
    last: RefCell<HardStateSlot>,
    busy: Cell<bool>,
    abandoned: Cell<bool>,
    freed: Notify,
}

/// An opened file and what was found.
pub(super) struct OpenedHardState<D: Disk> {
    pub file: HardStateFile<D>,
    pub slot: HardStateSlot,
    /// One slot could not be read: normal if a save was under way, worth telling otherwise.
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
    replace_file(disk, dir, NAME_NEW, NAME, buffer).await
}

/// A partition directory is there and whole.
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
        let path = dir.join(NAME);
        let failed = || OpenError::io("reading the hard state");
        let file = disk.open(&path).await.map_err(failed())?;
        let bytes = file.len().await.map_err(failed())?;
        if bytes != HARD_STATE_SLOTS * BLOCK {
            return Err(OpenError::File { path, why: format!("it has {bytes} bytes") });
        }
        let buffer = disk.buffer(HARD_STATE_SLOTS as usize * BLOCK_BYTES);
        let buffer = file.read(buffer, 0).await.map_err(failed())?;
        let (blocks, _) = buffer.as_ref().as_chunks::<BLOCK_BYTES>();
        let mut newest: Option<HardStateSlot> = None;
        let mut error = None;
        for block in blocks {
            match HardStateSlot::from_block(block) {
                Ok(slot) if slot.cluster != ids.cluster || slot.partition != ids.partition => {
                    let why = "it is of another cluster or partition".to_owned();
                    return Err(OpenError::File { path, why });
                }
                Ok(slot) if newest.is_none_or(|other| other.sequence < slot.sequence) => {
                    newest = Some(slot);
                }
                Ok(_) => {}
                Err(version @ BlockError::Version { .. }) => {
                    return Err(OpenError::block(path, version));
                }
                Err(other) => error = Some(other),
            }
        }
        let slot_lost = error.is_some();
        let Some(slot) = newest else {
            return Err(OpenError::block(path, error.unwrap_or(BlockError::Blank)));
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

    /// Saves what `change` makes of the last state, after all saves that were begun before.
    ///
    /// # Errors
    /// The disk's; or an earlier save failed or its future was dropped. Which of the two states a
    /// restart finds is then unknown, and no further save is tried.
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
