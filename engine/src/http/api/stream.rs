//! A partition's log as it grows: server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::mem::take;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use walengine_net::client::ReadFrom;
use walengine_net::client::tokio::{Client, Subscription};
use walengine_net::model::{Offset, PartitionId};

use super::asked::{Asked, Partition, known};
use super::backwards::end_of;
use super::document::AnyProblem;
use super::naming::with_names;
use crate::http::caller::Caller;
use crate::http::fresh::{self, Fresh};
use crate::http::json::{Record, records};
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;
use crate::limits::{
    HTTP_LOG_PAGE_RECORDS_MAX, HTTP_STREAM_LOOK_EVERY, HTTP_STREAM_SIGN_EVERY, HTTP_STREAMS_MAX,
};

/// The id of the last event that a reader has had, which browsers send when they connect again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Beginning {
    /// The first offset; without it and without `Last-Event-ID`, what comes from now on.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    from: Option<u64>,
    /// With what accounts are called now, beside their ids: `debit_account_name`, `credit_account_name`, `account_name`.
    #[serde(default)]
    names: bool,
}

/// Follow a partition's log: an event `record` for each record, whose id is its offset.
///
/// A connection that is lost is made again with `Last-Event-ID`, as browsers do: nothing is left out and nothing repeated.
/// An offset behind the next one is refused as `past_the_end` (416). Whoever has had such a record has it of a log that
/// was restored to an earlier time since, and must look at what is there now.
#[utoipa::path(
    get, path = "/api/v1/log/{partition}/stream", tag = "log",
    operation_id = "followLog",
    params(
        Beginning,
        ("partition" = u16, Path, description = "Its number, from 0", maximum = 65_535),
        ("Last-Event-ID" = Option<String>, Header, description = "Begin behind this offset"),
    ),
    responses((status = 200, body = Record, content_type = "text/event-stream", description = "One event a record"),
        (status = 416, body = Problem, content_type = "application/problem+json", description = "The log ends before that offset"),
        AnyProblem)
)]
pub async fn follow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    headers: HeaderMap,
    Partition(partition): Partition,
    Asked(beginning): Asked<Beginning>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = shared.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        let detail = format!("{HTTP_STREAMS_MAX} readers follow the log already");
        Problem::new(Kind::TooMany, detail)
    })?;
    let client = fresh.client(&shared.client(&caller).await?);
    let partition = known(&client, partition)?;
    let last = fresh::text(&headers, &LAST_EVENT_ID)?.filter(|last| !last.is_empty());
    let from = match last {
        Some(last) => {
            let offset: Option<u64> = last.parse().ok().and_then(|last: u64| last.checked_add(1));
            offset.ok_or_else(|| {
                Problem::new(Kind::Malformed, format!("{LAST_EVENT_ID} is '{last}', and no offset"))
            })?
        }
        None => match beginning.from {
            Some(from) => from,
            None => end_of(&client, partition, &[]).await?,
        },
    };
    not_past_the_end(&client, partition, from).await?;
    let following = Following {
        subscription: client.subscribe(partition, Offset(from)),
        client,
        shared: shared.clone(),
        from,
        waiting: VecDeque::new(),
        has_names: beginning.names,
        ready: VecDeque::new(),
        caller,
        _place: place,
    };
    let sign = KeepAlive::new().interval(HTTP_STREAM_SIGN_EVERY);
    Ok(Sse::new(unfold(following, Following::next)).keep_alive(sign))
}

/// Offsets are given once: whoever waited for one that the log had lost would miss all below it.
async fn not_past_the_end(
    client: &Client,
    partition: PartitionId,
    from: u64,
) -> Result<(), Problem> {
    if from <= end_of(client, partition, &[]).await? {
        return Ok(());
    }
    // A follower or a new leader may not know yet what others have shown.
    let end = end_of(&client.reading(ReadFrom::Linearizable), partition, &[]).await?;
    if from <= end {
        return Ok(());
    }
    let detail =
        format!("{from} was asked for, and the next record of partition {partition} is {end}");
    Err(Problem::new(Kind::PastTheEnd, detail))
}

/// One reader. Its next page is asked for when it has taken the last one.
struct Following {
    subscription: Subscription,
    client: Client,
    shared: Arc<Shared>,
    from: u64,
    /// Of that page, without names.
    waiting: VecDeque<Record>,
    has_names: bool,
    /// What is sent next.
    ready: VecDeque<Record>,
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// The next event; `None` ends the stream, and the reader comes back with what it has had.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let record = loop {
            self.caller.identity().ok()?;
            if let Some(record) = self.ready.pop_front() {
                break record;
            }
            if !self.waiting.is_empty() {
                self.ready = self.next_ready().await.ok()?;
                continue;
            }
            // Whoever may not see it any more is noticed while nothing comes, too.
            if let Some(page) = self.subscription.next_within(HTTP_STREAM_LOOK_EVERY).await.ok()? {
                let scales = self.shared.scales.get(&self.client).await.ok()?;
                self.waiting = records(&page, Offset(self.from), usize::MAX, &scales).ok()?.into();
            }
        };
        self.from = record.offset.0 + 1;
        let event = Event::default().event("record").id(record.offset.0.to_string());
        Some((Ok(event.json_data(&record).ok()?), self))
    }

    /// Some of what waits; with names as many as a page has.
    async fn next_ready(&mut self) -> Result<VecDeque<Record>, Problem> {
        if !self.has_names {
            return Ok(take(&mut self.waiting));
        }
        let count = self.waiting.len().min(HTTP_LOG_PAGE_RECORDS_MAX);
        let records = self.waiting.drain(..count).collect();
        Ok(with_names(&self.client, records, &[]).await?.into())
    }
}
