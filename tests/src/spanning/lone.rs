//! Lives of a node that serves three partitions alone and loses power at any moment: what it has said of money between
//! them, it shows from its next start on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use walengine::across::{Letters, NoForward, run_courier, take_letters};
use walengine::data_dir::create_partition;
use walengine::ledger::Outcomes;
use walengine::partition::commit::Commit as _;
use walengine::partition::opening;
use walengine::runtime::Runtime as _;
use walengine::storage::disk::Disk as _;
use walengine::storage::layout::Superblock;
use walengine_net::client::Chain;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventId, LedgerId, PartitionId, Transfer,
    Verdict,
};

use crate::lone_partition::{self, DATA, LoneCommit};
use crate::noted_writes::accounts_of;
use crate::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime};

type Partition = walengine::partition::Partition<LoneCommit<SimDisk>>;

const PARTITIONS: u16 = 3;
const LIVES: u64 = 8;
const WRITERS: u64 = 6;
/// Longest life under load.
const LIFE_MICROS_MAX: u64 = 60_000;
/// Longer than anything takes that is not stuck.
const LONG: Duration = Duration::from_secs(20);

/// What one seed came across.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lived {
    /// Transfers between the partitions that were acknowledged.
    pub acknowledged: u64,
    /// Of these, such in chains over all three.
    pub chained: u64,
    /// And such whose words were not on the disk yet when the power failed.
    pub lost_words: u64,
    /// Starts that had to ask the other partition.
    pub asked: u64,
}

/// Sums by account.
type Sums = BTreeMap<AccountId, u128>;

/// What clients know.
#[derive(Default)]
struct Known {
    /// By the account that pays.
    acknowledged: Sums,
    /// Sent, acknowledged or not.
    sent: Sums,
    /// Since the last start: home, and id.
    lately: Vec<(usize, EventId)>,
    /// Of these, how many were in chains over all partitions.
    chained: u64,
}

/// Runs all lives of one seed.
///
/// # Panics
/// If the node shows something else than it has said.
pub fn run_lone(seed: u64) -> Lived {
    let mut rng = Rng::new(seed);
    let (mut lived, mut clock) = (Lived::default(), Duration::ZERO);
    let known: Rc<RefCell<Known>> = Rc::default();
    let mut left: Option<SimDisk> = None;
    for life in 0..LIVES {
        let executor = SimExecutor::new(rng.next_u64(), Order::Random);
        let runtime = executor.runtime();
        runtime.jump_wall(i64::try_from(clock.as_nanos()).expect("centuries"));
        let seed = rng.next_u64();
        let disk = match &left {
            Some(disk) => disk.crash(&runtime, seed),
            None => SimDisk::new(&runtime, seed),
        };
        let live = async {
            if life == 0 {
                format(&runtime, &disk).await;
            }
            let partitions = start(&runtime, &disk).await;
            lived.asked += partitions.iter().filter(|one| one.is_asking()).count() as u64;
            if life == 0 {
                create_accounts(&partitions).await;
            }
            check(&runtime, &partitions, &known).await;
            known.borrow_mut().lately.clear();
            known.borrow_mut().chained = 0;
            for writer in 0..WRITERS {
                let series = u128::from(life * WRITERS + writer + 1) << 64;
                let write = write(partitions.clone(), rng.fork(), series, known.clone());
                runtime.spawn(write);
            }
            runtime.sleep(Duration::from_micros(rng.below(LIFE_MICROS_MAX))).await;
            let known = known.borrow();
            lived.acknowledged += known.lately.len() as u64;
            lived.chained += known.chained;
            lived.lost_words +=
                known.lately.iter().filter(|it| !is_settled(&partitions, **it)).count() as u64;
        };
        executor.block_on(live).expect("a healthy machine");
        clock += runtime.elapsed();
        left = Some(disk);
    }
    lived
}

/// The word on it is visible.
fn is_settled(partitions: &[Partition], (home, id): (usize, EventId)) -> bool {
    let home = &partitions[home];
    let ended = home.with_ledger(|ledger| ledger.ended(id)).expect("it was acknowledged");
    ended.offset < home.visible_offset()
}

fn superblock() -> Superblock {
    Superblock { partitions: PARTITIONS, ..lone_partition::superblock() }
}

async fn format(runtime: &SimRuntime, disk: &SimDisk) {
    let (data, superblock) = (Path::new(DATA), superblock());
    for partition in (0..PARTITIONS).map(PartitionId) {
        let created = create_partition(disk, runtime.clone(), data, &superblock, partition);
        created.await.expect("an empty disk");
    }
    disk.sync_dir(data).await.expect("a healthy disk");
    disk.sync_dir(Path::new("/")).await.expect("a healthy disk");
}

/// As a node does.
async fn start(runtime: &SimRuntime, disk: &SimDisk) -> Vec<Partition> {
    let (letters, superblock) = (Letters::new(PARTITIONS), superblock());
    let mut partitions = Vec::new();
    for partition in (0..PARTITIONS).map(PartitionId) {
        let (disk, data) = (disk.clone(), Path::new(DATA));
        let opened = opening::open(disk, runtime.clone(), data, &superblock, partition, 4);
        let opened = opened.await.unwrap_or_else(|fatal| panic!("{partition}: {fatal}"));
        let opened = opened.serve_alone().await;
        partitions.push(opened.unwrap_or_else(|fatal| panic!("{partition}: {fatal}")));
    }
    for partition in &partitions {
        let id = partition.id().partition;
        let received = letters.of(id);
        partition.spawn(|partition| take_letters(partition, received, NoForward));
        for to in (0..PARTITIONS).map(PartitionId).filter(|to| *to != id) {
            let way = letters.to(to);
            partition.spawn(|partition| run_courier(partition, to, way, NoForward));
        }
    }
    partitions
}

async fn create_accounts(partitions: &[Partition]) {
    for partition in partitions {
        let accounts = accounts_of(partition.id().partition, PARTITIONS);
        let events: Vec<_> = accounts
            .iter()
            .map(|account| Account { flags: AccountFlags::default(), ..*account }.to_bytes())
            .collect();
        partition.submit(&events, &mut Outcomes::default()).expect("there is room");
        partition.until_visible().await.expect("a healthy disk");
    }
}

fn transfer(rng: &mut Rng, id: u128, from: usize, to: usize) -> Transfer {
    let account = |partition: usize, rng: &mut Rng| {
        let accounts = accounts_of(PartitionId(partition as u16), PARTITIONS);
        accounts[rng.index(accounts.len())].id
    };
    Transfer {
        id: EventId(id),
        debit_account_id: account(from, rng),
        credit_account_id: account(to, rng),
        amount: Amount(u128::from(rng.between(1, 9))),
        ledger: LedgerId(1),
        code: Code(1),
        ..Transfer::default()
    }
}

/// Pays from one partition to the others, again and again.
async fn write(partitions: Vec<Partition>, mut rng: Rng, series: u128, known: Rc<RefCell<Known>>) {
    let mut ways = [0, 1, 2];
    for number in 1.. {
        rng.shuffle(&mut ways);
        let [home, other, last] = ways;
        let id = series | number << 8;
        if rng.percent(25) {
            let way = [(home, other), (other, last), (home, last)];
            let paid: Vec<Transfer> = way
                .iter()
                .zip(id..)
                .map(|((from, to), id)| transfer(&mut rng, id, *from, *to))
                .collect();
            pay_in_chain(&partitions[home], &mut rng, &paid, &known).await;
            let mut known = known.borrow_mut();
            known.lately.extend(paid.iter().map(|transfer| (home, transfer.id)));
            known.chained += paid.len() as u64;
            continue;
        }
        let transfer = transfer(&mut rng, id, home, other);
        let payer = transfer.debit_account_id;
        let (events, mut outcomes) = ([transfer.to_bytes()], Outcomes::default());
        *known.borrow_mut().sent.entry(payer).or_default() += transfer.amount.0;
        partitions[home].submit(&events, &mut outcomes).expect("there is room");
        let doubts = partitions[home].doubts_of(&events, &outcomes);
        assert!(!doubts.is_empty(), "it spans: {outcomes:?}");
        partitions[home].settled(&doubts, &mut outcomes, LONG).await.expect("a word");
        assert_eq!(outcomes[0].verdict, Verdict::Ok);
        let placed = outcomes[0].offset.expect("it has a record");
        assert!(partitions[home].commit().answers_at_word());
        assert!(
            placed < partitions[home].visible_offset(),
            "the word is there before the transfer"
        );
        let (other, other_id) = (&partitions[other], PartitionId(other as u16));
        let token = partitions[home].newest_heard_of(other_id).expect("it has given a word");
        assert!(token < other.visible_offset(), "the other side may be lost");
        let has_arrived = other.with_ledger(|ledger| ledger.last_place(PartitionId(home as u16)));
        assert!(has_arrived >= placed.0);
        let mut known = known.borrow_mut();
        *known.acknowledged.entry(payer).or_default() += transfer.amount.0;
        known.lately.push((home, transfer.id));
    }
}

/// Sends a chain that is handed on and, now and then, its last event again by itself; whichever is answered.
async fn pay_in_chain(
    home: &Partition,
    rng: &mut Rng,
    paid: &[Transfer],
    known: &Rc<RefCell<Known>>,
) {
    for transfer in paid {
        let mut known = known.borrow_mut();
        *known.sent.entry(transfer.debit_account_id).or_default() += transfer.amount.0;
    }
    let chain = paid.iter().copied().fold(Chain::new(), Chain::transfer).events();
    let (mut outcomes, mut asked) = (Outcomes::default(), &chain[..]);
    home.submit(asked, &mut outcomes).expect("there is room");
    if rng.percent(40) {
        asked = &chain[chain.len() - 1..];
        outcomes.clear();
        home.submit(asked, &mut outcomes).expect("there is room");
    }
    let doubts = home.doubts_of(asked, &outcomes);
    assert!(!doubts.is_empty(), "it spans: {outcomes:?}");
    home.settled(&doubts, &mut outcomes, LONG).await.expect("an outcome");
    assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok()), "{outcomes:?}");
    // As an answer does.
    if !home.has_logged_outcomes() {
        home.until_visible().await.expect("a healthy disk");
    }
    for transfer in paid {
        let mut known = known.borrow_mut();
        *known.acknowledged.entry(transfer.debit_account_id).or_default() += transfer.amount.0;
    }
}

/// As a client that reads from the leader.
async fn check(runtime: &SimRuntime, partitions: &[Partition], known: &Rc<RefCell<Known>>) {
    for (home, partition) in partitions.iter().enumerate() {
        let barrier = async {
            partition.read_barrier().await.expect("a healthy disk");
            true
        };
        let late = async {
            runtime.sleep(LONG).await;
            false
        };
        assert!(
            futures_lite::future::or(barrier, late).await,
            "partition {home} is never readable"
        );
        assert!(partition.is_readable());
        let known = known.borrow();
        partition.with_ledger(|ledger| {
            for account in accounts_of(partition.id().partition, PARTITIONS) {
                let id = account.id;
                let of = |sums: &Sums| sums.get(&id).copied().unwrap_or_default();
                let posted = ledger.account(id).expect("it was created").debits_posted.0;
                let (least, most) = (of(&known.acknowledged), of(&known.sent));
                assert!(
                    (least..=most).contains(&posted),
                    "{id} has {posted} posted, {least} was acknowledged and {most} sent"
                );
            }
            for (_, id) in known.lately.iter().filter(|(at, _)| *at == home) {
                assert!(!ledger.is_in_doubt(*id), "{id} was answered");
            }
        });
    }
}
