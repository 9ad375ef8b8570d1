//! Growing array in chunks that a snapshot can share: writing to a shared chunk copies it first.

use std::rc::Rc;

use crate::os::{CACHE_LINE_BYTES, prefetch_address};

const CHUNK: usize = 256;

/// Aligned to pairs of cache lines: an account of 128 bytes then takes two lines, not three.
#[derive(Clone)]
#[repr(align(128))]
struct Chunk<T>([T; CHUNK]);

/// See the module. Cloning copies one pointer for each 256 items.
#[derive(Clone)]
pub(super) struct Slab<T> {
    /// Invariant: as many as `len` items need.
    chunks: Vec<Rc<Chunk<T>>>,
    len: u32,
}

impl<T: Copy + Default> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Memory in bytes; a snapshot that shares it has none of its own.
    pub(super) fn bytes(&self) -> u64 {
        (self.chunks.len() * size_of::<Chunk<T>>()) as u64
    }

    /// Item in a slot below [`Self::len`].
    #[inline]
    pub(super) fn get(&self, slot: u32) -> &T {
        &self.chunks[slot as usize / CHUNK].0[slot as usize % CHUNK]
    }

    /// Starts to load what [`Self::get`] and [`Self::get_mut`] read of a slot, if it is there.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32) {
        let Some(chunk) = self.chunks.get(slot as usize / CHUNK) else { return };
        let chunk = Rc::as_ptr(chunk).cast::<u8>();
        // The counts of what shares a chunk stand before it, as far as its alignment says.
        prefetch_address(chunk.wrapping_sub(align_of::<Chunk<T>>()));
        let item = chunk.wrapping_add(slot as usize % CHUNK * size_of::<T>());
        for line in (0..size_of::<T>()).step_by(CACHE_LINE_BYTES) {
            prefetch_address(item.wrapping_add(line));
        }
    }

    /// Item in a slot below [`Self::len`]. Copies its chunk if a snapshot shares it.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut Rc::make_mut(&mut self.chunks[slot as usize / CHUNK]).0[slot as usize % CHUNK]
    }

    /// Appends; returns the slot.
    pub(super) fn push(&mut self, item: T) -> u32 {
        let slot = self.len;
        if slot as usize == self.chunks.len() * CHUNK {
            self.chunks.push(Rc::new(Chunk([T::default(); CHUNK])));
        }
        self.len = slot.checked_add(1).expect("fewer than 2^32 items");
        *self.get_mut(slot) = item;
        slot
    }

    /// Removes the newest item.
    pub(super) fn pop(&mut self) -> T {
        self.len -= 1;
        let item = std::mem::take(self.get_mut(self.len));
        if self.len as usize == (self.chunks.len() - 1) * CHUNK {
            self.chunks.pop();
        }
        item
    }

    /// Items from a slot on, in order.
    pub(super) fn iter_from(&self, slot: u32) -> impl Iterator<Item = &T> {
        (slot..self.len).map(|slot| self.get(slot))
    }
}
