//! What one connection may do. Lives with the connection; not `Sync`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use thiserror::Error;
use walengine_net::frame::Kind;
use walengine_net::identity::{Identity, Role};

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
    /// Whose rights count.
    identity: RefCell<Arc<Identity>>,
    /// A node makes the requests of that identity.
    is_for_another: Cell<bool>,
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
            let (identity, is_for_another) = (RefCell::new(identity), Cell::new(false));
            Held { identity, is_for_another, policies: policies.clone(), seen, rights }
        });
        Self { caller, held, follows_log: Cell::new(false) }
    }

    /// Whose it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The requests that follow are made for this identity, which a node has before it. They may do what it may, but
    /// give no orders: a node must not become an operator by saying so.
    ///
    /// # Errors
    /// The caller is no node of the identity's cluster, or makes them for somebody already, or for a node.
    pub fn act_for(&self, identity: Identity) -> Result<(), Forbidden> {
        let is_nobodys =
            |held: &Held| !held.is_for_another.get() && held.is_node_of(identity.cluster());
        match &self.held {
            Some(held) if is_nobodys(held) && identity.role() != Role::Node => {
                held.become_for(Arc::new(identity));
                Ok(())
            }
            Some(held) => Err(held.forbidden(
                "may make no requests for others: only a node may, for one of its cluster"
                    .to_owned(),
            )),
            // Who is not known may do everything already, and the identity could be any.
            None => Err(Forbidden {
                who: Arc::new(identity),
                lacks: "can't be acted for on a connection without certificates".to_owned(),
            }),
        }
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
            self.look_up();
        }
        self.rights.borrow().clone()
    }

    fn look_up(&self) {
        let (generation, rights) = self.policies.rights(&self.identity.borrow());
        let rights = if self.is_for_another.get() {
            Arc::new(Rights { admin: false, ..(*rights).clone() })
        } else {
            rights
        };
        self.seen.set(generation);
        self.rights.replace(rights);
    }

    fn is_node_of(&self, cluster: &str) -> bool {
        let identity = self.identity.borrow();
        identity.role() == Role::Node && identity.cluster() == cluster
    }

    fn become_for(&self, identity: Arc<Identity>) {
        self.identity.replace(identity);
        self.is_for_another.set(true);
        self.look_up();
    }

    fn forbidden(&self, lacks: String) -> Forbidden {
        self.policies.count_forbidden(1);
        Forbidden { who: self.identity.borrow().clone(), lacks }
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
