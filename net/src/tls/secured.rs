//! The TLS of one connection, without any I/O of its own: its owner passes the socket in. The same for
//! both ends, blocking or not: `WouldBlock` of the socket is given on, and what was begun goes on when
//! the call is made again.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection};

use super::prove::Usage;

/// Bytes that are read from the socket at a time. rustls alone would read 4 KiB.
const READ_BYTES: usize = 128 << 10;
/// Bytes that are sealed at a time; what they become waits until the socket has taken it.
const SEAL_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps for its connections.
const SPARE_BUFFERS: usize = 4;

thread_local! {
    /// A connection has a buffer only while there are bytes in it.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`READ_BYTES`].
fn buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; READ_BYTES])
}

fn give_back(buffer: Vec<u8>) {
    if buffer.len() == READ_BYTES {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS {
                spare.push(buffer);
            }
        });
    }
}

/// See the module.
#[derive(Debug)]
pub struct Secured {
    connection: Connection,
    /// Sealed bytes that were read.
    incoming: Pending,
    /// Sealed bytes to be written.
    outgoing: Pending,
    /// The other side has said that nothing more comes.
    has_ended: bool,
}

/// Bytes that are added at the back and used up from the front.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Invariant: `start <= end <= bytes.len()`.
    start: usize,
    end: usize,
}

impl Pending {
    fn of(bytes: Vec<u8>) -> Self {
        Self { end: bytes.len(), bytes, start: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for `wanted` bytes more.
    fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = buffer();
        }
        if self.bytes.len() < self.end + wanted {
            self.bytes.resize(self.end + wanted, 0);
        }
        &mut self.bytes[self.end..]
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more was used than there is");
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            give_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Secured {
    /// The end that connects; the name tells the server where the connection belongs.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into(), Vec::new()))
    }

    /// The end that was connected to; `received` has come already.
    pub fn server(config: Arc<ServerConfig>, received: Vec<u8>) -> Result<Self, Error> {
        Ok(Self::new(ServerConnection::new(config)?.into(), received))
    }

    fn new(mut connection: Connection, received: Vec<u8>) -> Self {
        connection.set_buffer_limit(None); // `SEAL_BYTES` is the limit
        let incoming = Pending::of(received);
        Self { connection, incoming, outgoing: Pending::default(), has_ended: false }
    }

    /// The certificates that the other end has shown; none before hands are shaken.
    pub fn shown(&self) -> &[CertificateDer<'static>] {
        if self.connection.is_handshaking() {
            return &[];
        }
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// What the other end's certificate is used for.
    pub fn usage_of_other(&self) -> Usage {
        match self.connection {
            Connection::Client(_) => Usage::Server,
            Connection::Server(_) => Usage::Client,
        }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `WouldBlock`: call it again when the socket is ready. Of kind `InvalidData`, with rustls' error in
    /// it: the other side is not who it should be, or speaks no TLS.
    pub fn handshake(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            // What does not go out must not keep what comes from being read: both ends might wait.
            let flushed = match self.flush(socket) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                flushed => flushed,
            };
            if !self.connection.is_handshaking() {
                return flushed;
            }
            if self.incoming.is_empty() && self.fill(socket)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = self.open() {
                let _ = self.flush(socket); // an alert; the other side may be gone
                return Err(error);
            }
        }
    }

    /// Reads what was sealed by the other side, from the socket only if nothing is there. 0 at the end.
    pub fn read(&mut self, socket: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            filled += self.take(&mut bytes[filled..])?;
            if filled == bytes.len() || self.has_ended {
                return Ok(filled);
            }
            if self.incoming.is_empty() && (filled > 0 || self.fill(socket)? == 0) {
                return Ok(filled); // frames tell whether something lacks
            }
            self.open()?;
        }
    }

    /// Seals bytes and writes them as far as the socket takes them; the rest goes by [`Self::flush`].
    /// `WouldBlock`, and nothing was taken, while an earlier rest is not out.
    pub fn write(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let taken = &bytes[..bytes.len().min(SEAL_BYTES)];
        self.connection.writer().write_all(taken)?;
        match self.flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken.len()),
        }
    }

    /// Writes what is sealed and not out.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.outgoing)?;
        }
        while !self.outgoing.is_empty() {
            match socket.write(self.outgoing.rest())? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => self.outgoing.consume(written),
            }
        }
        Ok(())
    }

    /// Whether everything that was sealed is out.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty() && !self.connection.wants_write()
    }

    /// Tells the other side that nothing more comes; [`Self::flush`] sends it.
    pub fn end(&mut self) {
        self.connection.send_close_notify();
    }

    /// Reads from the socket once; 0 at its end.
    fn fill(&mut self, socket: &mut impl Read) -> io::Result<usize> {
        let read = socket.read(self.incoming.room(1));
        self.incoming.end += *read.as_ref().unwrap_or(&0);
        self.incoming.consume(0); // gives the buffer back if there was nothing
        read
    }

    /// Opens some of what was read.
    fn open(&mut self) -> io::Result<()> {
        let mut rest = self.incoming.rest();
        let used = self.connection.read_tls(&mut rest)?;
        self.incoming.consume(used);
        let state = self.connection.process_new_packets();
        let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.has_ended |= state.peer_has_closed();
        Ok(())
    }

    /// Takes what was opened.
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.connection.reader().read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
