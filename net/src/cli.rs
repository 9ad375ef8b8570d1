//! What the programs' command lines share: how arguments are read, and how a program ends.

mod fatal;
mod logging;
pub mod manual;
mod process;
mod streams;
pub mod supervisor;

use std::io::{self, Write as _};
use std::process::ExitCode;

pub use fatal::{Fatal, Reason};
pub use logging::{LogFormat, LogLevel, begin_log};
pub use process::{end_on_panic, keep_private};
pub use streams::{LogLines, ask, say, say_aside, say_last, show, unwritten};

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
        let written = error.print().and_then(|()| io::stdout().flush());
        return Err(match written.map_err(|error| unwritten(&error)) {
            // Help that nobody reads is no failure; that it can't be written is one.
            Err(fatal) if fatal.reason != Reason::NoReader => {
                end(A::command().get_name(), Err(fatal))
            }
            _ => ExitCode::SUCCESS,
        });
    }
    let command = A::command();
    let program = command.get_name();
    let told = redacted(&one_line(program, &error.to_string()));
    say_last(format_args!("{program}: {told} (see --help)"));
    Err(ExitCode::from(Reason::Usage as u8))
}

/// The argument parser's text without headings, usage and line breaks.
pub fn one_line(program: &str, text: &str) -> String {
    let usage = format!("{program} ");
    let told = text.lines().map(str::trim).filter(|line| {
        let noise = ["Usage:", &usage, "For more information"];
        !line.is_empty() && !noise.iter().any(|start| line.starts_with(start))
    });
    let told = told.collect::<Vec<_>>().join(" ");
    told.trim_start_matches("error: ").replace(" tip: ", "; ")
}

/// A text without the passwords in it: those of URLs, and values of settings that are called so.
pub fn redacted(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        safe.push_str(before);
        // A password may hold anything, so the login ends at the last @ of the word.
        let word = behind.find(|letter: char| letter.is_whitespace()).unwrap_or(behind.len());
        let end = behind[..word].rfind('@').unwrap_or(0);
        let (login, further) = behind.split_at(end);
        match login.split_once(':') {
            Some((user, _)) => safe.extend([user, ":***"]),
            None => safe.push_str(login),
        }
        rest = further;
    }
    safe.push_str(rest);
    for name in ["password=", "password =", "sslpassword="] {
        let mut from = 0;
        while let Some(at) = safe[from..].find(name) {
            let begin = from + at + name.len();
            let value = &safe[begin..];
            let spaces = value.len() - value.trim_start().len();
            let quoted = value[spaces..].starts_with('\'');
            let end = if quoted {
                value[spaces + 1..].rfind('\'').map_or(value.len(), |at| spaces + 1 + at + 1)
            } else {
                let ends = |letter: char| letter.is_whitespace() || letter == '&';
                value[spaces..].find(ends).map_or(value.len(), |at| spaces + at)
            };
            safe.replace_range(begin..begin + end, "***");
            from = begin + 3;
        }
    }
    safe
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

    #[test]
    fn no_password_is_repeated() {
        for (text, safe) in [
            ("'postgres://u:hunter2@h/d' found", "'postgres://u:***@h/d' found"),
            ("postgres://u:hun@ter2@h:1/d?x=y and", "postgres://u:***@h:1/d?x=y and"),
            ("postgres://u@h/d http://h/", "postgres://u@h/d http://h/"),
            ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
            ("password='hun ter2' user=u", "password=*** user=u"),
            ("password = hunter2", "password =***"),
            ("postgres://h/d?password=hunter2&x=y", "postgres://h/d?password=***&x=y"),
            ("plain", "plain"),
        ] {
            assert_eq!(redacted(text), safe);
        }
    }
}
