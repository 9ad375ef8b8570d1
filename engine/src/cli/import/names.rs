//! The accounts that a file names. A name becomes an id once, and not for every row. Pure.

use std::collections::HashMap;

use walengine_net::model::{AccountId, Book, LedgerId};
use walengine_net::names::account_id;

use crate::limits::IMPORT_NAMES_MAX;

/// Accounts by name and by id. Their places never change.
#[derive(Debug)]
pub struct Names {
    book: Book,
    by_text: HashMap<Box<str>, u32>,
    by_id: HashMap<AccountId, u32>,
    accounts: Vec<Named>,
}

/// An account of the file, and how its rows use it.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub id: AccountId,
    /// The ledgers of the rows that name it, the first two of them.
    pub uses: [Use; 2],
    /// Rows with other ledgers.
    pub others: u32,
    /// Its ledger at the server; 0 if there is no such account.
    pub actual: LedgerId,
}

/// Rows that use an account with one ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    pub ledger: LedgerId,
    pub rows: u32,
    pub first_line: u64,
}

impl Names {
    /// None yet. Names and small numbers are of `book`.
    pub fn new(book: Book) -> Self {
        let (by_text, by_id) = (HashMap::new(), HashMap::new());
        Self { book, by_text, by_id, accounts: Vec::new() }
    }

    /// The place of an account that was named before.
    pub fn known(&self, name: &str) -> Option<u32> {
        self.by_text.get(name).copied()
    }

    /// The place of an account.
    pub fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.known(name) {
            return place;
        }
        let id = account_id(self.book, name);
        let next = self.accounts.len() as u32;
        let place = *self.by_id.entry(id).or_insert(next);
        if place == next {
            let actual = LedgerId(0);
            self.accounts.push(Named { id, uses: [Use::default(); 2], others: 0, actual });
        }
        if self.by_text.len() < IMPORT_NAMES_MAX {
            self.by_text.insert(name.into(), place);
        }
        place
    }

    /// The ledger of an account at the server; 0 if it is not known.
    pub fn actual(&self, place: u32) -> LedgerId {
        self.accounts[place as usize].actual
    }

    /// The id of the account at a place.
    pub fn id(&self, place: u32) -> AccountId {
        self.accounts[place as usize].id
    }

    /// The id of an account by name.
    #[cfg(test)]
    pub fn id_of(&mut self, name: &str) -> AccountId {
        let place = self.place(name);
        self.id(place)
    }

    /// Notes that a row will be sent that uses the account with a ledger.
    pub fn is_used(&mut self, place: u32, ledger: LedgerId, line: u64) {
        let account = &mut self.accounts[place as usize];
        let used = account.uses.iter_mut().find(|one| one.rows == 0 || one.ledger == ledger);
        match used {
            Some(one) if one.rows == 0 => *one = Use { ledger, rows: 1, first_line: line },
            Some(one) => one.rows = one.rows.saturating_add(1),
            None => account.others = account.others.saturating_add(1),
        }
    }

    /// All accounts, by place.
    pub fn accounts(&self) -> &[Named] {
        &self.accounts
    }

    /// All accounts, by place.
    pub fn accounts_mut(&mut self) -> &mut [Named] {
        &mut self.accounts
    }

    /// The accounts that rows use, by what the file calls them.
    pub fn texts_of_used(&self) -> impl Iterator<Item = (AccountId, &str)> {
        let named =
            self.by_text.iter().map(|(text, place)| (&self.accounts[*place as usize], text));
        named.filter(|(account, _)| account.is_used()).map(|(account, text)| (account.id, &**text))
    }

    /// How the file calls the accounts at these places, for messages.
    pub fn texts(&self, places: &[u32]) -> Vec<String> {
        let mut texts: HashMap<u32, &str> = HashMap::new();
        for (text, &place) in &self.by_text {
            if places.contains(&place) {
                texts.insert(place, text);
            }
        }
        let text = |place| texts.get(place).map(|&text| text.to_owned());
        places
            .iter()
            .map(|place| text(place).unwrap_or_else(|| self.id(*place).to_string()))
            .collect()
    }
}

impl Named {
    /// Whether a row that will be sent names it.
    pub fn is_used(&self) -> bool {
        self.uses[0].rows > 0
    }

    /// Whether its rows have more than one ledger, or another than it has.
    pub fn is_mixed(&self) -> bool {
        self.uses[1].rows > 0 || (self.actual.0 != 0 && self.actual != self.uses[0].ledger)
    }

    /// The ledger that it has, or that most of its rows use; `None` if that can't be said.
    pub fn ledger(&self) -> Option<LedgerId> {
        if self.actual.0 != 0 {
            return Some(self.actual);
        }
        let [first, second] = self.uses;
        match first.rows.cmp(&second.rows) {
            _ if self.others >= first.rows.max(second.rows) => None,
            std::cmp::Ordering::Greater => Some(first.ledger),
            std::cmp::Ordering::Less => Some(second.ledger),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// The first line that will be sent and names it.
    pub fn first_line(&self) -> u64 {
        self.uses[0].first_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_the_ledger_that_most_of_its_rows_use() {
        let mut names = Names::new(Book(0));
        let ledger = |names: &Names, place: u32| names.accounts()[place as usize].ledger();
        let place = names.place("a");
        assert_eq!(names.place("a"), place);
        names.is_used(place, LedgerId(203), 2);
        assert_eq!(ledger(&names, place), Some(LedgerId(203)));
        names.is_used(place, LedgerId(1), 3);
        assert_eq!(ledger(&names, place), None, "one row each");
        names.is_used(place, LedgerId(1), 4);
        assert_eq!(ledger(&names, place), Some(LedgerId(1)));
        names.is_used(place, LedgerId(7), 5);
        names.is_used(place, LedgerId(8), 6);
        assert_eq!(ledger(&names, place), None);
        assert!(names.accounts()[place as usize].is_mixed());
        assert_eq!(names.texts(&[place]), ["a"]);
    }

    #[test]
    fn two_names_of_one_id_are_one_account() {
        let mut names = Names::new(Book(7));
        let upper = names.place("01901234-5678-7ABC-8DEF-0123456789AB");
        assert_eq!(names.place("01901234-5678-7abc-8def-0123456789ab"), upper);
        assert_eq!(names.accounts().len(), 1);
    }
}
