//! One run: clients write to all partitions, half of it between them, while the nodes and the ways between the
//! partitions fail; then the faults stop, and nothing may be under way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use walengine::ledger::Ledger;
use walengine::partition::replica::Replica;
use walengine::planted::Planted;
use walengine::runtime::Runtime;
use walengine_net::model::{Account, AccountId, Book, Event, PartitionId, TransferFlags, Verdict};
use walengine_net::partition;
use walengine_replication::runtime::within;

use super::model::{Logged, Model, read_log};
use super::post::{Post, PostFaults};
use super::writer::{Writer, accounts_of, fill, striped_accounts};
use crate::cluster::{
    Client, Cluster, Counts, Observer, Place, Profile, Told, at_rest, describe, end_faults, torment,
};
use crate::sim::{Order, Rng, SimExecutor, SimRuntime};

/// Polls of a whole run: far above what any seed needs.
const POLLS_MAX: u64 = 80_000_000;
/// How often the observers look.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest pause of a client between two batches.
const PAUSE_MICROS_MAX: u64 = 30_000;
/// Clients that write all the time.
const CLIENTS: usize = 8;
/// When faults are over, nothing may be under way after this.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Hash over everything that happened.
    pub trace: u64,
    /// Nodes of each partition.
    pub nodes: u64,
    /// Partitions.
    pub partitions: u16,
    /// What was done to the nodes.
    pub counts: Counts,
    /// Letters that were lost, and that came twice.
    pub mishaps: (u64, u64),
    /// Starts from a snapshot.
    pub restored: u64,
    /// Events that were answered, repeats included.
    pub answers: u64,
    /// Transfers between partitions that were accepted.
    pub accepted: u64,
    /// And that the other one refused.
    pub refused: u64,
    /// Reservations between partitions that were posted.
    pub posted: u64,
    /// And that were voided, or have expired.
    pub released: u64,
    /// Postings that the other partition has refused.
    pub stood: u64,
    /// Chains between partitions that were accepted, that another one refused, and that home refused.
    pub chains: [u64; 3],
    /// Of three and more partitions: those that were accepted, that the last one refused, and that one in between
    /// refused.
    pub long_chains: [u64; 3],
    /// How often a stripe of an account has given to another one.
    pub gathered: u64,
    /// Somebody was refused because nothing was left on any stripe.
    pub emptied: u64,
    /// Virtual time.
    pub millis: u64,
}

/// Runs partitions whose every fault follows from `seed`.
///
/// # Panics
/// If a promise is broken; the message says which.
pub fn run(seed: u64, profile: Profile) -> Ran {
    run_with(None, seed, profile)
}

/// As [`run`], with a bug, which is there with the feature `planted` only.
///
/// # Panics
/// As [`run`].
pub fn run_with(bug: Option<Planted>, seed: u64, profile: Profile) -> Ran {
    #[cfg(feature = "planted")]
    walengine::planted::plant(bug);
    let _ = bug;
    let mut rng = Rng::new(seed);
    let executor = SimExecutor::new(rng.next_u64(), Order::Random);
    let root = executor.runtime();
    root.allow_polls(POLLS_MAX);
    let ran = executor
        .block_on(within(root.clone(), live(root.clone(), rng, profile)))
        .expect("every wake-up arrives");
    Ran { trace: executor.trace(), millis: root.elapsed().as_millis() as u64, ..ran }
}

/// A partition and what is known of it.
struct One {
    cluster: Rc<Cluster>,
    told: Rc<RefCell<Told>>,
    observer: Rc<RefCell<Observer>>,
}

async fn live(root: SimRuntime, mut rng: Rng, profile: Profile) -> Ran {
    let nodes = [3, 3, 3, 5][rng.index(4)];
    let partitions = [2, 2, 3, 4][rng.index(4)];
    let post = Post::new(&root, rng.fork());
    let mut all = Vec::new();
    for partition in (0..partitions).map(PartitionId) {
        let (place, opened) = (Place { partition, partitions }, post.opened(partition, partitions));
        let seed = rng.next_u64();
        let formed = Cluster::form_one_of(&root, nodes, seed, None, place, Some(opened));
        let (told, observer) = (Rc::default(), Rc::default());
        all.push(One { cluster: formed.await, told, observer });
    }
    let all = Rc::new(all);
    all.iter().for_each(|one| post.connect(&one.cluster));
    let ends = Rc::new(Cell::new(false));
    for one in all.iter() {
        let (cluster, observer) = (one.cluster.clone(), one.observer.clone());
        let (clock, stop) = (root.clone(), ends.clone());
        root.spawn(async move {
            while !stop.get() {
                observer.borrow_mut().look(&cluster);
                clock.sleep(LOOK_EVERY).await;
            }
        });
        let Place { partition, partitions } = one.cluster.place;
        let events: Vec<_> =
            accounts_of(partition, partitions).iter().map(Account::to_bytes).collect();
        Client::new(&one.cluster, &root, rng.fork()).send(&events, &one.told).await;
    }
    let mut filled = 0;
    {
        let of_all = &all[usize::from(partition::of_book(Book::STRIPED, partitions).0)];
        let events: Vec<_> = striped_accounts().iter().map(Account::to_bytes).collect();
        Client::new(&of_all.cluster, &root, rng.fork()).send(&events, &of_all.told).await;
        for one in all.iter() {
            let amount = u128::from(rng.below(2)) + 1;
            filled += amount;
            let events = [fill(one.cluster.place.partition, partitions, amount).to_bytes()];
            Client::new(&one.cluster, &root, rng.fork()).send(&events, &one.told).await;
        }
    }
    let writing = Rc::new(Cell::new(CLIENTS));
    for _ in 0..CLIENTS {
        let (all, clock, mut pace) = (all.clone(), root.clone(), rng.fork());
        let (stop, left) = (ends.clone(), writing.clone());
        let mut writer = Writer::new(rng.fork(), partitions);
        let mut clients: Vec<Client> =
            all.iter().map(|one| Client::new(&one.cluster, &root, rng.fork())).collect();
        root.spawn(async move {
            while !stop.get() {
                for (home, events) in writer.batch() {
                    clients[home].send(&events, &all[home].told).await;
                }
                clock.sleep(Duration::from_micros(pace.below(PAUSE_MICROS_MAX))).await;
            }
            left.set(left.get() - 1);
        });
    }
    let counts = harm(&all, &root, &mut rng, profile).await;
    post.set_faults(PostFaults::NONE);
    for one in all.iter() {
        end_faults(&one.cluster, &root).await;
    }
    ends.set(true);
    let by = root.elapsed() + SETTLES_WITHIN;
    let settled = || {
        writing.get() == 0
            && all.iter().all(|one| at_rest(&one.cluster) && is_settled(&one.cluster))
    };
    while !settled() {
        let where_it_is = |one: &One| {
            let doubts = one.cluster.leader().and_then(|id| one.cluster.partition(id));
            let doubts = doubts.map(|leader| leader.with_replica(doubts_of));
            format!("{doubts:?} in doubt\n{}", describe(&one.cluster))
        };
        let where_each_is = || all.iter().map(where_it_is).collect::<Vec<_>>();
        assert!(
            root.elapsed() < by,
            "something stays under way, {} clients wait: {}",
            writing.get(),
            where_each_is().join("\n---\n")
        );
        root.sleep(LOOK_EVERY).await;
    }
    let mut ran = Ran { nodes, partitions, counts, mishaps: post.mishaps.get(), ..Ran::default() };
    let mut logged = Vec::new();
    let mut at_end = Vec::new();
    for one in all.iter() {
        let (mut observer, told) = (one.observer.take(), one.told.take());
        observer.look_at_end(&one.cluster, &told).await;
        ran.answers += told.answers;
        ran.restored += one.cluster.restored.get();
        let node = one.cluster.ids_in()[0];
        let partition = one.cluster.partition(node).expect("all nodes are alive");
        logged.extend(read_log(&partition, partitions).await);
        at_end.push(partition);
    }
    let pot = striped_accounts()[1].id;
    let (taken, refused) = taken_of(&logged, pot);
    let model = Model::of(logged, partitions);
    let left = model.left_of(pot);
    assert_eq!(taken + left, filled, "what was filled in");
    assert!(refused == 0 || left == 0, "{refused} were refused and {left} of {filled} were left");
    (ran.gathered, ran.emptied) = (model.gathered, u64::from(refused > 0));
    compare(&model, &at_end, &mut Vec::new());
    (ran.accepted, ran.refused) = (model.accepted, model.refused);
    (ran.posted, ran.released, ran.stood) = (model.posted, model.released, model.stood);
    ran.chains = [model.chains, model.chains_refused, model.chains_refused_at_home];
    ran.long_chains = [model.long_chains, model.long_chains_refused, model.long_chains_stopped];
    post.close();
    ran
}

/// With the ledgers of all, borrowed one in the other.
fn compare(model: &Model, rest: &[crate::cluster::SimPartition], ledgers: &mut Vec<&Ledger>) {
    match rest.split_first() {
        None => model.compare(ledgers),
        Some((first, rest)) => first.with_replica(|replica| {
            let mut ledgers = ledgers.clone();
            ledgers.push(replica.ledger());
            compare(model, rest, &mut ledgers);
        }),
    }
}

/// How much was taken of an account, and how many were refused because there was no more.
fn taken_of(logged: &[Logged], account: AccountId) -> (u128, u64) {
    let mut sums = (0, 0);
    for one in logged {
        let Event::Transfer(transfer) = one.event else { continue };
        let is_taken = transfer.debit_account_id.0 as u32 == account.0 as u32
            && transfer.debit_account_id.is_striped()
            && !transfer.flags.contains(TransferFlags::GATHERING);
        match one.verdict {
            Verdict::Ok if is_taken => sums.0 += transfer.amount.0,
            Verdict::ExceedsCredits if is_taken => sums.1 += 1,
            _ => {}
        }
    }
    sums
}

fn is_settled(cluster: &Cluster) -> bool {
    let partitions = cluster.ids_in().into_iter().filter_map(|id| cluster.partition(id));
    partitions.map(|one| one.with_replica(doubts_of)).sum::<usize>() == 0
}

/// Harms the nodes of all partitions, each for itself.
async fn harm(all: &Rc<Vec<One>>, root: &SimRuntime, rng: &mut Rng, profile: Profile) -> Counts {
    let (left, sum) = (Rc::new(Cell::new(all.len())), Rc::new(Cell::new(Counts::default())));
    for one in all.iter() {
        let (cluster, clock, mut own) = (one.cluster.clone(), root.clone(), rng.fork());
        let (left, sum) = (left.clone(), sum.clone());
        let harmed = async move {
            let counts = torment(&cluster, &clock, &mut own, profile).await;
            sum.set(sum.get() + counts);
            left.set(left.get() - 1);
        };
        root.spawn(within(root.clone(), harmed));
    }
    while left.get() > 0 {
        root.sleep(LOOK_EVERY).await;
    }
    sum.get()
}

fn doubts_of(replica: &Replica) -> usize {
    replica.ledger().doubts_len()
}
