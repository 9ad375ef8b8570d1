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

use crate::fatal::{Fatal, Reason};

/// Demands on the server's certificate; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it.
    Prefer,
    /// TLS with any certificate.
    Require,
    /// TLS with a certificate signed by a known authority.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

/// Mode and files from the settings.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Demands on the server.
    pub mode: TlsMode,
    /// File with certificates of authorities; `None` for the system's.
    pub roots: Option<PathBuf>,
    /// Files with certificate and key of the client.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Makes TLS connections as the settings ask.
pub fn connector(settings: &TlsSettings) -> Result<MakeRustlsConnect, Fatal> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    // As libpq: `require` with a file of authorities is `verify-ca`.
    let mode = match (settings.mode, &settings.roots) {
        (TlsMode::Require, Some(_)) => TlsMode::VerifyCa,
        (mode, _) => mode,
    };
    let algorithms = provider.signature_verification_algorithms;
    let lenient = |authority| Arc::new(LenientVerifier { authority, algorithms });
    let builder = match mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
            builder.dangerous().with_custom_certificate_verifier(lenient(None))
        }
        TlsMode::VerifyFull => builder.with_root_certificates(roots(settings.roots.as_deref())?),
        TlsMode::VerifyCa => {
            let roots = Arc::new(roots(settings.roots.as_deref())?);
            let authority = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| Fatal::new(Reason::Usage, error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(lenient(Some(authority)))
        }
    };
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unreadable(key, &error.to_string()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key_der)
                .map_err(|error| unusable(&error))?
        }
    };
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

fn roots(file: Option<&Path>) -> Result<RootCertStore, Fatal> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| unreadable(path, &error.to_string()))?;
            }
            if store.is_empty() {
                return Err(unreadable(path, "there is no certificate in it"));
            }
        }
        None => {
            // Certificates that can't be read are not trusted.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
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
