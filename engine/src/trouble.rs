//! What a person should look at in a cluster: which node can't be reached by which way, whose disk or
//! clock is off, who has no place in the cluster any more. Pure. Each is said in the log when it begins
//! and when it ends, and shown by `walengine cluster` meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use walengine_replication::gossip::{NodeStanding, NodeView};
use walengine_replication::membership::Contact;
use walengine_replication::types::NodeId;

use crate::agreed_clock::ClockAgreement;
use crate::cluster_view::ClusterView;
use crate::limits::{CERTIFICATE_WARN_BEFORE, CLOCK_FAR_NANOS, ONE_WAY_AFTER};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The same for as long as it lasts; the name of its row in the server's status.
    pub key: String,
    /// What it is, and what to do.
    pub text: String,
}

impl Trouble {
    fn of_node(node: NodeId, what: &str, text: String) -> Self {
        Self { key: format!("node_{node}_{what}"), text }
    }
}

/// What was said already.
#[derive(Debug, Default)]
pub struct Said(BTreeMap<String, String>);

impl Said {
    /// Takes the troubles of now. Returns the texts of those that are new, and of those that are over.
    pub fn news(&mut self, now: &[Trouble]) -> (Vec<String>, Vec<String>) {
        let keys: BTreeSet<&str> = now.iter().map(|trouble| trouble.key.as_str()).collect();
        let over = self.0.keys().filter(|key| !keys.contains(key.as_str())).cloned();
        let over: Vec<String> = over.collect();
        let over = over.iter().filter_map(|key| self.0.remove(key)).collect();
        let fresh = now.iter().filter(|trouble| !self.0.contains_key(&trouble.key));
        let fresh: Vec<_> = fresh.cloned().collect();
        self.0.extend(fresh.iter().map(|one| (one.key.clone(), one.text.clone())));
        (fresh.into_iter().map(|trouble| trouble.text).collect(), over)
    }
}

/// What is wrong with nodes, as their own words and this node's clock tell. `me` is this node.
pub fn of_nodes(cluster: &ClusterView, me: NodeId) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for view in &cluster.nodes {
        let node = view.node;
        let Some(condition) = view.condition else { continue };
        let mut disk = |is_so: bool, what: &str, words: &str| {
            if is_so {
                let text = format!("the disk of node {node} {words}");
                troubles.push(Trouble::of_node(node, what, text));
            }
        };
        disk(condition.is_stuck, "disk_stuck", "is stuck, or was a moment ago: look at that disk");
        let full = "is full, or was a moment ago: make room there; it does not lead meanwhile";
        disk(condition.is_full, "disk_full", full);
        let slow = "is slow, or was a moment ago; leadership is not given to it meanwhile";
        disk(condition.is_slow && !condition.is_stuck, "disk_slow", slow);
        if condition.is_short_of_memory {
            let text = format!(
                "node {node} has nearly used up its memory: it is sent no records, and falls behind; its status \
                 shows by what; raise --memory-mib (or the limit of its control group) and start it again"
            );
            troubles.push(Trouble::of_node(node, "memory", text));
        }
        let ahead = condition.clock_ahead_nanos;
        if node != me && ahead.unsigned_abs() >= CLOCK_FAR_NANOS {
            let tenths = ahead.unsigned_abs() / 100_000_000;
            let (seconds, tenth) = (tenths / 10, tenths % 10);
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let text = format!(
                "the clock of node {node} is {seconds}.{tenth} s {way} that of node {me}: set the \
                 clocks by NTP on both"
            );
            troubles.push(Trouble::of_node(node, "clock", text));
        }
    }
    troubles.extend(cluster.twins.iter().map(|twin| {
        let (node, known, claimed_by) = (twin.node, twin.known, twin.claimed_by);
        let text = format!(
            "node {node} at {known} is in use twice: {claimed_by} runs from a copy of its data \
             directory; stop the copy and empty its directory"
        );
        Trouble::of_node(node, "twice", text)
    }));
    troubles
}

/// What is wrong with this node's own certificate, which is valid for `left` still.
pub fn of_certificate(me: NodeId, left: Duration) -> Option<Trouble> {
    (left < CERTIFICATE_WARN_BEFORE).then(|| {
        let when = match left.as_secs() / 86_400 {
            _ if left.is_zero() => "has expired: nobody connects to it any more".to_owned(),
            0 => "expires within a day".to_owned(),
            days => format!("expires in {days} days"),
        };
        let text = format!(
            "the certificate of node {me} {when}; renew it: `walengine cert node {me} --renew`"
        );
        Trouble::of_node(me, "certificate", text)
    })
}

/// A group, as this node sees it.
#[derive(Debug)]
pub struct GroupFacts<'a> {
    /// This node.
    pub me: NodeId,
    /// It leads, and a majority answers it.
    pub leads: bool,
    /// It led, and has not heard a majority for this long.
    pub cut_off: bool,
    /// What consensus hears of the members.
    pub contact: &'a BTreeMap<NodeId, Contact>,
    /// Former members.
    pub removed: &'a BTreeSet<NodeId>,
    /// The voter that an operator chose to lead.
    pub chosen: Option<NodeId>,
    /// Other voters, and how many of them say that this node is no member.
    pub others: usize,
    /// See there.
    pub refused_by: usize,
    /// Nodes that wait for an operator to take them in.
    pub waiting: &'a [(NodeId, SocketAddr)],
    /// How this node's clock stands to the voters'.
    pub clock: ClockAgreement,
    /// How far the log's time is ahead of what a majority of clocks says, if it is far.
    pub log_ahead: Option<Duration>,
    /// The nodes as gossip has them.
    pub nodes: &'a [NodeView],
    /// Gossip's time.
    pub now: Duration,
}

/// What is wrong in a group.
pub fn of_group(facts: &GroupFacts<'_>) -> Vec<Trouble> {
    let GroupFacts { me, .. } = *facts;
    let mut troubles = Vec::new();
    if facts.others > 0 && 2 * facts.refused_by > facts.others {
        let text = format!(
            "node {me} is no member any more: it left, or was replaced while it was away; stop it, \
             empty its data directory, and start it again: it joins as a new node"
        );
        troubles.push(Trouble::of_node(me, "no_member", text));
    }
    if facts.cut_off {
        let text = format!(
            "node {me} led and hears no majority any more: it is cut off, or the others are down"
        );
        troubles.push(Trouble::of_node(me, "cut_off", text));
    }
    if let ClockAgreement::Without(ahead) = facts.clock {
        let (by, way) =
            (ahead.unsigned_abs() / 1_000_000_000, if ahead < 0 { "ahead of" } else { "behind" });
        let text = format!(
            "the clock of node {me} is {by} s {way} what a majority of the voters say: theirs is \
             followed; set it right by NTP"
        );
        troubles.push(Trouble::of_node(me, "clock_held", text));
    }
    if let Some(ahead) = facts.log_ahead {
        let seconds = ahead.as_secs();
        let text = format!(
            "the log's time is {seconds} s ahead of what a majority of the nodes' clocks say: it goes \
             on from there; a clock was wrong once, or theirs are now"
        );
        troubles.push(Trouble::of_node(me, "log_time", text));
    }
    if !facts.leads {
        return troubles;
    }
    for (node, at) in facts.waiting {
        let text = format!(
            "node {node} at {at} wants to join, and nothing proves that it belongs here: \
             `walengine cluster admit {node}` takes it in; with --key-file on every node that is not asked"
        );
        troubles.push(Trouble::of_node(*node, "waiting", text));
    }
    for view in facts.nodes.iter().filter(|view| view.node != me) {
        let (node, lasting) = (view.node, facts.now.saturating_sub(view.since) >= ONE_WAY_AFTER);
        let is_alive = view.standing == NodeStanding::Alive;
        if facts.removed.contains(&node) && is_alive {
            let text = format!(
                "node {node} is back, and no member any more: it left, or was replaced while it was \
                 away; stop it, empty its data directory, and start it again"
            );
            troubles.push(Trouble::of_node(node, "no_member", text));
        }
        let Some(contact) = facts.contact.get(&node) else { continue };
        let is_steady = contact.steady.is_some_and(|steady| steady >= ONE_WAY_AFTER);
        if view.standing == NodeStanding::Dead && lasting && is_steady {
            let text = format!(
                "node {node} answers over TCP and not over UDP: it stays a member; open UDP between \
                 the peer ports"
            );
            troubles.push(Trouble::of_node(node, "no_udp", text));
        }
        if is_alive && lasting && contact.steady.is_none() && contact.silent >= ONE_WAY_AFTER {
            let text = format!(
                "node {node} answers over UDP and not over TCP: it gets no records, and is replaced \
                 after --dead-after; open TCP between the peer ports, or look at that process"
            );
            troubles.push(Trouble::of_node(node, "no_tcp", text));
        }
    }
    if let Some(chosen) = facts.chosen.filter(|chosen| *chosen != me) {
        let text = format!(
            "an operator chose node {chosen} to lead, and it can't now: node {me} leads meanwhile"
        );
        troubles.push(Trouble::of_node(chosen, "chosen", text));
    }
    troubles
}

#[cfg(test)]
mod tests {
    use walengine_net::model::ClusterId;
    use walengine_replication::gossip::{NodeCondition, NodeMeta};

    use super::*;
    use crate::cluster_view::Twin;

    const NOW: Duration = Duration::from_secs(1_000);

    fn view(node: NodeId, standing: NodeStanding) -> NodeView {
        NodeView {
            node,
            peer_address: format!("10.0.0.{node}:7550").parse().unwrap(),
            standing,
            since: Duration::ZERO,
            meta: Some(NodeMeta::default()),
            cluster: Some(ClusterId(7)),
            condition: Some(NodeCondition::default()),
        }
    }

    fn keys(troubles: &[Trouble]) -> Vec<&str> {
        troubles.iter().map(|trouble| trouble.key.as_str()).collect()
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_of_with_the_days_that_are_left() {
        let days = |days: u64| of_certificate(7, Duration::from_hours(24 * days));
        assert_eq!(days(15), None);
        for (left, says) in [(13, "in 13 days"), (0, "has expired")] {
            let trouble = days(left).unwrap();
            assert!(trouble.text.contains(says), "{}", trouble.text);
            assert_eq!(trouble.key, "node_7_certificate");
        }
        let hour = of_certificate(7, Duration::from_hours(1)).unwrap();
        assert!(hour.text.contains("within a day"), "{}", hour.text);
    }

    #[test]
    fn disks_clocks_and_twins_are_told() {
        let with = |node, condition| NodeView {
            condition: Some(condition),
            ..view(node, NodeStanding::Alive)
        };
        let well = NodeCondition::default();
        let second = 1_000_000_000;
        let nodes = vec![
            view(1, NodeStanding::Alive),
            with(2, NodeCondition { is_full: true, clock_ahead_nanos: second - 1, ..well }),
            with(3, NodeCondition { is_slow: true, clock_ahead_nanos: -7 * second / 2, ..well }),
            with(4, NodeCondition { is_slow: true, is_stuck: true, ..well }),
            with(6, NodeCondition { is_short_of_memory: true, ..well }),
        ];
        let address = |at: &str| at.parse().unwrap();
        let twin =
            Twin { node: 5, known: address("10.0.0.5:1"), claimed_by: address("10.0.0.9:1") };
        let cluster = ClusterView { nodes, twins: vec![twin], ..ClusterView::default() };
        let troubles = of_nodes(&cluster, 1);
        let expected = [
            "node_2_disk_full",
            "node_3_disk_slow",
            "node_3_clock",
            "node_4_disk_stuck",
            "node_6_memory",
            "node_5_twice",
        ];
        assert_eq!(keys(&troubles), expected);
        assert!(troubles[2].text.contains("3.5 s behind that of node 1"), "{}", troubles[2].text);
        for trouble in &troubles {
            assert!(trouble.text.len() <= walengine_net::limits::LABEL_BYTES_MAX, "{trouble:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_group_is_told() {
        let steady = Contact { silent: Duration::ZERO, steady: Some(NOW) };
        let silent = Contact { silent: NOW, steady: None };
        let nodes = [
            view(1, NodeStanding::Alive),
            view(2, NodeStanding::Dead),
            view(3, NodeStanding::Alive),
            view(4, NodeStanding::Alive),
        ];
        let contact = BTreeMap::from([(2, steady), (3, silent)]);
        let removed = BTreeSet::from([4, 5]);
        let facts = GroupFacts {
            me: 1,
            leads: true,
            cut_off: false,
            contact: &contact,
            removed: &removed,
            waiting: &[],
            chosen: Some(3),
            others: 2,
            refused_by: 1,
            clock: ClockAgreement::With,
            log_ahead: None,
            nodes: &nodes,
            now: NOW,
        };
        let expected = ["node_2_no_udp", "node_3_no_tcp", "node_4_no_member", "node_3_chosen"];
        let troubles = of_group(&facts);
        assert_eq!(keys(&troubles), expected);
        for trouble in &troubles {
            assert!(trouble.text.len() <= walengine_net::limits::LABEL_BYTES_MAX, "{trouble:?}");
        }
        let alone = GroupFacts { leads: false, cut_off: true, refused_by: 2, ..facts };
        assert_eq!(keys(&of_group(&alone)), ["node_1_no_member", "node_1_cut_off"]);
        let clock = ClockAgreement::Without(-90_000_000_000);
        let off =
            GroupFacts { clock, log_ahead: Some(NOW), refused_by: 0, cut_off: false, ..alone };
        let troubles = of_group(&off);
        assert_eq!(keys(&troubles), ["node_1_clock_held", "node_1_log_time"]);
        assert!(troubles[0].text.contains("is 90 s ahead of what a majority"), "{troubles:?}");
        let well = BTreeMap::from([(2, steady), (3, steady)]);
        let nodes: Vec<_> = (1..=3).map(|node| view(node, NodeStanding::Alive)).collect();
        let facts = GroupFacts { contact: &well, chosen: Some(1), nodes: &nodes, ..alone };
        let facts = GroupFacts { leads: true, cut_off: false, refused_by: 0, ..facts };
        assert!(of_group(&facts).is_empty(), "all is well");
    }

    #[test]
    fn each_is_said_when_it_begins_and_when_it_ends() {
        let one = |key: &str, text: &str| Trouble { key: key.to_owned(), text: text.to_owned() };
        let mut said = Said::default();
        let some = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said.news(&[one("a", "1 s off")]), (some(&["1 s off"]), some(&[])));
        assert_eq!(said.news(&[one("a", "2 s off")]), (some(&[]), some(&[])));
        assert_eq!(said.news(&[one("b", "full")]), (some(&["full"]), some(&["1 s off"])));
        assert_eq!(said.news(&[]), (some(&[]), some(&["full"])));
    }
}
