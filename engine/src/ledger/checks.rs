//! Static checks: what makes an event malformed in any state. In order of verdict number.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Close, CloseFlags, Code, Describe,
    DescribeFlags, EventBytes, EventKind, Guard, GuardFlags, LedgerId, Name, NameFlags,
    PartitionId, SCALE_MAX, Transfer, TransferFlags, Verdict, event_flags, event_id, event_kind,
};
use walengine_net::partition;

/// Which accounts live here.
#[derive(Clone, Copy)]
pub(super) struct Routing {
    pub partition: PartitionId,
    pub partitions: u16,
}

impl Routing {
    #[inline]
    pub(super) fn of(self, account: AccountId) -> PartitionId {
        if self.partitions == 1 {
            return PartitionId(0); // spares the common case a division
        }
        partition::of_account(account, self.partitions)
    }

    /// Where the debit account of a transfer takes part in it, and where the credit account does.
    #[inline]
    pub(super) fn sides(self, transfer: &Transfer) -> [PartitionId; 2] {
        if self.partitions == 1 {
            return [PartitionId(0); 2];
        }
        partition::of_sides(transfer, self.partitions)
    }

    /// The same, if that is another partition. The end of a reservation may not name both, which says nothing.
    #[inline]
    pub(super) fn elsewhere(self, transfer: &Transfer) -> [Option<PartitionId>; 2] {
        let ids = [transfer.debit_account_id, transfer.credit_account_id];
        if !ids.contains(&AccountId(0)) {
            return self.sides(transfer).map(|side| (side != self.partition).then_some(side));
        }
        ids.map(|id| (id.0 != 0).then(|| self.elsewhere_of(id)).flatten())
    }

    /// The partition of an account that does not live here.
    pub(super) fn elsewhere_of(self, account: AccountId) -> Option<PartitionId> {
        (!self.has(account)).then(|| self.of(account))
    }

    /// There are several partitions, and the account has a part on each.
    pub(super) fn is_striped(self, account: AccountId) -> bool {
        self.partitions > 1 && account.is_striped()
    }

    /// An account has something here, if it exists.
    pub(super) fn has(self, account: AccountId) -> bool {
        account.is_striped() || self.of(account) == self.partition
    }

    fn check(self, account: AccountId, chained: Chained) -> Result<(), Verdict> {
        self.check_at(self.of(account), account, chained)
    }

    /// Of a chain, where it must be decided is for all of it to say.
    fn check_at(
        self,
        partition: PartitionId,
        account: AccountId,
        chained: Chained,
    ) -> Result<(), Verdict> {
        let is_elsewhere = !chained.linked && partition != self.partition;
        refuse_if(is_elsewhere, Verdict::WrongPartition)?;
        refuse_if(account.book() == Book::IN_TRANSIT, Verdict::AccountReserved)
    }
}

/// Place of an event in its request.
#[derive(Clone, Copy)]
pub(super) struct Chained {
    /// In a linked chain.
    pub linked: bool,
    /// An earlier event of the chain has the same id.
    pub repeated: bool,
}

/// Not in a chain.
pub(super) const SINGLE: Chained = Chained { linked: false, repeated: false };

#[inline]
pub(super) fn refuse_if(condition: bool, verdict: Verdict) -> Result<(), Verdict> {
    if condition { Err(verdict) } else { Ok(()) }
}

/// `Err` holds the verdict on a malformed event, the lowest that applies.
#[inline]
pub(super) fn check(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    match event_kind(bytes) {
        Ok(EventKind::Transfer) => transfer(bytes, routing, chained),
        Ok(EventKind::Account) => account(bytes, routing, chained),
        Ok(EventKind::Guard) => guard(bytes, routing, chained),
        Ok(EventKind::Close) => close(bytes, routing, chained),
        Ok(EventKind::Name) => name(bytes, routing, chained),
        Ok(EventKind::Describe) => describe(bytes, routing, chained),
        Ok(
            EventKind::Expire
            | EventKind::Mail
            | EventKind::Arrival
            | EventKind::GuardArrival
            | EventKind::WordArrival
            | EventKind::AccountArrival
            | EventKind::CloseArrival
            | EventKind::Word,
        )
        | Err(_) => Err(Verdict::KindUnknown),
    }
}

/// Verdicts 4 to 8, which all kinds share.
#[inline]
fn shared(
    bytes: &EventBytes,
    flags_known: u16,
    reserved: bool,
    chained: Chained,
) -> Result<(), Verdict> {
    refuse_if(event_flags(bytes) & !flags_known != 0, Verdict::FlagsUnknown)?;
    refuse_if(reserved, Verdict::ReservedNotZero)?;
    refuse_if(event_id(bytes) == 0, Verdict::IdZero)?;
    refuse_if(event_id(bytes) == u128::MAX, Verdict::IdMax)?;
    refuse_if(chained.repeated, Verdict::IdRepeatedInChain)
}

fn account(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let account = Account::from_bytes(bytes);
    let balances = [
        account.debits_pending,
        account.debits_posted,
        account.credits_pending,
        account.credits_posted,
    ];
    let reserved = balances != [Amount(0); 4] || account.version != 0 || account.timestamp.0 != 0;
    shared(bytes, AccountFlags::ALL.0, reserved, chained)?;
    let both_limits = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        .with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    refuse_if(account.flags.contains(both_limits), Verdict::FlagsExclusive)?;
    // What may be credited, other stripes would have to give.
    let is_striped = account.flags.contains(AccountFlags::STRIPED);
    let limited = account.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    refuse_if(is_striped && limited, Verdict::FlagsExclusive)?;
    refuse_if(account.ledger == LedgerId(0), Verdict::LedgerZero)?;
    refuse_if(account.code == Code(0), Verdict::CodeZero)?;
    routing.check(account.id, chained)?;
    refuse_if(is_striped != account.id.is_striped(), Verdict::StripedBookDiffers)
}

#[inline]
fn transfer(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let transfer = Transfer::from_bytes(bytes);
    shared(bytes, TransferFlags::SENT.0, transfer.timestamp.0 != 0, chained)?;
    let flags = transfer.flags;
    let resolving = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
    let resolves = flags.intersects(resolving);
    let balancing = TransferFlags::BALANCING_DEBIT.with(TransferFlags::BALANCING_CREDIT);
    let exclusive = flags.contains(resolving)
        || resolves && flags.intersects(TransferFlags::PENDING.with(balancing));
    refuse_if(exclusive, Verdict::FlagsExclusive)?;
    let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
    let named = [debit, credit].map(|id| id != AccountId(0));
    if !resolves {
        refuse_if(!named[0], Verdict::DebitAccountIdZero)?;
        refuse_if(!named[1], Verdict::CreditAccountIdZero)?;
    }
    refuse_if(named[0] && debit == credit, Verdict::AccountsSame)?;
    if resolves {
        refuse_if(transfer.pending_id.0 == 0, Verdict::PendingIdZero)?;
        refuse_if(transfer.pending_id == transfer.id, Verdict::PendingIdSame)?;
    } else {
        refuse_if(transfer.amount == Amount(0), Verdict::AmountZero)?;
        refuse_if(transfer.ledger == LedgerId(0), Verdict::LedgerZero)?;
        refuse_if(transfer.code == Code(0), Verdict::CodeZero)?;
        refuse_if(transfer.pending_id.0 != 0, Verdict::PendingIdNotZero)?;
    }
    let timeout = transfer.timeout_seconds != 0 && !flags.contains(TransferFlags::PENDING);
    refuse_if(timeout, Verdict::TimeoutWithoutPending)?;
    if named == [true, true] {
        let [home, other] = routing.sides(&transfer);
        routing.check_at(home, debit, chained)?;
        if other == home {
            routing.check_at(other, credit, chained)?;
        } else {
            // Home sends it on.
            refuse_if(credit.book() == Book::IN_TRANSIT, Verdict::AccountReserved)?;
        }
    } else if let Some(id) = [debit, credit].into_iter().find(|id| *id != AccountId(0))
        && !routing.is_striped(id)
    {
        routing.check(id, chained)?;
    }
    let asks_all = flags.contains(TransferFlags::BALANCING_CREDIT) && routing.is_striped(credit);
    refuse_if(asks_all, Verdict::CannotSpan)
}

fn guard(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let guard = Guard::from_bytes(bytes);
    let availables = GuardFlags::AVAILABLE_TO_DEBIT.with(GuardFlags::AVAILABLE_TO_CREDIT);
    let reserved = has_more_than(bytes, &guard.to_bytes())
        || guard.version != 0 && !guard.flags.contains(GuardFlags::VERSION)
        || guard.available.0 != 0 && !guard.flags.intersects(availables);
    shared(bytes, GuardFlags::ALL.0, reserved, chained)?;
    refuse_if(guard.account_id == AccountId(0), Verdict::AccountIdZero)?;
    refuse_if(!chained.linked, Verdict::GuardOutsideChain)?;
    let conditions = availables.with(GuardFlags::VERSION);
    refuse_if(!guard.flags.intersects(conditions), Verdict::GuardEmpty)?;
    routing.check(guard.account_id, chained)
}

fn close(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let close = Close::from_bytes(bytes);
    let reserved = has_more_than(bytes, &close.to_bytes());
    shared(bytes, CloseFlags::ALL.0, reserved, chained)?;
    refuse_if(close.account_id == AccountId(0), Verdict::AccountIdZero)?;
    routing.check(close.account_id, chained)
}

fn name(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let name = Name::from_bytes(bytes);
    let reserved = has_more_than(bytes, &name.to_bytes());
    shared(bytes, NameFlags::ALL.0, reserved, chained)?;
    refuse_if(name.account_id == AccountId(0), Verdict::AccountIdZero)?;
    routing.check(name.account_id, chained)?;
    refuse_if(name.name.text().is_none(), Verdict::NameMalformed)
}

fn describe(bytes: &EventBytes, routing: Routing, chained: Chained) -> Result<(), Verdict> {
    let describe = Describe::from_bytes(bytes);
    let reserved = has_more_than(bytes, &describe.to_bytes());
    shared(bytes, DescribeFlags::ALL.0, reserved, chained)?;
    refuse_if(describe.ledger == LedgerId(0), Verdict::LedgerZero)?;
    let is_elsewhere = !chained.linked && routing.partition != partition::OF_LEDGERS;
    refuse_if(is_elsewhere, Verdict::WrongPartition)?;
    refuse_if(describe.name.text().is_none(), Verdict::NameMalformed)?;
    refuse_if(describe.scale > SCALE_MAX, Verdict::ScaleTooLarge)
}

/// True if the event has bytes set that decoding and encoding it again lose.
fn has_more_than(bytes: &EventBytes, canonical: &EventBytes) -> bool {
    bytes != canonical
}
