//! The rules of a policy.

use walengine_net::identity::{Identity, Role};

use super::area::Ranges;
use super::rights::Right;

/// What some may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub who: Vec<Who>,
    pub may: Vec<Right>,
    pub books: Ranges,
    pub ledgers: Ranges,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Every(Role),
    One(Role, Box<str>),
}

impl Who {
    pub fn is(&self, identity: &Identity) -> bool {
        match self {
            Self::Every(role) => identity.role() == *role,
            Self::One(role, name) => identity.role() == *role && identity.name() == &**name,
        }
    }
}
