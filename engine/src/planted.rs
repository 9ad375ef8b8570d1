//! Bugs that are planted on purpose, to see that the simulation finds them: those that no seam can
//! play. The others are in the test harness.
//!
//! Only with the feature `planted`, and then only on a thread where a test asks for one. Otherwise
//! [`has`] is a constant.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A ledger that is restored from a snapshot forgets its ids.
    IdsForgotten,
    /// What was decided and not committed stays when leadership ends.
    DecisionsKept,
    /// A ledger names a merged run before it is durable.
    RunNamedEarly,
    /// A run gets its name before its bytes are durable.
    RunNotSynced,
    /// The filter is not told of a run that is written.
    FlushNotInFilter,
    /// The filter is not told of a run that is opened.
    OpenedNotInFilter,
    /// What is decided while a run is written goes from memory, too.
    DroppedTooMuch,
    /// That an id was not in the runs is believed even after ids went into a run.
    StaleUnknown,
    /// A merge forgets how reservations ended.
    EndsLostInMerge,
    /// Runs that only a snapshot names are removed.
    NamedRunRemoved,
    /// A partition posts what it has prepared for another one before that has given its word.
    PostedBeforeWord,
    /// A partition gives its word on a transfer each time that it arrives.
    WordGivenTwice,
    /// A word is told before it is committed.
    WordNotCommitted,
    /// A ledger that is restored from a snapshot forgets what is in doubt.
    DoubtForgotten,
    /// A partition releases what it has prepared when no word comes in time.
    ReleasedInDoubt,
    /// A repeat of what is in doubt is told that it was accepted.
    AnsweredInDoubt,
    /// What of a chain stands before the event that the last partition refuses takes effect.
    ChainInPart,
    /// The home of a chain prepares it without having tried it.
    ChainNotTried,
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

/// This is done wrong here.
#[cfg(feature = "planted")]
pub fn has(bug: Planted) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nothing is done wrong here.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn has(_: Planted) -> bool {
    false
}
