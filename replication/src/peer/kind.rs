//! Kinds of frames, their numbers and their limits.

use num_enum::TryFromPrimitive;

use super::limits::{
    APPEND_BODY_BYTES_MAX, CARRY_BODY_BYTES_MAX, CONTROL_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX,
    LOG_PAGE_BYTES_MAX, LOG_PAGE_HEAD_BYTES, PEER_BIT, REPLY_BIT,
};

/// What a frame's body is. An answer has the number of its request plus 128. The numbers that are
/// reserved are listed in PEER.md, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromPrimitive)]
#[repr(u16)]
pub enum Kind {
    /// First frame of every connection: [`super::Hello`].
    Hello = 0x8001,
    /// Entries for a follower, or a heartbeat without any.
    Append = 0x8002,
    /// A candidate asks for a vote.
    Vote = 0x8003,
    /// A node asks whether it would get the vote; nobody's term changes.
    PreVote = 0x8004,
    /// A leader hands over.
    TransferLeader = 0x8005,
    /// A new replica copies the log: [`super::LogRead`].
    LogRead = 0x8009,
    /// A node asks the other what it says of itself.
    About = 0x800a,
    /// What a partition has prepared for another one: [`super::Carried`].
    Carry = 0x800b,
    /// Answer to [`Kind::Hello`]: [`super::HelloReply`].
    HelloReply = 0x8081,
    /// Answer to [`Kind::Append`].
    AppendReply = 0x8082,
    /// Answer to [`Kind::Vote`].
    VoteReply = 0x8083,
    /// Answer to [`Kind::PreVote`].
    PreVoteReply = 0x8084,
    /// Answer to [`Kind::TransferLeader`].
    TransferLeaderReply = 0x8085,
    /// Answer to [`Kind::LogRead`]: [`super::LogPage`].
    LogPage = 0x8089,
    /// Answer to [`Kind::About`]: [`super::About`].
    AboutReply = 0x808a,
    /// Answer to [`Kind::Carry`]: the words on it.
    CarryReply = 0x808b,
    /// Answer to any request that failed: [`super::PeerError`].
    Error = 0x80ff,
}

impl Kind {
    /// Every kind, in order of number.
    pub const ALL: &[Self] = &[
        Self::Hello,
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::TransferLeader,
        Self::LogRead,
        Self::About,
        Self::Carry,
        Self::HelloReply,
        Self::AppendReply,
        Self::VoteReply,
        Self::PreVoteReply,
        Self::TransferLeaderReply,
        Self::LogPage,
        Self::AboutReply,
        Self::CarryReply,
        Self::Error,
    ];

    /// The number in the header.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Kind of this number; `None` if this version does not know it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::try_from(number).ok()
    }

    /// Largest body in bytes.
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::HelloReply => HELLO_BODY_BYTES_MAX,
            Self::Append => APPEND_BODY_BYTES_MAX,
            Self::Carry | Self::CarryReply => CARRY_BODY_BYTES_MAX,
            Self::LogPage => LOG_PAGE_HEAD_BYTES + LOG_PAGE_BYTES_MAX,
            _ => CONTROL_BODY_BYTES_MAX,
        }
    }
}

const _: () = {
    let mut at = 0;
    while at < Kind::ALL.len() {
        let number = Kind::ALL[at].number();
        assert!(number & PEER_BIT != 0);
        // Requests come first in the list, then the answers.
        assert!(at == 0 || Kind::ALL[at - 1].number() & REPLY_BIT <= number & REPLY_BIT);
        assert!(at == 0 || Kind::ALL[at - 1].number() < number);
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_kinds_holds_every_number_that_is_known() {
        let known: Vec<_> = (0..=u16::MAX).filter_map(Kind::from_number).collect();
        assert_eq!(known, Kind::ALL);
    }
}
