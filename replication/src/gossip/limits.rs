//! Every constant of gossip. Those about bytes are part of the protocol, those about time are not.

use std::time::Duration;

/// First four bytes of every datagram: "WALG".
pub const MAGIC: [u8; 4] = *b"WALG";
/// Version of the gossip protocol that this code speaks.
pub const GOSSIP_VERSION: u16 = 1;
/// Largest datagram in bytes: below the smallest common path MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1400;
/// Proof of a datagram that is not sealed.
pub const PROOF_CHECKSUM: u8 = 0;
/// Proof of a sealed datagram. 1 was a MAC beside clear text, in earlier versions.
pub const PROOF_SEALED: u8 = 2;
/// Size of the header of a datagram that is not sealed, in bytes.
pub const HEADER_BYTES: usize = 92;
/// Position of the authenticator in the header in bytes.
pub const AUTHENTICATOR_AT: usize = 8;
/// Size of the authenticator in bytes: a checksum, or the tag of what is sealed.
pub const AUTHENTICATOR_BYTES: usize = 16;
/// Position of the nonce of a sealed datagram in bytes.
pub const NONCE_AT: usize = AUTHENTICATOR_AT + AUTHENTICATOR_BYTES;
/// Size of the nonce in bytes, so large that it may be random.
pub const NONCE_BYTES: usize = 24;
/// Where the sealed part of a datagram begins, in bytes.
pub const SEALED_AT: usize = NONCE_AT + NONCE_BYTES;
/// Size of the header of a sealed datagram in bytes: the kind is in the sealed part.
pub const SEALED_HEADER_BYTES: usize = HEADER_BYTES + NONCE_BYTES + 1;
/// Largest body in bytes.
pub const BODY_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - SEALED_HEADER_BYTES;
/// An IP address, IPv4 mapped into IPv6, and a port.
pub const ADDRESS_BYTES: usize = 16 + 2;
/// Node, bump, address.
pub const IDENTITY_BYTES: usize = 8 + 8 + ADDRESS_BYTES;
/// Identity, incarnation, state.
pub const MEMBER_BYTES: usize = IDENTITY_BYTES + 2 + 1;

/// Nodes that are remembered, dead ones included. Beyond it, the node that has been dead for
/// longest makes room; if no node is dead, a newcomer is not taken.
pub const NODES_MAX: usize = 256;
/// Senders whose boot and sequence numbers are remembered until the process ends.
pub const SENDERS_MAX: usize = 1024;
/// Most seeds that are greeted.
pub const SEEDS_MAX: usize = 64;
/// Most nodes that form a cluster.
pub const FOUNDERS_MAX: usize = 7;
/// Partitions whose leadership can be told.
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
/// Datagrams and events that may wait for [`super::Gossip::next_output`]. Beyond it, datagrams are
/// lost, as the network may lose them.
pub const OUTPUTS_MAX: usize = 4096;
/// Size of the window of sequence numbers, up to the highest one, that are still taken once each.
pub const WINDOW: u64 = 128;
/// Answers in one second to datagrams that are not believed.
pub const WELCOMES_PER_SECOND: u32 = 100;

/// Pause between two probes, each of one other node.
pub const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// Wait for the answer to a probe before others are asked to probe.
pub const PROBE_ANSWER: Duration = Duration::from_millis(300);
/// Time that a suspect has to refute the suspicion.
pub const SUSPECT_TO_DEAD: Duration = Duration::from_secs(3);
/// Pause between two messages of news that are sent beside probes.
pub const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
/// Pause between two requests for a node's whole list of live nodes.
pub const ANNOUNCE_PERIOD: Duration = Duration::from_secs(15);
/// Pause between two attempts to reach dead nodes.
pub const DEAD_PERIOD: Duration = Duration::from_secs(5);
/// How many times a piece of news is sent.
pub const TRANSMISSIONS: u8 = 8;
/// Nodes that one message of news, or one request to probe, is sent to.
pub const FANOUT: usize = 3;
/// Pause between greetings of the seeds, for a node that sees no other or has no cluster.
pub const SEED_PERIOD_ALONE: Duration = Duration::from_secs(1);
/// The same for all other nodes, so that halves of a cluster that lost each other meet again.
pub const SEED_PERIOD: Duration = Duration::from_secs(10);
/// Shortest pause between two greetings of the same address.
pub const GREET_PERIOD: Duration = Duration::from_millis(200);
/// How often a node spreads its pages again, for nodes that missed them.
pub const META_PERIOD: Duration = Duration::from_secs(10);
/// Silence after which another address may claim the id of a node that is not alive.
pub const ID_SILENCE: Duration = Duration::from_secs(5);
/// A holder of this node's id that was heard so lately, after that much time, is alive: this is a copy.
pub const HOLDER_HEARD: Duration = Duration::from_secs(3);
/// A node whose id is refused for so long is a copy, whenever the holder was heard last.
pub const REFUSED_MAX: Duration = Duration::from_secs(30);
/// A stranger's address is answered, and told, at most this often.
pub const STRANGER_PERIOD: Duration = Duration::from_secs(10);
/// Strangers' addresses that are answered, and told, within that time: addresses may be made up.
pub const STRANGERS_MAX: usize = 8;
/// Shortest pause between two new names that a node takes because others know a newer life of it.
pub const OUTBID_PERIOD: Duration = Duration::from_secs(2);
/// How far ahead of the start of its process such a name may be: ten years, in nanoseconds.
pub const OUTBID_NANOS_MAX: u64 = 10 * 365 * 24 * 3600 * 1_000_000_000;
/// No life has a later name than this one, of the year 2262: whoever claims one lies.
pub const LIFE_MAX: u64 = u64::MAX / 2;
/// A node that is heard so long after another address first claimed its id runs beside that one:
/// longer than the network delays a datagram.
pub const TWIN_MARGIN: Duration = Duration::from_secs(1);
/// How often it is told that a node's id is used twice.
pub const TWIN_PERIOD: Duration = Duration::from_mins(1);
/// A longer gap between two ticks means that this process was stopped.
pub const SLEEP_MIN: Duration = Duration::from_secs(2);
/// How many times leaving is told.
pub const LEAVE_TIMES: u32 = 3;
/// Pause between them.
pub const LEAVE_PERIOD: Duration = Duration::from_millis(100);

/// Pause before a request about forming is repeated.
pub const FORMING_PERIOD: Duration = Duration::from_millis(500);
/// How long the candidates must be the same before one of them founds.
pub const FORMING_SETTLE: Duration = Duration::from_secs(1);
/// How long a founder tries before it gives up and starts over.
pub const FORMING_PATIENCE: Duration = Duration::from_secs(10);
/// Shortest pause after an attempt that was given up; the longest is three times as long.
pub const FORMING_BACKOFF: Duration = Duration::from_secs(1);

/// Pages whose age is remembered: twice as many as all known nodes can have.
pub const RELAYED_MAX: usize = 2 * NODES_MAX * (1 + PAGES_MAX);

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
    // The others know of a copy before it ends.
    assert!(TWIN_MARGIN.as_nanos() < HOLDER_HEARD.as_nanos());
    assert!(PROBE_ANSWER.as_nanos() * 3 <= PROBE_PERIOD.as_nanos());
};
