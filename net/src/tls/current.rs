//! Credentials that stay current while a program runs.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::identity::Identity;

use super::credentials::{CERTIFICATE_FILE, Credentials, CredentialsError, Files};
use super::prove::{self, Refusal, Usage};
use super::secured::Secured;

/// See the module. Shared by all threads.
#[derive(Debug)]
pub struct Tls {
    dir: PathBuf,
    current: ArcSwap<Credentials>,
    /// Somebody looks at the files, and says when what they have become counts.
    is_watched: AtomicBool,
}

/// What the other end of a connection has shown.
#[derive(Debug)]
pub struct Proven {
    tls: Arc<Tls>,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Its certificate, and those that lead to an authority.
    chain: Vec<CertificateDer<'static>>,
    usage: Usage,
    /// The first second at which its certificate is no longer valid.
    expires: UnixTime,
    /// The credentials by which it was proven last.
    generation: Cell<u64>,
}

impl Tls {
    /// Of a directory of credentials.
    pub fn open(dir: &Path) -> Result<Self, CredentialsError> {
        let current = ArcSwap::from_pointee(Credentials::load(dir)?);
        Ok(Self { dir: dir.to_owned(), current, is_watched: AtomicBool::new(false) })
    }

    /// From now on only [`Self::reload_if`] takes up what the files have become: the caller sees to it.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The credentials of now.
    pub fn current(&self) -> Arc<Credentials> {
        self.current.load_full()
    }

    /// Reads the files again, unless somebody watches them. True if they have changed; new connections use what they
    /// say. Blocks.
    ///
    /// # Errors
    /// They can't be used, or are another one's: the old ones stay.
    pub fn reload(&self) -> Result<bool, CredentialsError> {
        if self.is_watched.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.reload_if(|_| Ok(()))
    }

    /// As [`Self::reload`], but what the files have become is only used if `agrees` takes it, which is given a
    /// digest of them.
    ///
    /// # Errors
    /// As there, or why it does not.
    pub fn reload_if(
        &self,
        agrees: impl FnOnce(&[u8; 32]) -> Result<(), String>,
    ) -> Result<bool, CredentialsError> {
        let files = Files::read(&self.dir)?;
        let old = self.current.load();
        if files.fingerprint() == old.fingerprint() {
            return Ok(false);
        }
        let new = Credentials::of_files(&files, old.generation() + 1)?;
        if new.own() != old.own() {
            let why = format!("it says {}, and this is {}", new.own().uri(), old.own().uri());
            let path = self.dir.join(CERTIFICATE_FILE);
            return Err(CredentialsError::Malformed { path, why });
        }
        agrees(&new.fingerprint()).map_err(CredentialsError::NotTaken)?;
        self.current.store(Arc::new(new));
        Ok(true)
    }

    /// What the other end has shown in a handshake that has ended, and was made with these credentials.
    ///
    /// # Errors
    /// It has not ended, or what was shown can't be read.
    pub fn proven(
        self: &Arc<Self>,
        by: &Credentials,
        secured: &Secured,
    ) -> Result<Proven, Refusal> {
        self.proven_by_chain(by, secured.shown().to_vec(), secured.usage_of_other())
    }

    /// As [`Self::proven`], for who has taken care of the handshake: the chain that was shown in it, and for what.
    ///
    /// # Errors
    /// Nothing was shown, or it can't be read.
    pub fn proven_by_chain(
        self: &Arc<Self>,
        by: &Credentials,
        chain: Vec<CertificateDer<'static>>,
        usage: Usage,
    ) -> Result<Proven, Refusal> {
        let leaf = chain.first().ok_or(Refusal::Missing)?;
        let identity = Arc::new(prove::identity_in(&prove::parsed(leaf)?)?);
        let expires = prove::expires(leaf)?;
        let (tls, generation) = (self.clone(), Cell::new(by.generation()));
        Ok(Proven { tls, identity, chain, usage, expires, generation })
    }
}

impl Proven {
    /// Whether the connection may go on.
    ///
    /// # Errors
    /// The certificate has expired, was revoked, or its authority is believed no more.
    pub fn check(&self) -> Result<(), Refusal> {
        if UnixTime::now() > self.expires {
            return Err(Refusal::Expired);
        }
        let current = self.tls.current.load();
        if self.generation.get() != current.generation() {
            current.prove(&self.chain, self.usage)?;
            self.generation.set(current.generation());
        }
        Ok(())
    }
}
