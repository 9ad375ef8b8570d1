//! A pooler between a client and PostgreSQL that gives each transaction another session, as pgbouncer
//! does with `pool_mode=transaction`: the session that was used last comes first.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Number of a request for TLS in the place of a protocol version.
const SSL_REQUEST: u32 = 80_877_103;
/// Protocol version 3.0.
const VERSION: u32 = 3 << 16;

type Sessions = Arc<Mutex<Vec<UnixStream>>>;

/// Starts one in threads of this process, for a server with this socket. Everybody is let in as
/// `user`.
///
/// # Panics
/// If there is no port.
pub fn start(socket_directory: &Path, user: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = socket_directory.join(".s.PGSQL.5432");
    let (user, sessions) = (user.to_owned(), Sessions::default());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (socket, user, sessions) = (socket.clone(), user.clone(), sessions.clone());
            // A client that goes away ends its thread.
            std::thread::spawn(move || serve(client, &socket, &user, &sessions));
        }
    });
    address
}

fn serve(
    mut client: TcpStream,
    socket: &PathBuf,
    user: &str,
    sessions: &Sessions,
) -> io::Result<()> {
    while number(&startup(&mut client)?) == SSL_REQUEST {
        client.write_all(b"N")?;
    }
    // Let in, with a key of the pooler's own, and ready.
    client.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I")?;
    let mut held: Option<UnixStream> = None;
    loop {
        let (kind, message) = message(&mut client)?;
        if kind == b'X' {
            return Ok(());
        }
        let session = match &mut held {
            Some(session) => session,
            none => {
                let free = sessions.lock().unwrap().pop();
                none.insert(match free {
                    Some(session) => session,
                    None => open(socket, user)?,
                })
            }
        };
        session.write_all(&message)?;
        // Only these are answered at once, up to where the server is ready.
        if kind == b'Q' || kind == b'S' {
            let state = until_ready(session, &mut client)?;
            if state == b'I' {
                sessions.lock().unwrap().extend(held.take());
            }
        }
    }
}

/// Body of a message without a kind, which begins a connection.
fn startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; number(&length) as usize - 4];
    client.read_exact(&mut body)?;
    Ok(body)
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn message(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut whole = vec![0; 5];
    from.read_exact(&mut whole)?;
    let length = number(&whole[1..]) as usize;
    whole.resize(1 + length, 0);
    from.read_exact(&mut whole[5..])?;
    Ok((whole[0], whole))
}

/// Passes the server's messages on until it is ready. Returns the state of its transaction.
fn until_ready(session: &mut UnixStream, client: &mut impl Write) -> io::Result<u8> {
    loop {
        let (kind, message) = message(session)?;
        client.write_all(&message)?;
        if kind == b'Z' {
            return Ok(message[5]);
        }
    }
}

fn open(socket: &PathBuf, user: &str) -> io::Result<UnixStream> {
    let mut session = UnixStream::connect(socket)?;
    let settings = format!("user\0{user}\0database\0{user}\0\0");
    let length = 8 + settings.len() as u32;
    session.write_all(&length.to_be_bytes())?;
    session.write_all(&VERSION.to_be_bytes())?;
    session.write_all(settings.as_bytes())?;
    until_ready(&mut session, &mut io::sink())?;
    Ok(session)
}
