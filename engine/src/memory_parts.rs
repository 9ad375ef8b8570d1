//! What this process's memory goes to, as far as that can be told: written by the threads that have it,
//! read by whoever is asked.
//!
//! A thread says the sum of what it has of each part. What two threads have is never the same memory.

use std::sync::atomic::{AtomicU64, Ordering};

const PARTS: usize = 10;

/// Something that memory goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Accounts, and the index over them.
    Accounts,
    /// Open reservations, and those that ended a moment ago.
    Reservations,
    /// The newest ids.
    RecentIds,
    /// The filter over the ids on disk.
    IdsFilter,
    /// Where the blocks of the ids on disk begin.
    IdsFences,
    /// What clients' connections hold: frames, answers, reads under way; those of subscribers, too.
    Connections,
    /// What peers' connections hold.
    Peers,
    /// The newest entries of the log, for followers and subscribers.
    NewestEntries,
    /// Entries on their way to the disk, and buffers for the next.
    WriteBuffers,
    /// What accounts are called.
    Names,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; PARTS] = [
        Self::Accounts,
        Self::Reservations,
        Self::RecentIds,
        Self::IdsFilter,
        Self::IdsFences,
        Self::Connections,
        Self::Peers,
        Self::NewestEntries,
        Self::WriteBuffers,
        Self::Names,
    ];

    /// What it is, for people.
    fn words(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Reservations => "reservations",
            Self::RecentIds => "the newest ids",
            Self::IdsFilter => "the filter over older ids",
            Self::IdsFences => "the fences of their runs",
            Self::Connections => "connections",
            Self::Peers => "peers",
            Self::NewestEntries => "the newest entries",
            Self::WriteBuffers => "log writes",
            Self::Names => "names of accounts",
        }
    }
}

/// Bytes of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts([u64; PARTS]);

impl Parts {
    /// So much more of one.
    pub fn add(&mut self, part: Part, bytes: u64) {
        self.0[part as usize] += bytes;
    }

    /// Of one.
    pub fn of(&self, part: Part) -> u64 {
        self.0[part as usize]
    }

    /// What of the process's `own_bytes` is in none: code that runs, snapshots under way, what the allocator
    /// keeps.
    pub fn other_bytes(&self, own_bytes: u64) -> u64 {
        own_bytes.saturating_sub(self.0.iter().sum())
    }

    /// What takes a MiB and more, the largest first, and the rest of the process's `own_bytes`.
    pub fn in_words(&self, own_bytes: u64) -> String {
        let mut parts: Vec<_> =
            Part::ALL.iter().map(|part| (self.of(*part) >> 20, part.words())).collect();
        parts.push((self.other_bytes(own_bytes) >> 20, "the rest of the process"));
        parts.retain(|(mib, _)| *mib > 0);
        parts.sort_by_key(|(mib, _)| std::cmp::Reverse(*mib));
        let parts = parts.iter().map(|(mib, what)| format!("{what} {mib} MiB"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// What all threads of a process have.
#[derive(Debug, Default)]
pub struct AllParts([AtomicU64; PARTS]);

impl AllParts {
    /// A thread has `now`; at its last call it had `before`.
    pub fn tell(&self, before: &mut Parts, now: Parts) {
        for ((all, before), now) in self.0.iter().zip(before.0).zip(now.0) {
            // Wraps around: the sum over all threads is right.
            all.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
        *before = now;
    }

    /// Of each part.
    pub fn sum(&self) -> Parts {
        Parts(std::array::from_fn(|part| self.0[part].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_have_adds_up_however_often_each_says_it() {
        let all = AllParts::default();
        let (mut first, mut second) = (Parts::default(), Parts::default());
        let having = |accounts, peers| {
            let mut parts = Parts::default();
            parts.add(Part::Accounts, accounts);
            parts.add(Part::Peers, peers);
            parts
        };
        all.tell(&mut first, having(5 << 20, 1 << 20));
        all.tell(&mut second, having(7 << 20, 0));
        all.tell(&mut first, having(3 << 20, 0));
        all.tell(&mut second, having(7 << 20, 0));
        assert_eq!(all.sum(), having(10 << 20, 0));
        let said = all.sum().in_words(30 << 20);
        assert_eq!(said, "the rest of the process 20 MiB, accounts 10 MiB");
        assert_eq!(all.sum().other_bytes(1 << 20), 0, "what is not resident yet");
        assert_eq!(Part::ALL.map(|part| part as usize), std::array::from_fn(|place| place));
    }
}
