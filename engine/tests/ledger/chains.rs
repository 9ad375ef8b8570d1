//! Linked chains over several partitions, as the model has them at their home.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Code, Event, EventBytes, LedgerId, PartitionId, Resolved,
    Timestamp, Transfer, Verdict,
};

use crate::model::{At, Known, Model, State, name_of, overflows, result};
use crate::reserved::{Doubt, Fate, expires_at, in_transit};

impl Model {
    /// Where a chain goes next, if this is its home; this partition itself, if it spans none.
    pub fn way(&self, group: &[EventBytes]) -> Result<PartitionId, (usize, Verdict)> {
        let events: Vec<Event> =
            group.iter().filter_map(|bytes| Event::from_bytes(bytes).ok()).collect();
        let named: Vec<Vec<PartitionId>> = events.iter().map(|one| self.named(one)).collect();
        let mut all: Vec<PartitionId> = Vec::new();
        for partition in named.iter().flatten() {
            if !all.contains(partition) {
                all.push(*partition);
            }
        }
        if all.len() < 2 {
            let is_here = all.first().is_none_or(|home| *home == self.partition);
            return if is_here { Ok(self.partition) } else { Err((0, Verdict::WrongPartition)) };
        }
        let (mut homes, mut lasts): (Vec<PartitionId>, Vec<PartitionId>) = Default::default();
        for (index, (event, named)) in events.iter().zip(&named).enumerate() {
            let Some(one) = named.first().copied() else { continue };
            let verdict = match event {
                Event::Account(_) | Event::Close(_) | Event::Name(_) | Event::Describe(_) => {
                    return Err((index, Verdict::CannotSpan));
                }
                Event::Guard(_) => {
                    lasts.push(one);
                    Verdict::GuardElsewhere
                }
                Event::Transfer(transfer) => {
                    let flags = transfer.flags.0;
                    let is_wide = named.iter().any(|other| *other != one);
                    if flags & 0b11_0000 != 0 && is_wide {
                        return Err((index, Verdict::CannotSpan));
                    } else if flags & 0b1110 == 0 {
                        continue;
                    }
                    homes.push(one);
                    Verdict::CannotSpan
                }
                _ => continue,
            };
            let is_one = |wanted: &[PartitionId]| wanted.iter().all(|it| *it == wanted[0]);
            let is_both = homes.first().is_some_and(|home| lasts.contains(home));
            if !is_one(&homes) || !is_one(&lasts) || is_both {
                return Err((index, verdict));
            }
        }
        let may_be_home = |it: &&PartitionId| !lasts.contains(it);
        let home = *homes.first().or_else(|| all.iter().find(may_be_home)).unwrap();
        let others: Vec<PartitionId> = all.into_iter().filter(|it| *it != home).collect();
        let last = *lasts.first().or(others.last()).unwrap();
        let next = others.iter().find(|it| **it != last).copied().unwrap_or(last);
        if home == self.partition { Ok(next) } else { Err((0, Verdict::WrongPartition)) }
    }

    fn named(&self, event: &Event) -> Vec<PartitionId> {
        let ids = match event {
            Event::Account(account) => vec![account.id],
            Event::Guard(guard) => vec![guard.account_id],
            Event::Close(close) => vec![close.account_id],
            Event::Name(name) => vec![name.account_id],
            Event::Describe(_) => return vec![PartitionId(0)],
            Event::Transfer(transfer) => {
                let sides = [transfer.debit_account_id, transfer.credit_account_id];
                let mut sides: Vec<_> = sides.into_iter().filter(|id| id.0 != 0).collect();
                if transfer.flags.0 & 0b1100 != 0 {
                    sides.truncate(1);
                }
                sides
            }
            _ => Vec::new(),
        };
        ids.into_iter().map(|id| self.routed(id)).collect()
    }

    /// A chain on which another partition has the last word: whether it is allowed here, event after event; and then it is
    /// reserved, whatever the limits.
    pub fn run_spanning(
        &mut self,
        group: &[EventBytes],
        timestamp: u64,
        first_index: u32,
        next: PartitionId,
    ) -> Vec<(Verdict, Option<Resolved>)> {
        let at = |index: usize| At {
            other: Some(next),
            chained: true,
            spanning: false,
            timestamp: timestamp + index as u64,
            offset: self.next_offset + index as u64,
            index: first_index + index as u32,
        };
        let refused = |index: usize, verdict: Verdict| {
            let mut verdicts = vec![(Verdict::LinkedEventFailed, None); group.len()];
            verdicts[index] = (verdict, None);
            verdicts
        };
        let away = |id: AccountId| self.elsewhere(id).then(|| self.routed(id));
        let mut tried = self.state.clone();
        tried.accepted.clear();
        let mut resolved = Vec::new();
        for (index, bytes) in group.iter().enumerate() {
            let event = Event::from_bytes(bytes).unwrap();
            match tried.try_here(&event, at(index), &self.known, &away) {
                Ok(effective) => resolved.push(effective),
                Err(verdict) => return refused(index, verdict),
            }
            tried.accepted.insert(name_of(bytes).1);
        }
        let mut reserved = self.state.clone();
        for (index, bytes) in group.iter().enumerate() {
            let event = Event::from_bytes(bytes).unwrap();
            let done =
                reserved.prepare_here(&event, at(index), resolved[index], &away, at(0).offset);
            if let Err(verdict) = done {
                return refused(index, verdict);
            }
        }
        self.state = reserved;
        resolved.into_iter().map(|effective| (Verdict::InDoubt, effective)).collect()
    }
}

impl State {
    fn open_transit(&mut self, id: AccountId, ledger: LedgerId, at: At) {
        if let std::collections::hash_map::Entry::Vacant(e) = self.accounts.entry(id.0) {
            let (code, timestamp) = (Code(u16::MAX), Timestamp(at.timestamp));
            e.insert(Account { id, ledger, code, timestamp, ..Account::default() });
            self.order.push(id.0);
        }
    }

    /// What an event of a chain would do here.
    fn try_here(
        &mut self,
        event: &Event,
        at: At,
        known: &Known,
        away: &dyn Fn(AccountId) -> Option<PartitionId>,
    ) -> Result<Option<Resolved>, Verdict> {
        let Event::Transfer(transfer) = event else { return Ok(None) };
        if transfer.flags.0 & 0b1100 != 0 {
            return self.end_pending(transfer, At { spanning: true, ..at }, known).map(Some);
        }
        let Some((debit, credit)) = sides(transfer, away) else { return Ok(None) };
        if (debit, credit) == (transfer.debit_account_id, transfer.credit_account_id) {
            return self.transfer(transfer, at);
        }
        let (is_debit, own) = if away(transfer.credit_account_id).is_some() {
            (true, transfer.debit_account_id)
        } else {
            (false, transfer.credit_account_id)
        };
        let account = self.accounts.get(&own.0).copied();
        let missing =
            if is_debit { Verdict::DebitAccountNotFound } else { Verdict::CreditAccountNotFound };
        let account = account.ok_or(missing)?;
        result(&[
            (account.ledger != transfer.ledger, Verdict::LedgerDiffersFromAccounts),
            (
                account.ledger == transfer.ledger && account.flags.contains(AccountFlags::CLOSED),
                if is_debit { Verdict::DebitAccountClosed } else { Verdict::CreditAccountClosed },
            ),
        ])?;
        let transit = if is_debit { credit } else { debit };
        let before = (self.accounts.clone(), self.order.clone());
        self.open_transit(transit, transfer.ledger, at);
        let (debit_account_id, credit_account_id) = (debit, credit);
        let done =
            self.transfer(&Transfer { debit_account_id, credit_account_id, ..*transfer }, at);
        if let Some(reservation) = self.reservations.get_mut(&transfer.id.0) {
            reservation.transfer = *transfer;
            (reservation.other, reservation.in_doubt) = (at.other, true);
        }
        if done.is_err() {
            (self.accounts, self.order) = before;
        }
        done
    }

    /// Reserves what an event of a chain moves here.
    fn prepare_here(
        &mut self,
        event: &Event,
        at: At,
        effective: Option<Resolved>,
        away: &dyn Fn(AccountId) -> Option<PartitionId>,
        chain: u64,
    ) -> Result<(), Verdict> {
        let (other, chain, offset) = (at.other.unwrap(), Some(chain), at.offset);
        let none = Doubt {
            transfer: Transfer::default(),
            amount: 0,
            offset,
            other,
            expires_at: None,
            sides: None,
            chain,
        };
        let transfer = match event {
            Event::Transfer(transfer) => *transfer,
            Event::Guard(guard) => {
                let transfer = Transfer { id: guard.id, ..Transfer::default() };
                self.doubts.insert(guard.id.0, Doubt { transfer, ..none });
                return Ok(());
            }
            other => unreachable!("{other:?} can't span"),
        };
        let amount = effective.map_or(transfer.amount.0, |effective| effective.amount.0);
        if transfer.flags.0 & 0b1100 != 0 {
            let pending = self.reservations.get_mut(&transfer.pending_id.0);
            let open = pending.filter(|it| it.fate == Fate::Open && !it.in_doubt);
            open.ok_or(Verdict::PendingInDoubt)?.in_doubt = true;
            self.doubts.insert(transfer.id.0, Doubt { transfer, amount, ..none });
            return Ok(());
        }
        let sides = sides(&transfer, away);
        if let Some((debit, credit)) = sides {
            for (id, real) in
                [(debit, transfer.debit_account_id), (credit, transfer.credit_account_id)]
            {
                if id != real {
                    self.open_transit(id, transfer.ledger, at);
                }
            }
            let (from, to) = (*self.account(debit), *self.account(credit));
            let debits = [from.debits_pending.0, from.debits_posted.0, amount];
            let credits = [to.credits_pending.0, to.credits_posted.0, amount];
            result(&[
                (overflows(&[debits[0], amount]), Verdict::OverflowsDebitsPending),
                (overflows(&[credits[0], amount]), Verdict::OverflowsCreditsPending),
                (overflows(&debits), Verdict::OverflowsDebits),
                (overflows(&credits), Verdict::OverflowsCredits),
            ])?;
            let account = self.account(debit);
            account.debits_pending.0 += amount;
            account.version += 1;
            let account = self.account(credit);
            account.credits_pending.0 += amount;
            account.version += 1;
        }
        let expires_at = expires_at(&transfer, at.timestamp);
        self.doubts.insert(transfer.id.0, Doubt { transfer, amount, expires_at, sides, ..none });
        Ok(())
    }
}

/// The accounts of a transfer here: in transit, if they live elsewhere. None if both do.
fn sides(
    transfer: &Transfer,
    away: &dyn Fn(AccountId) -> Option<PartitionId>,
) -> Option<(AccountId, AccountId)> {
    let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
    if away(debit).is_some() && away(credit).is_some() {
        return None;
    }
    let here = |id| away(id).map_or(id, |other| in_transit(other, transfer.ledger));
    Some((here(debit), here(credit)))
}
