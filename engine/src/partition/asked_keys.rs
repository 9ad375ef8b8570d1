//! Keys that are to be looked up, gathered while others are being looked up.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use super::older_ids::Wanted;
use crate::ids::key::Space;
use crate::limits::WANTED_KEYS_MAX;

/// See the module.
#[derive(Default)]
pub(super) struct AskedKeys {
    wanted: RefCell<Vec<Wanted>>,
    /// Those, and those that are being looked up.
    asked: RefCell<HashSet<(u128, Space)>>,
    is_under_way: Cell<bool>,
}

impl AskedKeys {
    /// Notes keys; those that find no place must be asked for again. True if the caller must begin to look
    /// up what is [`Self::next`], because nobody does.
    pub(super) fn ask(&self, wanted: Vec<Wanted>) -> bool {
        let mut asked = self.asked.borrow_mut();
        if asked.len() + wanted.len() > WANTED_KEYS_MAX && !asked.is_empty() {
            return false;
        }
        let fresh = wanted.into_iter().filter(|one| asked.insert((one.key.id, one.key.space)));
        self.wanted.borrow_mut().extend(fresh);
        !self.is_under_way.replace(true)
    }

    /// What to look up now; `None` if there is nothing, and then the caller has ended.
    pub(super) fn next(&self) -> Option<Vec<Wanted>> {
        let wanted = self.wanted.take();
        let is_some = !wanted.is_empty();
        self.is_under_way.set(is_some);
        is_some.then_some(wanted)
    }

    /// These were looked up, or could not be: whoever still needs them asks again.
    pub(super) fn answered(&self, wanted: &[Wanted]) {
        let mut asked = self.asked.borrow_mut();
        for Wanted { key, .. } in wanted {
            asked.remove(&(key.id, key.space));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::key::Key;

    fn wanted(ids: std::ops::Range<u128>) -> Vec<Wanted> {
        ids.map(|id| Wanted::key(Key::new(id, Space::Event))).collect()
    }

    #[test]
    fn each_key_is_looked_up_once_by_one_and_may_be_asked_for_again() {
        let asked = AskedKeys::default();
        assert!(asked.ask(wanted(0..3)), "the first one begins");
        assert!(!asked.ask(wanted(2..5)), "the others need not");
        let first = asked.next().unwrap();
        assert_eq!(first.len(), 5);
        assert!(!asked.ask(wanted(4..6)));
        asked.answered(&first);
        assert!(!asked.ask(wanted(0..1)));
        assert_eq!(asked.next().unwrap().len(), 2);
        assert!(asked.next().is_none());
        assert!(asked.ask(wanted(7..8)), "nobody looks up now");
    }

    #[test]
    fn more_than_fit_are_left_for_later_but_one_question_always_fits() {
        let asked = AskedKeys::default();
        let many = WANTED_KEYS_MAX as u128 + 1;
        assert!(asked.ask(wanted(0..many)));
        assert!(!asked.ask(wanted(many..many + 1)));
        let first = asked.next().unwrap();
        assert_eq!(first.len() as u128, many);
        asked.answered(&first);
        assert!(!asked.ask(wanted(many..many + 1)));
        assert_eq!(asked.next().unwrap().len(), 1);
    }
}
