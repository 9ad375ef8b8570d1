//! The trail of orders: who had what done to this node, in `audit.jsonl` of its data directory. For
//! whoever has to find out later. Nothing reads it back.
//!
//! ```text
//!  order ─ line "ordered" ─ fsync ─ carried out ─ answered ─ line with the outcome ─ fsync
//!             └ fails: the order is refused, and nothing was done
//! ```
//!
//! - A line is a JSON object: time, id (the same in both lines of an order), order, arguments, identity and
//!   address of who gave it, outcome, and a message if there is one. Control characters in it are escaped.
//! - An order without a second line was cut short by the end of the process.
//! - After one fsync that failed nobody knows what is on the disk: this process writes no further line, and
//!   refuses every order until it is started again. A write that failed is taken back, and the next
//!   order tries anew.
//! - At [`AUDIT_BYTES_MAX`](crate::limits::AUDIT_BYTES_MAX) the file is renamed to
//!   `audit-TIMESTAMP.jsonl` and a new one begun. The program never removes one: that is for people.
//!
//! A server writes it on a thread of its own, so that a shard never waits for the disk; a command that
//! works on a directory by itself writes it in place.

mod book;
mod line;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::or;

use crate::caller::Caller;
use crate::fatal::{Fatal, Reason};
use crate::limits::{AUDIT_QUEUE_MAX, AUDIT_WITHIN};
use crate::runtime::Runtime;
use book::Book;
pub use book::{NAME, Store, Untraced, is_name};
pub use line::Order;

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It is being carried out in the background.
    Started,
    /// There was nothing to do.
    Unchanged,
    /// It was not carried out.
    Refused,
    /// It was carried out in part, or nobody knows.
    Unfinished,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Started => "started",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Unfinished => "unfinished",
        }
    }
}

/// See the module. Clones write the same trail.
#[derive(Clone, Default)]
pub struct Audit(Way);

#[derive(Clone, Default)]
enum Way {
    /// Nothing is written: a simulated node has no directory.
    #[default]
    Nowhere,
    Here(Arc<Mutex<Book>>),
    Thread(flume::Sender<Job>),
}

enum Job {
    Write(String, Option<flume::Sender<Result<(), Untraced>>>),
    Stop,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Nowhere => "Audit(nowhere)",
            Way::Here(_) => "Audit(here)",
            Way::Thread(_) => "Audit(thread)",
        })
    }
}

/// The thread that writes a server's trail.
pub struct AuditThread {
    jobs: flume::Sender<Job>,
    thread: JoinHandle<()>,
}

impl AuditThread {
    /// What others tell it by.
    pub fn audit(&self) -> Audit {
        Audit(Way::Thread(self.jobs.clone()))
    }

    /// Ends it once what was told before is written.
    pub fn stop(self) {
        // A thread that has ended has written what it could.
        let _ = self.jobs.send_timeout(Job::Stop, AUDIT_WITHIN);
        let since = std::time::Instant::now();
        while !self.thread.is_finished() && since.elapsed() < AUDIT_WITHIN {
            std::thread::sleep(Duration::from_millis(1)); // a disk that is stuck holds nothing up for ever
        }
    }
}

impl Audit {
    /// Opens the trail of a data directory, and writes in place.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(data: &Path) -> Result<Self, Fatal> {
        Ok(Self(Way::Here(Arc::new(Mutex::new(open(data)?)))))
    }

    /// A trail that goes to `store`, written in place.
    pub fn to(store: Box<dyn Store>) -> Self {
        Self(Way::Here(Arc::new(Mutex::new(Book::new(store)))))
    }

    /// Opens the trail of a data directory, and writes it on a thread.
    ///
    /// # Errors
    /// The file system's.
    pub fn start(data: &Path) -> Result<AuditThread, Fatal> {
        let mut book = open(data)?;
        let (jobs, told) = flume::bounded(AUDIT_QUEUE_MAX);
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            while let Ok(Job::Write(line, done)) = told.recv() {
                let written = book.write(&line);
                match done {
                    Some(done) => drop(done.send(written)), // whoever asked may have given up
                    None => tell_lost(&line, &written),
                }
            }
        });
        let thread = thread.map_err(|error| {
            Fatal::new(Reason::Preflight, format!("cannot start a thread: {error}"))
        })?;
        Ok(AuditThread { jobs, thread })
    }

    /// Writes down an order, before it is carried out.
    ///
    /// # Errors
    /// It is not written down: it must not be carried out.
    pub async fn begin<R: Runtime>(
        &self,
        runtime: &R,
        caller: &Caller,
        order: Order,
    ) -> Result<Begun, Untraced> {
        let (begun, line) = self.begun(caller, order);
        let written = match self.hand_over(line) {
            Ok(None) => Ok(()),
            Ok(Some(written)) => {
                let answered =
                    async { written.recv_async().await.unwrap_or_else(|_| Err(ended())) };
                let late = async {
                    runtime.sleep(AUDIT_WITHIN).await;
                    Err(late())
                };
                or(answered, late).await
            }
            Err(untraced) => Err(untraced),
        };
        begun.if_written(written)
    }

    /// As [`Self::begin`], for a thread that may wait.
    ///
    /// # Errors
    /// As there.
    pub fn begin_waiting(&self, caller: &Caller, order: Order) -> Result<Begun, Untraced> {
        let (begun, line) = self.begun(caller, order);
        let written = self.wait(line);
        begun.if_written(written)
    }

    /// Writes down in one line what has happened without an order on a connection, such as a file that was
    /// read again. Waits for the disk: not for a shard's thread.
    ///
    /// # Errors
    /// It is not written down. What can still be left undone has to be.
    pub fn note(&self, order: &Order, outcome: Outcome, message: &str) -> Result<(), Untraced> {
        self.wait(line::line(&line::id(), order, &Caller::default(), outcome.name(), message))
    }

    fn begun(&self, caller: &Caller, order: Order) -> (Begun, String) {
        let id = line::id();
        let line = line::line(&id, &order, caller, "ordered", "");
        (Begun { audit: self.clone(), id, order, caller: caller.clone(), has_ended: false }, line)
    }

    fn wait(&self, line: String) -> Result<(), Untraced> {
        let Some(written) = self.hand_over(line)? else { return Ok(()) };
        match written.recv_timeout(AUDIT_WITHIN) {
            Ok(written) => written,
            Err(flume::RecvTimeoutError::Timeout) => Err(late()),
            Err(flume::RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// What tells whether the line is written; `None` if it is already.
    fn hand_over(
        &self,
        line: String,
    ) -> Result<Option<flume::Receiver<Result<(), Untraced>>>, Untraced> {
        match &self.0 {
            Way::Nowhere => Ok(None),
            Way::Here(book) => {
                book.lock().unwrap_or_else(PoisonError::into_inner).write(&line)?;
                Ok(None)
            }
            Way::Thread(jobs) => {
                let (done, written) = flume::bounded(1);
                let job = Job::Write(line, Some(done));
                jobs.try_send(job).map_err(|error| untaken(&error))?;
                Ok(Some(written))
            }
        }
    }

    /// Writes a line without waiting for it.
    fn put(&self, line: String) {
        match &self.0 {
            Way::Nowhere => {}
            Way::Here(book) => {
                let written = book.lock().unwrap_or_else(PoisonError::into_inner).write(&line);
                tell_lost(&line, &written);
            }
            Way::Thread(jobs) => {
                let Err(error) = jobs.try_send(Job::Write(line, None)) else { return };
                let why = untaken(&error);
                if let Job::Write(line, _) = error.into_inner() {
                    tell_lost(&line, &Err(why));
                }
            }
        }
    }
}

fn open(data: &Path) -> Result<Book, Fatal> {
    Book::open(data).map_err(|error| {
        let path = data.join(NAME);
        let message = format!("cannot write the trail of orders {}: {error}", path.display());
        Fatal::new(Reason::Disk, message)
    })
}

/// Why the thread has not been given a line.
fn untaken(error: &flume::TrySendError<Job>) -> Untraced {
    match error {
        flume::TrySendError::Full(_) => {
            Untraced("too many orders at once: ask again in a moment".to_owned())
        }
        flume::TrySendError::Disconnected(_) => ended(),
    }
}

fn ended() -> Untraced {
    Untraced("the server is stopping".to_owned())
}

fn late() -> Untraced {
    let seconds = AUDIT_WITHIN.as_secs();
    Untraced(format!("the disk has not taken the line within {seconds} s: look at the disk"))
}

/// The outcome of an order that can't be written is at least in the log.
fn tell_lost(line: &str, written: &Result<(), Untraced>) {
    if let Err(why) = written {
        tracing::error!("a line of the trail of orders is lost, {}: {why}", line.trim_end());
    }
}

/// An order that is written down and may be carried out. If it is dropped, it ends as
/// [`Outcome::Unfinished`].
#[derive(Debug)]
pub struct Begun {
    audit: Audit,
    id: String,
    order: Order,
    caller: Caller,
    has_ended: bool,
}

impl Begun {
    /// Writes down what became of it. Does not wait.
    pub fn end(mut self, outcome: Outcome, message: &str) {
        self.put(outcome, message);
    }

    fn if_written(mut self, written: Result<(), Untraced>) -> Result<Self, Untraced> {
        let Err(untraced) = written else { return Ok(self) };
        if untraced == late() {
            self.put(Outcome::Refused, &untraced.to_string()); // its first line may be there yet
        }
        self.has_ended = true;
        Err(untraced)
    }

    fn put(&mut self, outcome: Outcome, message: &str) {
        self.has_ended = true;
        let Self { audit, id, order, caller, .. } = self;
        audit.put(line::line(id, order, caller, outcome.name(), message));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.has_ended {
            self.put(Outcome::Unfinished, "");
        }
    }
}

#[cfg(test)]
mod tests;
