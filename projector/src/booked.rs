//! What the rows of a batch moved by time of business, by account and span of days: what the writer adds to table
//! `booked_sums`. Pure.
//!
//! The same rows count as in view `movements`, and of those the ones that have a time of business.

use std::collections::HashMap;

use walengine_net::model::PartitionId;

use crate::across::{Arrived, Sides, is_gathering};
use crate::copy::booked_span_of;
use crate::facts::Movement;
use crate::movement::MovementKind;

/// The query of all rows that the table should have, given the schema's view of movements and its function of spans.
pub fn of_movements(movements: &str, span: &str, partition: PartitionId) -> String {
    format!(
        "SELECT {partition}, account_id, {span}((booked_at AT TIME ZONE 'UTC')::date), sum(debit), sum(credit)
           FROM {movements} WHERE partition = {partition} AND booked_at IS NOT NULL
          GROUP BY 2, 3"
    )
}

/// What one account moved in one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookedSum {
    /// The account.
    pub account: u128,
    /// First day of the span, UTC, in days since 2000; the smallest number is before all of PostgreSQL's.
    pub first_day: i32,
    /// Moved out of it.
    pub debits: u128,
    /// Moved into it.
    pub credits: u128,
}

/// Sums of a batch. There may be two for one key: a sum that would pass 2^128 begins another.
#[derive(Clone, Debug, Default)]
pub struct BookedSums {
    places: HashMap<(u128, i32), usize>,
    sums: Vec<BookedSum>,
}

impl BookedSums {
    /// All of them, in the order of their first movements.
    pub fn all(&self) -> &[BookedSum] {
        &self.sums
    }

    /// Adds a row of table `transfers`.
    pub fn add(&mut self, movement: &Movement) {
        let moves = matches!(movement.kind, MovementKind::Transfer | MovementKind::Post);
        let Some(first_day) = booked_span_of(&movement.transfer) else { return };
        if !moves || is_gathering(&movement.transfer) {
            return;
        }
        let sides = movement.across.map(|across| across.sides());
        if matches!(sides, None | Some(Sides::Debit(_) | Sides::Both)) {
            self.note(movement.debit, first_day, [movement.amount.0, 0]);
        }
        if matches!(sides, None | Some(Sides::Credit(_) | Sides::Both)) {
            self.note(movement.credit, first_day, [0, movement.amount.0]);
        }
    }

    /// Adds a row of table `arrivals`. A posting has moved its debits where the reservation was.
    pub fn add_arrival(&mut self, arrived: &Arrived) {
        let Arrived { kind, transfer, amount, .. } = arrived;
        let moves = matches!(kind, MovementKind::Transfer | MovementKind::Post);
        let Some(first_day) = booked_span_of(transfer) else { return };
        let (debit, credit) = (transfer.debit_account_id.0, transfer.credit_account_id.0);
        if !moves || !arrived.verdict.is_ok() {
            return;
        }
        let sides = arrived.sides();
        let is_transfer = *kind == MovementKind::Transfer;
        if is_transfer && matches!(sides, Sides::Debit(_) | Sides::Both) {
            self.note(debit, first_day, [amount.0, 0]);
        }
        if debit != credit && matches!(sides, Sides::Credit(_) | Sides::Both) {
            self.note(credit, first_day, [0, amount.0]);
        }
    }

    fn note(&mut self, account: u128, first_day: i32, [debits, credits]: [u128; 2]) {
        let key = (account, first_day);
        let known = self.places.get(&key).map(|place| &mut self.sums[*place]);
        if let Some(sum) = known
            && let Some(all_debits) = sum.debits.checked_add(debits)
            && let Some(all_credits) = sum.credits.checked_add(credits)
        {
            sum.debits = all_debits;
            sum.credits = all_credits;
            return;
        }
        self.places.insert(key, self.sums.len());
        self.sums.push(BookedSum { account, first_day, debits, credits });
    }
}
