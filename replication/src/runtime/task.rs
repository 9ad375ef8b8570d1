//! Tasks, and handles to wait for their end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft::rt::OneshotSender as _;

use super::current::Within;
use super::oneshot::{self, Receiver, Sender};

/// Completes with the task's output. Dropping it leaves the task running.
pub struct JoinHandle<T> {
    outcome: Receiver<Result<T, JoinError>>,
}

/// Why a task has no output.
///
/// A panic is not caught: it unwinds through the executor and ends the shard or the simulation.
/// Tasks that still wait get this error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The task panicked.
    Panicked,
    /// The executor dropped the task before its end, or took no more tasks.
    Dropped,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Dropped => "the task was dropped before its end",
        })
    }
}

impl std::error::Error for JoinError {}

/// Runs `future` on the entered executor, with that executor entered.
#[track_caller]
pub(super) fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    let (sender, outcome) = oneshot::channel();
    let future = Within::current(future);
    let executor = future.executor();
    executor.spawn(Box::pin(Task { future, sender: Some(sender), polling: false }));
    JoinHandle { outcome }
}

/// Tells the handle how the future ended.
struct Task<F: Future> {
    future: Within<F>,
    sender: Option<Sender<Result<F::Output, JoinError>>>, // none once the outcome was sent
    polling: bool,                                        // stays set if the poll panics
}

impl<F: Future> Unpin for Task<F> {} // the output is moved, never pinned

impl<F: Future> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.polling = true;
        let poll = Pin::new(&mut self.future).poll(context);
        self.polling = false;
        poll.map(|output| {
            if let Some(sender) = self.sender.take() {
                let _ = sender.send(Ok(output)); // the handle may be dropped
            }
        })
    }
}

impl<F: Future> Drop for Task<F> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.future.cut(); // the receiver may rely on the future being gone
            let error = if self.polling { JoinError::Panicked } else { JoinError::Dropped };
            let _ = sender.send(Err(error)); // the handle may be dropped
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| match outcome {
            Ok(outcome) => outcome,
            Err(oneshot::SenderDropped) => Err(JoinError::Dropped),
        })
    }
}
