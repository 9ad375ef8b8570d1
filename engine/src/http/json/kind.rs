//! The `type` of each event's form, which is always the same text.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! kinds {
    ($($name:ident: $variant:ident,)*) => {$(
        /// See the module.
        #[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            /// The only one.
            #[default]
            $variant,
        }
    )*};
}

kinds! {
    AccountKind: Account,
    TransferKind: Transfer,
    GuardKind: Guard,
    CloseKind: Close,
    NameKind: Name,
    DescribeKind: Describe,
}
