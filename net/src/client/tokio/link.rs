//! The task that owns one partition's connection: moves bytes and commands between the socket,
//! the session and those who wait. Ends when the last handle is gone.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use ::tokio::io::Interest;
use ::tokio::net::TcpStream;
use ::tokio::sync::{mpsc, oneshot};
use ::tokio::time::{Instant, sleep_until, timeout};

use crate::client::buffer::ReceiveBuffer;
use crate::client::error::explain;
use crate::client::operation::Answer;
use crate::client::session::{
    LinkError, Lost, NotTaken, Received, RetryPolicy, Session, SessionConfig,
};
use crate::client::{CONNECT_TIMEOUT, ClientError, ClusterInfo, OUT_BYTES_WANTED, jitter_seed};
use crate::frame::{Kind, RequestId};
use crate::model::PartitionId;

use super::Common;

/// What handles ask of a link.
pub(super) enum Command {
    /// Say when the connection is open, or that it can't be.
    Greet(oneshot::Sender<Result<(), ClientError>>),
    /// Send a request.
    Call { kind: Kind, frame: Vec<u8>, deadline: Duration, waiter: Waiter },
    /// Give a subscription more credit.
    Credit { request: RequestId, bytes: u64 },
}

/// Who waits for a request.
pub(super) enum Waiter {
    Once(oneshot::Sender<Result<Answer, ClientError>>),
    /// Bounded by the credit of the subscription.
    Stream(mpsc::UnboundedSender<FeedItem>),
}

/// What a subscription gets.
pub(super) enum FeedItem {
    Page {
        request: RequestId,
        body: Vec<u8>,
    },
    /// The connection is gone: subscribe again.
    Lost,
    Failed(ClientError),
}

/// A waiter and since when it waits.
struct Waiting {
    waiter: Waiter,
    since: Duration,
}

impl Waiting {
    fn fail(self, error: ClientError) {
        // Who no longer waits does not want to know.
        match self.waiter {
            Waiter::Once(sender) => drop(sender.send(Err(error))),
            Waiter::Stream(sender) => drop(sender.send(FeedItem::Failed(error))),
        }
    }
}

/// Why a phase of the connection ended.
enum End {
    /// All handles are gone.
    Closed,
    /// The connection is lost.
    Lost,
}

pub(super) struct Link {
    common: Arc<Common>,
    inbox: mpsc::Receiver<Command>,
    session: Session<Waiting>,
    address: String,
    /// What is wrong with the connection; `None` while it is open.
    trouble: Option<ClientError>,
    greeters: Vec<oneshot::Sender<Result<(), ClientError>>>,
    buffer: ReceiveBuffer,
    out: Vec<u8>,
    out_sent: usize,
}

impl Link {
    pub(super) fn new(
        common: Arc<Common>,
        partition: PartitionId,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let session = Session::new(SessionConfig {
            partition,
            client_name: common.config.client_name.clone(),
            inflight_max: common.config.inflight_max,
            policy: RetryPolicy::default(),
            seed: jitter_seed() ^ u64::from(partition.0),
        });
        let address = common.config.address.clone();
        Self {
            common,
            inbox,
            session,
            address,
            trouble: None,
            greeters: Vec::new(),
            buffer: ReceiveBuffer::default(),
            out: Vec::new(),
            out_sent: 0,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let stream = match self.connect().await {
                Ok(stream) => stream,
                Err(End::Closed) => return,
                Err(End::Lost) => {
                    self.lost();
                    continue;
                }
            };
            match self.converse(&stream).await {
                End::Closed => return,
                End::Lost => self.lost(),
            }
        }
    }

    fn instant(&self, time: Duration) -> Instant {
        // A subscription waits for ever; a day is long enough to look again.
        let day = Duration::from_hours(24);
        self.common.started + time.min(self.common.now() + day)
    }

    /// Waits until it is time, and for the system to connect; takes commands meanwhile.
    async fn connect(&mut self) -> Result<TcpStream, End> {
        // Nobody waits: no connection is needed.
        while self.session.inflight() == 0 && self.greeters.is_empty() {
            let command = self.inbox.recv().await.ok_or(End::Closed)?;
            self.take(command);
        }
        let connect_at = self.instant(self.session.connect_at().unwrap_or_default());
        let address = self.address.clone();
        let attempt = async move {
            sleep_until(connect_at).await;
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address.as_str())).await {
                Ok(result) => result,
                Err(_) => Err(ErrorKind::TimedOut.into()),
            }
        };
        let mut attempt = std::pin::pin!(attempt);
        loop {
            self.expire();
            let wake_at = self.instant(self.session.wake_at().unwrap_or(Duration::MAX));
            ::tokio::select! {
                connected = &mut attempt => {
                    let now = self.common.now();
                    return match connected {
                        Ok(stream) => {
                            // Small frames are sent at once; without it they'd only be slower.
                            let _ = stream.set_nodelay(true);
                            self.session.connected(now, now + CONNECT_TIMEOUT);
                            Ok(stream)
                        }
                        Err(error) => {
                            self.trouble = Some(ClientError::unreachable(&self.address, &error));
                            Err(End::Lost)
                        }
                    };
                }
                command = self.inbox.recv(), if !self.session.is_full() => {
                    self.take(command.ok_or(End::Closed)?);
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Until the connection or the last handle is gone.
    async fn converse(&mut self, stream: &TcpStream) -> End {
        let greeted_by = self.common.now() + CONNECT_TIMEOUT;
        let mut timer = std::pin::pin!(sleep_until(self.common.started));
        loop {
            self.expire();
            while !self.session.is_full() {
                match self.inbox.try_recv() {
                    Ok(command) => self.take(command),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return End::Closed,
                }
            }
            let (Ok(()), Ok(has_received)) = (self.write(stream), self.read(stream)) else {
                return End::Lost;
            };
            if has_received {
                // Those who got their answers may have the next request ready.
                ::tokio::task::yield_now().await;
                continue;
            }
            let mut wake_at = self.session.wake_at().unwrap_or(Duration::MAX);
            if !self.session.is_ready() {
                if self.common.now() >= greeted_by {
                    self.not_greeted();
                    return End::Lost;
                }
                wake_at = wake_at.min(greeted_by);
            }
            let wake_at = self.instant(wake_at);
            if timer.deadline() != wake_at {
                timer.as_mut().reset(wake_at);
            }
            let has_outgoing = self.out_sent < self.out.len();
            let interest = if has_outgoing {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            ::tokio::select! {
                ready = stream.ready(interest) => {
                    if ready.is_err() {
                        return End::Lost;
                    }
                }
                command = self.inbox.recv(), if !self.session.is_full() => match command {
                    Some(command) => self.take(command),
                    None => return End::Closed,
                },
                () = &mut timer => {}
            }
        }
    }

    fn not_greeted(&mut self) {
        let reason = "it took the connection, but did not greet".to_owned();
        self.trouble = Some(ClientError::Unreachable { address: self.address.clone(), reason });
    }

    /// Sends what the socket takes.
    fn write(&mut self, stream: &TcpStream) -> Result<(), ()> {
        loop {
            if self.out_sent == self.out.len() {
                self.out.clear();
                self.out_sent = 0;
                self.session.fill(self.common.now(), &mut self.out, OUT_BYTES_WANTED);
                if self.out.is_empty() {
                    return Ok(());
                }
            }
            match stream.try_write(&self.out[self.out_sent..]) {
                Ok(bytes) => self.out_sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return self.broken(&error),
            }
        }
    }

    /// Takes what the socket has, once; whether it had anything.
    fn read(&mut self, stream: &TcpStream) -> Result<bool, ()> {
        match stream.try_read(self.buffer.room()) {
            Ok(0) => self.broken(&ErrorKind::ConnectionAborted.into()),
            Ok(bytes) => {
                self.buffer.filled(bytes);
                self.dispatch().map_err(|error| {
                    let trouble = ClientError::of_link(&self.address, &error);
                    if error.is_final() {
                        self.give_up(&trouble);
                    }
                    self.trouble = Some(trouble);
                })?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => self.broken(&error),
        }
    }

    fn broken<R>(&mut self, error: &std::io::Error) -> Result<R, ()> {
        self.trouble = Some(ClientError::unreachable(&self.address, error));
        Err(())
    }

    fn dispatch(&mut self) -> Result<(), LinkError> {
        let now = self.common.now();
        let Self { session, buffer, .. } = self;
        let mut consumed = 0;
        let mut greeting = None;
        let result = loop {
            let received = match session.receive(now, &buffer.data()[consumed..]) {
                Ok(Some((bytes, received))) => {
                    consumed += bytes;
                    received
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            match received {
                Received::Ready(hello) => greeting = Some(ClusterInfo::from(hello)),
                Received::Reply { context, frame } => {
                    if let Waiter::Once(sender) = context.waiter {
                        drop(sender.send(Ok(frame.body.to_vec())));
                    }
                }
                Received::Failed { context, error } => context.fail(ClientError::refused(error)),
                Received::Feed { request, frame } => {
                    let page = FeedItem::Page { request, body: frame.body.to_vec() };
                    let gone = match session.context(request).map(|waiting| &waiting.waiter) {
                        Some(Waiter::Stream(sender)) => sender.send(page).is_err(),
                        _ => true,
                    };
                    if gone {
                        session.forget(request);
                    }
                }
                Received::Nothing => {}
            }
        };
        buffer.consume(consumed);
        if let Some(info) = greeting {
            self.greeted(&info)?;
        }
        result
    }

    fn greeted(&mut self, info: &ClusterInfo) -> Result<(), LinkError> {
        let known = self.common.info.get_or_init(|| info.clone());
        if (known.cluster, known.partitions) != (info.cluster, info.partitions) {
            let message = format!(
                "this is cluster {:032x} with {} partitions, not {:032x} with {}: connect anew",
                info.cluster.0, info.partitions, known.cluster.0, known.partitions
            );
            return Err(LinkError::Refused { code: None, message });
        }
        self.trouble = None;
        for greeter in self.greeters.drain(..) {
            drop(greeter.send(Ok(())));
        }
        Ok(())
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Greet(greeter) if self.session.is_ready() => drop(greeter.send(Ok(()))),
            Command::Greet(greeter) => self.greeters.push(greeter),
            Command::Credit { request, bytes } => self.session.credit(request, bytes),
            Command::Call { kind, frame, deadline, waiter } => {
                let waiting = Waiting { waiter, since: self.common.now() };
                let taken = self.session.request_frame(kind, deadline, frame, waiting);
                if let Err((error, waiting)) = taken {
                    waiting.fail(match error {
                        NotTaken::Encode(error) => error.into(),
                        NotTaken::Full => {
                            let reason = error.to_string();
                            ClientError::Deadline { waited: Duration::ZERO, reason }
                        }
                    });
                }
            }
        }
    }

    fn expire(&mut self) {
        let now = self.common.now();
        while let Some(lost) = self.session.expire(now) {
            let trouble = self.trouble.as_ref();
            Self::explain_to(lost, now, trouble);
        }
    }

    fn explain_to(lost: Lost<Waiting>, now: Duration, trouble: Option<&ClientError>) {
        let waited = now.saturating_sub(lost.context.since);
        let error = explain(&lost, waited, trouble);
        lost.context.fail(error);
    }

    /// Another attempt would end the same way.
    fn give_up(&mut self, trouble: &ClientError) {
        let now = self.common.now();
        while let Some(lost) = self.session.give_up() {
            Self::explain_to(lost, now, Some(trouble));
        }
        for greeter in self.greeters.drain(..) {
            drop(greeter.send(Err(trouble.clone())));
        }
    }

    /// The connection is gone. Who has never had one is told at once; later a server may just be
    /// starting again, and calls wait for it until their deadlines.
    fn lost(&mut self) {
        self.buffer.clear();
        self.out.clear();
        self.out_sent = 0;
        for lost in self.session.disconnected(self.common.now()) {
            if let Waiter::Stream(sender) = lost.context.waiter {
                drop(sender.send(FeedItem::Lost));
            }
        }
        match self.session.take_leader() {
            Some(leader) => self.address = leader,
            None => self.address.clone_from(&self.common.config.address),
        }
        if self.common.info.get().is_none()
            && let Some(trouble) = self.trouble.clone()
        {
            self.give_up(&trouble);
        }
    }
}
