//! What stands in files of certificates, keys and lists of revoked certificates. Nothing in them is
//! believed, and nothing of them is printed that could steer a terminal.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use walengine_net::identity::{Identity, IdentityError};
use walengine_net::text::printable;
use x509_cert::Certificate;
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::crl::CrlNumber;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

use super::directory::read;
use crate::fatal::{Fatal, Reason};

/// What the names in a certificate say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub uris: Vec<String>,
    pub hosts: Vec<String>,
}

/// A file holds something else than it should.
pub fn unreadable(path: &Path, why: &str) -> Fatal {
    Fatal::new(Reason::File, format!("{}: {why}", path.display()))
}

/// The certificates of a file, one at least.
pub fn certificates(path: &Path) -> Result<Vec<Certificate>, Fatal> {
    certificates_in(&read(path)?).map_err(|why| unreadable(path, &why))
}

/// The certificates of a text, one at least.
///
/// # Errors
/// What is wrong with it.
pub fn certificates_in(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let found = CertificateDer::pem_slice_iter(pem).map(|der| {
        let der = der.map_err(|error| format!("it is no PEM file: {error}"))?;
        Certificate::from_der(&der).map_err(|error| format!("a certificate in it: {error}"))
    });
    let found: Vec<Certificate> = found.collect::<Result<_, String>>()?;
    if found.is_empty() {
        return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}

/// The lists of revoked certificates in a text.
///
/// # Errors
/// What is wrong with it.
pub fn lists_in(pem: &[u8]) -> Result<Vec<CertificateList>, String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).map(|der| {
        let der = der.map_err(|error| format!("it is no PEM file: {error}"))?;
        let list = CertificateList::from_der(&der);
        list.map_err(|error| format!("a list of revoked certificates in it: {error}"))
    });
    lists.collect()
}

/// Whether the private key in a text is that of a certificate.
///
/// # Errors
/// What is wrong with the text.
pub fn is_key_of(pem: &[u8], certificate: &Certificate) -> Result<bool, String> {
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("there is no private key in it that is not encrypted: {error}"))?;
    let key = any_supported_type(&key).map_err(|_| {
        "its key is none of ECDSA (P-256, P-384, P-521), Ed25519 and RSA".to_owned()
    })?;
    let own = key.public_key().ok_or("its key does not say what its public half is")?;
    let certified = certificate.tbs_certificate.subject_public_key_info.to_der();
    let certified = certified.map_err(|error| error.to_string())?;
    Ok(own.as_ref() == certified)
}

/// The URIs and the hosts that a certificate is for.
pub fn names(certificate: &Certificate) -> Names {
    let mut names = Names::default();
    let Ok(Some((_, SubjectAltName(found)))) = certificate.tbs_certificate.get() else {
        return names;
    };
    for name in found {
        match name {
            GeneralName::UniformResourceIdentifier(uri) => {
                names.uris.push(printable(uri.as_str()).into());
            }
            GeneralName::DnsName(name) => names.hosts.push(printable(name.as_str()).into()),
            GeneralName::IpAddress(bytes) => {
                let bytes = bytes.as_bytes();
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
                names.hosts.extend(ip.map(|ip| ip.to_string()));
            }
            _ => {}
        }
    }
    names
}

/// Who a certificate names.
///
/// # Errors
/// Why it names nobody.
pub fn identity(names: &Names) -> Result<Identity, String> {
    match &names.uris[..] {
        [uri] => Identity::of_uri(uri).map_err(|error| match error {
            IdentityError::Form => format!("its URI is '{uri}', not spiffe://CLUSTER/ROLE/NAME"),
            error => format!("its URI is '{uri}': {error}"),
        }),
        [] => Err("it has no URI spiffe://CLUSTER/ROLE/NAME".to_owned()),
        uris => {
            Err(format!("it has {} URIs, and nobody can be two: {}", uris.len(), uris.join(", ")))
        }
    }
}

/// Whether a certificate may sign others.
pub fn is_authority(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate.get::<BasicConstraints>();
    matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
}

/// A serial number as people compare it.
pub fn serial(number: &SerialNumber) -> String {
    let mut text = String::new();
    for (at, byte) in number.as_bytes().iter().enumerate() {
        let _ = write!(text, "{}{byte:02x}", if at == 0 { "" } else { ":" }); // a String takes all
    }
    text
}

/// What a list revokes.
pub fn entries(list: &CertificateList) -> impl Iterator<Item = &RevokedCert> {
    list.tbs_cert_list.revoked_certificates.iter().flatten()
}

/// The number of a list, if it has one that fits.
pub fn list_number(list: &CertificateList) -> Option<u64> {
    let extensions = list.tbs_cert_list.crl_extensions.as_ref()?;
    let found = extensions.iter().find(|one| one.extn_id == CRL_NUMBER)?;
    let CrlNumber(number) = CrlNumber::from_der(found.extn_value.as_bytes()).ok()?;
    let bytes = number.as_bytes();
    let mut padded = [0; 8];
    padded.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(u64::from_be_bytes(padded))
}

const CRL_NUMBER: x509_cert::der::asn1::ObjectIdentifier =
    x509_cert::der::oid::db::rfc5280::ID_CE_CRL_NUMBER;

/// A name of X.509 as it can be printed.
pub fn name(name: &Name) -> String {
    printable(&name.to_string()).into()
}
