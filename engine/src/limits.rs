//! Every bound of the engine outside of its log and ledger, with its relations. Those are in
//! `storage::limits` and `ledger::limits`, and the protocol's in `net::limits`.

use std::time::Duration;

use walengine_net::entry::BODY_BYTES_MAX;
use walengine_net::limits::{EVENTS_MAX, INFLIGHT_MAX, PAGE_BODY_BYTES_MAX, RECORD_BYTES_MAX};
use walengine_net::model::{EVENT_BYTES, RESOLVED_BYTES};
use walengine_replication::peer::limits::APPEND_BODY_BYTES_MAX;

/// Bytes decided into one entry; a request that would pass it begins another.
pub const DRAFT_BYTES_MAX: usize = BODY_BYTES_MAX - 4096;
/// Answers that may wait in one partition; past it callers are told `Busy`.
pub const WAITING_MAX: usize = 65_536;
/// Entries on their way of which a partition measures how long they take; one more is not measured.
pub const ENTRIES_TIMED_MAX: usize = 1_024;
/// How often a shard says what it measures, for whoever scrapes.
pub const NUMBERS_EVERY: Duration = Duration::from_secs(1);
/// Bytes of answers that may wait in one partition.
pub const WAITING_BYTES_MAX: usize = 16 << 20;
/// How long a write that is there waits for a partition that is too busy for it, before it is told so:
/// sending it again costs more. Shorter than a client's patience with a silent server.
pub const ROOM_WITHIN: Duration = Duration::from_millis(500);
/// While a request waits until its ids have been looked up, those of the next ones on its connection are looked up,
/// too, as far as they begin in so many bytes from its beginning: two full ones behind it.
pub const LOOK_AHEAD_BYTES_MAX: usize = 3 << 20;
/// A write whose ids are still not known after this time asks for them again.
pub const LOOK_UP_ASKED_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long a write waits until its ids have been looked up. Shorter than a client's patience, too.
pub const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);
/// Accounts that are looked at for one page of a list, of which some may be left out.
pub const LIST_LOOK_MAX: usize = 65_536;
/// Places of reservations, open or free, that one page of them looks at.
pub const RESERVATIONS_LOOK_MAX: usize = 16_384;
/// Most bytes of a policy file.
pub const POLICY_BYTES_MAX: u64 = 1 << 20;
/// Ended reservations of which a connection remembers the accounts. A request names fewer.
pub const ENDED_KEPT_MAX: usize = 2 * EVENTS_MAX;
/// When to come back after `Busy`.
pub const RETRY_AFTER_MILLIS: u32 = 5;
/// Bytes of batches that a leader may have decided and not seen committed; past it callers are told
/// `Busy`.
pub const PROPOSED_BYTES_MAX: usize = 16 << 20;
/// Least bytes of an entry that is flushed while another flush is in flight. Below it, what arrives
/// is gathered: a flush costs the same for one block as for sixteen.
pub const FLUSH_PARALLEL_BYTES_MIN: usize = 64 << 10;
/// For so long words that nobody waits for may stay in the draft, for what comes next to go with them.
pub const WORDS_GATHER: Duration = Duration::from_millis(1);
/// After this time without a write a partition records its durable and its commit index.
pub const IDLE_AFTER: Duration = Duration::from_millis(500);
/// While it is written all the time, it does so this often: one block more in so many seconds.
pub const WITNESS_EVERY: Duration = Duration::from_secs(5);
/// Expiries that are logged into one entry.
pub const EXPIRIES_AT_ONCE_MAX: usize = 4096;
/// How often that is done before others get their turn.
pub const EXPIRY_ROUNDS_MAX: usize = 2;
/// How long a leader whose batch was refused decides nothing that no request asks for.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(50);
/// How often due reservations are looked for where nothing else happens.
pub const EXPIRE_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked how much memory is used.
pub const MEMORY_EVERY: Duration = Duration::from_millis(100);
/// Writes are refused while one part in this many of the allowed memory is left, within the two bounds
/// that follow: answers, look-ups and reads on their way need it.
pub const MEMORY_RESERVE_SHARE: u64 = 8;
/// See [`MEMORY_RESERVE_SHARE`].
pub const MEMORY_RESERVE_BYTES_MIN: u64 = 32 << 20;
/// See [`MEMORY_RESERVE_SHARE`].
pub const MEMORY_RESERVE_BYTES_MAX: u64 = 512 << 20;
/// Under a budget below this, what all connections may hold shrinks with it, and so do the newest entries
/// that are kept in memory.
pub const MEMORY_PLENTY_BYTES: u64 = 768 << 20;
/// What a server takes at least, besides its shards and partitions: the reserve, and the process itself.
pub const MEMORY_LEAST_BYTES: u64 = MEMORY_RESERVE_BYTES_MIN + (16 << 20);
/// What each shard takes at least: its executor, and what its connections may hold whatever others do.
pub const MEMORY_LEAST_BYTES_OF_SHARD: u64 =
    (CONNECTIONS_OWN_BYTES + PEERS_OWN_BYTES) as u64 + (1 << 20);
/// What each partition takes at least: its tables and write buffers.
pub const MEMORY_LEAST_BYTES_OF_PARTITION: u64 = 4 << 20;
/// How often the free space of the data directory is asked for.
pub const SPACE_EVERY: Duration = Duration::from_millis(500);
/// Bytes of one piece of a snapshot; between pieces other tasks run.
pub const SNAPSHOT_PIECE_BYTES: usize = 2 << 20;
/// Bytes of one piece of the state that a digest takes in; between pieces other tasks run.
pub const DIGEST_PIECE_BYTES: usize = 256 << 10;
/// Snapshots kept, so that a damaged newest one can be passed over.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Descriptors of the process: streams, sockets that listen, lock, signals, gossip, and what libraries
/// open for a moment.
pub const DESCRIPTORS_OF_PROCESS: u64 = 48;
/// Descriptors of an executor: its rings, timers and events.
pub const DESCRIPTORS_OF_EXECUTOR: u64 = 16;
/// Descriptors of a shard: the connections kept for operators.
pub const DESCRIPTORS_OF_OPERATORS: u64 =
    OPERATOR_CONNECTIONS_MAX as u64 * DESCRIPTORS_OF_CONNECTION;
/// Descriptors of a partition: segments that are read, written or prepared, each open twice; hard
/// state; snapshots.
pub const DESCRIPTORS_OF_PARTITION: u64 = 96;
/// Descriptors of a partition's connections to its peers and from them.
pub const DESCRIPTORS_OF_PEERS: u64 = 32;
/// Descriptors of a connection: its socket, and another while the feed takes it over, or reads a segment
/// for it.
pub const DESCRIPTORS_OF_CONNECTION: u64 = 2;
/// How often it is told that no connection can be accepted.
pub const ACCEPT_TELL_EVERY: Duration = Duration::from_secs(30);
/// Connections on their way from one shard to another.
pub const HANDOVERS_MAX: usize = 256;
/// Orders on their way to a shard.
pub const SHARD_ORDERS_MAX: usize = 64;
/// How long a node that leaves waits for its groups to go on without it.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(30);
/// How often a node that waits for a cluster looks whether there is one.
pub const AWAIT_STEP: Duration = Duration::from_millis(50);
/// How often it says that it still waits.
pub const AWAIT_SAY_EVERY: Duration = Duration::from_secs(30);
/// Connections that the kernel holds before they are accepted.
pub const LISTEN_BACKLOG: i32 = 1024;
/// How long an address in use is tried again before it is an error.
pub const LISTEN_WITHIN: Duration = Duration::from_secs(3);
/// How long a stopping partition waits for what it has decided to become durable.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// How long a stopping process waits for a disk that answers nothing.
pub const STUCK_STOP_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked meanwhile whether the disk answers.
pub const STOP_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a stop that takes long says what it waits for.
pub const STOP_SAY_EVERY: Duration = Duration::from_secs(10);
/// How long moving leadership may take; writes are refused as busy meanwhile.
pub const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of answers that one connection may leave unread; past it its requests are not read.
pub const CONNECTION_OUT_BYTES_MAX: usize = 4 << 20;
/// Bytes of answers that a connection may hold outside of any budget.
pub const OUT_BYTES_KEPT: usize = 4 << 10;
/// What all connections of a process together can make it hold, above the little that each of them
/// has, stays below this on a node of up to [`HELD_CORES_MAX`] cores. The sum is at the end.
pub const HELD_BYTES_MAX: usize = 256 << 20;
/// See [`HELD_BYTES_MAX`].
pub const HELD_CORES_MAX: usize = 16;
/// A connection costs about so much memory, whatever it does.
pub const CONNECTION_BYTES: usize = 14 << 10;
/// Bytes that the connections of all shards together may hold above that: frames that arrive, answers
/// that wait, reads that are under way.
pub const CONNECTIONS_BYTES_MAX: usize = 72 << 20;
/// A shard's own part of it, which the others can't use up: two of the largest pages of the log.
pub const CONNECTIONS_OWN_BYTES: usize = 17 << 18;
/// Bytes of reads with small answers that wait for the log or for what they ask for, on all shards.
/// Apart from the rest, so that large ones leave them room.
pub const SMALL_READS_BYTES_MAX: usize = 8 << 20;
/// As [`CONNECTIONS_BYTES_MAX`], of the connections that the feed serves.
pub const FEED_CONNECTIONS_BYTES_MAX: usize = 24 << 20;
/// Bytes on their way between the connections that the feed serves and their sessions, in both
/// directions together.
pub const FEED_PASSING_BYTES_MAX: usize = 8 << 20;
/// How often it is looked whether there is room for more of them.
pub const FEED_PASSING_EVERY: Duration = Duration::from_millis(2);
/// A request with its answer below this is taken without asking whether there is memory for it.
pub const SMALL_READ_BYTES: usize = 4 << 10;
/// Reads of entries from disk that the connections of a shard, or of the feed, have under way. Each may
/// hold an entry.
pub const DISK_READS_MAX: usize = 6;
/// The same of all shards together, but one at least of each.
pub const DISK_READS_OF_SHARDS_MAX: usize = 16;
/// How long a connection may take to send its hello, from when it was accepted.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long before it expires a certificate is complained of.
pub const CERTIFICATE_WARN_BEFORE: Duration = Duration::from_hours(14 * 24);
/// How often the files with certificates are looked at.
pub const CREDENTIALS_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most bytes of a client's first message of TLS.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 << 10;
/// Largest body of a connection's first frame in bytes.
pub const HELLO_BODY_BYTES_MAX: usize = 1 << 10;
/// Connections beyond the limit that are served what operators ask, and nothing else.
pub const OPERATOR_CONNECTIONS_MAX: usize = 16;
/// Such a connection makes room for the next one when it has been silent for this long.
pub const OPERATOR_IDLE_AFTER: Duration = Duration::from_secs(2);
/// The same for one that has not said hello yet.
pub const OPERATOR_HELLO_WITHIN: Duration = Duration::from_millis(250);
/// When a request that finds no connection free may come back.
pub const CONNECTIONS_RETRY_MILLIS: u32 = 1000;
/// Connections from one address, as a share of all: so many of [`ADDRESS_SHARE_OF`].
pub const ADDRESS_SHARE: usize = 3;
/// See [`ADDRESS_SHARE`].
pub const ADDRESS_SHARE_OF: usize = 4;
/// Connections from other nodes, and from what says that it is one, on one shard.
pub const PEER_CONNECTIONS_MAX: usize = 256;
/// Bytes that the peers' connections of all shards may hold.
pub const PEERS_BYTES_MAX: usize = 32 << 20;
/// A shard's own part of it.
pub const PEERS_OWN_BYTES: usize = 1 << 20;
/// A peer that is not heard of is asked by the kernel after this time, so often, at this distance:
/// within a minute a vanished one is known to be gone.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_AFTER`].
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_AFTER`].
pub const KEEPALIVE_PROBES_MAX: u32 = 3;
/// How long a frame may take to arrive whole. What a server waits for itself does not count.
pub const FRAME_WITHIN: Duration = Duration::from_secs(30);
/// How long a client may take none of its answers.
pub const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// Both of them, for a connection that holds memory which others wait for.
pub const PRESSED_WITHIN: Duration = Duration::from_secs(1);
/// Answers are sent in steps of so many bytes, each with its own time.
pub const WRITE_STEP_BYTES: usize = 256 << 10;
/// Memory is given back to the system when a budget has fallen to this share of its peak, which was
/// at least [`GIVE_BACK_BYTES_MIN`].
pub const GIVE_BACK_SHARE: usize = 4;
/// See [`GIVE_BACK_SHARE`].
pub const GIVE_BACK_BYTES_MIN: usize = 8 << 20;
/// An allocation of so many bytes is mapped on its own, and goes back to the system when it is freed.
/// Full batches pass it; they were measured to be no slower for it.
pub const MAPPED_BYTES_MIN: i32 = 256 << 10;
/// Free bytes at the end of the allocator's heaps that are kept for the next allocations.
pub const HEAP_END_FREE_BYTES_MAX: i32 = 4 << 20;
/// How often each shard says what its memory goes to: a budget may be used up within a second.
pub const MEMORY_TELL_EVERY: Duration = Duration::from_millis(200);
/// How often connections are looked at that take too long.
pub const CONNECTIONS_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a stopping shard waits for its connections' last answers to leave.
pub const LINGER: Duration = Duration::from_secs(1);
/// Bytes of entries in one frame of a subscription.
pub const FEED_PAGE_BYTES: u64 = 256 << 10;
/// Lists of committed entries, and bytes in them, on their way from a partition to the feed; all
/// partitions share the bytes.
pub const FEED_NOTICES_MAX: usize = 256;
/// See [`FEED_NOTICES_MAX`].
pub const FEED_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of all partitions' newest entries that the feed keeps while somebody is near the end.
pub const FEED_RECENT_BYTES_MAX: usize = 16 << 20;
/// Connections on their way to the feed.
pub const FEED_SUBSCRIBERS_MAX: usize = 64;
/// Frames on their way from a connection on the feed to its session.
pub const FEED_FRAMES_MAX: usize = 32;
/// Lists of answers on their way back.
pub const FEED_ANSWERS_MAX: usize = 1;
/// How long a read waits at most for the state that it asks for.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of entries that a look-up of events reads at a time, beyond the entry that it needs.
pub const LOOKUP_PAGE_BYTES: usize = 64 << 10;
/// Bytes of entries that one look-up of events may read.
pub const LOOKUP_READ_BYTES_MAX: usize = 1 << 30;
/// Runs of request ids that a connection remembers to have used.
pub const ID_RUNS_MAX: usize = 1024;
/// How long requests that were taken are still answered when the client has closed its side.
pub const ANSWER_AFTER_END_WITHIN: Duration = Duration::from_secs(5);
/// Look-ups and pages of the log that one connection may have in work.
pub const READS_INFLIGHT_MAX: usize = 32;
/// A step of the clock that log time follows at once.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(5);
/// A larger step, up to this, is followed slowly; one past it is not followed.
pub const CLOCK_SLEW_MAX: Duration = Duration::from_hours(1);
/// Log time goes faster or slower by one part in this many while it follows slowly.
pub const CLOCK_SLEW_SHARE: u32 = 8;
/// How often the clock is taken anew as what the next step is measured from.
pub const CLOCK_ANCHOR_EVERY: Duration = Duration::from_mins(1);
/// How long a node that has just come to lead waits for the clocks of a majority before it takes its own.
pub const CLOCKS_WITHIN: Duration = Duration::from_secs(3);
/// Log time that is so far ahead of what a majority of clocks says is told.
pub const LOG_AHEAD_FAR: Duration = Duration::from_mins(1);
/// How far the clock may be ahead of the newest record at a start.
pub const CLOCK_GAP_MAX: Duration = Duration::from_hours(366 * 24);

/// Bytes of entries in one answer to a read of the log; one entry comes even if it is larger.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// What an answer that waits takes in memory besides its bytes, about.
pub const HELD_ANSWER_BYTES: usize = 256;
/// Pause after a connection could not be accepted.
pub const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Depth of an executor's rings.
pub const RING_DEPTH: usize = 256;
/// Keys that a partition's ledger keeps in memory before the committed ones among them go into a run: 5 MiB, which the
/// processor's caches hold (measured: with 1 Mi keys, deciding takes a fifth longer).
pub const RECENT_KEYS_MAX: usize = 1 << 17;
/// A leader takes no writes while more keys than this are in memory and some of them could go into a run: 160 MiB.
pub const RECENT_KEYS_MOST: usize = 1 << 22;
/// The most that the filter over runs takes for each key in bytes, unless they are few.
pub const FILTER_KEY_BYTES_MAX: u64 = 5;
/// The most for each of very many keys in bytes.
pub const MANY_KEYS_BYTES_MAX: u64 = 3;
/// Very many keys.
pub const MANY_FILTER_KEYS: u64 = 100_000_000;
/// Largest part of a filter over runs in its file: of 4,096 that hold 100 billion keys.
pub const FILTER_CHUNK_BYTES_MAX: usize = 64 << 20;
/// The filter is saved when this share of the keys in runs is not saved yet: a twelfth. A start reads the runs of those.
pub const SAVE_SHARE: u64 = 12;
/// Nor is it before so many times as many keys are there as are kept in memory.
pub const SAVE_GENERATIONS_MIN: u64 = 8;
/// So many times as many keys as are kept are many: no snapshot begins before they have gone into runs,
pub const MANY_RECENT: usize = 4;
/// but for this time at most.
pub const SNAPSHOT_FLUSHES_WITHIN: Duration = Duration::from_secs(10);
/// Hashes of runs' entries that a start adds to the filter at a time.
pub const NOTED_HASHES_MAX: usize = 4096;
/// A start merges runs only if they are more than this: the rest is merged once it serves.
pub const START_RUNS_MAX: usize = 64;
/// Records whose keys go into one run: it is written in about a second, and a snapshot waits for that.
pub const FLUSH_RECORDS_MAX: u64 = 1 << 21;
/// Keys on their way into a run between two pauses.
pub const FLUSH_STEP_KEYS: usize = 2048;
/// A step is so many times as many entries as records were decided since the one before: each key is taken once to
/// leave memory, once into its first run, and in about four merges.
pub const PACE_FACTOR: usize = 5;
/// But no more than this: some ten milliseconds.
pub const PACE_STEP_MAX: usize = 1 << 18;
/// Records whose ids `verify` keeps in memory at a time, as far as runs have them.
pub const CHECKED_KEYS_MAX: u64 = 1 << 20;
/// How often it is looked whether they should, or runs be merged.
pub const IDS_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pause after keys could not be written, or runs not be merged.
pub const IDS_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Keys that are looked up at once before requests are decided: enough for the largest of two connections.
pub const WANTED_KEYS_MAX: usize = 6 * EVENTS_MAX;
/// Records that a look-up of keys reads at once.
pub const LOOK_UP_RECORDS_MAX: usize = 8192;
/// Pause after keys could not be looked up.
pub const LOOK_UP_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often that is tried where nothing goes on without.
pub const LOOK_UP_TRIES_MAX: u32 = 5;
/// And how often if the disk says that it failed, which may pass.
pub const LOOK_UP_TRIES_IO_MAX: u32 = 60;
/// How often it is looked whether a snapshot is due.
pub const SNAPSHOT_DUE_EVERY: Duration = Duration::from_secs(1);
/// Pause after a snapshot could not be written.
pub const SNAPSHOT_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Pause between two pieces of a snapshot, so that it takes a small share of the core and the disk.
pub const SNAPSHOT_PIECE_PAUSE: Duration = Duration::from_micros(500);
/// An idle or stopping partition takes a snapshot after this share of the log that makes one due.
pub const SNAPSHOT_IDLE_SHARE: u64 = 8;
/// Bytes of one chunk of a snapshot's stream.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 16 << 20;
/// Bytes of log that are read at a time while it is replayed.
pub const REPLAY_BYTES: usize = 4 << 20;
/// How often the start says how far it is with the log.
pub const REPLAY_TELL_EVERY: Duration = Duration::from_secs(5);
/// Entries that go to a follower in one request; each is a whole batch.
pub const APPEND_ENTRIES_MAX: u64 = 16;
/// A leader shows itself this many times in an election timeout.
pub const HEARTBEATS_PER_ELECTION: u64 = 10;
/// A snapshot's cut that waits for its commit is looked at this often, should nothing be committed
/// any more.
pub const CUT_LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked whether leadership has moved.
pub const HAND_OVER_LOOK_EVERY: Duration = Duration::from_millis(1);
/// A member of a group that has not answered its leader for so long does not answer; with long
/// election timeouts it takes longer.
pub const CONTACT_WITHIN_MIN: Duration = Duration::from_secs(2);
/// A write to the disk that takes so long makes the disk a slow one.
pub const SLOW_WRITE_AFTER: Duration = Duration::from_millis(400);
/// A write to the disk that takes so long is stuck.
pub const STUCK_WRITE_AFTER: Duration = Duration::from_secs(5);
/// How long a disk that was full, slow or stuck is told to be, after it is in order again: leadership
/// must not come and go with it.
pub const UNFIT_HOLD: Duration = Duration::from_secs(30);
/// How long a leader whose disk is full tells writers to come back, and not that it is full: another
/// node is about to lead.
pub const GIVE_WAY_WITHIN: Duration = Duration::from_secs(10);
/// When they shall come back.
pub const GIVE_WAY_LOOK_MILLIS: u32 = 200;
/// How long a node must have been heard by one way and not by the other before that is said.
pub const ONE_WAY_AFTER: Duration = Duration::from_secs(10);
/// A clock that is so far from this node's is said to be far off.
pub const CLOCK_FAR_NANOS: u64 = 1_000_000_000;
/// How long it is shown that a node's id is used twice.
pub const TWIN_SHOWN: Duration = Duration::from_mins(5);
/// How often the leader of a group looks at its members.
pub const MEMBERSHIP_EVERY: Duration = Duration::from_secs(1);
/// How often a replica compares the chain hash of an entry with the other voters'.
pub const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for a datagram before what the rest of the node wants is looked at.
pub const CONTROL_WAIT_MAX: Duration = Duration::from_millis(20);
/// Datagrams that are taken before it is.
pub const DATAGRAMS_AT_ONCE_MAX: usize = 256;
/// How often this node's own facts are told anew.
pub const GOSSIP_TELL_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether the file with the keys of gossip has changed.
pub const KEY_FILE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest such file in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// How often the other nodes are asked what they say of themselves.
pub const ASK_EVERY: Duration = Duration::from_millis(500);
/// The same from the start until a majority has answered once, but no longer than [`CLOCKS_WITHIN`].
pub const ASK_FIRST_EVERY: Duration = Duration::from_millis(20);
/// What a node said of its disk, memory and clock counts for so long.
pub const SAID_WITHIN: Duration = Duration::from_secs(5);
/// How long a node that joins waits to hear of others. It can do without.
pub const MEET_WITHIN: Duration = Duration::from_secs(1);
/// How long saying goodbye may take.
pub const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// Longest datagram, and a byte more to tell one that is longer.
pub const DATAGRAM_BYTES_MAX: usize = 1500;
/// Every node is asked this many times before consensus has to send the log.
pub const COPY_ROUNDS_MAX: usize = 20;
/// Between two rounds. Others may not have heard yet that this node is one of theirs.
pub const COPY_RETRY_AFTER: Duration = Duration::from_millis(250);
/// A copy that is this many entries behind has caught up: under load there are always some.
pub const COPY_NEAR_ENTRIES_MAX: u64 = 4;
/// Pages that have come and are not taken yet.
pub const COPY_PAGES_AHEAD_MAX: usize = 4;
/// How often it is told how far the copy is.
pub const COPY_TELL_EVERY: Duration = Duration::from_secs(2);
/// Bytes of bodies that openraft's newest entries keep in memory; the newest entry is kept whatever
/// it has.
pub const RECENT_BYTES_MAX: usize = 32 << 20;
/// Entries among them.
pub const RECENT_ENTRIES_MAX: usize = 8192;
/// Bytes of entries that openraft gets at once to send to a follower, beyond the first entry.
pub const RAFT_READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of one chunk of an in-memory snapshot.
pub const RAFT_SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// How often it is looked how far the other members have the log.
pub const REACHED_LOOK_EVERY: Duration = Duration::from_secs(1);
/// What has changed of it is saved at most this often.
pub const REACHED_SAVE_AFTER: Duration = Duration::from_secs(5);
/// How long a start waits for other nodes that have what its own disk has lost.
pub const MEND_WITHIN: Duration = Duration::from_secs(30);
/// Between two times that they are asked.
pub const MEND_RETRY_AFTER: Duration = Duration::from_millis(500);
/// Bytes of entries that are asked for at once.
pub const MEND_READ_BYTES: u32 = 256 << 10;
/// Reading the log again for rot begins so long after the start.
pub const SCRUB_BEGIN_AFTER: Duration = Duration::from_secs(5);
/// And again so long after its end.
pub const SCRUB_AGAIN_AFTER: Duration = Duration::from_hours(1);
/// Longest that it waits for a flush at a time; between two tries to mend.
pub const SCRUB_GIVE_WAY: Duration = Duration::from_secs(10);
/// While it waits, it looks this often whether the partition ends.
pub const SCRUB_LOOK_EVERY: Duration = Duration::from_millis(250);
/// An entry is put into its place this many times.
pub const SCRUB_TRIES_MAX: u32 = 2;
/// Memory that an executor registers with the kernel, in bytes; counts against memlock.
pub const IO_MEMORY_BYTES: usize = 256 << 10;
/// Troubles in one answer of a server's status.
pub const STATUS_TROUBLES_MAX: usize = 512;
/// A file of the trail of orders is put aside when it would grow past this.
pub const AUDIT_BYTES_MAX: u64 = 16 << 20;
/// Longest message in a line of it.
pub const AUDIT_MESSAGE_BYTES_MAX: usize = 4096;
/// Lines that wait to be written.
pub const AUDIT_QUEUE_MAX: usize = 64;
/// How long an order waits for its line to be on the disk.
pub const AUDIT_WITHIN: Duration = Duration::from_secs(10);
/// Longest line of an export in bytes: the largest opaque record, as base64, and its fields.
pub const EXPORT_LINE_BYTES_MAX: usize = RECORD_BYTES_MAX / 3 * 4 + 4096;
/// Longest wait of an import for log times that are still to come by the leader's clock.
pub const IMPORT_CLOCK_WAIT_MAX: Duration = Duration::from_mins(1);
/// Bytes of a user's file that are read, and compared with an earlier reading, at a time.
pub const CSV_BLOCK_BYTES: usize = 256 << 10;
/// Longest row of a CSV file in bytes. A quote that is never closed makes one that is longer.
pub const CSV_RECORD_BYTES_MAX: usize = 1 << 20;
/// Rows that an import sends at a time: one batch for a partition, with room for the end of a chain.
/// The next are sent when these are answered. Otherwise, after a lost connection, a batch could be
/// decided before an earlier one that it depends on, and a refusal is for ever.
pub const IMPORT_BATCH_ROWS_MAX: usize = EVENTS_MAX - 1024;
/// Bytes of the rows of one batch of an import; a longer chain is refused.
pub const IMPORT_BATCH_BYTES_MAX: usize = 64 << 20;
/// Names of accounts that an import remembers with their ids; others are made into ids again.
pub const IMPORT_NAMES_MAX: usize = 1 << 20;
/// Rows of an import that may be unreadable. With more, the file is not what it is taken for.
pub const IMPORT_HELD_MAX: usize = 1 << 20;
/// Bytes of the table by which an import finds the ids that may stand in a file twice.
pub const IMPORT_SEEN_BYTES_MAX: u64 = 128 << 20;
/// Names, lines and reasons that one message of an import lists.
pub const IMPORT_TOLD_MAX: usize = 20;
/// How long a command that is told to end may take to end what is on its way.
pub const IMPORT_END_WITHIN: Duration = Duration::from_millis(500);
/// Pause between two looks whether the work of a command has panicked.
pub const WORK_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Bytes of one file of a backup; a run that is killed fetches at most the end of one again.
pub const BACKUP_PART_BYTES: u64 = 64 << 20;
/// How long a member of an old cluster has to answer before `recover` takes it for gone.
pub const OLD_MEMBER_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait for a page of a backup before it is looked whether a person wants it to end.
pub const BACKUP_WAIT: Duration = Duration::from_millis(200);

const _: () = {
    assert!(PAGE_BYTES_MAX < PAGE_BODY_BYTES_MAX && ID_RUNS_MAX >= INFLIGHT_MAX);
    assert!(2 * PAGE_BODY_BYTES_MAX < CONNECTIONS_OWN_BYTES);
    assert!(HELD_CORES_MAX * CONNECTIONS_OWN_BYTES <= CONNECTIONS_BYTES_MAX);
    assert!(HELD_CORES_MAX * PEERS_OWN_BYTES <= PEERS_BYTES_MAX);
    assert!(HELD_CORES_MAX <= DISK_READS_OF_SHARDS_MAX);
    // All connections, peers (and one frame of theirs that is larger than what is left), the feed, reads
    // from disk, and as many connections as an attack may have.
    assert!(
        CONNECTIONS_BYTES_MAX
            + SMALL_READS_BYTES_MAX
            + PEERS_BYTES_MAX
            + APPEND_BODY_BYTES_MAX
            + FEED_CONNECTIONS_BYTES_MAX
            + FEED_PASSING_BYTES_MAX
            + FEED_QUEUE_BYTES_MAX
            + FEED_RECENT_BYTES_MAX
            + (DISK_READS_OF_SHARDS_MAX + DISK_READS_MAX) * BODY_BYTES_MAX
            + 2048 * CONNECTION_BYTES
            <= HELD_BYTES_MAX
    );
    assert!(CONNECTION_OUT_BYTES_MAX + PAGE_BODY_BYTES_MAX < FEED_CONNECTIONS_BYTES_MAX);
    assert!(ADDRESS_SHARE < ADDRESS_SHARE_OF && OPERATOR_CONNECTIONS_MAX >= 1);
    assert!(SNAPSHOT_PIECE_BYTES <= SNAPSHOT_CHUNK_BYTES_MAX);
    // A full batch in which every event is resolved fits in one entry.
    assert!(EVENTS_MAX * (EVENT_BYTES + RESOLVED_BYTES + 1) <= DRAFT_BYTES_MAX);
    assert!(EXPIRIES_AT_ONCE_MAX * (EVENT_BYTES + RESOLVED_BYTES + 1) <= DRAFT_BYTES_MAX);
    assert!(PROPOSED_BYTES_MAX >= 2 * DRAFT_BYTES_MAX);
    assert!(WAITING_MAX >= 1 && SNAPSHOTS_KEPT >= 2);
};
/// Arrivals in one frame from another partition.
pub const FRAME_ARRIVALS_MAX: usize = EVENTS_MAX;
/// For so long partitions exchange nothing while an export asks for their states.
pub const EXPORT_HOLD: Duration = Duration::from_secs(1);
/// The last entries of all partitions that an import sends are sent within this time.
pub const IMPORT_LASTS_WITHIN: Duration = Duration::from_secs(5);
/// Transfers that a partition may have in doubt as their home; past it, more of them wait.
pub const DOUBTS_MAX: usize = 32 * FRAME_ARRIVALS_MAX;
/// Transfers to other partitions that a partition keeps as they were sent, so that they need not be read again: what
/// sixteen full requests under way take.
pub const PREPARED_KEPT_MAX: usize = 16 * FRAME_ARRIVALS_MAX;
/// Frames that wait for a partition's replica on their node; each couriers sends one at a time.
pub const LETTERS_MAX: usize = 64;
/// How long a courier waits for words before it sends again.
pub const COURIER_WITHIN: Duration = Duration::from_secs(2);
/// How long a node that was just started waits before it asks again what another partition has decided, which does not
/// say.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a leader waits for what stripes of accounts elsewhere give; then it asks anew.
pub const GATHER_WITHIN: Duration = Duration::from_secs(2);
/// How long it waits for what is on its way between others.
pub const GATHER_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// How long it lets others ask that it has turned away meanwhile, before it asks them again.
pub const GATHER_HOLD: Duration = Duration::from_millis(20);
/// Requests that are remembered to be decided with what is there, because others have no more.
pub const DRY_KEPT_MAX: usize = 1024;
/// How far the log time of another partition may be ahead; what comes from further ahead waits.
pub const CARRIED_AHEAD_MAX: Duration = Duration::from_secs(1);
/// How long it waits after what failed.
pub const COURIER_AGAIN_AFTER: Duration = Duration::from_millis(10);
const _: () =
    assert!((FRAME_ARRIVALS_MAX + 1) * (EVENT_BYTES + RESOLVED_BYTES + 1) <= DRAFT_BYTES_MAX);
/// How long a node that the leader has named to lead next is expected to stand for election.
pub const SUCCESSOR_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a replica's own entries that are read at once to compare them with those that a leader sends again.
pub const JUDGED_READ_BYTES: usize = 64 << 10;
/// How often a partition's log tells of peers that are not believed.
pub const DISHONEST_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Most bytes of the name of a host in a certificate, and of each part of it: RFC 1035, section 2.3.4.
pub const HOST_BYTES_MAX: usize = 253;
/// See [`HOST_BYTES_MAX`].
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// Ids that a command shows short at most; it shows the others whole.
pub const SHORT_IDS_KEPT_MAX: usize = 65_536;
/// Since when a server must have been running for its rate to say something about days, in seconds.
pub const CAPACITY_SECONDS_MIN: u64 = 3600;
/// Records of a log that a statement holds at once.
pub const STATEMENT_WINDOW_RECORDS: u64 = 8192;
/// Bytes of a log that a statement asks for at once.
pub const STATEMENT_PAGE_BYTES: usize = 1 << 20;
/// Rows of a statement.
pub const STATEMENT_ROWS_MAX: usize = 100_000;
/// Records that a statement by time of business looks at: what was booked early may stand late in the log, so all of it
/// since the account's first movement.
pub const STATEMENT_BOOKED_RECORDS_MAX: u64 = 10_000_000;
/// Bytes of a server's log in a support bundle.
pub const BUNDLE_LOG_BYTES_MAX: u64 = 256 << 10;
/// Files of a data directory that a support bundle names.
pub const BUNDLE_FILES_MAX: usize = 10_000;
/// Lines that the history of `repl` keeps.
pub const REPL_HISTORY_MAX: usize = 1000;

/// How long somebody waits for a place before connections of HTTP and Kafka that ask nothing are asked to leave.
pub const PLACE_WITHIN: Duration = Duration::from_millis(500);
/// Connections of HTTP at once; who comes beyond them waits, one at the door and others in the system's queue.
pub const HTTP_CONNECTIONS_MAX: u32 = 128;
/// Largest head of an HTTP request in bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a connection of HTTP may be silent between requests, and how long the head of one may take.
pub const HTTP_IDLE_WITHIN: Duration = Duration::from_mins(1);
/// How long both ends of a connection of HTTP may take to prove who they are.
pub const HTTP_HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Largest body of an HTTP request in bytes: a whole batch in JSON, at 500 bytes an event.
pub const HTTP_BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of all bodies that are not answered yet. One that finds no room is told to come back.
pub const HTTP_BODIES_BYTES_MAX: usize = 16 << 20;
/// How long a body may take.
pub const HTTP_BODY_WITHIN: Duration = Duration::from_secs(10);
/// Longest id in a request, which may be any text, in bytes.
pub const HTTP_NAME_BYTES_MAX: usize = 256;
/// Callers for whom connections to the cluster are kept.
pub const HTTP_CLIENTS_MAX: usize = 32;
/// Readers that follow the log by HTTP at once. Each may hold the credit of a subscription, 8 MiB.
pub const HTTP_STREAMS_MAX: usize = 8;
/// How often it is looked whether such a reader may still see the log.
pub const HTTP_STREAM_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a connection of HTTP may take nothing of what is sent to it.
pub const HTTP_UNTAKEN_MAX: Duration = Duration::from_secs(30);
/// How long requests that are under way have when a node stops. Streams end then.
pub const HTTP_STOP_WITHIN: Duration = Duration::from_secs(3);
/// A shard that has not said how it is for so long is not ready. It does so about once a second.
pub const SHARD_SILENT_AFTER: Duration = Duration::from_secs(10);
/// How often such a reader gets a sign of life where nothing happens.
pub const HTTP_STREAM_SIGN_EVERY: Duration = Duration::from_secs(10);
/// Most records of a page of the log in JSON.
pub const HTTP_LOG_PAGE_RECORDS_MAX: usize = 1000;
/// Bytes of the log that are read for one page of JSON.
pub const HTTP_LOG_PAGE_BYTES: usize = 256 << 10;
/// Requests by HTTP at once that look through a log backwards; another one waits a moment, and is told to come back.
pub const HTTP_SCANS_MAX: usize = 2;
/// How long it waits.
pub const HTTP_SCAN_PLACE_WITHIN: Duration = Duration::from_secs(1);
/// Records that such a request looks at; it says how far it came.
pub const HTTP_SCAN_RECORDS_MAX: u64 = 65_536;
/// How long it looks; it ends with the window under way.
pub const HTTP_SCAN_WITHIN: Duration = Duration::from_secs(2);
/// Records that it holds at once.
pub const HTTP_SCAN_WINDOW_RECORDS: u64 = 2048;
/// Rows of its answer.
pub const HTTP_SCAN_ROWS_MAX: usize = 500;
/// Records that a statement by time of business looks at: all since the account's first movement. It takes turns with
/// other such requests.
pub const HTTP_BOOKED_RECORDS_MAX: u64 = 16 * HTTP_SCAN_RECORDS_MAX;
/// How long it looks.
pub const HTTP_BOOKED_WITHIN: Duration = Duration::from_secs(10);
/// How long the cluster may take to tell of itself, before what it told last is shown again.
pub const HTTP_CLUSTER_WITHIN: Duration = Duration::from_millis(800);
/// Other nodes that HTTP asks whether they answer.
pub const HTTP_NODES_ASKED_MAX: usize = 16;
/// For how long their answers are told again, so that many pages cost them no more than one.
pub const HTTP_NODES_ASKED_EVERY: Duration = Duration::from_millis(500);
/// How long they may take.
pub const HTTP_NODE_ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// Bytes of the projector's page of metrics.
pub const HTTP_PROJECTOR_PAGE_BYTES_MAX: usize = 256 << 10;
/// How long the projector may take to send it.
pub const HTTP_PROJECTOR_WITHIN: Duration = Duration::from_secs(2);
/// For how long what it said is told again, so that many pages cost it no more than one.
pub const HTTP_PROJECTOR_EVERY: Duration = Duration::from_secs(1);
/// When to come back, in seconds, where nothing better is known.
pub const HTTP_RETRY_AFTER_SECONDS: u32 = 1;
/// How long it is believed what ledgers are called. A new scale may take so long to be seen.
pub const HTTP_SCALES_KEPT_FOR: Duration = Duration::from_secs(1);
/// Accounts in an answer that lists them by name.
pub const HTTP_FOUND_MAX: usize = 1000;

const _: () = {
    assert!(HTTP_BODY_BYTES_MAX <= HTTP_BODIES_BYTES_MAX);
    assert!(HTTP_BODY_BYTES_MAX / EVENTS_MAX > 500);
};

/// Connections of Kafka readers at once; who comes beyond them waits, one at the door and others in the system's queue.
/// Each holds one request and one answer.
pub const KAFKA_CONNECTIONS_MAX: u32 = 64;
/// Largest request of a Kafka reader in bytes.
pub const KAFKA_REQUEST_BYTES_MAX: usize = 320 << 10;
/// Most elements of an array in one.
pub const KAFKA_ARRAY_MAX: usize = 4096;
/// How long a Kafka reader may be silent. Kafka's own brokers: 10 minutes.
pub const KAFKA_IDLE_WITHIN: Duration = Duration::from_mins(10);
/// How long a Kafka reader may be silent while somebody else waits for a place. Members of groups speak every three seconds.
pub const KAFKA_SPARED_FOR: Duration = Duration::from_secs(5);
/// How long the first request may take to begin, and any to come whole.
pub const KAFKA_REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a Kafka reader may take to have an answer.
pub const KAFKA_TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of the records of an answer; the first record of one may be larger.
pub const KAFKA_ANSWER_BYTES_MAX: usize = 512 << 10;
/// Bytes of the log that are read for one partition of an answer; an entry is read whole.
pub const KAFKA_PAGE_BYTES: usize = 256 << 10;
/// Records that are shown as JSON for one partition of an answer.
pub const KAFKA_PAGE_RECORDS_MAX: usize = 2000;
/// Pages of a partition's log that are asked for or shown at once.
pub const KAFKA_PAGES_MAX: usize = 4;
/// How long a request waits for what the partitions that it names answer, beside the wait for records.
pub const KAFKA_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a request for records waits for some at most.
pub const KAFKA_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a request waits after what failed. Also how often it is looked whether a member of a group is silent.
pub const KAFKA_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Groups with members.
pub const KAFKA_GROUPS_MAX: usize = 32;
/// Members of a group.
pub const KAFKA_MEMBERS_MAX: usize = 32;
/// Bytes of what a member says of itself, and of what it gets.
pub const KAFKA_MEMBER_BYTES_MAX: usize = 8 << 10;
/// Longest name of a group, or note with an offset, in bytes; an identity stands before the name.
pub const KAFKA_NAME_BYTES_MAX: usize = 512;
/// Offsets that groups may have committed, over all groups and partitions. They are written whole.
pub const KAFKA_OFFSETS_MAX: usize = 4096;
/// A group without members that has committed nothing for so long is forgotten where others need its room.
pub const KAFKA_OFFSETS_KEPT: Duration = Duration::from_hours(24);
/// Shortest time of silence after which a member of a group is taken out.
pub const KAFKA_SESSION_LEAST: Duration = Duration::from_secs(1);
/// Longest of them.
pub const KAFKA_SESSION_MAX: Duration = Duration::from_mins(30);
/// How often groups are looked at when nobody in them speaks.
pub const KAFKA_TICK_EVERY: Duration = Duration::from_secs(1);
/// How long members of a group may take to join again at most.
pub const KAFKA_REBALANCE_MAX: Duration = Duration::from_mins(10);
/// How long the first member of a group waits for others, so that readers that start together share one generation.
pub const KAFKA_GATHER_WITHIN: Duration = Duration::from_millis(500);

const _: () = {
    // Requests and answers of all connections, and what is said in groups: little beside the budget of a process.
    assert!(
        KAFKA_CONNECTIONS_MAX as usize * (KAFKA_REQUEST_BYTES_MAX + KAFKA_ANSWER_BYTES_MAX)
            <= 52 << 20
    );
    assert!(KAFKA_GROUPS_MAX * KAFKA_MEMBERS_MAX * 2 * KAFKA_MEMBER_BYTES_MAX <= 16 << 20);
    // What a leader says of all members fits into a request.
    assert!(KAFKA_MEMBERS_MAX * (KAFKA_MEMBER_BYTES_MAX + 1024) <= KAFKA_REQUEST_BYTES_MAX);
};
