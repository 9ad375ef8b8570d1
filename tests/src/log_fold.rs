//! Folds the log by rules of the test's own, and compares the result with SQL. Independent of the
//! projector: the client library reads the entries, psql the tables.

use std::collections::{BTreeMap, HashMap, HashSet};

use walengine_net::client::blocking::Client;
use walengine_net::entry::{EntryKind, access_events, access_records};
use walengine_net::model::{
    CloseFlags, Event, EventKind, Offset, PartitionId, Resolved, TransferFlags, Verdict, event_id,
    event_kind,
};

use crate::postgres::Postgres;

const PAGE_BYTES: usize = 1 << 20;

/// Balances in the order `debits_pending`, `debits_posted`, `credits_pending`, `credits_posted`, and
/// the version.
type Balances = ([u128; 4], u64);

/// A log, folded.
#[derive(Debug, Default)]
pub struct Folded {
    /// Where each partition ends.
    pub ends: Vec<u64>,
    accounts: BTreeMap<u128, Balances>,
    /// Partition, offset: id, accounts, amount.
    transfers: BTreeMap<(u16, u64), (u128, u128, u128, u128)>,
    refused: BTreeMap<(u16, u64), (u128, u8)>,
    opaque: BTreeMap<(u16, u64), u128>,
    /// Guards, closings and reopenings.
    others: HashSet<u128>,
    pendings: HashMap<u128, (u128, u128, u128)>,
    states: BTreeMap<u128, (&'static str, u128)>,
}

impl Folded {
    /// Reads and folds every partition.
    ///
    /// # Panics
    /// If the log contradicts itself.
    pub fn read(client: &mut Client) -> Self {
        let mut folded = Self::default();
        for partition in client.info().clone().partitions() {
            let end = folded.read_partition(client, partition);
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
        transfers.chain(self.accounts.keys().copied()).chain(self.others.iter().copied())
    }

    fn read_partition(&mut self, client: &mut Client, partition: PartitionId) -> Offset {
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
                            self.refused.insert(at(index), (id, *verdict));
                        }
                    }
                } else {
                    let body = access_events(body).unwrap();
                    let resolved = body.resolved.iter().map(Resolved::from_bytes);
                    let resolved: HashMap<u32, Resolved> =
                        resolved.map(|resolved| (resolved.index, resolved)).collect();
                    for ((event, verdict), index) in
                        body.events.iter().zip(body.verdicts.iter()).zip(0u32..)
                    {
                        if Verdict::from_number(*verdict).unwrap().is_ok() {
                            let resolved = resolved.get(&index);
                            self.fold(at(index), Event::from_bytes(event).unwrap(), resolved);
                        } else {
                            assert_ne!(event_kind(event), Ok(EventKind::Expire));
                            self.refused.insert(at(index), (event_id(event), *verdict));
                        }
                    }
                }
                next = header.next_offset();
            }
            if next >= page.durable_offset {
                return next;
            }
        }
    }

    fn of(&mut self, account: u128) -> &mut Balances {
        self.accounts.get_mut(&account).expect("it was created")
    }

    fn fold(&mut self, at: (u16, u64), event: Event, resolved: Option<&Resolved>) {
        match event {
            Event::Account(account) => {
                let before = self.accounts.insert(account.id.0, ([0; 4], 0));
                assert_eq!(before, None, "created once");
            }
            Event::Guard(guard) => drop(self.others.insert(guard.id.0)),
            Event::Close(close) => {
                assert!(CloseFlags::ALL.contains(close.flags));
                self.others.insert(close.id.0);
                self.of(close.account_id.0).1 += 1;
            }
            Event::Expire(expire) => self.end(at, 0, expire.pending_id.0, "expired", 0),
            Event::Transfer(transfer) => {
                let (id, pending) = (transfer.id.0, transfer.pending_id.0);
                let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
                let has = |flag| transfer.flags.contains(flag);
                if has(TransferFlags::POST_PENDING) {
                    return self.end(at, id, pending, "posted", amount);
                }
                if has(TransferFlags::VOID_PENDING) {
                    return self.end(at, id, pending, "voided", 0);
                }
                let (debit, credit) = (transfer.debit_account_id.0, transfer.credit_account_id.0);
                let place = usize::from(!has(TransferFlags::PENDING));
                if place == 0 {
                    self.pendings.insert(id, (debit, credit, amount));
                    self.states.insert(id, ("pending", 0));
                }
                self.transfers.insert(at, (id, debit, credit, amount));
                self.change(debit, place, amount);
                self.change(credit, place + 2, amount);
            }
        }
    }

    fn change(&mut self, account: u128, place: usize, amount: u128) {
        let (balances, version) = self.of(account);
        balances[place] += amount;
        *version += 1;
    }

    fn end(&mut self, at: (u16, u64), id: u128, pending: u128, state: &'static str, posted: u128) {
        let (debit, credit, held) = self.pendings.remove(&pending).expect("it was pending");
        let amount = if state == "posted" { posted } else { held };
        self.transfers.insert(at, (id, debit, credit, amount));
        self.states.insert(pending, (state, posted));
        self.of(debit).0[0] -= held;
        self.of(credit).0[2] -= held;
        self.change(debit, 1, posted);
        self.change(credit, 3, posted);
    }

    /// Compares every table: each record once, every balance, every state, and debits equal credits.
    ///
    /// # Panics
    /// If not.
    pub fn agrees_with(&self, postgres: &Postgres) {
        let accounts: BTreeMap<u128, Balances> = postgres
            .rows(
                "SELECT id, debits_pending, debits_posted, credits_pending, credits_posted, version
                   FROM walengine.accounts",
            )
            .iter()
            .map(|row| {
                let number = |place: usize| row[place].parse::<u128>().unwrap();
                let balances = [number(1), number(2), number(3), number(4)];
                (uuid(&row[0]), (balances, row[5].parse().unwrap()))
            })
            .collect();
        same("accounts", &accounts, &self.accounts);
        let rows = postgres.rows(
            "SELECT partition, log_offset, id, debit_account_id, credit_account_id, amount
               FROM walengine.transfers",
        );
        let count = rows.len();
        let place = |row: &[String]| (row[0].parse().unwrap(), row[1].parse().unwrap());
        let transfers: BTreeMap<(u16, u64), _> = rows
            .iter()
            .map(|row| {
                let amount: u128 = row[5].parse().unwrap();
                (place(row), (uuid(&row[2]), uuid(&row[3]), uuid(&row[4]), amount))
            })
            .collect();
        assert_eq!(count, transfers.len(), "each transfer once");
        same("transfers", &transfers, &self.transfers);
        let named = transfers.values().filter(|row| row.0 != 0).map(|row| row.0);
        let (count, ids) = (named.clone().count(), named.collect::<HashSet<_>>());
        assert_eq!(count, ids.len(), "each id once");
        let refused = postgres
            .rows("SELECT partition, log_offset, id, verdict FROM walengine.refused_events")
            .iter()
            .map(|row| (place(row), (uuid(&row[2]), row[3].parse().unwrap())))
            .collect();
        same("refused_events", &refused, &self.refused);
        let opaque = postgres
            .rows("SELECT partition, log_offset, id FROM walengine.opaque_records")
            .iter()
            .map(|row| (place(row), uuid(&row[2])))
            .collect();
        same("opaque_records", &opaque, &self.opaque);
        let others = postgres.ask("SELECT count(*) FROM walengine.account_events");
        assert_eq!(others, self.others.len().to_string(), "account_events");
        let states: BTreeMap<u128, (String, u128)> = postgres
            .rows("SELECT id, state, amount_posted FROM walengine.reservations")
            .iter()
            .map(|row| (uuid(&row[0]), (row[1].clone(), row[2].parse().unwrap())))
            .collect();
        let expected =
            self.states.iter().map(|(id, (state, posted))| (*id, ((*state).to_owned(), *posted)));
        same("reservations", &states, &expected.collect());
        let sums = postgres.ask(
            "SELECT sum(debits_posted) = sum(credits_posted)
                AND sum(debits_pending) = sum(credits_pending) FROM walengine.accounts",
        );
        assert_eq!(sums, "t", "debits are credits");
    }
}

fn uuid(text: &str) -> u128 {
    if text.is_empty() { 0 } else { u128::from_str_radix(&text.replace('-', ""), 16).unwrap() }
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
