//! `completions` and `man`: what shells and manuals want to know of the command line.

use std::path::PathBuf;

use walengine_net::cli;
use walengine_net::cli::manual::{ShellName, completions, write_pages};

use crate::fatal::Fatal;

/// Print what a shell completes
///
/// For bash: `walengine-projector completions bash >/etc/bash_completion.d/walengine-projector`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: ShellName,
}

/// Write manual pages into a directory
///
/// One for the program and one for each command: walengine-projector.1, walengine-projector-audit.1 and so on. Files of the
/// same name are replaced: they are made anew by each release.
#[derive(Debug, clap::Args)]
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
    fn shells_and_manual_know_every_command() {
        let pages = pages(Arguments::command());
        for command in ["audit", "rebuild", "status", "wait-for"] {
            let name = format!("walengine-projector-{command}.1");
            assert!(pages.iter().any(|(file, page)| *file == name && !page.is_empty()), "{name}");
            for shell in [ShellName::Bash, ShellName::Zsh, ShellName::Fish] {
                assert!(
                    completions(shell, Arguments::command()).contains(command),
                    "{shell:?}, {command}"
                );
            }
        }
    }
}
