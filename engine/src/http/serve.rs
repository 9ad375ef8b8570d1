//! Connections as they come, each with few places and little time.

use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_io_timeout::TimeoutStream;
use walengine_net::tls::Tls;

use super::caller::Caller;
use super::router::router;
use super::shared::Shared;
use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_IDLE_WITHIN, HTTP_STOP_WITHIN, HTTP_UNTAKEN_MAX,
};
use crate::places::{Place, Places};

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
    let places = Places::new(HTTP_CONNECTIONS_MAX);
    tokio::select! {
        () = accept(&listener, tls, shared, &places) => {}
        // The sender that is gone stops it as well.
        _ = stopped => {}
    }
    drop(listener);
    // What is under way is answered, as far as it takes no longer.
    places.close(HTTP_STOP_WITHIN).await;
}

async fn accept(
    listener: &TcpListener,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
    places: &Places,
) {
    let service = TowerToHyperService::new(router(shared));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HTTP_IDLE_WITHIN)
        .max_buf_size(HTTP_HEAD_BYTES_MAX);
    loop {
        let (stream, place) = places.accept(listener, "HTTP").await;
        let stream = taking(stream);
        let (http, service) = (http.clone(), service.clone());
        match tls.clone() {
            None => drop(tokio::spawn(async move {
                served(http.serve_connection(TokioIo::new(stream), service), place).await;
            })),
            Some(tls) => drop(tokio::spawn(secured(tls, stream, http, service, place))),
        }
    }
}

/// Serves a connection on which both ends prove who they are.
async fn secured(
    tls: Arc<Tls>,
    stream: Taking,
    http: http1::Builder,
    service: Service,
    mut place: Place,
) {
    let Ok((stream, caller)) = Caller::prove(&tls, stream).await else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        service.call(request)
    });
    place.begins();
    served(http.serve_connection(TokioIo::new(stream), service), place).await;
}

/// Serves a connection to its end. One that is asked to leave finishes the request that is under way, if any.
async fn served<S: AsyncRead + AsyncWrite + Unpin, T: HttpService<Incoming, ResBody = Body>>(
    connection: http1::Connection<TokioIo<S>, T>,
    mut place: Place,
) where
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = place.is_wanted() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A socket that fails when its other end takes nothing for long.
type Taking = Pin<Box<TimeoutStream<TcpStream>>>;

fn taking(stream: TcpStream) -> Taking {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(HTTP_UNTAKEN_MAX));
    Box::pin(stream)
}
