//! What the rows of a batch moved, by ledger, day of the log and day of business: what the writer adds to table
//! `daily_volumes`. Pure.

use std::collections::HashMap;

use walengine_net::model::{LedgerId, PartitionId};

use crate::across::is_gathering;
use crate::copy::{booked_day_of, day_of};
use crate::facts::{Movement, Record};
use crate::movement::MovementKind;

/// The query of all rows that the table should have, given the partition's table of transfers.
pub fn of_transfers(transfers: &str, partition: PartitionId) -> String {
    format!(
        "SELECT {partition}, ledger, (time AT TIME ZONE 'UTC')::date,
                (coalesce(booked_at, time) AT TIME ZONE 'UTC')::date, count(*), sum(amount)
           FROM {transfers} WHERE kind IN ('transfer', 'post') AND flags & 2048 <> 2048
          GROUP BY 2, 3, 4"
    )
}

/// The movements of one ledger, day and day of business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Ledger of both accounts.
    pub ledger: LedgerId,
    /// Day of the log, UTC, in days since 2000.
    pub day: i32,
    /// Day of business, UTC, in days since 2000; the smallest number is before all of PostgreSQL's.
    pub booked_day: i32,
    /// How many.
    pub movements: i64,
    /// Sum of their amounts.
    pub amount: u128,
}

/// Volumes of a batch. There may be two for one key: a sum that would pass 2^128 begins another.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    places: HashMap<(LedgerId, i32, i32), usize>,
    volumes: Vec<Volume>,
}

impl Volumes {
    /// All of them, in the order of their first movements.
    pub fn all(&self) -> &[Volume] {
        &self.volumes
    }

    /// Adds a row of table `transfers`, if it moves money of people's. A transfer between partitions is one row, at its home.
    pub fn add(&mut self, record: &Record<'_>, movement: &Movement) {
        let moves = matches!(movement.kind, MovementKind::Transfer | MovementKind::Post);
        if !moves || is_gathering(&movement.transfer) {
            return;
        }
        let (ledger, amount) = (movement.ledger, movement.amount.0);
        let day = day_of(record.time);
        let booked_day = booked_day_of(&movement.transfer, record.time);
        let key = (ledger, day, booked_day);
        let known = self.places.get(&key).map(|place| &mut self.volumes[*place]);
        if let Some(volume) = known
            && let Some(sum) = volume.amount.checked_add(amount)
        {
            volume.movements += 1;
            volume.amount = sum;
            return;
        }
        self.places.insert(key, self.volumes.len());
        self.volumes.push(Volume { ledger, day, booked_day, movements: 1, amount });
    }
}
