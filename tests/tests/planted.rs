//! Does the simulation find bugs that are planted on purpose? Only with the feature `planted`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use walengine::planted::{Bug, plant};
use walengine_tests::cluster::{Profile, run};

/// A bug must be found in so many seeds.
const SEEDS_MAX: u64 = 500;
const THREADS: u64 = 2;

const ELECTIONS: Profile = Profile {
    crash: 6,
    crash_in_operation: 2,
    blackout: 2,
    pause: 1,
    resume: 1,
    cut: 2,
    heal: 2,
    weather: 1,
    between_millis_max: 150,
};

const BLACKOUTS: Profile = Profile { blackout: 8, ..Profile::MIXED };
const CUTS: Profile = Profile { cut: 8, heal: 4, pause: 4, resume: 3, ..Profile::MIXED };

/// First seed that finds the bug, and what it says.
fn finds(bug: Bug, profile: Profile) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let found = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                plant(Some(bug));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS_MAX || !found.lock().unwrap().is_empty() {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, profile))) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        found.lock().unwrap().push((seed, text));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap().into_iter().min()
}

#[test]
fn every_planted_bug_is_found() {
    let bugs = [
        (Bug::AcknowledgeBeforeFlush, BLACKOUTS),
        (Bug::VoteNotFlushed, ELECTIONS),
        (Bug::LeaderRestore, ELECTIONS),
        (Bug::StaleLeaderRead, CUTS),
        (Bug::DecisionsNotTakenBack, CUTS),
    ];
    let found: Vec<_> = bugs.map(|(bug, profile)| (bug, finds(bug, profile))).into();
    for (bug, found) in &found {
        match found {
            Some((seed, why)) => {
                let why = why.lines().next().unwrap_or_default();
                println!("{bug:?}: seed {seed}: {why}");
            }
            None => println!("{bug:?}: not found in {SEEDS_MAX} seeds"),
        }
    }
    assert!(found.iter().all(|(_, found)| found.is_some()), "a bug was not found");
}
