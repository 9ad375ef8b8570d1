//! The authority of a cluster: `DIR/ca`, and what it signs.
//!
//! Its name holds a random number, so that two authorities of one cluster, as there are while the one
//! replaces the other, are never taken for each other.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SerialNumber,
};
use walengine_net::identity::{Identity, Role, SCHEME};
use walengine_net::say;
use walengine_net::tls::CA_FILE;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::Utf8StringRef;

use super::addresses::Host;
use super::directory::{self, AUTHORITY, CA_KEY, Content, Place};
use super::gossip_key;
use super::read::{self, unreadable};
use super::words::date;
use crate::config::GOSSIP_KEY_FILE;
use crate::fatal::{Fatal, Reason};
use crate::policy::POLICY_FILE;
use crate::private_files::{create_dir, hex};

/// Make the authority of a cluster
///
/// Makes `DIR/ca`: the certificate and the key of an authority that signs for this cluster only, a key
/// that seals the gossip of its nodes, and a policy to start from. The key is the one thing that must
/// never be lost or seen: keep the directory where no server runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine cert ca --cluster bank\n\n\
    To replace an authority, make another one with --dir, and with the same --dir every directory anew. \
    Put the certificates of both into the ca.pem of every directory in use. Then copy the new identity.pem \
    and identity.key over the old ones, and when all have theirs, take the old authority out of ca.pem.")]
pub struct Arguments {
    /// Name of the cluster, which every certificate has
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    cluster: String,

    #[command(flatten)]
    place: Place,

    /// Days until it expires, and all that it has signed with it
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// A clock may be this much behind the one of the machine where a certificate is made.
const CLOCKS_DIFFER: Duration = Duration::from_hours(1);
/// The field of a name that holds the cluster.
const ORGANIZATION: &str = "2.5.4.10";
const COMMON_NAME: &str = "2.5.4.3";

/// What a policy starts as: the same as without one, and an example.
pub(super) const POLICY_TEXT: &str = include_str!("policy.toml");

/// Makes an authority.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let dir = arguments.place.dir.join(AUTHORITY);
    if directory::exists(&dir) {
        let message = format!(
            "{} exists already, and is left as it is: `walengine cert show` says what it is; name \
             another place with --dir",
            dir.display()
        );
        return Err(Fatal::new(Reason::File, message));
    }
    create_dir(&arguments.place.dir)?;
    let _lock = directory::lock(&arguments.place.dir)?;
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = authority_name(&arguments.cluster)?;
    let until = valid_for(&mut params, arguments.days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Its own identity: the cluster, and nobody in it.
    params.subject_alt_names = vec![uri(&format!("{SCHEME}{}", arguments.cluster))?];
    let certificate = params.self_signed(&key).map_err(|error| unsigned(&error))?;
    let files = [
        Content::new(CA_FILE, certificate.pem()),
        Content::new(CA_KEY, key.serialize_pem()),
        Content::new(GOSSIP_KEY_FILE, gossip_key::new_line()?),
        Content::new(POLICY_FILE, POLICY_TEXT),
    ];
    directory::make(&dir, &files)?;
    say!(
        "made {}: the authority of cluster {}, until {}",
        dir.display(),
        arguments.cluster,
        date(until)
    );
    say!("keep {} safe: whoever has it can be anybody", dir.join(CA_KEY).display());
    Ok(())
}

/// An authority that can sign.
pub struct Authority {
    /// Its directory.
    pub dir: PathBuf,
    /// Who is believed, as it stands in the file: this authority, and others beside it.
    pub believed: Vec<u8>,
    /// The cluster that it signs for.
    pub cluster: String,
    certificate: Certificate,
    until: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Issued {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// When it expires.
    pub until: SystemTime,
}

impl Authority {
    /// The one in `DIR/ca`.
    pub fn open(place: &Path) -> Result<Self, Fatal> {
        let dir = place.join(AUTHORITY);
        let (ca, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY));
        if !directory::exists(&ca) {
            let message = format!(
                "there is no authority in {}: `walengine cert ca --cluster NAME` makes one, --dir says \
                 where another is",
                dir.display()
            );
            return Err(Fatal::new(Reason::File, message));
        }
        directory::require_private(&key_path)?;
        let believed = directory::read(&ca)?;
        let found = read::certificates_in(&believed).map_err(|why| unreadable(&ca, &why))?;
        let key = directory::read(&key_path)?;
        let certificate = of_key(found, &key).map_err(|why| unreadable(&key_path, &why))?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&key))
            .map_err(|error| unreadable(&key_path, &format!("its key can't be used: {error}")))?;
        let cluster = cluster(&certificate).map_err(|why| unreadable(&ca, &why))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = own_name(&certificate);
        params.key_identifier_method = KeyIdMethod::Sha256;
        let until = certificate.tbs_certificate.validity.not_after.to_system_time();
        let issuer = Issuer::new(params, key);
        Ok(Self { dir, believed, cluster, certificate, until, issuer })
    }

    /// Signs a certificate with a new key. It ends when the authority does, at the latest.
    pub fn issue(&self, identity: &Identity, hosts: &[Host], days: u32) -> Result<Issued, Fatal> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, identity.cluster());
        params.distinguished_name.push(DnType::OrganizationalUnitName, identity.role().name());
        params.distinguished_name.push(DnType::CommonName, identity.name());
        let mut until = valid_for(&mut params, days);
        if until > self.until {
            until = self.until;
            params.not_after = until.into();
        }
        if until <= SystemTime::now() {
            let message = format!(
                "the authority in {} expired on {}: make a new one with `walengine cert ca`, in another \
                 --dir",
                self.dir.display(),
                date(until)
            );
            return Err(Fatal::new(Reason::File, message));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if identity.role() == Role::Node {
            params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&identity.uri())?];
        for host in hosts {
            params.subject_alt_names.push(match host {
                Host::Ip(ip) => SanType::IpAddress(*ip),
                Host::Name(name) => {
                    let name = name.as_str().try_into().map_err(|error| unsigned(&error))?;
                    SanType::DnsName(name)
                }
            });
        }
        let made = params.signed_by(&key, &self.issuer).map_err(|error| unsigned(&error))?;
        let chain = made.pem();
        self.require_own(&chain)?;
        Ok(Issued { chain, key: key.serialize_pem(), until })
    }

    /// Signs a list of revoked certificates. It holds until another one replaces it.
    pub fn list(&self, revoked: Vec<RevokedCertParams>, number: u64) -> Result<String, Fatal> {
        let params = CertificateRevocationListParams {
            this_update: SystemTime::now().into(),
            next_update: self.until.into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).and_then(|list| list.pem());
        list.map_err(|error| unsigned(&error))
    }

    /// Whether this authority has signed a certificate, as far as the certificate says.
    pub fn has_signed(&self, certificate: &Certificate) -> bool {
        certificate.tbs_certificate.issuer == self.certificate.tbs_certificate.subject
    }

    /// Whether the authority is among these certificates.
    pub fn is_in(&self, found: &[Certificate]) -> bool {
        found.contains(&self.certificate)
    }

    /// The name of an authority that was made with other tools may be written in another way, and
    /// certificates under the name as this program writes it would be nobody's.
    fn require_own(&self, chain: &str) -> Result<(), Fatal> {
        let made = read::certificates_in(chain.as_bytes()).map_err(|why| unsigned(&why))?;
        if made.iter().all(|made| self.has_signed(made)) {
            return Ok(());
        }
        let message = format!(
            "the authority in {} was not made by `walengine cert ca`: sign with the tools that made it",
            self.dir.display()
        );
        Err(Fatal::new(Reason::File, message))
    }
}

/// The certificate that a key belongs to.
fn of_key(found: Vec<Certificate>, key: &[u8]) -> Result<Certificate, String> {
    for certificate in found {
        if read::is_key_of(key, &certificate)? {
            return Ok(certificate);
        }
    }
    Err(format!("it is the key of no certificate in {CA_FILE}"))
}

/// The cluster of an authority.
fn cluster(certificate: &Certificate) -> Result<String, String> {
    if !read::is_authority(certificate) {
        return Err("its certificate may not sign others: it is no authority's".to_owned());
    }
    let names = read::names(certificate);
    let cluster = match &names.uris[..] {
        [uri] => uri.strip_prefix(SCHEME).and_then(|name| cluster_name(name).ok()),
        _ => None,
    };
    cluster.ok_or_else(|| {
        "it does not say which cluster it is the authority of: it was not made by `walengine cert \
         ca`; sign with the tools that made it"
            .to_owned()
    })
}

fn own_name(certificate: &Certificate) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    for AttributeTypeAndValue { oid, value } in parts {
        let Ok(text) = value.decode_as::<Utf8StringRef<'_>>() else { continue };
        match oid.to_string().as_str() {
            ORGANIZATION => name.push(DnType::OrganizationName, text.as_str()),
            COMMON_NAME => name.push(DnType::CommonName, text.as_str()),
            _ => {}
        }
    }
    name
}

fn authority_name(cluster: &str) -> Result<DistinguishedName, Fatal> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cluster);
    let number = hex(&gossip_key::random::<8>()?);
    name.push(DnType::CommonName, format!("walengine authority {number}"));
    Ok(name)
}

/// Until when.
fn valid_for(params: &mut CertificateParams, days: u32) -> SystemTime {
    let now = SystemTime::now();
    let until = now + Duration::from_hours(24) * days;
    params.not_before = (now - CLOCKS_DIFFER).into();
    params.not_after = until.into();
    until
}

fn new_key() -> Result<KeyPair, Fatal> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| unsigned(&error))
}

fn uri(text: &str) -> Result<SanType, Fatal> {
    Ok(SanType::URI(text.try_into().map_err(|error| unsigned(&error))?))
}

fn unsigned(error: &dyn std::fmt::Display) -> Fatal {
    Fatal::new(Reason::File, format!("cannot make a certificate: {error}"))
}

/// The name of a cluster, as identities take it.
fn cluster_name(name: &str) -> Result<String, String> {
    // The rules for a cluster and for a client are the same.
    let checked = Identity::new(name, Role::Client, "anybody");
    checked.map(|_| name.to_owned()).map_err(|error| error.to_string())
}
