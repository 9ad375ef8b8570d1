//! The addresses of a node, as they stand in its certificate.

use std::fmt;
use std::net::IpAddr;

use crate::limits::{HOST_BYTES_MAX, HOST_LABEL_BYTES_MAX};

/// Where a node can be reached: without a port, which certificates know nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    Name(String),
}

/// What one `--address` says: of one node, or of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub node: Option<u64>,
    pub hosts: Vec<Host>,
}

impl Host {
    /// The address, or the name.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            if ip.is_unspecified() {
                return Err(format!("'{text}' is no address that others can reach: name that one"));
            }
            return Ok(Self::Ip(ip));
        }
        if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            return Err(format!(
                "'{text}' has a port: a certificate is for a host, whatever its ports"
            ));
        }
        let is_label = |label: &str| {
            (1..=HOST_LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let looks_like_ip = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label) || looks_like_ip {
            return Err(format!(
                "'{text}' is neither an IP address nor the name of a host, such as n1.example"
            ));
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    /// Where a node is reached if nothing else is said: on its own machine.
    pub fn local() -> Vec<Self> {
        let ip = |ip: IpAddr| Self::Ip(ip);
        vec![
            Self::Name("localhost".to_owned()),
            ip(std::net::Ipv4Addr::LOCALHOST.into()),
            ip(std::net::Ipv6Addr::LOCALHOST.into()),
        ]
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Given {
    /// `HOST`, `HOST,HOST`, or either behind `NODE=`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (node, hosts) = match text.split_once('=') {
            None => (None, text),
            Some((node, hosts)) => {
                let node = node.parse().map_err(|_| {
                    format!("'{node}' is no number of a node: write it as 1=10.0.0.1,n1.example")
                })?;
                (Some(node), hosts)
            }
        };
        let hosts = hosts.split(',').map(Host::parse).collect::<Result<_, _>>()?;
        Ok(Self { node, hosts })
    }
}

/// The addresses of one node: those given for it and for each, or else those of its own machine.
pub fn of_node(node: u64, given: &[Given]) -> Option<Vec<Host>> {
    let its = given.iter().filter(|given| given.node.is_none_or(|of| of == node));
    let mut hosts: Vec<Host> = Vec::new();
    for host in its.flat_map(|given| &given.hosts) {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    (!hosts.is_empty()).then_some(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_without_a_port() {
        let name = |name: &str| Ok(Host::Name(name.to_owned()));
        assert_eq!(Host::parse("N1.example"), name("n1.example"));
        assert_eq!(Host::parse("10.0.0.1"), Ok(Host::Ip("10.0.0.1".parse().unwrap())));
        for ipv6 in ["::1", "[::1]"] {
            assert_eq!(Host::parse(ipv6), Ok(Host::Ip("::1".parse().unwrap())), "{ipv6}");
        }
        for (wrong, why) in [
            ("10.0.0.1:7450", "has a port"),
            ("n1.example:7450", "has a port"),
            ("[::1]:7450", "has a port"),
            ("0.0.0.0", "others can reach"),
            ("::", "others can reach"),
            ("10.0.0", "neither"),
            ("10.0.0.256", "neither"),
            ("", "neither"),
            ("n1..example", "neither"),
            ("-n1", "neither"),
            ("*.example", "neither"),
            ("n1\u{1b}[2J", "neither"),
        ] {
            let error = Host::parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_address_may_be_of_one_node_or_of_each() {
        let given = |texts: &[&str]| -> Vec<Given> {
            texts.iter().map(|text| Given::parse(text).unwrap()).collect()
        };
        let of = |node, texts: &[&str]| {
            let hosts = of_node(node, &given(texts));
            hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let both = ["1=10.0.0.1,n1.example", "2=10.0.0.2"];
        assert_eq!(of(1, &both).as_deref(), Some("10.0.0.1 n1.example"));
        assert_eq!(of(2, &both).as_deref(), Some("10.0.0.2"));
        assert_eq!(of(3, &both), None);
        assert_eq!(of(3, &["bank.example", "3=n3", "n3"]).as_deref(), Some("bank.example n3"));
        assert!(Given::parse("n1=10.0.0.1").unwrap_err().contains("no number of a node"));
        assert!(Given::parse("1=").unwrap_err().contains("neither"));
    }
}
