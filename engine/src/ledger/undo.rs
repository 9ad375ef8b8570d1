//! Undoing entries that were never committed, newest first. Needs only the records: events,
//! verdicts and resolutions.

use walengine_net::model::{
    Account, AccountFlags, Arrival, Close, CloseFlags, EventBytes, EventId, EventKind, Offset,
    Resolved, ResolvedBytes, Timestamp, Transfer, TransferFlags, Verdict, Word, event_id,
    event_kind,
};

use super::Ledger;
use super::decide::{key_of, state_of_accepted};
use super::effects::{Change, move_money_back, release, reserve};
use super::pendings::{Pending, PendingKey};
use super::slot::PendingState;
use crate::ids::key::{Key, Space};

/// Tells whether anything that the newest snapshot holds was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UndoMarks {
    /// Snapshots so far.
    cuts: u64,
    /// Lowest offset that any undo since the newest snapshot went back to.
    lowest: Option<u64>,
}

impl UndoMarks {
    /// A new snapshot. Only the newest one is watched.
    pub(super) fn cut(&mut self) -> u64 {
        self.lowest = None;
        self.cuts += 1;
        self.cuts
    }

    /// True if `cut` is the newest snapshot, and nothing below `offset` was undone since.
    pub(super) fn hold(&self, cut: u64, offset: u64) -> bool {
        cut == self.cuts && self.lowest.is_none_or(|lowest| lowest >= offset)
    }
}

impl Ledger {
    /// Undoes the newest entry: the ledger is then as it was before. `previous_timestamp` is the
    /// log time of the record before it, from its draft.
    ///
    /// # Panics
    /// If the entry is not the newest, or was released.
    pub fn undo_events(
        &mut self,
        base_offset: Offset,
        previous_timestamp: Timestamp,
        events: &[EventBytes],
        verdicts: &[u8],
        resolved: &[ResolvedBytes],
    ) {
        self.check_newest(base_offset, events.len());
        let mut resolved = resolved.iter().rev().map(Resolved::from_bytes).peekable();
        for (index, (bytes, verdict)) in events.iter().zip(verdicts).enumerate().rev() {
            let offset = base_offset.0 + index as u64;
            let effective = resolved.next_if(|effective| effective.index as usize == index);
            let mut state = PendingState::None;
            let verdict = Verdict::from_number(*verdict);
            if verdict == Some(Verdict::InDoubt) {
                self.revert_prepared(EventId(event_id(bytes)), offset);
                state = PendingState::Open; // an arrival has no id here
            } else if verdict.is_some_and(Verdict::is_ok) {
                self.revert(bytes, offset, effective.as_ref());
                state = state_of_accepted(bytes);
            }
            self.across.undo(offset);
            self.ids.forget(&key_of(bytes), offset, state);
        }
        self.step_back(base_offset, previous_timestamp);
    }

    /// Undoes the newest entry, of opaque records with these ids.
    ///
    /// # Panics
    /// If the entry is not the newest.
    pub fn undo_records(
        &mut self,
        base_offset: Offset,
        previous_timestamp: Timestamp,
        ids: impl ExactSizeIterator<Item = u128>,
    ) {
        self.check_newest(base_offset, ids.len());
        for (id, offset) in ids.zip(base_offset.0..) {
            self.ids.forget(&Key::new(id, Space::Event), offset, PendingState::None);
        }
        self.step_back(base_offset, previous_timestamp);
    }

    /// # Panics
    /// If the entry does not end at the tail.
    fn check_newest(&self, base_offset: Offset, records: usize) {
        let end = base_offset.plus(records as u64);
        assert!(end == self.next_offset(), "undo up to {end}, the tail is {}", self.next_offset);
    }

    fn step_back(&mut self, base_offset: Offset, previous_timestamp: Timestamp) {
        self.next_offset = base_offset.0;
        self.last_timestamp = previous_timestamp.0;
        let lowest = self.undo.lowest.map_or(base_offset.0, |lowest| lowest.min(base_offset.0));
        self.undo.lowest = Some(lowest);
    }

    /// Takes back an accepted event, the newest one that was not taken back yet.
    pub(super) fn revert(&mut self, bytes: &EventBytes, offset: u64, resolved: Option<&Resolved>) {
        match event_kind(bytes) {
            Ok(EventKind::Transfer) => {
                self.revert_transfer(&Transfer::from_bytes(bytes), offset, resolved);
            }
            Ok(EventKind::Account) => {
                self.revert_announced(bytes, offset);
                self.accounts.pop(Account::from_bytes(bytes).id);
            }
            Ok(EventKind::Close) => {
                self.revert_announced(bytes, offset);
                self.revert_close(&Close::from_bytes(bytes));
            }
            Ok(EventKind::Expire) => self.unresolve(offset, None),
            Ok(kind) if kind.arrives() => {
                let arrival = Arrival::from_bytes(bytes).expect("it was applied");
                self.revert_arrival(&arrival.sent, offset, resolved);
            }
            Ok(EventKind::Word) => {
                self.revert_word(&Word::from_bytes(bytes).expect("it was applied"), offset);
            }
            Ok(EventKind::Name | EventKind::Describe) => self.names.revert(offset),
            // A guard, or mail.
            Ok(_) | Err(_) => {}
        }
    }

    pub(super) fn revert_close(&mut self, close: &Close) {
        let slot = self.accounts.slot(close.account_id).expect("it was closed");
        let account = self.accounts.get_mut(slot);
        account.flags = if close.flags.contains(CloseFlags::REOPEN) {
            account.flags.with(AccountFlags::CLOSED)
        } else {
            account.flags.without(AccountFlags::CLOSED)
        };
        account.version -= 1;
    }

    pub(super) fn revert_transfer(
        &mut self,
        transfer: &Transfer,
        offset: u64,
        resolved: Option<&Resolved>,
    ) {
        let flags = transfer.flags;
        if flags.contains(TransferFlags::VOID_PENDING) {
            return self.unresolve(offset, None);
        }
        if flags.contains(TransferFlags::POST_PENDING) {
            let posted = resolved.expect("a post has a resolution").amount.0;
            return self.unresolve(offset, Some(posted));
        }
        let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        let slot = |id| self.accounts.slot(id).expect("money was moved");
        let (debit, credit) = (slot(transfer.debit_account_id), slot(transfer.credit_account_id));
        if flags.contains(TransferFlags::PENDING) {
            self.pendings.remove(PendingKey::own(transfer.id));
            self.change_back(debit, credit, amount, release);
        } else {
            self.change_back(debit, credit, amount, move_money_back);
        }
    }

    /// Opens again what the record at `offset` resolved.
    fn unresolve(&mut self, offset: u64, posted: Option<u128>) {
        let pending = self.pendings.restore_replaced(offset).expect("not released yet");
        self.reserve_again(&pending, posted);
        self.ids.unresolve(&pending.reserved(), offset);
    }

    /// Takes back that a reservation was released, and that some of it was moved.
    pub(super) fn reserve_again(&mut self, pending: &Pending, moved: Option<u128>) {
        let (debit, credit) = (pending.debit, pending.credit);
        self.change_again(debit, credit, moved.unwrap_or_default(), move_money_back);
        self.change_back(debit, credit, pending.amount, reserve);
    }

    /// Changes both accounts and takes one change out of their versions.
    pub(super) fn change_back(&mut self, debit: u32, credit: u32, amount: u128, change: Change) {
        self.change_again(debit, credit, amount, change);
        self.accounts.get_mut(debit).version -= 1;
        self.accounts.get_mut(credit).version -= 1;
    }
}
