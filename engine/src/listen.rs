//! Sockets that the node listens on.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::fatal::{Fatal, Reason};
use crate::limits::{LISTEN_BACKLOG, LISTEN_WITHIN};
use crate::os;

/// Listens on an address; `flag` is the setting that names it. Without `SO_REUSEPORT`: a second server on
/// the address gets an error, and not half of the connections.
///
/// # Errors
/// `Listen`, with what to do.
pub fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, Fatal> {
    let failed = |error: std::io::Error| cannot_listen(flag, address, &error);
    let listener = bind_within(address, LISTEN_WITHIN).map_err(failed)?;
    os::set_backlog(&listener, LISTEN_BACKLOG).map_err(failed)?;
    Ok(listener)
}

/// Why an address can't be listened on, and what to do.
pub fn cannot_listen(flag: &str, address: SocketAddr, error: &std::io::Error) -> Fatal {
    let other = format!("choose another address with {flag}");
    let fix = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another process has it; stop that or choose another",
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges",
        _ => &other,
    };
    Fatal::new(Reason::Listen, format!("cannot listen on {address} ({error}): {fix}"))
}

/// A killed server's `io_uring` holds its listening socket until the kernel has torn the ring down,
/// a moment after the process is gone: a restart must not fail over that.
fn bind_within(address: SocketAddr, wait: Duration) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + wait;
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}
