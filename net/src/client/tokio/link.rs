//! The task of one connection. Moves bytes and commands between the socket, the [`Link`] and the
//! callers that wait. Ends with the last handle.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ::tokio::io::Interest;
use ::tokio::net::TcpStream;
use ::tokio::sync::{mpsc, oneshot};
use ::tokio::time::{Instant, sleep_until, timeout};

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};

use crate::client::ClientError;
use crate::client::directory::Lane;
use crate::client::link::{Event, Hangup, Link};
use crate::client::operation::Answer;
use crate::frame::{Kind, RequestId};
use crate::model::PartitionId;
use crate::tls::{Expected, Stream, Tls};

use super::Common;

/// Silence on an idle connection after which the other host is asked whether it is there.
const IDLE_PROBE_AFTER: Duration = Duration::from_secs(15);
/// How often it is asked.
const IDLE_PROBE_EVERY: Duration = Duration::from_secs(5);
/// After so many questions without an answer the connection is lost.
const IDLE_PROBES: u32 = 3;
/// How long the other host may take nothing of what is sent.
const UNTAKEN_MAX: Duration = Duration::from_secs(30);

/// What handles ask of a link.
pub(super) enum Command {
    /// Report when the connection is open, or why it is not open by the deadline.
    Greet { deadline: Duration, waiter: oneshot::Sender<Result<(), ClientError>> },
    /// Send a request.
    Call { kind: Kind, frame: Vec<u8>, deadline: Duration, waiter: Waiter },
    /// Give a subscription more credit.
    Credit { request: RequestId, bytes: u64 },
    /// End the subscriptions whose receiver is closed.
    Unsubscribe,
}

/// The caller that waits for a request.
pub(super) enum Waiter {
    Once(oneshot::Sender<Result<Answer, ClientError>>),
    /// Bounded by the credit of the subscription.
    Stream(mpsc::UnboundedSender<FeedItem>),
}

/// News for a subscription.
pub(super) enum FeedItem {
    Page {
        request: RequestId,
        body: Vec<u8>,
    },
    /// The connection is lost: subscribe again.
    Lost,
    Failed(ClientError),
}

/// Why a phase of the connection ended.
enum End {
    /// The last handle was dropped.
    Closed,
    /// The connection is lost.
    Lost,
}

impl From<Hangup> for End {
    fn from(_: Hangup) -> Self {
        Self::Lost
    }
}

/// Lets the system notice a host that has vanished while nothing is being said, and one that takes
/// nothing of what is sent. If it can't, only later calls are slower.
fn keep_alive(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(IDLE_PROBE_AFTER);
    let keepalive = keepalive.with_interval(IDLE_PROBE_EVERY).with_retries(IDLE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNTAKEN_MAX));
}

/// A tokio socket as one that would block.
struct Trying(TcpStream);

impl Read for Trying {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Trying {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An open connection.
type Wire = Stream<Trying>;

/// Connects, and makes sure who answers.
async fn open(address: &str, partition: PartitionId, tls: Option<&Tls>) -> io::Result<Wire> {
    let stream = TcpStream::connect(address).await?;
    // Sends small frames at once. If it fails they are only slower.
    let _ = stream.set_nodelay(true);
    keep_alive(&stream);
    let mut socket = Trying(stream);
    let Some(tls) = tls else { return Ok(Stream::plain(socket)) };
    let _ = tls.reload(); // what can't be read is not used; the old files may do
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let host = ServerName::try_from(host).map_err(io::Error::other)?;
    let mut secured = tls.current().connect(Expected::node_at(None, host), partition)?;
    loop {
        match secured.handshake(&mut socket) {
            Ok(()) => return Ok(Stream::secured(socket, secured)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        socket.0.ready(interest(!secured.is_flushed())).await?;
    }
}

fn interest(is_writing: bool) -> Interest {
    if is_writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

pub(super) struct LinkTask {
    common: Arc<Common>,
    inbox: mpsc::Receiver<Command>,
    link: Link<Waiter>,
    /// Callers that wait for the connection to open, each with its deadline.
    greeters: Vec<(Duration, oneshot::Sender<Result<(), ClientError>>)>,
    /// Subscriptions that have been taken; some may have ended.
    streams: Vec<RequestId>,
}

impl LinkTask {
    pub(super) fn new(
        common: Arc<Common>,
        partition: PartitionId,
        lane: Lane,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let link = Link::new(common.shared.clone(), partition, lane);
        Self { common, inbox, link, greeters: Vec::new(), streams: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let end = match self.connect().await {
                Ok(mut wire) => self.converse(&mut wire).await,
                Err(end) => end,
            };
            match end {
                End::Closed => return,
                End::Lost => self.link.lost(self.common.now()),
            }
            self.tell();
        }
    }

    /// When to look at deadlines and silence again.
    fn wake_at(&self) -> Instant {
        let greet_by = self.greeters.iter().map(|&(deadline, _)| deadline);
        self.instant(greet_by.chain(self.link.wake_at()).min().unwrap_or(Duration::MAX))
    }

    fn instant(&self, time: Duration) -> Instant {
        // A subscription waits for ever. Once a day is often enough to wake up for it.
        let day = Duration::from_hours(24);
        self.common.started + time.min(self.common.now() + day)
    }

    /// Waits until it is time to connect, and for the connection. Takes commands meanwhile.
    async fn connect(&mut self) -> Result<Wire, End> {
        // Nobody waits: no connection is needed.
        while self.link.inflight() == 0 && self.greeters.is_empty() {
            let command = self.inbox.recv().await.ok_or(End::Closed)?;
            self.take(command)?;
        }
        let connect_at = self.instant(self.link.connect_at().unwrap_or_default());
        self.meanwhile(sleep_until(connect_at)).await?;
        let Some((address, wait)) = self.link.attempt(self.common.now()) else {
            return Err(End::Lost);
        };
        let (partition, common) = (self.link.partition(), self.common.clone());
        let attempt = async move {
            let tls = common.shared.config.tls.as_deref();
            match timeout(wait, open(address.as_str(), partition, tls)).await {
                Ok(result) => result,
                Err(_) => Err(ErrorKind::TimedOut.into()),
            }
        };
        match self.meanwhile(attempt).await? {
            Ok(wire) => {
                self.link.connected(self.common.now());
                Ok(wire)
            }
            Err(error) => Err(self.link.broken(self.common.now(), &error).into()),
        }
    }

    /// Waits for something while there is no connection. Takes commands, and ends requests past
    /// their deadline.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Result<F::Output, End> {
        let mut future = std::pin::pin!(future);
        loop {
            self.check()?;
            let wake_at = self.wake_at();
            ::tokio::select! {
                output = &mut future => return Ok(output),
                command = self.inbox.recv(), if !self.link.is_full() => {
                    self.take(command.ok_or(End::Closed)?)?;
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Runs until the connection is lost or the last handle is dropped.
    async fn converse(&mut self, wire: &mut Wire) -> End {
        match self.exchange(wire).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn exchange(&mut self, wire: &mut Wire) -> Result<Infallible, End> {
        let mut timer = std::pin::pin!(sleep_until(self.common.started));
        loop {
            while !self.link.is_full() {
                match self.inbox.try_recv() {
                    Ok(command) => self.take(command)?,
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return Err(End::Closed),
                }
            }
            let is_out = self.write(wire)?;
            let has_received = self.read(wire)?;
            // Only now: bytes that arrived while this task did not run must not count as silence.
            self.check()?;
            if has_received {
                // Callers that got their answers may send their next requests.
                ::tokio::task::yield_now().await;
                continue;
            }
            if self.link.has_queued() {
                continue; // the check has put something in: a repetition, or a question
            }
            let wake_at = self.wake_at();
            if timer.deadline() != wake_at {
                timer.as_mut().reset(wake_at);
            }
            let interest = interest(self.link.has_outgoing() || !is_out);
            ::tokio::select! {
                ready = wire.socket().0.ready(interest) => {
                    if let Err(error) = ready {
                        return Err(self.link.broken(self.common.now(), &error).into());
                    }
                }
                command = self.inbox.recv(), if !self.link.is_full() => {
                    self.take(command.ok_or(End::Closed)?)?;
                }
                () = &mut timer => {}
            }
        }
    }

    /// Sends as much as the socket accepts. Whether that was everything.
    fn write(&mut self, wire: &mut Wire) -> Result<bool, End> {
        let now = self.common.now();
        loop {
            let bytes = self.link.outgoing(now);
            if bytes.is_empty() {
                break;
            }
            match wire.write(bytes) {
                Ok(bytes) => self.link.sent(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(self.link.broken(now, &error).into()),
            }
        }
        match wire.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.link.broken(now, &error).into()),
        }
    }

    /// Reads from the socket once. Returns whether there was anything.
    fn read(&mut self, wire: &mut Wire) -> Result<bool, End> {
        let now = self.common.now();
        match wire.read(self.link.room()) {
            Ok(bytes) => {
                let received = self.link.received(now, bytes);
                self.tell();
                Ok(received.map(|()| true)?)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.link.broken(now, &error).into()),
        }
    }

    fn check(&mut self) -> Result<(), End> {
        let checked = self.link.check(self.common.now());
        self.tell();
        Ok(checked?)
    }

    fn take(&mut self, command: Command) -> Result<(), End> {
        let now = self.common.now();
        let refreshed = self.link.refresh(now);
        match command {
            Command::Greet { deadline, waiter } => self.greeters.push((deadline, waiter)),
            Command::Unsubscribe => self.unsubscribe(),
            Command::Credit { request, bytes } => self.link.credit(request, bytes),
            Command::Call { kind, frame, deadline, waiter } => {
                let request = self.link.take(now, kind, frame, deadline, waiter);
                self.streams.extend(request.filter(|_| kind == Kind::Subscribe));
            }
        }
        self.tell();
        Ok(refreshed?)
    }

    /// Ends the subscriptions whose receiver is closed.
    fn unsubscribe(&mut self) {
        let Self { link, streams, .. } = self;
        streams.retain(|&request| match link.context(request) {
            Some(Waiter::Stream(sender)) if sender.is_closed() => {
                link.forget(request);
                false
            }
            context => context.is_some(),
        });
    }

    /// Tells the callers what has happened; one that has stopped waiting is not told.
    fn tell(&mut self) {
        while let Some(event) = self.link.next_event() {
            match event {
                Event::End { context: Waiter::Once(sender), result } => drop(sender.send(result)),
                Event::End { context: Waiter::Stream(sender), result: Err(error) } => {
                    drop(sender.send(FeedItem::Failed(error)));
                }
                Event::End { context: Waiter::Stream(_), result: Ok(_) }
                | Event::StreamLost { context: Waiter::Once(_) } => {}
                Event::StreamLost { context: Waiter::Stream(sender) } => {
                    drop(sender.send(FeedItem::Lost));
                }
                Event::Page { request, body } => {
                    let page = FeedItem::Page { request, body };
                    let gone = match self.link.context(request) {
                        Some(Waiter::Stream(sender)) => sender.send(page).is_err(),
                        _ => true,
                    };
                    if gone {
                        self.link.forget(request);
                    }
                }
            }
        }
        self.tell_greeters();
    }

    fn tell_greeters(&mut self) {
        let (now, link) = (self.common.now(), &self.link);
        for (deadline, waiter) in std::mem::take(&mut self.greeters) {
            let greeting = match link.trouble() {
                _ if link.is_ready() => Ok(()),
                Some(trouble) if link.has_given_up() || deadline <= now => Err(trouble.clone()),
                None if deadline <= now => Err(link.not_greeted()),
                _ => {
                    self.greeters.push((deadline, waiter));
                    continue;
                }
            };
            drop(waiter.send(greeting));
        }
    }
}
