//! Kinds of frames, their numbers and their limits.

use super::limits::{
    APPEND_BODY_BYTES_MAX, CONTROL_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX, LOG_PAGE_BYTES_MAX,
    LOG_PAGE_HEAD_BYTES, PEER_BIT, REPLY_BIT, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNK_HEAD_BYTES,
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal,)*) => {
        /// What a frame's body is. An answer has the number of its request plus 128.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Kind {
            /// Every kind, in order of number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Kind of this number; `None` if this version does not know it.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// First frame of every connection: [`super::Hello`].
    Hello = 0x8001,
    /// Entries for a follower, or none to be heard.
    Append = 0x8002,
    /// A candidate asks for a vote.
    Vote = 0x8003,
    /// A node asks whether it would get the vote; nobody's term changes.
    PreVote = 0x8004,
    /// A leader hands over.
    TransferLeader = 0x8005,
    /// A snapshot starts: [`super::SnapshotBegin`]. Answered only if it fails.
    SnapshotBegin = 0x8006,
    /// A piece of it: [`super::SnapshotChunk`]. Answered only if it fails.
    SnapshotChunk = 0x8007,
    /// It is complete: [`super::SnapshotEnd`].
    SnapshotEnd = 0x8008,
    /// A new replica copies the log: [`super::LogRead`].
    LogRead = 0x8009,
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
    /// Answer to [`Kind::SnapshotEnd`], and to the whole snapshot.
    SnapshotReply = 0x8088,
    /// Answer to [`Kind::LogRead`]: [`super::LogPage`].
    LogPage = 0x8089,
    /// Answer to anything that failed: [`super::PeerError`].
    Error = 0x80ff,
}

impl Kind {
    /// The number in the header.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Goes back to the node that dialled.
    pub const fn is_reply(self) -> bool {
        self.number() & REPLY_BIT != 0
    }

    /// Kind of the answer if all goes well; `None` for answers and for what has none of its own.
    pub const fn reply(self) -> Option<Self> {
        if self.is_reply() { None } else { Self::from_number(self.number() | REPLY_BIT) }
    }

    /// Largest body in bytes.
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::HelloReply => HELLO_BODY_BYTES_MAX,
            Self::Append => APPEND_BODY_BYTES_MAX,
            Self::LogPage => LOG_PAGE_HEAD_BYTES + LOG_PAGE_BYTES_MAX,
            Self::SnapshotChunk => SNAPSHOT_CHUNK_HEAD_BYTES + SNAPSHOT_CHUNK_BYTES_MAX,
            _ => CONTROL_BODY_BYTES_MAX,
        }
    }
}

const _: () = {
    let mut at = 0;
    while at < Kind::ALL.len() {
        assert!(Kind::ALL[at].number() & PEER_BIT != 0);
        at += 1;
    }
};
