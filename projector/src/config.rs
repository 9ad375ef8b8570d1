//! How to reach PostgreSQL: from the usual `PG*` variables, a `postgres://` URL or a `key=value`
//! line, a password file, and certificate files. Later sources override earlier ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio_postgres::config::SslMode;

use crate::fatal::{Fatal, Reason};
use crate::limits::{CONNECT_TIMEOUT, HOST_SILENT_MAX, KEEPALIVE_EVERY, KEEPALIVE_IDLE};
use crate::tls::{TlsMode, TlsSettings};

/// Variables of libpq, and their names in a connection string.
const VARIABLES: [(&str, &str); 16] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCHANNELBINDING", "channel_binding"),
];
/// Settings that tokio-postgres does not know.
const OURS: [&str; 5] = ["passfile", "sslmode", "sslrootcert", "sslcert", "sslkey"];
/// Socket directories of Debian's servers and of default builds.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

type Settings = BTreeMap<String, String>;

/// How to connect to PostgreSQL.
#[derive(Clone, Debug)]
pub struct Target {
    /// Settings for tokio-postgres.
    pub config: tokio_postgres::Config,
    /// `None` for Unix sockets and without TLS.
    pub tls: Option<TlsSettings>,
    /// Database and host for people, without the password.
    pub shown: String,
}

/// Settings from the command line.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// URL or `key=value` line.
    pub postgres: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
}

impl Target {
    /// Combines all sources.
    pub fn resolve(
        given: &Given,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Fatal> {
        let mut settings = Settings::new();
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                settings.insert(key.to_owned(), value);
            }
        }
        if let Some(text) = &given.postgres {
            let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
            let parsed = if is_url { parse_url(text) } else { parse_line(text) };
            settings.extend(parsed.map_err(|why| {
                let message = format!(
                    "--postgres can't be read: {why}; it is postgres://user@host/database or \
                     \"host=... dbname=...\""
                );
                Fatal::new(Reason::Usage, message)
            })?);
        }
        if let Some(path) = &given.password_file {
            settings.insert("password".into(), password_of(path)?);
        }
        let home = variable("HOME").map(PathBuf::from);
        if !settings.contains_key("user") {
            let user = variable("USER").or_else(|| variable("LOGNAME"));
            settings.insert("user".into(), user.unwrap_or_else(|| "postgres".into()));
        }
        if !settings.contains_key("dbname") {
            settings.insert("dbname".into(), settings["user"].clone());
        }
        if !settings.contains_key("host") && !settings.contains_key("hostaddr") {
            let there = |port: &str| {
                let mut directories = SOCKET_DIRECTORIES.iter();
                directories.find(|path| Path::new(path).join(format!(".s.PGSQL.{port}")).exists())
            };
            let port = settings.get("port").map_or("5432", String::as_str);
            let host = there(port).map_or("localhost", |path| *path);
            settings.insert("host".into(), host.to_owned());
        }
        if !settings.contains_key("password") {
            let named = settings.get("passfile").map(PathBuf::from);
            let path = named.or_else(|| home.as_ref().map(|home| home.join(".pgpass")));
            let found = path.and_then(|path| from_passfile(&path, &settings));
            settings.extend(found.map(|password| ("password".to_owned(), password)));
        }
        Self::build(&settings, home.as_deref())
    }

    fn build(settings: &Settings, home: Option<&Path>) -> Result<Self, Fatal> {
        let theirs = settings.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
        let pairs: Vec<_> = theirs.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        let mut config: tokio_postgres::Config = pairs.join(" ").parse().map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let why = cause.unwrap_or_else(|| tokio_postgres::Error::to_string(&error));
            let message = format!("the settings of PostgreSQL can't be used: {why}");
            Fatal::new(Reason::Usage, message)
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("walengine-projector");
        }
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_EVERY);
        config.tcp_user_timeout(HOST_SILENT_MAX);
        let is_local = settings.get("host").is_some_and(|host| host.starts_with('/'));
        let mode = mode_of(settings.get("sslmode").map_or("prefer", String::as_str))?;
        let tls = if is_local || mode == TlsMode::Disable {
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            let prefers = mode == TlsMode::Prefer;
            config.ssl_mode(if prefers { SslMode::Prefer } else { SslMode::Require });
            Some(tls_of(settings, mode, home)?)
        };
        let (host, database) =
            (settings.get("host").or(settings.get("hostaddr")), &settings["dbname"]);
        let shown = format!("database {database} at {}", host.map_or("localhost", String::as_str));
        Ok(Self { config, tls, shown })
    }

    /// A server on this machine, by its socket.
    pub fn of_socket(directory: &Path, user: &str, database: &str) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host_path(directory).user(user).dbname(database).ssl_mode(SslMode::Disable);
        config.connect_timeout(CONNECT_TIMEOUT).application_name("walengine-projector");
        let shown = format!("database {database} at {}", directory.display());
        Self { config, tls: None, shown }
    }
}

fn mode_of(name: &str) -> Result<TlsMode, Fatal> {
    Ok(match name {
        "disable" => TlsMode::Disable,
        "allow" | "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        other => {
            let message = format!(
                "sslmode is {other:?}, not one of disable, prefer, require, verify-ca, verify-full"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
    })
}

/// As libpq does: files in `~/.postgresql` are used if they exist.
fn tls_of(settings: &Settings, mode: TlsMode, home: Option<&Path>) -> Result<TlsSettings, Fatal> {
    let usual = |name: &str| {
        let path = home?.join(".postgresql").join(name);
        path.exists().then_some(path)
    };
    let file = |key: &str, name| settings.get(key).map(PathBuf::from).or_else(|| usual(name));
    let roots = match settings.get("sslrootcert").map(String::as_str) {
        Some("system") => None,
        _ => file("sslrootcert", "root.crt"),
    };
    let identity = match (file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, _) => None,
        (Some(_), None) => {
            let message = "sslcert is set without sslkey: also name the key of the certificate";
            return Err(Fatal::new(Reason::Usage, message));
        }
    };
    Ok(TlsSettings { mode, roots, identity })
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `postgres://user:password@host:port,host:port/database?key=value`, percent-encoded.
fn parse_url(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let (_, rest) = text.split_once("://").ok_or("there is no ://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            settings.insert(key.to_owned(), decoded(value)?);
        }
        Ok::<_, String>(())
    };
    put("user", user)?;
    put("password", password)?;
    put("dbname", database)?;
    let split: Vec<(&str, &str)> = hosts.split(',').map(host_and_port).collect();
    let join =
        |part: fn(&(&str, &str)) -> String| split.iter().map(part).collect::<Vec<_>>().join(",");
    put("host", &join(|(host, _)| (*host).to_owned()))?;
    if split.iter().any(|(_, port)| !port.is_empty()) {
        let or_usual =
            |(_, port): &(&str, &str)| if port.is_empty() { "5432" } else { port }.to_owned();
        put("port", &join(or_usual))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no ="))?;
        put(&decoded(key)?, value)?;
    }
    Ok(settings)
}

/// Splits host and port; an IPv6 address is in brackets.
fn host_and_port(text: &str) -> (&str, &str) {
    if let Some((host, behind)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, behind.trim_start_matches(':'));
    }
    text.rsplit_once(':').unwrap_or((text, ""))
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// `key=value key='va lue'`; a backslash escapes the next character.
fn parse_line(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').ok_or_else(|| format!("{rest:?} has no ="))?;
        let behind = behind.trim_start();
        let is_quoted = behind.starts_with('\'');
        let mut value = String::new();
        let mut letters = behind.char_indices().skip(usize::from(is_quoted));
        let mut end = None;
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
                '\'' if is_quoted => {
                    end = Some(at + 1);
                    break;
                }
                letter if letter.is_whitespace() && !is_quoted => {
                    end = Some(at);
                    break;
                }
                letter => value.push(letter),
            }
        }
        if is_quoted && end.is_none() {
            return Err("a quote is not closed".to_owned());
        }
        settings.insert(key.trim().to_owned(), value);
        rest = behind[end.unwrap_or(behind.len())..].trim_start();
    }
    Ok(settings)
}

fn password_of(path: &Path) -> Result<String, Fatal> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read the password from {}: {error}", path.display());
        Fatal::new(Reason::File, message)
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The password of the first line `host:port:database:user:password` that fits; `*` fits
/// everything. An unreadable file is ignored, as libpq does.
fn from_passfile(path: &Path, settings: &Settings) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let host = settings.get("host").or(settings.get("hostaddr")).map_or("", String::as_str);
    let host = if host.starts_with('/') { "localhost" } else { host };
    let port = settings.get("port").map_or("5432", String::as_str);
    let wanted = [host, port, settings.get("dbname")?, settings.get("user")?];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = passfile_fields(line)?;
        let fits = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| fields[4].clone())
    })
}

fn passfile_fields(line: &str) -> Option<[String; 5]> {
    let mut fields: [String; 5] = Default::default();
    let mut at = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' if at < 4 => at += 1,
            '\\' => fields[at].extend(letters.next()),
            letter => fields[at].push(letter),
        }
    }
    (at == 4).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn urls_and_lines_mean_the_same() {
        let url = "postgres://us%40er:p%3Aw@[::1]:5433,b/data?sslmode=verify-full&sslrootcert=/r";
        let expected = settings(&[
            ("user", "us@er"),
            ("password", "p:w"),
            ("host", "::1,b"),
            ("port", "5433,5432"),
            ("dbname", "data"),
            ("sslmode", "verify-full"),
            ("sslrootcert", "/r"),
        ]);
        assert_eq!(parse_url(url), Ok(expected.clone()));
        let line = r"user=us@er password = 'p:w' host=::1,b port=5433,5432 dbname=data
            sslmode=verify-full sslrootcert='/r'";
        assert_eq!(parse_line(line), Ok(expected));
        assert_eq!(parse_url("postgres:///d"), Ok(settings(&[("dbname", "d")])));
        let socket = "postgresql://%2Fvar%2Frun/d";
        assert_eq!(parse_url(socket), Ok(settings(&[("host", "/var/run"), ("dbname", "d")])));
        assert!(parse_line("host").is_err() && parse_line("host='x").is_err());
        assert!(parse_url("postgres://h/d?x").is_err() && parse_url("postgres://%zz/").is_err());
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let variable = |name: &str| match name {
            "PGHOST" => Some("one".to_owned()),
            "PGUSER" => Some("u".to_owned()),
            "PGPASSWORD" => Some("it's \\ secret".to_owned()),
            _ => None,
        };
        let given = Given { postgres: Some("host=two".into()), password_file: None };
        let target = Target::resolve(&given, variable).unwrap();
        assert_eq!(target.shown, "database u at two");
        assert_eq!(target.config.get_password(), Some(b"it's \\ secret".as_slice()));
        assert_eq!(target.tls.map(|tls| tls.mode), Some(TlsMode::Prefer));
        let given = Given {
            postgres: Some("host=/run dbname=d sslmode=require".into()),
            password_file: None,
        };
        assert!(Target::resolve(&given, variable).unwrap().tls.is_none());
        for bad in ["sslmode=x", "port=x", "nonsense=1"] {
            let given = Given { postgres: Some(bad.into()), password_file: None };
            assert_eq!(
                Target::resolve(&given, variable).unwrap_err().reason,
                Reason::Usage,
                "{bad}"
            );
        }
    }

    #[test]
    fn password_files_are_read_as_libpq_does() {
        let path = std::env::temp_dir().join(format!("walengine-passfile-{}", std::process::id()));
        std::fs::write(&path, "# all\nh:1:d:u:no\n*:5432:d:u:a\\:b\n").unwrap();
        let asked = settings(&[("host", "h"), ("dbname", "d"), ("user", "u")]);
        assert_eq!(from_passfile(&path, &asked).as_deref(), Some("a:b"));
        let other = settings(&[("host", "h"), ("dbname", "d"), ("user", "x")]);
        assert_eq!(from_passfile(&path, &other), None);
        std::fs::remove_file(&path).unwrap();
    }
}
