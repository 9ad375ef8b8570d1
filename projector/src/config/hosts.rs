//! What is tried with each host: with or without TLS, and what is demanded of the certificate. What
//! libpq 16 does for every `sslmode`, and more where nothing is said: a host that is not this one gets
//! TLS with a verified name.
//!
//! | sslmode | attempts | certificate |
//! |---|---|---|
//! | disable | plain | |
//! | allow | plain; if the server refuses that, TLS | verify-ca if there is a file of authorities |
//! | prefer | TLS; if there is none or it fails, plain | verify-ca if there is a file of authorities |
//! | require | TLS | verify-ca if there is a file of authorities |
//! | verify-ca | TLS | signed by an authority of the file, which must exist |
//! | verify-full | TLS | the same, and it names the host |
//! | none, this machine | as prefer | |
//! | none, another machine | as verify-full | of the file, or of the system's authorities |
//!
//! Certificates are verified with `sslcrl` or `~/.postgresql/root.crl` if there is one: each must be
//! covered by a list that is up to date. A file that is named and missing is an error in every mode.
//!
//! A Unix socket is always plain. `sslrootcert=system` means the system's authorities, and allows
//! verify-full only, which is then the default everywhere.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::text::Settings;
use crate::fatal::{Fatal, Reason};
use crate::tls::{Roots, TlsMode, TlsSettings, Versions};

/// All modes, from the weakest to the strongest.
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// One way to connect to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Without TLS.
    Plain,
    /// With TLS if the server has it, otherwise on the same connection without.
    TlsIfThere(TlsSettings),
    /// With TLS or not at all.
    Tls(TlsSettings),
}

/// A host by its name, its address, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name, address or directory of a socket.
    pub host: Option<String>,
    /// Address; spares the look-up of the name.
    pub hostaddr: Option<String>,
    /// Port.
    pub port: String,
}

impl Place {
    fn is_socket(&self) -> bool {
        self.hostaddr.is_none() && self.host.as_ref().is_some_and(|host| host.starts_with('/'))
    }

    /// Whether it is surely this machine.
    fn is_here(&self) -> bool {
        let place = self.hostaddr.as_ref().or(self.host.as_ref()).map_or("", String::as_str);
        let address: Option<IpAddr> = place.parse().ok();
        place == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

/// The hosts, with an address or a port for each.
pub fn places(settings: &Settings) -> Result<Vec<Place>, Fatal> {
    let list = |key: &str| -> Vec<String> {
        settings.get(key).map_or(Vec::new(), |text| text.split(',').map(str::to_owned).collect())
    };
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = hosts.len().max(addresses.len());
    let fits = |many: usize| many == 0 || many == count;
    if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(usage("host, hostaddr and port name different numbers of hosts".to_owned()));
    }
    let place = |at: usize| {
        let set = |list: &[String]| list.get(at).filter(|text| !text.is_empty()).cloned();
        let port = if ports.len() == 1 {
            set(&ports[..1]).or_else(|| ports.first().cloned())
        } else {
            set(&ports)
        };
        let place = Place {
            host: set(&hosts),
            hostaddr: set(&addresses),
            port: port.filter(|port| !port.is_empty()).unwrap_or_else(|| "5432".to_owned()),
        };
        let is_abstract = place.host.as_ref().is_some_and(|host| host.starts_with('@'));
        if place.host.is_none() && place.hostaddr.is_none() || is_abstract {
            return Err(usage("host names an abstract socket, or nothing: name a host".to_owned()));
        }
        if let Some(address) = &place.hostaddr
            && address.parse::<IpAddr>().is_err()
        {
            return Err(usage("hostaddr is no address: names go into host".to_owned()));
        }
        Ok(place)
    };
    (0..count).map(place).collect()
}

/// What is tried with a host, in order.
pub fn attempts(
    place: &Place,
    settings: &Settings,
    home: Option<&Path>,
) -> Result<Vec<Attempt>, Fatal> {
    let said = settings.get("sslmode").map(String::as_str);
    let is_system = settings.get("sslrootcert").is_some_and(|roots| roots == "system");
    if is_system && said.is_some_and(|said| said != "verify-full") {
        return Err(usage(format!(
            "sslmode={} is too weak for sslrootcert=system: use sslmode=verify-full",
            said.unwrap_or_default()
        )));
    }
    if said.is_some_and(|said| !MODES.contains(&said)) {
        return Err(usage(format!("sslmode is not one of {}", MODES.join(", "))));
    }
    if place.is_socket() {
        return Ok(vec![Attempt::Plain]);
    }
    let direct = settings.get("sslnegotiation").is_some_and(|how| how == "direct");
    let mode = match said {
        Some(mode) => mode,
        None if is_system => "verify-full",
        None if place.is_here() => "prefer",
        None => "verify-full",
    };
    if direct && !MODES[3..].contains(&mode) {
        return Err(usage(format!(
            "sslmode={mode} is too weak for sslnegotiation=direct: use require, verify-ca or \
             verify-full"
        )));
    }
    let tls = |mode| tls_of(settings, mode, said.is_some(), home);
    let attempts = match mode {
        "disable" => vec![Attempt::Plain],
        "allow" => vec![Attempt::Plain, Attempt::Tls(tls(TlsMode::Require)?)],
        "prefer" => vec![Attempt::TlsIfThere(tls(TlsMode::Require)?), Attempt::Plain],
        "require" => vec![Attempt::Tls(tls(TlsMode::Require)?)],
        "verify-ca" => vec![Attempt::Tls(tls(TlsMode::VerifyCa)?)],
        _ => vec![Attempt::Tls(tls(TlsMode::VerifyFull)?)],
    };
    if mode == "verify-full" && place.host.is_none() {
        return Err(usage(
            "sslmode=verify-full needs the host's name beside its hostaddr: add host=".to_owned(),
        ));
    }
    Ok(attempts)
}

/// As libpq does: files in `~/.postgresql` are used if they exist.
fn tls_of(
    settings: &Settings,
    mode: TlsMode,
    is_said: bool,
    home: Option<&Path>,
) -> Result<TlsSettings, Fatal> {
    let usual = |name: &str| {
        let path = home?.join(".postgresql").join(name);
        path.exists().then_some(path)
    };
    let file = |key: &str, name| settings.get(key).map(PathBuf::from).or_else(|| usual(name));
    let roots = match settings.get("sslrootcert").map(String::as_str) {
        Some("system") => Roots::System,
        _ => match file("sslrootcert", "root.crt") {
            Some(path) => Roots::File(path),
            None if mode == TlsMode::Require => Roots::None,
            None if !is_said => Roots::System,
            None => {
                return Err(usage(
                    "there is no file of authorities to verify the server with \
                     (~/.postgresql/root.crt): name one with sslrootcert=FILE, or take the system's \
                     with sslrootcert=system"
                        .to_owned(),
                ));
            }
        },
    };
    // As libpq: a file of authorities is used whenever there is one.
    let mode = match (mode, &roots) {
        (TlsMode::Require, Roots::File(_)) => TlsMode::VerifyCa,
        (mode, _) => mode,
    };
    // As libpq: the usual list is used where certificates are verified.
    let revoked = if mode == TlsMode::Require { None } else { file("sslcrl", "root.crl") };
    let certmode = settings.get("sslcertmode").map_or("allow", String::as_str);
    let identity = match (file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key")) {
        _ if certmode == "disable" => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, _) => None,
        (Some(_), None) => {
            return Err(usage(
                "sslcert is set without sslkey: also name the key of the certificate".to_owned(),
            ));
        }
    };
    if !["disable", "allow"].contains(&certmode) && identity.is_none() {
        return Err(usage("sslcertmode demands a certificate: set sslcert and sslkey".to_owned()));
    }
    let version = |key: &str| settings.get(key).map(|version| version.to_ascii_lowercase());
    let least = version("ssl_min_protocol_version");
    let most = version("ssl_max_protocol_version");
    let versions = match (least.as_deref(), most.as_deref()) {
        (None | Some("tlsv1" | "tlsv1.1" | "tlsv1.2"), None | Some("tlsv1.3")) => Versions::Both,
        (Some("tlsv1.3"), None | Some("tlsv1.3")) => Versions::Only13,
        (None | Some("tlsv1" | "tlsv1.1" | "tlsv1.2"), Some("tlsv1.2")) => Versions::Only12,
        _ => {
            return Err(usage(
                "ssl_min_protocol_version and ssl_max_protocol_version leave neither TLSv1.2 nor \
                 TLSv1.3"
                    .to_owned(),
            ));
        }
    };
    Ok(TlsSettings {
        mode,
        roots,
        revoked,
        identity,
        versions,
        names_host: settings.get("sslsni").is_none_or(|sni| sni != "0"),
        is_direct: settings.get("sslnegotiation").is_some_and(|how| how == "direct"),
    })
}

fn usage(message: String) -> Fatal {
    Fatal::new(Reason::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// What is tried, in short: a mode, and whose authorities sign.
    fn tried(pairs: &[(&str, &str)], home: Option<&Path>) -> Vec<String> {
        let settings = settings(pairs);
        let shown = |attempt: &Attempt| {
            let (word, tls) = match attempt {
                Attempt::Plain => return "plain".to_owned(),
                Attempt::TlsIfThere(tls) => ("if there ", tls),
                Attempt::Tls(tls) => ("", tls),
            };
            let roots = match &tls.roots {
                Roots::None => "nobody",
                Roots::System => "system",
                Roots::File(_) => "file",
            };
            format!("{word}{:?} of {roots}", tls.mode)
        };
        let Ok(places) = places(&settings) else { return vec!["refused".to_owned()] };
        let of = |place: &Place| match attempts(place, &settings, home) {
            Ok(attempts) => attempts.iter().map(shown).collect::<Vec<_>>().join(", "),
            Err(_) => "refused".to_owned(),
        };
        places.iter().map(of).collect()
    }

    #[test]
    fn every_sslmode_tries_what_libpq_16_tries() {
        let file = std::env::temp_dir().join(format!("walengine-root-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let file = file.to_str().unwrap();
        // host, sslmode, sslrootcert, and what is tried.
        let table = [
            ("db", "disable", "", "plain"),
            ("db", "allow", "", "plain, Require of nobody"),
            ("db", "allow", "file", "plain, VerifyCa of file"),
            ("db", "prefer", "", "if there Require of nobody, plain"),
            ("db", "prefer", "file", "if there VerifyCa of file, plain"),
            ("db", "require", "", "Require of nobody"),
            ("db", "require", "file", "VerifyCa of file"),
            ("db", "verify-ca", "", "refused"),
            ("db", "verify-ca", "file", "VerifyCa of file"),
            ("db", "verify-full", "", "refused"),
            ("db", "verify-full", "file", "VerifyFull of file"),
            ("db", "disable", "system", "refused"),
            ("db", "allow", "system", "refused"),
            ("db", "prefer", "system", "refused"),
            ("db", "require", "system", "refused"),
            ("db", "verify-ca", "system", "refused"),
            ("db", "verify-full", "system", "VerifyFull of system"),
            ("db", "", "system", "VerifyFull of system"),
            ("localhost", "", "system", "VerifyFull of system"),
            // Nothing is said: a name is verified of all but this machine.
            ("db", "", "", "VerifyFull of system"),
            ("db", "", "file", "VerifyFull of file"),
            ("10.0.0.7", "", "", "VerifyFull of system"),
            ("0.0.0.0", "", "", "VerifyFull of system"),
            ("localhost.example", "", "", "VerifyFull of system"),
            ("localhost", "", "", "if there Require of nobody, plain"),
            ("127.8.9.1", "", "", "if there Require of nobody, plain"),
            ("::1", "", "", "if there Require of nobody, plain"),
            // What is said counts on this machine, too.
            ("localhost", "verify-full", "file", "VerifyFull of file"),
            ("::1", "require", "", "Require of nobody"),
            // A socket is always plain, and nothing else is.
            ("/run", "disable", "", "plain"),
            ("/run", "require", "", "plain"),
            ("/run", "verify-ca", "", "plain"),
            ("/run", "verify-full", "", "plain"),
            ("/run", "", "", "plain"),
            ("/run", "nonsense", "", "refused"),
            ("db", "nonsense", "", "refused"),
            ("db", "Require", "", "refused"),
            ("@abstract", "", "", "refused"),
        ];
        for (host, mode, roots, expected) in table {
            let roots = if roots == "file" { file } else { roots };
            let all = [("host", host), ("sslmode", mode), ("sslrootcert", roots)];
            let set: Vec<_> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            assert_eq!(tried(&set, None), [expected], "{set:?}");
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn each_of_several_hosts_is_tried_as_if_it_stood_alone() {
        let verified =
            [("host", "/run,db,localhost"), ("sslmode", "verify-full"), ("sslrootcert", "/r")];
        let full = "VerifyFull of file";
        assert_eq!(tried(&verified, None), ["plain", full, full]);
        let nothing = [("host", "/run,db,localhost")];
        let here = "if there Require of nobody, plain";
        assert_eq!(tried(&nothing, None), ["plain", "VerifyFull of system", here]);
        // An address decides where the host is, and the name is what is verified.
        let addressed = [("host", "localhost,db"), ("hostaddr", "10.0.0.1,127.0.0.1")];
        assert_eq!(tried(&addressed, None), ["VerifyFull of system", here]);
        let socket_name = [("host", "/run"), ("hostaddr", "10.0.0.1"), ("sslmode", "require")];
        assert_eq!(tried(&socket_name, None), ["Require of nobody"], "the address is connected to");
        let nameless = [("hostaddr", "10.0.0.1")];
        assert_eq!(tried(&nameless, None), ["refused"], "no name to verify");
        let nameless = [("hostaddr", "10.0.0.1"), ("sslmode", "require")];
        assert_eq!(tried(&nameless, None), ["Require of nobody"]);
        for wrong in [
            [("host", "a,b"), ("hostaddr", "10.0.0.1")],
            [("host", "a,b"), ("port", "1,2,3")],
            [("host", "a,,b"), ("port", "1")],
            [("host", "a"), ("hostaddr", "b")],
        ] {
            assert!(tried(&wrong, None).contains(&"refused".to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn further_settings_are_kept_to_or_refused() {
        let with = |more: (&'static str, &'static str)| {
            tried(&[("host", "db"), ("sslmode", "require"), more], None)
        };
        assert_eq!(with(("sslnegotiation", "direct")), ["Require of nobody"]);
        assert_eq!(with(("sslcert", "/c")), ["refused"]);
        assert_eq!(with(("sslcertmode", "require")), ["refused"]);
        assert_eq!(with(("ssl_min_protocol_version", "TLSv1.3")), ["Require of nobody"]);
        assert_eq!(with(("ssl_max_protocol_version", "TLSv1.1")), ["refused"]);
        for weak in ["disable", "allow", "prefer"] {
            let direct = [("host", "db"), ("sslmode", weak), ("sslnegotiation", "direct")];
            assert_eq!(tried(&direct, None), ["refused"], "{weak}");
        }
        let home = std::env::temp_dir().join(format!("walengine-home-{}", std::process::id()));
        std::fs::create_dir_all(home.join(".postgresql")).unwrap();
        std::fs::write(home.join(".postgresql/root.crt"), "").unwrap();
        let usual = [("host", "db"), ("sslmode", "require")];
        assert_eq!(tried(&usual, Some(&home)), ["VerifyCa of file"]);
        assert_eq!(tried(&usual[..1], Some(&home)), ["VerifyFull of file"]);
        std::fs::remove_dir_all(&home).unwrap();
    }
}
