//! Metrics over HTTP/1, one request a connection. Without authentication: not for the open network.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::exposition;
use crate::fatal::{Fatal, Reason};
use crate::limits::{HTTP_CONNECTION_WITHIN, HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX};

/// Listens on `host:port`.
pub async fn bind(address: &str) -> Result<TcpListener, Fatal> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; name another with --metrics");
        Fatal::new(Reason::Listen, message)
    })?;
    let address = listener.local_addr().map_or(address.to_owned(), |bound| bound.to_string());
    tracing::info!("metrics on http://{address}/metrics");
    Ok(listener)
}

/// Answers until the program ends.
pub async fn serve(listener: TcpListener, board: Board) -> Result<(), Fatal> {
    let service = TowerToHyperService::new(router(board));
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HTTP_HEAD_BYTES_MAX);
    let room = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(HTTP_CONNECTION_WITHIN).await; // out of descriptors
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            // A client that sends no request, or takes no answer, gets none.
            let _ = tokio::time::timeout(HTTP_CONNECTION_WITHIN, connection).await;
            drop(place);
        });
    }
}

fn router(board: Board) -> Router {
    let registry = Arc::new(exposition::registry(board));
    let metrics = get(async move || page(&registry));
    let elsewhere = async || (StatusCode::NOT_FOUND, "ask for /metrics\n");
    Router::new().route("/metrics", metrics).fallback(elsewhere)
}

fn page(registry: &Registry) -> Result<impl IntoResponse + use<>, StatusCode> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use walengine_net::model::PartitionId;

    use super::*;

    async fn asked(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses a request may reset the connection, because part of it is unread.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else_is() {
        let listener = bind("localhost:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let board = Board::default();
        board.of(PartitionId(0));
        tokio::spawn(serve(listener, board));
        let answer = asked(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert!(
            body.contains("walengine_projector_engine_connected{partition=\"0\"} 0\n"),
            "{body}"
        );
        let head = asked(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
        let old = asked(address, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.0 200 OK") && old.ends_with(body), "{old}");
        let elsewhere = asked(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(elsewhere.starts_with("HTTP/1.1 404"), "{elsewhere}");
        assert!(elsewhere.ends_with("ask for /metrics\n"), "{elsewhere}");
        let post = asked(address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        let long =
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(2 * HTTP_HEAD_BYTES_MAX));
        let refused = asked(address, &long).await;
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 4"), "{refused}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_what_to_do() {
        let taken = bind("localhost:0").await.unwrap();
        let fatal = bind(&taken.local_addr().unwrap().to_string()).await.unwrap_err();
        assert_eq!(fatal.reason, Reason::Listen);
        assert!(fatal.message.contains("name another with --metrics"), "{}", fatal.message);
    }
}
