//! Vocabulary, wire protocol and client library of walengine.
//!
//! The bottom of the workspace. [`model`] is data only, [`partition`] is the routing, [`entry`] is
//! the log's unit on disk and on the feed, [`frame`] and [`message`] are the wire. [`client`] is
//! for applications. Nothing here depends on the engine's executor or on a consensus library.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod entry;
pub mod frame;
pub mod identity;
pub mod limits;
pub mod message;
pub mod model;
pub mod names;
pub mod partition;
pub mod records;
pub mod short_file;
pub mod text;
pub mod tls;
pub mod unit;
