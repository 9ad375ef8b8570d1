//! How to reach PostgreSQL: from the usual `PG*` variables, a `postgres://` URL or a `key=value`
//! line, a password file, and certificate files. Later sources override earlier ones.

pub mod hosts;
pub mod secret;
mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::SslMode;
use walengine_net::cli::redacted;

use self::hosts::{Attempt, Place};
use self::text::Settings;
use crate::fatal::{Fatal, Reason};
use crate::limits::{CONNECT_TIMEOUT, HOST_SILENT_MAX, KEEPALIVE_EVERY, KEEPALIVE_IDLE};

/// Variables of libpq, and their names in a connection string.
const VARIABLES: [(&str, &str); 28] = [
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
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGSSLSNI", "sslsni"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGSERVICE", "service"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGCHANNELBINDING", "channel_binding"),
];
/// Settings that tokio-postgres does not get: it does not know them, or they are of one host.
const OURS: [&str; 15] = [
    "host",
    "hostaddr",
    "port",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcertmode",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "load_balance_hosts",
];
/// Settings of libpq that change nothing here.
const WITHOUT_EFFECT: [&str; 8] = [
    "client_encoding",
    "fallback_application_name",
    "sslcompression",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "keepalives_count",
    "replication",
];
/// Settings of libpq that demand what this program can't do.
const DEMANDS: [&str; 5] = ["sslcrldir", "require_auth", "requirepeer", "service", "sslpassword"];
/// Socket directories of Debian's servers and of default builds.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// How to connect to PostgreSQL.
#[derive(Clone, Debug)]
pub struct Target {
    /// Hosts, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// Database and hosts for people, without the password.
    pub shown: String,
}

/// How to connect to one host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Settings for tokio-postgres, with this host only.
    pub config: tokio_postgres::Config,
    /// What is tried, one after the other.
    pub attempts: Vec<Attempt>,
    /// How long each attempt may take.
    pub within: Duration,
    /// The host for people.
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
        // As libpq, for users of its old name.
        if variable("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
            settings.entry("sslmode".to_owned()).or_insert_with(|| "require".to_owned());
        }
        if let Some(text) = &given.postgres {
            settings.extend(text::parse(text).map_err(|why| {
                usage(format!(
                    "--postgres can't be read: {why}; it is postgres://user@host/database or \
                     \"host=... dbname=...\""
                ))
            })?);
        }
        if let Some(path) = &given.password_file {
            settings.insert("password".into(), secret::read_password(path)?);
        }
        refuse_demands(&settings)?;
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
        Self::build(&settings, home.as_deref())
    }

    fn build(settings: &Settings, home: Option<&Path>) -> Result<Self, Fatal> {
        let skipped = |key: &str| OURS.contains(&key) || WITHOUT_EFFECT.contains(&key);
        let theirs = settings.iter().filter(|(key, _)| !skipped(key) && *key != "gssencmode");
        let pairs: Vec<_> = theirs.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        let mut common: tokio_postgres::Config = pairs.join(" ").parse().map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let why = cause.unwrap_or_else(|| tokio_postgres::Error::to_string(&error));
            // A word with = in it may be the end of a password with a space.
            let is_secret = why.contains("unknown option") && settings.contains_key("password");
            let why = if is_secret {
                "one of them is unknown; quote a password with spaces"
            } else {
                &why
            };
            usage(format!("the settings of PostgreSQL can't be used: {why}"))
        })?;
        let within = *common.get_connect_timeout().unwrap_or(&CONNECT_TIMEOUT);
        common.connect_timeout(within);
        if common.get_application_name().is_none() {
            common.application_name("walengine-projector");
        }
        common.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_EVERY);
        common.tcp_user_timeout(HOST_SILENT_MAX);
        let places = hosts::places(settings)?;
        let mut hosts = Vec::new();
        for place in &places {
            let config = config_of(&common, place, settings, home)?;
            let attempts = hosts::attempts(place, settings, home)?;
            hosts.push(Host { config, attempts, within, shown: place.shown() });
        }
        if settings.get("load_balance_hosts").is_some_and(|how| how == "random") {
            let chance = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
            let first = chance as usize % hosts.len().max(1);
            hosts.rotate_left(first);
        }
        let names: Vec<_> = places.iter().map(Place::shown).collect();
        let shown = redacted(&format!("database {} at {}", settings["dbname"], names.join(" or ")));
        Ok(Self { hosts, shown })
    }

    /// A server on this machine, by its socket.
    pub fn of_socket(directory: &Path, user: &str, database: &str) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host_path(directory).user(user).dbname(database).ssl_mode(SslMode::Disable);
        config.connect_timeout(CONNECT_TIMEOUT).application_name("walengine-projector");
        let place = directory.display().to_string();
        let shown = format!("database {database} at {place}");
        let attempts = vec![Attempt::Plain];
        let host = Host { config, attempts, within: CONNECT_TIMEOUT, shown: place };
        Self { hosts: vec![host], shown }
    }
}

impl Place {
    fn shown(&self) -> String {
        let host = self.host.as_ref().or(self.hostaddr.as_ref()).map_or("", String::as_str);
        redacted(host)
    }
}

/// Refuses what would silently be less safe than it was asked for.
fn refuse_demands(settings: &Settings) -> Result<(), Fatal> {
    for key in DEMANDS {
        if settings.contains_key(key) {
            let message = format!(
                "the setting {key} is libpq's and not supported here: remove it (also from the PG* \
                 variables), or project through a server or tunnel that does it"
            );
            return Err(usage(message));
        }
    }
    if settings.get("gssencmode").is_some_and(|mode| mode == "require") {
        return Err(usage("gssencmode=require is not supported: use TLS".to_owned()));
    }
    let one_of = |key: &str, known: &[&str]| match settings.get(key) {
        Some(value) if !known.contains(&value.as_str()) => {
            Err(usage(format!("{key} is not one of {}", known.join(", "))))
        }
        _ => Ok(()),
    };
    one_of("sslnegotiation", &["postgres", "direct"])?;
    one_of("sslcertmode", &["disable", "allow", "require"])?;
    one_of("sslsni", &["0", "1"])?;
    one_of("load_balance_hosts", &["disable", "random"])?;
    one_of("channel_binding", &["disable", "prefer", "require"])?;
    one_of("target_session_attrs", &["any", "read-write", "read-only"])
}

fn config_of(
    common: &tokio_postgres::Config,
    place: &Place,
    settings: &Settings,
    home: Option<&Path>,
) -> Result<tokio_postgres::Config, Fatal> {
    let mut config = common.clone();
    if let Some(address) = place.hostaddr.as_ref().and_then(|text| text.parse().ok()) {
        config.hostaddr(address);
    }
    // Without a name, the address stands for it: tokio-postgres makes no TLS without one.
    let name =
        place.host.as_ref().filter(|host| place.hostaddr.is_none() || !host.starts_with('/'));
    let name = name.or(place.hostaddr.as_ref());
    config.host(name.map_or("localhost", String::as_str));
    let port = place.port.parse().map_err(|_| usage("port is not a port number".to_owned()))?;
    config.port(port);
    if let Some(password) = settings.get("password") {
        config.password(password);
        return Ok(config);
    }
    let named = settings.get("passfile").map(PathBuf::from);
    let is_named = named.is_some();
    if let Some(path) = named.or_else(|| home.map(|home| home.join(".pgpass"))) {
        // As libpq: the usual sockets are "localhost" there.
        let host = place.host.as_ref().or(place.hostaddr.as_ref()).map_or("", String::as_str);
        let host = if SOCKET_DIRECTORIES.contains(&host) { "localhost" } else { host };
        let found = secret::of_passfile(&path, is_named, host, &place.port, settings)?;
        if let Some(password) = found {
            config.password(password);
        }
    }
    Ok(config)
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn usage(message: String) -> Fatal {
    Fatal::new(Reason::Usage, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn resolved(text: &str, variables: &[(&str, &str)]) -> Result<Target, Fatal> {
        let given = Given { postgres: Some(text.to_owned()), password_file: None };
        Target::resolve(&given, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let variables = [("PGHOST", "one"), ("PGUSER", "u"), ("PGPASSWORD", "it's \\ secret")];
        let target = resolved("host=two", &variables).unwrap();
        assert_eq!(target.shown, "database u at two");
        let host = &target.hosts[0];
        assert_eq!(host.config.get_password(), Some(b"it's \\ secret".as_slice()));
        assert!(matches!(host.attempts[..], [Attempt::Tls(_)]));
        let target = resolved("host=two", &[("PGSSLMODE", "disable")]).unwrap();
        assert_eq!(target.hosts[0].attempts, [Attempt::Plain]);
        let target = resolved("host=localhost", &[("PGREQUIRESSL", "1")]).unwrap();
        assert!(matches!(target.hosts[0].attempts[..], [Attempt::Tls(_)]));
        let socket = resolved("host=/run dbname=d sslmode=require", &variables).unwrap();
        assert_eq!(socket.hosts[0].attempts, [Attempt::Plain]);
        for bad in ["sslmode=x", "host=h port=x", "nonsense=1", "channel_binding=x", "sslsni=2"] {
            assert_eq!(resolved(bad, &[]).unwrap_err().reason, Reason::Usage, "{bad}");
        }
    }

    #[test]
    fn what_would_be_less_safe_than_asked_for_is_refused() {
        for (name, value) in [
            ("PGSSLCRLDIR", "/c"),
            ("PGREQUIREAUTH", "scram-sha-256"),
            ("PGREQUIREPEER", "postgres"),
            ("PGSERVICE", "s"),
            ("PGGSSENCMODE", "require"),
        ] {
            let fatal = resolved("host=h sslmode=disable", &[(name, value)]).unwrap_err();
            assert_eq!(fatal.reason, Reason::Usage, "{name}");
        }
        resolved("host=h sslmode=disable gssencmode=prefer client_encoding=UTF8", &[]).unwrap();
    }

    #[test]
    fn each_host_has_its_own_password_and_port() {
        let path = std::env::temp_dir().join(format!("walengine-pgpass-{}", std::process::id()));
        std::fs::write(&path, "a:1:*:*:of-a\nb:2:*:*:of-b\nlocalhost:*:*:*:of-socket\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let passfile = [("PGPASSFILE", path.to_str().unwrap())];
        let target =
            resolved("host=a,b,/tmp port=1,2,3 sslmode=disable user=u", &passfile).unwrap();
        let found: Vec<_> = target
            .hosts
            .iter()
            .map(|host| {
                (host.config.get_password().unwrap_or_default(), host.config.get_ports()[0])
            })
            .collect();
        assert_eq!(found, [(&b"of-a"[..], 1), (b"of-b", 2), (b"of-socket", 3)]);
        std::fs::remove_file(&path).unwrap();
        let fatal = resolved("host=a sslmode=disable", &passfile).unwrap_err();
        assert!(fatal.message.contains("cannot read"), "{}", fatal.message);
    }

    #[test]
    fn no_error_and_no_name_for_people_has_the_password() {
        for text in [
            "postgres://u:hunter2@h:port/d",
            "host=h password=hunter2 port=x",
            "host=h password=hunter2 nonsense=1",
            "host=h password=my hunter2=x",
            "host=h password=hunter2 sslmode=x",
            "host=h password=hunter2 hostaddr=x",
        ] {
            let fatal = resolved(text, &[]).unwrap_err();
            assert!(!fatal.message.contains("hunter2"), "{text}: {}", fatal.message);
        }
        let target = resolved("dbname=postgres://u:hunter2@h/d host=/run", &[]).unwrap();
        assert!(!target.shown.contains("hunter2"), "{}", target.shown);
    }
}
