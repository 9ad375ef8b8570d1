//! Batches: chains of events, splitting by partition, and results.

use crate::limits::EVENTS_MAX;
use crate::message::{EventOutcome, OutcomeRuns};
use crate::model::{
    Close, Event, EventBytes, EventKind, FLAG_LINKED, Guard, PartitionId, Token, Transfer,
};
use crate::unit;

use super::ClientError;

/// Place of the flags in an event: FORMAT.md, section 3.
const FLAGS_AT: usize = 118;

/// Events for one partition, sent together. Each is decided on its own, except in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The partition.
    pub partition: PartitionId,
    /// The events, at most [`EVENTS_MAX`].
    pub events: Vec<EventBytes>,
}

/// Events that succeed or fail together. [`Chain::events`] sets their linked flags.
///
/// ```
/// use walengine_net::client::Chain;
/// use walengine_net::model::{Guard, Transfer};
///
/// let chain = Chain::new().guard(Guard::default()).transfer(Transfer::default());
/// assert_eq!(chain.events().len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    events: Vec<Event>,
}

impl Chain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn guard(self, guard: Guard) -> Self {
        self.event(Event::Guard(guard))
    }

    /// Adds a transfer.
    #[must_use]
    pub fn transfer(self, transfer: Transfer) -> Self {
        self.event(Event::Transfer(transfer))
    }

    /// Adds the closing or reopening of an account.
    #[must_use]
    pub fn close(self, close: Close) -> Self {
        self.event(Event::Close(close))
    }

    /// Adds any other event.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// The events in their 128-byte form. All but the last are linked to the next.
    pub fn events(&self) -> Vec<EventBytes> {
        let mut events: Vec<_> = self.events.iter().map(Event::to_bytes).collect();
        let last = events.len().saturating_sub(1);
        for (index, event) in events.iter_mut().enumerate() {
            set_linked(event, index < last);
        }
        events
    }
}

fn set_linked(event: &mut EventBytes, linked: bool) {
    let flags = u16::from_le_bytes([event[FLAGS_AT], event[FLAGS_AT + 1]]);
    let flags = if linked { flags | FLAG_LINKED } else { flags & !FLAG_LINKED };
    event[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&flags.to_le_bytes());
}

/// Result of one or more batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    /// One token for each partition that logged anything.
    pub tokens: Vec<Token>,
    /// Outcomes in the order of the request.
    pub outcomes: OutcomeRuns,
}

impl Submitted {
    /// The outcomes one by one.
    pub fn outcomes(&self) -> impl Iterator<Item = EventOutcome> {
        self.outcomes.iter()
    }

    /// Whether every event was accepted, now or before.
    pub fn all_ok(&self) -> bool {
        self.outcomes().all(|outcome| outcome.verdict.is_ok())
    }

    /// Keeps the newest token of each partition.
    pub(super) fn add_token(&mut self, token: Token) {
        match self.tokens.iter_mut().find(|known| known.partition == token.partition) {
            Some(known) if known.offset < token.offset => *known = token,
            Some(_) => {}
            None => self.tokens.push(token),
        }
    }
}

/// A request split by partition.
#[derive(Clone, Debug)]
pub struct Split {
    /// Batches within the limits. No chain is cut.
    pub batches: Vec<Batch>,
    /// For each batch, the places of its events in the request.
    pub places: Vec<Vec<usize>>,
}

/// Splits a request by partition: each unit goes to its home. Any server refuses a chain that has none.
pub fn split(events: &[EventBytes], partitions: u16) -> Result<Split, ClientError> {
    let mut split = Split { batches: Vec::new(), places: Vec::new() };
    let mut open: Vec<Option<usize>> = vec![None; usize::from(partitions)];
    let mut start = 0;
    while start < events.len() {
        let end = start + unit::length(&events[start..]).0;
        let chain = &events[start..end];
        if chain.len() > EVENTS_MAX {
            return Err(ClientError::TooMany {
                what: "events in a linked chain",
                found: chain.len(),
                limit: EVENTS_MAX,
            });
        }
        let partition = match unit::path(chain, partitions) {
            Ok(path) => path.ok_or(ClientError::Unroutable { index: start })?.home,
            Err(_) => PartitionId(0),
        };
        let slot = &mut open[usize::from(partition.0)];
        let batch = match *slot {
            Some(batch) if split.batches[batch].events.len() + chain.len() <= EVENTS_MAX => batch,
            _ => {
                split.batches.push(Batch { partition, events: Vec::new() });
                split.places.push(Vec::new());
                *slot.insert(split.batches.len() - 1)
            }
        };
        split.batches[batch].events.extend_from_slice(chain);
        split.places[batch].extend(start..end);
        start = end;
    }
    Ok(split)
}

/// Ids of a batch by namespace: events, then accounts, each with its place.
pub(super) fn ids_by_namespace(events: &[EventBytes]) -> [Vec<(usize, u128)>; 2] {
    let mut ids = [Vec::new(), Vec::new()];
    for (place, event) in events.iter().enumerate() {
        let is_account = crate::model::event_kind(event) == Ok(EventKind::Account);
        ids[usize::from(is_account)].push((place, crate::model::event_id(event)));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Account, AccountId, EventId};

    fn transfer(book: u128, id: u128) -> Transfer {
        Transfer {
            id: EventId(id),
            debit_account_id: AccountId(book << 96 | 1),
            credit_account_id: AccountId(book << 96 | 2),
            ..Transfer::default()
        }
    }

    #[test]
    fn only_the_last_event_of_a_chain_is_not_linked() {
        let chain =
            Chain::new().guard(Guard::default()).transfer(transfer(1, 1)).close(Close::default());
        let linked: Vec<_> = chain.events().iter().map(unit::is_linked).collect();
        assert_eq!(linked, [true, true, false]);
        assert!(Chain::new().events().is_empty());
    }

    fn home(event: &EventBytes) -> PartitionId {
        unit::path(std::slice::from_ref(event), 4).unwrap().unwrap().home
    }

    #[test]
    fn split_keeps_chains_whole_and_order_within_a_partition() {
        let mut events = Vec::new();
        for index in 0..3_000u128 {
            let chain = Chain::new().transfer(transfer(index % 50, index * 2 + 1));
            events.extend(chain.transfer(transfer(index % 50, index * 2 + 2)).events());
        }
        let split = split(&events, 4).unwrap();
        let mut seen = vec![false; events.len()];
        for (batch, places) in split.batches.iter().zip(&split.places) {
            assert!(!unit::is_linked(batch.events.last().unwrap()));
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
            for (event, &place) in batch.events.iter().zip(places) {
                assert_eq!(home(event), batch.partition);
                assert_eq!(event, &events[place]);
                assert!(!std::mem::replace(&mut seen[place], true));
            }
        }
        assert!(seen.iter().all(|&seen| seen) && split.batches.len() == 4);
    }

    #[test]
    fn large_requests_become_several_batches() {
        let events = vec![transfer(1, 1).to_bytes(); EVENTS_MAX * 2 + 1];
        let split = split(&events, 2).unwrap();
        let sizes: Vec<_> = split.batches.iter().map(|batch| batch.events.len()).collect();
        assert_eq!(sizes, [EVENTS_MAX, EVENTS_MAX, 1]);
    }

    #[test]
    fn an_event_without_an_account_goes_with_its_chain_or_not_at_all() {
        let post = Transfer { pending_id: EventId(9), ..Transfer::default() };
        let alone = split(&[post.to_bytes()], 2).unwrap_err();
        assert_eq!(alone, ClientError::Unroutable { index: 0 });
        assert_eq!(split(&[post.to_bytes()], 1).unwrap().batches.len(), 1);
        let chain = Chain::new().transfer(post).transfer(transfer(1, 1)).events();
        assert_eq!(split(&chain, 2).unwrap().batches.len(), 1);
    }

    #[test]
    fn ids_are_told_apart_by_namespace() {
        let account = Account { id: AccountId(5), ..Account::default() };
        let ids = ids_by_namespace(&[account.to_bytes(), transfer(1, 7).to_bytes()]);
        assert_eq!(ids, [vec![(1, 7)], vec![(0, 5)]]);
    }
}
