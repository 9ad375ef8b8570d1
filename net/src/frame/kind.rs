//! Kinds of frames: their numbers, their answers and their limits.

use num_enum::TryFromPrimitive;

use crate::limits::{BODY_BYTES_MAX, PAGE_BODY_BYTES_MAX};

const REPLY_BIT: u16 = 0x80;

/// What a frame's body is. A reply has the number of its request plus 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u16)]
pub enum Kind {
    /// First request of every connection: [`crate::message::Hello`].
    Hello = 1,
    /// A batch of events: [`crate::message::Submit`].
    Submit = 2,
    /// A batch of opaque records: [`crate::message::Append`].
    Append = 3,
    /// Accounts by id: [`crate::message::LookupAccounts`].
    LookupAccounts = 4,
    /// Accounts, all: [`crate::message::ListAccounts`].
    ListAccounts = 5,
    /// Events by id: [`crate::message::LookupTransfers`].
    LookupTransfers = 6,
    /// Verdicts by id: [`crate::message::Status`].
    Status = 7,
    /// A page of the log: [`crate::message::ReadLog`].
    ReadLog = 8,
    /// The log as it grows: [`crate::message::Subscribe`].
    Subscribe = 9,
    /// More credit for a subscription: [`crate::message::Credit`]; has no answer of its own.
    Credit = 10,
    /// End of a subscription: [`crate::message::Unsubscribe`].
    Unsubscribe = 11,
    /// The server's account of itself: [`crate::message::ServerStatus`].
    ServerStatus = 12,
    /// The cluster as a node sees it: [`crate::message::ClusterStatus`].
    ClusterStatus = 13,
    /// Another voter is to lead: [`crate::message::TransferLeadership`].
    TransferLeadership = 14,
    /// A node is to leave the group: [`crate::message::RemoveNode`].
    RemoveNode = 15,
    /// The node is to leave the cluster: [`crate::message::Leave`].
    Leave = 16,
    /// Entries of the log by index: [`crate::message::ReadEntries`].
    ReadEntries = 17,
    /// As [`Self::Leave`]; it was once done whatever that cost: [`crate::message::LeaveAnyway`].
    LeaveAnyway = 18,
    /// A node is to be taken into the group: [`crate::message::AdmitNode`].
    AdmitNode = 19,
    /// A digest of the partition's state: [`crate::message::StateDigest`].
    StateDigest = 20,
    /// Entries of another cluster's log: [`crate::message::ImportLog`].
    ImportLog = 21,
    /// As [`Self::Submit`], and the answer has a token of each partition that has a part in it:
    /// [`crate::message::SubmitSpanning`].
    SubmitSpanning = 22,
    /// This connection, of a node's, is for somebody else from now on: [`crate::message::ActFor`].
    ActFor = 23,
    /// Names of accounts, by id: [`crate::message::LookupNames`].
    LookupNames = 24,
    /// Accounts by name: [`crate::message::FindNames`].
    FindNames = 25,
    /// What ledgers are called: [`crate::message::ListLedgers`].
    ListLedgers = 26,
    /// Open reservations, all: [`crate::message::ListReservations`].
    ListReservations = 27,
    /// Answer to [`Kind::Hello`].
    HelloReply = 129,
    /// Answer to [`Kind::Submit`]: [`crate::message::SubmitReply`].
    SubmitReply = 130,
    /// Answer to [`Kind::Append`]: a [`crate::message::SubmitReply`] too.
    AppendReply = 131,
    /// Answer to [`Kind::LookupAccounts`].
    LookupAccountsReply = 132,
    /// Answer to [`Kind::ListAccounts`].
    ListAccountsReply = 133,
    /// Answer to [`Kind::LookupTransfers`].
    LookupTransfersReply = 134,
    /// Answer to [`Kind::Status`].
    StatusReply = 135,
    /// Answer to [`Kind::ReadLog`]: a [`crate::message::LogPage`].
    LogPage = 136,
    /// One of the answers to [`Kind::Subscribe`]: a [`crate::message::LogPage`] too.
    Feed = 137,
    /// Answer to [`Kind::Unsubscribe`], and the subscription's last.
    UnsubscribeReply = 139,
    /// Answer to [`Kind::ServerStatus`].
    ServerStatusReply = 140,
    /// Answer to [`Kind::ClusterStatus`].
    ClusterStatusReply = 141,
    /// Answer to [`Kind::TransferLeadership`]: a [`crate::message::AdminReply`].
    TransferLeadershipReply = 142,
    /// Answer to [`Kind::RemoveNode`]: a [`crate::message::AdminReply`] too.
    RemoveNodeReply = 143,
    /// Answer to [`Kind::Leave`]: a [`crate::message::AdminReply`] too.
    LeaveReply = 144,
    /// Answer to [`Kind::ReadEntries`]: a [`crate::message::LogPage`] too.
    EntriesPage = 145,
    /// Answer to [`Kind::LeaveAnyway`]: a [`crate::message::AdminReply`] too.
    LeaveAnywayReply = 146,
    /// Answer to [`Kind::AdmitNode`]: a [`crate::message::AdminReply`] too.
    AdmitNodeReply = 147,
    /// Answer to [`Kind::StateDigest`].
    StateDigestReply = 148,
    /// Answer to [`Kind::ImportLog`].
    ImportLogReply = 149,
    /// Answer to [`Kind::SubmitSpanning`].
    SubmitSpanningReply = 150,
    /// Answer to [`Kind::ActFor`].
    ActForReply = 151,
    /// Answer to [`Kind::LookupNames`].
    LookupNamesReply = 152,
    /// Answer to [`Kind::FindNames`].
    FindNamesReply = 153,
    /// Answer to [`Kind::ListLedgers`].
    ListLedgersReply = 154,
    /// Answer to [`Kind::ListReservations`].
    ListReservationsReply = 155,
    /// Answer to any request that failed: [`crate::message::ErrorReply`].
    Error = 255,
}

impl Kind {
    /// Every kind, in order of number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u16::MAX).filter_map(Self::from_number)
    }

    /// Kind of this number; `None` if this version does not know it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::try_from(number).ok()
    }

    /// The number in the header.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// A batch of events to be decided.
    pub const fn submits(self) -> bool {
        matches!(self, Self::Submit | Self::SubmitSpanning)
    }

    /// Goes from server to client.
    pub const fn is_reply(self) -> bool {
        self.number() & REPLY_BIT != 0
    }

    /// Kind of the answer if all goes well; `None` for replies and for [`Kind::Credit`].
    pub fn reply(self) -> Option<Self> {
        if self.is_reply() { None } else { Self::from_number(self.number() | REPLY_BIT) }
    }

    /// Largest body in bytes.
    pub const fn body_bytes_max(self) -> usize {
        match self {
            Self::LogPage | Self::Feed | Self::EntriesPage | Self::ImportLog => PAGE_BODY_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        }
    }
}
