//! Linked chains in the model: executed one event after the other, at each stop of their path.

use std::collections::{BTreeMap, HashSet};

use walengine_net::model::{
    AccountId, Amount, Arrival, Event, EventBytes, EventId, Guard, GuardFlags, PartitionId, Sent,
    Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::unit::{self, Path, resolves};

use super::model::{Balances, Logged, Model, Part, Prepared, Reserved, due};

/// A chain as far as it was tried.
struct Tried {
    /// As it would leave them.
    accounts: BTreeMap<AccountId, Balances>,
    ended: HashSet<EventId>,
    /// What each event moves, reserves or ends; of one that does nothing here, what was sent.
    amounts: Vec<u128>,
}

impl Tried {
    fn of(&mut self, id: AccountId) -> &mut Balances {
        self.accounts.get_mut(&id).expect("an account that was created")
    }

    /// Changes what lives here, if that is allowed; by how much.
    fn money(&mut self, transfer: &Transfer, debits: bool, credits: bool) -> Option<u128> {
        let Transfer { debit_account_id: debit, credit_account_id: credit, flags, .. } = *transfer;
        assert!(debits && credits || !transfer.is_balancing(), "balancing in one partition only");
        let mut amount = transfer.amount.0;
        if flags.contains(TransferFlags::BALANCING_DEBIT) {
            amount = amount.min(self.of(debit).debitable());
        }
        if flags.contains(TransferFlags::BALANCING_CREDIT) {
            amount = amount.min(self.of(credit).creditable());
        }
        let may = (!debits || self.of(debit).may_debit(amount))
            && (!credits || self.of(credit).may_credit(amount));
        let reserves = flags.contains(TransferFlags::PENDING);
        if may && debits {
            self.of(debit).debit(amount, reserves);
        }
        if may && credits {
            self.of(credit).credit(amount, reserves);
        }
        may.then_some(amount)
    }

    /// Posts or voids, if that is allowed; how much.
    fn end(&mut self, model: &Model, end: &Transfer) -> Option<u128> {
        let open = model.open.get(&end.pending_id).filter(|open| !open.is_ending && !open.spans);
        let Reserved { transfer, amount: reserved, .. } =
            *open.filter(|_| self.ended.insert(end.pending_id))?;
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let posts = end.flags.contains(TransferFlags::POST_PENDING);
        if posts && (self.of(debit).is_closed || self.of(credit).is_closed) {
            return None;
        }
        let asked = end.amount.0;
        let amount = if asked == 0 { reserved } else { asked };
        let moved = if posts { amount } else { 0 };
        self.of(debit).end_debit(reserved, moved);
        self.of(credit).end_credit(reserved, moved);
        Some(amount)
    }

    /// It has at least this; a guard moves nothing.
    fn guard(&mut self, guard: &Guard) -> Option<u128> {
        assert_eq!(guard.flags.without(GuardFlags::LINKED), GuardFlags::AVAILABLE_TO_DEBIT);
        (self.of(guard.account_id).debitable() >= guard.available.0).then_some(0)
    }
}

impl Model {
    /// A chain that a client has sent.
    pub(super) fn chain(&mut self, unit: &[Logged], at: &str) {
        let here = unit[0].partition;
        let events: Vec<Event> = unit.iter().map(|one| one.event).collect();
        let path = self.path(&events, at);
        assert_eq!(path.home, here, "{at}: decided where it was sent");
        let tried = self.try_chain(&events, here, &path);
        let accepted = if path.spans() { Verdict::InDoubt } else { Verdict::Ok };
        are_expected(unit, tried.as_ref().err().copied(), accepted, at);
        let Ok(tried) = tried else {
            self.chains_refused_at_home += 1;
            return;
        };
        assert!(path.spans(), "{at}: clients send no chain of one partition");
        for (one, amount) in unit.iter().zip(tried.amounts) {
            has_amount(one, &one.event, amount, at);
            self.prepare_member(one, &one.event, amount, path.home, None);
        }
    }

    /// A chain that has come from the stop before this one. It is prepared here and handed on, or, at its last stop,
    /// decided.
    pub(super) fn chain_arrives(&mut self, unit: &[Logged], from: PartitionId, at: &str) {
        let here = unit[0].partition;
        let arrivals: Vec<Arrival> = unit
            .iter()
            .map(|one| match one.event {
                Event::Arrival(arrival) => arrival,
                other => panic!("{at}: {other:?} among arrivals"),
            })
            .collect();
        if matches!(arrivals[0].sent, Sent::Word(_)) {
            return self.outcome_arrives(unit, &arrivals, from, at);
        }
        let events: Vec<Event> = arrivals.iter().map(event_of).collect();
        let path = self.path(&events, at);
        assert_eq!(path.before(here), Some(from), "{at}: it comes from the stop before");
        let is_last = here == path.last;
        let tried = self.try_chain(&events, here, &path);
        let accepted = if is_last { Verdict::Ok } else { Verdict::InDoubt };
        are_expected(unit, tried.as_ref().err().copied(), accepted, at);
        self.count_long(&path, is_last, tried.is_ok());
        for (index, (one, arrival)) in unit.iter().zip(&arrivals).enumerate() {
            self.arrives(arrival, from, one, at).is_handed_on = !is_last && tried.is_ok();
            let Ok(tried) = &tried else {
                self.give_word(from, arrival, one.verdict, 0);
                continue;
            };
            let (event, amount) = (&events[index], tried.amounts[index]);
            has_amount(one, event, amount, at);
            if is_last {
                self.give_word(from, arrival, one.verdict, amount);
                self.hold(event, amount, here);
            } else {
                let before = Some((from, arrival.place));
                self.prepare_member(one, event, amount, path.home, before);
            }
        }
        if let (Ok(tried), true) = (tried, is_last) {
            self.accounts = tried.accounts;
        }
    }

    /// The outcome of a chain that was handed on.
    fn outcome_arrives(
        &mut self,
        unit: &[Logged],
        arrivals: &[Arrival],
        from: PartitionId,
        at: &str,
    ) {
        for (one, arrival) in unit.iter().zip(arrivals) {
            assert_eq!(one.verdict, Verdict::Ok, "{at}: what was decided elsewhere");
            let Sent::Word(word) = arrival.sent else { panic!("{at}: {arrival:?} in an outcome") };
            self.arrives(arrival, from, one, at);
            self.give_word(from, arrival, Verdict::Ok, 0);
            let prepared = self.prepared.remove(&(one.partition, word.place));
            let prepared = prepared.unwrap_or_else(|| panic!("{at}: of what is not under way"));
            assert!(prepared.is_handed_on && prepared.sent.id() == word.id, "{at}: {word:?}");
            let part = prepared.part.expect("only chains are handed on");
            self.settle_member(&prepared, part, &word, one);
        }
    }

    fn path(&self, events: &[Event], at: &str) -> Path {
        let events: Vec<EventBytes> = events.iter().map(Event::to_bytes).collect();
        let path = unit::path(&events, self.partitions);
        let path = path.unwrap_or_else(|refused| panic!("{at}: no such chain: {refused:?}"));
        path.unwrap_or_else(|| panic!("{at}: a chain that names no account"))
    }

    fn count_long(&mut self, path: &Path, is_last: bool, is_accepted: bool) {
        match (is_last, is_accepted) {
            _ if path.between.is_empty() => {}
            (true, true) => self.long_chains += 1,
            (true, false) => self.long_chains_refused += 1,
            (false, true) => {} // it goes on
            (false, false) => self.long_chains_stopped += 1,
        }
    }

    /// What an event of a chain does at `here`. Its chain's home is `home`.
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

    /// Executes what a chain does here, one event after the other, on a copy. If one of them is refused, which.
    fn try_chain(&self, events: &[Event], here: PartitionId, path: &Path) -> Result<Tried, usize> {
        let accounts = self.accounts.clone();
        let mut tried = Tried { accounts, ended: HashSet::new(), amounts: Vec::new() };
        for (index, event) in events.iter().enumerate() {
            let amount = match (event, self.part(event, here, path.home)) {
                (Event::Guard(guard), _) if here == path.last => tried.guard(guard),
                (Event::Transfer(transfer), Part::Money { debits, credits }) => {
                    tried.money(transfer, debits, credits)
                }
                (Event::Transfer(transfer), Part::Ends) => tried.end(self, transfer),
                _ => Some(amount_sent(event)),
            };
            tried.amounts.push(amount.ok_or(index)?);
        }
        Ok(tried)
    }

    /// Reserves what an event moves here, and keeps what is handed on of it.
    fn prepare_member(
        &mut self,
        logged: &Logged,
        event: &Event,
        amount: u128,
        home: PartitionId,
        before: Option<(PartitionId, u64)>,
    ) {
        let here = logged.partition;
        let part = self.part(event, here, home);
        let sent = self.reserve(event, part, amount);
        let due = match event {
            Event::Transfer(transfer) if here == home => due(transfer, logged.time),
            _ => None,
        };
        let (arrived, part, is_handed_on) = (None, Some(part), false);
        let prepared = Prepared { sent, amount, arrived, due, part, before, is_handed_on };
        self.prepared.insert((here, logged.offset), prepared);
    }

    /// Reserves what an event moves here, beside all that others of its chain do; what is sent of it.
    fn reserve(&mut self, event: &Event, part: Part, amount: u128) -> Sent {
        let transfer = match event {
            Event::Guard(guard) => return Sent::Guard(*guard),
            Event::Transfer(transfer) => *transfer,
            other => panic!("{other:?} in a chain of several partitions"),
        };
        let mut sent = Transfer { amount: Amount(amount), ..transfer };
        match part {
            Part::Nothing => {}
            Part::Money { debits, credits } => {
                if debits {
                    self.account(transfer.debit_account_id).debit(amount, true);
                }
                if credits {
                    self.account(transfer.credit_account_id).credit(amount, true);
                }
            }
            Part::Ends => {
                let open = self.open.get_mut(&transfer.pending_id).expect("it was tried");
                open.is_ending = true;
                let Transfer { debit_account_id, credit_account_id, ledger, code, .. } =
                    open.transfer;
                sent = Transfer { debit_account_id, credit_account_id, ledger, code, ..sent };
            }
        }
        Sent::Transfer(sent)
    }

    /// What was decided here, for good, on what the stop before has sent.
    fn give_word(&mut self, to: PartitionId, arrival: &Arrival, verdict: Verdict, amount: u128) {
        let transfer = arrival.sent.transfer().copied().unwrap_or_default();
        let is_void = transfer.flags.contains(TransferFlags::VOID_PENDING);
        let (id, place, pending_id) = (arrival.sent.id(), arrival.place, transfer.pending_id);
        let (amount, is_linked) = (Amount(if is_void { 0 } else { amount }), arrival.is_linked());
        let word = Word { id, place, verdict, amount, pending_id, is_linked };
        let prepared = self.prepared.get_mut(&(to, place)).expect("it waits for its word");
        assert!(prepared.arrived.is_none(), "another word on place {place} of {to}");
        prepared.arrived = Some(word);
    }

    /// If a reservation credits an account that lives here, what ends it comes here.
    fn hold(&mut self, event: &Event, amount: u128, here: PartitionId) {
        if let Event::Transfer(transfer) = event
            && transfer.flags.contains(TransferFlags::PENDING)
            && self.home(transfer.credit_account_id, here) == here
        {
            self.held.insert(transfer.id, amount);
        }
    }

    /// The outcome of an event of a chain was logged: at a stop in between, it is sent to the stop before.
    pub(super) fn settle_member(
        &mut self,
        prepared: &Prepared,
        part: Part,
        word: &Word,
        logged: &Logged,
    ) {
        let (here, is_ok) = (logged.partition, word.verdict.is_ok());
        match prepared.before {
            Some((_, place)) => {
                let sent = Sent::Word(Word { place, ..*word });
                let (amount, arrived, due, part, before) = (0, None, None, None, None);
                let is_handed_on = false;
                let told = Prepared { sent, amount, arrived, due, part, before, is_handed_on };
                self.prepared.insert((here, logged.offset), told);
            }
            None if word.is_linked => {}
            None if is_ok => self.chains += 1,
            None => self.chains_refused += 1,
        }
        self.end_member(prepared, part, is_ok, here);
    }

    /// Releases what an event of a chain has reserved here, and moves it if the chain was accepted.
    fn end_member(&mut self, prepared: &Prepared, part: Part, is_ok: bool, here: PartitionId) {
        let Some(transfer) = prepared.sent.transfer() else { return };
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let Prepared { amount, due, before, .. } = *prepared;
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        match part {
            Part::Nothing => {}
            Part::Money { .. } if reserves && is_ok && before.is_some() => {
                self.hold(&Event::Transfer(*transfer), amount, here);
            }
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

/// The event that has arrived.
fn event_of(arrival: &Arrival) -> Event {
    match arrival.sent {
        Sent::Transfer(transfer) => Event::Transfer(transfer),
        Sent::Guard(guard) => Event::Guard(guard),
        Sent::Word(word) => Event::Word(word),
        Sent::Account(account) => Event::Account(account),
        Sent::Close(close) => Event::Close(close),
    }
}

fn amount_sent(event: &Event) -> u128 {
    match event {
        Event::Transfer(transfer) => transfer.amount.0,
        _ => 0,
    }
}

/// The log says what an event of a chain comes to: beside its record, if not in it.
fn has_amount(logged: &Logged, event: &Event, amount: u128, at: &str) {
    assert_eq!(logged.amount.unwrap_or(amount_sent(event)), amount, "{at}: the amount: {logged:?}");
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
