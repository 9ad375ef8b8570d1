//! A statement in order of times of business, of movements that come in any order. Pure.
//!
//! A movement without a time of business counts at its log time. Balances are those of this order: what stands before
//! the rows that are kept is summed up, so that each row's balance has everything that stands before it, and nothing else.

use std::collections::BTreeMap;

use walengine_net::model::{Amount, Offset, PartitionId, Timestamp};

use crate::effect::Moved;

/// Where a row stands: in order of time, and at one time of partitions and their logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The time of business, or else the log time, in microseconds since 1970.
    pub micros: i64,
    /// Whose log has the record.
    pub partition: PartitionId,
    /// Of the record there.
    pub offset: Offset,
}

/// A row of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Log time of its record.
    pub time: Timestamp,
    /// What was moved.
    pub moved: Moved,
    /// All that was moved out of the account, and all that was moved into it, up to and with this row.
    pub after: [Amount; 2],
}

/// Sums of what was moved pass 2^128. Those of one partition do not; a striped account has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumTooLarge;

/// See the module. Holds at most as many rows as are wanted.
#[derive(Debug)]
pub struct ByBusiness {
    from: Option<i64>,
    before: Option<Place>,
    rows_max: usize,
    rows: BTreeMap<Place, (Timestamp, Moved)>,
    /// What stands before all rows that are kept.
    opening: [Amount; 2],
    is_cut: bool,
}

impl ByBusiness {
    /// The newest rows from a time on, in microseconds since 1970, and before a place; at most `rows_max`.
    pub fn new(from: Option<i64>, before: Option<Place>, rows_max: usize) -> Self {
        let (rows, opening) = (BTreeMap::new(), [Amount(0); 2]);
        Self { from, before, rows_max, rows, opening, is_cut: false }
    }

    /// Takes a movement of the account. Each must come once.
    ///
    /// # Errors
    /// It can't be summed up. Nothing that was taken is of any use then.
    pub fn add(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        time: Timestamp,
        moved: Moved,
    ) -> Result<(), SumTooLarge> {
        let log_micros = (time.0 / 1000).cast_signed(); // a thousandth, which is no negative number
        let place = Place { micros: moved.booked.unwrap_or(log_micros), partition, offset };
        if self.before.is_some_and(|before| place >= before) {
            return Ok(());
        }
        if self.from.is_some_and(|from| place.micros < from) {
            self.opening = with(self.opening, &moved)?;
            return Ok(());
        }
        self.rows.insert(place, (time, moved));
        if self.rows.len() > self.rows_max
            && let Some((_, (_, oldest))) = self.rows.pop_first()
        {
            self.opening = with(self.opening, &oldest)?;
            self.is_cut = true;
        }
        Ok(())
    }

    /// Rows that were wanted were left out, since they are older than as many others.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The rows, oldest first.
    ///
    /// # Errors
    /// A balance can't be summed up.
    pub fn rows(self) -> Result<Vec<Row>, SumTooLarge> {
        let mut after = self.opening;
        let row = |(place, (time, moved)): (Place, (Timestamp, Moved))| {
            after = with(after, &moved)?;
            Ok(Row { place, time, moved, after })
        };
        self.rows.into_iter().map(row).collect()
    }
}

/// The sums of what was moved out and in, with one movement more.
fn with([out, into]: [Amount; 2], moved: &Moved) -> Result<[Amount; 2], SumTooLarge> {
    let out = out.0.checked_add(moved.debit.0).and_then(|sum| sum.checked_add(moved.given.0));
    let into = into.0.checked_add(moved.credit.0);
    Ok([Amount(out.ok_or(SumTooLarge)?), Amount(into.ok_or(SumTooLarge)?)])
}

#[cfg(test)]
mod tests {
    use walengine_net::model::AccountId;

    use super::*;

    fn moved(booked: Option<i64>, debit: u128, credit: u128) -> Moved {
        Moved {
            kind: "transfer",
            id: 1,
            other: AccountId(2),
            debit: Amount(debit),
            credit: Amount(credit),
            given: Amount(0),
            booked,
        }
    }

    /// Movements by offset: log time is 1,000 microseconds and one for each.
    fn given() -> Vec<Moved> {
        vec![
            moved(Some(5), 0, 100),
            moved(None, 30, 0),    // at its log time, 1001
            moved(Some(-7), 0, 1), // before 1970
            moved(Some(1002), 0, 20),
            moved(Some(5), 9, 0), // the same time as the first: behind it
        ]
    }

    /// Offsets and balances of the rows, whatever order the movements come in.
    fn rows(from: Option<i64>, before: Option<i64>, rows_max: usize) -> Vec<(u64, i128)> {
        let first = |micros| Place { micros, partition: PartitionId(0), offset: Offset(0) };
        let of = |backwards: bool| {
            let mut found = ByBusiness::new(from, before.map(first), rows_max);
            let mut given: Vec<(usize, Moved)> = given().into_iter().enumerate().collect();
            if backwards {
                given.reverse();
            }
            for (at, moved) in given {
                let time = Timestamp(1_000_000 + at as u64 * 1000 + 999);
                found.add(PartitionId(3), Offset(at as u64), time, moved).unwrap();
            }
            let is_cut = found.is_cut();
            (found.rows().unwrap(), is_cut)
        };
        let (found, is_cut) = of(false);
        assert_eq!((found.clone(), is_cut), of(true));
        assert_eq!(is_cut, found.len() == rows_max);
        let balance = |row: &Row| row.after[1].0.cast_signed() - row.after[0].0.cast_signed();
        found.iter().map(|row| (row.place.offset.0, balance(row))).collect()
    }

    #[test]
    fn rows_stand_in_order_of_business_and_balances_are_those_of_that_order() {
        let all = [(2, 1), (0, 101), (4, 92), (1, 62), (3, 82)];
        assert_eq!(rows(None, None, 9), all);
        assert_eq!(rows(None, None, 2), all[3..], "the newest");
        assert_eq!(rows(Some(5), None, 9), all[1..], "from a time on, with it");
        assert_eq!(rows(Some(6), Some(1002), 9), all[3..4], "before a time, without it");
        assert_eq!(rows(None, Some(1001), 2), all[1..3]);
        assert_eq!(rows(Some(2000), None, 9), []);
    }

    #[test]
    fn sums_past_the_limit_are_told() {
        let mut found = ByBusiness::new(Some(9), None, 5);
        let add = |found: &mut ByBusiness, amount| {
            found.add(PartitionId(0), Offset(0), Timestamp(0), moved(None, 0, amount))
        };
        assert_eq!(add(&mut found, u128::MAX), Ok(()));
        assert_eq!(add(&mut found, 1), Err(SumTooLarge));
    }
}
