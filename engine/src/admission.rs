//! How many clients are connected, in all and from each address. Shared by all threads: connections
//! are accepted by any shard and may end on another thread.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{ADDRESS_SHARE, ADDRESS_SHARE_OF};

/// Addresses that are told apart; those that fall together share a limit.
const ADDRESS_SLOTS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Admission {
    counts: Arc<Counts>,
    connections_max: usize,
    from_address_max: usize,
}

#[derive(Debug)]
struct Counts {
    all: AtomicUsize,
    by_address: Vec<AtomicUsize>,
    hasher: RandomState,
}

impl Admission {
    /// So many connections at most, and a share of them from each address.
    pub fn new(connections_max: usize) -> Self {
        let counts = Counts {
            all: AtomicUsize::new(0),
            by_address: (0..ADDRESS_SLOTS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
        };
        let from_address_max = (connections_max * ADDRESS_SHARE / ADDRESS_SHARE_OF).max(1);
        Self { counts: Arc::new(counts), connections_max, from_address_max }
    }

    /// Counts a connection until what is returned is dropped.
    pub fn admit(&self, address: IpAddr) -> Admitted {
        let slot = (self.counts.hasher.hash_one(who(address)) as usize) % ADDRESS_SLOTS;
        self.counts.all.fetch_add(1, Ordering::Relaxed);
        self.counts.by_address[slot].fetch_add(1, Ordering::Relaxed);
        let (connections_max, from_address_max) = (self.connections_max, self.from_address_max);
        Admitted { counts: self.counts.clone(), slot, connections_max, from_address_max }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.counts.all.load(Ordering::Relaxed)
    }
}

/// What counts as one address: of IPv6 the network, since a host has as many addresses as it likes.
fn who(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    counts: Arc<Counts>,
    slot: usize,
    connections_max: usize,
    from_address_max: usize,
}

impl Admitted {
    /// There are too many connections, or too many from this address, this one included.
    pub fn is_beyond(&self) -> bool {
        let from_address = self.counts.by_address[self.slot].load(Ordering::Relaxed);
        let all = self.counts.all.load(Ordering::Relaxed);
        all > self.connections_max || from_address > self.from_address_max
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        self.counts.by_address[self.slot].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(admission: &Admission, address: &str) -> Admitted {
        admission.admit(address.parse().unwrap())
    }

    #[test]
    fn one_address_cannot_take_all_connections_and_all_have_an_end() {
        let admission = Admission::new(8);
        let mut open: Vec<_> = (0..6).map(|_| from(&admission, "192.0.2.1")).collect();
        assert!(!open.iter().any(Admitted::is_beyond));
        assert!(from(&admission, "192.0.2.1").is_beyond(), "the seventh of one address");
        open.extend(["192.0.2.2", "192.0.2.3"].map(|address| from(&admission, address)));
        assert!(!open[7].is_beyond());
        assert!(from(&admission, "192.0.2.4").is_beyond(), "the ninth of all");
        open.pop();
        assert!(!from(&admission, "192.0.2.4").is_beyond());
        drop(open);
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn a_host_with_many_addresses_of_a_network_is_one() {
        let admission = Admission::new(2);
        let first = from(&admission, "2001:db8::1");
        assert!(!first.is_beyond());
        assert!(from(&admission, "2001:db8::2").is_beyond());
        assert!(!from(&admission, "2001:db8:0:1::2").is_beyond());
        assert_eq!(who("::ffff:192.0.2.1".parse().unwrap()), who("192.0.2.1".parse().unwrap()));
    }
}
