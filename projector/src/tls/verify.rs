//! What is demanded of a server's certificate, and what libpq takes beyond rustls: a name that stands
//! in the common name only, and a self-signed certificate that is itself among the authorities.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode as _, Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::settings::{Roots, TlsMode, TlsSettings, certificates, unreadable};
use crate::fatal::{Fatal, Reason};

/// Checks a certificate as far as the mode demands. The server proves in every mode that it holds the
/// certificate's key.
#[derive(Debug)]
pub struct Verifier {
    /// `None` accepts any certificate.
    authority: Option<Authority>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Authority {
    chains: Arc<WebPkiServerVerifier>,
    /// Certificates that stand in the user's file, and need nobody else's signature. None if there is a
    /// list of revoked ones, which such a certificate may be on.
    trusted: Vec<CertificateDer<'static>>,
    /// Whether the name counts.
    checks_name: bool,
}

impl Verifier {
    /// Reads the files of the settings.
    pub fn new(settings: &TlsSettings, provider: Arc<CryptoProvider>) -> Result<Self, Fatal> {
        let algorithms = provider.signature_verification_algorithms;
        if settings.mode == TlsMode::Require {
            return Ok(Self { authority: None, algorithms });
        }
        let (store, mut trusted) = roots(&settings.roots)?;
        let mut chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        if let Some(path) = &settings.revoked {
            chains = chains.with_crls(revocations(path)?).enforce_revocation_expiration();
            trusted.clear();
        }
        let chains = chains.build().map_err(|error| {
            let files = [settings.revoked.as_deref(), settings.roots.file()];
            let files = files.into_iter().flatten().map(|path| path.display().to_string());
            let message = format!(
                "the authorities and lists of revoked certificates can't be used ({}): {error}",
                files.collect::<Vec<_>>().join(", ")
            );
            Fatal::new(Reason::Usage, message)
        })?;
        let checks_name = settings.mode == TlsMode::VerifyFull;
        Ok(Self { authority: Some(Authority { chains, trusted, checks_name }), algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        let checked = if authority.trusted.iter().any(|trusted| trusted == certificate) {
            is_in_time(certificate, now)
                .and_then(|()| verify_server_name(&ParsedCertificate::try_from(certificate)?, name))
                .map(|()| ServerCertVerified::assertion())
        } else {
            authority.chains.verify_server_cert(certificate, intermediates, name, ocsp, now)
        };
        // The name is checked last: if only the name is wrong, everything else is in order.
        match checked {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !authority.checks_name || has_common_name(certificate, name) => {
                Ok(ServerCertVerified::assertion())
            }
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
        let checked = verify_tls13_signature(message, certificate, signature, &self.algorithms);
        match checked {
            // Of a certificate that nobody looks at, only the key counts, though the rest be of version 1.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.authority.is_none() =>
            {
                let key = key_of(certificate)?;
                verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
            }
            checked => checked,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whom to trust, and the certificates of a file one by one.
fn roots(from: &Roots) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Fatal> {
    let mut store = RootCertStore::empty();
    if let Some(path) = from.file() {
        let found = certificates(path)?;
        for certificate in &found {
            store.add(certificate.clone()).map_err(|error| unreadable(path, &error.to_string()))?;
        }
        if store.is_empty() {
            return Err(unreadable(path, "there is no certificate in it"));
        }
        return Ok((store, found));
    }
    // Certificates that can't be read are not trusted.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        let message = "the system has no authorities to verify PostgreSQL's certificate with: \
                       install them (Debian: apt-get install ca-certificates), or name a file \
                       with sslrootcert=FILE";
        return Err(Fatal::new(Reason::File, message));
    }
    Ok((store, Vec::new()))
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Fatal> {
    let read = CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error.to_string()))?;
    if read.is_empty() {
        return Err(unreadable(path, "there is no list of revoked certificates in it (sslcrl)"));
    }
    Ok(read)
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let read = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let key = read.tbs_certificate.subject_public_key_info.to_der();
    Ok(key.map_err(|_| CertificateError::BadEncoding)?.into())
}

fn is_in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let read = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = read.tbs_certificate.validity;
    let seconds = now.as_secs();
    if seconds < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// As libpq: the common name counts if no alternative name of the certificate is of the host's kind.
fn has_common_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let certificate = certificate.tbs_certificate;
    let is_address = matches!(host, ServerName::IpAddress(_));
    let is_of_its_kind = |name: &GeneralName| match name {
        GeneralName::DnsName(_) => !is_address,
        GeneralName::IpAddress(_) => is_address,
        _ => false,
    };
    match certificate.get::<SubjectAltName>() {
        Ok(Some((_, SubjectAltName(names)))) if names.iter().any(is_of_its_kind) => return false,
        Ok(_) => {}
        Err(_) => return false,
    }
    let all = certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let first = all.into_iter().find(|attribute| attribute.oid == COMMON_NAME);
    first.and_then(text).is_some_and(|pattern| names(&pattern, &host.to_str(), is_address))
}

fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    let text = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned()
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok()?.as_str().to_owned(),
        _ => return None,
    };
    Some(text)
}

/// Whether a name, or a pattern that begins with `*.`, is the host's. The star is one label.
fn names(pattern: &str, host: &str, is_address: bool) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = pattern.strip_prefix("*.").filter(|_| !is_address) else { return false };
    let split = host.split_once('.');
    split.is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_the_hosts_by_libpqs_rules() {
        for (pattern, host, is_its) in [
            ("db.example", "db.example", true),
            ("DB.Example", "db.example", true),
            ("db.example", "other.example", false),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", ".example", false),
            ("*.example", "example", false),
            ("*", "db", false),
            ("d*.example", "db.example", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(names(pattern, host, false), is_its, "{pattern:?} {host}");
        }
        assert!(names("127.0.0.1", "127.0.0.1", true));
        assert!(!names("*.0.0.1", "127.0.0.1", true));
    }
}
