//! Linked chains over several partitions: what home prepares of one, and how the last one decides it.
//! ACROSS.md in `engine/src/across` has the argument.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Arrival, EventBytes, EventId, EventKind, PartitionId,
    Resolved, ResolvedBytes, Sent, Transfer, TransferFlags, Verdict, event_id, event_kind,
};
use walengine_net::unit::{self, resolves};

use super::across::{Arriving, Parties, words_in};
use super::ahead::NOWHERE;
use super::balances::check_balances;
use super::checks::{self, Chained};
use super::decide::{ChainMember, state_of_accepted};
use super::effects::{InChain, move_money, move_money_back, release, reserve, take_resolved};
use super::limits::OFFSET_MAX;
use super::pendings::{Link, NEVER, Pending, PendingKey, Standing};
use super::stripes::may_be_given;
use super::{At, Ledger};
use crate::planted::{self, Planted};

/// The account as if it had no limits.
fn without_limits(account: &Account) -> Account {
    Account { flags: AccountFlags::default(), ..*account }
}

/// What is in doubt of a chain at a place, as it goes to `next`.
pub(super) fn in_chain(group: &[EventBytes], index: usize, next: PartitionId, at: At) -> Pending {
    Pending {
        id: event_id(&group[index]),
        expires_at: NEVER,
        offset: at.offset,
        other: next.0 + 1,
        link: Link::at(index, group.len()),
        ..Pending::default()
    }
}

impl Ledger {
    /// Prepares a chain for the partition that it goes to `next`. What its events come to stands in `resolved`.
    ///
    /// # Errors
    /// The event that is refused here, and why. Nothing has changed.
    pub(super) fn prepare_chain(
        &mut self,
        group: &[EventBytes],
        members: &[ChainMember],
        next: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), (usize, Verdict)> {
        let before = resolved.len();
        let effective = if planted::has(Planted::ChainNotTried) {
            Vec::new()
        } else {
            self.try_chain(group, Some(members), next, at, resolved)?
        };
        let reserved = self.reserve_chain(group, &effective, at, |ledger, index, known, at| {
            let fingerprint = members[index].fingerprint;
            let pending = in_chain(group, index, next, at);
            ledger.prepare_member(&group[index], known, Pending { fingerprint, ..pending }, at)
        });
        if reserved.is_err() {
            resolved.truncate(before);
        }
        reserved
    }

    /// Has `prepare` reserve what each event of a chain moves here, given its place and what it comes to, if its own amount
    /// does not say that: all, or none.
    ///
    /// # Errors
    /// The event that is refused, and why.
    pub(super) fn reserve_chain(
        &mut self,
        group: &[EventBytes],
        effective: &[Resolved],
        at: At,
        prepare: impl Fn(&mut Self, usize, Option<&Resolved>, At) -> Result<(), Verdict>,
    ) -> Result<(), (usize, Verdict)> {
        let mut effective = effective.iter().peekable();
        for index in 0..group.len() {
            let at = at.plus(index);
            let known = effective.next_if(|one| one.index == at.index);
            if let Err(verdict) = prepare(self, index, known, at) {
                for (place, bytes) in group[..index].iter().enumerate().rev() {
                    let offset = at.offset - (index - place) as u64;
                    self.revert_prepared(EventId(event_id(bytes)), offset);
                }
                return Err((index, verdict));
            }
        }
        Ok(())
    }

    /// The accounts of a transfer here, between which its amount is reserved whatever their limits: with what stands before
    /// it in its chain, they allow it.
    pub(super) fn parties_in_chain(
        &self,
        transfer: &Transfer,
        amount: u128,
        at: At,
    ) -> Result<Parties, Verdict> {
        let differs = Verdict::LedgerDiffersFromAccounts;
        let parties = self.parties(transfer, NOWHERE, differs, at)?;
        let [debit, credit] = [&parties.debit, &parties.credit].map(without_limits);
        check_balances(&debit, &credit, amount, true)?;
        Ok(parties)
    }

    /// Executes what a chain does here, in order, and takes it back: whether it may be. What its events come to is put into
    /// `resolved`, and returned. Only home has ids of the `members`.
    pub(super) fn try_chain(
        &mut self,
        group: &[EventBytes],
        members: Option<&[ChainMember]>,
        next: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<Vec<Resolved>, (usize, Verdict)> {
        let before = resolved.len();
        let mut tried = group.len();
        let mut failed = None;
        for (index, bytes) in group.iter().enumerate() {
            let at = at.plus(index);
            let member = members.map(|members| &members[index]);
            let fingerprint = member.map_or(0, |member| member.fingerprint);
            if let Err(verdict) = self.execute_here(bytes, fingerprint, next, at, resolved) {
                (tried, failed) = (index, Some((index, verdict)));
                break;
            }
            if let Some(member) = member {
                self.remember(member, at.offset, Verdict::Ok, state_of_accepted(bytes));
            }
        }
        let noted: Vec<ResolvedBytes> = resolved[before..].to_vec();
        for (index, bytes) in group[..tried].iter().enumerate().rev() {
            let at = at.plus(index);
            let effective = take_resolved(resolved, at.index);
            let transfer = Transfer::from_bytes(bytes);
            if let Some(members) = members {
                self.ids.forget(&members[index].key, at.offset, state_of_accepted(bytes));
            }
            if event_kind(bytes) == Ok(EventKind::Transfer) {
                self.revert_here(&transfer, at.offset, effective.as_ref());
            }
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        resolved.extend_from_slice(&noted);
        Ok(noted.iter().map(Resolved::from_bytes).collect())
    }

    /// Executes what an event of a chain does here.
    fn execute_here(
        &mut self,
        bytes: &EventBytes,
        fingerprint: u64,
        next: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), Verdict> {
        if event_kind(bytes) != Ok(EventKind::Transfer) {
            return Ok(()); // a guard, which the last partition checks
        }
        let transfer = Transfer::from_bytes(bytes);
        if resolves(&transfer) && !self.is_home_of(&transfer) {
            return Ok(());
        }
        if resolves(&transfer) {
            let chain = InChain::Spanning;
            return self.post_or_void(&transfer, fingerprint, chain, at, resolved).map(drop);
        }
        match self.here(&transfer) {
            [true, true] => self.transfer(&transfer, fingerprint, NOWHERE, at, resolved).map(drop),
            [false, false] => Ok(()),
            [is_home, _] => {
                let differs = Verdict::LedgerDiffersFromAccounts;
                let parties = self.parties(&transfer, NOWHERE, differs, at)?;
                let reserves = transfer.flags.contains(TransferFlags::PENDING);
                let amount = transfer.amount.0;
                check_balances(&parties.debit, &parties.credit, amount, reserves)?;
                if reserves && is_home {
                    let (id, offset, other) = (transfer.id.0, at.offset, next.0 + 1);
                    let none = Pending::default();
                    let pending = Pending { id, fingerprint, amount, offset, other, ..none };
                    self.reserve_until_word(&transfer, &parties, pending, at);
                } else {
                    let change = if reserves { reserve } else { move_money };
                    self.change_parties(&parties, amount, change);
                }
                Ok(())
            }
        }
    }

    /// Takes back what [`Self::execute_here`] has done.
    fn revert_here(&mut self, transfer: &Transfer, offset: u64, resolved: Option<&Resolved>) {
        if resolves(transfer) && !self.is_home_of(transfer) {
            return;
        }
        if resolves(transfer) || self.here(transfer) == [true, true] {
            return self.revert_transfer(transfer, offset, resolved);
        }
        if transfer.flags.contains(TransferFlags::PENDING) && self.here(transfer)[0] {
            self.pendings.remove(PendingKey::own(transfer.id));
        }
        self.revert_side(transfer, resolved);
    }

    /// Takes back what a transfer has moved or reserved of which not both accounts live here.
    pub(super) fn revert_side(&mut self, transfer: &Transfer, resolved: Option<&Resolved>) {
        if self.here(transfer) == [false, false] {
            return;
        }
        let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        let [debit, credit] =
            self.ids_here(transfer).map(|id| self.accounts.slot(id).expect("money was moved"));
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        let change = if reserves { release } else { move_money_back };
        self.change_back(debit, credit, amount, change);
        self.remove_unused(debit);
        self.remove_unused(credit);
    }

    /// What its accounts are here: of one that lives elsewhere, what is under way there.
    fn ids_here(&self, transfer: &Transfer) -> [AccountId; 2] {
        let in_transit = |other| AccountId::in_transit(other, transfer.ledger);
        let [debit_at, credit_at] = self.routing().elsewhere(transfer);
        [
            debit_at.map_or(transfer.debit_account_id, in_transit),
            credit_at.map_or(transfer.credit_account_id, in_transit),
        ]
    }

    /// The reservation that this ends was made here.
    fn is_home_of(&self, end: &Transfer) -> bool {
        self.routing().elsewhere(end)[0].is_none()
    }

    /// Whether the debit account lives here, and whether the credit account does.
    pub(super) fn here(&self, transfer: &Transfer) -> [bool; 2] {
        self.routing().elsewhere(transfer).map(|elsewhere| elsewhere.is_none())
    }

    /// Reserves what an event of a chain moves here.
    fn prepare_member(
        &mut self,
        bytes: &EventBytes,
        effective: Option<&Resolved>,
        pending: Pending,
        at: At,
    ) -> Result<(), Verdict> {
        if event_kind(bytes) != Ok(EventKind::Transfer) {
            self.pendings.insert(Pending { standing: Standing::Carried, ..pending });
            return Ok(());
        }
        let transfer = Transfer::from_bytes(bytes);
        let amount = effective.map_or(transfer.amount, |one| one.amount).0;
        if resolves(&transfer) {
            let open = self.pendings.unended(transfer.pending_id.0).copied();
            let open = open.filter(|it| it.standing == Standing::Open);
            // It was opened in this chain, or another event of this chain ends it.
            let reservation = open.ok_or(Verdict::PendingInDoubt)?;
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            let standing = if posts { Standing::Posting } else { Standing::Voiding };
            self.prepare_end(&reservation, Pending { amount, standing, ..pending });
            return Ok(());
        }
        if self.here(&transfer) == [false, false] {
            self.pendings.insert(Pending { amount, standing: Standing::Carried, ..pending });
            return Ok(());
        }
        let parties = self.parties_in_chain(&transfer, amount, at)?;
        self.reserve_until_word(&transfer, &parties, Pending { amount, ..pending }, at);
        Ok(())
    }

    /// Where what has come from `before` in one unit goes, if it is what that sends.
    pub(super) fn may_arrive(&self, unit: &[Arrival], before: PartitionId) -> Option<Arriving> {
        let here = self.partition;
        if let Some(words) = words_in(unit) {
            let is_final = words.iter().all(|word| word.verdict != Verdict::InDoubt);
            let may_be = is_final && self.check_words(&words, Some(before)).is_ok();
            return may_be.then_some(Arriving { home: before, before, next: None });
        }
        if let [single] = unit
            && single.sent.is_for_all()
        {
            let arriving = Arriving { home: before, before, next: None };
            return self.may_be_announced(&single.sent, before).then_some(arriving);
        }
        let [single @ Arrival { sent: Sent::Transfer(transfer), .. }] = unit else {
            let is_closed =
                unit.iter().rev().enumerate().all(|(place, one)| one.is_linked() == (place > 0));
            let are_there = unit.iter().all(|one| one.place <= OFFSET_MAX);
            let is_adjacent =
                are_there && unit.is_sorted_by(|one, next| one.place + 1 == next.place);
            let events: Vec<EventBytes> = unit.iter().map(|one| one.sent.to_bytes()).collect();
            let path = unit::path(&events, self.partitions).ok().flatten()?;
            let home = path.home;
            let is_path = path.before(here) == Some(before);
            let is_new = |one: &Arrival| !self.pendings.has_of(home, one.sent.id());
            let ends_there = |one: &Arrival| {
                let end = one.sent.transfer().filter(|transfer| resolves(transfer));
                end.is_none_or(|end| self.routing().elsewhere(end)[0] == Some(home))
            };
            let mut ids: Vec<u128> = unit.iter().map(|one| one.sent.id().0).collect();
            ids.sort_unstable();
            let are_different = ids.is_sorted_by(|one, next| one < next);
            let chained = Chained { linked: true, repeated: false };
            let is_well_formed =
                |event: &EventBytes| checks::check(event, self.routing(), chained).is_ok();
            let is_chain = unit.len() > 1 && is_closed && is_adjacent && are_different && is_path;
            let is_right = is_chain && events.iter().all(is_well_formed) && unit.iter().all(is_new);
            let is_right = is_right && unit.iter().all(ends_there);
            return is_right.then(|| Arriving { home, before, next: path.after(here) });
        };
        let is_given = transfer.flags.contains(TransferFlags::GATHERING);
        let is_between = self.routing().sides(transfer) == [before, here]
            && (!is_given || may_be_given(transfer));
        if resolves(transfer) != (transfer.pending_id.0 != 0) || single.is_linked() || !is_between {
            return None;
        }
        let arriving = Arriving { home: before, before, next: None };
        if transfer.pending_id.0 != 0 {
            let is_it = |held: &&Pending| {
                let is_whole = transfer.amount.0 == held.amount;
                let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
                let credit = self.accounts.get(held.credit);
                (credit.id, credit.ledger) == (transfer.credit_account_id, transfer.ledger)
                    && (is_whole || posts && transfer.amount.0 < held.amount)
            };
            return self.pendings.held(before, transfer.pending_id).filter(is_it).map(|_| arriving);
        }
        // No side of a reservation is here yet.
        let is_new = !transfer.flags.contains(TransferFlags::PENDING)
            || !self.pendings.has_of(before, transfer.id);
        is_new.then_some(arriving)
    }

    /// Executes what has arrived in a chain, all of it or none: what each of it has moved or reserved.
    ///
    /// # Errors
    /// The one that is refused, and why.
    pub(super) fn arrive_chain(
        &mut self,
        unit: &[Arrival],
        home: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<Vec<u128>, (usize, Verdict)> {
        let mut amounts = Vec::with_capacity(unit.len());
        for (index, arrival) in unit.iter().enumerate() {
            match self.arrive_member(&arrival.sent, home, at.plus(index), resolved) {
                Ok(amount) => amounts.push(amount),
                Err(verdict) if planted::has(Planted::ChainInPart) => return Err((index, verdict)),
                Err(verdict) => {
                    for (index, arrival) in unit[..index].iter().enumerate().rev() {
                        let at = at.plus(index);
                        let effective = take_resolved(resolved, at.index);
                        self.revert_arrival(&arrival.sent, at.offset, effective.as_ref());
                    }
                    return Err((index, verdict));
                }
            }
        }
        Ok(amounts)
    }

    fn arrive_member(
        &mut self,
        sent: &Sent,
        home: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<u128, Verdict> {
        let transfer = match sent {
            Sent::Guard(guard) => return self.guard(guard).map(|()| 0),
            Sent::Transfer(transfer) => transfer,
            Sent::Word(_) | Sent::Account(_) | Sent::Close(_) => return Err(Verdict::KindUnknown),
        };
        if resolves(transfer) {
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            return Ok(if posts { transfer.amount.0 } else { 0 }); // a reservation of its home
        }
        match self.here(transfer) {
            [false, false] => Ok(transfer.amount.0),
            [true, true] => {
                let noted = resolved.len();
                self.transfer(transfer, 0, NOWHERE, at, resolved)?;
                let effective = resolved.get(noted).map(Resolved::from_bytes);
                Ok(effective.map_or(transfer.amount, |effective| effective.amount).0)
            }
            _ => self.take_side(transfer, home, NOWHERE, at, resolved),
        }
    }

    /// Takes back an arrival that was accepted.
    pub(super) fn revert_arrival(&mut self, sent: &Sent, offset: u64, resolved: Option<&Resolved>) {
        let transfer = match sent {
            Sent::Transfer(transfer) => transfer,
            Sent::Word(word) => return self.revert_word(word, offset),
            Sent::Account(account) => return self.accounts.pop(account.id),
            Sent::Close(close) => return self.revert_close(close),
            Sent::Guard(_) => return,
        };
        if transfer.pending_id.0 != 0 {
            // Nothing, if it has arrived in a chain.
            let Some(held) = self.pendings.restore_replaced(offset) else { return };
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            return self.reserve_again(&held, posts.then_some(transfer.amount.0));
        }
        if self.here(transfer) == [true, true] {
            return self.revert_transfer(transfer, offset, resolved);
        }
        if transfer.flags.contains(TransferFlags::PENDING) && self.here(transfer)[1] {
            let [home, _] = self.routing().sides(transfer);
            self.pendings.remove(PendingKey::of(home, transfer.id));
        }
        self.revert_side(transfer, resolved);
    }
}
