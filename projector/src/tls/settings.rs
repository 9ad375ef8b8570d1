//! What is asked of TLS, and the files that it is asked with.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::fatal::{Fatal, Reason};

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
    pub(super) fn file(&self) -> Option<&Path> {
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

pub(super) fn unreadable(path: &Path, why: &str) -> Fatal {
    Fatal::new(Reason::File, format!("cannot read {}: {why}", path.display()))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| unreadable(path, &error.to_string()))
}
