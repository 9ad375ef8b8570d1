//! The one verdict that every event gets, and its number. FORMAT.md and PROTOCOL.md refer here.

macro_rules! verdicts {
    ($($number:literal $variant:ident $name:literal $meaning:literal,)*) => {
        /// What was decided about an event. Numbers are part of the format and never change their
        /// meaning. 1–39 are *malformed*: answered without being logged, because they hold in any
        /// state. 40 and above are *refusals*: logged, remembered, the same for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Verdict {
            $(#[doc = $meaning] $variant = $number,)*
        }

        impl Verdict {
            /// Every verdict, in order of number, which is also the order of precedence among
            /// those that apply to one kind of event.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Verdict of this number; `None` if a newer version wrote it.
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Stable name in `snake_case`, for programs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The reason in words, for people.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

verdicts! {
    0 Ok "ok" "accepted",

    1 LinkedEventChainOpen "linked_event_chain_open" "the batch ends inside a linked chain",
    2 LinkedEventMalformed "linked_event_malformed" "another event of the linked chain is malformed",
    3 KindUnknown "kind_unknown" "no such kind of event",
    4 FlagsUnknown "flags_unknown" "a flag is set that this kind of event does not have",
    5 ReservedNotZero "reserved_not_zero" "a field that this kind of event does not use, or that walengine fills, is not zero",
    6 IdZero "id_zero" "the id is zero",
    7 IdMax "id_max" "the id is 2^128 - 1",
    8 IdRepeatedInChain "id_repeated_in_chain" "the linked chain holds the same id twice",
    9 FlagsExclusive "flags_exclusive" "two flags are set that exclude each other",
    10 DebitAccountIdZero "debit_account_id_zero" "the debit account id is zero",
    11 CreditAccountIdZero "credit_account_id_zero" "the credit account id is zero",
    12 AccountIdZero "account_id_zero" "the account id is zero",
    13 AccountsSame "accounts_same" "debit and credit account are the same",
    14 AmountZero "amount_zero" "the amount is zero",
    15 LedgerZero "ledger_zero" "the ledger is zero",
    16 CodeZero "code_zero" "the code is zero",
    17 PendingIdZero "pending_id_zero" "posting or voiding needs the id of a pending transfer",
    18 PendingIdNotZero "pending_id_not_zero" "only posting or voiding takes a pending id",
    19 PendingIdSame "pending_id_same" "the pending id is the transfer's own id",
    20 TimeoutWithoutPending "timeout_without_pending" "only a pending transfer takes a timeout",
    21 GuardOutsideChain "guard_outside_chain" "a guard stands alone instead of in a linked chain",
    22 GuardEmpty "guard_empty" "the guard has no condition",
    23 CrossPartition "cross_partition" "the accounts live on different partitions",
    24 WrongPartition "wrong_partition" "the account lives on another partition",
    25 RecordTooLarge "record_too_large" "the opaque record is larger than the limit",

    40 LinkedEventFailed "linked_event_failed" "another event of the linked chain was refused",
    41 IdReused "id_reused" "the id was used before with another body",
    42 IdDecidedBefore "id_decided_before" "part of the linked chain was decided before, in another chain",
    50 DebitAccountNotFound "debit_account_not_found" "no such debit account",
    51 CreditAccountNotFound "credit_account_not_found" "no such credit account",
    52 AccountsOnDifferentLedgers "accounts_on_different_ledgers" "the accounts are on different ledgers",
    53 LedgerDiffersFromAccounts "ledger_differs_from_accounts" "the transfer's ledger is not that of the accounts",
    60 PendingNotFound "pending_not_found" "no such pending transfer",
    61 PendingNotPending "pending_not_pending" "the transfer to post or void was not a pending one",
    62 PendingAlreadyPosted "pending_already_posted" "the pending transfer was posted before",
    63 PendingAlreadyVoided "pending_already_voided" "the pending transfer was voided before",
    64 PendingExpired "pending_expired" "the pending transfer has expired",
    65 PendingDebitAccountDiffers "pending_debit_account_differs" "the pending transfer has another debit account",
    66 PendingCreditAccountDiffers "pending_credit_account_differs" "the pending transfer has another credit account",
    67 PendingLedgerDiffers "pending_ledger_differs" "the pending transfer has another ledger",
    68 PendingCodeDiffers "pending_code_differs" "the pending transfer has another code",
    69 PendingAmountExceeded "pending_amount_exceeded" "more than the pending amount",
    70 PendingAmountDiffers "pending_amount_differs" "voiding takes the whole pending amount",
    75 DebitAccountClosed "debit_account_closed" "the debit account is closed",
    76 CreditAccountClosed "credit_account_closed" "the credit account is closed",
    80 OverflowsDebitsPending "overflows_debits_pending" "the debit account's pending debits would pass 2^128 - 1",
    81 OverflowsCreditsPending "overflows_credits_pending" "the credit account's pending credits would pass 2^128 - 1",
    82 OverflowsDebitsPosted "overflows_debits_posted" "the debit account's posted debits would pass 2^128 - 1",
    83 OverflowsCreditsPosted "overflows_credits_posted" "the credit account's posted credits would pass 2^128 - 1",
    84 OverflowsDebits "overflows_debits" "the debit account's debits, pending and posted, would pass 2^128 - 1",
    85 OverflowsCredits "overflows_credits" "the credit account's credits, pending and posted, would pass 2^128 - 1",
    86 ExceedsCredits "exceeds_credits" "the debit account has not that much available",
    87 ExceedsDebits "exceeds_debits" "the credit account may not receive that much",
    90 GuardAccountNotFound "guard_account_not_found" "no such account to guard",
    91 GuardVersionDiffers "guard_version_differs" "the account has changed since the guarded version",
    92 GuardBalanceTooLow "guard_balance_too_low" "the guarded account has less available",
    95 CloseAccountNotFound "close_account_not_found" "no such account to close or reopen",
    96 AccountAlreadyClosed "account_already_closed" "the account is closed already",
    97 AccountNotClosed "account_not_closed" "the account to reopen is not closed",
    100 OffsetDiffers "offset_differs" "the log's next offset is not the expected one",
}

impl Verdict {
    /// Smallest number of a verdict that is logged and remembered (besides [`Verdict::Ok`]).
    pub const REFUSAL_MIN: u8 = 40;

    /// The number that stands in entries and frames.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The event took effect.
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }

    /// Answered without a record in the log: the event can't be accepted in any state.
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
        assert!(Verdict::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        let mut names: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verdict::ALL.len());
        for &verdict in Verdict::ALL {
            assert_eq!(Verdict::from_number(verdict.number()), Some(verdict));
        }
        assert_eq!(Verdict::from_number(255), None);
    }
}
