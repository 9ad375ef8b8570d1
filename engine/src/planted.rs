//! Bugs that are planted on purpose, to see that the simulation finds them. Only with the feature
//! `planted`, and then only where a test asks for one; otherwise nothing of it is compiled in.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An entry counts as persisted before it is.
    AcknowledgeBeforeFlush,
    /// A vote is kept in memory only.
    VoteNotFlushed,
    /// openraft's default: a leader that restarts leads again in the same term.
    LeaderRestore,
    /// A leader answers linearizable reads without asking whether it still leads.
    StaleLeaderRead,
    /// What was decided stays when leadership ends.
    DecisionsNotTakenBack,
    /// What is read from a segment is believed whatever its checksum says.
    ChecksumSkipped,
    /// Recovery cuts the log at the first bad entry even if what follows was durable.
    MidLogCut,
    /// A snapshot's ids are forgotten while the ledger is restored from it.
    DedupeForgotten,
    /// A failed write is followed by a flush, and counts as durable if that one succeeds.
    FlushRetried,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in what runs on this thread from now on, or none.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// This bug is planted.
#[cfg(feature = "planted")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nothing is planted.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
