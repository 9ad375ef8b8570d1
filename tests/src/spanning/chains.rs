//! Linked chains in the model: executed one event after the other, in one partition or two.

use std::collections::{BTreeMap, HashSet};

use walengine_net::model::{
    AccountId, Amount, Arrival, Event, EventBytes, EventId, GuardFlags, PartitionId, Sent,
    Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::unit::{self, Path, resolves};

use super::model::{Balances, Logged, Model, Part, Prepared, Reserved, due};

/// Accounts as a chain would leave them.
struct Tried {
    accounts: BTreeMap<AccountId, Balances>,
    ended: HashSet<EventId>,
}

impl Tried {
    fn of(&mut self, id: AccountId) -> &mut Balances {
        self.accounts.get_mut(&id).expect("an account that was created")
    }

    /// Changes what lives here, if that is allowed.
    fn money(&mut self, transfer: &Transfer, amount: u128, debits: bool, credits: bool) -> bool {
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let may = (!debits || self.of(debit).may_debit(amount))
            && (!credits || self.of(credit).may_credit(amount));
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        if may && debits {
            self.of(debit).debit(amount, reserves);
        }
        if may && credits {
            self.of(credit).credit(amount, reserves);
        }
        may
    }

    fn end(&mut self, model: &Model, end: &Transfer) -> bool {
        let open = model.open.get(&end.pending_id).filter(|open| !open.is_ending && !open.spans);
        let Some(Reserved { transfer, amount, .. }) =
            open.filter(|_| self.ended.insert(end.pending_id))
        else {
            return false;
        };
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let posts = end.flags.contains(TransferFlags::POST_PENDING);
        if posts && (self.of(debit).is_closed || self.of(credit).is_closed) {
            return false;
        }
        let moved = match end.amount.0 {
            _ if !posts => 0,
            0 => *amount,
            asked => asked,
        };
        self.of(debit).end_debit(*amount, moved);
        self.of(credit).end_credit(*amount, moved);
        true
    }
}

impl Model {
    /// A chain that a client has sent.
    pub(super) fn chain(&mut self, unit: &[Logged], at: &str) {
        let partition = unit[0].partition;
        let events: Vec<EventBytes> = unit.iter().map(|one| one.event.to_bytes()).collect();
        let path = unit::path(&events, self.partitions).expect("a chain that may be decided");
        let Path { home, last } = path.expect("a chain that names an account");
        assert_eq!(home, partition, "{at}: decided where it was sent");
        let mut tried = Tried { accounts: self.accounts.clone(), ended: HashSet::new() };
        let refused = unit.iter().position(|one| {
            let part = self.part(&one.event, partition, home);
            !self.try_part(&mut tried, &one.event, part, None)
        });
        are_expected(unit, refused, if home == last { Verdict::Ok } else { Verdict::InDoubt }, at);
        if refused.is_some() {
            self.chains_refused_at_home += 1;
            return;
        }
        assert_ne!(home, last, "{at}: clients send no chain of one partition");
        for one in unit {
            let part = self.part(&one.event, partition, home);
            let (sent, amount) = self.prepare_member(&one.event, part, at);
            let due = match &one.event {
                Event::Transfer(transfer) => due(transfer, one.time),
                _ => None,
            };
            let prepared = Prepared { sent, amount, arrived: None, due, part: Some(part) };
            self.prepared.insert((home, one.offset), prepared);
        }
    }

    /// What an event of a chain does at `here`.
    fn part(&self, event: &Event, here: PartitionId, home: PartitionId) -> Part {
        let Event::Transfer(transfer) = event else { return Part::Nothing };
        if resolves(transfer) {
            return if here == home { Part::Ends } else { Part::Nothing };
        }
        let lives = |id| self.home(id, here) == here;
        let (debits, credits) =
            (lives(transfer.debit_account_id), lives(transfer.credit_account_id));
        if debits || credits { Part::Money { debits, credits } } else { Part::Nothing }
    }

    fn try_part(
        &self,
        tried: &mut Tried,
        event: &Event,
        part: Part,
        guards_at: Option<PartitionId>,
    ) -> bool {
        match (event, part) {
            (Event::Guard(guard), _) if guards_at.is_some() => {
                assert_eq!(guard.flags.without(GuardFlags::LINKED), GuardFlags::AVAILABLE_TO_DEBIT);
                tried.of(guard.account_id).debitable() >= guard.available.0
            }
            (Event::Transfer(transfer), Part::Money { debits, credits }) => {
                tried.money(transfer, transfer.amount.0, debits, credits)
            }
            (Event::Transfer(transfer), Part::Ends) => tried.end(self, transfer),
            _ => true,
        }
    }

    /// Reserves what an event moves at home; what is sent of it, and its amount.
    fn prepare_member(&mut self, event: &Event, part: Part, at: &str) -> (Sent, u128) {
        let transfer = match event {
            Event::Guard(guard) => return (Sent::Guard(*guard), 0),
            Event::Transfer(transfer) => *transfer,
            other => panic!("{at}: {other:?} in a chain of two partitions"),
        };
        let mut sent = transfer;
        match part {
            Part::Nothing => {}
            Part::Money { debits, credits } => {
                if debits {
                    self.account(transfer.debit_account_id).debit(transfer.amount.0, true);
                }
                if credits {
                    self.account(transfer.credit_account_id).credit(transfer.amount.0, true);
                }
            }
            Part::Ends => {
                let open = self.open.get_mut(&transfer.pending_id).expect("it was tried");
                open.is_ending = true;
                let Transfer { debit_account_id, credit_account_id, ledger, code, .. } =
                    open.transfer;
                let asked = transfer.amount.0;
                let amount = Amount(if asked == 0 { open.amount } else { asked });
                let named =
                    Transfer { debit_account_id, credit_account_id, ledger, code, ..transfer };
                sent = Transfer { amount, ..named };
            }
        }
        (Sent::Transfer(sent), sent.amount.0)
    }

    /// A chain that has come from its home.
    pub(super) fn chain_arrives(&mut self, unit: &[Logged], home: PartitionId, at: &str) {
        let here = unit[0].partition;
        let arrivals: Vec<Arrival> = unit
            .iter()
            .map(|one| match one.event {
                Event::Arrival(arrival) => arrival,
                other => panic!("{at}: {other:?} among arrivals"),
            })
            .collect();
        let event = |arrival: &Arrival| match arrival.sent {
            Sent::Transfer(transfer) => Event::Transfer(transfer),
            Sent::Guard(guard) => Event::Guard(guard),
        };
        let mut tried = Tried { accounts: self.accounts.clone(), ended: HashSet::new() };
        let refused = arrivals.iter().position(|arrival| {
            let part = self.part(&event(arrival), here, home);
            !self.try_part(&mut tried, &event(arrival), part, Some(here))
        });
        are_expected(unit, refused, Verdict::Ok, at);
        for (one, arrival) in unit.iter().zip(&arrivals) {
            let transfer = arrival.sent.transfer().copied().unwrap_or_default();
            let is_void = transfer.flags.contains(TransferFlags::VOID_PENDING);
            let moved = if refused.is_some() || is_void { 0 } else { transfer.amount.0 };
            let (id, place, verdict) = (arrival.sent.id(), arrival.place, one.verdict);
            let (amount, pending_id) = (Amount(moved), transfer.pending_id);
            let prepared = self.arrives(arrival, home, one, at);
            let is_linked = arrival.is_linked();
            prepared.arrived = Some(Word { id, place, verdict, amount, pending_id, is_linked });
            let is_held = transfer.flags.contains(TransferFlags::PENDING)
                && self.home(transfer.credit_account_id, here) == here;
            if refused.is_none() && is_held {
                self.held.insert(transfer.id, transfer.amount.0);
            }
        }
        if refused.is_none() {
            self.accounts = tried.accounts;
        }
    }

    /// The word on an event of a chain.
    pub(super) fn settle_member(&mut self, prepared: &Prepared, part: Part, is_ok: bool) {
        let Some(transfer) = prepared.sent.transfer() else { return };
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let Prepared { amount, due, .. } = *prepared;
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        match part {
            Part::Nothing => {}
            Part::Money { credits, .. } if reserves && is_ok => {
                let (spans, is_ending) = (!credits, false);
                let transfer = *transfer;
                let open = Reserved { transfer, amount, due, spans, is_ending };
                self.open.insert(transfer.id, open);
            }
            Part::Money { debits, credits } => {
                let moved = if is_ok { amount } else { 0 };
                if debits {
                    self.account(debit).end_debit(amount, moved);
                }
                if credits {
                    self.account(credit).end_credit(amount, moved);
                }
            }
            Part::Ends => {
                let open = self.open.get_mut(&transfer.pending_id).expect("it waited");
                open.is_ending = false;
                if !is_ok {
                    return;
                }
                let Reserved { transfer: reserved, amount: held, .. } = *open;
                self.open.remove(&transfer.pending_id);
                let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
                let moved = if posts { amount } else { 0 };
                self.account(reserved.debit_account_id).end_debit(held, moved);
                self.account(reserved.credit_account_id).end_credit(held, moved);
            }
        }
    }
}

/// All of a chain has these verdicts, or one of it was refused, and the others with it.
fn are_expected(unit: &[Logged], refused: Option<usize>, accepted: Verdict, at: &str) {
    for (index, one) in unit.iter().enumerate() {
        let is_expected = match refused {
            None => one.verdict == accepted,
            Some(culprit) if culprit == index => {
                ![Verdict::Ok, Verdict::InDoubt, Verdict::LinkedEventFailed].contains(&one.verdict)
            }
            Some(_) => one.verdict == Verdict::LinkedEventFailed,
        };
        assert!(is_expected, "{at}: refused {refused:?}, event {index} of {unit:#?}");
    }
}
