//! TLS to PostgreSQL with rustls, with libpq's modes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::secret::read_key;
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
    let algorithms = provider.signature_verification_algorithms;
    let lenient = |authority| Arc::new(LenientVerifier { authority, algorithms });
    let builder = match settings.mode {
        TlsMode::Require => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
        TlsMode::VerifyFull => builder.with_root_certificates(roots(&settings.roots)?),
        TlsMode::VerifyCa => {
            let roots = Arc::new(roots(&settings.roots)?);
            let authority = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| Fatal::new(Reason::Usage, error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(authority)))
        }
    };
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

fn roots(from: &Roots) -> Result<RootCertStore, Fatal> {
    let mut store = RootCertStore::empty();
    match from {
        Roots::File(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| unreadable(path, &error.to_string()))?;
            }
            if store.is_empty() {
                return Err(unreadable(path, "there is no certificate in it"));
            }
        }
        Roots::System | Roots::None => {
            // Certificates that can't be read are not trusted.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                let message = "the system has no authorities to verify PostgreSQL's certificate with: \
                               install them (Debian: apt-get install ca-certificates), or name a file \
                               with sslrootcert=FILE";
                return Err(Fatal::new(Reason::File, message));
            }
        }
    }
    Ok(store)
}

/// Checks less than rustls does by default: libpq's modes below `verify-full`. The server still
/// proves that it holds the certificate's key.
#[derive(Debug)]
struct LenientVerifier {
    /// Checks the certificate, but not its name; `None` accepts any certificate.
    authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        // The name is checked last: if only the name is wrong, everything else is in order.
        match authority.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
