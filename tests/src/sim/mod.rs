//! A whole machine that loses power at will: seeded executor, virtual clock and disk.
//!
//! One thread, no wall clock, no operating system: the same seed replays the same run, which
//! [`SimExecutor::trace`] proves.

mod disk;
mod faults;
mod file;
mod media;
mod names;
mod rng;
mod runtime;
#[cfg(test)]
mod tests;

pub use disk::{CrashSite, Op, OpKind, Phase, SimBuffer, SimDisk, SimFile};
pub use faults::{Effect, Faults, OpClass};
pub use file::SECTOR_BYTES;
pub use rng::Rng;
pub use runtime::{Order, SimExecutor, SimRuntime, Stopped};
