//! What has come from other partitions: how far, and what was said of it.

use std::collections::{BTreeMap, VecDeque};

use walengine_net::model::{Amount, EventId, Mail, PartitionId, Verdict, Word};

/// Size of what a snapshot has of another partition in bytes, each: a place, or a word.
pub(super) const ACROSS_ITEM_BYTES: usize = 48;
/// Stands instead of a verdict with the place of the last arrival.
const LAST: u8 = u8::MAX;
/// Stands instead of a verdict with the reservation that the word before it speaks of.
const PENDING: u8 = u8::MAX - 1;

/// What has come from other partitions.
#[derive(Default)]
pub(super) struct Across {
    inbound: BTreeMap<PartitionId, Inbound>,
    /// Whose mail is open: what arrives next is from there.
    open: Option<PartitionId>,
    /// Offset and what its record has changed, oldest first. Emptied by [`Self::release`].
    changes: VecDeque<(u64, Change)>,
}

/// What has come from one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inbound {
    /// Place of the last arrival.
    last: u64,
    /// By place: the words that it may not know yet.
    words: BTreeMap<u64, Word>,
}

enum Change {
    /// These words were forgotten.
    Mail(PartitionId, BTreeMap<u64, Word>),
    /// The last place before, and the one that has arrived.
    Arrival(PartitionId, u64, u64),
}

impl Across {
    /// No more than this are in [`Self::items`].
    pub(super) fn items_max(&self) -> usize {
        self.inbound.values().map(|inbound| 1 + 2 * inbound.words.len()).sum()
    }

    /// As a snapshot has them, ascending.
    pub(super) fn items(&self) -> impl Iterator<Item = [u8; ACROSS_ITEM_BYTES]> {
        self.inbound.iter().flat_map(|(home, inbound)| {
            let last = item(*home, LAST, inbound.last, 0, 0, false);
            let word = |word: &Word| {
                let Word { id, place, verdict, amount, pending_id, is_linked } = *word;
                let first = item(*home, verdict.number(), place, id.0, amount.0, is_linked);
                let second = (pending_id.0 != 0)
                    .then(|| item(*home, PENDING, place, pending_id.0, 0, false));
                [Some(first), second].into_iter().flatten()
            };
            std::iter::once(last).chain(inbound.words.values().flat_map(word))
        })
    }

    /// Takes the next item of a snapshot; whose it is. `None` if it is not one, or out of order.
    pub(super) fn restore(&mut self, bytes: &[u8; ACROSS_ITEM_BYTES]) -> Option<PartitionId> {
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let u128_at = |at| u128::from(u64_at(at)) | u128::from(u64_at(at + 8)) << 64;
        let (first, place) = (u64_at(0), u64_at(8));
        let (home, number) = (PartitionId(first as u16), (first >> 16) as u8);
        let (id, amount) = (u128_at(16), u128_at(32));
        let is_linked = number < PENDING && (first >> 24) as u8 == 1;
        if item(home, number, place, id, amount, is_linked) != *bytes {
            return None;
        }
        let newest = self.inbound.last_entry();
        if number == LAST {
            let follows = newest.is_none_or(|newest| *newest.key() < home);
            let is_right = follows && place > 0 && id == 0 && amount == 0;
            let inbound = Inbound { last: place, words: BTreeMap::new() };
            return is_right.then(|| self.inbound.insert(home, inbound)).map(|_| home);
        }
        let mut newest = newest.filter(|newest| *newest.key() == home)?;
        let Inbound { last, words } = newest.get_mut();
        if number == PENDING {
            let word = words.get_mut(&place).filter(|word| word.pending_id == EventId(0))?;
            word.pending_id = EventId(id);
            let is_newest = words.last_key_value().is_some_and(|(newest, _)| *newest == place);
            return (is_newest && id != 0 && amount == 0).then_some(home);
        }
        let verdict = Verdict::from_number(number).filter(|it| !it.is_malformed())?;
        let follows = words.last_key_value().is_none_or(|(before, _)| *before < place);
        let (id, amount, pending_id) = (EventId(id), Amount(amount), EventId(0));
        let word = Word { id, place, verdict, amount, pending_id, is_linked };
        (follows && place <= *last).then(|| words.insert(place, word)).map(|_| home)
    }

    /// Place of the last arrival from a partition; 0 before the first.
    pub(super) fn last(&self, home: PartitionId) -> u64 {
        self.inbound.get(&home).map_or(0, |inbound| inbound.last)
    }

    /// What was said of the arrivals from `home` between two places, the first included, and the second not.
    pub(super) fn words(&self, home: PartitionId, first: u64, end: u64) -> Vec<Word> {
        let words = self.inbound.get(&home).into_iter().flat_map(|it| it.words.range(first..end));
        words.map(|(_, word)| *word).collect()
    }

    /// Whose mail is open: what arrives next is from there.
    pub(super) fn open(&self) -> Option<PartitionId> {
        self.open
    }

    /// The record at `offset` opens mail: words that its home knows are forgotten.
    pub(super) fn open_mail(&mut self, mail: &Mail, offset: u64) {
        self.open = Some(mail.home);
        // Before the first arrival there is nothing to forget.
        let Some(inbound) = self.inbound.get_mut(&mail.home) else { return };
        let kept = inbound.words.split_off(&mail.settled_below);
        let forgotten = std::mem::replace(&mut inbound.words, kept);
        self.changes.push_back((offset, Change::Mail(mail.home, forgotten)));
    }

    /// The record at `offset` has arrived from `home`, and this is said of it.
    pub(super) fn keep(&mut self, home: PartitionId, word: Word, offset: u64) {
        let inbound = self.inbound.entry(home).or_default();
        let last = std::mem::replace(&mut inbound.last, word.place);
        inbound.words.insert(word.place, word);
        self.changes.push_back((offset, Change::Arrival(home, last, word.place)));
    }

    /// No mail is open.
    pub(super) fn close_mail(&mut self) {
        self.open = None;
    }

    /// Records below `offset` will not be undone.
    pub(super) fn release(&mut self, offset: u64) {
        while self.changes.front().is_some_and(|(at, _)| *at < offset) {
            self.changes.pop_front();
        }
    }

    /// Takes back what the record at `offset` has changed here, if it is the newest that did.
    pub(super) fn undo(&mut self, offset: u64) {
        let Some((_, change)) = self.changes.pop_back_if(|(at, _)| *at == offset) else { return };
        match change {
            Change::Mail(home, forgotten) => {
                self.inbound.entry(home).or_default().words.extend(forgotten);
            }
            Change::Arrival(home, last, place) => {
                let inbound = self.inbound.entry(home).or_default();
                inbound.last = last;
                inbound.words.remove(&place);
            }
        }
        self.inbound.retain(|_, inbound| *inbound != Inbound::default());
    }
}

fn item(
    home: PartitionId,
    number: u8,
    place: u64,
    id: u128,
    amount: u128,
    is_linked: bool,
) -> [u8; ACROSS_ITEM_BYTES] {
    let mut item = [0; ACROSS_ITEM_BYTES];
    item[..2].copy_from_slice(&home.0.to_le_bytes());
    item[2] = number;
    item[3] = is_linked.into();
    item[8..16].copy_from_slice(&place.to_le_bytes());
    item[16..32].copy_from_slice(&id.to_le_bytes());
    item[32..].copy_from_slice(&amount.to_le_bytes());
    item
}
