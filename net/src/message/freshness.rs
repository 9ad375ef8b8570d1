//! How much of the log a read's state must include: `at_least` in a request.

use super::{
    ArchivedFindNames, ArchivedListAccounts, ArchivedListLedgers, ArchivedListReservations,
    ArchivedLookupAccounts, ArchivedLookupNames, ArchivedLookupTransfers, ArchivedReadEntries,
    ArchivedReadLog, ArchivedStatus, NO_OFFSET,
};
use crate::model::Offset;

/// [`Freshness::Linearizable`] in `at_least`. No log has such an offset.
pub const LINEARIZABLE: u64 = u64::MAX - 1;

/// How fresh a read's state must be. Every answer says which offset it reflects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Any state; a replica answers with what it has applied.
    #[default]
    Any,
    /// A state that includes this offset. A replica that has not applied it by the deadline answers
    /// `NotYet`.
    AtLeast(Offset),
    /// A state that includes everything that any node acknowledged before the request. The leader
    /// answers; others answer `NotLeader` and name the leader.
    Linearizable,
}

impl Freshness {
    /// Freshness of this number in a message.
    pub fn from_number(number: u64) -> Self {
        match number {
            NO_OFFSET => Self::Any,
            LINEARIZABLE => Self::Linearizable,
            offset => Self::AtLeast(Offset(offset)),
        }
    }

    /// Its number in a message.
    pub fn number(self) -> u64 {
        match self {
            Self::Any => NO_OFFSET,
            Self::Linearizable => LINEARIZABLE,
            Self::AtLeast(offset) => offset.0,
        }
    }

    /// The offset that the state must include, if one is named.
    pub fn offset(self) -> Option<Offset> {
        match self {
            Self::AtLeast(offset) => Some(offset),
            Self::Any | Self::Linearizable => None,
        }
    }
}

macro_rules! reads {
    ($($view:ty),*) => {
        $(impl $view {
            /// How fresh the state must be.
            pub fn freshness(&self) -> Freshness {
                Freshness::from_number(self.at_least.to_native())
            }

            /// Offset that the state must include, if one is named. A lone server needs no more:
            /// its state includes everything that it has acknowledged.
            pub fn at_least(&self) -> Option<Offset> {
                self.freshness().offset()
            }
        })*
    };
}
reads!(
    ArchivedLookupAccounts<'_>,
    ArchivedListAccounts,
    ArchivedLookupTransfers<'_>,
    ArchivedStatus<'_>,
    ArchivedLookupNames<'_>,
    ArchivedFindNames<'_>,
    ArchivedListLedgers,
    ArchivedListReservations,
    ArchivedReadEntries,
    ArchivedReadLog
);
