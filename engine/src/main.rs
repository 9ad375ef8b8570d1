//! Arguments only; the program is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    walengine_net::cli::arguments().map_or_else(|code| code, walengine::cli::run)
}
