//! The text of a name, as it stands in an event.

use std::fmt;

/// Longest name in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 80;
/// Largest scale: 10^38 is the largest power of ten that an amount can hold.
pub const SCALE_MAX: u8 = 38;

/// A name in its place in an event: UTF-8, and zero bytes behind it. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameText([u8; NAME_BYTES_MAX]);

/// Why a text can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Something that is not seen, or that changes how what is beside it is seen.
    #[error(
        "a name has no control characters, no marks that turn text around, and no space at either end"
    )]
    Unseen,
}

impl NameText {
    /// The name of what has none.
    pub const NONE: Self = Self([0; NAME_BYTES_MAX]);

    /// Of a text; an empty one is [`Self::NONE`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if !is_plain(text) {
            return Err(NameError::Unseen);
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(bytes))
    }

    /// As they stand in an event; they may be no name.
    pub fn from_bytes(bytes: [u8; NAME_BYTES_MAX]) -> Self {
        Self(bytes)
    }

    /// As they stand in an event.
    pub fn to_bytes(self) -> [u8; NAME_BYTES_MAX] {
        self.0
    }

    /// The text; `None` if these bytes are no name. Those of the log are.
    pub fn text(&self) -> Option<&str> {
        let end = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        std::str::from_utf8(&self.0[..end]).ok().filter(|text| is_plain(text))
    }

    /// There is no name.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Nothing in it hides, or turns around what is beside it.
fn is_plain(text: &str) -> bool {
    let hides = |one: char| {
        one.is_control()
            || matches!(one, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.trim() == text && !text.contains(hides)
}

impl Default for NameText {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for NameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().unwrap_or_default())
    }
}

impl fmt::Debug for NameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_no_name() {
        for good in ["", "Anna Novák", "ΩΜΕΓΑ", "日本", "a", &"x".repeat(NAME_BYTES_MAX)] {
            let name = NameText::new(good).unwrap();
            assert_eq!(name.text(), Some(good));
            assert_eq!(NameText::from_bytes(name.to_bytes()), name);
            assert_eq!(name.is_none(), good.is_empty());
        }
        for bad in ["a\0b", "a\n", " a", "a ", "a\u{202e}b", "\u{feff}a", "a\u{7f}"] {
            assert_eq!(NameText::new(bad), Err(NameError::Unseen), "{bad:?}");
        }
        assert_eq!(NameText::new(&"é".repeat(41)), Err(NameError::TooLong(82)));
        let mut bytes = NameText::new("ab").unwrap().to_bytes();
        bytes[10] = b'c'; // behind a gap
        assert_eq!(NameText::from_bytes(bytes).text(), None);
        assert_eq!(NameText::from_bytes([0xff; NAME_BYTES_MAX]).text(), None);
    }
}
