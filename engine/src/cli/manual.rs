//! `completions` and `man`: what shells and manuals want to know of the command line, from its own
//! definition.

use std::path::PathBuf;

use walengine_net::cli;
use walengine_net::cli::manual::{ShellName, completions, write_pages};

use crate::fatal::Fatal;

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

/// Write manual pages into a directory
///
/// One for the program and one for each command: walengine.1, walengine-import.1 and so on. Files of the same
/// name are replaced: they are made anew by each release.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine man /usr/local/share/man/man1")]
pub struct ManArguments {
    /// Directory; it is made if it is not there
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

/// Writes the pages of `command`.
pub fn run_man(arguments: &ManArguments, command: clap::Command) -> Result<(), Fatal> {
    write_pages(&arguments.dir, command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use walengine_net::cli::manual::pages;

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
