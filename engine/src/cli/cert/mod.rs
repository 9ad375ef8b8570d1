//! `cert`: an authority of the user's own, and directories of credentials as `--tls` takes them.

mod addresses;
mod authority;
mod directory;
mod gossip_key;
mod issue;
mod read;
mod revoke;
mod show;
#[cfg(test)]
mod tests;
mod words;

use walengine_net::identity::Role;

use crate::fatal::Fatal;

/// Make certificates for nodes, clients and operators, renew, revoke and show them
///
/// Makes an authority for one cluster, and for each node, client, projector and operator a directory
/// that `--tls` takes. Nothing that exists is overwritten, and a directory is made whole or not at all.
/// Only its owner can read it.
///
/// Keep the directory `ca` where no server runs: whoever has `ca.key` can be anybody.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)] // a missing command is told in one line, as all mistakes are
#[command(after_help = "Example, a cluster of three:\n  walengine cert ca --cluster bank\n  \
    walengine cert node 1 2 3 --address 1=10.0.0.1 --address 2=10.0.0.2 --address 3=10.0.0.3\n  \
    walengine cert client payments\n\n\
    Then copy certs/node-1 to node 1, and start it with --tls node-1.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ca(authority::Arguments),
    Node(issue::NodeArguments),
    /// Make a directory of credentials for each program that sends transfers or reads
    #[command(after_help = "Examples:\n  walengine cert client payments reporting\n  \
        walengine cert client payments --renew")]
    Client(issue::NamedArguments),
    /// Make a directory of credentials for a projector
    #[command(after_help = "Examples:\n  walengine cert projector warehouse\n  \
        walengine cert projector warehouse --renew")]
    Projector(issue::NamedArguments),
    /// Make a directory of credentials for each operator
    #[command(after_help = "Examples:\n  walengine cert admin anna --days 30\n  \
        walengine cert admin anna --renew")]
    Admin(issue::NamedArguments),
    Show(show::Arguments),
    Revoke(revoke::Arguments),
    GossipKey(gossip_key::Arguments),
}

/// Runs one of the commands.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    match &arguments.command {
        Command::Ca(arguments) => authority::run(arguments),
        Command::Node(arguments) => issue::run_nodes(arguments),
        Command::Client(arguments) => issue::run_named(Role::Client, arguments),
        Command::Projector(arguments) => issue::run_named(Role::Projector, arguments),
        Command::Admin(arguments) => issue::run_named(Role::Admin, arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Revoke(arguments) => revoke::run(arguments),
        Command::GossipKey(arguments) => gossip_key::run(arguments),
    }
}
