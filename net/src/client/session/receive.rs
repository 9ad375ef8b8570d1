//! Received frames, and what they mean for the requests in flight.

use std::time::Duration;

use crate::frame::{self, CONNECTION, Frame, FrameError, Kind, RequestId};
use crate::message::{
    ActForReply, ArchivedClusterStatusReply, ArchivedErrorReply, ArchivedHelloReply,
    ArchivedOutcomeRun, ClusterStatusReply, ErrorCode, ErrorReply, HelloReply, LogPage,
    MessageError, SubmitReply, SubmitSpanningReply, open, open_frame,
};
use crate::model::Verdict;

use super::super::chance::jittered;
use super::{Link, Session, signed};

/// How often a request goes to another node because one can't answer it, before it fails.
const REFUSALS_MAX: u32 = 8;

/// A received frame.
pub enum Received<'a, T> {
    /// The greeting: the connection is open for requests.
    Ready(&'a ArchivedHelloReply<'static>),
    /// A request has ended with its answer.
    Reply {
        /// As passed with the request.
        context: T,
        /// The answer.
        frame: Frame<'a>,
    },
    /// A request has failed. It was repeated before if that could help.
    Failed {
        /// As passed with the request.
        context: T,
        /// Why.
        error: &'a ArchivedErrorReply<'static>,
    },
    /// A write, or a part of it, is forbidden now, and was sent before on a connection that was lost: what
    /// became of it then is not known.
    Open {
        /// As passed with the request.
        context: T,
    },
    /// A page of a subscription, which continues.
    Feed {
        /// The subscription.
        request: RequestId,
        /// The page.
        frame: Frame<'a>,
    },
    /// What the server knows of the cluster.
    Cluster(&'a ArchivedClusterStatusReply<'static>),
    /// Nothing for the owner: a request waits to be repeated, or nobody waits for this answer.
    Nothing,
}

/// Why the connection must be closed. Call [`Session::disconnected`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A frame that is not expected.
    #[error("{0}")]
    OutOfTurn(&'static str),
    /// The server refuses the connection, and would refuse the next one too.
    #[error("{message}")]
    Refused {
        /// Why.
        code: Option<ErrorCode>,
        /// The reason in words.
        message: String,
    },
    /// The server asks to retry, here or at another node.
    #[error("{message}")]
    ComeBack {
        /// Why.
        code: Option<ErrorCode>,
        /// Address of the leader; empty if the server does not name it.
        leader: String,
        /// The reason in words.
        message: String,
    },
}

impl LinkError {
    /// Whether another attempt would end the same way, so that requests in flight should be given
    /// up.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::ComeBack { .. } | Self::Frame(FrameError::Crc { .. }))
    }
}

impl<T> Session<T> {
    /// Takes the frame at the start of `buffer`, if it is whole, and returns its length in bytes.
    /// Call again with the rest. After an error the connection is of no use.
    pub fn receive<'a>(
        &mut self,
        now: Duration,
        buffer: &'a [u8],
    ) -> Result<Option<(usize, Received<'a, T>)>, LinkError> {
        let Some(frame) = frame::peek(buffer)? else { return Ok(None) };
        let bytes = frame.frame_bytes();
        self.heard_at = now;
        let received = if Some(frame.head.request) == self.hello {
            self.greeted(&frame)?
        } else if Some(frame.head.request) == self.acting {
            self.acts(&frame)?
        } else if self.question.is_some_and(|(request, _)| request == frame.head.request) {
            self.told(&frame)?
        } else {
            self.quiet_since = now;
            match frame.kind {
                Kind::Error => self.refused(now, &frame)?,
                Kind::Feed => self.fed(frame)?,
                _ => self.answered(frame)?,
            }
        };
        Ok(Some((bytes, received)))
    }

    fn greeted<'a>(&mut self, frame: &Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        if frame.kind == Kind::Error {
            return Err(self.link_error(open::<ErrorReply>(frame.body)?));
        }
        let hello = open_frame::<HelloReply>(frame)?;
        self.hello = None;
        if self.acting.is_none() {
            self.link = Link::Ready;
        }
        Ok(Received::Ready(hello))
    }

    /// The answer to for whom the connection is. The server closes one that it refuses.
    fn acts<'a>(&mut self, frame: &Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        if frame.kind == Kind::Error {
            return Err(self.link_error(open::<ErrorReply>(frame.body)?));
        }
        open_frame::<ActForReply>(frame)?;
        self.acting = None;
        self.link = Link::Ready;
        Ok(Received::Nothing)
    }

    /// An answer about the cluster. An error is an answer too: the server is there.
    fn told<'a>(&mut self, frame: &Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        self.question = None;
        match frame.kind {
            Kind::Error => Ok(Received::Nothing),
            _ => Ok(Received::Cluster(open_frame::<ClusterStatusReply>(frame)?)),
        }
    }

    /// A refusal of the connection as a whole.
    fn link_error(&mut self, error: &ArchivedErrorReply<'static>) -> LinkError {
        let is_transient = match error.code() {
            Some(
                ErrorCode::Busy
                | ErrorCode::NotLeader
                | ErrorCode::LeadershipLost
                | ErrorCode::ShuttingDown,
            ) => true,
            Some(ErrorCode::Stopped) => self.has_elsewhere,
            _ => false,
        };
        if is_transient {
            self.come_back(error)
        } else {
            LinkError::Refused { code: error.code(), message: error.message.to_string() }
        }
    }

    fn come_back(&mut self, error: &ArchivedErrorReply<'static>) -> LinkError {
        self.last_refusal = error.code();
        LinkError::ComeBack {
            code: error.code(),
            leader: error.leader.to_string(),
            message: error.message.to_string(),
        }
    }

    fn refused<'a>(
        &mut self,
        now: Duration,
        frame: &Frame<'a>,
    ) -> Result<Received<'a, T>, LinkError> {
        let error = open::<ErrorReply>(frame.body)?;
        let request = frame.head.request;
        if request == CONNECTION {
            return Err(self.link_error(error));
        }
        let has_elsewhere = self.has_elsewhere;
        let Some(pending) = self.inflight.get_mut(&request.0) else {
            return Ok(Received::Nothing);
        };
        let is_stream = pending.kind == Kind::Subscribe;
        match error.code() {
            Some(ErrorCode::Busy) => {
                let hint = Duration::from_millis(error.retry_after_millis.to_native().into());
                self.put_off(now, request.0, hint);
                Ok(Received::Nothing)
            }
            // The next connection repeats these.
            Some(ErrorCode::NotLeader) => {
                pending.is_untouched = true;
                Err(self.come_back(error))
            }
            Some(ErrorCode::LeadershipLost | ErrorCode::ShuttingDown) => Err(self.come_back(error)),
            Some(ErrorCode::NotYet) if has_elsewhere => {
                pending.is_untouched = true;
                Err(self.come_back(error))
            }
            Some(code @ (ErrorCode::Stopped | ErrorCode::Corrupt))
                if has_elsewhere && pending.refusals < REFUSALS_MAX && !is_stream =>
            {
                pending.refusals += 1;
                pending.is_untouched = code == ErrorCode::Corrupt;
                Err(self.come_back(error))
            }
            code => {
                let is_write = pending.kind.submits() || pending.kind == Kind::Append;
                let is_forbidden = code == Some(ErrorCode::Forbidden);
                let is_open = is_forbidden && is_write && pending.was_lost;
                match self.finish(request.0) {
                    Some(context) if is_open => Ok(Received::Open { context }),
                    Some(context) => Ok(Received::Failed { context, error }),
                    None => Ok(Received::Nothing),
                }
            }
        }
    }

    fn put_off(&mut self, now: Duration, request: u64, hint: Duration) {
        let random = self.chance.next();
        let Some(pending) = self.inflight.get_mut(&request) else { return };
        if !pending.is_out {
            return; // a second refusal of the same sending
        }
        pending.is_out = false;
        let kind = pending.kind;
        let pause = if hint.is_zero() {
            self.config.policy.pause(pending.attempts, random)
        } else {
            hint + jittered(hint, random) / 2
        };
        pending.attempts = pending.attempts.saturating_add(1);
        pending.send_at = Some(now + pause);
        self.came_in(kind, true);
        self.last_refusal = Some(ErrorCode::Busy);
        self.wake_by(now + pause);
    }

    fn fed<'a>(&mut self, frame: Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        let request = frame.head.request;
        let Some(pending) = self.inflight.get_mut(&request.0) else {
            return Ok(Received::Nothing); // forgotten while it was on its way
        };
        if pending.kind != Kind::Subscribe {
            return Err(LinkError::OutOfTurn("a page of a subscription answers another request"));
        }
        let bytes = signed(open::<LogPage>(frame.body)?.entries.len() as u64);
        if pending.credit_bytes <= 0 && bytes > 0 {
            return Err(LinkError::OutOfTurn("a subscription was sent more than its credit"));
        }
        pending.credit_bytes = pending.credit_bytes.saturating_sub(bytes);
        (self.attempts, self.stalls) = (0, 0);
        Ok(Received::Feed { request, frame })
    }

    fn answered<'a>(&mut self, frame: Frame<'a>) -> Result<Received<'a, T>, LinkError> {
        let request = frame.head.request;
        let Some(pending) = self.inflight.get(&request.0) else {
            return Ok(Received::Nothing); // late, or a second answer
        };
        let was_sent = pending.is_out || pending.was_lost || pending.attempts > 0;
        if pending.kind.reply() != Some(frame.kind) || !was_sent {
            return Err(LinkError::OutOfTurn("the answer is not one to this kind of request"));
        }
        let is_open = pending.kind.submits() && pending.was_lost && forbids(&frame)?;
        // Only now: a server that greets and then turns away must not be asked without pause.
        (self.attempts, self.stalls) = (0, 0);
        match self.finish(request.0) {
            Some(context) if is_open => Ok(Received::Open { context }),
            Some(context) => Ok(Received::Reply { context, frame }),
            None => Ok(Received::Nothing),
        }
    }
}

/// Some of a batch is forbidden.
fn forbids(reply: &Frame<'_>) -> Result<bool, MessageError> {
    let has = |runs: &[ArchivedOutcomeRun]| {
        runs.iter().any(|run| run.verdict == Verdict::Forbidden.number())
    };
    Ok(match reply.kind {
        Kind::SubmitSpanningReply => has(&open::<SubmitSpanningReply<'_>>(reply.body)?.runs),
        _ => has(&open::<SubmitReply<'_>>(reply.body)?.runs),
    })
}
