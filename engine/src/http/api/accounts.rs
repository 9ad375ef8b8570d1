//! Accounts: created, looked up, listed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::client::tokio::Client;
use walengine_net::limits::{LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX};
use walengine_net::model::{Account, AccountId, NAME_BYTES_MAX, PartitionId};

use super::asked::{Asked, InPath, Unasked, between, known, the_one, unlinked};
use super::document::{AnyProblem, BodyProblem, TokenProblem};
use super::events::answer_to_one;
use super::naming::names_of;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{AccountText, GivenAccount, ShownAccount, ShownOutcome, bounded};
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;
use crate::limits::HTTP_FOUND_MAX;

/// Create an account. One that is there with the same fields is a repeat.
#[utoipa::path(
    post, path = "/api/v1/accounts", tag = "accounts",
    operation_id = "createAccount",
    request_body = GivenAccount,
    responses(
        (status = 201, body = ShownOutcome, description = "Created", headers(("Walengine-Token" = String))),
        (status = 200, body = ShownOutcome, description = "It was there before", headers(("Walengine-Token" = String))),
        (
            status = 409,
            content((ShownOutcome = "application/json"), (Problem = "application/problem+json")),
            description = "Refused; the verdict says why",
            headers(("Walengine-Token" = String))
        ),
        AnyProblem, BodyProblem,
    )
)]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    Given(given, _room): Given<GivenAccount>,
) -> Result<Response, Problem> {
    unlinked(given.linked)?;
    let client = shared.client(&caller).await?;
    let account = given.account();
    let submitted = client.create_accounts(&[account]).await?;
    Ok(answer_to_one(account.id.0, &submitted))
}

/// Look at an account.
#[utoipa::path(
    get, path = "/api/v1/accounts/{id}", tag = "accounts",
    operation_id = "getAccount",
    params(
        ("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256),
        HowFresh,
    ),
    responses((status = 200, body = ShownAccount, description = "The account"), AnyProblem, TokenProblem)
)]
pub async fn one(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    fresh: Fresh,
    InPath(AccountText(id)): InPath<AccountText>,
) -> Result<Json<ShownAccount>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let found = client.lookup_accounts(&[id], &fresh.tokens).await?;
    let account = the_one(found, || format!("no account {id}"))?;
    let shown = called(&shared, &client, &[account], &fresh).await?.into_iter().next();
    Ok(Json(shown.unwrap_or_else(|| ShownAccount::from(&account))))
}

/// Accounts to look up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountIds {
    /// UUIDs, numbers or any other texts, at most 4,096.
    #[serde(deserialize_with = "bounded::<_, _, LOOKUP_IDS_MAX>")]
    #[schema(value_type = Vec<String>, max_items = 4096)]
    ids: Vec<AccountText>,
}
const _: () = assert!(LOOKUP_IDS_MAX == 4096);

/// Accounts in the order in which they were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accounts {
    /// `null`: there is no such account.
    accounts: Vec<Option<ShownAccount>>,
}

/// Look up many accounts.
#[utoipa::path(
    post, path = "/api/v1/accounts/lookup", tag = "accounts",
    operation_id = "lookUpAccounts",
    params(
        HowFresh,
    ),
    request_body = AccountIds,
    responses((status = 200, body = Accounts, description = "In the order of the ids"), AnyProblem, TokenProblem, BodyProblem)
)]
pub async fn look_up(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    fresh: Fresh,
    Given(given, _room): Given<AccountIds>,
) -> Result<Json<Accounts>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let ids: Vec<AccountId> = given.ids.iter().map(|id| id.0).collect();
    let found = client.lookup_accounts(&ids, &fresh.tokens).await?;
    let there: Vec<Account> = found.iter().flatten().copied().collect();
    let mut shown = called(&shared, &client, &there, &fresh).await?.into_iter();
    let accounts = found.iter().map(|found| found.and_then(|_| shown.next())).collect();
    Ok(Json(Accounts { accounts }))
}

/// Which accounts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct List {
    /// Partition whose accounts are listed, from 0; with `name`, all are.
    #[param(minimum = 0, maximum = 65_535)]
    partition: Option<u16>,
    /// Only those whose names begin so, whatever is in capitals: the first ones. Not with `after`.
    #[param(max_length = 80)]
    name: Option<String>,
    /// `next` of the page before.
    after: Option<u64>,
    /// At most so many.
    #[serde(default = "page_of")]
    #[param(minimum = 1, maximum = 4096)]
    limit: usize,
}
const _: () = assert!(LIST_ACCOUNTS_MAX == 4096);

fn page_of() -> usize {
    100
}

/// Some of a partition's accounts, in the order in which they were created.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountsPage {
    accounts: Vec<ShownAccount>,
    /// What to give as `after` for the next page; there is none behind the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// List a partition's accounts.
#[utoipa::path(
    get, path = "/api/v1/accounts", tag = "accounts",
    operation_id = "listAccounts",
    params(
        List,
        HowFresh,
    ),
    responses((status = 200, body = AccountsPage, description = "A page"), AnyProblem, TokenProblem)
)]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Asked(list): Asked<List>,
) -> Result<Json<AccountsPage>, Problem> {
    between("limit", list.limit, 1, LIST_ACCOUNTS_MAX)?;
    let client = fresh.client(&shared.client(&caller).await?);
    if let Some(name) = &list.name {
        let found = by_name(&client, &list, name, &fresh).await?;
        let accounts = called(&shared, &client, &found, &fresh).await?;
        return Ok(Json(AccountsPage { accounts, next: None }));
    }
    let partition = known(&client, PartitionId(list.partition.unwrap_or(0)))?;
    let page = client.list_accounts(partition, list.after, list.limit, &fresh.tokens).await?;
    let accounts = called(&shared, &client, &page.accounts, &fresh).await?;
    Ok(Json(AccountsPage { accounts, next: page.next_cursor }))
}

/// Accounts with their names, and with decimals.
async fn called(
    shared: &Shared,
    client: &Client,
    accounts: &[Account],
    fresh: &Fresh,
) -> Result<Vec<ShownAccount>, Problem> {
    let scales = shared.scales.get(client).await?;
    let ids: Vec<AccountId> = accounts.iter().map(|account| account.id).collect();
    let names = names_of(client, &ids, &fresh.tokens).await?;
    let named = accounts.iter().zip(names);
    Ok(named.map(|(account, name)| ShownAccount::from(account).called(name, &scales)).collect())
}

/// The first accounts that are called so.
async fn by_name(
    client: &Client,
    list: &List,
    name: &str,
    fresh: &Fresh,
) -> Result<Vec<Account>, Problem> {
    if list.after.is_some() || name.len() > NAME_BYTES_MAX {
        let detail = "a name has at most 80 bytes, and does not go with `after`";
        return Err(Problem::new(Kind::Malformed, detail));
    }
    let partitions: Vec<PartitionId> = match list.partition {
        Some(partition) => vec![known(client, PartitionId(partition))?],
        None => client.info().partitions().collect(),
    };
    let limit = list.limit.min(HTTP_FOUND_MAX);
    let mut ids = Vec::new();
    for partition in partitions {
        let mut after = None;
        while ids.len() < limit {
            let left = limit - ids.len();
            let page = client.find_names(partition, name, after, left, &fresh.tokens).await?;
            ids.extend(page.accounts.iter().map(|named| named.id));
            after = page.next_cursor;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(client.lookup_accounts(&ids, &fresh.tokens).await?.into_iter().flatten().collect())
}
