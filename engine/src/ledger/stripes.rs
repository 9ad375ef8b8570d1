//! Striped accounts: each partition has a part of such an account, its stripe, and decides with that alone. All of them
//! learn from one that it exists, or is closed, and a stripe that lacks something is given it by others. ACROSS.md in
//! `engine/src/across` has the argument.

use std::collections::BTreeMap;

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Close, CloseFlags, EventBytes, EventId,
    EventKind, Mail, Offset, PartitionId, Sent, Timestamp, Transfer, TransferFlags, Verdict,
    event_id, event_kind,
};
use walengine_net::unit::resolves;

use super::ahead::NOWHERE;
use super::balances::{available_to_debit, check_balances};
use super::checks::{self, Chained, refuse_if};
use super::decide::{fingerprint_of_event, key_of};
use super::effects::{add, release, reserve, subtract};
use super::pendings::{Pending, Standing};
use super::{At, Draft, Ledger};

/// How often stripes here have given something to another partition and got something from there, in this ledger's life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gifts {
    given: u64,
    got: u64,
}

/// What a stripe lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The account.
    pub account: AccountId,
    /// How much more it must have.
    pub amount: u128,
}

/// Stands in a word on what was told to all partitions, to say whose it is.
pub(super) fn said_by(partition: PartitionId) -> EventId {
    EventId(u128::from(partition.0) + 1)
}

/// All partitions are to take it, if it is accepted and there are several.
pub fn is_for_all(event: &EventBytes) -> bool {
    match event_kind(event) {
        Ok(EventKind::Account) => Account::from_bytes(event).id.is_striped(),
        Ok(EventKind::Close) => Close::from_bytes(event).account_id.is_striped(),
        _ => false,
    }
}

impl Ledger {
    /// What was decided here of a striped account is to be told to all other partitions.
    pub(super) fn announce(&mut self, event: &EventBytes, fingerprint: u64, at: At) {
        for announced in self.announcements(event, at.offset) {
            self.pendings.insert(Pending { fingerprint, ..announced });
        }
    }

    pub(super) fn revert_announced(&mut self, event: &EventBytes, offset: u64) {
        for announced in self.announcements(event, offset) {
            self.pendings.remove(announced.key());
        }
    }

    /// One for each other partition, if the event is for all; without its fingerprint.
    fn announcements(
        &self,
        event: &EventBytes,
        offset: u64,
    ) -> impl Iterator<Item = Pending> + use<> {
        let (id, standing) = (event_id(event), Standing::Announcing);
        let announced = Pending { id, offset, standing, ..Pending::default() };
        let others = is_for_all(event).then(|| self.others());
        others.into_iter().flatten().map(move |to| Pending { other: to.0 + 1, ..announced })
    }

    /// Some partition may not have taken what was decided here of a striped account, under this id.
    pub fn is_announced(&self, id: u128) -> bool {
        self.pendings.is_announced(id)
    }

    /// As [`Self::is_announced`], of any id.
    pub fn has_announced(&self) -> bool {
        self.pendings.counted(Standing::Announcing) > 0
    }

    /// The first record of all has the place that stands for none, so what is told to others is not the first: mail is that
    /// brings nothing.
    pub(super) fn begin_before(&mut self, events: &[EventBytes], draft: &mut Draft) {
        if self.next_offset > 0 || self.partitions == 1 || !events.iter().any(is_for_all) {
            return;
        }
        let home = PartitionId(u16::from(self.partition.0 == 0));
        let mail = Mail { home, previous: 0, settled_below: 0 };
        let at = draft.at();
        let opened = self.open_mail(&mail, at);
        debug_assert_eq!(opened, Ok(()), "nothing has arrived");
        self.across.close_mail();
        draft.body.events.push(mail.to_bytes());
        draft.body.verdicts.push(Verdict::Ok.number());
        self.advance_to(at.plus(1));
    }

    /// Whether the home of striped accounts may have sent this.
    pub(super) fn may_be_announced(&self, sent: &Sent, before: PartitionId) -> bool {
        let (account, is_right) = match sent {
            Sent::Account(created) => {
                let limits = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
                let known = limits.with(AccountFlags::STRIPED).with(AccountFlags::CLOSED);
                let as_created = Account {
                    id: created.id,
                    ledger: created.ledger,
                    code: created.code,
                    flags: created.flags,
                    user_data_128: created.user_data_128,
                    user_data_64: created.user_data_64,
                    ..Account::default()
                };
                let is_right = *created == as_created
                    && created.flags.contains(AccountFlags::STRIPED)
                    && known.contains(created.flags)
                    && created.ledger.0 != 0
                    && created.code.0 != 0;
                (created.id, is_right)
            }
            Sent::Close(close) => (close.account_id, CloseFlags::REOPEN.contains(close.flags)),
            _ => return false,
        };
        is_right && account.is_striped() && self.routing().of(account) == before
    }

    /// Does what [`Self::may_be_announced`].
    ///
    /// # Errors
    /// It does not follow what was announced before.
    pub(super) fn take_announced(&mut self, sent: &Sent, at: At) -> Result<(), Verdict> {
        match sent {
            Sent::Account(account) => {
                let is_there = self.accounts.slot(account.id).is_some();
                refuse_if(is_there, Verdict::WrongPartition)?;
                self.create_account(account, at);
                Ok(())
            }
            Sent::Close(close) => self.close(close).map_err(|_| Verdict::WrongPartition),
            _ => Err(Verdict::WrongPartition),
        }
    }

    /// Some of these may debit a striped account, and there are other stripes.
    #[inline]
    pub fn may_lack(&self, events: &[EventBytes]) -> bool {
        self.partitions > 1 && events.iter().any(may_debit_striped)
    }

    /// What these events may lack here and stripes elsewhere may have, account by account. A batch that credits an
    /// account first may need less. Their ids must have been looked up.
    pub fn lacks(&self, events: &[EventBytes]) -> Vec<Lack> {
        // And whether one of them takes what there is, whatever the account's limits.
        let mut wanted: BTreeMap<AccountId, (u128, bool)> = BTreeMap::new();
        for event in events.iter().filter(|event| may_debit_striped(event)) {
            let transfer = Transfer::from_bytes(event);
            if resolves(&transfer)
                || self.routing().elsewhere(&transfer)[0].is_some()
                || !self.is_to_be_decided(event)
            {
                continue;
            }
            let (sum, takes_all) = wanted.entry(transfer.debit_account_id).or_default();
            *sum = sum.saturating_add(transfer.amount.0);
            *takes_all |= transfer.flags.contains(TransferFlags::BALANCING_DEBIT);
        }
        let lack = |(account, (wanted, takes_all)): (AccountId, (u128, bool))| {
            let stripe = self.accounts.by_id(account)?;
            let is_limited =
                takes_all || stripe.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
            let is_closed = stripe.flags.contains(AccountFlags::CLOSED);
            let amount = wanted.saturating_sub(available_to_debit(stripe));
            (amount > 0 && is_limited && !is_closed).then_some(Lack { account, amount })
        };
        wanted.into_iter().filter_map(lack).collect()
    }

    /// It is well-formed, and not a repeat.
    fn is_to_be_decided(&self, event: &EventBytes) -> bool {
        let chained = Chained { linked: true, repeated: false };
        let is_well_formed = checks::check(event, self.routing(), chained).is_ok();
        is_well_formed && self.ids.known(&key_of(event), fingerprint_of_event(event)).is_none()
    }

    /// Logs that the stripe of an account here gives to that of another partition, which lacks so much: that, or the half of
    /// what it has if that is more, so that the next one who lacks something need not ask. `None` if it has nothing.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn give(
        &mut self,
        lack: &Lack,
        to: PartitionId,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Option<Transfer> {
        let at = draft.open(self, now);
        let stripe = self.accounts.by_id(lack.account)?;
        let available = available_to_debit(stripe);
        let amount = available.min(lack.amount.max(available / 2));
        let given = self.given(stripe, to, amount, at);
        self.give_again(&given, at).ok()?;
        draft.body.events.push(given.to_bytes());
        draft.body.verdicts.push(Verdict::InDoubt.number());
        self.advance_to(at.plus(1));
        Some(given)
    }

    /// Changes whenever a stripe here gives something or, unless this partition itself asks, gets something, as long as this
    /// leader leads; what is exchanged with `asker` does not count.
    pub fn gifts(&self, asker: PartitionId) -> u64 {
        let others = self.gifts.iter().filter(|(other, _)| **other != asker);
        let counted =
            |Gifts { given, got }: &Gifts| given + if asker == self.partition { 0 } else { *got };
        others.map(|(_, gifts)| counted(gifts)).sum()
    }

    /// Something has arrived that a stripe elsewhere has given.
    pub(super) fn count_got(&mut self, other: PartitionId) {
        self.gifts.entry(other).or_default().got += 1;
    }

    /// Something of an account is under way from here to other stripes.
    pub fn gives(&self, account: AccountId) -> bool {
        self.accounts.slot(account).is_some_and(|stripe| self.pendings.gives(stripe))
    }

    /// The record by which a stripe gives. Its id is its place: nobody sends it again.
    fn given(&self, stripe: &Account, to: PartitionId, amount: u128, at: At) -> Transfer {
        let from = self.partition.0;
        let id = u128::from(Book::STRIPED.0) << 96 | u128::from(from) << 64 | u128::from(at.offset);
        Transfer {
            id: EventId(id),
            debit_account_id: stripe.id,
            credit_account_id: stripe.id,
            amount: Amount(amount),
            user_data_32: u32::from(from) << 16 | u32::from(to.0),
            ledger: stripe.ledger,
            code: stripe.code,
            flags: TransferFlags::GATHERING,
            ..Transfer::default()
        }
    }

    /// Does what the leader has done in [`Self::give`].
    pub(super) fn give_again(&mut self, given: &Transfer, at: At) -> Result<Verdict, Verdict> {
        let to = PartitionId(given.user_data_32 as u16);
        let stripe = self.accounts.by_id(given.debit_account_id);
        let stripe = stripe.ok_or(Verdict::DebitAccountNotFound)?;
        let is_there = stripe.id.is_striped() && to.0 < self.partitions && to != self.partition;
        let is_right = is_there && *given == self.given(stripe, to, given.amount.0, at);
        refuse_if(!is_right, Verdict::WrongPartition)?;
        refuse_if(stripe.flags.contains(AccountFlags::CLOSED), Verdict::DebitAccountClosed)?;
        let amount = given.amount.0;
        refuse_if(amount == 0 || amount > available_to_debit(stripe), Verdict::ExceedsCredits)?;
        let differs = Verdict::LedgerDiffersFromAccounts;
        let parties = self.parties(given, NOWHERE, differs, at)?;
        check_balances(&parties.debit, &parties.credit, amount, true)?;
        let (debit, credit) = self.change_parties(&parties, amount, reserve);
        self.gifts.entry(to).or_default().given += 1;
        self.pendings.insert(Pending {
            id: given.id.0,
            fingerprint: fingerprint_of_event(&given.to_bytes()),
            amount,
            offset: at.offset,
            debit,
            credit,
            code: given.code.0,
            other: to.0 + 1,
            standing: Standing::Giving,
            ..Pending::default()
        });
        Ok(Verdict::InDoubt)
    }

    /// The word is here: so much of what was given has arrived, and leaves the credits here.
    pub(super) fn settle_given(&mut self, pending: &Pending, moved: u128, at: At) {
        let Pending { debit, credit, amount, .. } = *pending;
        self.change(debit, credit, amount, release);
        subtract(&mut self.accounts.get_mut(debit).credits_posted, moved);
        add(&mut self.accounts.get_mut(credit).credits_posted, moved);
        self.pendings.replace(pending.key(), at.offset, None);
    }

    pub(super) fn revert_given(&mut self, pending: &Pending, moved: u128) {
        let Pending { debit, credit, amount, .. } = *pending;
        add(&mut self.accounts.get_mut(debit).credits_posted, moved);
        subtract(&mut self.accounts.get_mut(credit).credits_posted, moved);
        self.change_back(debit, credit, amount, reserve);
    }

    /// What another partition has given has arrived here up to this record of it.
    pub fn has_arrived_up_to(&self, other: PartitionId, place: Offset) -> bool {
        self.last_place(other) >= place.0
    }
}

/// It has what a stripe gives to another one of the same account.
pub(super) fn may_be_given(given: &Transfer) -> bool {
    let Transfer { id, debit_account_id, amount, user_data_32, ledger, code, .. } = *given;
    let as_given = Transfer {
        id,
        debit_account_id,
        credit_account_id: debit_account_id,
        amount,
        user_data_32,
        ledger,
        code,
        flags: TransferFlags::GATHERING,
        ..Transfer::default()
    };
    debit_account_id.is_striped() && *given == as_given
}

/// Whether an event debits a striped account, if it is a transfer: a look at four bytes.
#[inline]
fn may_debit_striped(event: &EventBytes) -> bool {
    const BOOK_AT: usize = 28; // of the debit account
    event[BOOK_AT..BOOK_AT + 4] == Book::STRIPED.0.to_le_bytes()
        && event_kind(event) == Ok(EventKind::Transfer)
}
