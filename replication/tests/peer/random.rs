//! Random messages, and the largest ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use walengine_net::entry::{BODY_BYTES_MAX, EntryKind};
use walengine_net::model::{
    Amount, Arrival, ClusterId, EventId, Guard, Offset, PartitionId, Sent, Timestamp, Transfer,
    Verdict, Word,
};
use walengine_replication::gossip::OwnCondition;
use walengine_replication::membership_codec::{ADDRESS_BYTES_MAX, CONFIGS_MAX, NODES_MAX};
use walengine_replication::peer::limits::{
    APPEND_ENTRIES_MAX, ERROR_TEXT_BYTES_MAX, READ_BYTES_MAX,
};
use walengine_replication::peer::{
    About, Carried, Hello, HelloReply, Kind, LogPage, LogRead, Message, PeerError, PeerErrorCode,
    Refusal, Words,
};
use walengine_replication::types::{Batch, Entry, LogId, Member, Membership, Payload, Vote};

/// `SplitMix64`. The seed is `WALENGINE_TEST_SEED`, or the time, and is printed.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let given = std::env::var("WALENGINE_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(now);
        println!("WALENGINE_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Any number; the extremes more often than others.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => self.next() & 0xff,
            _ => self.next(),
        }
    }

    fn bytes(&mut self, length_max: usize) -> Vec<u8> {
        let length = if self.flag() { 0 } else { self.below(length_max + 1) };
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn optional<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(some(self)) } else { None }
    }

    fn vote(&mut self) -> Vote {
        let (term, node) = (self.number(), self.number());
        if self.flag() { Vote::new(term, node) } else { Vote::new_committed(term, node) }
    }

    fn log_id(&mut self) -> LogId {
        LogId::new_term_index(self.number(), self.number())
    }

    fn membership(&mut self) -> Membership {
        let nodes: BTreeMap<_, _> =
            (0..self.below(5)).map(|_| (self.number(), Member::at(self.text(20)))).collect();
        let ids: Vec<_> = nodes.keys().copied().collect();
        if ids.is_empty() {
            return Membership::default();
        }
        let configs = (0..=self.below(2)).map(|_| {
            let voters = 1 + self.below(ids.len());
            (0..voters).map(|_| ids[self.below(ids.len())]).collect::<BTreeSet<_>>()
        });
        Membership::new(configs.collect(), nodes).unwrap()
    }

    fn text(&mut self, chars_max: usize) -> String {
        (0..self.below(chars_max + 1)).map(|_| ['a', '7', ':', 'č', '鎖'][self.below(5)]).collect()
    }

    fn payload(&mut self, term: u64) -> Payload {
        match self.below(4) {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Membership(self.membership()),
            number => EntryPayload::Normal(Batch {
                kind: if number == 2 { EntryKind::Events } else { EntryKind::Records },
                term,
                leader_node: self.number(),
                base_offset: Offset(self.number()),
                records: self.number() as u32,
                timestamp: Timestamp(self.number()),
                body: self.bytes(300).into(),
            }),
        }
    }

    fn append(&mut self) -> AppendEntriesRequest<walengine_replication::types::Types> {
        let prev_log_id =
            self.optional(|random| LogId::new_term_index(random.number() / 2, random.number() / 2));
        let first = prev_log_id.map_or(0, |prev| prev.index + 1);
        let mut term = prev_log_id.map_or(0, |prev| prev.leader_id.term);
        let mut entries = Vec::new();
        for step in 0..self.below(6) as u64 {
            term += self.next() & 1;
            let payload = self.payload(term);
            entries.push(Entry { log_id: LogId::new_term_index(term, first + step), payload });
        }
        let leader_commit = self.optional(Self::log_id);
        AppendEntriesRequest { vote: self.vote(), prev_log_id, entries, leader_commit }
    }

    fn vote_request(&mut self) -> VoteRequest<walengine_replication::types::Types> {
        VoteRequest {
            vote: self.vote(),
            last_log_id: self.optional(Self::log_id),
            leadership_transfer: self.flag(),
        }
    }

    fn vote_response(&mut self) -> VoteResponse<walengine_replication::types::Types> {
        VoteResponse {
            vote: self.vote(),
            vote_granted: self.flag(),
            last_log_id: self.optional(Self::log_id),
        }
    }

    fn hello_reply(&mut self) -> HelloReply {
        let number = self.number();
        let cluster = ClusterId(u128::from(number) << 64 | u128::from(self.number()));
        let small = number as u16;
        HelloReply::Refused(match self.below(8) {
            0 => return HelloReply::Accepted { node: number },
            1 => Refusal::OtherCluster { cluster },
            2 => Refusal::OlderVersion { oldest: small },
            3 => Refusal::NewerVersion { newest: small },
            4 => Refusal::NodeIdInUse,
            5 => Refusal::UnknownPartition,
            6 => Refusal::NotMember,
            _ => Refusal::OtherPartitions { partitions: small },
        })
    }

    fn arrival(&mut self) -> Arrival {
        let id = EventId(self.number().into());
        let sent = if self.number().is_multiple_of(3) {
            Sent::Guard(Guard { id, version: self.number(), ..Guard::default() })
        } else {
            Sent::Transfer(Transfer {
                id,
                amount: Amount(self.number().into()),
                ..Transfer::default()
            })
        };
        Arrival { sent, place: self.number() }
    }

    fn word(&mut self) -> Word {
        let (id, place) = (EventId(self.number().into()), self.number());
        let verdict = if self.flag() { Verdict::Ok } else { Verdict::ExceedsDebits };
        let pending_id = EventId(self.number().into());
        let (amount, is_linked) = (Amount(self.number().into()), self.number().is_multiple_of(2));
        Word { id, place, verdict, amount, pending_id, is_linked }
    }

    pub fn message(&mut self, kind: Kind) -> Message {
        match kind {
            Kind::Hello => Message::Hello(Hello {
                cluster: ClusterId(u128::from(self.number()) << 64 | u128::from(self.number())),
                node: self.number(),
                partition: PartitionId(self.number() as u16),
                partitions: self.number() as u16,
            }),
            Kind::HelloReply => Message::HelloReply(self.hello_reply()),
            Kind::Append => Message::Append(self.append()),
            Kind::AppendReply => Message::AppendReply(match self.below(4) {
                0 => Ok(None),
                1 => Ok(Some(self.log_id())),
                2 => Err(StreamAppendError::Conflict(self.log_id())),
                _ => Err(StreamAppendError::HigherVote(self.vote())),
            }),
            Kind::Vote => Message::Vote(self.vote_request()),
            Kind::PreVote => Message::PreVote(self.vote_request()),
            Kind::VoteReply => Message::VoteReply(self.vote_response()),
            Kind::PreVoteReply => Message::PreVoteReply(self.vote_response()),
            Kind::TransferLeader => Message::TransferLeader(TransferLeaderRequest::new(
                self.vote(),
                self.number(),
                self.optional(Self::log_id),
            )),
            Kind::TransferLeaderReply => Message::TransferLeaderReply(match self.below(3) {
                0 => Ok(()),
                1 => Err(TransferLeaderError::VoteChanged {
                    expected: self.vote(),
                    actual: self.vote(),
                }),
                _ => Err(TransferLeaderError::LogNotFlushed {
                    expected: self.optional(Self::log_id),
                    actual: self.optional(Self::log_id),
                }),
            }),
            Kind::About => Message::About,
            Kind::AboutReply => Message::AboutReply(About {
                is_leaving: self.flag(),
                condition: OwnCondition {
                    is_full: self.flag(),
                    is_stuck: self.flag(),
                    is_slow: self.flag(),
                    is_short_of_memory: self.flag(),
                    clock: Timestamp(self.number()),
                },
                client_address: "d".repeat(self.below(129)),
            }),
            Kind::LogRead => {
                Message::LogRead(LogRead { from: self.number(), bytes_max: self.number() as u32 })
            }
            Kind::LogPage => Message::LogPage(LogPage {
                vote: self.vote(),
                committed: self.number(),
                entries: self.bytes(500).into(),
            }),
            Kind::Carry => Message::Carry(Carried {
                home: PartitionId(self.number() as u16),
                to: PartitionId(self.number() as u16),
                covers_from: self.number(),
                settled_below: self.number(),
                time: Timestamp(self.number()),
                arrivals: (0..self.below(4)).map(|_| self.arrival()).collect(),
            }),
            Kind::CarryReply => {
                let words = (0..self.below(4)).map(|_| self.word()).collect();
                let (time, next_offset) = (Timestamp(self.number()), Offset(self.number()));
                Message::CarryReply(Words { time, next_offset, words })
            }
            Kind::Error => Message::Error(PeerError {
                code: PeerErrorCode::ALL[self.below(PeerErrorCode::ALL.len())],
                retry_after_millis: self.number() as u32,
                message: self.text(80),
            }),
        }
    }
}

/// The largest membership that the codec takes.
pub fn largest_membership() -> Membership {
    let address = "a".repeat(ADDRESS_BYTES_MAX);
    let member = |id: u64| {
        let (is_chosen, peer_address) = (id == 1, address.clone());
        (u64::MAX - id, Member { peer_address, is_chosen })
    };
    let nodes: BTreeMap<_, _> = (1..=NODES_MAX as u64).map(member).collect();
    let voters: BTreeSet<_> = nodes.keys().copied().collect();
    Membership::new(vec![voters; CONFIGS_MAX], nodes).unwrap()
}

/// A batch with a body of this length at this index.
pub fn batch_entry(index: u64, body_bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Batch {
        kind: EntryKind::Events,
        term: u64::MAX,
        leader_node: u64::MAX,
        base_offset: Offset(u64::MAX),
        records: u32::MAX,
        timestamp: Timestamp(u64::MAX),
        body: vec![0xa5; body_bytes].into(),
    });
    Entry { log_id: LogId::new_term_index(u64::MAX, index), payload }
}

/// An append with these entries, and a preceding log id that fits.
pub fn append_of(entries: Vec<Entry>) -> Message {
    let first = entries.first().map_or(1, |entry| entry.log_id.index);
    Message::Append(AppendEntriesRequest {
        vote: Vote::new_committed(u64::MAX, u64::MAX),
        prev_log_id: first.checked_sub(1).map(|prev| LogId::new_term_index(0, prev)),
        entries,
        leader_commit: Some(LogId::new_term_index(u64::MAX, u64::MAX)),
    })
}

/// The largest message of each kind that can be large.
pub fn largest() -> Vec<Message> {
    let blank = |index| Entry {
        log_id: LogId::new_term_index(u64::MAX, index),
        payload: EntryPayload::Blank,
    };
    let member = Entry {
        log_id: LogId::new_term_index(u64::MAX, 2),
        payload: EntryPayload::Membership(largest_membership()),
    };
    vec![
        append_of(vec![batch_entry(u64::MAX, BODY_BYTES_MAX)]),
        append_of(vec![batch_entry(1, READ_BYTES_MAX), batch_entry(2, BODY_BYTES_MAX)]),
        append_of((1..=APPEND_ENTRIES_MAX as u64).map(blank).collect()),
        append_of(vec![blank(1), member]),
        Message::Error(PeerError::new(
            PeerErrorCode::Internal,
            "x".repeat(ERROR_TEXT_BYTES_MAX + 1),
        )),
    ]
}
