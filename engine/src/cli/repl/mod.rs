//! `repl`: the verbs without `walengine` before them, line by line.

mod words;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use walengine_net::{cli, say_aside};

use super::asking::Asking;
use super::output::{Format, NAME};
use crate::fatal::{Fatal, Reason};
use crate::limits::REPL_HISTORY_MAX;
use crate::private_files::create_dir;
use words::{completions, words};

/// What may be said here: what asks a server and ends by itself. Files are for the shell.
const VERBS: [&str; 14] = [
    "account",
    "accounts",
    "balance",
    "capacity",
    "cluster",
    "digest",
    "health",
    "log",
    "pending",
    "post",
    "statement",
    "status",
    "transfer",
    "void",
];
const PROMPT: &str = "walengine> ";

/// Say verbs line by line, with history and completion
///
/// The verbs that ask a server, without `walengine` before them: transfer alice bob 500, balance alice, and
/// so on; `help` and `transfer --help` tell more. --server, --tls, --timeout and --format of this command
/// hold for each line that does not say otherwise. Ctrl-D or `exit` ends it.
///
/// The history is kept in `$XDG_STATE_HOME/walengine`, for its owner alone; a line that begins with a blank is
/// not. Lines may also come from a pipe: then the first one that fails is the last, and gives the exit code.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep no history
    #[arg(long)]
    no_history: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Reads lines of what `command` has, and has them carried out.
pub fn run(
    arguments: &Arguments,
    command: &clap::Command,
    carry_out: impl Fn(Vec<String>) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .history_ignore_space(true)
        .max_history_size(REPL_HISTORY_MAX);
    let config = config.map_err(|error| terminal(&error))?.build();
    let mut editor: Editor<Verbs, FileHistory> =
        Editor::with_config(config).map_err(|error| terminal(&error))?;
    editor.set_helper(Some(Verbs(command.clone())));
    let is_asked = io::stdin().is_terminal();
    let history = if arguments.no_history || !is_asked { None } else { history_file() };
    if let Some(history) = &history {
        let _ = editor.load_history(history); // there is none at first
    }
    let result = loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                let _ = editor.add_history_entry(&line); // a line more or less
                match said(&line, command, &arguments.asking, &carry_out) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(fatal) if is_asked => cli::print(NAME, &fatal),
                    Err(fatal) => break Err(fatal),
                }
            }
            Err(ReadlineError::Interrupted) => {} // the line is given up, as in a shell
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(terminal(&error)),
        }
    };
    if let Some(history) = &history
        && let Err(error) = editor.save_history(history)
    {
        say_aside!("the history was not kept: {error}");
    }
    result
}

/// Carries out a line. False if it is the last.
fn said(
    line: &str,
    command: &clap::Command,
    asking: &Asking,
    carry_out: &impl Fn(Vec<String>) -> Result<(), Fatal>,
) -> Result<bool, Fatal> {
    let usage = |message: String| Fatal::new(Reason::Usage, message);
    let words = words(line).map_err(|why| usage(why.to_owned()))?;
    let verb = match words.first().map(String::as_str) {
        None => return Ok(true),
        Some("exit" | "quit") => return Ok(false),
        Some("help") => {
            say_aside!("{}, exit; each has --help", VERBS.join(", "));
            return Ok(true);
        }
        Some(verb) => verb,
    };
    if !VERBS.contains(&verb) {
        return Err(usage(format!("there is no {verb} here; `help` tells what there is")));
    }
    carry_out(with_connection(command, &words, asking))?;
    Ok(true)
}

/// The line as the program would get it: with what was said at the start of all lines, unless the line says it.
fn with_connection(command: &clap::Command, words: &[String], asking: &Asking) -> Vec<String> {
    let mut leaf = command;
    for word in words {
        match leaf.find_subcommand(word) {
            Some(below) => leaf = below,
            None => break,
        }
    }
    let tls = asking.tls.as_ref().map(|tls| tls.display().to_string());
    let format = match asking.format {
        Format::Text => "text",
        Format::Json => "json",
        Format::Csv => "csv",
    };
    let given = [
        ("server", Some(asking.server.clone())),
        ("tls", tls),
        ("timeout", Some(asking.timeout.to_string())),
        ("format", Some(format.to_owned())),
    ];
    let literal = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let mut line = vec![NAME.to_owned()];
    line.extend_from_slice(&words[..literal]);
    for (name, value) in given {
        let is_known = leaf.get_arguments().any(|argument| argument.get_long() == Some(name));
        let flag = format!("--{name}");
        let says = |word: &String| *word == flag || word.starts_with(&format!("{flag}="));
        if let (true, Some(value)) = (is_known && !words.iter().any(says), value) {
            line.extend([flag, value]);
        }
    }
    line.extend_from_slice(&words[literal..]);
    line
}

/// Where the history is kept; `None` if there is no place for it.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let dir = state.or_else(home)?.join(NAME);
    create_dir(&dir).ok()?;
    Some(dir.join("history"))
}

fn terminal(error: &ReadlineError) -> Fatal {
    Fatal::new(Reason::File, format!("cannot read from the terminal: {error}"))
}

/// Completes verbs and their flags.
struct Verbs(clap::Command);

impl Completer for Verbs {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (begin, found) = completions(&self.0, &VERBS, &line[..at]);
        let pair = |text: String| Pair { display: text.trim_end().to_owned(), replacement: text };
        Ok((begin, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Verbs {
    type Hint = String;
}
impl Highlighter for Verbs {}
impl Validator for Verbs {}
impl Helper for Verbs {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli;

    fn asking(format: Format) -> Asking {
        Asking { server: "10.0.0.1:7450".into(), tls: None, timeout: 3, format }
    }

    fn line(text: &str, format: Format) -> String {
        with_connection(&cli::Arguments::command(), &words(text).unwrap(), &asking(format))
            .join(" ")
    }

    #[test]
    fn each_line_asks_the_server_that_was_named_at_the_start() {
        let all = "--server 10.0.0.1:7450 --timeout 3 --format json";
        assert_eq!(line("balance a", Format::Json), format!("walengine balance a {all}"));
        assert_eq!(
            line("account create a --format=csv", Format::Json),
            "walengine account create a --format=csv --server 10.0.0.1:7450 --timeout 3"
        );
        assert_eq!(
            line("account -- create", Format::Json),
            format!("walengine account {all} -- create")
        );
    }

    #[test]
    fn what_is_no_verb_is_refused_and_nothing_is_done() {
        let command = cli::Arguments::command();
        let parsed = |words: Vec<String>| match cli::parsed(words)? {
            None => Ok(()),
            Some(_) => panic!("done"),
        };
        let said = |text: &str| said(text, &command, &asking(Format::Text), &parsed);
        assert!(matches!(said("exit"), Ok(false)));
        assert!(matches!(said("  "), Ok(true)));
        assert!(matches!(said("help"), Ok(true)));
        for wrong in ["restore a b", "transfer", "transfer a b", "balance a --nothing", "\"x"] {
            assert_eq!(said(wrong).unwrap_err().reason, Reason::Usage, "{wrong}");
        }
    }

    #[test]
    fn every_verb_is_a_command() {
        let command = cli::Arguments::command();
        assert!(VERBS.iter().all(|verb| command.find_subcommand(verb).is_some()));
    }
}
