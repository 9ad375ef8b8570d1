//! Whether the process lives, and whether it is ready for clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;

use super::Shared;

/// A node that has just started, or that waits for its cluster.
pub const NOT_OPENED: &str = "the node has not opened its partitions yet";

/// The process answers. Nothing else is asked of it.
pub async fn live() -> &'static str {
    "live\n"
}

#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// What is in the way.
    reasons: Vec<String>,
}

/// 200 if this node does its part for clients now, and 503 with what is in the way.
pub async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let reasons = reasons(&shared);
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons }))
}

fn reasons(shared: &Shared) -> Vec<String> {
    let Some(node) = shared.node.get() else {
        return vec![NOT_OPENED.to_owned()];
    };
    let mut reasons = Vec::new();
    let mut stands = |is_so: bool, what: &str| {
        if is_so {
            reasons.push(what.to_owned());
        }
    };
    let running = node.started.elapsed();
    stands(node.is_full.load(Ordering::Relaxed), "the disk is nearly full: writes are refused");
    stands(
        node.is_short_of_memory.load(Ordering::Relaxed),
        "memory is nearly used up: writes are refused",
    );
    stands(node.disk.is_stuck(running), "the disk does not answer");
    stands(node.is_leaving.load(Ordering::Relaxed), "the node is leaving the cluster");
    reasons
}
