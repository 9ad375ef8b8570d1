//! A hint to the processor that memory will be read soon.

/// Starts to load the cache line in which `place` begins, without waiting for it. Unlike a read it
/// holds nothing up behind it: many can be under way. Does nothing on other processors than x86-64.
#[inline(always)]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes no state that a program can see and never faults, whatever the
    // address (Intel SDM, volume 2, PREFETCHh); this one is that of a live reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
