//! What shells and manuals want to know of a command line, from its own definition.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use clap_complete::Shell;

use super::{Fatal, Reason};

/// Shells that can be told what to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "it would stand in the help, and say no more than the names")]
pub enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// What a shell takes, to complete the command.
pub fn completions(shell: ShellName, mut command: clap::Command) -> String {
    let shell = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the manual's pages into a directory, which is made if it is not there: one for the program and one for each command below it. Files of the
/// same name are replaced.
///
/// # Errors
/// [`Reason::File`] with the first file or directory that can't be written; those before it are.
pub fn write_pages(dir: &Path, command: clap::Command) -> Result<(), Fatal> {
    let failed = |what: &str, path: &Path, error: io::Error| {
        Fatal::new(Reason::File, format!("cannot {what} {}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed("make the directory", dir, error))?;
    for (name, page) in pages(command) {
        let path = dir.join(name);
        let written = File::create(&path).and_then(|mut file| file.write_all(&page));
        written.map_err(|error| failed("write", &path, error))?;
    }
    Ok(())
}

/// Every page with the name of its file.
pub fn pages(mut command: clap::Command) -> Vec<(String, Vec<u8>)> {
    command.build();
    let mut pages = Vec::new();
    let name = command.get_name().to_owned();
    add_pages(&command, &name, &mut pages);
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
