//! Files with secrets: read only if nobody else can read them, as libpq and ssh demand.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::fatal::{Fatal, Reason};
use crate::limits::SECRET_BYTES_MAX;

use super::text::Settings;

/// What a group and all others may do with a file.
const OTHERS: u32 = 0o077;
/// A group may read it.
const GROUP_READS: u32 = 0o040;

/// Reads a file with a password. It must be private.
pub fn read_password(path: &Path) -> Result<String, Fatal> {
    let text = read(path, "the password", is_owners_alone)?;
    let first = text.lines().next().unwrap_or_default();
    if first.is_empty() {
        let message = format!("{} has no password in its first line", path.display());
        return Err(Fatal::new(Reason::File, message));
    }
    Ok(first.to_owned())
}

/// Whether nobody but its owner may do anything with a file.
fn is_owners_alone(mode: u32, _owner: u32) -> bool {
    mode & OTHERS == 0
}

/// Reads a file with a private key. As libpq: one that belongs to root may be readable to a group,
/// which is how systems share keys between services.
pub fn read_key(path: &Path) -> Result<String, Fatal> {
    let is_private = |mode: u32, owner: u32| {
        mode & (if owner == 0 { OTHERS & !GROUP_READS } else { OTHERS }) == 0
    };
    read(path, "the key", is_private)
}

fn read(path: &Path, what: &str, is_private: impl Fn(u32, u32) -> bool) -> Result<String, Fatal> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Fatal::new(Reason::File, format!("cannot read {what} from {}: {why}", path.display()))
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let found = file.metadata().map_err(|error| unreadable(&error))?;
    if !is_private(found.mode(), found.uid()) {
        let message = format!(
            "{} can be read by others (mode {:04o}), so {what} in it is no secret: chmod 600 {0}, and \
             change {what} if others may have seen it",
            path.display(),
            found.mode() & 0o7777
        );
        return Err(Fatal::new(Reason::File, message));
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    Ok(text)
}

/// The password for a host from a file of lines `host:port:database:user:password`; `*` fits
/// everything. `is_named` tells that the user named the file: then it must be private, and be there.
/// The usual one is left aside otherwise, with a warning, as libpq does.
pub fn of_passfile(
    path: &Path,
    is_named: bool,
    host: &str,
    port: &str,
    settings: &Settings,
) -> Result<Option<String>, Fatal> {
    if !is_named && !path.is_file() {
        return Ok(None);
    }
    let text = match read(path, "the passwords", is_owners_alone) {
        Ok(text) => text,
        Err(fatal) if is_named => return Err(fatal),
        Err(fatal) => {
            tracing::warn!("{}; it is not used", fatal.message);
            return Ok(None);
        }
    };
    let field = |key: &str| settings.get(key).map_or("", String::as_str);
    let wanted = [host, port, field("dbname"), field("user")];
    Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = passfile_fields(line)?;
        let fits = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| fields[4].clone())
    }))
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
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn with(name: &str, text: &str, mode: u32) -> PathBuf {
        let name = format!("walengine-{name}-{mode:o}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        for (mode, password_is_read, key_is_read_of_root) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o660, false, false),
            (0o604, false, false),
            (0o644, false, false),
            (0o666, false, false),
        ] {
            let path = with("secret", "hunter2\n", mode);
            let read = read_password(&path);
            assert_eq!(read.is_ok(), password_is_read, "{mode:o}");
            if let Err(fatal) = read {
                assert!(fatal.message.contains("chmod 600"), "{}", fatal.message);
                assert!(!fatal.message.contains("hunter2"), "{}", fatal.message);
            }
            let is_root = path.metadata().unwrap().uid() == 0;
            assert_eq!(
                read_key(&path).is_ok(),
                key_is_read_of_root && (is_root || is_owners_alone(mode, 0))
            );
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn password_files_are_read_as_libpq_does() {
        let path = with("passfile", "# all\nh:1:d:u:no\n*:5432:d:u:a\\:b\n", 0o600);
        let asked = |user: &str| {
            let pairs = [("dbname", "d"), ("user", user)];
            let settings: Settings =
                pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            of_passfile(&path, true, "h", "5432", &settings).unwrap()
        };
        assert_eq!(asked("u").as_deref(), Some("a:b"));
        assert_eq!(asked("x"), None);
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let none = Settings::new();
        assert!(of_passfile(&path, true, "h", "5432", &none).is_err(), "named, and open to others");
        assert_eq!(of_passfile(&path, false, "h", "5432", &none).unwrap(), None, "left aside");
        std::fs::remove_file(&path).unwrap();
        assert!(of_passfile(&path, true, "h", "5432", &none).is_err(), "named, and missing");
        assert_eq!(of_passfile(&path, false, "h", "5432", &none).unwrap(), None);
    }
}
