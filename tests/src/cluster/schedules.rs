//! Schedules of faults that expose one certain bug each.

use std::time::Duration;

use walengine::ledger::Ledger;
use walengine::partition::replica::Replica;
use walengine::runtime::Runtime;
use walengine_net::model::Offset;
use walengine_replication::types::NodeId;

use super::bugs::Bug;
use super::node::{Cluster, TIMING};
use super::run::{Ran, Scene, describe, play};
use super::torment::Counts;
use super::{NetFaults, torment};
use crate::sim::{Rng, SimRuntime};

/// Times that the leader is hit.
const ROUNDS: u64 = 12;
/// Its disk is so many times slower than the others': a write takes up to 40 ms and more.
const SLOW_TIMES: u32 = 200;

/// Leaders on slow disks lose power again and again, just when followers have entries that these
/// disks have not, and start again before anybody stands for election.
///
/// # Panics
/// If a promise is broken; the message says which.
pub fn leader_loses_its_tail(bug: Option<Bug>, seed: u64) -> Ran {
    let scene = Scene { nodes: Some(3), clients: 3, reads: false, bug };
    play(seed, scene, async |cluster, root, mut rng| {
        let mut crashes = 0;
        for _ in 0..ROUNDS {
            root.sleep(Duration::from_millis(rng.between(300, 500))).await;
            let Some(leader) = cluster.leader() else { continue };
            cluster.slow_down(leader, SLOW_TIMES);
            root.sleep(Duration::from_millis(rng.between(5, 60))).await;
            cluster.crash(leader);
            cluster.slow_down(leader, 1);
            cluster.restart(leader).await;
            crashes += 1;
        }
        Counts { crashes, ..Counts::default() }
    })
}

/// Times that a node dies.
const DEATHS: u64 = 4;
/// A disk is so many times slower: to read a few entries one by one takes longer than a heartbeat's interval. Then
/// a follower was asked for ever what it had answered too late.
const SLOW_READS_TIMES: u32 = 150;
/// When a node has died, the others serve again within so many of the longest election timeouts: the lease of a
/// dead leader, one whose log is behind and lets the other stand first, and votes that were split.
const SERVES_WITHIN_TIMEOUTS: u32 = 20;

/// One node after another loses power at a bad moment and stays without it: right after another has started
/// again, while leadership is being handed over, on a bad network. The others must serve all the same.
///
/// # Panics
/// If they don't, or a promise is broken; the message says which.
pub fn one_stays_dead(seed: u64) -> Ran {
    let scene = Scene { nodes: None, clients: 3, reads: true, bug: None };
    play(seed, scene, async |cluster, root, mut rng| {
        let mut counts = Counts::default();
        for _ in 0..DEATHS {
            root.sleep(Duration::from_millis(rng.between(50, 1200))).await;
            if rng.percent(60) {
                cluster.net.set_faults(torment::weather(&mut rng));
            }
            let back = any_but(cluster, None, &mut rng);
            if rng.percent(70) {
                cluster.crash(back);
                root.sleep(Duration::from_millis(rng.below(700))).await;
                cluster.restart(back).await;
                counts.crashes += 1;
                root.sleep(Duration::from_millis(rng.below(700))).await;
            }
            let slow = any_but(cluster, None, &mut rng);
            cluster.slow_down(slow, if rng.percent(50) { SLOW_READS_TIMES } else { 1 });
            if rng.percent(50) {
                cluster.hand_over(any_but(cluster, None, &mut rng));
                root.sleep(Duration::from_micros(rng.below(60_000))).await;
            }
            let leader = cluster.leader().filter(|leader| *leader != back && rng.percent(60));
            let dead = leader.unwrap_or_else(|| any_but(cluster, Some(back), &mut rng));
            cluster.crash(dead);
            counts.crashes += 1;
            cluster.net.set_faults(NetFaults::NONE);
            serves_without(cluster, root, dead).await;
            cluster.slow_down(slow, 1);
            cluster.restart(dead).await;
        }
        counts
    })
}

/// A node is cut off and votes for itself, in the same term in which another is elected by the third, which then
/// dies. The one that was cut off takes nothing from a leader whose election nobody can prove to it, and has not
/// enough of the log to be elected.
///
/// # Panics
/// If the two do not serve, or a promise is broken; the message says which.
pub fn its_electors_are_dead(seed: u64) -> Ran {
    let scene = Scene { nodes: Some(3), clients: 3, reads: false, bug: None };
    play(seed, scene, async |cluster, root, mut rng| {
        let pause = Duration::from_millis(rng.between(200, 900));
        root.sleep(pause).await;
        let elector = loop {
            match cluster.leader() {
                Some(leader) => break leader,
                None => root.sleep(Duration::from_millis(10)).await,
            }
        };
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != elector).collect();
        let (elected, alone) =
            if rng.percent(50) { (others[0], others[1]) } else { (others[1], others[0]) };
        for id in [elector, elected] {
            cluster.net.cut(alone, id, true);
            cluster.net.cut(id, alone, true);
        }
        root.sleep(Duration::from_millis(rng.between(20, 100))).await;
        let itself = cluster.partition(alone).expect("it is on");
        itself.commit().raft().trigger().elect(false).await.expect("it is well");
        cluster.hand_over(elected);
        let by = root.elapsed() + Duration::from_millis(TIMING.election_millis.1);
        while cluster.leader() != Some(elected) && root.elapsed() < by {
            root.sleep(Duration::from_millis(1)).await;
        }
        root.sleep(Duration::from_millis(rng.below(20))).await;
        cluster.crash(elector);
        cluster.net.heal();
        serves_without(cluster, root, elector).await;
        Counts { crashes: 1, ..Counts::default() }
    })
}

fn any_but(cluster: &Cluster, but: Option<NodeId>, rng: &mut Rng) -> NodeId {
    let ids: Vec<_> = cluster.ids().into_iter().filter(|id| Some(*id) != but).collect();
    ids[rng.index(ids.len())]
}

/// Waits until a record is committed that was decided after this call.
async fn serves_without(cluster: &Cluster, root: &SimRuntime, dead: NodeId) {
    let over_all = |look: fn(&Replica) -> Offset| {
        let living = cluster.ids().into_iter().filter_map(|id| cluster.partition(id));
        living.map(|one| one.with_replica(look)).max().unwrap_or_default()
    };
    let decided = over_all(|replica| Ledger::next_offset(replica.ledger()));
    let began = root.elapsed();
    let timeout = Duration::from_millis(TIMING.election_millis.1);
    while over_all(Replica::committed) <= decided {
        assert!(
            root.elapsed() < began + SERVES_WITHIN_TIMEOUTS * timeout,
            "node {dead} died {:?} ago, and the others do not serve: {}",
            root.elapsed().saturating_sub(began),
            describe(cluster)
        );
        root.sleep(Duration::from_millis(5)).await;
    }
}
