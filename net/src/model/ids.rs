//! Newtypes for ids, counts and amounts.

use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

newtype! {
    /// Id of a cluster, for ever. Drawn at random when its first data directory is formatted.
    ClusterId(u128)
}
newtype! {
    /// Number of a partition, from 0. Their count is fixed at format.
    PartitionId(u16)
}
newtype! {
    /// Position of a record in its partition: 0, 1, 2, … without gaps, in commit order.
    Offset(u64)
}
newtype! {
    /// Log time in nanoseconds since the Unix epoch. Given by the leader; strictly increasing in a
    /// partition.
    Timestamp(u64)
}
newtype! {
    /// Minor units of an asset (cents, hellers). Arithmetic on it is checked, never wrapping.
    Amount(u128)
}
newtype! {
    /// Id of an account. Its upper 32 bits are the [`Book`], which decides the partition.
    AccountId(u128)
}
newtype! {
    /// Id of a transfer, guard, close or opaque record; `UUIDv7` advised. It has one verdict, for
    /// ever.
    EventId(u128)
}
newtype! {
    /// Accounts of one book share a partition, so that transfers between them can be chained.
    Book(u32)
}
newtype! {
    /// Asset and scale, chosen by the user, such as the ISO 4217 number of a currency.
    LedgerId(u32)
}
newtype! {
    /// Kind of account or reason of transfer, chosen by the user.
    Code(u16)
}

impl Code {
    /// That of in-transit accounts.
    pub const IN_TRANSIT: Self = Self(u16::MAX);
}

impl Book {
    /// That of in-transit accounts, which every partition has its own of. No client uses it.
    pub const IN_TRANSIT: Self = Self(u32::MAX);
    /// That of striped accounts, each of which has a part on every partition.
    pub const STRIPED: Self = Self(u32::MAX - 1);
}

impl AccountId {
    /// What is under way between a partition and this other one, of one ledger.
    pub fn in_transit(other: PartitionId, ledger: LedgerId) -> Self {
        let book = u128::from(Book::IN_TRANSIT.0) << 96;
        Self(book | u128::from(other.0) << 32 | u128::from(ledger.0))
    }

    /// The other partition, if this is an in-transit account.
    pub fn in_transit_to(self) -> Option<PartitionId> {
        (self.book() == Book::IN_TRANSIT).then_some(PartitionId((self.0 >> 32) as u16))
    }

    /// A striped account with these lower 96 bits.
    pub fn striped(number: u128) -> Self {
        const LOW: u128 = (1 << 96) - 1;
        Self(u128::from(Book::STRIPED.0) << 96 | number & LOW)
    }

    /// It has a part on every partition.
    #[inline]
    pub fn is_striped(self) -> bool {
        self.book() == Book::STRIPED
    }

    /// Book of this account: the upper 32 bits of its id.
    pub fn book(self) -> Book {
        Book((self.0 >> 96) as u32)
    }
}

impl Offset {
    /// The offset `records` later.
    ///
    /// # Panics
    /// Past 2^64, which 1 M records/s reach in 584,000 years.
    #[must_use]
    pub fn plus(self, records: u64) -> Self {
        Self(self.0.checked_add(records).expect("offset past 2^64"))
    }
}

/// Carried by an acknowledgement. A reader that is given the token answers with a state that
/// includes everything in `partition` of `cluster` up to and including `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The cluster that acknowledged.
    pub cluster: ClusterId,
    /// The partition of the write.
    pub partition: PartitionId,
    /// The newest record that the reader must have seen.
    pub offset: Offset,
}

impl fmt::Display for Token {
    /// `cluster-partition-offset`, the cluster in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}-{}", self.cluster.0, self.partition, self.offset)
    }
}

impl std::str::FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a token is cluster-partition-offset, such as 0…1f-0-42";
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or(EXPECTED);
        let cluster = u128::from_str_radix(next()?, 16).map_err(|_| EXPECTED)?;
        let partition = next()?.parse().map_err(|_| EXPECTED)?;
        let offset = next()?.parse().map_err(|_| EXPECTED)?;
        Ok(Self {
            cluster: ClusterId(cluster),
            partition: PartitionId(partition),
            offset: Offset(offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_its_text() {
        let token = Token {
            cluster: ClusterId(0xfeed),
            partition: PartitionId(3),
            offset: Offset(u64::MAX),
        };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "1-2", "x-1-2", "1-2-", "1-70000-2", "1-2-3-4"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
