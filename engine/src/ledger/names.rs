//! What accounts and ledgers are called. Lives in [`super::Ledger`].
//!
//! About 200 bytes for each account that has, or had, a name. A name stays in its slot, in the order in which accounts
//! were first named; what is taken away leaves an empty one. What a record has replaced is kept until
//! [`Names::release`], so that it can be undone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use walengine_net::limits::LEDGERS_MAX;
use walengine_net::model::{
    AccountId, Describe, DescribeFlags, LedgerId, Name, NameText, SCALE_MAX, Verdict,
};

use super::Ledger;
use super::checks::refuse_if;
use super::slab::Slab;

/// Size of a name in a snapshot in bytes.
pub(super) const NAME_ITEM_BYTES: usize = 16 + 80;
/// Size of a described ledger in a snapshot in bytes.
pub(super) const LEDGER_ITEM_BYTES: usize = 8 + 80;
/// Bytes of a name, all in small letters, by which accounts are ordered.
const ORDERED_BYTES: usize = 12;
/// What the two trees take for a name, about.
const TREES_BYTES: u64 = 100;

/// What an account is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The account.
    pub account: AccountId,
    /// Its name; none if that was taken away.
    pub text: NameText,
}

/// What the amounts of a ledger are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// What its asset is called.
    pub text: NameText,
    /// Digits behind the point.
    pub scale: u8,
}

/// What a record has replaced.
enum Replaced {
    /// The name of a slot; `None`: it is a new one.
    Name(u32, Option<NameText>),
    Ledger(LedgerId, Option<Described>),
}

/// See the module.
pub(super) struct Names {
    pub slab: Slab<Named>,
    by_account: BTreeMap<AccountId, u32>,
    /// The beginning of each name in the upper 96 bits, and its slot.
    by_name: BTreeSet<u128>,
    pub ledgers: BTreeMap<LedgerId, Described>,
    /// With the offsets of the records, ascending.
    replaced: VecDeque<(u64, Replaced)>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            by_account: BTreeMap::new(),
            by_name: BTreeSet::new(),
            ledgers: BTreeMap::new(),
            replaced: VecDeque::new(),
        }
    }

    /// Memory in bytes, about.
    fn bytes(&self) -> u64 {
        self.slab.bytes()
            + u64::from(self.slab.len()) * TREES_BYTES
            + (self.replaced.len() * size_of::<(u64, Replaced)>()) as u64
    }

    fn name(&self, account: AccountId) -> Option<NameText> {
        let slot = self.by_account.get(&account)?;
        Some(self.slab.get(*slot).text).filter(|text| !text.is_none())
    }

    fn set(&mut self, account: AccountId, text: NameText, offset: u64) {
        let replaced = if let Some(&slot) = self.by_account.get(&account) {
            Replaced::Name(slot, Some(self.rename(slot, text)))
        } else {
            Replaced::Name(self.push(Named { account, text }), None)
        };
        self.replaced.push_back((offset, replaced));
    }

    fn push(&mut self, named: Named) -> u32 {
        let slot = self.slab.push(named);
        self.by_account.insert(named.account, slot);
        self.order(slot, named.text);
        slot
    }

    fn order(&mut self, slot: u32, text: NameText) {
        if !text.is_none() {
            self.by_name.insert(place(&lower(&text), slot));
        }
    }

    /// Returns the name before.
    fn rename(&mut self, slot: u32, text: NameText) -> NameText {
        let named = self.slab.get_mut(slot);
        let before = std::mem::replace(&mut named.text, text);
        self.by_name.remove(&place(&lower(&before), slot));
        self.order(slot, text);
        before
    }

    /// What the records below this offset have replaced is not needed any more.
    pub(super) fn release(&mut self, offset: u64) {
        while self.replaced.front().is_some_and(|(at, _)| *at < offset) {
            self.replaced.pop_front();
        }
    }

    /// Takes back what the record at this offset has done, the newest one that was not taken back yet.
    ///
    /// # Panics
    /// If it is not the newest, or was released.
    pub(super) fn revert(&mut self, offset: u64) {
        let replaced = self.replaced.pop_back().filter(|(at, _)| *at == offset);
        match replaced.expect("not released yet").1 {
            Replaced::Name(slot, Some(before)) => {
                self.rename(slot, before);
            }
            Replaced::Name(slot, None) => {
                self.rename(slot, NameText::NONE);
                let named = self.slab.pop();
                self.by_account.remove(&named.account);
            }
            Replaced::Ledger(ledger, Some(before)) => {
                self.ledgers.insert(ledger, before);
            }
            Replaced::Ledger(ledger, None) => {
                self.ledgers.remove(&ledger);
            }
        }
    }

    /// Takes a name from a snapshot; `None` if there can't be such a one.
    pub(super) fn restore(&mut self, named: Named) -> Option<()> {
        let is_new = !self.by_account.contains_key(&named.account);
        (is_new && named.text.text().is_some()).then(|| {
            self.push(named);
        })
    }

    /// Takes a described ledger from a snapshot; `None` if there can't be such a one.
    pub(super) fn restore_ledger(&mut self, ledger: LedgerId, described: Described) -> Option<()> {
        let follows = self.ledgers.last_key_value().is_none_or(|(last, _)| *last < ledger);
        let is_right = follows
            && ledger.0 != 0
            && described.scale <= SCALE_MAX
            && described.text.text().is_some()
            && self.ledgers.len() < LEDGERS_MAX;
        is_right.then(|| {
            self.ledgers.insert(ledger, described);
        })
    }
}

/// A name in small letters, by which it is ordered and found.
fn lower(name: &NameText) -> String {
    name.text().unwrap_or_default().to_lowercase()
}

/// Where a slot stands in the order of names, which are in small letters.
fn place(lower: &str, slot: u32) -> u128 {
    let mut first = [0; size_of::<u128>()];
    for (place, byte) in first.iter_mut().zip(lower.bytes().take(ORDERED_BYTES)) {
        *place = byte;
    }
    u128::from_be_bytes(first) | u128::from(slot)
}

impl Named {
    pub(super) fn to_item(self) -> [u8; NAME_ITEM_BYTES] {
        let mut item = [0; NAME_ITEM_BYTES];
        item[..16].copy_from_slice(&self.account.0.to_le_bytes());
        item[16..].copy_from_slice(&self.text.to_bytes());
        item
    }

    pub(super) fn from_item(item: &[u8; NAME_ITEM_BYTES]) -> Self {
        let (account, text) = item.split_first_chunk().expect("16 of 96 bytes");
        let text = text.first_chunk().expect("80 of 80 bytes");
        Self {
            account: AccountId(u128::from_le_bytes(*account)),
            text: NameText::from_bytes(*text),
        }
    }
}

impl Described {
    pub(super) fn to_item(self, ledger: LedgerId) -> [u8; LEDGER_ITEM_BYTES] {
        let mut item = [0; LEDGER_ITEM_BYTES];
        item[..4].copy_from_slice(&ledger.0.to_le_bytes());
        item[4] = self.scale;
        item[8..].copy_from_slice(&self.text.to_bytes());
        item
    }

    /// `None` if bytes are set that mean nothing.
    pub(super) fn from_item(item: &[u8; LEDGER_ITEM_BYTES]) -> Option<(LedgerId, Self)> {
        let ledger = LedgerId(u32::from_le_bytes(*item.first_chunk()?));
        let text = NameText::from_bytes(*item.last_chunk()?);
        let described = Self { text, scale: item[4] };
        (described.to_item(ledger) == *item).then_some((ledger, described))
    }
}

impl Ledger {
    /// What an account is called; `None` if it has no name.
    pub fn name(&self, account: AccountId) -> Option<NameText> {
        self.names.name(account)
    }

    /// Accounts whose names begin with this, whatever is in capitals, from a place on (0: from the first one): where each
    /// stands, and its name. They come in the order of their first letters. Those that only begin alike are `None`.
    pub fn names_from(
        &self,
        prefix: &str,
        after: u128,
    ) -> impl Iterator<Item = (u128, Option<&Named>)> {
        let prefix = prefix.to_lowercase();
        let first = place(&prefix, 0);
        let known_bits = prefix.len().min(ORDERED_BYTES) as u32 * 8;
        let last = first | u128::MAX.checked_shr(known_bits).unwrap_or(0);
        let from = if after == 0 { first } else { after.saturating_add(1).max(first) };
        let range = if from <= last { from..=last } else { last..=last };
        let is_empty = from > last;
        self.names.by_name.range(range).take_while(move |_| !is_empty).map(move |&place| {
            let named = self.names.slab.get(place as u32);
            let begins = lower(&named.text).starts_with(&prefix);
            (place, begins.then_some(named))
        })
    }

    /// The described ledgers, ascending; those of partition 0 are all that there are.
    pub fn described(&self) -> impl Iterator<Item = (LedgerId, Described)> {
        self.names.ledgers.iter().map(|(ledger, described)| (*ledger, *described))
    }

    /// Memory of the names in bytes, about.
    pub fn names_bytes(&self) -> u64 {
        self.names.bytes()
    }

    pub(super) fn name_account(&mut self, name: &Name, offset: u64) -> Result<(), Verdict> {
        let is_there = self.accounts.slot(name.account_id).is_some();
        refuse_if(!is_there, Verdict::NameAccountNotFound)?;
        self.names.set(name.account_id, name.name, offset);
        Ok(())
    }

    pub(super) fn describe(&mut self, describe: &Describe, offset: u64) -> Result<(), Verdict> {
        let Describe { ledger, name: text, scale, flags, .. } = *describe;
        let known = self.names.ledgers.get(&ledger).copied();
        let rescales = known.is_some_and(|known| known.scale != scale)
            && !flags.contains(DescribeFlags::RESCALE);
        refuse_if(rescales, Verdict::LedgerScaleDiffers)?;
        let is_full = known.is_none() && self.names.ledgers.len() >= LEDGERS_MAX;
        refuse_if(is_full, Verdict::LedgersTooMany)?;
        let replaced = Replaced::Ledger(ledger, known);
        self.names.ledgers.insert(ledger, Described { text, scale });
        self.names.replaced.push_back((offset, replaced));
        Ok(())
    }
}
