//! Folds the log by rules of the test's own, and compares the result with SQL. Independent of the
//! projector: the client library reads the entries, psql the tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use walengine_net::client::{ReadFrom, blocking::Client};
use walengine_net::entry::{EntryKind, access_events, access_records};
use walengine_net::model::{
    AccountId, Arrival, CloseFlags, Describe, Event, EventBytes, EventKind, Guard, Name, Offset,
    PartitionId, Resolved, Sent, Transfer, TransferFlags, Verdict, Word, event_id, event_kind,
};
use walengine_net::partition::of_sides;

use self::around::{Around, arrives};
use self::stripes::Stripes;
use crate::postgres::Postgres;

mod around;
mod stripes;

const PAGE_BYTES: usize = 1 << 20;
/// The first id of in-transit accounts: that to or from partition 0.
const IN_TRANSIT: u128 = 0xffff_ffff << 96;

/// Balances in the order `debits_pending`, `debits_posted`, `credits_pending`, `credits_posted`, and
/// the version.
type Balances = ([u128; 4], u64);

/// Partition and offset.
type At = (u16, u64);

/// An accepted transfer: id, accounts, amount; and if it went to another partition, that and the offset
/// of the record that prepared it.
type Accepted = (u128, u128, u128, u128, Option<At>);

/// What was said on something that was handed on: by which partition, id, amount and verdict.
type Said = (u16, u128, u128, u8);

/// A transfer, a reservation or the posting of one that is prepared, at home or at a stop in between, for the next
/// partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prepared {
    /// 0 if stripes give to each other: nobody has sent that.
    id: u128,
    debit: u128,
    credit: u128,
    other: u16,
    ledger: u32,
    amount: u128,
}

/// What a prepared one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Transfer,
    /// A stripe of an account gives to another one.
    Gives,
    Reserves,
    /// This reservation.
    Posts(u128),
    Voids(u128),
}

/// An open reservation.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    debit: u128,
    credit: u128,
    /// The account whose pending credits it holds: the credit account, or what is in transit.
    side: u128,
    amount: u128,
    /// The credit account's partition, if that is another one.
    other: Option<u16>,
}

/// A transfer that has arrived and was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrived {
    /// The partition that has sent it, and its place there.
    home: At,
    id: u128,
    debit: u128,
    credit: u128,
    amount: u128,
    verdict: u8,
}

fn in_transit(other: u16, ledger: u32) -> u128 {
    IN_TRANSIT + (u128::from(other) << 32) + u128::from(ledger)
}

/// A log, folded.
#[derive(Debug, Default)]
pub struct Folded {
    /// Where each partition ends.
    pub ends: Vec<u64>,
    partitions: u16,
    /// By partition and id: each partition has its own in-transit accounts.
    accounts: BTreeMap<(u16, u128), Balances>,
    transfers: BTreeMap<At, Accepted>,
    under_way: BTreeMap<At, Prepared>,
    /// What each of them is, and the accounts of its partition between which it reserves.
    kinds: HashMap<At, (Kind, Option<(u128, u128)>)>,
    /// Guards of chains that are prepared.
    guards: HashMap<At, u128>,
    /// Of what is under way at a stop in between: the stop before, and its place there.
    before: HashMap<At, At>,
    /// The words on what was under way at a stop in between.
    passed: BTreeMap<At, Said>,
    /// Voidings and expiries of reservations between partitions, and outcomes of what was handed on; and whether the other
    /// one has said that it knows.
    told: HashMap<At, bool>,
    /// What is reserved for other partitions' reservations, by partition and id of theirs.
    held: HashMap<(u16, u128), u128>,
    /// By the record that decided it: its own, or, at a stop in between, the word.
    arrivals: BTreeMap<At, Arrived>,
    /// Id, verdict, and the other partition if it has refused it.
    refused: BTreeMap<At, (u128, u8, Option<At>)>,
    opaque: BTreeMap<(u16, u64), u128>,
    /// Guards, closings and reopenings.
    others: HashSet<u128>,
    stripes: Stripes,
    pendings: HashMap<u128, Reserved>,
    states: BTreeMap<u128, (&'static str, u128)>,
}

impl Folded {
    /// Reads and folds every partition, at its leader: a follower that lags would end sooner.
    ///
    /// # Panics
    /// If the log contradicts itself.
    pub fn read(client: &mut Client) -> Self {
        let mut folded = Self { partitions: client.info().partitions, ..Self::default() };
        for partition in client.info().clone().partitions() {
            let sure = client.reading(ReadFrom::Linearizable);
            let end = folded.read_partition(&sure, partition);
            folded.ends.push(end.0);
        }
        folded
    }

    /// Accepted transfers of all kinds.
    pub fn transfers(&self) -> usize {
        self.transfers.len()
    }

    /// Refused events.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Ids of everything that was accepted and is no opaque record.
    pub fn ids(&self) -> impl Iterator<Item = u128> {
        let transfers = self.transfers.values().map(|transfer| transfer.0);
        let accounts = self.accounts.keys().map(|(_, id)| *id);
        transfers.chain(accounts).chain(self.others.iter().copied())
    }

    /// Transfers between partitions: those that have arrived, at each stop that is not their home, and were decided; and
    /// of these those that were refused.
    pub fn arrived(&self) -> (usize, usize) {
        let refused = self.arrivals.values().filter(|arrived| arrived.verdict != 0);
        (self.arrivals.len(), refused.count())
    }

    /// What has no word of another partition yet.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
            + self.guards.len()
            + self.told.values().filter(|is_known| !**is_known).count()
            + self.stripes.under_way()
    }

    /// What every partition was told is what the others have logged, and nothing is under way.
    ///
    /// # Panics
    /// If not.
    pub fn is_settled(&self) {
        assert!(self.under_way.is_empty(), "{:?}", self.under_way.first_key_value());
        assert!(self.guards.is_empty(), "{:?}", self.guards);
        let moved = self.transfers.iter().filter_map(|(at, transfer)| {
            let (id, _, _, amount, across) = *transfer;
            let id = if self.told.contains_key(at) { 0 } else { id };
            across.map(|(other, place)| ((at.0, place), (other, id, amount, 0)))
        });
        let refused = self.refused.iter().filter_map(|(at, (id, verdict, across))| {
            across.map(|(other, place)| ((at.0, place), (other, *id, 0, *verdict)))
        });
        let passed = self.passed.iter().map(|(at, said)| (*at, *said));
        let words: BTreeMap<At, Said> = moved.chain(refused).chain(passed).collect();
        let arrivals = self.arrivals.iter().map(|((partition, _), arrived)| {
            let Arrived { home, id, amount, verdict, .. } = *arrived;
            (home, (*partition, id, amount, verdict))
        });
        same("words", &words, &arrivals.collect());
        self.stripes.are_settled();
    }

    fn read_partition(&mut self, client: &Client, partition: PartitionId) -> Offset {
        let mut next = Offset(0);
        loop {
            let page = client.read_log(partition, next, PAGE_BYTES, &[]).unwrap();
            for entry in page.entries() {
                let (header, body) = entry.unwrap();
                if header.meta.records == 0 {
                    continue;
                }
                assert_eq!(header.meta.base_offset, next, "offsets have no gaps");
                let at = |index: u32| (partition.0, next.0 + u64::from(index));
                if header.meta.kind == EntryKind::Records {
                    let body = access_records(body).unwrap();
                    for ((head, verdict), index) in
                        body.heads.iter().zip(body.verdicts.iter()).zip(0u32..)
                    {
                        let id = head.id.to_native();
                        if *verdict == 0 {
                            self.opaque.insert(at(index), id);
                        } else {
                            self.refused.insert(at(index), (id, *verdict, None));
                        }
                    }
                } else {
                    let body = access_events(body).unwrap();
                    let resolved = body.resolved.iter().map(Resolved::from_bytes);
                    let resolved: HashMap<u32, Resolved> =
                        resolved.map(|resolved| (resolved.index, resolved)).collect();
                    let (here, partitions) = (partition.0, self.partitions);
                    let mut around = Around { here, partitions, ..Around::default() };
                    for ((event, verdict), index) in
                        body.events.iter().zip(body.verdicts.iter()).zip(0u32..)
                    {
                        let resolved = resolved.get(&index);
                        around.enter(&body.events, index as usize, *verdict);
                        self.take(at(index), event, *verdict, resolved, around);
                    }
                }
                next = header.next_offset();
            }
            if next >= page.durable_offset {
                return next;
            }
        }
    }

    fn take(
        &mut self,
        at: At,
        event: &EventBytes,
        verdict: u8,
        resolved: Option<&Resolved>,
        around: Around,
    ) {
        let kind = event_kind(event).unwrap();
        match Verdict::from_number(verdict).unwrap() {
            said if arrives(kind) => {
                let arrival = Arrival::from_bytes(event).unwrap();
                match arrival.sent {
                    Sent::Account(account) => {
                        self.stripes.take(&arrival, said, around);
                        self.create(at, account.id.0);
                    }
                    Sent::Close(close) => {
                        self.stripes.take(&arrival, said, around);
                        self.of(at, close.account_id.0).1 += 1;
                    }
                    Sent::Word(word) => self.settle(at, &word, resolved.expect("what it ends")),
                    _ if said == Verdict::InDoubt => {
                        self.pass_on(at, &arrival, resolved, around);
                    }
                    _ => self.arrive(at, &arrival, verdict, resolved, around),
                }
            }
            Verdict::Ok => self.fold(at, Event::from_bytes(event).unwrap(), resolved),
            Verdict::InDoubt => {
                let next = around.chain.and_then(|(_, next)| next);
                if kind == EventKind::Guard && next.is_some() {
                    self.guards.insert(at, event_id(event));
                    return;
                }
                assert_eq!(kind, EventKind::Transfer);
                self.prepare(at, &Transfer::from_bytes(event), resolved, next);
            }
            _ => {
                assert!(!kind.arrives() && ![EventKind::Mail, EventKind::Word].contains(&kind));
                self.refused.insert(at, (event_id(event), verdict, None));
            }
        }
    }

    /// The accounts of this partition that a transfer between these two changes: of one that lives elsewhere, the
    /// in-transit account, which the first record that needs it creates. None if both live elsewhere.
    fn sides(
        &mut self,
        at: At,
        transfer: &Transfer,
        (debit, credit): (AccountId, AccountId),
        ledger: u32,
    ) -> Option<(u128, u128)> {
        let [from, to] = self.homes(transfer, debit, credit);
        let sides = [(debit.0, from), (credit.0, to)];
        if sides.iter().all(|(_, home)| *home != at.0) {
            return None;
        }
        let [debit, credit] = sides.map(|(id, home)| {
            if home == at.0 {
                return id;
            }
            let transit = in_transit(home, ledger);
            self.accounts.entry((at.0, transit)).or_default();
            transit
        });
        Some((debit, credit))
    }

    /// Where the two accounts of a transfer take part in it.
    fn homes(&self, transfer: &Transfer, debit: AccountId, credit: AccountId) -> [u16; 2] {
        let named = Transfer { debit_account_id: debit, credit_account_id: credit, ..*transfer };
        of_sides(&named, self.partitions).map(|partition| partition.0)
    }

    fn prepare(
        &mut self,
        at: At,
        transfer: &Transfer,
        resolved: Option<&Resolved>,
        next: Option<u16>,
    ) {
        let (mut debit, mut credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let (mut ledger, mut kind) = (transfer.ledger.0, Kind::Transfer);
        if transfer.flags.contains(TransferFlags::POST_PENDING) {
            let resolved = resolved.expect("what it posts");
            (debit, credit) = (resolved.debit_account_id, resolved.credit_account_id);
            (ledger, kind) = (resolved.ledger.0, Kind::Posts(transfer.pending_id.0));
        } else if transfer.flags.contains(TransferFlags::VOID_PENDING) {
            let resolved = resolved.expect("what it voids");
            (debit, credit) = (resolved.debit_account_id, resolved.credit_account_id);
            (ledger, kind) = (resolved.ledger.0, Kind::Voids(transfer.pending_id.0));
            assert!(next.is_some(), "outside of a chain, nobody else is asked");
        } else if transfer.flags.contains(TransferFlags::PENDING) {
            kind = Kind::Reserves;
        } else if transfer.flags.contains(TransferFlags::GATHERING) {
            stripes::is_gathering(at, transfer);
            kind = Kind::Gives;
        }
        let [from, to] = self.homes(transfer, debit, credit);
        let other = next.unwrap_or(to);
        assert!(next.is_some() || from == at.0, "prepared at home");
        assert_ne!(other, at.0, "prepared for another one");
        let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        let sides = self.sides(at, transfer, (debit, credit), ledger);
        let (debit, credit) = (debit.0, credit.0);
        let id = if kind == Kind::Gives { 0 } else { transfer.id.0 };
        let prepared = Prepared { id, debit, credit, other, ledger, amount };
        self.put_under_way(at, prepared, kind, sides);
    }

    fn put_under_way(
        &mut self,
        at: At,
        prepared: Prepared,
        kind: Kind,
        sides: Option<(u128, u128)>,
    ) {
        if let (Some((debit, credit)), Kind::Transfer | Kind::Gives | Kind::Reserves) =
            (sides, kind)
        {
            self.change(at, debit, 0, prepared.amount);
            self.change(at, credit, 2, prepared.amount);
        }
        self.kinds.insert(at, (kind, sides));
        self.under_way.insert(at, prepared);
    }

    /// What has arrived at a stop in between: it is prepared there as at home. What it ends is known at home only.
    fn pass_on(&mut self, at: At, arrival: &Arrival, resolved: Option<&Resolved>, around: Around) {
        let other = around.chain.and_then(|(_, next)| next).expect("only a chain is handed on");
        self.before.insert(at, (around.mail, arrival.place));
        let transfer = match &arrival.sent {
            Sent::Transfer(transfer) => transfer,
            Sent::Guard(guard) => {
                self.guards.insert(at, guard.id.0);
                return;
            }
            other => panic!("in doubt: {other:?}"),
        };
        let has = |flag| transfer.flags.contains(flag);
        let kind = if has(TransferFlags::POST_PENDING) {
            Kind::Posts(transfer.pending_id.0)
        } else if has(TransferFlags::VOID_PENDING) {
            Kind::Voids(transfer.pending_id.0)
        } else if has(TransferFlags::PENDING) {
            Kind::Reserves
        } else {
            Kind::Transfer
        };
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let (id, ledger) = (transfer.id.0, transfer.ledger.0);
        let sides = match kind {
            Kind::Posts(_) | Kind::Voids(_) => None,
            Kind::Transfer | Kind::Reserves => self.sides(at, transfer, (debit, credit), ledger),
            Kind::Gives => unreachable!("it is in no chain"),
        };
        assert!(resolved.is_none() || transfer.is_balancing(), "its own amount says it");
        let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        let (debit, credit) = (debit.0, credit.0);
        let prepared = Prepared { id, debit, credit, other, ledger, amount };
        self.put_under_way(at, prepared, kind, sides);
    }

    fn arrive(
        &mut self,
        at: At,
        arrival: &Arrival,
        verdict: u8,
        resolved: Option<&Resolved>,
        around: Around,
    ) {
        let transfer = match &arrival.sent {
            Sent::Transfer(transfer) => transfer,
            // It stands where it was checked, or where its chain was refused.
            Sent::Guard(guard) if verdict == 0 => {
                self.others.insert(guard.id.0);
                return;
            }
            Sent::Guard(guard) => {
                self.refused.insert(at, (guard.id.0, verdict, None));
                return;
            }
            other => panic!("decided elsewhere: {other:?}"),
        };
        let (debit_id, credit_id) = (transfer.debit_account_id, transfer.credit_account_id);
        let (debit, credit) = (debit_id.0, credit_id.0);
        let is_chained = around.chain.is_some();
        // The end of a reservation of its home's own changes nothing here.
        let ends_there = is_chained && transfer.pending_id.0 != 0;
        let sides = if verdict == 0 && !ends_there {
            self.sides(at, transfer, (debit_id, credit_id), transfer.ledger.0)
        } else {
            None
        };
        let mut amount = 0;
        if verdict == 0 {
            amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        }
        if let Some((debit, credit)) = sides {
            let [home, _] = self.homes(transfer, debit_id, credit_id);
            assert!(is_chained || home == around.mail, "from its home");
            let has = |flag| transfer.flags.contains(flag);
            let (mut posted, mut place) = (amount, 1);
            if has(TransferFlags::PENDING) {
                self.held.insert((home, transfer.id.0), amount);
                place = 0;
            } else if transfer.pending_id.0 != 0 {
                let held = self.held.remove(&(home, transfer.pending_id.0)).expect("it is held");
                assert_eq!(held, amount, "what the log says that it held");
                self.of(at, debit).0[0] -= held;
                self.of(at, credit).0[2] -= held;
                amount = transfer.amount.0;
                posted = if has(TransferFlags::POST_PENDING) { amount } else { 0 };
            }
            self.change(at, debit, place, posted);
            self.change(at, credit, place + 2, posted);
        }
        let home = (around.mail, arrival.place);
        let mut id = transfer.id.0;
        if transfer.flags.contains(TransferFlags::GATHERING) {
            stripes::is_gathering(home, transfer);
            id = 0;
        }
        self.arrivals.insert(at, Arrived { home, id, debit, credit, amount, verdict });
    }

    fn settle(&mut self, at: At, word: &Word, resolved: &Resolved) {
        let place = (at.0, word.place);
        if self.stripes.is_said(place, word) {
            assert_eq!((resolved.debit_account_id.0, resolved.amount.0), (0, 0));
            return;
        }
        if let Some(is_known) = self.told.get_mut(&place) {
            assert!(!std::mem::replace(is_known, true), "it is told once");
            return;
        }
        assert_ne!(word.id.0, 0, "only what has ended here has no id");
        if word.verdict == Verdict::InDoubt {
            let is_under_way = self.under_way.contains_key(&place);
            assert!(is_under_way || self.guards.contains_key(&place), "{word:?}");
            assert_eq!((word.amount.0, resolved.amount.0), (0, 0), "handed on");
            return;
        }
        let before = self.before.remove(&place);
        if before.is_some() {
            self.told.insert(at, false);
        }
        if let Some(guard) = self.guards.remove(&place) {
            assert_eq!((guard, word.amount.0), (word.id.0, 0));
            return;
        }
        let prepared = self.under_way.remove(&place).expect("it was under way");
        let Prepared { id, debit, credit, other, amount, .. } = prepared;
        let (kind, sides) = self.kinds.remove(&place).expect("it was prepared");
        let ends = matches!(kind, Kind::Posts(_) | Kind::Voids(_));
        let (is_ok, moved) = (word.verdict.is_ok(), word.amount.0);
        let said_of = if kind == Kind::Gives { stripes::gathering_id(place) } else { id };
        assert_eq!((said_of, resolved.code.0 != 0), (word.id.0, sides.is_some()));
        let ledger = if sides.is_some() { prepared.ledger } else { 0 };
        assert_eq!(in_transit(other, ledger), resolved.credit_account_id.0, "who has said it");
        assert_eq!(sides.map_or(0, |sides| sides.0), resolved.debit_account_id.0);
        assert!(!is_ok || moved == resolved.amount.0);
        let (mut released, mut posted) = (amount, moved);
        let [from, to] = self.homes(&Transfer::default(), AccountId(debit), AccountId(credit));
        match kind {
            Kind::Transfer | Kind::Gives => {}
            Kind::Reserves => {
                (released, posted) = (amount - moved, 0);
                if is_ok && before.is_none() {
                    let (_, side) = sides.expect("it reserves at home");
                    let other = (side != credit).then_some(to);
                    let reserved = Reserved { debit, credit, side, amount: moved, other };
                    self.pendings.insert(id, reserved);
                    self.states.insert(id, ("pending", 0));
                } else if is_ok && sides.is_some() {
                    self.held.insert((from, id), moved);
                }
            }
            Kind::Posts(_) | Kind::Voids(_) if before.is_some() => {} // it ends at home
            Kind::Posts(_) | Kind::Voids(_) if !is_ok => released = 0,
            Kind::Posts(pending) => {
                released = self.pendings.remove(&pending).expect("it was pending").amount;
                self.states.insert(pending, ("posted", moved));
            }
            Kind::Voids(pending) => {
                released = self.pendings.remove(&pending).expect("it was pending").amount;
                self.states.insert(pending, ("voided", 0));
            }
        }
        if let Some((debit, credit)) = sides {
            self.of(at, debit).0[0] -= released;
            self.of(at, credit).0[2] -= released;
            if kind == Kind::Gives {
                let (balances, version) = self.of(at, debit);
                balances[3] -= posted;
                *version += 1;
                self.change(at, credit, 3, posted);
            } else if is_ok || !ends {
                self.change(at, debit, 1, posted);
                self.change(at, credit, 3, posted);
            }
        }
        // The word on a voiding has no amount.
        let amount = if is_ok && matches!(kind, Kind::Voids(_)) { amount } else { moved };
        let (verdict, across) = (word.verdict.number(), Some((other, word.place)));
        if let Some(home) = before {
            self.passed.insert(place, (other, id, amount, verdict));
            self.arrivals.insert(at, Arrived { home, id, debit, credit, amount, verdict });
        } else if is_ok {
            self.transfers.insert(at, (id, debit, credit, amount, across));
        } else {
            self.refused.insert(at, (id, verdict, across));
        }
    }

    fn create(&mut self, at: At, account: u128) {
        let before = self.accounts.insert((at.0, account), ([0; 4], 0));
        assert_eq!(before, None, "created once");
    }

    fn of(&mut self, at: At, account: u128) -> &mut Balances {
        self.accounts.get_mut(&(at.0, account)).expect("it was created")
    }

    fn fold(&mut self, at: At, event: Event, resolved: Option<&Resolved>) {
        match event {
            Event::Account(account) => {
                self.create(at, account.id.0);
                self.stripes.announce(at, Sent::Account(account), account.id, self.partitions);
            }
            Event::Guard(Guard { id, .. })
            | Event::Name(Name { id, .. })
            | Event::Describe(Describe { id, .. }) => drop(self.others.insert(id.0)),
            Event::Close(close) => {
                assert!(CloseFlags::ALL.contains(close.flags));
                self.others.insert(close.id.0);
                self.of(at, close.account_id.0).1 += 1;
                self.stripes.announce(at, Sent::Close(close), close.account_id, self.partitions);
            }
            Event::Expire(expire) => self.end(at, 0, expire.pending_id.0, "expired", 0, resolved),
            Event::Mail(mail) => assert_ne!(mail.home.0, at.0, "from another partition"),
            Event::Word(word) => {
                self.settle(at, &word, resolved.expect("what it releases or moves"));
            }
            Event::Arrival(_) => unreachable!("it was taken"),
            Event::Transfer(transfer) => {
                let (id, pending) = (transfer.id.0, transfer.pending_id.0);
                let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
                let has = |flag| transfer.flags.contains(flag);
                if has(TransferFlags::POST_PENDING) {
                    return self.end(at, id, pending, "posted", amount, resolved);
                }
                if has(TransferFlags::VOID_PENDING) {
                    return self.end(at, id, pending, "voided", 0, resolved);
                }
                let (debit, credit) = (transfer.debit_account_id.0, transfer.credit_account_id.0);
                let place = usize::from(!has(TransferFlags::PENDING));
                if place == 0 {
                    let reserved = Reserved { debit, credit, side: credit, amount, other: None };
                    self.pendings.insert(id, reserved);
                    self.states.insert(id, ("pending", 0));
                }
                self.transfers.insert(at, (id, debit, credit, amount, None));
                self.change(at, debit, place, amount);
                self.change(at, credit, place + 2, amount);
            }
        }
    }

    fn change(&mut self, at: At, account: u128, place: usize, amount: u128) {
        let (balances, version) = self.of(at, account);
        balances[place] += amount;
        *version += 1;
    }

    fn end(
        &mut self,
        at: At,
        id: u128,
        pending: u128,
        state: &'static str,
        posted: u128,
        resolved: Option<&Resolved>,
    ) {
        let reserved = self.pendings.remove(&pending).expect("it was pending");
        let Reserved { debit, credit, side, amount: held, other } = reserved;
        let named = resolved.map(|it| (it.debit_account_id.0, it.credit_account_id.0));
        assert_eq!(named, Some((debit, credit)));
        let amount = if state == "posted" { posted } else { held };
        if other.is_some() {
            assert_ne!(state, "posted", "another partition has the last word on that");
            self.told.insert(at, false);
        }
        self.transfers.insert(at, (id, debit, credit, amount, other.map(|other| (other, at.1))));
        self.states.insert(pending, (state, posted));
        self.of(at, debit).0[0] -= held;
        self.of(at, side).0[2] -= held;
        self.change(at, debit, 1, posted);
        self.change(at, side, 3, posted);
    }

    /// Compares every table: each record once, every balance, every state, and debits equal credits.
    ///
    /// # Panics
    /// If not.
    pub fn agrees_with(&self, postgres: &Postgres) {
        self.accounts_agree(postgres);
        self.transfers_agree(postgres);
        self.across_agrees(postgres);
        self.others_agree(postgres);
    }

    fn accounts_agree(&self, postgres: &Postgres) {
        let accounts: BTreeMap<(u16, u128), Balances> = postgres
            .rows(
                "SELECT partition, id, debits_pending, debits_posted, credits_pending, credits_posted,
                        version
                   FROM walengine.accounts",
            )
            .iter()
            .map(|row| {
                let number = |place: usize| row[place].parse::<u128>().unwrap();
                let balances = [number(2), number(3), number(4), number(5)];
                let key = (row[0].parse().unwrap(), uuid(&row[1]));
                (key, (balances, row[6].parse().unwrap()))
            })
            .collect();
        same("accounts", &accounts, &self.accounts);
        let sums = postgres.ask(
            "SELECT bool_and(equal) FROM (
                 SELECT sum(debits_posted) = sum(credits_posted)
                    AND sum(debits_pending) = sum(credits_pending) AS equal
                   FROM walengine.accounts GROUP BY partition, ledger) AS books",
        );
        assert_eq!(sums, "t", "debits are credits in each partition");
    }

    fn transfers_agree(&self, postgres: &Postgres) {
        let rows = postgres.rows(
            "SELECT partition, log_offset, id, debit_account_id, credit_account_id, amount,
                    other_partition, prepared_offset
               FROM walengine.transfers",
        );
        let count = rows.len();
        let transfers: BTreeMap<At, Accepted> = rows
            .iter()
            .map(|row| {
                let amount: u128 = row[5].parse().unwrap();
                let (id, debit, credit) = (uuid(&row[2]), uuid(&row[3]), uuid(&row[4]));
                (place(row), (id, debit, credit, amount, across(&row[6..])))
            })
            .collect();
        assert_eq!(count, transfers.len(), "each transfer once");
        same("transfers", &transfers, &self.transfers);
        let named = transfers.values().filter(|row| row.0 != 0).map(|row| row.0);
        let (count, ids) = (named.clone().count(), named.collect::<HashSet<_>>());
        assert_eq!(count, ids.len(), "each id once");
        let refused = postgres
            .rows(
                "SELECT partition, log_offset, id, verdict, other_partition, prepared_offset
                   FROM walengine.refused_events",
            )
            .iter()
            .map(|row| {
                let verdict = row[3].parse().unwrap();
                (place(row), (uuid(&row[2]), verdict, across(&row[4..])))
            })
            .collect();
        same("refused_events", &refused, &self.refused);
    }

    fn across_agrees(&self, postgres: &Postgres) {
        let prepared = postgres
            .rows(
                "SELECT partition, log_offset, id, debit_account_id, credit_account_id,
                        other_partition, ledger, amount
                   FROM walengine.under_way",
            )
            .iter()
            .map(|row| {
                let (id, debit, credit) = (uuid(&row[2]), uuid(&row[3]), uuid(&row[4]));
                let (other, ledger) = (row[5].parse().unwrap(), row[6].parse().unwrap());
                let amount = row[7].parse().unwrap();
                (place(row), Prepared { id, debit, credit, other, ledger, amount })
            })
            .collect();
        same("under_way", &prepared, &self.under_way);
        let rows = postgres.rows(
            "SELECT partition, log_offset, home, place, id, debit_account_id, credit_account_id,
                    amount, verdict
               FROM walengine.arrivals",
        );
        let count = rows.len();
        let arrivals: BTreeMap<At, Arrived> = rows
            .iter()
            .map(|row| {
                let (home, id) = (place(&row[2..]), uuid(&row[4]));
                let (debit, credit) = (uuid(&row[5]), uuid(&row[6]));
                let (amount, verdict) = (row[7].parse().unwrap(), row[8].parse().unwrap());
                (place(row), Arrived { home, id, debit, credit, amount, verdict })
            })
            .collect();
        assert_eq!(count, arrivals.len(), "each arrival once");
        same("arrivals", &arrivals, &self.arrivals);
    }

    fn others_agree(&self, postgres: &Postgres) {
        let opaque = postgres
            .rows("SELECT partition, log_offset, id FROM walengine.opaque_records")
            .iter()
            .map(|row| (place(row), uuid(&row[2])))
            .collect();
        same("opaque_records", &opaque, &self.opaque);
        let others = postgres.ask("SELECT count(*) FROM walengine.account_events");
        let expected = self.others.len() + self.stripes.closings();
        assert_eq!(others, expected.to_string(), "account_events");
        let states: BTreeMap<u128, (String, u128)> = postgres
            .rows("SELECT id, state, amount_posted FROM walengine.reservations")
            .iter()
            .map(|row| (uuid(&row[0]), (row[1].clone(), row[2].parse().unwrap())))
            .collect();
        let expected =
            self.states.iter().map(|(id, (state, posted))| (*id, ((*state).to_owned(), *posted)));
        same("reservations", &states, &expected.collect());
    }
}

fn uuid(text: &str) -> u128 {
    if text.is_empty() { 0 } else { u128::from_str_radix(&text.replace('-', ""), 16).unwrap() }
}

/// Partition and offset, the first two of these columns.
fn place(row: &[String]) -> At {
    (row[0].parse().unwrap(), row[1].parse().unwrap())
}

/// The same, if they are not null.
fn across(row: &[String]) -> Option<At> {
    (!row[0].is_empty()).then(|| place(row))
}

/// Compares, and shows only the first difference.
fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) {
    for (key, value) in expected {
        assert_eq!(found.get(key), Some(value), "{what}: {key:x?}");
    }
    let extra = found.keys().find(|key| !expected.contains_key(key));
    assert!(extra.is_none(), "{what}: {extra:x?} is not in the log");
}
