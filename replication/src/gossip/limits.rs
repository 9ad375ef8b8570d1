//! Every constant of gossip: those of the bytes are part of the protocol, those of time are not.

use std::time::Duration;

/// First four bytes of every datagram: "WALG".
pub const MAGIC: [u8; 4] = *b"WALG";
/// Version of the gossip protocol that this code speaks.
pub const GOSSIP_VERSION: u16 = 1;
/// Largest datagram in bytes: below the smallest common path MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1400;
/// Size of the envelope's header in bytes.
pub const HEADER_BYTES: usize = 92;
/// Where the authenticator lies in the header, and its size in bytes.
pub const AUTHENTICATOR_AT: usize = 8;
/// Size of the authenticator in bytes.
pub const AUTHENTICATOR_BYTES: usize = 16;
/// Largest body in bytes.
pub const BODY_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES;
/// An IP address, IPv4 mapped into IPv6, and a port.
pub const ADDRESS_BYTES: usize = 16 + 2;
/// Node, bump, address.
pub const IDENTITY_BYTES: usize = 8 + 8 + ADDRESS_BYTES;
/// Identity, incarnation, state.
pub const MEMBER_BYTES: usize = IDENTITY_BYTES + 2 + 1;

/// Nodes that are remembered, dead ones included. Past it the longest dead makes room; when none is
/// dead, a newcomer is not taken.
pub const NODES_MAX: usize = 256;
/// Senders whose boot and sequence are remembered; never forgotten before the process ends.
pub const SENDERS_MAX: usize = 1024;
/// Seeds that are tried.
pub const SEEDS_MAX: usize = 64;
/// Nodes that form a cluster.
pub const FOUNDERS_MAX: usize = 7;
/// Partitions whose leadership is told.
pub const PARTITIONS_MAX: usize = 1024;
/// Partitions in one page of metadata.
pub const PAGE_PARTITIONS: usize = 64;
/// Pages of partitions.
pub const PAGES_MAX: usize = PARTITIONS_MAX / PAGE_PARTITIONS;
/// Largest page of partitions in bytes: head, bitmap, terms.
pub const PAGE_BYTES_MAX: usize = 3 * 8 + 1 + 8 + 8 * PAGE_PARTITIONS;
/// Longest client address in bytes.
pub const CLIENT_ADDRESS_BYTES_MAX: usize = 128;
/// Longest version text in bytes.
pub const VERSION_BYTES_MAX: usize = 64;
/// Datagrams and events that wait for [`super::Gossip::next_output`]; past it, datagrams are lost
/// as the network may lose them.
pub const OUTPUTS_MAX: usize = 4096;
/// Sequence numbers behind the highest one that are still taken, once each.
pub const WINDOW: u64 = 128;
/// Answers to strangers and to those that name another boot, in one second.
pub const WELCOMES_PER_SECOND: u32 = 100;

/// How often one other node is probed.
pub const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// How long an answer to a probe is waited for before others are asked to probe.
pub const PROBE_ANSWER: Duration = Duration::from_millis(300);
/// How long a suspect may take to refute.
pub const SUSPECT_TO_DEAD: Duration = Duration::from_secs(3);
/// How often news is told besides probes.
pub const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
/// How often any node is asked whom it knows.
pub const ANNOUNCE_PERIOD: Duration = Duration::from_secs(15);
/// How often dead nodes are tried.
pub const DEAD_PERIOD: Duration = Duration::from_secs(5);
/// Times that a piece of news is told.
pub const TRANSMISSIONS: u8 = 8;
/// Nodes that one piece of gossip or indirect probe goes to.
pub const FANOUT: usize = 3;
/// How often a node without others, or without a cluster, greets its seeds.
pub const SEED_PERIOD_ALONE: Duration = Duration::from_secs(1);
/// How often any other node greets its seeds, so that halves that lost each other meet again.
pub const SEED_PERIOD: Duration = Duration::from_secs(10);
/// How often a node that cannot be reached yet is greeted at most.
pub const GREET_PERIOD: Duration = Duration::from_millis(200);
/// How often a node's metadata is told again to those that may have missed it.
pub const META_PERIOD: Duration = Duration::from_secs(10);
/// Silence after which another address may claim a node id that no member has.
pub const ID_SILENCE: Duration = Duration::from_secs(5);
/// How often a node makes itself newer than what is said about an earlier life of it, at most.
pub const OUTBID_PERIOD: Duration = Duration::from_secs(2);
/// Furthest that a node follows others' word about its earlier life: ten years, in nanoseconds.
pub const OUTBID_NANOS_MAX: u64 = 10 * 365 * 24 * 3600 * 1_000_000_000;
/// A gap between two ticks past which this process has slept, not the others.
pub const SLEEP_MIN: Duration = Duration::from_secs(2);
/// Leaving is told this many times.
pub const LEAVE_TIMES: u32 = 3;
/// Pause between them.
pub const LEAVE_PERIOD: Duration = Duration::from_millis(100);

/// How often a question about forming is repeated until it is answered.
pub const FORMING_PERIOD: Duration = Duration::from_millis(500);
/// How long the same candidates must be in sight before one of them founds.
pub const FORMING_SETTLE: Duration = Duration::from_secs(1);
/// How long a founder tries before it gives up and starts over.
pub const FORMING_PATIENCE: Duration = Duration::from_secs(10);
/// Shortest pause behind an attempt that was given up; the longest is three times that.
pub const FORMING_BACKOFF: Duration = Duration::from_secs(1);

const _: () = {
    assert!(HEADER_BYTES == 8 + AUTHENTICATOR_BYTES + 16 + 8 + 8 + 8 + 8 + ADDRESS_BYTES + 2);
    // A page and the head of the datagram that carries it: source, destination, number of updates.
    assert!(2 + PAGE_BYTES_MAX + 3 * IDENTITY_BYTES + 16 <= BODY_BYTES_MAX);
    // A promise is sent whole. Addresses of founders are at most this long together.
    assert!(
        32 + FOUNDERS_MAX * (8 + ADDRESS_BYTES + 2 + CLIENT_ADDRESS_BYTES_MAX) <= BODY_BYTES_MAX
    );
    assert!(PARTITIONS_MAX.is_multiple_of(PAGE_PARTITIONS) && WINDOW == 128);
    assert!(NODES_MAX <= SENDERS_MAX && FOUNDERS_MAX <= NODES_MAX);
    assert!(PROBE_ANSWER.as_nanos() * 3 <= PROBE_PERIOD.as_nanos());
};
