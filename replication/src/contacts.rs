//! What the leader of a group remembers of its members' answers, from one look to the next. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::membership::Contact;
use crate::types::NodeId;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    term: u64,
    /// Since when this leader has looked without a break.
    since: Duration,
    looked: Duration,
    /// Since when each member that answers has done so.
    steady_since: BTreeMap<NodeId, Duration>,
}

impl Contacts {
    /// Looks at `now`, as the leader of `term`. `answered` is how long ago each member answered last;
    /// `None` if it has not in this term. A member that was silent for longer than `within` does not
    /// answer.
    ///
    /// A leader that did not look for longer than that was itself asleep. It heard nobody, which says
    /// nothing about them, so their silence counts from then on.
    pub fn look(
        &mut self,
        term: u64,
        answered: impl IntoIterator<Item = (NodeId, Option<Duration>)>,
        within: Duration,
        now: Duration,
    ) -> BTreeMap<NodeId, Contact> {
        if self.term != term || now.saturating_sub(self.looked) > 2 * within {
            *self = Self { term, since: now, ..Self::default() };
        }
        self.looked = now;
        let watched = now.saturating_sub(self.since);
        let mut seen = BTreeMap::new();
        for (node, ago) in answered {
            let contact = if let Some(silent) = ago.filter(|ago| *ago <= within) {
                let since = self.steady_since.entry(node).or_insert(now);
                Contact { silent, steady: Some(now.saturating_sub(*since)) }
            } else {
                self.steady_since.remove(&node);
                Contact { silent: ago.map_or(watched, |ago| ago.min(watched)), steady: None }
            };
            seen.insert(node, contact);
        }
        self.steady_since.retain(|node, _| seen.contains_key(node));
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks at node 2, once a second.
    fn look(contacts: &mut Contacts, term: u64, ago: Option<u64>, now: u64) -> Contact {
        contacts.look(term, [(2, ago.map(secs))], WITHIN, secs(now))[&2]
    }

    #[test]
    fn steadiness_grows_until_a_silence_ends_it() {
        let mut contacts = Contacts::default();
        for now in 100..=110 {
            let steady = Some(secs(now - 100));
            assert_eq!(look(&mut contacts, 1, Some(0), now), Contact { silent: secs(0), steady });
        }
        assert_eq!(look(&mut contacts, 1, Some(2), 111).steady, Some(secs(11)));
        assert_eq!(look(&mut contacts, 1, Some(3), 112), Contact { silent: secs(3), steady: None });
        assert_eq!(look(&mut contacts, 1, Some(0), 113).steady, Some(secs(0)));
    }

    #[test]
    fn one_that_never_answered_is_silent_since_the_leadership_began() {
        let mut contacts = Contacts::default();
        assert_eq!(look(&mut contacts, 1, None, 100).silent, secs(0));
        assert_eq!(look(&mut contacts, 1, None, 103).silent, secs(3));
        assert_eq!(look(&mut contacts, 2, None, 104).silent, secs(0), "another leadership");
    }

    #[test]
    fn a_leader_that_slept_takes_nobody_for_dead() {
        let mut contacts = Contacts::default();
        look(&mut contacts, 1, Some(0), 100);
        assert_eq!(look(&mut contacts, 1, Some(900), 1_000), Contact::default());
        assert_eq!(look(&mut contacts, 1, Some(901), 1_001).silent, secs(1));
    }
}
