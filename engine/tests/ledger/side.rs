//! One of several partitions whose transfers span them.

use std::collections::{BTreeMap, BTreeSet};

use rkyv::rancor;
use walengine::ledger::{Draft, Ledger, LedgerTotals};
use walengine_net::entry::{EventsBody, access_events};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Arrival, Event, Expire, Offset, PartitionId, Resolved, Sent,
    Timestamp, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::{partition, unit};

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) base: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) previous: Timestamp,
    pub(crate) body: EventsBody,
}

/// One partition: what its leader has decided, and what is committed.
pub(crate) struct Side {
    pub(crate) leader: Ledger,
    pub(crate) committed: Ledger,
    pub(crate) tail: Vec<Entry>,
    pub(crate) log: Vec<Entry>,
}

impl Side {
    pub(crate) fn new(partition: u16, partitions: u16) -> Self {
        let new = || Ledger::new(PartitionId(partition), partitions);
        Self { leader: new(), committed: new(), tail: Vec::new(), log: Vec::new() }
    }

    pub(crate) fn decide<T>(&mut self, decide: impl FnOnce(&mut Ledger, &mut Draft) -> T) -> T {
        let mut draft = Draft::new();
        let result = decide(&mut self.leader, &mut draft);
        if !draft.is_empty() {
            let (base, timestamp) = (draft.base_offset, draft.timestamp);
            let previous = draft.previous_timestamp;
            self.tail.push(Entry { base, timestamp, previous, body: draft.take() });
        }
        result
    }

    pub(crate) fn commit(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let entry = self.tail.remove(0);
        let bytes = rkyv::to_bytes::<rancor::Error>(&entry.body).unwrap();
        let body = access_events(&bytes).unwrap();
        self.committed.apply_events(entry.base, entry.timestamp, body).expect("replicas agree");
        self.leader.release(self.committed.next_offset());
        if self.tail.is_empty() {
            assert_eq!(self.leader.digest(), self.committed.digest());
        }
        self.log.push(entry);
    }

    /// Another leads: what was not committed is gone.
    pub(crate) fn lose_tail(&mut self) {
        while let Some(Entry { base, previous, body, .. }) = self.tail.pop() {
            let EventsBody { events, verdicts, resolved } = &body;
            self.leader.undo_events(base, previous, events, verdicts, resolved);
        }
        assert_eq!(self.leader.digest(), self.committed.digest(), "undone to what is committed");
    }

    /// The leader starts again from a snapshot of what is committed.
    pub(crate) fn restart(&mut self) {
        self.tail.clear();
        let mut cut = self.committed.snapshot();
        let chunks = std::iter::from_fn(|| cut.next_chunk(&self.committed, 4096));
        let chunks: Vec<_> = chunks.collect();
        let (partition, partitions) = (self.committed.partition(), self.committed.partitions());
        self.leader = Ledger::restore(partition, partitions, chunks).expect("its own snapshot");
        assert_eq!(self.leader.digest(), self.committed.digest());
    }

    /// A chain in doubt reserves all that it debits, though it may credit it itself: `chained` accounts may have more
    /// reserved than their limits allow.
    pub(crate) fn check(
        &self,
        accounts: &[Account],
        chained: impl Fn(&Ledger) -> BTreeSet<AccountId>,
    ) {
        for ledger in [&self.leader, &self.committed] {
            assert!(ledger.totals().values().all(LedgerTotals::balanced), "books balance");
            let chained = chained(ledger);
            let strict = accounts.iter().filter(|one| !chained.contains(&one.id));
            for account in strict.filter_map(|one| ledger.account(one.id)) {
                let Account { debits_posted, debits_pending, credits_posted, .. } = account;
                if account.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
                    assert!(debits_posted.0 + debits_pending.0 <= credits_posted.0, "{account:?}");
                }
                if account.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
                    assert!(credits_posted.0 + account.credits_pending.0 <= debits_posted.0);
                }
            }
        }
    }

    /// What a courier reads of its log: all that is for another partition from a place on.
    pub(crate) fn prepared(&self, other: PartitionId, from: u64) -> Vec<Arrival> {
        let (here, partitions) = (self.leader.partition(), self.leader.partitions());
        let mut found = Vec::new();
        let mut mail = here;
        // What was handed on and has no outcome yet: where it has come from.
        let mut passed: BTreeMap<u64, (PartitionId, u64)> = BTreeMap::new();
        for entry in &self.log {
            let resolved: BTreeMap<u32, Resolved> = entry
                .body
                .resolved
                .iter()
                .map(Resolved::from_bytes)
                .map(|it| (it.index, it))
                .collect();
            let mut chain: Option<(usize, PartitionId)> = None;
            for (index, event) in (0u32..).zip(&entry.body.events) {
                let place = entry.base.0 + u64::from(index);
                let verdict = entry.body.verdicts[index as usize];
                let effective = resolved.get(&index);
                chain = chain.filter(|(end, _)| (index as usize) < *end);
                let begins = chain.is_none() && unit::is_linked(event);
                let decoded = Event::from_bytes(event).unwrap();
                if begins && verdict == Verdict::InDoubt.number() {
                    let rest = &entry.body.events[index as usize..];
                    let (length, path) = unit::spanning_chain(rest, partitions).unwrap();
                    chain = Some((index as usize + length, path.after(here).unwrap()));
                }
                if let Some((_, next)) = chain {
                    let reduced = |transfer| {
                        Sent::Transfer(
                            effective.map_or(transfer, |it| with_effective(transfer, it)),
                        )
                    };
                    let sent = match decoded {
                        Event::Guard(guard) => Sent::Guard(guard),
                        Event::Transfer(transfer) => reduced(transfer),
                        Event::Arrival(Arrival { sent, place: came_from }) => {
                            passed.insert(place, (mail, came_from));
                            sent.transfer().copied().map_or(sent, reduced)
                        }
                        other => panic!("{other:?} spans"),
                    };
                    if place >= from && next == other {
                        found.push(Arrival { sent, place });
                    }
                    continue;
                }
                match decoded {
                    Event::Mail(opened) => mail = opened.home,
                    Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. })
                        if word.verdict != Verdict::InDoubt =>
                    {
                        let Some((before, came_from)) = passed.remove(&word.place) else {
                            continue;
                        };
                        if place >= from && before == other {
                            let sent = Sent::Word(Word { place: came_from, ..word });
                            found.push(Arrival { sent, place });
                        }
                    }
                    _ => {}
                }
                let for_all = match decoded {
                    Event::Account(account) if account.id.is_striped() => {
                        Some(Sent::Account(account))
                    }
                    Event::Close(close) if close.account_id.is_striped() => {
                        Some(Sent::Close(close))
                    }
                    _ => None,
                };
                if let Some(sent) = for_all.filter(|_| verdict == 0 && place >= from) {
                    found.push(Arrival { sent, place });
                }
                let ends = verdict == Verdict::Ok.number() && effective.is_some();
                let transfer = match (decoded, effective) {
                    (Event::Transfer(transfer), None) if verdict == Verdict::InDoubt.number() => {
                        transfer
                    }
                    (Event::Transfer(transfer), Some(it))
                        if verdict == Verdict::InDoubt.number() =>
                    {
                        with_effective(transfer, it)
                    }
                    (Event::Transfer(Transfer { pending_id, flags, .. }), Some(it))
                        if ends && flags.contains(TransferFlags::VOID_PENDING) =>
                    {
                        let flags = TransferFlags::VOID_PENDING;
                        with_effective(Transfer { pending_id, flags, ..Transfer::default() }, it)
                    }
                    (Event::Expire(Expire { pending_id }), Some(it)) => {
                        let flags = TransferFlags::VOID_PENDING;
                        with_effective(Transfer { pending_id, flags, ..Transfer::default() }, it)
                    }
                    _ => continue,
                };
                let is_for = partition::of_sides(&transfer, partitions)[1] == other;
                if place >= from && is_for {
                    found.push(Arrival { sent: Sent::Transfer(transfer), place });
                }
            }
        }
        found
    }
}

fn with_effective(transfer: Transfer, effective: &Resolved) -> Transfer {
    let Resolved { debit_account_id, credit_account_id, amount, ledger, code, .. } = *effective;
    Transfer { debit_account_id, credit_account_id, amount, ledger, code, ..transfer }
}
