//! `policy check`: what a policy file says, without a server.

use std::path::{Path, PathBuf};

use walengine_net::identity::{Identity, IdentityError, Role};
use walengine_net::say;

use crate::fatal::{Fatal, Reason};
use crate::policy::{Policy, Right, read_policy};

/// Read a policy file as a server would, and say what it allows
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(CheckArguments),
}

/// Say whether a policy file is right and, with --as, what somebody may do by it
///
/// What is wrong is told with its line, and the exit code is not 0. A server that reads such a file at its
/// start does not start; one that runs keeps the policy that it has.
#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// The policy file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Say what this identity may do, such as client/payments
    #[arg(long = "as", value_name = "ROLE/NAME", value_parser = identity)]
    identity: Option<Identity>,
}

/// The cluster does not matter to a policy.
fn identity(text: &str) -> Result<Identity, String> {
    let (role, name) = text.split_once('/').ok_or("it is ROLE/NAME, such as client/payments")?;
    let role = Role::of_name(role).ok_or(IdentityError::Role);
    let identity = role.and_then(|role| Identity::new("any", role, name));
    identity.map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let Command::Check(CheckArguments { file, identity }) = &arguments.command;
    let policy = read(file)?;
    if let Some(identity) = identity {
        for line in rights(&policy, identity) {
            say!("{line}");
        }
        return Ok(());
    }
    let rules = if policy.len() == 1 { "rule" } else { "rules" };
    say!("{} is right: {} {rules}", file.display(), policy.len());
    if !policy.gives(Right::Admin) {
        say!("nobody has `admin`: orders to the cluster will be refused");
    }
    Ok(())
}

fn read(file: &Path) -> Result<Policy, Fatal> {
    let shown = file.display();
    let text = read_policy(file)
        .map_err(|why| Fatal::new(Reason::File, format!("cannot read policy {shown}: {why}")))?;
    Policy::parse(&text)
        .map_err(|error| Fatal::new(Reason::Usage, format!("policy {shown}, {error}")))
}

/// What somebody may do, one line for each right and set of ledgers.
fn rights(policy: &Policy, identity: &Identity) -> Vec<String> {
    let rights = policy.rights(identity);
    let mut lines = Vec::new();
    for (right, area) in [(Right::Write, &rights.write), (Right::Read, &rights.read)] {
        lines.extend(area.parts().into_iter().map(|(books, ledgers)| {
            format!("{:<8}  books {books}; ledgers {ledgers}", right.name())
        }));
    }
    for right in [Right::ReadLog, Right::Admin].into_iter().filter(|right| rights.has(*right)) {
        lines.push(right.name().to_owned());
    }
    if lines.is_empty() {
        lines.push(format!("{identity} may do nothing: no rule is about it"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::POLICY_BYTES_MAX;

    #[test]
    fn what_somebody_may_do_is_listed_by_right() {
        let policy = "[[allow]]\nwho = [\"client/a\", \"admin/*\"]\nmay = [\"write\", \"read\"]\n\
                      books = [9, 7, 8, \"20-30\"]\nledgers = [840]\n\
                      [[allow]]\nwho = \"client/*\"\nmay = \"read\"\nbooks = [8]\nledgers = \"all\"\n\
                      [[allow]]\nwho = \"admin/ops\"\nmay = [\"admin\", \"read-log\"]\n";
        let policy = Policy::parse(policy).unwrap();
        let found = |text| rights(&policy, &identity(text).unwrap()).join("\n");
        assert_eq!(
            found("client/a"),
            "write     books 7-9, 20-30; ledgers 840\n\
             read      books 7, 9, 20-30; ledgers 840\n\
             read      books 8; ledgers all"
        );
        assert!(
            found("admin/ops").ends_with("ledgers 840\nread-log\nadmin"),
            "{}",
            found("admin/ops")
        );
        assert_eq!(found("node/1"), "node/1 may do nothing: no rule is about it");
        for wrong in ["payments", "root/a", "client/", "node/0", "client/a\u{1b}"] {
            assert!(identity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line_and_one_that_is_missing_by_name() {
        let dir = std::env::temp_dir().join(format!("walengine-check-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("policy.toml");
        let error = read(&path).unwrap_err();
        assert!(error.message.contains("policy.toml: it is not there"), "{error}");
        std::fs::write(&path, "[[allow]]\nwho = \"client/a\"\nmay = \"fly\"\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.message.contains("policy.toml, line 3: \"fly\" is no right"), "{error}");
        std::fs::write(&path, "#".repeat(POLICY_BYTES_MAX as usize + 1)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("more than"), "it is no policy");
        std::fs::write(&path, b"# \xff").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.message.contains("not valid UTF-8 from byte 2 on"), "{error}");
        std::fs::write(&path, "").unwrap();
        assert!(read(&path).unwrap().is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
