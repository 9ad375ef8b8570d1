//! Whatever bytes a request has: an answer of bounded size, or the end of the connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;

use super::answer::answer;
use super::codes::{
    API_VERSIONS, APIS, FETCH, FIND_COORDINATOR, GROUP_AUTHORIZATION_FAILED, HEARTBEAT, JOIN_GROUP,
    LEAVE_GROUP, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, PRODUCE, SYNC_GROUP,
};
use super::shared::Shared;
use super::wire::Writer;
use crate::http::caller::Caller;

const NAME: &str = "walengine";

/// A request of a kind, in a version, about two partitions.
fn request(key: i16, version: i16) -> Vec<u8> {
    let mut out = Writer::default();
    out.i16(key);
    out.i16(version);
    out.i32(7);
    out.nullable(Some("test"));
    let twice = [0, 1];
    match key {
        API_VERSIONS => {}
        METADATA => {
            out.array([NAME, "other"], Writer::string);
            if version >= 4 {
                out.i8(0);
            }
        }
        LIST_OFFSETS => {
            out.i32(-1);
            if version >= 2 {
                out.i8(0);
            }
            out.array([NAME], |out, name| {
                out.string(name);
                out.array(twice, |out, number| {
                    out.i32(number);
                    out.i64(-1);
                });
            });
        }
        FETCH => {
            out.i32(-1);
            out.i32(60_000);
            out.i32(1);
            out.i32(i32::MAX);
            out.i8(0);
            out.array([NAME], |out, name| {
                out.string(name);
                out.array(twice, |out, number| {
                    out.i32(number);
                    out.i64(5);
                    if version >= 5 {
                        out.i64(0);
                    }
                    out.i32(i32::MAX);
                });
            });
        }
        PRODUCE => {
            out.nullable(None);
            out.i16(1);
            out.i32(1000);
            out.array([NAME], |out, name| {
                out.string(name);
                out.array(twice, |out, number| {
                    out.i32(number);
                    out.bytes(b"records");
                });
            });
        }
        FIND_COORDINATOR => {
            out.string("group");
            if version >= 1 {
                out.i8(0);
            }
        }
        OFFSET_COMMIT => {
            out.string("group");
            out.i32(1);
            out.string("member");
            out.i64(-1);
            out.array([NAME], |out, name| {
                out.string(name);
                out.array(twice, |out, number| {
                    out.i32(number);
                    out.i64(5);
                    out.nullable(Some("note"));
                });
            });
        }
        OFFSET_FETCH => {
            out.string("group");
            out.array([NAME], |out, name| {
                out.string(name);
                out.array(twice, Writer::i32);
            });
        }
        JOIN_GROUP => {
            out.string("group");
            out.i32(10_000);
            if version >= 1 {
                out.i32(10_000);
            }
            out.string("");
            out.string("consumer");
            out.array(["range", "roundrobin"], |out, name| {
                out.string(name);
                out.bytes(b"topics");
            });
        }
        SYNC_GROUP => {
            out.string("group");
            out.i32(1);
            out.string("member");
            out.array(["member"], |out, name| {
                out.string(name);
                out.bytes(b"partitions");
            });
        }
        HEARTBEAT | LEAVE_GROUP => {
            out.string("group");
            if key == HEARTBEAT {
                out.i32(1);
            }
            out.string("member");
        }
        _ => unreachable!("no such kind"),
    }
    out.0
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Requests that are whole, cut off, changed, or no requests at all.
fn all_kinds_of() -> Vec<Vec<u8>> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut all = Vec::new();
    for api in APIS {
        for version in api.min..=api.max {
            let whole = request(api.key, version);
            all.extend((0..=whole.len()).map(|end| whole[..end].to_vec()));
            for _ in 0..200 {
                let mut changed = whole.clone();
                for _ in 0..=dice.below(4) {
                    let place = dice.below(changed.len());
                    changed[place] = [0, 1, 0x7f, 0x80, 0xff, dice.below(256) as u8][dice.below(6)];
                }
                all.push(changed);
            }
            // Behind a good head.
            for _ in 0..50 {
                let mut random = whole[..14].to_vec();
                let length = dice.below(200);
                random.extend((0..length).map(|_| dice.below(256) as u8));
                all.push(random);
            }
        }
    }
    all
}

/// So that each has a directory of its own.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// What a node answers to each; `None`: nothing, and the connection ends.
fn ask(requests: &[Vec<u8>], has_groups: bool) -> Vec<Option<Vec<u8>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let name = format!("walengine-kafka-any-{}-{call}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let mut shared = Shared::of_nobody(&dir);
    shared.groups = shared.groups.filter(|_| has_groups);
    let (caller, came_in) = (Caller::default(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let answers = requests.iter().map(|one| answer(&shared, &caller, came_in, one));
    let answers = runtime.block_on(join_all(answers));
    std::fs::remove_dir_all(&dir).unwrap();
    answers.into_iter().map(|one| one.ok().flatten()).collect()
}

#[test]
fn whatever_the_bytes_are_there_is_a_small_answer_or_an_end() {
    let requests = all_kinds_of();
    for (request, answer) in requests.iter().zip(ask(&requests, true)) {
        if let Some(bytes) = answer.map(|answer| answer.len()) {
            assert!(bytes <= 200 + 8 * request.len(), "{bytes} bytes for {request:?}");
        }
    }
}

#[test]
fn a_whole_request_has_an_answer_and_a_cut_one_has_none() {
    for api in APIS {
        for version in api.min..=api.max {
            let whole = request(api.key, version);
            let cuts: Vec<_> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
            // What stands behind the names is not looked at.
            let unread = usize::from(api.key == METADATA && version >= 4);
            for (end, answer) in ask(&cuts, true).into_iter().enumerate() {
                assert!(answer.is_none() || end + unread >= whole.len(), "{api:?} cut at {end}");
            }
            assert!(ask(&[whole], true)[0].is_some(), "{api:?} {version}");
        }
    }
}

#[test]
fn a_request_that_names_a_partition_twice_is_none() {
    for (key, version) in [(FETCH, 4), (LIST_OFFSETS, 1), (OFFSET_FETCH, 1), (OFFSET_COMMIT, 2)] {
        let good = request(key, version);
        let mut twice = good.clone();
        // The second partition's number is the last 1 of four bytes.
        let place = good.windows(4).rposition(|four| four == [0, 0, 0, 1]).unwrap();
        twice[place + 3] = 0;
        assert_eq!(ask(&[good, twice], true)[1], None, "{key}");
    }
}

#[test]
fn a_node_of_a_cluster_refuses_groups_for_good() {
    for key in [FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, HEARTBEAT, LEAVE_GROUP] {
        let answer = ask(&[request(key, 0)], false)[0].clone().unwrap();
        // Behind the number of the request.
        assert_eq!(answer[4..6], GROUP_AUTHORIZATION_FAILED.to_be_bytes(), "{key}");
    }
    let key = OFFSET_COMMIT;
    let answer = ask(&[request(key, 2)], false)[0].clone().unwrap();
    assert_eq!(answer[answer.len() - 2..], GROUP_AUTHORIZATION_FAILED.to_be_bytes());
}
