//! Who someone is, as a certificate says it: one URI `spiffe://CLUSTER/ROLE/NAME`. Data only; `tls` reads
//! it out of certificates.

use std::fmt;

use thiserror::Error;

/// Most bytes of the name of a cluster or of anybody in it.
pub const NAME_BYTES_MAX: usize = 64;
/// How the URI begins.
pub const SCHEME: &str = "spiffe://";

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A node of the cluster; its name is its number.
    Node,
    /// A program that sends transfers or reads.
    Client,
    /// What keeps a PostgreSQL database equal to the log.
    Projector,
    /// An operator.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Node, Self::Client, Self::Projector, Self::Admin];

    /// As it stands in the URI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
            Self::Projector => "projector",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// See the module. Every part is checked: ASCII letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    cluster: Box<str>,
    role: Role,
    name: Box<str>,
}

/// Why a text is no [`Identity`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// It is none of ours.
    #[error("it is not of the form spiffe://CLUSTER/ROLE/NAME")]
    Form,
    /// The middle part is unknown.
    #[error("its role is none of node, client, projector and admin")]
    Role,
    /// A part that people may read and files may be named after.
    #[error("a name has 1 to 64 letters, digits, '-', '_' and '.', and does not begin with '.'")]
    Name,
    /// Nodes have numbers.
    #[error("the name of a node is its number, from 1 to 2^64 - 1, without leading zeros")]
    Node,
}

impl Identity {
    /// Of its parts.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        if !is_name(cluster) || !is_name(name) {
            return Err(IdentityError::Name);
        }
        if role == Role::Node && node_number(name).is_none() {
            return Err(IdentityError::Node);
        }
        Ok(Self { cluster: cluster.into(), role, name: name.into() })
    }

    /// Of the URI in a certificate.
    pub fn of_uri(uri: &str) -> Result<Self, IdentityError> {
        let mut parts = uri.strip_prefix(SCHEME).ok_or(IdentityError::Form)?.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Form);
        };
        Self::new(cluster, Role::of_name(role).ok_or(IdentityError::Role)?, name)
    }

    /// As it stands in the certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{self}", self.cluster)
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What its certificate is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its name within the role.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, if it is a node.
    pub fn node(&self) -> Option<u64> {
        if self.role == Role::Node { node_number(&self.name) } else { None }
    }
}

/// Without the cluster: `client/payments`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fits)
}

fn node_number(name: &str) -> Option<u64> {
    let number = name.parse().ok().filter(|&number: &u64| number > 0)?;
    (number.to_string() == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        for (role, name) in [
            (Role::Node, "3"),
            (Role::Client, "payments-api.eu_1"),
            (Role::Projector, "reporting"),
            (Role::Admin, "ops"),
        ] {
            let identity = Identity::new("bank", role, name).unwrap();
            assert_eq!(identity.uri(), format!("spiffe://bank/{role}/{name}"));
            assert_eq!(Identity::of_uri(&identity.uri()), Ok(identity));
        }
        assert_eq!(Identity::new("bank", Role::Node, "3").unwrap().node(), Some(3));
        assert_eq!(Identity::new("bank", Role::Client, "3").unwrap().node(), None);
    }

    #[test]
    fn what_is_not_exactly_an_identity_is_refused() {
        for (uri, error) in [
            ("https://bank/client/a", IdentityError::Form),
            ("spiffe://bank/client", IdentityError::Form),
            ("spiffe://bank/client/a/b", IdentityError::Form),
            ("spiffe://bank/root/a", IdentityError::Role),
            ("spiffe://bank/Client/a", IdentityError::Role),
            ("spiffe:///client/a", IdentityError::Name),
            ("spiffe://bank/client/", IdentityError::Name),
            ("spiffe://bank/client/..", IdentityError::Name),
            ("spiffe://bank/client/a\u{1b}[2J", IdentityError::Name),
            ("spiffe://bank/node/0", IdentityError::Node),
            ("spiffe://bank/node/03", IdentityError::Node),
            ("spiffe://bank/node/+3", IdentityError::Name),
            ("spiffe://bank/node/18446744073709551616", IdentityError::Node),
        ] {
            assert_eq!(Identity::of_uri(uri), Err(error), "{uri}");
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(Identity::new("bank", Role::Client, &long), Err(IdentityError::Name));
    }
}
