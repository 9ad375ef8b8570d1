//! Names of accounts and descriptions of ledgers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use walengine_net::client::tokio::Client;
use walengine_net::message::ErrorCode;
use walengine_net::model::{
    AccountId, Describe, DescribeFlags, LedgerId, Name, NameFlags, SCALE_MAX, Token,
};

use super::asked::{InPath, Unasked};
use super::document::{AnyProblem, BodyProblem, TokenProblem};
use super::events::answer_to_one;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{
    AccountText, EventText, GivenText, Names, Record, ShownLedger, ShownOutcome, Whole,
};
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;

/// What an account is called from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewName {
    /// Id of the naming, so that it can be sent again: UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    id: EventText,
    /// At most 80 bytes of UTF-8, nothing in it that is not seen. Empty: it has no name any more.
    #[schema(value_type = String, max_length = 80)]
    name: GivenText,
}

/// Name an account, for people. Its id stays, and no request takes the name for it.
#[utoipa::path(
    put, path = "/api/v1/accounts/{id}/name", tag = "accounts",
    operation_id = "nameAccount",
    params(("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256)),
    request_body = NewName,
    responses(
        (status = 201, body = ShownOutcome, description = "Named", headers(("Walengine-Token" = String))),
        (status = 200, body = ShownOutcome, description = "It was decided before", headers(("Walengine-Token" = String))),
        (
            status = 409,
            content((ShownOutcome = "application/json"), (Problem = "application/problem+json")),
            description = "Refused; the verdict says why",
            headers(("Walengine-Token" = String))
        ),
        AnyProblem, BodyProblem,
    )
)]
pub async fn name(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    InPath(AccountText(account_id)): InPath<AccountText>,
    Given(given, _room): Given<NewName>,
) -> Result<Response, Problem> {
    let client = shared.client(&caller).await?;
    let NewName { id: EventText(id), name: GivenText(name) } = given;
    let event = Name { id, account_id, name, flags: NameFlags::default() };
    let submitted = client.submit_all(&[event.to_bytes()]).await?;
    Ok(answer_to_one(id.0, &submitted))
}

/// What the amounts of a ledger are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDescription {
    /// Id of the description, so that it can be sent again: UUID, number or any other text.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    id: EventText,
    /// What the asset is called, such as `USD`: at most 80 bytes of UTF-8.
    #[schema(value_type = String, max_length = 80)]
    name: GivenText,
    /// Digits behind the point.
    #[schema(value_type = u8, minimum = 0, maximum = 38)]
    scale: Whole<u8>,
    /// The ledger had another scale, which was wrong: all its amounts are shown by this one.
    #[serde(default)]
    rescale: bool,
}
const _: () = assert!(SCALE_MAX == 38);

/// Describe a ledger: its amounts are then shown and taken with decimals, too.
#[utoipa::path(
    put, path = "/api/v1/ledgers/{ledger}", tag = "ledgers",
    operation_id = "describeLedger",
    params(("ledger" = u32, Path, description = "Its number", minimum = 1, maximum = 4_294_967_295_u32)),
    request_body = NewDescription,
    responses(
        (status = 201, body = ShownOutcome, description = "Described", headers(("Walengine-Token" = String))),
        (status = 200, body = ShownOutcome, description = "It was decided before", headers(("Walengine-Token" = String))),
        (
            status = 409,
            content((ShownOutcome = "application/json"), (Problem = "application/problem+json")),
            description = "Refused; the verdict says why",
            headers(("Walengine-Token" = String))
        ),
        AnyProblem, BodyProblem,
    )
)]
pub async fn describe(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    InPath(ledger): InPath<u32>,
    Given(given, _room): Given<NewDescription>,
) -> Result<Response, Problem> {
    let NewDescription { id: EventText(id), name: GivenText(name), scale, rescale } = given;
    if ledger == 0 || scale.0 > SCALE_MAX {
        let detail = format!("a ledger's number is not 0, and its scale is at most {SCALE_MAX}");
        return Err(Problem::new(Kind::Malformed, detail));
    }
    let client = shared.client(&caller).await?;
    let flags = if rescale { DescribeFlags::RESCALE } else { DescribeFlags::default() };
    let event = Describe { id, ledger: LedgerId(ledger), name, scale: scale.0, flags };
    let submitted = client.submit_all(&[event.to_bytes()]).await?;
    shared.scales.forget();
    Ok(answer_to_one(id.0, &submitted))
}

/// The ledgers that were described.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ledgers {
    /// Ascending.
    ledgers: Vec<ShownLedger>,
}

/// What ledgers are called, and how many decimals their amounts have.
#[utoipa::path(
    get, path = "/api/v1/ledgers", tag = "ledgers",
    operation_id = "listLedgers",
    params(
        HowFresh,
    ),
    responses((status = 200, body = Ledgers, description = "All that were described"), AnyProblem, TokenProblem)
)]
pub async fn ledgers(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    fresh: Fresh,
) -> Result<Json<Ledgers>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let ledgers = client.ledgers(&fresh.tokens).await?;
    Ok(Json(Ledgers { ledgers: ledgers.iter().map(ShownLedger::from).collect() }))
}

/// Names of accounts, in the order of `ids`. A node of an older release, and one that the caller may not ask, has none.
pub async fn names_of(
    client: &Client,
    ids: &[AccountId],
    tokens: &[Token],
) -> Result<Vec<Option<String>>, Problem> {
    match client.lookup_names(ids, tokens).await {
        Err(error)
            if matches!(error.code(), Some(ErrorCode::UnknownKind | ErrorCode::Forbidden)) =>
        {
            Ok(vec![None; ids.len()])
        }
        names => Ok(names?.into_iter().map(|name| name.map(|name| name.to_string())).collect()),
    }
}

/// Records with what their accounts are called now: each account of them is asked for once.
///
/// # Errors
/// Those of the client.
pub async fn with_names(
    client: &Client,
    records: Vec<Record>,
    tokens: &[Token],
) -> Result<Vec<Record>, Problem> {
    let mut ids: Vec<AccountId> = records.iter().flat_map(Record::accounts).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = names_of(client, &ids, tokens).await?;
    let named = ids.into_iter().zip(found).filter_map(|(id, name)| Some((id, name?)));
    let names: Names = named.collect();
    Ok(records.into_iter().map(|record| record.named(&names)).collect())
}
