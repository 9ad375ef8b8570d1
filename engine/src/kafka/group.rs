//! One group of readers that share the partitions: the classic protocol. No I/O and no clock.
//!
//! ```text
//!  Empty ─ join ─> Gathering ─ all joined, or time is up ─> Assigning ─ the leader's sync ─> Stable
//!                      ^                                        │                              │
//!                      └── join, leave, a member is silent ─────┴──────────────────────────────┘
//! ```
//! Who shares what is decided by one of the readers, the leader; here it is only passed on. Of a generation that is
//! over, nothing is taken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codes::{
    GROUP_MAX_SIZE_REACHED, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL, NONE,
    REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID,
};
use crate::limits::{KAFKA_GATHER_WITHIN, KAFKA_MEMBERS_MAX};

/// What a reader says when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// It is silent for longer: it is taken out.
    pub session: Duration,
    /// How long it may take to join again.
    pub rebalance: Duration,
    /// Kind of the protocols, `consumer` for readers.
    pub kind: String,
    /// How it can share, the best first, with what the leader has to know for it.
    pub protocols: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Member {
    joining: Joining,
    has_joined: bool,
    heard: Duration,
    assignment: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Complete once all have joined, and not before `from`; at `until` with those who have.
    Gathering {
        from: Duration,
        until: Duration,
    },
    /// The leader has to say who gets what, at `until` at the latest.
    Assigning {
        until: Duration,
    },
    Stable,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Group {
    phase: Phase,
    generation: i32,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
}

/// A generation as a member gets to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// How it shares.
    pub protocol: String,
    /// Who says what each gets.
    pub leader: String,
    /// For the leader: everybody, with what they have said.
    pub members: Vec<(String, Vec<u8>)>,
}

impl Group {
    /// Without members.
    pub fn new() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
        }
    }

    /// Nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a reader in, or one of its members for the next generation. `is_new` is one whose id was just made.
    ///
    /// # Errors
    /// The number of the error; nothing was changed.
    pub fn join(
        &mut self,
        id: &str,
        is_new: bool,
        joining: Joining,
        now: Duration,
    ) -> Result<(), i16> {
        if !is_new && !self.members.contains_key(id) {
            return Err(UNKNOWN_MEMBER_ID);
        }
        if is_new && self.members.len() >= KAFKA_MEMBERS_MAX {
            return Err(GROUP_MAX_SIZE_REACHED);
        }
        let others = || self.members.iter().filter(|(other, _)| *other != id).map(|(_, one)| one);
        let fits = |(name, _): &(String, Vec<u8>)| {
            others().all(|other| other.joining.protocols.iter().any(|(known, _)| known == name))
        };
        let is_same_kind = others().all(|other| other.joining.kind == joining.kind);
        if !is_same_kind || !joining.protocols.iter().any(fits) {
            return Err(INCONSISTENT_GROUP_PROTOCOL);
        }
        let repeats = matches!(self.phase, Phase::Assigning { .. })
            && self.members.get(id).is_some_and(|member| member.joining == joining);
        if repeats {
            return Ok(()); // its answer was lost
        }
        let member = Member { joining, has_joined: true, heard: now, assignment: Vec::new() };
        self.members.insert(id.to_owned(), member);
        if !matches!(self.phase, Phase::Gathering { .. }) {
            self.gather(Some(id), now);
        }
        Ok(())
    }

    /// All have to join again; `but` has already.
    fn gather(&mut self, but: Option<&str>, now: Duration) {
        for (id, member) in &mut self.members {
            member.has_joined = but == Some(id.as_str());
        }
        let until = now + self.longest_rebalance();
        // Readers that start together make one generation.
        let from = if self.phase == Phase::Empty { now + KAFKA_GATHER_WITHIN } else { now };
        self.phase = Phase::Gathering { from, until: until.max(from) };
    }

    fn longest_rebalance(&self) -> Duration {
        self.members.values().map(|member| member.joining.rebalance).max().unwrap_or_default()
    }

    /// Does what is due. Whether anything has changed.
    pub fn tick(&mut self, now: Duration) -> bool {
        match self.phase {
            Phase::Gathering { from, until } => {
                // Who was silent for too long is not waited for.
                let is_alive = |member: &Member| now <= member.heard + member.joining.session;
                self.members.retain(|_, member| member.has_joined || is_alive(member));
                let all = self.members.values().all(|member| member.has_joined);
                if now < from || !all && now < until {
                    return false;
                }
                self.members.retain(|_, member| member.has_joined);
                self.begin(now);
                true
            }
            Phase::Assigning { .. } | Phase::Stable => {
                let before = self.members.len();
                self.members.retain(|_, member| now <= member.heard + member.joining.session);
                if matches!(self.phase, Phase::Assigning { until } if now > until) {
                    self.members.remove(&self.leader);
                }
                let changed = self.members.len() < before;
                if changed {
                    self.lost_some(now);
                }
                changed
            }
            Phase::Empty => false,
        }
    }

    fn lost_some(&mut self, now: Duration) {
        if self.members.is_empty() {
            self.phase = Phase::Empty;
        } else if !matches!(self.phase, Phase::Gathering { .. }) {
            self.gather(None, now);
        }
    }

    fn begin(&mut self, now: Duration) {
        self.generation = self.generation.wrapping_add(1).max(1);
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        let Some(leader) = self.members.get(&self.leader) else {
            self.phase = Phase::Empty;
            return;
        };
        let common = leader.joining.protocols.iter().map(|(name, _)| name).find(|name| {
            let knows =
                |member: &Member| member.joining.protocols.iter().any(|(known, _)| known == *name);
            self.members.values().all(knows)
        });
        // Who does not fit the others was not let in.
        self.protocol = common.cloned().unwrap_or_default();
        for member in self.members.values_mut() {
            member.heard = now;
            member.assignment.clear();
        }
        self.phase = Phase::Assigning { until: now + self.longest_rebalance() };
    }

    /// The generation, once it is there; `None` as long as others are waited for.
    ///
    /// # Errors
    /// The member was taken out meanwhile.
    pub fn joined(&mut self, id: &str) -> Result<Option<Joined>, i16> {
        let member = self.members.get_mut(id).ok_or(UNKNOWN_MEMBER_ID)?;
        match self.phase {
            Phase::Assigning { .. } | Phase::Stable => {}
            Phase::Gathering { .. } => {
                // Who still waits for a generation that is over already waits for the next one.
                member.has_joined = true;
                return Ok(None);
            }
            Phase::Empty => return Ok(None),
        }
        let said = |member: &Member| {
            let of_protocol = |(name, _): &&(String, Vec<u8>)| *name == self.protocol;
            let said = member.joining.protocols.iter().find(of_protocol);
            said.map(|(_, said)| said.clone()).unwrap_or_default()
        };
        let is_leader = self.leader == id;
        let all = self.members.iter().filter(|_| is_leader);
        Ok(Some(Joined {
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: all.map(|(id, member)| (id.clone(), said(member))).collect(),
        }))
    }

    /// Who speaks is a member of this generation.
    ///
    /// # Errors
    /// It is not; the number of the error.
    fn heard(&mut self, id: &str, generation: i32, now: Duration) -> Result<&mut Member, i16> {
        let member = self.members.get_mut(id).ok_or(UNKNOWN_MEMBER_ID)?;
        if generation != self.generation {
            return Err(ILLEGAL_GENERATION);
        }
        member.heard = now;
        Ok(member)
    }

    /// A sign of life.
    ///
    /// # Errors
    /// The number of the error, also while all have to join again.
    pub fn heartbeat(&mut self, id: &str, generation: i32, now: Duration) -> Result<(), i16> {
        self.heard(id, generation, now)?;
        match self.phase {
            Phase::Gathering { .. } => Err(REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Takes what the leader says each gets; of others it is a sign of life.
    ///
    /// # Errors
    /// As [`Self::heartbeat`].
    pub fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: &[(&str, &[u8])],
        now: Duration,
    ) -> Result<(), i16> {
        self.heartbeat(id, generation, now)?;
        if matches!(self.phase, Phase::Assigning { .. }) && self.leader == id {
            for (member, assignment) in assignments {
                if let Some(member) = self.members.get_mut(*member) {
                    member.assignment = assignment.to_vec();
                }
            }
            self.phase = Phase::Stable;
        }
        Ok(())
    }

    /// What a member gets; `None` until the leader has said it. Who waits for that is not silent.
    ///
    /// # Errors
    /// The generation is over.
    pub fn assigned(
        &mut self,
        id: &str,
        generation: i32,
        now: Duration,
    ) -> Result<Option<Vec<u8>>, i16> {
        let member = self.members.get_mut(id).ok_or(UNKNOWN_MEMBER_ID)?;
        member.heard = now;
        match self.phase {
            Phase::Gathering { .. } => Err(REBALANCE_IN_PROGRESS),
            _ if generation != self.generation => Err(ILLEGAL_GENERATION),
            Phase::Stable => Ok(Some(member.assignment.clone())),
            Phase::Assigning { .. } | Phase::Empty => Ok(None),
        }
    }

    /// A member goes.
    ///
    /// # Errors
    /// It is none.
    pub fn leave(&mut self, id: &str, now: Duration) -> Result<(), i16> {
        self.members.remove(id).ok_or(UNKNOWN_MEMBER_ID)?;
        self.lost_some(now);
        Ok(())
    }

    /// Whether who speaks may commit offsets: a member of this generation, or anybody while there are no members.
    pub fn may_commit(&mut self, id: &str, generation: i32, now: Duration) -> i16 {
        if self.members.is_empty() {
            return if generation < 0 { NONE } else { ILLEGAL_GENERATION };
        }
        match self.heard(id, generation, now).map(|_| ()) {
            Err(code) => code,
            Ok(()) if matches!(self.phase, Phase::Assigning { .. }) => REBALANCE_IN_PROGRESS,
            Ok(()) => NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn joining(said: &str) -> Joining {
        Joining {
            session: seconds(10),
            rebalance: seconds(60),
            kind: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), said.as_bytes().to_vec())],
        }
    }

    fn of_two() -> Group {
        let mut group = Group::new();
        group.join("a", true, joining("A"), seconds(0)).unwrap();
        group.join("b", true, joining("B"), seconds(0)).unwrap();
        assert!(!group.tick(seconds(0)), "others may come");
        assert!(group.tick(seconds(5)));
        group
    }

    #[test]
    fn two_readers_share_what_the_leader_says() {
        let mut group = of_two();
        let leader = group.joined("a").unwrap().unwrap();
        assert_eq!(leader.members, [("a".into(), b"A".to_vec()), ("b".into(), b"B".to_vec())]);
        assert_eq!(group.joined("b").unwrap().unwrap().members, []);
        group.sync("b", 1, &[], seconds(5)).unwrap();
        assert_eq!(group.assigned("b", 1, seconds(5)), Ok(None));
        assert_eq!(group.may_commit("b", 1, seconds(5)), REBALANCE_IN_PROGRESS);
        group.sync("a", 1, &[("a", b"0"), ("b", b"1")], seconds(5)).unwrap();
        assert_eq!(group.assigned("b", 1, seconds(5)), Ok(Some(b"1".to_vec())));
        assert_eq!(group.may_commit("b", 1, seconds(5)), NONE);
        assert_eq!(group.may_commit("", -1, seconds(5)), UNKNOWN_MEMBER_ID, "it has members");
    }

    #[test]
    fn who_waits_for_a_leader_that_says_nothing_outlives_it() {
        let mut group = of_two();
        assert_eq!(group.assigned("b", 1, seconds(14)), Ok(None));
        assert!(group.tick(seconds(17)), "the leader is silent");
        assert_eq!(group.assigned("b", 1, seconds(17)), Err(REBALANCE_IN_PROGRESS));
        assert_eq!(group.heartbeat("a", 1, seconds(17)), Err(UNKNOWN_MEMBER_ID));
        // One that is alive and says nothing ends as well.
        let mut group = of_two();
        for now in 1..12 {
            let now = seconds(5 + 6 * now);
            let is_over = now > seconds(65);
            assert_eq!(group.heartbeat("a", 1, now), Ok(()), "{now:?}");
            assert_eq!(group.assigned("b", 1, now), Ok(None), "{now:?}");
            assert_eq!(group.tick(now), is_over, "{now:?}");
        }
        assert_eq!(group.heartbeat("a", 1, seconds(71)), Err(UNKNOWN_MEMBER_ID));
        assert_eq!(group.assigned("b", 1, seconds(71)), Err(REBALANCE_IN_PROGRESS));
    }

    #[test]
    fn a_silent_reader_is_taken_out_and_its_generation_is_over() {
        let mut group = of_two();
        group.sync("a", 1, &[], seconds(5)).unwrap();
        group.heartbeat("a", 1, seconds(14)).unwrap();
        assert!(group.tick(seconds(16)), "b is silent");
        assert_eq!(group.heartbeat("a", 1, seconds(16)), Err(REBALANCE_IN_PROGRESS));
        assert_eq!(group.heartbeat("b", 1, seconds(16)), Err(UNKNOWN_MEMBER_ID));
        group.join("a", false, joining("A"), seconds(17)).unwrap();
        assert!(group.tick(seconds(17)));
        assert_eq!(group.joined("a").unwrap().unwrap().generation, 2);
        assert_eq!(group.may_commit("a", 1, seconds(17)), ILLEGAL_GENERATION);
    }

    #[test]
    fn one_that_does_not_join_again_is_not_waited_for_longer_than_it_has_asked_for() {
        let mut group = of_two();
        group.sync("a", 1, &[], seconds(5)).unwrap();
        group.join("c", true, joining("C"), seconds(6)).unwrap();
        group.join("a", false, joining("A"), seconds(6)).unwrap();
        for now in [14, 24, 34, 44, 54, 64] {
            assert_eq!(group.heartbeat("b", 1, seconds(now)), Err(REBALANCE_IN_PROGRESS));
            assert!(!group.tick(seconds(now)), "b may still come");
        }
        assert!(group.tick(seconds(66)));
        assert_eq!(group.joined("a").unwrap().unwrap().members.len(), 2);
        assert_eq!(group.joined("b"), Err(UNKNOWN_MEMBER_ID));
        group.leave("a", seconds(67)).unwrap();
        group.leave("c", seconds(67)).unwrap();
        assert!(group.is_empty());
        assert_eq!(group.may_commit("a", 2, seconds(67)), ILLEGAL_GENERATION);
        assert_eq!(group.may_commit("", -1, seconds(67)), NONE);
    }

    #[test]
    fn who_has_not_had_its_generation_before_another_comes_waits_for_the_next() {
        let mut group = of_two();
        assert!(group.joined("a").unwrap().is_some());
        group.join("c", true, joining("C"), seconds(5)).unwrap();
        assert_eq!(group.joined("b"), Ok(None));
        group.join("a", false, joining("A"), seconds(5)).unwrap();
        assert!(group.tick(seconds(5)), "all have joined");
        assert_eq!(group.joined("b").unwrap().unwrap().generation, 2);
    }

    #[test]
    fn a_reader_that_has_died_is_not_waited_for_when_another_comes() {
        let mut group = of_two();
        group.sync("a", 1, &[], seconds(5)).unwrap();
        group.join("c", true, joining("C"), seconds(6)).unwrap();
        group.join("a", false, joining("A"), seconds(6)).unwrap();
        assert!(!group.tick(seconds(15)), "b may still come");
        assert!(group.tick(seconds(16)), "its session is over");
        assert_eq!(group.joined("a").unwrap().unwrap().members.len(), 2);
    }

    #[test]
    fn who_shares_otherwise_and_who_is_too_many_are_not_let_in() {
        let mut group = of_two();
        let other = Joining { protocols: vec![("other".to_owned(), Vec::new())], ..joining("") };
        assert_eq!(group.join("c", true, other, seconds(6)), Err(INCONSISTENT_GROUP_PROTOCOL));
        assert_eq!(group.join("c", false, joining("C"), seconds(6)), Err(UNKNOWN_MEMBER_ID));
        for place in 2..KAFKA_MEMBERS_MAX {
            group.join(&place.to_string(), true, joining(""), seconds(6)).unwrap();
        }
        assert_eq!(group.join("z", true, joining(""), seconds(6)), Err(GROUP_MAX_SIZE_REACHED));
    }
}
