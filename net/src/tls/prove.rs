//! What a chain of certificates proves, and why it may prove nothing.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use thiserror::Error as ThisError;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};
use x509_cert::der::Decode as _;

use crate::identity::{Identity, Role};

/// What a certificate is used for in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The end that was connected to.
    Server,
    /// The end that connects.
    Client,
}

/// Who must be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Only a node.
    pub is_node: bool,
    /// Only this node.
    pub node: Option<u64>,
    /// The certificate must be for this host.
    pub host: Option<ServerName<'static>>,
}

impl Expected {
    /// Anybody with a good certificate.
    pub const ANYBODY: Self = Self { is_node: false, node: None, host: None };
    /// Any node.
    pub const NODE: Self = Self { is_node: true, node: None, host: None };

    /// A node that was reached at this host.
    pub fn node_at(node: Option<u64>, host: ServerName<'static>) -> Self {
        Self { is_node: true, node, host: Some(host) }
    }
}

/// Why a certificate proves nothing here. Nothing was done for the connection.
#[derive(Clone, Debug, ThisError, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// None was shown.
    #[error("it shows no certificate")]
    Missing,
    /// Nobody who is believed has signed it.
    #[error("its certificate is signed by no authority that is believed here")]
    Foreign,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("its certificate is not valid yet: are the clocks right?")]
    NotYetValid,
    /// It is on a list of revoked certificates.
    #[error("its certificate was revoked")]
    Revoked,
    /// It does not say that it is for servers, or for clients.
    #[error("its certificate is not for this use")]
    Usage,
    /// Its URI is not of our form, or there is none.
    #[error("its certificate names nobody: exactly one URI spiffe://CLUSTER/ROLE/NAME is needed")]
    Nobody,
    /// It has more than one URI.
    #[error("its certificate has more than one URI")]
    Several,
    /// It belongs elsewhere.
    #[error("its certificate is of cluster {0}")]
    OtherCluster(String),
    /// A node was expected.
    #[error("its certificate says {0}, where only nodes may be")]
    NoNode(String),
    /// Another node was expected.
    #[error("its certificate says node/{found}, and it should be node/{expected}")]
    OtherNode {
        /// Who it is.
        found: u64,
        /// Who was expected.
        expected: u64,
    },
    /// The address at which it was reached is not in the certificate.
    #[error("its certificate is not for the address {0}")]
    OtherHost(String),
    /// Anything else.
    #[error("its certificate is not in order: {0}")]
    Malformed(String),
}

impl Refusal {
    /// Of the error of a handshake; `None` if the other side's certificate was not the reason.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::NoCertificatesPresented => Some(Self::Missing),
            Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
                why.downcast_ref::<Self>().cloned()
            }
            Error::InvalidCertificate(CertificateError::Expired) => Some(Self::Expired),
            Error::InvalidCertificate(CertificateError::NotValidYet) => Some(Self::NotYetValid),
            Error::InvalidCertificate(CertificateError::Revoked) => Some(Self::Revoked),
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(Self::Foreign),
            Error::InvalidCertificate(other) => Some(Self::Malformed(other.to_string())),
            _ => None,
        }
    }
}

/// The other side is told by the alert that fits best.
impl From<Refusal> for Error {
    fn from(why: Refusal) -> Self {
        Self::InvalidCertificate(match why {
            Refusal::Missing => return Self::NoCertificatesPresented,
            Refusal::Expired => CertificateError::Expired,
            Refusal::NotYetValid => CertificateError::NotValidYet,
            Refusal::Revoked => CertificateError::Revoked,
            Refusal::Foreign => CertificateError::UnknownIssuer,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// Why the other side's certificate ended a connection; `None` if it did not.
pub fn refusal_of(error: &io::Error) -> Option<Refusal> {
    Refusal::of(error.get_ref()?.downcast_ref::<Error>()?)
}

/// What is wrong with a secured connection, in words; `None` if the error is not of TLS.
pub fn explained(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match (Refusal::of(error), error) {
        (Some(why), _) => why.to_string(),
        (None, Error::AlertReceived(alert)) => format!(
            "it does not take this one's certificate ({alert:?}): `walengine cert show` says what is in it"
        ),
        (None, Error::InvalidMessage(_)) => {
            "it speaks no TLS: is it a server without certificates?".to_owned()
        }
        (None, other) => other.to_string(),
    })
}

/// Who is believed.
#[derive(Debug)]
pub(super) struct Authorities {
    pub anchors: Vec<TrustAnchor<'static>>,
    pub revoked: Vec<CertRevocationList<'static>>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl Authorities {
    /// Whom a certificate and those between it and an authority prove, in the cluster named, or in any.
    pub fn prove(
        &self,
        leaf: &EndEntityCert<'_>,
        between: &[CertificateDer<'_>],
        usage: Usage,
        cluster: Option<&str>,
        now: UnixTime,
    ) -> Result<Identity, Refusal> {
        let lists: Vec<_> = self.revoked.iter().collect();
        // Who is on no list of its authority's is good; an old list is better than none.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let key_usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let algorithms = self.algorithms.all;
        leaf.verify_for_usage(algorithms, &self.anchors, between, now, key_usage, revocation, None)
            .map_err(refusal)?;
        let identity = identity_in(leaf)?;
        if cluster.is_some_and(|cluster| cluster != identity.cluster()) {
            return Err(Refusal::OtherCluster(identity.cluster().to_owned()));
        }
        Ok(identity)
    }
}

/// A certificate, to be looked into.
pub(super) fn parsed<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<EndEntityCert<'a>, Refusal> {
    EndEntityCert::try_from(certificate).map_err(|error| Refusal::Malformed(format!("{error:?}")))
}

/// Whom a certificate names, whoever has signed it.
pub(super) fn identity_in(leaf: &EndEntityCert<'_>) -> Result<Identity, Refusal> {
    let mut uris = leaf.valid_uri_names();
    let uri = uris.next().ok_or(Refusal::Nobody)?;
    if uris.next().is_some() {
        return Err(Refusal::Several);
    }
    Identity::of_uri(uri).map_err(|_| Refusal::Nobody)
}

fn refusal(error: webpki::Error) -> Refusal {
    match error {
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            Refusal::Foreign
        }
        webpki::Error::CertExpired { .. } => Refusal::Expired,
        webpki::Error::CertNotValidYet { .. } => Refusal::NotYetValid,
        webpki::Error::CertRevoked => Refusal::Revoked,
        webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::Usage,
        other => Refusal::Malformed(format!("{other:?}")),
    }
}

/// When a certificate ends.
pub(super) fn expires(leaf: &CertificateDer<'_>) -> Result<UnixTime, Refusal> {
    let parsed = x509_cert::Certificate::from_der(leaf)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let end = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    Ok(UnixTime::since_unix_epoch(end))
}

/// Checks certificates while hands are shaken.
#[derive(Debug)]
pub(super) struct Verifier {
    pub authorities: Arc<Authorities>,
    pub cluster: Box<str>,
    pub expected: Expected,
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let leaf = parsed(leaf)?;
        let cluster = Some(&*self.cluster);
        let identity = self.authorities.prove(&leaf, between, usage, cluster, now)?;
        let Expected { is_node, node, host } = &self.expected;
        if *is_node && identity.role() != Role::Node {
            return Err(Refusal::NoNode(identity.to_string()));
        }
        if let (Some(expected), Some(found)) = (*node, identity.node())
            && expected != found
        {
            return Err(Refusal::OtherNode { found, expected });
        }
        match host {
            Some(host) if leaf.verify_is_valid_for_subject_name(host).is_err() => {
                Err(Refusal::OtherHost(host.to_str().into_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, between, Usage::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.authorities.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.authorities.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // a client has one certificate; it need not choose
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, between, Usage::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.authorities.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.authorities.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.algorithms.supported_schemes()
    }
}
