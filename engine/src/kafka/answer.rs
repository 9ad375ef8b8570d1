//! Which request gets which answer, and the requests of groups.

use std::net::SocketAddr;
use std::time::Duration;

use super::codes::{
    API_VERSIONS, APIS, Api, FETCH, FIND_COORDINATOR, GROUP_AUTHORIZATION_FAILED,
    GROUP_MAX_SIZE_REACHED, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, LIST_OFFSETS, METADATA, NONE,
    OFFSET_COMMIT, OFFSET_FETCH, OFFSET_METADATA_TOO_LARGE, PRODUCE, SYNC_GROUP,
    TOPIC_AUTHORIZATION_FAILED, UNKNOWN_TOPIC_OR_PARTITION, UNSUPPORTED_VERSION, of_group,
};
use super::group::Joining;
use super::shared::Shared;
use super::topic::{self, BROKER, TOPIC};
use super::wire::{Malformed, Reader, Writer};
use crate::http::caller::Caller;
use crate::limits::{KAFKA_MEMBER_BYTES_MAX, KAFKA_NAME_BYTES_MAX};

/// Why a group can't be had here.
const NO_GROUPS: &str =
    "a node of a cluster keeps no offsets of groups: assign partitions and keep offsets yourself";

/// Answers one request; `None` where the reader wants no answer.
///
/// # Errors
/// It is none, or of a kind or version that was not offered: the connection is to be closed.
pub async fn answer(
    shared: &Shared,
    caller: &Caller,
    came_in: SocketAddr,
    request: &[u8],
) -> Result<Option<Vec<u8>>, Malformed> {
    let mut reader = Reader(request);
    let (key, version, correlation) = (reader.i16()?, reader.i16()?, reader.i32()?);
    shared.counts.request(key);
    let api = APIS.into_iter().find(|api| api.key == key).ok_or(Malformed)?;
    let mut out = Writer::default();
    out.i32(correlation);
    if !(api.min..=api.max).contains(&version) {
        if key != API_VERSIONS {
            return Err(Malformed);
        }
        // By this a reader learns which version it may ask in.
        api_versions(&mut out, UNSUPPORTED_VERSION, 0);
        return Ok(Some(out.0));
    }
    reader.nullable()?; // what the reader calls itself
    match key {
        API_VERSIONS => api_versions(&mut out, NONE, version),
        METADATA => {
            topic::metadata(shared, caller, came_in, version, &mut reader, &mut out).await?;
        }
        LIST_OFFSETS => topic::list_offsets(shared, caller, version, &mut reader, &mut out).await?,
        FETCH => topic::fetch(shared, caller, version, &mut reader, &mut out).await?,
        PRODUCE => return produce(&mut reader, out),
        FIND_COORDINATOR => find_coordinator(shared, came_in, version, &mut reader, &mut out)?,
        OFFSET_COMMIT => offset_commit(shared, caller, version, &mut reader, &mut out).await?,
        OFFSET_FETCH => offset_fetch(shared, caller, version, &mut reader, &mut out).await?,
        JOIN_GROUP => join_group(shared, caller, version, &mut reader, &mut out).await?,
        SYNC_GROUP => sync_group(shared, caller, version, &mut reader, &mut out).await?,
        HEARTBEAT | LEAVE_GROUP => {
            let name = reader.string()?;
            let generation = if key == HEARTBEAT { reader.i32()? } else { 0 };
            let member = reader.string()?;
            let code = match shared.member_group(caller, name) {
                Err(code) => code,
                Ok((groups, name)) if key == HEARTBEAT => {
                    groups.heartbeat(&name, member, generation)
                }
                Ok((groups, name)) => groups.leave(&name, member),
            };
            out.throttle(version >= 1);
            out.i16(code);
        }
        _ => return Err(Malformed),
    }
    Ok(Some(out.0))
}

fn api_versions(out: &mut Writer, code: i16, version: i16) {
    out.i16(code);
    out.array(APIS, |out, Api { key, min, max }| {
        out.i16(key);
        out.i16(min);
        out.i16(max);
    });
    out.throttle(version >= 1);
}

/// Nobody may write.
fn produce(reader: &mut Reader<'_>, mut out: Writer) -> Result<Option<Vec<u8>>, Malformed> {
    reader.nullable()?;
    let acks = reader.i16()?;
    reader.i32()?;
    let topics = reader.topics(|reader, _| {
        let partition = reader.i32()?;
        reader.bytes()?;
        Ok(partition)
    })?;
    out.topics(topics, |out, _, partition| {
        out.i32(partition);
        out.i16(TOPIC_AUTHORIZATION_FAILED);
        out.i64(-1);
        out.i64(-1);
    });
    out.throttle(true);
    Ok((acks != 0).then_some(out.0))
}

fn find_coordinator(
    shared: &Shared,
    came_in: SocketAddr,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    reader.string()?;
    // Of groups; those of transactions there are none.
    let is_of_group = version == 0 || reader.i8()? == 0;
    let code = match shared.groups {
        Some(_) if is_of_group => NONE,
        _ => GROUP_AUTHORIZATION_FAILED,
    };
    out.throttle(version >= 1);
    out.i16(code);
    if version >= 1 {
        out.nullable((code != NONE).then_some(NO_GROUPS));
    }
    let (host, port) = shared.address(came_in);
    out.i32(BROKER);
    out.string(&host);
    out.i32(port);
    Ok(())
}

async fn join_group(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let name = reader.string()?;
    let session = millis(reader.i32()?);
    let rebalance = if version >= 1 { millis(reader.i32()?) } else { session };
    let member = reader.string()?;
    let kind = reader.string()?.to_owned();
    let protocols =
        reader.array(|reader| Ok((reader.string()?.to_owned(), reader.bytes()?.to_vec())))?;
    let bytes: usize = protocols.iter().map(|(name, said)| name.len() + said.len()).sum();
    let joining = Joining { session, rebalance, kind, protocols };
    let joined = match shared.group(caller, name).await {
        Ok(_) if bytes + joining.kind.len() > KAFKA_MEMBER_BYTES_MAX => Err(GROUP_MAX_SIZE_REACHED),
        Ok((groups, name)) => groups.join(&name, member, joining).await,
        Err(code) => Err(code),
    };
    out.throttle(version >= 2);
    match joined {
        Ok((member, joined)) => {
            out.i16(NONE);
            out.i32(joined.generation);
            out.string(&joined.protocol);
            out.string(&joined.leader);
            out.string(&member);
            out.array(joined.members, |out, (member, said)| {
                out.string(&member);
                out.bytes(&said);
            });
        }
        Err(code) => {
            out.i16(code);
            out.i32(-1);
            out.string("");
            out.string("");
            out.string(member);
            out.i32(0);
        }
    }
    Ok(())
}

fn millis(count: i32) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

async fn sync_group(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let name = reader.string()?;
    let generation = reader.i32()?;
    let member = reader.string()?;
    let assignments = reader.array(|reader| Ok((reader.string()?, reader.bytes()?)))?;
    let is_large = assignments.iter().any(|(_, gets)| gets.len() > KAFKA_MEMBER_BYTES_MAX);
    let synced = match shared.member_group(caller, name) {
        Ok(_) if is_large => Err(GROUP_MAX_SIZE_REACHED),
        Ok((groups, name)) => groups.sync(&name, member, generation, &assignments).await,
        Err(code) => Err(code),
    };
    out.throttle(version >= 1);
    out.i16(synced.as_ref().err().copied().unwrap_or(NONE));
    out.bytes(&synced.unwrap_or_default());
    Ok(())
}

async fn offset_commit(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let (name, generation, member) = (reader.string()?, reader.i32()?, reader.string()?);
    reader.i64()?; // for how long: here for ever
    let topics = reader.topics(|reader, _| {
        let (partition, offset) = (reader.i32()?, reader.i64()?);
        Ok((partition, offset, reader.nullable()?.unwrap_or_default()))
    })?;
    topic::once_each(&topics, |(number, ..)| *number)?;
    let partitions = topic::partitions(shared, caller).await;
    let of_partition = |topic: &str, partition: i32, note: &str| match &partitions {
        Ok(count) if topic == TOPIC && (0..i32::from(*count)).contains(&partition) => {
            if note.len() > KAFKA_NAME_BYTES_MAX { OFFSET_METADATA_TOO_LARGE } else { NONE }
        }
        Ok(_) => UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) if shared.groups.is_none() => GROUP_AUTHORIZATION_FAILED,
        Err(code) => of_group(*code),
    };
    let mut offsets = Vec::new();
    for (topic, partitions) in &topics {
        for &(partition, offset, note) in partitions {
            if let (NONE, Ok(number)) =
                (of_partition(topic, partition, note), u16::try_from(partition))
            {
                offsets.push((number, offset, note.to_owned()));
            }
        }
    }
    let code = match shared.group(caller, name).await {
        Ok(_) if offsets.is_empty() => NONE,
        Ok((groups, name)) => groups.commit(&name, member, generation, offsets).await,
        Err(code) => code,
    };
    out.throttle(version >= 3);
    out.topics(topics, |out, topic, (partition, _, note)| {
        out.i32(partition);
        let own = of_partition(topic, partition, note);
        out.i16(if own == NONE { code } else { own });
    });
    Ok(())
}

async fn offset_fetch(
    shared: &Shared,
    caller: &Caller,
    version: i16,
    reader: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), Malformed> {
    let name = reader.string()?;
    let asked = reader.nullable_topics(|reader, _| reader.i32())?;
    topic::once_each(asked.as_deref().unwrap_or_default(), |number| *number)?;
    let (code, committed) = match shared.group(caller, name).await {
        Ok((groups, name)) => (NONE, groups.committed(&name)),
        Err(code) => (code, std::collections::BTreeMap::new()),
    };
    let all = || vec![(TOPIC, committed.keys().map(|&one| i32::from(one)).collect())];
    out.throttle(version >= 3);
    out.topics(asked.unwrap_or_else(all), |out, topic, partition| {
        let known = u16::try_from(partition).ok().and_then(|partition| committed.get(&partition));
        let known = known.filter(|_| topic == TOPIC);
        out.i32(partition);
        out.i64(known.map_or(-1, |known| known.offset));
        out.string(known.map_or("", |known| &known.note));
        out.i16(code);
    });
    if version >= 2 {
        out.i16(code);
    }
    Ok(())
}
