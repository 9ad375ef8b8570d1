//! Events as a request has them.

use std::borrow::Cow;

use serde::Deserialize;
use utoipa::openapi::schema::{Discriminator, OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, Code, Event, EventId, Guard,
    GuardFlags, LedgerId, Transfer, TransferFlags,
};

use super::kind::{AccountKind, CloseKind, GuardKind, TransferKind};
use super::naming::{GivenDescribe, GivenName};
use super::text::{AccountText, Digits, EventText, Whole};
use crate::http::problem::{Kind, Problem};
use crate::http::scales::Scales;

/// An account to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenAccount {
    /// `account`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: AccountKind,
    /// UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: AccountText,
    /// Asset and scale.
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32)]
    pub ledger: Whole<u32>,
    /// Kind of account.
    #[schema(value_type = u16, minimum = 1, maximum = 65_535)]
    pub code: Whole<u16>,
    /// Limits.
    #[serde(default)]
    pub flags: Vec<AccountFlag>,
    /// The user's own.
    #[serde(default)]
    #[schema(value_type = String, pattern = r"^(0|[1-9][0-9]{0,38})$")]
    pub user_data_128: Digits<u128>,
    /// The user's own.
    #[serde(default)]
    #[schema(value_type = String, pattern = r"^(0|[1-9][0-9]{0,19})$")]
    pub user_data_64: Digits<u64>,
    /// In a batch: succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}

/// A limit of an account.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountFlag {
    /// Pays no more than it has.
    DebitsMustNotExceedCredits,
    /// Takes no more than it has paid.
    CreditsMustNotExceedDebits,
    /// Has a part on every partition; its id must be of the book of striped accounts.
    Striped,
}

/// A transfer, or the end of a pending one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenTransfer {
    /// `transfer`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: TransferKind,
    /// UUID, number or any other text. May be missing if `Idempotency-Key` has it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub id: Option<EventText>,
    /// The account to debit. May be missing when posting or voiding on a single partition.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub debit_account: Option<AccountText>,
    /// The account to credit.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub credit_account: Option<AccountText>,
    /// The amount with the decimals of its ledger, which must be named and have been described: `12.34`. Instead of
    /// `amount`.
    #[schema(pattern = r"^(0|[1-9][0-9]{0,38})([.][0-9]{1,38})?$")]
    pub amount_decimal: Option<String>,
    /// Minor units. May be missing when posting or voiding: the whole amount.
    #[serde(default)]
    #[schema(value_type = String, pattern = r"^(0|[1-9][0-9]{0,38})$")]
    pub amount: Digits<u128>,
    /// Asset of both accounts. May be missing when posting or voiding.
    #[serde(default)]
    #[schema(value_type = u32, minimum = 0, maximum = 4_294_967_295_u32)]
    pub ledger: Whole<u32>,
    /// Reason. May be missing when posting or voiding.
    #[serde(default)]
    #[schema(value_type = u16, minimum = 0, maximum = 65_535)]
    pub code: Whole<u16>,
    /// What kind of transfer.
    #[serde(default)]
    pub flags: Vec<TransferFlag>,
    /// The pending transfer to post or void.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub pending_id: Option<EventText>,
    /// How long a pending transfer reserves; 0: until it is posted or voided.
    #[serde(default)]
    #[schema(value_type = u32, minimum = 0, maximum = 4_294_967_295_u32)]
    pub timeout_seconds: Whole<u32>,
    /// The user's own.
    #[serde(default)]
    #[schema(value_type = String, pattern = r"^(0|[1-9][0-9]{0,38})$")]
    pub user_data_128: Digits<u128>,
    /// The user's own.
    #[serde(default)]
    #[schema(value_type = String, pattern = r"^(0|[1-9][0-9]{0,19})$")]
    pub user_data_64: Digits<u64>,
    /// The user's own.
    #[serde(default)]
    #[schema(value_type = u32, minimum = 0, maximum = 4_294_967_295_u32)]
    pub user_data_32: Whole<u32>,
    /// In a batch: succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}

/// A kind of transfer.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferFlag {
    /// Reserves the amount until it is posted or voided, or expires.
    Pending,
    /// Posts the pending transfer, whole or in part.
    PostPending,
    /// Voids the pending transfer.
    VoidPending,
    /// Moves at most what the debit account's limit leaves.
    BalancingDebit,
    /// Moves at most what the credit account's limit leaves.
    BalancingCredit,
    /// `user_data_64` is the time of business: microseconds since 1970, signed.
    Booked,
}

/// A condition on an account, in a linked chain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenGuard {
    /// `guard`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: GuardKind,
    /// UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: EventText,
    /// The account to look at.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub account: AccountText,
    /// The version that it must be at.
    #[schema(value_type = Option<String>, pattern = r"^(0|[1-9][0-9]{0,19})$")]
    pub version: Option<Digits<u64>>,
    /// What it must be able to pay.
    #[schema(value_type = Option<String>, pattern = r"^(0|[1-9][0-9]{0,38})$")]
    pub available_to_debit: Option<Digits<u128>>,
    /// What it must be able to take. Not together with `available_to_debit`.
    #[schema(value_type = Option<String>, pattern = r"^(0|[1-9][0-9]{0,38})$")]
    pub available_to_credit: Option<Digits<u128>>,
    /// Succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}

/// An account to close or to reopen.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenClose {
    /// `close`; in a batch it says which event this is.
    #[serde(default, rename = "type")]
    #[schema(inline, required = false)]
    _kind: CloseKind,
    /// UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub id: EventText,
    /// The account.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    pub account: AccountText,
    /// Reopen it instead.
    #[serde(default)]
    pub reopen: bool,
    /// Succeeds or fails together with the next event.
    #[serde(default)]
    pub linked: bool,
}

/// Any event of a batch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GivenEvent {
    /// Create an account.
    Account(GivenAccount),
    /// Move money, reserve it, or end a reservation.
    Transfer(GivenTransfer),
    /// Look at an account.
    Guard(GivenGuard),
    /// Close or reopen an account.
    Close(GivenClose),
    /// Name an account.
    Name(GivenName),
    /// Describe a ledger.
    Describe(GivenDescribe),
}

/// One of these forms, told apart by their `type`: generators of clients understand that better than what would be
/// derived.
impl PartialSchema for GivenEvent {
    fn schema() -> RefOr<Schema> {
        let forms: [(&str, Cow<'static, str>); 6] = [
            ("account", GivenAccount::name()),
            ("transfer", GivenTransfer::name()),
            ("guard", GivenGuard::name()),
            ("close", GivenClose::name()),
            ("name", GivenName::name()),
            ("describe", GivenDescribe::name()),
        ];
        let forms = forms.map(|(kind, name)| (kind, Ref::from_schema_name(name)));
        let mapping =
            forms.iter().map(|(kind, form)| ((*kind).to_owned(), form.ref_location.clone()));
        let discriminator = Discriminator::with_mapping("type", mapping);
        let all = forms.iter().fold(OneOfBuilder::new(), |all, (_, form)| all.item(form.clone()));
        all.discriminator(Some(discriminator)).into()
    }
}

impl ToSchema for GivenEvent {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((GivenAccount::name().into(), GivenAccount::schema()));
        schemas.push((GivenTransfer::name().into(), GivenTransfer::schema()));
        schemas.push((GivenGuard::name().into(), GivenGuard::schema()));
        schemas.push((GivenClose::name().into(), GivenClose::schema()));
        schemas.push((GivenName::name().into(), GivenName::schema()));
        schemas.push((GivenDescribe::name().into(), GivenDescribe::schema()));
        GivenAccount::schemas(schemas);
        GivenTransfer::schemas(schemas);
    }
}

impl GivenAccount {
    /// As the client library has it.
    pub fn account(&self) -> Account {
        let mut flags = AccountFlags::default();
        for flag in &self.flags {
            flags = flags.with(match flag {
                AccountFlag::DebitsMustNotExceedCredits => {
                    AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
                }
                AccountFlag::CreditsMustNotExceedDebits => {
                    AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS
                }
                AccountFlag::Striped => AccountFlags::STRIPED,
            });
        }
        if self.linked {
            flags = flags.with(AccountFlags::LINKED);
        }
        Account {
            id: self.id.0,
            ledger: LedgerId(self.ledger.0),
            code: Code(self.code.0),
            user_data_128: self.user_data_128.0,
            user_data_64: self.user_data_64.0,
            flags,
            ..Account::default()
        }
    }
}

impl GivenTransfer {
    /// As the client library has it.
    ///
    /// # Errors
    /// Its decimals make no sense.
    pub fn transfer(&self, scales: &Scales) -> Result<Transfer, Problem> {
        let mut flags = TransferFlags::default();
        for flag in &self.flags {
            flags = flags.with(match flag {
                TransferFlag::Pending => TransferFlags::PENDING,
                TransferFlag::PostPending => TransferFlags::POST_PENDING,
                TransferFlag::VoidPending => TransferFlags::VOID_PENDING,
                TransferFlag::BalancingDebit => TransferFlags::BALANCING_DEBIT,
                TransferFlag::BalancingCredit => TransferFlags::BALANCING_CREDIT,
                TransferFlag::Booked => TransferFlags::BOOKED,
            });
        }
        if self.linked {
            flags = flags.with(TransferFlags::LINKED);
        }
        let amount = match &self.amount_decimal {
            None => self.amount.0,
            Some(_) if self.amount.0 != 0 => {
                let detail = "it is either `amount` or `amount_decimal`";
                return Err(Problem::at("/amount_decimal", Kind::Malformed, detail));
            }
            Some(text) => scales.read(self.ledger.0, text)?,
        };
        let account = |given: Option<AccountText>| given.map_or(AccountId(0), |given| given.0);
        Ok(Transfer {
            id: self.id.map_or(EventId(0), |given| given.0),
            debit_account_id: account(self.debit_account),
            credit_account_id: account(self.credit_account),
            amount: Amount(amount),
            pending_id: self.pending_id.map_or(EventId(0), |given| given.0),
            user_data_128: self.user_data_128.0,
            user_data_64: self.user_data_64.0,
            user_data_32: self.user_data_32.0,
            timeout_seconds: self.timeout_seconds.0,
            ledger: LedgerId(self.ledger.0),
            code: Code(self.code.0),
            flags,
            ..Transfer::default()
        })
    }
}

impl GivenGuard {
    fn guard(&self) -> Guard {
        let mut guard = Guard { id: self.id.0, account_id: self.account.0, ..Guard::default() };
        let mut flag = |is_set: bool, flag| {
            if is_set {
                guard.flags = guard.flags.with(flag);
            }
        };
        flag(self.version.is_some(), GuardFlags::VERSION);
        flag(self.available_to_debit.is_some(), GuardFlags::AVAILABLE_TO_DEBIT);
        flag(self.available_to_credit.is_some(), GuardFlags::AVAILABLE_TO_CREDIT);
        flag(self.linked, GuardFlags::LINKED);
        guard.version = self.version.map_or(0, |given| given.0);
        let available = self.available_to_debit.or(self.available_to_credit);
        guard.available = Amount(available.map_or(0, |given| given.0));
        guard
    }
}

impl GivenClose {
    fn close(&self) -> Close {
        let mut flags = CloseFlags::default();
        if self.reopen {
            flags = flags.with(CloseFlags::REOPEN);
        }
        if self.linked {
            flags = flags.with(CloseFlags::LINKED);
        }
        Close { id: self.id.0, account_id: self.account.0, flags }
    }
}

impl GivenEvent {
    /// It can be sent again.
    pub fn has_id(&self) -> bool {
        !matches!(self, Self::Transfer(GivenTransfer { id: None, .. }))
    }

    /// An amount of it has decimals.
    pub fn has_decimals(&self) -> bool {
        matches!(self, Self::Transfer(GivenTransfer { amount_decimal: Some(_), .. }))
    }

    /// As the client library has it.
    ///
    /// # Errors
    /// Its decimals make no sense.
    pub fn event(&self, scales: &Scales) -> Result<Event, Problem> {
        Ok(match self {
            Self::Account(account) => Event::Account(account.account()),
            Self::Transfer(transfer) => Event::Transfer(transfer.transfer(scales)?),
            Self::Guard(guard) => Event::Guard(guard.guard()),
            Self::Close(close) => Event::Close(close.close()),
            Self::Name(name) => Event::Name(name.event()),
            Self::Describe(describe) => Event::Describe(describe.event()),
        })
    }
}
