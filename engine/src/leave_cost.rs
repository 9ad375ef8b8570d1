//! What it costs a partition if a node leaves its cluster for good. Pure; the server refuses by it, and the
//! command line tells it before it asks.

use walengine_net::message::ReplicaRole;
use walengine_net::model::PartitionId;

/// What a partition loses when a node leaves without another to take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// It goes on with so many voters and tolerates fewer failures than before.
    Failures {
        /// Voters.
        left: usize,
    },
    /// It has no leader, so that nobody knows who would be left.
    NoLeader,
    /// So many voters are left, of which so many are alive: no majority.
    Majority {
        /// Voters.
        left: usize,
        /// Of them.
        alive: usize,
    },
    /// Nobody else has its records.
    Everything,
}

impl Cost {
    /// The partition would take no writes afterwards, or nobody knows.
    pub fn is_a_majority(&self) -> bool {
        !matches!(self, Self::Failures { .. })
    }

    /// For people: what it costs these partitions if `node` leaves.
    pub fn in_words(self, node: u64, partitions: &[PartitionId]) -> String {
        let list: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        let list = list.join(", ");
        let partitions = if partitions.len() == 1 { "partition" } else { "partitions" };
        match self {
            Self::Failures { left: 1 } => format!(
                "no other node is there to take its place: {partitions} {list} is left with one \
                 voter, and stops if that fails; start another node first to avoid it"
            ),
            Self::Failures { left } => format!(
                "no other node is there to take its place: {partitions} {list} goes on with {left} \
                 voters, and stops if {} fails; start another node first to avoid it",
                match (left - 1) / 2 {
                    0 => "one of them".to_owned(),
                    more => format!("more than {more} of them"),
                }
            ),
            Self::NoLeader => format!(
                "{partitions} {list} has no leader: whether a majority would be left is not known"
            ),
            Self::Majority { left, alive } => format!(
                "{partitions} {list} would have {left} voters of which {alive} are alive, no \
                 majority: it would take no writes until others are back"
            ),
            Self::Everything => format!(
                "node {node} is the last voter of {partitions} {list}: nobody else has these \
                 records, and nobody would serve them; to stop it for a while, end it with SIGTERM"
            ),
        }
    }
}

/// What it costs a partition with a leader if `node` leaves; `None` if another takes its place.
pub fn cost(
    replicas: &[(u64, ReplicaRole)],
    node: u64,
    is_alive: impl Fn(u64) -> bool,
) -> Option<Cost> {
    let voters = replicas.iter().filter(|(_, role)| *role == ReplicaRole::Voter);
    let voters: Vec<u64> = voters.map(|(voter, _)| *voter).collect();
    if !voters.contains(&node) {
        return None;
    }
    let has_spare = replicas
        .iter()
        .any(|(other, role)| *role == ReplicaRole::Learner && *other != node && is_alive(*other));
    let others: Vec<u64> = voters.iter().copied().filter(|voter| *voter != node).collect();
    let alive = others.iter().filter(|voter| is_alive(**voter)).count();
    let (left, before) = (others.len(), voters.len());
    // While it is there the node counts towards the old majority, as a spare does towards the new one.
    let keeps_old = 2 * (alive + 1) > before;
    if has_spare && keeps_old {
        return None;
    }
    match left {
        0 => Some(Cost::Everything),
        _ if !keeps_old || 2 * alive <= left => Some(Cost::Majority { left, alive }),
        _ if (left - 1) / 2 < (before - 1) / 2 || left == 1 => Some(Cost::Failures { left }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u64], learners: &[u64], dead: &[u64], leaves: u64) -> Option<Cost> {
        let voters = voters.iter().map(|node| (*node, ReplicaRole::Voter));
        let learners = learners.iter().map(|node| (*node, ReplicaRole::Learner));
        let replicas: Vec<_> = voters.chain(learners).collect();
        cost(&replicas, leaves, |node| !dead.contains(&node))
    }

    #[test]
    fn what_leaving_costs() {
        let failures = |left| Some(Cost::Failures { left });
        assert_eq!(of(&[1, 2, 3], &[4], &[], 3), None, "another takes its place");
        assert_eq!(of(&[1, 2, 3], &[4], &[], 4), None, "it only learns");
        assert_eq!(of(&[1, 2, 3], &[], &[], 3), failures(2));
        assert_eq!(of(&[1, 2, 3], &[4], &[4], 3), failures(2), "the spare is dead");
        assert_eq!(of(&[1, 2, 3, 4], &[], &[], 3), None, "three tolerate as many failures as four");
        assert_eq!(of(&[1, 2, 3, 4, 5], &[], &[], 3), failures(4));
        assert_eq!(of(&[1, 2], &[], &[], 2), failures(1));
        assert_eq!(of(&[1, 2, 3], &[], &[1], 3), Some(Cost::Majority { left: 2, alive: 1 }));
        assert_eq!(of(&[1, 2], &[], &[1], 2), Some(Cost::Majority { left: 1, alive: 0 }));
        assert_eq!(of(&[1, 2, 3], &[4], &[1, 2], 3), Some(Cost::Majority { left: 2, alive: 0 }));
        assert_eq!(of(&[1], &[], &[], 1), Some(Cost::Everything));
        assert_eq!(of(&[1], &[2], &[2], 1), Some(Cost::Everything));
        assert_eq!(of(&[1], &[2], &[], 1), None);
    }

    #[test]
    fn a_warning_says_what_stops_it() {
        let words = |cost: Cost| cost.in_words(3, &[PartitionId(0), PartitionId(2)]);
        assert!(words(Cost::Failures { left: 2 }).contains("0, 2 goes on with 2 voters"));
        assert!(words(Cost::Failures { left: 2 }).contains("stops if one of them fails"));
        assert!(words(Cost::Failures { left: 4 }).contains("stops if more than 1 of them fails"));
        assert!(words(Cost::Everything).contains("node 3 is the last voter of partitions 0, 2"));
        assert!(!Cost::Failures { left: 2 }.is_a_majority());
        assert!(Cost::NoLeader.is_a_majority() && Cost::Everything.is_a_majority());
    }
}
