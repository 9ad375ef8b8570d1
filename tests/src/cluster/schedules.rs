//! Schedules of faults that expose one certain bug each.

use std::time::Duration;

use walengine::runtime::Runtime;

use super::bugs::Bug;
use super::run::{Ran, Scene, play};
use super::torment::Counts;

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
