//! The sending half of a connection, and how a connection ends.

use std::io;
use std::rc::Rc;

use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWriteExt};
use walengine_replication::read_out;
use walengine_replication::received::RECEIVE_BYTES_KEPT;
use walengine_replication::tcp::socket::SocketWriter;

use super::outbox::Outbox;
use super::timing::Timing;
use crate::limits::{OUT_BYTES_KEPT, WRITE_STEP_BYTES};
use crate::runtime::Runtime;

/// Sends what is put into the outbox until it has ended, or the connection moves away.
pub async fn write<R: Runtime>(
    writer: SocketWriter,
    outbox: Rc<Outbox>,
    timing: Rc<Timing>,
    runtime: R,
) {
    write_until_end(writer, &outbox, &timing, &runtime).await;
    outbox.release();
}

/// Reads what the client still sends, once the outbox has ended and until everything in it was sent: it
/// shall find its answers, and an error among them, and not that its connection was reset.
pub async fn read_out<S: AsyncRead + Unpin, R: Runtime>(
    reader: &mut S,
    outbox: &Outbox,
    runtime: &R,
) {
    if !outbox.is_cut() {
        read_out::read_out(reader, outbox.until_released(), runtime).await;
    }
}

async fn write_until_end<R: Runtime>(
    mut writer: SocketWriter,
    outbox: &Outbox,
    timing: &Timing,
    runtime: &R,
) {
    let mut spare = Vec::new();
    loop {
        let changed = outbox.changed().changed();
        if outbox.is_moving() {
            return outbox.keeps(0);
        }
        if outbox.is_empty() {
            if outbox.has_ended() {
                break;
            }
            if spare.capacity() <= OUT_BYTES_KEPT {
                changed.await;
            } else if or(
                async {
                    changed.await;
                    false
                },
                async {
                    outbox.budget().reclaim().await;
                    true
                },
            )
            .await
            {
                spare = Vec::new();
                outbox.keeps(0);
            }
            continue;
        }
        let mut sending = outbox.take(std::mem::take(&mut spare));
        outbox.keeps(sending.capacity());
        let sent = send(&mut writer, &sending, outbox, timing, runtime).await;
        timing.write_since.set(None);
        if sent.is_err() {
            outbox.end();
            return;
        }
        sending.clear();
        if sending.capacity() <= RECEIVE_BYTES_KEPT {
            spare = sending;
        }
        outbox.keeps(spare.capacity());
    }
    // The peer may be gone already.
    let _ = writer.close().await;
}

/// Sends bytes, in steps that each have their own time. A client that takes nothing would hold the
/// write, and all that it keeps, for ever.
async fn send<R: Runtime>(
    writer: &mut SocketWriter,
    bytes: &[u8],
    outbox: &Outbox,
    timing: &Timing,
    runtime: &R,
) -> io::Result<()> {
    let cut = || async {
        outbox.until_cut().await;
        Err(io::ErrorKind::TimedOut.into())
    };
    for step in bytes.chunks(WRITE_STEP_BYTES) {
        timing.write_since.set(Some(runtime.elapsed()));
        or(writer.write_all(step), cut()).await?;
    }
    or(writer.flush(), cut()).await
}
