//! Addresses as people write them: a host by name or number, and a port.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::fatal::{Fatal, Reason};

/// A host and perhaps a port, as `--advertise` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, if it was given.
    pub port: Option<u16>,
}

impl HostPort {
    /// Parses `host`, `host:port`, `address`, `address:port` or `[address]:port`. `None` if it is none of
    /// them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self { host: address.ip().to_string(), port: Some(address.port()) });
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self { host: address.to_string(), port: None });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let is_name = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        is_name(host).then(|| Self { host: host.to_owned(), port })
    }

    /// `host:port` for others, with `port` unless another was given.
    pub fn shown(&self, port: u16) -> String {
        let port = self.port.unwrap_or(port);
        let is_v6 = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        if is_v6 { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }

    /// Its address.
    ///
    /// # Errors
    /// `Usage` if there is none of that name; `flag` is the setting that names it.
    pub fn resolve(&self, port: u16, flag: &str) -> Result<SocketAddr, Fatal> {
        resolve(&self.shown(port), flag)
    }
}

/// The address of `host:port`; one of version 4 if there is one, since that is what defaults are.
///
/// # Errors
/// `Usage` if it is no such text, or there is no host of that name; `flag` is the setting that names it.
pub fn resolve(text: &str, flag: &str) -> Result<SocketAddr, Fatal> {
    if HostPort::parse(text).is_none_or(|found| found.port.is_none()) {
        let message = format!("{flag} is '{text}': it must be HOST:PORT, such as 10.0.0.1:7450");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let failed = |why: &str| {
        let message = format!("{flag} names {text}, which has no address: {why}; check the name");
        Fatal::new(Reason::Usage, message)
    };
    let found: Vec<_> =
        text.to_socket_addrs().map_err(|error| failed(&error.to_string()))?.collect();
    let v4 = found.iter().find(|address| address.is_ipv4()).or(found.first());
    v4.copied().ok_or_else(|| failed("the name is known and has none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        let cases = [
            ("db-1.example", Some(("db-1.example", None)), "db-1.example:7450"),
            ("db_1:9000", Some(("db_1", Some(9000))), "db_1:9000"),
            ("10.0.0.1", Some(("10.0.0.1", None)), "10.0.0.1:7450"),
            ("10.0.0.1:1", Some(("10.0.0.1", Some(1))), "10.0.0.1:1"),
            ("fe80::1", Some(("fe80::1", None)), "[fe80::1]:7450"),
            ("[::1]", Some(("::1", None)), "[::1]:7450"),
            ("[::1]:9", Some(("::1", Some(9))), "[::1]:9"),
            ("", None, ""),
            (":7450", None, ""),
            ("host:port", None, ""),
            ("host:70000", None, ""),
            ("ho st", None, ""),
        ];
        for (text, expected, shown) in cases {
            let found = HostPort::parse(text);
            let parts = found.as_ref().map(|found| (found.host.as_str(), found.port));
            assert_eq!(parts, expected, "{text}");
            assert_eq!(found.map_or(String::new(), |found| found.shown(7450)), shown, "{text}");
        }
    }

    #[test]
    fn names_are_looked_up_and_an_unknown_one_is_told_with_its_flag() {
        assert_eq!(resolve("localhost:7450", "--listen").unwrap().port(), 7450);
        assert!(resolve("localhost:7450", "--listen").unwrap().ip().is_loopback());
        for text in ["localhost", "no-such-host.invalid:7450", "127.0.0.1:http"] {
            let error = resolve(text, "--join").unwrap_err();
            assert_eq!(error.reason, Reason::Usage);
            assert!(error.message.contains("--join") && error.message.contains(text), "{error}");
        }
    }
}
