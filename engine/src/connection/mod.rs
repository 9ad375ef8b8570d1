//! What every client connection has, on a shard or on the feed: an outbox, time limits, a task that
//! sends, and answers to what can't be understood.

pub mod errors;
pub mod memory;
pub mod outbox;
pub mod request_ids;
pub mod timing;
pub mod writer;
