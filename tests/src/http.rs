//! A plain client of HTTP/1.1, by hand, so that a test can send whatever it likes.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take. Generous: the machine has other work.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Http {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Http {
    /// Connects.
    ///
    /// # Panics
    /// If nobody is there.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream), address }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the other side has gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes as they are, to who may have hung up.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Asks, with further header lines.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&str>,
    ) -> Answer {
        let has_host = headers.iter().any(|line| line.to_lowercase().starts_with("host:"));
        let has_type = headers.iter().any(|line| line.to_lowercase().starts_with("content-type:"));
        let mut lines = vec![format!("{method} {path} HTTP/1.1")];
        if !has_host {
            lines.push(format!("Host: {}", self.address));
        }
        lines.extend(headers.iter().map(ToString::to_string));
        if let Some(body) = body {
            if !has_type {
                lines.push("Content-Type: application/json".to_owned());
            }
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.send([head.as_bytes(), body.unwrap_or_default().as_bytes()].concat().as_slice());
        self.answer()
    }

    /// As [`Self::ask`], without a body.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    /// As [`Self::ask`], with one.
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], Some(&body.to_string()))
    }

    /// The next answer.
    ///
    /// # Panics
    /// If there is none, or it is none.
    pub fn answer(&mut self) -> Answer {
        let (status, headers) = self.head();
        let named =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let body = match named("content-length") {
            Some(bytes) => {
                let mut body = vec![0; bytes.parse().unwrap()];
                self.reader.read_exact(&mut body).unwrap();
                body
            }
            None => Vec::new(),
        };
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// The head of the next answer.
    ///
    /// # Panics
    /// If there is none, or it is none.
    pub fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            match line.split_once(':') {
                Some((name, value)) => {
                    headers.push((name.to_lowercase(), value.trim().to_owned()));
                }
                None => return (status, headers),
            }
        }
    }

    /// One line, without its end.
    ///
    /// # Panics
    /// If there is none.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the connection was closed");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

impl Answer {
    /// Its body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
