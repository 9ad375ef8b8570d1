//! The two ways to write down how to connect. No error repeats a value, which may be a password.

use std::collections::BTreeMap;

/// Settings by libpq's names.
pub type Settings = BTreeMap<String, String>;

/// Reads a URL or a `key=value` line.
pub fn parse(text: &str) -> Result<Settings, String> {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_url { parse_url(text) } else { parse_line(text) }
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
            settings.insert(key.to_owned(), decoded(key, value)?);
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
        let (key, value) = pair.split_once('=').ok_or("a parameter after ? has no =")?;
        put(&decoded("a parameter's name", key)?, value)?;
    }
    // As libpq: `ssl=true` is for users of JDBC.
    if let Some(value) = settings.remove("ssl") {
        if value != "true" {
            return Err("ssl can only be true".to_owned());
        }
        settings.insert("sslmode".to_owned(), "require".to_owned());
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

fn decoded(key: &str, text: &str) -> Result<String, String> {
    let wrong = || format!("{key} is not percent-encoded UTF-8");
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
        let word = settings.len() + 1;
        let (key, behind) =
            rest.split_once('=').ok_or_else(|| format!("setting number {word} has no ="))?;
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("setting number {word} has no name before its ="));
        }
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
            return Err(format!("the quote after {key}= is not closed"));
        }
        settings.insert(key.to_owned(), value);
        rest = behind[end.unwrap_or(behind.len())..].trim_start();
    }
    Ok(settings)
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
        assert_eq!(parse(url), Ok(expected.clone()));
        let line = r"user=us@er password = 'p:w' host=::1,b port=5433,5432 dbname=data
            sslmode=verify-full sslrootcert='/r'";
        assert_eq!(parse(line), Ok(expected));
        assert_eq!(parse("postgres:///d"), Ok(settings(&[("dbname", "d")])));
        let socket = "postgresql://%2Fvar%2Frun/d?ssl=true";
        let expected = settings(&[("host", "/var/run"), ("dbname", "d"), ("sslmode", "require")]);
        assert_eq!(parse(socket), Ok(expected));
    }

    #[test]
    fn an_error_names_the_place_and_never_the_value() {
        let bad = [
            "host",
            "host='hunter2",
            "postgres://h/d?hunter2",
            "postgres://%zz/",
            "postgres://u:hunter2%@h/d",
            "password hunter2",
            "password:hunter2",
            "host=h hunter2",
            "host=h password='hunter2",
            "u:hunter2@h/d",
            "postgres://u:hunter2@h/d?ssl=hunter2",
            "jdbc:postgresql://h/d?password=hunter2",
        ];
        for text in bad {
            let why = parse(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
    }
}
