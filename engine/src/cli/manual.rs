//! `completions` and `man`: what shells and manuals want to know of the command line, from its own
//! definition.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use walengine_net::cli;

use super::output::NAME;
use crate::fatal::{Fatal, Reason};

/// Print what a shell completes
///
/// For bash: `walengine completions bash >/etc/bash_completion.d/walengine`; for zsh into a file _walengine
/// in a directory of $fpath; for fish: `walengine completions fish >~/.config/fish/completions/walengine.fish`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: ShellName,
}

/// Shells that can be told what to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Write manual pages into a directory
///
/// One for the program and one for each command: walengine.1, walengine-import.1 and so on. Files of the same
/// name are replaced: they are made anew by each release.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine man /usr/local/share/man/man1")]
pub struct ManArguments {
    /// Directory that is there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Prints a shell's completions of `command`.
pub fn run_completions(
    arguments: &CompletionsArguments,
    command: clap::Command,
) -> Result<(), Fatal> {
    cli::show(&completions(arguments.shell, command))
}

fn completions(shell: ShellName, mut command: clap::Command) -> String {
    let shell = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the pages of `command`.
pub fn run_man(arguments: &ManArguments, command: clap::Command) -> Result<(), Fatal> {
    for (name, page) in pages(command) {
        let path = arguments.dir.join(name);
        write(&path, &page).map_err(|error| {
            Fatal::new(Reason::File, format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(())
}

fn write(path: &Path, page: &[u8]) -> std::io::Result<()> {
    File::create(path)?.write_all(page)
}

/// Every page with the name of its file.
fn pages(mut command: clap::Command) -> Vec<(String, Vec<u8>)> {
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, NAME, &mut pages);
    pages
}

fn add_pages(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let visible = |one: &&clap::Command| !one.is_hide_set() && one.get_name() != "help";
    for below in command.get_subcommands().filter(visible) {
        add_pages(below, &format!("{name}-{}", below.get_name()), pages);
    }
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase());
    // Writing to memory does not fail.
    if man.render(&mut page).is_ok() {
        pages.push((format!("{name}.1"), page));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn every_shell_learns_the_verbs() {
        for shell in [ShellName::Bash, ShellName::Zsh, ShellName::Fish] {
            let script = completions(shell, Arguments::command());
            for word in ["transfer", "statement", "balancing"] {
                assert!(script.contains(word), "{shell:?} does not know {word}");
            }
        }
    }

    #[test]
    fn each_command_has_a_page_with_its_options() {
        let pages = pages(Arguments::command());
        let page = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            String::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).1.clone()).unwrap()
        };
        assert!(page("walengine.1").contains("segment\\-mib"));
        assert!(page("walengine-statement.1").contains("newest"));
        assert!(page("walengine-account-create.1").contains("striped"));
        assert!(page("walengine-cluster-transfer.1").contains("partition"));
        assert!(!pages.iter().any(|(name, _)| name.contains("help")));
    }
}
