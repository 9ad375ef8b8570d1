//! A partition's log from a place backwards, one window of records at a time, within bounds of records, time
//! and readers. Whoever reads says how far it came, so that the next request goes on there.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use walengine_net::client::Page;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId, Resolved, Timestamp, Token};
use walengine_net::records::{Content, records};

use crate::effect::Record;
use crate::http::problem::{Kind, Problem};
use crate::limits::{
    HTTP_LOG_PAGE_BYTES, HTTP_SCAN_PLACE_WITHIN, HTTP_SCAN_RECORDS_MAX, HTTP_SCAN_WINDOW_RECORDS,
    HTTP_SCAN_WITHIN, HTTP_SCANS_MAX,
};

/// See the module.
pub struct Backwards<'a> {
    client: &'a Client,
    partition: PartitionId,
    /// What is before it was not looked at yet.
    at: u64,
    /// Nothing before it is looked at.
    floor: u64,
    /// When no further window is begun.
    by: Instant,
    _place: SemaphorePermit<'a>,
}

/// Some consecutive records.
pub struct Window {
    /// The first offset.
    pub begin: u64,
    /// Behind the last one.
    pub end: u64,
    /// All of them, and perhaps others of the same entries.
    pub pages: Vec<Page>,
}

/// A place for one who reads.
///
/// # Errors
/// All are taken.
pub async fn place(scans: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let Ok(Ok(place)) = timeout(HTTP_SCAN_PLACE_WITHIN, scans.acquire()).await else {
        let detail = format!("{HTTP_SCANS_MAX} requests look through the log already");
        return Err(Problem::new(Kind::TooMany, detail));
    };
    Ok(place)
}

/// Where a partition's log ends on a node that has these writes.
///
/// # Errors
/// Those of the client.
pub async fn end_of(
    client: &Client,
    partition: PartitionId,
    tokens: &[Token],
) -> Result<u64, Problem> {
    Ok(client.read_log(partition, Offset(u64::MAX), 0, tokens).await?.durable_offset.0)
}

impl<'a> Backwards<'a> {
    /// From `end` on, which is no later than the log's.
    ///
    /// # Errors
    /// Too many read already.
    pub async fn new(
        scans: &'a Arc<Semaphore>,
        client: &'a Client,
        partition: PartitionId,
        end: u64,
    ) -> Result<Self, Problem> {
        let place = place(scans).await?;
        let floor = end.saturating_sub(HTTP_SCAN_RECORDS_MAX);
        let by = Instant::now() + HTTP_SCAN_WITHIN;
        Ok(Self { client, partition, at: end, floor, by, _place: place })
    }

    /// First offset that was looked at.
    pub fn covered_from(&self) -> u64 {
        self.at
    }

    /// The window before the last one; `None` at the log's beginning or at a bound.
    ///
    /// # Errors
    /// Those of the client, and a log that ends before its end.
    pub async fn window(&mut self) -> Result<Option<Window>, Problem> {
        if self.at <= self.floor || Instant::now() >= self.by {
            return Ok(None);
        }
        let (begin, end) =
            (self.at.saturating_sub(HTTP_SCAN_WINDOW_RECORDS).max(self.floor), self.at);
        let tokens = self.tokens(end);
        let (mut pages, mut next) = (Vec::new(), Offset(begin));
        while next.0 < end {
            let page =
                self.client.read_log(self.partition, next, HTTP_LOG_PAGE_BYTES, &tokens).await?;
            if page.next_offset <= next {
                return Err(Problem::bad_answer(&"the log ends before its end"));
            }
            next = page.next_offset;
            pages.push(page);
        }
        self.at = begin;
        Ok(Some(Window { begin, end, pages }))
    }

    /// The record at an offset; `None` if it is no event.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn record_at(&self, place: u64) -> Result<Option<Record>, Problem> {
        let tokens = self.tokens(place + 1);
        let page = self.client.read_log(self.partition, Offset(place), 1, &tokens).await?;
        let window = Window { begin: place, end: place + 1, pages: vec![page] };
        Ok(window.events()?.pop().map(|(.., record)| record))
    }

    /// So that no node answers that does not have all below `end`.
    fn tokens(&self, end: u64) -> [Token; 1] {
        let (cluster, offset) = (self.client.info().cluster, Offset(end.saturating_sub(1)));
        [Token { cluster, partition: self.partition, offset }]
    }
}

impl Window {
    /// Its events in order.
    ///
    /// # Errors
    /// A node has sent what is no log.
    pub fn events(&self) -> Result<Vec<(u64, Timestamp, Record)>, Problem> {
        let mut events = Vec::new();
        for entry in self.pages.iter().flat_map(Page::entries) {
            let (header, body) = entry.map_err(|error| Problem::bad_answer(&error))?;
            for record in records(&header, body).map_err(|error| Problem::bad_answer(&error))? {
                let Content::Event { event, resolved } = record.content else { continue };
                if (self.begin..self.end).contains(&record.offset.0) {
                    let (verdict, resolved) = (record.verdict, resolved.map(Resolved::from_bytes));
                    let event = Record { event: *event, verdict, resolved };
                    events.push((record.offset.0, record.timestamp, event));
                }
            }
        }
        Ok(events)
    }
}
