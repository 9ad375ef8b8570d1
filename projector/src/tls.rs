//! TLS to PostgreSQL with rustls, with libpq's modes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::fatal::{Fatal, Reason};

/// What is asked of the server's certificate; libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No TLS.
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, and a certificate that a known authority has signed.
    VerifyCa,
    /// The same, and for the host that was asked for.
    VerifyFull,
}

/// Files and mode as the settings name them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is asked.
    pub mode: Mode,
    /// Certificates of authorities; `None`: the system's.
    pub roots: Option<PathBuf>,
    /// Certificate and key of the client.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a connection is made with.
pub fn connector(settings: &Settings) -> Result<MakeRustlsConnect, Fatal> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    // As libpq: `require` with a file of authorities is `verify-ca`.
    let mode = match (settings.mode, &settings.roots) {
        (Mode::Require, Some(_)) => Mode::VerifyCa,
        (mode, _) => mode,
    };
    let builder = match mode {
        Mode::Disable | Mode::Prefer | Mode::Require => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
        }
        Mode::VerifyFull => builder.with_root_certificates(roots(settings.roots.as_deref())?),
        Mode::VerifyCa => {
            let roots = Arc::new(roots(settings.roots.as_deref())?);
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| Fatal::new(Reason::Usage, error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { inner }))
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
            // Those that can't be read are not trusted, which is all that can be done about them.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

/// Takes any certificate: the mode asks for encryption only.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate of a known authority, whatever name is in it.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last, so everything else is in order.
        match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
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
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
