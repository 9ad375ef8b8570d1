//! What the programs' command lines share: how arguments are read, and how a program ends.

mod fatal;
mod process;
mod streams;

use std::process::ExitCode;

pub use fatal::{Fatal, Reason};
pub use process::{end_on_panic, keep_private};
pub use streams::{LogLines, ask, say, say_aside, say_last, unwritten};

/// Reads the command line. Prints help and version. A mistake is told in one line, as all errors
/// are, with what was probably meant.
///
/// # Errors
/// The exit code, once everything has been printed.
pub fn arguments<A: clap::Parser>() -> Result<A, ExitCode> {
    let error = match A::try_parse() {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // Help that nobody reads is no failure.
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    let command = A::command();
    let program = command.get_name();
    say_last(format_args!("{program}: {} (see --help)", one_line(program, &error.to_string())));
    Err(ExitCode::from(Reason::Usage as u8))
}

/// The argument parser's text without headings, usage and line breaks.
fn one_line(program: &str, text: &str) -> String {
    let usage = format!("{program} ");
    let told = text.lines().map(str::trim).filter(|line| {
        let noise = ["Usage:", &usage, "For more information"];
        !line.is_empty() && !noise.iter().any(|start| line.starts_with(start))
    });
    let told = told.collect::<Vec<_>>().join(" ");
    told.trim_start_matches("error: ").replace(" tip: ", "; ")
}

/// Prints the error of a program in one line.
pub fn print(program: &str, fatal: &Fatal) {
    if fatal.reason != Reason::NoReader {
        say_last(format_args!("{program}: {fatal}"));
    }
}

/// Prints the error of a program, if there is one, and gives its exit code. That standard output
/// could not be written is an error, too, but never hides another one.
pub fn end(program: &str, result: Result<(), Fatal>) -> ExitCode {
    match result.and(streams::stdout_error().map_or(Ok(()), Err)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            print(program, &fatal);
            ExitCode::from(fatal.reason as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "program")]
    struct Arguments {
        #[arg(long)]
        server: Option<String>,
    }

    #[test]
    fn a_mistake_is_one_line_with_what_was_meant() {
        let error = Arguments::try_parse_from(["program", "--servr", "x"]).unwrap_err();
        assert_eq!(
            one_line("program", &error.to_string()),
            "unexpected argument '--servr' found; a similar argument exists: '--server'"
        );
    }
}
