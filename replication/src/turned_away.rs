//! Connections that were not taken, or were closed for something that the other side did: counted by reason, and
//! told at a bounded rate, whatever comes. One for all threads of a process.
//!
//! The first of a kind is told at once, with its address. What comes within the next ten seconds is counted, and
//! told in one line with some of its addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line for each kind in this time, and one more for what came within it.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// So many addresses stand in the line for what came meanwhile.
const ADDRESSES_TOLD_MAX: usize = 4;

/// On which port it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That for clients.
    Client,
    /// That for peers.
    Peer,
}

impl Side {
    /// Stable name in `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// Why it was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No TLS came about: another protocol or version, or a message that is none.
    TlsFailed,
    /// It showed no certificate.
    NoCertificate,
    /// No authority that is believed here has signed its certificate, or it is of another cluster.
    Foreign,
    /// Its certificate is not valid yet, or no longer.
    Expired,
    /// Its certificate was revoked.
    Revoked,
    /// Its certificate is for another use, such as a client's on the port for peers.
    WrongRole,
    /// It said that it is another node than its certificate says.
    WrongNode,
    /// It is no node of the group, or of another cluster, partition or version.
    NotMember,
    /// There is no place for one more connection.
    TooMany,
    /// It did not say in time what it wants.
    Late,
    /// It named no partition of this cluster, or began with something else.
    WrongPartition,
    /// What it sent is no frame of the protocol.
    Malformed,
    /// A frame did not arrive whole in time, or answers were left unread.
    Slow,
    /// It lost the right to be there while it was open.
    RightEnded,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::TlsFailed,
        Self::NoCertificate,
        Self::Foreign,
        Self::Expired,
        Self::Revoked,
        Self::WrongRole,
        Self::WrongNode,
        Self::NotMember,
        Self::TooMany,
        Self::Late,
        Self::WrongPartition,
        Self::Malformed,
        Self::Slow,
        Self::RightEnded,
    ];

    /// Stable name in `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsFailed => "tls_failed",
            Self::NoCertificate => "no_certificate",
            Self::Foreign => "foreign",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::WrongRole => "wrong_role",
            Self::WrongNode => "wrong_node",
            Self::NotMember => "not_member",
            Self::TooMany => "too_many",
            Self::Late => "late",
            Self::WrongPartition => "wrong_partition",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::RightEnded => "right_ended",
        }
    }
}

const KINDS: usize = 2 * Reason::ALL.len();

/// See the module.
#[derive(Debug)]
pub struct TurnedAway {
    counts: [AtomicU64; KINDS],
    told: Mutex<[Told; KINDS]>,
    started: Instant,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Told {
    at: Option<Duration>,
    /// That were not told since.
    since: u64,
    addresses: BTreeSet<IpAddr>,
}

impl Default for TurnedAway {
    fn default() -> Self {
        let (counts, told) = (std::array::from_fn(|_| AtomicU64::new(0)), Mutex::default());
        Self { counts, told, started: Instant::now() }
    }
}

impl TurnedAway {
    /// Counts one, and tells of it unless one of its kind was told a moment ago. `why` is details for people.
    pub fn count(
        &self,
        side: Side,
        reason: Reason,
        address: Option<SocketAddr>,
        why: &dyn fmt::Display,
    ) {
        let line = self.counted(side, reason, address, why, self.started.elapsed());
        if let Some(line) = line {
            tracing::warn!("{line}");
        }
    }

    /// Tells of those that were counted and not told, once it is time. To be called now and then.
    pub fn tell(&self) {
        for line in self.summaries(self.started.elapsed()) {
            tracing::warn!("{line}");
        }
    }

    /// What was turned away since the start.
    pub fn each(&self) -> impl Iterator<Item = (Side, Reason, u64)> {
        kinds().map(|(side, reason)| {
            (side, reason, self.counts[place(side, reason)].load(Ordering::Relaxed))
        })
    }

    fn counted(
        &self,
        side: Side,
        reason: Reason,
        address: Option<SocketAddr>,
        why: &dyn fmt::Display,
        now: Duration,
    ) -> Option<String> {
        let place = place(side, reason);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = &mut told[place];
        if told.at.is_some_and(|at| now.saturating_sub(at) < TELL_EVERY) || told.since > 0 {
            told.since += 1;
            if let Some(address) = address
                && told.addresses.len() < ADDRESSES_TOLD_MAX
            {
                told.addresses.insert(address.ip());
            }
            return None;
        }
        told.at = Some(now);
        let from = address.map_or_else(|| "somewhere".to_owned(), |address| address.to_string());
        let (side, reason) = (side.name(), reason.name());
        Some(format!("turned away a connection of a {side} from {from}, {reason}: {why}"))
    }

    fn summaries(&self, now: Duration) -> Vec<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = kinds().filter_map(|(side, reason)| {
            let told = &mut told[place(side, reason)];
            let is_due = told.at.is_some_and(|at| now.saturating_sub(at) >= TELL_EVERY);
            if told.since == 0 || !is_due {
                return None;
            }
            let (since, addresses) =
                (std::mem::take(&mut told.since), std::mem::take(&mut told.addresses));
            told.at = Some(now);
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let from = if addresses.is_empty() { String::new() } else { " from ".to_owned() };
            let among =
                if addresses.len() < ADDRESSES_TOLD_MAX { "" } else { " and perhaps others" };
            Some(format!(
                "turned away {since} more connections of a {}, {}{from}{}{among}",
                side.name(),
                reason.name(),
                addresses.join(", ")
            ))
        });
        due.collect()
    }
}

fn kinds() -> impl Iterator<Item = (Side, Reason)> {
    let of = |side| Reason::ALL.into_iter().map(move |reason| (side, reason));
    of(Side::Client).chain(of(Side::Peer))
}

/// Of a kind in the order of [`kinds`].
fn place(side: Side, reason: Reason) -> usize {
    side as usize * Reason::ALL.len() + reason as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4711))
    }

    #[test]
    fn the_first_of_a_kind_is_told_and_the_rest_is_counted_and_told_in_one_line() {
        let away = TurnedAway::default();
        let second = Duration::from_secs;
        let counted =
            |side, reason, last, now| away.counted(side, reason, Some(at(last)), &"why", now);
        let first = counted(Side::Peer, Reason::Expired, 1, second(5)).expect("it is told");
        assert_eq!(first, "turned away a connection of a peer from 192.0.2.1:4711, expired: why");
        assert!(counted(Side::Client, Reason::Expired, 1, second(5)).is_some(), "another kind");
        assert!(counted(Side::Peer, Reason::Revoked, 1, second(5)).is_some(), "another kind");
        for number in 0..312_u16 {
            let told = counted(Side::Peer, Reason::Expired, (number % 2) as u8, second(6));
            assert_eq!(told, None);
        }
        assert!(away.summaries(second(14)).is_empty(), "it is not time yet");
        // One that comes before the summary is in it.
        assert_eq!(counted(Side::Peer, Reason::Expired, 0, second(16)), None);
        let line = "turned away 313 more connections of a peer, expired from 192.0.2.0, 192.0.2.1";
        assert_eq!(away.summaries(second(16)), [line]);
        assert!(away.summaries(second(100)).is_empty(), "nothing is told twice");
        let counts: Vec<_> = away.each().filter(|(.., count)| *count > 0).collect();
        let expected = [
            (Side::Client, Reason::Expired, 1),
            (Side::Peer, Reason::Expired, 314),
            (Side::Peer, Reason::Revoked, 1),
        ];
        assert_eq!(counts, expected);
        assert!(counted(Side::Peer, Reason::Expired, 1, second(100)).is_some(), "it is a new one");
    }

    #[test]
    fn a_flood_from_everywhere_takes_two_lines_in_ten_seconds_and_little_memory() {
        let away = TurnedAway::default();
        let mut lines = 0;
        for milli in 0..10_000 {
            let now = Duration::from_millis(milli);
            for last in 0..=255 {
                lines += usize::from(
                    away.counted(Side::Client, Reason::TooMany, Some(at(last)), &"", now).is_some(),
                );
            }
            lines += away.summaries(now).len();
        }
        assert_eq!(lines, 1);
        let summary = away.summaries(Duration::from_secs(10));
        assert_eq!(summary.len(), 1);
        assert!(summary[0].contains(" 2559999 more ") && summary[0].len() < 200, "{summary:?}");
    }

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        let places: BTreeSet<_> = kinds().map(|(side, reason)| place(side, reason)).collect();
        assert_eq!(places, (0..KINDS).collect());
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
