//! Turns text into 128-bit ids, in the same way in every client: PROTOCOL.md, section 6. The result
//! depends on the text alone, and is never 0 or 2^128 − 1, which no event and no account may have.

use crate::model::{AccountId, Book, EventId, Name, NameFlags, NameText};

/// Put before a text that is hashed.
const DOMAIN: &[u8] = b"walengine.name.v1\0";
const LOW_96: u128 = (1 << 96) - 1;

/// Id of an event, or of anything that is not an account. The first rule that applies counts:
///
/// 1. a UUID in its 36-character form, in either case: its 128 bits, the first digit highest;
/// 2. a decimal number from 1 to 2^128 − 2, without sign or leading zeros: that number;
/// 3. any other text: the first 16 bytes, highest first, of BLAKE3 over `walengine.name.v1`, a zero
///    byte, and the text in UTF-8.
pub fn id_of_text(text: &str) -> u128 {
    uuid_of_text(text).or_else(|| number_of_text(text)).unwrap_or_else(|| hash(text, usable))
}

/// [`id_of_text`] as the id of an event.
pub fn event_id(text: &str) -> EventId {
    EventId(id_of_text(text))
}

/// Id of an account in `book`. The upper 32 bits of the id are its book, so
///
/// 1. a UUID is taken as it is, with its own book;
/// 2. so is a decimal number of 2^96 and above;
/// 3. a smaller number becomes the lower 96 bits, under `book`;
/// 4. any other text gives the lower 96 bits of its hash, under `book`.
pub fn account_id(book: Book, text: &str) -> AccountId {
    if let Some(id) = uuid_of_text(text) {
        return AccountId(id);
    }
    let under_book = |low: u128| (u128::from(book.0) << 96) | (low & LOW_96);
    let id = match number_of_text(text) {
        Some(number) if number > LOW_96 => number,
        Some(number) if usable(under_book(number)) => under_book(number),
        _ => under_book(hash(text, |id| usable(under_book(id)))),
    };
    AccountId(id)
}

/// The text is no id as it stands: [`account_id`] makes one of its hash.
pub fn is_hashed(text: &str) -> bool {
    uuid_of_text(text).is_none() && number_of_text(text).is_none()
}

/// Why a text is refused that [`decorates_uuid`].
pub const DECORATED_UUID: &str = "write the UUID alone, without spaces, braces or urn:uuid: around it: with them it would be a name, and so another id";

/// The text is a UUID with spaces, braces or `urn:uuid:` around it. The rule makes a name of it, and so the id of another
/// account or event than who gives it means: whoever takes texts from people and programs refuses it first.
pub fn decorates_uuid(text: &str) -> bool {
    let inner = text.trim();
    let within = |[open, close]: [char; 2]| inner.strip_prefix(open)?.strip_suffix(close);
    let bare = within(['{', '}']).or_else(|| within(['(', ')'])).unwrap_or(inner);
    let is_urn = bare.get(..9).is_some_and(|head| head.eq_ignore_ascii_case("urn:uuid:"));
    let bare = if is_urn { &bare[9..] } else { bare };
    bare.len() < text.len() && has_uuid_form(bare)
}

/// The event by which tools that make an account name it. Its id is the same for the same account and name, so that making
/// it again names nothing twice, and undoes no later renaming.
pub fn naming(account_id: AccountId, name: NameText) -> Name {
    let id = EventId(hash(&format!("walengine.naming.v1 {:032x} {name}", account_id.0), usable));
    Name { id, account_id, name, flags: NameFlags::default() }
}

fn usable(id: u128) -> bool {
    id != 0 && id != u128::MAX
}

fn has_uuid_form(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn uuid_of_text(text: &str) -> Option<u128> {
    if !has_uuid_form(text) {
        return None;
    }
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    Some(digits.fold(0, |id, digit| (id << 4) | u128::from(digit))).filter(|&id| usable(id))
}

fn number_of_text(text: &str) -> Option<u128> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok().filter(|&id| usable(id)) } else { None }
}

/// The first 16 bytes of the hash's output that `wanted` accepts. The output is endless.
fn hash(text: &str, wanted: impl Fn(u128) -> bool) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(text.as_bytes());
    let mut output = hasher.finalize_xof();
    loop {
        let mut bytes = [0; 16];
        output.fill(&mut bytes);
        let id = u128::from_be_bytes(bytes);
        if wanted(id) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_and_numbers_are_taken_as_they_are() {
        let uuid = 0x0190_1234_5678_7abc_8def_0123_4567_89ab;
        assert_eq!(id_of_text("01901234-5678-7abc-8def-0123456789ab"), uuid);
        assert_eq!(id_of_text("01901234-5678-7ABC-8DEF-0123456789AB"), uuid);
        assert_eq!(id_of_text("42"), 42);
        assert_eq!(id_of_text(&(u128::MAX - 1).to_string()), u128::MAX - 1);
        assert_eq!(account_id(Book(7), "42"), AccountId((7 << 96) + 42));
        assert_eq!(account_id(Book(7), &(1u128 << 96).to_string()), AccountId(1 << 96));
        assert_eq!(account_id(Book(7), "01901234-5678-7abc-8def-0123456789ab"), AccountId(uuid));
    }

    #[test]
    fn a_uuid_with_something_around_it_is_known_and_no_other_text_is() {
        let uuid = "550e8400-e29b-41d4-A716-446655440000";
        for text in ["{_}", "(_)", "urn:uuid:_", "URN:UUID:_", "{urn:uuid:_}", " _", "_\n", " {_} "]
        {
            assert!(decorates_uuid(&text.replace('_', uuid)), "{text}");
        }
        let bare = uuid.replace('-', "");
        for text in
            [uuid, &bare, &format!("{{{bare}}}"), "{a}", "urn:uuid:", "{", "", "ééééé", "{_"]
        {
            assert!(!decorates_uuid(text), "{text}");
        }
    }

    #[test]
    fn all_other_texts_are_hashed() {
        let others = [
            "",
            "0",
            "042",
            "-1",
            "+1",
            " 42",
            "1.5",
            "é",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "01901234567 87abc8def0123456789ab",
            "019012345678-7abc-8def-0123-456789ab",
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211456",
        ];
        let mut ids: Vec<_> = others.iter().map(|text| id_of_text(text)).collect();
        assert!(ids.iter().all(|&id| usable(id) && id > LOW_96));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), others.len());
        for text in others {
            assert_eq!(account_id(Book(9), text).book(), Book(9));
            assert_eq!(account_id(Book(9), text).0 & LOW_96, id_of_text(text) & LOW_96);
        }
        let largest = account_id(Book(u32::MAX), &LOW_96.to_string());
        assert!(usable(largest.0) && largest.book() == Book(u32::MAX));
    }

    /// The values are part of the protocol: a change would lose every name in use.
    #[test]
    fn hashes_never_change() {
        let names = ["alice", "", "účet 1"].map(|text| format!("{:032x}", id_of_text(text)));
        assert_eq!(
            names,
            [
                "4bfdb6dc0c0121d4098aa5ae0c955e80",
                "0c04196016379e7f475eb6c24e2ace6e",
                "493deea0ea258f4a7e405458d4f59278",
            ]
        );
    }
}
