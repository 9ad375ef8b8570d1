//! Names of accounts and descriptions of ledgers: as requests have them, and as answers do.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use walengine_net::client::DescribedLedger;
use walengine_net::model::{
    Describe, DescribeFlags, LedgerId, Name, NameFlags, NameText, SCALE_MAX,
};

use super::kind::{DescribeKind, NameKind};
use super::text::{AccountText, EventText, Whole, uuid_text};

/// An account to name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenName {
    /// `name`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: NameKind,
    /// UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: EventText,
    /// The account.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub account: AccountText,
    /// What it is called from now on: at most 80 bytes of UTF-8. Empty: it has no name any more.
    #[schema(value_type = String, max_length = 80)]
    pub name: GivenText,
    /// Succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}

/// A ledger to describe.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenDescribe {
    /// `describe`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: DescribeKind,
    /// UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: EventText,
    /// Its number.
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32)]
    pub ledger: Whole<u32>,
    /// What its asset is called, such as `USD`: at most 80 bytes of UTF-8.
    #[schema(value_type = String, max_length = 80)]
    pub name: GivenText,
    /// Digits behind the point: at scale 2 an amount of 1234 is 12.34.
    #[schema(value_type = u8, minimum = 0, maximum = 38)]
    pub scale: Whole<u8>,
    /// The ledger may have had another scale: all its amounts are shown by this one from now on.
    #[serde(default)]
    pub rescale: bool,
    /// Succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}
const _: () = assert!(SCALE_MAX == 38);

/// A name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenText(pub NameText);

impl<'de> Deserialize<'de> for GivenText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        NameText::new(&text).map(Self).map_err(de::Error::custom)
    }
}

impl GivenName {
    /// As the client library has it.
    pub fn event(&self) -> Name {
        let flags = if self.linked { NameFlags::LINKED } else { NameFlags::default() };
        Name { id: self.id.0, account_id: self.account.0, name: self.name.0, flags }
    }
}

impl GivenDescribe {
    /// As the client library has it.
    pub fn event(&self) -> Describe {
        let mut flags = DescribeFlags::default();
        if self.linked {
            flags = flags.with(DescribeFlags::LINKED);
        }
        if self.rescale {
            flags = flags.with(DescribeFlags::RESCALE);
        }
        let (ledger, name) = (LedgerId(self.ledger.0), self.name.0);
        Describe { id: self.id.0, ledger, name, scale: self.scale.0, flags }
    }
}

/// A naming as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownName {
    /// `name`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: NameKind,
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = "uuid")]
    account: String,
    /// Empty: it has no name any more.
    name: String,
}

/// A description as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownDescribe {
    /// `describe`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: DescribeKind,
    #[schema(format = "uuid")]
    id: String,
    ledger: u32,
    name: String,
    scale: u8,
}

impl From<&Name> for ShownName {
    fn from(name: &Name) -> Self {
        Self {
            kind: NameKind::Name,
            id: uuid_text(name.id.0),
            account: uuid_text(name.account_id.0),
            name: name.name.to_string(),
        }
    }
}

impl From<&Describe> for ShownDescribe {
    fn from(describe: &Describe) -> Self {
        Self {
            kind: DescribeKind::Describe,
            id: uuid_text(describe.id.0),
            ledger: describe.ledger.0,
            name: describe.name.to_string(),
            scale: describe.scale,
        }
    }
}

/// What the amounts of a ledger are.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownLedger {
    ledger: u32,
    /// What its asset is called; may be empty.
    name: String,
    /// Digits behind the point.
    scale: u8,
}

impl From<&DescribedLedger> for ShownLedger {
    fn from(described: &DescribedLedger) -> Self {
        let DescribedLedger { ledger, name, scale } = *described;
        Self { ledger: ledger.0, name: name.to_string(), scale }
    }
}
