//! What a node measures of itself, for people and for Prometheus. Ground: no folder below it, and no I/O.
//!
//! ```text
//!  partition, log   measure with plain numbers on their core, once for each entry, flush or frame
//!  shard            takes them together about once a second ─▶ [`numbers::Published`] in the node's state
//!  scrape           reads the newest ─▶ [`text`]                status: the same tables, at once
//! ```
//!
//! [`table`] and [`node`] have each number once, for both. METRICS.md lists them.

pub mod document;
pub mod family;
pub mod kafka;
pub mod latency;
pub mod node;
pub mod numbers;
pub mod page;
pub mod table;

pub use page::{CONTENT_TYPE, text};

#[cfg(test)]
mod tests;
