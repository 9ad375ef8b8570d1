//! A node as SWIM knows it, and foca's codec.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use super::bytes::{Reader, address_bytes};
use super::limits::{IDENTITY_BYTES, MEMBER_BYTES};
use crate::types::NodeId;

/// One life of a node. Of two lives of a node, the one with the higher bump is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SwimIdentity {
    pub node: NodeId,
    /// The boot, plus one for each time that the node was declared dead.
    pub bump: u64,
    pub address: SocketAddr,
}

impl foca::Identity for SwimIdentity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.bump, self.address) > (adversary.bump, adversary.address)
    }
}

impl SwimIdentity {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    fn bytes(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..8].copy_from_slice(&self.node.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bump.to_le_bytes());
        bytes[16..].copy_from_slice(&address_bytes(self.address));
        bytes
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { node: reader.u64()?, bump: reader.life()?, address: reader.address()? })
    }
}

/// foca's bytes could not be read or written: too few of them, or an unknown number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of SWIM is malformed or does not fit")]
pub(super) struct CodecError;

/// Encodes and decodes foca's messages.
pub(super) struct Codec;

impl foca::Codec<SwimIdentity> for Codec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<SwimIdentity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(3 * IDENTITY_BYTES + 4);
        header.src.put(&mut out);
        out.extend_from_slice(&header.src_incarnation.to_le_bytes());
        header.dst.put(&mut out);
        put_message(&mut out, &header.message);
        put_whole(&out, &mut buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<SwimIdentity>, CodecError> {
        read_whole(buf, read_header)
    }

    fn encode_member(
        &mut self,
        member: &Member<SwimIdentity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(MEMBER_BYTES);
        member.id().put(&mut out);
        out.extend_from_slice(&member.incarnation().to_le_bytes());
        out.push(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_whole(&out, &mut buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<SwimIdentity>, CodecError> {
        read_whole(buf, read_member)
    }
}

fn put_whole(bytes: &[u8], buf: &mut impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn read_whole<T>(
    mut buf: impl Buf,
    read: impl Fn(&mut Reader<'_>) -> Option<T>,
) -> Result<T, CodecError> {
    let mut reader = Reader(buf.chunk()); // foca promises that it is contiguous
    let before = reader.0.len();
    let value = read(&mut reader).ok_or(CodecError)?;
    let taken = before - reader.0.len();
    buf.advance(taken);
    Ok(value)
}

fn put_message(out: &mut Vec<u8>, message: &Message<SwimIdentity>) {
    let mut with = |tag: u8, probe: u8, about: Option<&SwimIdentity>| {
        out.extend_from_slice(&[tag, probe]);
        if let Some(about) = about {
            about.put(out);
        }
    };
    match message {
        Message::Ping(probe) => with(1, *probe, None),
        Message::Ack(probe) => with(2, *probe, None),
        Message::PingReq { target, probe_number } => with(3, *probe_number, Some(target)),
        Message::IndirectPing { origin, probe_number } => with(4, *probe_number, Some(origin)),
        Message::IndirectAck { target, probe_number } => with(5, *probe_number, Some(target)),
        Message::ForwardedAck { origin, probe_number } => with(6, *probe_number, Some(origin)),
        Message::Announce => with(7, 0, None),
        Message::Feed => with(8, 0, None),
        Message::Gossip => with(9, 0, None),
        Message::Broadcast => with(10, 0, None),
        Message::TurnUndead => with(11, 0, None),
    }
}

fn read_message(reader: &mut Reader<'_>) -> Option<Message<SwimIdentity>> {
    let (tag, probe_number) = (reader.u8()?, reader.u8()?);
    let message = match tag {
        1 => Message::Ping(probe_number),
        2 => Message::Ack(probe_number),
        3 => Message::PingReq { target: SwimIdentity::read(reader)?, probe_number },
        4 => Message::IndirectPing { origin: SwimIdentity::read(reader)?, probe_number },
        5 => Message::IndirectAck { target: SwimIdentity::read(reader)?, probe_number },
        6 => Message::ForwardedAck { origin: SwimIdentity::read(reader)?, probe_number },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::Broadcast,
        11 => Message::TurnUndead,
        _ => return None,
    };
    (tag < 7 || probe_number == 0).then_some(message)
}

pub(super) fn read_header(reader: &mut Reader<'_>) -> Option<Header<SwimIdentity>> {
    Some(Header {
        src: SwimIdentity::read(reader)?,
        src_incarnation: reader.u16()?,
        dst: SwimIdentity::read(reader)?,
        message: read_message(reader)?,
    })
}

pub(super) fn read_member(reader: &mut Reader<'_>) -> Option<Member<SwimIdentity>> {
    let (id, incarnation) = (SwimIdentity::read(reader)?, reader.u16()?);
    let state = match reader.u8()? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return None,
    };
    Some(Member::new(id, incarnation, state))
}
