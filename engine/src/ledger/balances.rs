//! What the balances of two accounts allow. Changes nothing.

use walengine_net::model::{Account, AccountFlags, Amount, Transfer, TransferFlags, Verdict};

use super::checks::refuse_if;

/// What may still be debited before debits exceed credits.
#[inline]
pub(super) fn available_to_debit(account: &Account) -> u128 {
    let posted = account.credits_posted.0.saturating_sub(account.debits_posted.0);
    posted.saturating_sub(account.debits_pending.0)
}

/// What may still be credited before credits exceed debits.
#[inline]
pub(super) fn available_to_credit(account: &Account) -> u128 {
    let posted = account.debits_posted.0.saturating_sub(account.credits_posted.0);
    posted.saturating_sub(account.credits_pending.0)
}

/// Verdicts 80 to 87, in order of number.
#[inline]
pub(super) fn check_balances(
    debit: &Account,
    credit: &Account,
    amount: u128,
    pending: bool,
) -> Result<(), Verdict> {
    let overflows = |balance: Amount| balance.0.checked_add(amount).is_none();
    if pending {
        refuse_if(overflows(debit.debits_pending), Verdict::OverflowsDebitsPending)?;
        refuse_if(overflows(credit.credits_pending), Verdict::OverflowsCreditsPending)?;
    } else {
        refuse_if(overflows(debit.debits_posted), Verdict::OverflowsDebitsPosted)?;
        refuse_if(overflows(credit.credits_posted), Verdict::OverflowsCreditsPosted)?;
    }
    let sum = |pending: Amount, posted: Amount| {
        pending.0.checked_add(posted.0).and_then(|sum| sum.checked_add(amount))
    };
    let debits = sum(debit.debits_pending, debit.debits_posted);
    let credits = sum(credit.credits_pending, credit.credits_posted);
    let debits = debits.ok_or(Verdict::OverflowsDebits)?;
    let credits = credits.ok_or(Verdict::OverflowsCredits)?;
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let exceeds = debit.flags.contains(limited) && debits > debit.credits_posted.0;
    refuse_if(exceeds, Verdict::ExceedsCredits)?;
    let limited = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS;
    let exceeds = credit.flags.contains(limited) && credits > credit.debits_posted.0;
    refuse_if(exceeds, Verdict::ExceedsDebits)
}

/// What a transfer moves: its amount, or the part of it that the limits leave.
#[inline]
pub(super) fn balanced_amount(
    transfer: &Transfer,
    debit: &Account,
    credit: &Account,
) -> Result<u128, Verdict> {
    let mut amount = transfer.amount.0;
    if transfer.flags.contains(TransferFlags::BALANCING_DEBIT) {
        amount = amount.min(available_to_debit(debit));
        refuse_if(amount == 0, Verdict::ExceedsCredits)?;
    }
    if transfer.flags.contains(TransferFlags::BALANCING_CREDIT) {
        amount = amount.min(available_to_credit(credit));
        refuse_if(amount == 0, Verdict::ExceedsDebits)?;
    }
    Ok(amount)
}
