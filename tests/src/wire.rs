//! One connection, byte by byte: sends what it is told to, well-formed or not, and never repeats.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use walengine_net::frame::{self, FrameHead, Kind, RequestId};
use walengine_net::message::{ErrorCode, ErrorReply, Hello, Message, open};
use walengine_net::model::PartitionId;
use walengine_net::tls::{Expected, Stream, Tls};

/// How long a reader waits for anything.
const PATIENCE: Duration = Duration::from_secs(45);

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What it is.
    pub kind: Kind,
    /// To which request.
    pub request: RequestId,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The code, if it is an error.
    ///
    /// # Panics
    /// If the body is not what its kind says.
    pub fn error(&self) -> Option<ErrorCode> {
        (self.kind == Kind::Error).then(|| {
            let reply = open::<ErrorReply<'_>>(&self.body).unwrap();
            reply.code().expect("the server is of our version")
        })
    }

    /// The body as message `M`.
    ///
    /// # Panics
    /// If it is not one; the message says what came instead.
    pub fn open<M: Message>(&self) -> &M::View {
        assert_eq!(self.error(), None, "an answer");
        open::<M>(&self.body).unwrap()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: Stream<TcpStream>,
    partition: PartitionId,
    received: Vec<u8>,
    last_request: u64,
}

impl Wire {
    /// A connection on which nothing was sent.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(address: SocketAddr, partition: u16) -> io::Result<Self> {
        Self::on(TcpStream::connect(address)?, partition)
    }

    /// As [`Self::greeted`], over a socket that is connected.
    ///
    /// # Errors
    /// The connection was lost.
    pub fn over(stream: TcpStream, partition: u16) -> io::Result<Self> {
        let mut wire = Self::on(stream, partition)?;
        wire.greet()?;
        Ok(wire)
    }

    fn on(stream: TcpStream, partition: u16) -> io::Result<Self> {
        let stream = waiting(stream, PATIENCE)?;
        Ok(Self::of(Stream::plain(stream), PartitionId(partition)))
    }

    /// As [`Self::greeted`], with TLS.
    ///
    /// # Errors
    /// Nobody listens, either side does not believe the other, or the connection was lost.
    pub fn secured(address: SocketAddr, partition: u16, tls: &Tls) -> io::Result<Self> {
        Self::greeted_within(address, partition, Some(tls), PATIENCE)
    }

    /// A connection that has been greeted.
    ///
    /// # Errors
    /// Nobody listens, or the connection was lost.
    pub fn greeted(address: SocketAddr, partition: u16) -> io::Result<Self> {
        Self::greeted_within(address, partition, None, PATIENCE)
    }

    /// As [`Self::greeted`] or [`Self::secured`], where nobody may be in: each step may take as long as
    /// `within`, later ones too.
    ///
    /// # Errors
    /// As there, or nobody answers in time.
    pub fn greeted_within(
        address: SocketAddr,
        partition: u16,
        tls: Option<&Tls>,
        within: Duration,
    ) -> io::Result<Self> {
        let mut socket = waiting(TcpStream::connect_timeout(&address, within)?, within)?;
        let partition = PartitionId(partition);
        let stream = match tls {
            None => Stream::plain(socket),
            Some(tls) => {
                let mut secured = tls.current().connect(Expected::NODE, partition)?;
                secured.handshake(&mut socket)?;
                Stream::secured(socket, secured)
            }
        };
        let mut wire = Self::of(stream, partition);
        wire.greet()?;
        Ok(wire)
    }

    /// From now on each read and each write may take this long.
    ///
    /// # Errors
    /// The socket does not take it.
    pub fn wait_at_most(&mut self, within: Duration) -> io::Result<()> {
        self.stream().set_read_timeout(Some(within))?;
        self.stream().set_write_timeout(Some(within))
    }

    fn of(stream: Stream<TcpStream>, partition: PartitionId) -> Self {
        Self { stream, partition, received: Vec::new(), last_request: 0 }
    }

    fn greet(&mut self) -> io::Result<()> {
        let hello = Hello { partition: self.partition.0, client_name: "tests" };
        let reply = self.call(&hello)?;
        match reply.kind {
            Kind::HelloReply => Ok(()),
            kind => Err(io::Error::other(format!("{kind:?} {:?}", reply.error()))),
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// The frame of a message, under the next request id.
    ///
    /// # Panics
    /// If the message is too large.
    pub fn frame<M: Message>(&mut self, message: &M) -> Vec<u8> {
        self.last_request += 1;
        let head = FrameHead::reply(self.partition, RequestId(self.last_request));
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, head, message).unwrap();
        bytes
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection was lost.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection was lost.
    pub fn send<M: Message>(&mut self, message: &M) -> io::Result<RequestId> {
        let bytes = self.frame(message);
        self.send_bytes(&bytes)?;
        Ok(RequestId(self.last_request))
    }

    /// Sends a message under the id of an earlier one.
    ///
    /// # Errors
    /// The connection was lost.
    ///
    /// # Panics
    /// If the message is too large.
    pub fn send_as<M: Message>(&mut self, request: RequestId, message: &M) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, FrameHead::reply(self.partition, request), message).unwrap();
        self.send_bytes(&bytes)
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// The connection was lost, or nothing came.
    ///
    /// # Panics
    /// If what came is not a frame: that is never the network's fault here.
    pub fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(found) = frame::peek(&self.received).unwrap() {
                let bytes = found.frame_bytes();
                let (kind, request) = (found.kind, found.head.request);
                let reply = Reply { kind, request, body: found.body.to_vec() };
                self.received.drain(..bytes);
                return Ok(reply);
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.received.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// The connection was lost.
    pub fn call<M: Message>(&mut self, message: &M) -> io::Result<Reply> {
        self.send(message)?;
        self.receive()
    }

    /// Waits until the server closes, and gives the frames that came before.
    ///
    /// # Panics
    /// If it does not close.
    pub fn until_closed(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            match self.receive() {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    let waited =
                        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!waited, "the server neither answers nor closes");
                    return replies;
                }
            }
        }
    }
}

/// A socket on which each read and each write may take this long.
fn waiting(socket: TcpStream, within: Duration) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(within))?;
    socket.set_write_timeout(Some(within))?;
    Ok(socket)
}
