//! Arguments only; the program is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match walengine::cli::arguments() {
        Ok(arguments) => walengine::cli::run(arguments),
        Err(code) => code,
    }
}
