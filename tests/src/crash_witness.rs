//! Remembers what clients were told and compares it with a server after a crash: nothing
//! acknowledged is lost, nothing is there twice, the order is kept, and balances are the fold of
//! the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use walengine_net::client::blocking::Client;
use walengine_net::entry::{EntryKind, access_events};
use walengine_net::message::{Entries, EventOutcome, IdNamespace, SubmitReply};
use walengine_net::model::{
    Account, AccountId, Amount, Event, EventBytes, EventId, EventKind, Offset, PartitionId,
    Resolved, Timestamp, Transfer, TransferFlags, Verdict, event_id, event_kind,
};

use crate::noted_writes::Told;
use crate::server::Server;

/// Ids in one question.
const STATUS_IDS: usize = 8000;
const PAGE_BYTES: usize = 1 << 20;

/// A name: accounts and events are named apart.
pub(crate) type Name = (bool, u128);

/// One record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: Offset,
    pub(crate) verdict: Verdict,
    pub(crate) timestamp: Timestamp,
    pub(crate) event: EventBytes,
}

/// What is known of one partition.
#[derive(Debug, Default)]
pub(crate) struct History {
    partition: PartitionId,
    pub(crate) next_offset: Offset,
    last_timestamp: Timestamp,
    pub(crate) records: HashMap<Name, Record>,
    accounts: BTreeMap<AccountId, Account>,
    pendings: HashMap<EventId, (AccountId, AccountId, Amount)>,
}

/// Everything that clients were told by one data directory.
#[derive(Debug)]
pub struct Witness {
    histories: Vec<History>,
    acknowledged: u64,
    unanswered: u64,
    survived: u64,
}

pub(crate) fn name_of(event: &EventBytes) -> Name {
    (event_kind(event) == Ok(EventKind::Account), event_id(event))
}

impl Witness {
    /// Of a new data directory: nothing.
    pub fn new(partitions: u16) -> Self {
        let history = |number| History { partition: PartitionId(number), ..History::default() };
        let histories = (0..partitions).map(history).collect();
        Self { histories, acknowledged: 0, unanswered: 0, survived: 0 }
    }

    /// Events that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Events that survived a crash although their client had no answer.
    pub fn survived(&self) -> u64 {
        self.survived
    }

    /// For the test's output: how many events were acknowledged, how many were in flight at a
    /// crash, and how many of those had survived it.
    pub fn summary(&self) -> String {
        let Self { acknowledged, unanswered, survived, .. } = self;
        format!(
            "{acknowledged} events acknowledged, {unanswered} unanswered, {survived} of them there"
        )
    }

    /// Compares a server that has just been started with what clients were told before, then sends
    /// again what was not answered, twice.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check(&mut self, server: &Server, told: &[Told]) {
        let mut client = server.client();
        for history in &mut self.histories {
            history.read_on(&mut client);
        }
        for told in told {
            let history = &self.histories[usize::from(told.partition.0)];
            self.acknowledged += history.holds_all(told);
            let (unanswered, survived) = history.holds_a_prefix(told);
            self.unanswered += unanswered;
            self.survived += survived;
        }
        for told in told {
            let history = &mut self.histories[usize::from(told.partition.0)];
            self.acknowledged += history.send_again(server, &mut client, &told.unanswered);
            history.asks_the_same(&mut client, told);
        }
        for history in &self.histories {
            history.balances_agree(&mut client);
        }
    }

    /// Reads the whole log once more, and asks for every verdict ever given.
    ///
    /// # Panics
    /// If anything differs from what was seen before.
    pub fn check_all(&self, server: &Server) {
        let mut client = server.client();
        for history in &self.histories {
            let mut again = History { partition: history.partition, ..History::default() };
            again.read_on(&mut client);
            assert_eq!(again.next_offset, history.next_offset, "the log's end");
            assert!(again.records == history.records, "the log holds other records than before");
            again.balances_agree(&mut client);
            let names: Vec<Name> = history.records.keys().copied().collect();
            history.status_agrees(&mut client, &names);
        }
    }
}

/// The records of these entries, with what they came to.
pub(crate) fn records_of(entries: Entries<'_>) -> impl Iterator<Item = (Record, Option<Resolved>)> {
    entries.flat_map(|entry| {
        let (header, body) = entry.unwrap();
        if header.meta.kind != EntryKind::Events {
            return Vec::new();
        }
        let body = access_events(body).unwrap();
        let resolved = body.resolved.iter().map(Resolved::from_bytes);
        let resolved: HashMap<u32, Resolved> =
            resolved.map(|resolved| (resolved.index, resolved)).collect();
        let each = (0..).zip(body.events.iter().zip(body.verdicts.iter()));
        let records = each.map(|(place, (event, verdict))| {
            let record = Record {
                offset: header.meta.base_offset.plus(u64::from(place)),
                verdict: Verdict::from_number(*verdict).unwrap(),
                timestamp: Timestamp(header.meta.timestamp.0 + u64::from(place)),
                event: *event,
            };
            (record, resolved.get(&place).copied())
        });
        records.collect()
    })
}

impl History {
    /// An account's balances now; `None` if there is no such account.
    pub(crate) fn balances(&self, account: AccountId) -> Option<[u128; 4]> {
        self.accounts.get(&account).map(balances)
    }

    /// Reads what the log has grown by. Every record is a new name at the next offset.
    fn read_on(&mut self, client: &mut Client) {
        loop {
            let page = client.read_log(self.partition, self.next_offset, PAGE_BYTES, &[]).unwrap();
            for (record, resolved) in records_of(page.entries()) {
                self.add(record, resolved.as_ref());
            }
            if self.next_offset >= page.durable_offset {
                return;
            }
        }
    }

    /// The next record of the log.
    pub(crate) fn add(&mut self, record: Record, resolved: Option<&Resolved>) {
        assert_eq!(record.offset, self.next_offset, "offsets have no gaps");
        assert!(record.timestamp > self.last_timestamp, "log time moved back");
        (self.next_offset, self.last_timestamp) = (record.offset.plus(1), record.timestamp);
        let before = self.records.insert(name_of(&record.event), record);
        assert_eq!(before, None, "one record for each name");
        if record.verdict.is_ok() {
            self.fold(Event::from_bytes(&record.event).unwrap(), resolved);
        }
    }

    /// What accepted events come to, by rules of the test's own.
    fn fold(&mut self, event: Event, resolved: Option<&Resolved>) {
        match event {
            Event::Account(account) => {
                self.accounts.insert(account.id, account);
            }
            Event::Transfer(Transfer { flags, pending_id, .. })
                if flags
                    .intersects(TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING)) =>
            {
                let (debit, credit, reserved) =
                    self.pendings.remove(&pending_id).expect("it was pending");
                self.of(debit).debits_pending.0 -= reserved.0;
                self.of(credit).credits_pending.0 -= reserved.0;
                if flags.contains(TransferFlags::POST_PENDING) {
                    let amount = resolved.expect("a post says its amount").amount.0;
                    self.of(debit).debits_posted.0 += amount;
                    self.of(credit).credits_posted.0 += amount;
                }
            }
            Event::Transfer(transfer) => {
                let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
                let amount = transfer.amount;
                if transfer.flags.contains(TransferFlags::PENDING) {
                    self.pendings.insert(transfer.id, (debit, credit, amount));
                    self.of(debit).debits_pending.0 += amount.0;
                    self.of(credit).credits_pending.0 += amount.0;
                } else {
                    self.of(debit).debits_posted.0 += amount.0;
                    self.of(credit).credits_posted.0 += amount.0;
                }
            }
            _ => unreachable!("nobody sent it"),
        }
    }

    fn of(&mut self, account: AccountId) -> &mut Account {
        self.accounts.get_mut(&account).expect("transfers are between known accounts")
    }

    /// Everything acknowledged stands where the client was told, in the order that it was sent.
    fn holds_all(&self, told: &Told) -> u64 {
        let mut last = None;
        let mut acknowledged = 0;
        for (event, outcome) in
            told.answered.iter().flat_map(|(events, outcomes)| events.iter().zip(outcomes))
        {
            self.holds(event, outcome);
            if outcome.fresh {
                assert!(last < outcome.offset, "records stand in another order than was sent");
                last = outcome.offset;
            }
            acknowledged += 1;
        }
        acknowledged
    }

    fn holds(&self, event: &EventBytes, outcome: &EventOutcome) {
        let Some(record) = self.records.get(&name_of(event)) else {
            panic!("lost after it was acknowledged: {:?} {outcome:?}", Event::from_bytes(event));
        };
        let Record { offset, verdict, timestamp, event: logged } = record;
        assert_eq!((Some(*offset), *verdict), (outcome.offset, outcome.verdict), "{record:?}");
        assert_eq!(logged, event, "the log has another event under this id");
        if outcome.fresh {
            assert_eq!(*timestamp, outcome.timestamp, "{record:?}");
        }
    }

    /// Unanswered batches survive whole, and only a prefix of them; refused ones do not. Returns how
    /// many events were not answered, and how many of those survived.
    fn holds_a_prefix(&self, told: &Told) -> (u64, u64) {
        // A repeat says nothing about the batch that it stands in.
        let answered = told.answered.iter().flat_map(|(events, _)| events);
        let mut sent: HashSet<Name> = answered.map(name_of).collect();
        let (mut unanswered, mut survived, mut first_lost) = (0, 0, None);
        for event in told.unanswered.iter().flatten() {
            let name = name_of(event);
            unanswered += 1;
            let is_known = self.records.contains_key(&name);
            if !sent.insert(name) {
                continue;
            }
            if is_known {
                survived += 1;
                assert_eq!(first_lost, None, "lost, although {name:x?}, sent after it, is there");
            } else {
                first_lost = first_lost.or(Some(name));
            }
        }
        for name in told.refused.iter().flatten().map(name_of) {
            let is_there = !sent.contains(&name) && self.records.contains_key(&name);
            assert!(!is_there, "{name:x?} was refused, and is there");
        }
        (unanswered, survived)
    }

    /// Sends unanswered batches again: an id that survived keeps its verdict, the others get one.
    fn send_again(
        &mut self,
        server: &Server,
        client: &mut Client,
        unanswered: &[Vec<EventBytes>],
    ) -> u64 {
        if unanswered.is_empty() {
            return 0;
        }
        let mut wire = server.wire(self.partition.0);
        let before = self.next_offset;
        let mut submit = |events: &[EventBytes]| -> Vec<EventOutcome> {
            let reply = wire.call(&walengine_net::message::Submit { events }).unwrap();
            reply.open::<SubmitReply<'_>>().outcomes().collect()
        };
        let first: Vec<_> = unanswered.iter().map(|events| submit(events)).collect();
        self.read_on(client);
        let again: Vec<_> = unanswered.iter().map(|events| submit(events)).collect();
        let each = unanswered.iter().flatten().zip(first.iter().flatten());
        let mut acknowledged = 0;
        for ((event, first), again) in each.zip(again.iter().flatten()) {
            self.holds(event, first);
            self.holds(event, again);
            assert!(!again.fresh, "decided a second time: {again:?}");
            assert!(!first.fresh || first.offset >= Some(before), "fresh below the log's end");
            acknowledged += 1;
        }
        acknowledged
    }

    /// Asks for the verdict of every id of this client.
    fn asks_the_same(&self, client: &mut Client, told: &Told) {
        let answered = told.answered.iter().map(|(events, _)| events);
        let events = answered.chain(&told.unanswered).flatten();
        self.status_agrees(client, &events.map(name_of).collect::<Vec<_>>());
    }

    fn status_agrees(&self, client: &mut Client, names: &[Name]) {
        for namespace in [IdNamespace::Event, IdNamespace::Account] {
            let is_account = namespace == IdNamespace::Account;
            let ids: Vec<u128> =
                names.iter().filter(|name| name.0 == is_account).map(|name| name.1).collect();
            for ids in ids.chunks(STATUS_IDS) {
                let verdicts = client.status(namespace, ids, &[]).unwrap();
                for (id, verdict) in ids.iter().zip(verdicts) {
                    let record = self.records.get(&(is_account, *id));
                    assert_eq!(
                        verdict.map(|known| (known.partition, known.verdict, known.offset)),
                        record.map(|known| (self.partition, known.verdict, known.offset)),
                        "status of id {id:x}"
                    );
                }
            }
        }
    }

    /// The server's balances are the fold of its log.
    fn balances_agree(&self, client: &mut Client) {
        let mut listed = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = client.list_accounts(self.partition, cursor, 1000, &[]).unwrap();
            assert_eq!(page.next_offset, self.next_offset, "the state is that of the log's end");
            listed.extend(page.accounts.iter().map(|account| (account.id, balances(account))));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let folded: BTreeMap<_, _> =
            self.accounts.iter().map(|(id, account)| (*id, balances(account))).collect();
        assert_eq!(listed, folded, "balances are the fold of the log");
    }
}

pub(crate) fn balances(account: &Account) -> [u128; 4] {
    let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } = account;
    [debits_pending.0, debits_posted.0, credits_pending.0, credits_posted.0]
}
