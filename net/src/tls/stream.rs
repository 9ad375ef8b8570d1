//! A socket with TLS or without, for those who read and write it themselves, blocking or not.

use std::io::{self, Read, Write};

use super::secured::Secured;

/// See the module. With TLS, what was written may wait for [`Write::flush`].
#[derive(Debug)]
pub struct Stream<S> {
    socket: S,
    secured: Option<Box<Secured>>,
}

impl<S> Stream<S> {
    /// Without TLS.
    pub fn plain(socket: S) -> Self {
        Self { socket, secured: None }
    }

    /// With TLS; hands are shaken.
    pub fn secured(socket: S, secured: Secured) -> Self {
        Self { socket, secured: Some(Box::new(secured)) }
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: Read> Read for Stream<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.secured {
            None => self.socket.read(bytes),
            Some(secured) => secured.read(&mut self.socket, bytes),
        }
    }
}

impl<S: Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.secured {
            None => self.socket.write(bytes),
            Some(secured) => secured.write(&mut self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.secured {
            None => self.socket.flush(),
            Some(secured) => secured.flush(&mut self.socket),
        }
    }
}
