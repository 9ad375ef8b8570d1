//! Which right each kind of request takes.

use walengine_net::frame::Kind;

use super::rights::Right;

/// What a request takes. What it touches is judged by its session, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A certificate of the cluster's: who has an identity has one.
    Identity,
    /// Any right at all, or to be a node.
    AnyRight,
    /// This right, in some book if it is about books.
    Right(Right),
    /// To write in all books and ledgers: it touches what belongs to none.
    WriteEverywhere,
    /// It is no request, and is answered so.
    NoRequest,
}

/// What a request of this kind takes. Every kind is named, so that none can be forgotten.
pub fn need(kind: Kind) -> Need {
    match kind {
        // For whom, is judged by the session.
        Kind::Hello | Kind::ActFor => Need::Identity,
        Kind::ServerStatus | Kind::ClusterStatus | Kind::ListLedgers => Need::AnyRight,
        Kind::Submit | Kind::SubmitSpanning => Need::Right(Right::Write),
        Kind::Append => Need::WriteEverywhere,
        Kind::LookupAccounts
        | Kind::ListAccounts
        | Kind::LookupTransfers
        | Kind::LookupNames
        | Kind::FindNames
        | Kind::ListReservations
        | Kind::Status => Need::Right(Right::Read),
        Kind::ReadLog
        | Kind::ReadEntries
        | Kind::Subscribe
        | Kind::Credit
        | Kind::Unsubscribe
        | Kind::StateDigest => Need::Right(Right::ReadLog),
        Kind::TransferLeadership
        | Kind::RemoveNode
        | Kind::Leave
        | Kind::LeaveAnyway
        | Kind::AdmitNode
        | Kind::ImportLog => Need::Right(Right::Admin),
        Kind::HelloReply
        | Kind::ActForReply
        | Kind::SubmitReply
        | Kind::SubmitSpanningReply
        | Kind::AppendReply
        | Kind::LookupAccountsReply
        | Kind::ListAccountsReply
        | Kind::LookupTransfersReply
        | Kind::StatusReply
        | Kind::LookupNamesReply
        | Kind::FindNamesReply
        | Kind::ListLedgersReply
        | Kind::ListReservationsReply
        | Kind::LogPage
        | Kind::Feed
        | Kind::UnsubscribeReply
        | Kind::ServerStatusReply
        | Kind::ClusterStatusReply
        | Kind::TransferLeadershipReply
        | Kind::RemoveNodeReply
        | Kind::LeaveReply
        | Kind::EntriesPage
        | Kind::LeaveAnywayReply
        | Kind::AdmitNodeReply
        | Kind::StateDigestReply
        | Kind::ImportLogReply
        | Kind::Error => Need::NoRequest,
    }
}
