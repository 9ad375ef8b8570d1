//! The end of a connection whose other side may still be sending.
//!
//! ```text
//!   an error is answered ──▶ what is queued is sent ──▶ the sending side is shut ──▶ closed
//!   what still comes is read and dropped ─────────────────────────────────────────▶
//! ```
//!
//! A socket that is closed with bytes unread resets its connection, and a reset may overtake the answer
//! that says what was wrong. So whoever closes a connection for a reason that the other side shall read
//! goes through here.

use std::future::Future;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncReadExt};

use crate::executor::Runtime;

/// How long the other side may take to close, once everything has been sent to it.
pub const READ_OUT_WITHIN: Duration = Duration::from_secs(1);
/// The most that is read of it in bytes: what the buffers of both sockets hold between them.
pub const READ_OUT_BYTES_MAX: usize = 16 << 20;
/// How much is read at a time in bytes. Until the end a connection costs no more memory than this.
const STEP_BYTES: usize = 4 << 10;

/// Reads and drops what still comes, until the other side closes or one of the two limits is reached.
/// `shut` completes when everything was sent and the sending side is closed.
pub async fn read_out<S: AsyncRead + Unpin>(
    stream: &mut S,
    shut: impl Future<Output = ()>,
    runtime: &impl Runtime,
) {
    let reading = async {
        let (mut bytes, mut left) = (vec![0; STEP_BYTES], READ_OUT_BYTES_MAX);
        while left > 0
            && let Ok(read) = stream.read(&mut bytes).await
            && read > 0
        {
            left = left.saturating_sub(read);
            runtime.yield_now().await;
        }
    };
    let late = async {
        shut.await;
        runtime.sleep(READ_OUT_WITHIN).await;
    };
    or(reading, late).await;
}
