//! The log as a topic: what there is, where it ends, and its records.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use walengine_net::client::tokio::Client;
use walengine_net::client::{Page, ReadFrom};
use walengine_net::model::{Offset, PartitionId, Timestamp};

use super::batch::batch;
use super::codes::{
    NONE, NOT_LEADER, OFFSET_OUT_OF_RANGE, STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION, of_client,
    of_problem,
};
use super::shared::Shared;
use super::time::first_from;
use super::wire::{Malformed, Reader, Writer};
use crate::http::caller::Caller;
use crate::http::json::records;
use crate::limits::{
    KAFKA_ANSWER_BYTES_MAX, KAFKA_ANSWER_WITHIN, KAFKA_LOOK_EVERY, KAFKA_PAGE_BYTES,
    KAFKA_PAGE_RECORDS_MAX, KAFKA_WAIT_MAX,
};

/// The topic.
pub const TOPIC: &str = "walengine";
/// The node that a reader has asked, which leads to every partition.
pub const BROKER: i32 = 0;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// How many partitions there are.
///
/// # Errors
/// The node does not serve yet, or the caller proves nothing any more; the number of the error.
pub async fn partitions(shared: &Shared, caller: &Caller) -> Result<u16, i16> {
    Ok(shared.client(caller).await?.info().partitions)
}

/// What there is: one broker, one topic.
///
/// # Errors
/// The request is none.
pub async fn metadata(
    shared: &Shared,
    caller: &Caller,
    came_in: SocketAddr,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let asked = reader.nullable_array(Reader::string)?;
    // Each is told once, so that an answer is not much larger than its request.
    let asked = asked.map(BTreeSet::from_iter);
    let known = partitions(shared, caller).await;
    out.throttle(version >= 3);
    let (host, port) = shared.address(came_in);
    out.array([()], |out, ()| {
        out.i32(BROKER);
        out.string(&host);
        out.i32(port);
        out.nullable(None); // its rack
    });
    if version >= 2 {
        out.nullable(Some(&shared.cluster_id));
    }
    out.i32(BROKER); // the controller
    out.array(asked.unwrap_or_else(|| BTreeSet::from([TOPIC])), |out, name| {
        let (code, count) = match known {
            _ if name != TOPIC => (UNKNOWN_TOPIC_OR_PARTITION, 0),
            Ok(count) => (NONE, count),
            Err(code) => (code, 0),
        };
        out.i16(code);
        out.string(name);
        out.i8(0); // of people, not the broker's own
        out.array(0..count, |out, partition| {
            out.i16(NONE);
            out.i32(partition.into());
            out.i32(BROKER); // leads
            out.array([BROKER], Writer::i32);
            out.array([BROKER], Writer::i32);
            if version >= 5 {
                out.i32(0); // none is offline
            }
        });
    });
    Ok(())
}

/// A request names no partition twice: an answer that repeats what is large would be far larger than its request.
///
/// # Errors
/// It does.
pub fn once_each<T>(
    topics: &[(&str, Vec<T>)],
    number: impl Fn(&T) -> i32,
) -> Result<(), Malformed> {
    let mut seen = BTreeSet::new();
    let mut all = topics.iter().flat_map(|(topic, all)| all.iter().map(move |one| (*topic, one)));
    if all.all(|(topic, one)| seen.insert((topic, number(one)))) { Ok(()) } else { Err(Malformed) }
}

/// The partition of a number in a request.
fn partition_of(client: &Client, topic: &str, number: i32) -> Result<PartitionId, i16> {
    let number = u16::try_from(number).ok().filter(|_| topic == TOPIC);
    let known = number.filter(|&number| number < client.info().partitions);
    known.map(PartitionId).ok_or(UNKNOWN_TOPIC_OR_PARTITION)
}

/// What is committed now: not less than anybody was ever shown.
async fn end(client: &Client, partition: PartitionId) -> Result<Offset, i16> {
    let client = client.reading(ReadFrom::Linearizable);
    let page = client.read_log(partition, Offset(u64::MAX), 0, &[]).await;
    Ok(page.map_err(|error| of_client(&error))?.durable_offset)
}

/// Where partitions begin and end, or the first record from a moment on.
///
/// # Errors
/// The request is none.
pub async fn list_offsets(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    reader.i32()?;
    if version >= 2 {
        reader.i8()?; // every record is committed
    }
    let topics = reader.topics(|reader, _| Ok((reader.i32()?, reader.i64()?)))?;
    once_each(&topics, |(number, _)| *number)?;
    let client = shared.client(caller).await;
    let by = Instant::now() + KAFKA_ANSWER_WITHIN;
    let mut answers = Vec::new();
    for (topic, partitions) in topics {
        let mut found = Vec::new();
        for (number, millis) in partitions {
            let answer = match &client {
                Err(code) => Err(*code),
                Ok(client) => in_time(by, look_up(shared, client, topic, number, millis)).await,
            };
            found.push((number, answer));
        }
        answers.push((topic, found));
    }
    out.throttle(version >= 2);
    out.topics(answers, |out, _, (number, answer)| {
        out.i32(number);
        out.i16(answer.err().unwrap_or(NONE));
        let (offset, millis) = answer.unwrap_or((-1, -1));
        out.i64(millis);
        out.i64(offset);
    });
    Ok(())
}

/// What a partition answers; a partition without a leader must not hold up what is asked of others.
async fn in_time<T>(by: Instant, work: impl Future<Output = Result<T, i16>>) -> Result<T, i16> {
    timeout_at(by, work).await.unwrap_or(Err(NOT_LEADER))
}

/// An offset, and the time of its record if it was looked for by time; -1: there is none.
async fn look_up(
    shared: &Shared,
    client: &Client,
    topic: &str,
    number: i32,
    millis: i64,
) -> Result<(i64, i64), i16> {
    let partition = partition_of(client, topic, number)?;
    match millis {
        EARLIEST => Ok((0, -1)), // nothing is ever removed
        LATEST => Ok((end(client, partition).await?.0.cast_signed(), -1)),
        _ => {
            let from = Timestamp(u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000));
            let end = end(client, partition).await?;
            let pages = shared.pages(partition);
            let _page = pages.acquire().await.map_err(|_| STORAGE_ERROR)?;
            // A follower may not have all that is below this end.
            let client = client.reading(ReadFrom::Linearizable);
            let found = first_from(&client, partition, from, end).await;
            let found = found.map_err(|error| of_client(&error))?;
            let shown = |(offset, time): (Offset, Timestamp)| {
                (offset.0.cast_signed(), (time.0 / 1_000_000).cast_signed())
            };
            Ok(found.map_or((-1, -1), shown))
        }
    }
}

/// What is wanted of one partition.
struct Wanted<'a> {
    topic: &'a str,
    number: i32,
    from: i64,
    bytes_max: usize,
}

/// What it got.
struct Got {
    code: i16,
    end: i64,
    batch: Vec<u8>,
    /// The next offset that the reader wants, if it takes the batch.
    next: i64,
}

impl Got {
    fn error(code: i16) -> Self {
        Self { code, end: -1, batch: Vec::new(), next: -1 }
    }
}

/// Records; waits for some if there are none.
///
/// # Errors
/// The request is none.
pub async fn fetch(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    reader.i32()?;
    let wait = Duration::from_millis(u64::try_from(reader.i32()?).unwrap_or(0));
    let bytes_min = usize::try_from(reader.i32()?).unwrap_or(0);
    let bytes_max = usize::try_from(reader.i32()?).unwrap_or(0).min(KAFKA_ANSWER_BYTES_MAX);
    reader.i8()?; // every record is committed
    let topics = reader.topics(|reader, topic| {
        let (number, from) = (reader.i32()?, reader.i64()?);
        if version >= 5 {
            reader.i64()?;
        }
        let bytes_max = usize::try_from(reader.i32()?).unwrap_or(0);
        Ok(Wanted { topic, number, from, bytes_max })
    })?;
    once_each(&topics, |wanted| wanted.number)?;
    let got = wait_for(shared, caller, &topics, (bytes_min, bytes_max), wait).await;
    out.throttle(true);
    let mut got = got.into_iter();
    out.topics(topics, |out, _, wanted| {
        let got = got.next().unwrap_or_else(|| Got::error(UNKNOWN_TOPIC_OR_PARTITION));
        out.i32(wanted.number);
        out.i16(got.code);
        out.i64(got.end);
        out.i64(got.end); // of what no transaction holds up
        if version >= 5 {
            out.i64(0); // where the log begins
        }
        out.i32(0); // no aborted transactions
        out.bytes(&got.batch);
    });
    Ok(())
}

/// What there is for each partition once it is `bytes.0` in all, something has failed, or the time is over.
async fn wait_for(
    shared: &Shared,
    caller: &Caller,
    topics: &[(&str, Vec<Wanted<'_>>)],
    (bytes_min, bytes_max): (usize, usize),
    wait: Duration,
) -> Vec<Got> {
    let until = Instant::now() + wait.min(KAFKA_WAIT_MAX);
    let mut bytes_before = None;
    loop {
        let got = gather(shared, caller, topics, bytes_max).await;
        let bytes: usize = got.iter().map(|got| got.batch.len()).sum();
        if got.iter().any(|got| got.code != NONE) {
            sleep(KAFKA_LOOK_EVERY).await; // a reader that asks again at once is slowed down
            return got;
        }
        // One that is cut off does not become larger by waiting.
        let is_cut = got.iter().any(|got| !got.batch.is_empty() && got.next < got.end);
        if bytes >= bytes_min.min(bytes_max) || is_cut || Instant::now() >= until {
            return got;
        }
        // A subscription may know more than the node that answers reads, and one that fails ends at once.
        if bytes_before == Some(bytes) {
            sleep(KAFKA_LOOK_EVERY.min(until - Instant::now())).await;
        }
        bytes_before = Some(bytes);
        let Ok(client) = shared.client(caller).await else { return got };
        let Ok(identity) = caller.identity() else { return got };
        let numbers = topics.iter().flat_map(|(_, partitions)| partitions);
        let ends = numbers.zip(&got).filter_map(|(wanted, got)| {
            let number = u16::try_from(wanted.number).ok()?;
            // Not the end: that may be the leader's, and the one that is asked may be behind.
            Some((PartitionId(number), Offset(u64::try_from(got.next).ok()?)))
        });
        let ends: Vec<_> = ends.collect();
        let left = until.saturating_duration_since(Instant::now());
        shared.tails.wait(&client, identity.as_ref(), &ends, left).await;
    }
}

/// What there is now for each partition, in the order of the request.
async fn gather(
    shared: &Shared,
    caller: &Caller,
    topics: &[(&str, Vec<Wanted<'_>>)],
    bytes_max: usize,
) -> Vec<Got> {
    let client = shared.client(caller).await;
    let by = Instant::now() + KAFKA_ANSWER_WITHIN;
    let mut taken = 0;
    let mut all: Vec<Got> = Vec::new();
    for wanted in topics.iter().flat_map(|(_, partitions)| partitions) {
        let room = bytes_max.saturating_sub(taken);
        let got = match &client {
            Err(code) => Err(*code),
            Ok(client) => in_time(by, one(shared, client, wanted, room, taken == 0)).await,
        };
        let got = got.unwrap_or_else(Got::error);
        taken += got.batch.len();
        all.push(got);
    }
    all
}

/// What there is for one partition, in `room`; the first record of an answer always has room.
async fn one(
    shared: &Shared,
    client: &Client,
    wanted: &Wanted<'_>,
    room: usize,
    is_first: bool,
) -> Result<Got, i16> {
    let partition = partition_of(client, wanted.topic, wanted.number)?;
    let from = Offset(u64::try_from(wanted.from).map_err(|_| OFFSET_OUT_OF_RANGE)?);
    let pages = shared.pages(partition);
    let _page = pages.acquire().await.map_err(|_| STORAGE_ERROR)?;
    let page: Page = client
        .read_log(partition, from, KAFKA_PAGE_BYTES.min(room.max(usize::from(is_first))), &[])
        .await
        .map_err(|error| of_client(&error))?;
    let mut known_end = page.durable_offset;
    if from > known_end {
        // A follower or a new leader may not know yet what others have shown.
        known_end = end(client, partition).await?;
        if from > known_end {
            return Err(OFFSET_OUT_OF_RANGE);
        }
    }
    let scales = shared.scales.get(client).await.map_err(|problem| of_problem(&problem))?;
    let found = records(&page, from, KAFKA_PAGE_RECORDS_MAX, &scales);
    let found = found.map_err(|_| STORAGE_ERROR)?;
    let batch = batch(&found, wanted.bytes_max.min(room), is_first).map_err(|_| STORAGE_ERROR)?;
    let next = (from.0 + batch.records).cast_signed();
    Ok(Got { code: NONE, end: known_end.0.cast_signed(), batch: batch.bytes, next })
}
