//! What a shard does differently for a partition that it serves alone, and for one that a Raft group
//! keeps. Everything else about a shard exists once.

use std::rc::Rc;
use std::time::Duration;

use walengine_net::model::PartitionId;
use walengine_net::tls::Proven;
use walengine_replication::membership::Policy;
use walengine_replication::received::Received;
use walengine_replication::tcp::PeerIdentity;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::tcp::socket::Socket;
use walengine_replication::types::NodeId;

use super::operators::Place;
use super::{ShardStart, asking, caretaker, peers};
use crate::acquaintances::Acquaintances;
use crate::across::{Forward, NoForward};
use crate::config::Config;
use crate::fatal::{Fatal, Reason};
use crate::limits::{CONTACT_WITHIN_MIN, HEARTBEATS_PER_ELECTION, SAID_WITHIN};
use crate::node_state::NodeState;
use crate::orders::Beginning;
use crate::partition::Partition;
use crate::partition::alone::Alone;
use crate::partition::group::opening::{GroupBeginning, serve_in_group};
use crate::partition::group::sources::{HeardNodes, OtherMembers, ToMembers};
use crate::partition::group::{Consensus, Group, GroupTiming, compare};
use crate::partition::mending::{EntrySource, NoSource};
use crate::partition::opening::OpenedPartition;
use crate::partition::replica_id::ReplicaId;
use crate::partition::scrub;
use crate::runtime_glommio::GlommioRuntime;
use crate::session::admin::Operated;
use crate::session::node_facts::NodeFacts;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::Superblock;

/// A partition that a shard hosts.
pub(super) struct Hosting<C: Hosted> {
    /// It serves.
    pub partition: Partition<C>,
    /// Its connections to peers, if a group keeps it.
    pub dialer: Option<Dialer<GlommioRuntime>>,
}

/// See the module.
pub(super) trait Hosted: Operated<Disk = GlommioDisk, Runtime = GlommioRuntime> {
    /// What the log of a partition has lost is taken from here before it is opened.
    fn source(start: &ShardStart, partition: PartitionId) -> impl EntrySource + 'static;

    /// Makes an opened partition serve.
    async fn host(
        opened: OpenedPartition<GlommioDisk, GlommioRuntime>,
        state: &NodeState,
        beginning: &Beginning,
        source: impl EntrySource + 'static,
    ) -> Result<Hosting<Self>, Fatal>;

    /// Starts the background tasks of the partition at `place`, besides its snapshots.
    fn look_after(node: &Rc<NodeFacts<Self>>, place: usize, start: &ShardStart);

    /// How the partition at `place` reaches its replicas on other nodes.
    fn forward(node: &NodeFacts<Self>, place: usize) -> impl Forward;

    /// Serves a peer of the partition at `place` in the background.
    fn serve_peer(
        node: &Rc<NodeFacts<Self>>,
        place: usize,
        socket: Socket,
        proven: Option<Proven>,
        received: Received,
        at: Place,
    );

    /// The node is a member of the partition's group.
    fn is_member(partition: &Partition<Self>, node: NodeId) -> bool;

    /// This node leads the partition's group.
    fn leads_group(partition: &Partition<Self>) -> bool;

    /// Holds this node's clock against those of the group's other nodes, and takes note which of them have no
    /// memory left.
    fn heed_nodes(partition: &Partition<Self>, known: &Acquaintances);

    /// Why the process must end, if it must.
    fn must_end(partition: &Partition<Self>) -> Option<Fatal>;

    /// The newest membership of the partition's group keeps this node.
    fn is_kept(partition: &Partition<Self>) -> bool;

    /// Lets another node take over before the partition stops taking writes.
    async fn before_stop(partition: &Partition<Self>);
}

impl Hosted for Alone<GlommioDisk, GlommioRuntime> {
    fn source(_: &ShardStart, _: PartitionId) -> impl EntrySource + 'static {
        NoSource
    }

    async fn host(
        opened: OpenedPartition<GlommioDisk, GlommioRuntime>,
        _: &NodeState,
        _: &Beginning,
        _: impl EntrySource + 'static,
    ) -> Result<Hosting<Self>, Fatal> {
        Ok(Hosting { partition: opened.serve_alone().await?, dialer: None })
    }

    fn look_after(node: &Rc<NodeFacts<Self>>, place: usize, _: &ShardStart) {
        let bytes = node.state.config.scrub_bytes;
        node.partitions[place].spawn(|partition| scrub::run(partition, None::<NoSource>, bytes));
    }

    fn forward(_: &NodeFacts<Self>, _: usize) -> impl Forward {
        NoForward
    }

    /// A node that serves alone listens for no peers.
    fn serve_peer(
        _: &Rc<NodeFacts<Self>>,
        _: usize,
        _: Socket,
        _: Option<Proven>,
        _: Received,
        _: Place,
    ) {
    }

    fn is_member(_: &Partition<Self>, _: NodeId) -> bool {
        false
    }

    fn leads_group(_: &Partition<Self>) -> bool {
        false
    }

    fn heed_nodes(_: &Partition<Self>, _: &Acquaintances) {}

    fn must_end(_: &Partition<Self>) -> Option<Fatal> {
        None
    }

    fn is_kept(_: &Partition<Self>) -> bool {
        false
    }

    async fn before_stop(_: &Partition<Self>) {}
}

impl Hosted for Consensus<GlommioDisk, GlommioRuntime> {
    fn source(start: &ShardStart, partition: PartitionId) -> impl EntrySource + 'static {
        let Superblock { cluster, node, partitions, .. } = start.state.superblock;
        let identity = PeerIdentity { cluster, node, partition, partitions };
        let dialer = Dialer::new(identity, start.state.tls.clone(), GlommioRuntime::new());
        let control = start.control.clone();
        HeardNodes { own: node, dialer, control }
    }

    async fn host(
        opened: OpenedPartition<GlommioDisk, GlommioRuntime>,
        state: &NodeState,
        beginning: &Beginning,
        source: impl EntrySource + 'static,
    ) -> Result<Hosting<Self>, Fatal> {
        let timing = timing(&state.config)?;
        let ReplicaId { cluster, partition, node } = opened.id;
        let partitions = state.superblock.partitions;
        let identity = PeerIdentity { cluster, node, partition, partitions };
        let dialer = Dialer::new(identity, state.tls.clone(), opened.runtime);
        let beginning =
            GroupBeginning { founders: &beginning.founders, sources: &beginning.sources };
        let partition = serve_in_group(opened, dialer.clone(), beginning, timing, source).await?;
        partition.await_clocks();
        Ok(Hosting { partition, dialer: Some(dialer) })
    }

    fn look_after(node: &Rc<NodeFacts<Self>>, place: usize, start: &ShardStart) {
        let (group, dialer) = (&node.partitions[place], node.dialers[place].clone());
        let (facts, policy) = (node.clone(), policy(&node.state.config));
        let control = start.control.clone();
        let dialled = dialer.clone();
        if group.id().partition == PartitionId(0) {
            // The nodes are the same in every group.
            let (facts, dialer) = (node.clone(), dialer.clone());
            let report = start.report.clone();
            group.spawn(|group| asking::run(group, facts, dialer, report));
        }
        group.spawn(|group| caretaker::run(group, facts, dialled, policy, control));
        let members = OtherMembers { group: group.clone(), dialer: dialer.clone() };
        let bytes = node.state.config.scrub_bytes;
        group.spawn(|group| scrub::run(group, Some(members), bytes));
        group.spawn(|group| compare::run(group, dialer));
    }

    fn forward(node: &NodeFacts<Self>, place: usize) -> impl Forward {
        let (group, dialer) = (node.partitions[place].clone(), node.dialers[place].clone());
        ToMembers { group, dialer }
    }

    fn serve_peer(
        node: &Rc<NodeFacts<Self>>,
        place: usize,
        socket: Socket,
        proven: Option<Proven>,
        received: Received,
        at: Place,
    ) {
        peers::serve(node, place, socket, proven, received, at);
    }

    fn is_member(group: &Group<GlommioDisk, GlommioRuntime>, node: NodeId) -> bool {
        group.is_member(node)
    }

    fn leads_group(group: &Group<GlommioDisk, GlommioRuntime>) -> bool {
        group.leads()
    }

    fn heed_nodes(group: &Group<GlommioDisk, GlommioRuntime>, known: &Acquaintances) {
        let (me, report) = (group.id().node, group.report());
        let clock = |voter: &NodeId| match *voter {
            voter if voter == me => Some(0),
            voter => known.condition(voter, SAID_WITHIN).map(|it| it.clock_ahead_nanos),
        };
        let clocks: Vec<i64> = report.voters.iter().filter_map(clock).collect();
        group.hear_clocks(report.voters.len(), &clocks);
        group.commit().note_clocks(group.agreement());
        let is_short = |node: &NodeId| {
            known.condition(*node, SAID_WITHIN).is_some_and(|it| it.is_short_of_memory)
        };
        let short = report.members.into_keys().filter(is_short);
        group.commit().hold(short.filter(|node| *node != me).collect());
    }

    fn must_end(group: &Group<GlommioDisk, GlommioRuntime>) -> Option<Fatal> {
        let (why, partition) = (group.commit().set_back()?, group.id().partition);
        let message = format!(
            "partition {partition}: {why}; started again as it is, it is refused again: empty its data \
             directory, and start it without --expect"
        );
        Some(Fatal::new(Reason::SetBack, message))
    }

    fn is_kept(group: &Group<GlommioDisk, GlommioRuntime>) -> bool {
        group.is_named()
    }

    async fn before_stop(group: &Group<GlommioDisk, GlommioRuntime>) {
        group.hand_over(None).await;
    }
}

fn timing(config: &Config) -> Result<GroupTiming, Fatal> {
    let Some(cluster) = &config.cluster else {
        return Err(Fatal::new(
            Reason::DataDirectory,
            "this data directory is of a cluster's node: give it --peer-listen and --join",
        ));
    };
    let millis = cluster.election.as_millis() as u64;
    Ok(GroupTiming {
        heartbeat_millis: (millis / HEARTBEATS_PER_ELECTION).max(1),
        // A follower stands this long after its leader's lease has run out, which is as long as the
        // greater of the two: within the setting, and not before three quarters of it.
        election_millis: (millis / 4, millis / 2),
    })
}

/// What the operator wants of groups.
fn policy(config: &Config) -> Policy {
    let dead_after = config.cluster.as_ref().map_or(Duration::MAX, |cluster| cluster.dead_after);
    let replicas = config.cluster.as_ref().map_or(1, |cluster| cluster.replicas);
    let contact_within = CONTACT_WITHIN_MIN; // each group knows its own
    Policy { replicas, dead_after, is_proven: config.proves_nodes(), contact_within }
}
