//! Memory and speed of the ledger alone: `cargo run --release --example ledger_footprint`.
//!
//! Creates 1 M accounts and 10 M transfers with random ids, and prints what they cost by the
//! process's resident memory (from `/proc/self/statm`), decisions per second on this core, the
//! longest batch, and what a snapshot and a restore take. Arguments: accounts and transfers.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::time::{Duration, Instant};

use walengine::ledger::{Draft, Ledger, Outcomes};
use walengine::sample::chance::Chance;
use walengine_net::model::{
    Account, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset, PartitionId,
    Timestamp, Transfer,
};

const BATCH: usize = 8190;
const HOT_ACCOUNTS: u64 = 10_000;
const CHUNK_BYTES: usize = 1 << 20;
/// `getconf PAGESIZE` on x86-64.
const PAGE_BYTES: usize = 4096;

fn id(random: &mut Chance) -> u128 {
    u128::from(random.bits()) << 64 | u128::from(random.bits())
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// Nanoseconds that this process has run, from `/proc/self/schedstat`: what other processes take
/// from the machine does not count, as far as caches allow.
fn cpu_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0)
}

struct Bench {
    cpu_nanos: f64,
    ledger: Ledger,
    draft: Draft,
    outcomes: Outcomes,
    batches: Vec<Duration>,
}

impl Bench {
    fn submit(&mut self, events: &[EventBytes]) {
        let (start, cpu) = (Instant::now(), cpu_nanos());
        self.ledger.submit(events, &mut self.draft, Timestamp(1), &mut self.outcomes);
        let taken = start.elapsed();
        self.batches.push(taken);
        self.cpu_nanos += cpu_nanos() - cpu;
        assert!(self.outcomes.iter().all(|outcome| outcome.verdict.is_ok()));
        self.ledger.release(self.ledger.next_offset());
        self.draft.clear();
        self.outcomes.clear();
    }

    fn report(&mut self, what: &str, events: usize) {
        self.batches.sort_unstable();
        let median = self.batches[self.batches.len() / 2];
        let longest = self.batches[self.batches.len() - 1];
        println!(
            "{what}: {:.0} ns of CPU each; batch of {BATCH}: median {:.2} ms ({:.2} M/s), longest {:.2} ms",
            self.cpu_nanos / events as f64,
            median.as_secs_f64() * 1e3,
            BATCH as f64 / median.as_secs_f64() / 1e6,
            longest.as_secs_f64() * 1e3,
        );
        self.cpu_nanos = 0.0;
        self.batches.clear();
    }
}

/// An id in book 0, as all accounts of this program have.
fn account_id(number: u64) -> AccountId {
    AccountId(u128::from(Chance(number).bits()) | 1 << 64)
}

fn transfers(random: &mut Chance, batch: &mut Vec<EventBytes>, accounts: u64) {
    batch.clear();
    for _ in 0..BATCH {
        let debit = random.bits() % accounts;
        let credit = (debit + 1 + random.bits() % (accounts - 1)) % accounts;
        let transfer = Transfer {
            id: EventId(id(random)),
            debit_account_id: account_id(debit),
            credit_account_id: account_id(credit),
            amount: Amount(u128::from(random.bits() % 1000 + 1)),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        };
        batch.push(transfer.to_bytes());
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let accounts = arguments.next().unwrap_or(1_000_000);
    let count = arguments.next().unwrap_or(10_000_000);
    let mut random = Chance(42);
    let mut bench = Bench {
        ledger: Ledger::new(PartitionId(0), 1),
        draft: Draft::new(),
        outcomes: Outcomes::new(),
        cpu_nanos: 0.0,
        batches: Vec::new(),
    };
    let mut batch = Vec::with_capacity(BATCH);
    let create = |number: u64| {
        let id = account_id(number);
        let account = Account { id, ledger: LedgerId(1), code: Code(1), ..Account::default() };
        account.to_bytes()
    };
    // The buffers that every ledger shares are there before the measurement starts.
    bench.draft.body.events.reserve(BATCH);
    bench.draft.body.events.resize(BATCH, [1; 128]);
    bench.draft.clear();
    batch.extend((0..BATCH as u64).map(create));
    bench.submit(&batch);
    let empty = resident_bytes();

    for first in (BATCH as u64..accounts).step_by(BATCH) {
        batch.clear();
        batch.extend((first..accounts.min(first + BATCH as u64)).map(create));
        bench.submit(&batch);
    }
    bench.report("accounts", accounts as usize);
    let with_accounts = resident_bytes();
    println!(
        "  {:.1} bytes for each account, its remembered id included",
        (with_accounts - empty) as f64 / (accounts - BATCH as u64) as f64
    );

    let batches = count.div_ceil(BATCH as u64);
    for _ in 0..batches {
        transfers(&mut random, &mut batch, HOT_ACCOUNTS.min(accounts));
        bench.submit(&batch);
    }
    let submitted = batches as usize * BATCH;
    bench.report("transfers between 10,000 accounts, fresh random ids", submitted);
    let bytes = (resident_bytes() - with_accounts) as f64 / submitted as f64;
    println!("  {bytes:.1} bytes for each remembered id");

    for _ in 0..200 {
        transfers(&mut random, &mut batch, accounts);
        bench.submit(&batch);
    }
    bench.report("transfers between all accounts", 200 * BATCH);
    measure_snapshot(&mut bench, &mut random, &mut batch, accounts);
}

fn measure_snapshot(
    bench: &mut Bench,
    random: &mut Chance,
    batch: &mut Vec<EventBytes>,
    accounts: u64,
) {
    let digest = bench.ledger.digest();
    let start = Instant::now();
    let mut cut = bench.ledger.snapshot();
    println!("snapshot: cut {:.0} us", start.elapsed().as_secs_f64() * 1e6);
    let (mut chunks, mut longest, mut total) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    loop {
        let start = Instant::now();
        let chunk = cut.next_chunk(&bench.ledger, CHUNK_BYTES);
        let taken = start.elapsed();
        (longest, total) = (longest.max(taken), total + taken);
        let Some(chunk) = chunk else { break };
        chunks.push(chunk);
        if chunks.len() % 4 == 0 {
            transfers(random, batch, accounts);
            bench.submit(batch);
        }
    }
    let submitted = chunks.len() / 4 * BATCH;
    println!(
        "  {} chunks, {} MiB, {:.2} s in all, longest chunk {:.2} ms",
        chunks.len(),
        chunks.iter().map(Vec::len).sum::<usize>() >> 20,
        total.as_secs_f64(),
        longest.as_secs_f64() * 1e3
    );
    drop(cut);
    bench.report("  transfers meanwhile, between all accounts", submitted);
    let start = Instant::now();
    let restored = Ledger::restore(PartitionId(0), 1, &chunks).expect("own snapshot");
    println!("restore: {:.2} s", start.elapsed().as_secs_f64());
    assert!(
        restored.next_offset() < bench.ledger.next_offset() || restored.next_offset() == Offset(0)
    );
    assert_eq!(restored.digest(), digest, "restored state is the state at the cut");
}
