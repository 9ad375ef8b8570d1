//! What a node says of itself on a connection: the other end has dialled it, and knows who answers. What
//! gossip says of nodes is only a reason to ask.

use walengine_net::model::Timestamp;

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use crate::gossip::OwnCondition;
use crate::gossip::limits::CLIENT_ADDRESS_BYTES_MAX;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// It is about to leave its cluster for good.
    pub is_leaving: bool,
    /// How its disk, its memory and its clock are.
    pub condition: OwnCondition,
    /// Where it takes clients.
    pub client_address: String,
}

pub(super) fn put(out: &mut Vec<u8>, about: &About) -> Result<(), EncodeError> {
    at_most("client address", about.client_address.len(), CLIENT_ADDRESS_BYTES_MAX)?;
    let OwnCondition { is_full, is_stuck, is_slow, is_short_of_memory, clock } = about.condition;
    let flags = [about.is_leaving, is_full, is_stuck, is_slow, is_short_of_memory];
    out.push(flags.iter().rev().fold(0, |bits, set| bits << 1 | u8::from(*set)));
    out.extend_from_slice(&clock.0.to_le_bytes());
    out.extend_from_slice(&(about.client_address.len() as u16).to_le_bytes());
    out.extend_from_slice(about.client_address.as_bytes());
    Ok(())
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<About, DecodeError> {
    const ADDRESS: &str = "client address";
    let flags = reader.u8("flags of a node")?;
    if flags >= 1 << 5 {
        return Err(DecodeError::Unknown { what: "flags of a node", found: u64::from(flags) });
    }
    let is = |bit: u8| flags >> bit & 1 == 1;
    let clock = Timestamp(reader.u64("clock")?);
    let found = usize::from(reader.u16(ADDRESS)?);
    if found > CLIENT_ADDRESS_BYTES_MAX {
        let limit = CLIENT_ADDRESS_BYTES_MAX;
        return Err(DecodeError::TooMany { what: ADDRESS, found, limit });
    }
    let address = std::str::from_utf8(reader.take(ADDRESS, found)?);
    let address = address.map_err(|_| DecodeError::Unknown { what: ADDRESS, found: 0 })?;
    Ok(About {
        is_leaving: is(0),
        condition: OwnCondition {
            is_full: is(1),
            is_stuck: is(2),
            is_slow: is(3),
            is_short_of_memory: is(4),
            clock,
        },
        client_address: address.to_owned(),
    })
}
