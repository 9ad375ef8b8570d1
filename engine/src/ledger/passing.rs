//! Linked chains over three and more partitions, at those between home and the last: what has arrived is prepared as
//! home prepares it, handed on, and ended with the word of the next partition, which is then told to the one before.
//! ACROSS.md in `engine/src/across` has the argument.

use walengine_net::model::{
    Arrival, EventBytes, EventId, EventKind, Offset, PartitionId, Resolved, ResolvedBytes,
    Transfer, TransferFlags, Verdict, Word, event_kind,
};
use walengine_net::unit::resolves;

use super::across::Arriving;
use super::chains::in_chain;
use super::decide::fingerprint_of_event;
use super::effects::{release, reserve};
use super::pendings::{Link, Origin, Pending, Standing};
use super::{At, Ledger};

impl Ledger {
    /// Prepares a chain that has arrived, for the partition that it goes to `next`. What its events come to stands in
    /// `resolved`.
    ///
    /// # Errors
    /// The event that is refused here, and why. Nothing has changed.
    pub(super) fn pass_chain(
        &mut self,
        unit: &[Arrival],
        arriving: Arriving,
        next: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), (usize, Verdict)> {
        let before = resolved.len();
        let events: Vec<EventBytes> = unit.iter().map(|one| one.sent.to_bytes()).collect();
        let effective = self.try_chain(&events, None, next, at, resolved)?;
        let Arriving { home, before: sender, .. } = arriving;
        let passed = self.reserve_chain(&events, &effective, at, |ledger, index, known, at| {
            let origin = Origin { home, before: sender, place: unit[index].place };
            let fingerprint = fingerprint_of_event(&unit[index].to_bytes());
            let pending = in_chain(&events, index, next, at);
            let pending = Pending { fingerprint, named: origin.to_named(), ..pending };
            ledger.pass_member(&events[index], known, pending, at)
        });
        if passed.is_err() {
            resolved.truncate(before);
        }
        passed
    }

    /// Reserves what an event of a chain moves here.
    fn pass_member(
        &mut self,
        bytes: &EventBytes,
        effective: Option<&Resolved>,
        pending: Pending,
        at: At,
    ) -> Result<(), Verdict> {
        let is_transfer = event_kind(bytes) == Ok(EventKind::Transfer);
        let transfer = if is_transfer { Transfer::from_bytes(bytes) } else { Transfer::default() };
        let amount = effective.map_or(transfer.amount, |one| one.amount).0;
        let pending = Pending { amount, ..pending };
        let ends = resolves(&transfer);
        if !is_transfer || ends || self.here(&transfer) == [false, false] {
            // What is not known of it here, the word must not say.
            let voids = transfer.flags.contains(TransferFlags::VOID_PENDING);
            let mut link = pending.link;
            if ends {
                link = link.with(Link::ENDS);
            } else if transfer.is_balancing() {
                link = link.with(Link::MAY_BE_LESS);
            }
            let (standing, amount) = (Standing::PassedCarried, if voids { 0 } else { amount });
            self.pendings.insert(Pending { amount, standing, link, ..pending });
            return Ok(());
        }
        let parties = self.parties_in_chain(&transfer, amount, at)?;
        let (debit, credit) = self.change_parties(&parties, amount, reserve);
        let holds = transfer.flags.contains(TransferFlags::PENDING);
        let standing = if holds { Standing::PassedHolding } else { Standing::Passed };
        let code = transfer.code.0;
        self.pendings.insert(Pending { debit, credit, code, standing, ..pending });
        Ok(())
    }

    /// Ends what was handed on, as the next partition has said. The one before is to be told.
    pub(super) fn settle_passed(&mut self, word: &Word, pending: &Pending, at: At) {
        let origin = pending.origin().expect("it was handed on");
        let is_ok = word.verdict.is_ok();
        let ended = Pending { fingerprint: 0, link: Link::default(), named: 0, ..*pending };
        let held = Pending { standing: Standing::Held, other: origin.home.0 + 1, ..ended };
        let holds = is_ok && pending.standing == Standing::PassedHolding;
        if holds {
            self.change(pending.debit, pending.credit, 0, release);
        } else if pending.standing.reserves() {
            self.release_reserved(pending, if is_ok { word.amount.0 } else { 0 });
        }
        self.pendings.replace(pending.key(), at.offset, holds.then_some(held));
        self.pendings.insert(Pending {
            standing: Standing::Telling,
            fingerprint: fingerprint_of_event(&word.to_bytes()),
            offset: at.offset,
            other: origin.before.0 + 1,
            link: pending.link.place(),
            amount: 0,
            debit: 0,
            credit: 0,
            ..*pending
        });
    }

    /// The record at an offset has the outcome of what was handed on under an id, and the partition that it came from is
    /// to be told.
    pub fn tells(&self, id: EventId, offset: Offset) -> bool {
        let told = self.pendings.unsettled(id.0, offset.0);
        told.is_some_and(|told| told.standing == Standing::Telling)
    }

    /// Takes back what [`Self::settle_passed`] has done at `offset`. What was handed on is there again already.
    pub(super) fn revert_passed(&mut self, word: &Word, pending: &Pending, offset: u64) {
        let telling = self.pendings.unsettled(pending.id, offset).expect("it was ended there");
        self.pendings.remove(telling.key());
        let is_ok = word.verdict.is_ok();
        let holds = is_ok && pending.standing == Standing::PassedHolding;
        if holds {
            self.change_back(pending.debit, pending.credit, 0, reserve);
        } else if pending.standing.reserves() {
            self.reserve_again(pending, is_ok.then_some(word.amount.0));
        }
    }
}
