//! Feeds mutated bytes to the code that reads untrusted bytes: frames from sockets, entries from
//! disks.
//!
//! Runs on the stable toolchain, without instrumented code. In place of coverage, each target
//! returns a signature of an input's effects. An input with a new signature is mutated further.
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
/// Longer than any input may take, even on a busy machine.
const INPUT_WITHIN: Duration = Duration::from_secs(5);
const SEED_DEFAULT: u64 = 0x5eed_f022;

/// Fuzz target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Frames of a client, up to a server's answers.
    Frame,
    /// Entries of a log, up to a ledger's decisions.
    Entry,
    /// Not a target: writes the corpus of both.
    Corpus,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(value_enum)]
    target: Target,
    /// How long to run.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seed of the mutations.
    #[arg(long, default_value_t = SEED_DEFAULT)]
    seed: u64,
    /// Runs only this input.
    #[arg(long)]
    replay: Option<PathBuf>,
}

/// Code that accepts any bytes.
trait Fuzz {
    /// Takes an input and returns a signature of its effects.
    fn take(&mut self, input: &[u8]) -> u64;
    /// Corrects checksums and lengths, so that the code after these checks is reached.
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
        // First the corpus itself, unchanged.
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

/// Keeps a harmful input, and prints how to replay it.
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
