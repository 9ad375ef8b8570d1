//! `cert revoke`: the authority's list of certificates that count no more.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{RevocationReason, RevokedCertParams, SerialNumber};
use walengine_net::say;
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, REVOKED_FILE};
use x509_cert::crl::RevokedCert;

use super::authority::Authority;
use super::directory::{self, Content, Place, Staged, read_if_there};
use super::read::{self, unreadable};
use crate::fatal::Fatal;

/// Revoke certificates before they expire
///
/// Puts certificates on the authority's list, `DIR/ca/revoked.pem`, and copies the list into every
/// directory of credentials in DIR. Copy it from there to where each is used: servers look at it every
/// second or so, and end the connections of those who are on it.
///
/// A revoked certificate stays revoked; whoever is to come back gets a new one, with --renew. The list
/// has what this command was told: certificates that were replaced by renewal are not on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine cert revoke certs/client-payments\n  \
    walengine cert revoke stolen.pem\n  walengine cert revoke --serial 5f:0a:\u{2026}")]
pub struct Arguments {
    /// Directories of credentials, or files with certificates
    #[arg(value_name = "DIR_OR_PEM", required_unless_present = "serial")]
    what: Vec<PathBuf>,

    /// Serial number of a certificate whose file is lost, as `walengine cert show` and servers say it
    #[arg(long, value_name = "HEX", value_parser = serial)]
    serial: Vec<Serial>,

    #[command(flatten)]
    place: Place,
}

/// A serial number: the bytes of a positive number, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Serial(Vec<u8>);

/// Revokes certificates.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let place = &arguments.place.dir;
    let authority = Authority::open(place)?;
    let _lock = directory::lock(place)?;
    let path = authority.dir.join(REVOKED_FILE);
    let (mut revoked, number) = match read_if_there(&path)? {
        Some(pem) => known(&pem).map_err(|why| unreadable(&path, &why))?,
        None => (Vec::new(), 0),
    };
    let mut wanted = Vec::new();
    for path in &arguments.what {
        wanted.push(of_path(&authority, path)?);
    }
    wanted
        .extend(arguments.serial.iter().map(|serial| ("a certificate".to_owned(), serial.clone())));
    let now = SystemTime::now();
    for (who, serial) in wanted {
        let number = SerialNumber::from_slice(&serial.0);
        if revoked.iter().any(|known| known.serial_number == number) {
            say!("{who} was revoked before: serial {number}");
            continue;
        }
        say!("revoked {who}: serial {number}");
        revoked.push(RevokedCertParams {
            serial_number: number,
            revocation_time: now.into(),
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        });
    }
    // A list is written even if nothing is new: copies may be missing since a command was interrupted.
    let list = authority.list(revoked, number + 1)?;
    put(&authority.dir, &list)?;
    let mut copies = Vec::new();
    for dir in directory::within(place)? {
        let ca = dir.join(CA_FILE);
        if dir != authority.dir && dir.join(CERTIFICATE_FILE).exists() && ca.exists() {
            if !authority.is_in(&read::certificates(&ca)?) {
                continue;
            }
            put(&dir, &list)?;
            copies.push(dir.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    say!("list {} is in {}", number + 1, path.display());
    if !copies.is_empty() {
        let copies = copies.join(", ");
        say!("and in {copies}: copy {REVOKED_FILE} from there to where each is used");
    }
    Ok(())
}

fn put(dir: &Path, list: &str) -> Result<(), Fatal> {
    Staged::new(dir, &[Content::new(REVOKED_FILE, list)])?.commit()
}

/// Who a file or a directory is of, and its serial number.
fn of_path(authority: &Authority, path: &Path) -> Result<(String, Serial), Fatal> {
    let file = if path.is_dir() { path.join(CERTIFICATE_FILE) } else { path.to_owned() };
    let found = read::certificates(&file)?;
    let certificate = &found[0];
    if !authority.has_signed(certificate) {
        let why = format!(
            "{} has not signed it: only its own authority can revoke it",
            authority.dir.display()
        );
        return Err(unreadable(&file, &why));
    }
    let who = read::identity(&read::names(certificate));
    let who = who.map_or_else(|_| path.display().to_string(), |identity| identity.to_string());
    Ok((who, trimmed(certificate.tbs_certificate.serial_number.as_bytes())))
}

/// What a list says, and its number.
fn known(pem: &[u8]) -> Result<(Vec<RevokedCertParams>, u64), String> {
    let lists = read::lists_in(pem)?;
    let [list] = &lists[..] else {
        return Err(format!("it has {} lists of revoked certificates, not one", lists.len()));
    };
    let number = read::list_number(list).ok_or("its list has no number")?;
    let entry = |one: &RevokedCert| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&trimmed(one.serial_number.as_bytes()).0),
        revocation_time: one.revocation_date.to_system_time().into(),
        reason_code: Some(RevocationReason::Unspecified),
        invalidity_date: None,
    };
    Ok((read::entries(list).map(entry).collect(), number))
}

fn trimmed(bytes: &[u8]) -> Serial {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Serial(bytes[zeros..].to_vec())
}

/// A serial number as it is shown: `5f:0a`, or without colons.
fn serial(text: &str) -> Result<Serial, String> {
    let wrong = || "write it in hexadecimal, as `walengine cert show` does: 5f:0a:31".to_owned();
    let digits: String = text.chars().filter(|letter| *letter != ':').collect();
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.is_empty() || digits.len() % 2 == 1 || digits.len() > 40 || !is_hex {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong());
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
    Ok(trimmed(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_as_it_is_shown() {
        assert_eq!(serial("5f:0a:31"), Ok(Serial(vec![0x5f, 0x0a, 0x31])));
        assert_eq!(serial("005F0A31"), Ok(Serial(vec![0x5f, 0x0a, 0x31])));
        let long = "0a".repeat(21);
        for wrong in ["", "5", "5g", "+5", ":", "5f-0a", long.as_str(), "é0"] {
            assert!(serial(wrong).is_err(), "{wrong}");
        }
    }
}
