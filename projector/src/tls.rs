//! TLS to PostgreSQL with rustls, with libpq's modes.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::secret::read_key;
use crate::fatal::{Fatal, Reason};
use verify::Verifier;

/// Demands on the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Any certificate.
    Require,
    /// A certificate signed by a known authority.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

/// Who may sign certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Nobody is asked.
    None,
    /// The system's authorities.
    System,
    /// Those in a file.
    File(PathBuf),
}

impl Roots {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::None | Self::System => None,
        }
    }
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    Both,
    /// 1.2 and nothing newer.
    Only12,
    /// 1.3 and nothing older.
    Only13,
}

/// Mode, files and limits from the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Demands on the server.
    pub mode: TlsMode,
    /// Who may sign its certificate.
    pub roots: Roots,
    /// File of certificates that were revoked. With one, every certificate that is verified must be
    /// covered by a list of it that is up to date.
    pub revoked: Option<PathBuf>,
    /// Files with certificate and key of the client.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Versions that are spoken.
    pub versions: Versions,
    /// The server is told which name is asked for.
    pub names_host: bool,
    /// TLS begins at once, without asking whether the server has it.
    pub is_direct: bool,
}

/// Makes TLS connections as the settings ask.
pub fn connector(settings: &TlsSettings) -> Result<MakeRustlsConnect, Fatal> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match settings.versions {
        Versions::Only13 => &[&rustls::version::TLS13],
        Versions::Only12 => &[&rustls::version::TLS12],
        Versions::Both => rustls::DEFAULT_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| unusable(&error))?;
    let verifier = Verifier::new(settings, provider)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key_der = PrivateKeyDer::from_pem_slice(read_key(key)?.as_bytes())
                .map_err(|error| unreadable(key, &error.to_string()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key_der)
                .map_err(|error| unusable(&error))?
        }
    };
    config.enable_sni = settings.names_host;
    if settings.is_direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn unusable(error: &Error) -> Fatal {
    Fatal::new(Reason::Usage, format!("the TLS settings can't be used: {error}"))
}

fn unreadable(path: &Path, why: &str) -> Fatal {
    Fatal::new(Reason::File, format!("cannot read {}: {why}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| unreadable(path, &error.to_string()))
}
