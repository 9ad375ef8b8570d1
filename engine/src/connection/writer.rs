//! The sending half of a connection.

use std::io;
use std::rc::Rc;

use futures_lite::AsyncWriteExt;
use futures_lite::io::WriteHalf;
use glommio::net::TcpStream;
use walengine_replication::received::RECEIVE_BYTES_KEPT;

use super::outbox::Outbox;
use super::timing::Timing;
use crate::runtime::Runtime;

/// Sends what is put into the outbox until it has ended, or the connection moves away.
pub async fn write<R: Runtime>(
    mut writer: WriteHalf<TcpStream>,
    outbox: Rc<Outbox>,
    timing: Rc<Timing>,
    runtime: R,
) {
    let mut spare = Vec::new();
    loop {
        let changed = outbox.changed().changed();
        if outbox.is_moving() {
            drop(writer);
            return outbox.release();
        }
        if outbox.is_empty() {
            if outbox.has_ended() {
                break;
            }
            changed.await;
            continue;
        }
        let mut sending = outbox.take(std::mem::take(&mut spare));
        timing.write_since.set(Some(runtime.elapsed()));
        // A client that never reads would hold the write, and all that it keeps, for ever.
        let cut = async {
            outbox.until_cut().await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let sent = futures_lite::future::or(writer.write_all(&sending), cut).await;
        timing.write_since.set(None);
        if sent.is_err() {
            outbox.end();
            return;
        }
        sending.clear();
        if sending.capacity() <= RECEIVE_BYTES_KEPT {
            spare = sending;
        }
    }
    // The peer may be gone already.
    let _ = writer.close().await;
}
