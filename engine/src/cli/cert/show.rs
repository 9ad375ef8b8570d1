//! `cert show`: certificates, keys and lists in words, and whether they would be believed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use walengine_net::identity::Role;
use walengine_net::say;
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, Credentials, KEY_FILE, REVOKED_FILE};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::ext::pkix::ExtendedKeyUsage;

use super::directory::{self, CA_KEY, is_private, read_if_there};
use super::gossip_key;
use super::read;
use super::words::{date, in_time};
use crate::config::GOSSIP_KEY_FILE;
use crate::fatal::{Fatal, Reason};

/// Say what certificates are, until when, and whether they would be believed
///
/// Shows a directory of credentials, the directory of an authority, a directory that holds such
/// directories, or a file: whose certificate it is, for which addresses and uses, until when, who signed
/// it, its serial number, whether the key belongs to it, and whether it was revoked. The exit code is 1 if
/// something is wrong that others would refuse.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine cert show certs\n  \
    walengine cert show certs/node-1\n  walengine cert show stranger.pem")]
pub struct Arguments {
    /// Directories or files
    #[arg(value_name = "FILE_OR_DIR", default_value = "certs")]
    what: Vec<PathBuf>,
}

/// What is found, line by line, and how much of it is wrong.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub lines: Vec<String>,
    pub wrong: usize,
}

/// Width of the first column.
const LABEL_WIDTH: usize = 10;

/// Shows what is named.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let mut wrong = 0;
    for path in &arguments.what {
        let shown = show(path)?;
        for line in shown.lines {
            say!("{line}");
        }
        wrong += shown.wrong;
    }
    if wrong == 0 {
        return Ok(());
    }
    let things = if wrong == 1 { "one thing is" } else { "some things are" };
    Err(Fatal::new(Reason::Findings, format!("{things} wrong: see the lines with '!'")))
}

/// A file or a directory.
pub(super) fn show(path: &Path) -> Result<Shown, Fatal> {
    let now = SystemTime::now();
    let mut shown = Shown::default();
    if !path.is_dir() {
        shown.file(path, now)?;
        return Ok(shown);
    }
    if shown.directory(path, now)? {
        return Ok(shown);
    }
    let mut is_any = false;
    for dir in directory::within(path)? {
        is_any |= shown.directory(&dir, now)?;
    }
    if is_any {
        return Ok(shown);
    }
    let message = format!(
        "{} is no directory of credentials, and holds none: there is neither {CERTIFICATE_FILE} nor \
         {CA_KEY}",
        path.display()
    );
    Err(Fatal::new(Reason::File, message))
}

impl Shown {
    /// False if it holds neither credentials nor an authority.
    fn directory(&mut self, dir: &Path, now: SystemTime) -> Result<bool, Fatal> {
        let (is_member, is_authority) =
            (dir.join(CERTIFICATE_FILE).exists(), dir.join(CA_KEY).exists());
        if is_member {
            self.member(dir, now)?;
        } else if is_authority {
            self.authority(dir, now)?;
        }
        Ok(is_member || is_authority)
    }

    fn member(&mut self, dir: &Path, now: SystemTime) -> Result<(), Fatal> {
        let path = dir.join(CERTIFICATE_FILE);
        let found = match read::certificates(&path) {
            Ok(found) => found,
            Err(error) => {
                self.wrong(&error.message);
                return Ok(());
            }
        };
        self.certificate(&path, &found[0], now);
        self.key(dir, KEY_FILE, &found[0])?;
        self.lists(dir, &found[0])?;
        // As a program with --tls does, which is the only answer that counts.
        match Credentials::load(dir) {
            Ok(_) => self.row("believed", &format!("yes, by {CA_FILE}")),
            Err(error) => self.wrong_row("believed", &format!("no: {error}")),
        }
        self.gossip(dir)
    }

    fn authority(&mut self, dir: &Path, now: SystemTime) -> Result<(), Fatal> {
        let path = dir.join(CA_FILE);
        let found = match read::certificates(&path) {
            Ok(found) => found,
            Err(error) => {
                self.wrong(&error.message);
                return Ok(());
            }
        };
        for found in &found {
            self.certificate(&path, found, now);
        }
        self.key(dir, CA_KEY, &found[0])?;
        if let Some(pem) = read_if_there(&dir.join(REVOKED_FILE))? {
            self.list_file(&dir.join(REVOKED_FILE), &pem);
        }
        self.gossip(dir)
    }

    fn file(&mut self, path: &Path, now: SystemTime) -> Result<(), Fatal> {
        let bytes = directory::read(path)?;
        let has = |what: &str| {
            let mark = format!("-----BEGIN {what}");
            bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        if has("CERTIFICATE") {
            let found =
                read::certificates_in(&bytes).map_err(|why| read::unreadable(path, &why))?;
            for found in &found {
                self.certificate(path, found, now);
            }
        } else if has("X509 CRL") {
            self.list_file(path, &bytes);
        } else if bytes.windows(12).any(|window| window == b"PRIVATE KEY-") {
            self.lines.push(format!("{}: a private key; show its directory", path.display()));
        } else if let Ok(keys) = gossip_key::in_words(&bytes) {
            self.lines.push(format!("{}: {keys}, for gossip", path.display()));
        } else {
            let why = "it holds no certificate, no list of revoked ones and no key";
            return Err(read::unreadable(path, why));
        }
        Ok(())
    }

    fn certificate(&mut self, path: &Path, certificate: &Certificate, now: SystemTime) {
        let names = read::names(certificate);
        let is_authority = read::is_authority(certificate);
        let identity = read::identity(&names);
        let is_node = identity.as_ref().is_ok_and(|identity| identity.role() == Role::Node);
        let who = match (identity, is_authority) {
            (Ok(identity), _) => Ok(format!("{identity} of cluster {}", identity.cluster())),
            (Err(_), true) => Ok(match &names.uris[..] {
                [uri] => format!("an authority, {uri}"),
                _ => "an authority".to_owned(),
            }),
            (Err(why), false) => Err(why),
        };
        match &who {
            Ok(who) => self.lines.push(format!("{}: {who}", path.display())),
            Err(why) => self.wrong(&format!("{}: nobody: {why}", path.display())),
        }
        if !names.hosts.is_empty() {
            self.row("addresses", &names.hosts.join(", "));
        }
        if !is_authority {
            self.uses(certificate, is_node);
        }
        let validity = &certificate.tbs_certificate.validity;
        let (from, until) =
            (validity.not_before.to_system_time(), validity.not_after.to_system_time());
        match in_time(from, until, now) {
            Ok(text) => self.row("valid", &text),
            Err(text) => self.wrong_row("valid", &text),
        }
        self.row("issuer", &read::name(&certificate.tbs_certificate.issuer));
        self.row("serial", &read::serial(&certificate.tbs_certificate.serial_number));
    }

    fn uses(&mut self, certificate: &Certificate, is_node: bool) {
        let found = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
        let Ok(Some((_, ExtendedKeyUsage(found)))) = found else {
            return self.row("use", "any");
        };
        let (server, client) =
            (found.contains(&ID_KP_SERVER_AUTH), found.contains(&ID_KP_CLIENT_AUTH));
        let told = match (server, client) {
            (true, true) => Ok("server and client"),
            (false, true) if !is_node => Ok("client"),
            (false, true) => Err("client only: a node is a server, too"),
            (true, false) => Err("server only: every member connects to others, too"),
            (false, false) => Err("neither server nor client"),
        };
        match told {
            Ok(told) => self.row("use", told),
            Err(told) => self.wrong_row("use", told),
        }
    }

    fn key(&mut self, dir: &Path, name: &str, certificate: &Certificate) -> Result<(), Fatal> {
        let path = dir.join(name);
        let Some(pem) = read_if_there(&path)? else {
            self.wrong_row("key", &format!("{name} is missing"));
            return Ok(());
        };
        match read::is_key_of(&pem, certificate) {
            Ok(true) => self.row("key", &format!("{name} belongs to it")),
            Ok(false) => self.wrong_row("key", &format!("{name} does not belong to it")),
            Err(why) => self.wrong_row("key", &format!("{name}: {why}")),
        }
        self.privacy(&path);
        Ok(())
    }

    fn privacy(&mut self, path: &Path) {
        if path.metadata().is_ok_and(|found| !is_private(&found)) {
            let path = path.display();
            self.wrong_row("", &format!("others can read {path}: `chmod 600 {path}`"));
        }
    }

    /// Whether a list in the directory has a certificate.
    fn lists(&mut self, dir: &Path, certificate: &Certificate) -> Result<(), Fatal> {
        let Some(pem) = read_if_there(&dir.join(REVOKED_FILE))? else {
            self.row("revoked", &format!("no: there is no {REVOKED_FILE}"));
            return Ok(());
        };
        let lists = match read::lists_in(&pem) {
            Ok(lists) => lists,
            Err(why) => {
                self.wrong_row("revoked", &format!("{REVOKED_FILE}: {why}"));
                return Ok(());
            }
        };
        let of_issuer = lists
            .iter()
            .filter(|list| list.tbs_cert_list.issuer == certificate.tbs_certificate.issuer);
        let mut told = format!("unknown: {REVOKED_FILE} has no list of its issuer");
        for list in of_issuer {
            let serial = &certificate.tbs_certificate.serial_number;
            let entry = read::entries(list).find(|entry| entry.serial_number == *serial);
            if let Some(entry) = entry {
                let when = date(entry.revocation_date.to_system_time());
                self.wrong_row("revoked", &format!("yes, on {when}"));
                return Ok(());
            }
            told = format!("no, says {}", described(list));
        }
        self.row("revoked", &told);
        Ok(())
    }

    fn list_file(&mut self, path: &Path, pem: &[u8]) {
        let lists = match read::lists_in(pem) {
            Ok(lists) => lists,
            Err(why) => return self.wrong(&format!("{}: {why}", path.display())),
        };
        for list in &lists {
            self.lines.push(format!("{}: {}", path.display(), described(list)));
            self.row("issuer", &read::name(&list.tbs_cert_list.issuer));
            for entry in read::entries(list) {
                let when = date(entry.revocation_date.to_system_time());
                self.row("revoked", &format!("{} on {when}", read::serial(&entry.serial_number)));
            }
        }
    }

    fn gossip(&mut self, dir: &Path) -> Result<(), Fatal> {
        let path = dir.join(GOSSIP_KEY_FILE);
        let Some(bytes) = read_if_there(&path)? else { return Ok(()) };
        match gossip_key::in_words(&bytes) {
            Ok(keys) => self.row("gossip", &format!("{GOSSIP_KEY_FILE} has {keys}")),
            Err(why) => self.wrong_row("gossip", &format!("{GOSSIP_KEY_FILE}: {why}")),
        }
        self.privacy(&path);
        Ok(())
    }

    fn row(&mut self, label: &str, text: &str) {
        self.lines.push(format!("  {label:LABEL_WIDTH$} {text}"));
    }

    fn wrong_row(&mut self, label: &str, text: &str) {
        self.wrong += 1;
        self.lines.push(format!("! {label:LABEL_WIDTH$} {text}"));
    }

    fn wrong(&mut self, text: &str) {
        self.wrong += 1;
        self.lines.push(format!("! {text}"));
    }
}

fn described(list: &CertificateList) -> String {
    let number = read::list_number(list).map_or(String::new(), |number| format!(" {number}"));
    let made = date(list.tbs_cert_list.this_update.to_system_time());
    let entries = read::entries(list).count();
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    format!("list{number} of {made}, with {entries}")
}
