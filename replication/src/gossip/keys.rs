//! The keys that seal gossip, as a key file holds them. The first seals, both open: so a cluster passes
//! from one key to the next while it runs.

use std::fmt;

/// The secrets of a cluster's gossip. Neither printed nor compared by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKeys {
    seals: [u8; 32],
    also_opens: Option<[u8; 32]>,
}

impl fmt::Debug for GossipKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} gossip keys", 1 + usize::from(self.also_opens.is_some()))
    }
}

/// Why a key file is not taken. Nothing of its content is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There is no key in it.
    #[error("it holds no key")]
    Empty,
    /// A line is no key.
    #[error("line {line} is no key: a key is 64 hexadecimal digits")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// More keys than two.
    #[error("line {line} is a third key: the first seals, the second opens, too")]
    TooMany {
        /// Where it stands, from 1.
        line: usize,
    },
    /// It holds the same key twice.
    #[error("both keys are the same")]
    Same,
}

impl GossipKeys {
    /// A key that seals and opens.
    pub fn one(key: [u8; 32]) -> Self {
        Self { seals: key, also_opens: None }
    }

    /// A key that seals and opens, and another that only opens.
    pub fn two(seals: [u8; 32], also_opens: [u8; 32]) -> Self {
        Self { seals, also_opens: Some(also_opens) }
    }

    /// Reads a key file: one or two lines of 64 hexadecimal digits; empty lines and those that begin with
    /// `#` do not count. A file of exactly 32 bytes, as earlier versions wanted it, is one key as it is.
    ///
    /// # Errors
    /// It is neither. Nothing is guessed: a key with a missing digit is no other key.
    pub fn parse(file: &[u8]) -> Result<Self, KeysError> {
        if let Ok(key) = <[u8; 32]>::try_from(file) {
            return Ok(Self::one(key));
        }
        let mut keys: Vec<[u8; 32]> = Vec::new();
        for (line, text) in (1..).zip(file.split(|&byte| byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let key = from_hex(text).ok_or(KeysError::Line { line })?;
            if keys.len() == 2 {
                return Err(KeysError::TooMany { line });
            }
            keys.push(key);
        }
        match keys[..] {
            [] => Err(KeysError::Empty),
            [one] => Ok(Self::one(one)),
            [seals, opens] if seals != opens => Ok(Self::two(seals, opens)),
            _ => Err(KeysError::Same),
        }
    }

    /// The key that seals.
    pub(super) fn seals(&self) -> &[u8; 32] {
        &self.seals
    }

    /// All of them, which all open: first the one that seals.
    pub fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.seals).chain(&self.also_opens)
    }
}

fn from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut key = [0; 32];
    if text.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(key: [u8; 32]) -> String {
        format!("{:02x}", key[0]).repeat(32)
    }

    #[test]
    fn a_key_file_holds_one_key_or_two_and_is_never_guessed() {
        let (one, two, three) = ([0x5a; 32], [0xc3; 32], [7; 32]);
        let parse = |text: String| GossipKeys::parse(text.as_bytes());
        assert_eq!(parse(hex(one)), Ok(GossipKeys::one(one)));
        let text = format!("# since May\n{}\r\n\n  {}\n", hex(one).to_uppercase(), hex(two));
        assert_eq!(parse(text), Ok(GossipKeys::two(one, two)));
        assert_eq!(GossipKeys::parse(&one), Ok(GossipKeys::one(one)), "as it always was");
        assert_eq!(GossipKeys::parse(b""), Err(KeysError::Empty));
        assert_eq!(parse("# nothing\n".to_owned()), Err(KeysError::Empty));
        let short = format!("{}\n{}", hex(one), &hex(two)[1..]);
        assert_eq!(parse(short), Err(KeysError::Line { line: 2 }));
        assert_eq!(GossipKeys::parse(&[0x5a; 33]), Err(KeysError::Line { line: 1 }));
        let three = format!("{}\n{}\n{}\n", hex(one), hex(two), hex(three));
        assert_eq!(parse(three), Err(KeysError::TooMany { line: 3 }));
        assert_eq!(parse(format!("{0}\n{0}\n", hex(one))), Err(KeysError::Same));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", GossipKeys::two([0x5a; 32], [1; 32])), "2 gossip keys");
    }
}
