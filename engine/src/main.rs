//! Arguments only; the program is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    walengine::cli::run(walengine::cli::Arguments::parse())
}
