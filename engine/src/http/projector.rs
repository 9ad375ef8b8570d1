//! How far PostgreSQL is, as the projector's own page of metrics says. The engine knows no projector by itself:
//! `--projector-metrics` names where it serves that page.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::json::Digits;
use crate::limits::{HTTP_PROJECTOR_EVERY, HTTP_PROJECTOR_PAGE_BYTES_MAX, HTTP_PROJECTOR_WITHIN};

/// What every name on the page begins with.
const PREFIX: &str = "walengine_projector_";

/// The projector.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ShownProjector {
    /// `answers`, `silent`, or `unknown` where nobody has said where it is.
    state: &'static str,
    /// In words.
    detail: String,
    partitions: Vec<ProjectedPartition>,
    /// The audit that has ended last; null if there was none, or its outcome is not known.
    audit: Option<LastAudit>,
    /// When a later audit began that has not ended: it runs, or was killed. In seconds since 1970.
    audit_unfinished_since: Option<u64>,
}

/// What `walengine-projector audit` has found, or the audit of a rebuild whose tables were put in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastAudit {
    /// `equal`: PostgreSQL was what the log says; `different`: it was not; `failed`: the audit did not come to its end.
    outcome: String,
    /// Rows that differ; null if it did not come to its end.
    #[schema(value_type = Option<String>)]
    differences: Option<Digits<u64>>,
    /// When it began, in seconds since 1970.
    began: u64,
    /// When it ended.
    ended: u64,
}

/// A partition in PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProjectedPartition {
    partition: u16,
    /// PostgreSQL has every record below.
    #[schema(value_type = String)]
    next_offset: Digits<u64>,
    /// Where the log ends.
    #[schema(value_type = String)]
    log_end: Digits<u64>,
    /// Records that are missing.
    #[schema(value_type = String)]
    lag_records: Digits<u64>,
    /// Age of the oldest of them, in whole seconds.
    lag_seconds: u64,
    /// Whether it hears from the engine.
    engine_connected: bool,
    /// Whether it is connected to PostgreSQL.
    postgres_connected: bool,
    /// Whether another projector writes, and this one waits for its end.
    standby: bool,
    /// The last audit has compared every record below; null if there was none, or it did not come to its end.
    #[schema(value_type = Option<String>)]
    audited_offset: Option<Digits<u64>>,
    /// Rows written since it was started.
    #[schema(value_type = String)]
    rows: Digits<u64>,
}

/// Where the projector is, and what it has said last.
#[derive(Debug, Default)]
pub struct Projector {
    address: Option<String>,
    said: Mutex<Option<(Instant, ShownProjector)>>,
}

impl Projector {
    /// One that serves its metrics at `address`, if anybody has said so.
    pub fn new(address: Option<String>) -> Self {
        Self { address, said: Mutex::default() }
    }

    /// What it says. Asked once a second at most, whoever wants to know.
    pub async fn says(&self) -> ShownProjector {
        let Some(address) = &self.address else {
            let detail = "start the server with --projector-metrics ADDR:PORT, and the projector with --metrics ADDR:PORT";
            return ShownProjector {
                state: "unknown",
                detail: detail.to_owned(),
                ..ShownProjector::default()
            };
        };
        let mut said = self.said.lock().await;
        if let Some((when, shown)) = &*said
            && when.elapsed() < HTTP_PROJECTOR_EVERY
        {
            return shown.clone();
        }
        let silent = |why: String| ShownProjector {
            state: "silent",
            detail: format!("{address}: {why}"),
            ..ShownProjector::default()
        };
        let shown = match timeout(HTTP_PROJECTOR_WITHIN, page_at(address)).await {
            Ok(Ok(page)) => {
                let (audit, audit_unfinished_since) = audits(&page);
                let detail = address.clone();
                let partitions = partitions(&page);
                ShownProjector {
                    state: "answers",
                    detail,
                    partitions,
                    audit,
                    audit_unfinished_since,
                }
            }
            Ok(Err(error)) => silent(error.to_string()),
            Err(_) => silent(format!("no answer within {} s", HTTP_PROJECTOR_WITHIN.as_secs())),
        };
        *said = Some((Instant::now(), shown.clone()));
        shown
    }
}

/// Its page of metrics. Nothing beyond the bound is read.
async fn page_at(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(HTTP_PROJECTOR_PAGE_BYTES_MAX as u64).read_to_end(&mut page).await?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let is_good = page.split(' ').nth(1) == Some("200");
    if is_good { Ok(page) } else { Err(std::io::Error::other("that is no page of metrics")) }
}

/// What a page says of the last audit, and of one that has begun since.
fn audits(page: &str) -> (Option<LastAudit>, Option<u64>) {
    let (mut audit, mut unfinished) = (LastAudit::default(), None);
    for line in page.lines() {
        let line = line.strip_prefix(PREFIX).and_then(|line| line.strip_prefix("audit_"));
        let Some((name, value)) = line.and_then(|line| line.split_once(' ')) else { continue };
        let whole = value.split('.').next().unwrap_or_default();
        let Ok(value) = whole.trim().parse::<u64>() else { continue };
        match name {
            "ended_timestamp_seconds" => audit.ended = value,
            "began_timestamp_seconds" => audit.began = value,
            "unfinished_timestamp_seconds" => unfinished = Some(value),
            "differences" => audit.differences = Some(Digits(value)),
            "outcome{outcome=\"equal\"}" if value == 1 => "equal".clone_into(&mut audit.outcome),
            "outcome{outcome=\"different\"}" if value == 1 => {
                "different".clone_into(&mut audit.outcome);
            }
            "outcome{outcome=\"failed\"}" if value == 1 => "failed".clone_into(&mut audit.outcome),
            _ => {}
        }
    }
    ((!audit.outcome.is_empty()).then_some(audit), unfinished)
}

/// What a page says of partitions. Lines that make no sense are passed over.
fn partitions(page: &str) -> Vec<ProjectedPartition> {
    let mut found: BTreeMap<u16, ProjectedPartition> = BTreeMap::new();
    for line in page.lines() {
        let Some((name, rest)) =
            line.strip_prefix(PREFIX).and_then(|line| line.split_once("{partition=\""))
        else {
            continue;
        };
        let Some((partition, value)) = rest.split_once("\"} ") else { continue };
        let Ok(partition) = partition.parse::<u16>() else { continue };
        let whole = value.split('.').next().unwrap_or_default();
        let Ok(value) = whole.trim().parse::<u64>() else { continue };
        let row = found
            .entry(partition)
            .or_insert_with(|| ProjectedPartition { partition, ..ProjectedPartition::default() });
        match name {
            "next_offset" => row.next_offset = Digits(value),
            "log_end" => row.log_end = Digits(value),
            "lag_records" => row.lag_records = Digits(value),
            "lag_seconds" => row.lag_seconds = value,
            "engine_connected" => row.engine_connected = value == 1,
            "postgres_connected" => row.postgres_connected = value == 1,
            "standby" => row.standby = value == 1,
            "audit_next_offset" => row.audited_offset = Some(Digits(value)),
            "rows_total" => row.rows = Digits(value),
            _ => {}
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_nonsense_in_it_passed_over() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP walengine_projector_next_offset x\n\
            walengine_projector_next_offset{partition=\"3\"} 12\n\
            walengine_projector_lag_seconds{partition=\"3\"} 1.75\n\
            walengine_projector_postgres_connected{partition=\"3\"} 1\n\
            walengine_projector_transaction_seconds{partition=\"3\",quantile=\"0.5\"} 1\n\
            walengine_projector_next_offset{partition=\"x\"} 12\n\
            walengine_projector_next_offset{partition=\"9\"} -1\n\
            walengine_projector_next_offset{partition=\"9";
        let expected = ProjectedPartition {
            partition: 3,
            next_offset: Digits(12),
            lag_seconds: 1,
            postgres_connected: true,
            ..ProjectedPartition::default()
        };
        assert_eq!(partitions(page), [expected]);
        assert_eq!(audits(page), (None, None));
    }

    #[test]
    fn the_last_audit_is_shown_and_one_that_runs_is_no_outcome() {
        let begun = "walengine_projector_audit_unfinished_timestamp_seconds 1700000009.25\n";
        assert_eq!(audits(begun), (None, Some(1_700_000_009)));
        let page = "# TYPE walengine_projector_audit_outcome gauge\n\
            walengine_projector_audit_ended_timestamp_seconds 1700000007.5\n\
            walengine_projector_audit_began_timestamp_seconds 1700000001\n\
            walengine_projector_audit_differences 2\n\
            walengine_projector_audit_outcome{outcome=\"equal\"} 0\n\
            walengine_projector_audit_outcome{outcome=\"different\"} 1\n\
            walengine_projector_audit_outcome{outcome=\"failed\"} 0\n\
            walengine_projector_audit_next_offset{partition=\"1\"} 42\n";
        let expected = LastAudit {
            outcome: "different".to_owned(),
            differences: Some(Digits(2)),
            began: 1_700_000_001,
            ended: 1_700_000_007,
        };
        assert_eq!(audits(page), (Some(expected), None));
        let [one] = &partitions(page)[..] else { panic!("one partition") };
        assert_eq!((one.partition, &one.audited_offset), (1, &Some(Digits(42))));
    }
}
