//! Whom a request may be addressed to.
//!
//! A web page that somebody opens can make their browser send requests to this machine, under a name that the
//! page's owner has pointed here. Such a request has that name in its `Host`. So only numbers, `localhost` and
//! the node's own names are answered.

use std::net::IpAddr;

/// See the module.
#[derive(Debug)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Of a node that is known by `names`.
    pub fn new(names: &[String]) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        let known = ["localhost".to_owned()].into_iter().chain(names);
        Self { names: known.collect() }
    }

    /// A request with this `Host`, or authority, may be answered.
    pub fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            // The colons of a number of version 6 stand in brackets.
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let number = name.trim_start_matches('[').trim_end_matches(']');
        number.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_localhost_and_own_names_are_known() {
        let hosts = Hosts::new(&["Bank-1.example".to_owned()]);
        for known in [
            "localhost",
            "LOCALHOST:7480",
            "127.0.0.1:7480",
            "10.0.0.1",
            "[::1]:7480",
            "[::1]",
            "bank-1.example:7480",
        ] {
            assert!(hosts.knows(known), "{known}");
        }
        for unknown in
            ["", "evil.example", "evil.example:7480", "localhost.evil.example", "127.0.0.1.x"]
        {
            assert!(!hosts.knows(unknown), "{unknown}");
        }
    }
}
