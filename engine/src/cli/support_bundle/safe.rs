//! What may leave the house: texts and settings without what is secret. Pure.

use walengine_net::cli::redacted;
use walengine_net::text::printable;

/// Parts of names of settings whose values are left out.
const SECRET: [&str; 6] = ["password", "passphrase", "secret", "key", "token", "credential"];
/// Stands for what was left out.
const LEFT_OUT: &str = "***";
/// From so many hexadecimal digits in a row on, they may be a key.
const KEY_DIGITS_MIN: usize = 32;
/// The same of digits of base64, which a key in PEM has in every line.
const BASE64_DIGITS_MIN: usize = 48;

/// Lines of a log without passwords and whatever may be a key.
pub fn safe_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut is_in_pem = false;
    for line in text.lines() {
        if line.contains("-----BEGIN") {
            is_in_pem = !line.contains("-----END");
            safe.push_str(LEFT_OUT);
        } else if is_in_pem {
            is_in_pem = !line.contains("-----END");
            continue;
        } else {
            safe.push_str(&without_keys(&redacted(&printable(line))));
        }
        safe.push('\n');
    }
    safe
}

fn without_keys(line: &str) -> String {
    let is_digit =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=');
    let mut safe = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(begin) = rest.find(is_digit) {
        let (before, behind) = rest.split_at(begin);
        let end = behind.find(|letter| !is_digit(letter)).unwrap_or(behind.len());
        let (run, further) = behind.split_at(end);
        safe.push_str(before);
        safe.push_str(if may_be_key(run) { LEFT_OUT } else { run });
        rest = further;
    }
    safe.push_str(rest);
    safe
}

/// Paths are long, too, but have few digits between their slashes.
fn may_be_key(run: &str) -> bool {
    let is_hex = |part: &str| {
        part.len() >= KEY_DIGITS_MIN && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_path =
        run.matches('/').count() >= 3 && run.split('/').all(|part| part.len() < KEY_DIGITS_MIN);
    run.split(['/', '=', '+']).any(is_hex) || (run.len() >= BASE64_DIGITS_MIN && !is_path)
}

/// Settings without secrets and without comments, as JSON.
///
/// # Errors
/// They can't be read; the reason quotes nothing of them.
pub fn safe_settings(text: &str) -> Result<String, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("they can't be read: line {line}")
    })?;
    let settings = safe_value("", toml::Value::Table(table));
    serde_json::to_string_pretty(&settings).map_err(|_| "they can't be written".to_owned())
}

fn safe_value(name: &str, value: toml::Value) -> toml::Value {
    let lower = name.to_lowercase();
    if SECRET.iter().any(|secret| lower.contains(secret)) {
        return toml::Value::String(LEFT_OUT.to_owned());
    }
    match value {
        toml::Value::String(text) => toml::Value::String(without_keys(&redacted(&text))),
        toml::Value::Array(all) => {
            toml::Value::Array(all.into_iter().map(|one| safe_value(name, one)).collect())
        }
        toml::Value::Table(table) => {
            let entry = |(name, value): (String, toml::Value)| {
                let value = safe_value(&name, value);
                (name, value)
            };
            toml::Value::Table(table.into_iter().map(entry).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left_in_a_log() {
        let hex = "0123456789abcdef".repeat(4);
        let base64 = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        let text = format!(
            "INFO serving on 127.0.0.1:7450\npostgres://u:hunter2@h/d failed\npassword=hunter2 x\n\
             key {hex} was read\n-----BEGIN PRIVATE KEY-----\n{base64}\nhunter2==\n-----END PRIVATE KEY-----\n\
             {base64}\nsegment /var/lib/walengine/data/p0000/segments/00000001.seg is full\u{1b}[2J\n"
        );
        let safe = safe_text(&text);
        for secret in ["hunter2", &hex, base64, "\u{1b}"] {
            assert!(!safe.contains(secret), "{secret:?} is in {safe}");
        }
        for kept in
            ["serving on 127.0.0.1:7450", "postgres://u:***@h/d", "p0000/segments/00000001.seg"]
        {
            assert!(safe.contains(kept), "{kept:?} is not in {safe}");
        }
    }

    #[test]
    fn settings_keep_what_is_no_secret() {
        let text = "# hunter2 in a comment\ncores = 2\nkey_file = \"/etc/hunter2\"\n\
                    join = [\"10.0.0.1:7451\"]\n[postgres]\nurl = \"postgres://u:hunter2@h/d\"\nPASSWORD = \"hunter2\"\n";
        let safe = safe_settings(text).unwrap();
        assert!(!safe.contains("hunter2"), "{safe}");
        for kept in ["\"cores\": 2", "10.0.0.1:7451", "postgres://u:***@h/d"] {
            assert!(safe.contains(kept), "{kept:?} is not in {safe}");
        }
        let broken = safe_settings("cores = 2\npassword = hunter2\n").unwrap_err();
        assert!(broken.contains("line 2") && !broken.contains("hunter2"), "{broken}");
    }
}
