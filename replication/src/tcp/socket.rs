//! A connected socket, with TLS or without, on the executor of this thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{AcceptedTcpStream, TcpStream};
use walengine_net::tls::{Credentials, Proven, Refusal, Secured, Tls};

/// See the module.
pub struct Socket {
    stream: TcpStream,
    secured: Option<Box<Secured>>,
}

/// A socket on no executor, to be moved to another thread.
pub struct MovingSocket {
    stream: AcceptedTcpStream,
    secured: Option<Box<Secured>>,
}

impl MovingSocket {
    /// Where the other end is.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Puts it on the executor of this thread.
    pub fn arrive(self) -> Socket {
        Socket { stream: self.stream.bind_to_executor(), secured: self.secured }
    }
}

impl From<TcpStream> for Socket {
    /// Without TLS.
    fn from(stream: TcpStream) -> Self {
        Self { stream, secured: None }
    }
}

impl Socket {
    /// Shakes hands, and gives the socket as it is from then on.
    ///
    /// # Errors
    /// As of [`Secured::handshake`].
    pub async fn secure(mut stream: TcpStream, mut secured: Secured) -> io::Result<Self> {
        poll_fn(|context| polled(secured.handshake(&mut Polling { stream: &mut stream, context })))
            .await?;
        Ok(Self { stream, secured: Some(Box::new(secured)) })
    }

    /// What the other end has shown in the handshake, which was made with these credentials.
    ///
    /// # Errors
    /// As of [`Tls::proven`]; there was no handshake.
    pub fn proven(&self, tls: &Arc<Tls>, by: &Credentials) -> Result<Proven, Refusal> {
        tls.proven(by, self.secured.as_deref().ok_or(Refusal::Missing)?)
    }

    /// The other end.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Takes it off this executor. Nothing may be being read or written.
    pub fn depart(self) -> MovingSocket {
        MovingSocket { stream: self.stream.into_accepted(), secured: self.secured }
    }

    /// Its two halves.
    pub fn split(self) -> (SocketReader, SocketWriter) {
        let socket = Rc::new(RefCell::new(self));
        (SocketReader(socket.clone()), SocketWriter(socket))
    }
}

/// The reading half of a socket.
pub struct SocketReader(Rc<RefCell<Socket>>);

/// The writing half of a socket.
pub struct SocketWriter(Rc<RefCell<Socket>>);

impl SocketReader {
    /// The whole socket, once the other half has been dropped; `None` before.
    pub fn whole(self) -> Option<Socket> {
        Rc::into_inner(self.0).map(RefCell::into_inner)
    }
}

impl AsyncRead for SocketReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, bytes)
    }
}

impl AsyncWrite for SocketWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_close(context)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, secured } = &mut *self;
        match secured {
            None => Pin::new(stream).poll_read(context, bytes),
            Some(secured) => polled(secured.read(&mut Polling { stream, context }, bytes)),
        }
    }
}

/// What was written may wait for [`AsyncWrite::poll_flush`].
impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, secured } = &mut *self;
        match secured {
            None => Pin::new(stream).poll_write(context, bytes),
            Some(secured) => polled(secured.write(&mut Polling { stream, context }, bytes)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, secured } = &mut *self;
        match secured {
            None => Pin::new(stream).poll_flush(context),
            Some(secured) => polled(secured.flush(&mut Polling { stream, context })),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, secured } = &mut *self;
        if let Some(secured) = secured {
            secured.end();
            match polled(secured.flush(&mut Polling { stream, context })) {
                Poll::Ready(Ok(())) => {}
                unfinished => return unfinished,
            }
        }
        Pin::new(stream).poll_close(context)
    }
}

/// A socket that wakes a task when it is ready, as one that would block.
struct Polling<'a, 'b> {
    stream: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

impl Read for Polling<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        ready(Pin::new(&mut *self.stream).poll_read(self.context, bytes))
    }
}

impl Write for Polling<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ready(Pin::new(&mut *self.stream).poll_write(self.context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        ready(Pin::new(&mut *self.stream).poll_flush(self.context))
    }
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
