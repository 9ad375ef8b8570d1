//! What every client connection has, on a shard or on the feed: an outbox, time limits, a task that
//! sends, and answers to what can't be understood.

pub mod errors;
pub mod outbox;
pub mod timing;
pub mod writer;
