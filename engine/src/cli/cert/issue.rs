//! `cert node`, `client`, `projector` and `admin`: directories of credentials, and their renewal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use walengine_net::identity::{Identity, Role};
use walengine_net::say;
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, REVOKED_FILE};

use super::addresses::{Given, Host, of_node};
use super::authority::{Authority, Issued};
use super::directory::{self, Content, Place, Staged, read_if_there};
use super::read;
use super::words::date;
use crate::config::GOSSIP_KEY_FILE;
use crate::fatal::{Fatal, Reason};
use crate::policy::POLICY_FILE;

/// Make a directory of credentials for each node
///
/// Makes `DIR/node-1` and so on: who is believed, the node's own certificate and key, the key that seals
/// gossip, and the policy. Copy each to its node, and start the node with `--tls`.
///
/// A certificate is for the addresses that others reach the node at: hosts of --listen, --peer-listen,
/// --advertise and --advertise-peer. Nodes reach each other by IP address, so those must be among them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine cert node 1 2 3 --address 1=10.0.0.1,n1.example \
    --address 2=10.0.0.2 --address 3=10.0.0.3\n  walengine cert node 1 --renew")]
pub struct NodeArguments {
    /// Numbers of the nodes
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(u64).range(1..))]
    ids: Vec<u64>,

    /// Where nodes are reached, without ports: of one node, as 1=10.0.0.1,n1.example, or of each of
    /// them; localhost, 127.0.0.1 and `::1` if none is given
    #[arg(long, value_name = "[ID=]HOST[,HOST]", value_parser = Given::parse)]
    address: Vec<Given>,

    #[command(flatten)]
    place: Place,

    /// Days until the certificate expires
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Put a new certificate and key into the directory that exists, for the same addresses unless
    /// others are given
    #[arg(long)]
    renew: bool,
}

/// Whom directories are made for.
#[derive(Debug, clap::Args)]
pub struct NamedArguments {
    /// Names: 1 to 64 letters, digits, '-', '_' and '.'
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    #[command(flatten)]
    place: Place,

    /// Days until the certificate expires
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Put a new certificate and key into the directory that exists
    #[arg(long)]
    renew: bool,
}

/// What all directories of one command have in common.
struct Wanted<'a> {
    place: &'a Path,
    days: u32,
    renew: bool,
}

/// One directory.
struct Member {
    identity: Identity,
    dir: PathBuf,
    /// For a node, where it is reached; `None`: where it was, or on its own machine.
    hosts: Option<Vec<Host>>,
}

/// Makes or renews the directories of nodes.
pub fn run_nodes(arguments: &NodeArguments) -> Result<(), Fatal> {
    let stray = arguments.address.iter().filter_map(|given| given.node);
    if let Some(stray) = stray.into_iter().find(|node| !arguments.ids.contains(node)) {
        let message = format!("--address is for node {stray}, which is not among those to make");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let members = arguments.ids.iter().map(|&id| {
        let hosts = of_node(id, &arguments.address);
        (id.to_string(), hosts)
    });
    let wanted =
        Wanted { place: &arguments.place.dir, days: arguments.days, renew: arguments.renew };
    run(&wanted, Role::Node, members)
}

/// Makes or renews the directories of others than nodes.
pub fn run_named(role: Role, arguments: &NamedArguments) -> Result<(), Fatal> {
    let wanted =
        Wanted { place: &arguments.place.dir, days: arguments.days, renew: arguments.renew };
    run(&wanted, role, arguments.names.iter().map(|name| (name.clone(), None)))
}

fn run(
    wanted: &Wanted<'_>,
    role: Role,
    names: impl Iterator<Item = (String, Option<Vec<Host>>)>,
) -> Result<(), Fatal> {
    let authority = Authority::open(wanted.place)?;
    let _lock = directory::lock(wanted.place)?;
    let mut members = Vec::new();
    let mut known = BTreeSet::new();
    for (name, hosts) in names {
        let identity = Identity::new(&authority.cluster, role, &name).map_err(|error| {
            Fatal::new(Reason::Usage, format!("'{name}' can't be a {role}: {error}"))
        })?;
        if !known.insert(name.clone()) {
            return Err(Fatal::new(Reason::Usage, format!("{identity} is named twice")));
        }
        let dir = wanted.place.join(format!("{role}-{name}"));
        members.push(Member { identity, dir, hosts });
    }
    // Everything that can be known before is, so that nothing is half done.
    for member in &members {
        require_there(member, wanted.renew)?;
    }
    for member in &members {
        if wanted.renew {
            renew(&authority, member, wanted.days)?;
        } else {
            make(&authority, member, wanted.days)?;
        }
    }
    if role == Role::Client && !wanted.renew {
        say!(
            "what a client may do stands in the {POLICY_FILE} of the nodes; what does not is \
             forbidden"
        );
    }
    Ok(())
}

/// A directory that is to be renewed is there; one that is to be made is not.
fn require_there(member: &Member, renew: bool) -> Result<(), Fatal> {
    let dir = member.dir.display();
    let (role, name) = (member.identity.role(), member.identity.name());
    let message = match (directory::exists(&member.dir), renew) {
        (true, true) | (false, false) => return Ok(()),
        (true, false) => format!(
            "{dir} exists already, and is left as it is: `walengine cert {role} {name} --renew` puts a \
             new certificate into it"
        ),
        (false, true) => format!(
            "there is no {dir} to renew: `walengine cert {role} {name}` makes it, --dir says where \
             another is"
        ),
    };
    Err(Fatal::new(Reason::File, message))
}

fn make(authority: &Authority, member: &Member, days: u32) -> Result<(), Fatal> {
    let is_node = member.identity.role() == Role::Node;
    let hosts = match &member.hosts {
        None if is_node => Host::local(),
        hosts => hosts.clone().unwrap_or_default(),
    };
    let mut files = vec![Content::new(CA_FILE, authority.believed.clone())];
    let of_authority = |name: &str| read_if_there(&authority.dir.join(name));
    if is_node {
        let Some(key) = of_authority(GOSSIP_KEY_FILE)? else {
            let path = authority.dir.join(GOSSIP_KEY_FILE);
            let path = path.display();
            let message =
                format!("{path} is missing: `walengine cert gossip-key {path}` makes a new one");
            return Err(Fatal::new(Reason::File, message));
        };
        files.push(Content::new(GOSSIP_KEY_FILE, key));
        files.extend(of_authority(POLICY_FILE)?.map(|policy| Content::new(POLICY_FILE, policy)));
    }
    files.extend(of_authority(REVOKED_FILE)?.map(|list| Content::new(REVOKED_FILE, list)));
    let issued = authority.issue(&member.identity, &hosts, days)?;
    files.push(Content::new(CERTIFICATE_FILE, issued.chain.as_str()));
    files.push(Content::new(KEY_FILE, issued.key.as_str()));
    directory::make(&member.dir, &files)?;
    told("made", member, &hosts, &issued);
    Ok(())
}

/// Puts a new certificate and key in place. Whoever reads between the two renames has a certificate and
/// a key that do not belong together, and keeps those it has.
fn renew(authority: &Authority, member: &Member, days: u32) -> Result<(), Fatal> {
    let chain = member.dir.join(CERTIFICATE_FILE);
    let old = read::certificates(&chain)?;
    let names = read::names(&old[0]);
    let identity = read::identity(&names).map_err(|why| read::unreadable(&chain, &why))?;
    if identity != member.identity {
        let why = format!(
            "it is of {identity} of cluster {}, not of {} of cluster {}: left as it is",
            identity.cluster(),
            member.identity,
            member.identity.cluster()
        );
        return Err(read::unreadable(&chain, &why));
    }
    let hosts = match &member.hosts {
        Some(hosts) => hosts.clone(),
        None => {
            names.hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>().map_err(
                |why| read::unreadable(&chain, &format!("{why}; name it with --address")),
            )?
        }
    };
    let issued = authority.issue(&member.identity, &hosts, days)?;
    let files = [
        Content::new(KEY_FILE, issued.key.as_str()),
        Content::new(CERTIFICATE_FILE, issued.chain.as_str()),
    ];
    Staged::new(&member.dir, &files)?.commit()?;
    told("renewed", member, &hosts, &issued);
    Ok(())
}

fn told(what: &str, member: &Member, hosts: &[Host], issued: &Issued) {
    let at = if hosts.is_empty() {
        String::new()
    } else {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        format!(" at {}", hosts.join(", "))
    };
    let (dir, until) = (member.dir.display(), date(issued.until));
    say!("{what} {dir}: {}{at}, until {until}", member.identity);
}
