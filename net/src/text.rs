//! Text from outside, made fit to be shown: names and addresses of clients and nodes, messages of servers,
//! what stands in files and certificates. A terminal obeys control characters, and a line break in a name
//! would look like a line of the program's own. What prints and logs calls this. Whoever reads such a text may
//! call it already: a second time changes nothing.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A terminal, or who reads a text, takes it for something else than a letter: control characters, those that
/// turn the direction of what follows, and line separators.
fn is_obeyed(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(one, '\u{2028}' | '\u{2029}')
}

/// A text in one line: what a terminal would obey is written as Rust does, such as `\n` and `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed, |safe, one| safe.extend(one.escape_default()))
}

/// As [`printable`], of a text that has lines of its own.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let is_obeyed = |one| one != '\n' && is_obeyed(one);
    escaped(text, is_obeyed, |safe, one| safe.extend(one.escape_default()))
}

/// A JSON text in which strings have escapes for everything that a terminal would obey, and say the same.
/// JSON itself demands that of some control characters only.
pub fn json_escaped(json: &str) -> Cow<'_, str> {
    escaped(json, is_obeyed, |safe, one| {
        // All of them are in the basic plane. Writing to a string can't fail.
        let _ = write!(safe, "\\u{:04x}", u32::from(one));
    })
}

fn escaped(
    text: &str,
    is_obeyed: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.chars().any(&is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for one in text.chars() {
        if is_obeyed(one) {
            escape(&mut safe, one);
        } else {
            safe.push(one);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert!(matches!(printable("plain, Zürich, 東京 \\n"), Cow::Borrowed(_)));
        let text = "a\u{1b}[2J\u{9b}31m\u{7f}\r\n\tb\u{202e}c\u{2028}\u{0}";
        let safe = r"a\u{1b}[2J\u{9b}31m\u{7f}\r\n\tb\u{202e}c\u{2028}\u{0}";
        assert_eq!(printable(text), safe);
        assert_eq!(printable_lines("one\ntwo\u{1b}\r\n"), "one\ntwo\\u{1b}\\r\n");
        let every = (0..0x3000).filter_map(char::from_u32).collect::<String>();
        assert!(!printable(&every).chars().any(is_obeyed));
    }

    #[test]
    fn json_says_the_same_with_escapes() {
        assert_eq!(
            json_escaped("{\"a\":\"\u{7f}\u{9b}\u{202e}é\\n\"}"),
            "{\"a\":\"\\u007f\\u009b\\u202eé\\n\"}"
        );
    }
}
