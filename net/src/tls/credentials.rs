//! What a program has in its directory of credentials: read, checked and made ready for connections.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime,
};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::identity::{Identity, Role};
use crate::model::PartitionId;
use crate::short_file::read_short;

use super::prove::{Authorities, Expected, Refusal, Usage, Verifier, expires, parsed};
use super::secured::Secured;
use super::sni::server_name;

/// Authorities that are believed; several may stand in the file.
pub const CA_FILE: &str = "ca.pem";
/// A program's own certificate, followed by those between it and an authority.
pub const CERTIFICATE_FILE: &str = "identity.pem";
/// The key of that certificate.
pub const KEY_FILE: &str = "identity.key";
/// Lists of revoked certificates; it may be absent.
pub const REVOKED_FILE: &str = "revoked.pem";
/// Most bytes of one of the files.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// See the module. Never changes; [`Tls`](super::Tls) replaces it.
#[derive(Debug)]
pub struct Credentials {
    own: Arc<Identity>,
    authorities: Arc<Authorities>,
    dials: ClientConfig,
    serves: Option<Serving>,
    expires: UnixTime,
    generation: u64,
    /// Over the contents of the files.
    fingerprint: [u8; 32],
}

/// What a node has besides.
#[derive(Debug)]
struct Serving {
    clients: Arc<ServerConfig>,
    peers: Arc<ServerConfig>,
}

/// Why a directory of credentials can't be used. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file can't be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key can be read by others.
    #[error("{} can be read by others: chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The own certificate would be believed by nobody.
    #[error("{}: {why}", path.display())]
    Own {
        /// The file.
        path: PathBuf,
        /// What others would say of it.
        why: Refusal,
    },
    /// They are right, and whoever looked at them has a reason not to use them.
    #[error("{0}")]
    NotTaken(String),
}

/// The contents of the files, as they were at one time.
pub(super) struct Files {
    dir: PathBuf,
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    revoked: Option<Vec<u8>>,
}

impl Files {
    pub fn read(dir: &Path) -> Result<Self, CredentialsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            let large = || io::Error::other("it is too large for what it should hold");
            let found = read_short(&path, FILE_BYTES_MAX);
            let found = found.and_then(|found| found.ok_or_else(large));
            found.map_err(|error| CredentialsError::Unreadable { path, error })
        };
        let key = dir.join(KEY_FILE);
        if is_exposed(&key) {
            return Err(CredentialsError::Exposed { path: key });
        }
        let revoked = match read(REVOKED_FILE) {
            Ok(revoked) => Some(revoked),
            Err(CredentialsError::Unreadable { error, .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            dir: dir.to_owned(),
            ca: read(CA_FILE)?,
            certificate: read(CERTIFICATE_FILE)?,
            key: read(KEY_FILE)?,
            revoked,
        })
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let revoked = self.revoked.as_deref();
        let all = [Some(&*self.ca), Some(&*self.certificate), Some(&*self.key), revoked];
        for file in all {
            hasher.update(&file.map_or(u64::MAX, |file| file.len() as u64).to_le_bytes());
            hasher.update(file.unwrap_or_default());
        }
        hasher.finalize().into()
    }

    fn malformed(&self, name: &str, why: &(impl ToString + ?Sized)) -> CredentialsError {
        CredentialsError::Malformed { path: self.dir.join(name), why: why.to_string() }
    }

    fn certificates(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(found) if found.is_empty() => {
                Err(self.malformed(name, "there is no certificate in it"))
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.malformed(name, &error)),
        }
    }
}

impl Credentials {
    /// Reads them and checks that others would believe them.
    pub fn load(dir: &Path) -> Result<Self, CredentialsError> {
        Self::of_files(&Files::read(dir)?, 0)
    }

    /// `generation` tells them from those that the program had before.
    pub(super) fn of_files(files: &Files, generation: u64) -> Result<Self, CredentialsError> {
        let provider = Arc::new(ring::default_provider());
        let mut anchors: Vec<TrustAnchor<'static>> = Vec::new();
        for certificate in files.certificates(CA_FILE, &files.ca)? {
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| files.malformed(CA_FILE, &format!("{error:?}")))?;
            anchors.push(anchor.to_owned());
        }
        let mut revoked = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(
            files.revoked.as_deref().unwrap_or_default(),
        ) {
            let list = list.map_err(|error| files.malformed(REVOKED_FILE, &error))?;
            let list = OwnedCertRevocationList::from_der(&list)
                .map_err(|error| files.malformed(REVOKED_FILE, &format!("{error:?}")))?;
            revoked.push(CertRevocationList::from(list));
        }
        let algorithms = provider.signature_verification_algorithms;
        let authorities = Arc::new(Authorities { anchors, revoked, algorithms });

        let path = files.dir.join(CERTIFICATE_FILE);
        let chain = files.certificates(CERTIFICATE_FILE, &files.certificate)?;
        let unfit = |why| CredentialsError::Own { path: path.clone(), why };
        let (first, between) = chain.split_first().ok_or(Refusal::Missing).map_err(unfit)?;
        let leaf = parsed(first).map_err(unfit)?;
        let own_as =
            |usage| authorities.prove(&leaf, between, usage, None, UnixTime::now()).map_err(unfit);
        let own = Arc::new(own_as(Usage::Client)?);
        let expires = expires(first).map_err(unfit)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(&files.key)
                .map_err(|error| files.malformed(KEY_FILE, &error))
        };
        let cluster = own.cluster();
        let verifier = |expected| {
            let (authorities, cluster) = (authorities.clone(), cluster.into());
            Arc::new(Verifier { authorities, cluster, expected })
        };
        let of_key = |error: rustls::Error| files.malformed(KEY_FILE, &error);
        let mut dials = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(of_key)?
            .dangerous() // the verifier checks what there is, and the host besides
            .with_custom_certificate_verifier(verifier(Expected::NODE))
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(of_key)?;
        dials.resumption = rustls::client::Resumption::disabled();
        let serves = if own.role() == Role::Node {
            own_as(Usage::Server)?;
            let config = |expected| -> Result<_, CredentialsError> {
                let mut config = ServerConfig::builder_with_provider(provider.clone())
                    .with_protocol_versions(&[&TLS13])
                    .map_err(of_key)?
                    .with_client_cert_verifier(verifier(expected))
                    .with_single_cert(chain.clone(), key()?)
                    .map_err(of_key)?;
                config.send_tls13_tickets = 0;
                config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
                Ok(Arc::new(config))
            };
            let (clients, peers) = (config(Expected::ANYBODY)?, config(Expected::NODE)?);
            Some(Serving { clients, peers })
        } else {
            None
        };
        Ok(Self {
            own,
            authorities,
            dials,
            serves,
            expires,
            generation,
            fingerprint: files.fingerprint(),
        })
    }

    /// Whose they are.
    pub fn own(&self) -> &Arc<Identity> {
        &self.own
    }

    /// How long the own certificate is still valid.
    pub fn left(&self) -> Duration {
        let (end, now) = (self.expires.as_secs(), UnixTime::now().as_secs());
        Duration::from_secs(end.saturating_sub(now))
    }

    /// What they were read from, in short.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Which of those that the program has had they are.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whom a chain proves in the cluster.
    pub(super) fn prove(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<Identity, Refusal> {
        let (leaf, between) = chain.split_first().ok_or(Refusal::Missing)?;
        let (leaf, cluster) = (parsed(leaf)?, Some(self.own.cluster()));
        self.authorities.prove(&leaf, between, usage, cluster, UnixTime::now())
    }

    /// For a connection to somebody who must be as expected.
    pub fn dial(&self, expected: Expected) -> Arc<ClientConfig> {
        let mut config = self.dials.clone();
        let (authorities, cluster) = (self.authorities.clone(), self.own.cluster().into());
        let verifier = Arc::new(Verifier { authorities, cluster, expected });
        config.dangerous().set_certificate_verifier(verifier);
        Arc::new(config)
    }

    /// The end of a connection of a partition's, to somebody who must be as expected. Hands are still to be
    /// shaken.
    pub fn connect(&self, expected: Expected, partition: PartitionId) -> io::Result<Secured> {
        Secured::client(self.dial(expected), server_name(partition)).map_err(io::Error::other)
    }

    /// For connections that come to the clients' port; `None` without a node's certificate.
    pub fn serve_clients(&self) -> Option<&Arc<ServerConfig>> {
        self.serves.as_ref().map(|serves| &serves.clients)
    }

    /// For connections that come to the peers' port; `None` without a node's certificate.
    pub fn serve_peers(&self) -> Option<&Arc<ServerConfig>> {
        self.serves.as_ref().map(|serves| &serves.peers)
    }
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}
