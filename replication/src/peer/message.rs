//! The messages between replicas, and their bodies.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::about::About;
use super::bytes::Reader;
use super::carried::{self, Carried, Words};
use super::error::{DecodeError, EncodeError};
use super::hello::{Hello, HelloReply};
use super::kind::Kind;
use super::log_page::{LogPage, LogRead};
use super::peer_error::PeerError;
use super::{about, append, election, hello, log_page, peer_error};
use crate::types::Types;

/// A message. There is a variant for each [`Kind`].
#[derive(Clone, Debug)]
pub enum Message {
    /// See [`Kind::Hello`].
    Hello(Hello),
    /// See [`Kind::HelloReply`].
    HelloReply(HelloReply),
    /// See [`Kind::Append`].
    Append(AppendEntriesRequest<Types>),
    /// See [`Kind::AppendReply`].
    AppendReply(StreamAppendResult<Types>),
    /// See [`Kind::Vote`].
    Vote(VoteRequest<Types>),
    /// See [`Kind::VoteReply`].
    VoteReply(VoteResponse<Types>),
    /// See [`Kind::PreVote`].
    PreVote(VoteRequest<Types>),
    /// See [`Kind::PreVoteReply`].
    PreVoteReply(VoteResponse<Types>),
    /// See [`Kind::TransferLeader`].
    TransferLeader(TransferLeaderRequest<Types>),
    /// See [`Kind::TransferLeaderReply`].
    TransferLeaderReply(TransferLeaderResponse<Types>),
    /// See [`Kind::LogRead`].
    LogRead(LogRead),
    /// See [`Kind::LogPage`].
    LogPage(LogPage),
    /// See [`Kind::About`].
    About,
    /// See [`Kind::AboutReply`].
    AboutReply(About),
    /// See [`Kind::Carry`].
    Carry(Carried),
    /// See [`Kind::CarryReply`].
    CarryReply(Words),
    /// See [`Kind::Error`].
    Error(PeerError),
}

impl Message {
    /// Kind of its frame.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::HelloReply(_) => Kind::HelloReply,
            Self::Append(_) => Kind::Append,
            Self::AppendReply(_) => Kind::AppendReply,
            Self::Vote(_) => Kind::Vote,
            Self::VoteReply(_) => Kind::VoteReply,
            Self::PreVote(_) => Kind::PreVote,
            Self::PreVoteReply(_) => Kind::PreVoteReply,
            Self::TransferLeader(_) => Kind::TransferLeader,
            Self::TransferLeaderReply(_) => Kind::TransferLeaderReply,
            Self::LogRead(_) => Kind::LogRead,
            Self::LogPage(_) => Kind::LogPage,
            Self::About => Kind::About,
            Self::AboutReply(_) => Kind::AboutReply,
            Self::Carry(_) => Kind::Carry,
            Self::CarryReply(_) => Kind::CarryReply,
            Self::Error(_) => Kind::Error,
        }
    }

    /// Appends the body. After an error, `out` may hold a part of it.
    ///
    /// # Panics
    /// If a membership is above the limits of [`crate::membership_codec`].
    pub(super) fn put_body(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Hello(message) => hello::put_hello(out, message),
            Self::HelloReply(message) => hello::put_hello_reply(out, *message),
            Self::Append(message) => append::put_append(out, message)?,
            Self::AppendReply(message) => append::put_append_reply(out, message),
            Self::Vote(message) | Self::PreVote(message) => {
                election::put_vote_request(out, message);
            }
            Self::VoteReply(message) | Self::PreVoteReply(message) => {
                election::put_vote_response(out, message);
            }
            Self::TransferLeader(message) => election::put_transfer(out, message),
            Self::TransferLeaderReply(message) => election::put_transfer_reply(out, message),
            Self::LogRead(message) => log_page::put_read(out, *message),
            Self::LogPage(message) => log_page::put_page(out, message)?,
            Self::About => {}
            Self::AboutReply(message) => about::put(out, message)?,
            Self::Carry(message) => carried::put(out, message)?,
            Self::CarryReply(words) => carried::put_words(out, words)?,
            Self::Error(message) => peer_error::put_error(out, message)?,
        }
        Ok(())
    }

    /// Decodes a body whose checksum was verified. A message has exactly one encoding: encoding it
    /// again gives the same bytes.
    pub(super) fn decode(kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let from = &mut reader;
        let message = match kind {
            Kind::Hello => Self::Hello(hello::hello(from)?),
            Kind::HelloReply => Self::HelloReply(hello::hello_reply(from)?),
            Kind::Append => Self::Append(append::append(from)?),
            Kind::AppendReply => Self::AppendReply(append::append_reply(from)?),
            Kind::Vote => Self::Vote(election::vote_request(from)?),
            Kind::VoteReply => Self::VoteReply(election::vote_response(from)?),
            Kind::PreVote => Self::PreVote(election::vote_request(from)?),
            Kind::PreVoteReply => Self::PreVoteReply(election::vote_response(from)?),
            Kind::TransferLeader => Self::TransferLeader(election::transfer(from)?),
            Kind::TransferLeaderReply => Self::TransferLeaderReply(election::transfer_reply(from)?),
            Kind::LogRead => Self::LogRead(log_page::read(from)?),
            Kind::LogPage => Self::LogPage(log_page::page(from)?),
            Kind::About => Self::About,
            Kind::AboutReply => Self::AboutReply(about::read(from)?),
            Kind::Carry => Self::Carry(carried::read(from)?),
            Kind::CarryReply => Self::CarryReply(carried::words(from)?),
            Kind::Error => Self::Error(peer_error::error(from)?),
        };
        reader.end()?;
        Ok(message)
    }
}
