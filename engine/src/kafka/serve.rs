//! Connections as they come, each with few places and little time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answer::answer;
use super::shared::Shared;
use crate::http::caller::{Caller, Unproven};
use crate::limits::{
    KAFKA_CONNECTIONS_MAX, KAFKA_IDLE_WITHIN, KAFKA_REQUEST_BYTES_MAX, KAFKA_REQUEST_WITHIN,
    KAFKA_SPARED_FOR, KAFKA_TAKEN_WITHIN, KAFKA_TICK_EVERY,
};
use crate::metrics::kafka::Refused;
use crate::places::{Place, Places};

/// Answers until `stopped`. Readers come again, so that what is under way is not waited for.
pub async fn until(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the Kafka face has ended: {error}"),
    };
    tokio::select! {
        () = accept(&listener, shared.clone()) => {}
        () = tick(&shared) => {}
        // The sender that is gone stops it as well.
        _ = stopped => {}
    }
}

/// Takes silent members out of groups also when nobody else speaks.
async fn tick(shared: &Shared) {
    loop {
        tokio::time::sleep(KAFKA_TICK_EVERY).await;
        if let Some(groups) = &shared.groups {
            groups.tick();
        }
    }
}

async fn accept(listener: &TcpListener, shared: Arc<Shared>) {
    let places = Places::new(KAFKA_CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, place) = places.accept(listener, "Kafka").await;
        let shared = shared.clone();
        connections.spawn(async move {
            let _open = shared.counts.connect();
            if let Err(End::Refused(why)) = connection(stream, &shared, place).await {
                shared.counts.refuse(why);
            }
        });
    }
}

/// Why a connection is over.
enum End {
    /// The other side has gone, or said nothing for long, or for a while in which others waited.
    Gone,
    /// For what it did.
    Refused(Refused),
}

use End::Gone;

const UNPROVEN: End = End::Refused(Refused::Unproven);
const MALFORMED: End = End::Refused(Refused::Malformed);
const SLOW: End = End::Refused(Refused::Slow);

async fn connection(stream: TcpStream, shared: &Shared, place: Place) -> Result<(), End> {
    let came_in = stream.local_addr().map_err(|_| Gone)?;
    let Some(tls) = shared.tls.clone() else {
        return requests(stream, &Caller::default(), came_in, shared, place).await;
    };
    let (stream, caller) = Caller::prove(&tls, stream).await.map_err(|why| match why {
        Unproven::Slow => SLOW,
        Unproven::Refused => UNPROVEN,
    })?;
    requests(stream, &caller, came_in, shared, place).await
}

async fn requests<S: AsyncRead + AsyncWrite>(
    stream: S,
    caller: &Caller,
    came_in: SocketAddr,
    shared: &Shared,
    mut place: Place,
) -> Result<(), End> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    // Who has never asked anything is spared for no longer than others wait before they say so.
    let (mut begins_within, mut spared_for) = (KAFKA_REQUEST_WITHIN, Duration::ZERO);
    place.begins();
    loop {
        let length = tokio::select! {
            length = timeout(begins_within, begin(&mut read)) => length.map_err(|_| Gone)??,
            () = spared(&mut place, spared_for) => return Err(Gone),
        };
        let request = request(&mut read, length).await?;
        (begins_within, spared_for) = (KAFKA_IDLE_WITHIN, KAFKA_SPARED_FOR);
        // Who proves nothing any more is not answered.
        caller.identity().map_err(|_| UNPROVEN)?;
        let answer = tokio::select! {
            biased;
            answer = answer(shared, caller, came_in, &request) => answer.map_err(|_| MALFORMED)?,
            () = gone(&mut read) => return Err(Gone),
        };
        drop(request);
        let Some(answer) = answer else { continue };
        let send = async {
            write.write_all(&(answer.len() as u32).to_be_bytes()).await?;
            write.write_all(&answer).await?;
            write.flush().await
        };
        timeout(KAFKA_TAKEN_WITHIN, send).await.map_err(|_| SLOW)?.map_err(|_| Gone)?;
        shared.counts.sent(4 + answer.len());
    }
}

/// Waits until somebody else has waited for a place, and this one has asked nothing for so long.
async fn spared(place: &mut Place, spared_for: Duration) {
    let silent_since = Instant::now();
    loop {
        place.is_wanted().await;
        if silent_since.elapsed() >= spared_for {
            return;
        }
    }
}

/// Waits until the other side has gone, which does not wait for an answer any more. If it has sent more, it is there.
async fn gone(read: &mut (impl AsyncBufRead + Unpin)) {
    match read.fill_buf().await {
        Ok(more) if !more.is_empty() => std::future::pending().await,
        _ => {}
    }
}

/// The length of a request.
async fn begin(read: &mut (impl AsyncRead + Unpin)) -> Result<usize, End> {
    let mut length = [0; 4];
    read.read_exact(&mut length).await.map_err(|_| Gone)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| MALFORMED)?;
    if length <= KAFKA_REQUEST_BYTES_MAX { Ok(length) } else { Err(MALFORMED) }
}

/// One request of this length.
async fn request(read: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Vec<u8>, End> {
    // Grows with what comes.
    let mut bytes = Vec::new();
    let mut body = read.take(length as u64);
    let read = timeout(KAFKA_REQUEST_WITHIN, body.read_to_end(&mut bytes)).await;
    read.map_err(|_| SLOW)?.map_err(|_| Gone)?;
    if bytes.len() == length { Ok(bytes) } else { Err(Gone) }
}
