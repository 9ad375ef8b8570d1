//! How much of the log the state that a read shows must include: `at_least` in a request.

use super::{
    ArchivedListAccounts, ArchivedLookupAccounts, ArchivedLookupTransfers, ArchivedReadLog,
    ArchivedStatus, NO_OFFSET,
};
use crate::model::Offset;

/// Stands in `at_least` for [`Freshness::Linearizable`]. No log gets that far.
pub const LINEARIZABLE: u64 = u64::MAX - 1;

/// What a read asks of the state that it shows. Every answer says which offset it reflects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Any state; a replica answers with what it has applied.
    #[default]
    Any,
    /// A state that includes this offset. A replica that is not there by the deadline answers
    /// `NotYet`.
    AtLeast(Offset),
    /// A state that includes everything that was acknowledged anywhere before the request. The
    /// leader answers; others say `NotLeader`, and who leads.
    Linearizable,
}

impl Freshness {
    /// What this number asks for in a message.
    pub fn from_number(number: u64) -> Self {
        match number {
            NO_OFFSET => Self::Any,
            LINEARIZABLE => Self::Linearizable,
            offset => Self::AtLeast(Offset(offset)),
        }
    }

    /// The number that stands for it in a message.
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
            /// What is asked of the state.
            pub fn freshness(&self) -> Freshness {
                Freshness::from_number(self.at_least.to_native())
            }

            /// Offset that the state must include, if one is named. A server that is alone needs
            /// no more: all that it has acknowledged, it shows.
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
    ArchivedReadLog
);
