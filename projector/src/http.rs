//! Metrics over HTTP/1: one page, whatever is asked for. Not for the open network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::fatal::{Fatal, Reason};
use crate::metrics::{PartitionMetrics, prometheus};

/// Bytes of a request's head; the rest is not read.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are answered at once; others wait.
const CONNECTIONS_MAX: usize = 16;

/// Listens.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Fatal> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; name another with --metrics");
        Fatal::new(Reason::Listen, message)
    })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!("metrics on http://{address}/metrics");
    Ok(listener)
}

/// Answers until the program ends.
pub async fn serve(
    listener: TcpListener,
    partitions: Vec<Arc<PartitionMetrics>>,
) -> Result<(), Fatal> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE).await; // out of descriptors
            continue;
        };
        let partitions = partitions.clone();
        tokio::spawn(async move {
            // A scraper that does not listen gets nothing.
            let _ = tokio::time::timeout(PATIENCE, answer(stream, &partitions)).await;
            drop(place);
        });
    }
}

async fn answer(
    mut stream: TcpStream,
    partitions: &[Arc<PartitionMetrics>],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = if head.starts_with(b"GET /metrics") {
        ("200 OK", prometheus(partitions))
    } else {
        ("404 Not Found", "ask for /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
