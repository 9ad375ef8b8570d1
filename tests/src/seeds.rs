//! Runs a simulation once for each seed, on several threads, and says how to replay a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Seeds that a test runs if `WALENGINE_SIM_SEEDS` does not say another number.
pub const SEEDS_DEFAULT: u64 = 2000;
/// Threads that share the seeds; the machine that counts has two cores.
const THREADS: usize = 2;
const COUNT_VARIABLE: &str = "WALENGINE_SIM_SEEDS";
const SEED_VARIABLE: &str = "WALENGINE_SIM_SEED";

/// Runs `one` for each seed and returns what it gave, in order of seed. With `WALENGINE_SIM_SEED`
/// set, for that seed alone.
///
/// # Panics
/// At the first seed that panics; the message ends with the command that replays `test` with it.
pub fn each_seed<T: Send>(test: &str, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    each_of(test, count(SEEDS_DEFAULT), one)
}

/// What `WALENGINE_SIM_SEEDS` says, or `default`.
pub fn count(default: u64) -> u64 {
    number(COUNT_VARIABLE).unwrap_or(default)
}

/// As [`each_seed`], with `count` seeds whatever `WALENGINE_SIM_SEEDS` says.
///
/// # Panics
/// As [`each_seed`].
pub fn each_of<T: Send>(test: &str, count: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    if let Some(seed) = number(SEED_VARIABLE) {
        return vec![one(seed)];
    }
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let outputs = Mutex::new(Vec::new());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| one(seed))) {
                        Ok(output) => outputs.lock().unwrap().push((seed, output)),
                        Err(panic) => {
                            failed.store(true, Ordering::Relaxed);
                            failures.lock().unwrap().push((seed, text(&*panic)));
                        }
                    }
                }
            });
        }
    });
    if let Some((seed, message)) = failures.into_inner().unwrap().into_iter().min() {
        panic!("seed {seed}: {message}\nreplay: {}", replay(test, seed));
    }
    let mut outputs = outputs.into_inner().unwrap();
    outputs.sort_by_key(|(seed, _)| *seed);
    outputs.into_iter().map(|(_, output)| output).collect()
}

/// The first of `seeds` with which `one` panics, and its message.
pub fn first_failure(
    mut seeds: impl Iterator<Item = u64>,
    one: impl Fn(u64),
) -> Option<(u64, String)> {
    seeds.find_map(|seed| {
        catch_unwind(AssertUnwindSafe(|| one(seed))).err().map(|panic| (seed, text(&*panic)))
    })
}

/// The command that runs `test` with one seed.
pub fn replay(test: &str, seed: u64) -> String {
    format!("{SEED_VARIABLE}={seed} cargo test -p walengine-tests --test walengine -- {test}")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "panicked without words".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_runs_once_and_in_order_of_output() {
        assert_eq!(
            each_of("crash::x", 50, |seed| seed * 2),
            (0..50).map(|n| n * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn failure_names_seed_and_command() {
        let failing = || each_of("crash::x", 50, |seed| assert!(seed != 7, "lost entry 3"));
        let panic = catch_unwind(failing).unwrap_err();
        let message = text(&*panic);
        assert!(
            message.starts_with("seed 7: lost entry 3\nreplay: WALENGINE_SIM_SEED=7 cargo test")
        );
        assert!(message.ends_with("-- crash::x"));
        let found = first_failure(0..50, |seed| assert!(seed < 9, "gone"));
        assert_eq!(found, Some((9, "gone".into())));
    }
}
