//! Arguments only; the program is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match walengine_projector::cli::arguments() {
        Ok(arguments) => walengine_projector::cli::run(arguments),
        Err(code) => code,
    }
}
