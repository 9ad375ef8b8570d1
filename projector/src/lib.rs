//! Derives PostgreSQL tables from walengine's log, exactly once. A process of its own, on tokio.
//!
//! For each partition, [`feed`] receives the log, [`batch`] turns it into rows and folded balances,
//! and [`writer`] writes them in one transaction that also compares and advances the position. So
//! the tables at position P are exactly what the log says up to P, whichever process dies;
//! [`audit`] proves it.
//!
//! [`across`], [`copy`], [`fold`], [`facts`], [`movement`], [`tables`], [`volumes`], [`booked`], [`batch`] and
//! [`history`] are pure.
#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_wrap,
    reason = "PostgreSQL has no unsigned types: offsets are below 2^48, lengths below limits.rs"
)]

pub mod across;
pub mod audit;
pub mod audited;
pub mod batch;
pub mod board;
pub mod booked;
pub mod cli;
pub mod config;
pub mod copy;
pub mod database;
pub mod engine;
pub mod exposition;
pub mod facts;
pub mod fatal;
pub mod feed;
pub mod fold;
#[cfg(test)]
mod handmade;
pub mod history;
mod http;
pub mod limits;
pub mod managed;
pub mod marks;
pub mod metrics;
pub mod movement;
pub mod noted;
pub mod pooler;
pub mod position;
mod progress;
pub mod projection;
pub mod rebuild;
pub mod schema;
pub mod service;
pub mod tables;
pub mod tls;
pub mod trouble;
pub mod values;
pub mod volumes;
pub mod waits;
pub mod writer;
