//! Do secrets stay secret, and is PostgreSQL talked to as safely as was asked for?

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use walengine_tests::postgres::{Postgres, Stop};
use walengine_tests::projector::Projecting;
use walengine_tests::server::TestDir;

/// Nobody listens there.
const NO_SERVER: &str = "127.0.0.1:1";
const SECRET: &str = "hunter2";
/// Exit codes; see [`walengine_net::cli::Reason`].
const USAGE: i32 = 2;
const SERVER: i32 = 9;
const FILE: i32 = 11;
const POSTGRES: i32 = 12;

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn no_secret_is_repeated() {
    let dir = TestDir::new("projector-secrets");
    let url = format!("postgres://u:{SECRET}@127.0.0.1:1/d");
    let line = format!("host=127.0.0.1 port=1 password={SECRET}");
    let with = |postgres: &str| Projecting::new(dir.path(), NO_SERVER, postgres);
    let bad = format!("host=h port=x password={SECRET}");
    let mut cases = vec![
        (with(&format!("postgres://u:{SECRET}%@h/d")), vec![]),
        (with(&format!("host=h {SECRET}")), vec![]),
        (with(&bad), vec!["status"]),
        (with(&line), vec!["--polite"]),
        (with(&url), vec!["status"]),
        (with(&url), vec![url.as_str()]),
        (with(&line), vec![line.as_str()]),
    ];
    for command in [&["--help"][..], &["status", "--help"], &["rebuild", "--help"], &["-h"]] {
        let named = with("x").variable("WALENGINE_POSTGRES", &url).variable("PGPASSWORD", SECRET);
        cases.push((named, command.to_vec()));
    }
    for (projecting, command) in cases {
        let output = projecting.run(&command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.is_empty(), "{command:?}");
        assert!(!said.contains(SECRET), "{command:?}: {said}");
    }
}

#[test]
fn files_that_others_can_read_are_no_secrets() {
    let dir = TestDir::new("projector-files");
    let (password, passfile) = (dir.path().join("password"), dir.path().join("pgpass"));
    private(&password, SECRET);
    private(&passfile, &format!("*:*:*:*:{SECRET}"));
    let postgres = "host=127.0.0.1 port=1 user=u sslmode=disable";
    let plain = Projecting::new(dir.path(), NO_SERVER, postgres);
    let named = plain.clone().set("--password-file", password.to_str().unwrap());
    let filed = plain.clone().variable("PGPASSFILE", passfile.to_str().unwrap());
    for mode in [0o644, 0o640, 0o604, 0o620] {
        for path in [&password, &passfile] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        for projecting in [&named, &filed] {
            let line = projecting.fails_with(FILE);
            assert!(line.contains("chmod 600") && line.contains(&format!("{mode:04o}")), "{line}");
        }
    }
    // The usual file is left aside with a warning, as libpq does.
    private(&dir.path().join(".pgpass"), &format!("*:*:*:*:{SECRET}"));
    fs::set_permissions(dir.path().join(".pgpass"), Permissions::from_mode(0o644)).unwrap();
    let home = plain.variable("HOME", dir.path().to_str().unwrap());
    let output = home.run(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(POSTGRES), "{said}");
    assert!(said.contains("it is not used") && said.contains("chmod 600"), "{said}");
}

/// How a connection came about, by PostgreSQL's own log.
fn connected(postgres: &Postgres, projecting: &Projecting) -> Result<&'static str, String> {
    let before = postgres.log().len();
    let output = projecting.run(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Behind PostgreSQL comes the engine, which nobody serves here.
    if output.status.code() != Some(SERVER) {
        return Err(said);
    }
    let log = postgres.log();
    let authorized: Vec<_> =
        log[before..].lines().filter(|line| line.contains("connection authorized")).collect();
    assert!(!authorized.is_empty(), "{said}");
    let has_tls = |line: &&str| line.contains("SSL enabled");
    Ok(if authorized.iter().all(has_tls) { "tls" } else { "plain" })
}

#[test]
fn every_sslmode_does_with_a_server_what_libpq_does() {
    let dir = TestDir::new("projector-sslmodes");
    let mut postgres = Postgres::start(&dir.path().join("pg"));
    postgres.ask("CREATE ROLE ledger LOGIN PASSWORD 'hunter2'; CREATE ROLE plain LOGIN; CREATE ROLE either LOGIN");
    let (port, authority) = postgres.serve_tls("ledger");
    let right = authority.to_str().unwrap().to_owned();
    let wrong = dir.path().join("wrong.crt");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "9"])
        .arg("-keyout")
        .arg(dir.path().join("wrong.key"))
        .arg("-out")
        .arg(&wrong)
        .output()
        .unwrap();
    assert!(made.status.success());
    let wrong = wrong.to_str().unwrap();
    let of = |user: &str, host: &str, mode: &str, roots: &str| {
        let mut line = format!("host={host} port={port} user={user} dbname=owner");
        for (name, value) in [("sslmode", mode), ("sslrootcert", roots)] {
            if !value.is_empty() {
                line = format!("{line} {name}={value}");
            }
        }
        Projecting::new(dir.path(), NO_SERVER, &line)
            .variable("PGPASSWORD", SECRET)
            .variable("HOME", "/nonexistent")
    };
    let right = right.as_str();
    // user, host, mode, authorities; how it connects, or what the error names.
    let table = [
        ("either", "localhost", "disable", "", Ok("plain")),
        ("either", "localhost", "allow", "", Ok("plain")),
        ("either", "localhost", "prefer", "", Ok("tls")),
        ("either", "localhost", "", "", Ok("tls")),
        ("either", "localhost", "require", "", Ok("tls")),
        ("either", "localhost", "verify-ca", right, Ok("tls")),
        ("either", "127.0.0.1", "verify-ca", right, Ok("tls")),
        ("either", "localhost", "verify-full", right, Ok("tls")),
        ("either", "127.0.0.1", "verify-full", right, Err("not valid for name")),
        ("either", "localhost", "verify-ca", "", Err("sslrootcert")),
        ("either", "localhost", "verify-full", "", Err("sslrootcert")),
        ("either", "localhost", "verify-full", "system", Err("UnknownIssuer")),
        ("either", "localhost", "", "system", Err("UnknownIssuer")),
        ("either", "localhost", "require", "system", Err("too weak")),
        ("either", "localhost", "prefer", "system", Err("too weak")),
        ("either", "localhost", "require", right, Ok("tls")),
        ("either", "localhost", "require", wrong, Err("no TLS")),
        ("either", "localhost", "verify-ca", wrong, Err("no TLS")),
        ("either", "localhost", "verify-full", wrong, Err("no TLS")),
        ("either", "localhost", "prefer", wrong, Ok("plain")),
        ("ledger", "localhost", "disable", "", Err("no encryption")),
        ("ledger", "localhost", "allow", "", Ok("tls")),
        ("ledger", "localhost", "allow", wrong, Err("no TLS")),
        ("ledger", "localhost", "prefer", "", Ok("tls")),
        ("ledger", "localhost", "prefer", wrong, Err("no encryption")),
        ("ledger", "localhost", "require", "", Ok("tls")),
        ("plain", "localhost", "disable", "", Ok("plain")),
        ("plain", "localhost", "allow", "", Ok("plain")),
        ("plain", "localhost", "prefer", "", Ok("plain")),
        ("plain", "localhost", "require", "", Err("SSL encryption")),
        ("plain", "localhost", "verify-full", right, Err("SSL encryption")),
        // A socket that is not there, and a host behind it: each as if it stood alone.
        ("either", "/nonexistent,localhost", "verify-full", right, Ok("tls")),
        ("either", "/nonexistent,127.0.0.1", "verify-full", right, Err("not valid for name")),
        ("either", "/nonexistent,localhost", "verify-full", wrong, Err("no TLS")),
        ("either", "/nonexistent,localhost", "require", "", Ok("tls")),
        ("either", postgres.host(), "verify-full", right, Ok("plain")),
        ("either", postgres.host(), "require", "", Ok("plain")),
        ("either", "@x", "require", "", Err("abstract")),
    ];
    for (user, host, mode, roots, expected) in table {
        let found = connected(&postgres, &of(user, host, mode, roots));
        match (&found, expected) {
            (Ok(found), Ok(expected)) if *found == expected => {}
            (Err(said), Err(expected)) if said.contains(expected) => {}
            _ => panic!("{user} {host} {mode} {roots}: {found:?}, expected {expected:?}"),
        }
    }
    // Variables say the same, and the system's authorities are those of the system.
    let system = of("either", "localhost", "", "").variable("PGSSLROOTCERT", "system");
    assert_eq!(connected(&postgres, &system.variable("SSL_CERT_FILE", right)), Ok("tls"));
    let off = of("either", "localhost", "", "").variable("PGSSLMODE", "disable");
    assert_eq!(connected(&postgres, &off), Ok("plain"));
    // Channel binding, where TLS and a password make it possible.
    let bound =
        |user, mode| of(user, "localhost", mode, "").variable("PGCHANNELBINDING", "require");
    assert_eq!(connected(&postgres, &bound("ledger", "require")), Ok("tls"));
    assert!(connected(&postgres, &bound("either", "require")).is_err(), "nothing was bound");
    assert!(connected(&postgres, &bound("either", "disable")).is_err(), "nothing can be bound");
    let usage =
        of("either", "localhost", "require", "").variable("PGSSLCRLDIR", "/x").run(&["status"]);
    assert_eq!(usage.status.code(), Some(USAGE), "a folder of lists is not read");
    postgres.stop(Stop::Fast);
}
