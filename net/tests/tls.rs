//! Who gets a connection: whole handshakes in memory, of good and of bad certificates.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::ServerName;
use walengine_net::identity::{Identity, Role};
use walengine_net::model::PartitionId;
use walengine_net::tls::{
    CA_FILE, CERTIFICATE_FILE, CredentialsError, Expected, Greeting, KEY_FILE, Proven,
    REVOKED_FILE, Refusal, Secured, Tls, explained, greeting, server_name,
};

const DAY: Duration = Duration::from_hours(24);

/// An authority, with a folder for what it signs.
struct Authority {
    dir: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says.
struct Says {
    uris: Vec<String>,
    uses: Vec<ExtendedKeyUsagePurpose>,
    /// Relative to now, in days.
    days: (i32, i32),
    serial: u64,
}

impl Says {
    fn uri(uri: &str) -> Self {
        let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: vec![uri.to_owned()], uses, days: (-1, 1), serial: 7 }
    }

    fn node(number: u64) -> Self {
        Self::uri(&format!("spiffe://bank/node/{number}"))
    }

    fn client(name: &str) -> Self {
        let uses = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self { uses, ..Self::uri(&format!("spiffe://bank/client/{name}")) }
    }
}

fn days_from_now(days: i32) -> time::OffsetDateTime {
    let shift = DAY * days.unsigned_abs();
    let now = SystemTime::now();
    if days < 0 { now - shift } else { now + shift }.into()
}

impl Authority {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("walengine-tls-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("authority of {test}"));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { dir, pem, issuer: Issuer::new(params, key) }
    }

    /// Puts credentials into a folder and gives its path. They may be of no use.
    fn write(&self, folder: &str, says: &Says) -> PathBuf {
        let dir = self.dir.join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            says.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.extended_key_usages.clone_from(&says.uses);
        params.not_before = days_from_now(says.days.0);
        params.not_after = days_from_now(says.days.1);
        params.serial_number = Some(SerialNumber::from(says.serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(dir.join(CA_FILE), &self.pem).unwrap();
        std::fs::write(dir.join(CERTIFICATE_FILE), certificate.pem()).unwrap();
        write_private(&dir.join(KEY_FILE), &key.serialize_pem());
        dir
    }

    fn open(&self, folder: &str, says: &Says) -> Arc<Tls> {
        Arc::new(Tls::open(&self.write(folder, says)).unwrap())
    }

    /// Lists a serial number as revoked, in the folder of somebody.
    fn revoke(&self, serial: u64, dir: &Path) {
        let params = CertificateRevocationListParams {
            this_update: days_from_now(-1),
            next_update: days_from_now(1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: days_from_now(-1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        std::fs::write(dir.join(REVOKED_FILE), list.pem().unwrap()).unwrap();
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(path);
    let mut file =
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Two sockets in memory; each takes and gives only so many bytes at a time.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    step: usize,
}

struct Ends<'a> {
    reads: &'a mut Pipe,
    writes: &'a mut Pipe,
}

impl Read for Ends<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.reads.bytes.len()).min(self.reads.step);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        bytes[..taken].copy_from_slice(&self.reads.bytes[..taken]);
        self.reads.bytes.drain(..taken);
        Ok(taken)
    }
}

impl Write for Ends<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (4 * self.writes.step).saturating_sub(self.writes.bytes.len());
        let taken = bytes.len().min(room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.writes.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends of a connection.
struct Connection {
    client: Secured,
    server: Secured,
    up: Pipe,
    down: Pipe,
}

/// Which port of the server is called.
#[derive(Clone, Copy, PartialEq)]
enum Port {
    Clients,
    Peers,
}

impl Connection {
    fn new(client: &Tls, expected: Expected, server: &Tls, port: Port, step: usize) -> Self {
        let client = client.current().connect(expected, PartitionId(3)).unwrap();
        let current = server.current();
        let config = match port {
            Port::Clients => current.serve_clients(),
            Port::Peers => current.serve_peers(),
        };
        let server = Secured::server(config.unwrap().clone(), Vec::new()).unwrap();
        let pipe = || Pipe { bytes: Vec::new(), step };
        Self { client, server, up: pipe(), down: pipe() }
    }

    /// Shakes hands. What each end says of it.
    fn shake(&mut self) -> (io::Result<()>, io::Result<()>) {
        let Self { client, server, up, down } = self;
        let (mut told, mut heard) = (None, None);
        for _ in 0..100_000 {
            if told.is_none() {
                let result = client.handshake(&mut Ends { reads: down, writes: up });
                told = Some(result).filter(|result| !blocks(result));
            }
            if heard.is_none() {
                let result = server.handshake(&mut Ends { reads: up, writes: down });
                heard = Some(result).filter(|result| !blocks(result));
            }
            if let Some(Err(_)) = &told
                && heard.is_none()
            {
                return (told.unwrap(), Err(ErrorKind::WouldBlock.into()));
            }
            if let (Some(_), Some(_)) = (&told, &heard) {
                return (told.unwrap(), heard.unwrap());
            }
        }
        panic!("hands were never shaken");
    }

    /// What the client's first read says, once the server has refused it.
    fn told_by_alert(&mut self) -> io::Error {
        let Self { client, up, down, .. } = self;
        client.read(&mut Ends { reads: down, writes: up }, &mut [0; 16]).unwrap_err()
    }
}

fn blocks(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Why the error of a handshake says that the other end was refused.
fn why(result: io::Result<()>) -> Refusal {
    let error = result.expect_err("it was let in");
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Refusal::of(error.expect("no error of TLS")).expect("not for its certificate")
}

fn local() -> ServerName<'static> {
    IpAddr::V4(Ipv4Addr::LOCALHOST).into()
}

#[test]
fn both_ends_know_each_other_and_the_partition_is_named_first() {
    let bank = Authority::new("known");
    let (node, client) = (bank.open("node", &Says::node(2)), bank.open("c", &Says::client("a")));
    for step in [1, 7, 4096, 1 << 20] {
        let expected = Expected::node_at(None, local());
        let mut both = Connection::new(&client, expected, &node, Port::Clients, step);
        let (told, heard) = both.shake();
        told.unwrap();
        heard.unwrap();
        let seen = node.proven(&node.current(), &both.server).unwrap();
        assert_eq!(*seen.identity, Identity::new("bank", Role::Client, "a").unwrap());
        let seen = client.proven(&client.current(), &both.client).unwrap();
        assert_eq!(seen.identity.node(), Some(2));
    }
    let config = client.current().dial(Expected::NODE);
    let mut hello = Secured::client(config, server_name(PartitionId(41))).unwrap();
    let (mut up, mut down) = (Pipe { bytes: Vec::new(), step: 1 << 20 }, Pipe::default());
    assert!(blocks(&hello.handshake(&mut Ends { reads: &mut down, writes: &mut up })));
    let bytes = up.bytes;
    assert_eq!(greeting(&bytes), Greeting::Named(Some(PartitionId(41))));
    for cut in [0, 1, 5, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(greeting(&bytes[..cut]), Greeting::Partial, "the first {cut} bytes");
    }
    assert_eq!(greeting(b"WALC a frame without TLS"), Greeting::Foreign);
}

#[test]
fn bytes_arrive_whole_and_in_order_however_the_sockets_take_them() {
    let bank = Authority::new("bytes");
    let (node, client) = (bank.open("node", &Says::node(2)), bank.open("c", &Says::client("a")));
    let sent: Vec<u8> = (0..300_000u32).map(|number| ((number * 31) >> 3) as u8).collect();
    for step in [11, 4096, 70_000] {
        let mut both = Connection::new(&client, Expected::NODE, &node, Port::Clients, step);
        let (told, heard) = both.shake();
        told.and(heard).unwrap();
        let Connection { client, server, up, down } = &mut both;
        let (mut written, mut received) = (0, Vec::new());
        while received.len() < sent.len() {
            let mut sends = Ends { reads: down, writes: up };
            if written < sent.len() {
                match client.write(&mut sends, &sent[written..]) {
                    Ok(taken) => written += taken,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            } else if let Err(error) = client.flush(&mut sends) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            let mut bytes = [0; 9000];
            match server.read(&mut Ends { reads: up, writes: down }, &mut bytes) {
                Ok(read) => received.extend_from_slice(&bytes[..read]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(received == sent && client.is_flushed());
        client.end();
        while !client.is_flushed() {
            let _ = client.flush(&mut Ends { reads: down, writes: up });
            let read = server.read(&mut Ends { reads: up, writes: down }, &mut [0; 10]);
            assert!(read.is_err() || read.unwrap() == 0);
        }
        assert_eq!(server.read(&mut Ends { reads: up, writes: down }, &mut [0; 10]).unwrap(), 0);
    }
}

/// A client that shows what [`Says`] says, whatever its own library thinks of that.
fn impostor(authority: &Authority, believed: &Authority, says: &Says) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let dir = authority.write("impostor", says);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(believed.pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join(CERTIFICATE_FILE)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY_FILE)).unwrap();
    let good = believed.open("good", &Says::client("good"));
    let mut config = rustls::ClientConfig::clone(&good.current().dial(Expected::NODE));
    let provider = rustls::crypto::ring::default_provider();
    let signing = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(signing));
    config
}

#[test]
fn whoever_does_not_belong_is_refused_for_the_right_reason_and_told_so() {
    let (bank, other) = (Authority::new("strangers"), Authority::new("elsewhere"));
    let node = bank.open("node", &Says::node(1));
    let server_only = Says { uses: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Says::node(3) };
    let twice = Says {
        uris: vec!["spiffe://bank/client/a".to_owned(), "spiffe://bank/admin/a".to_owned()],
        ..Says::client("a")
    };
    let refusals = [
        (Says { days: (-2, -1), ..Says::client("a") }, &bank, Refusal::Expired),
        (Says { days: (1, 2), ..Says::client("a") }, &bank, Refusal::NotYetValid),
        (Says::client("a"), &other, Refusal::Foreign),
        (server_only, &bank, Refusal::Usage),
        (twice, &bank, Refusal::Several),
        (Says { uris: Vec::new(), ..Says::client("a") }, &bank, Refusal::Nobody),
        (Says::uri("https://bank/client/a"), &bank, Refusal::Nobody),
        (Says::uri("spiffe://till/client/a"), &bank, Refusal::OtherCluster("till".to_owned())),
        (Says { serial: 66, ..Says::client("a") }, &bank, Refusal::Revoked),
    ];
    bank.revoke(66, &bank.dir.join("node"));
    assert!(node.reload().unwrap());
    for (says, authority, reason) in refusals {
        for port in [Port::Clients, Port::Peers] {
            let mut both = Connection::new(&node, Expected::NODE, &node, port, 1 << 20);
            let config = Arc::new(impostor(authority, &bank, &says));
            both.client = Secured::client(config, server_name(PartitionId(0))).unwrap();
            let (told, heard) = both.shake();
            assert_eq!(why(heard), reason);
            // In TLS 1.3 the client has ended its side of the handshake before it is refused.
            let alert = told.err().unwrap_or_else(|| both.told_by_alert());
            let words = explained(&alert).unwrap();
            assert!(words.contains("does not take this one's certificate"), "{words}");
        }
    }
    let mut both = Connection::new(&node, Expected::NODE, &node, Port::Clients, 1 << 20);
    let mut config = impostor(&bank, &bank, &Says::client("a"));
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    both.client = Secured::client(Arc::new(config), server_name(PartitionId(0))).unwrap();
    assert_eq!(why(both.shake().1), Refusal::Missing);
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn only_nodes_come_to_the_peers_port_and_only_the_right_one_answers() {
    let bank = Authority::new("peers");
    let (one, two) = (bank.open("1", &Says::node(1)), bank.open("2", &Says::node(2)));
    let client = bank.open("c", &Says::client("a"));
    let shake = |from: &Tls, expected: Expected, to: &Tls, port: Port| {
        Connection::new(from, expected, to, port, 1 << 20).shake()
    };
    let (told, heard) = shake(&one, Expected::node_at(Some(2), local()), &two, Port::Peers);
    told.and(heard).unwrap();
    let (_, heard) = shake(&client, Expected::NODE, &two, Port::Peers);
    assert_eq!(why(heard), Refusal::NoNode("client/a".to_owned()));
    let (told, _) = shake(&one, Expected::node_at(Some(3), local()), &two, Port::Peers);
    assert_eq!(why(told), Refusal::OtherNode { found: 2, expected: 3 });
    let elsewhere = ServerName::try_from("10.0.0.9").unwrap();
    let (told, _) = shake(&client, Expected::node_at(None, elsewhere), &two, Port::Clients);
    assert_eq!(why(told), Refusal::OtherHost("10.0.0.9".to_owned()));
}

#[test]
fn a_connection_ends_with_its_certificate_and_a_renewed_one_is_taken_up() {
    let bank = Authority::new("renewed");
    let node = bank.open("node", &Says::node(1));
    let client = bank.open("c", &Says { serial: 8, ..Says::client("a") });
    let proven = |client: &Tls| -> Proven {
        let mut both = Connection::new(client, Expected::NODE, &node, Port::Clients, 1 << 20);
        let (told, heard) = both.shake();
        told.and(heard).unwrap();
        node.proven(&node.current(), &both.server).unwrap()
    };
    let first = proven(&client);
    assert_eq!(first.check(), Ok(()));
    assert!(!node.reload().unwrap(), "nothing has changed");
    bank.revoke(8, node.dir());
    assert_eq!(first.check(), Ok(()), "nobody has looked yet");
    assert!(node.reload().unwrap());
    assert_eq!(first.check(), Err(Refusal::Revoked));

    bank.write("c", &Says { serial: 9, ..Says::client("a") });
    let refused = client.reload_if(|_| Err("it can't be written down".to_owned()));
    assert!(matches!(refused, Err(CredentialsError::NotTaken(_))));
    assert!(client.reload().unwrap(), "it was not taken before");
    assert_eq!(proven(&client).check(), Ok(()));

    // Another one's certificate, a key that does not fit, rubbish: told, and the old ones stay.
    bank.write("c", &Says::client("b"));
    assert!(client.reload().unwrap_err().to_string().contains("client/b"));
    bank.write("c", &Says { serial: 9, ..Says::client("a") });
    write_private(&client.dir().join(KEY_FILE), &KeyPair::generate().unwrap().serialize_pem());
    assert!(matches!(client.reload(), Err(CredentialsError::Malformed { .. })));
    std::fs::write(client.dir().join(CERTIFICATE_FILE), "no certificate").unwrap();
    assert!(matches!(client.reload(), Err(CredentialsError::Malformed { .. })));
    assert_eq!(proven(&client).check(), Ok(()));
}

#[test]
fn files_that_are_of_no_use_are_refused_by_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let (bank, other) = (Authority::new("files"), Authority::new("files-other"));
    let says = |says: &Says| Tls::open(&bank.write("c", says)).unwrap_err().to_string();
    assert!(says(&Says { days: (-2, -1), ..Says::client("a") }).contains("has expired"));
    let nobody = Says { uris: Vec::new(), ..Says::client("a") };
    assert!(says(&nobody).contains("names nobody"));
    let dir = bank.write("c", &Says::client("a"));
    std::fs::write(dir.join(CA_FILE), &other.pem).unwrap();
    assert!(Tls::open(&dir).unwrap_err().to_string().contains("no authority that is believed"));
    std::fs::remove_file(dir.join(CA_FILE)).unwrap();
    let error = Tls::open(&dir).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("cannot read"), "{error}");
    let dir = bank.write("d", &Says::client("a"));
    let everybody = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.join(KEY_FILE), everybody).unwrap();
    assert!(matches!(Tls::open(&dir), Err(CredentialsError::Exposed { .. })));
}
