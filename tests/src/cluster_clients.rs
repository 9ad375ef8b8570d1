//! Clients of a cluster under faults. Some write through the client library, some read from nodes
//! of their own choice; all note what they were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, Config};
use walengine_net::frame::Kind;
use walengine_net::message::{
    Freshness, IdNamespace, LookupAccounts, LookupAccountsReply, Status, StatusReply,
};
use walengine_net::model::{
    Account, AccountId, EventBytes, Offset, PartitionId, Verdict, event_id,
};

use crate::crash_witness::balances;
use crate::linearizability::{Demand, Notes, Shown};
use crate::noted_writes::Writer;
use crate::sim::Rng;
use crate::wire::Wire;

/// How long a write may take before its client gives up and sends the same again.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a reader waits for a node.
const READ_WITHIN: Duration = Duration::from_millis(700);
/// How long the end may take, when all nodes are well again.
const END_WITHIN: Duration = Duration::from_mins(1);
/// Share of writes that are batches, in percent; the others are single transfers.
const BATCHES_PERCENT: u64 = 12;
/// Ids that a client asks for at once.
const IDS: usize = 4;
/// Pause of a reading client between two reads, so that writers get the processor, too.
const REST: Duration = Duration::from_micros(200);

/// What the clients share with the code that harms the nodes.
#[derive(Debug)]
pub struct Crowd {
    started: Instant,
    nodes: Vec<SocketAddr>,
    accounts: Vec<Account>,
    ends: AtomicBool,
    /// The newest record that any writer was told of, plus one.
    told: AtomicU64,
    /// Answers to writes.
    answers: AtomicU64,
    /// Events and reads that were answered.
    operations: AtomicU64,
    /// Why the last write was not answered that was not.
    last_refusal: Mutex<String>,
}

impl Crowd {
    /// Clients of these nodes.
    pub fn new(nodes: Vec<SocketAddr>, accounts: Vec<Account>) -> Self {
        Self {
            started: Instant::now(),
            nodes,
            accounts,
            ends: AtomicBool::new(false),
            told: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            last_refusal: Mutex::default(),
        }
    }

    /// Waits until a count has grown to `wanted`.
    fn wait_for(&self, count: &AtomicU64, wanted: u64, why_not: impl Fn() -> String) {
        let by = Instant::now() + END_WITHIN;
        while count.load(Ordering::Relaxed) < wanted {
            if Instant::now() >= by {
                let refusal = self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner);
                panic!("nothing is answered any more, lately {refusal}:\n{}", why_not());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Empty notes whose times count from this crowd's beginning.
    pub fn notes(&self) -> Notes {
        Notes::new(self.started)
    }

    /// Nanoseconds since the crowd began.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// How far the log was told to reach.
    pub fn told(&self) -> Offset {
        Offset(self.told.load(Ordering::Relaxed))
    }

    /// Waits until `answers` more writes are answered.
    ///
    /// # Panics
    /// If they are not; the message is the caller's.
    pub fn wait_for_answers(&self, answers: u64, why_not: impl Fn() -> String) {
        let wanted = self.answers.load(Ordering::Relaxed) + answers;
        self.wait_for(&self.answers, wanted, why_not);
    }

    /// Waits until `operations` events and reads were answered in total.
    ///
    /// # Panics
    /// If they are not; the message is the caller's.
    pub fn wait_for_operations(&self, operations: u64, why_not: impl Fn() -> String) {
        self.wait_for(&self.operations, operations, why_not);
    }

    /// The clients finish what they have begun.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Creates the accounts; returns the notes of it.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn create_accounts(&self) -> Notes {
        let mut notes = self.notes();
        let events: Vec<_> = self.accounts.iter().map(Account::to_bytes).collect();
        let client = self.client(END_WITHIN);
        notes.sends(&events);
        let submitted = client.submit(PartitionId(0), &events).unwrap();
        let outcomes: Vec<_> = submitted.outcomes().collect();
        notes.wrote(&events, &outcomes);
        notes
    }

    /// Starts writers and readers.
    pub fn start<'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        writers: u64,
        readers: u64,
        seed: u64,
    ) -> Vec<ScopedJoinHandle<'scope, Notes>> {
        let writers = (0..writers).map(|number| scope.spawn(move || self.write(seed ^ number)));
        let mut clients: Vec<_> = writers.collect();
        let readers =
            (0..readers).map(|number| scope.spawn(move || self.read(seed ^ (1 << 32 | number))));
        clients.extend(readers);
        clients
    }

    fn client(&self, deadline: Duration) -> Client {
        let addresses: Vec<_> = self.nodes.iter().map(ToString::to_string).collect();
        let by = Instant::now() + END_WITHIN;
        loop {
            let config = Config { deadline, ..Config::new(addresses.join(",")) };
            match Client::connect(config) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < by, "no node is reached: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes, and reads what it wrote, until the end; then until everything is answered.
    fn write(&self, seed: u64) -> Notes {
        let (mut rng, mut notes) = (Rng::new(seed), self.notes());
        let mut writer = Writer::new(rng.next_u64(), &self.accounts);
        let client = self.client(DEADLINE);
        let mut reader = Asker::new(self, rng.next_u64());
        let mut again: Option<Vec<EventBytes>> = None;
        let mut end_by = None;
        loop {
            if self.ends.load(Ordering::Relaxed) {
                let by = *end_by.get_or_insert_with(|| Instant::now() + END_WITHIN);
                assert!(Instant::now() < by, "a write is never answered: {again:?}");
                if again.is_none() {
                    return notes;
                }
            }
            let events = again.take().unwrap_or_else(|| {
                if rng.percent(BATCHES_PERCENT) {
                    writer.batch()
                } else {
                    vec![writer.transfer().to_bytes()]
                }
            });
            notes.sends(&events);
            match client.submit(PartitionId(0), &events) {
                Ok(submitted) => {
                    let outcomes: Vec<_> = submitted.outcomes().collect();
                    notes.wrote(&events, &outcomes);
                    let last = outcomes.iter().filter_map(|outcome| outcome.offset).max();
                    let last = last.expect("everything is well-formed");
                    self.told.fetch_max(last.0 + 1, Ordering::Relaxed);
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    self.operations.fetch_add(events.len() as u64, Ordering::Relaxed);
                    if rng.percent(25) {
                        let ids: Vec<u128> = events.iter().take(IDS).map(event_id).collect();
                        reader.ask(&mut notes, Demand::Token(last), &ids);
                    }
                }
                Err(
                    error @ (ClientError::Refused { .. }
                    | ClientError::NoLeader { .. }
                    | ClientError::Deadline { .. }
                    | ClientError::Unreachable { .. }
                    | ClientError::OutcomeUnknown { .. }),
                ) => {
                    *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) =
                        format!("{error:?}");
                    again = Some(events);
                }
                Err(error) => panic!("a client can't go on: {error:?}"),
            }
        }
    }

    /// Reads linearizably wherever it is answered, and with the newest token from anybody.
    fn read(&self, seed: u64) -> Notes {
        let (mut rng, mut notes) = (Rng::new(seed), self.notes());
        let mut asker = Asker::new(self, rng.next_u64());
        while !self.ends.load(Ordering::Relaxed) {
            let demand = match self.told().0.checked_sub(1) {
                Some(last) if rng.percent(40) => Demand::Token(Offset(last)),
                _ => Demand::Linearizable,
            };
            asker.ask(&mut notes, demand, &[]);
            thread::sleep(REST);
        }
        notes
    }
}

/// Asks nodes, one connection to each.
struct Asker<'a> {
    crowd: &'a Crowd,
    rng: Rng,
    wires: Vec<Option<Wire>>,
    /// The node that answered the last linearizable read.
    leader: usize,
}

impl<'a> Asker<'a> {
    fn new(crowd: &'a Crowd, seed: u64) -> Self {
        let wires = crowd.nodes.iter().map(|_| None).collect();
        Self { crowd, rng: Rng::new(seed), wires, leader: 0 }
    }

    /// Asks one node once; nothing is noted if it does not answer, or refuses.
    fn ask(&mut self, notes: &mut Notes, demand: Demand, ids: &[u128]) {
        let node = match demand {
            Demand::Linearizable => self.leader,
            Demand::Token(_) => self.rng.index(self.wires.len()),
        };
        let answered = self.ask_node(node, notes, demand, ids).is_some();
        if !answered && demand == Demand::Linearizable {
            self.leader = (node + 1) % self.wires.len();
        }
    }

    fn ask_node(
        &mut self,
        node: usize,
        notes: &mut Notes,
        demand: Demand,
        ids: &[u128],
    ) -> Option<()> {
        let address = self.crowd.nodes[node];
        let place = &mut self.wires[node];
        if place.is_none() {
            *place = Wire::greeted_within(address, 0, None, READ_WITHIN).ok();
        }
        let wire = place.as_mut()?;
        let begin = notes.now();
        let accounts = &self.crowd.accounts;
        let two = [0; 2].map(|_| accounts[self.rng.index(accounts.len())].id);
        match ask_for(wire, demand, ids, &two) {
            // A late answer would be taken for the answer to the next question.
            Err(_) => {
                *place = None;
                None
            }
            Ok(None) => None,
            Ok(Some((next_offset, shown))) => {
                notes.read(begin, demand, next_offset, shown);
                self.crowd.operations.fetch_add(1, Ordering::Relaxed);
                Some(())
            }
        }
    }
}

/// Asks for verdicts, or without ids for balances; `None` if that was refused.
///
/// # Errors
/// The connection was lost, or nothing came in time.
pub fn ask_for(
    wire: &mut Wire,
    demand: Demand,
    ids: &[u128],
    accounts: &[AccountId],
) -> std::io::Result<Option<(Offset, Shown)>> {
    let freshness = match demand {
        Demand::Linearizable => Freshness::Linearizable,
        Demand::Token(offset) => Freshness::AtLeast(offset),
    };
    let at_least = freshness.number();
    if ids.is_empty() {
        let asked: Vec<u128> = accounts.iter().map(|account| account.0).collect();
        let reply = wire.call(&LookupAccounts { at_least, ids: &asked })?;
        if reply.kind != Kind::LookupAccountsReply {
            return Ok(None);
        }
        let reply = reply.open::<LookupAccountsReply<'_>>();
        let mut shown: Vec<_> = accounts.iter().map(|account| (*account, None)).collect();
        for (place, bytes) in reply.accounts() {
            shown[place].1 = Some(balances(&Account::from_bytes(bytes)));
        }
        return Ok(Some((Offset(reply.next_offset.to_native()), Shown::Balances(shown))));
    }
    let reply = wire.call(&Status { at_least, namespace: IdNamespace::Event as u8, ids })?;
    if reply.kind != Kind::StatusReply {
        return Ok(None);
    }
    let reply = reply.open::<StatusReply<'_>>();
    let decided = reply.states.iter().map(|state| -> Option<(Verdict, Offset)> { state.decided() });
    let shown = ids.iter().copied().zip(decided).collect();
    Ok(Some((Offset(reply.next_offset.to_native()), Shown::Verdicts(shown))))
}
