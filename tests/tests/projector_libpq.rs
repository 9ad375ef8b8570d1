//! Does the projector connect where a running libpq connects, encrypted where that is, and refuse what
//! that refuses? psql and the projector try the same connection strings. Where the projector is stricter
//! on purpose, the table says why.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use walengine_tests::postgres::Postgres;
use walengine_tests::projector::Projecting;
use walengine_tests::server::TestDir;

/// Nobody listens there.
const NO_SERVER: &str = "127.0.0.1:1";
/// Exit code of [`walengine_net::cli::Reason::Server`].
const SERVER: i32 = 9;

/// What comes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Plain,
    Tls,
    Refused,
}
use Came::{Plain, Refused, Tls};

/// What is tried.
#[derive(Clone, Debug, Default)]
struct Try {
    /// Connection string, without the port.
    line: String,
    variables: Vec<(&'static str, String)>,
    /// `~`, if there is one.
    home: Option<PathBuf>,
    has_no_tls: bool,
}

fn line(line: impl Into<String>) -> Try {
    Try { line: line.into(), ..Try::default() }
}

impl Try {
    fn and(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    fn at_home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_owned());
        self
    }
}

struct Side<'a> {
    postgres: &'a Postgres,
    dir: &'a TestDir,
    port: u16,
    /// Port of a server that has no TLS.
    plain_port: u16,
}

impl Side<'_> {
    fn line(&self, of: &Try) -> String {
        let port = if of.has_no_tls { self.plain_port } else { self.port };
        format!("{} port={port} dbname=owner", of.line)
    }

    fn libpq(&self, of: &Try) -> (Came, String) {
        let mut psql = self.postgres.psql();
        psql.env("HOME", of.home.as_deref().unwrap_or(Path::new("/nonexistent")));
        psql.envs(of.variables.iter().map(|(name, value)| (name, value)));
        let ask = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let output = psql.args(["-d", &self.line(of), "-c", ask]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let came = match (output.status.success(), String::from_utf8_lossy(&output.stdout).trim()) {
            (true, "t") => Tls,
            (true, "f") => Plain,
            (true, other) => panic!("{other}"),
            (false, _) => Refused,
        };
        (came, said)
    }

    fn projector(&self, of: &Try) -> (Came, String) {
        let mut projecting = Projecting::new(self.dir.path(), NO_SERVER, &self.line(of)).variable(
            "HOME",
            of.home.as_ref().map_or("/nonexistent", |home| home.to_str().unwrap()),
        );
        for (name, value) in &of.variables {
            projecting = projecting.variable(name, value);
        }
        let before = self.postgres.log().len();
        let output = projecting.run(&["status"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Behind PostgreSQL comes the engine, which nobody serves here.
        if output.status.code() != Some(SERVER) {
            assert!(!said.contains("panicked"), "{said}");
            return (Refused, said);
        }
        let log = self.postgres.log();
        let authorized: Vec<_> =
            log[before..].lines().filter(|line| line.contains("connection authorized")).collect();
        let mine: Vec<_> =
            authorized.iter().filter(|line| line.contains("application_name=walengine")).collect();
        assert!(!mine.is_empty(), "{said} {authorized:?}");
        let is_tls = mine.iter().all(|line| line.contains("SSL enabled"));
        (if is_tls { Tls } else { Plain }, said)
    }

    /// Both do the same.
    fn agree(&self, of: &Try, expected: Came) {
        let (libpq, why) = self.libpq(of);
        assert_eq!(libpq, expected, "libpq, {of:?}: {why}");
        let (projector, said) = self.projector(of);
        assert_eq!(projector, expected, "projector, {of:?}: {said}");
    }

    /// libpq connects; the projector refuses, and its message names the cause.
    fn stricter(&self, of: &Try, libpq: Came, cause: &str) {
        let (found, why) = self.libpq(of);
        assert_eq!(found, libpq, "libpq, {of:?}: {why}");
        let (projector, said) = self.projector(of);
        assert_eq!(projector, Refused, "{of:?}");
        assert!(said.contains(cause), "{of:?}: {said}");
    }
}

/// Forwards connections to a port, and answers requests for TLS as a server without it.
fn without_tls(port: u16) -> u16 {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || {
                let mut first = [0; 8];
                while client.read_exact(&mut first).is_ok() {
                    if first == SSL_REQUEST {
                        client.write_all(b"N").unwrap();
                        continue;
                    }
                    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    server.write_all(&first).unwrap();
                    let (mut from, mut to) =
                        (client.try_clone().unwrap(), server.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to); // until either side ends
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                    let _ = std::io::copy(&mut server, &mut client);
                    let _ = client.shutdown(std::net::Shutdown::Both);
                    return;
                }
            });
        }
    });
    own
}

/// Certificates and lists that the test needs beside those of the server.
const CERTIFICATES: &str = "set -e; umask 077
req() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj \"$2\"; }
sign() { openssl x509 -req -in $1.csr -CA pg/ca.crt -CAkey pg/ca.key -CAcreateserial -out $1.crt -days 9 $2; }
openssl req -x509 -newkey rsa:2048 -nodes -keyout wrong.key -out wrong.crt -subj /CN=other -days 9
openssl req -x509 -newkey rsa:2048 -nodes -keyout itself.key -out itself.crt -subj /CN=localhost -days 9
printf 'basicConstraints=CA:FALSE\n' >none.ext
printf 'subjectAltName=DNS:elsewhere\n' >other.ext
printf 'subjectAltName=IP:127.0.0.1\n' >address.ext
req cn /CN=localhost; sign cn '-extfile none.ext'
req san /CN=localhost; sign san '-extfile other.ext'
req ip /CN=localhost; sign ip '-extfile address.ext'
req v1 /CN=localhost; sign v1
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=9\n' >ca.cnf
: >index; echo 01 >number
list() { openssl ca -config ca.cnf -gencrl -keyfile $1.key -cert $1.crt -out $2 $3; }
list pg/ca empty.crl; list wrong other.crl
list pg/ca old.crl '-crl_lastupdate 20190101000000Z -crl_nextupdate 20200101000000Z'
openssl ca -config ca.cnf -revoke pg/tls.crt -keyfile pg/ca.key -cert pg/ca.crt
list pg/ca revoked.crl
cp pg/client.crt pg/client.key .; chown $(id -u) client.crt client.key; chmod 600 client.key
for home in right wrong revoked certified; do mkdir -p home-$home/.postgresql; done
cp pg/ca.crt home-right/.postgresql/root.crt; cp wrong.crt home-wrong/.postgresql/root.crt
cp pg/ca.crt home-revoked/.postgresql/root.crt; cp revoked.crl home-revoked/.postgresql/root.crl
cp client.crt home-certified/.postgresql/postgresql.crt
cp client.key home-certified/.postgresql/postgresql.key";

#[test]
fn the_projector_connects_as_libpq_does() {
    let dir = TestDir::new("projector-libpq");
    let mut postgres = Postgres::start(&dir.path().join("pg"));
    postgres.ask(
        "CREATE ROLE ledger LOGIN PASSWORD 'hunter2'; CREATE ROLE either LOGIN;
         CREATE ROLE plain LOGIN; CREATE ROLE certified LOGIN",
    );
    let (port, authority) = postgres.serve_tls("ledger");
    let made =
        Command::new("bash").current_dir(dir.path()).args(["-c", CERTIFICATES]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let plain_port = without_tls(port);
    let file = |name: &str| dir.path().join(name);
    let shown = |name: &str| file(name).display().to_string();
    let right = authority.display().to_string();
    let (missing, wrong) = (shown("missing"), shown("wrong.crt"));
    let side = Side { postgres: &postgres, dir: &dir, port, plain_port };
    let either = |host: &str, mode: &str, more: &str| {
        line(format!("host={host} user=either sslmode={mode} {more}"))
    };
    let roots = |path: &str| format!("sslrootcert={path}");

    // Every mode with every kind of authorities: none, the right one, another, a file that is not there,
    // and the first two in the usual place.
    for (mode, expected) in [
        ("disable", [Plain, Plain, Plain, Plain, Plain, Plain]),
        ("allow", [Plain, Plain, Plain, Plain, Plain, Plain]),
        ("prefer", [Tls, Tls, Plain, Tls, Tls, Plain]),
        ("require", [Tls, Tls, Refused, Tls, Tls, Refused]),
        ("verify-ca", [Refused, Tls, Refused, Refused, Tls, Refused]),
        ("verify-full", [Refused, Tls, Refused, Refused, Tls, Refused]),
    ] {
        let of = |more: &str| either("localhost", mode, more);
        let tries = [
            of(""),
            of(&roots(&right)),
            of(&roots(&wrong)),
            of(&roots(&missing)),
            of("").at_home(&file("home-right")),
            of("").at_home(&file("home-wrong")),
        ];
        for (at, (of, expected)) in tries.iter().zip(expected).enumerate() {
            // A file that somebody names and that is not there: libpq looks at it for verify-* only.
            if at == 3 && ["allow", "prefer", "require"].contains(&mode) {
                side.stricter(of, expected, "missing");
            } else {
                side.agree(of, expected);
            }
        }
        // A server without TLS.
        let bare = Try { has_no_tls: true, ..of(&roots(&right)) };
        let is_plain = ["disable", "allow", "prefer"].contains(&mode);
        side.agree(&bare, if is_plain { Plain } else { Refused });
    }
    // A name that the certificate does not have.
    for (mode, expected) in
        [("require", Tls), ("verify-ca", Tls), ("verify-full", Refused), ("prefer", Tls)]
    {
        side.agree(&either("127.0.0.1", mode, &roots(&right)), expected);
    }
    // Nothing is said. Another machine gets verify-full, and libpq would take what comes.
    side.agree(&line("host=localhost user=either"), Tls);
    side.stricter(&line("host=0.0.0.0 user=either"), Tls, "no TLS");
    side.agree(&line("host=0.0.0.0 user=either sslmode=prefer"), Tls);
    side.agree(&line("host=0.0.0.0 user=either sslmode=disable"), Plain);
    // Users who must have TLS, or none.
    for (user, mode, expected) in [
        ("ledger", "disable", Refused),
        ("ledger", "allow", Tls),
        ("ledger", "prefer", Tls),
        ("plain", "prefer", Plain),
        ("plain", "require", Refused),
    ] {
        let of = line(format!("host=localhost user={user} sslmode={mode}"));
        side.agree(&of.and("PGPASSWORD", "hunter2"), expected);
    }
    // An address without a name, versions, channel binding, an old variable.
    let with = |more: &str| line(format!("host=localhost user=either {more}"));
    side.agree(
        &line(format!("hostaddr=127.0.0.1 user=either sslmode=verify-full {}", roots(&right))),
        Refused,
    );
    side.agree(
        &line(format!(
            "host=localhost hostaddr=127.0.0.1 user=either sslmode=verify-full {}",
            roots(&right)
        )),
        Tls,
    );
    side.agree(&with("sslmode=require ssl_min_protocol_version=TLSv1.3"), Tls);
    side.agree(&with("sslmode=require ssl_max_protocol_version=TLSv1.2"), Tls);
    side.agree(&with("sslmode=require sslsni=0"), Tls);
    side.agree(&with("sslmode=require channel_binding=require"), Refused);
    side.agree(&with("").and("PGREQUIRESSL", "1"), Tls);
    side.agree(&Try { has_no_tls: true, ..with("").and("PGREQUIRESSL", "1") }, Refused);
    // Lists of revoked certificates.
    for (list, expected) in
        [("empty.crl", Tls), ("revoked.crl", Refused), ("old.crl", Refused), ("other.crl", Refused)]
    {
        let list = format!("{} sslcrl={}", roots(&right), shown(list));
        side.agree(&either("localhost", "verify-full", &list), expected);
        side.agree(&either("localhost", "require", &list), expected);
    }
    let revoked = format!("sslcrl={}", shown("revoked.crl"));
    side.agree(&either("localhost", "require", &revoked), Tls); // nothing is verified
    side.agree(&either("localhost", "verify-ca", "").at_home(&file("home-revoked")), Refused);
    side.agree(
        &either("localhost", "verify-ca", &roots(&right)).and("PGSSLCRL", &shown("revoked.crl")),
        Refused,
    );
    let gone = format!("{} sslcrl={missing}", roots(&right));
    side.stricter(&either("localhost", "verify-ca", &gone), Tls, "missing");
    // Certificates of clients.
    let identity = format!("sslcert={} sslkey={}", shown("client.crt"), shown("client.key"));
    let certified =
        |more: &str| line(format!("host=localhost user=certified sslmode=require {more}"));
    side.agree(&certified(&identity), Tls);
    side.agree(&certified(""), Refused);
    side.agree(&certified("").at_home(&file("home-certified")), Tls);
    fs::copy(file("client.key"), file("open.key")).unwrap();
    fs::set_permissions(file("open.key"), Permissions::from_mode(0o644)).unwrap();
    let open = format!("sslcert={} sslkey={}", shown("client.crt"), shown("open.key"));
    side.agree(&certified(&open), Refused);
    side.agree(&certified(&format!("sslcert={missing} sslkey={missing}")), Refused);
    side.stricter(
        &either("localhost", "require", &format!("sslcert={missing} sslkey={missing}")),
        Tls,
        "missing",
    );
    // What libpq can do and the projector can't is named, and never passed over.
    fs::write(
        file("services"),
        format!("[ledger]\nhost=localhost\nport={port}\nsslmode=require\n"),
    )
    .unwrap();
    let service = line("user=either service=ledger").and("PGSERVICEFILE", &shown("services"));
    side.stricter(&service, Tls, "service");
    let service = line("host=localhost user=either")
        .and("PGSERVICEFILE", &shown("services"))
        .and("PGSERVICE", "ledger");
    side.stricter(&service, Tls, "service");
    let folder = format!("{} sslcrldir={}", roots(&right), dir.path().display());
    for (of, named) in [
        (either("localhost", "verify-ca", &folder), "sslcrldir"),
        (either("localhost", "require", "requirepeer=postgres"), "requirepeer"),
        (either("localhost", "require", "").and("PGREQUIREAUTH", "scram-sha-256"), "require_auth"),
        (either("localhost", "require", "").and("PGGSSENCMODE", "require"), "gssencmode"),
    ] {
        let (came, said) = side.projector(&of);
        assert_eq!(came, Refused, "{of:?}");
        assert!(said.contains(named), "{of:?}: {said}");
    }
    // Other certificates of the server: which modes libpq takes them in, for this name and this address.
    let other_certificates = [
        // The name stands in the common name only.
        ("cn", right.as_str(), [Tls, Tls, Refused]),
        // The common name does not count beside other names.
        ("san", &right, [Tls, Refused, Refused]),
        // It does beside addresses.
        ("ip", &right, [Tls, Tls, Tls]),
        // The certificate is its own authority.
        ("itself", &shown("itself.crt"), [Tls, Tls, Refused]),
        ("itself", &right, [Refused, Refused, Refused]),
    ];
    for (name, authority, [of_authority, of_name, of_address]) in other_certificates {
        postgres.serve_certificate(&file(&format!("{name}.crt")), &file(&format!("{name}.key")));
        let side = Side { postgres: &postgres, dir: &dir, port, plain_port };
        side.agree(&either("localhost", "require", ""), Tls);
        side.agree(&either("localhost", "verify-ca", &roots(authority)), of_authority);
        side.agree(&either("localhost", "verify-full", &roots(authority)), of_name);
        side.agree(&either("127.0.0.1", "verify-full", &roots(authority)), of_address);
    }
    postgres.serve_certificate(&file("v1.crt"), &file("v1.key"));
    let side = Side { postgres: &postgres, dir: &dir, port, plain_port };
    side.agree(&either("localhost", "require", ""), Tls);
    side.stricter(&either("localhost", "verify-ca", &roots(&right)), Tls, "version 1 of X.509");
}
