//! The one verdict that every event gets, and its number. FORMAT.md and PROTOCOL.md refer here.

use num_enum::TryFromPrimitive;

/// What was decided about an event. Numbers are part of the format and never change their
/// meaning. 1–39 are *malformed*: answered without being logged, because they hold in any
/// state. 40 and above are *refusals*: logged, remembered, the same for ever. Among the verdicts
/// that apply to one kind of event, the lowest number takes precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum Verdict {
    /// Accepted.
    Ok = 0,

    /// The batch ends inside a linked chain.
    LinkedEventChainOpen = 1,
    /// Another event of the linked chain is malformed, or forbidden.
    LinkedEventMalformed = 2,
    /// No such kind of event.
    KindUnknown = 3,
    /// A flag is set that this kind of event does not have.
    FlagsUnknown = 4,
    /// A field that this kind of event does not use, or that walengine fills, is not zero.
    ReservedNotZero = 5,
    /// The id is zero.
    IdZero = 6,
    /// The id is 2^128 - 1.
    IdMax = 7,
    /// The linked chain holds the same id twice.
    IdRepeatedInChain = 8,
    /// Two flags are set that exclude each other.
    FlagsExclusive = 9,
    /// The debit account id is zero.
    DebitAccountIdZero = 10,
    /// The credit account id is zero.
    CreditAccountIdZero = 11,
    /// The account id is zero.
    AccountIdZero = 12,
    /// Debit and credit account are the same.
    AccountsSame = 13,
    /// The amount is zero.
    AmountZero = 14,
    /// The ledger is zero.
    LedgerZero = 15,
    /// The code is zero.
    CodeZero = 16,
    /// Posting or voiding needs the id of a pending transfer.
    PendingIdZero = 17,
    /// Only posting or voiding takes a pending id.
    PendingIdNotZero = 18,
    /// The pending id is the transfer's own id.
    PendingIdSame = 19,
    /// Only a pending transfer takes a timeout.
    TimeoutWithoutPending = 20,
    /// A guard stands alone instead of in a linked chain.
    GuardOutsideChain = 21,
    /// The guard has no condition.
    GuardEmpty = 22,
    /// The account lives on another partition.
    WrongPartition = 24,
    /// The opaque record is larger than the limit.
    RecordTooLarge = 25,
    /// The sender may not do this, by the policy of the cluster.
    Forbidden = 26,
    /// The account is one of walengine's own.
    AccountReserved = 27,
    /// A linked chain spans partitions, and this guard is not at the one that has the last word.
    GuardElsewhere = 28,
    /// A linked chain spans partitions, which an event like this can't; or an event asks for what all stripes of an account
    /// have.
    CannotSpan = 29,
    /// Striped accounts have a book of their own, which no other account has.
    StripedBookDiffers = 30,
    /// The name is not UTF-8, is not closed by zero bytes, or has something in it that is not seen.
    NameMalformed = 31,
    /// A scale is at most 38.
    ScaleTooLarge = 32,

    /// Another event of the linked chain was refused.
    LinkedEventFailed = 40,
    /// The id was used before with another body.
    IdReused = 41,
    /// Part of the linked chain was decided before, in another chain.
    IdDecidedBefore = 42,
    /// No such debit account.
    DebitAccountNotFound = 50,
    /// No such credit account.
    CreditAccountNotFound = 51,
    /// The accounts are on different ledgers.
    AccountsOnDifferentLedgers = 52,
    /// The transfer's ledger is not that of the accounts.
    LedgerDiffersFromAccounts = 53,
    /// No such pending transfer.
    PendingNotFound = 60,
    /// The transfer to post or void was not a pending one.
    PendingNotPending = 61,
    /// The pending transfer was posted before.
    PendingAlreadyPosted = 62,
    /// The pending transfer was voided before.
    PendingAlreadyVoided = 63,
    /// The pending transfer has expired.
    PendingExpired = 64,
    /// The pending transfer has another debit account.
    PendingDebitAccountDiffers = 65,
    /// The pending transfer has another credit account.
    PendingCreditAccountDiffers = 66,
    /// The pending transfer has another ledger.
    PendingLedgerDiffers = 67,
    /// The pending transfer has another code.
    PendingCodeDiffers = 68,
    /// More than the pending amount.
    PendingAmountExceeded = 69,
    /// Voiding takes the whole pending amount.
    PendingAmountDiffers = 70,
    /// The pending transfer is in doubt itself, or another posting of it is.
    PendingInDoubt = 71,
    /// The pending transfer spans partitions: a linked chain can't post it, nor void it if that spans, too.
    PendingSpans = 72,
    /// The debit account is closed.
    DebitAccountClosed = 75,
    /// The credit account is closed.
    CreditAccountClosed = 76,
    /// The debit account's pending debits would pass 2^128 - 1.
    OverflowsDebitsPending = 80,
    /// The credit account's pending credits would pass 2^128 - 1.
    OverflowsCreditsPending = 81,
    /// The debit account's posted debits would pass 2^128 - 1.
    OverflowsDebitsPosted = 82,
    /// The credit account's posted credits would pass 2^128 - 1.
    OverflowsCreditsPosted = 83,
    /// The debit account's debits, pending and posted, would pass 2^128 - 1.
    OverflowsDebits = 84,
    /// The credit account's credits, pending and posted, would pass 2^128 - 1.
    OverflowsCredits = 85,
    /// The debit account has not that much available.
    ExceedsCredits = 86,
    /// The credit account may not receive that much.
    ExceedsDebits = 87,
    /// No such account to guard.
    GuardAccountNotFound = 90,
    /// The account has changed since the guarded version.
    GuardVersionDiffers = 91,
    /// The guarded account has less available.
    GuardBalanceTooLow = 92,
    /// No such account to close or reopen.
    CloseAccountNotFound = 95,
    /// The account is closed already.
    AccountAlreadyClosed = 96,
    /// The account to reopen is not closed.
    AccountNotClosed = 97,
    /// No such account to name.
    NameAccountNotFound = 98,
    /// The ledger has another scale.
    LedgerScaleDiffers = 99,
    /// The log's next offset is not the expected one.
    OffsetDiffers = 100,
    /// As many ledgers are described as can be.
    LedgersTooMany = 101,
    /// Prepared here; another partition has the last word, which is not here yet. In the log only.
    InDoubt = 110,
}

impl Verdict {
    /// Smallest number of a verdict that is logged and remembered (besides [`Verdict::Ok`]).
    pub const REFUSAL_MIN: u8 = 40;

    /// Every verdict, in order of number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).filter_map(Self::from_number)
    }

    /// Verdict of this number; `None` if a newer version wrote it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::try_from(number).ok()
    }

    /// The number that stands in entries and frames.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Stable name in `snake_case`, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::LinkedEventChainOpen => "linked_event_chain_open",
            Self::LinkedEventMalformed => "linked_event_malformed",
            Self::KindUnknown => "kind_unknown",
            Self::FlagsUnknown => "flags_unknown",
            Self::ReservedNotZero => "reserved_not_zero",
            Self::IdZero => "id_zero",
            Self::IdMax => "id_max",
            Self::IdRepeatedInChain => "id_repeated_in_chain",
            Self::FlagsExclusive => "flags_exclusive",
            Self::DebitAccountIdZero => "debit_account_id_zero",
            Self::CreditAccountIdZero => "credit_account_id_zero",
            Self::AccountIdZero => "account_id_zero",
            Self::AccountsSame => "accounts_same",
            Self::AmountZero => "amount_zero",
            Self::LedgerZero => "ledger_zero",
            Self::CodeZero => "code_zero",
            Self::PendingIdZero => "pending_id_zero",
            Self::PendingIdNotZero => "pending_id_not_zero",
            Self::PendingIdSame => "pending_id_same",
            Self::TimeoutWithoutPending => "timeout_without_pending",
            Self::GuardOutsideChain => "guard_outside_chain",
            Self::GuardEmpty => "guard_empty",
            Self::WrongPartition => "wrong_partition",
            Self::RecordTooLarge => "record_too_large",
            Self::Forbidden => "forbidden",
            Self::AccountReserved => "account_reserved",
            Self::GuardElsewhere => "guard_elsewhere",
            Self::CannotSpan => "cannot_span",
            Self::StripedBookDiffers => "striped_book_differs",
            Self::NameMalformed => "name_malformed",
            Self::ScaleTooLarge => "scale_too_large",
            Self::LinkedEventFailed => "linked_event_failed",
            Self::IdReused => "id_reused",
            Self::IdDecidedBefore => "id_decided_before",
            Self::DebitAccountNotFound => "debit_account_not_found",
            Self::CreditAccountNotFound => "credit_account_not_found",
            Self::AccountsOnDifferentLedgers => "accounts_on_different_ledgers",
            Self::LedgerDiffersFromAccounts => "ledger_differs_from_accounts",
            Self::PendingNotFound => "pending_not_found",
            Self::PendingNotPending => "pending_not_pending",
            Self::PendingAlreadyPosted => "pending_already_posted",
            Self::PendingAlreadyVoided => "pending_already_voided",
            Self::PendingExpired => "pending_expired",
            Self::PendingDebitAccountDiffers => "pending_debit_account_differs",
            Self::PendingCreditAccountDiffers => "pending_credit_account_differs",
            Self::PendingLedgerDiffers => "pending_ledger_differs",
            Self::PendingCodeDiffers => "pending_code_differs",
            Self::PendingAmountExceeded => "pending_amount_exceeded",
            Self::PendingAmountDiffers => "pending_amount_differs",
            Self::PendingInDoubt => "pending_in_doubt",
            Self::PendingSpans => "pending_spans",
            Self::DebitAccountClosed => "debit_account_closed",
            Self::CreditAccountClosed => "credit_account_closed",
            Self::OverflowsDebitsPending => "overflows_debits_pending",
            Self::OverflowsCreditsPending => "overflows_credits_pending",
            Self::OverflowsDebitsPosted => "overflows_debits_posted",
            Self::OverflowsCreditsPosted => "overflows_credits_posted",
            Self::OverflowsDebits => "overflows_debits",
            Self::OverflowsCredits => "overflows_credits",
            Self::ExceedsCredits => "exceeds_credits",
            Self::ExceedsDebits => "exceeds_debits",
            Self::GuardAccountNotFound => "guard_account_not_found",
            Self::GuardVersionDiffers => "guard_version_differs",
            Self::GuardBalanceTooLow => "guard_balance_too_low",
            Self::CloseAccountNotFound => "close_account_not_found",
            Self::AccountAlreadyClosed => "account_already_closed",
            Self::AccountNotClosed => "account_not_closed",
            Self::NameAccountNotFound => "name_account_not_found",
            Self::LedgerScaleDiffers => "ledger_scale_differs",
            Self::OffsetDiffers => "offset_differs",
            Self::LedgersTooMany => "ledgers_too_many",
            Self::InDoubt => "in_doubt",
        }
    }

    /// The reason in words, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "accepted",
            Self::LinkedEventChainOpen => "the batch ends inside a linked chain",
            Self::LinkedEventMalformed => {
                "another event of the linked chain is malformed, or forbidden"
            }
            Self::KindUnknown => "no such kind of event",
            Self::FlagsUnknown => "a flag is set that this kind of event does not have",
            Self::ReservedNotZero => {
                "a field that this kind of event does not use, or that walengine fills, is not zero"
            }
            Self::IdZero => "the id is zero",
            Self::IdMax => "the id is 2^128 - 1",
            Self::IdRepeatedInChain => "the linked chain holds the same id twice",
            Self::FlagsExclusive => "two flags are set that exclude each other",
            Self::DebitAccountIdZero => "the debit account id is zero",
            Self::CreditAccountIdZero => "the credit account id is zero",
            Self::AccountIdZero => "the account id is zero",
            Self::AccountsSame => "debit and credit account are the same",
            Self::AmountZero => "the amount is zero",
            Self::LedgerZero => "the ledger is zero",
            Self::CodeZero => "the code is zero",
            Self::PendingIdZero => "posting or voiding needs the id of a pending transfer",
            Self::PendingIdNotZero => "only posting or voiding takes a pending id",
            Self::PendingIdSame => "the pending id is the transfer's own id",
            Self::TimeoutWithoutPending => "only a pending transfer takes a timeout",
            Self::GuardOutsideChain => "a guard stands alone instead of in a linked chain",
            Self::GuardEmpty => "the guard has no condition",
            Self::WrongPartition => "the account lives on another partition",
            Self::RecordTooLarge => "the opaque record is larger than the limit",
            Self::Forbidden => "the sender may not do this, by the policy of the cluster",
            Self::AccountReserved => "the account is one of walengine's own",
            Self::GuardElsewhere => {
                "the chain spans partitions, and this guard is not at the one that has the last word"
            }
            Self::CannotSpan => {
                "several partitions would decide it, which an event like this can't be"
            }
            Self::StripedBookDiffers => {
                "striped accounts have a book of their own, which no other account has"
            }
            Self::NameMalformed => {
                "the name is not UTF-8, is not closed by zero bytes, or has something in it that is not seen"
            }
            Self::ScaleTooLarge => "a scale is at most 38",
            Self::LinkedEventFailed => "another event of the linked chain was refused",
            Self::IdReused => "the id was used before with another body",
            Self::IdDecidedBefore => {
                "part of the linked chain was decided before, in another chain"
            }
            Self::DebitAccountNotFound => "no such debit account",
            Self::CreditAccountNotFound => "no such credit account",
            Self::AccountsOnDifferentLedgers => "the accounts are on different ledgers",
            Self::LedgerDiffersFromAccounts => "the transfer's ledger is not that of the accounts",
            Self::PendingNotFound => "no such pending transfer",
            Self::PendingNotPending => "the transfer to post or void was not a pending one",
            Self::PendingAlreadyPosted => "the pending transfer was posted before",
            Self::PendingAlreadyVoided => "the pending transfer was voided before",
            Self::PendingExpired => "the pending transfer has expired",
            Self::PendingDebitAccountDiffers => "the pending transfer has another debit account",
            Self::PendingCreditAccountDiffers => "the pending transfer has another credit account",
            Self::PendingLedgerDiffers => "the pending transfer has another ledger",
            Self::PendingCodeDiffers => "the pending transfer has another code",
            Self::PendingAmountExceeded => "more than the pending amount",
            Self::PendingAmountDiffers => "voiding takes the whole pending amount",
            Self::PendingInDoubt => {
                "the pending transfer is in doubt itself, or another posting of it is"
            }
            Self::PendingSpans => {
                "the pending transfer spans partitions, which this linked chain can't end"
            }
            Self::DebitAccountClosed => "the debit account is closed",
            Self::CreditAccountClosed => "the credit account is closed",
            Self::OverflowsDebitsPending => {
                "the debit account's pending debits would pass 2^128 - 1"
            }
            Self::OverflowsCreditsPending => {
                "the credit account's pending credits would pass 2^128 - 1"
            }
            Self::OverflowsDebitsPosted => "the debit account's posted debits would pass 2^128 - 1",
            Self::OverflowsCreditsPosted => {
                "the credit account's posted credits would pass 2^128 - 1"
            }
            Self::OverflowsDebits => {
                "the debit account's debits, pending and posted, would pass 2^128 - 1"
            }
            Self::OverflowsCredits => {
                "the credit account's credits, pending and posted, would pass 2^128 - 1"
            }
            Self::ExceedsCredits => "the debit account has not that much available",
            Self::ExceedsDebits => "the credit account may not receive that much",
            Self::GuardAccountNotFound => "no such account to guard",
            Self::GuardVersionDiffers => "the account has changed since the guarded version",
            Self::GuardBalanceTooLow => "the guarded account has less available",
            Self::CloseAccountNotFound => "no such account to close or reopen",
            Self::AccountAlreadyClosed => "the account is closed already",
            Self::AccountNotClosed => "the account to reopen is not closed",
            Self::NameAccountNotFound => "no such account to name",
            Self::LedgerScaleDiffers => "the ledger has another scale",
            Self::OffsetDiffers => "the log's next offset is not the expected one",
            Self::LedgersTooMany => "as many ledgers are described as can be",
            Self::InDoubt => "prepared; another partition has the last word",
        }
    }

    /// The event took effect.
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }

    /// Answered without a record in the log: the event can't be accepted in any state, or not from
    /// its sender.
    pub fn is_malformed(self) -> bool {
        !self.is_ok() && self.number() < Self::REFUSAL_MIN
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_ordered() {
        let all: Vec<_> = Verdict::all().collect();
        assert!(all.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        let mut names: Vec<_> = all.iter().map(|verdict| verdict.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for verdict in all {
            assert_eq!(Verdict::from_number(verdict.number()), Some(verdict));
        }
        assert_eq!(Verdict::from_number(255), None);
    }
}
