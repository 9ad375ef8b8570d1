//! A follower that is paused, and one whose disk is slow.

use std::time::Duration;

use rustix::process::Signal;

use super::{ClusterFaults, NODES};
use crate::error::{Result, failed};
use crate::floor::{RawFile, RawReport};
use crate::run::wait_for_quiet;
use crate::throttle::SlowDisk;

/// The slow disk is this many times slower.
const SLOWER: f64 = 100.0;

impl ClusterFaults<'_> {
    /// Rounds of healthy, paused, healthy, slow disk, on one cluster.
    pub(super) fn slow_follower(&mut self) -> Result<()> {
        let (mut cluster, leader) = self.form("slow")?;
        let rate = self.half_load(&cluster, leader)?;
        let follower = (leader + 1) % NODES;
        let Some(pid) = cluster.pid(follower) else { return failed("the follower has ended") };
        let disk = SlowDisk::create(&cluster.nodes[follower].data)
            .and_then(|disk| disk.add(pid).map(|()| disk));
        let writes_per_second = match &disk {
            Ok(disk) => Some(self.slowness(disk)?),
            Err(why) => {
                println!("no slow disk can be made here: {why}");
                None
            }
        };
        wait_for_quiet(&cluster.nodes[leader].data)?; // creating the raw file wrote to the disk
        let (mut slow, mut paused) = (Vec::new(), Vec::new());
        let (mut healthy_p99, mut slow_p99, mut paused_p99) = (Vec::new(), Vec::new(), Vec::new());
        let seconds = self.arguments.seconds;
        for _ in 0..self.arguments.rounds {
            let healthy = Self::load(&cluster, leader, Some(rate), seconds)?.latency_micros.p99;
            healthy_p99.push(healthy);
            cluster.signal(follower, Signal::STOP)?;
            let load = Self::load(&cluster, leader, Some(rate), seconds);
            cluster.signal(follower, Signal::CONT)?;
            let load = load?.latency_micros.p99;
            paused_p99.push(load);
            paused.push(load / healthy);
            Self::still_leads(&mut cluster, leader)?;
            let (Ok(disk), Some(writes)) = (&disk, writes_per_second) else { continue };
            let healthy = Self::load(&cluster, leader, Some(rate), seconds)?.latency_micros.p99;
            healthy_p99.push(healthy);
            disk.limit(writes)?;
            let load = Self::load(&cluster, leader, Some(rate), seconds);
            disk.limit(0)?;
            let load = load?.latency_micros.p99;
            slow_p99.push(load);
            slow.push(load / healthy);
            Self::still_leads(&mut cluster, leader)?;
        }
        let from = format!("half load, {rate:.0}/s");
        self.report.figure("leader's p99 us, healthy", healthy_p99);
        self.report.figure("leader's p99 us, a follower paused", paused_p99);
        let paused = self.report.figure("ratio, a follower paused", paused);
        let what = "a follower paused: leader's p99 over healthy";
        self.report.target(what, 3.0, true, Some(paused), &from);
        let what = "a follower's disk 100 times slower: leader's p99 over healthy";
        let slow = if slow.is_empty() {
            None
        } else {
            self.report.figure("leader's p99 us, a follower's disk slow", slow_p99);
            Some(self.report.figure("ratio, a follower's disk slow", slow))
        };
        self.report.target(what, 3.0, true, slow, &from);
        Ok(())
    }

    /// The limit of writes a second that makes commits 100 times slower; reports whether it does.
    fn slowness(&mut self, disk: &SlowDisk) -> Result<u64> {
        let raw = RawFile::create(&self.arguments.place.dir)?;
        let time = Duration::from_secs_f64(self.arguments.seconds / 4.0);
        // A limit lets writes through in bursts, so only the mean is meaningful.
        let mean = |report: RawReport| 1e6 / report.commits_per_second;
        let healthy = mean(raw.commits(1, 1, time)?);
        let slow = Duration::from_secs_f64(healthy * SLOWER / 1e6).as_micros().max(1);
        let writes = (1_000_000 / slow as u64).max(1);
        disk.limit(writes)?;
        let slow = disk.run(|| raw.commits(1, 1, 4 * time).map(mean));
        disk.limit(0)?;
        self.report.figure("raw commit us, mean, healthy", vec![healthy]);
        let name = format!("raw commit us, mean, at most {writes} writes/s");
        self.report.figure(&name, vec![slow?]);
        Ok(writes)
    }
}
