//! The transfers of a run, by number: each can be made again, so that old ones are sent as they were.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::load::{self, Accounts, Random, put_transfer, random_id};

/// Numbers that are drawn for a transfer.
const DRAWS: u64 = 3;
/// Ids in a millisecond of [`IdOrder::Ordered`]: about a full server's.
const IDS_PER_MILLI: u64 = 1000;
/// Bits of an ordered id below its milliseconds.
const TAIL_BITS: u32 = 80;

/// How ids follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IdOrder {
    /// All bits are random.
    Random,
    /// Each is above the one before: 48 bits of milliseconds, then random bits that count up within
    /// one, as TigerBeetle's and ULIDs; close to UUIDv7
    Ordered,
}

impl IdOrder {
    /// As `--ids` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Ordered => "ordered",
        }
    }
}

/// All transfers of a run.
#[derive(Clone, Debug)]
pub struct Transfers {
    order: IdOrder,
    random: Random,
    start_millis: u64,
    accounts: Accounts,
}

impl Transfers {
    /// Of other ids than any other run's.
    pub fn new(order: IdOrder, accounts: Accounts) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_millis = since_1970.as_millis() as u64;
        Self { order, random: Random::new(load::seed(0)), start_millis, accounts }
    }

    /// Puts the transfer of this number in place of another one.
    pub fn put(&self, cell: &mut [u8], number: u64) {
        let mut random = self.random.clone().skipping(number.wrapping_mul(DRAWS));
        let id = random_id(&mut random);
        let id = if self.order == IdOrder::Ordered { self.ordered(number) } else { id };
        put_transfer(cell, id, random.next(), self.accounts);
    }

    fn ordered(&self, number: u64) -> u128 {
        let (milli, place) = (number / IDS_PER_MILLI, number % IDS_PER_MILLI);
        let mut of_milli =
            self.random.clone().skipping((milli * IDS_PER_MILLI).wrapping_mul(DRAWS));
        // One bit less, so that counting up never reaches the next millisecond.
        let tail = random_id(&mut of_milli) >> (u128::BITS - TAIL_BITS + 1);
        (u128::from(self.start_millis + milli) << TAIL_BITS) | (tail + u128::from(place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use walengine_net::model::{EVENT_BYTES, PartitionId};

    use super::*;

    fn ids(order: IdOrder) -> Vec<u128> {
        let transfers = Transfers::new(order, Accounts::of(PartitionId(0), 1, 10));
        let cell = |number| {
            let mut cell = [0; EVENT_BYTES];
            transfers.put(&mut cell, number);
            cell
        };
        assert_eq!(cell(77), cell(77), "the same again");
        (0..5000).map(|number| u128::from_le_bytes(*cell(number).first_chunk().unwrap())).collect()
    }

    #[test]
    fn ids_differ_and_ordered_ones_ascend() {
        for order in [IdOrder::Random, IdOrder::Ordered] {
            let ids = ids(order);
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{order:?}");
            assert_eq!(ids.is_sorted(), order == IdOrder::Ordered, "{order:?}");
        }
    }
}
