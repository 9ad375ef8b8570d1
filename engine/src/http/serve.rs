//! Connections as they come, each with few places and little time.

use std::io::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use walengine_net::tls::{Tls, Usage};

use super::caller::Caller;
use super::router::router;
use super::shared::Shared;
use crate::limits::{
    ACCEPT_RETRY_AFTER, HTTP_CONNECTIONS_MAX, HTTP_HANDSHAKE_WITHIN, HTTP_HEAD_BYTES_MAX,
    HTTP_IDLE_WITHIN, HTTP_STOP_WITHIN, HTTP_UNTAKEN_MAX,
};

type Service = TowerToHyperService<Router>;

/// Answers until `stopped`.
pub(super) async fn until(
    listener: std::net::TcpListener,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("HTTP has ended: {error}"),
    };
    let graceful = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, tls, shared, &graceful) => {}
        // The sender that is gone stops it as well.
        _ = stopped => {}
    }
    drop(listener);
    // What is under way is answered, as far as it takes no longer.
    let _ = tokio::time::timeout(HTTP_STOP_WITHIN, graceful.shutdown()).await;
}

async fn accept(
    listener: &TcpListener,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
    graceful: &GracefulShutdown,
) {
    let service = TowerToHyperService::new(router(shared));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HTTP_IDLE_WITHIN)
        .max_buf_size(HTTP_HEAD_BYTES_MAX);
    let room = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    loop {
        // Who comes beyond them waits in the system's queue.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                put_up_with(&error).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true); // slower, and right
        let stream = taking(stream);
        let (http, service, watcher) = (http.clone(), service.clone(), graceful.watcher());
        match tls.clone() {
            None => drop(tokio::spawn(async move {
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let _ = watcher.watch(connection).await;
                drop(place);
            })),
            Some(tls) => drop(tokio::spawn(secured(tls, stream, http, service, watcher, place))),
        }
    }
}

/// Serves a connection on which both ends prove who they are.
async fn secured(
    tls: Arc<Tls>,
    stream: Taking,
    http: http1::Builder,
    service: Service,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) {
    let credentials = tls.current();
    let Some(config) = credentials.serve_clients() else { return };
    let shaken = TlsAcceptor::from(config.clone()).accept(stream);
    let Ok(Ok(stream)) = tokio::time::timeout(HTTP_HANDSHAKE_WITHIN, shaken).await else {
        return;
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    let proven = match tls.proven_by_chain(&credentials, chain, Usage::Client) {
        Ok(proven) => Arc::new(Mutex::new(proven)),
        Err(refusal) => return tracing::debug!("HTTP: {refusal}"), // the handshake has refused it already
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller::proven(&proven));
        service.call(request)
    });
    let _ = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await;
    drop(place);
}

/// A socket that fails when its other end takes nothing for long.
type Taking = Pin<Box<TimeoutStream<TcpStream>>>;

fn taking(stream: TcpStream) -> Taking {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(HTTP_UNTAKEN_MAX));
    Box::pin(stream)
}

/// Out of descriptors, most likely: others may close meanwhile.
async fn put_up_with(error: &Error) {
    tracing::warn!("HTTP cannot accept connections, which is tried again: {error}");
    tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
}
