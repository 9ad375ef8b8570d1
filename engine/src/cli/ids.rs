//! Ids as people give and read them: books, names, and ids shown short. Pure.

use std::collections::HashMap;

use uuid::Uuid;
use walengine_net::model::Book;
use walengine_net::names;

use crate::limits::SHORT_IDS_KEPT_MAX;

/// Stands in the middle of an id that is shown short. No name may have it.
const CUT: char = '…';
/// Text instead of the number of the book of striped accounts.
const STRIPED: &str = "striped";

/// A name, number or UUID as a person gives it.
///
/// # Errors
/// It is empty, an id that was shown short, or a UUID with something around it: hashed, each would be the id of
/// something else.
pub fn name(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("a name is not empty");
    }
    if text.contains(CUT) {
        return Err("this is an id that was shown short; --full shows it whole");
    }
    if names::decorates_uuid(text) {
        return Err(names::DECORATED_UUID);
    }
    Ok(text.to_owned())
}

/// A book as a person gives it: a number, or `striped` for that of striped accounts.
///
/// # Errors
/// What to write instead.
pub fn book(text: &str) -> Result<u32, &'static str> {
    if text == STRIPED {
        return Ok(Book::STRIPED.0);
    }
    text.parse().map_err(|_| "a book is a number below 2^32, or striped")
}

/// A book as [`book`] takes it.
pub fn shown_book(book: u32) -> String {
    if book == Book::STRIPED.0 { STRIPED.to_owned() } else { book.to_string() }
}

/// An id whole, as commands take it: a number, or a UUID where that would have more than twenty digits.
pub fn whole(id: u128) -> String {
    match u64::try_from(id) {
        Ok(number) => number.to_string(),
        Err(_) => Uuid::from_u128(id).hyphenated().to_string(),
    }
}

/// Columns of text, as wide in those of ids as these are shown.
pub fn widened(
    columns: &[(&'static str, usize)],
    of_ids: &[&str],
    is_whole: bool,
) -> Vec<(&'static str, usize)> {
    let wide = if is_whole { ShownIds::WHOLE_CHARS } else { ShownIds::SHORT_CHARS };
    let width = |name: &'static str, width| if of_ids.contains(&name) { wide } else { width };
    columns.iter().map(|(name, chars)| (*name, width(name, *chars))).collect()
}

/// Shows ids short where that is unique among those that were shown so before, and whole elsewhere.
#[derive(Debug, Default)]
pub struct ShownIds {
    is_whole: bool,
    kept: HashMap<String, u128>,
}

impl ShownIds {
    /// Columns of a table need so many characters for an id.
    pub const SHORT_CHARS: usize = 15;
    /// See [`Self::SHORT_CHARS`].
    pub const WHOLE_CHARS: usize = 36;

    /// Nothing was shown yet. With `is_whole` all ids are shown whole.
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, kept: HashMap::new() }
    }

    /// An id for people.
    pub fn id(&mut self, id: u128) -> String {
        let all = whole(id);
        if self.is_whole || all.len() <= Self::SHORT_CHARS {
            return all;
        }
        let hex = format!("{id:032x}");
        // Accounts of the book 0 all begin with it.
        let head = if id >> 96 == 0 { &hex[8..16] } else { &hex[..8] };
        let short = format!("{head}{CUT}{}", &hex[26..]);
        match self.kept.get(&short) {
            Some(known) if *known == id => short,
            None if self.kept.len() < SHORT_IDS_KEPT_MAX => {
                self.kept.insert(short.clone(), id);
                short
            }
            _ => all,
        }
    }

    /// As [`Self::id`], of a cell of a table, which may be empty.
    pub fn cell(&mut self, cell: &str) -> String {
        cell.parse().map_or_else(|_| cell.to_owned(), |id| self.id(id))
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::AccountId;

    use super::*;

    #[test]
    fn books_are_numbers_and_one_has_a_name() {
        assert_eq!(book("7"), Ok(7));
        assert_eq!(book(&shown_book(Book::STRIPED.0)), Ok(Book::STRIPED.0));
        for bad in ["", "-1", "4294967296", "fees"] {
            assert!(book(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_shown_short_only_where_it_is_unique() {
        let (one, two) = (0x0198_3333_4444_7777_8888_9999_aaaa_bbbb, 0x0198_3333_4444_aaaa_bbbb);
        let mut shown = ShownIds::new(false);
        assert_eq!(shown.id(one), "01983333…aabbbb");
        assert_eq!(shown.id(one), "01983333…aabbbb");
        let other = one ^ (1 << 60);
        assert_eq!(shown.id(other), "01983333-4444-7777-9888-9999aaaabbbb", "one looks like it");
        assert_ne!(shown.id(two), shown.id(one));
        assert_eq!(shown.id(1042), "1042");
        assert_eq!(shown.cell("1042"), "1042");
        assert_eq!(shown.cell(""), "");
        assert_eq!(ShownIds::new(true).id(one), "01983333-4444-7777-8888-9999aaaabbbb");
    }

    #[test]
    fn what_is_shown_whole_is_that_id_again_and_what_is_shown_short_is_refused() {
        for id in [1, 42, u128::from(u64::MAX), 1 << 64, (7 << 96) + 42, u128::MAX - 1] {
            assert_eq!(names::id_of_text(&whole(id)), id);
            let account = AccountId(id);
            assert_eq!(names::account_id(account.book(), &whole(id)), account);
        }
        assert!(name(&ShownIds::new(false).id(u128::MAX - 1)).is_err());
        assert!(name(" ").is_err());
        assert!(name("{550e8400-e29b-41d4-a716-446655440000}").is_err());
        assert_eq!(name("Anna Novak").as_deref(), Ok("Anna Novak"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut shown = ShownIds::new(false);
        for id in 0..(SHORT_IDS_KEPT_MAX as u128 + 10) {
            shown.id((id << 96) + 1);
        }
        assert!(shown.kept.len() <= SHORT_IDS_KEPT_MAX);
    }
}
