//! Frames: a header of 32 bytes and the body of a [`Message`]. Sans I/O: bytes in, views out.
//!
//! The fields are where a client's frame has them, after another magic: each protocol has versions,
//! kinds and limits of its own, and each port recognises at once that the dialling side has the
//! wrong port. Unlike in a client's frame, version and kind are read only after the checksum was
//! verified, so that a damaged frame is never mistaken for one of a newer version.

use walengine_net::frame::{CONNECTION, FrameHead, MAGIC as CLIENT_MAGIC, RequestId};
use walengine_net::model::PartitionId;

use super::error::{DecodeError, EncodeError, at_most};
use super::kind::Kind;
use super::limits::{BODY_BYTES_MAX, HEADER_BYTES, HELLO_BODY_BYTES_MAX, MAGIC, PEER_VERSION};
use super::message::Message;

const CRC_AT: usize = 4;
const CRC_END: usize = 8;
const BODY_BYTES_AT: usize = 24;

/// Why bytes are not a frame that can be opened. Nothing was consumed; [`FrameError::closes`] says
/// whether the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A client has dialled the port for replicas: its configuration is wrong. Close.
    #[error("a client's frame, where replicas are served: wrong port")]
    ClientFrame,
    /// Not the first four bytes of a frame. The other side speaks another protocol: close.
    #[error("magic {0:#010x} is not that of a frame: the other side does not speak this protocol")]
    Magic(u32),
    /// The body is above the limit, if the header can be believed: close.
    #[error("a body of {body_bytes} bytes is larger than the limit of {limit_bytes}")]
    Length {
        /// What the header says.
        body_bytes: u32,
        /// The limit that applies now.
        limit_bytes: usize,
    },
    /// Damaged. Where the next frame starts is not known: close.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Crc {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// A whole frame of another version: refuse a hello, answer anything else with
    /// `UnsupportedVersion`, and close.
    #[error("the other side speaks peer version {found}, this one {PEER_VERSION}")]
    Version {
        /// The version in the header.
        found: u16,
        /// Number of the frame's kind.
        kind: u16,
        /// The request.
        request: RequestId,
    },
    /// A whole frame with unknown flags: answer `Malformed`, skip `frame_bytes`, go on.
    #[error("frame flags {flags:#06x} are not known to this program")]
    Flags {
        /// The flags.
        flags: u16,
        /// The request.
        request: RequestId,
        /// Length of the frame.
        frame_bytes: usize,
    },
    /// A whole frame of an unknown kind: answer `UnknownKind`, skip `frame_bytes`, go on.
    #[error("frame kind {kind:#06x} is not known to this program")]
    Kind {
        /// Its number.
        kind: u16,
        /// The request.
        request: RequestId,
        /// Length of the frame.
        frame_bytes: usize,
    },
    /// A whole frame above the limit of its kind: answer `TooLarge`, skip `frame_bytes`, go on.
    #[error("a body of {body_bytes} bytes is too large for {kind:?}")]
    KindLength {
        /// What it is.
        kind: Kind,
        /// What it has.
        body_bytes: usize,
        /// The request.
        request: RequestId,
        /// Length of the frame.
        frame_bytes: usize,
    },
}

impl FrameError {
    /// The connection must be closed, after the answer if there is one.
    pub fn closes(&self) -> bool {
        !matches!(self, Self::Flags { .. } | Self::Kind { .. } | Self::KindLength { .. })
    }

    /// The request to answer; [`CONNECTION`] if it is not known.
    pub fn request(&self) -> RequestId {
        match *self {
            Self::Version { request, .. }
            | Self::Flags { request, .. }
            | Self::Kind { request, .. }
            | Self::KindLength { request, .. } => request,
            Self::ClientFrame | Self::Magic(_) | Self::Length { .. } | Self::Crc { .. } => {
                CONNECTION
            }
        }
    }
}

/// A whole frame in a receive buffer, with a verified checksum.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub head: FrameHead,
    /// Not decoded yet: [`Frame::open`] does that.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of header and body together: what to drop from the buffer when done.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Decodes the message. Bodies of batches are copied, once; nothing else is large.
    pub fn open(&self) -> Result<Message, DecodeError> {
        let message = Message::decode(self.kind, self.body)?;
        check_partition(self.head.partition, &message).map_err(DecodeError::Contradiction)?;
        Ok(message)
    }
}

/// The frame at the start of a receive buffer; `None` if more bytes are needed. Nothing is copied.
/// A wrong magic or length is reported as soon as it is there.
pub fn peek(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    peek_within(bytes, BODY_BYTES_MAX)
}

/// Like [`peek`], before a hello was accepted: a stranger gets no more memory than a hello needs.
pub fn peek_hello(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    peek_within(bytes, HELLO_BODY_BYTES_MAX)
}

/// Bytes of the frame at the start of `bytes`, as soon as its header is there: how much to read.
/// The header is not verified yet.
pub fn peek_bytes(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let body_bytes = peek_body_bytes(bytes, BODY_BYTES_MAX)?;
    Ok(body_bytes.map(|body_bytes| HEADER_BYTES + body_bytes))
}

fn peek_within(bytes: &[u8], limit_bytes: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(body_bytes) = peek_body_bytes(bytes, limit_bytes)? else {
        return Ok(None);
    };
    let Some(frame) = bytes.get(..HEADER_BYTES + body_bytes) else {
        return Ok(None);
    };
    let expected = u32::from_le_bytes(array(frame, CRC_AT));
    let found = crc32c::crc32c(&frame[CRC_END..]);
    if found != expected {
        return Err(FrameError::Crc { expected, found });
    }
    let version = u16::from_le_bytes(array(frame, 8));
    let kind = u16::from_le_bytes(array(frame, 10));
    let flags = u16::from_le_bytes(array(frame, 12));
    let head = FrameHead {
        partition: PartitionId(u16::from_le_bytes(array(frame, 14))),
        request: RequestId(u64::from_le_bytes(array(frame, 16))),
        deadline_millis: u32::from_le_bytes(array(frame, 28)),
    };
    let (request, frame_bytes) = (head.request, frame.len());
    if version != PEER_VERSION {
        return Err(FrameError::Version { found: version, kind, request });
    }
    if flags != 0 {
        return Err(FrameError::Flags { flags, request, frame_bytes });
    }
    let kind = Kind::from_number(kind).ok_or(FrameError::Kind { kind, request, frame_bytes })?;
    if body_bytes > kind.body_bytes_max() {
        return Err(FrameError::KindLength { kind, body_bytes, request, frame_bytes });
    }
    Ok(Some(Frame { kind, head, body: &frame[HEADER_BYTES..] }))
}

/// Length of the body from the header, once the header is there. A wrong magic is reported after
/// four bytes, so that nobody waits for 32.
fn peek_body_bytes(bytes: &[u8], limit_bytes: usize) -> Result<Option<usize>, FrameError> {
    match bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic)) {
        None => return Ok(None),
        Some(MAGIC) => {}
        Some(CLIENT_MAGIC) => return Err(FrameError::ClientFrame),
        Some(other) => return Err(FrameError::Magic(other)),
    }
    if bytes.len() < HEADER_BYTES {
        return Ok(None);
    }
    let body_bytes = u32::from_le_bytes(array(bytes, BODY_BYTES_AT));
    if body_bytes as usize > limit_bytes {
        return Err(FrameError::Length { body_bytes, limit_bytes });
    }
    Ok(Some(body_bytes as usize))
}

/// Appends a whole frame to `out`, which may hold other frames. After an error `out` is unchanged.
///
/// # Panics
/// If a membership is past the limits of [`crate::membership_codec`].
pub fn encode(out: &mut Vec<u8>, head: FrameHead, message: &Message) -> Result<(), EncodeError> {
    check_partition(head.partition, message).map_err(EncodeError::Contradiction)?;
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = message.kind();
    let body = message.put_body(out);
    let body_bytes = out.len() - start - HEADER_BYTES;
    let body = body.and_then(|()| at_most("frame", body_bytes, kind.body_bytes_max()));
    if let Err(error) = body {
        out.truncate(start);
        return Err(error);
    }
    let frame = &mut out[start..];
    let mut put = |at: usize, value: &[u8]| frame[at..at + value.len()].copy_from_slice(value);
    put(0, &MAGIC.to_le_bytes());
    put(8, &PEER_VERSION.to_le_bytes());
    put(10, &kind.number().to_le_bytes());
    put(14, &head.partition.0.to_le_bytes());
    put(16, &head.request.0.to_le_bytes());
    put(BODY_BYTES_AT, &(body_bytes as u32).to_le_bytes());
    put(28, &head.deadline_millis.to_le_bytes());
    let crc = crc32c::crc32c(&frame[CRC_END..]);
    frame[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// A hello names the same partition as its frame.
fn check_partition(partition: PartitionId, message: &Message) -> Result<(), &'static str> {
    match message {
        Message::Hello(hello) if hello.partition != partition => {
            Err("a hello for one partition in a frame for another")
        }
        _ => Ok(()),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
