//! Flags of events, by bit.

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u16);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self(1 << $bit);)*
            /// Every flag that this kind of event has.
            pub const ALL: Self = Self($(Self::$flag.0)|*);
            /// Names of the flags that are set, in order of bit.
            pub fn names(self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.contains(Self::$flag) { names.push(stringify!($flag)); })*
                names
            }
            /// All flags of `other` are set here.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// At least one flag of `other` is set here.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
            /// These flags without those of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }
    };
}

flags! {
    /// Flags of an account.
    AccountFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// `debits_pending + debits_posted <= credits_posted`, such as for a customer's deposit.
        DEBITS_MUST_NOT_EXCEED_CREDITS = 1,
        /// `credits_pending + credits_posted <= debits_posted`, such as for a cash desk.
        CREDITS_MUST_NOT_EXCEED_DEBITS = 2,
        /// Accepts no new transfers. Reservations on it can only be voided or expire.
        CLOSED = 3,
        /// Has a part, its stripe, on each partition. Goes with the book [`super::super::Book::STRIPED`].
        STRIPED = 4,
    }
}
flags! {
    /// Flags of a transfer.
    TransferFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// Reserves the amount until it is posted or voided, or expires.
        PENDING = 1,
        /// Posts the pending transfer `pending_id`, whole (amount 0) or in part.
        POST_PENDING = 2,
        /// Voids the pending transfer `pending_id`.
        VOID_PENDING = 3,
        /// The amount is an upper limit: moves at most what the debit account's limit leaves.
        BALANCING_DEBIT = 4,
        /// The amount is an upper limit: moves at most what the credit account's limit leaves.
        BALANCING_CREDIT = 5,
        /// `user_data_64` is the time of business: see [`super::Transfer::booked_micros`].
        BOOKED = 10,
        /// Moves credits between two stripes of one account: from the partition in the upper half of `user_data_32` to that
        /// in the lower one. Only leaders write it.
        GATHERING = 11,
    }
}
flags! {
    /// Conditions of a guard. All that are set must hold.
    GuardFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// `account.version == version`.
        VERSION = 1,
        /// `credits_posted - debits_posted - debits_pending >= available`.
        AVAILABLE_TO_DEBIT = 2,
        /// `debits_posted - credits_posted - credits_pending >= available`.
        AVAILABLE_TO_CREDIT = 3,
    }
}
flags! {
    /// Flags of a close.
    CloseFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// Reopens the account instead of closing it.
        REOPEN = 1,
    }
}
flags! {
    /// Flags of a name.
    NameFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
    }
}
flags! {
    /// Flags of a ledger's description.
    DescribeFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// The ledger may have had another scale. Every amount of it is shown by the new one.
        RESCALE = 1,
    }
}

impl TransferFlags {
    /// Those that clients may set.
    pub const SENT: Self = Self::ALL.without(Self::GATHERING);
}
