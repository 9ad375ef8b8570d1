//! `recover`: a new data directory of what is left of a stopped node's.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;

use walengine_net::model::PartitionId;
use walengine_net::say;

use super::export::digest_text;
use super::log_time::shown;
use super::new_directory::{amid_imports, how_to_start, peer_address, rewritten};
use super::progress::{BYTES_BAR, progress_bar};
use super::verify;
use crate::data_dir;
use crate::data_dir::lock::DirectoryLock;
use crate::fatal::{Fatal, Reason};
use crate::limits::OLD_MEMBER_ANSWERS_WITHIN;
use crate::memory;
use crate::recover::{Left, Wanted, examine, fitting, make};
use crate::rewrite::directory::require_free;
use crate::storage::layout::Superblock;
use crate::storage::superblock;

/// Go on with what is left of a node's directory, when the others are lost
///
/// Says what is left of a stopped node's data directory, and makes a new one of that. For when the disks
/// of a majority are lost for good, or a log is damaged and there is no backup: what other nodes had
/// acknowledged without this one is lost, and this command says how much of that it knows.
///
/// Without --yes it only says what there is. Run it so for each node that is left, and go on with the one
/// whose partitions end with the highest term, and of those the highest entry.
///
/// `OLD_DIR` is only read. `NEW_DIR` is of a new cluster, with a new id: old members can't join it with their
/// directories, tokens of the old cluster are refused, and a projector goes on after
/// `walengine-projector rebuild --other-cluster`. Records keep their offsets, times and verdicts.
///
/// Without --peer-address it is a node that serves alone. With it, it is the first node of a new cluster,
/// which others join with an empty directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine recover old-data\n  \
    walengine recover old-data new-data --peer-address 10.0.0.1:7550 --yes")]
pub struct Arguments {
    /// Data directory of a node that does not run
    #[arg(value_name = "OLD_DIR")]
    old: PathBuf,

    /// Directory to make; it must be empty or absent
    #[arg(value_name = "NEW_DIR", required_if_eq("yes", "true"))]
    new: Option<PathBuf>,

    /// Make it the first node of a new cluster, which other nodes reach at this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = peer_address)]
    peer_address: Option<String>,

    /// Segment size of the new directory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=4096))]
    segment_mib: u64,

    /// Accept what is lost, and make the new directory
    #[arg(long)]
    yes: bool,
}

/// Examines a directory, and makes a new one if that is wanted.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let old = &arguments.old;
    if let Some(new) = &arguments.new {
        require_free(new)?;
    }
    if !old.join(superblock::NAME).exists() {
        let message = format!("{} is not a walengine data directory", old.display());
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let _lock = DirectoryLock::share(old)?;
    let superblock = data_dir::read_superblock(old)?;
    memory::set_limit(None);
    let mut left = Vec::new();
    let (bar, mut bytes) = (progress_bar(0, BYTES_BAR), 0);
    for partition in (0..superblock.partitions).map(PartitionId) {
        left.push(examine(old, &superblock, partition, |more| {
            bytes += more;
            bar.set_position(bytes);
        })?);
    }
    bar.finish_and_clear();
    say!(
        "{}: node {} of cluster {:032x}, {} partitions",
        old.display(),
        superblock.node,
        superblock.cluster.0,
        superblock.partitions
    );
    left.iter().for_each(tell);
    let to_time = fitting(old, &superblock, &left)?;
    if let Some(time) = to_time {
        say!(
            "parts of transfers between partitions are lost: what is left of the partitions fits up to log time \
             {}, and only that is kept",
            shown(time)
        );
    }
    let answering = tell_members(&superblock, &left);
    let is_group = left.iter().any(|one| !one.others(superblock.node).is_empty());
    if is_group {
        say!(
            "what the other nodes acknowledged behind these ends, without this one, is lost: nothing here \
             can tell how much. Tokens that clients have kept, and `walengine-projector status`, say what \
             they had seen"
        );
    }
    if let Some(partition) = has_majority(&superblock, &left, &answering) {
        let message = format!(
            "with this node, a majority of partition {partition}'s voters could be there: if they are \
             well, start this node among them and nothing is lost; if not, stop them first. Nothing was \
             made"
        );
        return Err(Fatal::new(Reason::Findings, message));
    }
    let new = match &arguments.new {
        Some(new) if arguments.yes => new,
        _ => {
            say!("nothing was made: to go on with this, name a new directory and add --yes");
            return Ok(());
        }
    };
    let wanted = Wanted {
        data: new,
        peer_address: arguments.peer_address.as_deref(),
        segment_bytes: arguments.segment_mib << 20,
        to_time,
    };
    let (bar, mut done) = (progress_bar(bytes, BYTES_BAR), 0);
    let made = make(old, &superblock, &left, &wanted, |more| {
        done += more;
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let (superblock, partitions) = made?;
    partitions.iter().for_each(rewritten);
    amid_imports(partitions.iter());
    verify::verify(new)?;
    say!("recovered into {}, the new cluster {:032x}", new.display(), superblock.cluster.0);
    if is_group {
        say!(
            "empty the other old nodes before they join it, and keep {} until all is well",
            old.display()
        );
    }
    how_to_start(new, wanted.peer_address);
    Ok(())
}

/// Says what is left of a partition, and what is known to be lost.
fn tell(one: &Left) {
    say!(
        "partition {}: whole up to offset {}, entry {} of term {}, log time {}, {} accounts, {} ids, state \
         {}",
        one.partition,
        one.tail.next_offset,
        one.tail.index,
        one.tail.term,
        shown(one.tail.timestamp),
        one.accounts,
        one.ids,
        digest_text(&one.digest)
    );
    if let Some((first, last)) = one.missing() {
        say!("  lost: entries {first} to {last}, which this node or another one had on disk");
    }
    if let Some(end) = &one.end
        && let Some(why) = &end.why
    {
        say!("  it ends in {}: {why}", end.place);
    }
    if one.promises.hard_state.is_none() {
        say!("  its hard state can't be read: how much it had on disk is not known");
    }
    if let Some((first, last)) = one.uncommitted() {
        say!(
            "  kept: entries {first} to {last}, although this node does not know whether they were ever \
             acknowledged"
        );
    }
}

/// Says who the other voters were and whether something answers there. Gives the nodes that do.
fn tell_members(superblock: &Superblock, left: &[Left]) -> Vec<u64> {
    let others: BTreeMap<u64, String> =
        left.iter().flat_map(|one| one.others(superblock.node)).collect();
    let mut answering = Vec::new();
    for (node, address) in others {
        let answers = answers(&address);
        say!("node {node} at {address}: {}", if answers { "answers" } else { "does not answer" });
        if answers {
            answering.push(node);
        }
    }
    answering
}

fn answers(address: &str) -> bool {
    let Ok(addresses) = address.to_socket_addrs() else { return false };
    addresses
        .into_iter()
        .any(|one| TcpStream::connect_timeout(&one, OLD_MEMBER_ANSWERS_WITHIN).is_ok())
}

/// A partition whose voters would have a majority if this node were started among those that answer.
fn has_majority(superblock: &Superblock, left: &[Left], answering: &[u64]) -> Option<PartitionId> {
    let is_there = |one: &&Left| {
        let others = one.others(superblock.node);
        let alive = others.iter().filter(|(node, _)| answering.contains(node)).count();
        let voters = others.len() + 1;
        !others.is_empty() && alive + 1 > voters / 2
    };
    left.iter().find(is_there).map(|one| one.partition)
}
