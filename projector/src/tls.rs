//! TLS to PostgreSQL with rustls, with libpq's modes.

mod settings;
mod verify;

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::secret::read_key;
use crate::fatal::{Fatal, Reason};
use settings::{certificates, unreadable};
use verify::Verifier;

pub use settings::{Roots, TlsMode, TlsSettings, Versions};

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
