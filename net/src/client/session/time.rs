//! What a session does because time has passed: deadlines, repetitions, and servers that fall silent.

use std::time::Duration;

use super::{Link, Lost, Session};

/// Silence after which the server of a subscription is asked whether it is still there.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// How long the only server that is known may leave that question unanswered. There is nobody else to
/// ask, but its host may have vanished, or a firewall may have forgotten the connection.
const ALONE_STALL: Duration = Duration::from_secs(20);

impl<T> Session<T> {
    /// When the server counts as stalled: it has not answered any request for too long, or not a
    /// question about the cluster.
    pub fn stalled_at(&self) -> Option<Duration> {
        if self.link != Link::Ready {
            return None;
        }
        let question = self.question.map(|(_, asked_at)| asked_at.max(self.heard_at));
        if !self.has_elsewhere {
            // A request may take as long as its caller is patient; the question is answered at once.
            return Some(question? + ALONE_STALL);
        }
        let requests = (self.outs > 0).then_some(self.quiet_since);
        let since = requests.into_iter().chain(question).min()?;
        Some(since + self.config.policy.stall(self.stalls))
    }

    /// Whether the server has stalled. The next consecutive stall takes twice as long.
    pub fn has_stalled(&mut self, now: Duration) -> bool {
        let has_stalled = self.stalled_at().is_some_and(|stalled_at| stalled_at <= now);
        self.stalls = self.stalls.saturating_add(u32::from(has_stalled));
        has_stalled
    }

    /// When to ask a silent server whether it is still there. A log that does not grow is as silent as
    /// a server that is gone, and so is a request that takes long.
    pub fn probe_at(&self) -> Option<Duration> {
        let waits = self.streams > 0 || self.outs > 0 && !self.has_elsewhere;
        let is_quiet = self.link == Link::Ready && self.question.is_none() && waits;
        is_quiet.then_some(self.heard_at + PROBE_AFTER)
    }

    /// The next request whose deadline has passed; call until there is none. Also queues the requests
    /// whose pause after a `Busy` is over.
    pub fn expire(&mut self, now: Duration) -> Option<Lost<T>> {
        if self.wake_at.is_none_or(|wake_at| wake_at > now) {
            return None;
        }
        let passed =
            self.inflight.iter().find(|(_, pending)| pending.deadline <= now).map(|(&id, _)| id);
        if let Some(request) = passed {
            return self.lose(request);
        }
        let mut due: Vec<u64> = Vec::new();
        self.wake_at = None;
        for (&request, pending) in &mut self.inflight {
            if pending.send_at.is_some_and(|send_at| send_at <= now) {
                pending.send_at = None;
                due.push(request);
            }
            let next = pending.send_at.unwrap_or(pending.deadline).min(pending.deadline);
            self.wake_at = Some(self.wake_at.map_or(next, |wake_at| wake_at.min(next)));
        }
        due.sort_unstable();
        self.queue.extend(due);
        None
    }

    /// Gives up the next request in flight; call until there is none.
    pub fn give_up(&mut self) -> Option<Lost<T>> {
        let request = *self.inflight.keys().min()?;
        self.lose(request)
    }

    /// When [`Session::expire`] has something to do.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    pub(super) fn wake_by(&mut self, time: Duration) {
        self.wake_at = Some(self.wake_at.map_or(time, |wake_at| wake_at.min(time)));
    }
}
