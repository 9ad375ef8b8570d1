//! What an event does to accounts and reservations. [`super::undo`] takes it back.
//!
//! `execute` changes nothing when it refuses.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, Code, Describe, EventBytes,
    EventId, EventKind, Expire, Guard, GuardFlags, Name, Resolved, ResolvedBytes, Timestamp,
    Transfer, TransferFlags, Verdict, event_kind,
};
use walengine_net::unit::resolves;

use super::ahead::Near;
use super::balances::{available_to_credit, available_to_debit, balanced_amount, check_balances};
use super::checks::refuse_if;
use super::pendings::{NEVER, Pending, PendingKey, Standing};
use super::slot::PendingState;
use super::{At, Ledger};
use crate::ids::key::{Key, Space};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Puts what a balancing transfer comes to beside it; of any other, its own amount says that.
pub(super) fn note_balanced(
    transfer: &Transfer,
    amount: u128,
    at: At,
    resolved: &mut Vec<ResolvedBytes>,
) {
    if transfer.is_balancing() {
        note(transfer, amount, at, resolved);
    }
}

/// Puts the accounts and the amount of a transfer beside its record.
pub(super) fn note(transfer: &Transfer, amount: u128, at: At, resolved: &mut Vec<ResolvedBytes>) {
    let effective = Resolved {
        debit_account_id: transfer.debit_account_id,
        credit_account_id: transfer.credit_account_id,
        amount: Amount(amount),
        index: at.index,
        ledger: transfer.ledger,
        code: transfer.code,
    };
    resolved.push(effective.to_bytes());
}

/// What stands beside the newest record, if it is that of this place in its entry; it is taken away.
pub(super) fn take_resolved(resolved: &mut Vec<ResolvedBytes>, index: u32) -> Option<Resolved> {
    let last = resolved.last().map(Resolved::from_bytes).filter(|last| last.index == index)?;
    resolved.pop();
    Some(last)
}

pub(super) fn add(to: &mut Amount, amount: u128) {
    to.0 = to.0.checked_add(amount).expect("overflow was checked before");
}

pub(super) fn subtract(from: &mut Amount, amount: u128) {
    from.0 = from.0.checked_sub(amount).expect("what is taken back was added before");
}

/// Whether an event is in a linked chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InChain {
    No,
    Local,
    /// Another partition has the last word on the chain.
    Spanning,
}

impl Ledger {
    /// Executes a well-formed event whose id is new. Returns its verdict, unless it is refused, and its state as a
    /// reservation. Pushes a resolution if the effective accounts and amount are not those of the event.
    #[inline]
    pub(super) fn execute(
        &mut self,
        bytes: &EventBytes,
        fingerprint: u64,
        chain: InChain,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(Verdict, PendingState), Verdict> {
        const DONE: (Verdict, PendingState) = (Verdict::Ok, PendingState::None);
        match event_kind(bytes) {
            Ok(EventKind::Transfer) => {
                let transfer = Transfer::from_bytes(bytes);
                if resolves(&transfer) {
                    self.post_or_void(&transfer, fingerprint, chain, at, resolved)
                } else if let [_, Some(other)] = self.routing().elsewhere(&transfer) {
                    self.prepare(&transfer, fingerprint, other, near, at, resolved)
                } else {
                    let state = self.transfer(&transfer, fingerprint, near, at, resolved)?;
                    Ok((Verdict::Ok, state))
                }
            }
            Ok(EventKind::Account) => {
                self.create_account(&Account::from_bytes(bytes), at);
                self.announce(bytes, fingerprint, at);
                Ok(DONE)
            }
            Ok(EventKind::Guard) => self.guard(&Guard::from_bytes(bytes)).map(|()| DONE),
            Ok(EventKind::Close) => {
                self.close(&Close::from_bytes(bytes))?;
                self.announce(bytes, fingerprint, at);
                Ok(DONE)
            }
            Ok(EventKind::Name) => {
                self.name_account(&Name::from_bytes(bytes), at.offset).map(|()| DONE)
            }
            Ok(EventKind::Describe) => {
                self.describe(&Describe::from_bytes(bytes), at.offset).map(|()| DONE)
            }
            Ok(
                EventKind::Expire
                | EventKind::Mail
                | EventKind::Arrival
                | EventKind::GuardArrival
                | EventKind::WordArrival
                | EventKind::AccountArrival
                | EventKind::CloseArrival
                | EventKind::Word,
            )
            | Err(_) => Err(Verdict::KindUnknown),
        }
    }

    pub(super) fn create_account(&mut self, request: &Account, at: At) {
        self.accounts.push(Account {
            flags: request.flags.without(AccountFlags::LINKED),
            timestamp: Timestamp(at.timestamp),
            ..*request
        });
    }

    #[inline]
    pub(super) fn transfer(
        &mut self,
        transfer: &Transfer,
        fingerprint: u64,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<PendingState, Verdict> {
        let debit_slot = self.accounts.slot_near(transfer.debit_account_id, near.0);
        let credit_slot = self.accounts.slot_near(transfer.credit_account_id, near.1);
        let debit_slot = debit_slot.ok_or(Verdict::DebitAccountNotFound)?;
        let credit_slot = credit_slot.ok_or(Verdict::CreditAccountNotFound)?;
        let (debit, credit) = (self.accounts.get(debit_slot), self.accounts.get(credit_slot));
        refuse_if(debit.ledger != credit.ledger, Verdict::AccountsOnDifferentLedgers)?;
        refuse_if(transfer.ledger != debit.ledger, Verdict::LedgerDiffersFromAccounts)?;
        let closed = AccountFlags::CLOSED;
        refuse_if(debit.flags.contains(closed), Verdict::DebitAccountClosed)?;
        refuse_if(credit.flags.contains(closed), Verdict::CreditAccountClosed)?;
        let amount = balanced_amount(transfer, debit, credit)?;
        let pending = transfer.flags.contains(TransferFlags::PENDING);
        check_balances(debit, credit, amount, pending)?;

        self.change(debit_slot, credit_slot, amount, if pending { reserve } else { move_money });
        note_balanced(transfer, amount, at, resolved);
        if !pending {
            return Ok(PendingState::None);
        }
        self.pendings.insert(Pending {
            id: transfer.id.0,
            fingerprint,
            amount,
            expires_at: expires_at(at.timestamp, transfer.timeout_seconds),
            offset: at.offset,
            debit: debit_slot,
            credit: credit_slot,
            code: transfer.code.0,
            ..Pending::default()
        });
        Ok(PendingState::Open)
    }

    pub(super) fn post_or_void(
        &mut self,
        transfer: &Transfer,
        fingerprint: u64,
        chain: InChain,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(Verdict, PendingState), Verdict> {
        let Some(&pending) = self.pendings.unended(transfer.pending_id.0) else {
            return Err(self.why_not_open(transfer.pending_id));
        };
        let standing = pending.standing;
        let is_none = matches!(standing, Standing::InDoubt | Standing::Carried) || standing.ends();
        refuse_if(is_none, Verdict::PendingNotPending)?;
        let debit = self.accounts.get(pending.debit);
        let credit_id = self.credit_account_of(&pending);
        let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
        let is_open = standing == Standing::Open;
        refuse_if(is_open && pending.expires_at <= at.timestamp, Verdict::PendingExpired)?;
        let differs = |asked: AccountId, is: AccountId| asked.0 != 0 && asked != is;
        let debit_differs = differs(transfer.debit_account_id, debit.id);
        refuse_if(debit_differs, Verdict::PendingDebitAccountDiffers)?;
        let credit_differs = differs(transfer.credit_account_id, credit_id);
        refuse_if(credit_differs, Verdict::PendingCreditAccountDiffers)?;
        let ledger_differs = transfer.ledger.0 != 0 && transfer.ledger != debit.ledger;
        refuse_if(ledger_differs, Verdict::PendingLedgerDiffers)?;
        let code_differs = transfer.code.0 != 0 && transfer.code.0 != pending.code;
        refuse_if(code_differs, Verdict::PendingCodeDiffers)?;
        let amount = transfer.amount.0;
        if posts {
            refuse_if(amount > pending.amount, Verdict::PendingAmountExceeded)?;
        } else {
            let differs = amount != 0 && amount != pending.amount;
            refuse_if(differs, Verdict::PendingAmountDiffers)?;
        }
        refuse_if(!is_open, Verdict::PendingInDoubt)?;
        let spans = pending.other != 0;
        let asks_twice = match chain {
            InChain::No => false,
            InChain::Local => posts && spans,
            InChain::Spanning => spans,
        };
        refuse_if(asks_twice, Verdict::PendingSpans)?;
        if posts {
            let closed = AccountFlags::CLOSED;
            refuse_if(debit.flags.contains(closed), Verdict::DebitAccountClosed)?;
            let credit = self.accounts.get(pending.credit);
            refuse_if(credit.flags.contains(closed), Verdict::CreditAccountClosed)?;
        }
        let amount = if amount == 0 { pending.amount } else { amount };
        if posts && spans {
            let (id, offset, other) = (transfer.id.0, at.offset, pending.other);
            let (expires_at, standing) = (NEVER, Standing::Posting);
            let end = Pending {
                id,
                fingerprint,
                amount,
                expires_at,
                offset,
                other,
                standing,
                ..Pending::default()
            };
            self.prepare_end(&pending, end);
            self.note_ended(&pending, credit_id, amount, at, resolved);
            return Ok((Verdict::InDoubt, PendingState::Open));
        }
        let state = if posts { PendingState::Posted } else { PendingState::Voided };
        self.end(&pending, amount, state, at, resolved);
        Ok((Verdict::Ok, PendingState::None))
    }

    /// The account that a reservation is for, wherever it lives.
    pub(super) fn credit_account_of(&self, pending: &Pending) -> AccountId {
        match pending.named {
            0 => self.accounts.get(pending.credit).id,
            named => AccountId(named),
        }
    }

    /// The verdict on posting or voiding a reservation that is not open.
    fn why_not_open(&self, id: EventId) -> Verdict {
        match self.ids.resolution(id.0).map(|ended| ended.state) {
            Some(PendingState::Posted) => return Verdict::PendingAlreadyPosted,
            Some(PendingState::Voided) => return Verdict::PendingAlreadyVoided,
            Some(PendingState::Expired) => return Verdict::PendingExpired,
            Some(PendingState::Settled) => return Verdict::PendingNotPending,
            Some(PendingState::Refused(_)) => return Verdict::PendingNotFound,
            Some(PendingState::None | PendingState::Open) | None => {}
        }
        match self.ids.decided(&Key::new(id.0, Space::Event)) {
            Some(decided) if decided.verdict.is_ok() => Verdict::PendingNotPending,
            Some(_) | None => Verdict::PendingNotFound,
        }
    }

    /// Ends a reservation at home; `amount` of it is posted if `state` says so. If it spans partitions, the other one
    /// is to be told.
    fn end(
        &mut self,
        pending: &Pending,
        amount: u128,
        state: PendingState,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) {
        let ended = (pending.other != 0).then_some(Pending {
            offset: at.offset,
            standing: Standing::Ended,
            ..*pending
        });
        let credit = self.credit_account_of(pending);
        self.resolve(pending, amount, state, at, ended);
        self.note_ended(pending, credit, amount, at, resolved);
    }

    /// Ends a reservation, or what is in doubt; `amount` of it is moved if `state` says so.
    pub(super) fn resolve(
        &mut self,
        pending: &Pending,
        amount: u128,
        state: PendingState,
        at: At,
        rest: Option<Pending>,
    ) {
        let moved = matches!(state, PendingState::Posted | PendingState::Settled);
        self.release_reserved(pending, if moved { amount } else { 0 });
        self.pendings.replace(PendingKey::own(EventId(pending.id)), at.offset, rest);
        self.ids.resolve(&pending.reserved(), state, at.offset);
    }

    /// Releases what is reserved, and moves so much of it.
    pub(super) fn release_reserved(&mut self, pending: &Pending, moved: u128) {
        let (debit, credit) = (pending.debit, pending.credit);
        self.change(debit, credit, pending.amount, release);
        self.change_again(debit, credit, moved, move_money);
    }

    /// Puts the accounts and the amount beside the record that has ended a reservation.
    pub(super) fn note_ended(
        &self,
        pending: &Pending,
        credit_account_id: AccountId,
        amount: u128,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) {
        let Account { id: debit_account_id, ledger, .. } = *self.accounts.get(pending.debit);
        let code = Code(pending.code);
        let ended =
            Transfer { debit_account_id, credit_account_id, ledger, code, ..Transfer::default() };
        note(&ended, amount, at, resolved);
    }

    /// Ends a reservation that is due.
    pub(super) fn expire_one(
        &mut self,
        expire: &Expire,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), Verdict> {
        let Some(&pending) = self.pendings.unended(expire.pending_id.0) else {
            return Err(self.why_not_open(expire.pending_id));
        };
        let is_due = pending.expires_at <= at.timestamp && pending.standing == Standing::Open;
        refuse_if(!is_due, Verdict::PendingNotPending)?;
        self.end(&pending, pending.amount, PendingState::Expired, at, resolved);
        Ok(())
    }

    pub(super) fn guard(&self, guard: &Guard) -> Result<(), Verdict> {
        let account = self.accounts.by_id(guard.account_id).ok_or(Verdict::GuardAccountNotFound)?;
        let set = |flag| guard.flags.contains(flag);
        let changed = set(GuardFlags::VERSION) && account.version != guard.version;
        refuse_if(changed, Verdict::GuardVersionDiffers)?;
        let too_low = set(GuardFlags::AVAILABLE_TO_DEBIT)
            && available_to_debit(account) < guard.available.0
            || set(GuardFlags::AVAILABLE_TO_CREDIT)
                && available_to_credit(account) < guard.available.0;
        refuse_if(too_low, Verdict::GuardBalanceTooLow)
    }

    pub(super) fn close(&mut self, close: &Close) -> Result<(), Verdict> {
        let slot = self.accounts.slot(close.account_id).ok_or(Verdict::CloseAccountNotFound)?;
        let account = self.accounts.get_mut(slot);
        let closed = account.flags.contains(AccountFlags::CLOSED);
        if close.flags.contains(CloseFlags::REOPEN) {
            refuse_if(!closed, Verdict::AccountNotClosed)?;
            account.flags = account.flags.without(AccountFlags::CLOSED);
        } else {
            refuse_if(closed, Verdict::AccountAlreadyClosed)?;
            account.flags = account.flags.with(AccountFlags::CLOSED);
        }
        account.version += 1;
        Ok(())
    }

    /// Changes both accounts and counts the change in their versions.
    #[inline]
    pub(super) fn change(&mut self, debit: u32, credit: u32, amount: u128, change: Change) {
        self.change_again(debit, credit, amount, change);
        self.accounts.get_mut(debit).version += 1;
        self.accounts.get_mut(credit).version += 1;
    }

    /// Changes both accounts without counting.
    #[inline]
    pub(super) fn change_again(&mut self, debit: u32, credit: u32, amount: u128, change: Change) {
        let account = self.accounts.get_mut(debit);
        change(&mut account.debits_pending, &mut account.debits_posted, amount);
        let account = self.accounts.get_mut(credit);
        change(&mut account.credits_pending, &mut account.credits_posted, amount);
    }
}

/// Changes one side's pending and posted balance.
pub(super) type Change = fn(&mut Amount, &mut Amount, u128);

pub(super) fn move_money(_: &mut Amount, posted: &mut Amount, amount: u128) {
    add(posted, amount);
}

pub(super) fn move_money_back(_: &mut Amount, posted: &mut Amount, amount: u128) {
    subtract(posted, amount);
}

pub(super) fn reserve(pending: &mut Amount, _: &mut Amount, amount: u128) {
    add(pending, amount);
}

pub(super) fn release(pending: &mut Amount, _: &mut Amount, amount: u128) {
    subtract(pending, amount);
}

/// When a reservation is due. A time past 2^64 nanoseconds never comes.
pub(super) fn expires_at(timestamp: u64, timeout_seconds: u32) -> u64 {
    if timeout_seconds == 0 {
        return NEVER;
    }
    timestamp.saturating_add(u64::from(timeout_seconds) * NANOS_PER_SECOND)
}
