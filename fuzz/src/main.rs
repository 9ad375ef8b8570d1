//! Throws mutated bytes at what reads bytes of others: frames from sockets, entries from disks.
//!
//! Runs on the stable toolchain, without instrumented code. In place of coverage each target gives
//! a signature of what came of an input; an input with a new one is mutated further.
//!
//!   cargo run --package walengine-fuzz -- frame --seconds 30 [--seed N]
//!   cargo run --package walengine-fuzz -- frame --replay FILE
//!   cargo run --package walengine-fuzz -- corpus        writes the corpus anew
#![forbid(unsafe_code)]

mod corpus;
mod entry;
mod frame;
mod mutate;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use mutate::Mutator;

/// Inputs kept for further mutation.
const KEPT_MAX: usize = 8192;
/// Longer than any input may take, on a busy machine too.
const INPUT_WITHIN: Duration = Duration::from_secs(5);
const SEED_DEFAULT: u64 = 0x5eed_f022;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Frames of a client, up to what a server answers.
    Frame,
    /// Entries of a log, up to what a ledger makes of them.
    Entry,
    /// Not a target: writes the corpus of both.
    Corpus,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(value_enum)]
    target: Target,
    /// How long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Draws the mutations.
    #[arg(long, default_value_t = SEED_DEFAULT)]
    seed: u64,
    /// Runs this input alone.
    #[arg(long)]
    replay: Option<PathBuf>,
}

/// Something that takes any bytes.
trait Fuzz {
    /// Takes an input, and gives a signature of what came of it.
    fn take(&mut self, input: &[u8]) -> u64;
    /// Makes checksums and lengths right, so that what lies behind them is reached.
    fn repair(input: &mut Vec<u8>);
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.target {
        Target::Frame => run(&arguments, "frame", frame::Server::new),
        Target::Entry => run(&arguments, "entry", entry::Replica::default),
        Target::Corpus => corpus::write(&directory()),
    }
}

/// The corpus, beside this package's manifest.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn run<F: Fuzz>(arguments: &Arguments, name: &str, new: impl Fn() -> F) -> ExitCode {
    let mut target = new();
    if let Some(path) = &arguments.replay {
        let input = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        println!("signature {:016x}", target.take(&input));
        return ExitCode::SUCCESS;
    }
    let mut kept = read_corpus(&directory().join(name));
    let corpus = kept.len();
    let mut mutator = Mutator::new(arguments.seed);
    let mut signatures = HashSet::new();
    let (began, seconds) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let mut inputs = 0_u64;
    while began.elapsed() < seconds {
        // The corpus itself first, as it is.
        let input = match kept.get(inputs as usize) {
            Some(whole) if (inputs as usize) < corpus => whole.clone(),
            _ => {
                let mut input = mutator.mutate(&kept);
                if mutator.repairs() {
                    F::repair(&mut input);
                }
                input
            }
        };
        inputs += 1;
        let started = Instant::now();
        let taken = catch_unwind(AssertUnwindSafe(|| target.take(&input)));
        let took = started.elapsed();
        let Ok(signature) = taken else { return found(name, &input, "it panicked") };
        if took > INPUT_WITHIN {
            return found(name, &input, &format!("it took {took:?}"));
        }
        if signatures.insert(signature) && kept.len() < KEPT_MAX {
            kept.push(input);
        }
    }
    println!(
        "{name}: {inputs} inputs in {} s from {corpus} of the corpus, {} kinds of outcome, seed \
         {:#x}: none did harm",
        arguments.seconds,
        signatures.len(),
        arguments.seed
    );
    ExitCode::SUCCESS
}

/// Keeps an input that did harm, and says how to see it again.
fn found(name: &str, input: &[u8], what: &str) -> ExitCode {
    let path = PathBuf::from(format!("fuzz-{name}-{:08x}", crc32c::crc32c(input)));
    if let Err(error) = fs::write(&path, input) {
        eprintln!("cannot keep the input: {error}; it is {input:02x?}");
    }
    eprintln!("{what}: cargo run --package walengine-fuzz -- {name} --replay {}", path.display());
    ExitCode::FAILURE
}

fn read_corpus(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("the corpus {}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    let inputs: Vec<_> = paths.iter().filter_map(|path| fs::read(path).ok()).collect();
    assert!(!inputs.is_empty(), "the corpus {} is empty", directory.display());
    inputs
}
