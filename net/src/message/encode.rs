//! Messages into frames. The bytes of a frame: [`crate::frame`].

use rkyv::api::serialize_using;
use rkyv::rancor::Failure;
use rkyv::ser::{Serializer, allocator::ArenaHandle};
use rkyv::util::with_arena;

use super::Message;
use crate::frame::{CONNECTION, EncodeError, FrameHead, FrameHeader, HEADER_BYTES, Kind, seal};
use crate::model::PartitionId;

/// Appends a whole frame to `out`. The body is serialized in place after its header: one copy, and
/// no allocation once `out` has grown.
pub fn encode<M: Message>(
    out: &mut Vec<u8>,
    head: FrameHead,
    message: &M,
) -> Result<(), EncodeError> {
    encode_as(out, M::KIND, head, message)
}

/// As [`encode`], with another kind of the same body, such as [`Kind::AppendReply`].
pub fn encode_as<M: Message>(
    out: &mut Vec<u8>,
    kind: Kind,
    head: FrameHead,
    message: &M,
) -> Result<(), EncodeError> {
    let start = out.len();
    encode_unsealed(out, kind, head.partition, message)?;
    seal(&mut out[start..], head.request, head.deadline_millis);
    Ok(())
}

/// As [`encode_as`], but without request id, deadline and checksum: [`seal`] adds them each time
/// that the frame is sent.
pub fn encode_unsealed<M: Message>(
    out: &mut Vec<u8>,
    kind: Kind,
    partition: PartitionId,
    message: &M,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let serialized = serialize_body(out, message);
    let body_bytes = out.len() - start - HEADER_BYTES;
    let limit_bytes = kind.body_bytes_max();
    if serialized.is_err() || body_bytes > limit_bytes {
        out.truncate(start);
        return Err(EncodeError { body_bytes, limit_bytes });
    }
    let head = FrameHead::reply(partition, CONNECTION);
    let header =
        FrameHeader { crc: 0, kind: kind.number(), flags: 0, body_bytes: body_bytes as u32, head };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(())
}

fn serialize_body<M: Message>(out: &mut Vec<u8>, message: &M) -> Result<(), Failure> {
    with_arena(|arena| {
        let mut serializer: Serializer<&mut Vec<u8>, ArenaHandle<'_>, ()> =
            Serializer::new(out, arena.acquire(), ());
        serialize_using::<_, Failure>(message, &mut serializer).map(|_| ())
    })
}
