//! Who may do what: the policy of a cluster, the rights that an identity has by it, and which right a
//! request takes. POLICY.md says it for operators.
//!
//! Default deny: what no rule allows is forbidden. Who has no identity is on a connection without TLS and
//! may do everything, as before there were certificates. Shared by all threads of a node: a [`Permit`] is
//! one connection's, and finds out by one relaxed load that the policy has changed.

mod area;
mod file;
mod kinds;
mod permit;
mod rights;
mod rules;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use walengine_net::identity::{Identity, Role};

pub use area::{Area, Ranges};
pub use file::PolicyError;
pub use permit::{Forbidden, Permit};
pub use rights::{Right, Rights};
pub use watch::{PolicyFile, read_policy};

use rules::{Rule, Who};

/// Its name in the directory of credentials.
pub const POLICY_FILE: &str = "policy.toml";

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// That of a node without a file: operators may administer and read everything, projectors read, and
/// nobody writes.
impl Default for Policy {
    fn default() -> Self {
        let rule = |role, may: &[Right]| Rule {
            who: vec![Who::Every(role)],
            may: may.to_vec(),
            books: Ranges::all(),
            ledgers: Ranges::all(),
        };
        Self {
            rules: vec![
                rule(Role::Admin, &[Right::Admin, Right::Read, Right::ReadLog]),
                rule(Role::Projector, &[Right::Read, Right::ReadLog]),
            ],
        }
    }
}

impl Policy {
    /// Reads what a policy file says.
    ///
    /// # Errors
    /// What is wrong in it, with the line and what to do.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        file::parse(text).map(|rules| Self { rules })
    }

    /// What an identity may do: what all rules about it allow together.
    pub fn rights(&self, identity: &Identity) -> Rights {
        let rules = || self.rules.iter().filter(|rule| rule.who.iter().any(|who| who.is(identity)));
        let gives = |right| rules().filter(move |rule| rule.may.contains(&right));
        let area = |right| Area::of(gives(right).map(|rule| (&rule.books, &rule.ledgers)));
        Rights {
            write: area(Right::Write),
            read: area(Right::Read),
            read_log: gives(Right::ReadLog).next().is_some(),
            admin: gives(Right::Admin).next().is_some(),
            is_node: identity.role() == Role::Node,
        }
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Nobody may do anything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Some rule gives this right to somebody.
    pub fn gives(&self, right: Right) -> bool {
        self.rules.iter().any(|rule| rule.may.contains(&right))
    }
}

/// The policy in force, for all threads of a node.
#[derive(Debug, Default)]
pub struct Policies {
    /// Changes with the policy. Written under the lock, so that who sees a new number and then takes the
    /// lock finds the new policy.
    generation: AtomicU64,
    current: Mutex<Policy>,
    /// Requests and events that were answered `forbidden`.
    forbidden: AtomicU64,
}

impl Policies {
    /// Puts another policy in force.
    pub fn set(&self, policy: Policy) {
        let mut current = self.lock();
        *current = policy;
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes with the policy.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What an identity may do now, and the generation in which that is so.
    pub fn rights(&self, identity: &Identity) -> (u64, Arc<Rights>) {
        let current = self.lock();
        (self.generation(), Arc::new(current.rights(identity)))
    }

    /// Requests and events that were answered `forbidden` since the start.
    pub fn forbidden(&self) -> u64 {
        self.forbidden.load(Ordering::Relaxed)
    }

    fn count_forbidden(&self, more: u64) {
        self.forbidden.fetch_add(more, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Policy> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
