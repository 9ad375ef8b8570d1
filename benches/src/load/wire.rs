//! The socket of a connection, with TLS or without. Blocking or not, as it is set.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use walengine_net::model::PartitionId;
use walengine_net::tls::{Expected, Secured, Tls, server_name};

/// See the module.
pub struct Wire {
    stream: TcpStream,
    secured: Option<Box<Secured>>,
}

impl From<TcpStream> for Wire {
    /// Without TLS.
    fn from(stream: TcpStream) -> Self {
        Self { stream, secured: None }
    }
}

impl Wire {
    /// Connects; the socket is blocking.
    pub fn connect(
        server: SocketAddr,
        partition: PartitionId,
        tls: Option<&Tls>,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(stream.into()) };
        let config = tls.current().dial(Expected::node_at(None, server.ip().into()));
        let secured = Secured::client(config, server_name(partition)).map_err(io::Error::other)?;
        let mut secured = Box::new(secured);
        secured.handshake(&mut stream)?;
        Ok(Self { stream, secured: Some(secured) })
    }

    /// The socket, for its settings.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.secured {
            None => self.stream.read(bytes),
            Some(secured) => secured.read(&mut self.stream, bytes),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.secured {
            None => self.stream.write(bytes),
            Some(secured) => secured.write(&mut self.stream, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.secured {
            None => Ok(()),
            Some(secured) => secured.flush(&mut self.stream),
        }
    }
}
