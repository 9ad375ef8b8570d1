//! Frames between client and server. No I/O: bytes in, views out.
//!
//! 32 bytes of header and an rkyv body. Layout: PROTOCOL.md, section 2. A frame is parsed in the
//! receive buffer, and encoded with its body into a buffer that is reused.

mod kind;

use crate::limits::{BODY_BYTES_MAX, PAGE_BODY_BYTES_MAX};
use crate::model::PartitionId;

pub use crate::message::encode::{encode, encode_as, encode_unsealed};
pub use kind::Kind;

/// Size of the header in bytes.
pub const HEADER_BYTES: usize = 32;
const _: () = assert!(PAGE_BODY_BYTES_MAX + HEADER_BYTES < i32::MAX as usize);
/// First four bytes of every frame: "WALF".
pub const MAGIC: u32 = u32::from_le_bytes(*b"WALF");
/// First four bytes of frames between replicas, "WALP". Recognised here, but not spoken.
pub const PEER_MAGIC: u32 = u32::from_le_bytes(*b"WALP");
/// Version of the protocol that this program speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// Request id of an answer about the connection instead of one request.
pub const CONNECTION: RequestId = RequestId(0);

const CRC_AT: usize = 4;
const CRC_END: usize = 8;

/// Id of a request on its connection. Chosen by the client, 1 and up, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The sender's part of a header. Length and checksum come from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Partition that is asked, or that answers.
    pub partition: PartitionId,
    /// Id of the request.
    pub request: RequestId,
    /// How long the caller will still wait; 0 in replies, and in requests without a limit.
    pub deadline_millis: u32,
}

impl FrameHead {
    /// Head of an answer.
    pub fn reply(partition: PartitionId, request: RequestId) -> Self {
        Self { partition, request, deadline_millis: 0 }
    }
}

/// A header as it stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Checksum over bytes 8–31 and the body.
    pub crc: u32,
    /// Number of the [`Kind`], which this version may not know.
    pub kind: u16,
    /// Reserved; 0 in this version.
    pub flags: u16,
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// The other fields.
    pub head: FrameHead,
}

/// Why bytes are not a frame. [`FrameError::closes`] says whether the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than a header or its body needs. Only where all bytes should be there.
    #[error("a frame needs {needed} bytes, {found} are there")]
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// Not the first four bytes of a frame. The other side speaks another protocol: close.
    #[error("magic {0:#010x} is not that of a frame: the other side does not speak this protocol")]
    Magic(u32),
    /// A replica has connected to the port for clients: its configuration is wrong. Answer
    /// `Malformed`, which it recognises, and close.
    #[error("a frame between replicas, where clients are served: wrong port")]
    PeerFrame,
    /// The other side speaks another version: answer `UnsupportedVersion` and close.
    #[error("the other side speaks protocol version {found}, this one {PROTOCOL_VERSION}")]
    Version {
        /// The version in the header.
        found: u16,
        /// The request, as far as the header can be believed.
        request: RequestId,
    },
    /// The body is past the limit of its kind: answer `TooLarge` and close.
    #[error("a body of {body_bytes} bytes is larger than the limit of {limit_bytes}")]
    Length {
        /// What the header says.
        body_bytes: u32,
        /// The limit.
        limit_bytes: usize,
        /// The request, as far as the header can be believed.
        request: RequestId,
    },
    /// Damaged on the way. The start of the next frame is not known: close.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A whole frame of a kind that this version does not know: answer `UnknownKind`, skip
    /// `frame_bytes`, and continue.
    #[error("frame kind {kind} is not known to this program")]
    Kind {
        /// Its number.
        kind: u16,
        /// The request.
        request: RequestId,
        /// Length of the frame.
        frame_bytes: usize,
    },
    /// A whole frame with flags that this version does not know: answer `Malformed`, skip
    /// `frame_bytes`, and continue.
    #[error("frame flags {flags:#06x} are not known to this program")]
    Flags {
        /// The flags.
        flags: u16,
        /// The request.
        request: RequestId,
        /// Length of the frame.
        frame_bytes: usize,
    },
}

impl FrameError {
    /// Whether the connection must be closed, after an error frame if there is one to send.
    pub fn closes(&self) -> bool {
        !matches!(self, Self::Kind { .. } | Self::Flags { .. })
    }

    /// The request to answer; [`CONNECTION`] if it is not known.
    pub fn request(&self) -> RequestId {
        match *self {
            Self::Version { request, .. }
            | Self::Length { request, .. }
            | Self::Kind { request, .. }
            | Self::Flags { request, .. } => request,
            Self::Short { .. } | Self::Magic(_) | Self::PeerFrame | Self::Crc { .. } => CONNECTION,
        }
    }
}

/// Why a message was not encoded. The buffer is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body of {body_bytes} bytes is larger than the limit of {limit_bytes}")]
pub struct EncodeError {
    /// Length of the body.
    pub body_bytes: usize,
    /// The limit.
    pub limit_bytes: usize,
}

/// A whole frame in a receive buffer with a correct checksum. The body is not checked yet:
/// [`crate::message::open`] does that.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: Kind,
    /// Partition, request and deadline.
    pub head: FrameHead,
    /// The rkyv body.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of header and body: drop as many from the buffer when done.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

impl FrameHeader {
    /// Decodes the first [`HEADER_BYTES`] of `bytes`. Checks magic, version and length. The
    /// checksum needs the body, and kind and flags mean nothing before that.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Short { needed: HEADER_BYTES, found: bytes.len() });
        };
        let magic = u32::from_le_bytes(array(bytes, 0));
        check_magic(magic)?;
        let request = RequestId(u64::from_le_bytes(array(bytes, 16)));
        let version = u16::from_le_bytes(array(bytes, 8));
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version { found: version, request });
        }
        let kind = u16::from_le_bytes(array(bytes, 10));
        let body_bytes = u32::from_le_bytes(array(bytes, 24));
        let limit_bytes = Kind::from_number(kind).map_or(BODY_BYTES_MAX, Kind::body_bytes_max);
        if body_bytes as usize > limit_bytes {
            return Err(FrameError::Length { body_bytes, limit_bytes, request });
        }
        Ok(Self {
            crc: u32::from_le_bytes(array(bytes, CRC_AT)),
            kind,
            flags: u16::from_le_bytes(array(bytes, 12)),
            body_bytes,
            head: FrameHead {
                partition: PartitionId(u16::from_le_bytes(array(bytes, 14))),
                request,
                deadline_millis: u32::from_le_bytes(array(bytes, 28)),
            },
        })
    }

    /// Encodes. Bytes as in PROTOCOL.md, section 2.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(CRC_AT, &self.crc.to_le_bytes());
        put(8, &PROTOCOL_VERSION.to_le_bytes());
        put(10, &self.kind.to_le_bytes());
        put(12, &self.flags.to_le_bytes());
        put(14, &self.head.partition.0.to_le_bytes());
        put(16, &self.head.request.0.to_le_bytes());
        put(24, &self.body_bytes.to_le_bytes());
        put(28, &self.head.deadline_millis.to_le_bytes());
        bytes
    }

    /// Bytes of header and body.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// Verifies the checksum over this header and `body`, then kind and flags.
    pub fn check(&self, body: &[u8]) -> Result<Kind, FrameError> {
        if body.len() != self.body_bytes as usize {
            return Err(FrameError::Short {
                needed: self.frame_bytes(),
                found: HEADER_BYTES + body.len(),
            });
        }
        let found = crc(&self.to_bytes(), body);
        if found != self.crc {
            return Err(FrameError::Crc { expected: self.crc, found });
        }
        let (request, frame_bytes) = (self.head.request, self.frame_bytes());
        if self.flags != 0 {
            return Err(FrameError::Flags { flags: self.flags, request, frame_bytes });
        }
        let kind = self.kind;
        Kind::from_number(kind).ok_or(FrameError::Kind { kind, request, frame_bytes })
    }
}

/// The frame at the start of a receive buffer; `None` if more bytes are needed. Nothing is copied.
/// A wrong magic, version or length is an error as soon as the header is there.
pub fn peek(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    if bytes.len() < HEADER_BYTES {
        return peek_partial_header(bytes);
    }
    let header = FrameHeader::decode(bytes)?;
    let Some(body) = bytes.get(HEADER_BYTES..header.frame_bytes()) else {
        return Ok(None);
    };
    let kind = header.check(body)?;
    Ok(Some(Frame { kind, head: header.head, body }))
}

/// Length of the frame at the start of `bytes`; `None` if its header is not there yet.
pub fn peek_bytes(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    if bytes.len() < HEADER_BYTES {
        return peek_partial_header(bytes).map(|_| None);
    }
    Ok(Some(FrameHeader::decode(bytes)?.frame_bytes()))
}

/// The magic is checked after four bytes, so that a peer that speaks another protocol does not
/// wait.
fn peek_partial_header(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    if let Some(magic) = bytes.first_chunk::<4>() {
        check_magic(u32::from_le_bytes(*magic))?;
    }
    Ok(None)
}

fn check_magic(magic: u32) -> Result<(), FrameError> {
    match magic {
        MAGIC => Ok(()),
        PEER_MAGIC => Err(FrameError::PeerFrame),
        other => Err(FrameError::Magic(other)),
    }
}

/// Puts request id, deadline and checksum into a whole frame.
///
/// # Panics
/// If `frame` is shorter than a header.
pub fn seal(frame: &mut [u8], request: RequestId, deadline_millis: u32) {
    frame[16..24].copy_from_slice(&request.0.to_le_bytes());
    frame[28..32].copy_from_slice(&deadline_millis.to_le_bytes());
    let crc = crc32c::crc32c(&frame[CRC_END..]);
    frame[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
}

fn crc(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[CRC_END..]), body)
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
