//! Ids on disk: which events, accounts and endings of reservations the log has, and where.
//!
//! A [`filter::Filter`] in memory says of nearly every new id that it is surely new. Of the others,
//! [`runs::Runs`] gives the offsets at which the log may have them: sorted files, each of which covers a
//! range of the log's offsets and can be made again from the log. Nothing here is ever updated, and
//! every key is added once. Lives on its partition's shard core. Layout: FORMAT.md, section 10.

mod claims;
pub mod filter;
pub mod key;
mod limits;
mod look_up;
mod merge;
mod named;
mod names;
pub mod run;
pub mod runs;

pub use limits::STEP_ENTRIES;
pub use look_up::Sought;
pub use merge::MergeSizes;
pub use named::Named;
pub use names::RunRange;
#[cfg(test)]
mod tests;
