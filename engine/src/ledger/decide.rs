//! From a request to logged verdicts: chains, repeats, expiries first.

use walengine_net::model::{
    EventBytes, EventId, EventKind, Expire, Offset, PartitionId, ResolvedBytes, Timestamp,
    Transfer, TransferFlags, Verdict, event_id, event_kind,
};
use walengine_net::unit::{self, Path};
use xxhash_rust::xxh3::xxh3_64;

use super::ahead::{NOWHERE, Near};
use super::checks::{self, Chained, Routing, SINGLE};
use super::effects::{InChain, take_resolved};
use super::ids::Known;
use super::slot::{PendingState, Slot};
use super::{At, Draft, Ledger, Outcome, Outcomes};
use crate::ids::key::{Key, Space};

/// The parts of an entry that deciding fills: verdicts and resolutions of logged records.
pub(super) struct EntryParts<'a> {
    pub verdicts: &'a mut Vec<u8>,
    pub resolved: &'a mut Vec<ResolvedBytes>,
}

/// Buffers kept between calls.
#[derive(Default)]
pub(super) struct DecideScratch {
    members: Vec<ChainMember>,
    ids: Vec<(u128, u8, u32)>,
    pub replay: super::apply::ReplayScratch,
}

/// One event of a chain.
pub(super) struct ChainMember {
    pub key: Key,
    pub fingerprint: u64,
    known: Option<Known>,
}

/// The key of an event.
pub fn key_of(bytes: &EventBytes) -> Key {
    let is_account = event_kind(bytes) == Ok(EventKind::Account);
    Key::new(event_id(bytes), if is_account { Space::Account } else { Space::Event })
}

/// What tells whether a repeat of an event is the same: `XXH3` of its bytes.
#[inline]
pub fn fingerprint_of_event(bytes: &EventBytes) -> u64 {
    xxh3_64(bytes)
}

/// The state of an event that was accepted, as a reservation.
pub(super) fn state_of_accepted(bytes: &EventBytes) -> PendingState {
    let is_pending = event_kind(bytes) == Ok(EventKind::Transfer)
        && Transfer::from_bytes(bytes).flags.contains(TransferFlags::PENDING);
    if is_pending { PendingState::Open } else { PendingState::None }
}

fn malformed(verdict: Verdict) -> Outcome {
    Outcome { verdict, offset: None }
}

/// The verdicts on a chain, or an event alone, of which nothing is logged: this one on the culprit.
pub(super) fn refuse_whole(
    length: usize,
    culprit: usize,
    verdict: Verdict,
    outcomes: &mut Outcomes,
) {
    outcomes.extend((0..length).map(|index| {
        malformed(if index == culprit { verdict } else { Verdict::LinkedEventMalformed })
    }));
}

impl Ledger {
    /// Logs the expiries that are due, all of them, then decides a request's events in order against
    /// the tail: what is due is not in their way. A caller with little room in the draft calls
    /// [`Self::expire`] before, until nothing [`Self::is_due`]. Appends fresh events to `draft`, and one outcome for each event to `outcomes`.
    ///
    /// `now` is used for an empty draft only: records of one draft are one nanosecond apart.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn submit(
        &mut self,
        events: &[EventBytes],
        draft: &mut Draft,
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) {
        self.ids.begin_deciding(events, self.next_offset);
        self.expire(draft, now, usize::MAX);
        self.begin_before(events, draft);
        let mut at = draft.at();
        let mut next = 0;
        self.look_ahead_anew();
        while next < events.len() {
            let rest = &events[next..];
            let (length, closed) = unit::length(rest);
            let group = &rest[..length];
            let mut log = EntryParts {
                verdicts: &mut draft.body.verdicts,
                resolved: &mut draft.body.resolved,
            };
            let near = self.near(events, next);
            if self.decide(group, closed, near, at, &mut log, outcomes) {
                draft.body.events.extend_from_slice(group);
                at = at.plus(length);
                self.advance_to(at);
            }
            next += length;
        }
        self.ids.end_deciding();
    }

    /// A reservation is due at the draft's next log time.
    pub fn is_due(&self, draft: &Draft, now: Timestamp) -> bool {
        self.pendings.next_expiry().is_some_and(|at| at <= draft.next_time(self, now).0)
    }

    /// Logs the expiries that are due at the draft's next log time, at most so many, and returns how
    /// many.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn expire(&mut self, draft: &mut Draft, now: Timestamp, expiries_max: usize) -> usize {
        let mut at = draft.open(self, now);
        let first = at.index;
        while let Some(id) = self.pendings.due(at.timestamp) {
            if (at.index - first) as usize == expiries_max {
                break;
            }
            let expire = Expire { pending_id: EventId(id) };
            let decided = self.expire_one(&expire, at, &mut draft.body.resolved);
            assert!(decided.is_ok(), "{expire:?} was due and got {decided:?}");
            draft.body.events.push(expire.to_bytes());
            draft.body.verdicts.push(Verdict::Ok.number());
            at = at.plus(1);
            self.advance_to(at);
        }
        (at.index - first) as usize
    }

    /// Decides one event or one chain. True if it was logged, with a verdict for each member.
    /// `near` is the hint for a single event.
    #[inline]
    pub(super) fn decide(
        &mut self,
        group: &[EventBytes],
        closed: bool,
        near: Near,
        at: At,
        log: &mut EntryParts<'_>,
        outcomes: &mut Outcomes,
    ) -> bool {
        if let ([bytes], true) = (group, closed) {
            let (outcome, logged) = self.decide_single(bytes, near, at, log);
            outcomes.push(outcome);
            return logged;
        }
        let mut members = std::mem::take(&mut self.scratch.members);
        let logged = self.decide_chain(group, closed, &mut members, at, log, outcomes);
        members.clear();
        self.scratch.members = members;
        logged
    }

    /// What is known of an id. What was in doubt has the verdict that it got since, if it got one.
    #[inline]
    fn known(&self, key: &Key, fingerprint: u64) -> Option<Known> {
        let mut known = self.ids.known(key, fingerprint)?;
        known.decided = self.settled(key.id, known.decided);
        Some(known)
    }

    pub(super) fn routing(&self) -> Routing {
        Routing { partition: self.partition, partitions: self.partitions }
    }

    #[inline]
    fn decide_single(
        &mut self,
        bytes: &EventBytes,
        near: Near,
        at: At,
        log: &mut EntryParts<'_>,
    ) -> (Outcome, bool) {
        if let Err(verdict) = checks::check(bytes, self.routing(), SINGLE) {
            return (malformed(verdict), false);
        }
        let key = key_of(bytes);
        let fingerprint = fingerprint_of_event(bytes);
        if let Some(known) = self.known(&key, fingerprint) {
            return (known.repeat(), false);
        }
        let (verdict, state) =
            match self.execute(bytes, fingerprint, InChain::No, near, at, log.resolved) {
                Ok(done) => done,
                Err(verdict) => (verdict, PendingState::None),
            };
        self.ids.insert(&key, Slot::new(&key, fingerprint, at.offset, verdict), state);
        log.verdicts.push(verdict.number());
        (Outcome { verdict, offset: Some(Offset(at.offset)) }, true)
    }

    fn decide_chain(
        &mut self,
        group: &[EventBytes],
        closed: bool,
        members: &mut Vec<ChainMember>,
        at: At,
        log: &mut EntryParts<'_>,
        outcomes: &mut Outcomes,
    ) -> bool {
        let path = match self.path_of_chain(group, closed) {
            Ok(path) => path,
            Err((culprit, verdict)) => {
                refuse_whole(group.len(), culprit, verdict, outcomes);
                return false;
            }
        };
        members.extend(group.iter().map(|bytes| {
            let (key, fingerprint) = (key_of(bytes), fingerprint_of_event(bytes));
            ChainMember { key, fingerprint, known: self.known(&key, fingerprint) }
        }));
        let known = members.iter().filter(|member| member.known.is_some()).count();
        if known == members.len() {
            outcomes.extend(members.iter().filter_map(|member| member.known.map(Known::repeat)));
            return false;
        }
        if known > 0 {
            self.refuse_known_in_part(members, at, log, outcomes);
        } else if let Some(next) = path.after(self.partition) {
            self.begin_chain(group, members, next, at, log, outcomes);
        } else {
            self.execute_chain(group, members, at, log, outcomes);
        }
        true
    }

    /// The partitions that decide a chain.
    ///
    /// # Errors
    /// The first member that makes the whole chain malformed, and why.
    pub(super) fn path_of_chain(
        &mut self,
        group: &[EventBytes],
        closed: bool,
    ) -> Result<Path, (usize, Verdict)> {
        if !closed {
            return Err((group.len() - 1, Verdict::LinkedEventChainOpen));
        }
        let routing = self.routing();
        let ids = &mut self.scratch.ids;
        ids.clear();
        ids.extend(group.iter().zip(0u32..).map(|(bytes, index)| {
            let key = key_of(bytes);
            (key.id, key.space as u8, index)
        }));
        ids.sort_unstable();
        // Keep all but the first of each id, in order of index, so that one pass finds them.
        let mut previous = None;
        ids.retain(|&(id, space, _)| previous.replace((id, space)) == Some((id, space)));
        ids.sort_unstable_by_key(|&(.., index)| index);
        let mut repeated = ids.iter().map(|&(.., index)| index as usize).peekable();
        for (index, bytes) in group.iter().enumerate() {
            let repeated = repeated.next_if_eq(&index).is_some();
            let chained = Chained { linked: true, repeated };
            checks::check(bytes, routing, chained).map_err(|verdict| (index, verdict))?;
        }
        let alone = || Path::alone(self.partition);
        let path = unit::path(group, self.partitions)?.unwrap_or_else(alone);
        if path.home != self.partition {
            return Err((0, Verdict::WrongPartition));
        }
        Ok(path)
    }

    /// Prepares a chain on which another partition has the last word, and which goes to the next one, or refuses it.
    fn begin_chain(
        &mut self,
        group: &[EventBytes],
        members: &[ChainMember],
        next: PartitionId,
        at: At,
        log: &mut EntryParts<'_>,
        outcomes: &mut Outcomes,
    ) {
        let prepared = self.prepare_chain(group, members, next, at, log.resolved);
        for (index, member) in members.iter().enumerate() {
            let offset = at.offset + index as u64;
            let (verdict, state) = match prepared {
                Ok(()) => (Verdict::InDoubt, PendingState::Open),
                Err((culprit, verdict)) if culprit == index => (verdict, PendingState::None),
                Err(_) => (Verdict::LinkedEventFailed, PendingState::None),
            };
            self.remember(member, offset, verdict, state);
            log.verdicts.push(verdict.number());
            outcomes.push(Outcome { verdict, offset: Some(Offset(offset)) });
        }
    }

    /// Some members were decided before, so the chain can't be decided as a whole any more.
    fn refuse_known_in_part(
        &mut self,
        members: &[ChainMember],
        at: At,
        log: &mut EntryParts<'_>,
        outcomes: &mut Outcomes,
    ) {
        for (index, member) in members.iter().enumerate() {
            let offset = at.offset + index as u64;
            let (verdict, outcome) = if let Some(known) = member.known {
                let verdict =
                    if known.is_same { Verdict::IdDecidedBefore } else { Verdict::IdReused };
                (verdict, known.repeat())
            } else {
                let verdict = Verdict::LinkedEventFailed;
                self.remember(member, offset, verdict, PendingState::None);
                (verdict, Outcome { verdict, offset: Some(Offset(offset)) })
            };
            log.verdicts.push(verdict.number());
            outcomes.push(outcome);
        }
    }

    pub(super) fn remember(
        &mut self,
        member: &ChainMember,
        offset: u64,
        verdict: Verdict,
        state: PendingState,
    ) {
        let slot = Slot::new(&member.key, member.fingerprint, offset, verdict);
        self.ids.insert(&member.key, slot, state);
    }

    /// Executes all members, or none.
    fn execute_chain(
        &mut self,
        group: &[EventBytes],
        members: &[ChainMember],
        at: At,
        log: &mut EntryParts<'_>,
        outcomes: &mut Outcomes,
    ) {
        let mut failed = None;
        for (index, (bytes, member)) in group.iter().zip(members).enumerate() {
            let at = at.plus(index);
            match self.execute(bytes, member.fingerprint, InChain::Local, NOWHERE, at, log.resolved)
            {
                Ok((verdict, state)) => self.remember(member, at.offset, verdict, state),
                Err(verdict) => {
                    failed = Some((index, verdict));
                    break;
                }
            }
        }
        if let Some((culprit, verdict)) = failed {
            self.fail_chain(group, members, culprit, verdict, at, log.resolved);
        }
        for index in 0..group.len() {
            let verdict = match failed {
                None => Verdict::Ok,
                Some((culprit, verdict)) if culprit == index => verdict,
                Some(_) => Verdict::LinkedEventFailed,
            };
            log.verdicts.push(verdict.number());
            let offset = Some(Offset(at.offset + index as u64));
            outcomes.push(Outcome { verdict, offset });
        }
    }

    /// Takes back the effects of the members before the culprit, and remembers all members as
    /// refused.
    fn fail_chain(
        &mut self,
        group: &[EventBytes],
        members: &[ChainMember],
        culprit: usize,
        verdict: Verdict,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) {
        for index in (0..culprit).rev() {
            let at = at.plus(index);
            let effective = take_resolved(resolved, at.index);
            self.revert(&group[index], at.offset, effective.as_ref());
        }
        for (index, member) in members.iter().enumerate() {
            let verdict = if index == culprit { verdict } else { Verdict::LinkedEventFailed };
            let offset = at.offset + index as u64;
            let slot = Slot::new(&member.key, member.fingerprint, offset, verdict);
            if index < culprit {
                self.ids.replace(&member.key, slot, state_of_accepted(&group[index]));
            } else {
                self.ids.insert(&member.key, slot, PendingState::None);
            }
        }
    }
}
