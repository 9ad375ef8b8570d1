//! This node's certificate and policy: who it is, who may do what, and that what is renewed is taken up while
//! it runs. Main thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use walengine_net::identity::Role;
use walengine_net::tls::{CERTIFICATE_FILE, Tls};

use super::signals;
use crate::audit::{Audit, Order, Outcome};
use crate::config::Config;
use crate::fatal::{Fatal, Reason};
use crate::limits::CREDENTIALS_LOOK_EVERY;
use crate::node_state::NodeState;
use crate::policy::{Policies, PolicyFile};
use crate::storage::layout::Superblock;
use crate::trouble::{self, Said};

/// Opens the directory that --tls names. Without one, a server that others can reach must be wanted so.
///
/// # Errors
/// `Usage` if it is not wanted so, or the files can't be used.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Tls>>, Fatal> {
    let Some(dir) = &config.tls else {
        if let Some((flag, address)) = config.reachable() {
            if !config.insecure {
                let message = format!(
                    "{flag} {address} can be reached by others, and without certificates anybody may \
                     move money there: give --tls DIR (`walengine cert` makes it), or --insecure if \
                     the network is guarded in another way"
                );
                return Err(Fatal::new(Reason::Usage, message));
            }
            tracing::warn!(
                "--insecure: whoever reaches {address} may read and move money, and join the cluster"
            );
        }
        return Ok(None);
    };
    let tls = Tls::open(dir).map_err(|error| Fatal::new(Reason::Usage, error.to_string()))?;
    let own = tls.current().own().clone();
    if own.role() != Role::Node {
        let message = format!(
            "{} says {own}, and a server needs a node's certificate: `walengine cert node`",
            dir.join(CERTIFICATE_FILE).display()
        );
        return Err(Fatal::new(Reason::Usage, message));
    }
    // What they become counts once it is written down: see `Watch`.
    tls.watch();
    tracing::info!("this is {own} of cluster {}, by its certificate", own.cluster());
    Ok(Some(Arc::new(tls)))
}

/// Makes sure that a data directory is the certificate's.
pub(super) fn check_owner(tls: &Tls, superblock: &Superblock) -> Result<(), Fatal> {
    let own = tls.current().own().clone();
    if own.node() == Some(superblock.node) {
        return Ok(());
    }
    let node = superblock.node;
    let message = format!(
        "the certificate in {} says {own}, and the data directory is of node {node}: give it that node's \
         certificate (`walengine cert node {node}`), or name another --data",
        tls.dir().display()
    );
    Err(Fatal::new(Reason::DataDirectory, message))
}

/// Writes down that a file has changed, before that counts.
///
/// # Errors
/// That failed, in words: the change must not count.
fn note(audit: &Audit, order: &Order) -> Result<(), String> {
    let noted = audit.note(order, Outcome::Done, "");
    noted.map_err(|untraced| format!("{untraced}"))
}

/// Looks at the files while the node runs.
pub(super) struct Watch {
    tls: Option<Arc<Tls>>,
    policy: Option<PolicyFile>,
    policies: Arc<Policies>,
    /// A person has asked to look.
    is_wanted: Arc<AtomicBool>,
    looked: Instant,
    /// Changes of the files are written down before they count.
    audit: Audit,
    /// A change that could not be written down, and why.
    refused: Option<([u8; 32], String)>,
    /// What was said of files that can't be used.
    told: Option<String>,
    /// What was said of a certificate that ends soon.
    said: Said,
    me: u64,
}

impl Watch {
    /// Puts the policy in force, and is ready to look.
    ///
    /// # Errors
    /// `Usage` if the policy is wrong or not there; `Preflight` if the system has no handler left.
    pub fn begin(state: &NodeState) -> Result<Self, Fatal> {
        let (tls, policies) = (state.tls.clone(), state.policies.clone());
        let open = |(path, may_be_missing): &(PathBuf, bool)| {
            PolicyFile::open(path, *may_be_missing, &policies)
        };
        let policy = state.config.policy.as_ref().map(open).transpose();
        let policy = policy.map_err(|why| Fatal::new(Reason::Usage, why))?;
        let is_wanted = signals::watch_reloads()?;
        let (looked, me) = (Instant::now(), state.superblock.node);
        let mut watch = Self {
            tls,
            policy,
            policies,
            is_wanted,
            looked,
            audit: state.audit.clone(),
            refused: None,
            told: None,
            said: Said::default(),
            me,
        };
        watch.look_at_end();
        Ok(watch)
    }

    /// Takes up what has changed, if it is time to look.
    pub fn look(&mut self) {
        let is_wanted = self.is_wanted.swap(false, Ordering::Relaxed);
        let Some(tls) = &self.tls else { return };
        if !is_wanted && self.looked.elapsed() < CREDENTIALS_LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if let Some(policy) = &mut self.policy {
            let order = |text: &str| {
                let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
                note(&self.audit, &Order::new("policy").with("blake3", digest))
            };
            let _ = policy.look(&self.policies, order); // it has told what there is to tell
        }
        let (refused, audit) = (&mut self.refused, &self.audit);
        let reloaded = tls.reload_if(|digest| match refused {
            Some((files, why)) if files == digest => Err(why.clone()),
            _ => {
                let hex = blake3::Hash::from_bytes(*digest).to_hex().to_string();
                let noted = note(audit, &Order::new("certificates").with("blake3", hex));
                noted.inspect_err(|why| *refused = Some((*digest, why.clone())))
            }
        });
        let complaint = match reloaded {
            Ok(has_changed) => {
                if has_changed {
                    tracing::info!("new certificates are in use, from {}", tls.dir().display());
                }
                None
            }
            Err(error) => {
                Some(format!("new certificates are not taken, the old ones stay: {error}"))
            }
        };
        if let Some(complaint) = complaint.as_ref().filter(|&new| Some(new) != self.told.as_ref()) {
            tracing::error!("{complaint}");
        }
        self.told = complaint;
        self.look_at_end();
    }

    /// Complains of a certificate that ends soon.
    fn look_at_end(&mut self) {
        let Some(tls) = &self.tls else { return };
        let trouble = trouble::of_certificate(self.me, tls.current().left());
        let (begins, ends) = self.said.news(trouble.as_slice());
        for text in begins {
            tracing::warn!("{text}");
        }
        for text in ends {
            tracing::info!("over: {text}");
        }
    }
}
