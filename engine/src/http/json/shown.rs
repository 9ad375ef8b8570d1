//! Accounts, events and outcomes as an answer has them.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;
use walengine_net::client::EventDecision;
use walengine_net::message::EventOutcome;
use walengine_net::model::{Account, AccountId, Event, Guard, GuardFlags, Resolved, Transfer};

use super::kind::{AccountKind, CloseKind, GuardKind, TransferKind};
use super::naming::{ShownDescribe, ShownName};
use super::text::{AccountUuid, Digits, rfc3339, uuid_text};
use crate::http::scales::Scales;

/// What accounts are called; one without a name is not in it.
pub type Names = HashMap<AccountId, String>;

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownAccount {
    /// `account`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: AccountKind,
    /// Its UUID; the first 8 digits are its book.
    #[schema(value_type = String, format = "uuid")]
    id: AccountUuid,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    ledger: u32,
    code: u16,
    /// Limits and state.
    flags: Vec<String>,
    /// Reserved by pending transfers from it, in minor units.
    #[schema(value_type = String)]
    debits_pending: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    debits_pending_decimal: Option<String>,
    /// Moved out of it.
    #[schema(value_type = String)]
    debits_posted: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    debits_posted_decimal: Option<String>,
    /// Reserved by pending transfers to it.
    #[schema(value_type = String)]
    credits_pending: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_pending_decimal: Option<String>,
    /// Moved into it.
    #[schema(value_type = String)]
    credits_posted: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_posted_decimal: Option<String>,
    /// Number of changes.
    #[schema(value_type = String)]
    version: Digits<u64>,
    #[schema(value_type = String)]
    user_data_128: Digits<u128>,
    #[schema(value_type = String)]
    user_data_64: Digits<u64>,
    /// Log time of its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
}

impl From<&Account> for ShownAccount {
    fn from(account: &Account) -> Self {
        Self {
            kind: AccountKind::Account,
            id: AccountUuid(account.id),
            name: None,
            ledger: account.ledger.0,
            code: account.code.0,
            flags: lowercase(&account.flags.names()),
            debits_pending: Digits(account.debits_pending.0),
            debits_pending_decimal: None,
            debits_posted: Digits(account.debits_posted.0),
            debits_posted_decimal: None,
            credits_pending: Digits(account.credits_pending.0),
            credits_pending_decimal: None,
            credits_posted: Digits(account.credits_posted.0),
            credits_posted_decimal: None,
            version: Digits(account.version),
            user_data_128: Digits(account.user_data_128),
            user_data_64: Digits(account.user_data_64),
            created: Some(account.timestamp).filter(|time| time.0 > 0).and_then(rfc3339),
        }
    }
}

impl ShownAccount {
    /// With its name, and with decimals.
    #[must_use]
    pub fn called(self, name: Option<String>, scales: &Scales) -> Self {
        let shown = |amount: Digits<u128>| scales.shown(self.ledger, amount.0);
        Self {
            debits_pending_decimal: shown(self.debits_pending),
            debits_posted_decimal: shown(self.debits_posted),
            credits_pending_decimal: shown(self.credits_pending),
            credits_posted_decimal: shown(self.credits_posted),
            name,
            ..self
        }
    }
}

fn lowercase(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_lowercase()).collect()
}

/// What was decided about one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownOutcome {
    /// The id that was decided.
    #[schema(format = "uuid")]
    pub id: String,
    /// `ok`, or why it was refused: the name of a verdict.
    pub verdict: &'static str,
    /// An earlier request has decided it; this is its verdict.
    pub repeat: bool,
    /// Place of its record in the log of its partition; malformed events have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub offset: Option<Digits<u64>>,
    /// Log time, unless it is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl ShownOutcome {
    /// Of an event of this id.
    pub fn new(id: u128, outcome: &EventOutcome) -> Self {
        Self {
            id: uuid_text(id),
            verdict: outcome.verdict.name(),
            repeat: !outcome.fresh,
            offset: outcome.offset.map(|offset| Digits(offset.0)),
            time: Some(outcome.timestamp).filter(|time| time.0 > 0).and_then(rfc3339),
        }
    }
}

/// An event as it stands in the log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "type", mapping(
    ("transfer" = "#/components/schemas/ShownTransfer"),
    ("account" = "#/components/schemas/ShownAccount"),
    ("guard" = "#/components/schemas/ShownGuard"),
    ("close" = "#/components/schemas/ShownClose"),
    ("name" = "#/components/schemas/ShownName"),
    ("describe" = "#/components/schemas/ShownDescribe"),
)))]
pub enum ShownEvent {
    /// A transfer.
    Transfer(ShownTransfer),
    /// An account that was created, with empty balances.
    Account(ShownAccount),
    /// A condition on an account.
    Guard(ShownGuard),
    /// An account that was closed or reopened.
    Close(ShownClose),
    /// An account that was named.
    Name(ShownName),
    /// A ledger that was described.
    Describe(ShownDescribe),
}

/// A transfer as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownTransfer {
    /// `transfer`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: TransferKind,
    #[schema(format = "uuid")]
    id: String,
    #[schema(value_type = String, format = "uuid")]
    debit_account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account_name: Option<String>,
    #[schema(value_type = String, format = "uuid")]
    credit_account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account_name: Option<String>,
    #[schema(value_type = String)]
    amount: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_decimal: Option<String>,
    ledger: u32,
    code: u16,
    flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    pending_id: Option<String>,
    timeout_seconds: u32,
    #[schema(value_type = String)]
    user_data_128: Digits<u128>,
    #[schema(value_type = String)]
    user_data_64: Digits<u64>,
    user_data_32: u32,
}

/// A guard as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownGuard {
    /// `guard`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: GuardKind,
    #[schema(format = "uuid")]
    id: String,
    #[schema(value_type = String, format = "uuid")]
    account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    account_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    version: Option<Digits<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    available_to_debit: Option<Digits<u128>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    available_to_credit: Option<Digits<u128>>,
}

/// A close as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownClose {
    /// `close`.
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: CloseKind,
    #[schema(format = "uuid")]
    id: String,
    #[schema(value_type = String, format = "uuid")]
    account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    account_name: Option<String>,
    reopen: bool,
}

impl From<&Transfer> for ShownTransfer {
    fn from(transfer: &Transfer) -> Self {
        Self {
            kind: TransferKind::Transfer,
            id: uuid_text(transfer.id.0),
            debit_account: AccountUuid(transfer.debit_account_id),
            debit_account_name: None,
            credit_account: AccountUuid(transfer.credit_account_id),
            credit_account_name: None,
            amount: Digits(transfer.amount.0),
            amount_decimal: None,
            ledger: transfer.ledger.0,
            code: transfer.code.0,
            flags: lowercase(&transfer.flags.names()),
            pending_id: (transfer.pending_id.0 != 0).then(|| uuid_text(transfer.pending_id.0)),
            timeout_seconds: transfer.timeout_seconds,
            user_data_128: Digits(transfer.user_data_128),
            user_data_64: Digits(transfer.user_data_64),
            user_data_32: transfer.user_data_32,
        }
    }
}

impl From<&Guard> for ShownGuard {
    fn from(guard: &Guard) -> Self {
        let with = |flag, value| guard.flags.contains(flag).then_some(Digits(value));
        Self {
            kind: GuardKind::Guard,
            id: uuid_text(guard.id.0),
            account: AccountUuid(guard.account_id),
            account_name: None,
            version: guard.flags.contains(GuardFlags::VERSION).then_some(Digits(guard.version)),
            available_to_debit: with(GuardFlags::AVAILABLE_TO_DEBIT, guard.available.0),
            available_to_credit: with(GuardFlags::AVAILABLE_TO_CREDIT, guard.available.0),
        }
    }
}

impl ShownEvent {
    /// With decimals. The end of a reservation may not name its ledger.
    #[must_use]
    pub fn scaled(self, scales: &Scales) -> Self {
        match self {
            Self::Transfer(transfer) => Self::Transfer(ShownTransfer {
                amount_decimal: scales.shown(transfer.ledger, transfer.amount.0),
                ..transfer
            }),
            other => other,
        }
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> Vec<AccountId> {
        match self {
            Self::Transfer(it) => vec![it.debit_account.0, it.credit_account.0],
            Self::Account(it) => vec![it.id.0],
            Self::Guard(it) => vec![it.account.0],
            Self::Close(it) => vec![it.account.0],
            Self::Name(_) | Self::Describe(_) => Vec::new(), // it says the name itself
        }
    }

    /// With what its accounts are called.
    #[must_use]
    pub fn named(self, names: &Names) -> Self {
        let name = |account: &AccountUuid| names.get(&account.0).cloned();
        match self {
            Self::Transfer(it) => Self::Transfer(ShownTransfer {
                debit_account_name: name(&it.debit_account),
                credit_account_name: name(&it.credit_account),
                ..it
            }),
            Self::Account(it) => Self::Account(ShownAccount { name: name(&it.id), ..it }),
            Self::Guard(it) => Self::Guard(ShownGuard { account_name: name(&it.account), ..it }),
            Self::Close(it) => Self::Close(ShownClose { account_name: name(&it.account), ..it }),
            other => other,
        }
    }

    /// Of what clients send; `None` of what only leaders write.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Transfer(transfer) => Self::Transfer(transfer.into()),
            Event::Account(account) => Self::Account(account.into()),
            Event::Guard(guard) => Self::Guard(guard.into()),
            Event::Close(close) => Self::Close(ShownClose {
                kind: CloseKind::Close,
                id: uuid_text(close.id.0),
                account: AccountUuid(close.account_id),
                account_name: None,
                reopen: close.flags.contains(walengine_net::model::CloseFlags::REOPEN),
            }),
            Event::Name(name) => Self::Name(name.into()),
            Event::Describe(describe) => Self::Describe(describe.into()),
            Event::Expire(_) | Event::Mail(_) | Event::Arrival(_) | Event::Word(_) => return None,
        })
    }
}

/// What a post, void, expiry or balancing transfer has moved or released.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownEffect {
    #[schema(value_type = String, format = "uuid")]
    debit_account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account_name: Option<String>,
    #[schema(value_type = String, format = "uuid")]
    credit_account: AccountUuid,
    /// What it is called, where names are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account_name: Option<String>,
    #[schema(value_type = String)]
    amount: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_decimal: Option<String>,
    ledger: u32,
    code: u16,
}

impl ShownEffect {
    /// With decimals.
    #[must_use]
    pub fn scaled(self, scales: &Scales) -> Self {
        Self { amount_decimal: scales.shown(self.ledger, self.amount.0), ..self }
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> [AccountId; 2] {
        [self.debit_account.0, self.credit_account.0]
    }

    /// With what its accounts are called.
    #[must_use]
    pub fn named(self, names: &Names) -> Self {
        let [debit_account_name, credit_account_name] =
            self.accounts().map(|account| names.get(&account).cloned());
        Self { debit_account_name, credit_account_name, ..self }
    }
}

impl From<&Resolved> for ShownEffect {
    fn from(resolved: &Resolved) -> Self {
        Self {
            debit_account: AccountUuid(resolved.debit_account_id),
            debit_account_name: None,
            credit_account: AccountUuid(resolved.credit_account_id),
            credit_account_name: None,
            amount: Digits(resolved.amount.0),
            amount_decimal: None,
            ledger: resolved.ledger.0,
            code: resolved.code.0,
        }
    }
}

/// An event that was decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownDecision {
    /// `ok`, or why it was refused: the name of a verdict.
    verdict: &'static str,
    partition: u16,
    #[schema(value_type = String)]
    offset: Digits<u64>,
    /// Log time.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// As it was sent.
    event: Option<ShownEvent>,
    /// What it has moved, if the event does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<ShownEffect>,
}

impl ShownDecision {
    /// Of a decision, with decimals.
    pub fn new(decision: &EventDecision, scales: &Scales) -> Self {
        Self {
            verdict: decision.verdict.name(),
            partition: decision.partition.0,
            offset: Digits(decision.offset.0),
            time: rfc3339(decision.timestamp),
            event: ShownEvent::of(&decision.event).map(|event| event.scaled(scales)),
            effective: decision.resolved.as_ref().map(|it| ShownEffect::from(it).scaled(scales)),
        }
    }
}
