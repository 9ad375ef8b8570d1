//! What one connection may do. Lives with the connection; not `Sync`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use thiserror::Error;
use walengine_net::frame::Kind;
use walengine_net::identity::Identity;

use super::Policies;
use super::kinds::{Need, need};
use super::rights::Rights;
use crate::caller::Caller;

/// See the module. A clone is the same for the same connection on another thread.
#[derive(Clone, Debug)]
pub struct Permit {
    caller: Caller,
    /// `None` of a caller without identity, who may do everything.
    held: Option<Held>,
    follows_log: Cell<bool>,
}

#[derive(Clone, Debug)]
struct Held {
    identity: Arc<Identity>,
    policies: Arc<Policies>,
    /// The generation of `rights`.
    seen: Cell<u64>,
    rights: RefCell<Arc<Rights>>,
}

/// Why a request is refused, for who sent it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{who} {lacks}")]
pub struct Forbidden {
    who: Arc<Identity>,
    lacks: String,
}

impl Permit {
    /// Of a connection of `caller`, by the policy in force now and later.
    pub fn new(policies: &Arc<Policies>, caller: Caller) -> Self {
        let held = caller.identity.clone().map(|identity| {
            let (generation, rights) = policies.rights(&identity);
            let (seen, rights) = (Cell::new(generation), RefCell::new(rights));
            Held { identity, policies: policies.clone(), seen, rights }
        });
        Self { caller, held, follows_log: Cell::new(false) }
    }

    /// Whose it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the caller may do now; `None`: everything.
    #[inline]
    pub fn rights(&self) -> Option<Arc<Rights>> {
        self.held.as_ref().map(Held::rights)
    }

    /// The same, if any event or anything stored must be looked at; `None` if not.
    #[inline]
    pub fn bounded(&self) -> Option<Arc<Rights>> {
        self.rights().filter(|rights| !rights.is_unbounded())
    }

    /// Whether a request of this kind may be acted on.
    ///
    /// # Errors
    /// Which right the caller lacks.
    #[inline]
    pub fn check(&self, kind: Kind) -> Result<(), Forbidden> {
        match &self.held {
            None => Ok(()),
            Some(held) => held.check(kind),
        }
    }

    /// What is answered to a request that touches what the caller may not; `lacks` says so in words.
    pub fn forbidden(&self, lacks: String) -> Option<Forbidden> {
        self.held.as_ref().map(|held| held.forbidden(lacks))
    }

    /// So many events were answered `forbidden`.
    pub fn count_forbidden(&self, events: u64) {
        if let Some(held) = &self.held {
            held.policies.count_forbidden(events);
        }
    }

    /// The connection is sent the log as it grows.
    pub fn note_follows_log(&self) {
        self.follows_log.set(true);
    }

    /// The connection must end: its caller has lost every right, or is sent what it may not see any more.
    pub fn is_lost(&self) -> bool {
        self.rights()
            .is_some_and(|rights| !rights.any() || self.follows_log.get() && !rights.read_log)
    }
}

impl Held {
    fn rights(&self) -> Arc<Rights> {
        if self.policies.generation() != self.seen.get() {
            let (generation, rights) = self.policies.rights(&self.identity);
            self.seen.set(generation);
            self.rights.replace(rights);
        }
        self.rights.borrow().clone()
    }

    fn forbidden(&self, lacks: String) -> Forbidden {
        self.policies.count_forbidden(1);
        Forbidden { who: self.identity.clone(), lacks }
    }

    fn check(&self, kind: Kind) -> Result<(), Forbidden> {
        let rights = self.rights();
        let need = need(kind);
        let may = match need {
            Need::Identity | Need::NoRequest => true,
            Need::AnyRight => rights.any(),
            Need::Right(right) => rights.has(right),
            Need::WriteEverywhere => rights.write.is_everything(),
        };
        if may {
            return Ok(());
        }
        let lacks = match need {
            Need::Right(right) => {
                format!(
                    "lacks the right `{right}`: an [[allow]] of the cluster's policy must give it"
                )
            }
            Need::WriteEverywhere => {
                "lacks the right `write` in all books and ledgers, which opaque records take: an \
                 [[allow]] of the cluster's policy must give it"
                    .to_owned()
            }
            _ => "has no right here: an [[allow]] of the cluster's policy must give it some"
                .to_owned(),
        };
        Err(self.forbidden(lacks))
    }
}
