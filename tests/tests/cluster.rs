//! Does a simulated cluster lose, double or reorder anything acknowledged, whatever fails?

use std::time::Duration;

use openraft::raft::VoteRequest;
use walengine::ledger::{Ledger, Outcomes};
use walengine::partition::group::raft_log::log_id_of;
use walengine::partition::log_clock::ClockStanding;
use walengine::partition::replica::Replica;
use walengine::refused::Refused;
use walengine::runtime::Runtime;
use walengine::storage::layout::Tail;
use walengine_net::model::PartitionId;
use walengine_replication::transport::{Request, Transport as _, TransportError};
use walengine_replication::types::{Member, NodeId, Types, Vote};
use walengine_tests::cluster::{
    Cluster, Counts, Profile, Ran, Scene, its_electors_are_dead, leader_loses_its_tail,
    one_stays_dead, play, run, run_with_liar,
};
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::seeds::{count, each_of, each_seed};
use walengine_tests::sim::OpClass;

/// Tells the other process which seed to run.
const OTHER_PROCESS: &str = "WALENGINE_TEST_TRACE_OF";
/// Begins the line that it answers with.
const TRACE: &str = "trace";

#[test]
fn nothing_acknowledged_is_lost_or_decided_twice() {
    let runs = each_seed("cluster::nothing_acknowledged", |seed| run(seed, Profile::MIXED));
    let sum = |of: fn(&Ran) -> u64| runs.iter().map(of).sum::<u64>();
    let counts = runs.iter().fold(Counts::default(), |sum, ran| sum + ran.counts);
    println!(
        "{} seeds ({} of 5 nodes, {} of 7), {} s simulated: {counts:?}; {} logs failed, {} had \
         no room, {} nodes out with damage, {} starts from a snapshot, {} answers, {} linearizable \
         reads, {} terms; no violation",
        runs.len(),
        runs.iter().filter(|ran| ran.nodes == 5).count(),
        runs.iter().filter(|ran| ran.nodes == 7).count(),
        sum(|ran| ran.millis) / 1000,
        sum(|ran| ran.failures),
        sum(|ran| ran.stalls),
        sum(|ran| ran.out),
        sum(|ran| ran.restored),
        sum(|ran| ran.answers),
        sum(|ran| ran.reads),
        sum(|ran| ran.terms as u64),
    );
}

/// A node with a valid place in the cluster forges votes, terms, appends and truncations in its own name
/// and in others'. The cluster must go on and keep its promises, while nodes crash as ever.
#[test]
fn a_member_that_lies_costs_nothing_that_was_acknowledged() {
    let runs = each_seed("cluster::a_member_that_lies", |seed| run_with_liar(seed, Profile::MIXED));
    let lies: u64 = runs.iter().map(|ran| ran.lies).sum();
    let answers: u64 = runs.iter().map(|ran| ran.answers).sum();
    println!("{} seeds, {lies} lies not believed, {answers} answers; no violation", runs.len());
    assert!(lies > 100 * runs.len() as u64, "{lies} lies were told apart");
}

/// By default openraft lets a restarted leader lead again in the same term. Entries go to followers
/// before they are durable here, so this leader has lost some that they have, and would give their
/// log ids to other bytes.
#[test]
fn a_leader_that_has_lost_its_tail_gives_no_log_id_twice() {
    each_of("cluster::a_leader_that_has_lost_its_tail", 40, |seed| {
        leader_loses_its_tail(None, seed)
    });
}

/// Two of three nodes must serve whenever the third is dead, and not only once all are there again.
#[test]
fn the_others_serve_while_a_node_that_has_died_stays_dead() {
    each_of("cluster::the_others_serve", count(8), one_stays_dead);
}

/// The fault: the two others waited for the third, for ever.
#[test]
fn a_leader_whose_electors_are_dead_is_elected_anew() {
    each_of("cluster::a_leader_whose_electors", count(12), its_electors_are_dead);
}

/// The fault: a leader whose disk failed while nobody wrote was found out only by the next write.
#[test]
fn a_leader_whose_disk_has_failed_steps_down_also_when_nobody_writes() {
    each_of("cluster::a_leader_whose_disk_has_failed", 20, |seed| {
        let scene = Scene { nodes: Some(3), clients: 0, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            let leader = cluster.leader().expect("it has served");
            let log = cluster.partition(leader).unwrap().log().clone();
            // These writes are zeros ahead of the log, or a segment for later.
            cluster.fail(leader, OpClass::WritesAndSyncs, 1);
            log.prepare_again();
            let _ = log.mark_idle().await;
            root.sleep(Duration::from_millis(rng.between(1500, 2500))).await;
            assert!(log.stopped().is_some(), "the error came");
            let partition = cluster.partition(leader).unwrap();
            assert!(partition.with_replica(Replica::leads).is_none());
            let refused = partition.submit(&[], &mut Outcomes::new());
            assert!(matches!(refused, Err(Refused::Stopped(_))));
            assert!(cluster.leader().is_some(), "the others go on");
            Counts::default()
        })
    });
}

/// The fault: a replica recorded nothing when it fell idle, so that its last entry had no witness. A
/// flipped bit in it was taken for the torn tail of a crash, and what was acknowledged was cut.
#[test]
fn a_last_entry_that_rots_while_the_cluster_is_idle_is_told_and_never_cut() {
    each_of("cluster::a_last_entry_that_rots", 20, |seed| {
        let scene = Scene { nodes: Some(3), clients: 0, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            root.sleep(Duration::from_millis(rng.between(1200, 3000))).await;
            let victim = rng.between(1, 3);
            cluster.ids().into_iter().for_each(|id| cluster.crash(id));
            cluster.flip_last(victim, &mut rng);
            for id in cluster.ids() {
                cluster.restart(id).await; // it panics if the node serves what is damaged
            }
            assert!(!cluster.ids_in().contains(&victim), "it does not start");
            Counts { crashes: 3, flips: 1, ..Counts::default() }
        })
    });
}

/// The node has been told that it was set back, and ends.
fn ends_as_set_back(cluster: &Cluster, id: NodeId) -> bool {
    let partition = cluster.partition(id).expect("it has power");
    let stopped = partition.commit().machine().stopped();
    stopped.is_some_and(|why| why.contains("set back to an older copy"))
}

/// A node's request to be voted for in the term after this one, with a log that ends there.
fn candidacy(node: NodeId, term: u64, last: &Tail) -> VoteRequest<Types> {
    VoteRequest::new(Vote::new(term + 1, node), log_id_of(last))
}

/// The fault: a node that was started on an older copy of its disk was counted for majorities as if it
/// still had what it had acknowledged.
#[test]
fn a_node_that_was_set_back_is_refused_and_the_others_go_on() {
    each_of("cluster::a_node_that_was_set_back", 20, |seed| {
        let scene = Scene { nodes: Some(3), clients: 2, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            root.sleep(Duration::from_millis(rng.between(300, 900))).await;
            let leads = cluster.leader().unwrap_or(1);
            let victim = (leads + rng.between(0, 1)) % 3 + 1; // another one
            let old = cluster.copy_of(victim);
            cluster.restart(victim).await;
            root.sleep(Duration::from_millis(rng.between(4000, 6000))).await;
            let leader = cluster.leader().filter(|id| *id != victim);
            let third = cluster.ids().into_iter().find(|id| *id != victim && Some(*id) != leader);
            if let (Some(leader), Some(third), true) = (leader, third, rng.percent(50)) {
                // The leader knows it from its disk, too, and has nobody else to vote for it.
                root.sleep(Duration::from_secs(6)).await;
                cluster.crash(third);
                cluster.restart(leader).await;
            }
            cluster.set_back(victim, &old).await;
            let by = root.elapsed() + Duration::from_secs(20);
            while !ends_as_set_back(cluster, victim) {
                assert!(root.elapsed() < by, "it goes on as if nothing had happened");
                root.sleep(Duration::from_millis(10)).await;
            }
            cluster.take_out(victim);
            for id in cluster.ids_in().into_iter().filter(|id| cluster.is_down(*id)) {
                cluster.restart(id).await;
            }
            Counts { crashes: 2, ..Counts::default() }
        })
    });
}

/// The fault: a request for a vote that was held up for a second was held against what its sender had said
/// meanwhile on another connection. A healthy node was refused for good, and had to empty its directory.
#[test]
fn a_request_that_was_held_up_is_not_held_against_what_its_sender_has_said_since() {
    each_of("cluster::a_request_that_was_held_up", 20, |seed| {
        let scene = Scene { nodes: Some(3), clients: 2, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            root.sleep(Duration::from_millis(rng.between(300, 900))).await;
            let leads = cluster.leader().unwrap_or(1);
            let sender = (leads + rng.between(0, 1)) % 3 + 1; // another one
            let partition = cluster.partition(sender).expect("it has power");
            let (held_up, term) = (partition.log().last(), partition.log().hard_state().term);
            let committed = || partition.commit().applied().map_or(0, |id| id.index + 1);
            let by = root.elapsed() + Duration::from_secs(20);
            let follows = async |beyond: u64| {
                while committed().min(partition.log().durable_index()) <= beyond {
                    assert!(root.elapsed() < by, "nothing is sent to it any more");
                    root.sleep(Duration::from_millis(10)).await;
                }
            };
            follows(held_up.index).await;
            let has = committed().min(partition.log().durable_index());
            for other in cluster.ids().into_iter().filter(|id| *id != sender) {
                // As nodes hear it when they compare their histories.
                cluster.partition(other).expect("it has power").commit().note_reached(sender, has);
                let vote = candidacy(sender, term, &held_up);
                for request in [Request::PreVote(vote.clone()), Request::Vote(vote)] {
                    let sent =
                        cluster.net.transport(sender).call(other, Member::default(), request);
                    let answer = sent.await;
                    assert!(answer.is_ok(), "it is sound, and asked anew: {answer:?}");
                }
            }
            follows(has + 10).await; // and the observer sees that nobody stops
            Counts::default()
        })
    });
}

/// The leader may know nothing of it, and feed it at once: then this request is the only one that it makes.
#[test]
fn a_candidate_that_has_less_when_it_is_asked_anew_is_refused_with_its_first_request() {
    each_of("cluster::a_candidate_that_has_less", 10, |seed| {
        let scene = Scene { nodes: Some(3), clients: 2, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            root.sleep(Duration::from_millis(rng.between(300, 900))).await;
            let leads = cluster.leader().unwrap_or(1);
            let (sender, knows) = (leads % 3 + 1, (leads + 1) % 3 + 1);
            let log = cluster.partition(sender).expect("it has power").log().clone();
            let partition = cluster.partition(knows).expect("it has power");
            partition.commit().note_reached(sender, log.last().index + 1_000_000);
            let vote = candidacy(sender, log.hard_state().term, &log.last());
            let request = Request::PreVote(vote);
            let sent = cluster.net.transport(sender).call(knows, Member::default(), request);
            let answer = sent.await;
            assert!(matches!(&answer, Err(TransportError::SetBack(..))), "{answer:?}");
            cluster.take_out(sender);
            Counts::default()
        })
    });
}

/// Each would ask the other before it answers, and so again without end.
#[test]
fn two_nodes_that_were_both_set_back_and_doubt_each_other_come_to_an_end() {
    each_of("cluster::two_nodes_that_were_both_set_back", 10, |seed| {
        let scene = Scene { nodes: Some(5), clients: 2, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            root.sleep(Duration::from_millis(rng.between(300, 900))).await;
            let leads = cluster.leader().unwrap_or(1);
            let two = [leads % 5 + 1, (leads + 1) % 5 + 1];
            let log = |id| cluster.partition(id).expect("it has power").log().clone();
            for (knows, of) in [(two[0], two[1]), (two[1], two[0])] {
                cluster.may_stop(knows);
                let knows = cluster.partition(knows).expect("it has power");
                knows.commit().note_reached(of, log(of).last().index + 1_000_000);
            }
            let by = root.elapsed() + Duration::from_secs(20);
            let [from, to] = two;
            let vote = candidacy(from, log(from).hard_state().term, &log(from).last());
            let sent = cluster.net.transport(from);
            let _ = sent.call(to, Member::default(), Request::PreVote(vote)).await;
            while !two.iter().any(|id| ends_as_set_back(cluster, *id)) {
                assert!(root.elapsed() < by, "they ask each other without end");
                root.sleep(Duration::from_millis(10)).await;
            }
            for id in two {
                cluster.take_out(id);
            }
            Counts::default()
        })
    });
}

/// The fault: a group that is written all the time never counted as idle, and the commit index on its
/// nodes' disks stayed where it was when they voted last.
#[test]
fn what_is_committed_is_recorded_also_while_it_is_written_all_the_time() {
    each_of("cluster::what_is_committed_is_recorded", 5, |seed| {
        let scene = Scene { nodes: Some(3), clients: 2, reads: false, bug: None };
        play(seed, scene, async |cluster, root, _| {
            root.sleep(Duration::from_secs(2)).await;
            let log = |id| cluster.partition(id).expect("it has power").log().clone();
            let before = cluster.ids().into_iter().map(|id| (id, log(id).committed_index()));
            let before: Vec<_> = before.collect();
            root.sleep(Duration::from_secs(7)).await;
            for (id, committed) in before {
                let saved = log(id).hard_state();
                assert!(committed > 1 && saved.commit_index >= committed, "node {id}: {saved:?}");
                assert!(saved.durable_index >= saved.commit_index, "node {id}: {saved:?}");
            }
            Counts::default()
        })
    });
}

/// The fault: a leader whose clock had been wrong since its start moved log time by up to a year with its
/// first write, which ended every reservation.
#[test]
fn a_leader_whose_clock_is_wrong_from_its_start_moves_no_log_time() {
    const AHEAD: Duration = Duration::from_hours(100 * 24);
    each_of("cluster::a_leader_whose_clock_is_wrong", 20, |seed| {
        let scene = Scene { nodes: Some(3), clients: 0, reads: false, bug: None };
        play(seed, scene, async |cluster, root, mut rng| {
            let wrong = rng.between(1, 3);
            cluster.set_wall(wrong, AHEAD.as_nanos() as i64);
            cluster.restart(wrong).await;
            let partition = cluster.partition(wrong).expect("it has power");
            partition.await_clocks();
            let by = root.elapsed() + Duration::from_secs(20);
            while !partition.leads() {
                assert!(root.elapsed() < by, "it does not come to lead");
                cluster.hand_over(wrong);
                root.sleep(Duration::from_millis(300)).await;
            }
            let mut writer = Writer::new(seed, &accounts_of(PartitionId(0), 1));
            let mut submit = || {
                let transfer = writer.transfer().to_bytes();
                partition.submit(&[transfer], &mut Outcomes::new()).map(drop)
            };
            assert!(matches!(submit(), Err(Refused::Busy { .. })), "it knows no clock but its own");
            cluster.tell_clocks();
            assert_eq!(submit(), Ok(()));
            let last = partition.with_ledger(Ledger::last_timestamp);
            let ahead = last.0.saturating_sub(root.now().0);
            assert!(Duration::from_nanos(ahead) < Duration::from_secs(10), "{last}");
            assert!(matches!(partition.clock(), ClockStanding::Ahead(by) if by > AHEAD / 2));
            // Mended, it is followed again.
            cluster.runtime(wrong).set_own_wall(0);
            cluster.tell_clocks();
            root.sleep(Duration::from_secs(1)).await;
            let _ = submit(); // it may have lost its leadership since
            assert_eq!(partition.clock(), ClockStanding::Agrees);
            Counts { crashes: 1, ..Counts::default() }
        })
    });
}

/// The other process runs this test for one seed; it prints the trace.
#[test]
fn same_seed_replays_the_same_run_in_another_process() {
    const SEEDS: u64 = 20;
    if let Ok(seed) = std::env::var(OTHER_PROCESS) {
        return println!("{TRACE} {:016x}", run(seed.parse().unwrap(), Profile::MIXED).trace);
    }
    let traces = each_of("cluster::same_seed", SEEDS, |seed| {
        let here = run(seed, Profile::MIXED).trace;
        let test = "cluster::same_seed_replays_the_same_run_in_another_process";
        let mut other = std::process::Command::new(std::env::current_exe().unwrap());
        other.args([test, "--exact", "--nocapture"]).env(OTHER_PROCESS, seed.to_string());
        let said = String::from_utf8(other.output().unwrap().stdout).unwrap();
        let there = said.lines().find_map(|line| line.split_once(TRACE)).map(|(_, hash)| hash);
        assert_eq!(there, Some(&*format!(" {here:016x}")), "{said}");
        here
    });
    assert!(traces.is_sorted_by(|before, after| before != after), "seeds differ");
}
