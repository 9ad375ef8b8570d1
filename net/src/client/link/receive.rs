//! Received bytes: frames, events of requests, and errors that end the connection.

use std::io;
use std::time::Duration;

use crate::client::directory::Lane;
use crate::client::session::{LinkError, Received};
use crate::client::{ClientError, ClusterInfo};
use crate::message::ErrorCode;

use super::redirect::Redirect;
use super::{Event, Hangup, Link, Waiting};

impl<T> Link<T> {
    /// Takes in `bytes` of [`Link::room`]. 0 means that the server has closed the connection.
    pub fn received(&mut self, now: Duration, bytes: usize) -> Result<(), Hangup> {
        if bytes == 0 {
            return Err(self.broken(now, &io::ErrorKind::ConnectionAborted.into()));
        }
        self.buffer.filled(bytes);
        let mut consumed = 0;
        let result = loop {
            match self.next_frame(now, consumed) {
                Ok(0) => break Ok(()),
                Ok(bytes) => consumed += bytes,
                Err(hangup) => break Err(hangup),
            }
        };
        self.buffer.consume(consumed);
        result
    }

    /// Acts on the frame at `start` of the buffer. Returns its length; 0 if it is not whole yet.
    fn next_frame(&mut self, now: Duration, start: usize) -> Result<usize, Hangup> {
        let Self { session, buffer, events, shared, .. } = self;
        let (bytes, received) = match session.receive(now, &buffer.data()[start..]) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(0),
            Err(error) => return Err(self.refused(now, &error)),
        };
        let end = |waiting: Waiting<T>, result| Event::End { context: waiting.context, result };
        match received {
            Received::Ready(hello) => {
                let info = ClusterInfo::from(hello);
                let known = shared.info.get_or_init(|| info.clone());
                if let Err(error) = same_cluster(known, &info) {
                    return Err(self.refused(now, &error));
                }
                let (partition, lane) = (session.partition(), self.lane);
                let mut directory = shared.directory();
                let leads_away = directory.greeted(partition, lane, hello, now);
                session.set_elsewhere(!directory.is_alone(now));
                self.trouble = None;
                shared.set_trouble(partition, lane, None);
                if hello.is_leader == 1 {
                    self.redirect = None;
                } else {
                    Redirect::note(&mut self.redirect, &self.address, &hello.leader);
                }
                if directory.claim_refresh(now) {
                    session.ask_cluster(now);
                }
                drop(directory);
                if leads_away && lane == Lane::Leader && session.inflight() > 0 {
                    self.is_redirected = true;
                    let reason = format!("it says that {} leads", hello.leader);
                    self.trouble = Some(ClientError::no_leader(partition, &self.address, reason));
                    return Err(Hangup);
                }
            }
            Received::Reply { context, frame } => {
                events.push_back(end(context, Ok(frame.body.to_vec())));
            }
            Received::Failed { context, error } => {
                events.push_back(end(context, Err(ClientError::refused(error))));
            }
            Received::Open { context } => {
                let waited = now.saturating_sub(context.since);
                events.push_back(end(context, Err(ClientError::OutcomeUnknown { waited })));
            }
            Received::Feed { request, frame } => {
                events.push_back(Event::Page { request, body: frame.body.to_vec() });
            }
            Received::Cluster(status) => {
                let mut directory = shared.directory();
                directory.learn(status);
                session.set_elsewhere(!directory.is_alone(now));
            }
            Received::Nothing => {}
        }
        Ok(bytes)
    }

    /// A frame or an error from the server ends the connection.
    fn refused(&mut self, now: Duration, error: &LinkError) -> Hangup {
        let partition = self.partition();
        let trouble = ClientError::of_link(&self.address, partition, error);
        let mut directory = self.shared.directory();
        match error {
            LinkError::ComeBack {
                code: Some(ErrorCode::NotLeader | ErrorCode::LeadershipLost),
                leader,
                ..
            } => {
                Redirect::note(&mut self.redirect, &self.address, leader);
                self.is_redirected = directory.not_leader(partition, &self.address, leader, now);
            }
            LinkError::ComeBack { code: Some(ErrorCode::Busy), .. } => {}
            _ => directory.failed(&self.address, now),
        }
        let is_final = error.is_final() && directory.is_alone(now);
        drop(directory);
        self.in_trouble(trouble);
        if is_final {
            self.give_up(now);
        }
        Hangup
    }
}

fn same_cluster(known: &ClusterInfo, found: &ClusterInfo) -> Result<(), LinkError> {
    if (known.cluster, known.partitions) == (found.cluster, found.partitions) {
        return Ok(());
    }
    let message = format!(
        "this is cluster {:032x} with {} partitions, not {:032x} with {}: connect anew",
        found.cluster.0, found.partitions, known.cluster.0, known.partitions
    );
    Err(LinkError::Refused { code: None, message })
}
