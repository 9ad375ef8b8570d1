//! Bugs that are planted on purpose, to see that the simulation finds them: those that no seam can
//! play. The others are in the test harness.
//!
//! Only with the feature `planted`, and then only on a thread where a test asks for one. Otherwise
//! each function is a constant.

/// What is done wrong.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A ledger that is restored from a snapshot forgets its ids.
    IdsForgotten,
    /// What was decided and not committed stays when leadership ends.
    DecisionsKept,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in what runs on this thread from now on, or none.
#[cfg(feature = "planted")]
pub fn plant(planted: Option<Planted>) {
    PLANTED.set(planted);
}

/// A ledger that is restored from a snapshot may forget its ids.
#[cfg(feature = "planted")]
pub fn may_forget_ids() -> bool {
    PLANTED.get() == Some(Planted::IdsForgotten)
}

/// It must not.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn may_forget_ids() -> bool {
    false
}

/// What was decided and not committed may stay when leadership ends.
#[cfg(feature = "planted")]
pub fn may_keep_decisions() -> bool {
    PLANTED.get() == Some(Planted::DecisionsKept)
}

/// It must not.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn may_keep_decisions() -> bool {
    false
}
